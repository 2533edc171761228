"""The record of a study on disk: append-only, one JSON object a line, flushed before it counts; and its one writer.

The first line describes the study, with what it began with: configurations to try first, trials of other studies. Each
later one is an event: ``sampler`` (which one was chosen, and why), ``ask`` (a trial began), ``tell`` (what came of it),
``retry`` (a failed trial is tried again: what came of its latest stage no longer counts), ``test`` (the winner's score
on the test set), ``stop`` (and why), ``resume``, ``code`` (digests of the user's files), ``limits`` (stop rules). A
line that was cut short by a kill is the last one, holds nothing that anything depended on, and is dropped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import math
import os
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hpcompss.errors import HpcompssError, InputError
from hpcompss.trial import Failure, FailureKind, Result

__all__ = [
    "FORMAT",
    "LOCK",
    "FolderLock",
    "Journal",
    "JournalError",
    "finite",
    "is_begun",
    "make_folder",
    "read_journal",
    "result_from_json",
    "result_to_json",
    "undone_by_retries",
]

FORMAT = 1
"""The version of the journal's format; a journal of any other version is refused."""

LOCK = "master.lock"
"""The name of the lock in a study's folder; whatever else the lock needs there begins with it."""

Record = dict[str, Any]


class JournalError(HpcompssError):
    """The journal cannot be written; what it held before is unharmed."""


class Journal:
    """Appends records to a file. One process holds it at a time (see `FolderLock`).

    Args:
        path: The file; created with ``header`` as its first record where it does not exist, else continued.
        header: What describes the study.

    Raises:
        JournalError: It cannot be written.
    """

    def __init__(self, path: Path, header: Record | None = None) -> None:
        self.path = path
        self._size = 0
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
            self._size = _whole_length(path)
            os.ftruncate(self._file, self._size)
        except OSError as error:
            raise self._error(error) from error
        if header is not None:
            self.append([{"event": "study", "format": FORMAT, **header}])
            _sync_folder(path.parent)

    def append(self, records: Iterable[Record]) -> None:
        """Writes the records and returns when the disk has them. Raises `JournalError`, and then has written none."""
        # ASCII alone, for a message may hold what UTF-8 cannot: the bytes of a file name that is no text, say.
        lines = "".join(json.dumps(each, allow_nan=False) + "\n" for each in records).encode("ascii")
        end = self._size
        try:
            while end < self._size + len(lines):
                # At its place, not at the end of the file, where a failed attempt may have left something.
                end += os.pwrite(self._file, memoryview(lines)[end - self._size :], end)
            _sync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise self._error(error) from error
        self._size = end

    def close(self) -> None:
        """Closes the file; harmless when repeated."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _error(self, error: OSError) -> JournalError:
        remedy = f"run  hpcompss resume {self.path.parent}" if self._size else "begin anew"
        return JournalError(
            f"{self.path}: the journal cannot be written ({error.strerror}); everything recorded so far is kept: "
            f"mend that, then {remedy}"
        )


def make_folder(folder: Path) -> None:
    """Makes a folder, and those above it, and returns when the disk has them. Raises `OSError`."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        _sync_folder(each.parent)


def is_begun(path: Path) -> bool:
    """Returns whether there is a journal that holds anything: a first line that was cut short is nothing."""
    try:
        with path.open("rb") as content:
            return content.readline().endswith(b"\n")
    except OSError:
        return False


def read_journal(path: Path) -> Iterator[Record]:
    """Yields the records of a journal, the study's description first. A last line that was cut short is left out.

    Raises:
        InputError: There is no journal, its format is unknown, or a line in its midst is damaged.
    """
    try:
        content = path.open("rb")
    except OSError as error:
        raise InputError(f"{path.parent} holds no study ({error.strerror}: {path.name})") from None
    with content:
        last: tuple[int, Exception] | None = None
        for number, line in enumerate(content, start=1):
            if last is not None:
                raise InputError(
                    f"this line is damaged ({last[1]}): restore it, or delete it and all after it to go on from there",
                    file=path,
                    line=last[0],
                )
            try:
                record = _parse(line)
            except ValueError as error:
                last = (number, error)
                continue
            if number == 1:
                _check_header(path, record)
            yield record


