"""Workers that join, leave, die and freeze while the real command line runs a study: no trial is lost or done twice."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.engines.conformance import eventually

pytest.importorskip("distributed")

PATIENCE = 60.0

MODEL = """
import time

def slow(values):
    time.sleep(0.5)
    return float(values["x"])
"""

WORKFLOW = """
function: model.py:slow
objective: loss
space: {x: {type: Int, min_value: 1, max_value: 1000}}
search: {sampler: random, seed: 3, trials: 40}
engine: {name: dask, port: PORT, workers: 0, grace: 3s}
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Place:
    """A folder with a workflow, its master, and workers in folders of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.started: list[subprocess.Popen] = []
        (folder / "model.py").write_text(MODEL)
        (folder / "workflow.yaml").write_text(WORKFLOW.replace("PORT", str(self.port)))

    def start(self, *arguments, folder=None):
        output = open(self.folder / f"output-{len(self.started)}.txt", "wb")  # noqa: SIM115
        process = subprocess.Popen(
            [sys.executable, "-m", "hpcompss", *arguments],
            cwd=folder or self.folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "HPCOMPSS_CACHE": str(self.folder)},
        )
        output.close()
        self.started.append(process)
        return process

    def output(self, process):
        return (self.folder / f"output-{self.started.index(process)}.txt").read_text()

    def worker(self, *options):
        folder = self.folder / f"machine-{len(self.started)}"
        folder.mkdir()
        return self.start("worker", f"tcp://127.0.0.1:{self.port}", "--cpu", "1", *options, folder=folder)

    def events(self, *names):
        journal = self.folder / "study" / "journal.jsonl"
        lines = journal.read_text().splitlines() if journal.exists() else []
        return [record for record in map(json.loads, lines) if record["event"] in names]

    def stop(self):
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.started:
            try:
                process.wait(PATIENCE / 2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    place.stop()


def test_workers_join_leave_die_and_freeze(place):
    master = place.start("run", "workflow.yaml", "--study", "study")
    first = place.worker()
    eventually(lambda: place.events("tell"))
    dying, leaving, freezing = (place.worker() for _ in range(3))
    eventually(lambda: place.output(master).count(" joined") == 4)
    before = len(place.events("tell"))
    eventually(lambda: len(place.events("tell")) >= before + 4)
    dying.kill()
    leaving.terminate()
    freezing.send_signal(signal.SIGSTOP)
    assert leaving.wait(PATIENCE) == 0
    assert master.wait(2 * PATIENCE) == 0, place.output(master)
    told = Counter(record["number"] for record in place.events("tell"))
    assert told == Counter(range(40))
    assert all("value" in record and "failure" not in record for record in place.events("tell"))
    assert Counter(record["number"] for record in place.events("ask")) == Counter(range(40))
    output = place.output(master)
    assert output.count("is gone") == 2 or "has said nothing" in output
    assert "leaves" in output
    assert first.poll() is None


def test_a_master_that_comes_back_finds_its_workers(place):
    master = place.start("run", "workflow.yaml", "--study", "study")
    worker = place.worker()
    eventually(lambda: len(place.events("tell")) >= 2)
    master.kill()
    master.wait()
    time.sleep(1)
    again = place.start("resume", "study", "--trials", "6")
    assert again.wait(PATIENCE) == 0, place.output(again)
    told = Counter(record["number"] for record in place.events("tell"))
    assert told == Counter(range(6))
    assert "lost tcp://" in place.output(worker)
    assert worker.poll() is None


def test_a_plan_says_what_it_waits_for(place):
    plan = place.start("plan", "workflow.yaml")
    eventually(lambda: "start some with  hpcompss worker tcp://" in place.output(plan))
    place.worker()
    assert plan.wait(PATIENCE) == 0, place.output(plan)
    assert "1,000" in place.output(plan) or "1000" in place.output(plan)
