"""What tasks on other machines tell the master while it cannot wait for any of them: small signed messages.

A task opens a line to the master's `Desk`. Each message is one line: a keyed hash (HMAC-SHA256), a space, and JSON.
The key is a secret of this run, the hash covers a number that the desk draws for each line and the message's place on
it, so that none can be forged, repeated or moved; nothing is unpickled. Where a line cannot be had, messages are signed
files in a folder that master and workers share.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import json
import os
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Desk", "Line", "Message", "Office", "collect", "local_address"]

LONGEST = 1 << 16
"""Bytes of a message; a longer one is not from a task of ours."""

PATIENCE = 10.0
"""Seconds for a line to be opened, and for the desk's first word."""

REOPENING = 2.0
"""Seconds for a line that broke to be opened anew; it is tried when there is something to tell."""

PAUSE = 5.0
"""Seconds between two such tries."""

INSISTENCE = 30.0
"""Seconds for which a task tries to tell that it is done: the master may be held up."""

EVENTS = ("start", "alive", "progress", "done")
"""What a task tells, in this order; ``alive`` is what it says when it has long had nothing to tell."""

Message = dict[str, Any]


@dataclass(frozen=True)
class Office:
    """Where the master is reached, for its tasks.

    Attributes:
        address: The host, or None where there is no desk.
        port: Its port.
        folder: A folder that both see, or None.
        secret: The key of this run; never written to a log or a journal.
    """

    address: str | None
    port: int
    folder: Path | None
    secret: bytes = field(repr=False)


def _signature(secret: bytes, context: str, body: str) -> str:
    return hmac.new(secret, f"{context}\n{body}".encode(), hashlib.sha256).hexdigest()


def _sealed(secret: bytes, context: str, message: Message) -> bytes:
    body = json.dumps(message)
    return f"{_signature(secret, context, body)} {body}\n".encode()


def _opened(secret: bytes, context: str, line: bytes) -> Message | None:
    """Returns a message, or None where it is not what the holder of the secret sent in this place."""
    signature, _, body = line.decode(errors="replace").rstrip("\n").partition(" ")
    if not hmac.compare_digest(signature.encode(), _signature(secret, context, body).encode()):
        return None
    message = json.loads(body)
    return message if isinstance(message, dict) else None


def local_address(peers: Iterable[str]) -> str:
    """Returns the address of this machine that others would reach it by; the loopback's where all are this machine."""
    for peer in peers:
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((peer, 9))  # sends nothing: a datagram socket only looks up the way
            found = str(probe.getsockname()[0])
            if not found.startswith("127."):
                return found
    return "127.0.0.1"


def _allow_many_files() -> None:
    """Raises this process's limit on open files as far as it may: each running task holds a line."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Caller:
    """A line as the desk sees it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.number = secrets.token_hex(16)
        self.received = b""
        self.heard = 0
        self.said = 0
        self.task: tuple[int, int] | None = None


class Desk:
    """Listens for tasks, in a thread of the master.

    Args:
        address: The address to listen on, which workers can reach.
        port: The port, 0 for any.
        secret: The key that the tasks sign with.
        heard: Called in the thread with each message, and with ``{"event": "gone", ...}`` for a line that broke; its
            answer, where there is one, is sent back.

    Raises:
        OSError: The address is not one of this machine's, or the port is taken.
    """

    def __init__(self, address: str, port: int, secret: bytes, heard: Callable[[Message], Message | None]) -> None:
        self._secret = secret
        self._heard = heard
        self._callers: dict[tuple[int, int], _Caller] = {}
        self._lock = threading.Lock()
        _allow_many_files()
        self._listener = socket.create_server((address, port), backlog=1024)
        self.address, self.port = self._listener.getsockname()[:2]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._closing, self._close = os.pipe()
        self._selector.register(self._closing, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="desk", daemon=True)
        self._thread.start()

    def tell(self, task: int, attempt: int, message: Message) -> bool:
        """Sends a message to a running task. Returns False where it has no line."""
        with self._lock:
            caller = self._callers.get((task, attempt))
            return caller is not None and self._say(caller, message)

    def close(self) -> None:
        """Stops listening and closes all lines; harmless when repeated."""
        if self._thread.is_alive():
            os.write(self._close, b"x")
            self._thread.join()
            os.close(self._close)

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj == self._closing:
                    self._end()
                    return
                else:
                    self._read(key.data)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    time.sleep(0.1)  # the caller stays in the queue until another line ends
                return
            connection.settimeout(1.0)  # a task that does not read must not stop the master
            caller = _Caller(connection)
            connection.sendall(f"{caller.number}\n".encode())
            self._selector.register(connection, selectors.EVENT_READ, caller)

    def _read(self, caller: _Caller) -> None:
        try:
            data = caller.connection.recv(LONGEST)
        except OSError:
            data = b""
        caller.received += data
        *lines, caller.received = caller.received.split(b"\n")
        if not data or len(caller.received) > LONGEST or not all(self._take(caller, line) for line in lines):
            self._hang_up(caller)

    def _take(self, caller: _Caller, line: bytes) -> bool:
        """Handles a message; returns False where it is not signed as it must be."""
        message = _opened(self._secret, f"{caller.number} up {caller.heard}", line)
        if message is None:
            return False
        caller.heard += 1
        if caller.task is None:
            caller.task = (message["task"], message["attempt"])
            with self._lock:
                self._callers[caller.task] = caller
        answer = self._heard(message)
        if answer is not None:
            with self._lock:
                self._say(caller, answer)
        return True

    def _say(self, caller: _Caller, message: Message) -> bool:
        try:
            caller.connection.sendall(_sealed(self._secret, f"{caller.number} down {caller.said}", message))
        except OSError:
            return False
        caller.said += 1
        return True

    def _hang_up(self, caller: _Caller) -> None:
        self._selector.unregister(caller.connection)
        caller.connection.close()
        if caller.task is not None:
            with self._lock:
                if self._callers.get(caller.task) is caller:
                    del self._callers[caller.task]
            self._heard({"event": "gone", "task": caller.task[0], "attempt": caller.task[1]})

    def _end(self) -> None:
        for key in list(self._selector.get_map().values()):
            if isinstance(key.data, _Caller):
                key.data.connection.close()
        self._listener.close()
        self._selector.close()
        os.close(self._closing)


