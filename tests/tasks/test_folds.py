from __future__ import annotations

import dataclasses
import math
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcompss.constraints import Constraint
from hpcompss.engines.simulated import Simulated
from hpcompss.graph import KerasGraph
from hpcompss.loop import Loop
from hpcompss.objectives import Objective
from hpcompss.space import Int, Space
from hpcompss.stopping import StopRules
from hpcompss.study import Study
from hpcompss.tasks import folds
from hpcompss.tasks.folds import is_beaten, reduce_folds, train_fold
from hpcompss.tasks.train import model_path, train
from hpcompss.training.data import DataSpecification, load_folds
from hpcompss.training.job import Job
from hpcompss.trial import Failure, FailureKind, Resources, Result, fold_values
from tests.keras_jobs import make_job

JOB = Job("model", DataSpecification(name="digits"), "val_accuracy", "maximize", folds=4)
BEST = (0.8, 0.9, 0.7, 0.8)
"""The values of the best trial; their standard deviation is 0.0816."""


def result(value: float, **settings: Any) -> Result:
    return Result(value, {"val_accuracy": value, "loss": 1 - value}, **{"epoch": 3, "seconds": 2.0, **settings})


def reduced(*outcomes: Any, job: Job = JOB, best: Any = (), to_beat: float | None = None, folder: Any = None) -> Result:
    return reduce_folds(job, 7, folder, to_beat, best, outcomes)


# The rule


@pytest.mark.parametrize(
    ("values", "beaten"),
    [
        ([], False),
        ([0.7], True),
        ([0.72], False),  # by less than the standard deviation
        ([0.8], False),
        ([0.6, 0.9], False),  # not on every fold
        ([0.6, 0.89], True),
        ([0.75, 0.8], False),
    ],
)
def test_a_configuration_is_beaten_on_every_fold_and_clearly(values: list[float], beaten: bool) -> None:
    assert is_beaten(values, BEST, "maximize") == beaten
    assert is_beaten([1 - value for value in values], [1 - value for value in BEST], "minimize") == beaten


def test_nothing_is_beaten_before_there_is_a_best() -> None:
    assert not is_beaten([0.0], (), "maximize")


@given(
    best=st.lists(st.floats(0, 1), min_size=2, max_size=6),
    values=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    direction=st.sampled_from(["maximize", "minimize"]),
)
def test_a_beaten_trial_is_never_the_best(best: list[float], values: list[float], direction: str) -> None:
    values = values[: len(best) - 1]
    if not is_beaten(values, best, direction):
        return
    job = dataclasses.replace(JOB, direction=direction, folds=len(best))
    outcomes = [*map(result, values), *[None] * (len(best) - len(values))]
    found = reduced(*outcomes, job=job, best=best)
    assert found.value is not None
    behind = statistics.fmean(best) - found.value
    assert (behind if direction == "maximize" else -behind) > statistics.stdev(best) - 1e-9


def test_a_fold_is_not_trained_where_the_configuration_is_beaten(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Any] = []
    monkeypatch.setattr(folds, "train", lambda *arguments: trained.append(arguments[4]))
    failure = Failure(FailureKind.MEMORY, "too large")
    for earlier in ([result(0.6)], [result(0.6), None], [failure], [result(0.9), Result(None, failure=failure)]):
        assert train_fold(JOB, 0, {}, None, BEST, earlier) is None
    assert trained == []
    for earlier in ([], [result(0.8)], [result(0.75), result(0.95)]):
        train_fold(JOB, 0, {}, None, BEST, earlier)
    assert trained == [None, 0.8, 0.95]
    train_fold(dataclasses.replace(JOB, direction="minimize"), 0, {}, None, (), [result(0.75), result(0.95)])
    assert trained[-1] == 0.75


# The reduction


