from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcompss.errors import InputError
from hpcompss.objectives import direction_of
from hpcompss.space import Boolean, Choice, Condition, Fixed, Float, Int, Space
from hpcompss.stopping import StopRules
from hpcompss.training.job import EarlyStopping
from hpcompss.trial import Resources
from hpcompss.units import parse_duration, parse_memory
from hpcompss.workflow import load_workflow, make_workflow

ROOT = Path(__file__).parents[1]

HEAD = "function: model.py:f\nobjective: loss\n"
"""Two lines that begin a workflow; what a test adds begins in line 3."""

SPACE = "space: {x: {type: Int, min_value: 1, max_value: 3}}\n"

SECTIONS = {
    "function": "package.module:function",
    "space": {"x": {"type": "Int", "min_value": 1, "max_value": 3}},
    "objective": "loss",
}


@pytest.fixture
def load(tmp_path):
    """Loads a workflow of a text, beside a file ``model.py``."""
    (tmp_path / "model.py").write_text("def f(configuration): return 1.0\n")

    def load(text, *assignments):
        path = tmp_path / "workflow.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_workflow(path, assignments)

    return load


@pytest.fixture
def refused(load, tmp_path):
    """Returns how a workflow is refused, without the name of its folder."""

    def refused(text, *assignments):
        with pytest.raises(InputError) as caught:
            load(text, *assignments)
        return str(caught.value).replace(f"{tmp_path}/", "")

    return refused


# What a workflow says


def test_the_workflows_beside_the_package():
    for path in sorted((ROOT / "workflows").glob("*.yaml")):
        workflow = load_workflow(path)
        assert Path(str(workflow.model or workflow.function).rpartition(":")[0]).is_file()
    function = load_workflow(ROOT / "workflows" / "function.yaml")
    assert function.objective.direction == "minimize"
    assert function.parameters().names == ("kernel", "length_scale", "degree", "penalty")
    assert function.trial_resources.time_limit == 60


def test_every_setting(load, tmp_path):
    workflow = load(
        "function: model.py:f\n"
        "space: {x: {type: Boolean}}\n"
        "objective: {metric: quality, direction: maximize, epoch: last}\n"
        "search: {sampler: {name: grid, order: shuffled}, trials: 7, time: 1h30m, seed: 3, allow_duplicates: true}\n"
        "resources: {cpu: 2, gpu: 0.5, memory: 2GB, time_limit: 90}\n"
        "engine: {name: local, workers: 3, gpus: 1}\n"
    )
    assert workflow.function == f"{tmp_path}/model.py:f"
    assert workflow.search.sampler == {"name": "grid", "order": "shuffled"}
    assert (workflow.search.time, workflow.search.trials, workflow.search.seed) == (5400, 7, 3)
    assert workflow.trial_resources == Resources(cpu=2, gpu=0.5, memory=2 * 10**9, time_limit=90)
    assert (workflow.engine.workers, workflow.engine.gpus) == (3, 1)
    assert (workflow.objective.direction, workflow.objective.epoch) == ("maximize", "last")


def test_where_a_search_begins_and_ends(load, tmp_path):
    text = "search: {initial: [{x: 2}], warm_start: old, target: 1, patience: 5, min_improvement: 0.01, time: 60}\n"
    search = load(HEAD + SPACE + text).search
    assert search.initial == [{"x": 2}]
    assert search.warm_start == [f"{tmp_path}/old"]
    assert search.rules == StopRules(seconds=60, target=1, patience=5, min_improvement=0.01)
    search = load(HEAD + SPACE + "search: {warm_start: [a, ../b]}", "search.target=.5").search
    assert search.warm_start == [f"{tmp_path}/a", f"{tmp_path.parent}/b"]
    assert search.rules == StopRules(target=0.5)
    moved = load(HEAD + SPACE, "search.warm_start=old")
    assert moved.search.warm_start == [str(Path.cwd() / "old")]
    assert moved.digest == load(HEAD + SPACE + "search: {warm_start: old}").digest


OBJECTIVE = "function: model.py:f\n" + SPACE + "objective:\n  metric: loss\n  constraints:\n"


def test_progress_per_second(load):
    text = "function: model.py:f\n" + SPACE + "objective: {metric: loss, per: second}\n"
    assert load(text).objective.per == "second"
    plain = load(HEAD + SPACE)
    assert plain.objective.per is None
    # Another way to search, the same values.
    assert load(text).digest != plain.digest
    assert load(text).task == plain.task


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("objective: {metric: loss, per: hour}\n", "3:27: objective.per: must be 'second', not 'hour'"),
        (
            "objective:\n  metric: loss\n  per: second\nsearch: {sampler: random}\n",
            "5:3: objective.per: the sampler random does not choose by what trials cost, so per: second would change",
        ),
    ],
)
def test_no_progress_per_second(load, text, message):
    with pytest.raises(InputError) as caught:
        load("function: model.py:f\n" + SPACE + text)
    assert message in str(caught.value)


def test_constraints(load):
    objective = load(OBJECTIVE + "    size: {max: 1000000}\n    recall: {min: .5, max: 1}\n").objective
    assert objective.plain_constraints() == {"size": {"max": 1e6}, "recall": {"min": 0.5, "max": 1}}


BAD_CONSTRAINTS = {
    "an unknown bound": ("size: {maxi: 3}", "6:12: objective.constraints.size.maxi: unknown key 'maxi'; did you mean"),
    "a number": ("size: 3", "6:5: objective.constraints.size: must be a mapping of settings, not 3"),
    "no bound": ("size: {}", "6:5: objective.constraints.size: a constraint needs a min, a max, or both"),
    "swapped": ("size: {min: 2, max: 1}", "6:5: objective.constraints.size: min 2 is above max 1: swap them"),
    "a word": ("size: {max: many}", "6:12: objective.constraints.size.max: must be a number, not 'many'"),
    "a list": ("[size]", "5:3: objective.constraints: must be a mapping of settings, not ['size']"),
}


@pytest.mark.parametrize(("text", "message"), BAD_CONSTRAINTS.values(), ids=BAD_CONSTRAINTS)
def test_a_bad_constraint(refused, text, message):
    assert refused(f"{OBJECTIVE}    {text}\n").startswith(f"workflow.yaml:{message}")


@pytest.mark.parametrize("stated", ["3", "{patience: 3}", "{patience: 3, min_delta: 0}"])
def test_early_stopping(load, stated):
    plain = load("model: model.py:f\nobjective: loss\ndata: digits\nsearch: {trials: 3}\n")
    workflow = load(plain.to_yaml(), f"training.early_stopping={stated}")
    assert plain.training.stops_early is None and workflow.training.stops_early == EarlyStopping(3, 0.0)
    assert workflow.task != plain.task and workflow.digest != plain.digest


KERAS = "model: model.py:f\ndata: digits\nobjective: val_accuracy\n"


