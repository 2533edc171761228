"""Keras's other backends, each in a process of its own: a process has one backend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpcompss.engines.local_process import worker_environment
from hpcompss.errors import InputError, MissingExtraError
from hpcompss.space import Int, Space
from hpcompss.study import Study
from hpcompss.training import backends
from hpcompss.tuning import _backend_of

ROOT = Path(__file__).parents[2]
CHILD = ROOT / "tests" / "backend_child.py"


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_stages_folds_refit_and_threads(backend: str, tmp_path: Path, keras_cache: Path) -> None:
    environment = {
        **worker_environment(1, [], {"KERAS_BACKEND": backend}),
        "HPCOMPSS_CACHE": str(keras_cache),
        "PYTHONPATH": str(ROOT),
    }
    child = subprocess.run(
        [sys.executable, str(CHILD), str(tmp_path)], env=environment, capture_output=True, text=True, timeout=600
    )
    assert child.returncode == 0, child.stderr
    seen = json.loads(child.stdout.splitlines()[-1])
    assert seen["backend"] == backend
    assert seen["staged"] is True
    assert seen["threads"] == 1
    assert 0 < seen["folded"]["value"] <= 1 and seen["folded"]["folds"] == 2
    assert seen["folded"]["scores"].keys() == seen["folded"]["ensemble"].keys() == {"accuracy", "loss"}


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_missing_backend_names_its_extra(backend: str) -> None:
    code = (
        f"import sys; sys.modules[{backend!r}] = None\n"
        "from hpcompss.training.backends import import_keras\n"
        "for _ in range(2):\n"  # a worker has tried it before, when it started
        "    try: import_keras()\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    seen = run(code, KERAS_BACKEND=backend)
    sentence = (
        f"MissingExtraError training a model with KERAS_BACKEND={backend} needs {backend}: "
        f"install it with  pip install 'hpcompss[{backend}]'"
    )
    assert seen.stdout.splitlines() == [sentence] * 2, seen.stderr


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A process that has imported no Keras and was told of no backend."""
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return monkeypatch


def test_the_backend_is_what_keras_would_take(plain: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert (backends.stated_backend(), backends.chosen_backend()) == (None, "tensorflow")
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    assert (backends.stated_backend(), backends.chosen_backend()) == (None, "torch")
    plain.setenv("KERAS_BACKEND", "jax")
    assert (backends.stated_backend(), backends.chosen_backend()) == ("jax", "jax")


def test_processes_started_inside_use_the_backend(plain: pytest.MonkeyPatch) -> None:
    with backends.using_backend("jax"):
        assert worker_environment(1, [])["KERAS_BACKEND"] == "jax"
    assert "KERAS_BACKEND" not in os.environ
    message = "Keras cannot train with KERAS_BACKEND=jaxx: did you mean 'jax'?"
    with pytest.raises(InputError) as caught, backends.using_backend("jaxx"):
        pass
    assert caught.value.message == message


def test_a_module_that_chooses_another_backend_is_refused(plain: pytest.MonkeyPatch) -> None:
    keras = _keras("tensorflow")
    backends.check_backend(keras, "tensorflow")
    with pytest.raises(InputError, match="this worker's Keras uses tensorflow, the study jax"):
        backends.check_backend(keras, "jax")
    plain.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(InputError, match="the model's module sets KERAS_BACKEND=torch, which is too late"):
        backends.check_backend(keras, None)


def test_a_study_goes_on_with_its_own_backend(plain: pytest.MonkeyPatch) -> None:
    study = _study({"backend": "jax"})
    assert _backend_of(study) == "jax"
    assert _backend_of(_study({})) is None
    plain.setenv("KERAS_BACKEND", "jax")
    assert _backend_of(study) == "jax"
    plain.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(InputError, match="the study was begun with KERAS_BACKEND=jax, not torch: go on with that"):
        _backend_of(study)


def test_a_worker_has_what_jax_reads(plain: pytest.MonkeyPatch) -> None:
    for name in ("JAX_PLATFORMS", "XLA_PYTHON_CLIENT_PREALLOCATE"):
        plain.delenv(name, raising=False)
    without, shared = worker_environment(2, []), worker_environment(2, ["1"])
    assert without["NPROC"] == without["OMP_NUM_THREADS"] == "2"
    assert (without["JAX_PLATFORMS"], without["CUDA_VISIBLE_DEVICES"]) == ("cpu", "")
    assert "JAX_PLATFORMS" not in shared
    assert (shared["CUDA_VISIBLE_DEVICES"], shared["XLA_PYTHON_CLIENT_PREALLOCATE"]) == ("1", "false")


def test_a_missing_keras_names_the_extra_of_the_backend(plain: pytest.MonkeyPatch) -> None:
    plain.setitem(sys.modules, "keras", None)
    plain.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(MissingExtraError, match=r"needs keras: install it with  pip install 'hpcompss\[torch\]'"):
        backends.import_keras()


def _keras(backend: str) -> Any:
    return SimpleNamespace(backend=SimpleNamespace(backend=lambda: backend))


def _study(about: dict[str, str]) -> Study:
    return Study(Space([Int("x", 1, 3)]), about=about)
