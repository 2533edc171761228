"""Where hpcompss keeps what can be made or fetched again."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """Returns ``$HPCOMPSS_CACHE``, else ``$XDG_CACHE_HOME/hpcompss``, else ``~/.cache/hpcompss``."""
    if directory := os.environ.get("HPCOMPSS_CACHE"):
        return Path(directory).expanduser()
    if directory := os.environ.get("XDG_CACHE_HOME"):
        return Path(directory) / "hpcompss"
    return Path.home() / ".cache" / "hpcompss"
