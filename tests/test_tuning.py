"""`tune` and `resume` in Python: what their arguments may be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hpcompss
from hpcompss.engines import Local
from hpcompss.errors import InputError
from hpcompss.loop import View
from hpcompss.space import Choice, Fixed, Float, Int, Space
from hpcompss.space.narrowing import check_entries, narrowed
from hpcompss.study import Study
from hpcompss.training.callbacks import check_callbacks
from hpcompss.tuning import _code_now
from hpcompss.units import parse_duration, parse_memory
from hpcompss.warm_start import initial_configurations
from hpcompss.workflow import load_workflow, make_workflow


def identity(values):
    return values["x"]


SECTIONS = {
    "function": identity,
    "space": {"x": {"type": "Int", "min_value": 0, "max_value": 9}},
    "objective": "loss",
    "search": {"trials": 2, "seed": 0},
}

FILE = """
function: model.py:identity
space: {x: {type: Int, min_value: 0, max_value: 9}}
objective: loss
search: {trials: 2, seed: 0}
engine: {name: dask, grace: 3s, workers: 1}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text("def identity(values):\n    return values['x']\n")
    (tmp_path / "workflow.yaml").write_text(FILE)
    return tmp_path / "study"


@pytest.mark.parametrize(
    ("engine", "workers"), [("local", "auto"), ({"name": "local", "workers": 2}, 2), ({"workers": 1}, 1), ({}, "auto")]
)
def test_an_engine_is_a_name_or_the_section(folder, engine, workers):
    study = hpcompss.tune(engine=engine, study=folder, view=View(), **SECTIONS)
    assert study.completed == 2
    assert load_workflow(folder / "workflow.yaml").engine.workers == workers
    again = hpcompss.resume(folder, trials=3, engine=engine, function=identity, view=View())
    assert again.completed == 3


@pytest.mark.parametrize(("engine", "workers"), [("local", 1), ({"name": "local", "workers": 2}, 2)])
def test_an_engine_overrides_that_of_a_workflow_file(folder, engine, workers):
    study = hpcompss.tune("workflow.yaml", engine=engine, study=folder, view=View())
    assert study.completed == 2
    section = load_workflow(folder / "workflow.yaml").engine
    assert (section.name, section.workers, section.grace) == ("local", workers, None)


def test_an_engine_that_is_given_stays_open(folder):
    with Local(1, cores=1) as engine:
        hpcompss.tune(engine=engine, study=folder, view=View(), **SECTIONS)
        hpcompss.resume(folder, engine=engine, trials=4, function=identity, view=View())
        assert engine.submit(identity, {"x": 1}) is not None


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("lokal", r"^engine.name: unknown engine 'lokal'; did you mean 'local'\?$"),
        ({"name": "lokal"}, r"^engine.name: unknown engine 'lokal'; did you mean 'local'\?$"),
        ({"worker": 2}, r"^engine: unknown key 'worker'; did you mean 'workers'\?$"),
        ({3: 2}, "^engine: unknown key an int$"),
        ({"name": 3}, "^engine.name: must be text, not an int$"),
        ({"workers": "two"}, "^engine.workers: must be a whole number, auto, .*, not 'two'$"),
        ({"workers": [object()]}, "^engine.workers: must be text, a number or a mapping, not a list$"),
        ({"name": "local", "address": "x"}, "^engine: address belongs to the engines "),
        ([1], "^engine: must be a name, a mapping of settings, or an engine, not a list$"),
        (Local, "^engine: must be a name, a mapping of settings, or an engine, not the class Local: call it$"),
        (object(), "^engine: must be a name, a mapping of settings, or an engine, not an object$"),
    ],
)
def test_an_engine_that_is_none(folder, engine, message):
    with pytest.raises(InputError, match=message):
        hpcompss.tune(engine=engine, study=folder, view=View(), **SECTIONS)
    assert not folder.exists()
    with pytest.raises(InputError, match=message):
        hpcompss.tune(load_workflow("workflow.yaml", ["engine=local"]), engine=engine, study=folder, view=View())


def broken(values):
    raise KeyError("labels")


