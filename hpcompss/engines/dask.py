"""The Dask engine: trials as tasks of a Dask cluster, one that is there or one whose scheduler runs in the master.

Each task is pinned to a worker that has room for it (`placed`), and claims what it asks for of those resources ``cpu``,
``gpu`` and ``memory`` that its worker declares, so that studies which share a cluster do not take each other's. News of
running tasks come by Dask's own connections: with TLS nothing travels in the open, and no port of ours listens.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcompss.cluster.certificates import Certificates
from hpcompss.engines import remote_worker
from hpcompss.engines.delivery import Luggage
from hpcompss.engines.fleet import CommandFleet, Fleet, JobFleet, ProcessFleet, Range
from hpcompss.engines.hosts import Host, capacity, refusal
from hpcompss.engines.machine import available_cores, available_gpus, available_memory
from hpcompss.engines.placed import GRACE, Parcel, Placed
from hpcompss.engines.remote_worker import Facts
from hpcompss.errors import HpcompssError, InputError, MissingExtraError, cause_of, nearest
from hpcompss.trial import Resources

__all__ = ["LEAVING", "Dask", "imported", "security_of"]

PATIENCE = 10.0
"""Seconds in which a scheduler must answer."""

GONE = 30.0
"""Seconds after which a scheduler that does not answer is given up."""

LOOK_INTERVAL = 0.5
"""Seconds between two looks at which workers there are."""

LEAVING = "hpcompss-leaving"
"""The topic on which a worker says that it leaves."""


def imported() -> Any:
    """Returns the package ``distributed``. Raises `MissingExtraError` where it is not installed."""
    try:
        import distributed
    except ImportError:
        raise MissingExtraError("Dask", "dask", "the engine dask") from None
    return distributed


def security_of(folder: str | Path | None) -> Any:
    """Returns Dask's settings for TLS with the certificates of a folder, or None without."""
    if folder is None:
        return None
    files = Certificates.of(Path(folder))
    roles = ("client", "scheduler", "worker")
    settings = {f"tls_{role}_cert": str(files.certificate) for role in roles}
    settings |= {f"tls_{role}_key": str(files.key) for role in roles}
    return imported().Security(tls_ca_file=str(files.authority), require_encryption=True, **settings)


@dataclass(frozen=True)
class DaskChannel:
    """A channel by the events of Dask.

    Attributes:
        topic: That of the engine.
    """

    topic: str

    @contextlib.contextmanager
    def open(self, number: int, attempt: int) -> Iterator[_Line]:
        """Returns the way of one attempt at a task."""
        yield _Line(imported().get_worker(), self.topic, number, attempt)


class _Line:
    """A running task's way to its master, who has Dask cancel it where it shall end, or has gone."""

    cancelled = False
    broken = False

    def __init__(self, worker: Any, topic: str, number: int, attempt: int) -> None:
        self._worker = worker
        self._key = worker.get_current_task()
        self._topic = topic
        self._about = {"number": number, "attempt": attempt}
        self.alive()

    def progress(self, **values: float) -> None:
        self._worker.log_event(self._topic, {**self._about, "progress": values})

    def alive(self) -> None:
        self._worker.log_event(self._topic, self._about)

    def listen(self, timeout: float) -> None:
        # Dask lets a thread run whose task nobody wants any more, and only takes note of that.
        task = self._worker.state.tasks.get(self._key)
        self.cancelled = task is None or task.state == "cancelled"


