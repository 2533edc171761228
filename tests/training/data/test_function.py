from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest

from hpcompss.errors import InputError
from hpcompss.training.data import DataSpecification, describe, load_data

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
    return np.zeros(3), np.zeros(3)
def load_four():
    return 1, 2, 3, 4
def load_nothing():
    return None
def load_ragged():
    return {"x_train": [[1], [1, 2]], "y_train": [0, 1]}
def fail():
    raise OSError("no such table")
number = 3
"""


def test_a_pair_of_pairs(load, module):
    data = load(function=f"{module(LOAD)}:load")
    assert (len(data.train.y), len(data.validation.y), len(data.test.y)) == (16, 4, 4)
    np.testing.assert_array_equal(data.train.x % 2, data.train.y)


def test_a_function_in_a_file(load, tmp_path):
    (tmp_path / "table.py").write_text(LOAD, "utf-8")
    data = load(function=f"{tmp_path}/table.py:load")
    assert data.name.startswith("table.py:load (called 20")


def test_a_dictionary_of_lists(load, module):
    data = load(function=f"{module(LOAD)}:load_dict")
    assert data.train.y.dtype == np.float32
    assert data.test is None


def test_it_is_called_once_and_again_when_its_module_changes(load, module, cache):
    name = module(LOAD)
    for _ in range(2):
        load(function=f"{name}:load")
    loaded = __import__(name)
    assert len(loaded.calls) == 1
    module(LOAD + "\n# changed")
    load(function=f"{name}:load")
    assert len(loaded.calls) == 2
    for entry in cache.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
    load(function=f"{name}:load")
    assert len(loaded.calls) == 3


def test_the_description_says_when_it_was_called(load, module):
    name = module(LOAD)
    assert describe(load(function=f"{name}:load")).startswith(f"{name}:load (called 20")


def test_a_callable_that_travelled(cache):
    rows = 10

    def local():
        return {"x_train": np.arange(rows), "y_train": np.arange(rows) % 2}

    specification = DataSpecification(function=local, name="mine")
    first = load_data(specification)
    load_data(pickle.loads(pickle.dumps(specification)))
    assert len(list(cache.glob("*.lock"))) == 1
    rows = 20
    assert len(load_data(DataSpecification(function=local)).train.y) == 16
    assert len(first.train.y) == 8


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("{}:laod", r"{} has no 'laod'; did you mean 'load'\?"),
        ("{}:number", "'{}:number' is no function but a int"),
        ("{}:fail", r"the function '{}:fail' raised OSError: no such table \(.*{}.py:19\)"),
        ("{}:load_pair", "the function '{}:load_pair' returned a tuple of 2; it must return"),
        ("{}:load_four", "the function '{}:load_four' returned a tuple of 4; it must return"),
        ("{}:load_nothing", "the function '{}:load_nothing' returned a NoneType; it must return"),
        ("{}:load_ragged", "cannot read x_train of the function '{}:load_ragged'"),
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
