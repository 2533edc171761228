from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import pytest

from hpcompss import progress
from hpcompss.errors import InputError
from hpcompss.space.tracing import HyperParameters
from hpcompss.training.data import load_data
from hpcompss.training.fitting import (
    Curves,
    build_model,
    failure_of,
    fit_model,
    keras_session,
    load_hypermodel,
    scored,
)
from hpcompss.training.job import EarlyStopping, Job
from tests.keras_jobs import MODELS, make_job

NAN = math.nan


def fit(keras: Any, job: Job, configuration: dict[str, Any] | None = None, **script: Any) -> tuple[Curves, Any, Any]:
    """Fits the job's model; returns its curves, the model and the `hp`."""
    hypermodel = load_hypermodel(job)
    for name, value in script.items():
        setattr(hypermodel, name, value)
    data = load_data(job.data)
    hp = HyperParameters(configuration)
    keras.utils.set_random_seed(job.seed)
    model = build_model(keras, hypermodel, hp)
    curves = fit_model(keras, job, hypermodel, hp, model, data.train, data.validation)
    return curves, model, hp


def scripted(*values: float, **script: Any) -> dict[str, Any]:
    """A training that reports these values of val_accuracy and no more."""
    return {"epochs": [{"loss": 1.0, "val_accuracy": value} for value in values], **script}


def weight(model: Any) -> float:
    """What `Scripted` sets all weights to: the epoch they are of."""
    return float(model.get_weights()[0].flat[0])


# Curves, without Keras


def curves_of(*logs: dict[str, Any], **settings: Any) -> Curves:
    curves = Curves(make_job(**settings))
    for each in logs:
        curves.add(each)
    return curves


def test_the_best_epoch_counts() -> None:
    curves = curves_of(
        {"val_accuracy": 0.5, "loss": 3}, {"val_accuracy": 0.7, "loss": 2}, {"val_accuracy": 0.6, "loss": 1}
    )
    assert (curves.epoch, curves.value) == (2, 0.7)
    assert curves.metrics == {"val_accuracy": 0.7, "loss": 2.0}
    assert curves.values == {"val_accuracy": [0.5, 0.7, 0.6], "loss": [3.0, 2.0, 1.0]}


def test_the_first_of_equal_epochs_counts() -> None:
    assert curves_of({"val_accuracy": 0.5}, {"val_accuracy": 0.5}).epoch == 1


def test_the_lowest_epoch_counts_where_less_is_better() -> None:
    curves = curves_of({"val_loss": 3}, {"val_loss": 1}, {"val_loss": 2}, metric="val_loss", direction="minimize")
    assert (curves.epoch, curves.value) == (2, 1.0)


def test_the_last_epoch_counts_where_asked() -> None:
    curves = curves_of({"val_accuracy": 0.9}, {"val_accuracy": 0.5}, epoch="last")
    assert (curves.epoch, curves.value) == (2, 0.5)


def test_the_best_finite_epoch_counts() -> None:
    curves = curves_of({"val_accuracy": NAN}, {"val_accuracy": 0.5}, {"val_accuracy": NAN}, {"val_accuracy": math.inf})
    assert (curves.epoch, curves.value) == (2, 0.5)


def test_no_epoch_counts_where_none_is_finite() -> None:
    curves = curves_of({"val_accuracy": NAN, "loss": 2}, {"val_accuracy": NAN, "loss": 1})
    assert curves.epoch is None and math.isnan(curves.value) and curves.metrics["loss"] == 1.0


def test_the_last_epoch_counts_even_where_it_is_not_finite() -> None:
    curves = curves_of({"val_accuracy": 0.5}, {"val_accuracy": NAN}, epoch="last")
    assert curves.epoch == 2 and math.isnan(curves.value)


