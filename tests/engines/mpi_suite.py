"""The engines' conformance suite in the first rank of MPI: ``mpiexec -n 5 python tests/engines/mpi_suite.py``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ["-c", os.devnull, "-p", "no:cacheprovider", "--rootdir", str(ROOT), "-W", "error"]

if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    from hpcompss.engines import mpi_rank

    if mpi_rank():
        from hpcompss.engines.mpi import serve

        serve()
    else:
        import pytest

        suite = ROOT / "tests" / "engines" / "mpi_conformance.py"
        sys.exit(int(pytest.main([*OPTIONS, *sys.argv[1:], str(suite)])))
