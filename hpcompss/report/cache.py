"""The command ``cache``: what the cache holds, and removing it."""

from __future__ import annotations

import datetime
import difflib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hpcompss.cache_folder import CacheEntry, contents, remove
from hpcompss.engines.placement import size
from hpcompss.errors import InputError

__all__ = ["chosen", "clear", "show_contents", "to_plain"]


def chosen(directory: Path, names: Sequence[str] = (), unused: float | None = None) -> list[CacheEntry]:
    """Returns the entries of a cache.

    Args:
        directory: The cache.
        names: Only those of these names; all where there are none.
        unused: Only those that nobody has used for this many seconds.

    Raises:
        InputError: There is no entry of a name.
    """
    entries = contents(directory)
    known = [entry.name for entry in entries]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "see  hpcompss cache"
            raise InputError(f"the cache {directory} has no entry {name!r}; {hint}")
    now = time.time()
    return [
        entry
        for entry in entries
        if (not names or entry.name in names) and (unused is None or now - entry.used > unused)
    ]


def clear(entries: Sequence[CacheEntry]) -> None:
    """Removes entries.

    Raises:
        InputError: One could not be removed.
    """
    for entry in entries:
        try:
            remove(entry.path)
        except OSError as error:
            raise InputError(f"cannot remove '{entry.path}': {error.strerror}") from error
        if entry.path.exists():
            raise InputError(f"cannot remove '{entry.path}': check the rights of its folder")


def show_contents(directory: Path, entries: Sequence[CacheEntry], removed: bool, console: Console) -> None:
    """Prints entries as a table, and how much they are together."""
    if entries:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("name", "what", "size", "made", "last used"):
            table.add_column(title, justify="right" if title == "size" else "left", overflow="fold")
        for entry in entries:
            table.add_row(entry.name, entry.what, size(entry.bytes), _day(entry.created), _day(entry.used))
        console.print(table)
    count = f"{len(entries)} entr{'y' if len(entries) == 1 else 'ies'}, {size(sum(entry.bytes for entry in entries))}"
    console.print(f"{'removed from' if removed else 'in'} {directory}: {count}", soft_wrap=True)


def _day(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).isoformat(" ", "minutes")


def to_plain(directory: Path, entries: Sequence[CacheEntry], removed: bool) -> dict[str, Any]:
    """Returns entries as plain data."""
    return {
        "folder": str(directory),
        "removed" if removed else "entries": [
            {
                "name": entry.name,
                "what": entry.what,
                "bytes": entry.bytes,
                "created": _day(entry.created),
                "used": _day(entry.used),
            }
            for entry in entries
        ],
        "bytes": sum(entry.bytes for entry in entries),
    }
