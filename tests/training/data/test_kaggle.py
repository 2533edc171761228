from __future__ import annotations

import numpy as np
import pytest

from hpcompss.errors import InputError


@pytest.fixture
def competition(tmp_path, write_image):
    """Ten labelled images, whose brightness is their id, and a test image without a label."""
    root = tmp_path / "competition"
    for number in range(1, 11):
        write_image(root / "train" / f"{number}.png", number)
    write_image(root / "test" / "1.png")
    write_table(root, {number: "frog" if number % 2 else "cat" for number in range(1, 11)})
    return root


def write_table(root, labels, header="id,label"):
    rows = [f"{number},{label}" for number, label in labels.items()]
    (root / "trainLabels.csv").write_text("\n".join([header, *rows]) + "\n")


def test_it_is_read(load, competition, pack, tmp_path):
    for path in (competition, pack(competition, tmp_path / "cifar.tar.gz", "cifar-10")):
        data = load(path=path)
        both = data.training_and_validation()
        x, y = both.x, both.y
        assert data.class_names == ("cat", "frog")
        assert data.test is None
        np.testing.assert_array_equal(x[:, 0, 0, 0] % 2, y)


def test_a_test_set_is_split_off_when_asked(load, competition):
    assert len(load(path=competition, test=2).test.y) == 2


def test_without_the_table(load, competition):
    (competition / "trainLabels.csv").unlink()
    with pytest.raises(InputError, match=r"labels are missing: .* nor is there Kaggle's trainLabels.csv"):
        load(path=competition)


def test_an_image_without_a_label(load, competition, write_image):
    write_image(competition / "train" / "11.png")
    with pytest.raises(InputError, match=r"trainLabels.csv has no label for the image '11' of train/"):
        load(path=competition)


def test_a_label_without_an_image(load, competition):
    (competition / "train" / "3.png").unlink()
    (competition / "train" / "4.png").unlink()
    with pytest.raises(InputError, match=r"names the image '3', which is not in train/ \(and 1 others\)"):
        load(path=competition)


def test_other_columns(load, competition):
    write_table(competition, {1: "cat"}, header="number,class")
    with pytest.raises(InputError, match=r"'trainLabels.csv' in '.*' lacks the columns id and label"):
        load(path=competition)


def test_images_not_unpacked(load, tmp_path):
    write_table(tmp_path, {1: "cat"})
    with pytest.raises(InputError, match=r"has trainLabels.csv, but no images in train/"):
        load(path=tmp_path)
