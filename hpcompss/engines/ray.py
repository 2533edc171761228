"""The Ray engine: trials as tasks of a Ray cluster, one that is there or one that is started on this machine.

On each node an actor, the foreman, has the trials run in child processes, which stay warm between them. A trial is a
Ray task besides, pinned to the node by the master (`placed`): it claims what the trial asks for, so that all who share
the cluster get what they ask for, and waits for the foreman. News and cancellations are calls of the foreman, so that
nothing of ours listens and a cluster behind ``ray://`` is as good as any.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import os
import pickle
import secrets
import socket
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcompss.engines import remote_worker
from hpcompss.engines.delivery import Luggage
from hpcompss.engines.hosts import Host
from hpcompss.engines.machine import available_cores, available_gpus
from hpcompss.engines.placed import DEATHS, GRACE, Parcel, Placed
from hpcompss.engines.placement import place_of
from hpcompss.engines.remote_worker import Facts
from hpcompss.errors import HpcompssError, InputError, MissingExtraError, cause_of
from hpcompss.trial import Resources

__all__ = ["Ray", "imported", "node_command"]

PATIENCE = 10.0
"""Seconds in which a cluster must answer."""

PAUSE = 0.5
"""Seconds between two tries to reach it, and between two looks at which nodes there are."""

MEETING = 60.0
"""Seconds for a node to start a process and tell what it has."""

ENDING = 10.0
"""Seconds for the foremen to end what runs."""

NEWS = 5.0
"""Seconds after which a foreman answers although there is no news."""

IDLE = 60.0
"""Seconds after which a node without a trial is left alone: while a foreman is there, no autoscaler takes it away."""

MOST_ASKED = 1000
"""For how many waiting trials an autoscaler is asked."""

LOST = {
    "ActorDiedError": "the process that has its trials run died",
    "ActorUnavailableError": "the process that has its trials run does not answer",
    "NodeDiedError": "its node died",
    "OutOfMemoryError": "Ray ended it, for its node ran out of memory",
    "TaskUnschedulableError": "its node is gone",
    "WorkerCrashedError": "its worker process crashed",
}
"""What Ray's errors mean, where they are not about the task itself."""


def imported(protected: bool = False) -> Any:
    """Returns the package ``ray``. Raises `MissingExtraError` where it is not installed.

    Args:
        protected: Whether a cluster that this process starts shall have a secret.
    """
    if protected and "ray" not in sys.modules:
        # Ray listens on all interfaces, whatever it is told. It reads this when it is imported, and never again.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise MissingExtraError("Ray", "ray", "the engine ray") from None


