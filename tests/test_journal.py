from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcompss import journal
from hpcompss.errors import InputError
from hpcompss.journal import (
    FORMAT,
    FolderLock,
    Journal,
    JournalError,
    is_begun,
    make_folder,
    read_journal,
    result_from_json,
    result_to_json,
)
from hpcompss.trial import Failure, FailureKind, Result

ROOT = Path(__file__).parents[1]
PATIENCE = 60

words = st.text(max_size=8)
finite_numbers = st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | finite_numbers | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
records = st.dictionaries(words, plain, max_size=4).map(lambda data: {**data, "event": "note"})
figures = st.dictionaries(words, st.floats(), max_size=3)
results = st.builds(
    Result,
    value=st.none() | finite_numbers,
    metrics=figures,
    epoch=st.none() | st.integers(1, 1000),
    seconds=st.floats(0, 1e6).map(lambda seconds: round(seconds, 3)),
    failure=st.none() | st.builds(Failure, st.sampled_from(FailureKind), words, words),
    curves=st.dictionaries(words, st.lists(st.floats(), max_size=3), max_size=2),
    warnings=st.lists(words, max_size=2).map(tuple),
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


@pytest.fixture
def begun(path):
    """A journal of a description and three records."""
    with_records(path, [{"event": "ask", "number": number} for number in range(3)])
    return path


def with_records(path, *batches):
    file = Journal(path, {"direction": "minimize"})
    for batch in batches:
        file.append(batch)
    file.close()


def read(path):
    """Returns the records after the description."""
    return list(read_journal(path))[1:]


# What is written is read back


@settings(deadline=None, max_examples=25)
@given(batches=st.lists(st.lists(records, max_size=3), max_size=4))
def test_any_records_are_read_back(batches):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        with_records(path, *batches)
        assert read(path) == [record for batch in batches for record in batch]
        assert len(path.read_bytes().splitlines()) == 1 + sum(map(len, batches))


def test_the_first_record_describes_the_study(begun):
    assert next(read_journal(begun)) == {"event": "study", "format": FORMAT, "direction": "minimize"}


def test_bytes_that_are_no_text_are_kept(path):
    message = os.fsdecode(b"no such file: \xff\n\x00")
    with_records(path, [{"event": "tell", "reason": message}])
    assert read(path) == [{"event": "tell", "reason": message}]
    path.read_bytes().decode("ascii")


def test_a_journal_is_continued(begun):
    file = Journal(begun)
    file.append([{"event": "stop"}])
    file.close()
    assert [record["event"] for record in read(begun)] == ["ask", "ask", "ask", "stop"]


def test_closing_twice_does_no_harm(path):
    file = Journal(path, {})
    file.close()
    file.close()


@settings(deadline=None, max_examples=200)
@given(result=results)
def test_a_result_survives_json(result):
    text = json.dumps(result_to_json(result), allow_nan=False)
    returned = result_from_json(json.loads(text))

    def without_infinity(value):
        return value if math.isfinite(value) else math.nan

    expected = dataclasses.replace(
        result,
        metrics={name: without_infinity(value) for name, value in result.metrics.items()},
        curves={name: [without_infinity(value) for value in curve] for name, curve in result.curves.items()},
    )
    assert repr(returned) == repr(expected)  # NaN does not equal itself


# Cut short


def test_a_last_line_cut_at_any_byte_is_left_out_and_written_over(begun, tmp_path):
    whole = begun.read_bytes()
    before = whole.rindex(b"\n", 0, -1) + 1
    torn = tmp_path / "torn.jsonl"
    for length in range(before, len(whole)):
        torn.write_bytes(whole[:length])
        assert [record["number"] for record in read(torn)] == [0, 1]
        file = Journal(torn)
        file.append([{"event": "ask", "number": "new"}])
        file.close()
        assert [record["number"] for record in read(torn)] == [0, 1, "new"]


def test_a_batch_cut_at_any_byte_keeps_its_whole_lines(begun, tmp_path):
    whole = begun.read_bytes()
    torn = tmp_path / "torn.jsonl"
    for length in range(whole.index(b"\n") + 1, len(whole) + 1):
        torn.write_bytes(whole[:length])
        assert [record["number"] for record in read(torn)] == list(range(whole[:length].count(b"\n") - 1))


def test_a_description_cut_short_is_no_journal(begun):
    line = begun.read_bytes().splitlines(keepends=True)[0]
    for length in range(len(line)):
        begun.write_bytes(line[:length])
        assert not is_begun(begun)
        assert list(read_journal(begun)) == []
    begun.write_bytes(line)
    assert is_begun(begun)


def test_zeros_that_a_power_cut_left_at_the_end_are_left_out(begun):
    with begun.open("ab") as file:
        file.write(bytes(4096))
    assert len(read(begun)) == 3
    file = Journal(begun)
    file.append([{"event": "stop"}])
    file.close()
    assert len(read(begun)) == 4
    assert b"\0" not in begun.read_bytes()


# Damaged, unknown, missing

DAMAGE = {
    "garbage": b"#!?\n",
    "no text": b"\xff\xfe\x00\n",
    "blank": b"\n",
    "a number": b"3\n",
    "no event": b'{"number": 1}\n',
    "two lines run together": b'{"event": "ask", "num{"event": "ask", "number": 1}\n',
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_line_in_the_middle_is_refused_with_its_number(begun, damage):
    lines = begun.read_bytes().splitlines(keepends=True)
    begun.write_bytes(b"".join([*lines[:2], damage, *lines[3:]]))
    with pytest.raises(InputError, match="this line is damaged") as caught:
        read(begun)
    assert (caught.value.file, caught.value.line) == (begun, 3)
    assert str(caught.value).startswith(f"{begun}:3: ")


def test_what_stands_before_a_damaged_line_is_still_given(begun):
    lines = begun.read_bytes().splitlines(keepends=True)
    begun.write_bytes(b"".join([*lines[:2], b"#\n", *lines[3:]]))
    reader = read_journal(begun)
    assert next(reader)["event"] == "study"
    assert next(reader)["number"] == 0


@pytest.mark.parametrize("version", [0, FORMAT + 1, None, "1"])
def test_an_unknown_format_is_refused(path, version):
    path.write_text(json.dumps({"event": "study", "format": version, "hpcompss": "9.9"}) + "\n")
    with pytest.raises(InputError, match=rf"format {version!r} \(written by hpcompss 9.9\)") as caught:
        list(read_journal(path))
    assert caught.value.line == 1


def test_a_file_of_another_kind_is_refused(path):
    path.write_text('{"event": "ask", "number": 0}\n')
    with pytest.raises(InputError, match="does not begin with a study's description"):
        list(read_journal(path))


def test_an_empty_journal_holds_nothing(path):
    path.touch()
    assert list(read_journal(path)) == []
    assert not is_begun(path)


def test_a_missing_journal_is_no_study(path):
    with pytest.raises(InputError, match=r"holds no study \(No such file"):
        list(read_journal(path))
    assert not is_begun(path)


def test_a_folder_in_its_place_is_no_study(path):
    path.mkdir()
    with pytest.raises(InputError, match="holds no study"):
        list(read_journal(path))
    assert not is_begun(path)


def test_a_journal_in_a_place_that_cannot_be_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="Not a directory"):
        Journal(tmp_path / "file" / "journal.jsonl", {})


# On disk before it counts


@pytest.fixture
def calls(monkeypatch):
    """The names of the system's functions that were called, in order."""
    made = []

    def watched(name):
        real = getattr(os, name)

        def call(*arguments):
            made.append(name)
            return real(*arguments)

        return call

    for name in ("pwrite", "fdatasync", "fsync"):
        monkeypatch.setattr(os, name, watched(name))
    return made


def test_a_batch_is_written_and_flushed_once(path, calls):
    file = Journal(path, {})
    assert calls == ["pwrite", "fdatasync", "fsync"], "the file, and then the folder that names it"
    calls.clear()
    file.append([{"event": "ask", "number": number} for number in range(100)])
    assert calls == ["pwrite", "fdatasync"]
    file.close()


def test_a_write_that_the_system_cuts_short_is_completed(path, monkeypatch):
    real = os.pwrite
    file = Journal(path, {})
    monkeypatch.setattr(os, "pwrite", lambda number, data, place: real(number, data[:7], place))
    file.append([{"event": "ask", "number": number} for number in range(3)])
    file.close()
    assert [record["number"] for record in read(path)] == [0, 1, 2]


@pytest.mark.parametrize("failing", ["pwrite", "fdatasync"])
def test_a_failed_write_leaves_nothing_behind_and_may_be_repeated(begun, monkeypatch, failing):
    before = begun.read_bytes()
    file = Journal(begun)
    real, room = os.pwrite, iter([5])

    def write_a_little(number, data, place):
        for length in room:
            return real(number, data[:length], place)
        raise OSError(errno.ENOSPC, "No space left on device")

    def fail(number):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, failing, write_a_little if failing == "pwrite" else fail)
        with pytest.raises(JournalError) as caught:
            file.append([{"event": "stop"}])
    message = str(caught.value)
    assert "No space left" in message or "Input/output error" in message
    assert f"hpcompss resume {begun.parent}" in message
    assert begun.read_bytes() == before
    file.append([{"event": "stop"}])
    file.close()
    assert read(begun)[-1] == {"event": "stop"}


