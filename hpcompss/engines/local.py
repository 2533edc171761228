"""The local engine: runs tasks in worker processes on this machine, each with the cores and GPUs its task asked for.

The master is single-threaded: a queue, a list of workers, and `Local.wait`, which drives everything. Limits are checked
and queued tasks are started while the master waits, or submits. A worker serves one shape (cores, GPUs), for thread
counts and visible GPUs are fixed when a process starts. It holds its share of the machine while it lives, idle or not:
an idle one still holds memory, the GPU's too. When a task of another shape is next, idle ones are ended to make room.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import os
import pickle
import selectors
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcompss.engines.base import Future
from hpcompss.engines.future import detached
from hpcompss.engines.local_process import DEATH_PATIENCE, EMPTY, WorkerProcess
from hpcompss.engines.local_task import LocalFuture, death, overrun, pickled_task
from hpcompss.engines.local_worker import PROGRESS, READY, RESULT
from hpcompss.engines.placement import Machine, Shape
from hpcompss.engines.queued import Queued
from hpcompss.errors import InputError
from hpcompss.trial import Failure, FailureKind, Resources

__all__ = ["Local"]

MEMORY_GROWTH = 1.25
"""A worker that grew past this multiple of its first size is replaced: TensorFlow leaks some MB a model, so dozens of
trials fit before, and what a replacement costs (seconds, to import TensorFlow again) is spread over them."""

LEAST_MEMORY_GROWTH = 128 << 20
"""Bytes that a worker may grow in any case: a small one is not replaced for what its allocator happened to keep."""

SETTLING_TASKS = 3
"""Tasks after which a worker has its first size: the first ones import libraries and fill caches."""

CHECK_INTERVAL = 0.25
"""Seconds between two checks of limits: seldom enough to cost nothing, often enough to see 1 GB/s before it hurts."""

SENDING_ATTEMPTS = 2
"""How often a task is sent to a worker that turns out to be dead: more than once, for the worker may have died of
another's doing, but not for ever, for the task may be what kills it."""


class _Worker:
    """A worker process and what the engine has it do."""

    def __init__(self, process: WorkerProcess, shape: Shape, gpus: tuple[str, ...]) -> None:
        self.process = process
        self.shape = shape
        self.gpus = gpus
        self.ready = False
        self.future: LocalFuture | None = None
        """The task it runs, or will run when it is ready."""
        self.last_used = time.monotonic()
        self.given_up = math.inf
        """When a killed process that is not gone counts as gone (`time.monotonic` seconds)."""
        self._tasks = 0
        self._first_size = 0

    @property
    def killed(self) -> bool:
        """Whether it is being ended; it holds its share of the machine until it is gone."""
        return self.given_up < math.inf

    @property
    def free(self) -> bool:
        """Whether it could take a task, now or when it is ready."""
        return self.future is None and not self.killed

    def outgrown(self, memory: int, growth: float) -> bool:
        """Takes its private memory in bytes after a task and returns whether it has grown too much."""
        self._tasks += 1
        if self._tasks <= SETTLING_TASKS:
            self._first_size = max(self._first_size, memory)
            return False
        return memory > max(growth * self._first_size, self._first_size + LEAST_MEMORY_GROWTH)


