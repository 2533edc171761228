"""Which model of a trial is kept, how, and how it is tested."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcompss.objectives import Objective
from hpcompss.space.tracing import HyperParameters
from hpcompss.tasks.finalize import ENSEMBLE, Scores, finalize
from hpcompss.tasks.train import REFIT, model_path, train
from hpcompss.training.data import load_data
from hpcompss.training.evidence import MIXED, UNTRAINED
from hpcompss.training.fitting import build_model, load_hypermodel, scored
from hpcompss.training.job import Job
from hpcompss.training.kept import existing, load_model, read_about
from hpcompss.trial import Result, Trial
from tests.keras_jobs import make_job

MODELS = Path(__file__).parents[1] / "own_fit_models.py"

SIZE = {"units": 8}


def job_of(name: str, **settings: Any) -> Job:
    return dataclasses.replace(make_job(batch_size=20, **settings), model=f"{MODELS}:{name}")


def trained(job: Job, folder: Path, configuration: Any = SIZE) -> Result:
    result = train(job, 0, configuration, folder, None)
    assert result.failure is None, result.failure.traceback
    return result


def loaded(keras: Any, job: Job, folder: Path, configuration: Any = SIZE) -> Any:
    path = existing(model_path(folder, 0))
    assert path is not None
    return load_model(keras, load_hypermodel(job), path, configuration)


def score(job: Job, folder: Path, configuration: Any = SIZE, **settings: Any) -> Scores:
    scores = finalize(job, 0, configuration, 1, folder, **{"refit": False, **settings})
    assert isinstance(scores, Scores), scores.traceback
    return scores


def twice(folder: Path, configuration: Any) -> list[Trial]:
    """Two members of one ensemble: the trial, and one that came out the same."""
    path = existing(model_path(folder, 0))
    assert path is not None
    shutil.copy(path, path.with_name(path.name.replace("trial-0", "trial-1")))
    return [Trial(0, configuration), Trial(1, configuration)]


def on_validation(keras: Any, job: Job, model: Any) -> dict[str, float]:
    return scored(keras, model, load_data(job.data).validation, job.batch_size)


# Which model is kept


def test_a_model_that_fit_did_not_train_is_not_kept(keras: Any, tmp_path: Path) -> None:
    result = trained(job_of("CrossValidated"), tmp_path)
    assert result.value is not None and result.warnings == (UNTRAINED,)
    assert existing(model_path(tmp_path, 0)) is None
    scores = score(job_of("CrossValidated"), tmp_path)
    assert scores.metrics == {} and scores.reason.startswith("the model of trial 0 was not kept")


def test_figures_of_several_models_are_those_of_none(keras: Any, tmp_path: Path) -> None:
    result = trained(make_job("Folds"), tmp_path, {"folds": 2})
    assert result.value is not None and result.warnings == (MIXED,)
    assert existing(model_path(tmp_path, 0)) is None


def test_the_mean_of_folds_is_not_that_of_the_model_of_the_first(keras: Any, tmp_path: Path) -> None:
    result = trained(job_of("FirstFold"), tmp_path)
    assert result.value is not None and result.warnings == (MIXED,)
    assert existing(model_path(tmp_path, 0)) is None


def test_metrics_are_reset_for_each_model_that_fit_makes(keras: Any, tmp_path: Path) -> None:
    trained(job_of("FoldsWithSharedMetrics"), tmp_path)


@pytest.mark.parametrize("form", ["model", "turned"])
def test_the_model_that_fit_returns_is_kept(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    job = job_of("Returned")
    monkeypatch.setattr(type(load_hypermodel(job)), "form", form)
    result = trained(job, tmp_path)
    model = loaded(keras, job, tmp_path)
    assert model.count_params() == 65 * 3 + 4 * 10 == result.metrics["parameters"]
    assert on_validation(keras, job, model)["accuracy"] == pytest.approx(result.value, rel=1e-6)
    assert set(score(job, tmp_path).metrics) == {"loss", "accuracy"}


def test_fit_returns_one_model_and_its_figures(keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of("Returned")
    monkeypatch.setattr(type(load_hypermodel(job)), "form", "three")
    failure = train(job, 0, SIZE, None, None).failure
    assert failure is not None and "(return model, history), not 1 models and 2 other values" in failure.reason


def test_the_model_of_a_history_is_kept(keras: Any, tmp_path: Path) -> None:
    job = job_of("Another")
    result = trained(job, tmp_path)
    again = on_validation(keras, job, loaded(keras, job, tmp_path))
    assert result.warnings == () and again["accuracy"] == pytest.approx(result.value, rel=1e-6)


@pytest.mark.parametrize("name", ["Wrapped", "Unmoved"])
def test_a_model_that_keras_trained_is_kept(keras: Any, tmp_path: Path, name: str) -> None:
    """As a part of another model, and where nothing can change."""
    job = job_of(name)
    result = trained(job, tmp_path)
    again = on_validation(keras, job, loaded(keras, job, tmp_path))
    assert result.warnings == () and again["accuracy"] == pytest.approx(result.value, rel=1e-6)


# How it is kept


def test_weights_of_a_subclassed_model_are_kept_and_loaded(keras: Any, tmp_path: Path) -> None:
    job = job_of("build_net", metric="val_hits")
    result = trained(job, tmp_path)
    assert (
        os.listdir(tmp_path / "models") == ["trial-0.weights.h5"] and "(Net has no get_config())" in result.warnings[0]
    )
    model = loaded(keras, job, tmp_path)
    assert on_validation(keras, job, model)["hits"] == pytest.approx(result.value, rel=1e-6)
    scores = score(job, tmp_path, refit=True, members=twice(tmp_path, SIZE))
    assert existing(model_path(tmp_path, 0, REFIT)) == tmp_path / "models" / "trial-0-refit.weights.h5"
    assert scores.reason == "" and scores.metrics and scores.before_refit
    assert scores.ensemble == pytest.approx(scores.before_refit, rel=1e-4)  # of twice the same model
    assert not (tmp_path / ENSEMBLE).exists()
    assert "the ensemble has no file of its own (Net has no get_config()" in scores.warnings[0]


def test_a_model_without_call_is_kept_and_tested(keras: Any, tmp_path: Path) -> None:
    job = job_of("build_coder", metric="val_total", direction="minimize")
    result = trained(job, tmp_path, {"width": 3})
    again = on_validation(keras, job, loaded(keras, job, tmp_path, {"width": 3}))
    assert again == {"total": pytest.approx(result.value, rel=1e-5)}
    assert set(score(job, tmp_path, {"width": 3}).metrics) == {"total"}


def test_a_loss_that_only_a_call_makes_is_compiled_by_build(keras: Any, tmp_path: Path) -> None:
    job = job_of("build_with_made_loss")
    result = trained(job, tmp_path)
    assert "compile=False alone" in result.warnings[0]
    keras.saving.load_model(model_path(tmp_path, 0), compile=False)
    again = on_validation(keras, job, loaded(keras, job, tmp_path))
    assert again["loss"] == pytest.approx(result.metrics["val_loss"], rel=1e-5)


def test_own_layers_and_metrics_are_found_in_the_users_module(keras: Any, tmp_path: Path) -> None:
    job = job_of("build_with_own_objects", metric="val_hits")
    configuration = {"units": 10}
    result = trained(job, tmp_path, configuration)
    assert result.warnings == () and os.listdir(tmp_path / "models") == ["trial-0.keras"]
    assert on_validation(keras, job, loaded(keras, job, tmp_path, configuration))["count"] == 40
    scores = score(job, tmp_path, configuration, members=twice(tmp_path, configuration))
    assert scores.warnings == () and scores.ensemble == pytest.approx(scores.metrics, rel=1e-4)
    ensemble = load_model(keras, load_hypermodel(job), tmp_path / ENSEMBLE, None)
    assert on_validation(keras, job, ensemble)["hits"] == pytest.approx(result.value, rel=1e-6)


def test_metrics_of_the_users_module_keep_nothing_of_another_model(keras: Any, tmp_path: Path) -> None:
    job = job_of("build_with_shared_metrics", metric="val_count", epochs=2)
    for _ in range(2):
        curves = trained(job, tmp_path).curves
        assert curves["count"] == [80, 80] and curves["val_count"] == [40, 40]
    assert score(job, tmp_path).metrics["count"] == len(load_data(job.data).test.y)
    hypermodel = load_hypermodel(job)
    model = build_model(keras, hypermodel, HyperParameters(SIZE))
    model.fit(np.zeros((8, 8, 8, 1)), np.zeros(8), verbose=0)
    other = build_model(keras, hypermodel, HyperParameters(SIZE))
    assert other.evaluate(np.zeros((8, 8, 8, 1)), np.zeros(8), verbose=0, return_dict=True)["count"] == 8


def test_layers_of_the_users_module_learn_nothing_from_another_trial(keras: Any, tmp_path: Path) -> None:
    job = job_of("build_on_shared_base")
    curves = trained(job, tmp_path, {"units": 10}).curves
    assert trained(job, tmp_path, {"units": 10}).curves == curves


# How it is tested


@pytest.mark.parametrize("name", ["Halved", "Scaled"])
def test_a_model_whose_data_fit_prepares_is_not_tested_alone(keras: Any, tmp_path: Path, name: str) -> None:
    trained(job_of(name), tmp_path)
    scores = score(job_of(name), tmp_path)
    assert scores.metrics == {} and scores.warnings == ()
    assert scores.reason.startswith("fit(hp, model, ...) prepares the data, which the model alone does not: define ")


@pytest.mark.parametrize("name", ["HalvedTested", "ScaledTested"])
def test_the_users_evaluate_tests_the_model(keras: Any, tmp_path: Path, name: str) -> None:
    job = job_of(name, epochs=3)
    trained(job, tmp_path)
    scores = score(job, tmp_path, members=twice(tmp_path, SIZE))
    assert scores.reason == "" and scores.metrics["accuracy"] > 0.2 and set(scores.metrics) == {"loss", "accuracy"}
    assert scores.warnings == () and scores.ensemble == pytest.approx(scores.metrics, rel=1e-4)


def test_the_same_data_in_other_arrays_is_not_prepared(keras: Any, tmp_path: Path) -> None:
    trained(job_of("Shuffled"), tmp_path)
    path = existing(model_path(tmp_path, 0))
    assert path is not None and not read_about(path).prepared
    assert score(job_of("Shuffled"), tmp_path).reason == ""


def test_a_model_of_one_batch_size_is_tested_on_whole_batches(keras: Any, tmp_path: Path) -> None:
    job = job_of("build_of_fixed_batches")
    job = dataclasses.replace(job, data=dataclasses.replace(job.data, test=350))
    trained(job, tmp_path)
    scores = score(job, tmp_path)
    assert set(scores.metrics) == {"loss", "accuracy"} and "leave out the last 10 of 350 rows" in scores.warnings[0]


def test_inference_is_timed_on_what_the_model_takes(keras: Any) -> None:
    result = train(job_of("Halved", also=(Objective("inference_ms", "minimize"),)), 0, SIZE, None, None)
    assert result.failure is None and result.metrics["inference_ms"] > 0
