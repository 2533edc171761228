"""`tune` and `resume` in Python: what their arguments may be."""

from __future__ import annotations

from pathlib import Path

import pytest

import hpcompss
from hpcompss.engines import Local
from hpcompss.errors import InputError
from hpcompss.loop import View
from hpcompss.study import Study
from hpcompss.tuning import _code_now
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


class Callback:
    """As Keras's, an installed package."""


Callback.__module__ = "keras.callbacks"


class EarlyStopping(Callback):
    pass


EarlyStopping.__module__ = "hpcompss.sources"