class Ray(Placed):
    """Runs tasks on the nodes of a Ray cluster.

    Args:
        workers: How many tasks may run at once; None for as many as fit.
        address: ``auto``, ``host:6379`` or ``ray://host:10001``; None for the cluster that this process is connected
            to already, and else for one that is started on this machine and ends with the engine.
        trial: What one trial asks for: of a cluster without nodes, room for one is asked.
        shared: Whether nodes see the study's folder; None where they do only if the cluster is this machine's own.
        wait_for_workers: Whether a task that no node can run waits for one that can, in place of being refused.
        grace: Seconds that a running task may be silent before its node counts as lost.
        preload: Modules that the processes of trials import when they start.
        log_directory: Where they keep what tasks print, in the study's folder, where nodes see that.
        luggage: Makes what nodes need that do not share files with the master.

    Raises:
        InputError: No cluster answers, or a setting is wrong.
        MissingExtraError: Ray is not installed.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        address: str | None = None,
        trial: Resources = Resources(),
        shared: bool | None = None,
        wait_for_workers: bool = False,
        grace: float = GRACE,
        preload: Sequence[str] = (),
        log_directory: Path | None = None,
        luggage: Callable[[], Luggage] | None = None,
    ) -> None:
        self._ray = imported(protected=address is None)
        joined = self._ray.is_initialized() and address in (None, "auto")
        self._started = address is None and not joined
        super().__init__(
            workers,
            grace=grace,
            preload=preload,
            log_directory=log_directory,
            shared=self._started if shared is None else shared,
            wait_for_workers=wait_for_workers,
        )
        self._trial = trial
        self._known: set[str] = set()
        self._tries: Counter[str] = Counter()
        self._foremen: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._busy: dict[str, float] = {}
        """When each node last had a task."""
        self._asked: Counter[tuple[tuple[str, float], ...]] = Counter()
        self._broken = ""
        self._closing = threading.Event()
        self._connected = False
        self._luggage = None if self.shares_files or luggage is None else luggage()
        try:
            self._dashboard = "" if joined else self._connect(address)
            self.address = str(self._ray.get_runtime_context().gcs_address) if address in (None, "auto") else address
            self._foreman_class = self._ray.remote(_Foreman)
            # Without the limit on calls, Ray ends each process that had a GPU after its task.
            self._claim = self._ray.remote(max_calls=0, max_retries=0)(_claim)
            self._open(_PostChannel(), None if self._luggage is None else self._luggage.environment)
            self._watcher = threading.Thread(target=self._watch, name="ray nodes", daemon=True)
            self._watcher.start()
        except BaseException:
            self._stop()
            raise

    @property
    def about(self) -> dict[str, Any]:
        return {"event": "ray", "cluster": self.address, "dashboard": self._dashboard or None}

    @property
    def invitation(self) -> str:
        return f"waiting for the first node of the Ray cluster {self.address} that has a core for trials"

    @property
    def introduction(self) -> list[str]:
        """What the user should know of the cluster before it is used."""
        said = [f"Ray cluster: {'this machine' if self._started else self.address}"]
        if self._dashboard:
            said.append(f"Ray dashboard: {self._dashboard}")
        if not _has_token() or (self._started and _version(self._ray) < (2, 52)):
            said.append(
                f"warning: whoever reaches {self.address} can run any code on the nodes of this Ray cluster: use Ray "
                "2.52 or later, with RAY_AUTH_MODE=token for a cluster of your own"
            )
        return said

    # The cluster

    def _connect(self, address: str | None) -> str:
        """Joins a cluster or starts one; returns the address of its dashboard, or nothing."""
        quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
        begun = time.monotonic()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if address is None:
                    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
                    here = {"num_cpus": available_cores(), "num_gpus": len(available_gpus())}
                    # RAY_ADDRESS would have it join another cluster.
                    context = self._ray.init("local", include_dashboard=False, **here, **quiet)
                else:
                    _knock(address)
                    context = self._ray.init(address, **quiet)
        except (OSError, RuntimeError, ValueError, SystemExit) as error:
            seconds = time.monotonic() - begun
            if address is None:
                raise InputError(f"Ray does not start on this machine ({_reason(error)})", key="engine.name") from None
            raise InputError(
                f"no Ray cluster answers at {address}, tried for {seconds:.0f} s ({_reason(error)}): start one with  "
                "ray start --head, or leave the address out to have one on this machine",
                key="engine.address",
            ) from None
        self._connected = True
        url = str(getattr(context, "dashboard_url", None) or "")
        return url if not url or "://" in url else f"http://{url}"

    # Nodes that join and leave

    def _watch(self) -> None:
        """Looks which nodes there are and takes what their foremen tell, in a thread of its own."""
        listening: dict[Any, tuple[str, Any]] = {}
        next_look = 0.0
        while not self._closing.is_set():
            try:
                if time.monotonic() >= next_look:
                    next_look = time.monotonic() + PAUSE
                    self._look()
                    heard: dict[str, Any] = dict(listening.values())
                    for key, foreman in list(self._foremen.items()):
                        if heard.get(key) is not foreman:
                            listening[foreman.call.remote(_collect)] = key, foreman
                if not listening:
                    self._closing.wait(PAUSE)
                    continue
                ready, _ = self._ray.wait(list(listening), timeout=PAUSE)
            except Exception as error:
                if not self._closing.is_set():
                    self._broken = _reason(error)
                    self._later(lambda: None)
                return
            for ref in ready:
                key, foreman = listening.pop(ref)
                try:
                    news, named = self._ray.get(ref)
                except Exception as error:
                    self._miss(key, foreman, error)
                    continue
                for (number, attempt), gpus in named.items():
                    self._later(functools.partial(self._name_gpus, number, attempt, gpus))
                for (number, attempt), progress in news.items():
                    self._news(number, attempt, progress)
                if key in self._foremen and self._foremen[key] is foreman:
                    listening[foreman.call.remote(_collect)] = key, foreman

    def _look(self) -> None:
        nodes = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
        for key in (self._known | set(self._foremen)) - set(nodes):
            self._known.discard(key)
            self._foremen.pop(key, None)
            self._part(key, "is gone")
        names = Counter(node["NodeManagerHostname"] for node in nodes.values())
        for key in set(nodes) - self._known:
            self._known.add(key)
            if nodes[key]["Resources"].get("CPU", 0) >= 1:
                name = nodes[key]["NodeManagerHostname"]
                name = name if names[name] == 1 else f"{name}:{nodes[key]['NodeManagerPort']}"
                meet = functools.partial(self._meet, key, name, nodes[key]["Resources"])
                threading.Thread(target=meet, name=f"meet {name}", daemon=True).start()

    def _meet(self, key: str, name: str, resources: Mapping[str, float]) -> None:
        """Asks a node what it has, gives it what it lacks, and takes it; in a thread of its own."""
        foreman: Any = None
        try:
            foreman = self._foreman(key, int(resources["CPU"]))
            call = functools.partial(self._call, foreman)
            facts: Facts = call(remote_worker.facts)
            reason = self._mismatch(facts)
            if not reason and self._luggage is not None:
                reason = self._luggage.deliver(call)
        except Exception as error:
            if self._closing.is_set() or key not in self._known:
                return
            self._dismiss_foreman(key, foreman)
            self._part(key, "is gone")
            self._tries[key] += 1
            if self._tries[key] < DEATHS:
                self._known.discard(key)  # it is met again
                return
            reason = f"it cannot say what it has ({_reason(error)}): is the same hpcompss installed there?"
        if reason:
            self._dismiss_foreman(key, foreman)
            self._later(lambda: self.tell(f"warning: node {name} is not used: {reason}"))
        elif key in self._known:
            self._join(_host(key, name, resources))

    def _foreman(self, key: str, cores: int) -> Any:
        """Returns the foreman of a node, a new one if need be."""
        with self._lock:
            if key not in self._foremen:
                self._busy[key] = time.monotonic()
                self._foremen[key] = self._foreman_class.options(
                    num_cpus=0,
                    max_concurrency=cores + 4,  # as many tasks, and calls that are short beside that for news
                    scheduling_strategy=self._pinned(key),
                ).remote()
            return self._foremen[key]

    def _dismiss_foreman(self, key: str, foreman: Any) -> None:
        with self._lock:
            if foreman is not None and self._foremen.get(key) is foreman:
                del self._foremen[key]
        with contextlib.suppress(Exception):
            self._ray.kill(foreman)

    def _miss(self, key: str, foreman: Any, error: Exception) -> None:
        """Takes that a foreman did not answer."""
        if self._foremen.get(key) is foreman and type(error).__name__ != "ActorUnavailableError":
            self._dismiss_foreman(key, foreman)
            self._part(key, "is gone")
            self._known.discard(key)  # if the node is there, it is met again

    def _call(self, foreman: Any, function: Callable[..., Any], *args: Any) -> Any:
        """Returns ``function(*args)`` as called in a foreman's process."""
        return self._ray.get(foreman.call.remote(function, *args), timeout=MEETING)

    def _pinned(self, key: str) -> Any:
        strategies = importlib.import_module("ray.util.scheduling_strategies")
        return strategies.NodeAffinitySchedulingStrategy(key, soft=False)

    # Tasks

    def _send(self, parcel: Parcel, order: bytes, results: list[list[bytes]]) -> Any:
        host, asked = parcel.held.host, parcel.held.resources
        foreman = self._foreman(host.key, host.cores)
        claim = self._claim.options(
            name=f"{parcel.futures[0].name}-{parcel.name[0]}",
            num_cpus=asked.cpu,
            num_gpus=asked.gpu,
            scheduling_strategy=self._pinned(host.key),
            **({"memory": asked.memory} if asked.memory else {}),
        )
        sent = claim.remote(foreman, (self._token, *parcel.name), order, results)
        done = functools.partial(self._done, host.key, foreman, *parcel.name)
        sent.future().add_done_callback(done)
        return sent, foreman

    def _done(self, key: str, foreman: Any, number: int, attempt: int, sent: Any) -> None:
        try:
            self._over(number, attempt, sent.result())
            return
        except Exception as error:
            reason, name = _reason(error), type(_bottom(error)).__name__
        except BaseException:
            reason, name = "its task was cancelled", "TaskCancelledError"
        if name != "TaskCancelledError" and not self._closing.is_set():
            # Perhaps the node is dead, and Ray does not know yet: no task goes there until it has answered.
            self._part(key, f"lost a task ({reason})", deadly=False)
            self._known.discard(key)
            threading.Thread(target=self._end, args=(foreman, number, attempt), daemon=True).start()
        self._over(number, attempt, reason)

    def _end(self, foreman: Any, number: int, attempt: int) -> None:
        with contextlib.suppress(Exception):
            foreman.call.remote(_end, self._token, number, attempt)

    def _recall(self, parcel: Parcel) -> None:
        if parcel.handle is not None:
            sent, foreman = parcel.handle
            self._end(foreman, *parcel.name)
            self._ray.cancel(sent)

    def _name_gpus(self, number: int, attempt: int, gpus: Sequence[str]) -> None:
        if parcel := self._parcels.get((number, attempt)):
            for future in parcel.open:
                future.place = place_of(parcel.held.host.name, gpus)

    def _growth(self, resources: Resources) -> int:
        # What waits has an autoscaler add nodes, and only who is told that they will come lets trials wait.
        return self._workers if self._waits and self._workers is not None else 0

    def _check(self) -> None:
        if self._broken and not self._closed:
            raise HpcompssError(
                f"the Ray cluster at {self.address} is gone ({self._broken}): everything recorded so far is kept, go "
                "on with  hpcompss resume"
            )
        now = time.monotonic()
        for each in self._parcels.values():
            self._busy[each.held.host.key] = now
        if not self._started:
            for key in [key for key in self._hosts if now - self._busy.get(key, now) > IDLE]:
                self._dismiss_foreman(key, self._foremen.get(key))  # the next task gets a new one
            self._ask()

    def _ask(self) -> None:
        """Asks an autoscaler, if there is one, for room for all that runs and waits, while something waits."""
        running = [each.held.resources for each in self._parcels.values()]
        most = MOST_ASKED if self._workers is None else self._workers - len(running)
        waiting = [each.resources for _, each in self._queue if not each.done and not each.light][: max(most, 0)]
        if not self._seen and not self._closed:
            waiting.append(self._trial)
        asked = Counter(_bundle(each) for each in ((*running, *waiting) if waiting else ()))
        if asked != self._asked:
            self._asked = asked
            sdk = importlib.import_module("ray.autoscaler.sdk")
            with contextlib.suppress(Exception):  # a cluster without it is as it is
                sdk.request_resources(bundles=[dict(bundle) for bundle in asked.elements()])

    def _stop(self) -> None:
        self._closing.set()
        foremen = list(self._foremen.values())
        self._foremen.clear()
        if foremen:
            with contextlib.suppress(Exception):
                leaving = [each.call.remote(_leave) for each in foremen]
                self._ray.wait(leaving, num_returns=len(leaving), timeout=ENDING)
        if watcher := getattr(self, "_watcher", None):
            watcher.join(PAUSE + NEWS)
        for each in foremen:
            with contextlib.suppress(Exception):
                self._ray.kill(each)
        if self._asked:
            with contextlib.suppress(Exception):
                importlib.import_module("ray.autoscaler.sdk").request_resources(bundles=[])
        if self._connected:
            self._connected = False
            self._ray.shutdown()


