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
from pathlib import Path
from typing import Any

from hpcompss.cluster.nodes import Node, gpu_units, impossible, slots
from hpcompss.cluster.resources import read_project, read_resources
from hpcompss.engines import inside_compss, pickling
from hpcompss.engines.base import Engine, Future
from hpcompss.engines.compss_worker import VALUE, Order, Site
from hpcompss.engines.future import PickledFuture, detached
from hpcompss.engines.local_task import pickled_task
from hpcompss.engines.messages import Desk, Message, Office, collect, local_address
from hpcompss.errors import HpcompssError, InputError
from hpcompss.trial import Failure, FailureKind, Resources

__all__ = ["Compss"]

DEATHS = 3
"""How often a task is tried whose process or node is lost each time."""

UNSTARTED = 20
"""How often a task is tried that does not start: the slot of a dead process takes task after task and runs none."""

SUSPICION = 5.0
"""Seconds that a task may be late to start once a process is known to have died."""

GRACE = 60.0
"""Seconds that a task may be silent which should have ended or started, or whose line to the master broke."""

CHECK_INTERVAL = 1.0
"""Seconds between two looks for tasks that are lost."""

FOLDER_INTERVAL = 0.2
"""Seconds between two looks at the shared folder."""

CLOSING = 30.0
"""Seconds that cancelled tasks have to end when the engine is closed."""

LIGHT = Resources()
"""What a light task asks for: one CPU unit."""