def test_arguments_of_fit(load):
    text = KERAS + "training: {fit: {class_weight: {0: 1, '1': 5.5}, shuffle: false, steps_per_epoch: 10}}\n"
    workflow = load(text)
    expected = {"class_weight": {0: 1.0, 1: 5.5}, "shuffle": False, "steps_per_epoch": 10}
    assert workflow.training.fit_arguments == expected
    assert load(workflow.to_yaml()).training.fit_arguments == expected
    assert load(KERAS).training.fit_arguments == {}


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (
            "{class_weights: {0: 1}}",
            "training.fit.class_weights: unknown key 'class_weights'; did you mean 'class_weight'?",
        ),
        ("{batch_size: 8}", "training.fit: 'batch_size' is decided by training.batch_size: leave it out here"),
        (
            "{validation_split: 0.2}",
            "training.fit: 'validation_split' is decided by data.validation: leave it out here",
        ),
        ("{class_weight: {cat: 1}}", "class_weight maps numbers of classes, as in {0: 1.0, 1: 5.0}, not 'cat'"),
        ("{steps_per_epoch: 0}", "training.fit.steps_per_epoch: must be at least 1, not 0"),
    ],
)
def test_arguments_that_fit_does_not_take(refused, stated, message):
    assert refused(KERAS + f"training: {{fit: {stated}}}\n").endswith(message)


def test_callbacks(load, refused, tmp_path):
    (tmp_path / "mine.py").touch()
    assert load(KERAS + "training: {callbacks: mine.py:make}\n").training.callbacks == [f"{tmp_path}/mine.py:make"]
    several = load(KERAS + "training: {callbacks: [mine.py:make, keras.callbacks:TerminateOnNaN]}\n")
    assert several.training.callbacks == [f"{tmp_path}/mine.py:make", "keras.callbacks:TerminateOnNaN"]
    assert refused(KERAS + "training: {callbacks: yours.py:make}\n").endswith("there is no file yours.py")
    assert "must read file.py:name or module:name, not 3" in refused(KERAS + "training: {callbacks: [3]}\n")
    text = "a function trains by itself: leave callbacks out of the section training"
    assert text in refused(HEAD + SPACE + "training: {callbacks: mine.py:make}\n")


def test_callbacks_in_python():
    def make():
        return None

    workflow = make_workflow(
        {"model": print, "data": {"name": "digits"}, "objective": "loss", "training": {"callbacks": make}}
    )
    assert workflow.training.callbacks == [make]
    assert workflow.to_plain()["training"]["callbacks"][0].startswith("<python>:")


def test_the_task_is_what_decides_on_values(load):
    workflow = load(HEAD + SPACE)
    same = ["search.seed=3", "space.x.max_value=9", "resources.cpu=1", "engine.workers=7"]
    same.append("objective={metric: loss, constraints: {size: {max: 1}}}")
    assert {load(HEAD + SPACE, each).task for each in same} == {workflow.task}
    others = [load(HEAD + SPACE, each).task for each in ("objective=mse", "training.epochs=3", "function=a:b")]
    assert len({workflow.task, *others}) == 4


def test_every_kind_of_parameter(load):
    workflow = load(
        HEAD + "space:\n"
        "  a: {type: Choice, values: [u, v]}\n"
        "  b: {type: Float, min_value: 1e-4, max_value: 1E+1, sampling: log, parent_name: a, parent_values: [u]}\n"
        "  c: {type: Int, min_value: 1, max_value: 9, step: 2, default: 3}\n"
        "  d: {type: Boolean, default: true}\n"
        "  e: {type: Fixed, value: .5}\n"
    )
    assert set(workflow.parameters().parameters) == {
        Choice("a", ["u", "v"]),
        Float("b", 1e-4, 10.0, sampling="log", parent_name="a", parent_values=["u"]),
        Int("c", 1, 9, step=2, default=3),
        Boolean("d", default=True),
        Fixed("e", 0.5),
    }


def test_sections_in_short_form(load):
    workflow = load(HEAD + SPACE + "engine: local\n")
    assert (workflow.objective.metric, workflow.objective.direction) == ("loss", "minimize")
    assert workflow.engine.name == "local"


def test_the_engine_is_that_of_the_place_unless_it_is_stated(load):
    engine = load(HEAD + SPACE + "engine: {workers: 3, gpus: 1, gpu_shares: 4}\n").engine
    assert engine.name == "auto"
    assert (engine.on("local").workers, engine.on("local").options()) == (3, {"gpus": 1})
    assert (engine.on("compss").workers, engine.on("compss").options()) == (3, {"gpu_shares": 4})


def test_a_section_whose_settings_are_commented_out_is_not_there(load):
    assert load(HEAD + SPACE + "search:\n  # trials: 3\n").search.trials is None


NUMBERS = ["1e-4", "1E5", "+1e3", "-2.5e-3", "1.", ".5", "0.001", "3"]


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_as_people_write_them(load, number):
    parameters = load(HEAD + f"space: {{x: {{type: Fixed, value: {number}}}}}").parameters().parameters
    assert parameters[0].default == float(number)
    assert isinstance(parameters[0].default, int) == (number == "3")


@pytest.mark.parametrize("text", ["'1e-4'", "1e-4x", "e5", "1.2.3", "sgd", "'3'", '"true"'])
def test_text_that_looks_like_a_number(load, text):
    parameters = load(HEAD + f"space: {{x: {{type: Fixed, value: {text}}}}}").parameters().parameters
    assert parameters[0].default == text.strip("'\"")


def test_anchors_and_merge_keys(load):
    workflow = load(
        HEAD + "space:\n"
        "  a: &numbers {type: Int, min_value: 1, max_value: 3}\n"
        "  b: &more {<<: *numbers, max_value: 5}\n"
        "  c: *numbers\n"
        "  d: *more\n"
        "  e: {max_value: 9, <<: [*more, *numbers]}\n"
    )
    assert [parameter.count for parameter in workflow.parameters().parameters] == [3, 5, 3, 5, 9]


def test_a_byte_order_mark_is_no_text(load):
    assert load("\ufeff" + HEAD + SPACE).objective.metric == "loss"


# What a Keras workflow says of its space

KERAS = "model: model.py:f\nobjective: loss\ndata: digits\n"

DECLARED = Space([Int("units", 8, 64, step=8), Float("learning.rate", 1e-4, 1e-1, sampling="log")])


def test_a_space_from_outside(load):
    text = KERAS + "search:\n  space:\n    units: {fixed: 64}\n    learning.rate: {min_value: 1e-3, max_value: 1e-2}\n"
    workflow = load(text)
    space = workflow.searched_space(DECLARED).space
    assert space == Space([Fixed("units", 64), Float("learning.rate", 1e-3, 1e-2, sampling="log")])
    again = load(workflow.to_yaml())
    assert again.search.space == workflow.search.space and again.digest == workflow.digest
    assert load(text, "search.space.units.fixed=32").searched_space(DECLARED).space.parameters[0] == Fixed("units", 32)
    assert load(KERAS).searched_space(DECLARED).space is DECLARED
    digests = {load(KERAS, *each).digest for each in ([], ["search.space.x.fixed=1"], ["search.space.x.fixed=2"])}
    assert len(digests) == 3
    assert load(text).task == load(KERAS).task  # a configuration has the same value


