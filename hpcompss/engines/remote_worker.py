"""What a worker of another framework (Dask, Ray, MPI, joblib) does for the master: it runs one task after another.

It is sent one task at a time, or several short ones together. Each runs in a child process (`children`), for it may
hang, crash or take memory, and threads and GPUs are fixed when a process starts. The outcomes go back as the
framework's own result; what happens meanwhile by a `Channel`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import platform
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from hpcompss import __version__
from hpcompss.engines import pickling
from hpcompss.engines.children import TURN, Children, Reporter, Surroundings, Watch, folder_of_logs, run_in_child
from hpcompss.engines.local import Local
from hpcompss.engines.local_worker import PATH_VARIABLE
from hpcompss.engines.machine import available_cores, available_gpus, available_memory
from hpcompss.engines.messages import Line, Office
from hpcompss.trial import Failure, Resources

__all__ = [
    "Channel",
    "DeskChannel",
    "Facts",
    "Order",
    "Outcome",
    "Piece",
    "Site",
    "close_children",
    "end",
    "end_all",
    "facts",
    "leave",
    "machine",
    "refusal",
    "refuse",
    "run",
]


class Channel(Protocol):
    """How running tasks reach their master; it is sent with each of them."""

    def open(self, number: int, attempt: int) -> contextlib.AbstractContextManager[Reporter]:
        """Returns the way of one attempt at a task."""


@dataclass(frozen=True)
class DeskChannel:
    """A channel by the master's desk.

    Attributes:
        office: Where that is.
    """

    office: Office

    def open(self, number: int, attempt: int) -> Line:
        """Returns a line to the desk; a task whose master is gone is ended."""
        line = Line(self.office, number, attempt)
        if not line.start():
            line.cancelled = True
        return line


@dataclass(frozen=True)
class Site:
    """What all tasks of an engine share.

    Attributes:
        token: Tells this engine from others.
        channel: How tasks reach it.
        path: The master's ``sys.path``.
        directory: The master's working directory, used where the worker has it too.
        preload: Modules that a child imports when it starts.
        logs: Where children keep what tasks print, in the study's folder, or None.
        environment: Environment variables for the children.
        beat: Seconds after which a task that has nothing to tell says that it goes on.
    """

    token: str
    channel: Channel
    path: tuple[str, ...]
    directory: str
    preload: tuple[str, ...]
    logs: Path | None
    environment: tuple[tuple[str, str], ...]
    beat: float


@dataclass(frozen=True)
class Piece:
    """One attempt at a task.

    Attributes:
        number: The task's.
        attempt: How often it was tried before.
        task: The pickled function and arguments.
    """

    number: int
    attempt: int
    task: bytes


@dataclass(frozen=True)
class Order:
    """Tasks that a worker runs one after the other. Its name is the first one's number and attempt.

    Attributes:
        site: What all tasks share, pickled: a `Site`, which a worker reads once.
        pieces: The tasks.
        resources: What each asks for.
        gpus: The GPUs each sees.
    """

    site: bytes
    pieces: tuple[Piece, ...]
    resources: Resources
    gpus: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt.

    Attributes:
        result: The pickled value or `Failure`; None where the worker leaves and the task is to be tried elsewhere.
        progress: What the task published last.
        seconds: How long it took here.
    """

    result: bytes | None
    progress: Mapping[str, float]
    seconds: float = 0.0


@dataclass(frozen=True)
class Facts:
    """What a worker has and is.

    Attributes:
        host: Its machine's name.
        machine: What tells its machine from others, for workers on one machine share its GPUs.
        cores: How many cores it may use.
        gpus: The names of the GPUs that it sees.
        memory: Bytes that it may use.
        hpcompss: The version of this package there.
        python: The version of Python there.
    """

    host: str
    machine: str
    cores: int
    gpus: tuple[str, ...]
    memory: int
    hpcompss: str
    python: str


def machine() -> str:
    """Returns what tells this machine from others."""
    return f"{socket.gethostname()} {_boot()}"


def facts() -> Facts:
    """Returns what this machine has."""
    return Facts(
        host=socket.gethostname(),
        machine=machine(),
        cores=available_cores(),
        gpus=available_gpus(),
        memory=available_memory(),
        hpcompss=__version__,
        python=platform.python_version(),
    )


