"""The engines' conformance suite in the master of COMPSs: ``runcompss ... tests/engines/compss_suite.py [OPTIONS]``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(sys.argv[0]).resolve().parents[2]

# Without the project's settings: pytest's handler of segmentation faults would take those that the Java machine lives
# by, and Python's -O, with which COMPSs starts it, is a warning. The suite's assertions are rewritten, so they count.
OPTIONS = ["-c", os.devnull, "-p", "no:faulthandler", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]

if __name__ == "__main__":
    import pytest

    sys.path.insert(0, str(ROOT))
    suite = ROOT / "tests" / "engines" / "compss_conformance.py"
    sys.exit(int(pytest.main([*OPTIONS, *sys.argv[1:], str(suite)])))
