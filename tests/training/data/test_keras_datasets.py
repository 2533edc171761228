from __future__ import annotations

import sys

import numpy as np
import pytest

from hpcompss.errors import InputError, MissingExtraError
from hpcompss.training.data import describe
from hpcompss.training.data.keras_datasets import CLASS_NAMES, arrays_of
from hpcompss.training.data.specification import KERAS_DATA_SETS


@pytest.fixture
def keras_home(monkeypatch, tmp_path):
    """Keras with an empty folder of downloads, and a proxy that nobody answers at."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


def test_grey_images_get_a_channel():
    images = np.zeros((5, 28, 28), np.uint8)
    arrays = arrays_of(((images, np.zeros(5)), (images[:2], np.zeros(2))))
    assert arrays["x_train"].shape == (5, 28, 28, 1)
    assert arrays["x_test"].shape == (2, 28, 28, 1)


def test_texts_get_one_length():
    texts = np.array([[1, 2, 3], list(range(1, 301))], dtype=object)
    padded = arrays_of(((texts, np.zeros(2)), (texts, np.zeros(2))))["x_train"]
    assert padded.shape == (2, 256)
    assert padded[0].tolist() == [0] * 253 + [1, 2, 3]
    assert padded[1].tolist() == list(range(45, 301))


def test_other_features_stay_as_they_are():
    table = np.ones((4, 8), np.float64)
    assert arrays_of(((table, table[:, 0]), (table, table[:, 0])))["x_train"] is table


def test_the_names_are_those_of_keras():
    datasets = pytest.importorskip("keras.datasets")
    assert set(KERAS_DATA_SETS) == {name for name in dir(datasets) if hasattr(getattr(datasets, name), "load_data")}
    assert CLASS_NAMES.keys() <= set(KERAS_DATA_SETS)


def test_without_a_network(load, keras_home):
    pytest.importorskip("keras")
    with pytest.raises(InputError, match=r"data.name: the data set 'mnist' could not be downloaded: give .* data.path"):
        load(name="mnist")


def test_what_keras_returns_is_cached(load, monkeypatch):
    module = pytest.importorskip("keras.datasets.cifar10")
    images, labels = np.zeros((20, 32, 32, 3), np.uint8), np.arange(20, dtype=np.uint8).reshape(-1, 1) % 10
    monkeypatch.setattr(module, "load_data", lambda: ((images, labels), (images, labels)))
    data = load(name="cifar10", validation=0.5)
    assert describe(data) == "cifar10: 10 train, 10 validation, 20 test; 32 x 32 x 3 uint8; 10 classes"
    assert data.test.y.ravel().tolist() == [*range(10), *range(10)]
    assert data.test.y.dtype == np.uint8 and data.test.y.shape == (20, 1)
    assert data.class_names[3] == "cat"
    monkeypatch.delattr(module, "load_data")
    load(name="cifar10", validation=0.5)


def test_without_keras(load, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras.datasets.mnist", None)
    with pytest.raises(MissingExtraError, match=r"the data set 'mnist' needs keras: .*hpcompss\[tensorflow\]"):
        load(name="mnist")
