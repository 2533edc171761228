from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcompss.constraints import Constraint
from hpcompss.engines import Engine, Local
from hpcompss.tasks.train import model_path, train
from hpcompss.training.data import load_data
from hpcompss.training.fitting import load_hypermodel
from hpcompss.training.job import Job
from hpcompss.training.kept import load_model, save_model, sibling
from hpcompss.trial import Failure, FailureKind, Resources, Result
from tests.keras_jobs import make_job

CONFIGURATION = {"units": 8, "rate": 0.03}


@pytest.fixture(scope="module")
def engine(keras_cache: Path) -> Iterator[Engine]:
    """Two workers, each of which has imported Keras when its first task begins."""
    with pytest.MonkeyPatch.context() as environment, Local(workers=2, cores=2, preload=["keras"]) as engine:
        environment.setenv("HPCOMPSS_CACHE", str(keras_cache))
        yield engine


def results(engine: Engine, futures: list[Any]) -> list[Any]:
    while not all(future.done for future in futures):
        engine.wait([future for future in futures if not future.done])
    return [future.result() for future in futures]


# In this process


def test_a_trial(keras: Any, tmp_path: Path) -> None:
    job = make_job(epochs=2)
    result = train(job, 3, CONFIGURATION, tmp_path, None)
    assert result.failure is None and result.warnings == ()
    assert result.value == result.metrics["val_accuracy"] == max(result.curves["val_accuracy"])
    assert result.epoch == 1 + result.curves["val_accuracy"].index(result.value)
    assert set(result.metrics) == {"parameters", "loss", "accuracy", "val_loss", "val_accuracy"}
    assert result.seconds > 0
    assert os.listdir(tmp_path / "models") == ["trial-3.keras"]
    model, data = keras.models.load_model(model_path(tmp_path, 3)), load_data(job.data)
    again = model.evaluate(data.validation.x, data.validation.y, verbose=0, return_dict=True)
    assert again["accuracy"] == pytest.approx(result.value, rel=1e-6)


@pytest.mark.parametrize(
    ("to_beat", "metric", "direction", "kept"),
    [
        (None, "val_accuracy", "maximize", True),
        (0.4, "val_accuracy", "maximize", True),
        (0.5, "val_accuracy", "maximize", True),
        (0.6, "val_accuracy", "maximize", False),
        (1.5, "loss", "minimize", True),
        (0.5, "loss", "minimize", False),
    ],
)
def test_a_model_is_kept_where_it_may_be_the_best(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to_beat: float, metric: str, direction: str, kept: bool
) -> None:
    job = scripted(monkeypatch, {"val_accuracy": 0.5, "loss": 1.0}, metric=metric, direction=direction)
    assert train(job, 0, {"units": 4}, tmp_path, to_beat).failure is None
    assert model_path(tmp_path, 0).exists() == kept


def test_a_configuration_may_decide_epochs_and_batch_size(keras: Any) -> None:
    searched = make_job(epochs=5, batch_size=7, searched=("epochs", "batch_size"))
    found = train(searched, 3, {**CONFIGURATION, "epochs": 2, "batch_size": 16}, None, None)
    plain = train(make_job(epochs=2, batch_size=16), 3, CONFIGURATION, None, None)
    assert found.failure is None and found.curves == plain.curves and len(found.curves["loss"]) == 2
    assert found.curves != train(make_job(epochs=2, batch_size=7), 3, CONFIGURATION, None, None).curves


@pytest.mark.parametrize(("model", "count"), [("build", 310), ("build_unbuilt", 310)])
def test_a_model_that_is_too_large_is_not_trained(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, count: int
) -> None:
    configuration = {"units": 4, "rate": 0.03} if model == "build" else {"units": 4}
    fits = train(make_job(model, max_parameters=count), 0, configuration, None, None)
    assert fits.failure is None and fits.metrics["parameters"] == count and fits.violation == 0
    assert fits.curves == train(make_job(model), 0, configuration, None, None).curves
    monkeypatch.setattr(keras.Model, "fit", None)
    skipped = train(make_job(model, max_parameters=200), 0, configuration, tmp_path, None)
    reason = "infeasible: 310 parameters, at most 200 (resources.parameters)"
    assert skipped.failure == Failure(FailureKind.INFEASIBLE, reason)
    assert (skipped.value, skipped.metrics, skipped.violation) == (None, {"parameters": 310}, 0.55)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("bounds", "kept"), [({"max": 310}, True), ({"max": 309}, False)])
