"""The real command line, killed, interrupted, and with a disk that is full: nothing finished is lost or done twice."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from hpcompss.study import Study
from tests.engines.conformance import alive, eventually

ROOT = Path(__file__).parents[1]
PATIENCE = 60.0
"""Seconds before a test gives up, and that a trial hangs: never reached unless something is broken."""

MODEL = """
import os, time

def note(values, seconds):
    log = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"{os.getpid()} {values['x']}\\n".encode())
    os.close(log)
    time.sleep(seconds)
    return float(values["x"])

def quick(values):
    return note(values, 0.01)

def slow(values):
    return note(values, 0.4)

def hanging(values):
    return note(values, 60)

def long(values):
    return {"loss": values["x"], **{f"metric_{number}": number for number in range(20)}}
"""

WORKFLOW = """
function: model.py:{function}
objective: loss
space: {{x: {{type: Int, min_value: 1, max_value: {count}}}}}
search: {{sampler: random, seed: 3}}
engine: {{workers: 2}}
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "log").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def workflow(function, count):
    Path("workflow.yaml").write_text(WORKFLOW.format(function=function, count=count))


@pytest.fixture
def start():
    """Starts a command in a process of its own, which does not outlive the test."""
    started = []

    def start(*arguments):
        command = [sys.executable, "-W", "error", "-m", "hpcompss", *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, start_new_session=True, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def until(process, condition):
    """Waits until a condition holds, or the process has ended."""
    eventually(lambda: condition() or process.poll() is not None)


def finish(process):
    """Returns the exit status, the output, and what was said on standard error."""
    output, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, output, errors


def log():
    """Returns the workers that ran trials, and the trials' values, in order."""
    entries = [line.split() for line in Path("log").read_text().splitlines()]
    return [int(pid) for pid, _ in entries], [int(x) for _, x in entries]


def records():
    """Returns the whole records of the journal; a line that was cut short holds none."""
    try:
        lines = Path("study/journal.jsonl").read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def told():
    """Returns the value of each trial that the journal has, by number; each is there once."""
    values = {}
    for record in records():
        if record["event"] == "tell":
            assert record["number"] not in values
            values[record["number"]] = record["value"]
    return values


def workers_are_gone():
    return not any(alive(pid) for pid in set(log()[0]))


# Killed


def test_a_master_killed_at_random_moments_loses_and_repeats_nothing(start):
    count, kills = 250, 10
    workflow("quick", count)
    chance = random.Random()
    process = start("run", "workflow.yaml", "--study", "study")
    done_before: set[int] = set()
    for _ in range(kills):
        known = len(told())
        # Some are killed on the way, some at their first result, most in the middle of their work.
        if not known or chance.random() < 0.8:
            until(process, lambda known=known: len(told()) > known)
        time.sleep(chance.random() * 0.15)
        process.kill()
        finish(process)
        eventually(workers_are_gone)
        values = told()
        assert sum(record["event"] == "ask" for record in records()) <= len(values) + 2 * 9, "only what was in flight"
        done_before = {int(value) for value in values.values()}
        ran = len(log()[1])
        process = start("resume", "study")
        until(process, lambda ran=ran: len(log()[1]) > ran)
        assert not done_before & set(log()[1][ran:]), "what the journal had is not done again"
    status, output, errors = finish(process)
    assert (status, errors) == (0, "")
    assert f"the space is exhausted: all {count} configurations were tried" in output
    assert sorted(told()) == list(range(count))
    assert sorted(told().values()) == list(range(1, count + 1)), "no configuration is lost or told twice"
    asked = Counter(record["number"] for record in records() if record["event"] == "ask")
    assert asked == Counter(range(count))
    assert not done_before & set(log()[1][ran:])
    eventually(workers_are_gone)
    assert Study.load("study").best.value == 1


# Interrupted


def begun(start, function, running, results=0):
    """Starts a study and waits until trials run and some results are known."""
    workflow(function, 1000)
    process = start("run", "workflow.yaml", "--study", "study", "--trials", 500)
    until(process, lambda: len(log()[1]) >= running and len(told()) >= results)
    assert process.poll() is None
    return process


def test_the_first_interrupt_lets_running_trials_finish(start):
    process = begun(start, "slow", running=4, results=2)
    second = start("resume", "study")
    looking = start("status", "study")
    assert finish(looking)[1].startswith("study: running; ")
    status, _, errors = finish(second)
    assert (status, process.poll()) == (2, None)
    assert f"study is in use by another hpcompss (process {process.pid} on " in errors
    process.send_signal(signal.SIGINT)
    status, output, errors = finish(process)
    assert status == 130
    assert errors == "hpcompss: interrupted; go on with  hpcompss resume study\n"
    assert "stopped: interrupted\n" in output
    assert sorted(told().values()) == sorted(log()[1]), "what ran has finished"
    assert Study.load("study").stopped == "interrupted"
    eventually(workers_are_gone)
    assert Path("study/trials.csv").exists()
    status, output, errors = finish(start("resume", "study", "--trials", len(told()) + 2))
    assert (status, errors) == (0, "")
    assert len(set(log()[1])) == len(log()[1]) == len(told())


def test_an_interrupt_counts_while_the_last_trials_run(start):
    workflow("hanging", 2)
    process = start("run", "workflow.yaml", "--study", "study")
    until(process, lambda: len(log()[1]) == 2)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    status, output, errors = finish(process)
    assert (status, errors) == (130, "hpcompss: interrupted; go on with  hpcompss resume study\n")
    assert "stopped: interrupted" in output
    assert records()[-1]["reason"] == "interrupted"


SCRIPT = """
import hpcompss
from model import slow

study = hpcompss.Study([hpcompss.Int("x", 1, 100)], directory="study")
try:
    study.optimize(slow, engine=hpcompss.engines.Local(workers=2))
except KeyboardInterrupt:
    print("interrupted after", study.finished, "with", study.interrupted, "to be tried again")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_reaches_the_script_that_searches(number):
    Path("script.py").write_text(SCRIPT)
    process = subprocess.Popen([sys.executable, "script.py"], stdout=subprocess.PIPE, text=True)
    until(process, lambda: len(told()) > 2)
    process.send_signal(number)
    output, _ = process.communicate(timeout=PATIENCE)
    interrupted = sum(record["event"] == "ask" for record in records()) - len(told())
    assert output == f"interrupted after {len(told())} with {interrupted} to be tried again\n"
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_interrupt_and_a_request_to_end_stop_at_once(start, number):
    process = begun(start, "hanging", running=2)
    process.send_signal(number)
    if number == signal.SIGINT:
        time.sleep(0.5)  # two signals that come together count as one
        assert process.poll() is None
        process.send_signal(number)
    status, output, errors = finish(process)
    assert status == 130
    assert errors == "hpcompss: interrupted; go on with  hpcompss resume study\n"
    assert "stopped: interrupted\n" in output
    eventually(workers_are_gone)
    first = {record["number"]: record["configuration"] for record in records() if record["event"] == "ask"}
    assert (len(first), told()) == (2, {})
    Path("model.py").write_text(MODEL.replace("note(values, 60)", "note(values, 0)"))
    status, output, _ = finish(start("resume", "study", "--trials", 3))
    assert status == 0
    assert "warning: the model's file was changed" in output
    assert {number: value for number, value in told().items() if number in first} == {
        number: configuration["x"] for number, configuration in first.items()
    }


# A disk that is full


def bash(script):
    head = f'hpcompss() {{ {sys.executable} -W error -m hpcompss "$@"; }}\n'
    return subprocess.run(["bash", "-c", head + script], capture_output=True, text=True, timeout=PATIENCE)


def is_complete(count):
    assert sorted(told()) == list(range(count))
    assert sorted(told().values()) == list(range(1, count + 1))
    assert len(Path("study/trials.csv").read_text().splitlines()) == count + 1


def test_a_journal_that_cannot_grow_stops_the_study_and_is_whole():
    workflow("long", 40)
    done = bash("ulimit -f 8; hpcompss run workflow.yaml --study study")
    assert done.returncode == 2
    assert done.stderr == (
        "hpcompss: study/journal.jsonl: the journal cannot be written (File too large); everything recorded so far is "
        "kept: mend that, then run  hpcompss resume study\n"
    )
    before = Path("study/journal.jsonl").read_bytes()
    assert before.endswith(b"\n")
    assert 0 < len(told()) < 40
    assert Study.load("study").completed == len(told())
    done = bash("hpcompss resume study")
    assert (done.returncode, done.stderr) == (0, "")
    assert Path("study/journal.jsonl").read_bytes().startswith(before)
    is_complete(40)


def test_a_folder_that_takes_no_file_is_left_as_it_was():
    workflow("long", 4)
    done = bash("ulimit -f 0; hpcompss run workflow.yaml --study study")
    assert done.returncode == 2
    assert done.stderr == "hpcompss: the study folder study cannot be written (File too large): choose another\n"
    assert not Path("study").exists()


MOUNT = "unshare -m bash -c 'mount -t tmpfs -o size=64k none study'"


@pytest.mark.skipif(shutil.which("unshare") is None or os.getuid() != 0, reason="only root can make a small disk")
def test_a_disk_that_is_full_stops_the_study_and_loses_nothing():
    workflow("long", 200)
    Path("study").mkdir()
    if bash(MOUNT).returncode != 0:
        pytest.skip("this machine lets nobody mount a disk")
    script = f"""
    mount -t tmpfs -o size=64k none study
    {sys.executable} -W error -m hpcompss run workflow.yaml --study study
    echo status $?
    {sys.executable} -m hpcompss status study >&2
    cp study/journal.jsonl before
    mount -o remount,size=1M none study
    {sys.executable} -W error -m hpcompss resume study >/dev/null
    echo status $?
    cp -r study kept
    """
    Path("script").write_text(script)
    done = bash("unshare -m bash script")
    assert re.findall("status [0-9]+", done.stdout) == ["status 2", "status 0"]
    assert "the journal cannot be written (No space left on device)" in done.stderr
    assert "Traceback" not in done.stderr
    assert Path("kept/journal.jsonl").read_bytes().startswith(Path("before").read_bytes())
    Path("study").rmdir()
    Path("kept").rename("study")
    is_complete(200)