def test_a_metric_may_be_missing_in_some_epochs() -> None:
    curves = curves_of({"loss": 3}, {"loss": 2, "val_accuracy": 0.6, "rate": 0.1}, {"loss": 1})
    assert (curves.epoch, curves.value) == (2, 0.6)
    assert curves.metrics == {"loss": 2.0, "val_accuracy": 0.6, "rate": 0.1}
    assert curves.values["loss"] == [3.0, 2.0, 1.0]
    assert [math.isnan(each) for each in curves.values["val_accuracy"]] == [True, False, True]


def test_what_is_not_one_number_is_left_out() -> None:
    assert curves_of({"val_accuracy": 0.5, "f1": [0.1, 0.2], "name": "x", "none": None}).metrics == {
        "val_accuracy": 0.5
    }


def test_figures_returned_count_in_place_of_those_of_epochs() -> None:
    curves = curves_of({"val_accuracy": 0.5}, {"val_accuracy": 0.7})
    curves.conclude({"val_accuracy": 0.6, "f1": 0.9})
    assert (curves.epoch, curves.value) == (None, 0.6)
    assert curves.metrics == {"val_accuracy": 0.6, "f1": 0.9}


def test_figures_returned_that_are_those_of_the_epoch_that_counts_change_nothing() -> None:
    curves = curves_of({"val_accuracy": 0.5, "loss": 2}, {"val_accuracy": 0.4, "loss": 1})
    curves.conclude({"val_accuracy": 0.5})
    assert (curves.epoch, curves.value, curves.metrics) == (1, 0.5, {"val_accuracy": 0.5, "loss": 2.0})


# What the user's fit may return


def test_a_history(keras: Any) -> None:
    history = keras.callbacks.History()
    history.history = {"val_accuracy": [0.1, 0.9]}
    curves, model, _ = fit(keras, make_job("Scripted"), **scripted(0.5, 0.7, 0.6, outcome=history))
    assert (curves.epoch, curves.value, weight(model)) == (2, 0.7, 2)


def test_nothing_where_the_callbacks_were_told(keras: Any) -> None:
    curves, model, _ = fit(keras, make_job("Scripted"), **scripted(0.5, 0.7, 0.6))
    assert (curves.epoch, curves.value, weight(model)) == (2, 0.7, 2)


def test_a_history_without_callbacks(keras: Any) -> None:
    history = keras.callbacks.History()
    history.history = {"val_accuracy": [0.1, 0.9, 0.2], "loss": [3, 2, 1]}
    curves, model, hp = fit(
        keras, make_job("Scripted"), **scripted(0, 0, 0, outcome=history, passes_callbacks_on=False)
    )
    assert (curves.epoch, curves.value) == (2, 0.9)
    assert curves.values == {"val_accuracy": [0.1, 0.9, 0.2], "loss": [3.0, 2.0, 1.0]}
    assert weight(model) == 3
    assert len(hp.warnings) == 1 and "does not pass its callbacks on" in hp.warnings[0]


def test_a_number_that_is_the_best_epoch(keras: Any) -> None:
    curves, model, _ = fit(keras, make_job("Scripted"), **scripted(0.5, 0.7, 0.6, outcome=0.7))
    assert (curves.epoch, curves.value, weight(model)) == (2, 0.7, 2)


def test_a_number_of_its_own(keras: Any) -> None:
    curves, model, _ = fit(keras, make_job("Scripted"), **scripted(0.5, 0.7, 0.6, outcome=0.65))
    assert (curves.epoch, curves.value, weight(model)) == (None, 0.65, 3)
    assert curves.values["val_accuracy"] == [0.5, 0.7, 0.6]


def test_metrics_by_name(keras: Any) -> None:
    figures = {"f1": 0.8, "loss": 0.1}
    job = make_job("Scripted", metric="f1")
    curves, model, _ = fit(keras, job, **scripted(0.5, 0.7, outcome=figures))
    assert (curves.epoch, curves.value, weight(model)) == (None, 0.8, 2)
    assert curves.metrics == {"loss": 0.1, "val_accuracy": 0.7, "f1": 0.8}


