from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcompss.tasks.finalize import finalize
from hpcompss.tasks.train import model_path, train
from hpcompss.training.data import DataSpecification, load_data
from hpcompss.training.job import Job
from hpcompss.trial import Failure
from tests.keras_jobs import make_job

CONFIGURATION = {"units": 12, "rate": 0.03}


def on_arrays(job: Job, folder: Path, **arrays: Any) -> Job:
    """The job on its own data, with these arrays in place of some; None leaves one out."""
    data = load_data(job.data)
    names = ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test")
    chosen = {**{name: getattr(data, name) for name in names}, **arrays}
    path = folder / "data.npz"
    np.savez(path, **{name: array for name, array in chosen.items() if array is not None})
    return dataclasses.replace(job, data=DataSpecification(path=path))


def test_scores_the_model_kept_on_the_test_set(keras: Any, tmp_path: Path) -> None:
    job = make_job()
    assert train(job, 4, CONFIGURATION, tmp_path, None).failure is None
    kept = model_path(tmp_path, 4).read_bytes()
    figures = finalize(job, 4, CONFIGURATION, 1, tmp_path, False)
    model, data = keras.models.load_model(model_path(tmp_path, 4)), load_data(job.data)
    again = model.evaluate(data.x_test, data.y_test, verbose=0, return_dict=True)
    assert figures == {name: pytest.approx(value, rel=1e-5) for name, value in again.items()}
    assert model_path(tmp_path, 4).read_bytes() == kept


def test_a_refit_learns_from_training_and_validation_data(keras: Any, tmp_path: Path) -> None:
    """The training set alone holds one class only: what is known of the others comes from the validation set."""
    job = make_job(epochs=8, batch_size=10)
    data = load_data(job.data)
    job = on_arrays(job, tmp_path, x_train=data.x_train[:10], y_train=np.zeros(10, int))
    train(job, 0, CONFIGURATION, tmp_path, None)
    as_trained = finalize(job, 0, CONFIGURATION, 8, tmp_path, False)
    kept = model_path(tmp_path, 0).read_bytes()
    refitted = finalize(job, 0, CONFIGURATION, 8, tmp_path, True)
    assert not isinstance(as_trained, Failure) and not isinstance(refitted, Failure)
    assert refitted["accuracy"] > as_trained["accuracy"] + 0.1
    assert model_path(tmp_path, 0).read_bytes() != kept
    model = keras.models.load_model(model_path(tmp_path, 0))
    again = model.evaluate(data.x_test, data.y_test, verbose=0, return_dict=True)
    assert again["accuracy"] == pytest.approx(refitted["accuracy"], rel=1e-6)


def test_a_refit_trains_for_as_many_epochs_as_counted(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs: list[int] = []
    fit = keras.Model.fit
    monkeypatch.setattr(
        keras.Model, "fit", lambda *args, **kwargs: epochs.append(kwargs["epochs"]) or fit(*args, **kwargs)
    )
    finalize(make_job(epochs=5), 0, CONFIGURATION, 2, tmp_path, True)
    finalize(make_job(epochs=3), 0, CONFIGURATION, None, tmp_path, True)
    assert epochs == [2, 3]


def test_a_model_with_layers_of_its_own_is_tested(keras: Any, tmp_path: Path) -> None:
    job = make_job("build_with_own_layer")
    assert train(job, 0, {"units": 10}, tmp_path, None).warnings == ()
    figures = finalize(job, 0, {"units": 10}, 1, tmp_path, False)
    assert not isinstance(figures, Failure) and set(figures) == {"loss", "accuracy"}


def test_without_a_test_set_there_are_no_figures(keras: Any, tmp_path: Path) -> None:
    job = on_arrays(make_job(), tmp_path, x_test=None, y_test=None)
    train(job, 0, CONFIGURATION, tmp_path, None)
    assert finalize(job, 0, CONFIGURATION, 1, tmp_path, False) == {}


def test_a_model_that_was_not_kept_is_not_tested(keras: Any, tmp_path: Path) -> None:
    failure = finalize(make_job(), 7, CONFIGURATION, 1, tmp_path, False)
    assert isinstance(failure, Failure)
    assert failure.reason == "the model of trial 7 was not kept; training.refit: true trains it anew"


def test_a_model_that_is_not_compiled_is_not_tested(keras: Any, tmp_path: Path) -> None:
    job = make_job("OwnLoop", metric="my_loss", direction="minimize", epochs=None)
    train(job, 0, {"units": 4, "rate": 0.01}, tmp_path, None)
    failure = finalize(job, 0, {"units": 4, "rate": 0.01}, 2, tmp_path, False)
    assert isinstance(failure, Failure)
    assert failure.reason == "build(hp) does not compile the model, so no metrics are known to test it by"


def test_a_fit_that_needs_validation_data_cannot_refit(keras: Any, tmp_path: Path) -> None:
    failure = finalize(make_job("OwnLoop", epochs=None), 0, {"units": 4, "rate": 0.01}, 2, tmp_path, True)
    assert isinstance(failure, Failure) and "'validation_data'" in failure.reason


def test_the_test_set_chooses_nothing(keras: Any, tmp_path: Path) -> None:
    """A trial comes out the same whatever the test set holds."""
    job = make_job(epochs=2)
    data = load_data(job.data)
    good = train(on_arrays(job, tmp_path), 0, CONFIGURATION, None, None)
    garbage = {"x_test": np.zeros_like(data.x_test), "y_test": np.full_like(data.y_test, 9)}
    bad = train(on_arrays(job, tmp_path, **garbage), 0, CONFIGURATION, None, None)
    assert good.failure is None and good.curves == bad.curves and good.value == bad.value
