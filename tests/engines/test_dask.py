from __future__ import annotations

import os
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("distributed")

from distributed import LocalCluster

from hpcompss.cluster.certificates import make_certificates
from hpcompss.engines.dask import Dask
from hpcompss.engines.delivery import Luggage
from hpcompss.engines.fleet import ProcessFleet, Range, _Process
from hpcompss.engines.hosts import Host
from hpcompss.errors import InputError, MissingExtraError
from hpcompss.tasks.evaluate import evaluate
from hpcompss.training.data import load_data
from hpcompss.training.data.specification import DataSpecification
from hpcompss.trial import FailureKind, Resources
from tests.engines import functions as tasks
from tests.engines.conformance import EngineConformance, SharedConformance, alive, eventually, gather, outcome, short

pytestmark = pytest.mark.filterwarnings("ignore")  # what Dask itself warns of

ROOT = Path(__file__).parents[2]

OLD = """
import sys, hpcompss
hpcompss.__version__ = "0.0.1"
from hpcompss.main import main
sys.exit(main(["worker", *sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None, silence_logs=50) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def worker(cluster):
    with Worker(cluster.scheduler_address, "--cpu", "4", "--gpu", "2", "--memory", "16GB") as process:
        yield process


class Worker:
    """A process of ``hpcompss worker``, ended with the ``with``."""

    def __init__(self, *arguments, program=("-m", "hpcompss", "worker"), **options):
        command = [sys.executable, *program, *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.terminate()
        self.process.communicate(timeout=30)

    def ended(self):
        output, _ = self.process.communicate(timeout=30)
        return self.process.returncode, output


def told_by(engine):
    told = []
    engine.tell = told.append
    return told


@pytest.mark.usefixtures("worker")
class TestDask(SharedConformance, EngineConformance):
    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def address(cls, cluster):
        cls.address = cluster.scheduler_address

    def make(self):
        return Dask(address=self.address)


# Workers of its own


def test_it_starts_workers_of_the_size_of_a_trial_and_ends_them():
    with Dask(2, trial=Resources(cpu=3)) as engine:
        engine.await_workers()
        eventually(lambda: engine.capacity(Resources(cpu=3)) == 2, engine)
        assert engine.shares_files
        processes = gather(engine, [engine.submit(tasks.process) for _ in range(2)])
    for process in processes:
        eventually(lambda process=process: not alive(process))


def test_workers_come_while_tasks_wait_and_go_when_idle(tmp_path):
    with Dask(Range(1, 3)) as engine:
        engine._fleet._idle = 1.0
        told = told_by(engine)
        engine.await_workers()
        running = [engine.submit(tasks.touch_and_wait_for, tmp_path / str(n), tmp_path / "gate", n) for n in range(5)]
        eventually(lambda: len(list(tmp_path.iterdir())) == 3, engine)
        tasks.touch(tmp_path / "gate")
        assert gather(engine, running) == [0, 1, 2, 3, 4]
        eventually(lambda: engine.wait([]) or sum("leaves" in each for each in told) == 2)
        assert len(engine._hosts) == 1
        assert outcome(engine, tasks.add, 1, 1) == 2


def test_no_more_are_told_to_go_while_some_take_their_time_to_leave():
    """A worker that was told leaves the hosts first, and its process ends a while later."""
    told = []

    class Stubborn:
        def __init__(self, name):
            self.name = name

        def poll(self):
            return None

        def send_signal(self, number):
            told.append(self.name)

    fleet = ProcessFleet(Range(1, 3), "tcp://127.0.0.1:1", None, Resources(), idle=0.0)
    fleet._processes = {name: _Process(Stubborn(name), BytesIO()) for name in "abc"}
    hosts = [Host(key=name, name=name, machine="here", cores=1, origin=name) for name in "abc"]
    fleet.adjust(0, hosts, set("abc"))
    for there in (hosts, hosts, hosts[1:], hosts[2:], hosts[2:]):
        fleet.adjust(0, there, set())
    assert told == ["a", "b"]


def test_a_command_starts_workers(tmp_path):
    script = tmp_path / "scale"
    worker = f"{sys.executable} -m hpcompss worker $(cat {tmp_path}/address) --cpu 1 --patience 0 >/dev/null 2>&1 &"
    script.write_text(f"#!/bin/sh\necho $1 >> {tmp_path}/counts\n[ $1 = 0 ] || {worker}\n")
    script.chmod(0o755)
    with Dask(Range(0, 1), start=f"{script} {{count}}") as engine:
        (tmp_path / "address").write_text(engine.address)
        assert outcome(engine, tasks.add, 1, 2) == 3
    assert (tmp_path / "counts").read_text().split() == ["1", "0"]


def test_workers_are_jobs_of_a_batch_system():
    pytest.importorskip("dask_jobqueue")
    jobs = {"system": "local", "cores": 1, "processes": 1, "memory": "1GB", "python": sys.executable}
    with Dask(Range(0, 2), jobqueue=jobs) as engine:
        assert gather(engine, [engine.submit(tasks.add, n, n) for n in range(4)]) == [0, 2, 4, 6]


@pytest.mark.parametrize(
    ("options", "key", "message"),
    [
        ({"jobqueue": {"system": "slurn"}}, "engine.jobqueue.system", "did you mean 'slurm'"),
        ({"jobqueue": {"system": "slurm"}}, "engine.jobqueue", "does not take this for slurm"),
        ({"start": "up"}, "engine.start", "has no {count}"),
        ({"start": "no-such-program {count}"}, "engine.start", "cannot be run"),
    ],
)
def test_workers_that_cannot_be_started(options, key, message):
    if "jobqueue" in options:
        pytest.importorskip("dask_jobqueue")
    with pytest.raises(InputError, match=message) as caught, Dask(Range(1, 2), **options) as engine:
        outcome(engine, tasks.identity, 1)
    assert caught.value.key == key


# Encryption


def test_with_certificates_only_who_has_them_joins(tmp_path):
    make_certificates(tmp_path / "ours")
    make_certificates(tmp_path / "theirs")
    with Dask(0, port=0, certificates=tmp_path / "ours") as engine:
        assert engine.address.startswith("tls://127.0.0.1:")
        told = told_by(engine)
        address = engine.address.removeprefix("tls://")
        options = ["--patience", "1s", "--cpu", "1"]
        with (
            Worker(f"tls://{address}", "--certificates", tmp_path / "theirs", *options) as stranger,
            Worker(f"tcp://{address}", *options) as plain,
            Worker(f"tls://{address}", "--certificates", tmp_path / "ours", "--cpu", "1"),
        ):
            engine.await_workers()
            assert outcome(engine, tasks.add, 1, 2) == 3
            for each in (stranger, plain):
                status, output = each.ended()
                assert status == 2
                assert "no master answers at" in output
            assert sum("joined" in each for each in told) == 1


def test_a_port_that_is_open_to_others_is_warned_of(tmp_path):
    with Dask(0, port=0, host="0.0.0.0") as engine:
        assert "can run any code" in engine.introduction[-1]
    make_certificates(tmp_path / "certificates")
    with Dask(0, port=0, host="0.0.0.0", certificates=tmp_path / "certificates") as engine:
        assert not any("warning" in each for each in engine.introduction)


def test_certificates_are_not_made_twice_and_must_be_there(tmp_path):
    with pytest.raises(InputError, match="hpcompss certificates"):
        Dask(certificates=tmp_path)
    made = make_certificates(tmp_path)
    assert made.key.stat().st_mode & 0o077 == 0
    with pytest.raises(InputError, match="there already"):
        make_certificates(tmp_path)


# What is wrong


def test_an_address_nobody_answers_at(monkeypatch):
    monkeypatch.setattr("hpcompss.engines.dask.PATIENCE", 0.5)
    with pytest.raises(InputError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9, tried for \d s") as caught:
        Dask(address="tcp://127.0.0.1:9")
    assert caught.value.key == "engine.address"


def test_a_port_that_is_taken(cluster):
    port = int(cluster.scheduler_address.rpartition(":")[2])
    with pytest.raises(InputError, match=f"no scheduler can listen on 127.0.0.1:{port}"):
        Dask(port=port)


def test_dask_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match=r"hpcompss\[dask\]"):
        Dask()


def test_a_worker_of_another_version_is_refused():
    with Dask(0, port=0) as engine:
        told = told_by(engine)
        with Worker(engine.address, program=("-c", OLD)) as old:
            eventually(lambda: engine.wait([]) or told)
            status, output = old.ended()
    assert status == 2
    for each in (told[0], output):
        assert "hpcompss 0.0.1" in each
        assert "this master hpcompss" in each


def test_a_trial_that_is_too_large_waits_only_if_larger_workers_will_come(cluster, worker):
    with Dask(address=cluster.scheduler_address) as engine:
        engine.await_workers()
        with pytest.raises(InputError, match="asks for 5 cpus, the largest node has 4"):
            engine.submit(tasks.identity, 1, resources=Resources(cpu=5))
    with Dask(address=cluster.scheduler_address, wait_for_workers=True) as engine:
        engine.await_workers()
        assert engine.capacity(Resources(cpu=5)) == 1
        future = engine.submit(tasks.identity, 1, resources=Resources(cpu=5))
        assert engine.wait([future], timeout=0.5) == []
        with Worker(cluster.scheduler_address, "--cpu", "5"):
            assert gather(engine, [future]) == [1]


# Workers that die


def test_a_task_is_given_up_whose_worker_dies_each_time():
    with Dask(3) as engine:
        engine.await_workers()
        failure = outcome(engine, tasks.kill_grandparent)
        assert failure.kind is FailureKind.DIED
        assert "its worker was lost 3 times" in failure.reason
        assert outcome(engine, tasks.add, 1, 1) == 2


def test_a_worker_that_dies_with_many_short_tasks_is_put_down_to_none_but_one(tmp_path):
    with Dask(2) as engine:
        engine.await_workers()
        results = gather(engine, short(engine, tmp_path, {40: (tasks.kill_grandparent,)}))
        assert results.pop(40).kind is FailureKind.DIED
        assert results == [*range(40), *range(41, 100)]


def test_short_tasks_are_sent_together(tmp_path):
    with Dask(2) as engine:
        engine.await_workers()
        futures = short(engine, tmp_path)
        eventually(lambda: len(engine._parcels) == 2 < len(engine._running), engine)
        gather(engine, futures)


def test_a_worker_that_is_told_to_stop_finishes_what_it_has_time_for(tmp_path):
    with Dask(0, port=0) as engine, Worker(engine.address, "--cpu", "2", "--finish", "30s") as leaving:
        engine.await_workers()
        future = engine.submit(tasks.touch_and_wait_for, tmp_path / "begun", tmp_path / "gate", 5)
        eventually((tmp_path / "begun").exists, engine)
        leaving.process.terminate()
        time.sleep(0.5)
        tasks.touch(tmp_path / "gate")
        assert gather(engine, [future]) == [5]
        assert future.attempt == 0
        assert leaving.ended()[0] == 0


# What travels


def test_modules_and_data_travel_to_workers_that_lack_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HPCOMPSS_CACHE", str(tmp_path / "cache"))
    home = tmp_path / "home"
    home.mkdir()
    (home / "helper.py").write_text("def twice(x):\n    return 2 * x\n")
    (home / "model.py").write_text("from helper import twice\n\ndef loss(values):\n    return twice(values['x'])\n")
    numbers = np.arange(64, dtype="float32").reshape(16, 4)
    np.savez(home / "data.npz", x_train=numbers, y_train=np.arange(16) % 2, x_test=numbers, y_test=np.arange(16) % 2)
    data = DataSpecification(path=home / "data.npz")
    luggage = Luggage([home / "model.py"], data)
    for each in home.iterdir():
        each.unlink()  # as on another machine
    environment = {**os.environ, "HPCOMPSS_CACHE": str(tmp_path / "elsewhere")}
    with Dask(0, port=0, luggage=lambda: luggage) as engine:
        told = told_by(engine)
        with Worker(engine.address, "--no-fetch", env=environment) as poor:
            eventually(lambda: engine.wait([]) or told)
            assert "it does not have the data" in told[0]
            assert "--no-fetch" in told[0]
            status, output = poor.ended()
            assert status == 2
            assert "it does not have the data" in output
        with Worker(engine.address, env=environment):
            engine.await_workers()
            result = outcome(engine, evaluate, f"{home}/model.py:loss", {"x": 21}, "loss")
            assert result.value == 42
            loaded = outcome(engine, load_data, data)
            assert loaded.test.x.tolist() == numbers.tolist()
        with Worker(engine.address, "--no-fetch", env=environment):  # it is in the cache
            eventually(lambda: engine.wait([]) or sum("joined" in each for each in told) == 2)


def test_data_at_its_path_is_not_sent(tmp_path, monkeypatch):
    monkeypatch.setenv("HPCOMPSS_CACHE", str(tmp_path / "cache"))
    numbers = np.arange(16, dtype="float32").reshape(4, 4)
    np.savez(tmp_path / "data.npz", x_train=numbers, y_train=np.arange(4) % 2)
    luggage = Luggage([], DataSpecification(path=tmp_path / "data.npz"))
    environment = {**os.environ, "HPCOMPSS_CACHE": str(tmp_path / "elsewhere")}
    with Dask(0, port=0, luggage=lambda: luggage) as engine:
        with Worker(engine.address, "--no-fetch", env=environment):
            engine.await_workers()
            assert not (tmp_path / "elsewhere" / "fetched").exists()
        np.savez(tmp_path / "data.npz", x_train=2 * numbers, y_train=np.arange(4) % 2)
        told = told_by(engine)
        with Worker(engine.address, "--no-fetch", env=environment):
            eventually(lambda: engine.wait([]) or any("not the master's" in each for each in told))


def test_a_worker_that_does_not_see_a_shared_folder_is_refused(tmp_path):
    (tmp_path / "study").mkdir()
    with Dask(0, port=0, shared=True, log_directory=tmp_path / "study" / "logs") as engine:
        told = told_by(engine)
        (tmp_path / "study").rmdir()  # as on a machine without it
        with Worker(engine.address):
            eventually(lambda: engine.wait([]) or told)
        assert "does not see the study's folder" in told[0]


MASTER = """
import sys
from hpcompss.engines.dask import Dask
from tests.engines import functions as tasks