class Dask(Placed):
    """Runs tasks on the workers of a Dask cluster.

    Args:
        workers: How many workers this machine starts for itself, each for one trial; None for as many as fit here,
            but none where ``port`` is stated, for then they come from elsewhere. A `Range` has them come and go with
            the trials that wait. With ``address``: how many tasks may run at once; None for as many as fit.
        address: That of a scheduler that runs; None to run one in this process.
        host: The address that the own scheduler listens on.
        port: The port that it listens on; None for any.
        dashboard: The port of its dashboard, on this machine only, where Dask has one (bokeh); None for any.
        certificates: A folder that `hpcompss.cluster.certificates` has made; None for no encryption.
        start: A command that starts workers elsewhere, with ``{count}`` for how many there shall be.
        jobqueue: The batch system that workers are jobs of, by dask-jobqueue: its name as ``system`` (``slurm``,
            ``pbs``, ``lsf``, ...), and what dask-jobqueue takes for it, such as ``cores``, ``memory``, ``walltime``.
        trial: What one trial asks for, which the own workers are sized for.
        shared: Whether workers see the study's folder; None where they do only if all are this machine's own.
        wait_for_workers: Whether a task that no worker can run waits for one that can, in place of being refused.
        grace: Seconds that a running task, or a worker, may be silent before it counts as lost.
        preload: Modules that the processes of trials import when they start.
        log_directory: Where they keep what tasks print, in the study's folder, where workers see that.
        luggage: Makes what workers need that do not share files with the master.

    Raises:
        InputError: No scheduler answers, or a setting is wrong.
        MissingExtraError: Dask is not installed.
    """

    def __init__(
        self,
        workers: int | Range | None = None,
        *,
        address: str | None = None,
        host: str = "127.0.0.1",
        port: int | None = None,
        dashboard: int | None = None,
        certificates: str | Path | None = None,
        start: str | None = None,
        jobqueue: Mapping[str, Any] | None = None,
        trial: Resources = Resources(),
        shared: bool | None = None,
        wait_for_workers: bool = False,
        grace: float = GRACE,
        preload: Sequence[str] = (),
        log_directory: Path | None = None,
        luggage: Callable[[], Luggage] | None = None,
    ) -> None:
        self._distributed = imported()
        own = address is None and port is None and jobqueue is None and start is None
        super().__init__(
            workers if address is not None and isinstance(workers, int) else None,
            grace=grace,
            preload=preload,
            log_directory=log_directory,
            shared=own if shared is None else shared,
            wait_for_workers=wait_for_workers,
        )
        self._certificates = certificates
        self._security = security_of(certificates)
        self._known: set[str] = set()
        self._cluster: Any = None
        self._fleet: Fleet | None = None
        self._broken = ""
        self._closing = threading.Event()
        self._luggage = None if self.shares_files or luggage is None else luggage()
        try:
            if address is None:
                address = self._start_scheduler(host, port, dashboard, jobqueue)
            self.address = address
            self._client = self._connected(address)
            topic = f"hpcompss-{self._token}"
            self._client.subscribe_topic(topic, self._take_news)
            self._client.subscribe_topic(LEAVING, self._take_leave)
            self._open(DaskChannel(topic), None if self._luggage is None else self._luggage.environment)
            if self._cluster is not None:
                self._fleet = self._own_fleet(workers, own, start, jobqueue is not None, trial)
            threading.Thread(target=self._watch, name="dask workers", daemon=True).start()
        except BaseException:
            self._stop()
            raise

    @property
    def about(self) -> dict[str, Any]:
        return {"event": "dask", "scheduler": self.address, "dashboard": self._dashboard}

    @property
    def invitation(self) -> str:
        secure = "" if self._certificates is None else " --certificates DIR"
        return f"waiting for the first worker; start some with  hpcompss worker {self.address}{secure}"

    @property
    def introduction(self) -> list[str]:
        """What the user should know of the cluster before it is used."""
        said = [f"Dask scheduler: {self.address}"]
        if self._dashboard is not None:
            said.append(f"Dask dashboard: {self._dashboard}")
        if self._certificates is None and not _is_this_machine(self.address):
            said.append(
                f"warning: whoever reaches {self.address} can run any code on this machine and its workers: make "
                "certificates with  hpcompss certificates DIR, and state  --certificates DIR  here and for workers"
            )
        return said

    # The scheduler

    def _start_scheduler(
        self, host: str, port: int | None, dashboard: int | None, jobqueue: Mapping[str, Any] | None
    ) -> str:
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        options = {
            "host": host,
            "dashboard_address": f"127.0.0.1:{dashboard or 0}",
            "protocol": "tcp" if self._security is None else "tls",
        }
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a dashboard's port that is taken is no concern of the user's
                if jobqueue is not None:
                    self._cluster = _job_cluster(jobqueue, {**options, "port": port or 0}, self._security)
                else:
                    self._cluster = self._distributed.LocalCluster(
                        n_workers=0,
                        scheduler_port=port or 0,
                        security=self._security,
                        silence_logs=logging.CRITICAL,
                        scheduler_kwargs={"worker_ttl": self._grace},
                        **options,
                    )
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"no scheduler can listen on {host}:{port or 0} ({cause_of(error)}): choose another port",
                key="engine.port",
            ) from None
        return str(self._cluster.scheduler_address)

    def _connected(self, address: str) -> Any:
        begun = time.monotonic()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # versions are compared worker by worker
                return self._distributed.Client(
                    self._cluster or address, timeout=PATIENCE, security=self._security, set_as_default=False
                )
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            seconds = time.monotonic() - begun
            raise InputError(
                f"no Dask scheduler answers at {address}, tried for {seconds:.0f} s ({cause_of(error)}): start one, "
                "with the same certificates if any, or leave the address out to run one in this process",
                key="engine.address",
            ) from None

    @property
    def _dashboard(self) -> str | None:
        """Where Dask's dashboard is, or None where the scheduler has none."""
        services = self._client.scheduler_info()["services"]
        if "dashboard" not in services:
            return None
        # The own one listens on this machine only, whatever address the scheduler has.
        own = f"http://127.0.0.1:{services['dashboard']}/status"
        return str(self._client.dashboard_link) if self._cluster is None else own

    def _own_fleet(
        self, workers: int | Range | None, own: bool, start: str | None, jobs: bool, trial: Resources
    ) -> Fleet | None:
        if workers is None and own:
            here = Host("here", "this machine", "", available_cores(), available_gpus(), available_memory())
            workers = capacity([here], trial)
            if workers < 1:
                raise refusal([here], trial)
        if workers is None or workers == 0:
            if jobs or start is not None:
                raise InputError("state how many: a number, or  {min: 1, max: 16}", key="engine.workers")
            return None
        bounds = Range(workers, workers) if isinstance(workers, int) else workers
        if jobs:
            return JobFleet(bounds, self._cluster)
        if start is not None:
            return CommandFleet(bounds, start)
        return ProcessFleet(bounds, self.address, self._certificates, trial)

    # Workers that join and leave

    def _watch(self) -> None:
        """Looks which workers there are, in a thread of its own."""
        answered = time.monotonic()
        while not self._closing.is_set():
            if self._client.status == "running":
                answered = time.monotonic()
            elif time.monotonic() - answered > GONE and not self._closing.is_set():
                self._broken = f"no answer for {GONE:.0f} s"
                self._later(lambda: None)
                return
            try:
                there: Mapping[str, Any] = self._client.scheduler_info(n_workers=-1)["workers"]
            except Exception:
                self._closing.wait(LOOK_INTERVAL)
                continue
            for address in self._known - set(there):
                self._known.discard(address)
                self._part(address, "is gone")
            for address in set(there) - self._known:
                self._known.add(address)
                admit = functools.partial(self._meet, address, dict(there[address]))
                threading.Thread(target=admit, name=f"meet {address}", daemon=True).start()
            self._closing.wait(LOOK_INTERVAL)

    def _meet(self, address: str, about: Mapping[str, Any]) -> None:
        """Asks a worker what it has, gives it what it lacks, and takes it; in a thread of its own."""
        name = str(about.get("name") or address)
        try:
            facts: Facts = self._call(address, remote_worker.facts)
            reason = self._mismatch(facts)
            if not reason and self._logs is not None and not self._call(address, os.path.isdir, self._logs.parent):
                reason = (
                    f"it does not see the study's folder {self._logs.parent}: leave  shared  out, or mount it there"
                )
            if not reason and self._luggage is not None:
                reason = self._luggage.deliver(functools.partial(self._call, address))
        except Exception as error:
            if address not in self._known or self._closing.is_set():
                return
            reason = f"it cannot say what it has ({cause_of(error)}): is the same hpcompss installed there?"
        if reason:
            self._later(lambda: self.tell(f"warning: worker {name} is not used: {reason}"))
            with contextlib.suppress(Exception):
                self._call(address, remote_worker.refuse, reason)
            return
        if address in self._known:
            self._join(_host(address, about, facts))

    def _call(self, address: str, function: Callable[..., Any], *args: Any) -> Any:
        """Returns ``function(*args)`` as called in a worker's own process."""
        return self._client.run(function, *args, workers=[address])[address]

    def _take_leave(self, event: tuple[float, Mapping[str, Any]]) -> None:
        self._part(str(event[1]["worker"]), "leaves", deadly=False)

    # Tasks

    def _take_news(self, event: tuple[float, Mapping[str, Any]]) -> None:
        message = event[1]
        self._news(message["number"], message["attempt"], message.get("progress"))

    def _send(self, parcel: Parcel, order: bytes, results: list[list[bytes]]) -> Any:
        host = parcel.held.host
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that an argument is large
            sent = self._client.submit(
                remote_worker.run,
                order,
                results,
                key="{}-{}-{}-{}".format(parcel.futures[0].name, self._token, *parcel.name),
                workers=[host.key],
                allow_other_workers=False,
                resources=_claims(host, parcel.held.resources),
                pure=False,
            )
        sent.add_done_callback(functools.partial(self._done, *parcel.name))
        return sent

    def _done(self, number: int, attempt: int, sent: Any) -> None:
        try:
            outcome: bytes | str = sent.result()
        except Exception as error:
            outcome = cause_of(error)
        except BaseException:  # Dask's CancelledError: nobody waits for it any more
            outcome = "its task was cancelled"
        self._over(number, attempt, outcome)

    def _recall(self, parcel: Parcel) -> None:
        if parcel.handle is not None:
            parcel.handle.cancel(force=True)

    def _growth(self, resources: Resources) -> int:
        if self._fleet is None:
            return 0
        # Those that come are as those that are there, or were; of the first nothing is known.
        seen = list(self._seen.values())
        each = max((capacity([host], resources) for host in seen), default=1)
        return self._fleet.growth(self._hosts.values()) * each

    def _check(self) -> None:
        if self._broken and not self._closed:
            raise HpcompssError(
                f"the Dask scheduler at {self.address} is gone ({self._broken}): everything recorded so far is kept, "
                "go on with  hpcompss resume"
            )
        if self._fleet is not None:
            busy = {each.held.host.key for each in self._parcels.values()}
            self._fleet.adjust(len(self._queue), list(self._hosts.values()), busy)

    def _stop(self) -> None:
        self._closing.set()
        client = getattr(self, "_client", None)
        if client is not None and self._hosts and self._fleet is None:
            with contextlib.suppress(Exception):  # those that are not ours stay; their children need not
                client.run(remote_worker.close_children, workers=list(self._hosts), on_error="ignore")
        if self._fleet is not None:
            self._fleet.close()
        for each in (client, self._cluster):
            if each is not None:
                with contextlib.suppress(Exception):
                    each.close(timeout=PATIENCE)


