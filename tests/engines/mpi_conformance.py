"""What `mpi_suite.py` collects: not named as a test, for it runs under ``mpiexec`` alone."""

from __future__ import annotations

from hpcompss.engines.mpi import Mpi
from tests.engines.conformance import EngineConformance, SharedConformance


class TestUnderMpiexec(SharedConformance, EngineConformance):
    def make(self):
        return Mpi(cores=4, gpus=["0", "1"])