def test_a_space_from_outside_in_python():
    sections = {"model": "package.module:build", "data": "digits", "objective": "loss"}
    for entries in ({"units": {"fixed": np.int64(16)}}, {"units": {"values": (16,)}}):
        workflow = make_workflow({**sections, "search": {"space": entries}})
        assert workflow.searched_space(DECLARED).space.parameters[0] == Fixed("units", 16)
        assert workflow.digest and "16" in workflow.to_yaml()


def test_an_entry_that_does_not_fit_gets_its_place(load, tmp_path):
    text = KERAS + "search:\n  space:\n    units: {min_value: 8}\n    learning.rate:\n      max_value: 1\n"
    workflow = load(text)
    with pytest.raises(InputError) as caught:
        workflow.searched_space(DECLARED)
    assert str(workflow.located(caught.value)).startswith(
        f"{tmp_path}/workflow.yaml:8:7: search.space.learning.rate.max_value: 1 is outside the declared range"
    )


def test_searched_settings_of_the_training(load):
    text = (
        "training: {batch_size: {choice: [64, 32]}, epochs: {min_value: 10, max_value: 40, step: 2, sampling: log}}\n"
    )
    workflow = load(KERAS + text)
    batch, epochs = Choice("batch_size", [64, 32]), Int("epochs", 10, 40, 2, "log")
    assert workflow.searched_space(DECLARED).space == Space([*DECLARED.parameters, batch, epochs])
    assert workflow.training.stated == {"epochs": 10, "batch_size": 64}
    assert load(workflow.to_yaml()).digest == workflow.digest != load(KERAS).digest
    fixed = load(KERAS + text, "search.space.batch_size.fixed=32").searched_space(DECLARED).space
    assert fixed.parameters[2] == Fixed("batch_size", 32)
    plain = load(KERAS + "training: {batch_size: 16}\n")
    assert (plain.training.searched, plain.training.stated) == ({}, {"epochs": None, "batch_size": 16})


def test_a_parameter_that_the_model_declares_too(load, tmp_path):
    workflow = load(KERAS + "training:\n  batch_size: {choice: [64, 32]}\n")
    with pytest.raises(InputError) as caught:
        workflow.searched_space(Space([*DECLARED.parameters, Int("batch_size", 1, 3)]))
    assert str(workflow.located(caught.value)).startswith(
        f"{tmp_path}/workflow.yaml:5:3: training.batch_size: the model declares the hyper-parameter 'batch_size' in "
        "build or fit: drop training.batch_size"
    )


def test_searched_epochs_and_schedulers(load, refused):
    text = KERAS + "search: {trials: 9}\ntraining: {epochs: {choice: [2, 4]}}\n"
    assert "the scheduler decides how many epochs" in refused(text + "fidelity: {scheduler: asha, max_epochs: 9}\n")
    share = load(text + "fidelity: {scheduler: asha, min_share: 0.1}\n")
    assert "max_epochs" not in share.scheduling()
    assert load(text + "fidelity: none\n").scheduling() is None


