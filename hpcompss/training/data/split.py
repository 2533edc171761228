"""Subsets and validation splits: stratified, seeded, and kept in the cache so that processes share them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcompss.errors import InputError, nearest
from hpcompss.training.data.cache import Array, ArrayFolder, ClassNames, Entry, cached
from hpcompss.training.data.data_set import DataSet
from hpcompss.training.data.examples import Examples
from hpcompss.training.data.specification import DataSpecification, ValidationSplit
from hpcompss.training.data.trees import is_frame, is_text, kind_of

__all__ = ["DEFAULT_VALIDATION", "Positions", "examples", "labels_of", "portion", "rule_labels", "select", "split"]

DEFAULT_VALIDATION = 0.2
SPLIT_VERSION = 2
"""Part of every split's identity: raise it when the same numbers give other rows than before."""

VALIDATION_ROWS = "validation_rows"
"""The name, in an entry, of how many of its last rows are validation data."""

PURPOSES = ("test split", "test subset", "train subset", "validation", "portion")
"""What is drawn; their order is part of what a seed means."""

Positions = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Plan:
    """How many rows go where.

    Attributes:
        test_split: Rows split off the source's training set for the test.
        test_subset: Rows kept of the source's test set; None for all of them.
        train: Rows to train on.
        validation: Rows split off for validation; 0 when the source brought its own.
    """

    test_split: int
    test_subset: int | None
    train: int
    validation: int


def split(specification: DataSpecification, entry: Entry, name: str) -> DataSet:
    """Returns the source's data with the subsets and splits that ``specification`` states.

    Args:
        specification: What the user stated.
        entry: The decoded source. What has to be reordered is stored in entries beside it.
        name: What to call the data.

    Raises:
        InputError: More is asked for than there is, a set would be empty, a column is unknown, or the cache cannot be
            written.
    """
    plan = _plan(specification, entry)
    training = _training_entry(plan, specification, entry)
    both = examples(training, "train")
    test = _test_entry(plan, specification, entry)
    train, end = plan.train, plan.train + plan.validation
    if VALIDATION_ROWS in training:  # whole groups are not just as many rows as asked for
        end = both.rows or 0
        train = end - int(training.tree(VALIDATION_ROWS)[0])
    validation = both.take(slice(train, end)) if plan.validation else None
    if validation is None and "x_val" in entry:
        validation = examples(entry, "val")
    return DataSet(
        train=both if train == both.rows else both.take(slice(train)),
        validation=validation,
        test=examples(test, "test") if "x_test" in test else None,
        class_names=entry.class_names,
        name=name,
        joined=both.take(slice(end)) if plan.validation else None,
        place=training.path,
        in_order=specification.split is not None and specification.split.in_order,
        digest=entry.digest,
    )


def examples(entry: Entry, part: str) -> Examples:
    """Returns one part of an entry: ``train``, ``val`` or ``test``."""
    names = (f"x_{part}", f"y_{part}", f"sample_weight_{part}")
    return Examples(*(entry.tree(name) if name in entry else None for name in names))


def labels_of(y: Any) -> Array | None:
    """Returns the class of each row: whole numbers, truth values or words in one column. None for other targets."""
    if isinstance(y, dict | list | tuple) or y is None:
        return None
    labels: Array = np.asarray(y) if hasattr(y, "__array__") and kind_of(y) != "sparse" else np.empty((0, 2))
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        return None
    if labels.dtype.kind == "O":
        return labels.astype(str) if is_text(labels) else None
    return labels if labels.dtype.kind in "iubUS" else None


def rule_labels(entry: Entry, rule: ValidationSplit) -> tuple[Array | None, Array | None]:
    """Returns what a split of the training rows goes by: the classes to keep in proportion, and the groups.

    Raises:
        InputError: There is no such column, or the targets are no classes.
    """
    groups = _column(entry, "groups", rule.groups)
    if rule.stratify is not False and (labels := _column(entry, "stratify", rule.stratify)) is not None:
        return labels, groups
    labels = labels_of(entry.tree("y_train")) if "y_train" in entry and rule.stratify is not False else None
    if rule.stratify and labels is None:
        raise InputError(
            "the targets are no classes (whole numbers or words in one column): name a column, or leave it out",
            key="data.validation.stratify",
        )
    return labels, groups


def _column(entry: Entry, setting: str, name: str | bool | None) -> Array | None:
    """Returns a column that a split goes by: one that the source gave for that, a feature, or an input of its own."""
    if setting in entry:
        return np.asarray(entry.tree(setting))
    if not isinstance(name, str):
        return None
    x = entry.tree("x_train")
    columns = [str(each) for each in x.columns] if is_frame(x) else list(x) if isinstance(x, dict) else []
    if name not in columns:
        known = nearest(name, columns) if columns else f"give an array {setting!r} with the data"
        raise InputError(f"there is no column {name!r}; {known}", key=f"data.validation.{setting}")
    column = np.asarray(x[name])
    return column[:, 0] if column.ndim == 2 and column.shape[1] == 1 else column


