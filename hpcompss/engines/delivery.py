"""What workers need that do not see the master's files: the modules of the model and the data, each sent once.

A worker keeps both in its cache, under names that hold a digest of the content, and its processes find them there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcompss import loading
from hpcompss.cache_folder import DESCRIPTION, FETCHED, MODULES, cache_folder
from hpcompss.engines.local import Local
from hpcompss.engines.placement import size
from hpcompss.errors import HpcompssError, InputError
from hpcompss.sources import python_files
from hpcompss.training.data import loading as data_loading
from hpcompss.training.data.specification import DataSpecification

__all__ = ["Luggage", "allow_fetching"]

PIECE = 16 << 20
"""Bytes that are sent at once."""

LARGEST = 20 << 20
"""Bytes that modules may be together: what is more are not modules."""

TURN = 0.05
"""Seconds between two looks whether the master is done with reading its data."""


@dataclass(frozen=True)
class Parcel:
    """Files that a worker has in a folder of its cache, once it got them.

    Attributes:
        name: The folder, as a path in the cache.
        digest: That of what is in it.
        sizes: The files and how many bytes each has.
        what: What they are, for people.
        path: Where the user's own copy would be, or None.
        stamp: A digest of that copy.
    """

    name: str
    digest: str
    sizes: dict[str, int]
    what: str
    path: str | None = None
    stamp: str = ""


class Luggage:
    """What the workers of a study need.

    Args:
        modules: Files of the user's Python code; their neighbours go with them.
        data: Where the data comes from, or None.

    Attributes:
        environment: The variables by which a worker's processes find it.

    Raises:
        InputError: A module's folder holds too much.
    """

    def __init__(self, modules: Sequence[Path], data: DataSpecification | None) -> None:
        folders = {path.parent: _zipped(path.parent) for path in modules}
        self._modules = {f"{MODULES}/{_digest([content])}": content for content in folders.values()}
        copies = {str(folder): f"{MODULES}/{_digest([content])}" for folder, content in folders.items()}
        self._data: Parcel | None = None
        self._folder = Path()
        self.environment = {loading.DELIVERED: json.dumps(copies)}
        # What comes with a package, or from a function, the worker has or makes for itself.
        if data is not None and (data.path is not None or data.arrays is not None):
            self._prepare(data)

    def _prepare(self, data: DataSpecification) -> None:
        """Reads the data, in a process of its own."""
        with Local(1, cores=1, gpus=[]) as local:
            future = local.submit(_parcel_of, data)
            while not local.wait([future], timeout=TURN):
                pass
        found = future.result()
        # What is wrong with the data here is no matter where the workers have it.
        if isinstance(found, tuple):
            self._folder, self._data = found
            self.environment[data_loading.DELIVERED] = self._data.name

    def deliver(self, call: Callable[..., Any]) -> str:
        """Gives a worker what it lacks; returns why it cannot have it, or nothing.

        Args:
            call: ``call(function, *args)`` calls a function in the worker's process.
        """
        for name, content in self._modules.items():
            if not call(has_modules, name):
                call(take_modules, name, content)
        if self._data is None:
            return ""
        wanted = call(lacks, self._data)
        if isinstance(wanted, str):
            return wanted
        if wanted:
            draft = call(begin, self._data)
            for file in self._data.sizes:
                for piece in _pieces(self._folder / file):
                    call(take, draft, file, piece)
            return str(call(finish, self._data, draft))
        return ""


def _zipped(folder: Path) -> bytes:
    """Returns a folder's Python files, those of its packages included, as a zip file that depends on them alone."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in python_files(folder):
            archive.writestr(zipfile.ZipInfo(file.relative_to(folder).as_posix()), file.read_bytes())
    if buffer.tell() > LARGEST:
        raise InputError(
            f"the Python files in {folder} are {size(buffer.tell())}, too much to send to each worker: put the model's "
            "file and what it imports into a folder of its own",
            key="model",
        )
    return buffer.getvalue()


def _digest(pieces: Sequence[bytes] | Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()[:32]


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def _digest_of_files(folder: Path, names: Sequence[str]) -> str:
    return _digest(piece for name in names for piece in (name.encode(), *_pieces(folder / name)))


def _parcel_of(data: DataSpecification) -> tuple[Path, Parcel] | HpcompssError:
    """Returns the decoded data in the cache, and what there is to know of it."""
    try:
        entry = data_loading.load_entry(data, cache_folder())
    except HpcompssError as error:
        return error
    files = [*entry.files, DESCRIPTION]
    sizes = {name: (entry.path / name).stat().st_size for name in files}
    digest = _digest_of_files(entry.path, files)
    what = data.source_description if data.path is None else f"the data {data.path}"
    parcel = Parcel(f"{FETCHED}/{digest}", digest, sizes, what)
    if data.path is None:
        return entry.path, parcel
    return entry.path, dataclasses.replace(parcel, path=str(data.path), stamp=_stamp(Path(data.path)))


def _stamp(path: Path) -> str:
    """Returns a digest of a file, or of the names and sizes of a folder's files."""
    if path.is_file():
        return _digest(_pieces(path))
    lines = []
    for folder, folders, files in os.walk(path, followlinks=True):
        folders.sort()
        lines += [
            f"{os.path.relpath(os.path.join(folder, name), path)} {os.stat(os.path.join(folder, name)).st_size}"
            for name in sorted(files)
        ]
    return _digest(["\n".join(lines).encode(errors="surrogateescape")])


# On the worker

_fetching = True


def allow_fetching(allowed: bool) -> None:
    """Says whether this worker may take data from a master."""
    global _fetching
    _fetching = allowed


def has_modules(name: str) -> bool:
    """Returns whether modules are here."""
    return (cache_folder() / name).is_dir()


def take_modules(name: str, content: bytes) -> None:
    """Takes modules."""
    place = cache_folder() / name
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f"{place.name}.", dir=place.parent))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(draft)
    _put(draft, place)


def _put(draft: Path, place: Path) -> None:
    """Moves a folder that is whole to its place, unless another process has put the same there meanwhile."""
    try:
        draft.rename(place)
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        if not place.is_dir():
            raise


def lacks(parcel: Parcel) -> bool | str:
    """Returns whether data is to be sent here, or why this worker cannot have it."""
    if (cache_folder() / parcel.name).is_dir():
        return False
    with_path = parcel.path is not None and Path(parcel.path).exists()
    if with_path and _stamp(Path(str(parcel.path))) == parcel.stamp:
        return False
    if _fetching:
        return True
    there = f"what it has at {parcel.path} is not the master's" if with_path else f"it does not have {parcel.what}"
    return f"{there}, and it may not fetch it: put it there, or start the worker without --no-fetch"


def begin(parcel: Parcel) -> str:
    """Makes the folder that files are put into until all are there, and returns it."""
    place = cache_folder() / parcel.name
    place.parent.mkdir(parents=True, exist_ok=True)
    return tempfile.mkdtemp(prefix=f"{place.name}.", dir=place.parent)


def take(draft: str, file: str, piece: bytes) -> None:
    """Takes the next piece of a file."""
    with (Path(draft) / file).open("ab") as target:
        target.write(piece)


def finish(parcel: Parcel, draft: str) -> str:
    """Puts files in their place that came whole; returns why not, or nothing."""
    folder = Path(draft)
    if _digest_of_files(folder, list(parcel.sizes)) != parcel.digest:
        shutil.rmtree(folder, ignore_errors=True)
        return f"{parcel.what} came damaged"
    _put(folder, cache_folder() / parcel.name)
    return ""
