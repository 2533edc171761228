"""Folds of the training and validation data: stratified, seeded, made once, mapped from the cache ever after.

The rows of all folds lie in one file, fold after fold, and once more without the last fold. So what is trained on where
one fold validates, all the others, is one stretch of that file that begins behind it, and no fold needs a copy.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from hpcompss.errors import InputError
from hpcompss.training.data.cache import Array, ArrayFolder, ClassNames, cached
from hpcompss.training.data.data_set import DataSet
from hpcompss.training.data.examples import Examples
from hpcompss.training.data.split import Positions, copy_rows, is_classes

__all__ = ["assign_folds", "folds_of"]

FOLDS_VERSION = 1
"""Part of the identity of all folds: raise it when the same numbers give other rows than before."""


def folds_of(data: DataSet, folds: int, seed: int) -> tuple[DataSet, ...]:
    """Returns a data set for each fold: its rows to validate with, all other training and validation rows to train on.

    Args:
        data: What `hpcompss.training.data.split.split` returned; its test set is that of each fold.
        folds: How many, at least 2.
        seed: Decides which row is in which fold.

    Raises:
        InputError: There are more folds than rows of a class or in all, or the cache cannot be written.
    """
    if data.place is None:
        raise ValueError("only what was read from the cache has folds")
    count = len(data.training_and_validation().y)
    entry = cached(data.place, "folds", (FOLDS_VERSION, folds, seed), lambda folder: _build(data, folds, seed, folder))
    x, y = entry.array("x_train"), entry.array("y_train")
    begins = [0, *np.cumsum(_sizes(count, folds)).tolist()]
    return tuple(
        dataclasses.replace(
            data,
            train=Examples(x[end : begin + count], y[end : begin + count]),
            validation=Examples(x[begin:end], y[begin:end]),
        )
        for begin, end in itertools.pairwise(begins)
    )


def assign_folds(y: Array, folds: int, random: np.random.RandomState) -> list[Positions]:
    """Returns the positions of the rows of each fold, in random order.

    The rows, in random order, are dealt out class by class: so two folds differ by one row at the most, of each class
    and in all.

    Args:
        y: Targets.
        folds: How many.
        random: Draws the order.
    """
    order = random.permutation(len(y))
    if is_classes(y):
        order = order[np.argsort(y[order], kind="stable")]
    return [random.permutation(order[fold::folds]) for fold in range(folds)]


def _sizes(count: int, folds: int) -> list[int]:
    return [len(range(fold, count, folds)) for fold in range(folds)]


def _build(data: DataSet, folds: int, seed: int, folder: ArrayFolder) -> ClassNames:
    together = data.training_and_validation()
    x, y = together.x, together.y
    _check(y, folds, data.class_names)
    parts = assign_folds(y, folds, np.random.RandomState([seed, folds]))
    positions = np.concatenate([*parts, *parts[:-1]])
    copy_rows(x, positions, folder, "x_train")
    copy_rows(y, positions, folder, "y_train")
    return data.class_names


def _check(y: Array, folds: int, class_names: ClassNames) -> None:
    """Refuses folds of which some would lack a class, or have no row at all."""
    what, count = "there are only", len(y)
    if is_classes(y):
        classes, sizes = np.unique(y, return_counts=True)
        smallest = int(sizes.argmin())
        label = int(classes[smallest])
        name = f"'{class_names[label]}'" if 0 <= label < len(class_names) else str(label)
        what, count = f"the class {name} has only", int(sizes[smallest])
    if folds > count:
        most = f"take at most {count} folds" if count > 1 else "leave folds out"
        raise InputError(
            f"{folds} folds are asked for, but {what} {count:,} training and validation example{'s' * (count > 1)}: "
            f"{most}, or add examples",
            key="training.folds",
        )
