from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcompss.tasks.finalize import ENSEMBLE, Scores, finalize
from hpcompss.tasks.train import REFIT, model_path, train
from hpcompss.training.data import DataSpecification, load_data
from hpcompss.training.job import Job
from hpcompss.trial import Failure, Trial
from tests.keras_jobs import make_job

CONFIGURATION = {"units": 12, "rate": 0.03}


def on_arrays(job: Job, folder: Path, **arrays: Any) -> Job:
    """The job on its own data, with these arrays in place of some; None leaves one out."""
    data = load_data(job.data)
    parts = {"train": data.train, "val": data.validation, "test": data.test}
    given = {f"{axis}_{name}": getattr(part, axis) for name, part in parts.items() for axis in "xy"}
    chosen = {**given, **arrays}
    path = folder / "data.npz"
    np.savez(path, **{name: array for name, array in chosen.items() if array is not None})
    return dataclasses.replace(job, data=DataSpecification(path=path))


def test_scores_the_model_kept_on_the_test_set(keras: Any, tmp_path: Path) -> None:
    job = make_job()
    assert train(job, 4, CONFIGURATION, tmp_path, None).failure is None
    kept = model_path(tmp_path, 4).read_bytes()
    scores = finalize(job, 4, CONFIGURATION, 1, tmp_path, False)
    model, data = keras.models.load_model(model_path(tmp_path, 4)), load_data(job.data)
    again = model.evaluate(data.test.x, data.test.y, verbose=0, return_dict=True)
    assert scores == Scores({name: pytest.approx(value, rel=1e-5) for name, value in again.items()})
    assert model_path(tmp_path, 4).read_bytes() == kept


def test_a_refit_learns_from_training_and_validation_data(keras: Any, tmp_path: Path) -> None:
    """The training set alone holds one class only: what is known of the others comes from the validation set."""
    job = make_job(epochs=8, batch_size=10)
    data = load_data(job.data)
    job = on_arrays(job, tmp_path, x_train=data.train.x[:10], y_train=np.zeros(10, int))
    train(job, 0, CONFIGURATION, tmp_path, None)
    as_trained = finalize(job, 0, CONFIGURATION, 8, tmp_path, False)
    kept = model_path(tmp_path, 0).read_bytes()
    refitted = finalize(job, 0, CONFIGURATION, 8, tmp_path, True)
    assert not isinstance(as_trained, Failure) and not isinstance(refitted, Failure)
    assert refitted.metrics["accuracy"] > as_trained.metrics["accuracy"] + 0.1
    assert refitted.before_refit == as_trained.metrics and as_trained.before_refit is None
    assert model_path(tmp_path, 0).read_bytes() == kept
    model = keras.models.load_model(model_path(tmp_path, 0, REFIT))
    again = model.evaluate(data.test.x, data.test.y, verbose=0, return_dict=True)
    assert again["accuracy"] == pytest.approx(refitted.metrics["accuracy"], rel=1e-6)


def test_a_refit_trains_for_as_many_epochs_as_counted(keras: Any, tmp_path: Path, fit_epochs: list[int]) -> None:
    finalize(make_job(epochs=5), 0, CONFIGURATION, 2, tmp_path, True)
    finalize(make_job(epochs=3), 0, CONFIGURATION, None, tmp_path, True)
    assert fit_epochs == [2, 3]


def test_the_end_is_trained_and_tested_as_the_winner_was(keras: Any, tmp_path: Path) -> None:
    searched = make_job(epochs=9, batch_size=7, searched=("epochs", "batch_size"))
    found = finalize(searched, 0, {**CONFIGURATION, "epochs": 2, "batch_size": 16}, None, tmp_path, True)
    assert found == finalize(make_job(epochs=2, batch_size=16), 0, CONFIGURATION, None, tmp_path, True)
    assert isinstance(found, Scores) and found.metrics


def test_a_model_with_layers_of_its_own_is_tested(keras: Any, tmp_path: Path) -> None:
    job = make_job("build_with_own_layer")
    assert train(job, 0, {"units": 10}, tmp_path, None).warnings == ()
    scores = finalize(job, 0, {"units": 10}, 1, tmp_path, False)
    assert not isinstance(scores, Failure) and set(scores.metrics) == {"loss", "accuracy"}


