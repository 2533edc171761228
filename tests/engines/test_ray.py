from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

pytest.importorskip("ray")

import ray
from ray.cluster_utils import Cluster

from hpcompss.engines import ray as module
from hpcompss.engines.ray import Ray
from hpcompss.errors import InputError, MissingExtraError
from tests.engines import functions as tasks
from tests.engines.conformance import EngineConformance, SharedConformance, eventually, gather


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_health_check_initial_delay_ms", "0")
        patch.setenv("RAY_health_check_period_ms", "500")
        patch.setenv("RAY_health_check_failure_threshold", "3")
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 4, "num_gpus": 2, "include_dashboard": False}
        )
        ray.init(cluster.address, logging_level="ERROR", log_to_driver=False)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


def advance_until(engine, condition):
    eventually(lambda: (engine._advance(), condition())[1])


@pytest.mark.usefixtures("cluster")
class TestRay(SharedConformance, EngineConformance):
    def make(self):
        return Ray(shared=True)


def test_what_ran_on_a_node_that_dies_is_tried_elsewhere(cluster, tmp_path):
    second = cluster.add_node(num_cpus=2)
    said = []
    with Ray(shared=True) as engine:
        engine.tell = said.append
        advance_until(engine, lambda: len([line for line in said if line.endswith("joined")]) == 2)
        futures = [engine.submit(tasks.touch_and_wait_for, tmp_path / str(n), tmp_path / "gate", n) for n in range(6)]
        advance_until(engine, lambda: len(list(tmp_path.iterdir())) == 6)
        assert len({future.place for future in futures}) == 2
        cluster.remove_node(second, allow_graceful=False)
        advance_until(engine, lambda: len({future.place for future in futures if future.place}) == 1)
        tasks.touch(tmp_path / "gate")
        assert gather(engine, futures) == list(range(6))
    assert any("lost a task" in line or "is gone" in line for line in said)


def test_a_foreman_that_dies_is_replaced(cluster, tmp_path):
    with Ray(shared=True) as engine:
        engine.await_workers()
        future = engine.submit(tasks.touch_and_wait_for, tmp_path / "begun", tmp_path / "gate", 7)
        advance_until(engine, (tmp_path / "begun").exists)
        (foreman,) = engine._foremen.values()
        (tmp_path / "begun").unlink()
        ray.kill(foreman)
        advance_until(engine, (tmp_path / "begun").exists)
        tasks.touch(tmp_path / "gate")
        assert gather(engine, [future]) == [7]


def test_a_node_of_another_version_is_refused_with_both(cluster, monkeypatch):
    monkeypatch.setattr("hpcompss.engines.placed.__version__", "99.1")
    said = []
    with Ray(shared=True) as engine:
        engine.tell = said.append
        advance_until(engine, lambda: said)
    assert "is not used: it has hpcompss" in said[0]
    assert "this master hpcompss 99.1" in said[0]


def test_room_is_asked_for_while_tasks_wait(cluster, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("ray.autoscaler.sdk.request_resources", lambda bundles: asked.append(bundles))
    with Ray(shared=True) as engine:
        engine.await_workers()
        futures = [engine.submit(tasks.wait_for, tmp_path / "gate") for _ in range(6)]
        advance_until(engine, lambda: asked and asked[-1] == [{"CPU": 1}] * 6)
        tasks.touch(tmp_path / "gate")
        gather(engine, futures)
        advance_until(engine, lambda: asked[-1] == [])


def test_a_node_without_tasks_is_left_alone_until_there_is_one(cluster, monkeypatch):
    monkeypatch.setattr(module, "IDLE", 0.3)
    with Ray(shared=True) as engine:
        engine.await_workers()
        assert gather(engine, [engine.submit(tasks.add, 1, 2)]) == [3]
        advance_until(engine, lambda: not engine._foremen)
        assert gather(engine, [engine.submit(tasks.add, 1, 3)]) == [4]


def test_an_address_nobody_answers_at(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
        with pytest.raises(InputError, match=rf"answers at {address}, tried for \d s \(.*refused") as caught:
            Ray(address=address)
        assert caught.value.key == "engine.address"


def test_an_address_that_is_none():
    with pytest.raises(InputError, match="an address reads"):
        Ray(address="somewhere")


def test_ray_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"hpcompss\[ray\]"):
        Ray()


OWN = """
from hpcompss.engines.ray import Ray
with Ray() as engine:
    engine.await_workers()
    future = engine.submit(max, 1, 2)
    engine.wait([future])
    print(future.result(), engine.shares_files, engine.introduction)
"""


def test_a_cluster_of_its_own():
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", OWN], capture_output=True, text=True, env=environment, timeout=120)
    assert done.stdout.splitlines()[-1:] == ["2 True ['Ray cluster: this machine']"], done.stderr
