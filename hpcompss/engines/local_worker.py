"""The worker program of the local engine: a fresh interpreter that runs one task after another for the master.

Each message is one ``send_bytes`` of a `multiprocessing.connection.Connection`.

- A task, to the worker: `COUNT` (how many results it takes), then the cloudpickled function and its arguments, in which
  a `Dependency` stands for each of those results. The results follow, a message each, as their workers pickled them.
- News, to the master: `HEADER` (`READY`, `PROGRESS` or `RESULT`, and the worker's private memory in bytes), then the
  pickled values that were published, or the pickled result.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import importlib
import io
import os
import pickle
import select
import signal
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from hpcompss import progress
from hpcompss.engines import pickling
from hpcompss.engines.machine import own_private_memory
from hpcompss.trial import Failure, FailureKind

__all__ = [
    "BOOTSTRAP",
    "COUNT",
    "HEADER",
    "PATH_VARIABLE",
    "PROGRESS",
    "READY",
    "RESULT",
    "Dependency",
    "main",
    "replaced",
    "unpickled",
]

HEADER = struct.Struct("!cQ")
COUNT = struct.Struct("!I")
READY, PROGRESS, RESULT = b"R", b"P", b"V"

PATH_VARIABLE = "HPCOMPSS_WORKER_PATH"
"""The environment variable that carries the master's ``sys.path`` to a worker, one entry a line."""

BOOTSTRAP = (
    f"import os, sys; sys.path[:] = os.environ.pop({PATH_VARIABLE!r}).split(chr(10)); "
    f"from {__name__} import main; main()"
)
"""What the interpreter of a worker runs. Not ``-m``, which would make this module a second one, named ``__main__``."""

PROGRESS_PAUSE = 0.1
"""Seconds between two messages of progress: often enough for people, and too seldom to slow down the master."""

OUT_OF_MEMORY_SCORE = 500
"""How willing a worker is to be ended by the kernel when memory runs out, of 1000: more than the master (0) is."""


@dataclass(frozen=True)
class Dependency:
    """Stands for the result of another task among the arguments of a task.

    Attributes:
        index: Its place among the results that follow the task.
    """

    index: int