def test_a_list_is_averaged(keras: Any) -> None:
    history = keras.callbacks.History()
    history.history = {"val_accuracy": [0.1, 0.9, 0.2]}
    outcome = [0.5, {"val_accuracy": 0.1, "loss": 2}, history]
    curves, _, _ = fit(keras, make_job("Scripted"), outcome=outcome)
    assert (curves.epoch, curves.value) == (None, pytest.approx(0.5))


def test_not_a_number_is_what_counts_where_fit_returns_it(keras: Any) -> None:
    curves, _, _ = fit(keras, make_job("Scripted"), **scripted(0.5, outcome=NAN))
    assert curves.epoch is None and math.isnan(curves.value)


@pytest.mark.parametrize("outcome", [None, "0.7 or so", []])
def test_something_else_is_refused(keras: Any, outcome: Any) -> None:
    with pytest.raises(InputError, match=r"must return what model\.fit returns, metrics by name or a number, not "):
        fit(keras, make_job("Scripted"), outcome=outcome)


def test_an_objective_that_is_not_reported_is_refused_with_what_is(keras: Any) -> None:
    job = make_job("Scripted", metric="val_acuracy")
    with pytest.raises(InputError) as error:
        fit(keras, job, **scripted(0.5))
    assert error.value.message == (
        "the training reports no number 'val_acuracy'; did you mean 'val_accuracy'? (it reports loss, val_accuracy)"
    )
    assert error.value.key == "objective.metric"


# What build may return


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("build_nothing", r"build\(hp\) must return a Keras model, not None"),
        ("build_uncompiled", r"build\(hp\) must compile the model before it returns it: call model\.compile"),
    ],
)
def test_build_must_return_a_compiled_model(keras: Any, model: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_model(keras, load_hypermodel(make_job(model)), HyperParameters())


def test_build_need_not_compile_for_a_training_loop_of_its_own(keras: Any) -> None:
    assert not build_model(keras, load_hypermodel(make_job("OwnLoop")), HyperParameters()).compiled


# Real trainings


def test_the_weights_kept_give_the_value_again(keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[dict[str, float]] = []
    monkeypatch.setattr(progress, "_listener", published.append)
    # As if a greater loss were better, so that the first epoch counts.
    job = make_job(epochs=4, batch_size=20, metric="val_loss", direction="maximize")
    curves, model, hp = fit(keras, job, {"units": 16, "rate": 0.1})
    assert curves.epoch == 1
    data = load_data(job.data)
    assert data.validation is not None
    again = scored(keras, model, data.validation, job.batch_size)
    assert again["loss"] == pytest.approx(curves.value, rel=1e-6)
    assert again["accuracy"] == pytest.approx(curves.metrics["val_accuracy"], rel=1e-6)
    assert hp.warnings == []
    assert set(curves.values) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert [each["val_loss"] for each in published] == curves.values["val_loss"]
    assert [(each["epoch"], each["epochs"]) for each in published] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_last_weights_are_kept_where_the_last_epoch_counts(keras: Any) -> None:
    job = make_job(epochs=3, batch_size=20, metric="val_loss", direction="maximize", epoch="last")
    curves, model, _ = fit(keras, job, {"units": 16, "rate": 0.1})
    data = load_data(job.data)
    assert curves.epoch == 3 and data.validation is not None
    assert scored(keras, model, data.validation)["loss"] == pytest.approx(curves.value, rel=1e-5)


def test_a_training_gone_to_nan_is_ended(keras: Any) -> None:
    job = make_job(epochs=50, metric="val_loss", direction="minimize")
    curves, _, _ = fit(keras, job, {"units": 4, "rate": 0.1}, build=diverging)
    assert len(curves.values["loss"]) < 50
    assert math.isnan(curves.values["loss"][-1]) and math.isnan(curves.value)


def diverging(hp: Any) -> Any:
    import keras

    layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(1e30), loss="mse")
    return model


def test_a_training_loop_of_its_own(keras: Any) -> None:
    job = make_job("OwnLoop", metric="my_loss", direction="minimize", epochs=None)
    curves, _, hp = fit(keras, job, {"units": 5, "rate": 0.01})
    assert curves.epoch == 2 and curves.values == {"my_loss": [pytest.approx(2.3, abs=0.5), curves.value]}
    assert hp.warnings == []


def test_folds_in_a_list_of_histories(keras: Any) -> None:
    curves, _, _ = fit(keras, make_job("Folds"), {"folds": 2})
    assert curves.epoch is None and 0 <= curves.value <= 1
    assert set(curves.metrics) == {"loss", "accuracy", "val_loss", "val_accuracy"}


def test_an_error_of_tensorflow_is_told_by_what_it_says(keras: Any) -> None:
    with pytest.raises(Exception, match="Graph execution error:\n") as error:
        fit(keras, make_job(), build=wrong_shape)
    reason = failure_of(error.value).reason
    assert reason == "InvalidArgumentError: Incompatible shapes: [32] vs. [32,7]"


def wrong_shape(hp: Any) -> Any:
    import keras

    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(7)])
    model.compile("sgd", loss="mse")
    return model


