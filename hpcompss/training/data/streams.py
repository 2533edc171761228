"""Iterables of batches, told by their classes' names, so that no framework is imported to ask."""

from __future__ import annotations

import types
from typing import Any

__all__ = ["is_stream"]

STREAMS = (
    ("tensorflow", "Dataset", "DatasetV2"),
    ("keras", "PyDataset"),
    ("torch", "DataLoader"),
    ("grain", "Dataset", "DataLoader", "MapDataset", "IterDataset"),
)
"""The packages, each with the names of its classes of iterables that Keras's ``fit`` takes."""


def is_stream(value: Any) -> bool:
    """Returns whether Keras would iterate over a value for batches."""
    if isinstance(value, types.GeneratorType):
        return True
    return any(
        cls.__name__ in names and cls.__module__.partition(".")[0] == package
        for cls in type(value).__mro__
        for package, *names in STREAMS
    )
