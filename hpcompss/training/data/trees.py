"""Trees of arrays: what Keras takes for several inputs or outputs, nested in dicts, lists and tuples.

A leaf is a NumPy array, a pandas or polars frame or series, a SciPy sparse matrix, or a ragged tensor of TensorFlow.
Each has rows. Frameworks are told by their classes' modules, so that nothing is imported to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Index", "concatenate", "is_frame", "is_text", "kind_of", "leaves", "map_tree", "rows_of", "take"]

Index = slice | npt.NDArray[np.intp]
"""Which rows: a slice, or their positions."""

KINDS = {
    ("pandas", "DataFrame"): "pandas",
    ("pandas", "Series"): "pandas",
    ("polars", "DataFrame"): "polars",
    ("polars", "Series"): "polars",
    ("tensorflow", "RaggedTensor"): "ragged",
}
"""The kinds of leaves that are no arrays, by package and class."""


def kind_of(value: Any) -> str | None:
    """Returns what kind of leaf a value is: ``array``, ``pandas``, ``polars``, ``sparse`` or ``ragged``; else None."""
    if isinstance(value, np.ndarray):
        return "array"
    for cls in type(value).__mro__:
        package = cls.__module__.partition(".")[0]
        if kind := KINDS.get((package, cls.__name__)):
            return kind
        if package == "scipy" and cls.__module__.startswith("scipy.sparse"):
            return "sparse"
    return None


def is_frame(value: Any) -> bool:
    """Returns whether a leaf is a table with named columns."""
    return kind_of(value) in ("pandas", "polars") and hasattr(value, "columns")


def map_tree(function: Callable[[Any], Any], tree: Any) -> Any:
    """Returns a tree of the same structure with ``function`` applied to each leaf."""
    if isinstance(tree, dict):
        return {key: map_tree(function, each) for key, each in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(map_tree(function, each) for each in tree)
    return function(tree)


def leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the leaves of a tree, each with its name: ``x_train['image']``, ``x_train[0]``."""
    if isinstance(tree, dict):
        for key, each in tree.items():
            yield from leaves(each, f"{name}[{key!r}]")
    elif isinstance(tree, list | tuple):
        for number, each in enumerate(tree):
            yield from leaves(each, f"{name}[{number}]")
    else:
        yield name, tree


def rows_of(tree: Any) -> int:
    """Returns how many rows the first leaf of a tree has."""
    return next(_length(leaf) for _, leaf in leaves(tree))


def _length(leaf: Any) -> int:
    return int(leaf.shape[0])


def take(tree: Any, index: Index) -> Any:
    """Returns some rows of each leaf; a slice of an array is a view of it."""
    return map_tree(lambda leaf: _take(leaf, index), tree)


def _take(leaf: Any, index: Index) -> Any:
    kind = kind_of(leaf)
    if kind == "pandas":
        return leaf.iloc[index]
    if kind == "ragged" and not isinstance(index, slice):
        import tensorflow

        return tensorflow.gather(leaf, index)
    return leaf[index]


def concatenate(trees: Sequence[Any]) -> Any:
    """Returns one tree with the rows of several, which have the same structure."""
    first = trees[0]
    if isinstance(first, dict):
        return {key: concatenate([each[key] for each in trees]) for key in first}
    if isinstance(first, list | tuple):
        return type(first)(concatenate(each) for each in zip(*trees, strict=True))
    kind = kind_of(first)
    if kind == "pandas":
        import pandas

        return pandas.concat(trees)
    if kind == "polars":
        import polars

        return polars.concat(trees)
    if kind == "sparse":
        import scipy.sparse

        return scipy.sparse.vstack(trees, format="csr")
    if kind == "ragged":
        import tensorflow

        return tensorflow.concat(trees, 0)
    types = {each.dtype for each in trees}
    return np.concatenate(trees, dtype=first.dtype if len(types) == 1 else None)  # NumPy alone drops a byte order


def is_text(leaf: Any) -> bool:
    """Returns whether a leaf holds text."""
    if kind_of(leaf) != "array":
        return False
    if leaf.dtype.kind in "US":
        return True
    return leaf.dtype.kind == "O" and leaf.size > 0 and isinstance(leaf.flat[0], str | bytes)
