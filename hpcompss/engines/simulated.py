"""The simulated engine: the protocol in virtual time, for trying schedules of thousands of workers in seconds.

A task's function is really called, in the master, at the moment its virtual worker starts it; how long that takes on
the virtual clock is stated by the user. So the real loop, graph and samplers run as they would on a machine that is not
there.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from hpcompss.engines.base import Engine, Future
from hpcompss.engines.local_worker import replaced
from hpcompss.errors import InputError
from hpcompss.trial import Failure, Resources

__all__ = ["Simulated"]


class SimulatedFuture(Future):
    """A task of the simulated engine. Its attributes are the engine's to set."""

    done = False
    started: float | None = None
    progress: Mapping[str, float] = MappingProxyType({})
    place = ""

    def __init__(self, number: int, cpu: int, task: tuple[Callable[..., Any], tuple[Any, ...]]) -> None:
        self.number = number
        self.cpu = cpu
        self.missing = 0
        self.dependents: list[SimulatedFuture] = []
        self.task: tuple[Callable[..., Any], tuple[Any, ...]] | None = task
        self.value: Any = None

    def result(self) -> Any:
        if not self.done:
            raise RuntimeError("this task is not done: wait for it first")
        return self.value


class Simulated(Engine):
    """Runs tasks on workers that are not there, on a clock of its own.

    Args:
        workers: How many CPU units there are.
        seconds: Called with the function of a task and its result; returns how long it took, in virtual seconds.
        cost: What each task takes besides, on its worker: COMPSs was seen to take 0.035 to 0.05 s.
        submission: What each submission takes of the master's time: COMPSs was seen to take 0.0003 to 0.0005 s.
        fetching: What taking a result takes of the master's time: COMPSs was seen to take 0.055 to 0.07 s.

    Attributes:
        clock: The virtual time, in seconds.
        spans: When each task with seconds of its own ran: start and end on the clock.
    """

    def __init__(
        self,
        workers: int,
        seconds: Callable[[Callable[..., Any], Any], float],
        *,
        cost: float = 0.05,
        submission: float = 0.0005,
        fetching: float = 0.0,
    ) -> None:
        if workers < 1:
            raise InputError(f"a simulated engine needs at least 1 worker, not {workers}", key="engine.workers")
        self._workers = self._free = workers
        self._seconds = seconds
        self._cost = cost
        self._submission = submission
        self._fetching = fetching
        self._numbers = itertools.count()
        self._ready: list[tuple[int, SimulatedFuture]] = []
        self._ends: list[tuple[float, int, SimulatedFuture]] = []
        self._ended: list[SimulatedFuture] = []
        self._closed = False
        self.clock = 0.0
        self.spans: list[tuple[float, float]] = []

    def submit(
        self, function: Callable[..., Any], *args: Any, resources: Resources = Resources(), light: bool = False
    ) -> SimulatedFuture:
        if self._closed:
            raise RuntimeError("this engine is closed")
        if self.capacity(resources) == 0:
            raise InputError(
                f"a trial asks for {resources.cpu} cpus and {resources.gpu:g} GPUs, "
                f"this engine has {self._workers} cpus",
                key="resources.cpu",
            )
        self._pass(self.clock + self._submission)
        future = SimulatedFuture(next(self._numbers), 1 if light else resources.cpu, (function, args))

        def count(argument: Any) -> Any:
            if isinstance(argument, SimulatedFuture) and not argument.done:
                argument.dependents.append(future)
                future.missing += 1
            return argument

        for argument in args:
            replaced(argument, count)
        if not future.missing:
            heapq.heappush(self._ready, (future.number, future))
            self._start()
        return future

    def wait(self, futures: Iterable[Future], timeout: float | None = None) -> list[Future]:
        waited = list(futures)
        until = math.inf if timeout is None else self.clock + timeout
        done = [future for future in waited if future.done]
        wanted = set(map(id, waited))
        while waited and not done and self._ends and self._ends[0][0] <= until:
            self._ended.clear()
            self._pass(self._ends[0][0])
            done = [future for future in self._ended if id(future) in wanted]
        if not done and until < math.inf:
            self._pass(until)
        self._pass(self.clock + self._fetching * len(done))
        return done

    def cancel(self, future: Future) -> None:
        if isinstance(future, SimulatedFuture) and not future.done:
            running = future.task is None
            self._finish(future, Failure.cancelled())
            if running:
                self._free += future.cpu
                self._start()

    def capacity(self, resources: Resources) -> int:
        return 0 if resources.gpu else self._workers // resources.cpu

    def close(self) -> None:
        self._closed = True
        for _, future in self._ready:
            self._finish(future, Failure.cancelled("the engine was closed"))
        for _, _, future in self._ends:
            self._finish(future, Failure.cancelled("the engine was closed"))
        self._ready.clear()
        self._ends.clear()

    def _pass(self, moment: float) -> None:
        """Lets time pass to a moment, and everything happen that happens until then."""
        while self._ends and self._ends[0][0] <= moment:
            self.clock, _, future = heapq.heappop(self._ends)
            if not future.done:  # else it was cancelled
                self._free += future.cpu
                self._finish(future, future.value)
                self._start()
        self.clock = max(self.clock, moment)

    def _start(self) -> None:
        """Starts ready tasks in the order of submission; one that must wait for room is not overtaken."""
        while self._ready and (self._ready[0][1].done or self._ready[0][1].cpu <= self._free):
            future = heapq.heappop(self._ready)[1]
            if future.done or future.task is None:
                continue
            function, arguments = future.task
            future.task = None
            future.started = self.clock
            self._free -= future.cpu
            try:
                future.value = function(*(replaced(argument, _value) for argument in arguments))
            except Exception as error:
                future.value = Failure.of(error)
            own = self._seconds(function, future.value)
            if own > 0:
                self.spans.append((self.clock, self.clock + own))
            heapq.heappush(self._ends, (self.clock + self._cost + own, future.number, future))

    def _finish(self, future: SimulatedFuture, value: Any) -> None:
        if future.done:
            return
        future.value = value
        future.done = True
        self._ended.append(future)
        for dependent in future.dependents:
            dependent.missing -= 1
            if not dependent.missing and not dependent.done:
                heapq.heappush(self._ready, (dependent.number, dependent))
        future.dependents.clear()


def _value(argument: Any) -> Any:
    return argument.value if isinstance(argument, SimulatedFuture) else argument
