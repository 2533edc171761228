from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from hpcompss.constraints import Constraint
from hpcompss.errors import InputError
from hpcompss.objectives import Objective
from hpcompss.space import Float, Int, Space
from hpcompss.tasks.inspect_model import Inspection, inspect_model
from hpcompss.trial import Failure
from tests.keras_jobs import MODELS, make_job


def error_of(**settings: Any) -> InputError:
    error = inspect_model(make_job(**settings))
    assert isinstance(error, InputError)
    return error


def test_finds_the_space(keras: Any) -> None:
    found = inspect_model(make_job())
    assert isinstance(found, Inspection)
    assert found.space == Space([Int("units", 4, 16, step=4), Float("rate", 1e-3, 1e-1, sampling="log")])
    assert found.warnings == ()


@pytest.mark.parametrize("metric", ["loss", "val_loss", "accuracy", "val_accuracy"])
def test_takes_any_metric_the_model_reports(keras: Any, metric: str) -> None:
    assert isinstance(inspect_model(make_job("build_with_own_layer", metric=metric)), Inspection)


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({"metric": "accuracy"}, ["accuracy"]),
        ({"metric": "val_accuracy"}, []),
        (
            {"metric": "val_accuracy", "also": (Objective("loss", "minimize"), Objective("parameters", "minimize"))},
            ["loss"],
        ),
        ({"metric": "accuracy", "model": "OwnLoop"}, []),
    ],
)
def test_warns_of_an_objective_that_is_measured_on_the_training_data(keras: Any, settings: Any, warned: Any) -> None:
    found = inspect_model(make_job(**settings))
    assert isinstance(found, Inspection)
    assert [each.partition(" ")[0] for each in found.warnings] == warned
    assert all(
        each.endswith(f"the objective val_{warned[0]} is measured on the validation data") for each in found.warnings
    )


def test_refuses_a_metric_the_model_does_not_report(keras: Any) -> None:
    error = error_of(metric="val_acc")
    assert error.key == "objective.metric"
    assert error.message == (
        "the training reports no number 'val_acc'; did you mean 'val_accuracy'? "
        "(it reports accuracy, val_accuracy, loss, val_loss)"
    )


def test_refuses_a_constraint_on_what_the_model_does_not_report(keras: Any) -> None:
    bounds = (Constraint("parameters", max=9), Constraint("val_loss", max=9))
    assert isinstance(inspect_model(make_job(constraints=bounds)), Inspection)
    error = error_of(constraints=(*bounds, Constraint("latency", max=9)))
    assert error.key == "objective.constraints.latency"
    assert error.message.endswith("(it reports accuracy, val_accuracy, loss, val_loss, parameters, inference_ms)")


def test_refuses_a_metric_that_is_a_number_for_each_class(keras: Any) -> None:
    error = error_of(model="build_score_each_class", metric="val_each_class")
    assert error.message.startswith("the training reports no number 'val_each_class'; ")
    assert error.message.endswith("(it reports accuracy, val_accuracy, loss, val_loss)")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("build_nothing", "build(hp) must return a Keras model, not None"),
        ("build_uncompiled", "build(hp) must compile the model before it returns it: call model.compile(...)"),
    ],
)
def test_refuses_what_is_no_compiled_model(keras: Any, model: str, message: str) -> None:
    error = error_of(model=model)
    assert (error.key, error.message) == ("model", message)


def test_a_name_that_the_module_lacks(keras: Any) -> None:
    assert error_of(model="bild").message == f"{MODELS} has no 'bild'; did you mean 'build'?"


def test_a_module_that_is_not_there(keras: Any, tmp_path: Path) -> None:
    job = dataclasses.replace(make_job(), model=f"{tmp_path}/mine.py:build")
    error = inspect_model(job)
    assert isinstance(error, InputError) and error.message == f"there is no file {tmp_path}/mine.py"


def test_a_module_that_does_not_import(keras: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import not_installed_anywhere\n")
    found = inspect_model(dataclasses.replace(make_job(), model=f"{tmp_path}/mine.py:build"))
    assert isinstance(found, Failure)
    assert found.reason == "ModuleNotFoundError: No module named 'not_installed_anywhere'"
    assert f'File "{tmp_path}/mine.py", line 1' in found.traceback


def test_a_module_with_an_error_of_syntax(keras: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def build(hp)\n")
    found = inspect_model(dataclasses.replace(make_job(), model=f"{tmp_path}/mine.py:build"))
    assert isinstance(found, Failure)
    assert found.reason.startswith("SyntaxError") and "mine.py" in found.traceback


def test_a_build_that_raises(keras: Any) -> None:
    found = inspect_model(make_job("build_raising"))
    assert isinstance(found, Failure)
    assert found.reason == "ZeroDivisionError: my own mistake"
    lines = found.traceback.splitlines()
    assert "keras_models.py" in lines[1] and "build_raising" in lines[1]


def test_data_that_is_not_there(keras: Any, tmp_path: Path) -> None:
    job = make_job()
    data = dataclasses.replace(job.data, name=None, path=tmp_path / "no.npz")
    error = inspect_model(dataclasses.replace(job, data=data))
    assert isinstance(error, InputError) and error.key == "data.path"


def script(folder: Path, *lines: str) -> Any:
    """A job whose module also does something at its top level, from line 8 on."""
    top = [
        "import keras, numpy as np",
        "def build(hp):",
        "    hp.Int('x', 1, 3)",
        "    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])",
        "    model.compile('sgd', keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=['accuracy'])",
        "    return model",
        "x, y = np.zeros((8, 8, 8, 1)), np.zeros(8)",
    ]
    path = folder / "tutorial.py"
    path.write_text("\n".join([*top, *lines, ""]))
    return dataclasses.replace(make_job(), model=f"{path}:build")


def test_a_script_that_runs_kerastuner_is_refused(keras: Any, tmp_path: Path) -> None:
    lines = (
        "import keras_tuner as kt",
        f"tuner = kt.RandomSearch(build, 'val_loss', max_trials=1, directory={str(tmp_path / 'kt')!r})",
        "tuner.search(x, y, epochs=1, validation_data=(x, y))",
    )
    error = inspect_model(script(tmp_path, *lines))
    assert isinstance(error, InputError)
    assert error.message.startswith("tutorial.py runs a search when it is imported (line 10): put it under ")


def test_a_script_that_trains_is_warned_of(keras: Any, tmp_path: Path) -> None:
    fit = keras.Model.fit
    found = inspect_model(script(tmp_path, "import hpcompss", "build(hpcompss.HyperParameters()).fit(x, y, verbose=0)"))
    assert isinstance(found, Inspection)
    (warning,) = found.warnings
    assert warning.startswith("tutorial.py trains a model when it is imported (line 9), which happens in every worker")
    assert keras.Model.fit is fit