BAD_KERAS = {
    "no mapping": ("search: {space: 3}", "4:10: search.space: must be a mapping such as {units: {fixed: 64}}, not 3"),
    "no entry": ("search: {space: {x: 64}}", "4:18: search.space.x: must be a mapping such as {fixed: 64} or"),
    "an unknown key": ("search: {space: {x: {fix: 1}}}", "4:22: search.space.x.fix: unknown key 'fix'; did you mean"),
    "a name that is no text": ("search: {space: {1: {fixed: 1}}}", "4:10: search.space: a parameter's name is text"),
    "an empty choice": ("training: {batch_size: {choice: []}}", "4:12: training.batch_size: choice must be a list of"),
    "words": ("training: {epochs: {choice: [few]}}", "4:12: training.epochs: choice must be a list of whole numbers"),
    "twice": (
        "training: {epochs: {choice: [2, 2]}}",
        "4:12: training.epochs: Choice 'epochs': 2 is in its values twice",
    ),
    "nothing": ("training: {epochs: {}}", "4:12: training.epochs: needs min_value and max_value, or choice"),
    "half a range": ("training: {epochs: {min_value: 2}}", "4:12: training.epochs: needs max_value, or choice"),
    "no epochs": ("training: {epochs: {min_value: 0, max_value: 2}}", "4:12: training.epochs: all its values must be"),
    "a reversed range": (
        "training: {epochs: {min_value: 3, max_value: 2}}",
        "4:12: training.epochs: Int 'epochs': min",
    ),
    "an unknown setting": ("training: {epochs: {choices: [2]}}", "4:12: training.epochs: unknown key 'choices'; did"),
    "two forms": (
        "training: {epochs: {choice: [2], step: 2}}",
        "4:12: training.epochs: choice leaves no room for step",
    ),
    "no whole number": ("training: {epochs: 2.5}", "4:12: training.epochs: must be a whole number, not 2.5"),
    "no batch": ("training: {batch_size: 0}", "4:12: training.batch_size: must be at least 1, not 0"),
    "a part of a parameter": (
        "resources: {parameters: 2.5}",
        "4:13: resources.parameters: must be a whole number, not",
    ),
    "no parameters": ("resources: {parameters: 0}", "4:13: resources.parameters: must be at least 1, not 0"),
    "words for parameters": (
        "resources: {parameters: many}",
        "4:13: resources.parameters: must be a whole number, not",
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD_KERAS.values(), ids=BAD_KERAS)
def test_a_bad_setting_of_a_keras_workflow(refused, text, message):
    assert refused(KERAS + text + "\n").startswith(f"workflow.yaml:{message}")


@pytest.mark.parametrize("stated", ["5e6", "5000000", "5_000_000"])
def test_the_largest_model(load, stated):
    workflow = load(KERAS + f"resources: {{parameters: {stated}}}\n")
    assert workflow.resources.parameters == 5_000_000 and workflow.trial_resources == Resources()
    assert workflow.digest != load(KERAS).digest and workflow.task == load(KERAS).task


# Paths


def test_paths_in_a_file_start_from_its_folder(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    workflow = load("model: model.py:f\nobjective: loss\ndata: {path: ../images}\n")
    assert workflow.model == f"{tmp_path}/model.py:f"
    assert workflow.data.path == f"{tmp_path.parent}/images"


def test_paths_on_the_command_line_start_from_the_current_folder(load, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "other.py").touch()
    monkeypatch.chdir(tmp_path / "here")
    text = "model: model.py:f\nobjective: loss\ndata: digits\n"
    workflow = load(text, "model=other.py:f", "data.path=images")
    assert workflow.model == f"{tmp_path}/here/other.py:f"
    assert (workflow.data.path, workflow.data.name) == (f"{tmp_path}/here/images", "digits")


def test_paths_in_python_start_from_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "model.py").touch()
    monkeypatch.chdir(tmp_path)
    workflow = make_workflow({"model": "model.py:f", "objective": "loss", "data": {"path": Path("images")}})
    assert workflow.model == f"{tmp_path}/model.py:f"
    assert workflow.data.path == f"{tmp_path}/images"


def test_the_home_folder(load, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    text = "model: ~/model.py:f\nobjective: loss\ndata: {path: ~/images}\n"
    assert load(text).data.path == f"{tmp_path}/images"


def test_the_home_folder_of_nobody(refused):
    message = refused("model: ~nobody-of-this-name/model.py:f\nobjective: loss\ndata: digits\n")
    assert message == "workflow.yaml:1:1: model: there is no file ~nobody-of-this-name/model.py"


# Settings on the command line


def test_settings_on_the_command_line_win(load):
    workflow = load(
        HEAD + SPACE + "search: {trials: 3, seed: 1}\nengine: local\n",
        *("search.trials=4", "search.trials=5", "engine.workers=2", "objective.direction=maximize"),
        *("space.x.max_value=8", "space.y={type: Float, min_value: 1e-3, max_value: 1}", "resources.time_limit=5m"),
    )
    assert (workflow.search.trials, workflow.search.seed) == (5, 1)
    assert (workflow.engine.name, workflow.engine.workers) == ("local", 2)
    assert (workflow.objective.metric, workflow.objective.direction) == ("loss", "maximize")
    assert workflow.parameters().names == ("x", "y")
    assert workflow.resources.time_limit == 300


def test_a_setting_of_one_parameter_is_not_one_of_its_anchors_others(load):
    text = HEAD + "space:\n  a: &n {type: Int, min_value: 1, max_value: 3}\n  b: *n\n"
    assert [each.count for each in load(text, "space.b.max_value=9").parameters().parameters] == [3, 9]


def test_a_setting_may_be_taken_back(load):
    assert load(HEAD + SPACE + "search: {trials: 3}\n", "search.trials=").search.trials is None


def test_a_section_given_whole(load):
    assert load(HEAD + SPACE + "search: {trials: 3}\n", "search={seed: 4}").search.trials is None


def test_a_section_given_whole_takes_the_place_of_what_was_in_it(load, refused, tmp_path, monkeypatch):
    text = "model: model.py:f\nobjective: val_loss\ndata: {name: digits, path: d.npz}\n"
    assert refused(text, "data=digts").startswith("--set data=digts: data: unknown data set 'digts'")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for assignment in ("data={path: d.npz}", "data.path=d.npz"):
        file = text.replace("name: digits, ", "")
        assert load(file, assignment).data.path == str(tmp_path / "elsewhere" / "d.npz")


def test_a_setting_on_the_command_line_is_blamed_for_the_section_it_spoils(refused):
    text = HEAD + SPACE + "resources: {cpu: 1}\n"
    assert refused(text, "space.x.step=500").startswith("--set space.x.step=500: space.x: ")
    assert refused(text, "resources.gpu=1.5").startswith("--set resources.gpu=1.5: resources: ")
    assert refused(text, "objective.metric=foo").startswith("--set objective.metric=foo: objective: ")
    assert refused(text + "engine: locl\n", "engine.workers=2").startswith("workflow.yaml:5:1: engine.name: ")


BAD_ASSIGNMENTS = {
    "no sign of equality": ("search.trials", "--set takes key=value, such as search.trials=20, not 'search.trials'"),
    "no key": ("=3", "--set takes key=value, such as search.trials=20, not '=3'"),
    "not yaml": ("space.x.type=[", "--set space.x.type=[: space.x.type: '[' is not a valid value"),
    "a date that is none": ("search.seed=2020-13-45", "--set search.seed=2020-13-45: search.seed: '2020-13-45' is not"),
    "wrong type": ("search.trials=x", "--set search.trials=x: search.trials: must be a whole number, not 'x'"),
    "unknown key": ("search.trails=3", "--set search.trails=3: search.trails: unknown key 'trails'; did you mean 'tri"),
    "unknown section": ("serach.trials=3", "--set serach.trials=3: serach: unknown key 'serach'; did you mean 'search"),
    "no section": ("search.trials.x=3", "--set search.trials.x=3: search.trials is no section"),
    "a word that is no section": ("function.x=3", "--set function.x=3: function is no section"),
    "bad word": ("objective.direction=up", "objective.direction: must be 'minimize' or 'maximize', not 'up'"),
    "missing file": ("function=none.py:f", "--set function=none.py:f: function: there is no file "),
}


@pytest.mark.parametrize(("assignment", "message"), BAD_ASSIGNMENTS.values(), ids=BAD_ASSIGNMENTS)
def test_a_bad_setting_on_the_command_line(refused, assignment, message):
    assert message in refused(HEAD + SPACE + "search: {trials: 3}\n", assignment)


# Bad files


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError) as caught:
        load_workflow(tmp_path / "none.yaml")
    assert str(caught.value) == f"{tmp_path}/none.yaml: the workflow cannot be read (No such file or directory)"


def test_a_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(InputError, match=r"the workflow cannot be read \(Is a directory\)"):
        load_workflow(tmp_path)


NOT_YAML = {
    "colons": ("a: b: c", "1:5: this is not valid YAML (mapping values are not allowed here)"),
    "a tab": (HEAD + "search:\n\ttrials: 3\n", "4:1: this is not valid YAML (while scanning for the next token, found"),
    "no end": (HEAD + "search: {trials: 3\n", "4:1: this is not valid YAML (while parsing a flow mapping, expected"),
    "a bell": (HEAD + "search: \a", "3:9: this is not valid YAML (the character '\\x07' has no place in it)"),
    "bytes": (HEAD.encode() + b"search: \xff", "3: this is not a text file in UTF-8"),
    "an unknown anchor": (HEAD + "search: *none", "3:9: this is not valid YAML (found undefined alias 'none')"),
    "two documents": (HEAD + "---\na: 1\n", "3:1: this is not valid YAML (expected a single document in the stream"),
    "a Python object": (
        "a: !!python/name:os.system x",
        "1:4: this is not valid YAML (could not determine a constructor",
    ),
    "no timestamp": (
        "a:\n  b: 2020-13-45",
        "2:6: a.b: '2020-13-45' is no valid timestamp: put text in quotation marks",
    ),
    "no whole number": ("a: !!int x", "1:4: a: 'x' is no valid int"),
    "empty": ("", " the workflow is empty: give it at least model, data and objective"),
    "a comment": ("# nothing\n", " the workflow is empty"),
    "a list": ("- a\n- b\n", "1: a workflow is a mapping of sections (model:, data:, ...)"),
    "a word": ("hello", "1: a workflow is a mapping of sections"),
    "too deep": ("[" * 5000, " this is not valid YAML (it is nested too deeply)"),
    "twice": (HEAD + "objective: mse\n", "3:1: objective: 'objective' is given twice, first in line 2: remove one"),
    "a list for a key": (HEAD + "search: {[a]: 1}\n", "3:10: search: a key must be a word, not a list or a mapping"),
    "round in a circle": (HEAD + "space: &s {x: *s}\n", "3:8: space.x: this contains itself"),
    "merging a word": (
        HEAD + "space: {<<: x}\n",
        "3:13: this is not valid YAML (while constructing a mapping, expected",
    ),
}


@pytest.mark.parametrize(("text", "message"), NOT_YAML.values(), ids=NOT_YAML)
def test_what_is_not_yaml(refused, text, message):
    assert refused(text).startswith(f"workflow.yaml:{message}")


BAD_SETTINGS = {
    # Sections and keys
    "unknown section": ("serach: {}", "3:1: serach: unknown key 'serach'; did you mean 'search'?"),
    "unknown key": ("search:\n  trails: 3", "4:3: search.trails: unknown key 'trails'; did you mean 'trials'?"),
    "a number for a key": ("1: 2", "3:1: 1: keys should be strings, not 1"),
    "a word for a section": ("search: random", "3:1: search: must be a mapping of settings, not 'random'"),
    "a list for a section": ("search: [a]", "3:1: search: must be a mapping of settings, not ['a']"),
    "a number for a short section": ("engine: 3", "3:1: engine: must be a mapping of settings, not 3"),
    # Search
    "no whole number": ("search: {trials: 5.5}", "3:10: search.trials: must be a whole number, not 5.5"),
    "a truth for a number": ("search: {trials: yes}", "3:10: search.trials: must be a whole number, not True"),
    "no trials": ("search: {trials: 0}", "3:10: search.trials: must be at least 1, not 0"),
    "negative seed": ("search: {seed: -1}", "3:10: search.seed: must be at least 0, not -1"),
    "no truth": ("search: {allow_duplicates: 1}", "3:10: search.allow_duplicates: must be true or false, not 1"),
    "unknown sampler": (
        "search: {sampler: rndom}",
        "3:10: search.sampler: unknown sampler 'rndom'; did you mean 'rand",
    ),
    "unknown sampler with options": (
        "search:\n  sampler: {name: tpo}",
        "4:3: search.sampler: unknown sampler 'tpo'; did you mean 'tpe'?",
    ),
    "unknown option": (
        "search: {sampler: {name: grid, ordr: shuffled}}",
        "3:10: search.sampler: the grid sampler has no option 'ordr'; did you mean 'order'?",
    ),
    "a nameless sampler": ("search: {sampler: {order: x}}", "3:10: search.sampler: a sampler is given by its name"),
    "a number for a sampler": ("search: {sampler: 3}", "3:10: search.sampler: must be text, not 3"),
    "a word for a target": ("search: {target: high}", "3:10: search.target: must be a number, not 'high'"),
    "a target that is no number": ("search: {target: .nan}", "3:10: search.target: must be a finite number, not nan"),
    "no patience": ("search: {patience: 0}", "3:10: search.patience: must be at least 1, not 0"),
    "a loss of improvement": ("search: {min_improvement: -1}", "3:10: search.min_improvement: must be at least 0, not"),
    "a mapping for a list": ("search: {initial: {x: 1}}", "3:10: search.initial: must be a list, not {'x': 1}"),
    "no configuration": ("search: {initial: [x]}", "3:20: search.initial.0: must be a mapping of settings, not 'x'"),
    "no folder": ("search: {warm_start: 3}", "3:10: search.warm_start: must be the folder of a study or a list"),
    # Units
    "unknown unit": ("search: {time: 10x}", "3:10: search.time: has the unknown unit 'x': use s, m, h or d"),
    "no duration": (
        "search: {time: soon}",
        "3:10: search.time: must be a duration such as 90s, 10m or 1h30m, not 'soo",
    ),
    "negative time": ("search: {time: -5}", "3:10: search.time: must be a duration above 0, not -5"),
    "no memory": ("resources: {memory: lots}", "3:13: resources.memory: must be an amount of memory such as 2GB"),
    # Resources and engine
    "no cpus": ("resources: {cpu: 0}", "3:13: resources.cpu: must be at least 1, not 0"),
    "a word for cpus": ("resources: {cpu: two}", "3:13: resources.cpu: must be a whole number, not 'two'"),
    "part of a second gpu": (
        "resources: {gpu: 1.5}",
        "3:1: resources: gpu is 0, a fraction below 1, or a whole number",
    ),
    "gpus without end": ("resources: {gpu: .inf}", "3:1: resources: gpu is 0, a fraction below 1, or a whole number"),
    "gpus that are no number": ("resources: {gpu: .nan}", "3:13: resources.gpu: must be at least 0"),
    "unknown engine": ("engine: locl", "3:1: engine: unknown engine 'locl'; did you mean 'local'?"),
    "a setting of another engine": (
        "engine: {name: local, gpu_shares: 4}",
        "3:1: engine: gpu_shares belongs to the engine compss: leave it out",
    ),
    "no workers": ("engine: {workers: 0}", "3:10: engine.workers: must be at least 1, not 0"),
    "a word for workers": (
        "engine: {workers: all}",
        "3:10: engine.workers: must be a whole number, auto, or bounds such as {min: 1, max: 16}, not 'all'",
    ),
    # What belongs to Keras beside a function
    "a space from outside": (
        "search: {space: {x: {fixed: 1}}}",
        "3:10: search.space: a function's parameters are those of the section space: edit that",
    ),
    "searched epochs": (
        "training: {epochs: {choice: [1, 2]}}",
        "3:12: training.epochs: a function has its own parameters: add epochs to the section space",
    ),
    "the largest model": (
        "resources: {parameters: 5}",
        "3:13: resources.parameters: counts the parameters of a Keras model, which a function has not",
    ),
    "data": ("data: digits", "1:1: a function gets its own data: leave out the section data"),
    "a model": ("model: model.py:f", "1:1: give either model (file.py:build) or function (file.py:function), one of"),
}


@pytest.mark.parametrize(("text", "message"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_a_bad_setting(refused, text, message):
    assert refused(HEAD + text + "\n" + SPACE).startswith(f"workflow.yaml:{message}")


BAD_PARAMETERS = {
    "unknown type": ("{type: Integer}", "space.x.type: its type must be one of Int, Float, Choice, Boolean, Fixed, no"),
    "a list for a type": ("{type: [Int]}", "space.x.type: its type must be one of Int, Float, Choice, Boolean, Fixed"),
    "no type": ("{min_value: 1}", "space.x: its type must be one of Int, Float, Choice, Boolean, Fixed, not None"),
    "unknown key": ("{type: Int, min_valu: 1}", "space.x.min_valu: unknown key 'min_valu'; did you mean 'min_value'?"),
    "missing bound": ("{type: Int, min_value: 1}", "space.x: a parameter of type Int needs max_value"),
    "missing bounds": ("{type: Float}", "space.x: a parameter of type Float needs min_value and max_value"),
    "a number for a parameter": ("3", "space.x: must be a mapping of settings, not 3"),
    "a word for a bound": (
        "{type: Int, min_value: a, max_value: 2}",
        "space.x: Int 'x': min_value must be a whole numb",
    ),
    "reversed bounds": (
        "{type: Int, min_value: 2, max_value: 1}",
        "space.x: Int 'x': min_value 2 is above max_value 1",
    ),
    "a bound that is no number": (
        "{type: Float, min_value: .nan, max_value: 1}",
        "space.x: Float 'x': its bounds must be finite",
    ),
    "an infinite bound": (
        "{type: Float, min_value: 0, max_value: .inf}",
        "space.x: Float 'x': its bounds must be fini",
    ),
    "a log range reaching 0": (
        "{type: Float, min_value: 0, max_value: 1, sampling: log}",
        "space.x: Float 'x': sampling='log' needs min_value above 0, not 0.0",
    ),
    "a step too large": (
        "{type: Int, min_value: 1, max_value: 3, step: 5}",
        "space.x: Int 'x': step 5 is larger than the range from 1 to 3: only one value would remain",
    ),
    "unknown sampling": (
        "{type: Float, min_value: 0.1, max_value: 1, sampling: lg}",
        "space.x: Float 'x': unknown sampling 'lg'; did you mean 'log'?",
    ),
    "an empty list": ("{type: Choice, values: []}", "space.x: Choice 'x': values is empty: give at least one"),
    "a number for a list": ("{type: Choice, values: 3}", "space.x: Choice 'x': values must be a list, not 3"),
    "a value twice": ("{type: Choice, values: [a, a]}", "space.x: Choice 'x': 'a' is in its values twice"),
    "conditions that are no list": (
        "{type: Boolean, conditions: {parent: y, values: [1]}}",
        "space.x.conditions: conditions must read [{parent: a name, values: [a value, ...]}, ...]",
    ),
    "a condition without values": (
        "{type: Boolean, conditions: [{parent: y}]}",
        "space.x.conditions: conditions must read [{",
    ),
    "an unknown parent": (
        "{type: Boolean, parent_name: z, parent_values: [1]}",
        "space: 'x' depends on 'z', which is not in the space; known: x",
    ),
    "a parent without values": (
        "{type: Boolean, parent_name: z}",
        "space.x: Boolean 'x': parent_name and parent_values",
    ),
    "a default outside": (
        "{type: Int, min_value: 1, max_value: 3, default: 4}",
        "space.x: Int 'x': its default is not one of its values",
    ),
}


@pytest.mark.parametrize(("parameter", "message"), BAD_PARAMETERS.values(), ids=BAD_PARAMETERS)
def test_a_bad_parameter(refused, parameter, message):
    file, line, _, rest = refused(HEAD + f"space:\n  x: {parameter}\n").split(":", 3)
    assert (file, line) == ("workflow.yaml", "3" if message.startswith("space: ") else "4")
    assert rest.startswith(f" {message}")


def test_a_parameter_given_twice(refused):
    text = HEAD + "space:\n  x: {type: Boolean}\n  y: {type: Boolean}\n  x: {type: Int, min_value: 1, max_value: 2}\n"
    assert refused(text) == "workflow.yaml:6:3: space.x: 'x' is given twice, first in line 4: remove one"


def test_a_parameter_whose_name_has_a_dot(refused):
    text = HEAD + "space:\n  a: {type: Boolean}\n  a.b: {type: Int, min_value: 2, max_value: 1}\n"
    assert refused(text).startswith("workflow.yaml:5:3: space.a.b: Int 'a.b': min_value 2 is above")


INCOMPLETE = {
    "no objective": (
        "function: model.py:f\n" + SPACE,
        "1:1: objective: the key 'objective' is missing",
    ),
    "nothing to run": ("objective: loss\n", "1:1: give either model (file.py:build) or function (file.py:function)"),
    "no space": (HEAD, "1:1: a function needs its space: add the section space with its parameters"),
    "an empty space": (HEAD + "space: {}\n", "1:1: a function needs its space"),
    "no data": ("model: model.py:f\nobjective: loss\n", "1:1: a Keras model needs data: add  data: {name: digits}"),
    "a model with a space": (
        "model: model.py:f\nobjective: loss\ndata: digits\n" + SPACE,
        "1:1: a Keras model declares its space in build(hp): leave out the section space",
    ),
    "no metric": (
        "function: model.py:f\nobjective: {direction: maximize}\n" + SPACE,
        "2:1: objective.metric: the key 'metric' is missing",
    ),
    "a number for a metric": (
        "function: model.py:f\nobjective:\n  metric: 3\n" + SPACE,
        "3:3: objective.metric: must be text, not 3",
    ),
    "a metric of unknown direction": (
        "function: model.py:f\nobjective: quality\n" + SPACE,
        "2:1: objective: the direction of 'quality' is not known: write {metric: quality, direction: maximize}",
    ),
    "an unknown direction": (
        "function: model.py:f\nobjective: {metric: quality, direction: up}\n" + SPACE,
        "2:30: objective.direction: must be 'minimize' or 'maximize', not 'up'",
    ),
    "a function without a name": (
        "function: model.py\nobjective: loss\n" + SPACE,
        "1:1: function: must read file.py:name or module:name, not 'model.py'",
    ),
    "a number for a function": (
        "function: 3\nobjective: loss\n" + SPACE,
        "1:1: function: must read file.py:name or module:name, not 3",
    ),
    "a missing module": ("function: none.py:f\nobjective: loss\n" + SPACE, "1:1: function: there is no file "),
    "an unknown data set": (
        "model: model.py:f\nobjective: loss\ndata: {validation: 0.1, name: mnst}\n",
        "3:25: data.name: unknown data set 'mnst': did you mean 'mnist'?",
    ),
    "an image without a width": (
        "model: model.py:f\nobjective: loss\ndata: {path: x, image_size: [3]}\n",
        "3:17: data.image_size: must be [height, width], not [3]",
    ),
    "too much validation": (
        "model: model.py:f\nobjective: loss\ndata: {path: x, validation: 1.5}\n",
        "3:17: data.validation: a fraction must be above 0",
    ),
    "no epochs": (
        "model: model.py:f\nobjective: loss\ndata: digits\ntraining: {epochs: 0}\n",
        "4:12: training.epochs: must be at least 1, not 0",
    ),
    "one fold": (
        "model: model.py:f\nobjective: loss\ndata: digits\ntraining: {folds: 1}\n",
        "4:12: training.folds: must be at least 2, not 1",
    ),
    "an ensemble of one": (
        "model: model.py:f\nobjective: loss\ndata: digits\ntraining: {ensemble: 1}\n",
        "4:12: training.ensemble: must be at least 2, not 1",
    ),
    "folds and repeats": (
        "model: model.py:f\nobjective: loss\ndata: digits\ntraining: {folds: 3, repeats: 2}\n",
        "4:1: training: a trial has either folds or repeats: leave one of them out",
    ),
    "what stops folds that are not there": (
        "model: model.py:f\nobjective: loss\ndata: digits\ntraining: {fold_stopping: false}\n",
        "4:1: training: fold_stopping belongs to folds and repeats: add one of them, or leave it out",
    ),
    "folds of a function": (
        "function: model.py:f\nobjective: loss\ntraining: {folds: 3}\n" + SPACE,
        "1:1: a function trains by itself: leave folds out of the section training",
    ),
    "early stopping of a function": (
        "function: model.py:f\nobjective: loss\ntraining: {early_stopping: 3}\n" + SPACE,
        "1:1: a function trains by itself: leave early_stopping out of the section training",
    ),
    "no patience": (
        "model: model.py:f\nobjective: loss\ndata: digits\ntraining: {early_stopping: 0}\n",
        "4:12: training.early_stopping.patience: must be at least 1, not 0",
    ),
    "a negative difference": (
        "model: model.py:f\nobjective: loss\ndata: digits\ntraining: {early_stopping: {patience: 1, min_delta: -1}}\n",
        "4:42: training.early_stopping.min_delta: must be at least 0, not -1",
    ),
    "an unknown key of early stopping": (
        "model: model.py:f\nobjective: loss\ndata: digits\ntraining: {early_stopping: {patienc: 1}}\n",
        "4:29: training.early_stopping.patienc: unknown key 'patienc'; did you mean 'patience'?",
    ),
    "early stopping without patience": (
        "model: model.py:f\nobjective: loss\ndata: digits\ntraining: {early_stopping: {min_delta: 0.1}}\n",
        "4:12: training.early_stopping.patience: the key 'patience' is missing",
    ),
}


@pytest.mark.parametrize(("text", "message"), INCOMPLETE.values(), ids=INCOMPLETE)
def test_an_incomplete_workflow(refused, text, message):
    assert refused(text).startswith(f"workflow.yaml:{message}")


def test_the_first_error_in_the_file_is_told(refused):
    text = HEAD + "search: {trials: x}\nresources: {cpu: x}\n" + SPACE
    assert refused(text).startswith("workflow.yaml:3:")


def test_an_error_found_later_gets_its_place(load, tmp_path):
    workflow = load(HEAD + SPACE + "search:\n  sampler: grid\n", "search.seed=1")
    error = workflow.located(InputError("is wrong", key="search.sampler"))
    assert str(error) == f"{tmp_path}/workflow.yaml:5:3: search.sampler: is wrong"
    assert (
        str(workflow.located(InputError("is wrong", key="search.seed"))) == "--set search.seed=1: search.seed: is wrong"
    )
    assert str(workflow.located(InputError("is wrong"))) == "is wrong"


# Sections in Python


def test_sections_in_python():
    def function(configuration):
        return 1.0

    workflow = make_workflow({**SECTIONS, "function": function, "search": {"trials": 3}})
    assert workflow.function is function
    assert workflow.to_plain()["function"].startswith("<python>:")
    assert "<python>" in workflow.to_yaml()


def test_numpy_numbers_are_written_as_numbers():
    space = {"x": {"type": "Float", "min_value": np.float32(0.5), "max_value": np.float64(2), "default": np.int64(1)}}
    workflow = make_workflow({**SECTIONS, "space": space})
    assert "min_value: 0.5\n" in workflow.to_yaml()
    assert len(workflow.digest) == 16


def test_python_objects_are_written_by_name():
    class Model:
        def build(self, hp):
            return None

    for model in (Model(), Model):
        plain = make_workflow({"model": model, "data": "digits", "objective": "val_loss"}).to_plain()
        assert plain["model"] == f"<python>:{__name__}.{Model.__qualname__}"


def conditional_space():
    return Space(
        [
            Choice("booster", ["tree", "linear"]),
            Boolean("deep", parent_name="booster", parent_values=["tree"]),
            Int("units", 1, 3, conditions=[Condition("booster", ("tree",)), Condition("deep", (True,))]),
            Fixed("rate", 0.5),
            Int("units", 5, 9, parent_name="booster", parent_values="linear"),
        ]
    )


@pytest.mark.parametrize(
    "given", [conditional_space(), conditional_space().parameters, list(conditional_space().parameters)]
)
def test_a_space_in_python(given, load):
    workflow = make_workflow({**SECTIONS, "space": given})
    assert workflow.parameters() == conditional_space()
    again = load(workflow.to_yaml())
    assert again.parameters() == conditional_space()
    assert again.digest == workflow.digest


def test_a_space_in_python_is_that_of_a_file(load):
    text = "function: package.module:function\nobjective: loss\n" + SPACE
    assert make_workflow({**SECTIONS, "space": [Int("x", 1, 3)]}).digest == load(text).digest


def test_conditions_in_a_file(load):
    text = "space:\n  a: {type: Boolean}\n  x: {type: Fixed, value: 1, conditions: [{parent: a, values: [true]}]}\n"
    assert load(HEAD + text).parameters().parameters[1].conditions == (Condition("a", (True,)),)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ([3], "space.0: must be a mapping of settings, not 3"),
        (3, "space: must be a mapping of parameters, not 3"),
        ([{"type": "Boolean"}], "space.0: a parameter in a list needs its name"),
        ([Int("x", 1, 3), "y"], "space: a space is made of parameters"),
        ([Boolean("x", parent_name="y", parent_values=[1])], "space: 'x' depends on 'y', which is not in the space"),
    ],
)
def test_what_is_no_space(space, message):
    with pytest.raises(InputError) as caught:
        make_workflow({**SECTIONS, "space": space})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"serach": {}}, "serach: unknown key 'serach'; did you mean 'search'?"),
        ({"search": {"trials": "3"}}, "search.trials: must be a whole number, not '3'"),
        ({"search": 3}, "search: must be a mapping of settings, not 3"),
        ({"objective": None}, "objective: the key 'objective' is missing"),
        ({"function": "f"}, "function: must read file.py:name or module:name, not 'f'"),
    ],
)
def test_bad_sections_in_python(sections, message):
    with pytest.raises(InputError) as caught:
        make_workflow({**SECTIONS, **sections})
    assert str(caught.value).startswith(message)


