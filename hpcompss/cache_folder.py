"""Where hpcompss keeps what can be made or fetched again."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DESCRIPTION", "FETCHED", "MODULES", "PARTIAL", "CacheEntry", "cache_folder", "contents", "remove"]

DESCRIPTION = "description.json"
"""The file of an entry with data that says what is in it; an entry without it is not whole."""

PARTIAL = ".partial"
"""What the names of entries end with that are being written, or were when their process was killed."""

FETCHED, MODULES = "fetched", "modules"
"""The folders with data and Python modules that a worker got from its master."""

ABANDONED_S = 3600
"""After this time without a change, an entry that is not whole is nobody's any more."""


def cache_folder() -> Path:
    """Returns ``$HPCOMPSS_CACHE``, else ``$XDG_CACHE_HOME/hpcompss``, else ``~/.cache/hpcompss``."""
    if directory := os.environ.get("HPCOMPSS_CACHE"):
        return Path(directory).expanduser()
    if directory := os.environ.get("XDG_CACHE_HOME"):
        return Path(directory) / "hpcompss"
    return Path.home() / ".cache" / "hpcompss"


@dataclass(frozen=True)
class CacheEntry:
    """An entry of the cache.

    Attributes:
        name: Its folder, as a path in the cache.
        path: Its folder.
        what: What it is, for people.
        bytes: The size of its files.
        created: When it was made (seconds of the epoch).
        used: When it was last used (seconds of the epoch).
    """

    name: str
    path: Path
    what: str
    bytes: int
    created: float
    used: float


def contents(directory: Path) -> list[CacheEntry]:
    """Returns what a cache holds, without what is being written."""
    folders = [path for place in (".", FETCHED, MODULES) for path in sorted((directory / place).glob("*"))]
    found = (_entry(path, directory) for path in folders if path.is_dir())
    return [entry for entry in found if entry is not None]


def _entry(path: Path, directory: Path) -> CacheEntry | None:
    name = path.relative_to(directory).as_posix()
    if name in (FETCHED, MODULES):
        return None
    files = [file.stat() for file in path.rglob("*") if file.is_file()]
    size, changed = sum(file.st_size for file in files), max((file.st_mtime for file in files), default=0.0)
    description = path / DESCRIPTION
    if description.is_file():
        try:
            stated = json.loads(description.read_text("utf-8"))
            created = datetime.datetime.fromisoformat(stated["created"]).timestamp()
            return CacheEntry(name, path, stated.get("what") or "data", size, created, description.stat().st_mtime)
        except (ValueError, LookupError, TypeError, AttributeError):
            return CacheEntry(name, path, "damaged", size, changed, changed)
    changed = max(changed, path.stat().st_mtime)
    # Drafts of what is fetched have a further suffix.
    if not name.startswith(f"{MODULES}/") or path.suffix:
        unfinished = name.startswith((f"{FETCHED}/", f"{MODULES}/")) or path.name.endswith(PARTIAL)
        if not unfinished or time.time() - changed < ABANDONED_S:
            return None
        return CacheEntry(name, path, "unfinished", size, changed, changed)
    return CacheEntry(name, path, "Python modules from a master", size, changed, changed)


def remove(path: Path) -> None:
    """Removes an entry with its lock; processes that have mapped it keep what they have."""
    (path / DESCRIPTION).unlink(missing_ok=True)  # first: half an entry is none
    shutil.rmtree(path, ignore_errors=True)
    Path(f"{path}.lock").unlink(missing_ok=True)
