"""What `mpi_suite.py` collects: not named as a test, for it runs under ``mpiexec`` alone."""

from __future__ import annotations

import pytest

from hpcompss.engines.mpi import Mpi
from tests.engines.conformance import EngineConformance


class TestUnderMpiexec(EngineConformance):
    @pytest.fixture
    def engine(self):
        with Mpi(cores=4, gpus=["0", "1"]) as engine:
            yield engine
