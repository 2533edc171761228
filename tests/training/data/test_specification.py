from __future__ import annotations

import pickle
from pathlib import Path

import cloudpickle
import pytest

from hpcompss.errors import InputError
from hpcompss.training.data import DataSpecification


def test_it_is_hashable_and_pickles():
    specification = DataSpecification(path="/data/images", train=0.5, image_size=[32, 24])
    assert pickle.loads(pickle.dumps(specification)) == specification
    assert hash(pickle.loads(pickle.dumps(specification))) == hash(specification)
    assert specification.image_size == (32, 24)


def test_a_local_function_pickles_too():
    size = 3
    specification = DataSpecification(function=lambda: size)
    travelled = pickle.loads(pickle.dumps(specification))
    assert travelled == specification and hash(travelled) == hash(specification)
    assert travelled.function() == 3
    assert cloudpickle.loads(cloudpickle.dumps(specification)) == specification


def test_a_relative_path_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert DataSpecification(path=Path("images")).path == str(tmp_path / "images")


@pytest.mark.parametrize(
    ("keys", "title", "description"),
    [
        ({"name": "digits"}, "digits", "the data set 'digits'"),
        ({"name": "cifar10", "path": "/data/c.tar.gz"}, "cifar10", "'/data/c.tar.gz'"),
        ({"path": "/data/c.tar.gz"}, "c.tar.gz", "'/data/c.tar.gz'"),
        ({"function": "my_data:load"}, "my_data:load", "the function 'my_data:load'"),
        ({"function": "/home/me/a.py:load"}, "a.py:load", "the function '/home/me/a.py:load'"),
        ({"name": "mine", "path": "/data/anything"}, "mine", "'/data/anything'"),
    ],
)
def test_title_and_description(keys, title, description):
    specification = DataSpecification(**keys)
    assert specification.title == title
    assert specification.source_description == description


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "data: no source is stated: give data.name, data.path or data.function"),
        ({"name": "cifar01"}, "data.name: unknown data set 'cifar01': did you mean 'cifar10'? "),
        ({"name": ""}, "data.name: must be a text that is not empty, not ''"),
        ({"name": 5}, "data.name: must be a text that is not empty, not 5"),
        ({"path": 5}, "data.path: must be a text that is not empty, not 5"),
        ({"path": "a", "function": "b:c"}, "data.function: state either data.path or data.function, not both"),
        ({"name": "digits", "image_size": [8, 8]}, "data.image_size: resizes image files only"),
        ({"path": "a", "image_size": [8]}, "data.image_size: must be [height, width] in pixels"),
        ({"path": "a", "image_size": [8, 0]}, "data.image_size: must be [height, width] in pixels"),
        ({"path": "a", "image_size": [8, 8.0]}, "data.image_size: must be [height, width] in pixels"),
        ({"name": "digits", "validation": "20%"}, "data.validation: must be a count such as 1000 or a fraction"),
        ({"name": "digits", "validation": True}, "data.validation: must be a count such as 1000 or a fraction"),
        ({"name": "digits", "validation": 1.0}, "data.validation: a fraction must be above 0 and below 1, not 1.0"),
        ({"name": "digits", "validation": 0}, "data.validation: a count must be at least 1, not 0"),
        ({"name": "digits", "validation": float("nan")}, "data.validation: a fraction must be above 0"),
        ({"name": "digits", "train": 1.5}, "data.train: a fraction must be above 0 and at most 1, not 1.5"),
        ({"name": "digits", "train": -3}, "data.train: a count must be at least 1, not -3"),
        ({"name": "digits", "test": -0.1}, "data.test: a fraction must be above 0 and at most 1, not -0.1"),
        ({"name": "digits", "seed": -1}, "data.seed: must be a whole number from 0"),
        ({"name": "digits", "seed": 1.5}, "data.seed: must be a whole number from 0"),
    ],
)
def test_bad_values(keys, message):
    with pytest.raises(InputError) as error:
        DataSpecification(**keys)
    assert str(error.value).startswith(message)
