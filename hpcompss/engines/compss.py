"""The COMPSs engine: tasks of PyCOMPSs, run by ``runcompss`` or ``enqueue_compss`` on all nodes of a resources file.

PyCOMPSs has no wait for any, no ``done()`` and no safe cancel; `compss_wait_on` stops every other thread of the master
while it waits. So tasks tell the master themselves (`messages`), which then waits only for what is there already. Where
a process or a node was lost, its task never tells, or its successors find nothing: it is submitted again, a bounded
number of times, and so are the successors, with the same arguments.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import pickle
import secrets
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcompss.cluster.commands import SCHEDULER
from hpcompss.cluster.nodes import Node, gpu_units, impossible, slots
from hpcompss.cluster.resources import read_project, read_resources
from hpcompss.engines import inside_compss, pickling
from hpcompss.engines.base import Engine, Future
from hpcompss.engines.compss_state import CompssFuture, Room, in_order
from hpcompss.engines.compss_worker import VALUE, Order, Site
from hpcompss.engines.future import detached
from hpcompss.engines.local_process import forwarded_environment
from hpcompss.engines.local_task import pickled_task
from hpcompss.engines.messages import Desk, Message, Office, collect, local_address
from hpcompss.errors import HpcompssError, InputError
from hpcompss.trial import Failure, FailureKind, Resources

__all__ = ["Compss"]

DEATHS = 3
"""How often a task is tried whose process or node is lost each time."""

UNSTARTED = 20
"""How often a task is tried that does not start although nothing else runs: the slot of a dead process takes task after
task and runs none."""

SUSPICION = 5.0
"""Seconds that a task may be late to start once a process is known to have died; twice as long after each try."""

LATE = 20.0
"""Seconds that a task may be late to start where there is room for it."""

REVIVAL = 15.0
"""Seconds that a task has to open its line anew, where that broke; tried every five seconds."""

GRACE = 60.0
"""Seconds that a task may be silent which runs."""

CHECK_INTERVAL = 1.0
"""Seconds between two looks for tasks that are lost."""

FOLDER_INTERVAL = 0.2
"""Seconds between two looks at the shared folder."""

CLOSING = 30.0
"""Seconds that running tasks have to end when the engine is closed."""

PROBES = 128
"""How many tasks try the way to the master, at most."""

SPREAD = 3.0
"""Seconds that the other nodes have to try it once one has."""

ANYWHERE = "192.0.2.1"
"""An address that is nobody's (RFC 5737): the way there is the way to other machines. Nothing is sent."""

LIGHT = Resources()
"""What a light task asks for: one CPU unit."""


