from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcompss.errors import InputError
from hpcompss.training.data import DataSpecification, load_data
from hpcompss.training.data.folds import assign_folds, folds_of
from hpcompss.training.data.specification import ValidationSplit


def numbered(count, classes=4):
    """Rows whose feature is their number, and their class."""
    numbers = np.arange(count)
    return numbers, numbers % classes


def folds_at(path, folds, seed=0, **settings):
    data = load_data(DataSpecification(path=path, **settings))
    return folds_of(data, folds, DataSpecification(path=path, seed=seed, **settings))


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    folds=st.integers(2, 9),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_fold_has_its_share_of_each_class(sizes, folds, seed):
    y = np.repeat(np.arange(len(sizes)), sizes)
    parts = assign_folds(len(y), folds, y, None, np.random.RandomState(seed))
    assert sorted(np.concatenate(parts)) == list(range(len(y)))
    counts = np.array([np.bincount(y[part], minlength=len(sizes)) for part in parts])
    assert np.all(np.ptp(counts, axis=0) <= 1)
    assert np.ptp(counts.sum(axis=1)) <= 1


@pytest.mark.parametrize("folds", [2, 3, 7])
def test_each_row_is_validated_with_once_and_else_trained_on(archive_of, folds):
    x, y = numbered(53)
    path = archive_of(x_train=x[:50], y_train=y[:50], x_test=x[50:], y_test=y[50:])
    made = folds_at(path, folds)
    assert sorted(np.concatenate([fold.validation.x for fold in made])) == list(range(50))
    for fold in made:
        assert sorted([*fold.train.x, *fold.validation.x]) == list(range(50))
        np.testing.assert_array_equal(fold.train.x % 4, fold.train.y)
        np.testing.assert_array_equal(fold.validation.x % 4, fold.validation.y)
        np.testing.assert_array_equal(fold.test.x, [50, 51, 52])
        assert all(
            isinstance(array, np.memmap) for array in (fold.train.x, fold.train.y, fold.validation.x, fold.validation.y)
        )


def test_a_validation_set_of_the_source_is_among_the_folds(archive_of):
    x, y = numbered(40)
    path = archive_of(x_train=x[:30], y_train=y[:30], x_val=x[30:], y_val=y[30:])
    assert sorted(np.concatenate([fold.validation.x for fold in folds_at(path, 4)])) == list(range(40))


def test_the_seed_decides_the_folds(archive_of):
    x, y = numbered(40)
    path = archive_of(x_train=x, y_train=y)
    first, same, other = (folds_at(path, 4, seed)[0].validation.x.tolist() for seed in (0, 0, 1))
    assert first == same != other


def test_the_folds_of_a_seed_stay_what_they_were(archive_of):
    x, y = numbered(12, 2)
    path = archive_of(x_train=x, y_train=y)
    assert [fold.validation.x.tolist() for fold in folds_at(path, 3, 7)] == [[7, 5, 10, 8], [3, 1, 0, 2], [6, 4, 9, 11]]


def test_the_folds_are_made_once(archive_of, monkeypatch):
    x, y = numbered(40)
    path = archive_of(x_train=x, y_train=y)
    folds_at(path, 4)
    monkeypatch.setattr("hpcompss.training.data.folds.assign_folds", None)
    assert len(folds_at(path, 4)) == 4


@pytest.mark.parametrize("y", [np.linspace(0, 1, 10), np.arange(20).reshape(10, 2) % 2])
def test_targets_that_are_no_classes_have_plain_folds(archive_of, y):
    made = folds_at(archive_of(x_train=np.arange(10), y_train=y), 5)
    assert sorted(np.concatenate([fold.validation.x for fold in made])) == list(range(10))


def test_more_folds_than_the_smallest_class_has_rows(archive_of):
    y = np.array([0] * 20 + [1] * 4)
    with pytest.raises(InputError) as caught:
        folds_at(archive_of(x_train=np.arange(24), y_train=y), 5)
    assert caught.value.key == "training.folds"
    assert caught.value.message == (
        "5 folds are asked for, but the class 1 has only 4 training and validation examples: take at most 4 folds, or "
        "add examples"
    )
    assert len(folds_at(archive_of(x_train=np.arange(24), y_train=y), 4)) == 4


def test_the_smallest_class_is_named(class_folders):
    with pytest.raises(InputError, match=r"the class 'cat' has only 10 training and validation examples"):
        folds_at(class_folders, 11)


def folds_of_function(function, folds, **settings):
    specification = DataSpecification(function=function, **settings)
    return folds_of(load_data(specification), folds, specification)


def test_folds_in_order_train_on_what_came_before():
    x = np.arange(50)
    made = folds_of_function(lambda: (x, x), 4, validation=ValidationSplit(order="as_given"))
    assert [fold.train.x.tolist() for fold in made] == [list(range(end)) for end in (10, 20, 30, 40)]
    assert [fold.validation.x.tolist() for fold in made] == [list(range(end, end + 10)) for end in (10, 20, 30, 40)]


@settings(deadline=None, max_examples=50)
@given(sizes=st.lists(st.integers(1, 9), min_size=4, max_size=12), folds=st.integers(2, 4), seed=st.integers(0, 99))
def test_groups_stay_in_one_fold(sizes, folds, seed):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    for labels in (None, groups % 2):
        parts = assign_folds(len(groups), folds, labels, groups, np.random.RandomState(seed))
        assert sorted(np.concatenate(parts)) == list(range(len(groups)))
        assert all(len(part) for part in parts)
        assert sum(len(set(groups[part])) for part in parts) == len(sizes)


def test_folds_of_groups():
    groups = np.repeat(np.arange(10), 5)
    x = np.arange(50)
    made = folds_of_function(lambda: {"train": (x, x % 2, x * 1.0), "groups": groups}, 3)
    assert sorted(np.concatenate([fold.validation.x for fold in made])) == list(range(50))
    for fold in made:
        assert not set(groups[fold.train.x]) & set(groups[fold.validation.x])
        np.testing.assert_array_equal(fold.train.x, fold.train.weights)
    with pytest.raises(InputError, match="11 folds are asked for, but there are only 10 groups: take at most 10"):
        folds_of_function(lambda: {"train": (x, x % 2), "groups": groups}, 11)


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        ("none", "training.folds: folds are for validation, and data.validation is none"),
        (ValidationSplit(order="as_given"), "training.folds: 12 folds in order need 13 rows, not 12"),
    ],
)
def test_no_folds(validation, message):
    with pytest.raises(InputError, match=message):
        folds_of_function(lambda: (np.arange(12), np.arange(12.0)), 12, validation=validation)


def test_more_folds_than_rows(archive_of):
    with pytest.raises(InputError, match="there are only 3 training and validation examples: take at most 3 folds"):
        folds_at(archive_of(x_train=np.arange(3), y_train=np.linspace(0, 1, 3)), 4)