def _job_cluster(settings: Mapping[str, Any], scheduler: dict[str, Any], security: Any) -> Any:
    """Returns a cluster of dask-jobqueue, without workers yet."""
    try:
        import dask_jobqueue
        from dask_jobqueue.local import LocalCluster as Here
    except ImportError:
        raise MissingExtraError("dask-jobqueue", "jobqueue", "workers that are jobs of a batch system") from None
    kinds = {
        name.removesuffix("Cluster").lower(): getattr(dask_jobqueue, name)
        for name in dir(dask_jobqueue)
        if name.endswith("Cluster") and name != "JobQueueCluster"
    }
    kinds["local"] = Here  # jobs that are processes here, to try settings with
    options = dict(settings)
    system = str(options.pop("system", ""))
    if system not in kinds:
        raise InputError(f"unknown batch system {system!r}; {nearest(system, kinds)}", key="engine.jobqueue.system")
    try:
        return kinds[system](scheduler_options=scheduler, security=security, **options)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"dask-jobqueue does not take this for {system} ({cause_of(error)}): see its documentation",
            key="engine.jobqueue",
        ) from None


def _host(address: str, about: Mapping[str, Any], facts: Facts) -> Host:
    """Returns what a worker has: what it declares as Dask's resources, else its threads and what it sees."""
    declared = {str(key).lower(): value for key, value in about.get("resources", {}).items()}
    threads = int(about["nthreads"])
    gpus, gpu_limit = facts.gpus, declared.get("gpu")
    if gpu_limit is not None and len(gpus) < gpu_limit:
        gpus = tuple(map(str, range(int(gpu_limit))))  # declared only, to see where tasks are placed
    return Host(
        key=address,
        name=f"{facts.host}:{address.rpartition(':')[2]}",
        machine=facts.machine,
        cores=int(declared.get("cpu", threads)),
        gpus=gpus,
        memory=int(declared.get("memory") or about.get("memory_limit") or facts.memory),
        limit=threads,
        gpu_limit=gpu_limit,
        declares=tuple(key for key in about.get("resources", {}) if str(key).lower() in ("cpu", "gpu", "memory")),
        origin=str(about.get("name", "")),
    )


def _claims(host: Host, resources: Resources) -> dict[str, float]:
    """Returns what a task claims of the resources that its worker declares."""
    asked = {"cpu": resources.cpu, "gpu": resources.gpu, "memory": resources.memory or 0}
    return {key: asked[key.lower()] for key in host.declares if asked[key.lower()]}


def _is_this_machine(address: str) -> bool:
    host = address.partition("://")[2].rpartition(":")[0].strip("[]")
    return host == "localhost" or host.startswith("127.") or host == "::1"