def test_any_other_error_is_told_by_its_first_line() -> None:
    assert failure_of(ValueError("one\ntwo")).reason == "ValueError: one"
    assert failure_of(ValueError()).reason == "ValueError"


def test_early_stopping_counts_anew_in_each_phase_and_the_best_of_all_is_kept(keras: Any) -> None:
    """As if a greater loss were better: the first epoch counts, of a time when other layers were trainable."""
    job = make_job(epochs=4, metric="val_loss", direction="maximize", early_stopping=EarlyStopping(1, 100.0))
    job = dataclasses.replace(job, model=f"{MODELS.with_name('fit_models.py')}:TwoPhases")
    curves, model, _ = fit(keras, job, {"units": 4})
    assert (curves.epochs, curves.phases, curves.epoch) == (4, 2, 1)
    validation = load_data(job.data).validation
    assert validation is not None
    assert scored(keras, model, validation)["loss"] == pytest.approx(curves.value, rel=1e-5)


def test_without_validation_data_the_training_is_judged(keras: Any) -> None:
    job = make_job(epochs=3, metric="loss", direction="minimize", early_stopping=EarlyStopping(1, 100.0))
    hypermodel, hp = load_hypermodel(job), HyperParameters({"units": 4, "rate": 0.01})
    model, training = build_model(keras, hypermodel, hp), load_data(job.data).train
    curves = fit_model(keras, job, hypermodel, hp, model, training, None)
    assert set(curves.values) == {"loss", "accuracy"} and curves.epochs == 2
    assert curves.value == min(curves.values["loss"])


def test_further_arguments_reach_fit(keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    keras_fit = keras.Model.fit

    @functools.wraps(keras_fit)
    def noting(*args: Any, **kwargs: Any) -> Any:
        given.update(kwargs)
        return keras_fit(*args, **kwargs)

    monkeypatch.setattr(keras.Model, "fit", noting)
    further = {"class_weight": {number: 1.0 for number in range(10)}, "shuffle": False, "steps_per_epoch": 2}
    fit(keras, make_job(fit=further), {"units": 4, "rate": 0.01})
    assert {name: given[name] for name in further} == further


# Sessions


def test_a_session_repeats_with_its_seed(keras: Any) -> None:
    drawn = []
    for seed in (1, 1, 2**32 + 2):
        with keras_session(seed):
            drawn.append(float(keras.random.uniform(())))
    assert drawn[0] == drawn[1] != drawn[2]


def test_what_a_session_sets_ends_with_it(keras: Any) -> None:
    before = keras.config.dtype_policy().name
    with keras_session(0):
        keras.config.set_dtype_policy("mixed_bfloat16")
    assert keras.config.dtype_policy().name == before