engine = Dask(address=sys.argv[1])
engine.await_workers()
engine.wait([engine.submit(tasks.announce, sys.argv[2], sys.argv[3])])
"""


def test_what_a_killed_master_had_running_ends(cluster, worker, tmp_path):
    announced = tmp_path / "processes"
    command = [sys.executable, "-c", MASTER, cluster.scheduler_address, str(announced), str(tmp_path / "never")]
    master = subprocess.Popen(command, cwd=ROOT)
    try:
        eventually(announced.exists)
    finally:
        master.kill()
        master.wait()
    for process in announced.read_text().split():
        eventually(lambda process=process: not alive(int(process)))


def test_that_no_worker_is_left_is_told_once(monkeypatch):
    monkeypatch.setattr("hpcompss.engines.placed.ALONE", 0.1)
    with Dask(0, port=0) as engine:
        told = told_by(engine)
        with Worker(engine.address, "--cpu", "1"):
            engine.await_workers()
        future = engine.submit(tasks.add, 1, 1)
        eventually(lambda: engine.wait([future], 0.1) or any("no worker is there" in each for each in told))
        engine.wait([future], 1.0)
        assert sum("no worker is there" in each for each in told) == 1
        with Worker(engine.address, "--cpu", "1"):
            assert gather(engine, [future]) == [2]
