"""The engine protocol: how a graph of tasks is run somewhere. A new engine needs to pass `tests/engines/`, no more.

A task is a plain function that knows nothing of engines. Its arguments may be futures of the same engine, which the
engine resolves before it calls the function: that is what makes the tasks a graph. What a task raises, and what kills
it, comes back as a `Failure` in place of its value, also to a task that takes it as an argument: errors are data.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

from hpcompss.trial import Resources

__all__ = ["Engine", "Future"]


class Future(abc.ABC):
    """A task that was submitted.

    Attributes:
        seconds: How long it took where it ran; None where only its start and its end are known.
    """

    seconds: float | None = None

    @property
    @abc.abstractmethod
    def done(self) -> bool:
        """Whether the result is known; it may become so only inside `Engine.wait`."""

    @abc.abstractmethod
    def result(self) -> Any:
        """Returns the task's value, or a `Failure`. Raises `RuntimeError` while the task is not done."""

    @property
    @abc.abstractmethod
    def started(self) -> float | None:
        """When it was given to a worker (`time.monotonic` seconds), or None while it waits."""

    @property
    @abc.abstractmethod
    def progress(self) -> Mapping[str, float]:
        """The last thing the running task published (see `hpcompss.progress`); empty at first."""

    @property
    @abc.abstractmethod
    def place(self) -> str:
        """Where it runs, for people: ``worker 2`` or ``node7, GPU 1``; empty while it waits."""


class Engine(abc.ABC):
    """Runs tasks. A context manager: leaving it closes the engine.

    Attributes:
        shares_files: Whether tasks see the master's files, at the same paths.
    """

    shares_files = True

    advice = ""
    """What would let the lagged order run better here, as a sentence, or nothing."""

    def tell(self, message: str) -> None:  # noqa: B027 - it need not be replaced
        """Takes what the user should know of workers; whoever uses the engine may put a function in its place."""

    @property
    def introduction(self) -> Sequence[str]:
        """What the user should know of the engine before it is used, in sentences."""
        return ()

    def await_workers(self) -> None:  # noqa: B027 - most have theirs from the start
        """Returns when there is a worker that can run tasks, or none needs to be waited for."""

    @property
    def about(self) -> dict[str, Any] | None:
        """What a study's journal should keep about this engine, an event and its data, or None."""
        return None

    @abc.abstractmethod
    def submit(
        self, function: Callable[..., Any], *args: Any, resources: Resources = Resources(), light: bool = False
    ) -> Future:
        """Queues ``function(*args)``.

        Args:
            function: Called on a worker; what it returns must pickle.
            *args: Its arguments; a future of this engine, also in a list, tuple or dict, is replaced by its result.
            resources: What the task asks for; its limits start when it starts.
            light: It takes milliseconds and runs no code of the user's, so that the engine may run it where that
                costs least, beside others and with less than ``resources``.

        Raises:
            InputError: No worker of this engine can ever satisfy ``resources``, or a part of the task does not pickle.
        """

    @abc.abstractmethod
    def wait(self, futures: Iterable[Future], timeout: float | None = None) -> list[Future]:
        """Returns those of ``futures`` that are done, as soon as there is one or ``timeout`` seconds have passed.

        Waiting for no futures returns at once.
        """

    @abc.abstractmethod
    def cancel(self, future: Future) -> None:
        """Ends a task: its result becomes a `Failure` of kind CANCELLED, unless it is done already."""

    @abc.abstractmethod
    def capacity(self, resources: Resources) -> int:
        """Returns how many tasks of this shape run at once; 0 when none ever can."""

    @abc.abstractmethod
    def close(self) -> None:
        """Ends all tasks and workers; harmless when repeated."""

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
