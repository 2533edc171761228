from __future__ import annotations

import numpy as np
import pytest

from hpcompss.errors import InputError

X = np.arange(40.0).reshape(20, 2)
Y = np.arange(20) % 2


def test_types(load, archive_of):
    data = load(path=archive_of(x_train=X, y_train=Y.astype(np.uint8).reshape(-1, 1), x_test=X, y_test=Y))
    assert data.train.x.dtype == np.float64 and data.train.x.shape == (16, 2)
    assert data.train.y.dtype == np.uint8 and data.train.y.shape == (16, 1)
    assert data.test.x.dtype == np.float64 and data.test.y.dtype == np.int64
    assert data.class_names == ()


def test_regression(load, archive_of):
    data = load(path=archive_of(x_train=np.arange(20, dtype=">i4"), y_train=np.linspace(0, 1, 20)))
    assert data.train.y.dtype == np.float64
    assert data.train.x.dtype == np.dtype(">i4")
    np.testing.assert_allclose(data.validation.y, data.validation.x / 19, rtol=1e-6)


def test_a_file_may_have_any_name(load, archive_of, tmp_path):
    path = archive_of(x_train=X, y_train=Y).rename(tmp_path / "table.data")
    assert len(load(path=path).train.y) == 16


def test_a_changed_file_is_read_again(load, archive_of):
    assert len(load(path=archive_of(x_train=X, y_train=Y)).train.y) == 16
    assert len(load(path=archive_of(x_train=X[:10], y_train=Y[:10])).train.y) == 8


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": X}, "has the unknown name 'images'; known: groups, "),
        ({"x_train": X, "y_train": Y, "X_test": X}, r"has the unknown name 'X_test'; did you mean 'x_test'\?"),
        ({"x_train": X, "y_train": Y, "x_valid": X}, r"has the unknown name 'x_valid'; did you mean 'x_val'\?"),
        ({"y_train": Y}, "has no x_train: it has y_train"),
        ({"x_train": X, "x_test": X, "y_test": Y}, "has y_test, but no y_train"),
        ({"x_train": X, "y_train": Y, "x_val": X}, "has y_train, but no y_val"),
        ({"x_train": X, "y_train": Y, "y_test": Y}, "has no x_test: it has x_train, y_train, y_test"),
        ({"x_train": X, "y_train": Y[:5]}, "has 20 rows in x_train, but 5 in y_train"),
        ({"x_train": X[:0], "y_train": Y[:0]}, "is empty"),
        ({"x_train": X, "y_train": np.array(3)}, "y_train of .* has no rows: it is a single value"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :1], "y_test": Y}, r"\(2,\) in x_train, but \(1,\) in x_test"),
        ({"x_train": X, "y_train": np.array([None] * 20)}, "cannot read y_train of .*: Object arrays"),
    ],
)
def test_bad_arrays(load, archive_of, arrays, message):
    with pytest.raises(InputError, match=f"data.path: .*data.npz.*{message}|data.path: .*{message}"):
        load(path=archive_of(**arrays))


def test_a_damaged_file(load, archive_of):
    path = archive_of(x_train=X, y_train=Y)
    content = bytearray(path.read_bytes())
    content[200:220] = b"x" * 20
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read x_train of '.*data.npz': Bad CRC"):
        load(path=path)


def test_no_image_size(load, archive_of):
    with pytest.raises(InputError, match=r"data.image_size: resizes image files only, and '.*' holds arrays"):
        load(path=archive_of(x_train=X, y_train=Y), image_size=(8, 8))