# Written and read back

# PyYAML itself does not read back the line ends of other alphabets that it writes.
letters = st.characters(codec="utf-8", exclude_characters="\x85\u2028\u2029")
words = st.text(letters, max_size=6)
names = st.text(letters, min_size=1, max_size=6)
texts = words | st.sampled_from(
    ["1e-4", "1:30", "on", "~", "null", "0x1", "1_0", "2020-01-01", "<<", "=", "@", "- a", "!a"]
)
small = st.integers(-1000, 1000)
numbers = st.floats(1e-9, 1e9, allow_nan=False)
parameters = st.one_of(
    st.builds(lambda a, b: {"type": "Int", "min_value": min(a, b), "max_value": max(a, b)}, small, small),
    st.builds(
        lambda a, b, scale: {"type": "Float", "min_value": min(a, b), "max_value": max(a, b), "sampling": scale},
        *(numbers, numbers, st.sampled_from(["linear", "log", "reverse_log"])),
    ),
    st.builds(
        lambda values: {"type": "Choice", "values": values}, st.lists(texts, min_size=1, max_size=4, unique=True)
    ),
    st.builds(lambda value: {"type": "Boolean", "default": value}, st.booleans()),
    st.builds(lambda value: {"type": "Fixed", "value": value}, texts | small | numbers | st.booleans()),
)
workflows = st.fixed_dictionaries(
    {
        "function": st.just("package.module:function"),
        "space": st.dictionaries(names | texts.filter(bool), parameters, min_size=1, max_size=4),
        "objective": st.fixed_dictionaries(
            {"metric": words, "direction": st.sampled_from(["minimize", "maximize"])},
            optional={"epoch": st.sampled_from(["best", "last"])},
        ),
    },
    optional={
        "search": st.fixed_dictionaries(
            {},
            optional={
                "sampler": st.sampled_from(["random", "hyperopt", {"name": "grid", "order": "shuffled"}]),
                "trials": st.integers(1, 10**6),
                "time": numbers,
                "seed": st.integers(0, 2**40),
                "allow_duplicates": st.booleans(),
            },
        ),
        "resources": st.fixed_dictionaries(
            {},
            optional={
                "cpu": st.integers(1, 64),
                "gpu": st.sampled_from([0, 0.25, 1, 2]),
                "memory": st.integers(1, 10**13),
                "time_limit": numbers,
            },
        ),
        "engine": st.fixed_dictionaries({"workers": st.integers(1, 99) | st.just("auto")}),
    },
)


