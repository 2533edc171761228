from __future__ import annotations

import types

import numpy as np
import pytest

from hpcompss.errors import InputError
from hpcompss.training.data import DataSpecification, Examples, describe, load_data
from hpcompss.training.data.folds import folds_of
from hpcompss.training.data.streams import RESTARTS, chain, is_stream, restarting

keras = pytest.importorskip("keras")

X = np.arange(40, dtype=np.float32).reshape(20, 2)
Y = X[:, 0] % 3


def batches(rows=4):
    for start in range(0, len(X), rows):
        yield X[start : start + rows], Y[start : start + rows]


def lists():
    for x, y in batches():
        yield [x, y]


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 5

    def __getitem__(self, number):
        return X[number * 4 : number * 4 + 4], Y[number * 4 : number * 4 + 4]


def tf_data():
    import tensorflow

    return tensorflow.data.Dataset.from_tensor_slices((X, Y)).batch(4)


def loader():
    torch = pytest.importorskip("torch")
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y)), batch_size=4)


def generator_function():
    return batches


def generator_of_lists():
    return lists


STREAMS = [tf_data, Batches, loader, batches, generator_function, generator_of_lists]


def opened(function, **settings):
    settings = {"validation": "none", **settings}
    return load_data(DataSpecification(function=function, **settings))


@pytest.mark.parametrize("make", STREAMS)
def test_each_stream_gives_its_batches_and_again(make):
    data = opened(lambda: {"train": make(), "validation": (X, Y)}, validation=None)
    assert data.train.is_stream and data.train.rows is None and data.digest == ""
    np.testing.assert_array_equal(data.validation.x, X)
    for _ in range(2):
        stream = data.open().train
        first = stream.batch(8)
        assert first.rows == 4
        np.testing.assert_array_equal(np.asarray(first.x), X[:4])
        np.testing.assert_array_equal(np.asarray(first.y), Y[:4])
        again = stream.x if hasattr(stream.x, "__iter__") else [stream.x[number] for number in range(5)]
        epoch = [np.asarray(batch[0]) for _, batch in zip(range(5), again, strict=False)]
        np.testing.assert_array_equal(np.concatenate(epoch), X)


def test_a_stream_alone():
    assert opened(tf_data).train.is_stream
    assert describe(opened(tf_data, name="mine")).startswith("mine (called 20")
    assert describe(opened(tf_data)).endswith("): 5 batches train (BatchDataset)")
    assert "train (" in describe(opened(batches))


def test_a_pair_of_streams_is_for_training_and_validation():
    data = opened(lambda: (tf_data(), tf_data(), (X, Y)), validation=None)
    assert data.train.is_stream and data.validation.is_stream and data.test.rows == 20
    data = data.open()
    assert data.validation.as_validation is data.validation.x
    assert len(list(data.training_and_validation().x)) == 10


def test_a_list_beside_a_stream_becomes_an_array():
    data = opened(lambda: {"train": tf_data(), "x_val": X.tolist(), "y_val": Y.tolist()}, validation=None)
    assert data.validation.x.shape == (20, 2)


def test_two_streams_are_joined_where_they_can_be():
    assert len(list(chain(tf_data(), tf_data()))) == 10
    for streams in ((Batches(), Batches()), (batches(), batches()), (tf_data().repeat(), tf_data())):
        with pytest.raises(InputError, match=r"training.refit: an? (endless )?\w+ cannot be joined"):
            chain(*streams)


def test_the_first_batch_of_a_generator_stays_in_it():
    stream = Examples(batches())
    np.testing.assert_array_equal(stream.batch(2).x, X[:4])
    assert isinstance(stream.x, types.GeneratorType) and len(list(stream.x)) == 5


def test_what_is_no_stream():
    assert not any(is_stream(each) for each in (X, [X], {"a": X}, iter([X]), batches, None))


@pytest.mark.parametrize(
    ("returned", "settings", "message"),
    [
        (tf_data, {"validation": None}, "data.validation: the function '.*' is a stream, which cannot be split: give"),
        (tf_data, {"validation": 0.2}, "data.validation: the function '.*' is a stream, which cannot be split"),
        (lambda: (tf_data(), tf_data()), {"validation": 0.2}, "data.validation: .* has validation data of its own"),
        (tf_data, {"train": 10}, "data.train: the function '.*' is a stream, which cannot be split: leave it out"),
        (tf_data, {"test": 0.5}, "data.test: the function '.*' is a stream, which cannot be split: leave it out"),
        (lambda: {"x_train": tf_data(), "y_train": Y}, {}, "x_train of .* is a stream, .*: leave y_train out"),
        (lambda: {"train": (tf_data(), Y)}, {}, "train of .* is a stream, .*: leave what stands beside it out"),
        (lambda: {"train": tf_data(), "sample_weight": Y}, {}, "train of .* is a stream, .*: leave sample_weight out"),
        (lambda: {"train": tf_data(), "groups": Y}, {}, "has groups, and a stream, which cannot be split"),
        (
            lambda: {"train": tf_data(), "valid": tf_data()},
            {},
            "has the unknown name 'valid'; did you mean",
        ),
        (lambda: {"validation": tf_data()}, {"validation": None}, "has no training data: it has validation"),
        (lambda: {"train": lambda: 3}, {}, "train is a function that returned a int: it must be a generator"),
        (lambda: {"train": tf_data(), "x_val": X, "y_val": Y[:3]}, {}, "has 20 rows in x_val, but 3 in y_val"),
        (lambda: lambda: iter(()), {}, "returned a function: it must be"),
        (lambda: {"train": lambda: (each for each in ())}, {}, "the generator ends before its first batch"),
    ],
)
def test_bad_streams(returned, settings, message):
    with pytest.raises(InputError, match=message):
        opened(returned, **settings)


def test_no_folds_and_no_share_of_a_stream():
    specification = DataSpecification(function=lambda: (tf_data(), tf_data()))
    data = load_data(specification)
    with pytest.raises(InputError, match=r"training.folds: a stream has no rows"):
        folds_of(data, 3, specification)
    with pytest.raises(InputError, match=r"fidelity.min_share: a stream has no share"):
        data.portion(0.5, 0)


def test_other_backends_keep_the_batches_of_a_generator_that_does_not_train(monkeypatch):
    monkeypatch.setattr("hpcompss.training.backends.chosen_backend", lambda: "jax")
    kept = restarting(batches, to_train=False)
    assert len(kept) == 5 and np.array_equal(kept[1][0], X[4:8]) and is_stream(kept)
    endless = restarting(batches)
    assert [len(next(endless)[0]) for _ in range(12)] == [4] * 12


def test_a_joined_generator_still_begins_anew():
    assert getattr(chain(restarting(batches), restarting(batches)), RESTARTS)
