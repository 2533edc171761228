from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcompss.errors import InputError
from hpcompss.training.data import DataSet, Examples, describe
from hpcompss.training.data.specification import ValidationSplit
from hpcompss.training.data.split import portion, select, select_groups


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


# In what way rows are split


def rows_in(data):
    return [part.x.tolist() for part in (data.train, data.validation, data.test) if part is not None]


def test_rows_as_given_stay_in_order(load, source):
    data = load(path=source, validation=ValidationSplit(0.3, order="as_given"))
    assert rows_in(data) == [list(range(70)), list(range(70, 100)), list(range(100, 140))]
    assert data.training_and_validation().x.tolist() == list(range(100)) and data.in_order


def test_a_test_set_in_order_comes_last(load, archive_of):
    x, y = numbered(100)
    data = load(path=archive_of(x_train=x, y_train=y), test=20, validation=ValidationSplit(10, order="as_given"))
    assert rows_in(data) == [list(range(70)), list(range(70, 80)), list(range(80, 100))]


def test_no_validation(load, source):
    data = load(path=source, validation="none", train=0.5)
    assert data.validation is None and data.train.rows == 50
    assert data.training_and_validation() is data.train


def test_no_stratification(load, archive_of):
    x = np.arange(100)
    path = archive_of(x_train=x, y_train=np.array([0] * 99 + [1]))
    drawn = [load(path=path, seed=seed, validation=ValidationSplit(stratify=False)).validation.y for seed in range(20)]
    assert any(1 in each for each in drawn)  # a class of one row otherwise stays in training


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=12),
    share=st.floats(0.1, 0.9),
    seed=st.integers(0, 99),
    with_labels=st.booleans(),
)
def test_groups_stay_together(sizes, share, seed, with_labels):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    labels = groups % 3 if with_labels else None
    count = min(max(1, round(share * len(groups))), len(groups) - 1)
    chosen, others = select_groups(count, groups, labels, np.random.RandomState(seed))
    assert sorted([*chosen, *others]) == list(range(len(groups)))
    assert not set(groups[chosen]) & set(groups[others])
    assert 0 < len(chosen) <= max(count, min(sizes)) and len(others)


def test_groups_keep_classes_in_proportion():
    groups = np.repeat(np.arange(100), 4)
    labels = np.repeat([0, 1], [300, 100])
    for seed in range(10):
        chosen, _ = select_groups(80, groups, labels, np.random.RandomState(seed))
        assert np.bincount(labels[chosen]).tolist() == [60, 20]


def test_every_row_is_in_one_part_with_groups(load):
    groups = np.repeat(np.arange(15), 7)
    x = np.arange(len(groups))

    def make():
        return {"x_train": x, "y_train": x % 2, "sample_weight": x * 2.0, "groups": groups}

    for seed in range(5):
        data = load(function=make, test=0.2, validation=0.25, seed=seed)
        assert sorted(number for part in rows_in(data) for number in part) == x.tolist()
        parts = [set(groups[numbers]) for numbers in rows_in(data)]
        assert sum(map(len, parts)) == 15
        for part in (data.train, data.validation, data.test):
            np.testing.assert_array_equal(part.weights, part.x * 2.0)


def test_rows_of_several_inputs_stay_together(load):
    x = np.arange(50)

    def make():
        inputs = {"a": x, "b": [x * 2, x.astype("U4")]}
        return (inputs, {"p": x * 3, "q": x % 3}), ({**inputs}, {"p": x * 3, "q": x % 3})

    data = load(function=make, train=40, test=10, validation=0.25)
    for part in (data.train, data.validation, data.test):
        a, (b, text) = part.x["a"], part.x["b"]
        np.testing.assert_array_equal([b, part.y["p"], part.y["q"]], [a * 2, a * 3, a % 3])
        assert text.tolist() == [str(number) for number in a]
    assert (data.train.rows, data.validation.rows, data.test.rows) == (30, 10, 10)
    assert describe(data).endswith("a 1 int64, b[0] 1 int64, b[1] 1 text; targets p, q")


def test_weights_of_one_part_alone_count_in_both():
    x = np.arange(4.0)
    data = DataSet(Examples(x, x, x + 5), Examples(x, x))
    assert data.training_and_validation().weights.tolist() == [5, 6, 7, 8, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("arrays", "validation", "message"),
    [
        ({"groups": np.zeros(9)}, None, "data.validation.groups: all rows are of one group"),
        ({"groups": np.arange(9)}, ValidationSplit(order="as_given"), "data.validation: rows in the order as_given"),
        ({}, ValidationSplit(groups="patient"), "data.validation.groups: there is no column 'patient'; give an array"),
        ({}, ValidationSplit(stratify="age"), "data.validation.stratify: there is no column 'age'; give an array"),
    ],
)
def test_bad_ways(load, arrays, validation, message):
    with pytest.raises(InputError, match=message):
        load(function=lambda: {"x_train": np.zeros(9), "y_train": np.zeros(9), **arrays}, validation=validation)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"order": "given"},
            "data.validation.order: must be shuffled or as_given, not 'given'; did you mean",
        ),
        ({"share": 0}, "data.validation.share: a count must be at least 1"),
        ({"share": "20%"}, "data.validation.share: must be a count such as 1000 or a fraction"),
        ({"stratify": 3}, "data.validation.stratify: must be true, false or a column, not 3"),
        ({"groups": True}, "data.validation.groups: must be the name of a column, not True"),
        ({"order": "as_given", "groups": "a"}, "data.validation.groups: rows in the order as_given are not drawn"),
        ({"order": "as_given", "stratify": True}, "data.validation.stratify: rows in the order as_given are not drawn"),
    ],
)
def test_bad_settings_of_a_split(keys, message):
    with pytest.raises(InputError, match=message):
        ValidationSplit(**keys)
