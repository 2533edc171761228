"""Data as users keep it, checked on its way into the cache, and otherwise left as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hpcompss.errors import InputError, nearest
from hpcompss.training.data.cache import ArrayFolder
from hpcompss.training.data.streams import is_stream
from hpcompss.training.data.trees import is_frame, kind_of, leaves, rows_of

__all__ = ["NAMES", "PARTS", "check_names", "part_of", "save_arrays", "stream_in", "trees_of"]

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
    """Writes the parts of the data that a mapping has; see `trees_of`."""
    for name, tree in trees_of(arrays, source, key, allow_nan=allow_nan).items():
        target.save_tree(name, tree)


def trees_of(arrays: Mapping[str, Any], source: str, key: str, *, allow_nan: bool = False) -> dict[str, Any]:
    """Returns the parts of the data that a mapping has, as trees of arrays: ``x_train``, ``y_train``, and so on.

    Types and shapes stay as they are.

    Args:
        arrays: Values by the names in `NAMES`; a whole part is ``x``, ``(x,)``, ``(x, y)`` or ``(x, y, weights)``.
        source: Where they come from, for messages.
        key: The setting that named the source.
        allow_nan: Whether targets and weights may be NaN.

    Raises:
        InputError: A name is unknown, the training data is missing, or arrays are empty or do not match.
    """
    check_names(arrays, source, key)
    trees: dict[str, Any] = {}
    for part in PARTS:
        trees |= part_of(arrays, part, source, key)
    if "x_train" not in trees:
        raise InputError(f"{source} has no x_train: it has {', '.join(arrays) or 'nothing'}", key=key)
    for part in PARTS:
        if f"x_{part}" in trees and (f"y_{part}" in trees) != ("y_train" in trees):
            there, missing = sorted((f"y_{part}", "y_train"), key=lambda name: name not in trees)
            raise InputError(f"{source} has {there}, but no {missing}", key=key)
    for name in ("groups", "stratify"):
        if arrays.get(name) is not None:
            trees[name] = _column(arrays[name], f"{name} of {source}", key)
            _check_rows({"x_train": trees["x_train"], name: trees[name]}, source, key)
            if "x_val" in trees:
                raise InputError(
                    f"{source} has {name}, by which validation data is split off, and validation data: leave one out",
                    key=key,
                )
    _check_alike(trees, source, key)
    _check_weights(trees, source, key)
    if not allow_nan:
        _check_nan(trees, source, key)
    return trees


def stream_in(arrays: Mapping[str, Any]) -> str | None:
    """Returns the first name in a mapping of data whose value is a stream or a function that makes one, or None."""
    for name, value in arrays.items():
        first = value[0] if isinstance(value, tuple) and value else value
        if is_stream(first) or callable(first):
            return name
    return None


def check_names(arrays: Mapping[str, Any], source: str, key: str) -> None:
    """Refuses names that data does not have."""
    for name in arrays:
        if name not in NAMES:
            hint = nearest(str(name).lower(), NAMES)
            raise InputError(f"{source} has the unknown name {name!r}; {hint}", key=key)


def part_of(arrays: Mapping[str, Any], part: str, source: str, key: str) -> dict[str, Any]:
    """Returns the trees of one part by their names: ``x_val``, ``y_val`` and ``sample_weight_val``.

    Args:
        arrays: What `trees_of` takes.
        part: ``train``, ``val`` or ``test``.
        source: Where they come from, for messages.
        key: The setting that named the source.
    """
    names = (f"x_{part}", f"y_{part}", f"{WEIGHTS}_{part}")
    stated = {name: arrays[name] for name in (PARTS[part], *names) if arrays.get(name) is not None}
    if part == "train" and arrays.get(WEIGHTS) is not None:
        stated[WEIGHTS] = arrays[WEIGHTS]
    whole = stated.pop(PARTS[part], None)
    twice = (WEIGHTS, names[2]) if WEIGHTS in stated and names[2] in stated else ()
    if whole is not None and stated:
        twice = (PARTS[part], next(iter(stated)))
    if twice:
        raise InputError(f"{source} has both {twice[0]} and {twice[1]}: leave one out", key=key)
    if whole is not None:
        values = whole if isinstance(whole, tuple) else (whole,)
        if not 1 <= len(values) <= 3:
            raise InputError(
                f"{PARTS[part]} of {source} is a tuple of {len(values)}: give (x, y) or (x, y, weights)", key=key
            )
        stated = {name: value for name, value in zip(names, values, strict=False) if value is not None}
    if stated and names[0] not in stated:
        raise InputError(f"{source} has no {names[0]}: it has {', '.join(arrays)}", key=key)
    rows = _plain_rows(stated.get(names[1]))
    trees = {name: _tree(value, f"{name} of {source}", key, rows) for name, value in stated.items()}
    _check_rows(trees, source, key)
    return {names[2] if name == WEIGHTS else name: tree for name, tree in trees.items()}


def _column(value: Any, what: str, key: str) -> np.ndarray[Any, Any]:
    """Returns what a split goes by, shape (rows,)."""
    tree = _tree(value, what, key)
    column = np.asarray(tree) if kind_of(tree) in ("array", "pandas", "polars") else np.empty((0, 0))
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.ndim != 1:
        raise InputError(f"{what} must be one value for each row", key=key)
    return column


def _plain_rows(y: Any) -> int | None:
    """Returns how many rows targets have, where that is plain."""
    if kind_of(y) is not None:
        return int(y.shape[0]) if y.shape else None
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
        for number, value in enumerate(values):
            array[number] = value
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
    if isinstance(value, np.ma.MaskedArray):
        raise InputError(f"{what} is a masked array: fill its gaps, or give weights of the rows", key=key)
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
    expected = {name.removeprefix("x_train"): leaf for name, leaf in leaves(trees["x_train"], "x_train")}
    for part in ("x_val", "x_test"):
        if part not in trees:
            continue
        given = {name.removeprefix(part): leaf for name, leaf in leaves(trees[part], part)}
        if expected.keys() != given.keys():
            raise InputError(
                f"{source} has the inputs {_listed(expected)} in x_train, but {_listed(given)} in {part}", key=key
            )
        for place, leaf in expected.items():
            other = given[place]
            if is_frame(leaf) and is_frame(other) and list(leaf.columns) != list(other.columns):
                differing = [str(name) for name in {*leaf.columns} ^ {*other.columns}]
                what = f"differ in {', '.join(sorted(differing)[:5])}" if differing else "are in another order"
                raise InputError(f"the columns of x_train{place} and {part}{place} of {source} {what}", key=key)
            if kind_of(leaf) != "ragged" and kind_of(other) != "ragged" and leaf.shape[1:] != other.shape[1:]:
                raise InputError(
                    f"{source} has rows of shape {leaf.shape[1:]} in x_train{place}, but {other.shape[1:]} in "
                    f"{part}{place}",
                    key=key,
                )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(name.strip("[]") or "(one array)" for name in names)


def _check_weights(trees: Mapping[str, Any], source: str, key: str) -> None:
    for name, leaf in _leaves_of(trees, WEIGHTS):
        kind = getattr(getattr(leaf, "dtype", None), "kind", "f")
        if kind not in "iufb":
            raise InputError(f"{name} of {source} holds {leaf.dtype}: weights are numbers", key=key)


def _check_nan(trees: Mapping[str, Any], source: str, key: str) -> None:
    """Refuses targets and weights that are not a number."""
    for name, leaf in (*_leaves_of(trees, "y_"), *_leaves_of(trees, WEIGHTS)):
        if count := _rows_of_nan(leaf):
            raise InputError(
                f"{name} of {source} has NaN in {count:,} of {rows_of(leaf):,} rows: remove them, or state  "
                "data.allow_nan: true",
                key=key,
            )


def _leaves_of(trees: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    return [each for name, tree in trees.items() if name.startswith(prefix) for each in leaves(tree, name)]


def _rows_of_nan(leaf: Any) -> int:
    kind = kind_of(leaf)
    if kind == "pandas":
        missing = leaf.isna().to_numpy()
    else:
        array = leaf.to_numpy() if kind == "polars" else leaf
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fcO":
            return 0
        missing = _is_missing(array) if array.dtype.kind == "O" else np.isnan(array)
    return int(missing.reshape(len(missing), -1).any(axis=1).sum())


def _is_missing(objects: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    missing = [value is None or (isinstance(value, float) and value != value) for value in objects.flat]
    return np.array(missing).reshape(objects.shape)
