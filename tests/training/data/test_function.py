from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hpcompss.errors import InputError
from hpcompss.training.data import DataSpecification, describe, load_data
from hpcompss.training.data.function import parts_of
from hpcompss.training.data.loading import forget_run

LOAD = """
import numpy as np
calls = []
def load():
    calls.append(1)
    x = np.arange(20)
    return (x, x % 2), (x[:4], x[:4] % 2)
def load_dict():
    return {"x_train": [1, 2, 3, 4, 5], "y_train": [0.5, 1, 2, 3, 4]}
def load_pair():
    return np.zeros((10, 1)), np.zeros(10)
def load_triple():
    return np.zeros((10, 1)), np.zeros(10), np.arange(10.0)
def load_three():
    x = np.arange(6)
    return (x, x), (x + 10, x), (x + 20, x)
def load_rows():
    return {"x_train": [[1], [1, 2]] * 3, "y_train": [0, 1] * 3}
def load_four():
    return 1, 2, 3, 4
def load_six():
    x = np.zeros(3)
    return x, x, x, x, x, x
def load_nothing():
    return None
def load_frame():
    return {"data": np.zeros(3), "target": np.zeros(3)}
def misspelt():
    x = np.zeros(9)
    return {"x_train": x, "y_train": x, "x_valid": x, "y_valid": x}
def capital():
    x = np.zeros(9)
    return {"X_train": x, "Y_train": x}
def weights_twice():
    x = np.zeros(9)
    return {"x_train": x, "y_train": x, "sample_weight": x, "sample_weight_train": x}
def part_twice():
    x = np.zeros(9)
    return {"train": (x, x), "y_train": x}
def too_long():
    x = np.zeros(9)
    return {"train": (x, x, x, x)}
def short_weights():
    x = np.zeros(9)
    return {"x_train": x, "y_train": x, "sample_weight": x[:5]}
def short_input():
    x = np.zeros(9)
    return {"x_train": {"image": x, "table": x[:7]}, "y_train": x}
def nan_targets():
    x = np.zeros(9)
    return x, np.where(x == 0, np.nan, x)
def nan_objects():
    return np.zeros(4), np.array([1, None, float("nan"), 2], object)
def empty():
    return np.zeros((0, 3)), np.zeros(0)
def scalar():
    return np.zeros(3), np.array(1)
def masked():
    return np.ma.masked_array([1, 2, 3], [0, 1, 0]), np.zeros(3)
def structured():
    return np.zeros(3, [("a", int), ("b", float)]), np.zeros(3)
def text_weights():
    return np.zeros(3), np.zeros(3), np.array(["a", "b", "c"])
def no_targets_for_test():
    x = np.zeros(9)
    return {"train": (x, x), "test": x}
def other_inputs():
    x = np.zeros(9)
    return {"train": ({"a": x, "b": x}, x), "test": ({"a": x, "c": x}, x)}
def groups_and_validation():
    x = np.zeros(9)
    return {"train": (x, x), "validation": (x, x), "groups": x}
def wide_groups():
    x = np.zeros(9)
    return {"train": (x, x), "groups": np.zeros((9, 2))}
def a_set():
    return {"x_train": {1, 2}, "y_train": [1, 2]}
def fail():
    raise OSError("no such table")
number = 3
"""


def test_a_pair_of_pairs(load, module):
    data = load(function=f"{module(LOAD)}:load")
    assert (len(data.train.y), len(data.validation.y), len(data.test.y)) == (16, 4, 4)
    np.testing.assert_array_equal(data.train.x % 2, data.train.y)


def test_features_and_targets(load, module):
    data = load(function=f"{module(LOAD)}:load_pair")
    assert data.train.x.shape == (8, 1) and data.train.weights is None and data.test is None


def test_weights_stay_with_their_rows(load, module):
    data = load(function=f"{module(LOAD)}:load_triple")
    assert sorted([*data.train.weights, *data.validation.weights]) == list(range(10))