def undone_by_retries(records: Iterable[Mapping[str, Any]]) -> set[int]:
    """Returns the places, from 1, of the records that no longer count, since trials were tried again after them.

    They are those of each such trial's latest stage: its result, and that it went on, but not that it began.
    """
    undone: set[int] = set()
    stages: dict[int, list[list[int]]] = {}
    for place, record in enumerate(records, start=1):
        event, number = record["event"], record.get("number")
        if event == "ask":
            stages[record["number"]] = [[]]
        elif number not in stages:
            continue
        elif event == "continue":
            stages[number].append([place])
        elif event == "tell":
            stages[number][-1].append(place)
        elif event == "retry":
            undone.update(stages[number].pop())
            stages[number] = stages[number] or [[]]
    return undone


def _parse(line: bytes) -> Record:
    if not line.endswith(b"\n"):
        raise ValueError("it was cut short")
    record = json.loads(line)
    if not isinstance(record, dict) or "event" not in record:
        raise ValueError("it is no record")
    return record


def _check_header(path: Path, header: Record) -> None:
    if header.get("event") != "study":
        raise InputError("the journal does not begin with a study's description", file=path, line=1)
    if header.get("format") != FORMAT:
        raise InputError(
            f"the journal has format {header.get('format')!r} (written by hpcompss {header.get('hpcompss', '?')}), "
            f"this hpcompss reads format {FORMAT}: use the version that wrote it",
            file=path,
            line=1,
        )


def _whole_length(path: Path) -> int:
    """Returns the length of the file without a last line that was cut short."""
    length = 0
    with path.open("rb") as content:
        line = b""
        for line in content:
            length += len(line)
    if line:
        try:
            _parse(line)
        except ValueError:
            length -= len(line)
    return length


def result_to_json(result: Result) -> Record:
    """Returns a result as plain data; what is not finite becomes None."""
    data: Record = {"value": result.value, "seconds": round(result.seconds, 3)}
    if result.metrics:
        data["metrics"] = finite(result.metrics)
    if result.epoch is not None:
        data["epoch"] = result.epoch
    if result.failure is not None:
        data["failure"] = {**dataclasses.asdict(result.failure), "kind": result.failure.kind.value}
    if result.curves:
        data["curves"] = finite(result.curves)
    if result.warnings:
        data["warnings"] = list(result.warnings)
    if result.budget is not None:
        data["budget"] = result.budget
    if result.ended:
        data["ended"] = True
    if result.violation:
        data["violation"] = result.violation
    return data


