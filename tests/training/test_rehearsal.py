"""What is found out of a user's ``fit`` before the search, and what is refused by that."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcompss.errors import InputError
from hpcompss.tasks.finalize import Scores, finalize
from hpcompss.tasks.inspect_model import Inspection, inspect_model
from hpcompss.training.data import DataSet, DataSpecification, Examples, load_data_once
from hpcompss.training.data.streams import UnopenedStream
from hpcompss.training.fit_checks import check_settings
from hpcompss.training.fitting import load_hypermodel
from hpcompss.training.job import EarlyStopping, Job
from hpcompss.training.rehearsal import refit_epochs
from tests.keras_jobs import make_job

MODELS = Path(__file__).parents[1] / "fit_models.py"


def fit_job(model: str, **settings: Any) -> Job:
    return dataclasses.replace(make_job(**settings), model=f"{MODELS}:{model}")


def inspected(model: str, **settings: Any) -> Inspection:
    found = inspect_model(fit_job(model, **settings))
    assert isinstance(found, Inspection), found
    return found


def line_of(text: str) -> int:
    return next(number for number, line in enumerate(MODELS.read_text().splitlines(), start=1) if text in line)


def test_fit_is_given_all_rows_where_a_part_is_too_few(keras: Any) -> None:
    data = DataSpecification(name="digits", train=400, validation=40)
    found = inspect_model(dataclasses.replace(fit_job("ManyRows"), data=data))
    assert isinstance(found, Inspection)
    assert found.space.names == ("units", "batch_size") and found.warnings == ()


def test_what_fit_raises_is_a_warning_with_its_line(keras: Any) -> None:
    found = inspected("Broken")
    assert found.space.names == ("units", "before")
    assert found.warnings == (
        f"fit raised ValueError: need at least one array to stack (fit_models.py:{line_of('np.stack([])')}) while its "
        "hyper-parameters were looked for: those after that line are not searched",
    )


def test_what_fit_raises_with_one_configuration_names_it(keras: Any) -> None:
    found = inspected("SomeBroken")
    assert "shuffle" in found.space.names
    assert len(found.warnings) == 1 and "looked for with units=8: those after" in found.warnings[0]


def test_what_follows_a_training_is_found(keras: Any) -> None:
    found = inspected("AfterFit", epochs=3)
    assert found.space.names == ("units", "fine_rate", "fine_epochs") and found.warnings == ()


def test_a_loop_that_declares_after_its_first_step_is_warned_of(keras: Any) -> None:
    found = inspected("Loop", metric="my_loss", epochs=None)
    assert found.space.names == ("units", "rate")
    line = line_of('hp.Float("late"')
    assert (
        len(found.warnings) == 1 and f"the first step of its training loop (fit_models.py:{line})" in found.warnings[0]
    )


def test_a_fit_that_makes_its_own_data_is_given_none(keras: Any) -> None:
    found = inspected("OwnData")
    assert found.space.names == ("units", "batch_size")
    assert len(found.warnings) == 1 and found.warnings[0].startswith("fit(hp, model, **kwargs) takes no data, so it")


FOLDED, REFITTED = {"folds": 2, "refit": True}, {"refit": True}
STAGED = {"levels": (1, 3), "epochs": 3}
PATIENT = {"early_stopping": EarlyStopping(1)}
REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("WithoutTargets", {}, "model", "fit(hp, model, x, **kwargs) takes no y, which the data has"),
    ("WithoutOptions", {}, "training.epochs", "fit(hp, model, x, y) does not take 'epochs': add **kwargs"),
    ("WithoutOptions", {"epochs": None}, "objective.metric", "fit trains without validation data, so that no 'val_acc"),
    ("NeedsMore", {}, "model", "needs 'groups', which no study passes"),
    ("OwnEpochs", {}, "training.epochs", "passes 'epochs' to model.fit itself, and training.epochs states it too"),
    ("OwnCallbacks", {}, "model", "passes 'callbacks' to model.fit itself, and again within **kwargs"),
    ("Forgets", PATIENT, "training.early_stopping", "early stopping has no effect, as fit does not pass its callbacks"),
    ("Forgets", {"fit": {"shuffle": False}}, "training.fit.shuffle", "does not take 'shuffle'"),
    ("Unpacks", REFITTED, "training.refit", "where fit raises TypeError: cannot unpack non-iterable NoneType"),
    ("Another", REFITTED, "training.refit", "fit does not train the model that it is given"),
    ("OwnData", REFITTED, "training.refit", "it would train on the same again"),
    ("OwnData", {"levels": (0.5, 1.0)}, "fidelity", "takes no data, of which a share could be trained on"),
    ("TwoPhases", STAGED, "fidelity", "fit calls model.fit 2 times, and a scheduler can stop and continue only one"),
    (
        "TwoPhases",
        {**REFITTED, **PATIENT},
        "training.refit",
        "fit calls model.fit 2 times, and without validation data",
    ),
    ("Drops", {"epochs": 50}, "training.epochs", "fit trains for 3 epochs, not for the 50 of the workflow"),
    (
        "Drops",
        {"epochs": 3, "batch_size": 20, "searched": ("batch_size",)},
        "training.batch_size",
        "batch_size is searched, but fit does not pass it on",
    ),
    ("Forgets", STAGED, "fidelity", "does not take 'initial_epoch'"),
    ("OwnEpochs", {**STAGED, "epochs": None}, "fidelity", "passes 'epochs' to model.fit itself, but a scheduler"),
    (
        "Loop",
        {"metric": "my_loss", **STAGED},
        "fidelity",
        "fit has a training loop of its own, which a scheduler cannot",
    ),
    ("Loop", {"metric": "my_loss", **REFITTED}, "training.refit", "needs validation_data, which training.refit trains"),
    ("Loop", {"metric": "my_loss", **FOLDED}, "training.folds", "needs validation_data, which training.folds trains"),
]


@pytest.mark.parametrize(("model", "settings", "key", "message"), REFUSED)
def test_what_fit_cannot_do_is_refused(
    keras: Any, model: str, settings: dict[str, Any], key: str, message: str
) -> None:
    error = inspect_model(fit_job(model, **settings))
    assert isinstance(error, InputError), error
    assert error.key == key and message in error.message


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("TwoPhases", REFITTED),
        ("Halves", {"epochs": 5, "batch_size": 20, "searched": ("batch_size",)}),
        ("OwnEpochs", {"epochs": None, **REFITTED}),
        ("OwnData", {}),
        ("Another", {}),
    ],
)
def test_what_fit_can_do_is_not_refused(keras: Any, model: str, settings: dict[str, Any]) -> None:
    inspected(model, **settings)


def test_what_fit_drops_is_warned_of(keras: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    parts = {"x_train": random.random((20, 8, 8, 1)), "y_train": np.arange(20) % 10, "sample_weight_train": np.ones(20)}
    np.savez(tmp_path / "data.npz", **parts, x_val=parts["x_train"], y_val=parts["y_train"])
    data = DataSpecification(path=tmp_path / "data.npz")

    def warned(model: str) -> list[str]:
        found = inspect_model(dataclasses.replace(fit_job(model, epochs=3, batch_size=20), data=data))
        assert isinstance(found, Inspection), found
        return [each.partition(" has no effect")[0].partition(" have no effect")[0] for each in found.warnings]

    assert warned("Drops") == ["training.batch_size", "the weights of the rows"]
    assert warned("Passes") == []


def test_an_objective_of_the_training_data_is_warned_of(keras: Any) -> None:
    (warning,) = inspected("Passes", metric="accuracy").warnings
    assert warning.startswith("accuracy is measured on the training data, where a model that overfits does best")


def test_a_refit_of_two_phases_trains_both_as_the_trial_did(keras: Any, tmp_path: Path, fit_epochs: list[int]) -> None:
    scores = finalize(fit_job("TwoPhases", epochs=2, **REFITTED), 0, {"units": 4}, 3, tmp_path, True)
    assert isinstance(scores, Scores) and fit_epochs == [2, 2]


@pytest.mark.parametrize(
    ("model", "epochs", "levels", "epoch", "asked"),
    [
        ("build", None, (1, 3, 9), 7, 7),  # a scheduler's epochs need none in the section training
        ("build", None, (0.5, 1.0), 1, 1),
        ("build", 5, (), 2, 2),
        ("Passes", None, (1, 3, 9), 7, 7),
        ("Passes", None, (1, 3, 9), None, 9),
        ("Passes", 5, (), None, 5),
        ("OwnEpochs", None, (), 3, None),
        ("OwnEpochs", None, (0.5, 1.0), 3, None),
        ("TwoPhases", 4, (), 7, None),
    ],
)
def test_a_refit_asks_for_the_epochs_that_count(
    keras: Any, model: str, epochs: int | None, levels: Any, epoch: int | None, asked: int | None
) -> None:
    job = fit_job(model, epochs=epochs, levels=levels, refit=True)
    found = refit_epochs(job, load_hypermodel(job), load_data_once(job.data), {"units": 4, "epochs": 2}, epoch)
    assert found == asked


# Settings and data


def examples(rows: int, **parts: Any) -> Examples:
    return Examples(np.zeros((rows, 2)), np.zeros(rows), **parts)


def refusal(job: Job, data: DataSet, own_fit: bool = False) -> InputError:
    with pytest.raises(InputError) as caught:
        check_settings(job, data, own_fit)
    return caught.value


def test_without_validation_data_the_objective_is_one_of_the_training() -> None:
    data = DataSet(examples(8), None)
    error = refusal(make_job(), data)
    assert error.key == "objective.metric"
    assert error.message == (
        "there is no validation data, so that no 'val_accuracy' is reported: take the objective 'loss' or another "
        "metric of the training, such as 'accuracy'"
    )
    check_settings(make_job(metric="loss", direction="minimize"), data, False)
    check_settings(make_job(), data, True)  # a fit of the user's own may hold out data itself
    assert refusal(make_job(metric="loss", refit=True), data).key == "training.refit"


def test_class_weights_and_weights_of_rows_exclude_each_other() -> None:
    data = DataSet(examples(8, weights=np.ones(8)), examples(4))
    error = refusal(make_job(fit={"class_weight": {0: 1.0, 1: 2.0}}), data)
    assert error.key == "training.fit.class_weight"


def test_what_streams_cannot_do_is_refused_before_the_search() -> None:
    def batches() -> Any:
        yield np.zeros((2, 2)), np.zeros(2)

    def make() -> DataSet:
        return DataSet(Examples(batches()), Examples(batches()))

    data = DataSet(Examples(UnopenedStream("PyDataset", 4)), Examples(UnopenedStream("PyDataset", 2)), make=make)
    assert refusal(make_job(refit=True), data).key == "training.refit"
    assert refusal(make_job(levels=(0.1, 1.0)), data).key == "fidelity.min_share"
    endless = DataSet(Examples(UnopenedStream("generator", None)), examples(8))
    assert refusal(make_job(), endless).key == "training.fit.steps_per_epoch"
    check_settings(make_job(fit={"steps_per_epoch": 3}), endless, False)