class Compss(Engine):
    """Runs tasks as PyCOMPSs tasks; for use inside ``runcompss``.

    Args:
        workers: How many tasks may run at once; None for as many as ``resources.xml`` has units for.
        resources: The resources file, to know what can run; None for the one that ``runcompss`` was given.
        address: The address that workers reach the master by; None to find it.
        port: The port of the master, 0 for any.
        shared: Whether workers see the study's folder, which they then must; None to find out.
        gpu_shares: How many GPU units of the resources file are one GPU.
        grace: Seconds that a task may be silent which should have ended.
        preload: Modules that the processes of trials import when they start.
        log_directory: Where they keep what tasks print, in the study's folder; messages go through it where workers
            cannot reach the master.

    Raises:
        InputError: This is not inside ``runcompss``, the resources file is wrong, or workers cannot tell the master.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        resources: Path | str | None = None,
        address: str | None = None,
        port: int = 0,
        shared: bool | None = None,
        gpu_shares: int = 1,
        grace: float = GRACE,
        preload: Sequence[str] = (),
        log_directory: Path | None = None,
    ) -> None:
        self._runtime = _runtime()
        self._nodes = _nodes(resources)
        self._workers = workers
        self._gpu_shares = gpu_shares
        self._binds_gpus = _runtime_setting("worker.gpu_affinity") != "disabled"
        self._grace = grace
        self._token = object()
        self._numbers = itertools.count()
        self._open: dict[int, CompssFuture] = {}
        """The futures that are not over, by number."""
        self._unfetched: weakref.WeakSet[CompssFuture] = weakref.WeakSet()
        self._held: dict[int, CompssFuture] = {}
        """Those of them that wait in the master, by number."""
        self._heavy: set[int] = set()
        """The numbers of those that COMPSs has and that are not light."""
        self._inbox: list[Message] = []
        self._arrived = threading.Condition()
        self._garbage: list[Any] = []
        self._slot_died = False
        self._last_end = 0.0
        self._last_check = time.monotonic()
        self._next_look = 0.0
        self._ending = self._closed = False
        self._desk, self._office = self._listen(address, port, log_directory)
        self._site = Site(
            office=self._office,
            path=tuple(sys.path),
            directory=os.getcwd(),
            preload=tuple(preload),
            logs=None if log_directory is None else Path(log_directory).absolute(),
            gpu_shares=gpu_shares,
            gpus={node.name: node.gpu // gpu_shares for node in self._nodes or ()},
            beat=grace / 6,
            environment=tuple(forwarded_environment().items()),
        )
        try:
            self._probe(shared, log_directory)
        except BaseException:
            self._stop_listening()
            raise

    @property
    def advice(self) -> str:  # type: ignore[override]
        used = _runtime_setting("scheduler")
        if used is None or "fifo" in used:
            return ""
        return f"COMPSs's scheduler lets old trials wait for newer ones; start runcompss with  --scheduler={SCHEDULER}"

    @property
    def about(self) -> dict[str, Any]:
        logs = _runtime_path("log.dir")
        return {"event": "compss", "logs": None if logs is None else str(logs)}

    # The protocol

    def submit(
        self, function: Callable[..., Any], *args: Any, resources: Resources = Resources(), light: bool = False
    ) -> CompssFuture:
        if self._closed:
            raise RuntimeError("this engine is closed")
        asked = LIGHT if light else resources
        if self.capacity(asked) == 0:
            raise impossible(self._nodes or [], asked, self._gpu_shares)
        self._check_binding(asked)
        arguments, dependencies = detached(args, self._own)
        task = bytes(pickled_task(function, arguments, len(dependencies)))
        future = CompssFuture(self._token, next(self._numbers), asked, light, task, dependencies)
        self._reopen(future)
        if self._must_wait(future):
            future.held = True
            self._held[future.number] = future
        else:
            self._launch(future)
        return future

    def wait(self, futures: Iterable[Future], timeout: float | None = None) -> list[Future]:
        waited = [self._own(future) for future in futures]
        until = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            self._advance()
            for future in waited:
                if future.told and not future.done:
                    self._fetch(future)
            done: list[Future] = [future for future in waited if future.done]
            left = until - time.monotonic()
            if done or not waited or left <= 0:
                return done
            if self._closed:
                raise RuntimeError("this engine is closed")
            with self._arrived:
                if not self._inbox:
                    self._arrived.wait(min(left, FOLDER_INTERVAL if self._folder is not None else CHECK_INTERVAL))

    def cancel(self, future: Future) -> None:
        task = self._own(future)
        if not task.done:
            self._ask_to_end(task)
            self._settle(task, Failure.cancelled())

    def _check_binding(self, asked: Resources) -> None:
        """Refuses what would kill COMPSs's Python workers, which bind GPU units: they know but four of a node."""
        units = gpu_units(asked.gpu, self._gpu_shares)
        if not units or not self._binds_gpus:
            return
        most = max((node.gpu for node in self._nodes or ()), default=0)
        if units > 4 or (units == 1 and most > 4):
            raise InputError(
                f"COMPSs cannot bind a trial's {units} GPU units where a node has {max(most, units)}, more than four: "
                "start runcompss with --gpu_affinity=disabled, and hpcompss gives each trial its GPUs",
                key="resources.gpu",
            )

    def capacity(self, resources: Resources) -> int:
        if self._nodes is None:
            return self._workers or max(1, int(self._runtime.compss_get_number_of_resources()))
        fitting = slots(self._nodes, resources, self._gpu_shares)
        return fitting if self._workers is None else min(fitting, self._workers)

    def close(self) -> None:
        if self._closed:
            return
        self._ending = True
        failure = Failure.cancelled("the engine was closed")
        for future in in_order(self._open.values()):
            self._ask_to_end(future)
        until = time.monotonic() + CLOSING
        # Without waiting on COMPSs, which would keep the desk from telling tasks to end. Those that have not started
        # find the desk closed when they do, and end at once.
        while any(future.started is not None for future in self._open.values()) and time.monotonic() < until:
            with self._arrived:
                self._arrived.wait(FOLDER_INTERVAL)
            self._advance()
        for future in list(self._unfetched):
            if not future.done:
                self._fetch(future)
        self._closed = True
        for future in list(self._open.values()):
            self._settle(future, failure)
        self._stop_listening()

    # From submission to result

    def _own(self, future: Future) -> CompssFuture:
        if not isinstance(future, CompssFuture) or future.owner is not self._token:
            raise InputError("this future belongs to another engine: use it with the engine that it was submitted to")
        return future

    def _must_wait(self, future: CompssFuture) -> bool:
        """Returns whether a task has to wait in the master, for no more may run than `workers`."""
        if any(dependency.held for dependency in future.dependencies):
            return True
        return not future.light and self._workers is not None and len(self._heavy) >= self._workers

    def _release(self) -> None:
        """Submits what waits in the master, in its order, as far as it may run."""
        for future in list(self._held.values()):
            if not self._ending and not self._must_wait(future):
                future.held = False
                del self._held[future.number]
                self._launch(future)

    def _reopen(self, future: CompssFuture) -> None:
        """Takes a task among those that are not over."""
        self._open[future.number] = future
        future.told = False
        for dependency in future.dependencies:
            dependency.successors += 1

    def _end(self, future: CompssFuture) -> None:
        """Takes a task from those that are not over, and lets go of what only it needed."""
        if self._open.pop(future.number, None) is None:
            return
        self._held.pop(future.number, None)
        self._heavy.discard(future.number)
        future.held = False
        for dependency in future.dependencies:
            dependency.successors -= 1
            if not dependency.successors and dependency.over:
                dependency.forget()
        self._release()

    def _launch(self, future: CompssFuture) -> None:
        """Submits a task to COMPSs, anew where it was lost."""
        self._sweep()
        if not future.light:
            self._heavy.add(future.number)
        self._hand_over(future)

    def _relaunch(self, future: CompssFuture) -> None:
        future.attempt += 1
        if not future.held:
            self._launch(future)

    def _hand_over(self, future: CompssFuture, probe: bool = False) -> None:
        from hpcompss.engines.compss_tasks import SINGLE, task_of

        asked = future.resources
        future.handles = [dependency.handle for dependency in future.dependencies]
        # What the master has goes with the order: PyCOMPSs would keep each such argument for ever.
        known = {index: handle for index, handle in enumerate(future.handles) if isinstance(handle, bytes)}
        results = [handle for handle in future.handles if not isinstance(handle, bytes)]
        units = gpu_units(asked.gpu, self._gpu_shares)
        order = Order(
            self._site, future.number, future.attempt, future.task, known, asked, units, future.light, probe=probe
        )
        task = task_of(asked.cpu, units, asked.memory or 0, len(results))
        pickled = pickling.dumps(order)
        future.handle = task(pickled, results) if len(results) > SINGLE else task(pickled, *results)
        future.started = future.startable = future.gone = None
        future.submitted = time.monotonic()
        # COMPSs keeps each result on disk until it is told that nobody will ask for it; not by the finalizer, which may
        # run in any thread.
        weakref.finalize(future, self._garbage.append, future.handle)

    def _sweep(self) -> None:
        while self._garbage:
            with contextlib.suppress(Exception):
                self._runtime.compss_delete_object(self._garbage.pop())

    def _fetch(self, future: CompssFuture) -> None:
        """Takes a result that is there; where it was lost all the same, its task is tried again."""
        outcome = self._outcome(future)
        if outcome is not None:
            future.handle = outcome
            future.settle(outcome[1:])
        elif self._ending or not future.task:
            self._settle(future, Failure(FailureKind.DIED, "its result was lost: see the logs of COMPSs"))
        else:
            self._reopen(future)
            self._retry(future)

    def _outcome(self, future: CompssFuture) -> bytes | None:
        """Waits for what COMPSs has of a task, and returns it where it is an outcome."""
        try:
            outcome = self._runtime.compss_wait_on(future.handle)
        except ValueError:  # PyCOMPSs reads the empty file of a task whose process was killed
            return None
        return outcome if isinstance(outcome, bytes) and outcome[:1] == VALUE else None

    def _settle(self, future: CompssFuture, failure: Failure) -> None:
        """Gives a task a failure for its result, which its successors take, too, where they are submitted later."""
        pickled = pickling.dumps(failure)
        future.handle = VALUE + pickled
        self._end(future)
        future.settle(pickled)

    def _ask_to_end(self, future: CompssFuture) -> None:
        self._desk.tell(future.number, future.attempt, {"cancel": True})
        if self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / f"{future.number}.cancel").touch()

    # What tasks tell

    def _heard(self, message: Message) -> Message | None:
        """Takes a message, in the desk's thread."""
        with self._arrived:
            self._inbox.append(message)
            self._arrived.notify_all()
        future = self._open.get(message["task"])
        # An attempt that was given up for lost may start all the same, when its node is back.
        unwanted = self._ending or future is None or message["attempt"] != future.attempt
        answered = message["event"] == "start" or (unwanted and message["event"] not in ("done", "gone"))
        return {"cancel": unwanted} if answered else None

    def _advance(self) -> None:
        """Handles what tasks have told, and looks for those that cannot."""
        now = time.monotonic()
        with self._arrived:
            news, self._inbox = self._inbox, []
        if self._folder is not None and now >= self._next_look:
            self._next_look = now + FOLDER_INTERVAL
            news += collect(self._office)
        lost: list[tuple[CompssFuture, list[int]]] = []
        for message in news:
            future = self._open.get(message["task"])
            if future is None or message["attempt"] != future.attempt:
                continue
            if message["event"] == "gone":
                future.gone = now
            elif message["event"] == "done" and message.get("lost") and not self._ending:
                lost.append((future, message["lost"]))
            else:
                self._take(future, message, now)
        for future, missing in sorted(lost, key=lambda pair: pair[0].number):
            self._rebuild(future, missing)
        if now - self._last_check >= CHECK_INTERVAL and not self._ending:
            self._look_for_lost(now)

    def _take(self, future: CompssFuture, message: Message, now: float) -> None:
        future.heard, future.gone = now, None
        if future.started is None:
            future.started = now
        future.place = str(message.get("place", future.place))
        if message["event"] == "start":
            future.started = now
            future.node = str(message.get("node", ""))
        elif message["event"] == "progress":
            future.progress = message["values"]
        elif message["event"] == "done":
            future.told = True
            self._last_end = now
            self._unfetched.add(future)
            self._end(future)

    # What cannot tell

    def _look_for_lost(self, now: float) -> None:
        held_up, self._last_check = now - self._last_check > max(self._grace / 2, 3 * CHECK_INTERVAL), now
        if held_up:
            # It was the master that heard nothing: it was stopped, or waited for COMPSs.
            for future in self._open.values():
                future.heard = future.submitted = now
                future.startable = future.gone = None
            return
        running = [future for future in self._open.values() if future.started is not None]
        for future in in_order(running):
            if future.number not in self._open or future.started is None:
                continue  # what it takes was lost, and it has just been submitted anew
            limit = future.resources.time_limit
            is_gone = future.gone is not None and now - future.gone > min(self._grace, REVIVAL)
            is_silent = is_gone or now - future.heard > self._grace
            is_late = limit is not None and now - future.started > limit + (0 if is_silent else self._grace)
            if is_late:
                reason = f"ran past its limit of {limit:g} s and was not heard of for {now - future.heard:.0f} s"
                if not is_silent:
                    reason = f"ran past its limit of {limit:g} s and could not be ended"
                self._replace(future, Failure(FailureKind.TIME_LIMIT, reason))
            elif is_silent:
                self._retry(future)
        self._look_for_unstarted(now)

    def _look_for_unstarted(self, now: float) -> None:
        """Submits anew what COMPSs should have started: the slot of a killed process takes a task and says nothing."""
        running = [future for future in self._open.values() if future.started is not None]
        room = Room(self._nodes, running, self._gpu_shares, self.capacity(LIGHT))
        for future in in_order(self._open.values()):
            is_ready = future.started is None and all(each.over for each in future.dependencies)
            if future.held or not is_ready or not room.claim(future.resources):
                future.startable = None
                continue
            # COMPSs starts what is ready where there is room, so the first ones do not wait.
            since = future.startable = now if future.startable is None else future.startable
            # A slot that has just been left may be a sound one.
            patience = SUSPICION if self._last_end > future.submitted else max(future.patience, SUSPICION)
            if now - max(since, future.submitted) > (patience if self._slot_died else min(self._grace, LATE)):
                self._start_anew(future, is_alone=not running)

    def _start_anew(self, future: CompssFuture, is_alone: bool) -> None:
        self._slot_died = True
        future.patience = min(2 * max(future.patience, SUSPICION), max(self._grace, SUSPICION))
        future.unstarted += is_alone
        self._try_again(future, future.unstarted < UNSTARTED, f"it did not start in {UNSTARTED} attempts")

    def _retry(self, future: CompssFuture) -> None:
        """Submits a task again whose process or node was lost, and all that wait for its result; or gives it up."""
        self._slot_died = True
        future.deaths += 1
        self._try_again(future, future.deaths < DEATHS, f"its process or its node was lost {DEATHS} times")

    def _try_again(self, future: CompssFuture, may_be_tried: bool, reason: str) -> None:
        if may_be_tried:
            self._relaunch(future)
            self._relaunch_successors(future)
        else:
            self._replace(future, Failure(FailureKind.DIED, f"{reason}: see the logs of COMPSs"))

    def _replace(self, future: CompssFuture, failure: Failure) -> None:
        """Gives a task that COMPSs may never end a failure for its result, and submits all that wait for it anew."""
        self._settle(future, failure)
        self._relaunch_successors(future)

    def _relaunch_successors(self, future: CompssFuture) -> None:
        stale = {future.number}
        for other in in_order(self._open.values()):
            if any(dependency.number in stale for dependency in other.dependencies):
                stale.add(other.number)
                self._relaunch(other)

    def _rebuild(self, future: CompssFuture, missing: list[int]) -> None:
        """Deals with a task that found some of its arguments lost: they are submitted again, and so it is."""
        attempt = future.attempt
        passed = [index for index, handle in enumerate(future.handles) if not isinstance(handle, bytes)]
        for dependency in [future.dependencies[passed[index]] for index in missing]:
            if dependency.done or future.attempt != attempt:
                continue
            if dependency.told and not dependency.task:
                reason = "its result was lost with its node: see the logs of COMPSs"
                self._replace(dependency, Failure(FailureKind.DIED, reason))
            elif dependency.told:
                self._reopen(dependency)
                self._retry(dependency)
            elif dependency.started is not None:
                self._retry(dependency)
            else:
                # It never told, and what it left is nothing: a dead slot took it.
                self._start_anew(dependency, is_alone=False)
        if future.attempt == attempt:
            self._relaunch(future)

    # The way to the master

    def _listen(self, address: str | None, port: int, logs: Path | None) -> tuple[Desk, Office]:
        secret = secrets.token_bytes(32)
        found = address or local_address(_other_hosts(self._nodes))
        try:
            desk = Desk(found, port, secret, self._heard)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
            raise InputError(
                f"the master cannot listen on {found}:{port} ({reason}): state an address of this machine that workers "
                "reach, and a free port or none",
                key="engine.address",
            ) from None
        self._folder = _message_folder(logs)
        return desk, Office(desk.address, desk.port, self._folder, secret)

    def _stop_listening(self) -> None:
        self._desk.close()
        if self._folder is not None:
            for path in self._folder.glob("*"):
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self._folder.rmdir()

    def _probe(self, shared: bool | None, logs: Path | None) -> None:
        """Has tasks on all nodes try the way to the master, before any trial depends on it."""
        count = 1 if self._nodes is None else min(PROBES, slots(self._nodes, LIGHT))
        probes = [CompssFuture(self._token, next(self._numbers), LIGHT, True, b"", ()) for _ in range(max(1, count))]
        for probe in probes:
            self._open[probe.number] = probe
            self._hand_over(probe, probe=True)
        first_told = self._until(lambda: any(probe.told for probe in probes), self._grace)
        if first_told:
            names = {node.name for node in self._nodes or ()}
            self._until(lambda: names <= {probe.node for probe in probes if probe.told}, SPREAD)
        for probe in probes:
            self._open.pop(probe.number, None)
        # Not by waiting on COMPSs before: that would stop the desk, too.
        outcomes = [self._outcome(probe) for probe in probes if probe.told or (probe is probes[0] and not first_told)]
        findings = [pickle.loads(outcome[1:]) for outcome in outcomes if outcome is not None]
        if not findings:
            raise HpcompssError(
                "a first task on a worker of COMPSs failed: hpcompss must be installed for the workers' Python "
                "(hpcompss doctor --engine compss looks into it; COMPSs' own logs are in ~/.COMPSs)"
            )
        self._judge(findings, shared, logs)

    def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Handles what tasks tell until a condition holds or the time is up; returns whether it holds."""
        until = time.monotonic() + seconds
        while not condition() and time.monotonic() < until:
            with self._arrived:
                self._arrived.wait(FOLDER_INTERVAL)
            self._last_check = time.monotonic()  # a probe that is lost is not tried again
            self._advance()
        return condition()

    def _judge(self, findings: Sequence[dict[str, Any]], shared: bool | None, logs: Path | None) -> None:
        """Decides how tasks tell the master. Raises `InputError` where those of a node cannot."""
        blind = [each["node"] for each in findings if not each["shared"]]
        unreached = [each for each in findings if not each["reached"]]
        self.shares_files = not blind or logs is None
        if blind and shared:
            raise InputError(
                f"workers on {blind[0]} do not see the study's folder {logs and logs.parent}, although the workflow "
                "says that it is shared: put it on a file system that all nodes mount (--study), or leave "
                "engine.shared out",
                key="engine.shared",
            )
        if unreached and blind:
            raise InputError(
                f"workers on {unreached[0]['node']} cannot reach the master ({unreached[0]['problem']}), and not all "
                "see the study's folder: state an address that they reach (engine.address), or put the study on a "
                "file system that all nodes mount",
                key="engine.address",
            )
        if len(unreached) == len(findings):
            self._office = replace(self._office, address=None)
        if not unreached and not shared:
            self._drop_folder()
        self._site = replace(self._site, office=replace(self._office, folder=self._folder))

    def _drop_folder(self) -> None:
        """Goes on without message files."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._folder.rmdir()
        self._folder = None