def finite(data: Any) -> Any:
    """Returns plain data with None in place of each number that JSON has no word for."""
    if isinstance(data, Mapping):
        return {name: finite(each) for name, each in data.items()}
    if isinstance(data, list):
        return [finite(each) for each in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def result_from_json(data: Mapping[str, Any]) -> Result:
    """Returns the result that `result_to_json` wrote; None in its figures becomes NaN."""
    failure = data.get("failure")
    return Result(
        value=data["value"],
        metrics={name: _number(value) for name, value in data.get("metrics", {}).items()},
        epoch=data.get("epoch"),
        seconds=data.get("seconds", 0.0),
        failure=failure and Failure(FailureKind(failure["kind"]), failure["reason"], failure["traceback"]),
        curves={name: [_number(value) for value in curve] for name, curve in data.get("curves", {}).items()},
        warnings=tuple(data.get("warnings", ())),
        budget=data.get("budget"),
        ended=data.get("ended", False),
        violation=data.get("violation", 0.0),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _sync(file: int) -> None:
    getattr(os, "fdatasync", os.fsync)(file)


def _sync_folder(folder: Path) -> None:
    """Has the disk keep what was made in a folder, as far as the file system can and the user may."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (*_UNSUPPORTED, errno.EINVAL):
            raise
    finally:
        os.close(handle)


_UNSUPPORTED = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""How a file system says that there is no such thing on it."""


class FolderLock:
    """Keeps a second master away from a study's folder, also on file systems that have no locks.

    The lock is a file that only one process can create. It names its owner; a dead owner on this machine is recognised
    by its process, one on another (a container too) by its heartbeat, the file's time of change, having stopped. An
    owner that stalled so long that it was succeeded learns of it from `check`.

    Args:
        folder: The study's folder, which exists.

    Raises:
        InputError: Another master holds the folder, or it cannot be written.
    """

    HEARTBEAT = 10.0
    """Seconds between two signs of life."""

    SILENCE = 60.0
    """Seconds without a sign of life after which an owner on another host counts as dead."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        self._owner = {
            "host": socket.gethostname(),
            "machine": _machine(),
            "pid": os.getpid(),
            "started": _process_start(os.getpid()),
            "token": os.urandom(8).hex(),
        }
        self._acquire(self._path)
        self._released = threading.Event()
        # A thread, for between an ask and its tell the master may be busy for hours.
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def release(self) -> None:
        """Lets others have the folder; harmless when repeated."""
        if not self._released.is_set():
            self._released.set()
            # Whoever took this one for dead may have it now.
            if _owner_of(self._path) == self._owner:
                with contextlib.suppress(OSError):
                    self._path.unlink()

    def check(self) -> None:
        """Raises `JournalError` where the folder is no longer this lock's; to be called before each write."""
        if self._is_lost():
            owner = _owner_of(self._path)
            now = f"{_who(owner)} has it now" if owner else f"{self._path.name} is gone"
            raise JournalError(
                f"{self._path.parent} is no longer this process's, which must have stalled ({now}): what came since is "
                "not kept; everything recorded before is"
            )

    def _is_lost(self) -> bool:
        # One that cannot be read is not lost: a network may have hiccups.
        return _owner_of(self._path) not in (self._owner, {})

    @staticmethod
    def is_held(folder: Path) -> bool:
        """Returns whether a master is at work on a study's folder."""
        return _is_alive(_owner_of(folder / LOCK), folder / LOCK)

    def _beat(self) -> None:
        while not self._released.wait(self.HEARTBEAT):
            if self._is_lost():
                return
            with contextlib.suppress(OSError):
                os.utime(self._path)

    def _acquire(self, path: Path) -> None:
        if self._create(path):
            return
        self._refuse_alive(path)
        # One process at a time removes a dead owner's lock, and looks again before: else one that was slow to do so
        # would remove that of the new owner.
        removal = path.with_name(f"{path.name}.removal")
        self._acquire(removal)
        try:
            if self._refuse_alive(path) is not None:
                path.unlink(missing_ok=True)
        finally:
            removal.unlink(missing_ok=True)
        if not self._create(path):
            raise self._refusal(_owner_of(path) or {})

    def _create(self, path: Path) -> bool:
        """Creates a lock with its content in one step. Returns False where there is one already."""
        draft = self._path.with_name(f"{self._path.name}.{self._owner['token']}")
        content = json.dumps(self._owner)
        try:
            draft.write_text(content)
            _link_or_write(draft, path, content)
        except FileExistsError:
            return False
        except OSError as error:
            raise InputError(
                f"the study folder {self._path.parent} cannot be written ({error.strerror}): choose another"
            ) from None
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()
        return True

    def _refuse_alive(self, path: Path) -> Record | None:
        """Returns a lock's dead owner, or None where there is no lock. Raises `InputError` where its owner lives."""
        owner = _owner_of(path)
        if _is_alive(owner, path):
            raise self._refusal(owner or {})
        return owner

    def _refusal(self, owner: Record) -> InputError:
        if (owner.get("machine"), owner.get("pid")) == (self._owner["machine"], self._owner["pid"]):
            return InputError(f"{self._path.parent} is in use by this very process: close() the study that has it")
        return InputError(
            f"{self._path.parent} is in use by another hpcompss ({_who(owner)}): wait for it or stop it "
            f"(if it is surely gone, delete {self._path})"
        )


def _link_or_write(draft: Path, path: Path, content: str) -> None:
    """Creates ``path`` in one step, or in two where there are no hard links. Raises `FileExistsError`, `OSError`."""
    try:
        os.link(draft, path)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        with path.open("x") as file:
            file.write(content)


def _who(owner: Record) -> str:
    return f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"


def _machine() -> str:
    """Returns what two processes share that can see each other's number: more than a name, which containers share."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _owner_of(path: Path) -> Record | None:
    """Returns who holds a lock: None where there is no lock, empty where it is not readable."""
    try:
        owner = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _is_alive(owner: Record | None, path: Path) -> bool:
    """Returns whether a lock's owner lives: by its process on this machine, by its heartbeat where it is not known."""
    if owner is None:
        return False
    if owner.get("machine") == _machine():
        pid = owner.get("pid")
        return isinstance(pid, int) and _exists(pid) and _process_start(pid) == owner.get("started")
    clock = path.with_name(f"{path.name}.clock-{os.urandom(8).hex()}")
    try:
        # The file system's own clock, which may differ from this host's.
        clock.touch()
        return clock.stat().st_mtime - path.stat().st_mtime < FolderLock.SILENCE
    except OSError:
        return True
    finally:
        with contextlib.suppress(OSError):
            clock.unlink()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _process_start(pid: int) -> str:
    """Returns when a process began, in the kernel's own count, to tell pids reused.

    Empty where there is no /proc; ``dead`` for a process that has ended and only waits for its parent to take note.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return "dead" if state in "ZX" else fields[18]
