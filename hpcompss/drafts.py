"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["whole"]


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives the path to write a file to, and puts it in its place once it is on disk. Raises `OSError`.

    Args:
        path: Where the file is to be; its folder must exist.
    """
    draft = path.with_name(f"{path.stem}.{os.getpid()}.draft{path.suffix}")
    try:
        yield draft
        with draft.open("rb") as written:
            # What is flushed afterwards, the journal say, must not name a file that a power cut took.
            os.fsync(written.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
