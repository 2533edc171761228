from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hpcompss.errors import InputError
from hpcompss.training.data import DataSet, Examples, describe

ROOT = Path(__file__).parents[3]
CIFAR10 = ROOT.parent / "shared" / "data" / "cifar10-images.tar.gz"


def test_importing_it_is_light():
    heavy = ["numpy", "PIL", "sklearn", "keras"]
    code = f"import sys, hpcompss.training.data; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True).stdout == b"[]\n"


def test_an_absent_path(load, tmp_path):
    with pytest.raises(InputError, match=r"data.path: no such file or folder: '.*absent.npz'"):
        load(path=tmp_path / "absent.npz")


def test_a_broken_link_in_a_folder(load, class_folders):
    (class_folders / "train" / "cat" / "11.png").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"data.path: cannot read '.*/train/cat/11.png': No such file"):
        load(path=class_folders)


@pytest.mark.parametrize("content", [b"", b"name,age\n", b"PK\x03\x04 not really a zip"])
def test_a_file_of_unknown_format(load, tmp_path, content):
    (tmp_path / "table.data").write_bytes(content)
    with pytest.raises(InputError, match=r"data.path: the format of '.*table.data' is unknown: looked for an .npz"):
        load(path=tmp_path / "table.data")


def test_an_empty_folder(load, tmp_path):
    with pytest.raises(InputError, match=r"data.path: '.*' is empty: looked for an .npz file"):
        load(path=tmp_path)


def test_a_folder_of_other_files(load, tmp_path):
    (tmp_path / "table.csv").write_text("")
    with pytest.raises(InputError, match=r"data.path: '.*' holds 1 files of another kind: looked for"):
        load(path=tmp_path)


def test_the_description_of_each_kind_of_target():
    x = np.zeros((4, 3), np.float32)
    for y, words in [
        (np.zeros(4, np.float32), "regression of 1 value"),
        (np.zeros((4, 2), np.float32), "regression of 2 values"),
        (np.zeros((4, 5), np.int64), "5 labels each"),
        (np.array([0, 1, 1, 2]), "3 classes"),
    ]:
        assert (
            describe(DataSet(Examples(x, y), Examples(x, y), name="it"))
            == f"it: 4 train, 4 validation; 3 float32; {words}"
        )


@pytest.mark.slow
@pytest.mark.skipif(not CIFAR10.exists(), reason="the real CIFAR-10 is not at hand")
def test_the_real_cifar10(load):
    data = load(name="cifar10", path=CIFAR10, train=10_000, validation=0.2, test=0.5)
    assert describe(data) == "cifar10: 8,000 train, 2,000 validation, 5,000 test; 32 x 32 x 3 uint8; 10 classes"
    assert np.bincount(data.train.y).tolist() == [800] * 10
    assert np.bincount(data.validation.y).tolist() == [200] * 10
    assert np.bincount(data.test.y).tolist() == [500] * 10
    assert data.class_names[:2] == ("airplane", "automobile")
    # Known of CIFAR-10: its pixels' mean brightness is about 0.473 of 255.
    assert data.train.x.mean() / 255 == pytest.approx(0.473, abs=0.01)


def test_the_description_of_each_kind_of_features():
    import pandas

    frame, x, y = pandas.DataFrame({"a": [1, 2], "b": ["u", "v"]}), np.zeros((2, 3)), np.zeros(2)
    for features, words in [
        (frame, "2 columns"),
        ({"table": frame}, "2 columns"),
        ({"image": x, "text": np.array(["a", "b"])}, "image 3 float64, text 1 text"),
        ([x, [x, frame]], "0 3 float64, 1[0] 3 float64, 1[1] 2 columns"),
    ]:
        assert describe(DataSet(Examples(features, y), None, name="it")).split("; ")[1] == words
