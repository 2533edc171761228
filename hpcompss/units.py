"""Durations and amounts of memory as people write them."""

from __future__ import annotations

import math
import re
from typing import Any

from hpcompss.errors import shown

__all__ = ["parse_duration", "parse_memory"]

_UNITS_OF_TIME = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_UNITS_OF_MEMORY = {"B": 1, **{f"{p}{s}": 1000**i for i, p in enumerate("kMGT", 1) for s in ("B", "")}}
_UNITS_OF_MEMORY |= {f"{p}iB": 1024**i for i, p in enumerate("KMGT", 1)} | {"K": 1000, "KB": 1000}


def parse_duration(text: Any) -> float:
    """Returns seconds: ``90``, ``"90s"``, ``"10m"``, ``"1h30m"``. Raises `ValueError`."""
    stated = "" if isinstance(text, bool) else re.sub(r"\s", "", str(text))
    seconds = _number(stated)
    if seconds is None:
        parts = re.findall(r"(\d+\.?\d*|\.\d+)([a-z]+)", stated)
        if not parts or "".join(number + unit for number, unit in parts) != stated:
            raise ValueError(f"must be a duration such as 90s, 10m or 1h30m, not {shown(text)}")
        unknown = next((unit for _, unit in parts if unit not in _UNITS_OF_TIME), None)
        if unknown:
            raise ValueError(f"has the unknown unit {unknown!r}: use s, m, h or d")
        seconds = sum(float(number) * _UNITS_OF_TIME[unit] for number, unit in parts)
    if not 0 < seconds < math.inf:
        raise ValueError(f"must be a duration above 0, not {shown(text)}")
    return seconds


def parse_memory(text: Any) -> int:
    """Returns bytes: ``"2GB"``, ``"512MiB"``, or a number of bytes. Raises `ValueError`."""
    stated = "" if isinstance(text, bool) else re.sub(r"\s", "", str(text))
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)([A-Za-z]+)", stated)
    size = _number(stated)
    if size is None:
        if not match or match[2] not in _UNITS_OF_MEMORY:
            raise ValueError(f"must be an amount of memory such as 2GB or 512MiB, not {shown(text)}")
        size = float(match[1]) * _UNITS_OF_MEMORY[match[2]]
    if not 1 <= size < math.inf:
        raise ValueError(f"must be above 0, not {shown(text)}")
    return int(size)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
