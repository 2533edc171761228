"""Where tasks fit on one machine: how many cores, GPUs and shares of a GPU are left beside what is held."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from hpcompss.engines.machine import available_cores, available_gpus, available_memory
from hpcompss.errors import InputError
from hpcompss.trial import Resources

__all__ = ["ROUNDING", "Machine", "Shape", "free_gpus", "place_of", "size"]

Shape = tuple[int, float]
"""What a worker holds: cores, and GPUs (a fraction below 1 is a share of one)."""

ROUNDING = 1e-9
"""Tolerance for sums of shares: three thirds are one GPU."""


class Machine:
    """What of this machine may be used.

    Args:
        workers: How many tasks may run at once, or None for no bound but the others.
        cores: How many cores, or None for all that this process may use.
        gpus: The GPUs as ``CUDA_VISIBLE_DEVICES`` names them, or how many of those that are visible, or None for all of
            these. Where none is visible, a number stands for GPUs 0, 1, ... that are only declared, to see where tasks
            are placed.
        memory: Bytes of memory, or None for all that this process may use.

    Raises:
        InputError: An argument is out of its range.
    """

    def __init__(
        self, workers: int | None, cores: int | None, gpus: Sequence[str] | int | None, memory: int | None
    ) -> None:
        for name, value in (("workers", workers), ("cores", cores), ("memory", memory)):
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, not {value}", key=f"engine.{name}")
        if isinstance(gpus, str) or (isinstance(gpus, int) and gpus < 0):
            raise InputError(f"gpus must be a list of names or a number from 0, not {gpus!r}", key="engine.gpus")
        self.workers = workers
        self.cores = available_cores() if cores is None else cores
        self.memory = available_memory() if memory is None else memory
        self._stated_gpus = gpus

    @cached_property
    def gpus(self) -> tuple[str, ...]:
        """The names of the GPUs; looked for only when a task asks for one, as that may take a second.

        Raises:
            InputError: More were stated than are visible.
        """
        stated = self._stated_gpus
        if stated is not None and not isinstance(stated, int):
            return tuple(dict.fromkeys(map(str, stated)))
        visible = available_gpus()
        if stated is None:
            return visible
        if visible and stated > len(visible):
            message = f"gpus is {stated}, but only {len(visible)} are visible ({', '.join(visible)}): lower it"
            raise InputError(message, key="engine.gpus")
        return visible[:stated] or tuple(map(str, range(stated)))

    def capacity(self, resources: Resources) -> int:
        """Returns how many tasks of this shape run at once; 0 when none ever can."""
        bounds = [self.cores // resources.cpu]
        if self.workers is not None:
            bounds.append(self.workers)
        if resources.gpu:
            bounds.append(self._gpu_capacity(resources.gpu))
        if resources.memory:
            bounds.append(self.memory // resources.memory)
        return min(bounds)

    def impossible(self, resources: Resources) -> InputError:
        """Returns the error for a task of which not even one can run."""
        if resources.cpu > self.cores:
            key, wanted, there = "cpu", f"{resources.cpu} cpus", str(self.cores)
        elif resources.gpu and not self._gpu_capacity(resources.gpu):
            key, wanted, there = "gpu", f"{resources.gpu:g} GPU{'s' * (resources.gpu > 1)}", str(len(self.gpus))
        else:
            key, wanted, there = "memory", f"{size(resources.memory or 0)} of memory", size(self.memory)
        text = f"a trial asks for {wanted}, this machine has {there}: lower resources.{key}"
        return InputError(text, key=f"resources.{key}")

    def room(self, shape: Shape, held: Iterable[tuple[Shape, tuple[str, ...]]]) -> tuple[str, ...] | None:
        """Returns the GPUs (none, for a shape without) that one more worker would get, or None when it does not fit.

        Args:
            shape: What it asks for.
            held: The shape and the GPUs of each worker there is.
        """
        cpu, gpu = shape
        workers = list(held)
        if self.workers is not None and len(workers) >= self.workers:
            return None
        if cpu + sum(other[0] for other, _ in workers) > self.cores:
            return None
        return free_gpus(self.gpus, gpu, ((other[1], names) for other, names in workers)) if gpu else ()

    def _gpu_capacity(self, gpu: float) -> int:
        if gpu >= 1:
            return len(self.gpus) // int(gpu)
        return len(self.gpus) * int(1 / gpu + ROUNDING)


def free_gpus(
    gpus: Sequence[str], wanted: float, held: Iterable[tuple[float, tuple[str, ...]]]
) -> tuple[str, ...] | None:
    """Returns the GPUs that a task gets, or None where too few are free.

    Args:
        gpus: All GPUs.
        wanted: How many it asks for, or a share of one.
        held: What each other task asked for, and the GPUs it got.
    """
    used = dict.fromkeys(gpus, 0.0)
    for other, names in held:
        for name in names:
            used[name] = used.get(name, 0.0) + min(other, 1.0)
    share, count = min(wanted, 1.0), max(1, int(wanted))
    # The least used first: two halves share a GPU only when none is free.
    free = sorted((name for name in gpus if used[name] + share <= 1 + ROUNDING), key=used.__getitem__)[:count]
    return tuple(sorted(free, key=gpus.index)) if len(free) == count else None


def place_of(name: str, gpus: Sequence[str]) -> str:
    """Returns where a task runs, for people.

    >>> place_of("node7", ["0", "1"])
    'node7, GPUs 0, 1'
    """
    return f"{name}, GPU{'s' * (len(gpus) > 1)} {', '.join(gpus)}" if gpus else name


def size(count: float) -> str:
    """Returns a number of bytes for people.

    >>> size(2_130_000_000)
    '2.13 GB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
