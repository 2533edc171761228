"""What the engines share that run tasks as those of another framework: which worker has which, and what if it dies.

The master keeps all results and says which worker gets a task, and which GPUs there; the framework starts workers,
carries tasks and outcomes, and tells who joins and who leaves. So tasks start in the order of their submission, no
worker is asked for more than it has, and no result is lost with a worker: what ran there is tried elsewhere.
"""

from __future__ import annotations

import abc
import contextlib
import heapq
import math
import os
import pickle
import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcompss import __version__
from hpcompss.engines import pickling
from hpcompss.engines.base import Future
from hpcompss.engines.future import detached
from hpcompss.engines.hosts import Held, Host, capacity, place, refusal
from hpcompss.engines.local import Local
from hpcompss.engines.local_process import forwarded_environment
from hpcompss.engines.local_task import LocalFuture, pickled_task
from hpcompss.engines.placement import place_of
from hpcompss.engines.queued import Queued, QueuedFuture
from hpcompss.engines.remote_worker import Channel, Facts, Order, Outcome, Piece, Site
from hpcompss.errors import InputError
from hpcompss.trial import Failure, FailureKind, Resources

__all__ = ["Parcel", "Placed", "PlacedFuture"]

HASTE = 0.05
"""Seconds that short tasks may take which are sent to a worker together."""

MOST_TOGETHER = 64
"""How many are sent together at most."""

DEATHS = 3
"""How often a task is tried whose worker is lost each time."""

GRACE = 60.0
"""Seconds that a running task may be silent."""

CHECK_INTERVAL = 0.25
"""Seconds between two looks for workers that join or leave, and for tasks that are lost."""

LIGHT_TURN = 0.01
"""Seconds between two looks at what runs in the master's own process and at what workers say."""

ALONE = 10.0
"""Seconds that tasks wait without any worker before the user is told."""

ENDING = 0.5
"""Seconds for a cancelled task's process to end."""

SILENCE = 2.0
"""Seconds before the user is told that there is no worker yet."""


class PlacedFuture(QueuedFuture):
    """A task of such an engine. Its attributes are the engine's to set.

    Attributes:
        light: Whether it is a light one.
        name: What its function is called.
        kind: What is alike in tasks that take about as long.
        attempt: How often it was sent before.
        deaths: How often its worker was lost.
        alone: Whether it is not sent together with others, for they were lost that it was sent with before.
        parcel: What it is sent in, while it is with a worker.
        local: The task in the master's own process that stands for it, where it is light.
    """

    light = False
    name = ""
    kind: Hashable = None
    attempt = 0
    deaths = 0
    alone = False
    parcel: Parcel | None = None
    local: LocalFuture | None = None

    def forget(self) -> None:
        super().forget()
        self.parcel = self.local = None


@dataclass(eq=False)
class Parcel:
    """Tasks that a worker has, which runs them one after the other: one, or several that are short.

    Attributes:
        futures: The tasks.
        held: What they hold there.
        sent: When it was sent (`time.monotonic` seconds).
        handle: What the framework knows it by.
        heard: When it was last heard of, or None before one of its tasks said anything.
        running: The task that did so.
        names: Each task's number, and how often it was sent before.
    """

    futures: Sequence[PlacedFuture]
    held: Held
    sent: float
    handle: Any = None
    heard: float | None = None
    running: PlacedFuture | None = None

    def __post_init__(self) -> None:
        self.names = [(future.number, future.attempt) for future in self.futures]

    @property
    def name(self) -> tuple[int, int]:
        """What tells it from others: the number of its first task, and how often that was sent before."""
        return self.names[0]

    @property
    def open(self) -> list[PlacedFuture]:
        """The tasks whose outcomes are still awaited from it."""
        return [future for future in self.futures if future.parcel is self]

    @property
    def place(self) -> str:
        """Where it is."""
        return place_of(self.held.host.name, self.held.gpus)


