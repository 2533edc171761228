"""How a running task tells its engine how far it is: the task publishes, the engine listens."""

from __future__ import annotations

from collections.abc import Callable, Mapping

__all__ = ["flush", "listen", "publish"]

Listener = Callable[[Mapping[str, float]], None]

_listener: Listener | None = None
_flush: Callable[[], None] | None = None


def listen(listener: Listener | None, flush: Callable[[], None] | None = None) -> None:
    """Makes ``listener`` receive what tasks of this process publish. Called by engines' workers.

    Args:
        listener: Takes what a task publishes; None where nobody does.
        flush: Sends what the listener has not sent yet.
    """
    global _listener, _flush
    _listener, _flush = listener, flush


def publish(**values: float) -> None:
    """Tells the engine how far the running task is, such as ``publish(epoch=3, epochs=15, val_accuracy=0.91)``."""
    if _listener is not None:
        _listener(values)


def flush() -> None:
    """Sends what was published last before it returns, so that the engine has it even if the process dies next."""
    if _flush is not None:
        _flush()
