from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

pytest.importorskip("joblib")

import joblib

from hpcompss.engines import Joblib
from hpcompss.errors import InputError
from hpcompss.trial import FailureKind, Resources
from hpcompss.tuning import tune
from hpcompss.workflow import make_workflow
from tests.engines import functions as tasks
from tests.engines.conformance import EngineConformance, SharedConformance, eventually, gather, outcome


@pytest.fixture(scope="module", autouse=True)
def no_processes_are_left():
    yield
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=True)


class TestJoblib(SharedConformance, EngineConformance):
    def make(self):
        with joblib.parallel_config(backend="loky", n_jobs=4):
            return Joblib(cores=4, gpus=["0", "1"])


def test_a_killed_process_of_loky_costs_no_task(tmp_path):
    with joblib.parallel_config(backend="loky", n_jobs=2), Joblib(cores=2, gpus=[]) as engine:
        future = engine.submit(tasks.announce, tmp_path / "processes", tmp_path / "gate")
        eventually((tmp_path / "processes").exists)
        child = (tmp_path / "processes").read_text().split()[0]
        status = Path(f"/proc/{child}/stat").read_text()
        os.kill(int(status.rpartition(")")[2].split()[1]), signal.SIGKILL)
        tasks.touch(tmp_path / "gate")
        assert gather(engine, [future]) == [None]
        assert future.deaths == 1


def x_itself(values):
    return float(values["x"])


def test_a_study_is_tuned_with_as_many_jobs_as_are_set(tmp_path):
    sections = {
        "function": x_itself,
        "space": {"x": {"type": "Int", "min_value": 0, "max_value": 9}},
        "objective": "loss",
        "search": {"trials": 4, "seed": 1},
        "engine": "joblib",
    }
    with joblib.parallel_config(backend="loky", n_jobs=2):
        study = tune(make_workflow(sections), study=tmp_path / "study")
    assert study.completed == 4
    assert '"event": "joblib", ' in (tmp_path / "study" / "journal.jsonl").read_text()


def test_without_a_setting_there_is_one_job_and_the_user_is_told():
    with Joblib(gpus=[]) as engine:
        assert engine.capacity(Resources()) == 1
        assert "n_jobs" in engine.introduction[-1]
        assert outcome(engine, tasks.add, 1, 1) == 2
        assert outcome(engine, tasks.exit_at_once, 3).kind is FailureKind.DIED


@pytest.mark.filterwarnings("ignore")
def test_trials_run_on_a_cluster_of_dask():
    distributed = pytest.importorskip("distributed")
    options = {"dashboard_address": None, "silence_logs": 40, "host": "127.0.0.1"}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, **options) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
        Joblib() as engine,
    ):
        assert engine.capacity(Resources()) == 2
        assert gather(engine, [engine.submit(tasks.add, number, 1) for number in range(6)]) == list(range(1, 7))
        assert "status 3" in outcome(engine, tasks.exit_at_once, 3).reason
        with pytest.raises(InputError, match="one core") as caught:
            engine.submit(tasks.identity, 1, resources=Resources(cpu=2))
        assert caught.value.key == "resources.cpu"
