from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcompss.errors import InputError
from hpcompss.training.data.examples import Examples
from hpcompss.training.data.split import portion, select


def numbered(count, classes=4):
    """Rows whose feature is their number, and their class."""
    numbers = np.arange(count)
    return numbers, numbers % classes


@pytest.fixture
def source(archive_of):
    """100 training rows and 40 test rows of 4 classes."""
    x, y = numbered(140)
    return archive_of(x_train=x[:100], y_train=y[:100], x_test=x[100:], y_test=y[100:])


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    fraction=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_class_gives_its_share(sizes, fraction, seed):
    y = np.repeat(np.arange(len(sizes)), sizes)
    count = round(fraction * len(y))
    chosen, others = select(count, len(y), y, np.random.RandomState(seed))
    assert sorted([*chosen, *others]) == list(range(len(y)))
    assert len(chosen) == count
    share = count / len(y)
    taken = np.bincount(y[chosen], minlength=len(sizes))
    # Sainte-Lague may miss a quota by more than 1 with many parties, but not by much.
    assert np.all(np.abs(taken - share * np.array(sizes)) < 1.5)


@given(shares=st.tuples(*[st.floats(0.01, 1)] * 2), rows=st.integers(1, 200), seed=st.integers(0, 9))
def test_a_larger_portion_contains_the_smaller(shares, rows, seed):
    data = Examples(*numbered(rows))
    less, more = (portion(data, share, seed) for share in sorted(shares))
    assert set(less.x) <= set(more.x)
    assert np.array_equal(less.y, less.x % 4) and np.array_equal(more.y, more.x % 4)
    assert less.rows == max(1, round(min(shares) * rows)) == len(set(less.x))


def test_a_portion_has_its_share_of_each_class():
    data = Examples(*numbered(400))
    assert np.bincount(portion(data, 0.25, 3).y).tolist() == [25] * 4
    assert portion(data, 1.0, 3) is data
    assert portion(data, 0.25, 3).x.tolist() != portion(data, 0.25, 4).x.tolist()


def test_real_targets_are_drawn_at_random():
    chosen, others = select(10, 50, None, np.random.RandomState(0))
    assert sorted([*chosen, *others]) == list(range(50))


def test_a_class_of_one_row_stays_in_training():
    y = np.array([0] * 50 + [1])
    for seed in range(20):
        assert 50 not in select(10, len(y), y, np.random.RandomState(seed))[0]


def test_the_default_split(load, source):
    data = load(path=source)
    assert (len(data.train.y), len(data.validation.y), len(data.test.y)) == (80, 20, 40)
    assert np.bincount(data.validation.y).tolist() == [5, 5, 5, 5]
    assert sorted([*data.train.x, *data.validation.x]) == list(range(100))
    np.testing.assert_array_equal(data.train.x % 4, data.train.y)
    np.testing.assert_array_equal(data.validation.x % 4, data.validation.y)
    np.testing.assert_array_equal(data.test.x, np.arange(100, 140))
    assert all(isinstance(array, np.memmap) for array in (data.train.x, data.train.y, data.validation.x, data.test.x))


def test_rows_come_in_random_order(load, source):
    assert load(path=source).train.x.tolist() != sorted(load(path=source).train.x)


def test_the_seed_decides_the_split(load, source):
    first, same, other = load(path=source), load(path=source, seed=0), load(path=source, seed=1)
    np.testing.assert_array_equal(first.validation.x, same.validation.x)
    assert first.validation.x.tolist() != other.validation.x.tolist()


def test_the_split_of_a_seed_stays_what_it_was(load, source):
    assert load(path=source, seed=7, validation=4).validation.x.tolist() == [41, 64, 14, 63]


def test_subsets(load, source):
    data = load(path=source, train=40, test=0.1, validation=0.25)
    assert (len(data.train.y), len(data.validation.y), len(data.test.y)) == (30, 10, 4)
    assert np.bincount([*data.train.y, *data.validation.y]).tolist() == [10, 10, 10, 10]
    assert np.bincount(data.test.y).tolist() == [1, 1, 1, 1]
    assert data.test.x.min() >= 100
    assert len(set(data.train.x.tolist()) | set(data.validation.x.tolist())) == 40