def main() -> None:
    """Serves the master that started this process, until it goes.

    The arguments of the process: the file descriptors of the connection and of the lifeline (a pipe whose other end
    only the master holds), then the names of modules to import ahead.
    """
    connection_number, lifeline, *modules = sys.argv[1:]
    del sys.argv[1:]  # a library that reads the command line must not meet these
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the master's business
    faulthandler.enable(all_threads=False)
    _end_with_master(int(lifeline))
    _offer_to_out_of_memory_killer()
    os.set_inheritable(int(connection_number), False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a worker is killed in the end, which flushes nothing
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    _TaskRunner(Connection(int(connection_number))).serve()


def _end_with_master(lifeline: int) -> None:
    """Has the kernel kill this process and all it started as soon as the master is gone, however that went.

    Linux sends a signal when a pipe's last writer goes: that works while a task keeps the interpreter's lock, unlike
    the thread that waits for the same event elsewhere. `PR_SET_PDEATHSIG` would not do: it fires when the *thread*
    that started this process ends, and spares what a task started.
    """
    os.set_inheritable(lifeline, False)
    try:
        # Opened anew, for the owner of the signal belongs to the opening, and workers share that of the master.
        own = os.open(f"/proc/self/fd/{lifeline}", os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(own, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(own, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(own, fcntl.F_SETFL, os.O_RDONLY | os.O_NONBLOCK | os.O_ASYNC)
    except (AttributeError, OSError):
        threading.Thread(target=_wait_for_end, args=(lifeline,), daemon=True).start()
        return
    os.close(lifeline)
    poller = select.poll()
    poller.register(own, 0)
    if poller.poll(0):  # it was gone before the signal was asked for
        os._exit(0)


def _wait_for_end(lifeline: int) -> None:
    os.read(lifeline, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _offer_to_out_of_memory_killer() -> None:
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(OUT_OF_MEMORY_SCORE))


class _TaskRunner:
    """Runs the tasks that arrive on a connection, and sends what they publish and return."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._process = os.getpid()
        self._sending = threading.Lock()
        self._running = False
        self._published: deque[dict[str, float]] = deque(maxlen=1)
        self._news = threading.Event()
        self._reporter: threading.Thread | None = None

    def serve(self) -> None:
        """Runs tasks until the master is gone."""
        folder = os.open(".", os.O_RDONLY)
        progress.listen(self._publish, self._flush)
        try:
            self._send(_message(READY))
            while True:
                messages = self._next_task()
                os.fchdir(folder)  # the task before may have gone elsewhere
                self._running = True
                self._finish(self._run(messages))
        except (EOFError, OSError):
            os._exit(0)

    def _next_task(self) -> list[bytes]:
        task = self._connection.recv_bytes()
        (count,) = COUNT.unpack_from(task)
        return [task, *(self._connection.recv_bytes() for _ in range(count))]

    def _run(self, messages: list[bytes]) -> memoryview:
        """Runs one task and returns the message with its result; ``messages`` is emptied, to free its memory."""
        try:
            function, arguments = unpickled(messages)
            return _result(function, function(*arguments))
        except BaseException as error:
            return _message(RESULT, Failure.of(error))

    def _finish(self, message: memoryview) -> None:
        if os.getpid() != self._process:
            os._exit(0)  # the task forked, and this is the child: it must not speak for its parent
        HEADER.pack_into(message, 0, RESULT, own_private_memory())
        with self._sending:
            self._send_published()
            self._running = False
            self._connection.send_bytes(message)

    def _send(self, message: memoryview) -> None:
        with self._sending:
            self._connection.send_bytes(message)

    def _publish(self, values: Mapping[str, float]) -> None:
        """Keeps what a task published for the thread that sends it, so that no task ever waits for the master."""
        if not self._running or os.getpid() != self._process:
            return
        self._published.append(dict(_numbers(values)))
        if self._reporter is None:
            self._reporter = threading.Thread(target=self._report, daemon=True)
            self._reporter.start()
        self._news.set()

    def _flush(self) -> None:
        if os.getpid() == self._process:
            with self._sending, contextlib.suppress(OSError):
                self._send_published()

    def _report(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            with self._sending, contextlib.suppress(OSError):
                self._send_published()
            time.sleep(PROGRESS_PAUSE)

    def _send_published(self) -> None:
        with contextlib.suppress(IndexError):
            values = self._published.pop()
            if self._running:
                self._connection.send_bytes(_message(PROGRESS, values))


def replaced(argument: Any, substitute: Callable[[Any], Any]) -> Any:
    """Returns an argument with ``substitute`` applied to it or, in a list, tuple or dict, to each of its members."""
    if type(argument) in (list, tuple):
        return type(argument)(map(substitute, argument))
    if type(argument) is dict:
        return {key: substitute(value) for key, value in argument.items()}
    return substitute(argument)


def unpickled(messages: list[bytes]) -> tuple[Callable[..., Any], list[Any]]:
    """Returns the function and the arguments of a task and of the results it takes; empties ``messages``."""
    task, *results = messages
    messages.clear()
    function, arguments = pickle.loads(memoryview(task)[COUNT.size :])
    if not results:
        return function, arguments
    values = [pickle.loads(result) for result in results]

    def fill(argument: Any) -> Any:
        return values[argument.index] if isinstance(argument, Dependency) else argument

    return function, [replaced(argument, fill) for argument in arguments]


def _message(kind: bytes, value: Any = None) -> memoryview:
    buffer = io.BytesIO()
    buffer.write(HEADER.pack(kind, 0))
    pickling.dump(value, buffer)
    return buffer.getbuffer()


def _result(function: Callable[..., Any], value: Any) -> memoryview:
    try:
        return _message(RESULT, value)
    except Exception as error:
        name = getattr(function, "__qualname__", "the task")
        reason = f"what {name} returned cannot be sent to the master: {Failure.of(error).reason}"
        return _message(RESULT, Failure(FailureKind.EXCEPTION, reason))


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yields what is a number as Python's own: a tensor would have the master import its library."""
    for name, value in values.items():
        with contextlib.suppress(Exception):
            yield name, value if type(value) is int else float(value)
