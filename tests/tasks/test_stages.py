"""A trial that is trained in stages: going on gives what never stopping gives, and where it cannot, it begins anew."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcompss.engines import Engine, Local
from hpcompss.samplers import make_sampler
from hpcompss.samplers.history import History
from hpcompss.space.parameters import Float, Int
from hpcompss.space.space import Space
from hpcompss.tasks.suggest import SearchState
from hpcompss.tasks.train import model_path, train, train_suggested
from hpcompss.training import fitting
from hpcompss.training.checkpoint import checkpoint_path, read_checkpoint
from hpcompss.training.data import load_data
from hpcompss.training.job import EarlyStopping, Job
from hpcompss.trial import Failure, FailureKind, Result, Stage
from tests.keras_jobs import make_job

MODELS = Path(__file__).parents[1] / "staged_models.py"
FIRST, SECOND, WHOLE = Stage(epochs=3, keeps=True), Stage(epochs=6, since=3, keeps=True), Stage(epochs=6, keeps=True)
CONFIGURATION = {"units": 8, "rate": 0.03}


def staged_job(model: str, **settings: Any) -> Job:
    job = make_job(**{"metric": "val_loss", "direction": "minimize", "epochs": 6, **settings})
    return dataclasses.replace(job, model=f"{MODELS}:{model}")


CASES = {
    "adam_with_schedule": {"batch_size": 16},
    "Arrays": {"batch_size": 16, "epoch": "last"},
    "DataSets": {"early_stopping": EarlyStopping(5, 0.1)},
}
"""A model each, with settings of the training."""


@pytest.fixture(scope="module")
def engine(keras_cache: Path) -> Iterator[Engine]:
    with pytest.MonkeyPatch.context() as environment, Local(workers=1, cores=1, preload=["keras"]) as engine:
        environment.setenv("HPCOMPSS_CACHE", str(keras_cache))
        yield engine


def in_another_process(engine: Engine, *arguments: Any) -> Any:
    future = engine.submit(*arguments)
    while not future.done:
        engine.wait([future])
    return future.result()


def good(result: Result | Failure) -> Result:
    assert isinstance(result, Result) and result.failure is None and result.warnings == (), result
    return result


@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")
@pytest.mark.parametrize("model", CASES)
def test_going_on_gives_what_never_stopping_gives(keras: Any, engine: Engine, tmp_path: Path, model: str) -> None:
    job = staged_job(model, **CASES[model])
    for name in ("whole", "staged"):
        (tmp_path / name).mkdir()
    whole = good(train(job, 5, {}, tmp_path / "whole", None, WHOLE))
    first = good(train(job, 5, {}, tmp_path / "staged", None, FIRST))
    second = good(in_another_process(engine, train, job, 5, {}, tmp_path / "staged", None, SECOND))
    assert (whole.budget, first.budget, second.budget) == (6, 3, 6)
    assert (second.value, second.epoch, second.metrics) == (whole.value, whole.epoch, whole.metrics)
    assert {name: first.curves[name] + curve for name, curve in second.curves.items()} == whole.curves
    assert {len(curve) for curve in second.curves.values()} == {3}

    states = [read_checkpoint(checkpoint_path(tmp_path / name, 5, 6)) for name in ("whole", "staged")]
    assert states[0].plain == states[1].plain
    assert states[0].arrays.keys() == states[1].arrays.keys()
    for name, array in states[0].arrays.items():
        np.testing.assert_array_equal(array, states[1].arrays[name], err_msg=name)
    assert any(np.any(array != 0) for array in states[0].group("optimizer"))


def test_a_second_stage_may_be_worse_than_the_first(keras: Any, tmp_path: Path) -> None:
    """As if a greater loss were better, so that the first epoch counts, and its weights are kept."""
    job = make_job(epochs=4, batch_size=20, metric="val_loss", direction="maximize")
    first = good(train(job, 0, CONFIGURATION, tmp_path, None, Stage(epochs=2, keeps=True)))
    model_path(tmp_path, 0).unlink()
    second = good(train(job, 0, CONFIGURATION, tmp_path, None, Stage(epochs=4, since=2)))
    assert first.epoch == second.epoch == 1 and first.metrics == second.metrics
    assert max(second.curves["val_loss"]) < second.value
    model, data = keras.models.load_model(model_path(tmp_path, 0)), load_data(job.data)
    again = model.evaluate(data.validation.x, data.validation.y, verbose=0, return_dict=True)
    assert again["loss"] == pytest.approx(second.value, rel=1e-6)


def test_a_model_is_not_that_of_an_earlier_stage(keras: Any, tmp_path: Path) -> None:
    job = make_job(epochs=2, epoch="last")
    good(train(job, 0, CONFIGURATION, tmp_path, None, Stage(epochs=1, keeps=True)))
    assert model_path(tmp_path, 0).exists()
    good(train(job, 0, CONFIGURATION, tmp_path, 2.0, Stage(epochs=2, since=1)))
    assert not model_path(tmp_path, 0).exists()


def test_a_stage_that_no_other_follows_leaves_no_checkpoint(keras: Any, tmp_path: Path) -> None:
    assert good(train(make_job(), 0, CONFIGURATION, tmp_path, None, Stage(epochs=2))).budget == 2
    assert not (tmp_path / "checkpoints").exists()
    result = good(train(make_job(epochs=2), 0, CONFIGURATION, tmp_path, None))
    assert result.budget is None and not result.ended


# A share of the data


@pytest.mark.parametrize(("share", "rows"), [(0.25, 20), (1.0, 80)])
def test_a_share_of_the_data(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, rows: int
) -> None:
    sizes: list[tuple[int, int]] = []
    fit = keras.Model.fit

    @functools.wraps(fit)
    def noting(model: Any, x: Any, y: Any, *rest: Any, **named: Any) -> Any:
        given = inspect.signature(fit).bind(model, x, y, *rest, **named).arguments
        sizes.append((len(x), len(given["validation_data"][0])))
        return fit(model, x, y, *rest, **named)

    monkeypatch.setattr(keras.Model, "fit", noting)
    result = good(train(make_job(), 0, CONFIGURATION, tmp_path, None, Stage(share=share)))
    assert sizes == [(rows, 40)] and result.budget == share and not result.ended


# Early stopping


def test_early_stopping_ends_a_training(keras: Any, tmp_path: Path) -> None:
    """No epoch is better than the first by that much."""
    job = make_job(epochs=9, early_stopping=EarlyStopping(2, 1.0))
    result = good(train(job, 0, CONFIGURATION, tmp_path, None))
    assert result.ended and len(result.curves["loss"]) == 3
    assert result.value == max(result.curves["val_accuracy"])


def test_early_stopping_counts_over_stages(keras: Any, tmp_path: Path) -> None:
    job = make_job(epochs=9, early_stopping=EarlyStopping(3, 1.0))
    first = good(train(job, 0, CONFIGURATION, tmp_path, None, FIRST))
    assert not first.ended
    second = good(train(job, 0, CONFIGURATION, tmp_path, None, SECOND))
    assert second.ended and second.budget == 4 and len(second.curves["loss"]) == 1
    assert not checkpoint_path(tmp_path, 0, 6).exists()


def test_patience_that_runs_out_with_the_stage_ends_the_trial(keras: Any, tmp_path: Path) -> None:
    job = make_job(epochs=9, early_stopping=EarlyStopping(2, 1.0))
    result = good(train(job, 0, CONFIGURATION, tmp_path, None, FIRST))
    assert result.ended and result.budget == 3
    assert not checkpoint_path(tmp_path, 0, 3).exists()


def test_a_training_gone_to_nan_has_ended(keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job("Scripted")
    logs = [{"val_accuracy": 0.5, "loss": 1.0}, {"val_accuracy": 0.1, "loss": math.nan}]
    monkeypatch.setattr(type(fitting.load_hypermodel(job)), "epochs", logs)
    result = good(train(job, 0, {"units": 4}, tmp_path, None, Stage(epochs=2)))
    assert result.ended and result.value == 0.5 and result.budget == 2


# What cannot be gone on from


def test_without_its_checkpoint_a_trial_begins_anew(keras: Any, tmp_path: Path) -> None:
    job = make_job(epochs=6)
    result = train(job, 0, CONFIGURATION, tmp_path, None, SECOND)
    assert result.failure is None and result.budget == 6 and len(result.curves["loss"]) == 6
    assert result.warnings == ("its checkpoint after epoch 3 cannot be used, so that it began anew: it is missing",)


def test_with_the_checkpoint_of_another_model_a_trial_begins_anew(keras: Any, tmp_path: Path) -> None:
    job = make_job(epochs=6)
    good(train(job, 0, {**CONFIGURATION, "units": 12}, tmp_path, None, FIRST))
    result = train(job, 0, CONFIGURATION, tmp_path, None, SECOND)
    assert result.failure is None and len(result.curves["loss"]) == 6
    assert len(result.warnings) == 1 and result.warnings[0].endswith("the variables of the model have other shapes")
    assert result.curves == good(train(job, 0, CONFIGURATION, tmp_path, None, WHOLE)).curves


def test_with_a_damaged_checkpoint_a_trial_begins_anew(keras: Any, tmp_path: Path) -> None:
    good(train(make_job(), 0, CONFIGURATION, tmp_path, None, Stage(epochs=1, keeps=True)))
    path = checkpoint_path(tmp_path, 0, 1)
    path.write_bytes(path.read_bytes()[:-400])
    result = train(make_job(), 0, CONFIGURATION, tmp_path, None, Stage(epochs=2, since=1))
    assert result.failure is None and len(result.curves["loss"]) == 2
    assert "so that it began anew: it is damaged" in result.warnings[0]


def test_a_checkpoint_that_cannot_be_written_is_a_warning(keras: Any, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    result = train(make_job(), 0, CONFIGURATION, tmp_path, None, Stage(epochs=1, keeps=True))
    assert result.failure is None
    assert result.warnings == ("its checkpoint could not be written (File exists): a later stage begins anew",)


DEAF = {
    "ignores": "it reported epochs 1, not 1 to 2",
    "keeps_callbacks": "it reported no epochs, not 1 to 2",
    "sets_epochs": "got multiple values for keyword argument 'epochs')",
    "names_arguments": "unexpected keyword argument 'initial_epoch')",
    "fits_twice": "it reported epochs 1, 2, 1, 2, not 1 to 2",
}


@pytest.mark.parametrize("fault", DEAF)
def test_a_fit_must_heed_the_epochs_of_a_stage(keras: Any, tmp_path: Path, fault: str) -> None:
    result = train(staged_job("Deaf"), 0, {"fault": fault}, tmp_path, None, Stage(epochs=2))
    assert result.failure is not None and result.failure.kind is FailureKind.EXCEPTION
    assert "pass all of **kwargs on to one model.fit, callbacks, epochs and initial_epoch" in result.failure.reason
    assert DEAF[fault] in result.failure.reason


def test_a_fit_must_not_begin_anew_in_a_later_stage(keras: Any, tmp_path: Path) -> None:
    configuration = {"fault": "begins_anew"}
    good(train(staged_job("Deaf"), 0, configuration, tmp_path, None, Stage(epochs=1, keeps=True)))
    result = train(staged_job("Deaf"), 0, configuration, tmp_path, None, Stage(epochs=2, since=1))
    assert result.failure is not None and result.failure.reason.endswith("it reported epochs 1, 2, not 2 to 2")


def test_a_suggestion_is_trained_in_stages_too(keras: Any, tmp_path: Path) -> None:
    job, space = make_job(epochs=6), Space([Int("units", 4, 16), Float("rate", 1e-3, 1e-1)])
    state = SearchState(make_sampler("random", space, seed=0), History(space, "maximize"), (CONFIGURATION,), 0)
    first = train_suggested(job, 0, state, tmp_path, FIRST)
    second = train_suggested(job, 0, state, tmp_path, SECOND)
    assert (good(first).budget, good(second).budget) == (3, 6)
    failure = Failure.cancelled()
    assert train_suggested(job, 0, failure, tmp_path, FIRST) is failure
