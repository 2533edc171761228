"""Digests of data: the same for the same content, however it is laid out in memory."""

from __future__ import annotations

import pickle
from typing import Any, Protocol

import numpy as np

from hpcompss.training.data.trees import is_frame, kind_of

__all__ = ["Digest", "add_array", "add_tree"]

COPY_BYTES = 1 << 24
"""How much is copied at a time."""


class Digest(Protocol):
    """One of hashlib's."""

    def update(self, content: Any, /) -> None:
        """Adds some bytes."""


def add_tree(digest: Digest, tree: Any) -> None:
    """Adds a tree of arrays and frames, or any value that pickles, to a digest."""
    kind = kind_of(tree)
    if isinstance(tree, dict):
        digest.update(f"dict {len(tree)}".encode())
        for name, member in tree.items():
            add_tree(digest, name)
            add_tree(digest, member)
    elif isinstance(tree, list | tuple):
        digest.update(f"{'list' if isinstance(tree, list) else 'tuple'} {len(tree)}".encode())
        for member in tree:
            add_tree(digest, member)
    elif kind == "array" and tree.dtype.kind not in "OV":
        add_array(digest, tree)
    elif kind in ("pandas", "polars"):
        index = (tree.index.names, tree.index.to_numpy()) if kind == "pandas" else ()
        for column in _columns(tree) if is_frame(tree) else [tree]:
            add_tree(digest, (kind, column.name, str(column.dtype), column.to_numpy()))
        add_tree(digest, index)
    elif kind == "sparse":
        add_tree(digest, (kind, tree.shape, tree.data, tree.indices, tree.indptr))
    elif kind == "ragged":
        add_tree(digest, (kind, tree.flat_values.numpy(), [splits.numpy() for splits in tree.nested_row_splits]))
    else:
        pickler = pickle.Pickler(_Sink(digest), pickle.HIGHEST_PROTOCOL)
        pickler.fast = True  # equal values count, not which of them are one object
        pickler.dump(tree)


def _columns(frame: Any) -> list[Any]:
    columns = frame.iloc if kind_of(frame) == "pandas" else frame
    return [columns[:, number] for number in range(frame.shape[1])]


def add_array(digest: Digest, array: np.ndarray[Any, Any]) -> None:
    """Adds an array of plain values, a part at a time."""
    digest.update(f"{array.dtype.str}{array.shape}".encode())
    rows = array if array.ndim else array.reshape(1)
    step = max(1, COPY_BYTES // max(1, rows[:1].nbytes))
    for start in range(0, len(rows), step):
        digest.update(np.ascontiguousarray(rows[start : start + step]).reshape(-1).view(np.uint8).data)


class _Sink:
    """A file for a pickle of which only the digest is wanted."""

    def __init__(self, digest: Digest) -> None:
        self._digest = digest

    def write(self, content: Any) -> int:
        self._digest.update(content)
        return memoryview(content).nbytes