def test_without_a_test_set_there_are_no_figures(keras: Any, tmp_path: Path) -> None:
    job = on_arrays(make_job(), tmp_path, x_test=None, y_test=None)
    train(job, 0, CONFIGURATION, tmp_path, None)
    assert finalize(job, 0, CONFIGURATION, 1, tmp_path, False) == Scores({})


def test_a_model_that_was_not_kept_is_not_tested(keras: Any, tmp_path: Path) -> None:
    scores = finalize(make_job(), 7, CONFIGURATION, 1, tmp_path, False)
    assert scores == Scores({}, reason="the model of trial 7 was not kept; training.refit: true trains it anew")


def test_a_model_that_is_not_compiled_is_not_tested(keras: Any, tmp_path: Path) -> None:
    job = make_job("OwnLoop", metric="my_loss", direction="minimize", epochs=None)
    train(job, 0, {"units": 4, "rate": 0.01}, tmp_path, None)
    scores = finalize(job, 0, {"units": 4, "rate": 0.01}, 2, tmp_path, False)
    assert isinstance(scores, Scores) and scores.metrics == {}
    assert scores.reason.startswith(
        "build(hp) does not compile the model, so no metrics are known to test it by: define "
    )


def test_a_fit_that_needs_validation_data_cannot_refit(keras: Any, tmp_path: Path) -> None:
    scores = finalize(make_job("OwnLoop", epochs=None), 0, {"units": 4, "rate": 0.01}, 2, tmp_path, True)
    assert isinstance(scores, Scores) and scores.refit_failure is not None and scores.metrics == {}
    assert "needs validation_data" in scores.refit_failure.reason and scores.reason.startswith("the refit failed: ")


def own_fit(job: Job, model: str) -> Job:
    return dataclasses.replace(job, model=f"{Path(__file__).parents[1] / 'own_fit_models.py'}:{model}")


def test_what_a_refit_raises_leaves_the_score_of_the_trial(keras: Any, tmp_path: Path) -> None:
    job = own_fit(make_job(), "NeedsValidation")
    trials = members(job, tmp_path, {"units": 4}, {"units": 8})
    plain = finalize(job, 0, {"units": 4}, 1, tmp_path, False, trials)
    scores = finalize(job, 0, {"units": 4}, 1, tmp_path, True, trials)
    assert isinstance(plain, Scores) and isinstance(scores, Scores) and scores.refit_failure is not None
    assert scores.refit_failure.reason == "ValueError: nothing to judge by"
    assert plain.metrics and dataclasses.replace(scores, refit_failure=None) == plain
    assert (tmp_path / ENSEMBLE).exists() and not model_path(tmp_path, 0, REFIT).exists()


def test_a_fit_that_augments_the_training_data_alone_is_tested_after_a_refit(keras: Any, tmp_path: Path) -> None:
    job = own_fit(make_job(), "Augmented")
    assert train(job, 0, {"units": 4}, tmp_path, None).failure is None
    scores = finalize(job, 0, {"units": 4}, 1, tmp_path, True)
    assert isinstance(scores, Scores) and scores.reason == ""
    assert scores.metrics and scores.before_refit and scores.metrics != scores.before_refit


def test_the_test_set_chooses_nothing(keras: Any, tmp_path: Path) -> None:
    """A trial comes out the same whatever the test set holds."""
    job = make_job(epochs=2)
    data = load_data(job.data)
    good = train(on_arrays(job, tmp_path), 0, CONFIGURATION, None, None)
    garbage = {"x_test": np.zeros_like(data.test.x), "y_test": np.full_like(data.test.y, 9)}
    bad = train(on_arrays(job, tmp_path, **garbage), 0, CONFIGURATION, None, None)
    assert good.failure is None and good.curves == bad.curves and good.value == bad.value


# Ensembles


def members(job: Job, folder: Path, *configurations: Any) -> list[Trial]:
    """Trials that have been trained, and whose models were kept."""
    trials = [Trial(number, configuration) for number, configuration in enumerate(configurations)]
    for trial in trials:
        assert train(job, trial.number, trial.configuration, folder, None).failure is None
    return trials


