"""Where a specification's data comes from: what identifies it, and which reader writes it into the cache."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hpcompss.errors import InputError, MissingExtraError
from hpcompss.training.data import digits, function, keras_datasets, recognition
from hpcompss.training.data.cache import ArrayFolder, ClassNames
from hpcompss.training.data.files import is_hidden
from hpcompss.training.data.specification import DataSpecification

__all__ = ["RUN", "Source", "find_source"]

READER_VERSION = 2
"""Part of every identity: raise it when a reader gives other arrays than before, so that old caches are left alone."""

RUN = "run-"
"""What the names of entries begin with that belong to one run of one study."""


@dataclass(frozen=True)
class Source:
    """Data that can be read.

    Attributes:
        title: What to call its cache.
        identity: Changes whenever the data may have changed.
        read: Writes the arrays into a folder and returns the class names.
    """

    title: str
    identity: tuple[object, ...]
    read: Callable[[ArrayFolder], ClassNames]


def find_source(specification: DataSpecification) -> Source:
    """Returns the source that ``specification`` states.

    Raises:
        InputError: The path or the function's module is absent.
        MissingExtraError: The package that brings the data set is not installed.
    """
    if specification.path is not None:
        return _path_source(specification)
    if specification.arrays is not None:
        raise InputError(
            "the arrays of this study are not in the cache of this machine: pass them again (data=...), or let all "
            "machines share one folder by HPCOMPSS_CACHE",
            key="data",
        )
    if specification.function is not None:
        # What a function reads may change: only the user can know that it does not.
        run = () if specification.cache else (specification.run or uuid.uuid4().hex,)
        identity = (*function.identity(specification.function, bool(run)), specification.allow_nan, *run)
        read = functools.partial(function.read, specification)
        title = os.path.basename(specification.function_name)
        title = title if specification.cache else f"{RUN}{title}"
        return Source(title, (READER_VERSION, "function", *identity), read)
    name = specification.name or ""
    if name == "digits":
        return Source(name, (READER_VERSION, name, _version("scikit-learn", name)), digits.read)
    identity = (READER_VERSION, "keras.datasets", name, _version("keras", name))
    return Source(name, identity, functools.partial(keras_datasets.read, name))


def _path_source(specification: DataSpecification) -> Source:
    path = Path(specification.path or "")
    try:
        stamp = _folder_stamp(path) if path.is_dir() else _file_stamp(path)
    except OSError as error:
        if not path.exists():
            raise InputError(f"no such file or folder: '{path}'", key="data.path") from None
        raise InputError(f"cannot read '{error.filename}': {error.strerror}", key="data.path") from error
    columns = (
        specification.target,
        specification.features,
        specification.weights,
        *specification.split_columns.items(),
    )
    settings = (specification.image_size, specification.allow_nan, columns)
    identity = (READER_VERSION, "path", os.path.realpath(path), *stamp, settings)
    return Source(path.name, identity, functools.partial(recognition.read, specification))


def _file_stamp(path: Path) -> tuple[object, ...]:
    status = path.stat()
    return (status.st_size, status.st_mtime_ns)


def _folder_stamp(path: Path) -> tuple[object, ...]:
    """Returns a digest of the names, sizes and modification times of all files below ``path``."""
    digest = hashlib.sha256()
    for folder, folders, files in os.walk(path, followlinks=True, onerror=_raise):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        lines = [os.path.relpath(folder, path), *folders]
        for name in sorted(files):
            if not is_hidden(name):
                status = os.stat(os.path.join(folder, name))
                lines.append(f"{name}\0{status.st_size}\0{status.st_mtime_ns}")
        digest.update("\n".join([*lines, "\n"]).encode(errors="surrogateescape"))
    return (digest.hexdigest(),)


def _raise(error: OSError) -> None:
    raise error


def _version(package: str, name: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise MissingExtraError(package, "tensorflow", f"the data set '{name}'") from None
