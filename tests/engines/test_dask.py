from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("distributed")

from distributed import LocalCluster

from hpcompss.engines.dask import Dask
from tests.engines.conformance import EngineConformance

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None, silence_logs=40) as cluster:
        yield cluster


def start_worker(address, *options):
    return subprocess.Popen([sys.executable, "-m", "hpcompss", "worker", address, *options])


@pytest.fixture(scope="module")
def worker(cluster):
    process = start_worker(cluster.scheduler_address, "--cpu", "4", "--gpu", "2", "--memory", "16GB")
    yield process
    process.terminate()
    assert process.wait(30) == 0


class TestDask(EngineConformance):
    @pytest.fixture
    def engine(self, cluster, worker):
        with Dask(address=cluster.scheduler_address) as engine:
            engine.await_workers()
            yield engine
