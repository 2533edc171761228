"""A folder or a tar archive seen alike: the names of its files, and their contents in the order they are stored."""

from __future__ import annotations

import abc
import contextlib
import os
import posixpath
import tarfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

from hpcompss.errors import InputError

__all__ = ["Archive", "FileTree", "Folder", "is_hidden"]

DAMAGED = (tarfile.TarError, EOFError, zlib.error, OSError)
"""What reading a damaged archive raises."""


class FileTree(abc.ABC):
    """Files below one root. Names are relative to it, with ``/``; hidden files and folders are left out.

    Attributes:
        path: The folder or archive.
        files: The names of all regular files.
        folders: The names of all folders.
    """

    path: Path
    files: list[str]
    folders: set[str]

    @abc.abstractmethod
    def contents(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yields the name and content of each file in ``names``, in the order they are stored."""

    def content(self, name: str) -> bytes:
        """Returns the content of one file."""
        for _, content in self.contents([name]):
            return content
        raise InputError(f"'{name}' has gone from '{self.path}' while it was read", key="data.path")


class Folder(FileTree):
    """A folder on disk.

    Args:
        path: The folder; links in it are followed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = []
        self.folders = set()
        for folder, folders, files in os.walk(path, followlinks=True):
            folders[:] = sorted(name for name in folders if not is_hidden(name))
            inside = Path(folder).relative_to(path)
            self.folders.update((inside / name).as_posix() for name in folders)
            self.files.extend((inside / name).as_posix() for name in sorted(files) if not is_hidden(name))

    def contents(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        for name in self.files:
            if name in names:
                try:
                    content = (self.path / name).read_bytes()
                except OSError as error:
                    raise InputError(f"cannot read '{self.path / name}': {error.strerror}", key="data.path") from error
                yield name, content


class Archive(FileTree):
    """A tar archive, compressed or not, that is never unpacked to disk.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = []
        self.folders = set()
        with self._opened() as archive:
            for member, name in _members(archive):
                if member.issym() or member.islnk():
                    raise InputError(f"'{name}' in '{path}' is a link: unpack it and give the folder", key="data.path")
                if member.isreg():
                    self.files.append(name)
                    name = name.rpartition("/")[0]
                while name and name not in self.folders:
                    self.folders.add(name)
                    name = name.rpartition("/")[0]

    def contents(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        with self._opened() as archive:
            for member, name in _members(archive):
                stream = archive.extractfile(member) if member.isreg() and name in names else None
                if stream is not None:
                    yield name, stream.read()

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tarfile.TarFile]:
        try:
            with tarfile.open(self.path, "r:*") as archive:
                yield archive
        except DAMAGED as error:
            raise InputError(f"the archive '{self.path}' is damaged or cut off ({error})", key="data.path") from error


def _members(archive: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, str]]:
    """Yields each member with its plain name."""
    while (member := archive.next()) is not None:
        # The archive would keep all of them, and a large one has millions.
        vars(archive)["members"].clear()
        name = posixpath.normpath(member.name).lstrip("/")
        if name != "." and not any(is_hidden(part) for part in name.split("/")):
            yield member, name


def is_hidden(name: str) -> bool:
    """Whether a file or folder is the operating system's, not the user's."""
    return name.startswith(".") or name == "__MACOSX"
