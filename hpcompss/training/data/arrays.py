"""Arrays as users keep them, checked and brought to one form on the way into the cache."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hpcompss.errors import InputError
from hpcompss.training.data.cache import Array, ArrayFolder

__all__ = ["KEYS", "PARTS", "save_arrays"]

PARTS = ("train", "val", "test")
KEYS = tuple(f"{axis}_{part}" for part in PARTS for axis in "xy")
"""The names of the arrays: ``x_train, y_train, x_val, y_val, x_test, y_test``; the first two are required."""


def save_arrays(arrays: Mapping[str, object], source: str, key: str, target: ArrayFolder) -> None:
    """Writes those of `KEYS` that ``arrays`` has.

    Features keep their type, except that floats become float32. Whole-number targets become int64, others float32; a
    single column is flattened.

    Args:
        arrays: Arrays, or what NumPy can make arrays of; each is asked for once.
        source: Where they come from, for messages.
        key: The setting that named the source.
        target: Where they go.

    Raises:
        InputError: Arrays are missing, empty, of types that are not numbers, or do not match.
    """
    row_shapes = {}
    for part in PARTS:
        names = (f"x_{part}", f"y_{part}")
        found = [name for name in names if name in arrays]
        if not found and part != "train":
            continue
        if len(found) < 2:
            absent = " and ".join(name for name in names if name not in found)
            raise InputError(f"{source} has no {absent}: it has {', '.join(arrays) or 'nothing'}", key=key)
        x, y = (_numbers(arrays, name, source, key) for name in names)
        if len(x) != len(y):
            raise InputError(f"{source} has {len(x):,} rows in x_{part}, but {len(y):,} in y_{part}", key=key)
        row_shapes[part] = x.shape[1:]
        if row_shapes[part] != row_shapes["train"]:
            raise InputError(
                f"{source} has rows of shape {row_shapes['train']} in x_train, but {row_shapes[part]} in x_{part}",
                key=key,
            )
        x_type = np.dtype(np.float32) if x.dtype.kind == "f" else x.dtype.newbyteorder("=")
        target.save(f"x_{part}", x.astype(x_type, copy=False))
        target.save(f"y_{part}", _targets(y))


def _numbers(arrays: Mapping[str, object], name: str, source: str, key: str) -> Array:
    what = f"{name} of {source}"
    try:
        array = np.asarray(arrays[name])
    except Exception as error:  # rows of different lengths, a damaged archive, Python objects in an archive, ...
        raise InputError(f"cannot read {what}: {error}", key=key) from error
    if array.dtype.kind not in "biuf":
        raise InputError(f"{what} must hold numbers, not {array.dtype}", key=key)
    if array.ndim == 0 or not array.size:
        raise InputError(f"{what} is empty", key=key)
    return array


def _targets(y: Array) -> Array:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    return y.astype(np.float32 if y.dtype.kind == "f" else np.int64)
