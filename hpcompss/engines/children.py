"""The processes in which a worker of another engine runs its tasks: each under a local engine, warm between tasks."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hpcompss.engines.local import Local
from hpcompss.trial import Resources

__all__ = ["TURN", "Children", "Reporter", "Surroundings", "Watch", "folder_of_logs", "run_in_child"]

TURN = 0.2
"""Seconds between two looks at what the master wants, and between two messages of progress."""

IDLE = 300.0
"""Seconds after which a process without a task is ended: it holds the memory that TensorFlow takes."""

UNBOUNDED = 1 << 62
"""Bytes: how many tasks' memory fits is for the master to say."""


@dataclass(frozen=True)
class Surroundings:
    """What a child process finds, apart from its share of the machine.

    Attributes:
        directory: Its working directory; None for a worker's own.
        preload: Modules that it imports when it starts.
        logs: The folder where it keeps what tasks print, or None to drop it.
        environment: Environment variables beside the worker's.
    """

    directory: Path | None = None
    preload: tuple[str, ...] = ()
    logs: Path | None = None
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(eq=False)
class _Child:
    local: Local
    surroundings: Surroundings
    cpu: int
    gpus: tuple[str, ...]
    number: int
    idle_since: float = 0.0


class Children:
    """The children of one worker process. May be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._numbers: set[int] = set()
        self._keeper: threading.Thread | None = None

    @contextlib.contextmanager
    def lease(self, surroundings: Surroundings, cpu: int, gpus: tuple[str, ...], keep: bool = True) -> Iterator[Local]:
        """Gives a local engine of one child inside the ``with``, to nobody else.

        Args:
            surroundings: What the child finds.
            cpu: The threads it may use.
            gpus: The GPUs it sees.
            keep: Whether it stays for a later task; else its memory, a GPU's too, is free at once.
        """
        child = self._taken(surroundings, cpu, gpus)
        try:
            yield child.local
        except BaseException:
            self._close(child)
            raise
        if not keep:
            self._close(child)
            return
        child.idle_since = time.monotonic()
        with self._lock:
            self._idle.append(child)
            if self._keeper is None:
                self._keeper = threading.Thread(target=self._end_idle, name="children", daemon=True)
                self._keeper.start()

    def close(self, idle: float = 0.0) -> None:
        """Ends the children that have been without a task for so many seconds."""
        until = time.monotonic() - idle
        with self._lock:
            ended = [child for child in self._idle if child.idle_since <= until]
            self._idle = [child for child in self._idle if child.idle_since > until]
        for child in ended:
            self._close(child)

    def _taken(self, surroundings: Surroundings, cpu: int, gpus: tuple[str, ...]) -> _Child:
        """Returns a child, and ends those in its way: of another shape, or with one of its GPUs."""
        with self._lock:
            alike = [child for child in self._idle if (child.surroundings, child.cpu) == (surroundings, cpu)]
            found = next((child for child in alike if child.gpus == gpus), None)
            staying = [child for child in alike if child is not found and not set(child.gpus) & set(gpus)]
            ended = [child for child in self._idle if child is not found and child not in staying]
            self._idle = staying
        for child in ended:
            self._close(child)
        return self._made(surroundings, cpu, gpus) if found is None else found

    def _made(self, surroundings: Surroundings, cpu: int, gpus: tuple[str, ...]) -> _Child:
        with self._lock:
            number = next(number for number in itertools.count(1) if number not in self._numbers)
            self._numbers.add(number)
        logs = surroundings.logs
        local = Local(
            1,
            cores=cpu,
            gpus=gpus,
            memory=UNBOUNDED,
            log_directory=logs if logs is None or number == 1 else logs.with_name(f"{logs.name}-{number}"),
            preload=surroundings.preload,
            directory=surroundings.directory,
            environment=dict(surroundings.environment),
        )
        return _Child(local, surroundings, cpu, gpus, number)

    def _close(self, child: _Child) -> None:
        child.local.close()
        with self._lock:
            self._numbers.discard(child.number)

    def _end_idle(self) -> None:
        while True:
            time.sleep(IDLE / 10)
            self.close(IDLE)


class Reporter(Protocol):
    """A running task's way to its master."""

    cancelled: bool
    """Whether the task shall end; up to date after `listen`."""

    def progress(self, **values: float) -> None:
        """Tells how far the task is."""

    def alive(self) -> None:
        """Tells that it goes on."""

    def listen(self, timeout: float) -> None:
        """Takes what the master has said, waiting up to ``timeout`` seconds for one message."""

    @property
    def broken(self) -> bool:
        """Whether the master cannot be reached for now."""


class Watch:
    """Tells the master of a task while it runs.

    Args:
        line: The way to the master.
        beat: Seconds after which a task that has nothing to tell says that it goes on.
    """

    def __init__(self, line: Reporter, beat: float) -> None:
        self._line = line
        self._beat = beat
        self._told: Mapping[str, float] | None = None
        self._last = time.monotonic()

    def turn(self, progress: Mapping[str, float]) -> bool:
        """Tells what is new, or now and then that the task goes on; returns whether it shall."""
        now = time.monotonic()
        if progress and progress is not self._told:
            self._told, self._last = progress, now
            self._line.progress(**progress)
        elif now - self._last > self._beat or self._line.broken:
            self._last = now
            self._line.alive()
        self._line.listen(0)
        return not self._line.cancelled


def run_in_child(
    local: Local,
    task: bytes,
    results: Sequence[bytes],
    resources: Resources,
    turn: Callable[[Mapping[str, float], int | None], bool],
) -> tuple[bytes, Mapping[str, float]]:
    """Returns the pickled result of a task, and what it published last.

    Args:
        local: The engine of the child.
        task: The pickled function and its arguments.
        results: The pickled results that it takes.
        resources: Its limits.
        turn: Called now and then with what it published and its process; returns whether it shall go on.
    """
    future = local.relay(task, results, resources)
    while not local.wait([future], timeout=TURN):
        if not turn(future.progress, future.process):
            local.cancel(future)
    return bytes(future.pickled), future.progress


def folder_of_logs(logs: Path | None, host: str) -> Path | None:
    """Returns where this process's children keep what tasks print, or None where the folder is not seen from here."""
    return None if logs is None or not logs.parent.is_dir() else logs / f"{host}-{os.getpid()}"