def node_command(address: str, cpu: int, gpu: float, memory: int) -> list[str]:
    """Returns the command that makes this machine a node of a Ray cluster, until it is stopped.

    Args:
        address: That of the cluster's head, ``host:6379``.
        cpu: How many cores trials may use.
        gpu: How many GPUs.
        memory: Bytes of memory.

    Raises:
        InputError: The address is not one that nodes join by.
        MissingExtraError: Ray is not installed.
    """
    imported()
    host, colon, port = address.rpartition(":")
    if "://" in address or not (host and colon and port.isdecimal()):
        raise InputError(f"the address of a Ray cluster's head reads  host:6379, not {address!r}")
    amounts = [f"--num-cpus={cpu}", f"--num-gpus={gpu:g}", f"--memory={memory}"]
    starting = ["-m", "ray.scripts.scripts", "start", f"--address={address}", *amounts]
    return [sys.executable, *starting, "--block", "--disable-usage-stats"]


def _host(key: str, name: str, resources: Mapping[str, float]) -> Host:
    """Returns what a node has by Ray's count.

    The names of its GPUs stand for how many there are: which ones a task gets, Ray says when the task has its claim
    (`_claim`), by the numbers that Ray's node uses itself, and that is what the task sees. So master and Ray, who both
    count, need to agree on amounts only, and where they do not, the claim waits.
    """
    gpus = resources.get("GPU", 0.0)
    return Host(
        key=key,
        name=name,
        machine=key,
        cores=int(resources["CPU"]),
        gpus=tuple(map(str, range(math.ceil(gpus)))),
        memory=int(resources["memory"]) if "memory" in resources else None,
        gpu_limit=gpus,
    )