def test_three_pairs(load, module):
    data = load(function=f"{module(LOAD)}:load_three")
    assert (data.train.x[0], data.validation.x[0], data.test.x[0]) == (0, 10, 20)


def test_a_function_in_a_file(load, tmp_path):
    (tmp_path / "table.py").write_text(LOAD, "utf-8")
    data = load(function=f"{tmp_path}/table.py:load")
    assert data.name.startswith("table.py:load (called 20")


def test_a_dictionary_of_lists(load, module):
    data = load(function=f"{module(LOAD)}:load_dict")
    assert data.train.y.dtype == np.float64 and data.train.x.dtype == np.int64
    assert data.test is None


def test_rows_of_different_lengths_stay_lists(load, module):
    data = load(function=f"{module(LOAD)}:load_rows")
    assert data.train.x.dtype == object and sorted(data.train.x.tolist() + data.validation.x.tolist()) == sorted(
        [[1], [1, 2]] * 3
    )


def test_a_list_is_several_inputs_as_in_keras():
    x, y = np.zeros((3, 2)), np.zeros(3)
    for inputs in ([x, x], (x, x), {"a": x, "b": x}):
        assert parts_of((inputs, y), "it is", "data") == {"train": (inputs, y)}


def test_nan_targets_go_on_only_if_told(load, module):
    data = load(function=f"{module(LOAD)}:nan_targets", allow_nan=True)
    assert np.isnan(data.train.y).all()


def test_it_is_called_once_for_each_run_of_a_study(module):
    name = module(LOAD)
    for run in ("first", "first", "second", "second"):
        load_data(DataSpecification(function=f"{name}:load", run=run))
    assert len(__import__(name).calls) == 2


def test_what_a_run_leaves_is_forgotten(module, cache):
    specification = DataSpecification(function=f"{module(LOAD)}:load", run="first")
    load_data(specification)
    assert list(cache.iterdir())
    forget_run(specification)
    assert not list(cache.iterdir())


def test_two_processes_of_a_run_call_it_once(tmp_path):
    (tmp_path / "table.py").write_text(
        "import numpy as np, os, time\n"
        "def load():\n"
        "    with open(os.path.dirname(__file__) + '/calls', 'a') as file:\n"
        "        print('called', file=file)\n"
        "    time.sleep(1)\n"
        "    return np.zeros((10, 2)), np.zeros(10)\n"
    )
    code = (
        "from hpcompss.training.data import DataSpecification, load_data\n"
        f"load_data(DataSpecification(function='{tmp_path}/table.py:load', run='one'))"
    )
    root = Path(__file__).parents[3]
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=root, env=os.environ) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert (tmp_path / "calls").read_text() == "called\n"


def test_a_cached_function_is_called_again_when_its_module_changes(load, module):
    name = module(LOAD)
    for _ in range(2):
        load(function=f"{name}:load", cache=True)
    loaded = __import__(name)
    assert len(loaded.calls) == 1
    module(LOAD + "\n# changed")
    load(function=f"{name}:load", cache=True)
    assert len(loaded.calls) == 2


def test_the_same_content_has_the_same_digest(load, module):
    name = module(LOAD)
    digests = [load(function=f"{name}:{function}").digest for function in ("load", "load", "load_pair")]
    assert digests[0] == digests[1] != digests[2]


def test_the_description_says_when_it_was_called(load, module):
    name = module(LOAD)
    assert describe(load(function=f"{name}:load")).startswith(f"{name}:load (called 20")