def test_the_value_is_the_mean_of_the_folds() -> None:
    found = reduced(*(result(value, epoch=epoch) for value, epoch in zip(BEST, (2, 5, 4, 6), strict=True)))
    assert found.failure is None and found.value == pytest.approx(0.8)
    assert found.metrics == {
        "val_accuracy": pytest.approx(0.8),
        "loss": pytest.approx(0.2),
        "val_accuracy_std": pytest.approx(statistics.stdev(BEST)),
        "folds": 4,
        "val_accuracy[fold 1]": 0.8,
        "val_accuracy[fold 2]": 0.9,
        "val_accuracy[fold 3]": 0.7,
        "val_accuracy[fold 4]": 0.8,
    }
    assert fold_values(found.metrics) == BEST
    assert (found.epoch, found.seconds) == (4, 8.0)


def test_the_value_of_a_beaten_trial_is_that_of_the_best_less_its_deficit() -> None:
    """On easy folds, where the best is at 0.8 and 0.9, it reaches 0.75 and 0.7: better than the 0.8 less 0.125."""
    found = reduced(result(0.75), result(0.7), None, None, best=BEST)
    assert found.value == pytest.approx(0.8 - 0.125)
    assert found.metrics["val_accuracy"] == pytest.approx(0.725)
    assert found.metrics["folds"] == 2 and fold_values(found.metrics) == (0.75, 0.7)
    alone = reduced(result(0.6), None, None, None, best=BEST)
    assert alone.value == pytest.approx(0.6) and "val_accuracy_std" not in alone.metrics


def test_curves_are_means_over_the_folds_that_have_the_epoch() -> None:
    found = reduced(
        result(0.5, curves={"val_accuracy": [0.25, 0.5], "loss": [1.0, 0.5]}),
        result(1.0, curves={"val_accuracy": [0.75, 1.0, 0.5], "loss": [2.0, 1.5, 1.0]}),
    )
    assert found.curves == {
        "val_accuracy": [0.5, 0.75, 0.5],
        "loss": [1.5, 1.0, 1.0],
        "val_accuracy[fold 1]": [0.25, 0.5],
        "val_accuracy[fold 2]": [0.75, 1.0, 0.5],
    }


def test_warnings_are_told_once() -> None:
    found = reduced(result(0.5, warnings=("one", "both")), result(0.5, warnings=("both", "two")))
    assert found.warnings == ("one", "both", "two")


@pytest.mark.parametrize(("settings", "name"), [({}, "fold"), ({"folds": None, "repeats": 4}, "repeat")])
def test_one_failed_fold_fails_the_trial(settings: Any, name: str) -> None:
    failure = Failure(FailureKind.TIME_LIMIT, "ran past its limit", "where")
    for third in (failure, Result(None, seconds=1.0, failure=failure)):
        found = reduced(result(0.5), result(0.6), third, None, job=dataclasses.replace(JOB, **settings))
        assert found.value is None
        assert found.failure == Failure(FailureKind.TIME_LIMIT, f"{name} 3: ran past its limit", "where")
        assert found.seconds >= 4.0 and found.metrics[f"{name}s"] == 2


def test_what_stages_say_of_themselves_is_kept() -> None:
    found = reduced(result(0.5, budget=3, ended=True), result(0.5, budget=3))
    assert (found.budget, found.ended) == (3, False)
    assert reduced(result(0.5, ended=True), result(0.5, ended=True)).ended


# Its model


def with_models(folder: Path, *values: float, job: Job = JOB) -> list[Result]:
    (folder / "models").mkdir()
    for fold, value in enumerate(values):
        model_path(folder, 7, dataclasses.replace(job, fold=fold).part).write_text(f"model of {value}")
    return [result(value) for value in values]


def kept(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "models").iterdir()}


@pytest.mark.parametrize(("direction", "best"), [("maximize", 0.9), ("minimize", 0.7)])
def test_the_model_of_the_best_fold_is_kept(tmp_path: Path, direction: str, best: float) -> None:
    job = dataclasses.replace(JOB, direction=direction)
    assert reduced(*with_models(tmp_path, *BEST), job=job, folder=tmp_path, to_beat=0.8).warnings == ()
    assert kept(tmp_path) == {"trial-7.keras": f"model of {best}"}