def test_what_a_failed_write_leaves_is_written_over(begun, monkeypatch):
    file = Journal(begun)
    real, room = os.pwrite, iter([5])

    def write_a_little(number, data, place):
        for length in room:
            return real(number, data[:length], place)
        raise OSError(errno.ENOSPC, "No space left on device")

    def refuse(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", write_a_little)
        broken.setattr(os, "ftruncate", refuse)
        with pytest.raises(JournalError, match="No space left"):
            file.append([{"event": "ask", "number": "lost"}])
    assert len(read(begun)) == 3
    file.append([{"event": "ask", "number": "kept"}])
    file.close()
    assert [record["number"] for record in read(begun)] == [0, 1, 2, "kept"]


def test_what_is_no_number_in_json_is_refused_before_it_is_written(begun):
    file = Journal(begun)
    with pytest.raises(ValueError, match="not JSON compliant"):
        file.append([{"event": "ask", "number": 3}, {"event": "test", "value": math.nan}])
    file.close()
    assert len(read(begun)) == 3


# One master


def python(code, *arguments, **options):
    """Starts a process of its own that has imported what the tests of the lock need."""
    head = "import sys, time, random\nfrom pathlib import Path\nfrom hpcompss import journal\n"
    head += "from hpcompss.journal import FolderLock\nfrom hpcompss.errors import InputError\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(code), *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture
def other(tmp_path):
    """Another master that has the folder."""
    with python("lock = FolderLock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()", tmp_path) as owner:
        assert owner.stdout.readline() == "held\n"
        yield owner
        owner.kill()


def lock_of(folder, **changes):
    """Leaves the lock of an owner that is this process, but for ``changes``."""
    owner = {
        "host": socket.gethostname(),
        "machine": journal._machine(),
        "pid": os.getpid(),
        "started": journal._process_start(os.getpid()),
    }
    (folder / "master.lock").write_text(json.dumps({**owner, **changes}))


def dead_process():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_a_lock_is_released(tmp_path):
    for _ in range(2):
        lock = FolderLock(tmp_path)
        assert FolderLock.is_held(tmp_path)
        lock.release()
        lock.release()
        assert not FolderLock.is_held(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_second_master_is_refused_by_the_first_ones_number(tmp_path, other):
    assert FolderLock.is_held(tmp_path)
    with pytest.raises(InputError, match=rf"in use by another hpcompss \(process {other.pid} on "):
        FolderLock(tmp_path)
    assert FolderLock.is_held(tmp_path)


def test_a_second_lock_in_one_process_is_refused(tmp_path):
    lock = FolderLock(tmp_path)
    with pytest.raises(InputError, match=r"in use by this very process: close\(\) the study"):
        FolderLock(tmp_path)
    lock.release()


def test_a_killed_owner_is_succeeded(tmp_path, other):
    other.kill()
    other.wait()
    assert not FolderLock.is_held(tmp_path)
    FolderLock(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_killed_owner_that_nobody_waited_for_is_succeeded(tmp_path, other):
    os.kill(other.pid, signal.SIGKILL)
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    FolderLock(tmp_path).release()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_process_that_got_the_number_of_a_dead_owner_is_not_the_owner(tmp_path):
    lock_of(tmp_path, started="1")
    assert not FolderLock.is_held(tmp_path)
    FolderLock(tmp_path).release()


def test_an_owner_on_another_host_lives_while_its_heart_beats(tmp_path):
    lock_of(tmp_path, host="elsewhere", machine="elsewhere", pid=1)
    assert FolderLock.is_held(tmp_path)
    with pytest.raises(InputError, match="process 1 on elsewhere"):
        FolderLock(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["master.lock"]


def test_an_owner_on_another_host_that_fell_silent_is_succeeded(tmp_path):
    lock_of(tmp_path, host="elsewhere", machine="elsewhere", pid=1)
    past = time.time() - FolderLock.SILENCE - 5
    os.utime(tmp_path / "master.lock", (past, past))
    assert not FolderLock.is_held(tmp_path)
    FolderLock(tmp_path).release()


def test_the_heart_beats_while_the_master_is_busy(tmp_path, monkeypatch):
    others = threading.enumerate()
    monkeypatch.setattr(FolderLock, "HEARTBEAT", 0.01)
    lock = FolderLock(tmp_path)
    os.utime(tmp_path / "master.lock", (0, 0))
    end = time.monotonic() + PATIENCE
    while (tmp_path / "master.lock").stat().st_mtime == 0:
        assert time.monotonic() < end
        time.sleep(0.01)
    lock.release()
    assert not any(thread.name == "heartbeat" and thread.is_alive() for thread in joined(others))


def joined(others):
    """The threads that are left, without those that were there before: studies that other tests left open."""
    mine = [thread for thread in threading.enumerate() if thread not in others]
    for thread in mine:
        if thread.name == "heartbeat":
            thread.join(PATIENCE)
    return mine


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"host": 3}', '{"pid": "x"}'])
def test_a_lock_that_names_nobody_is_succeeded(tmp_path, content):
    (tmp_path / "master.lock").write_text(content)
    os.utime(tmp_path / "master.lock", (0, 0))
    if content == '{"pid": "x"}':
        lock_of(tmp_path, pid="x")
    FolderLock(tmp_path).release()


def test_a_successor_that_died_on_the_way_is_succeeded(tmp_path):
    lock_of(tmp_path, pid=dead_process())
    for name in ("master.lock.removal", "master.lock.removal.removal"):
        (tmp_path / name).write_text((tmp_path / "master.lock").read_text())
    FolderLock(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


def test_release_leaves_the_lock_of_whoever_took_this_one_for_dead(tmp_path):
    lock = FolderLock(tmp_path)
    lock_of(tmp_path, host="elsewhere", machine="elsewhere")
    lock.release()
    assert FolderLock.is_held(tmp_path)


def test_an_owner_in_another_container_of_this_host_lives_while_its_heart_beats(tmp_path):
    lock_of(tmp_path, machine="another pid namespace", pid=dead_process())
    assert FolderLock.is_held(tmp_path)
    with pytest.raises(InputError, match="in use by another hpcompss"):
        FolderLock(tmp_path)


@pytest.mark.parametrize("successor", ["elsewhere", None])
def test_an_owner_that_was_succeeded_takes_note(tmp_path, successor):
    lock = FolderLock(tmp_path)
    lock.check()
    if successor:
        lock_of(tmp_path, host=successor, machine=successor)
    else:
        (tmp_path / "master.lock").unlink()
    with pytest.raises(JournalError, match="is no longer this process's"):
        lock.check()
    lock.release()


def test_the_heart_does_not_beat_for_a_successor(tmp_path, monkeypatch):
    others = threading.enumerate()
    monkeypatch.setattr(FolderLock, "HEARTBEAT", 0.01)
    lock = FolderLock(tmp_path)
    lock_of(tmp_path, host="elsewhere", machine="elsewhere")
    assert not any(thread.name == "heartbeat" and thread.is_alive() for thread in joined(others))
    os.utime(tmp_path / "master.lock", (0, 0))
    lock.release()
    assert (tmp_path / "master.lock").stat().st_mtime == 0


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_hard_links(tmp_path, monkeypatch, number):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    lock = FolderLock(tmp_path)
    with pytest.raises(InputError, match="in use"):
        FolderLock(tmp_path)
    lock.check()
    lock.release()
    assert list(tmp_path.iterdir()) == []
    lock_of(tmp_path, pid=dead_process())
    FolderLock(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_is_still_being_written_is_held(tmp_path):
    (tmp_path / "master.lock").touch()
    with pytest.raises(InputError, match="in use by another"):
        FolderLock(tmp_path)


def test_a_folder_that_cannot_be_written_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        FolderLock(tmp_path / "missing")


def test_a_successor_that_was_slow_leaves_the_new_owners_lock(tmp_path, monkeypatch):
    lock_of(tmp_path, pid=dead_process())
    real, looks = journal._is_alive, []

    def look_and_stall(owner, path):
        alive = real(owner, path)
        if not looks:
            lock_of(tmp_path)  # meanwhile another has become the owner
        looks.append(alive)
        return alive

    monkeypatch.setattr(journal, "_is_alive", look_and_stall)
    with pytest.raises(InputError, match="in use"):
        FolderLock(tmp_path)
    assert not looks[0]
    assert FolderLock.is_held(tmp_path)


def test_of_several_successors_exactly_one_wins(tmp_path):
    """Six processes go for the same dead owners' locks at the same moments, some of them slow after they looked."""
    rounds, processes = 25, 6
    dead = dead_process()
    for number in range(rounds):
        (tmp_path / str(number)).mkdir()
        lock_of(tmp_path / str(number), pid=dead)
    code = """
    real, won, locks = journal._is_alive, [], []
    def slow(owner, path):
        alive = real(owner, path)
        time.sleep(random.choice([0, 0, 0.02]))
        return alive
    journal._is_alive = slow
    print("ready", flush=True)
    begin = float(sys.stdin.readline())
    for number in range(int(sys.argv[2])):
        time.sleep(max(0, begin + number * 0.03 - time.time()))
        try:
            locks.append(FolderLock(Path(sys.argv[1]) / str(number)))
            won.append(number)
        except InputError:
            pass
    print(*won, flush=True)
    sys.stdin.read()
    """
    racers = [python(code, tmp_path, rounds) for _ in range(processes)]
    try:
        for racer in racers:
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            racer.stdin.write(f"{time.time() + 0.1}\n")
            racer.stdin.flush()
        won = [int(number) for racer in racers for number in racer.stdout.readline().split()]
    finally:
        for racer in racers:
            racer.communicate()
    assert sorted(won) == list(range(rounds))


def test_threads_of_one_process_do_not_get_in_each_others_way(tmp_path):
    lock_of(tmp_path, pid=dead_process())
    outcomes = []

    def attempt():
        time.sleep(random.random() * 0.01)
        try:
            outcomes.append(FolderLock(tmp_path))
        except InputError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (lock,) = [each for each in outcomes if isinstance(each, FolderLock)]
    assert all("in use" in str(each) for each in outcomes if each is not lock)
    lock.release()
    assert list(tmp_path.iterdir()) == []


# Folders


def test_a_new_folder_is_on_the_disk_with_those_above_it(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(journal, "_sync_folder", synced.append)
    make_folder(tmp_path / "studies" / "one")
    make_folder(tmp_path / "studies" / "one")
    assert (tmp_path / "studies" / "one").is_dir()
    assert sorted(synced) == [tmp_path, tmp_path / "studies"]


def test_a_file_system_that_syncs_no_folders_is_no_error(tmp_path, monkeypatch):
    def refuse(number):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", refuse)
    Journal(tmp_path / "journal.jsonl", {"seed": 1}).close()
    assert is_begun(tmp_path / "journal.jsonl")
