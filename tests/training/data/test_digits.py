from __future__ import annotations

import importlib.metadata
import sys

import numpy as np
import pytest

from hpcompss.errors import MissingExtraError
from hpcompss.training.data import describe


def test_the_images(load):
    data = load(name="digits")
    assert describe(data) == "digits: 1,150 train, 287 validation, 360 test; 8 x 8 x 1 float32; 10 classes"
    assert data.train.x.min() == 0 and data.train.x.max() == 1
    assert data.class_names == tuple("0123456789")
    assert np.bincount(data.test.y).min() >= 34


def test_the_test_set_does_not_depend_on_the_seed(load):
    first, second = load(name="digits", seed=1), load(name="digits", seed=2)
    np.testing.assert_array_equal(first.test.x, second.test.x)
    assert first.validation.y.tolist() != second.validation.y.tolist()
    assert first.test.y[:8].tolist() == [0, 7, 8, 8, 6, 8, 7, 9]


def test_without_scikit_learn(load, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"the data set 'digits' needs scikit-learn: .*hpcompss\[tensorflow\]"):
        load(name="digits")


def test_where_scikit_learn_was_never_installed(load, monkeypatch):
    def absent(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(MissingExtraError, match="the data set 'digits' needs scikit-learn"):
        load(name="digits")