def test_the_model_of_the_best_repeat_is_kept(tmp_path: Path) -> None:
    job = dataclasses.replace(JOB, folds=None, repeats=4)
    assert reduced(*with_models(tmp_path, *BEST, job=job), job=job, folder=tmp_path).metrics["repeats"] == 4
    assert kept(tmp_path) == {"trial-7.keras": "model of 0.9"}


def test_the_best_fold_that_has_a_model_gives_it(tmp_path: Path) -> None:
    results = with_models(tmp_path, *BEST)
    model_path(tmp_path, 7, "fold-2").unlink()
    reduced(*results, folder=tmp_path)
    assert kept(tmp_path) == {"trial-7.keras": "model of 0.8"}


def test_a_model_that_is_too_large_is_so_on_every_fold() -> None:
    failure = Failure(FailureKind.INFEASIBLE, "infeasible: 9 parameters, at most 4 (resources.parameters)")
    found = reduced(Result(None, {"parameters": 9.0}, failure=failure, violation=1.25), None, None, None)
    assert (found.value, found.failure, found.violation) == (None, failure, 1.25)
    assert train_fold(dataclasses.replace(JOB, fold=1), 7, {}, None, (), [found]) is None


def test_no_model_is_kept_of_what_is_beaten_or_fails_or_breaks_a_constraint(tmp_path: Path) -> None:
    failure = Result(None, failure=Failure(FailureKind.DIED, "it died"))
    bounded = dataclasses.replace(JOB, constraints=(Constraint("loss", max=0.1),))
    for number, settings in enumerate(({"to_beat": 0.81}, {"job": bounded}, {"last": failure})):
        folder = tmp_path / str(number)
        folder.mkdir()
        outcomes = with_models(folder, *BEST)
        last = settings.pop("last", outcomes[-1])
        reduced(*outcomes[:-1], last, folder=folder, **settings)
        assert kept(folder) == {}


def test_a_model_that_cannot_be_moved_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    results = with_models(tmp_path, *BEST)
    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr(Path, "replace", full)
    found = reduced(*results, folder=tmp_path)
    assert found.value == pytest.approx(0.8)
    assert found.warnings == ("its model could not be kept: No space left on device",)


# Their training


def test_each_fold_is_trained_on_its_own_data_and_kept_apart(keras: Any, tmp_path: Path) -> None:
    job = make_job(folds=3)
    configuration = {"units": 8, "rate": 0.03}
    results = []
    for fold in range(3):
        results.append(train(dataclasses.replace(job, fold=fold), 5, configuration, tmp_path, None))
        data = load_folds(job.data, 3)[fold]
        model = keras.models.load_model(model_path(tmp_path, 5, f"fold-{fold + 1}"))
        again = model.evaluate(data.validation.x, data.validation.y, verbose=0, return_dict=True)
        assert again["accuracy"] == pytest.approx(results[-1].value, rel=1e-6)
    assert len({each.metrics["val_loss"] for each in results}) == 3
    assert reduce_folds(job, 5, tmp_path, None, (), results).value == pytest.approx(
        statistics.fmean(each.value or math.nan for each in results)
    )


def test_each_repeat_has_other_weights_on_the_same_data(keras: Any) -> None:
    job = make_job(repeats=2)
    one, other, again = (
        train(dataclasses.replace(job, fold=fold), 5, {"units": 8, "rate": 0.03}, None, None) for fold in (0, 1, 0)
    )
    assert one.curves == again.curves != other.curves
    assert one.curves == train(make_job(), 5, {"units": 8, "rate": 0.03}, None, None).curves


# In a search, in virtual time