def test_failed_trials_are_tried_again(folder):
    with pytest.raises(hpcompss.StudyFailed) as caught:
        hpcompss.tune(**{**SECTIONS, "function": broken, "search": {"trials": 3}}, study=folder, view=View())
    assert str(caught.value).endswith(f"fix the cause, then run  hpcompss resume {folder} --retry-failed")
    for wrong in (1, None):
        with pytest.raises(InputError, match=r"^retry_failed is true, false, or a part of the reason"):
            hpcompss.resume(folder, function=identity, retry_failed=wrong, view=View())
    assert Study.load(folder).failed == 3
    study = hpcompss.resume(folder, function=identity, retry_failed="labels", view=View())
    assert (study.completed, study.failed) == (3, 0)


def test_the_code_of_a_study_is_that_of_the_user(folder, tmp_path):
    """The functions of its model, data and callbacks, not what is installed."""
    (tmp_path / "data.py").write_text("def make():\n    return None\n")

    def code(function):
        sections = {"model": identity, "data": {"function": function}, "objective": "loss", "search": {"trials": 1}}
        workflow = make_workflow({**sections, "training": {"callbacks": [EarlyStopping()]}})
        return set(_code_now(workflow))

    own = str(Path(__file__).name)
    assert code("data.py:make") == {own, str(tmp_path / "data.py")}
    assert code(broken) == {own}


def maker():
    return []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"training": {"callbacks": [maker]}}, r"^training.callbacks: callbacks are given both in training and as"),
        ({"training": 3}, "^training: "),
        ({"training": None, "objective": "lss", "space": None}, r"^(?!.*NoneType)"),
    ],
)
def test_callbacks_are_said_once(folder, arguments, message):
    with pytest.raises(InputError, match=message):
        hpcompss.tune(callbacks=[maker], study=folder, view=View(), **{**SECTIONS, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": {"workers": 1}, "engine_options": {"workers": 2}}, "^engine_options go with the name of an engine"),
        ({"data": broken, "data_function": broken}, "^data and data_function both state the data: leave"),
        ({"callbacks": [maker]}, "^callbacks replaces a Python object .* it was begun without: leave it out"),
        ({"function": broken}, r"^function replaces .* it was begun with model.py:identity: leave it out"),
    ],
)
def test_what_resume_is_told_twice(folder, arguments, message):
    hpcompss.tune("workflow.yaml", engine="local", study=folder, view=View())
    with pytest.raises(InputError, match=message):
        hpcompss.resume(folder, trials=3, **{"engine": "local", **arguments}, view=View())


ARRAY = np.zeros((300, 300))


@pytest.mark.parametrize(
    "refused",
    [
        lambda value: parse_memory(value),
        lambda value: parse_duration(value),
        lambda value: Int("x", value, 3),
        lambda value: Int("x", 0, 3).check(value),
        lambda value: Choice("x", [1, 2]).check(value),
        lambda value: Choice("x", [value]),
        lambda value: Fixed("x", value),
        lambda value: Space([value]),
        lambda value: check_entries(value),
        lambda value: narrowed(Space([Int("x", 0, 9)]), {"x": {"values": [value]}}),
        lambda value: narrowed(Space([Int("x", 0, 9)]), {"x": {"min_value": value}}),
        lambda value: narrowed(Space([Float("x", 0, 9)]), {"x": {"step": value}}),
        lambda value: initial_configurations(Space([Int("x", 0, 9)]), [value]),
        lambda value: check_callbacks([value]),
        *(
            lambda value, name=name: Study(Space([Int("x", 0, 9)]), **{name: value})
            for name in ("direction", "seed", "sampler", "lag", "per")
        ),
    ],
)
@pytest.mark.parametrize("value", [ARRAY, [ARRAY] * 9])
def test_no_message_prints_an_array(refused, value):
    with pytest.raises(ValueError) as caught:
        refused(value)
    assert "0." not in str(caught.value).replace(" ...", "") and len(str(caught.value)) < 300


class Callback:
    """As Keras's, an installed package."""


Callback.__module__ = "keras.callbacks"


class EarlyStopping(Callback):
    pass


EarlyStopping.__module__ = "hpcompss.sources"
