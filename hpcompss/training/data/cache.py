"""Arrays on disk that are made once and mapped by every process of a node.

An entry is a folder of ``.npy`` files with a ``description.json`` that says how large each is. It is written beside its
final place and renamed there when it is whole, so that no reader ever meets half an entry.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import re
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcompss.errors import InputError

__all__ = ["Array", "ArrayFile", "ArrayFolder", "ClassNames", "Entry", "cached", "opened"]

Array = npt.NDArray[Any]
ClassNames = tuple[str, ...]

DESCRIPTION = "description.json"
PARTIAL = ".partial"


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
        self._file = path.open("wb")
        self._write_header()

    def append(self, rows: Array) -> None:
        """Writes ``rows``, of shape (any, *row_shape)."""
        self._file.write(np.ascontiguousarray(rows, self.dtype).data)
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
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: dict[str, ArrayFile] = {}

    def open(self, name: str, row_shape: tuple[int, ...], dtype: npt.DTypeLike) -> ArrayFile:
        """Returns the file of the array ``name``, to be filled row by row; opening it again starts it anew."""
        if name in self._files:
            self._files[name].close()
        self._files[name] = ArrayFile(self.path / f"{name}.npy", row_shape, dtype)
        return self._files[name]

    def save(self, name: str, array: Array) -> None:
        """Writes a whole array."""
        self.open(name, array.shape[1:], array.dtype).append(array)

    def close(self) -> None:
        """Ends all files."""
        for file in self._files.values():
            file.close()

    def finish(self, class_names: ClassNames) -> None:
        """Ends all files and writes the description that makes this folder an entry."""
        self.close()
        description = {
            "created": datetime.datetime.now().isoformat(" ", "minutes"),
            "class_names": class_names,
            "sizes": {name: (self.path / f"{name}.npy").stat().st_size for name in self._files},
        }
        (self.path / DESCRIPTION).write_text(json.dumps(description), "utf-8")


@dataclass(frozen=True)
class Entry:
    """An entry of the cache that is whole.

    Attributes:
        path: Its folder.
        names: The arrays in it.
        class_names: The names of the classes, or ().
        created: When it was made, for people.
    """

    path: Path
    names: tuple[str, ...]
    class_names: ClassNames
    created: str

    def array(self, name: str) -> Array:
        """Returns an array of the entry, mapped from its file."""
        array: Array = np.load(self.path / f"{name}.npy", mmap_mode="r")
        return array


def cached(
    directory: Path, title: str, identity: tuple[object, ...], build: Callable[[ArrayFolder], ClassNames]
) -> Entry:
    """Returns the entry of ``identity``, which is built first when there is none.

    When several processes ask at once, one builds and the others wait. An entry that was damaged is built again, with a
    warning.

    Args:
        directory: The cache.
        title: What its folder's name begins with, for people.
        identity: What the arrays depend on, as plain values.
        build: Writes the arrays and returns the class names; whatever it raises leaves no trace in the cache.

    Raises:
        InputError: The cache cannot be written.
    """
    digest = hashlib.sha256(repr(identity).encode(errors="surrogateescape")).hexdigest()[:16]
    path = directory / f"{re.sub(r'[^A-Za-z0-9._-]', '_', title)[:40]}-{digest}"
    entry = opened(path)
    if entry is not None:
        return entry
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _lock(path) as alone:
            return opened(path) or _build(path, build, alone=alone)
    except OSError as error:
        # Readers turn what they fail to read into an InputError, so this comes from the cache.
        raise InputError(
            f"cannot write decoded data to '{directory}' ({error.strerror or error}): set the environment variable "
            "HPCOMPSS_CACHE to a folder with room"
        ) from error


def opened(path: Path) -> Entry | None:
    """Returns the entry at ``path`` when it is whole, else None."""
    try:
        description = json.loads((path / DESCRIPTION).read_text("utf-8"))
        sizes = description["sizes"]
        if any((path / f"{name}.npy").stat().st_size != size for name, size in sizes.items()):
            return None
        return Entry(path, tuple(sizes), tuple(description["class_names"]), description["created"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _build(path: Path, build: Callable[[ArrayFolder], ClassNames], *, alone: bool) -> Entry:
    if path.exists():
        warnings.warn(f"the cached data in '{path}' is damaged: it is made again", stacklevel=3)
    if alone:
        for left_by_a_killed_process in path.parent.glob(f"{path.name}.*{PARTIAL}"):
            shutil.rmtree(left_by_a_killed_process, ignore_errors=True)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    partial.mkdir()
    folder = ArrayFolder(partial)
    try:
        folder.finish(build(folder))
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