def select(count: int, rows: int, labels: Array | None, random: np.random.RandomState) -> tuple[Positions, Positions]:
    """Returns the positions of ``count`` rows and those of all others, both in random order.

    Rows with labels are taken in proportion to their label, by the method of Sainte-Lague: the k-th row of a class of n
    has rank (k - 1/2) / n, and the lowest ranks are taken. So a class of one row is taken last, and of equal ranks the
    one that comes first in a random order.

    Args:
        count: How many rows to take.
        rows: How many rows there are.
        labels: The class of each row, shape (rows,), or None.
        random: Draws the order; the legacy generator, whose numbers are the same in every version of NumPy.
    """
    order = random.permutation(rows)
    if labels is not None:
        _, classes, sizes = np.unique(labels[order], return_inverse=True, return_counts=True)
        by_class = np.argsort(classes, kind="stable")
        position_in_class = np.empty(rows)
        position_in_class[by_class] = np.arange(rows) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        order = order[np.argsort((position_in_class + 0.5) / sizes[classes], kind="stable")]
    return random.permutation(order[:count]), random.permutation(order[count:])


def select_groups(
    count: int, groups: Array, labels: Array | None, random: np.random.RandomState
) -> tuple[Positions, Positions]:
    """Returns the positions of about ``count`` rows and those of all others; rows of one group stay together.

    Groups come in random order. One is taken if it does not exceed ``count`` and brings the number of rows of each
    class nearer to the class's share, and the smallest one is where none does.

    Args:
        count: How many rows to take.
        groups: The group of each row, shape (rows,).
        labels: The class of each row, shape (rows,), or None.
        random: Draws the order of the groups, and of the rows.

    Raises:
        InputError: All rows are of one group.
    """
    _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise InputError("all rows are of one group, which cannot be split", key="data.validation.groups")
    classes = np.zeros(len(groups), int) if labels is None else np.unique(labels, return_inverse=True)[1]
    content = np.zeros((len(sizes), classes.max() + 1))
    np.add.at(content, (numbers, classes), 1)
    shares = content.sum(axis=0)
    lacking, left = count * shares / shares.sum(), count
    taken = np.zeros(len(sizes), bool)
    for group in random.permutation(len(sizes)):
        after = lacking - content[group]
        if sizes[group] <= left and (after**2 / shares).sum() < (lacking**2 / shares).sum():
            taken[group], lacking, left = True, after, left - sizes[group]
    if not taken.any():
        taken[sizes.argmin()] = True
    chosen = taken[numbers]
    return random.permutation(np.flatnonzero(chosen)), random.permutation(np.flatnonzero(~chosen))


def portion(data: Examples, share: float, seed: int, in_order: bool = False) -> Examples:
    """Returns a share of training data, of each class in proportion; a larger share contains every smaller one.

    Args:
        data: Training data.
        share: Above 0 and up to 1; at least one row is taken.
        seed: Draws which rows.
        in_order: Whether to take the last rows in place of drawing some.
    """
    rows = data.rows
    if rows is None:
        raise InputError(
            "a stream has no share: take epochs (max_epochs) in place of min_share", key="fidelity.min_share"
        )
    count = max(1, round(share * rows))
    if count == rows:
        return data
    if in_order:
        return data.take(slice(rows - count, rows))
    chosen, _ = select(count, rows, labels_of(data.y), _random(seed, "portion"))
    chosen.sort()  # the order in which a file is read fastest
    return data.take(chosen)


def _plan(specification: DataSpecification, entry: Entry) -> Plan:
    rows = {part: examples(entry, part).rows or 0 if f"x_{part}" in entry else 0 for part in ("train", "val", "test")}
    test_split, test_subset = 0, None
    if specification.test is not None and rows["test"]:
        test_subset = _count(specification.test, rows["test"], "data.test", "test")
    elif specification.test is not None:
        test_split = _count(specification.test, rows["train"], "data.test", "training")
        _check_rest(rows["train"] - test_split, "data.test")
    train = rows["train"] - test_split
    if specification.train is not None:
        train = _count(specification.train, train, "data.train", "training")
    if rows["val"]:
        if specification.validation is not None:
            raise InputError(
                f"{specification.source_description} has a validation set of its own, of {rows['val']:,}: leave "
                "data.validation out",
                key="data.validation",
            )
        return Plan(test_split, test_subset, train, 0)
    if specification.split is None:
        return Plan(test_split, test_subset, train, 0)
    amount = DEFAULT_VALIDATION if specification.split.share is None else specification.split.share
    validation = _count(amount, train, "data.validation", "training")
    _check_rest(train - validation, "data.validation")
    return Plan(test_split, test_subset, train - validation, validation)


