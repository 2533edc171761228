"""Folds of the training and validation data: stratified, seeded, made once, mapped from the cache ever after.

The rows of all folds lie in one file, fold after fold, and once more without the last fold. So what is trained on where
one fold validates, all the others, is one stretch of that file that begins behind it, and no fold needs a copy.
"""

from __future__ import annotations

import dataclasses
import itertools
import warnings

import numpy as np

from hpcompss.errors import InputError
from hpcompss.training.data.cache import Array, ArrayFolder, ClassNames, cached, opened
from hpcompss.training.data.data_set import DataSet
from hpcompss.training.data.examples import Examples
from hpcompss.training.data.specification import DataSpecification, ValidationSplit
from hpcompss.training.data.split import Positions, examples, labels_of, rule_labels

__all__ = ["assign_folds", "folds_of"]

SIZES = "fold_sizes"
"""The name, in an entry, of how many rows each fold has."""

FOLDS_VERSION = 2
"""Part of the identity of all folds: raise it when the same numbers give other rows than before."""


def folds_of(data: DataSet, folds: int, specification: DataSpecification) -> tuple[DataSet, ...]:
    """Returns a data set for each fold: its rows to validate with, others to train on.

    Classes are kept in proportion, rows of one group stay in one fold. Where rows keep their order, the first fold
    trains on the first stretch and validates with the next, and each fold trains on one stretch more.

    Args:
        data: What `hpcompss.training.data.split.split` returned; its test set is that of each fold.
        folds: How many, at least 2.
        specification: States the seed, and how rows are split.

    Raises:
        InputError: There are more folds than rows of a class, groups, or rows in all; there is nothing to validate
            with; or the cache cannot be written.
    """
    if data.place is None or data.train.is_stream:
        raise InputError("a stream has no rows to make folds of: leave folds out", key="training.folds")
    if data.validation is None:
        raise InputError("folds are for validation, and data.validation is none: leave one out", key="training.folds")
    if data.in_order:
        return _in_order(data, folds)
    rule = specification.split or ValidationSplit()
    identity = (FOLDS_VERSION, folds, specification.seed, *rule.way)
    entry = cached(data.place, "folds", identity, lambda folder: _build(data, folds, specification, folder))
    both = examples(entry, "train")
    ends = np.cumsum(entry.tree(SIZES)).tolist()
    count = ends[-1]
    return tuple(
        dataclasses.replace(
            data, train=both.take(slice(end, begin + count)), validation=both.take(slice(begin, end)), joined=None
        )
        for begin, end in itertools.pairwise([0, *ends])
    )


def _in_order(data: DataSet, folds: int) -> tuple[DataSet, ...]:
    both = data.training_and_validation()
    count = both.rows or 0
    if folds + 1 > count:
        raise InputError(f"{folds} folds in order need {folds + 1} rows, not {count}", key="training.folds")
    ends = [count * number // (folds + 1) for number in range(1, folds + 2)]
    return tuple(
        dataclasses.replace(data, train=both.take(slice(end)), validation=both.take(slice(end, following)), joined=None)
        for end, following in itertools.pairwise(ends)
    )


def assign_folds(
    rows: int, folds: int, labels: Array | None, groups: Array | None, random: np.random.RandomState
) -> list[Positions]:
    """Returns the positions of the rows of each fold, in random order.

    The rows, in random order, are dealt out class by class: so two folds differ by one row at the most, of each class
    and in all. Groups are dealt out whole, by scikit-learn's ``StratifiedGroupKFold``.

    Args:
        rows: How many rows there are.
        folds: How many folds.
        labels: The class of each row, shape (rows,), or None.
        groups: The group of each row, shape (rows,), or None.
        random: Draws the order.
    """
    if groups is not None:
        from sklearn.model_selection import StratifiedGroupKFold

        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=random)
        y = np.zeros(rows, int) if labels is None else labels
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of classes that are in fewer groups than there are folds
            return [random.permutation(fold) for _, fold in splitter.split(y, y, groups)]
    order = random.permutation(rows)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    return [random.permutation(order[fold::folds]) for fold in range(folds)]


def _build(data: DataSet, folds: int, specification: DataSpecification, folder: ArrayFolder) -> ClassNames:
    together = data.training_and_validation()
    labels, groups = _rules(data, together, specification)
    _check(together.rows or 0, labels, groups, folds, data.class_names)
    random = np.random.RandomState([specification.seed, folds])
    parts = assign_folds(together.rows or 0, folds, labels, groups, random)
    positions = np.concatenate([*parts, *parts[:-1]])
    for name, tree in (("x_train", together.x), ("y_train", together.y), ("sample_weight_train", together.weights)):
        if tree is not None:
            folder.save_tree(name, tree, positions)
    folder.save_tree(SIZES, np.array([len(part) for part in parts]))
    return data.class_names


def _rules(data: DataSet, together: Examples, specification: DataSpecification) -> tuple[Array | None, Array | None]:
    """Returns the classes and groups of the training and validation rows."""
    rule = specification.split or ValidationSplit()
    if data.joined is None:  # a validation set of the source's own, which has no groups
        return None if rule.stratify is False else labels_of(together.y), None
    entry = opened(data.place) if data.place is not None else None
    if entry is None:
        raise InputError("the data is not in the cache any more: run again", key="data")
    return rule_labels(entry, rule)


def _check(rows: int, labels: Array | None, groups: Array | None, folds: int, class_names: ClassNames) -> None:
    """Refuses folds of which some would lack a class, or have no row at all."""
    what, count = "there are only", rows
    if groups is not None:
        what, count = "there are only", len(np.unique(groups))
    elif labels is not None:
        classes, sizes = np.unique(labels, return_counts=True)
        smallest = int(sizes.argmin())
        label = classes[smallest]
        named = labels.dtype.kind in "iu" and 0 <= label < len(class_names)
        name = f"'{class_names[int(label)]}'" if named else str(label)
        what, count = f"the class {name} has only", int(sizes[smallest])
    if folds > count:
        most = f"take at most {count} folds" if count > 1 else "leave folds out"
        unit = "groups" if groups is not None else f"training and validation example{'s' * (count > 1)}"
        raise InputError(
            f"{folds} folds are asked for, but {what} {count:,} {unit}: {most}, or add examples", key="training.folds"
        )
