"""One worker process of the local engine, as the master sees it: its start, its messages, its end.

It is a fresh interpreter with a program of its own, not one of `multiprocessing`'s processes: those import the user's
script again, which would have to be written for that, and those that fork take the master's threads and locks along.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import Pipe
from pathlib import Path
from types import MappingProxyType
from typing import IO

from hpcompss.engines.local_worker import BOOTSTRAP, HEADER, PATH_VARIABLE
from hpcompss.engines.placement import place_of

__all__ = [
    "DEATH_PATIENCE",
    "EMPTY",
    "THREAD_VARIABLES",
    "WorkerProcess",
    "forwarded_environment",
    "worker_environment",
]

THREAD_VARIABLES = (
    "HPCOMPSS_THREADS",
    "LOKY_MAX_CPU_COUNT",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NPROC",
    "NUMEXPR_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "PYTHON_CPU_COUNT",
    "RAYON_NUM_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""The environment variables that say how many threads a library uses; each is read once, when the library starts.
``NPROC`` is that of XLA, and so of JAX."""

FORWARDED = ("KERAS_BACKEND",)
"""The master's environment variables that workers on other machines are to have, too."""

RANK_PREFIXES = ("OMPI_COMM_WORLD_", "PMIX_", "PMI_")
"""What the variables begin with that make a process a rank of MPI: a worker is not the rank that its master may be."""

LOG_LIMIT = 1 << 20
"""Bytes of standard error that are kept where nobody asked for logs: enough for the last words of any crash."""

TAIL_LENGTH = 8_000
"""Characters of a log that explain a death: a segmentation fault's Python stack fits."""

DEATH_PATIENCE = 5.0
"""Seconds to wait for a killed process to be gone; only one that hangs in the kernel takes longer."""

EXIT_PATIENCE = 1.0
"""Seconds that a process which closed its connection has to end by itself."""

EMPTY: Mapping[str, str] = MappingProxyType({})


def forwarded_environment() -> dict[str, str]:
    """Returns those of the master's environment variables that workers on other machines are to have."""
    return {name: os.environ[name] for name in FORWARDED if name in os.environ}