class CompssFuture(PickledFuture):
    """A task of the COMPSs engine. Its attributes are the engine's to set.

    Attributes:
        owner: Identifies the engine.
        number: Its place in the order of submission.
        resources: What it asks for.
        light: Whether it is a light one.
        handle: What PyCOMPSs returned for it, or its outcome where that is known without COMPSs.
        attempt: How often it was submitted before.
        told: Whether the task has told that its result is there; it is fetched when somebody waits for it.
        deaths: How often its process or node was lost.
        submitted: When it was last submitted (`time.monotonic` seconds).
        silent_since: When its line to the master broke (`time.monotonic` seconds), or None.
    """

    def __init__(
        self,
        owner: object,
        number: int,
        resources: Resources,
        light: bool,
        task: bytes,
        dependencies: Sequence[CompssFuture],
    ) -> None:
        super().__init__()
        self.owner = owner
        self.number = number
        self.resources = resources
        self.light = light
        self.handle: Any = None
        self.attempt = 0
        self.deaths = 0
        self.told = False
        self.submitted = 0.0
        self.silent_since: float | None = None
        self.task = task
        self.dependencies = dependencies
        self.handles: list[Any] = []

    @property
    def over(self) -> bool:
        """Whether it needs nothing more of the engine: its result is known, or surely there."""
        return self.done or self.told

    def settle(self, pickled: bytes) -> None:
        """Takes the pickled result."""
        self._pickled = pickled
        self.done = True
        self.forget()

    def forget(self) -> None:
        """Lets go of what only another attempt would need."""
        self.task = b""
        self.dependencies = ()
        self.handles = []


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
        self._grace = grace
        self._token = object()
        self._numbers = itertools.count()
        self._open: dict[int, CompssFuture] = {}
        """The futures that are not over, by number."""
        self._unfetched: weakref.WeakSet[CompssFuture] = weakref.WeakSet()
        self._inbox: list[Message] = []
        self._arrived = threading.Condition()
        self._cancelled: set[int] = set()
        self._garbage: list[Any] = []
        self._last_news = time.monotonic()
        self._slot_died = False
        self._next_check = self._next_look = 0.0
        self._closed = False
        self._folder = _message_folder(log_directory)
        self._desk, self._office = self._listen(address, port)
        self._site = Site(
            office=self._office,
            path=tuple(sys.path),
            directory=os.getcwd(),
            preload=tuple(preload),
            logs=None if log_directory is None else Path(log_directory).absolute(),
            gpu_shares=gpu_shares,
        )
        try:
            self._probe(shared, log_directory)
        except BaseException:
            self._stop_listening()
            raise

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
        arguments, dependencies = detached(args, self._own)
        task = bytes(pickled_task(function, arguments, len(dependencies)))
        future = CompssFuture(self._token, next(self._numbers), asked, light, task, dependencies)
        self._open[future.number] = future
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

    def capacity(self, resources: Resources) -> int:
        if self._nodes is None:
            return self._workers or max(1, int(self._runtime.compss_get_number_of_resources()))
        fitting = slots(self._nodes, resources, self._gpu_shares)
        return fitting if self._workers is None else min(fitting, self._workers)

    def close(self) -> None:
        if self._closed:
            return
        for future in sorted(self._open.values(), key=_number):
            self._ask_to_end(future)
        until = time.monotonic() + CLOSING
        # Without waiting on COMPSs, which would keep the desk from telling tasks to end.
        while any(not future.over for future in self._open.values()) and time.monotonic() < until:
            with self._arrived:
                self._arrived.wait(FOLDER_INTERVAL)
            self._advance(retrying=False)
        for future in list(self._unfetched):
            if not future.done:
                self._fetch(future)
        self._closed = True
        failure = Failure.cancelled("the engine was closed")
        for future in list(self._open.values()):
            self._settle(future, failure)
        self._stop_listening()

    # From submission to result

    def _own(self, future: Future) -> CompssFuture:
        if not isinstance(future, CompssFuture) or future.owner is not self._token:
            raise InputError("this future belongs to another engine: use it with the engine that it was submitted to")
        return future

    def _launch(self, future: CompssFuture) -> None:
        """Submits a task to COMPSs, anew where it was lost."""
        self._sweep()
        order = Order(self._site, future.number, future.attempt, future.task, future.resources, future.light)
        self._hand_over(future, order)

    def _hand_over(self, future: CompssFuture, order: Order) -> None:
        from hpcompss.engines.compss_tasks import task_of

        asked, results = order.resources, [dependency.handle for dependency in future.dependencies]
        future.handles = results
        units = gpu_units(asked.gpu, self._gpu_shares) if asked.gpu else 0
        task = task_of(asked.cpu, units, asked.memory or 0, bool(results))
        pickled = pickling.dumps(order)
        future.handle = task(pickled, results) if results else task(pickled)
        future.started = future.silent_since = None
        future.submitted = time.monotonic()
        # COMPSs keeps each result on disk until it is told that nobody will ask for it; not by the finalizer, which may
        # run in any thread.
        weakref.finalize(future, self._garbage.append, future.handle)

    def _sweep(self) -> None:
        while self._garbage:
            with contextlib.suppress(Exception):
                self._runtime.compss_delete_object(self._garbage.pop())

    def _fetch(self, future: CompssFuture) -> None:
        """Takes a result that is there."""
        try:
            outcome = self._runtime.compss_wait_on(future.handle)
        except ValueError:  # PyCOMPSs reads the empty file of a task whose process was killed
            outcome = None
        if isinstance(outcome, bytes) and outcome[:1] == VALUE:
            future.handle = outcome
            future.settle(outcome[1:])
        else:
            self._settle(future, Failure(FailureKind.DIED, "its result was lost: see the logs of COMPSs"))

    def _settle(self, future: CompssFuture, failure: Failure) -> None:
        """Gives a task a failure for its result, which its successors take, too, where they are submitted later."""
        pickled = pickling.dumps(failure)
        future.settle(pickled)
        self._open.pop(future.number, None)

    def _ask_to_end(self, future: CompssFuture) -> None:
        self._cancelled.add(future.number)
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
        if message["event"] != "start":
            return None
        number, future = message["task"], self._open.get(message["task"])
        # An attempt that was given up for lost may start all the same, when its node is back.
        stale = future is None or message["attempt"] != future.attempt
        return {"cancel": stale or number in self._cancelled}

    def _advance(self, retrying: bool = True) -> None:
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
            self._last_news = now
            if message["event"] == "done" and message.get("lost"):
                lost.append((future, message["lost"]))
            else:
                self._take(future, message, now)
        if retrying:
            for future, missing in sorted(lost, key=lambda pair: pair[0].number):
                self._rebuild(future, missing)
            if now >= self._next_check:
                self._next_check = now + CHECK_INTERVAL
                self._look_for_lost(now)
        else:
            for future, _ in lost:
                future.told = True

    def _take(self, future: CompssFuture, message: Message, now: float) -> None:
        if message["event"] == "start":
            future.started, future.silent_since, future.place = now, None, str(message.get("place", ""))
        elif message["event"] == "progress":
            future.progress = message["values"]
        elif message["event"] == "gone":
            future.silent_since = now
        elif message["event"] == "done":
            future.told = True
            future.started = now if future.started is None else future.started
            future.silent_since = None
            future.forget()
            self._unfetched.add(future)
            del self._open[future.number]

    # What cannot tell

    def _look_for_lost(self, now: float) -> None:
        running = [future for future in self._open.values() if future.started is not None]
        for future in running:
            if future.number not in self._open or future.started is None:
                continue  # what it takes was lost, and it has just been submitted anew
            limit = future.resources.time_limit
            if future.silent_since is not None and now - future.silent_since > self._grace:
                self._retry(future)
            elif limit is not None and now - future.started > limit + self._grace:
                reason = f"ran past its limit of {limit:g} s and was not heard of for {self._grace:g} s more"
                self._replace(future, Failure(FailureKind.TIME_LIMIT, reason))
        patience = min(self._grace, SUSPICION) if self._slot_died else self._grace
        for future in sorted(self._open.values(), key=_number):
            # COMPSs starts what is ready at once where there is room; a slot whose process was killed says nothing.
            silence = now - max(self._last_news, future.submitted)
            is_ready = future.started is None and all(each.over for each in future.dependencies)
            if is_ready and silence > patience and len(running) < self.capacity(future.resources):
                self._retry(future)

    def _retry(self, future: CompssFuture) -> None:
        """Submits a lost task again, and all that wait for its result; or gives it up."""
        self._slot_died = True
        future.deaths += future.started is not None
        future.attempt += 1
        if future.deaths < DEATHS and future.attempt < UNSTARTED:
            self._launch(future)
            self._relaunch_successors(future)
            return
        what = f"was lost {DEATHS} times" if future.deaths == DEATHS else f"did not start in {UNSTARTED} attempts"
        reason = f"its process or its node {what}: see the logs of COMPSs"
        self._replace(future, Failure(FailureKind.DIED, reason))

    def _replace(self, future: CompssFuture, failure: Failure) -> None:
        """Gives a task that COMPSs may never end a failure for its result, and submits all that wait for it anew."""
        future.handle = VALUE + pickling.dumps(failure)
        self._settle(future, failure)
        self._relaunch_successors(future)

    def _relaunch_successors(self, future: CompssFuture) -> None:
        stale = {future.number}
        for other in sorted(self._open.values(), key=_number):
            if any(dependency.number in stale for dependency in other.dependencies):
                stale.add(other.number)
                other.attempt += 1
                self._launch(other)

    def _rebuild(self, future: CompssFuture, missing: list[int]) -> None:
        """Deals with a task that found some of its arguments lost: they are submitted again, and so it is."""
        lost = [future.dependencies[index] for index in missing]
        open_ones = [dependency for dependency in lost if dependency.number in self._open]
        if open_ones:
            # It never told, and what it left is nothing: its process is dead.
            for dependency in open_ones:
                if future.handles[future.dependencies.index(dependency)] is dependency.handle:
                    self._retry(dependency)
        else:
            reason = "a result that it takes was lost with its node: see the logs of COMPSs"
            self._replace(future, Failure(FailureKind.DIED, reason))

    # The way to the master

    def _listen(self, address: str | None, port: int) -> tuple[Desk, Office]:
        secret = secrets.token_bytes(32)
        found = address or local_address(_other_host(self._nodes))
        try:
            desk = Desk(found, port, secret, self._heard)
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(
                f"the master cannot listen on {found}:{port} ({reason}): state an address of this machine that workers "
                "reach, and a free port or none",
                key="engine.address",
            ) from None
        return desk, Office(desk.address, desk.port, self._folder, secret)

    def _stop_listening(self) -> None:
        self._desk.close()
        if self._folder is not None:
            for path in self._folder.glob("*"):
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self._folder.rmdir()

    def _probe(self, shared: bool | None, logs: Path | None) -> None:
        """Has a task try the way to the master, before any trial depends on it."""
        future = CompssFuture(self._token, next(self._numbers), LIGHT, True, b"", ())
        self._hand_over(future, Order(self._site, future.number, 0, b"", LIGHT, light=True, probe=True))
        # Not by waiting on COMPSs at once: that would stop the desk, too.
        until = time.monotonic() + self._grace
        while not future.told and time.monotonic() < until:
            with self._arrived:
                self._arrived.wait(FOLDER_INTERVAL)
            self._open[future.number] = future
            self._advance(retrying=False)
        self._open.pop(future.number, None)
        try:
            outcome = self._runtime.compss_wait_on(future.handle)
        except ValueError:
            outcome = None
        if not isinstance(outcome, bytes):
            raise HpcompssError(
                "a first task on a worker of COMPSs failed: hpcompss must be installed for the workers' Python "
                "(hpcompss doctor --engine compss looks into it; COMPSs' own logs are in ~/.COMPSs)"
            )
        found = pickle.loads(outcome[1:])
        self.shares_files = found["shared"] or logs is None
        if not found["shared"]:
            if shared:
                raise InputError(
                    f"workers do not see the study's folder {logs and logs.parent}, although the workflow says that it "
                    "is shared: put it on a file system that all nodes mount (--study), or leave engine.shared out",
                    key="engine.shared",
                )
            self._drop_folder()
        if not found["reached"] and not found["shared"]:
            raise InputError(
                f"workers cannot reach the master ({found['problem']}) and do not see the study's folder: state an "
                "address that they reach (engine.address), or put the study on a file system that all nodes mount",
                key="engine.address",
            )
        if found["reached"] and not shared:
            self._drop_folder()

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
    return nodes if project is None else read_project(project, nodes)


def _runtime_path(setting: str) -> Path | None:
    """Returns a path that ``runcompss`` was given, which only the options of COMPSs's JVM tell."""
    options = os.environ.get("JVM_OPTIONS_FILE")
    if options is None:
        return None
    prefix = f"-Dcompss.{setting}="
    with contextlib.suppress(OSError):
        for line in Path(options).read_text().splitlines():
            if line.startswith(prefix):
                return Path(line.removeprefix(prefix).strip())
    return None


def _other_host(nodes: list[Node] | None) -> str | None:
    names = [node.name for node in nodes or () if node.name not in ("localhost", "127.0.0.1")]
    return names[0] if names else None


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


def _number(future: CompssFuture) -> int:
    return future.number