def test_a_callable_that_travelled():
    rows = 10

    def local():
        return {"x_train": np.arange(rows), "y_train": np.arange(rows) % 2}

    specification = DataSpecification(function=local, name="mine", run="one")
    first = load_data(specification)
    assert load_data(pickle.loads(pickle.dumps(specification))).train.x.filename == first.train.x.filename
    rows = 20
    assert len(load_data(DataSpecification(function=local, run="one")).train.y) == 16
    assert len(first.train.y) == 8


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("{}:laod", r"{} has no 'laod'; did you mean 'load'\?"),
        ("{}:number", "'{}:number' is no function but a int"),
        ("{}:fail", r"the function '{}:fail' raised OSError: no such table \(.*{}.py:\d+\)"),
        ("{}:load_four", "the function '{}:load_four' returned a tuple of 4: it must be"),
        ("{}:load_six", "the function '{}:load_six' returned a tuple of 6: it must be"),
        ("{}:load_nothing", "the function '{}:load_nothing' returned a NoneType: it must be"),
        ("{}:load_frame", "the function '{}:load_frame' returned a mapping with 'data', 'target': it must be"),
        ("{}:misspelt", r"the function '{}:misspelt' has the unknown name 'x_valid'; did you mean 'x_val'\?"),
        ("{}:capital", r"the function '{}:capital' has the unknown name 'X_train'; did you mean 'x_train'\?"),
        ("{}:weights_twice", "the function '.*' has both sample_weight and sample_weight_train: leave one out"),
        ("{}:part_twice", "the function '.*' has both train and y_train: leave one out"),
        ("{}:too_long", "train of the function '.*' is a tuple of 4: give"),
        ("{}:short_weights", "the function '.*' has 9 rows in x_train, but 5 in sample_weight"),
        ("{}:short_input", r"the function '.*' has 9 rows in x_train\['image'\], but 7 in x_train\['table'\]"),
        (
            "{}:nan_targets",
            "y_train of the function '.*' has NaN in 9 of 9 rows: remove them, or state  data",
        ),
        ("{}:nan_objects", "y_train of the function '.*' has NaN in 2 of 4 rows"),
        ("{}:empty", "x_train of the function '.*' is empty"),
        ("{}:scalar", "y_train of the function '.*' has no rows: it is a single value"),
        ("{}:masked", "x_train of the function '.*' is a masked array"),
        ("{}:structured", "x_train of the function '.*' is a structured array"),
        ("{}:text_weights", "sample_weight_train of the function '.*' holds <U1: weights are numbers"),
        ("{}:no_targets_for_test", "the function '.*' has y_train, but no y_test"),
        ("{}:other_inputs", "the function .* has the inputs 'a', 'b' in x_train, but 'a', 'c' in x_test"),
        (
            "{}:groups_and_validation",
            "the function .* has groups, by which validation data is split off, and valid",
        ),
        ("{}:wide_groups", "groups of the function '.*' must be one value for each row"),
        ("{}:a_set", "x_train of the function '.*' is a set: give an array, a frame"),
        ("{}", "'{}' must read file.py:name or module:name"),
        ("/absent/{}.py:load", "there is no file /absent/{}.py"),
        ("no_such_{}:load", "there is no module 'no_such_{}'"),
        ("json.no_such_{}:load", "the module 'json.no_such_{}' does not import: ModuleNotFoundError"),
    ],
)
def test_bad_functions(load, module, function, message):
    name = module(LOAD)
    with pytest.raises(InputError, match=r"data.function: " + message.replace("{}", name)):
        load(function=function.replace("{}", name))


def test_a_module_that_raises(load, module):
    name = module("import os\n1 / 0\n")
    message = rf"the module '{name}' does not import: ZeroDivisionError: division by zero \(.*{name}.py:2\)"
    with pytest.raises(InputError, match=message):
        load(function=f"{name}:load")


def test_a_function_is_not_called_again_in_a_run_whose_file_was_edited(tmp_path):
    file = tmp_path / "edited.py"
    file.write_text("def load():\n    return {'x_train': [[1.0], [2.0]], 'y_train': [0, 1]}\n")
    stated = DataSpecification(function=f"{file}:load", run="this run", validation="none")
    before = load_data(stated).digest
    file.write_text("def load():\n    raise ValueError('half saved')\n")
    assert load_data(stated).digest == before


@pytest.mark.parametrize("returned", [np.arange(6.0).reshape(3, 2), (np.arange(6.0).reshape(3, 2),)])
def test_features_alone(returned):
    data = load_data(DataSpecification(function=lambda: returned, run="alone", validation="none"))
    assert data.train.rows == 3 and data.train.y is None
