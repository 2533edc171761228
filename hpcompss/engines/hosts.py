"""The workers that an engine has at the moment, and which of them has room for a task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hpcompss.cluster.nodes import Node, impossible
from hpcompss.engines.placement import ROUNDING, free_gpus
from hpcompss.errors import InputError
from hpcompss.trial import Resources

__all__ = ["Held", "Host", "capacity", "place", "refusal"]


@dataclass(frozen=True)
class Host:
    """A worker that runs tasks.

    Attributes:
        key: What the engine knows it by.
        name: What people know it by.
        machine: What tells its machine from others: workers on one machine share its GPUs.
        cores: How many cores it may use.
        gpus: The names of the GPUs it sees.
        memory: Bytes, or None where they bound nothing.
        limit: How many tasks may run there at once, or None.
        gpu_limit: How many of its machine's GPUs it may use at once, or None for all that it sees.
        declares: The names of the resources that it declares to its framework.
        origin: What whoever started it knows it by.
    """

    key: str
    name: str
    machine: str
    cores: int
    gpus: tuple[str, ...] = ()
    memory: int | None = None
    limit: int | None = None
    gpu_limit: float | None = None
    declares: tuple[str, ...] = ()
    origin: str = ""

    def __str__(self) -> str:
        parts = [f"{self.cores} core{'s' * (self.cores != 1)}"]
        if self.gpus:
            parts.append(f"{len(self.gpus)} GPU{'s' * (len(self.gpus) != 1)}")
        return f"{self.name} ({', '.join(parts)})"


@dataclass(frozen=True)
class Held:
    """What a task holds.

    Attributes:
        host: Where.
        resources: What it asked for.
        gpus: The GPUs it got.
    """

    host: Host
    resources: Resources
    gpus: tuple[str, ...]


def place(hosts: Iterable[Host], resources: Resources, held: Sequence[Held]) -> tuple[Host, tuple[str, ...]] | None:
    """Returns the host that a task goes to, and the GPUs it gets; None where none has room.

    Of several hosts the one that has most cores left.
    """
    by_host, by_machine = _grouped(held)
    best: tuple[int, Host, tuple[str, ...]] | None = None
    for host in hosts:
        own = by_host.get(host.key, ())
        left = host.cores - sum(each.resources.cpu for each in own)
        if left < resources.cpu or (best is not None and left <= best[0]):
            continue
        if host.limit is not None and len(own) >= host.limit:
            continue
        promised = sum(each.resources.memory or 0 for each in own)
        if resources.memory and host.memory is not None and promised + resources.memory > host.memory:
            continue
        gpus = _gpus(host, resources.gpu, own, by_machine.get(host.machine, ()))
        if gpus is not None:
            best = left, host, gpus
    return None if best is None else best[1:]


def _grouped(held: Sequence[Held]) -> tuple[dict[str, list[Held]], dict[str, list[Held]]]:
    """Returns what is held by the host, and by the machine."""
    by_host: dict[str, list[Held]] = {}
    by_machine: dict[str, list[Held]] = {}
    for each in held:
        by_host.setdefault(each.host.key, []).append(each)
        by_machine.setdefault(each.host.machine, []).append(each)
    return by_host, by_machine


def _gpus(host: Host, wanted: float, own: Sequence[Held], there: Sequence[Held]) -> tuple[str, ...] | None:
    if not wanted:
        return ()
    used = sum(each.resources.gpu for each in own)
    if host.gpu_limit is not None and used + wanted > host.gpu_limit + ROUNDING:
        return None
    return free_gpus(host.gpus, wanted, ((each.resources.gpu, each.gpus) for each in there))


def capacity(hosts: Sequence[Host], resources: Resources) -> int:
    """Returns how many tasks of this shape run at once; 0 when none ever can."""
    if not resources.gpu:
        return sum(_alone(host, resources) for host in hosts)
    machines: dict[str, list[Host]] = {}
    for host in hosts:
        machines.setdefault(host.machine, []).append(host)
    count = 0
    for there in machines.values():  # they share nothing
        held: list[Held] = []
        while (found := place(there, resources, held)) is not None:
            held.append(Held(found[0], resources, found[1]))
        count += len(held)
    return count


def _alone(host: Host, resources: Resources) -> int:
    bounds = [host.cores // resources.cpu]
    if resources.memory and host.memory is not None:
        bounds.append(host.memory // resources.memory)
    if host.limit is not None:
        bounds.append(host.limit)
    return min(bounds)


def refusal(hosts: Iterable[Host], resources: Resources) -> InputError:
    """Returns the error for a task that none of the hosts could ever run."""
    return impossible([Node(host.name, host.cores, len(host.gpus), host.memory) for host in hosts], resources)