def _runtime() -> Any:
    """Returns PyCOMPSs' functions. Raises `InputError` outside ``runcompss``."""
    try:
        from pycompss.api import api
    except ImportError:
        raise InputError(
            "PyCOMPSs is not installed for this Python: install COMPSs and start this with runcompss, or use  "
            "--engine local",
            key="engine.name",
        ) from None
    if not inside_compss():
        raise InputError(
            "the engine compss runs inside COMPSs: start it as  runcompss hpcompss/main.py run WORKFLOW, or use  "
            "--engine local",
            key="engine.name",
        )
    return api


def _nodes(stated: Path | str | None) -> list[Node] | None:
    """Returns the nodes of the run, or None where they are not known, as on an agent that others will join or a cloud.

    A resources file that is stated counts whole; of the one that ``runcompss`` was given, what its project file uses.
    """
    if stated is not None:
        return read_resources(Path(stated))
    resources, project = _runtime_path("resources.file"), _runtime_path("project.file")
    if resources is None:
        return None
    nodes = read_resources(resources)
    # An agent's files name no other node: those join it later.
    return (nodes if project is None else read_project(project, nodes)) or None


def _runtime_path(setting: str) -> Path | None:
    """Returns a path that ``runcompss`` was given."""
    stated = _runtime_setting(setting)
    return Path(stated) if stated else None


def _runtime_setting(setting: str) -> str | None:
    """Returns what ``runcompss`` was given for a setting, which only the options of COMPSs's JVM tell."""
    options = os.environ.get("JVM_OPTIONS_FILE")
    if options is None:
        return None
    prefix = f"-Dcompss.{setting}="
    with contextlib.suppress(OSError):
        for line in Path(options).read_text().splitlines():
            if line.startswith(prefix):
                return line.removeprefix(prefix).strip()
    return None


def _other_hosts(nodes: list[Node] | None) -> list[str]:
    """Returns the nodes that the master must be reached from; where they are not known, any address outside."""
    return [ANYWHERE] if nodes is None else [node.name for node in nodes]


def _message_folder(logs: Path | None) -> Path | None:
    """Makes the folder for message files in a study's, where there is one."""
    if logs is None:
        return None
    made = Path(logs).absolute() / f".messages-{secrets.token_hex(4)}"
    try:
        made.mkdir(parents=True, mode=0o700)
    except OSError:
        return None
    return made
