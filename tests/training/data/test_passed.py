from __future__ import annotations

import numpy as np
import pandas
import pytest

from hpcompss.errors import InputError, shown
from hpcompss.training.data import DataSpecification, load_data
from hpcompss.training.data.passed import data_section
from hpcompss.training.data.specification import ValidationSplit
from hpcompss.workflow import make_workflow

X = np.arange(80, dtype=np.float32).reshape(40, 2)
Y = np.arange(40).reshape(40, 1) % 2
W = np.linspace(0, 1, 40)


def loaded(data, validation_data=None, test_data=None):
    section = data_section(data, validation_data, test_data)
    if isinstance(section.get("validation"), dict):
        section["validation"] = ValidationSplit(**section["validation"])
    return load_data(DataSpecification(**section))


@pytest.mark.parametrize(
    "data",
    [(X, Y), (X, Y, W), {"x_train": X, "y_train": Y}, {"train": (X, Y)}, {"x_train": X, "y_train": Y, "seed": 3}],
)
def test_forms_of_arrays(data):
    found = loaded(data)
    assert (found.train.rows, found.validation.rows, found.test) == (32, 8, None)
    assert found.train.x.dtype == np.float32 and found.train.y.shape == (32, 1)
    assert (found.train.weights is not None) == (len(data) == 3 and isinstance(data, tuple))
    assert found.name == "data" and isinstance(found.train.x, np.memmap)


def test_parts_beside_the_data():
    found = loaded((X, Y), [X[:5], Y[:5]], (X[:4], Y[:4]))
    assert (found.train.rows, found.validation.rows, found.test.rows) == (40, 5, 4)
    np.testing.assert_array_equal(found.train.x, X)


def test_frames_and_several_inputs():
    frame = pandas.DataFrame(X, columns=["a", "b"])
    found = loaded(({"table": frame, "image": [X, X]}, Y))
    assert list(found.train.x["table"].columns) == ["a", "b"]
    np.testing.assert_array_equal(found.train.x["table"].to_numpy(), found.train.x["image"][0])


def test_settings_stand_beside_arrays():
    found = loaded({"x_train": X, "y_train": Y, "test": 0.25, "validation": {"share": 10, "order": "as_given"}})
    assert (found.train.rows, found.validation.rows, found.test.rows) == (20, 10, 10)
    np.testing.assert_array_equal(found.train.x, X[:20])
    assert data_section({"name": "digits", "train": 50}) == {"name": "digits", "train": 50}
    assert data_section("digits") == "digits" and data_section(None) is None


def test_a_function_stays_one():
    def make():
        return X, Y

    assert data_section(make) == {"function": make}
    assert loaded(make).train.rows == 32


def test_the_same_arrays_are_kept_once(cache):
    first, second, other = data_section((X, Y)), data_section((X.copy(), Y.copy())), data_section((X + 1, Y))
    assert first == second != other
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 2


def test_arrays_with_nan_are_refused_although_they_are_in_the_cache():
    data = {"x_train": X, "y_train": np.full(40, np.nan)}
    loaded({**data, "allow_nan": True})
    with pytest.raises(InputError, match=r"data: y_train of the data passed has NaN in 40 of 40 rows"):
        loaded(data)


def test_arrays_that_are_gone_from_the_cache():
    with pytest.raises(InputError, match=r"data: the arrays of this study are not in the cache of this machine"):
        load_data(DataSpecification(arrays="arrays-0123"))


def test_streams_that_can_be_sent_are(cache):
    keras = pytest.importorskip("keras")

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, number):
            return X[:4] + number, Y[:4]

    found = loaded(Batches(), Batches(), (X, Y))
    assert found.name == "data" and found.test.rows == 40
    assert found.open().train.x[1][0][0, 0] == 1
    with pytest.raises(InputError, match=r"data.validation: the data passed is a stream, which cannot be split"):
        loaded(Batches())


def test_streams_that_cannot_be_sent():
    tensorflow = pytest.importorskip("tensorflow")
    data = tensorflow.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    for given in (data, ((X, Y), data), {"train": (data,), "x_val": X, "y_val": Y}, (each for each in ())):
        with pytest.raises(
            InputError, match=r"data of the class (_BatchDataset|generator) cannot be sent to workers: pass"
        ):
            data_section(given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([X, Y],), "data: data is a list of 2: it must be"),
        (((X, Y[:5]),), "data: the data passed has 40 rows in x_train, but 5 in y_train"),
        (((X, Y, W[:7]),), "data: the data passed has 40 rows in x_train, but 7 in sample_weight_train"),
        (({"x_train": X, "y_train": Y, "x_valid": X},), "the data passed has the unknown name 'x_valid'; did you mean"),
        (("digits", None, (X, Y)), "test_data: test_data goes with data that is passed as arrays"),
        ((((X, Y), (X, Y)), None, (X, Y)), "test_data: data has a part for test, too: leave one out"),
        (({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y}, None, (X, Y)), "has both test and x_test"),
        (((X, Y), (X,)), "the data passed has y_train, but no y_val"),
    ],
)
def test_bad_data(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        data_section(*arguments)
    assert "[[" not in str(caught.value) and "0." not in str(caught.value)


@pytest.mark.parametrize(
    "sections",
    [
        {"data": {"name": X}},
        {"data": {"name": "digits", "train": X}},
        {"data": {"name": "digits", "validation": [X, Y]}},
        {"data": {"name": "digits", "image_size": X}},
        {"data": {"path": "a.csv", "target": X}},
        {"data": X},
        {"data": [X, Y]},
        {"search": {"trials": X}},
        {"training": (X, Y)},
        {"objective": pandas.DataFrame(X)},
        {"engine": {"workers": X}},
    ],
)
def test_no_message_prints_an_array(sections):
    with pytest.raises(InputError) as caught:
        make_workflow({"model": "a.py:build", "data": {"name": "digits"}, "objective": "loss", **sections})
    assert len(str(caught.value)) < 250 and "[[" not in str(caught.value) and "2." not in str(caught.value)


def test_values_are_shown_in_a_few_words():
    assert shown(X) == "an array of shape (40, 2)"
    assert shown([X, "a"]) == "[an array of shape (40, 2), 'a']"
    assert shown(pandas.DataFrame(X)) == "a DataFrame of shape (40, 2)"
    assert len(shown("x" * 200)) == 80 and "..." in shown("x" * 200)
    assert shown(np.float64(2)) == "np.float64(2.0)" and shown(3) == "3" and shown("a b") == "'a b'"