def _bundle(resources: Resources) -> tuple[tuple[str, float], ...]:
    asked = {"CPU": resources.cpu, "GPU": resources.gpu, "memory": resources.memory}
    return tuple((name, amount) for name, amount in asked.items() if amount)


def _knock(address: str) -> None:
    """Raises `OSError` where nobody listens at an address: Ray itself would try for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if address == "auto":
        return
    if not (colon and host and port.isdecimal()):
        raise ValueError("an address reads  auto,  host:6379  or  ray://host:10001")
    until = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), max(until - time.monotonic(), PAUSE)).close()
            return
        except OSError:
            if time.monotonic() + PAUSE > until:
                raise
            time.sleep(PAUSE)


def _has_token() -> bool:
    return os.environ.get("RAY_AUTH_MODE") == "token"


def _version(ray: Any) -> tuple[int, int]:
    major, minor = str(ray.__version__).split(".")[:2]
    return int(major), int(minor)


def _bottom(error: BaseException) -> BaseException:
    """Returns the error of a call within a call."""
    while isinstance(inner := getattr(error, "cause", None), BaseException):
        error = inner
    return error


def _reason(error: BaseException) -> str:
    """Returns in a line what was at the bottom of an error."""
    error = _bottom(error)
    return LOST.get(type(error).__name__) or cause_of(error)


# On the nodes


class _Foreman:
    """The process on a node that has its tasks run; made an actor by the master."""

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Returns ``function(*args)``."""
        return function(*args)


