"""Workers that a master starts for itself, as many as trials wait for, and ends again when they have nothing to do."""

from __future__ import annotations

import abc
import contextlib
import itertools
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from hpcompss.engines.hosts import Host
from hpcompss.errors import HpcompssError, InputError
from hpcompss.trial import Resources

__all__ = ["CommandFleet", "Fleet", "JobFleet", "ProcessFleet", "Range"]

IDLE = 30.0
"""Seconds that a worker may have nothing to do before it is ended: between two trials of a search there is little."""

FAILURES = 3
"""So many workers in a row that end before they join are no accident."""

ENDING = 10.0
"""Seconds for a worker to end that was told to."""


@dataclass(frozen=True)
class Range:
    """How many workers there are.

    Attributes:
        least: So many at any time.
        most: So many at the most.

    Raises:
        InputError: They are out of range.
    """

    least: int
    most: int

    def __post_init__(self) -> None:
        if not 0 <= self.least <= self.most or self.most < 1:
            raise InputError(
                f"workers are between min (from 0) and max (from 1), not {self.least} and {self.most}",
                key="engine.workers",
            )


class Fleet(abc.ABC):
    """Workers that come and go: at once when trials wait, and after a while when they have nothing to do.

    Args:
        bounds: How many there are.
        idle: Seconds after which a worker that has nothing to do is ended.
    """

    def __init__(self, bounds: Range, idle: float = IDLE) -> None:
        self._bounds = bounds
        self._idle = idle
        self._busy_at: dict[str, float] = {}

    def adjust(self, waiting: int, hosts: Sequence[Host], busy: AbstractSet[str]) -> None:
        """Starts and ends workers.

        Args:
            waiting: How many tasks wait for room.
            hosts: The workers that are there.
            busy: The keys of those that run something.
        """
        now = time.monotonic()
        own = {host.key: host for host in hosts if self._owns(host)}
        self._busy_at = {key: now if key in busy else self._busy_at.get(key, now) for key in own}
        wanted = min(self._bounds.most, max(self._bounds.least, len(busy & set(own)) + waiting))
        count = self._count()
        if count < wanted:
            self._grow(wanted - count)
            return
        # No busy one ever ends, nor one that may be about to get what waits.
        surplus = count - max(wanted, self._bounds.least)
        idle = [key for key, last in self._busy_at.items() if key not in busy and now - last > self._idle]
        if surplus > 0 and idle and not waiting:
            self._shrink([own[key] for key in sorted(idle, key=self._busy_at.__getitem__)[:surplus]])

    def growth(self, hosts: Iterable[Host]) -> int:
        """Returns how many workers there may be beside those that have joined."""
        return max(0, self._bounds.most - sum(map(self._owns, hosts)))

    @abc.abstractmethod
    def _owns(self, host: Host) -> bool:
        """Returns whether this fleet started a worker."""

    @abc.abstractmethod
    def _count(self) -> int:
        """Returns how many workers there are, those counted that are about to join."""

    @abc.abstractmethod
    def _grow(self, count: int) -> None:
        """Starts so many more."""

    @abc.abstractmethod
    def _shrink(self, hosts: Sequence[Host]) -> None:
        """Ends these."""

    @abc.abstractmethod
    def close(self) -> None:
        """Ends all."""


@dataclass
class _Process:
    process: subprocess.Popen[bytes]
    words: IO[bytes]
    joined: bool = False
    leaving: bool = False


