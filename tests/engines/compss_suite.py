"""The engines' conformance suite in the master of COMPSs: ``runcompss ... tests/engines/compss_suite.py``."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(sys.argv[0]).resolve().parents[2]

if __name__ == "__main__":
    import pytest

    sys.path.insert(0, str(ROOT))
    suite = ROOT / "tests" / "engines" / "compss_conformance.py"
    sys.exit(int(pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", str(ROOT), str(suite)])))
