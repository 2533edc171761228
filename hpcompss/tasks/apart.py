"""Tasks where workers do not see the study's folder: the files they need come with them, those they leave go back.

A task is then called in a temporary folder. What it finds there are the files of results that it is given; what it
leaves there travels with its own result, through the engine, and the study puts it into its folder.
"""

from __future__ import annotations

import dataclasses
import enum
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from hpcompss.drafts import whole
from hpcompss.trial import Result, Trial

__all__ = ["HERE", "Files", "apart", "files_of", "read_files", "write_files"]

Files = Mapping[str, bytes]
"""Contents of files by their paths in the study's folder, parts separated by ``/``."""


class _Marker(enum.Enum):
    HERE = "here"


HERE = _Marker.HERE
"""Stands for the study's folder among the arguments of a task that is called apart."""


def apart(function: Callable[..., Any], sources: Sequence[object], hands_on: bool, *args: Any) -> Any:
    """Calls a task in a folder of its own, and returns its result with the files that it leaves there.

    Args:
        function: The task.
        sources: Whose files it needs, as `files_of` takes them.
        hands_on: Whether the files that it was given, as far as they are left, go on with its result; else only those
            that are new or changed do.
        *args: Its arguments, `HERE` in place of the study's folder.
    """
    with tempfile.TemporaryDirectory(prefix="hpcompss-") as name:
        folder, given = Path(name), files_of(sources)
        write_files(folder, given)
        value = function(*(folder if each is HERE else each for each in args))
        if not hasattr(value, "files"):
            return value
        left = read_files(folder, sorted(path for path in folder.rglob("*") if path.is_file()))
        return dataclasses.replace(
            value, files={path: each for path, each in left.items() if hands_on or given.get(path) != each}
        )


def files_of(source: object) -> Files:
    """Returns the files of a result or a trial, of all in a sequence, or those that are `Files`; else none."""
    if isinstance(source, Mapping):
        return source
    if isinstance(source, Trial):
        source = source.result
    if isinstance(source, Result):
        return source.files
    found: dict[str, bytes] = {}
    if isinstance(source, list | tuple):
        for each in source:
            found |= files_of(each)
    return found


def read_files(folder: Path, paths: Sequence[Path]) -> dict[str, bytes]:
    """Returns the files of a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def write_files(folder: Path, files: Files) -> None:
    """Puts files into a folder, each whole or not at all. Raises `OSError`."""
    for name, content in files.items():
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts:
            raise ValueError(f"{name!r} is not in the study's folder")
        path = folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as draft:
            draft.write_bytes(content)
