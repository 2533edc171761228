from __future__ import annotations

import pickle
import struct
from typing import ClassVar

import numpy as np
import pytest

from hpcompss.errors import InputError


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 did, in which the official batches were made."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, value):
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)

    dispatch[bytes] = save_string


def write_batch(path, batch):
    with path.open("wb") as file:
        Python2Pickler(file, 2).dump(batch)


@pytest.fixture
def batches(tmp_path):
    """Six batches of ten images: image i of class i has red = i, green = 100 and blue = the batch's number."""
    root = tmp_path / "cifar-10-batches-py"
    root.mkdir()
    for batch, name in enumerate(["test_batch", *(f"data_batch_{number}" for number in range(1, 6))]):
        planes = [[[image] * 1024, [100] * 1024, [batch] * 1024] for image in range(10)]
        data = np.array(planes, np.uint8).reshape(10, 3072)
        write_batch(root / name, {b"batch_label": b"", b"labels": list(range(10)), b"data": data})
    return root


def test_they_are_read(load, batches, pack, tmp_path):
    archive = pack(batches, tmp_path / "cifar-10-python.tar.gz", "cifar-10-batches-py")
    for path in (batches, batches.parent / "cifar-10-batches-py", archive):
        data = load(path=path)
        both = data.training_and_validation()
        x, y = both.x, both.y
        assert x.shape == (50, 32, 32, 3) and x.dtype == np.uint8
        np.testing.assert_array_equal(x[:, 5, 7, 0], y)
        assert np.all(x[..., 1] == 100)
        assert sorted(set(x[..., 2].ravel())) == [1, 2, 3, 4, 5]
        assert data.test.x.shape == (10, 32, 32, 3) and np.all(data.test.x[..., 2] == 0)
        assert data.class_names[data.test.y[3]] == "cat"


def test_a_missing_batch(load, batches):
    (batches / "data_batch_4").unlink()
    with pytest.raises(InputError, match="lacks the batch 'data_batch_4' of CIFAR-10"):
        load(path=batches)


def test_a_cut_off_batch(load, batches):
    path = batches / "data_batch_4"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"cannot read the CIFAR-10 batch '.*/data_batch_4'"):
        load(path=batches)


def test_labels_that_do_not_match(load, batches):
    write_batch(batches / "data_batch_4", {b"labels": [1, 2], b"data": np.zeros((3, 3072), np.uint8)})
    with pytest.raises(InputError, match=r"data_batch_4' has 2 labels and pixels of shape \(3, 3072\)"):
        load(path=batches)


def test_a_batch_that_would_run_code(load, batches, tmp_path):
    (batches / "data_batch_4").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.")
    with pytest.raises(InputError, match=r"it holds os.system, which is not an array"):
        load(path=batches)
    assert not (tmp_path / "ran").exists()


def test_no_image_size(load, batches):
    with pytest.raises(InputError, match=r"data.image_size: resizes image files only, and '.*' holds arrays"):
        load(path=batches, image_size=(8, 8))