def quality(configuration: Any, fold: int) -> float:
    """The larger the better; some folds are harder than others for all."""
    return float(configuration["x"]) / 100 - 0.02 * fold


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Study, Simulated, list[tuple[int, int, float]]]]:
    """Runs a search in which a fold takes 10 s; returns what was trained as well: trial, fold, and when it began."""

    def search(*, workers: int = 2, trials: int = 30, lag: int | None = None, **settings: Any) -> Any:
        trained: list[tuple[int, int, float]] = []
        job = dataclasses.replace(JOB, **settings)

        def fake(job: Job, number: int, configuration: Any, folder: Any, to_beat: Any, *_: Any) -> Result:
            trained.append((number, job.fold or 0, engine.clock))
            reached = result(quality(configuration, job.fold or 0), seconds=10.0)
            return dataclasses.replace(reached, metrics={**reached.metrics, "parameters": configuration["x"]})

        monkeypatch.setattr(folds, "train", fake)

        def took(function: Any, value: Any) -> float:
            return 10.0 if isinstance(value, Result) and "folds" not in value.metrics else 0.0

        engine = Simulated(workers, took, cost=0.0, submission=0.0)
        space, seed = Space([Int("x", 0, 99)]), 1
        options = {"direction": "maximize", "metric": "val_accuracy", "also": [each.metric for each in job.also]}
        study = Study(space, sampler="random", seed=seed, lag=lag, **options)
        with engine:
            Loop(study, engine, KerasGraph(job), StopRules(trials=trials)).run()
        return study, engine, trained

    return search


@pytest.mark.parametrize("lag", [None, 4])
def test_what_is_clearly_beaten_is_not_trained_on_all_folds(search: Any, lag: int | None) -> None:
    study, _, trained = search(lag=lag)
    whole, _, all_trained = search(lag=lag, fold_stopping=False)
    assert study.completed == whole.completed == 30
    assert len(all_trained) == 4 * 30 and len(trained) <= 2 * 30
    assert study.best.number == whole.best.number and study.best.value == whole.best.value
    for trial, other in zip(study.trials, whole.trials, strict=True):
        count = sum(number == trial.number for number, _, _ in trained)
        assert trial.result.metrics["folds"] == count
        assert trial.value == pytest.approx(other.value)  # every fold is as hard for all, so nothing is missed


def test_folds_follow_each_other_unless_all_are_trained(search: Any) -> None:
    _, engine, trained = search(workers=4, trials=1)
    assert [(fold, begun) for _, fold, begun in trained] == [(0, 0), (1, 10), (2, 20), (3, 30)]
    assert engine.clock == pytest.approx(40, abs=1)
    _, engine, trained = search(workers=4, trials=1, fold_stopping=False)
    assert [(fold, begun) for _, fold, begun in trained] == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert engine.clock == pytest.approx(10, abs=1)


@pytest.mark.parametrize("lag", [None, 4])
def test_what_is_beaten_in_one_of_several_objectives_is_trained_on_all_folds(search: Any, lag: int | None) -> None:
    study, _, trained = search(lag=lag, also=(Objective("parameters", "minimize"),))
    assert len(trained) == 4 * 30
    assert study.front_size == 30  # the better, the larger


def test_the_lagged_order_gives_the_same_trials_on_any_number_of_workers(search: Any) -> None:
    one, _, _ = search(workers=1, lag=4)
    many, _, _ = search(workers=16, lag=4)
    assert [(trial.configuration, trial.value) for trial in one.trials] == [
        (trial.configuration, trial.value) for trial in many.trials
    ]


def test_a_trial_between_two_folds_has_begun(search: Any) -> None:
    with Simulated(1, lambda function, value: 10.0, cost=0.0, submission=0.0) as engine:
        study = Study(Space([Int("x", 0, 99)]), sampler="random", direction="maximize", metric="val_accuracy")
        graph = KerasGraph(JOB)
        first, second = (graph.submit(engine, study, study.ask(), Resources()) for _ in range(2))
        engine.wait([first.trainings[0]])
        assert first.training is first.trainings[1] and first.started == 0
        engine.cancel(first.record)
        for each in first.all:
            engine.cancel(each)
        assert all(each.done for each in first.all) and second.started is not None