@settings(deadline=None, max_examples=120)
@given(sections=workflows)
def test_a_workflow_that_is_written_is_read_back(sections):
    workflow = make_workflow(sections)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "workflow.yaml"
        path.write_text(workflow.to_yaml(), encoding="utf-8")
        again = load_workflow(path)
    assert again.model_dump() == workflow.model_dump()
    assert repr(again.parameters()) == repr(workflow.parameters())
    assert again.digest == workflow.digest


def test_a_digest_tells_what_is_searched_from_how_long_and_where(load):
    workflow = load(HEAD + SPACE)
    same = [
        ["search.trials=9"],
        ["search.time=1h"],
        ["search.target=0.5"],
        ["search.patience=7"],
        ["search.min_improvement=0.1"],
        ["engine.workers=7"],
        ["resources.cpu=1"],
        ["search.sampler=auto"],
    ]
    assert {load(HEAD + SPACE, *each).digest for each in same} == {workflow.digest}
    others = [
        ["search.seed=1"],
        ["search.sampler=random"],
        ["search.initial=[{x: 1}]"],
        ["search.warm_start=a"],
        ["objective={metric: loss, constraints: {size: {max: 1}}}"],
        ["space.x.max_value=4"],
        ["objective=mse"],
        ["function=a:b"],
        ["resources.time_limit=9"],
    ]
    digests = {load(HEAD + SPACE, *each).digest for each in others} | {workflow.digest}
    assert len(digests) == 1 + len(others)