def test_an_ensemble_is_the_mean_of_its_members(keras: Any, tmp_path: Path) -> None:
    job = make_job(epochs=3)
    trials = members(job, tmp_path, CONFIGURATION, {"units": 4, "rate": 0.01}, {"units": 16, "rate": 0.03})
    scores = finalize(job, 0, CONFIGURATION, 3, tmp_path, False, trials)
    assert not isinstance(scores, Failure) and scores.members == [0, 1, 2] and scores.warnings == ()
    data = load_data(job.data)
    loaded = keras.models.load_model(tmp_path / ENSEMBLE)
    each = [keras.models.load_model(model_path(tmp_path, number)) for number in range(3)]
    mean = np.mean([model.predict(data.test.x, verbose=0) for model in each], axis=0)
    np.testing.assert_allclose(loaded.predict(data.test.x, verbose=0), mean, atol=1e-6)
    again = loaded.evaluate(data.test.x, data.test.y, verbose=0, return_dict=True)
    assert scores.ensemble == {name: pytest.approx(value, rel=1e-5) for name, value in again.items()}
    assert again["accuracy"] == pytest.approx(np.mean(mean.argmax(axis=1) == data.test.y))
    alone = each[0].evaluate(data.test.x, data.test.y, verbose=0, return_dict=True)
    assert scores.metrics == {name: pytest.approx(value, rel=1e-5) for name, value in alone.items()}


def test_an_ensemble_is_of_the_models_before_the_refit(keras: Any, tmp_path: Path) -> None:
    job = make_job(epochs=2)
    trials = members(job, tmp_path, CONFIGURATION, CONFIGURATION)
    plain = finalize(job, 0, CONFIGURATION, 2, tmp_path, False, trials)
    for _ in range(2):  # again, as after a resume
        refitted = finalize(job, 0, CONFIGURATION, 2, tmp_path, True, trials)
        assert not isinstance(plain, Failure) and not isinstance(refitted, Failure)
        assert refitted.ensemble == plain.ensemble and refitted.before_refit == plain.metrics
        assert refitted.metrics != plain.metrics


def test_an_ensemble_of_models_of_one_name_with_whole_numbers_for_features(keras: Any, tmp_path: Path) -> None:
    job = make_job("build_named")
    data = load_data(job.data)
    parts = {"train": data.train, "val": data.validation, "test": data.test}
    pixels = {f"x_{name}": (part.x * 255).astype(np.uint8) for name, part in parts.items()}
    job = on_arrays(job, tmp_path, **pixels)
    scores = finalize(job, 0, {"units": 4}, 1, tmp_path, False, members(job, tmp_path, {"units": 4}, {"units": 8}))
    assert not isinstance(scores, Failure) and scores.warnings == () and scores.ensemble is not None
    loaded = keras.models.load_model(tmp_path / ENSEMBLE)
    again = loaded.evaluate(pixels["x_test"], data.test.y, verbose=0, return_dict=True)
    assert again["accuracy"] == pytest.approx(scores.ensemble["accuracy"])


def test_an_ensemble_of_models_with_layers_of_their_own(keras: Any, tmp_path: Path) -> None:
    job = make_job("build_with_own_layer")
    scores = finalize(job, 0, {"units": 10}, 1, tmp_path, False, members(job, tmp_path, {"units": 10}, {"units": 10}))
    assert not isinstance(scores, Failure) and scores.members == [0, 1]


def test_a_member_whose_model_is_missing_is_told_of(keras: Any, tmp_path: Path) -> None:
    job = make_job()
    trials = members(job, tmp_path, *[CONFIGURATION] * 3)
    model_path(tmp_path, 1).unlink()
    scores = finalize(job, 0, CONFIGURATION, 1, tmp_path, False, trials)
    assert not isinstance(scores, Failure) and scores.members == [0, 2] and scores.ensemble is not None
    assert scores.warnings == ("the ensemble lacks trial 1, whose model was not kept",)
    model_path(tmp_path, 2).unlink()
    scores = finalize(job, 0, CONFIGURATION, 1, tmp_path, False, trials)
    assert not isinstance(scores, Failure) and scores.members == [] and scores.ensemble is None and scores.metrics
    assert scores.warnings[-1] == "there is no ensemble, for which two models are needed, not 1"


def test_an_ensemble_that_cannot_be_made_is_told_of(keras: Any, tmp_path: Path) -> None:
    """Its members give outputs of different shapes."""
    job = make_job("build_with_own_layer")
    scores = finalize(job, 0, {"units": 10}, 1, tmp_path, False, members(job, tmp_path, {"units": 10}, {"units": 12}))
    assert not isinstance(scores, Failure) and scores.metrics and scores.ensemble is None
    assert len(scores.warnings) == 1 and scores.warnings[0].startswith("the ensemble could not be made: ")
