"""What `compss_suite.py` collects: not named as a test, for it runs inside COMPSs alone."""

from __future__ import annotations

import pytest

from hpcompss.engines.compss import Compss
from tests.engines.conformance import EngineConformance


class TestInCompss(EngineConformance):
    @pytest.fixture
    def engine(self):
        with Compss(gpu_shares=4) as engine:
            yield engine