def test_no_model_is_kept_that_breaks_a_constraint(keras: Any, tmp_path: Path, bounds: Any, kept: bool) -> None:
    result = train(
        make_job(constraints=(Constraint("parameters", **bounds),)), 0, {"units": 4, "rate": 0.03}, tmp_path, None
    )
    assert result.metrics["parameters"] == 310
    assert model_path(tmp_path, 0).exists() == kept


def test_no_model_is_kept_without_a_folder(keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert train(scripted(monkeypatch, {"val_accuracy": 0.5}), 0, {"units": 4}, None, None).value == 0.5
    assert os.listdir(tmp_path) == []


def scripted(monkeypatch: pytest.MonkeyPatch, logs: dict[str, float], **settings: Any) -> Job:
    """A job whose training reports this and no more."""
    job = make_job("Scripted", **settings)
    monkeypatch.setattr(type(load_hypermodel(job)), "epochs", [logs])
    return job


def test_an_objective_that_is_not_finite_fails_the_trial(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = scripted(monkeypatch, {"val_accuracy": math.nan, "loss": 2.0})
    result = train(job, 0, {"units": 4}, tmp_path, None)
    assert result.failure is not None and result.failure.kind is FailureKind.NOT_FINITE
    assert result.failure.reason == "val_accuracy is nan after training"
    assert result.value is None and result.epoch is None and result.metrics["loss"] == 2.0
    assert not model_path(tmp_path, 0).exists()


def test_what_is_raised_fails_the_trial(keras: Any) -> None:
    result = train(make_job("build_raising"), 0, {"units": 4}, None, None)
    assert result.failure is not None and result.failure.kind is FailureKind.EXCEPTION
    assert result.failure.reason == "ZeroDivisionError: my own mistake"
    assert "keras_models.py" in result.failure.traceback.splitlines()[1]


def test_a_model_that_is_not_compiled_fails_the_trial(keras: Any) -> None:
    result = train(make_job("build_uncompiled"), 0, {"units": 4}, None, None)
    assert result.failure is not None
    assert result.failure.reason.startswith("model: build(hp) must compile the model")


def test_a_value_that_does_not_fit_is_a_warning(keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    result = train(scripted(monkeypatch, {"val_accuracy": 0.5}), 0, {"units": 99}, None, None)
    assert result.failure is None
    assert len(result.warnings) == 1 and "99 is outside 4 to 8; its default 4 was used" in result.warnings[0]


def test_of_a_model_that_cannot_be_written_whole_the_weights_are_kept(keras: Any, tmp_path: Path) -> None:
    job = make_job("build_unsaveable")
    result = train(job, 0, {"units": 10}, tmp_path, None)
    assert result.failure is None and result.value is not None
    (warning,) = result.warnings
    assert warning.startswith("its weights alone are kept") and "(Unsaveable has no get_config())" in warning
    assert os.listdir(tmp_path / "models") == ["trial-0.weights.h5"]
    path = sibling(model_path(tmp_path, 0))
    model, data = load_model(keras, load_hypermodel(job), path, {"units": 10}), load_data(job.data)
    again = model.evaluate(data.validation.x, data.validation.y, verbose=0, return_dict=True)
    assert again["accuracy"] == pytest.approx(result.value, rel=1e-6)


def test_a_model_of_which_nothing_can_be_built_again_is_a_warning(keras: Any, tmp_path: Path) -> None:
    """Each call of build returns weights of other shapes."""
    sizes = iter(range(4, 9))

    def build(hp: Any) -> Any:
        model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(next(sizes))])
        lost = keras.layers.Dense(10, "softmax", kernel_initializer=lambda shape, dtype: np.zeros(shape))
        lost.get_config = lambda: {"lost": object()}
        model.add(lost)
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    result = train(make_job(build), 0, {}, tmp_path, None)
    (warning,) = result.warnings
    assert result.value is not None and warning.startswith("its model could not be saved: ")
    assert os.listdir(tmp_path / "models") == []


def test_a_full_disk_is_a_warning(keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any error of writing: here the folder is a file."""
    (tmp_path / "models").write_text("")
    result = train(scripted(monkeypatch, {"val_accuracy": 0.5}), 0, {"units": 4}, tmp_path, None)
    assert result.value == 0.5
    assert len(result.warnings) == 1 and result.warnings[0].startswith("its model could not be saved: ")


def test_a_model_is_saved_whole_or_not_at_all(keras: Any, tmp_path: Path) -> None:
    class Broken:
        def save(self, path: Path) -> None:
            path.write_text("half")
            raise OSError("No space left on device")

    hypermodel: Any = None

    path = tmp_path / "models" / "trial-0.keras"
    path.parent.mkdir()
    path.write_text("whole")
    with pytest.raises(OSError, match="No space left"):
        save_model(keras, hypermodel, Broken(), path, {})
    assert os.listdir(path.parent) == ["trial-0.keras"] and path.read_text() == "whole"


# In worker processes


def test_a_trial_repeats_exactly(engine: Engine) -> None:
    job = make_job(epochs=2)
    futures = [engine.submit(in_process, job, number) for number in (1, 1, 2)]
    (one, first), (other, second), (_, third) = results(engine, futures)
    assert one != other, "both ran in one process"
    assert first.value == second.value and first.curves == second.curves
    assert first.curves != third.curves


def in_process(job: Job, number: int) -> tuple[int, Result]:
    result = train(job, number, CONFIGURATION, None, None)
    time.sleep(0.5)  # so that the other worker takes the other task
    return os.getpid(), result


@pytest.mark.parametrize("cpu", [1, 2])
def test_a_trial_has_the_threads_it_asked_for(engine: Engine, cpu: int) -> None:
    future = engine.submit(train, make_job("report_threads"), 0, {"units": 4}, None, None, resources=Resources(cpu=cpu))
    (result,) = results(engine, [future])
    assert result.failure.reason == f"RuntimeError: threads ({cpu}, 1)"


def test_a_trial_of_one_core_uses_one_core(engine: Engine) -> None:
    job = dataclasses.replace(make_job("convolutions", epochs=2), batch_size=40)
    (used,) = results(engine, [engine.submit(share_of_a_core, job)])
    assert used < 1.3


def share_of_a_core(job: Job) -> float:
    begun, used = time.perf_counter(), time.process_time()
    assert train(job, 0, {"filters": 128}, None, None).failure is None
    return (time.process_time() - used) / (time.perf_counter() - begun)


@pytest.mark.parametrize("model", ["Scripted", pytest.param("build", marks=pytest.mark.slow)])
def test_trials_in_one_process_do_not_pile_up(engine: Engine, model: str) -> None:
    ((before, after),) = results(engine, [engine.submit(memory_over, make_job(model), 30)])
    assert after < before + 40 * 2**20


def memory_over(job: Job, trials: int) -> tuple[int, int]:
    """The bytes of this process after 5 trials and after so many more."""
    from hpcompss.engines.machine import own_private_memory

    hypermodel: Any = load_hypermodel(job)
    type(hypermodel).epochs = [{"val_accuracy": 0.5}]
    sizes = []
    for count in (5, trials):
        for number in range(count):
            assert train(job, number, CONFIGURATION, None, None).failure is None
        sizes.append(own_private_memory())
    return sizes[0], sizes[1]


def test_the_master_needs_no_keras() -> None:
    """What wires the graph imports the tasks, and none of what they use."""
    program = "import json, sys, hpcompss.tasks.train, hpcompss.tasks.finalize, hpcompss.tasks.inspect_model\n"
    program += "print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"keras", "tensorflow", "sklearn"} & set(json.loads(done.stdout)) and done.stderr == ""
