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
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcompss.engines import pickling
from hpcompss.engines.children import Children, Surroundings, Watch, folder_of_logs, run_in_child
from hpcompss.engines.gpu_leases import leased
from hpcompss.engines.local_worker import unpickled
from hpcompss.engines.machine import available_gpus
from hpcompss.engines.messages import Line, Office
from hpcompss.engines.placement import place_of
from hpcompss.trial import Failure, FailureKind, Resources

__all__ = ["LOST", "VALUE", "Order", "Site", "run"]

VALUE = b"V"
"""Begins an outcome that holds a pickled value or `Failure`."""

LOST = b"L"
"""Begins the outcome of a task that could not run because what it takes was lost."""

TOGETHER = 0.5
"""Seconds that a probe takes, so that COMPSs gives those of one time to different nodes."""


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
        gpus: How many GPUs each node has that the resources file tells of.
        beat: Seconds after which a task that has nothing to tell says that it goes on.
        environment: Environment variables for the children.
    """

    office: Office
    path: tuple[str, ...]
    directory: str
    preload: tuple[str, ...]
    logs: Path | None
    gpu_shares: int
    gpus: Mapping[str, int]
    beat: float
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Order:
    """One attempt at a task.

    Attributes:
        site: What it shares with the others.
        number: The task's.
        attempt: How often it was tried before.
        task: The pickled function and arguments.
        known: Those outcomes of the tasks whose results it takes that the master has, by their places.
        resources: What it asks for.
        units: GPU units.
        light: Whether it may run in this very process.
        probe: Whether only the way to the master is to be tried.
    """

    site: Site
    number: int
    attempt: int
    task: bytes
    known: Mapping[int, bytes]
    resources: Resources
    units: int
    light: bool
    probe: bool = False


def run(pickled: bytes, results: Sequence[Any]) -> bytes:
    """Returns the outcome of a task: `VALUE` and a pickled value, or `LOST`. Never raises for what the task does.

    Args:
        pickled: The `Order`.
        results: The other outcomes of the tasks whose results it takes; None for one that was lost.
    """
    order: Order = pickle.loads(pickled)
    with Line(order.site.office, order.number, order.attempt) as line:
        told = line.start(node=_node(), place=socket.gethostname())
        if order.probe:
            time.sleep(TOGETHER)
            findings = VALUE + pickling.dumps(_findings(order.site, line))
            if told:
                line.done()
            return findings
        if not told:
            # The master has ended, or would never hear of what comes of this.
            return VALUE + pickling.dumps(Failure.cancelled("its master cannot be reached"))
        missing = [index for index, result in enumerate(results) if not _is_value(result)]
        if missing:
            line.done(lost=missing)
            return LOST
        if line.cancelled:
            outcome = VALUE + pickling.dumps(Failure.cancelled())
        else:
            others = iter(results)
            places = range(len(order.known) + len(results))
            taken = [order.known[place] if place in order.known else next(others) for place in places]
            outcome = VALUE + _outcome(order, [result[1:] for result in taken], line)
        line.done()
    return outcome


def _is_value(result: Any) -> bool:
    return isinstance(result, bytes) and result[:1] == VALUE


def _findings(site: Site, line: Line) -> dict[str, Any]:
    folder = site.office.folder
    return {
        "node": socket.gethostname(),
        "reached": line.found,
        "problem": line.problem,
        "shared": folder is not None and folder.is_dir(),
    }


def _node() -> str:
    """Returns the name of this node in the resources file."""
    return os.environ.get("COMPSS_HOSTNAMES", "").partition(",")[0]


def _outcome(order: Order, results: list[bytes], line: Line) -> bytes:
    try:
        for entry in order.site.path:
            if entry not in sys.path:
                sys.path.append(entry)
        if order.light:
            return _inline(order, results)
        watch = Watch(line, order.site.beat)
        return _on_gpus(order, results, line, watch) if order.units else _in_child(order, results, (), watch)
    except Exception as error:  # what a task raises comes back as data; this is the engine's own trouble
        return pickling.dumps(Failure.of(error))


def _inline(order: Order, results: list[bytes]) -> bytes:
    function, arguments = unpickled([order.task, *results])
    return pickling.dumps(function(*arguments))


def _on_gpus(order: Order, results: list[bytes], line: Line, watch: Watch) -> bytes:
    names = _gpu_names(order)
    if len(names) * order.site.gpu_shares < order.units:
        reason = f"it asked for {order.resources.gpu:g} GPUs, {socket.gethostname()} has {len(names)}"
        return pickling.dumps(Failure(FailureKind.DIED, reason))
    with leased(order.units, order.site.gpu_shares, names, lambda: watch.turn({})) as gpus:
        if not gpus:
            return pickling.dumps(Failure.cancelled())
        line.alive(place=place_of(socket.gethostname(), gpus))
        return _in_child(order, results, gpus, watch)


def _gpu_names(order: Order) -> tuple[str, ...]:
    """Returns the names of this node's GPUs: as many as the resources file says, where it tells."""
    declared = order.site.gpus.get(_node())
    # Where COMPSs binds GPUs, it has put its own numbers into the variable that would tell.
    visible = () if "COMPSS_BINDED_GPUS" in os.environ else available_gpus()
    if declared is None:
        return visible
    return visible[:declared] if len(visible) >= declared else tuple(map(str, range(declared)))


def _in_child(order: Order, results: list[bytes], gpus: tuple[str, ...], watch: Watch) -> bytes:
    site = order.site

    def turn(progress: Mapping[str, float], process: int | None) -> bool:
        _follow_affinity(process)
        return watch.turn(progress)

    surroundings = Surroundings(
        # COMPSs removes the folder that a task runs in; the child outlives it.
        Path(site.directory) if os.path.isdir(site.directory) else Path.home(),
        site.preload,
        folder_of_logs(site.logs, socket.gethostname()),
        site.environment,
    )
    # An idle process would hold memory of a GPU that is given to another task.
    with _children.lease(surroundings, order.resources.cpu, gpus, keep=not gpus) as local:
        result, progress = run_in_child(local, order.task, results, order.resources, turn)
        watch.turn(progress)
    return result


def _follow_affinity(process: int | None) -> None:
    """Has a child run on the cores that COMPSs gave this task, not on those of the task it was started in."""
    if process is None or not hasattr(os, "sched_setaffinity"):
        return
    cores = os.sched_getaffinity(0)
    with contextlib.suppress(OSError):
        if os.sched_getaffinity(process) != cores:
            for thread in Path(f"/proc/{process}/task").iterdir():
                os.sched_setaffinity(int(thread.name), cores)


_children = Children()