_Name = tuple[int, int]
"""A task's number, and how often it was sent before; an order has the name of its first task."""


class _Post:
    """What a foreman's tasks have to tell, and those of them that shall end."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._news: dict[_Name, Mapping[str, float] | None] = {}
        self._gpus: dict[_Name, tuple[str, ...]] = {}
        self.ended: set[_Name] = set()

    def tell(self, attempt: _Name, progress: Mapping[str, float] | None = None) -> None:
        """Takes news of an attempt at a task; only the last is kept."""
        with self._lock:
            self._news[attempt] = progress or self._news.get(attempt)
            self._lock.notify()

    def name_gpus(self, order: _Name, gpus: tuple[str, ...]) -> None:
        """Takes which GPUs an order got."""
        with self._lock:
            self._gpus[order] = gpus
            self._lock.notify()

    def collect(self) -> tuple[dict[_Name, Mapping[str, float] | None], dict[_Name, tuple[str, ...]]]:
        """Returns what there is to tell, and GPUs, as soon as there is something, or nothing after a while."""
        with self._lock:
            self._lock.wait_for(lambda: bool(self._news or self._gpus), NEWS)
            told = self._news, self._gpus
            self._news, self._gpus = {}, {}
            return told

    def stop(self) -> None:
        """Has `collect` return."""
        self.tell((-1, -1))


_post = _Post()


@dataclass(frozen=True)
class _PostChannel:
    """A channel by the post of the foreman that the task runs under."""

    @contextlib.contextmanager
    def open(self, number: int, attempt: int) -> Iterator[_Line]:
        """Returns the way of one attempt at a task."""
        yield _Line((number, attempt))


class _Line:
    """A running task's way to its master."""

    broken = False
    cancelled = False

    def __init__(self, attempt: _Name) -> None:
        self._attempt = attempt
        self.alive()

    def progress(self, **values: float) -> None:
        _post.tell(self._attempt, values)

    def alive(self) -> None:
        _post.tell(self._attempt)

    def listen(self, timeout: float) -> None:
        self.cancelled = self._attempt in _post.ended


def _collect() -> Any:
    return _post.collect()


def _end(token: str, number: int, attempt: int) -> None:
    """Has an order end, or never begin."""
    _post.ended.add((number, attempt))
    remote_worker.end(token, number, attempt)


def _leave() -> None:
    """Ends all that runs here."""
    _post.stop()
    remote_worker.leave()
    remote_worker.close_children()


def _run(name: tuple[str, int, int], order: bytes, results: Sequence[Sequence[bytes]], gpus: tuple[str, ...]) -> bytes:
    """Has an order's tasks run under this foreman, and returns their pickled outcomes."""
    if name[1:] in _post.ended:
        return pickle.dumps([])
    if gpus:
        _post.name_gpus(name[1:], gpus)
    return remote_worker.run(order, results, gpus)


def _claim(foreman: Any, name: tuple[str, int, int], order: bytes, results: list[list[bytes]]) -> bytes:
    """Holds what a task asks for on a node, as a Ray task, while the foreman there has it run."""
    gpus = imported().get_runtime_context().get_accelerator_ids().get("GPU", [])
    sent = foreman.call.remote(_run, name, order, results, tuple(map(str, gpus)))
    # Not ray.get, for a task that waits by that gives its cores back.
    outcome: bytes = sent.future().result()
    return outcome