class Local(Queued[LocalFuture]):
    """Runs tasks in worker processes on this machine. Not for use by several threads at once.

    Limits (time, memory) are checked while the master is in `wait`. What a task started itself is killed with it.

    Args:
        workers: How many tasks may run at once; None for as many as cores, GPUs and memory allow.
        cores: How many cores to use; None for all that this process may.
        gpus: The GPUs to use, as ``CUDA_VISIBLE_DEVICES`` names them, or how many; None for all that are visible.
        memory: Bytes of memory to use, which bounds how many tasks with a memory limit run at once; None for all.
        worker_memory_growth: A worker that has grown past this multiple of its first size is replaced after its task;
            None for never.
        log_directory: Where each worker keeps a file of what its tasks print; None to drop it.
        preload: Modules that workers import when they start, so that no task's time limit pays for it; one that cannot
            be imported is left to fail in the task that needs it.
        directory: The working directory of workers; None for the master's.
        environment: Environment variables that workers have beside the master's.

    Raises:
        InputError: An argument is out of its range.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        cores: int | None = None,
        gpus: Sequence[str] | int | None = None,
        memory: int | None = None,
        worker_memory_growth: float | None = MEMORY_GROWTH,
        log_directory: Path | str | None = None,
        preload: Sequence[str] = (),
        directory: Path | None = None,
        environment: Mapping[str, str] = EMPTY,
    ) -> None:
        if worker_memory_growth is not None and not worker_memory_growth > 1:
            message = f"worker_memory_growth must be above 1, not {worker_memory_growth}"
            raise InputError(message, key="engine.worker_memory_growth")
        super().__init__(LocalFuture, object())
        self._machine = Machine(workers, cores, gpus, memory)
        self._growth = worker_memory_growth
        self._log_directory = None if log_directory is None else _made(Path(log_directory).absolute())
        self._preload = tuple(preload)
        self._directory = directory
        self._environment = environment
        self._capacities: dict[Resources, int] = {}
        self._workers: list[_Worker] = []
        self._next_check = 0.0
        self._selector = selectors.DefaultSelector()
        self._lifeline = os.pipe()
        # Runs when the engine is forgotten and when the interpreter ends, too.
        self._end = weakref.finalize(self, _end_all, self._workers, self._selector, self._lifeline)
        _engines.add(self)

    def submit(
        self, function: Callable[..., Any], *args: Any, resources: Resources = Resources(), light: bool = False
    ) -> LocalFuture:
        if self._closed:
            raise RuntimeError("this engine is closed")
        if self.capacity(resources) == 0:
            raise self._machine.impossible(resources)
        arguments, dependencies = detached(args, self._own)
        task = pickled_task(function, arguments, len(dependencies))
        future = LocalFuture(self._token, next(self._numbers), resources, task, dependencies)
        if self._accept(future):
            self._dispatch()
        return future

    def relay(self, task: bytes, results: Sequence[bytes], resources: Resources) -> LocalFuture:
        """Queues a task that another engine pickled, with the pickled results it takes. See `LocalFuture.pickled`."""
        known = [LocalFuture(self._token, -1, resources, b"", ()) for _ in results]
        for future, result in zip(known, results, strict=True):
            future.settle(result)
        relayed = LocalFuture(self._token, next(self._numbers), resources, task, known)
        self._enqueue(relayed)
        self._dispatch()
        return relayed

    def wait(self, futures: Iterable[Future], timeout: float | None = None) -> list[Future]:
        waited = list(futures)
        until = math.inf if timeout is None else time.monotonic() + timeout
        if not self._closed:
            self._advance(0)
        done = [future for future in waited if future.done]
        if not done:
            waited = [self._own(future) for future in waited]
        while waited and not done and (left := until - time.monotonic()) > 0:
            if self._closed:
                raise RuntimeError("this engine belongs to the process that this one was forked from")
            self._advance(min(left, CHECK_INTERVAL))
            done = [future for future in waited if future.done]
        return done

    def cancel(self, future: Future) -> None:
        task = self._own(future)
        if task.done:
            return
        failure = Failure.cancelled()
        worker = next((worker for worker in self._workers if worker.future is task), None)
        if worker is not None and worker.ready:
            self._kill(worker, failure)
            return
        if worker is not None:
            worker.future = None
        self._finish(task, pickle.dumps(failure))
        self._dispatch()

    def capacity(self, resources: Resources) -> int:
        known = self._capacities.get(resources)
        if known is None:
            known = self._capacities[resources] = self._machine.capacity(resources)
        return known

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        failure = pickle.dumps(Failure.cancelled("the engine was closed"))
        assigned = [worker.future for worker in self._workers if worker.future is not None]
        self._end()
        for future in assigned:
            self._finish(future, failure)
        self._finish_queue(failure)

    # Tasks: from submission to the worker, and to their results.

    def _dispatch(self) -> None:
        """Gives tasks to workers in the order of the queue; one that must wait for room is not overtaken."""
        while self._queue:
            future = self._queue[0][1]
            if future.done:  # it was cancelled
                heapq.heappop(self._queue)
                continue
            worker = self._worker_for(future.resources)
            if worker is None:
                return
            heapq.heappop(self._queue)
            self._give(worker, future)

    def _give(self, worker: _Worker, future: LocalFuture) -> None:
        """Has a worker run a task: now, or when it is ready."""
        worker.future = future
        if not worker.ready:
            return
        now = time.monotonic()
        try:
            worker.process.send(future.messages())
        except OSError:
            future.attempts += 1
            if future.attempts < SENDING_ATTEMPTS:
                worker.future = None
                self._enqueue(future)
            self._bury(worker)
        else:
            future.start(now, worker.process.place, worker.process.identity)

    # Events: what workers send, their deaths, and the passing of time.

    def _advance(self, timeout: float) -> None:
        """Handles what has happened, or the first that happens within ``timeout`` seconds, and checks limits."""
        for key, _ in self._selector.select(timeout):
            worker: _Worker = key.data
            if worker not in self._workers:
                continue  # an event before this one ended it
            if worker.killed:
                self._remove(worker)
                self._dispatch()
            elif key.fileobj is worker.process.connection:
                self._receive(worker)
            else:
                self._bury(worker)
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + CHECK_INTERVAL
            for worker in tuple(self._workers):
                self._check(worker)
            self._dispatch()

    def _receive(self, worker: _Worker) -> None:
        try:
            kind, memory, body = worker.process.receive()
        except (EOFError, OSError):
            self._bury(worker)
            return
        if kind == READY:
            worker.ready = True
            self._employ(worker)
        elif kind == RESULT:
            self._complete(worker, body, memory)
        elif worker.future is not None:
            worker.future.progress = pickle.loads(body)

    def _complete(self, worker: _Worker, pickled: memoryview, memory: int) -> None:
        future, worker.future = worker.future, None
        worker.last_used = time.monotonic()
        if future is not None:
            self._finish(future, pickled)
        single_use = future is not None and future.resources.single_use
        if single_use or (self._growth is not None and worker.outgrown(memory, self._growth)):
            self._remove(worker)
            self._dispatch()
        else:
            self._employ(worker)

    def _employ(self, worker: _Worker) -> None:
        """Gives a worker that is free its next task: its own, that of a worker still starting, or the queue's first."""
        future = worker.future
        if future is None:
            starting = (other for other in self._workers if not other.ready and other.future is not None)
            other = min((other for other in starting if other.shape == worker.shape), key=_task_number, default=None)
            if other is not None:
                future, other.future = other.future, None
        if future is not None:
            self._give(worker, future)
        self._dispatch()

    def _bury(self, worker: _Worker) -> None:
        """Clears away a worker that died by itself; its task fails, unless it had sent the result before."""
        self._unlist(worker)
        status = worker.process.end_naturally()
        for kind, _, body in worker.process.last_messages():
            if kind == RESULT and worker.future is not None:
                self._finish(worker.future, body)
                worker.future = None
            elif kind == PROGRESS and worker.future is not None:
                worker.future.progress = pickle.loads(body)
        future, worker.future = worker.future, None
        if future is not None:
            reason = death(status) if worker.ready else f"its worker could not start: {death(status)}"
            failure = Failure(FailureKind.DIED, reason, worker.process.log_tail())
            self._finish(future, pickle.dumps(failure))
        worker.process.close()
        self._dispatch()

    def _check(self, worker: _Worker) -> None:
        """Kills a worker whose task is past a limit."""
        if worker not in self._workers:
            return
        if worker.killed:
            if time.monotonic() >= worker.given_up:
                self._remove(worker)
            return
        if worker.process.sentinel is None and worker.process.dead:
            self._bury(worker)
            return
        future = worker.future
        if future is None or not worker.ready:
            return
        worker.process.trim_log()
        failure = overrun(future, time.monotonic(), worker.process.identity)
        if failure is None:
            return
        while worker in self._workers and worker.future is future and worker.process.connection.poll(0):
            self._receive(worker)  # it may have ended in time, unread
        if worker in self._workers and worker.future is future:
            self._kill(worker, failure)

    # Workers: which one, where, and their ends.

    def _worker_for(self, resources: Resources) -> _Worker | None:
        """Returns a free worker of the right shape, started now if need be, or None: the task must wait."""
        if resources.memory and self._promised_memory() + resources.memory > self._machine.memory:
            return None
        shape = (resources.cpu, resources.gpu)
        free = [worker for worker in self._workers if worker.free and worker.shape == shape]
        for worker in free:
            if worker.ready:
                return worker
        if free:
            return free[0]
        gpus = self._make_room(shape)
        return None if gpus is None else self._start(shape, gpus)

    def _promised_memory(self) -> int:
        return sum(worker.future.resources.memory or 0 for worker in self._workers if worker.future is not None)

    def _make_room(self, shape: Shape) -> tuple[str, ...] | None:
        """Ends as few idle workers as let one of ``shape`` start; returns its GPUs, or None when there is no room."""
        idle = sorted((worker for worker in self._workers if worker.free), key=_last_used)
        leaving: list[_Worker] = []
        while self._room(shape, leaving) is None:
            if len(leaving) == len(idle):
                return None
            leaving.append(idle[len(leaving)])
        for worker in tuple(leaving):
            others = [other for other in leaving if other is not worker]
            if self._room(shape, others) is not None:
                leaving = others
        gpus = self._room(shape, leaving)
        for worker in leaving:
            self._remove(worker)
        return gpus

    def _room(self, shape: Shape, leaving: list[_Worker]) -> tuple[str, ...] | None:
        staying = ((worker.shape, worker.gpus) for worker in self._workers if worker not in leaving)
        return self._machine.room(shape, staying)

    def _start(self, shape: Shape, gpus: tuple[str, ...]) -> _Worker:
        taken = {worker.process.number for worker in self._workers}
        process = WorkerProcess(
            next(number for number in itertools.count(1) if number not in taken),
            shape[0],
            gpus,
            lifeline=self._lifeline[0],
            log_directory=self._log_directory,
            preload=self._preload,
            directory=self._directory,
            environment=self._environment,
        )
        worker = _Worker(process, shape, gpus)
        self._workers.append(worker)
        self._selector.register(process.connection, selectors.EVENT_READ, worker)
        if process.sentinel is not None:
            self._selector.register(process.sentinel, selectors.EVENT_READ, worker)
        return worker

    def _kill(self, worker: _Worker, failure: Failure) -> None:
        """Ends a worker in the middle of its task, which gets ``failure`` for its result.

        It is cleared away when it is gone: killing many takes no longer than killing one.
        """
        future, worker.future = worker.future, None
        worker.given_up = time.monotonic() + DEATH_PATIENCE
        worker.process.signal_end()
        if future is not None:
            self._finish(future, pickle.dumps(failure))
        self._dispatch()

    def _remove(self, worker: _Worker) -> None:
        self._unlist(worker)
        worker.process.end()
        worker.process.close()

    def _unlist(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        self._selector.unregister(worker.process.connection)
        if worker.process.sentinel is not None:
            self._selector.unregister(worker.process.sentinel)

    def _abandon(self) -> None:
        """Leaves everything to the master, in a process that was forked from it."""
        self._closed = True
        self._end.detach()
        for worker in self._workers:
            worker.process.disown()
        self._workers.clear()
        _close(self._selector, self._lifeline)


def _end_all(workers: list[_Worker], selector: selectors.BaseSelector, lifeline: tuple[int, int]) -> None:
    for worker in workers:
        worker.process.signal_end()
    for worker in workers:
        worker.process.end()
        worker.process.close()
    workers.clear()
    _close(selector, lifeline)


def _close(selector: selectors.BaseSelector, lifeline: tuple[int, int]) -> None:
    with contextlib.suppress(OSError):  # a kqueue (macOS) is not inherited by a fork
        selector.close()
    for end in lifeline:
        os.close(end)


def _made(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"the log directory {directory} cannot be made: {error.strerror}"
        raise InputError(message, key="engine.log_directory") from None
    return directory


def _task_number(worker: _Worker) -> float:
    return math.inf if worker.future is None else worker.future.number


def _last_used(worker: _Worker) -> float:
    return worker.last_used


_engines: weakref.WeakSet[Local] = weakref.WeakSet()


def _abandon_all() -> None:
    for engine in list(_engines):
        if not engine._closed:
            engine._abandon()


# A forked process that kept the pipes open would keep workers alive after the master's death, and one that
# ended the workers when it ends would take them from the master.
os.register_at_fork(after_in_child=_abandon_all)