@settings(deadline=None, max_examples=150)
@given(
    text=st.text(
        st.sampled_from("a:b{}[]-&*<#'\"!|>%@,? \n\t01.e\x85é\\~=") | st.characters(codec="utf-8"), max_size=30
    )
)
def test_any_text_is_refused_in_one_sentence(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "workflow.yaml"
        path.write_text(text, encoding="utf-8", newline="")
        with pytest.raises(InputError) as caught:
            load_workflow(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value).replace(repr(text), "")


WHOLE = (ROOT / "workflows" / "function.yaml").read_text()


@settings(deadline=None, max_examples=150)
@given(place=st.integers(0, len(WHOLE)), length=st.integers(0, 3), text=st.text("a:b{}[]-&*#'\" \n\t01.e", max_size=2))
def test_a_slip_of_the_pen_is_no_traceback(place, length, text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "workflow.yaml"
        (Path(folder) / "function.py").touch()
        path.write_text(WHOLE[:place] + text + WHOLE[place + length :], encoding="utf-8")
        try:
            load_workflow(path)
        except InputError as error:
            assert str(error)


# Units and directions

DURATIONS = {
    90: 90,
    "90": 90,
    0.5: 0.5,
    "90s": 90,
    "1.5m": 90,
    ".5m": 30,
    "2min": 120,
    "1h30m": 5400,
    "1h 30m 5s": 5405,
    "1d": 86400,
    "250ms": 0.25,
}


@pytest.mark.parametrize(("text", "seconds"), DURATIONS.items())
def test_durations(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s",
        "10x",
        "1h30",
        "-5",
        "-5s",
        0,
        "0s",
        "1.2.3s",
        "5 s x",
        True,
        None,
        math.nan,
        math.inf,
        "1e999",
        [],
        "1H",
    ],
)
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match=r"must be a duration|has the unknown unit"):
        parse_duration(text)


