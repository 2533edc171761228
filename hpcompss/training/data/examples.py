"""Examples: what a model learns from or is judged by, in the form in which Keras's ``fit`` takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
        from hpcompss.training.data.streams import is_stream

        return is_stream(self.x)

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
