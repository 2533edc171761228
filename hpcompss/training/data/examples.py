"""Examples: what a model learns from or is judged by, in the form in which Keras's ``fit`` takes it."""

from __future__ import annotations

import itertools
import types
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hpcompss.training.data.streams import is_stream

if TYPE_CHECKING:
    from hpcompss.training.data.trees import Index

__all__ = ["Examples"]


@dataclass(frozen=True, eq=False)
class Examples:
    """Features, targets and weights of one part of the data.

    Each is an array or frame of n rows, or a list, tuple or dict of them for several inputs or outputs, as the user
    gave it. In place of rows, ``x`` may be a stream: an iterable of batches (``tf.data.Dataset``, ``PyDataset``,
    ``DataLoader``, generator), which has its targets and weights inside.

    Attributes:
        x: Features, or a stream of batches.
        y: Targets, or None where there are none or ``x`` is a stream.
        weights: Weights of the rows, shape (n,), or None.
    """

    x: Any
    y: Any = None
    weights: Any = None

    @property
    def is_stream(self) -> bool:
        """Whether ``x`` is an iterable of batches."""
        return is_stream(self.x)

    @property
    def rows(self) -> int | None:
        """How many rows there are; None for a stream."""
        from hpcompss.training.data.trees import rows_of

        return None if self.is_stream else rows_of(self.x)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The positional arguments of ``fit`` and ``evaluate``: ``(x,)`` or ``(x, y)``."""
        return (self.x,) if self.y is None else (self.x, self.y)

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of ``fit`` and ``evaluate``: ``sample_weight`` where there are weights."""
        return {} if self.weights is None else {"sample_weight": self.weights}

    @property
    def as_validation(self) -> Any:
        """What ``fit`` takes as ``validation_data``: a tuple of one to three parts, or the stream."""
        if self.is_stream:
            return self.x
        return self.arguments if self.weights is None else (self.x, self.y, self.weights)

    def take(self, index: Index) -> Examples:
        """Returns the rows of a slice, or at some positions; a slice copies no array."""
        from hpcompss.training.data.trees import take

        return Examples(*(None if part is None else take(part, index) for part in (self.x, self.y, self.weights)))

    def batch(self, count: int) -> Examples:
        """Returns the first rows; of a stream its first batch, as it comes, which the stream still has."""
        if not self.is_stream:
            return self.take(slice(count))
        if isinstance(self.x, types.GeneratorType):
            first = next(self.x)
            object.__setattr__(self, "x", _chained(first, self.x))
        elif hasattr(self.x, "__getitem__") and hasattr(self.x, "__len__"):
            first = self.x[0]  # a PyDataset, which need not be iterable
        else:
            first = next(iter(self.x))
        parts = first if isinstance(first, tuple) else tuple(first) if isinstance(first, list) else (first,)
        return Examples(*parts[:3])

    def with_weights(self, weights: Any) -> Examples:
        """Returns the same rows with other weights."""
        return replace(self, weights=weights)


def _chained(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    """Yields all batches of a generator whose first one was taken. A generator itself, as Keras wants."""
    yield from itertools.chain((first,), rest)
