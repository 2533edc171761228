"""Arrays on disk that are made once and mapped by every process of a node.

An entry is a folder of files with a ``description.json`` that says how large each is, and of which trees of arrays
they are the leaves. It is written beside its final place and renamed there when it is whole, so that no reader ever
meets half an entry. Arrays are ``.npy`` files, which are mapped. Other leaves are pickled, as a cache is its owner's.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import pickle
import re
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcompss.cache_folder import DESCRIPTION, PARTIAL, contents, remove
from hpcompss.errors import InputError
from hpcompss.training.data.digests import COPY_BYTES, add_tree
from hpcompss.training.data.trees import Index, kind_of, take

__all__ = [
    "Array",
    "ArrayFile",
    "ArrayFolder",
    "ClassNames",
    "Entry",
    "cached",
    "entry_path",
    "opened",
    "remove_unused",
]

Array = npt.NDArray[Any]
ClassNames = tuple[str, ...]

UNUSED_SECONDS = 14 * 24 * 3600
"""After this time without use, entries are removed that no later study can use."""

DIGEST_BYTES = 16


class ArrayFile:
    """A ``.npy`` file that grows: its first axis need not be known when it is opened.

    It is written, not mapped: on a full disk a write raises, where storing into a map kills the process.

    Args:
        path: The file, which is replaced.
        row_shape: The shape of one row.
        dtype: The type of its elements.
    """

    def __init__(self, path: Path, row_shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self.row_shape = row_shape
        self.dtype = np.dtype(dtype)
        self.rows = 0
        self.digest = hashlib.blake2b(f"{self.dtype.str}{row_shape}".encode(), digest_size=DIGEST_BYTES)
        self._file = path.open("wb")
        self._write_header()

    def append(self, rows: Array) -> None:
        """Writes ``rows``, of shape (any, *row_shape)."""
        content = np.ascontiguousarray(rows, self.dtype).reshape(-1).view(np.uint8).data
        self._file.write(content)
        self.digest.update(content)
        self.rows += len(rows)

    def close(self) -> None:
        """Ends the file by stating its number of rows; harmless when repeated."""
        if self._file.closed:
            return
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        # NumPy leaves room in the header for the first axis to grow, so that both headers have one length.
        header: dict[str, Any] = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.rows, *self.row_shape),
        }
        np.lib.format.write_array_header_1_0(self._file, header)


class ArrayFolder:
    """An entry of the cache while it is written.

    Args:
        path: An empty folder.

    Attributes:
        streams: Whether the source gives streams, which cannot be kept here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.streams = False
        self._files: dict[str, ArrayFile] = {}
        self._trees: dict[str, Any] = {}
        self._pickles: dict[str, str] = {}

    def open(self, name: str, row_shape: tuple[int, ...], dtype: npt.DTypeLike) -> ArrayFile:
        """Returns the file of the array ``name``, to be filled row by row; opening it again starts it anew."""
        if name in self._files:
            self._files[name].close()
        self._files[name] = ArrayFile(self.path / f"{name}.npy", row_shape, dtype)
        return self._files[name]

    def save(self, name: str, array: Array) -> None:
        """Writes a whole array, a part at a time."""
        self.save_rows(name, array, slice(None))

    def save_tree(self, name: str, tree: Any, index: Index = slice(None)) -> None:
        """Writes a tree of arrays, or some rows of it; see `hpcompss.training.data.trees`."""
        self._trees[name] = self._node(name, tree, index)

    def _node(self, name: str, tree: Any, index: Index) -> dict[str, Any]:
        if isinstance(tree, dict):
            nodes = [
                [key, self._node(f"{name}-{number}", each, index)] for number, (key, each) in enumerate(tree.items())
            ]
            return {"dict": nodes}
        if isinstance(tree, list | tuple):
            kind = "list" if isinstance(tree, list) else "tuple"
            return {kind: [self._node(f"{name}-{number}", each, index) for number, each in enumerate(tree)]}
        leaf = kind_of(tree)
        if leaf == "array" and tree.dtype.kind not in "OV":
            self.save_rows(name, tree, index)
            return {"array": name}
        rows = take(tree, index)
        if leaf == "pandas" and len(types := {str(each) for each in _types(rows)}) == 1 and _is_plain(types.pop()):
            # One array, which all processes map; only the labels are read by each.
            self.save_rows(name, rows.to_numpy(), slice(None))
            labels = {"index": rows.index, **({"columns": rows.columns} if rows.ndim == 2 else {"name": rows.name})}
            self._pickle(f"{name}-labels", labels)
            return {"frame": name}
        if leaf == "ragged":
            rows = {"values": rows.flat_values.numpy(), "splits": [each.numpy() for each in rows.nested_row_splits]}
        self._pickle(name, rows)
        return {"ragged" if leaf == "ragged" else "pickle": name}

    def save_rows(self, name: str, rows: Array, index: Index) -> None:
        """Writes some rows of an array, a part at a time."""
        file = self.open(name, rows.shape[1:], rows.dtype)
        step = max(1, COPY_BYTES // max(1, rows[:1].nbytes))
        chosen = rows[index] if isinstance(index, slice) else index
        for start in range(0, len(chosen), step):
            part = chosen[start : start + step]
            file.append(part if isinstance(index, slice) else rows[part])

    def _pickle(self, name: str, value: Any) -> None:
        path = self.path / f"{name}.pickle"
        with path.open("wb") as file:
            pickle.dump(value, file, pickle.HIGHEST_PROTOCOL)
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        add_tree(digest, value)
        self._pickles[path.name] = digest.hexdigest()

    def close(self) -> None:
        """Ends all files."""
        for file in self._files.values():
            file.close()

    def finish(self, class_names: ClassNames, what: str) -> None:
        """Ends all files and writes the description that makes this folder an entry."""
        self.close()
        digests = {f"{name}.npy": file.digest.hexdigest() for name, file in self._files.items()} | self._pickles
        trees = self._trees or {name: {"array": name} for name in self._files}
        content = json.dumps([digests, trees, class_names])
        description = {
            "created": datetime.datetime.now().isoformat(" ", "minutes"),
            "class_names": class_names,
            "sizes": {name: (self.path / name).stat().st_size for name in digests},
            "trees": trees,
            "digest": hashlib.blake2b(content.encode(), digest_size=DIGEST_BYTES).hexdigest(),
            "streams": self.streams,
            "what": what,
        }
        (self.path / DESCRIPTION).write_text(json.dumps(description), "utf-8")


def _types(frame: Any) -> list[Any]:
    return list(frame.dtypes) if frame.ndim == 2 else [frame.dtype]


def _is_plain(name: str) -> bool:
    """Returns whether a pandas dtype is NumPy's own number or truth value."""
    return re.fullmatch(r"u?int\d+|float\d+|bool", name) is not None


@dataclass(frozen=True)
class Entry:
    """An entry of the cache that is whole.

    Attributes:
        path: Its folder.
        files: The names of its files.
        trees: How its trees are made of its files.
        class_names: The names of the classes, or ().
        created: When it was made, for people.
        digest: That of its content.
        streams: Whether the source gives streams, so that nothing is kept here.
    """

    path: Path
    files: tuple[str, ...]
    trees: dict[str, Any]
    class_names: ClassNames
    created: str
    digest: str
    streams: bool = False

    def __contains__(self, name: str) -> bool:
        return name in self.trees

    def tree(self, name: str) -> Any:
        """Returns a tree of the entry, its arrays mapped from their files."""
        return self._tree(self.trees[name])

    def _tree(self, node: dict[str, Any]) -> Any:
        ((kind, content),) = node.items()
        if kind == "dict":
            return {key: self._tree(each) for key, each in content}
        if kind in ("list", "tuple"):
            members = [self._tree(each) for each in content]
            return members if kind == "list" else tuple(members)
        if kind == "array":
            return np.load(self.path / f"{content}.npy", mmap_mode="r")
        if kind == "frame":
            import pandas

            values = np.asarray(np.load(self.path / f"{content}.npy", mmap_mode="r"))
            labels = self._unpickled(f"{content}-labels")
            return (pandas.DataFrame if values.ndim == 2 else pandas.Series)(values, copy=False, **labels)
        value = self._unpickled(content)
        if kind == "ragged":
            import tensorflow

            return tensorflow.RaggedTensor.from_nested_row_splits(value["values"], value["splits"])
        return value

    def _unpickled(self, name: str) -> Any:
        with (self.path / f"{name}.pickle").open("rb") as file:
            return pickle.load(file)


def cached(
    directory: Path,
    title: str,
    identity: tuple[object, ...],
    build: Callable[[ArrayFolder], ClassNames],
    what: str = "",
) -> Entry:
    """Returns the entry of ``identity``, which is built first when there is none.

    When several processes ask at once, one builds and the others wait. An entry that was damaged is built again, with a
    warning.

    Args:
        directory: The cache.
        title: What its folder's name begins with, for people.
        identity: What the arrays depend on, as plain values.
        build: Writes the arrays and returns the class names; whatever it raises leaves no trace in the cache.
        what: What the arrays are, for people.

    Raises:
        InputError: The cache cannot be written.
    """
    path = entry_path(directory, title, identity)
    entry = opened(path)
    if entry is not None:
        return entry
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _lock(path) as alone:
            return opened(path) or _build(path, build, what, alone=alone)
    except OSError as error:
        # Readers turn what they fail to read into an InputError, so this comes from the cache.
        raise InputError(
            f"cannot write decoded data to '{directory}' ({error.strerror or error}): set the environment variable "
            "HPCOMPSS_CACHE to a folder with room"
        ) from error


def entry_path(directory: Path, title: str, identity: tuple[object, ...]) -> Path:
    """Returns the folder of an entry; see `cached`."""
    digest = hashlib.sha256(repr(identity).encode(errors="surrogateescape")).hexdigest()[:16]
    return directory / f"{re.sub(r'[^A-Za-z0-9._-]', '_', title)[:40]}-{digest}"


def opened(path: Path) -> Entry | None:
    """Returns the entry at ``path`` when it is whole, else None; notes that it was used."""
    try:
        description = json.loads((path / DESCRIPTION).read_text("utf-8"))
        sizes = description["sizes"]
        if any((path / name).stat().st_size != size for name, size in sizes.items()):
            return None
        with contextlib.suppress(OSError):  # of another owner
            os.utime(path / DESCRIPTION)
        described = (description[key] for key in ("created", "digest", "streams"))
        return Entry(path, tuple(sizes), description["trees"], tuple(description["class_names"]), *described)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _build(path: Path, build: Callable[[ArrayFolder], ClassNames], what: str, *, alone: bool) -> Entry:
    if path.exists():
        warnings.warn(f"the cached data in '{path}' is damaged: it is made again", stacklevel=3)
    if alone:
        for left_by_a_killed_process in path.parent.glob(f"{path.name}.*{PARTIAL}"):
            shutil.rmtree(left_by_a_killed_process, ignore_errors=True)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    partial.mkdir()
    folder = ArrayFolder(partial)
    try:
        folder.finish(build(folder), what)
        _publish(partial, path)
    finally:
        with contextlib.suppress(OSError):
            folder.close()
        shutil.rmtree(partial, ignore_errors=True)
    entry = opened(path)
    if entry is None:
        raise OSError(f"'{path}' was changed while it was written")
    return entry


def _publish(partial: Path, path: Path) -> None:
    """Moves a finished entry to its place, unless another process has put the same there in the meantime."""
    if opened(path) is not None:
        return
    shutil.rmtree(path, ignore_errors=True)
    try:
        partial.rename(path)
    except OSError:
        if opened(path) is None:
            raise


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Waits for the lock of the entry at ``path``; yields whether the file system has locks.

    Where it has none each process builds an entry of its own, and the first to finish puts it in place: wasteful, but
    never wrong.
    """
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        yield _acquire(descriptor)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int) -> bool:
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except (ImportError, OSError):
        return False
    return True


def remove_unused(directory: Path, prefix: str) -> None:
    """Removes entries with a prefix to their names that no process has used for long."""
    for entry in contents(directory):
        if entry.name.startswith(prefix) and time.time() - entry.used > UNUSED_SECONDS:
            remove(entry.path)
