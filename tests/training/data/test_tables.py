from __future__ import annotations

import sys

import numpy as np
import pandas
import pytest

from hpcompss.errors import InputError, MissingExtraError
from hpcompss.training.data import describe, load_folds
from hpcompss.training.data.loading import load_data_once
from hpcompss.training.data.specification import DataSpecification, ValidationSplit

TABLE = pandas.DataFrame(
    {
        "size": np.arange(40.0),
        "rooms": np.arange(40) % 5,
        "patient": np.repeat(np.arange(10), 4),
        "weight": np.linspace(1, 2, 40),
        "kind": ["cat", "dog", "cat", "bird"] * 10,
        "price": np.arange(40) * 10.0,
    }
)


@pytest.fixture(params=["csv", "csv.gz", "tsv", "parquet"])
def table(request, tmp_path):
    path = tmp_path / f"table.{request.param}"
    if request.param == "parquet":
        TABLE.to_parquet(path)
    else:
        TABLE.to_csv(path, index=False, sep="\t" if request.param == "tsv" else ",")
    return path


@pytest.fixture
def csv(tmp_path):
    TABLE.to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


def test_each_format(load, table):
    data = load(path=table, target="price")
    assert list(data.train.x.columns) == ["size", "rooms", "patient", "weight", "kind"]
    np.testing.assert_array_equal(data.train.x["size"] * 10, data.train.y)
    assert data.train.y.name == "price" and len(data.train.y) == 32


def test_features_and_weights(load, csv):
    data = load(path=csv, target="price", features=("rooms", "size"), weights="weight", validation=8)
    assert list(data.train.x.columns) == ["rooms", "size"]
    np.testing.assert_allclose(data.train.weights, 1 + data.train.x["size"] / 39)
    assert "weights of the rows" in describe(data)
    assert "weight" not in load(path=csv, target="price", weights="weight").train.x.columns


def test_words_are_classes_with_names(load, csv):
    data = load(path=csv, target="kind")
    assert data.class_names == ("bird", "cat", "dog")
    assert data.train.y.dtype == np.int64
    assert np.bincount(data.validation.y).tolist() == [2, 4, 2]
    assert describe(data).endswith("5 columns; 3 classes")


def test_several_targets(load, csv):
    assert list(load(path=csv, target=("price", "size")).train.y.columns) == ["price", "size"]


def test_groups_stay_together_and_are_no_feature(load, csv):
    data = load(path=csv, target="kind", test=0.2, validation=ValidationSplit(0.25, groups="patient"))
    assert "patient" not in data.train.x.columns
    patients = [set((part.x["size"] // 4).astype(int)) for part in (data.train, data.validation, data.test)]
    assert sorted(number for each in patients for number in each) == list(range(10))
    assert sum(part.rows for part in (data.train, data.validation, data.test)) == 40


def test_folds_of_groups_and_of_a_column(csv):
    load_data_once.cache_clear()
    specification = DataSpecification(path=csv, target="price", validation=ValidationSplit(groups="patient"))
    for fold in load_folds(specification, 5):
        ours, theirs = (set(part.x["size"] // 4) for part in (fold.train, fold.validation))
        assert not ours & theirs and len(ours | theirs) == 10
    specification = DataSpecification(path=csv, target="price", validation=ValidationSplit(stratify="kind"))
    for fold in load_folds(specification, 5):
        kinds = TABLE["kind"].iloc[fold.validation.x["size"].astype(int)]
        assert kinds.value_counts().to_dict() == {"cat": 4, "dog": 2, "bird": 2}


def test_a_changed_table_is_read_again(load, csv):
    assert len(load(path=csv, target="price").train.y) == 32
    TABLE[:20].to_csv(csv, index=False)
    assert len(load(path=csv, target="price").train.y) == 16


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, r"data.target: state which column of '.*table.csv' is the target: it has size, rooms, patient, weight"),
        ({"target": "prize"}, r"data.target: '.*table.csv' has no column 'prize'; did you mean 'price'\?"),
        ({"target": "price", "features": ("sise",)}, r"data.features: '.*' has no column 'sise'; did you mean 'size'"),
        ({"target": "price", "weights": "wait"}, r"data.weights: '.*' has no column 'wait'"),
        ({"target": "price", "weights": "kind"}, r"data.weights: the column 'kind' of '.*' holds .*, not numbers"),
        ({"target": "price", "features": ("price",)}, "data.features: 'price' is the target or the weight"),
        (
            {"target": "price", "validation": ValidationSplit(groups="patience")},
            r"data.validation.groups: '.*' has no column 'patience'; did you mean 'patient'\?",
        ),
        (
            {"target": "price", "validation": ValidationSplit(stratify="king")},
            r"data.validation.stratify: '.*' has no column 'king'; did you mean 'kind'\?",
        ),
        (
            {"target": "price", "validation": ValidationSplit(stratify=True)},
            "data.validation.stratify: the targets are no classes",
        ),
        ({"target": "price", "image_size": (8, 8)}, "data.image_size: resizes image files only"),
    ],
)
def test_bad_columns(load, csv, keys, message):
    with pytest.raises(InputError, match=message):
        load(path=csv, **keys)


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("", "a", "data.path: cannot read '.*': No columns"),
        ("a,b\n", "a", "data.path: '.*' has no rows"),
        ("a\n1\n2\n", "a", "data.features: '.*' has no column for a feature"),
        ("a,b\n1,2\n,3\n5,6\n", "a", "data.path: y_train of '.*' has NaN in 1 of 3 rows: remove them"),
        ("a,b\nx,2\n,3\ny,6\n", "a", "data.target: the column 'a' is empty in 1 rows: fill or remove them"),
        ('a,b\n"1,2\n', "a", "data.path: cannot read '.*'"),
    ],
)
def test_bad_tables(load, tmp_path, text, target, message):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        load(path=tmp_path / "bad.csv", target=target)


def test_columns_of_what_is_no_table(load, archive_of, class_folders):
    for path in (archive_of(x_train=np.zeros(5), y_train=np.zeros(5)), class_folders):
        with pytest.raises(InputError, match=r"data.target: names columns of a table, and '.*' is none"):
            load(path=path, target="price")


@pytest.mark.parametrize(("missing", "name"), [("pandas", "table.csv"), ("pyarrow", "table.parquet")])
def test_without_the_extra(load, tmp_path, monkeypatch, missing, name):
    (tmp_path / name).write_text("a,b\n1,2\n")
    monkeypatch.setitem(sys.modules, missing, None)
    if missing == "pyarrow":  # what pandas raises without it
        monkeypatch.setattr(pandas, "read_parquet", lambda path: pandas.io.parquet.get_engine("none"))
        monkeypatch.setattr(pandas.io.parquet, "get_engine", _no_engine)
    with pytest.raises(MissingExtraError, match=rf"the table '{name}' needs {missing}: .*hpcompss\[tables\]"):
        load(path=tmp_path / name, target="a")


def _no_engine(engine):
    raise ImportError("Unable to find a usable engine")