def _count(amount: int | float, available: int, key: str, what: str) -> int:
    count = amount if isinstance(amount, int) else round(amount * available)
    if count > available:
        raise InputError(f"{count:,} examples are asked for, but there are only {available:,} {what} examples", key=key)
    if count == 0:
        raise InputError(f"{amount} of {available:,} {what} examples is none", key=key)
    return count


def _check_rest(rest: int, key: str) -> None:
    if rest < 1:
        raise InputError("nothing is left to train on: ask for less", key=key)


def _training_entry(plan: Plan, specification: DataSpecification, source: Entry) -> Entry:
    """Returns the entry whose ``train`` arrays hold the training rows, then the validation rows."""
    rule, seed = specification.split or ValidationSplit(), specification.seed
    rows = examples(source, "train").rows or 0
    if rule.in_order:
        for name in ("groups", "stratify"):
            if name in source:
                raise InputError(f"rows in the order as_given are not drawn: leave {name} out", key="data.validation")
        return source  # the parts are stretches of what is there
    if not (plan.test_split or plan.validation) and plan.train == rows:
        return source

    def build(folder: ArrayFolder) -> ClassNames:
        labels, groups = rule_labels(source, rule)
        rest = _drawn(plan.test_split, np.arange(rows), labels, groups, seed, "test split")[1]
        subset = rest
        if groups is None or specification.train is not None:  # whole groups are not just as many rows as asked for
            subset = _drawn(plan.train + plan.validation, rest, labels, groups, seed, "train subset")[0]
        validation, train = _drawn(plan.validation, subset, labels, groups, seed, "validation")
        _save(source, "train", np.concatenate([train, validation]), folder, "train")
        for name in ("groups", "stratify"):
            if name in source:
                folder.save_tree(name, source.tree(name), np.concatenate([train, validation]))
        folder.save_tree(VALIDATION_ROWS, np.array([len(validation)]))
        return source.class_names

    # Kept in the source's own folder, so that they go when it goes.
    identity = (SPLIT_VERSION, plan.test_split, plan.train, plan.validation, seed, *rule.way)
    return cached(source.path, "train", identity, build)


def _drawn(
    count: int, among: Positions, labels: Array | None, groups: Array | None, seed: int, purpose: str
) -> tuple[Positions, Positions]:
    """Returns ``count`` of some rows, and the others; the groups of one count as its rows do."""
    random, count = _random(seed, purpose), min(count, len(among))
    if groups is not None and 0 < count < len(among):
        of_among = None if labels is None else labels[among]
        first, second = select_groups(count, groups[among], of_among, random)
    else:
        first, second = select(count, len(among), None if labels is None else labels[among], random)
    return among[first], among[second]


def _test_entry(plan: Plan, specification: DataSpecification, source: Entry) -> Entry:
    """Returns the entry whose ``test`` arrays hold the test rows, if there are any."""
    rule, seed = specification.split or ValidationSplit(), specification.seed
    origin, count, purpose = ("train", plan.test_split, "test split")
    if plan.test_subset is not None:
        origin, count, purpose = ("test", plan.test_subset, "test subset")
    rows = examples(source, origin).rows or 0 if count else 0
    if not count or (origin == "test" and count == rows):
        return source

    def build(folder: ArrayFolder) -> ClassNames:
        if rule.in_order:
            chosen = np.arange(rows - count, rows) if origin == "train" else np.arange(count)
        else:
            y = examples(source, "test").y
            labels, groups = rule_labels(source, rule) if origin == "train" else (labels_of(y), None)
            chosen = _drawn(count, np.arange(rows), labels, groups, seed, purpose)[0]
        _save(source, origin, chosen, folder, "test")
        return source.class_names

    return cached(source.path, "test", (SPLIT_VERSION, origin, count, seed, *rule.way), build)


def _random(seed: int, purpose: str) -> np.random.RandomState:
    """Returns a generator of its own for each purpose, so that asking for one set does not change another."""
    return np.random.RandomState([seed, PURPOSES.index(purpose)])


def _save(source: Entry, part: str, positions: Positions, folder: ArrayFolder, name: str) -> None:
    for axis in ("x", "y", "sample_weight"):
        if f"{axis}_{part}" in source:
            folder.save_tree(f"{axis}_{name}", source.tree(f"{axis}_{part}"), positions)
