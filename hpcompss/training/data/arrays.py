"""Data as users keep it, checked on its way into the cache, and otherwise left as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpcompss.errors import InputError, nearest
from hpcompss.training.data.cache import ArrayFolder
from hpcompss.training.data.streams import is_stream
from hpcompss.training.data.trees import kind_of, leaves, rows_of

__all__ = ["NAMES", "PARTS", "save_arrays", "stream_in"]

PARTS = {"train": "train", "val": "validation", "test": "test"}
"""The parts of the data, by the short name in ``x_val`` and by the name of their own."""

WEIGHTS = "sample_weight"

NAMES = (
    *(f"{axis}_{part}" for part in PARTS for axis in "xy"),
    *PARTS.values(),
    WEIGHTS,
    *(f"{WEIGHTS}_{part}" for part in PARTS),
    "groups",
    "stratify",
)
"""What a mapping of data may have: arrays by name, whole parts, weights of rows, and what splits go by."""


def save_arrays(
    arrays: Mapping[str, Any], source: str, key: str, target: ArrayFolder, *, allow_nan: bool = False
) -> None:
    """Writes the parts of the data that a mapping has; types and shapes stay as they are.

    Args:
        arrays: Values by the names in `NAMES`; a whole part is ``x``, ``(x,)``, ``(x, y)`` or ``(x, y, weights)``.
        source: Where they come from, for messages.
        key: The setting that named the source.
        target: Where they go.
        allow_nan: Whether targets may be NaN.

    Raises:
        InputError: A name is unknown, the training data is missing, or arrays are empty or do not match.
    """
    _check_names(arrays, source, key)
    trees: dict[str, Any] = {}
    for part in PARTS:
        trees |= _part(arrays, part, source, key)
    if "x_train" not in trees:
        raise InputError(f"{source} has no x_train: it has {', '.join(map(str, arrays)) or 'nothing'}", key=key)
    for name in ("groups", "stratify"):
        if arrays.get(name) is not None:
            trees[name] = _tree(arrays[name], f"{name} of {source}", key)
            _check_rows({"x_train": trees["x_train"], name: trees[name]}, source, key)
    _check_alike(trees, source, key)
    if not allow_nan:
        _check_targets(trees, source, key)
    for name, tree in trees.items():
        target.save_tree(name, tree)


def stream_in(arrays: Mapping[str, Any]) -> str | None:
    """Returns the first name in a mapping of data whose value is a stream or a function that makes one, or None."""
    for name, value in arrays.items():
        first = value[0] if isinstance(value, tuple) and value else value
        if is_stream(first) or callable(first):
            return name
    return None


def _check_names(arrays: Mapping[str, Any], source: str, key: str) -> None:
    for name in arrays:
        if name not in NAMES:
            hint = nearest(str(name).lower(), NAMES)
            raise InputError(f"{source} has the unknown name {name!r}; {hint}", key=key)


def _part(arrays: Mapping[str, Any], part: str, source: str, key: str) -> dict[str, Any]:
    """Returns the trees of one part by their names: ``x_val``, ``y_val`` and ``sample_weight_val``."""
    whole, names = PARTS[part], (f"x_{part}", f"y_{part}", f"{WEIGHTS}_{part}")
    stated = {name: arrays[name] for name in names if arrays.get(name) is not None}
    if part == "train" and arrays.get(WEIGHTS) is not None:
        stated.setdefault(names[2], arrays[WEIGHTS])
    if arrays.get(whole) is not None:
        if stated:
            raise InputError(f"{source} has both {whole!r} and {next(iter(stated))!r}: leave one out", key=key)
        value = arrays[whole] if isinstance(arrays[whole], tuple) else (arrays[whole],)
        if not 1 <= len(value) <= 3:
            raise InputError(f"{whole} of {source} is a tuple of {len(value)}: give (x, y) or (x, y, weights)", key=key)
        stated = {name: each for name, each in zip(names, value, strict=False) if each is not None}
    if stated and names[0] not in stated:
        raise InputError(f"{source} has no {names[0]}: it has {', '.join(arrays)}", key=key)
    rows = _plain_rows(stated.get(names[1]))
    trees = {name: _tree(value, f"{name} of {source}", key, rows) for name, value in stated.items()}
    _check_rows(trees, source, key)
    return trees


def _plain_rows(y: Any) -> int | None:
    """Returns how many rows targets have, where that is plain."""
    if kind_of(y) is not None:
        return int(y.shape[0])
    return len(y) if isinstance(y, list) and y and not any(_is_array_like(each) for each in y) else None


def _is_array_like(value: Any) -> bool:
    return kind_of(value) is not None or hasattr(value, "__array__") or isinstance(value, dict)


def _tree(value: Any, what: str, key: str, rows: int | None = None) -> Any:
    """Returns a value as a tree of leaves.

    Args:
        value: What the user gave.
        what: What it is, for messages.
        key: The setting that named the source.
        rows: How many rows its leaves should have, where that is known: it tells a list of inputs from a list of rows.
    """
    if isinstance(value, Mapping):
        if not value or not all(isinstance(name, str) for name in value):
            raise InputError(f"{what} is a mapping: its keys must be the names of inputs", key=key)
        return {name: _tree(each, f"{name!r} in {what}", key, rows) for name, each in value.items()}
    if isinstance(value, list | tuple):
        if not value:
            raise InputError(f"{what} is empty", key=key)
        if any(map(_is_array_like, value)) and not _are_rows(value, rows):
            members = [_tree(each, f"{number} in {what}", key, rows) for number, each in enumerate(value)]
            return members if isinstance(value, list) else tuple(members)
        return _leaf(_of_rows(value), what, key)
    return _leaf(value, what, key)


def _are_rows(values: list[Any] | tuple[Any, ...], rows: int | None) -> bool:
    """Returns whether the members of a list are rows, not inputs that have rows themselves."""
    lengths = {each.shape[0] if getattr(each, "ndim", 0) else None for each in values}
    if isinstance(values[0], dict):
        return False
    if lengths == {rows} and rows is not None:
        return False
    return len(values) == rows or None in lengths


def _of_rows(values: Any) -> Any:
    """Returns a list of rows as an array; rows of different lengths as an array of objects."""
    try:
        return np.asarray(values)
    except ValueError:
        array = np.empty(len(values), object)
        array[:] = values
        return array


def _leaf(value: Any, what: str, key: str) -> Any:
    kind = kind_of(value)
    if kind is None and hasattr(value, "__array__"):
        value = np.asarray(value)  # a tensor of some framework
    elif kind == "sparse":
        value = value.tocsr()
    elif kind is None:
        raise InputError(
            f"{what} is a {type(value).__name__}: give an array, a frame, a list or dict of them, or a stream "
            "(tf.data.Dataset, PyDataset, DataLoader, generator)",
            key=key,
        )
    if isinstance(value, np.ndarray) and value.dtype.names is not None:
        raise InputError(f"{what} is a structured array: give a dict of its fields, or a frame", key=key)
    if not value.shape:
        raise InputError(f"{what} has no rows: it is a single value", key=key)
    if not value.shape[0]:
        raise InputError(f"{what} is empty", key=key)
    return value


def _check_rows(trees: Mapping[str, Any], source: str, key: str) -> None:
    """Refuses arrays of different lengths, by name."""
    counts = {name: rows_of(leaf) for tree_name, tree in trees.items() for name, leaf in leaves(tree, tree_name)}
    if len(set(counts.values())) > 1:
        first, *others = counts
        other = next(name for name in others if counts[name] != counts[first])
        raise InputError(f"{source} has {counts[first]:,} rows in {first}, but {counts[other]:,} in {other}", key=key)


def _check_alike(trees: Mapping[str, Any], source: str, key: str) -> None:
    """Refuses features of other parts that do not look like those of the training data."""
    known = {name.removeprefix("x_train"): leaf for name, leaf in leaves(trees["x_train"], "x_train")}
    for part in ("x_val", "x_test"):
        if part not in trees:
            continue
        found = {name.removeprefix(part): leaf for name, leaf in leaves(trees[part], part)}
        if known.keys() != found.keys():
            raise InputError(
                f"{source} has the inputs {_listed(known)} in x_train, but {_listed(found)} in {part}", key=key
            )
        for place, leaf in known.items():
            if kind_of(leaf) == "array" and leaf.shape[1:] != found[place].shape[1:]:
                raise InputError(
                    f"{source} has rows of shape {leaf.shape[1:]} in x_train{place}, but {found[place].shape[1:]} in "
                    f"{part}{place}",
                    key=key,
                )


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(name.strip("[]") or "(one array)" for name in names)


def _check_targets(trees: Mapping[str, Any], source: str, key: str) -> None:
    """Refuses targets that are not a number, unless told otherwise."""
    for tree_name, tree in trees.items():
        if not tree_name.startswith("y_"):
            continue
        for name, leaf in leaves(tree, tree_name):
            if count := _rows_of_nan(leaf):
                raise InputError(
                    f"{name} of {source} has NaN in {count:,} of {rows_of(leaf):,} rows: remove them, or state  "
                    "data.allow_nan: true",
                    key=key,
                )


def _rows_of_nan(leaf: Any) -> int:
    kind = kind_of(leaf)
    if kind == "pandas":
        missing = leaf.isna()
        return int((missing.any(axis=1) if missing.ndim == 2 else missing).sum())
    array = leaf.to_numpy() if kind == "polars" else leaf
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        return 0
    missing = np.isnan(array)
    return int(missing.reshape(len(array), -1).any(axis=1).sum())
