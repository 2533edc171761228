"""Subsets and validation splits: stratified, seeded, and kept in the cache so that processes share them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpcompss.errors import InputError
from hpcompss.training.data.cache import Array, ArrayFolder, ClassNames, Entry, cached
from hpcompss.training.data.data_set import DataSet
from hpcompss.training.data.examples import Examples
from hpcompss.training.data.specification import DataSpecification

__all__ = ["DEFAULT_VALIDATION", "Positions", "copy_rows", "is_classes", "portion", "select", "split"]

DEFAULT_VALIDATION = 0.2
SPLIT_VERSION = 1
"""Part of every split's identity: raise it when the same numbers give other rows than before."""

PURPOSES = ("test split", "test subset", "train subset", "validation", "portion")
"""What is drawn; their order is part of what a seed means."""

COPY_BYTES = 2**24
"""How much is copied at a time."""

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
    """Returns the source's arrays with the subsets and splits that ``specification`` states.

    Args:
        specification: What the user stated.
        entry: The decoded source. What has to be reordered is stored in entries beside it.
        name: What to call the data.

    Raises:
        InputError: More is asked for than there is, a set would be empty, or the cache cannot be written.
    """
    plan = _plan(specification, entry)
    training = _training_entry(plan, specification.seed, entry)
    x, y = training.array("x_train"), training.array("y_train")
    test = _test_entry(plan, specification.seed, entry)
    has_test = "y_test" in test.names
    validation = Examples(entry.array("x_val"), entry.array("y_val")) if not plan.validation else None
    return DataSet(
        train=Examples(x[: plan.train], y[: plan.train]),
        validation=validation or Examples(x[plan.train :], y[plan.train :]),
        test=Examples(test.array("x_test"), test.array("y_test")) if has_test else None,
        class_names=entry.class_names,
        name=name,
        joined=Examples(x, y) if plan.validation else None,
        place=training.path,
    )


def is_classes(y: Array) -> bool:
    """Returns whether targets are classes, whole numbers of one column, that splits keep in proportion."""
    return y.dtype.kind == "i" and y.ndim == 1


def select(y: Array, count: int, random: np.random.RandomState) -> tuple[Positions, Positions]:
    """Returns the positions of ``count`` rows and those of all others, both in random order.

    Rows of classes (whole numbers of one column) are taken in proportion to their class, by the method of Sainte-Lague:
    the k-th row of a class of n has rank (k - 1/2) / n, and the lowest ranks are taken. So a class of one row is taken
    last, and of equal ranks the one that comes first in a random order.

    Args:
        y: Targets.
        count: How many rows to take.
        random: Draws the order; the legacy generator, whose numbers are the same in every version of NumPy.
    """
    order = random.permutation(len(y))
    if is_classes(y):
        _, classes, sizes = np.unique(y[order], return_inverse=True, return_counts=True)
        by_class = np.argsort(classes, kind="stable")
        position_in_class = np.empty(len(y))
        position_in_class[by_class] = np.arange(len(y)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        order = order[np.argsort((position_in_class + 0.5) / sizes[classes], kind="stable")]
    return random.permutation(order[:count]), random.permutation(order[count:])


def portion(examples: Examples, share: float, seed: int) -> Examples:
    """Returns a share of training data, of each class in proportion; a larger share contains every smaller one.

    Args:
        examples: Training data.
        share: Above 0 and up to 1; at least one row is taken.
        seed: Draws which rows.
    """
    count = max(1, round(share * len(examples.y)))
    if count == len(examples.y):
        return examples
    rows, _ = select(examples.y, count, _random(seed, "portion"))
    rows.sort()  # the order in which a file is read fastest
    return Examples(examples.x[rows], examples.y[rows])


def _plan(specification: DataSpecification, entry: Entry) -> Plan:
    rows = {
        part: len(entry.array(f"y_{part}")) if f"y_{part}" in entry.names else 0 for part in ("train", "val", "test")
    }
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
    amount = DEFAULT_VALIDATION if specification.validation is None else specification.validation
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


def _training_entry(plan: Plan, seed: int, source: Entry) -> Entry:
    """Returns the entry whose ``train`` arrays hold the training rows, then the validation rows."""
    y = source.array("y_train")
    if not (plan.test_split or plan.validation) and plan.train == len(y):
        return source

    def build(folder: ArrayFolder) -> ClassNames:
        rest = select(y, plan.test_split, _random(seed, "test split"))[1]
        subset = rest[select(y[rest], plan.train + plan.validation, _random(seed, "train subset"))[0]]
        validation, train = select(y[subset], plan.validation, _random(seed, "validation"))
        _save(source, "train", subset[np.concatenate([train, validation])], folder, "train")
        return source.class_names

    # Kept in the source's own folder, so that they go when it goes.
    identity = (SPLIT_VERSION, plan.test_split, plan.train, plan.validation, seed)
    return cached(source.path, "train", identity, build)


def _test_entry(plan: Plan, seed: int, source: Entry) -> Entry:
    """Returns the entry whose ``test`` arrays hold the test rows, if there are any."""
    origin, count, purpose = ("train", plan.test_split, "test split")
    if plan.test_subset is not None:
        origin, count, purpose = ("test", plan.test_subset, "test subset")
    if not count or (origin == "test" and count == len(source.array("y_test"))):
        return source

    def build(folder: ArrayFolder) -> ClassNames:
        chosen = select(source.array(f"y_{origin}"), count, _random(seed, purpose))[0]
        _save(source, origin, chosen, folder, "test")
        return source.class_names

    return cached(source.path, "test", (SPLIT_VERSION, origin, count, seed), build)


def _random(seed: int, purpose: str) -> np.random.RandomState:
    """Returns a generator of its own for each purpose, so that asking for one set does not change another."""
    return np.random.RandomState([seed, PURPOSES.index(purpose)])


def _save(source: Entry, part: str, positions: Positions, folder: ArrayFolder, name: str) -> None:
    for axis in "xy":
        copy_rows(source.array(f"{axis}_{part}"), positions, folder, f"{axis}_{name}")


def copy_rows(rows: Array, positions: Positions, folder: ArrayFolder, name: str) -> None:
    """Writes the rows at these positions as an array of an entry, a part at a time."""
    file = folder.open(name, rows.shape[1:], rows.dtype)
    step = max(1, COPY_BYTES // rows[:1].nbytes)
    for start in range(0, len(positions), step):
        file.append(rows[positions[start : start + step]])
