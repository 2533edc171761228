"""A task of the local engine: its future, how it is pickled, and how it failed."""

from __future__ import annotations

import io
import signal
from collections.abc import Callable, Sequence
from typing import Any

from hpcompss.engines import pickling
from hpcompss.engines.local_worker import COUNT
from hpcompss.engines.machine import process_memory
from hpcompss.engines.placement import size
from hpcompss.engines.queued import QueuedFuture
from hpcompss.errors import InputError
from hpcompss.trial import Failure, FailureKind

__all__ = ["LocalFuture", "death", "overrun", "pickled_task"]


class LocalFuture(QueuedFuture):
    """A task of the local engine. Its attributes are the engine's to set.

    Attributes:
        attempts: How often it was sent in vain.
        process: The id of the process that runs it, or None while it waits.
    """

    attempts = 0
    process: int | None = None

    def messages(self) -> list[bytes | memoryview]:
        """Returns what a worker needs to run the task: the task, and the results it depends on, all pickled."""
        return [self.task, *self.results()]

    def start(self, now: float, place: str, process: int) -> None:
        """Notes that a worker has it."""
        self.started = now
        self.process = process
        self.place = place
        self.forget()


def pickled_task(function: Callable[..., Any], arguments: Sequence[Any], dependencies: int) -> memoryview:
    """Returns the message that has a worker call ``function(*arguments)``.

    Args:
        function: The task.
        arguments: Its arguments, with a `Dependency` in place of each result that will follow the message.
        dependencies: How many results will follow.

    Raises:
        InputError: A part of it does not pickle.
    """
    buffer = io.BytesIO()
    buffer.write(COUNT.pack(dependencies))
    try:
        pickling.dump((function, arguments), buffer)
    except InputError:
        raise
    except Exception as error:
        raise InputError(_what_does_not_pickle(function, arguments, error)) from None
    return buffer.getbuffer()


def _what_does_not_pickle(function: Callable[..., Any], arguments: Sequence[Any], error: Exception) -> str:
    name = getattr(function, "__qualname__", type(function).__name__)
    parts = [(f"the function {name}", function)]
    parts += [(f"argument {number} of {name}", argument) for number, argument in enumerate(arguments, 1)]
    for what, part in parts:
        try:
            pickling.dumps(part)
        except Exception as reason:
            return f"{what} cannot be sent to a worker ({reason}): have the task itself make what cannot be sent"
    return f"the task {name} cannot be sent to a worker ({error})"


def overrun(future: LocalFuture, now: float, process: int) -> Failure | None:
    """Returns how a running task is past its limits, or None.

    Args:
        future: The task.
        now: The time (`time.monotonic`).
        process: The id of its process.
    """
    limit, memory = future.resources.time_limit, future.resources.memory
    if limit is not None and future.started is not None and now - future.started > limit:
        return Failure(FailureKind.TIME_LIMIT, f"ran past its limit of {limit:g} s")
    used = process_memory(process) if memory else None
    if memory and used and used > memory:
        return Failure(FailureKind.MEMORY, f"used {size(used)} of the {size(memory)} it asked for")
    return None


def death(status: int | None) -> str:
    """Returns why a task failed whose process ended by itself.

    Args:
        status: The exit status, negative for a signal, None when it is not known.
    """
    if status is None:
        return "its process does not react, not even to a kill"
    if status >= 0:
        return f"its process exited with status {status}"
    if -status == signal.SIGKILL:
        return (
            "its process was killed by signal 9: most likely the kernel's out-of-memory killer; "
            "ask for more memory a trial or run fewer at once"
        )
    return f"its process was killed by signal {-status} ({(signal.strsignal(-status) or 'unknown').lower()})"
