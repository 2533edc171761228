from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcompss.samplers.numerics import compiled

SOURCE = "def double(number):\n    return 2 * number\n"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HPCOMPSS_THREADS": "3", "NUMBA_NUM_THREADS": "2", "OMP_NUM_THREADS": "1"}, 3),
        ({"NUMBA_NUM_THREADS": "2", "OMP_NUM_THREADS": "1"}, 2),
        ({"OMP_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "4,2"}, len(os.sched_getaffinity(0))),
        ({"HPCOMPSS_THREADS": "0"}, len(os.sched_getaffinity(0))),
        ({}, len(os.sched_getaffinity(0))),
    ],
)
def test_the_environment_says_how_many_threads(
    environment: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HPCOMPSS_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert compiled.thread_count() == expected


@pytest.fixture
def kernels() -> Callable[[str], Any]:
    """Returns `compiled.kernels` without what it remembers."""
    return compiled.kernels.__wrapped__


def test_without_numba_there_are_no_kernels(kernels: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert kernels("hpcompss.samplers.numerics.lattice_kernels") is None


def test_a_numba_that_does_not_import_counts_as_none(
    kernels: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text("raise ImportError('Numba needs NumPy 1.0 or less')\n")
    for name in [name for name in sys.modules if name.partition(".")[0] == "numba"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert kernels("hpcompss.samplers.numerics.lattice_kernels") is None


def test_numba_is_imported_only_when_asked() -> None:
    script = (
        "import sys; import hpcompss.samplers.numerics.lattice, hpcompss.samplers.numerics.compiled; "
        "print([name for name in ('numba', 'llvmlite') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_cannot_be_kept_is_compiled_all_the_same() -> None:
    pytest.importorskip("numba")
    nowhere: dict[str, Any] = {}
    exec(SOURCE, nowhere)  # a function without a file has nowhere to keep what is compiled
    assert compiled.compiled()(nowhere["double"])(21) == 42


def test_a_full_disk_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caching = pytest.importorskip("numba.core.caching")

    def fail(*arguments: Any) -> None:
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", fail)
    (tmp_path / "kernel_on_a_full_disk.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("kernel_on_a_full_disk")
    assert compiled.compiled()(module.double)(21) == 42


def test_what_is_compiled_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    (tmp_path / "kernel_that_is_kept.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("kernel_that_is_kept")
    for hits in (0, 1):
        made: Any = compiled.compiled()(module.double)
        assert made(21) == 42
        assert sum(made.stats.cache_hits.values()) == hits