def worker_environment(cpu: int, gpus: Sequence[str], more: Mapping[str, str] = EMPTY) -> dict[str, str]:
    """Returns the environment of a worker: the master's, with ``cpu`` threads a library and only ``gpus`` visible.

    Args:
        cpu: The threads it may use.
        gpus: The GPUs it sees.
        more: Further variables; they come last.

    Threads are counted and not pinned to cores: two studies on one machine would choose the same cores to pin, and
    the kernel's scheduler keeps a busy thread where it is anyway.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith(RANK_PREFIXES)}
    environment.update(dict.fromkeys(THREAD_VARIABLES, str(cpu)))
    if "CUDA_VISIBLE_DEVICES" not in environment:
        # The order in which nvidia-smi counts; the user's own numbers mean what they mean in the user's order.
        environment.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    # An unset variable would show all GPUs, and a TensorFlow that sees them takes memory on each.
    environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    # Or the first of two tasks on a GPU would take all of it.
    environment["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    environment.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if not gpus:
        environment.setdefault("JAX_PLATFORMS", "cpu")  # JAX fails where it looks for GPUs and sees none
    environment[PATH_VARIABLE] = "\n".join(sys.path)
    environment.update(more)
    return environment


class WorkerProcess:
    """A process that runs tasks of one shape, and the files through which the master knows it.

    Args:
        number: Its number for people, from 1.
        cpu: The threads it may use.
        gpus: The GPUs it sees.
        lifeline: The reading end of a pipe that breaks when the master dies.
        log_directory: Where it writes what tasks print, or None to drop that.
        preload: Modules to import before its first task.
        directory: Its working directory, or None for the master's.
        environment: Environment variables that it has beside the master's.
    """

    def __init__(
        self,
        number: int,
        cpu: int,
        gpus: Sequence[str],
        *,
        lifeline: int,
        log_directory: Path | None,
        preload: Sequence[str],
        directory: Path | None = None,
        environment: Mapping[str, str] = EMPTY,
    ) -> None:
        self.number = number
        self.place = place_of(f"worker {number}", gpus)
        self._keeps_log = log_directory is not None
        self._log = _open_log(log_directory, number)
        self._task_log_start = 0
        self.connection, other_end = Pipe()
        with other_end:
            self._process = subprocess.Popen(
                [sys.executable, "-c", BOOTSTRAP, str(other_end.fileno()), str(lifeline), *preload],
                stdin=subprocess.DEVNULL,
                stdout=self._log if self._keeps_log else subprocess.DEVNULL,
                stderr=self._log,
                env=worker_environment(cpu, gpus, environment),
                cwd=directory,
                pass_fds=(other_end.fileno(), lifeline),
                start_new_session=True,
            )
        self.identity = self._process.pid
        self.sentinel = _sentinel(self.identity)
        """A file descriptor that is readable once the process is dead, or None where the system has no such thing."""

    def send(self, messages: Sequence[bytes | memoryview]) -> None:
        """Sends a task.

        Raises:
            OSError: The process is dead.
        """
        self.trim_log()
        self._task_log_start = os.fstat(self._log.fileno()).st_size
        for message in messages:
            self.connection.send_bytes(message)

    def receive(self) -> tuple[bytes, int, memoryview]:
        """Returns the next message: its kind, the worker's private memory in bytes, and its body.

        Raises:
            EOFError: The process closed its connection.
            OSError: The connection broke.
        """
        message = self.connection.recv_bytes()
        kind, memory = HEADER.unpack_from(message)
        return kind, memory, memoryview(message)[HEADER.size :]

    def last_messages(self) -> Iterator[tuple[bytes, int, memoryview]]:
        """Yields what a dead process had sent before."""
        with contextlib.suppress(EOFError, OSError):
            while self.connection.poll(0):
                yield self.receive()

    def trim_log(self) -> None:
        """Empties a log that nobody asked for when it has grown long."""
        if not self._keeps_log and os.fstat(self._log.fileno()).st_size > LOG_LIMIT:
            os.ftruncate(self._log.fileno(), 0)

    def log_tail(self) -> str:
        """Returns the last of what the task wrote on standard error (and standard output, where logs are kept)."""
        size = os.fstat(self._log.fileno()).st_size
        start = self._task_log_start if self._task_log_start <= size else 0
        text = os.pread(self._log.fileno(), TAIL_LENGTH, max(start, size - TAIL_LENGTH)).decode(errors="replace")
        # The list of all extension modules says nothing about the crash and hides what does.
        return "\n".join(line for line in text.splitlines() if not line.startswith("Extension modules:")).strip()

    @property
    def dead(self) -> bool:
        """Whether the process has ended by itself."""
        return self._process.poll() is not None

    def signal_end(self) -> None:
        """Kills the process and all it started, without waiting."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.identity, signal.SIGKILL)

    def end(self) -> int | None:
        """Kills the process and all it started, and waits until it is gone.

        Returns:
            Its exit status, negative for a signal; None when even killing has not ended it yet.
        """
        self.signal_end()
        self._await_end(DEATH_PATIENCE)
        return self._process.poll()

    def end_naturally(self) -> int | None:
        """Ends the process like `end`, but lets it end by itself first, so that its own exit status is seen."""
        self._await_end(EXIT_PATIENCE)
        return self.end()

    def close(self) -> None:
        """Closes the files; the process must have ended."""
        self.connection.close()
        self._log.close()
        if self.sentinel is not None:
            os.close(self.sentinel)
            self.sentinel = None

    def disown(self) -> None:
        """Closes the files in a process that was forked from the master and so must leave the worker alone."""
        self.close()
        self._process.returncode = 0  # or it would wait for a process that is not its child

    def _await_end(self, seconds: float) -> None:
        if self.sentinel is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
            return
        # The sentinel leaves the process a zombie, whose number can still be killed safely.
        poller = select.poll()
        poller.register(self.sentinel, select.POLLIN)
        poller.poll(seconds * 1000)


def _open_log(directory: Path | None, number: int) -> IO[bytes]:
    if directory is not None:
        return open(directory / f"worker-{number}.log", "a+b", buffering=0)
    log: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - the worker process closes it
    # Appending, so that the worker goes on at the start after the log was emptied.
    fcntl.fcntl(log, fcntl.F_SETFL, fcntl.fcntl(log, fcntl.F_GETFL) | os.O_APPEND)
    return log


def _sentinel(process: int) -> int | None:
    try:
        return os.pidfd_open(process)
    except (AttributeError, OSError):
        return None