class Placed(Queued[PlacedFuture]):
    """An engine whose master says where each task runs. A subclass joins it to a framework.

    A subclass makes its channel, calls `_open` with it, and then `_join` and `_part` as workers come and go, from any
    thread; it gives `_send`, `_recall` and `_stop`.

    Args:
        workers: How many tasks may run at once; None for as many as fit.
        grace: Seconds that a running task may be silent before its worker counts as lost.
        preload: Modules that the processes of trials import when they start.
        log_directory: Where they keep what tasks print, in the study's folder, where workers see that.
        shared: Whether workers see the study's folder.
        wait_for_workers: Whether a task that no worker can run waits for one that can, in place of being refused.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        grace: float = GRACE,
        preload: Sequence[str] = (),
        log_directory: Path | None = None,
        shared: bool = False,
        wait_for_workers: bool = False,
    ) -> None:
        if workers is not None and workers < 1:
            raise InputError(f"workers must be at least 1, not {workers}", key="engine.workers")
        super().__init__(PlacedFuture, secrets.token_hex(8))
        self.shares_files = shared
        self._workers = workers
        self._grace = grace
        self._preload = tuple(preload)
        self._logs = None if log_directory is None or not shared else Path(log_directory).absolute()
        self._waits = wait_for_workers
        self._hosts: dict[str, Host] = {}
        self._seen: dict[str, Host] = {}
        """All workers that ever were there, for what is too large for them now may have fitted one that left."""
        self._capacities: dict[Resources, int] = {}
        self._running: dict[int, PlacedFuture] = {}
        self._parcels: dict[tuple[int, int], Parcel] = {}
        self._lengths: dict[Hashable, float] = {}
        """How many seconds the longest task of a kind took lately: each further one halves what is remembered."""
        self._ending: list[tuple[float, Held]] = []
        """What cancelled tasks held, and until when it is not given to others: their processes take a moment to end."""
        self._light: dict[LocalFuture, PlacedFuture] = {}
        self._inbox: deque[Callable[[], None]] = deque()
        self._arrived = threading.Condition()
        self._next_check = 0.0
        self._alone_since: float | None = None
        """Since when tasks wait although there is no worker at all; infinite once that was told."""
        self._site: bytes | None = None
        self._local: Local | None = None

    # For the subclass

    def _open(self, channel: Channel, environment: Mapping[str, str] | None = None) -> None:
        """Says how tasks reach the master, and what variables their processes have."""
        site = Site(
            token=self._token,
            channel=channel,
            path=tuple(sys.path),
            directory=os.getcwd(),
            preload=self._preload,
            logs=self._logs,
            environment=tuple({**forwarded_environment(), **(environment or {})}.items()),
            beat=self._grace / 6,
        )
        self._site = pickling.dumps(site)

    def _join(self, host: Host) -> None:
        """Takes a worker that has joined, or that has other resources now."""
        self._later(lambda: self._admit(host))

    def _part(self, key: str, reason: str, deadly: bool = True) -> None:
        """Takes that a worker is gone, or takes no task any more.

        Args:
            key: The worker's.
            reason: How it went, for people.
            deadly: Whether what runs there is lost, and may be why.
        """
        self._later(lambda: self._dismiss(key, reason, deadly))

    def _over(self, number: int, attempt: int, outcome: bytes | str) -> None:
        """Takes what `remote_worker.run` returned for a parcel, or why it did not, its worker being lost."""
        self._later(lambda: self._take(number, attempt, outcome))

    def _news(self, number: int, attempt: int, progress: Mapping[str, float] | None) -> None:
        """Takes what a running task published, or None where it only goes on."""
        self._later(lambda: self._hear(number, attempt, progress))

    def _later(self, event: Callable[[], None]) -> None:
        with self._arrived:
            self._inbox.append(event)
            self._arrived.notify()

    @abc.abstractmethod
    def _send(self, parcel: Parcel, order: bytes, results: list[list[bytes]]) -> Any:
        """Has a worker `remote_worker.run` a parcel; returns its handle. `_over` is called when it has."""

    @abc.abstractmethod
    def _recall(self, parcel: Parcel) -> None:
        """Has the worker end a parcel, whose outcome is of no interest any more."""

    @abc.abstractmethod
    def _stop(self) -> None:
        """Leaves the framework; nothing runs any more."""

    def _growth(self, resources: Resources) -> int:
        """Returns how many tasks more could run on workers that come when tasks wait."""
        return 0

    def _check(self) -> None:
        """Called now and then while the master waits."""

    @staticmethod
    def _mismatch(facts: Facts) -> str:
        """Returns why a worker cannot work for this master, or nothing."""
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        there = ".".join(facts.python.split(".")[:2])
        if (facts.hpcompss, there) == (__version__, here):
            return ""
        return (
            f"it has hpcompss {facts.hpcompss} on Python {there}, this master hpcompss {__version__} on Python {here}"
        )

    # The protocol

    def submit(
        self, function: Callable[..., Any], *args: Any, resources: Resources = Resources(), light: bool = False
    ) -> PlacedFuture:
        if self._closed:
            raise RuntimeError("this engine is closed")
        if not light and self.capacity(resources) == 0:
            raise refusal(self._seen.values(), resources)
        arguments, dependencies = detached(args, self._own)
        task = pickled_task(function, arguments, len(dependencies))
        future = PlacedFuture(self._token, next(self._numbers), resources, task, dependencies)
        future.light, future.name = light, getattr(function, "__name__", "task")
        future.kind = (getattr(function, "__module__", ""), getattr(function, "__qualname__", ""), resources)
        if self._accept(future):
            self._dispatch()
        return future

    def wait(self, futures: Iterable[Future], timeout: float | None = None) -> list[Future]:
        waited = [self._own(future) for future in futures]
        until = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            if not self._closed:
                self._advance()
            done: list[Future] = [future for future in waited if future.done]
            left = until - time.monotonic()
            if done or not waited or left <= 0:
                return done
            if self._closed:
                raise RuntimeError("this engine is closed")
            with self._arrived:
                if not self._inbox:
                    self._arrived.wait(min(left, LIGHT_TURN if self._light else CHECK_INTERVAL))

    def cancel(self, future: Future) -> None:
        task = self._own(future)
        if not task.done:
            self._withdraw(task)
            self._finish(task, pickle.dumps(Failure.cancelled()))
            self._dispatch()

    def capacity(self, resources: Resources) -> int:
        self._settle_inbox()
        known = self._slots(resources) + self._growth(resources)
        if known == 0 and (self._waits or capacity(list(self._seen.values()), resources)):
            known = 1  # a worker that can will come, or come back
        return known if self._workers is None else min(known, self._workers)

    def close(self) -> None:
        if self._closed:
            return
        self._settle_inbox()
        self._closed = True
        failure = pickle.dumps(Failure.cancelled("the engine was closed"))
        left = sorted((*self._running.values(), *self._light.values()), key=lambda future: future.number)
        for future in left:
            self._withdraw(future)
        if self._local is not None:
            self._local.close()
        self._stop()
        for future in left:
            self._finish(future, failure)
        self._finish_queue(failure)

    def await_workers(self) -> None:
        told = False
        begun = time.monotonic()
        while not self._seen and not self._growth(Resources()) and not self._closed:
            self._advance()
            if not told and time.monotonic() - begun > SILENCE:
                told = True
                self.tell(self.invitation)
            with self._arrived:
                if not self._inbox:
                    self._arrived.wait(CHECK_INTERVAL)

    @property
    def invitation(self) -> str:
        """How workers come, for one who waits for the first."""
        return "waiting for the first worker"

    # From submission to result

    def _dispatch(self) -> None:
        """Sends tasks in the order of the queue; one that must wait for room is not overtaken."""
        while self._queue and not self._closed:
            future = self._queue[0][1]
            if future.done:
                heapq.heappop(self._queue)
            elif future.light:
                heapq.heappop(self._queue)
                self._run_here(future)
            elif not self._place(future):
                return

    def _place(self, future: PlacedFuture) -> bool:
        """Sends the queue's first task, where there is room, and with it what is as short and waits behind it."""
        if self._workers is not None and len(self._parcels) >= self._workers:
            return False
        now = time.monotonic()
        self._ending = [each for each in self._ending if each[0] > now]
        held = [each.held for each in self._parcels.values()]
        held += [each for _, each in self._ending]
        found = place(self._hosts.values(), future.resources, held)
        if found is None or self._site is None:
            return False
        host, gpus = found
        futures = self._together(self._how_many(future))
        parcel = self._parcels[future.number, future.attempt] = Parcel(futures, Held(host, future.resources, gpus), now)
        for each in futures:
            self._running[each.number] = each
            each.parcel, each.started, each.place = parcel, now, parcel.place
        pieces = tuple(Piece(each.number, each.attempt, bytes(each.task)) for each in futures)
        order = pickle.dumps(Order(self._site, pieces, future.resources, gpus))
        parcel.handle = self._send(parcel, order, [_results(each) for each in futures])
        return True

    def _how_many(self, future: PlacedFuture) -> int:
        """Returns how many tasks to send together: a worker's fair share of what waits, while they take no time."""
        length = self._lengths.get(future.kind, math.inf)
        if future.alone or length > HASTE / 2:
            return 1
        share = math.ceil(len(self._queue) / max(1, self._slots(future.resources)))
        return max(1, min(MOST_TOGETHER, share, int(HASTE / max(length, HASTE / MOST_TOGETHER))))

    def _together(self, count: int) -> list[PlacedFuture]:
        """Takes the first from the queue, and up to ``count`` in all of its kind that follow it."""
        futures = [heapq.heappop(self._queue)[1]]
        while len(futures) < count and self._queue:
            following = self._queue[0][1]
            if not following.done:
                if following.kind != futures[0].kind or following.light or following.alone:
                    break
                futures.append(following)
            heapq.heappop(self._queue)
        return futures

    def _slots(self, resources: Resources) -> int:
        """Returns how many tasks of this shape the workers that are there run at once."""
        if resources not in self._capacities:
            self._capacities[resources] = capacity(list(self._hosts.values()), resources)
        return self._capacities[resources]

    def _run_here(self, future: PlacedFuture) -> None:
        """Runs a light task in a process beside the master: it takes less time than to send it."""
        if self._local is None:
            self._local = Local(1, cores=1, gpus=[])
        future.started = time.monotonic()
        future.place = "master"
        future.local = self._local.relay(bytes(future.task), _results(future), Resources())
        self._light[future.local] = future

    def _withdraw(self, future: PlacedFuture) -> None:
        """Takes a task from where it runs."""
        parcel = future.parcel
        if parcel is not None:
            self._release(future)
            # Among others it is left to itself, for it is short, unless it is known to be the one that takes its time.
            if future is parcel.running or not parcel.open:
                self._withdraw_parcel(parcel)
                self._try_all_again(parcel)
        if future.local is not None and self._local is not None:
            del self._light[future.local]
            self._local.cancel(future.local)

    def _withdraw_parcel(self, parcel: Parcel) -> None:
        if self._parcels.pop(parcel.name, None) is None:
            return
        if parcel.held.host.key in self._hosts:
            self._ending.append((time.monotonic() + ENDING, parcel.held))
        with contextlib.suppress(Exception):  # the worker may be gone
            self._recall(parcel)

    def _release(self, future: PlacedFuture) -> None:
        """Forgets that a task is with a worker."""
        del self._running[future.number]
        future.parcel = None

    # Events

    def _settle_inbox(self) -> None:
        while self._inbox:
            self._inbox.popleft()()

    def _advance(self) -> None:
        self._settle_inbox()
        if self._light and self._local is not None:
            for done in self._local.wait(list(self._light), timeout=0):
                assert isinstance(done, LocalFuture)
                self._finish(self._light.pop(done), done.pickled)
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + CHECK_INTERVAL
            self._check()
            self._notice_loneliness(now)
            for parcel in list(self._parcels.values()):
                if parcel.heard is not None and now - parcel.heard > self._grace:
                    self._lose(parcel, f"{parcel.place} has said nothing for {self._grace:g} s")
        self._dispatch()

    def _notice_loneliness(self, now: float) -> None:
        if self._hosts or not self._queue:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
        elif now - self._alone_since > ALONE:
            self._alone_since = math.inf  # said once
            self.tell(f"no worker is there: {self.invitation}" if self._seen else self.invitation)

    def _admit(self, host: Host) -> None:
        if host.key not in self._hosts:
            self.tell(f"worker {host} joined")
        self._hosts[host.key] = self._seen[host.key] = host
        self._capacities.clear()

    def _dismiss(self, key: str, reason: str, deadly: bool) -> None:
        host = self._hosts.pop(key, None)
        self._capacities.clear()
        lost = [each for each in self._parcels.values() if each.held.host.key == key]
        if host is not None and not self._closed:
            count = sum(len(parcel.open) for parcel in lost)
            again = f"; what ran there is tried elsewhere ({count})" if count and deadly else ""
            self.tell(f"worker {host.name} {reason}{again}")
        for parcel in lost if deadly else ():
            self._lose(parcel, f"{parcel.place} {reason}")

    def _current(self, number: int, attempt: int) -> PlacedFuture | None:
        future = self._running.get(number)
        return future if future is not None and future.attempt == attempt else None

    def _hear(self, number: int, attempt: int, progress: Mapping[str, float] | None) -> None:
        future = self._current(number, attempt)
        if future is None or future.parcel is None:
            return
        parcel, now = future.parcel, time.monotonic()
        parcel.heard = now
        if parcel.running is None:
            parcel.running = future
            self._learn(future, now - parcel.sent)
            # The worker begins none of those behind it any more.
            for each in parcel.futures[parcel.futures.index(future) + 1 :]:
                if each.parcel is parcel:
                    self._release(each)
                    self._try_again(each)
        if progress:
            future.progress = progress

    def _take(self, number: int, attempt: int, outcome: bytes | str) -> None:
        parcel = self._parcels.get((number, attempt))
        if parcel is None:
            return
        if isinstance(outcome, str):
            self._lose(parcel, outcome, recall=False)
            return
        del self._parcels[number, attempt]
        outcomes: list[Outcome] = pickle.loads(outcome)
        for future, found in zip(parcel.futures, outcomes, strict=False):
            self._learn(future, found.seconds)
            if future.parcel is not parcel:
                continue
            future.seconds = found.seconds
            if found.progress:
                future.progress = found.progress
            if found.result is not None:
                self._release(future)
                self._finish(future, found.result)
        self._try_all_again(parcel)

    def _learn(self, future: PlacedFuture, seconds: float) -> None:
        """Takes how long a task took."""
        before = self._lengths.get(future.kind)
        self._lengths[future.kind] = seconds if before is None else max(seconds, before / 2)

    def _lose(self, parcel: Parcel, reason: str, recall: bool = True) -> None:
        """Tries tasks elsewhere whose worker is lost, unless that has happened to one too often."""
        if recall:
            self._withdraw_parcel(parcel)
        else:
            self._parcels.pop(parcel.name, None)
        if len(parcel.futures) > 1:  # which of them may be why is not known
            for future in parcel.open:
                future.alone = True
        for future in parcel.open if len(parcel.futures) == 1 else ():
            future.deaths += 1
            if future.deaths == DEATHS:
                words = f"its worker was lost {DEATHS} times, the last time: {reason}"
                self._release(future)
                self._finish(future, pickle.dumps(Failure(FailureKind.DIED, words)))
        self._try_all_again(parcel)

    def _try_all_again(self, parcel: Parcel) -> None:
        for future in parcel.open:
            self._release(future)
            self._try_again(future)

    def _try_again(self, future: PlacedFuture) -> None:
        future.attempt += 1
        future.started = None
        future.place = ""
        future.progress = {}
        self._enqueue(future)


def _results(future: PlacedFuture) -> list[bytes]:
    return [bytes(each) for each in future.results()]
