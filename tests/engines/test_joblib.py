from __future__ import annotations

import sys

import pytest

joblib = pytest.importorskip("joblib")

import hpcompss
from hpcompss.engines import Joblib
from hpcompss.errors import InputError
from hpcompss.trial import Resources
from tests.engines import functions as tasks
from tests.engines.conformance import EngineConformance, gather, outcome


@pytest.fixture(scope="module", autouse=True)
def no_processes_are_left():
    yield
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=True)


class TestJoblib(EngineConformance):
    @pytest.fixture
    def engine(self):
        with joblib.parallel_config(backend="loky", n_jobs=4), Joblib(cores=4, gpus=["0", "1"]) as engine:
            yield engine