AMOUNTS = {
    1: 1,
    2000: 2000,
    "2000": 2000,
    1e9: 10**9,
    "2GB": 2 * 10**9,
    "2 GB": 2 * 10**9,
    "2G": 2 * 10**9,
    "1.5MiB": 3 * 2**19,
    "512K": 512_000,
    "512kB": 512_000,
    "1TiB": 2**40,
    "7B": 7,
}


@pytest.mark.parametrize(("text", "size"), AMOUNTS.items())
def test_amounts_of_memory(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize(
    "text", ["", "GB", "2XB", "0GB", 0, -1, "-2GB", True, None, math.nan, math.inf, "1.2.3GB", "0.1B"]
)
def test_what_is_no_amount_of_memory(text):
    with pytest.raises(ValueError, match=r"must be an amount of memory|must be above 0"):
        parse_memory(text)


DIRECTIONS = {
    "val_accuracy": "maximize",
    "val_sparse_categorical_accuracy": "maximize",
    "acc": "maximize",
    "auc": "maximize",
    "val_auc_1": "maximize",
    "f1_score": "maximize",
    "precision_at_recall": "maximize",
    "val_loss": "minimize",
    "rmse": "minimize",
    "mean_absolute_error": "minimize",
    "val_cross_entropy": "minimize",
    "categorical_crossentropy": "minimize",
    "seconds": "minimize",
    "false_positives": "minimize",
    "quality": None,
    "lossless": None,
    "account": None,
}


@pytest.mark.parametrize(("metric", "direction"), DIRECTIONS.items())
def test_the_direction_of_a_metric(metric, direction):
    assert direction_of(metric) == direction


def test_certificates_are_found_from_wherever_a_study_goes_on(load, tmp_path):
    text = HEAD + SPACE + "engine: {name: dask, certificates: keys}\n"
    assert load(text).engine.certificates == f"{tmp_path}/keys"
    assert load(text, "engine.certificates=~/keys").engine.certificates == str(Path.home() / "keys")
