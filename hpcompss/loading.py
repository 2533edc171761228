"""Finding what a workflow names as ``file.py:name`` or ``module:name``."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from hpcompss.cache_folder import cache_folder
from hpcompss.errors import InputError, nearest
from hpcompss.importing import importing

__all__ = ["DELIVERED", "import_notes", "load_attribute"]

DELIVERED = "HPCOMPSS_MODULES"
"""The environment variable of a worker's processes that maps folders of the master to their copies in the cache."""


def load_attribute(reference: str) -> Any:
    """Returns what ``reference`` names, importing its module once a process.

    Args:
        reference: ``/path/file.py:name`` or ``package.module:name``; a name may be dotted.

    Raises:
        InputError: The reference is malformed, the file, module or name does not exist, or the module runs a search
            when it is imported.
        Exception: What the module raises while it is imported.
    """
    place, colon, name = reference.rpartition(":")
    if not (place and colon and name):
        raise InputError(f"{reference!r} must read file.py:name or module:name")
    module = _from_file(place) if place.endswith(".py") else _from_name(place)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            public = [each for each in vars(module) if not each.startswith("_")]
            raise InputError(f"{place} has no {name!r}; {nearest(name, public)}")
        found = getattr(found, part)
    return found


@functools.cache
def _from_file(place: str) -> ModuleType:
    path = _delivered(Path(place)) or Path(place).resolve()
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    # Its neighbours import as they would if it were run as a script.
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    # A name of its own, so that digits.py does not hide an installed module called digits.
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise InputError(f"{path} is no Python module")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    try:
        with importing(str(path)) as notes:
            specification.loader.exec_module(module)
        _notes[place] = notes
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _delivered(path: Path) -> Path | None:
    """Returns where a file of the master's is on a worker that was given a copy, or None."""
    folders: dict[str, str] = json.loads(os.environ.get(DELIVERED, "{}"))
    copy = folders.get(str(path.parent))
    return None if copy is None else cache_folder() / copy / path.name


def _from_name(place: str) -> ModuleType:
    package = place.partition(".")[0]
    if not package or importlib.util.find_spec(package) is None:
        raise InputError(f"there is no module {place!r} on the Python path; for a file write {place}.py:name")
    if place in sys.modules:
        return sys.modules[place]
    specification = importlib.util.find_spec(place)
    with importing(str(specification and specification.origin)) as notes:
        module = importlib.import_module(place)
    _notes[place] = notes
    return module


def import_notes(reference: Any) -> tuple[str, ...]:
    """Returns what the user should know of how the module of a reference was imported; nothing for an object."""
    return tuple(_notes.get(reference.rpartition(":")[0], ())) if isinstance(reference, str) else ()


_notes: dict[str, list[str]] = {}
"""What the user should know of modules, by their places."""
