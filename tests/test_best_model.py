"""The models that a study leaves, from end to end: the command line makes them, `Study.best_model` loads them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import hpcompss
from hpcompss.engines import Local
from hpcompss.errors import InputError
from hpcompss.loop import View
from hpcompss.study import Study
from hpcompss.training.data import DataSpecification, load_data
from tests.keras_jobs import keras, keras_cache

__all__ = ["keras", "keras_cache"]

ROOT = Path(__file__).resolve().parent.parent

MODELS = Path(__file__).with_name("own_fit_models.py")


def run(folder: Path, cache: Path, **sections: Any) -> subprocess.CompletedProcess[str]:
    """Runs two trials of one epoch on 160 images, by one worker."""
    workflow = {
        "data": {"name": "digits", "train": 200, "validation": 40},
        "search": {"sampler": "random", "trials": 2, "seed": 1},
        "engine": {"name": "local", "workers": 1},
        **sections,
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(workflow))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HPCOMPSS_CACHE": str(cache)}
    command = [sys.executable, "-m", "hpcompss", "run", "mine.yaml", "--study", "mine"]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


class Sayings(View):
    """Remembers what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    def working(self, message: str) -> contextlib.AbstractContextManager[None]:
        self.said.append(message)
        return super().working(message)


def test_best_model_and_ensemble_of_weights_alone(keras: Any, keras_cache: Path, tmp_path: Path) -> None:
    done = run(
        tmp_path,
        keras_cache,
        model=f"{MODELS}:build_net",
        objective={"metric": "val_hits", "direction": "maximize"},
        training={"epochs": 1, "batch_size": 20, "ensemble": 2},
    )
    assert done.returncode == 0, done.stderr
    assert "best model: mine/best.weights.h5" in done.stdout
    assert "hpcompss.Study.load('mine').best_model()" in done.stdout
    assert "ensemble: hpcompss.Study.load('mine').ensemble_model()" in done.stdout
    study = Study.load(tmp_path / "mine")
    assert study.test is not None
    test = load_data(DataSpecification(name="digits")).test
    for model, metrics in [
        (study.best_model(), study.test["metrics"]),
        (study.ensemble_model(), study.test["ensemble"]["metrics"]),
    ]:
        again = model.evaluate(test.x, test.y, batch_size=20, verbose=0, return_dict=True)
        assert again == {name: pytest.approx(value, rel=1e-5) for name, value in metrics.items()}


def test_without_a_trained_model_there_is_none(keras_cache: Path, tmp_path: Path) -> None:
    done = run(
        tmp_path, keras_cache, model=f"{MODELS}:CrossValidated", objective="val_accuracy", training={"epochs": 1}
    )
    assert done.returncode == 0, done.stderr
    assert "testing the best model" not in done.stdout and "best model:" not in done.stdout
    assert "not scored on the test set: the model of trial" in done.stdout
    study = Study.load(tmp_path / "mine")
    with pytest.raises(InputError, match=r"has no best model: no model is kept and none is tested: fit\(hp, model"):
        study.best_model()


def test_without_a_test_set_no_task_runs_at_the_end(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a study of a Python object loads its model by that."""
    monkeypatch.chdir(tmp_path)
    from tests.own_fit_models import build_with_own_objects, data_without_test

    with Local(workers=1) as engine:
        study = hpcompss.tune(
            model=build_with_own_objects,
            data={"function": data_without_test},
            objective={"metric": "val_hits", "direction": "maximize"},
            search={"sampler": "random", "trials": 1, "seed": 1},
            training={"epochs": 1},
            engine=engine,
            study="mine",
            view=(view := Sayings()),
        )
    assert not any("testing" in each for each in view.said)
    assert study.test == {"number": 0, "metrics": {}, "refit": False}
    weights = study.best_model().get_weights()
    again = Study.load("mine")
    with pytest.raises(InputError, match=r"begun in Python with .*build_with_own_objects: pass it"):
        again.best_model()
    loaded = again.best_model(model=build_with_own_objects).get_weights()
    assert all((one == other).all() for one, other in zip(loaded, weights, strict=True))
