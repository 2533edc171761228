"""What the engines share whose master has the queue: tasks that wait for others' results, and then for their turn."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from hpcompss.engines import pickling
from hpcompss.engines.base import Engine, Future
from hpcompss.engines.future import PickledFuture
from hpcompss.errors import InputError
from hpcompss.trial import Resources

__all__ = ["Queued", "QueuedFuture"]

_Own = TypeVar("_Own", bound="QueuedFuture")


class QueuedFuture(PickledFuture):
    """A task in such a queue. Its attributes are the engine's to set.

    Attributes:
        owner: Identifies the engine.
        number: Its place in the order of submission.
        resources: What it asks for.
        task: The pickled function and its arguments.
        dependencies: The tasks whose results it takes.
        missing: How many of these it still waits for.
        dependents: The tasks that wait for its result.
    """

    def __init__(
        self,
        owner: object,
        number: int,
        resources: Resources,
        task: bytes | memoryview,
        dependencies: Sequence[QueuedFuture],
    ) -> None:
        super().__init__()
        self.owner = owner
        self.number = number
        self.resources = resources
        self.task = task
        self.dependencies = dependencies
        self.missing = 0
        self.dependents: list[Any] = []

    @property
    def pickled(self) -> bytes | memoryview:
        """The result, pickled: as it came from the worker, unless somebody has unpickled it since."""
        return pickling.dumps(self._value) if self._pickled is None else self._pickled

    def results(self) -> list[bytes | memoryview]:
        """Returns the results that it takes, pickled."""
        return [dependency.pickled for dependency in self.dependencies]

    def forget(self) -> None:
        """Lets go of what is needed only until it runs, or has run."""
        self.task = b""
        self.dependencies = ()

    def settle(self, pickled: bytes | memoryview) -> list[Any]:
        """Takes the pickled result and returns the tasks that waited for it."""
        self.done = True
        self._pickled = pickled
        self.forget()
        dependents, self.dependents = self.dependents, []
        return dependents


class Queued(Engine, Generic[_Own]):
    """An engine whose tasks start in the order of their submission, each once the results are there that it takes.

    Args:
        kind: The class of its futures.
        token: Identifies the engine.
    """

    def __init__(self, kind: type[_Own], token: Any) -> None:
        self._kind = kind
        self._token = token
        self._numbers = itertools.count()
        self._queue: list[tuple[int, _Own]] = []
        self._closed = False

    def _own(self, future: Future) -> _Own:
        if not isinstance(future, self._kind) or future.owner is not self._token:
            raise InputError("this future belongs to another engine: use it with the engine that it was submitted to")
        return future

    def _accept(self, future: _Own) -> bool:
        """Takes a task that is submitted; returns whether it is in the queue already, waiting for no result."""
        for dependency in future.dependencies:
            if not dependency.done:
                dependency.dependents.append(future)
                future.missing += 1
        if future.missing:
            return False
        self._enqueue(future)
        return True

    def _enqueue(self, future: _Own) -> None:
        """Queues a task whose arguments are known; the queue is in the order of submission."""
        heapq.heappush(self._queue, (future.number, future))

    def _finish(self, future: _Own, pickled: bytes | memoryview) -> None:
        """Gives a task its result, and queues those that waited for nothing else."""
        for dependent in future.settle(pickled):
            dependent.missing -= 1
            if not dependent.missing and not dependent.done:
                self._enqueue(dependent)

    def _finish_queue(self, pickled: bytes) -> None:
        """Gives all tasks that wait the same result, those too that wait for others'."""
        while self._queue:
            future = heapq.heappop(self._queue)[1]
            if not future.done:
                self._finish(future, pickled)