class ProcessFleet(Fleet):
    """Workers on this machine: processes of ``hpcompss worker``, each for one trial.

    Args:
        bounds: How many there are.
        address: The master's.
        certificates: The folder of certificates, or None.
        trial: What one trial asks for.
        idle: Seconds after which a worker that has nothing to do is ended.
    """

    def __init__(
        self,
        bounds: Range,
        address: str,
        certificates: str | Path | None,
        trial: Resources,
        idle: float = IDLE,
    ) -> None:
        super().__init__(bounds, idle)
        self._command = [sys.executable, "-m", "hpcompss", "worker", address, "--patience", "0", "--quiet"]
        self._command += ["--cpu", str(trial.cpu), "--gpu", f"{trial.gpu:g}"]
        if trial.memory is not None:
            self._command += ["--memory", f"{trial.memory}B"]
        if certificates is not None:
            self._command += ["--certificates", str(certificates)]
        self._numbers = itertools.count(1)
        self._processes: dict[str, _Process] = {}
        self._failures = 0

    def adjust(self, waiting: int, hosts: Sequence[Host], busy: AbstractSet[str]) -> None:
        for host in hosts:
            if host.origin in self._processes:
                self._processes[host.origin].joined = True
                self._failures = 0
        for name, each in list(self._processes.items()):
            if each.process.poll() is not None:
                del self._processes[name]
                self._bury(each)
        super().adjust(waiting, hosts, busy)

    def _bury(self, ended: _Process) -> None:
        with ended.words as file:
            file.seek(0)
            words = file.read().decode(errors="replace").strip().splitlines()
        if ended.joined:
            return
        self._failures += 1
        if self._failures >= FAILURES:
            reason = words[-1] if words else f"status {ended.process.returncode}"
            raise HpcompssError(f"{FAILURES} workers on this machine ended before they joined: {reason}")

    def _owns(self, host: Host) -> bool:
        return host.origin in self._processes and not self._processes[host.origin].leaving

    def _count(self) -> int:
        return sum(not each.leaving for each in self._processes.values())

    def _grow(self, count: int) -> None:
        for _ in range(count):
            name = f"local-{next(self._numbers)}"
            words = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed when the process has ended
            process = subprocess.Popen(
                [*self._command, "--name", name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=words,
                start_new_session=True,  # Ctrl-C is the master's business
            )
            self._processes[name] = _Process(process, words)

    def _shrink(self, hosts: Sequence[Host]) -> None:
        for host in hosts:
            leaving = self._processes[host.origin]
            leaving.leaving = True
            leaving.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        processes, self._processes = list(self._processes.values()), {}
        for each in processes:
            each.process.terminate()
        until = time.monotonic() + ENDING
        for each in processes:
            try:
                each.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                each.process.kill()
                each.process.wait()
            each.words.close()


class CommandFleet(Fleet):
    """Workers that a command starts and ends, such as ``docker compose up -d --scale worker={count}``.

    Args:
        bounds: How many there are.
        command: What to run with the number of workers in place of ``{count}``, whenever that changes.
        idle: Seconds after which workers that have nothing to do are ended.

    Raises:
        InputError: The command has no place for the number, or is no command.
    """

    def __init__(self, bounds: Range, command: str, idle: float = IDLE) -> None:
        super().__init__(bounds, idle)
        try:
            self._command = shlex.split(command)
        except ValueError as error:
            raise InputError(f"the command cannot be read ({error})", key="engine.start") from None
        if "{count}" not in command:
            raise InputError(
                "the command has no {count}, in whose place the number of workers is put", key="engine.start"
            )
        self._wanted = 0

    def _owns(self, host: Host) -> bool:
        return True

    def _count(self) -> int:
        return self._wanted

    def _grow(self, count: int) -> None:
        self._run(self._wanted + count)

    def _shrink(self, hosts: Sequence[Host]) -> None:
        self._run(self._wanted - len(hosts))

    def _run(self, count: int) -> None:
        command = [word.replace("{count}", str(count)) for word in self._command]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        except OSError as error:
            raise InputError(
                f"the command {command[0]!r} cannot be run ({error.strerror})", key="engine.start"
            ) from None
        if done.returncode:
            words = (done.stderr or done.stdout).strip().splitlines()
            raise HpcompssError(
                f"the command  {shlex.join(command)}  ended with status {done.returncode}: "
                f"{words[-1] if words else 'it said nothing'}"
            )
        self._wanted = count

    def close(self) -> None:
        with contextlib.suppress(HpcompssError):
            self._run(0)


class JobFleet(Fleet):
    """Workers that are jobs of a batch system, by dask-jobqueue.

    Args:
        bounds: How many there are.
        cluster: The cluster of dask-jobqueue.
        idle: Seconds after which a worker that has nothing to do is ended.
    """

    def __init__(self, bounds: Range, cluster: Any, idle: float = IDLE) -> None:
        super().__init__(bounds, idle)
        self._cluster = cluster

    def _owns(self, host: Host) -> bool:
        return True

    def _count(self) -> int:
        return len(self._specifications)

    @property
    def _specifications(self) -> Mapping[Any, Any]:
        found: Mapping[Any, Any] = self._cluster.worker_spec
        return found

    def _grow(self, count: int) -> None:
        self._cluster.scale(len(self._specifications) + count)

    def _shrink(self, hosts: Sequence[Host]) -> None:
        self._cluster.sync(self._cluster.scale_down, [host.origin for host in hosts])

    def close(self) -> None:
        """Does nothing: the jobs end with their cluster."""