class Line:
    """A task's way to the master: a connection to its desk, else signed files, else nothing. A context manager.

    Args:
        office: Where the master is.
        task: The task's number.
        attempt: Which attempt at the task this is, from 0.

    Attributes:
        found: Whether there is a desk, even if it is held up and says nothing.
        cancelled: Whether the task shall end; up to date after `listen`.
        problem: Why there is no desk.
    """

    def __init__(self, office: Office, task: int, attempt: int) -> None:
        self._office = office
        self._name = {"task": task, "attempt": attempt}
        self._connection: socket.socket | None = None
        self._received = b""
        self._number = ""
        self._next_try = 0.0
        self._said = 0
        self._heard = 0
        self.found = False
        self.cancelled = False
        self.problem = ""
        self._open(PATIENCE)

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *error: object) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def start(self, **about: Any) -> bool:
        """Tells that the task starts, and learns whether it still should; returns whether there is a master to tell."""
        for _ in range(2):
            told = self._tell({"event": "start", **about}, insisting=True)
            by_line = self._connection is not None
            self.listen(PATIENCE if by_line else 0)
            if not by_line or self._connection is not None:
                break  # else the master hung up in place of an answer, as it does when it ends
        return told

    def progress(self, **values: Any) -> None:
        """Tells how far it is."""
        self._tell({"event": "progress", "values": values})

    def alive(self, **about: Any) -> None:
        """Tells that it goes on."""
        self._tell({"event": "alive", **about})

    def done(self, **about: Any) -> None:
        """Tells that its result is there, and tries for a while."""
        until = time.monotonic() + (0 if self.cancelled else INSISTENCE)
        while not self._tell({"event": "done", **about}, insisting=True) and time.monotonic() < until:
            time.sleep(1.0)

    @property
    def broken(self) -> bool:
        """Whether there is no line, although the master was found."""
        return self.found and self._connection is None

    def listen(self, timeout: float) -> None:
        """Takes what the master has said, waiting up to ``timeout`` seconds for one message."""
        if self._connection is None:
            folder = self._office.folder
            if folder is not None:
                self.cancelled |= (folder / f"{self._name['task']}.cancel").exists() or not folder.exists()
            return
        try:
            self._connection.settimeout(timeout or 1e-6)
            data = self._connection.recv(LONGEST)
        except (TimeoutError, BlockingIOError):
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        self._received += data
        *lines, self._received = self._received.split(b"\n")
        for line in lines:
            message = _opened(self._office.secret, f"{self._number} down {self._heard}", line)
            self._heard += 1
            if message is not None and message.get("cancel"):
                self.cancelled = True

    def _open(self, patience: float) -> None:
        if self._office.address is None:
            return
        self._received, self._said, self._heard = b"", 0, 0
        try:
            self._connection = socket.create_connection((self._office.address, self._office.port), patience)
            self.found = True
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            with self._connection.makefile("rb") as file:
                self._number = file.readline(LONGEST).decode().strip()
            if not self._number:
                raise ConnectionResetError("the master hung up")
        except OSError as error:
            self.problem = f"{self._office.address}:{self._office.port}: {error.strerror or error}"
            self._next_try = time.monotonic() + PAUSE
            self._lose()

    def _lose(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _tell(self, message: Message, insisting: bool = False) -> bool:
        """Tells the master something, by a line or a file, and returns whether it could."""
        message = {**self._name, **message}
        for attempt in range(2):
            if self._connection is None and (insisting or attempt or time.monotonic() >= self._next_try):
                self._open(REOPENING)
            if self._connection is None:
                break
            try:
                self._connection.settimeout(PATIENCE)
                self._connection.sendall(_sealed(self._office.secret, f"{self._number} up {self._said}", message))
                self._said += 1
                return True
            except OSError:
                self._lose()
        if self._office.folder is not None:
            with contextlib.suppress(OSError):
                _put(self._office, message)
                return True
        return False


def _put(office: Office, message: Message) -> None:
    assert office.folder is not None
    name = f"{message['task']}-{message['attempt']}.{message['event']}"
    draft = office.folder / f".{name}.{os.getpid()}"
    draft.write_bytes(_sealed(office.secret, name, message))
    draft.replace(office.folder / name)


def collect(office: Office) -> list[Message]:
    """Returns the messages that tasks have left in the shared folder, and removes them."""
    if office.folder is None:
        return []
    found = []
    try:
        paths = [path for path in office.folder.iterdir() if path.suffix.removeprefix(".") in EVENTS]
    except OSError:
        return []
    for path in sorted(paths, key=lambda path: EVENTS.index(path.suffix.removeprefix("."))):
        with contextlib.suppress(OSError, ValueError):
            message = _opened(office.secret, path.name, path.read_bytes())
            path.unlink()
            if message is not None:
                found.append(message)
    return found
