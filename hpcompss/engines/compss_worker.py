"""What a COMPSs task does on its worker: runs the trial in a child process, tells the master, returns the outcome.

COMPSs does not start a killed Python worker again, ends the application for what a task raises, and cannot cancel. So
whatever may die or hang runs in a child (a worker of the local engine, kept warm for the next task of the same shape);
this process always returns.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcompss.engines import pickling
from hpcompss.engines.local import Local
from hpcompss.engines.local_worker import unpickled
from hpcompss.engines.messages import Line, Office
from hpcompss.trial import Failure, Resources

__all__ = ["LOST", "VALUE", "Order", "Site", "run"]

VALUE = b"V"
"""Begins an outcome that holds a pickled value or `Failure`."""

LOST = b"L"
"""Begins the outcome of a task that could not run because what it takes was lost."""

TURN = 0.2
"""Seconds between two looks at what the master wants, and between two messages of progress."""


@dataclass(frozen=True)
class Site:
    """What all tasks of a run share.

    Attributes:
        office: Where the master is reached.
        path: The master's ``sys.path``.
        directory: The master's working directory, used where the worker has it too.
        preload: Modules that a child imports when it starts.
        logs: Where children keep what tasks print, or None.
        gpu_shares: How many units of COMPSs are one GPU.
    """

    office: Office
    path: tuple[str, ...]
    directory: str
    preload: tuple[str, ...]
    logs: Path | None
    gpu_shares: int


@dataclass(frozen=True)
class Order:
    """One attempt at a task.

    Attributes:
        site: What it shares with the others.
        number: The task's.
        attempt: How often it was tried before.
        task: The pickled function and arguments.
        resources: What it asks for.
        light: Whether it may run in this very process.
        probe: Whether only the way to the master is to be tried.
    """

    site: Site
    number: int
    attempt: int
    task: bytes
    resources: Resources
    light: bool
    probe: bool = False


def run(pickled: bytes, results: Sequence[Any]) -> bytes:
    """Returns the outcome of a task: `VALUE` and a pickled value, or `LOST`. Never raises for what the task does.

    Args:
        pickled: The `Order`.
        results: The outcomes of the tasks whose results it takes; None for one that was lost.
    """
    order: Order = pickle.loads(pickled)
    with Line(order.site.office, order.number, order.attempt) as line:
        gpus = _gpus(order)
        line.start(place=_place(gpus))
        if order.probe:
            line.done()
            return VALUE + pickling.dumps(_findings(order.site, line))
        missing = [index for index, result in enumerate(results) if not _is_value(result)]
        if missing:
            line.done(lost=missing)
            return LOST
        if line.cancelled:
            outcome = VALUE + pickling.dumps(Failure.cancelled())
        else:
            outcome = VALUE + _outcome(order, [result[1:] for result in results], gpus, line)
        line.done()
    return outcome


def _is_value(result: Any) -> bool:
    return isinstance(result, bytes) and result[:1] == VALUE


def _findings(site: Site, line: Line) -> dict[str, Any]:
    folder = site.office.folder
    return {"reached": line.reached, "problem": line.problem, "shared": folder is not None and folder.is_dir()}


def _outcome(order: Order, results: list[bytes], gpus: tuple[str, ...], line: Line) -> bytes:
    try:
        for entry in order.site.path:
            if entry not in sys.path:
                sys.path.append(entry)
        return _inline(order, results) if order.light else _in_child(order, results, gpus, line)
    except Exception as error:  # what a task raises comes back as data; this is the engine's own trouble
        return pickling.dumps(Failure.of(error))


def _inline(order: Order, results: list[bytes]) -> bytes:
    function, arguments = unpickled([order.task, *results])
    return pickling.dumps(function(*arguments))


def _in_child(order: Order, results: list[bytes], gpus: tuple[str, ...], line: Line) -> bytes:
    local = _children.of(order, gpus)
    future = local.relay(order.task, results, order.resources)
    told: Any = future.progress
    while not local.wait([future], timeout=TURN):
        _children.follow_affinity(future.process)
        if future.progress is not told:
            told = future.progress
            line.progress(**told)
        line.listen(0)
        if line.cancelled:
            local.cancel(future)
    if future.progress is not told:
        line.progress(**future.progress)
    if gpus:
        # An idle process would hold memory of a GPU that COMPSs gives to another task.
        _children.close()
    return future.pickled


class _Children:
    """The local engine of this COMPSs worker process: one child, kept warm while the shape stays."""

    def __init__(self) -> None:
        self._local: Local | None = None
        self._shape: Any = None

    def of(self, order: Order, gpus: tuple[str, ...]) -> Local:
        shape = (order.resources.cpu, order.resources.gpu, gpus, order.site)
        if self._local is None or self._shape != shape:
            self.close()
            site = order.site
            logs = None if site.logs is None else site.logs / f"{socket.gethostname()}-{os.getpid()}"
            with contextlib.suppress(OSError):
                # COMPSs removes the folder that a task runs in; the child outlives it.
                os.chdir(site.directory if os.path.isdir(site.directory) else Path.home())
            self._local = Local(
                1,
                cores=order.resources.cpu,
                gpus=gpus,
                log_directory=logs if logs is not None and logs.parent.is_dir() else None,
                preload=site.preload,
            )
            self._shape = shape
        return self._local

    def follow_affinity(self, process: int | None) -> None:
        """Has a child run on the cores that COMPSs gave this task, not on those of the task it was started in."""
        if process is None or not hasattr(os, "sched_setaffinity"):
            return
        cores = os.sched_getaffinity(0)
        with contextlib.suppress(OSError):
            if os.sched_getaffinity(process) != cores:
                for thread in Path(f"/proc/{process}/task").iterdir():
                    os.sched_setaffinity(int(thread.name), cores)

    def close(self) -> None:
        if self._local is not None:
            self._local.close()
            self._local = None


_children = _Children()


def _gpus(order: Order) -> tuple[str, ...]:
    """Returns the GPUs that COMPSs bound to this task: several of its units may be one GPU, most of them its own."""
    if not order.resources.gpu or order.light:
        return ()
    bound = os.environ.get("COMPSS_BINDED_GPUS") or os.environ.get("CUDA_VISIBLE_DEVICES") or ""
    units = [int(unit) for unit in bound.split(",") if unit.strip().isdecimal()]
    shares = Counter(str(unit // order.site.gpu_shares) for unit in units)
    return tuple(sorted(gpu for gpu, _ in shares.most_common(max(1, int(order.resources.gpu)))))


def _place(gpus: Sequence[str]) -> str:
    host = socket.gethostname()
    return f"{host}, GPU{'s' if len(gpus) > 1 else ''} {', '.join(gpus)}" if gpus else host