def test_a_fraction_and_the_same_count_share_one_entry(load, source, cache):
    load(path=source, validation=0.2)
    load(path=source, validation=20, train=1.0, test=40)
    assert len([path for path in cache.glob("*/train-*") if path.is_dir()]) == 1
    assert not [path for path in cache.glob("*/test-*") if path.is_dir()]


def test_a_test_set_is_split_off_when_there_is_none(load, archive_of):
    x, y = numbered(100)
    path = archive_of(x_train=x, y_train=y)
    assert load(path=path).test is None
    data = load(path=path, test=0.2, validation=0.5)
    assert (len(data.train.y), len(data.validation.y), len(data.test.y)) == (40, 40, 20)
    assert sorted([*data.train.x, *data.validation.x, *data.test.x]) == list(range(100))
    assert np.bincount(data.test.y).tolist() == [5, 5, 5, 5]
    # The test set is the same whatever the training set.
    np.testing.assert_array_equal(load(path=path, test=0.2, train=10).test.x, data.test.x)


def test_a_validation_set_of_the_source_is_used_whole(load, archive_of):
    x, y = numbered(30)
    path = archive_of(x_train=x[:20], y_train=y[:20], x_val=x[20:], y_val=y[20:])
    data = load(path=path, train=8)
    assert len(data.train.y) == 8
    np.testing.assert_array_equal(data.validation.x, np.arange(20, 30))
    both = data.training_and_validation()
    assert sorted(both.x) == sorted([*data.train.x, *range(20, 30)])
    np.testing.assert_array_equal(both.x % 4, both.y)


def test_training_and_validation_are_one_mapped_array(load, source):
    data = load(path=source)
    both = data.training_and_validation()
    assert isinstance(both.x, np.memmap)
    np.testing.assert_array_equal(both.x, np.concatenate([data.train.x, data.validation.x]))
    np.testing.assert_array_equal(both.y, np.concatenate([data.train.y, data.validation.y]))


def test_a_validation_set_may_miss_classes(load, source):
    assert len(load(path=source, validation=2).validation.y) == 2


def test_a_damaged_split_is_made_again(load, source, cache):
    expected = load(path=source).validation.x.tolist()
    next(cache.glob("*/train-*/x_train.npy")).unlink()
    with pytest.warns(UserWarning, match="damaged"):
        assert load(path=source).validation.x.tolist() == expected


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"train": 101}, "data.train: 101 examples are asked for, but there are only 100 training examples"),
        ({"test": 41}, "data.test: 41 examples are asked for, but there are only 40 test examples"),
        ({"validation": 101}, "data.validation: 101 examples are asked for, but there are only 100 training examples"),
        ({"validation": 100}, "data.validation: nothing is left to train on: ask for less"),
        ({"train": 10, "validation": 10}, "data.validation: nothing is left to train on: ask for less"),
        ({"validation": 0.001}, "data.validation: 0.001 of 100 training examples is none"),
        ({"train": 0.001}, "data.train: 0.001 of 100 training examples is none"),
        ({"test": 0.001}, "data.test: 0.001 of 40 test examples is none"),
    ],
)
def test_more_or_less_than_there_is(load, source, keys, message):
    with pytest.raises(InputError) as error:
        load(path=source, **keys)
    assert str(error.value) == message


def test_a_test_split_that_leaves_nothing(load, archive_of):
    x, y = numbered(10)
    with pytest.raises(InputError, match=r"data.test: nothing is left to train on"):
        load(path=archive_of(x_train=x, y_train=y), test=10)


def test_a_validation_split_of_a_source_that_has_one(load, archive_of):
    x, y = numbered(30)
    path = archive_of(x_train=x, y_train=y, x_val=x, y_val=y)
    with pytest.raises(InputError, match=r"data.validation: '.*' has a validation set of its own, of 30: leave"):
        load(path=path, validation=0.2)
