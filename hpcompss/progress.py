"""How a running task tells its engine how far it is: the task publishes, the engine listens."""

from __future__ import annotations

from collections.abc import Callable, Mapping

__all__ = ["listen", "publish"]

Listener = Callable[[Mapping[str, float]], None]

_listener: Listener | None = None


def listen(listener: Listener | None) -> None:
    """Makes ``listener`` receive what tasks of this process publish (None: nobody does). Called by engines' workers."""
    global _listener
    _listener = listener


def publish(**values: float) -> None:
    """Tells the engine how far the running task is, such as ``publish(epoch=3, epochs=15, val_accuracy=0.91)``."""
    if _listener is not None:
        _listener(values)