def _boot() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def run(pickled: bytes, results: Sequence[Sequence[bytes]], gpus: tuple[str, ...] | None = None) -> bytes:
    """Returns the pickled list of the `Outcome` of each task that was begun. Never raises for what a task does.

    As soon as it tells the master of a task that goes on (by its channel), no further one of the same order is begun.

    Args:
        pickled: The `Order`.
        results: The pickled results that each of its tasks takes.
        gpus: The GPUs they see, where that is not for the master to say.
    """
    order: Order = pickle.loads(pickled)
    if gpus is not None:
        order = replace(order, gpus=gpus)
    outcomes: list[Outcome] = []
    try:
        site, surroundings = _found(order.site)
        name = (site.token, order.pieces[0].number, order.pieces[0].attempt)
        with _attempts.taking(name) as going, contextlib.ExitStack() as stack:
            if going:
                local = stack.enter_context(_children.lease(surroundings, order.resources.cpu, order.gpus))
                _run_all(order, results, local, site, name, outcomes)
    except Exception as error:  # what a task raises comes back as data; this is the engine's own trouble
        outcomes.append(Outcome(pickling.dumps(Failure.of(error)), {}))
    return pickle.dumps(outcomes)


def _run_all(
    order: Order,
    results: Sequence[Sequence[bytes]],
    local: Local,
    site: Site,
    name: tuple[str, int, int],
    outcomes: list[Outcome],
) -> None:
    begun = time.monotonic()
    for piece, taken in zip(order.pieces, results, strict=True):
        outcome, told = _outcome(piece, taken, order.resources, local, site, name)
        if _attempts.ended(name):
            outcomes.append(Outcome(None, outcome.progress) if _attempts.leaving else outcome)
            return
        outcomes.append(outcome)
        if told or time.monotonic() - begun > TURN:
            return  # the rest is for others: it takes longer than was thought


def _outcome(
    piece: Piece,
    results: Sequence[bytes],
    resources: Resources,
    local: Local,
    site: Site,
    name: tuple[str, int, int],
) -> tuple[Outcome, bool]:
    """Returns what came of a task, and whether the master was told of it meanwhile."""
    with contextlib.ExitStack() as stack:
        watch: Watch | None = None

        def turn(progress: Mapping[str, float], process: int | None) -> bool:
            nonlocal watch
            if _attempts.ended(name):
                return False
            if watch is None:  # a task that is over at once has nothing to tell
                line = stack.enter_context(site.channel.open(piece.number, piece.attempt))
                watch = Watch(line, site.beat)
            return watch.turn(progress)

        begun = time.monotonic()
        result, progress = run_in_child(local, piece.task, results, resources, turn)
        return Outcome(result, dict(progress), time.monotonic() - begun), watch is not None


@functools.lru_cache(maxsize=8)
def _found(pickled: bytes) -> tuple[Site, Surroundings]:
    """Returns a site, and what its children find here."""
    site: Site = pickle.loads(pickled)
    path = [*sys.path, *(entry for entry in site.path if entry not in sys.path and os.path.exists(entry))]
    return site, Surroundings(
        Path(site.directory) if os.path.isdir(site.directory) else None,
        site.preload,
        folder_of_logs(site.logs, socket.gethostname()),
        ((PATH_VARIABLE, "\n".join(path)), *site.environment),
    )


class _Attempts:
    """The orders that this process has, and those of them that shall end."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._going: set[Any] = set()
        self._ended: set[Any] = set()
        self.leaving = False
        self.refusal = ""

    @contextlib.contextmanager
    def taking(self, attempt: Any) -> Any:
        """Counts an attempt inside the ``with``; gives whether it may begin."""
        with self._lock:
            going = not self.leaving
            if going:
                self._going.add(attempt)
        try:
            yield going
        finally:
            with self._lock:
                self._going.discard(attempt)
                self._ended.discard(attempt)
                self._lock.notify_all()

    def ended(self, attempt: Any) -> bool:
        """Whether an attempt shall end."""
        return attempt in self._ended

    def end(self, attempt: Any) -> None:
        """Has an attempt end."""
        with self._lock:
            if attempt in self._going:
                self._ended.add(attempt)

    def end_all(self) -> None:
        """Has all attempts end."""
        with self._lock:
            self._ended |= self._going

    def leave(self, patience: float) -> None:
        """Takes no attempt any more, and has those end that have not by themselves after ``patience`` seconds."""
        with self._lock:
            self.leaving = True
            self._lock.wait_for(lambda: not self._going, patience)
            self._ended |= self._going
            self._lock.wait_for(lambda: not self._going, LEAVING)


LEAVING = 10.0
"""Seconds for tasks to end that shall."""

_attempts = _Attempts()
_children = Children()


def end(token: str, number: int, attempt: int) -> None:
    """Has an order end that this process runs; harmless where it does not."""
    _attempts.end((token, number, attempt))


def leave(patience: float = 0.0) -> None:
    """Has this process take no task any more: those that run for more than ``patience`` seconds yet are handed back."""
    _attempts.leave(patience)


def refuse(reason: str) -> None:
    """Takes why the master cannot use this worker."""
    _attempts.refusal = reason


def refusal() -> str:
    """Returns why a master cannot use this worker, or nothing."""
    return _attempts.refusal


def end_all() -> None:
    """Has all tasks end that this process runs: their master is gone."""
    _attempts.end_all()


def close_children() -> None:
    """Ends the processes that wait for tasks."""
    _children.close()
