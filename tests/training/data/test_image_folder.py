from __future__ import annotations

import shutil
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from hpcompss.errors import InputError, MissingExtraError


def brightness(images):
    return sorted(images[:, 0, 0, 0].tolist())


def check_pets(data):
    assert data.class_names == ("cat", "dog")
    both = data.training_and_validation()
    x, y = both.x, both.y
    assert x.dtype == np.uint8 and x.shape == (20, 4, 4, 3) and y.dtype == np.int64
    assert brightness(x[y == 0]) == list(range(10))
    assert brightness(x[y == 1]) == list(range(200, 210))
    assert brightness(data.test.x[data.test.y == 1]) == [200, 201, 202]


def test_a_folder_of_training_and_test_images(load, class_folders):
    check_pets(load(path=class_folders))


@pytest.mark.parametrize("name", ["pets.tar.gz", "pets.tgz", "pets.tar"])
@pytest.mark.parametrize("inside", [".", "pets", "a/b"])
def test_an_archive_of_training_and_test_images(load, class_folders, pack, tmp_path, name, inside):
    check_pets(load(path=pack(class_folders, tmp_path / name, inside)))


def test_class_folders_without_parts(load, class_folders):
    data = load(path=class_folders / "train", test=0.2)
    assert (len(data.train.y), len(data.validation.y), len(data.test.y)) == (13, 3, 4)
    assert load(path=class_folders / "train").test is None
    assert data.class_names == ("cat", "dog")


def test_a_validation_folder(load, class_folders, write_image):
    for name in ("cat", "dog"):
        write_image(class_folders / "val" / name / "1.png", 77)
    data = load(path=class_folders)
    assert brightness(data.validation.x) == [77, 77]
    assert len(data.train.y) == 20


def test_images_may_lie_deeper_in_a_class(load, tmp_path, write_image):
    for name in ("cat", "dog"):
        for number in range(5):
            write_image(tmp_path / "train" / name / "images" / f"{number}.jpg", number)
    assert load(path=tmp_path).class_names == ("cat", "dog")


def test_a_class_may_be_called_train(load, tmp_path, write_image):
    for number in range(5):
        write_image(tmp_path / "vehicles" / "bus" / f"{number}.png")
        write_image(tmp_path / "vehicles" / "train" / f"{number}.png")
    assert load(path=tmp_path).class_names == ("bus", "train")


def test_other_files_are_left_alone(load, class_folders):
    (class_folders / "README.txt").write_text("pets")
    (class_folders / "train" / "cat" / "._1.png").write_text("not an image")
    (class_folders / "train" / ".checkpoints").mkdir()
    check_pets(load(path=class_folders))


def test_a_changed_folder_is_read_again(load, class_folders, write_image):
    check_pets(load(path=class_folders))
    write_image(class_folders / "train" / "cat" / "10.png", 10)
    assert len(load(path=class_folders).training_and_validation().y) == 21


def test_grey_images_have_one_channel(load, tmp_path, write_image):
    for number in range(5):
        write_image(tmp_path / "a" / f"{number}.png", 1, mode="L")
        write_image(tmp_path / "b" / f"{number}.png", 2, mode="LA")
    assert load(path=tmp_path).train.x.shape[1:] == (4, 4, 1)


def test_grey_images_among_colour_images(load, tmp_path, write_image):
    for number in range(5):
        write_image(tmp_path / "a" / f"{number}.png", number, mode="L")
        write_image(tmp_path / "b" / f"{number}.png", 10 + number, mode="RGBA")
    x = load(path=tmp_path).training_and_validation().x
    assert x.shape == (10, 4, 4, 3)
    assert brightness(x) == [*range(5), *range(10, 15)]


def test_images_are_resized(load, class_folders, write_image):
    write_image(class_folders / "train" / "cat" / "large.png", 5, height=20, width=30)
    assert load(path=class_folders, image_size=(6, 8)).train.x.shape[1:] == (6, 8, 3)


def test_images_of_different_sizes(load, class_folders, write_image):
    write_image(class_folders / "train" / "cat" / "large.png", height=20, width=30)
    with pytest.raises(InputError) as error:
        load(path=class_folders)
    assert str(error.value) == (
        "data.path: images differ in size: 'test/cat/0.png' is 4 x 4, 'train/cat/large.png' is 20 x 30 "
        "(height x width); state data.image_size: [height, width] to resize them"
    )


def test_a_cut_off_image(load, tmp_path, write_image):
    for number in range(3):
        write_image(tmp_path / "a" / f"{number}.jpg", height=40, width=40)
        path = write_image(tmp_path / "b" / f"{number}.jpg", height=40, width=40)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"cannot decode the image '.*/b/2.jpg': .*[Tt]runcated"):
        load(path=tmp_path)


def test_a_file_that_is_no_image(load, class_folders):
    (class_folders / "train" / "cat" / "1.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"cannot decode the image '.*/train/cat/1.png'"):
        load(path=class_folders)


def test_an_image_of_16_bits(load, class_folders):
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(class_folders / "train" / "cat" / "1.png")
    with pytest.raises(InputError, match=r"1.png' has more than 8 bits a channel"):
        load(path=class_folders)


def test_a_cut_off_archive(load, tmp_path, pack):
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        noise = np.random.RandomState(0).randint(0, 255, (50, 50, 3)).astype(np.uint8)
        Image.fromarray(noise).save(tmp_path / "images" / name / "1.png")
    archive = pack(tmp_path / "images", tmp_path / "images.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-3000])
    with pytest.raises(InputError, match=r"the archive '.*images.tar.gz' is damaged or cut off"):
        load(path=archive)


def test_links_in_an_archive(load, class_folders, tmp_path):
    with tarfile.open(tmp_path / "links.tar", "w") as tar:
        tar.add(class_folders, ".")
        link = tarfile.TarInfo("train/cat/link.png")
        link.type, link.linkname = tarfile.LNKTYPE, "train/cat/1.png"
        tar.addfile(link)
    with pytest.raises(InputError, match=r"'train/cat/link.png' in '.*' is a link"):
        load(path=tmp_path / "links.tar")


def test_images_without_class_folders(load, tmp_path, write_image):
    write_image(tmp_path / "1.png")
    with pytest.raises(InputError, match=r"labels are missing: the images in '.*' are not in one folder a class"):
        load(path=tmp_path)


def test_train_and_test_without_class_folders(load, tmp_path, write_image):
    write_image(tmp_path / "train" / "1.png")
    write_image(tmp_path / "test" / "1.png")
    with pytest.raises(InputError, match=r"labels are missing: .* trainLabels.csv"):
        load(path=tmp_path)


def test_one_class(load, class_folders):
    shutil.rmtree(class_folders / "test")
    shutil.rmtree(class_folders / "train" / "dog")
    with pytest.raises(InputError, match="has one class only, 'cat'"):
        load(path=class_folders)


def test_an_image_beside_the_class_folders(load, class_folders, write_image):
    write_image(class_folders / "preview.png")
    with pytest.raises(InputError, match=r"the image 'preview.png' in '.*' is not in a class folder of train, test"):
        load(path=class_folders)
    write_image(class_folders / "train" / "preview.png")
    with pytest.raises(InputError, match=r"the image 'preview.png' in '.*' is in no class folder"):
        load(path=class_folders / "train")


def test_a_part_of_unknown_name(load, class_folders):
    (class_folders / "test").rename(class_folders / "tests")
    with pytest.raises(InputError, match=r"the image 'tests/cat/0.png' in '.*' is not in a class folder"):
        load(path=class_folders)


def test_parts_of_unknown_names(load, class_folders):
    (class_folders / "train").rename(class_folders / "training")
    (class_folders / "test").rename(class_folders / "testing")
    with pytest.raises(InputError, match="cannot tell whether 'testing' or 'testing/cat' is a class"):
        load(path=class_folders)


@pytest.mark.parametrize("part", ["train", "test"])
def test_an_empty_class(load, class_folders, pack, tmp_path, part):
    (class_folders / part / "emu").mkdir()
    for path in (class_folders, pack(class_folders, tmp_path / "pets.tar.gz")):
        with pytest.raises(InputError, match=f"the class folder '{part}/emu' in '.*' holds no image"):
            load(path=path)


def test_an_empty_class_without_parts(load, class_folders):
    (class_folders / "train" / "emu").mkdir()
    with pytest.raises(InputError, match=r"the class folder 'emu' in '.*' holds no image"):
        load(path=class_folders / "train")


def test_a_class_of_the_test_set_only(load, class_folders, write_image):
    write_image(class_folders / "test" / "emu" / "1.png")
    with pytest.raises(InputError, match="has images of the class 'emu' for test, but none for train"):
        load(path=class_folders)


def test_without_pillow(load, class_folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"reading image files needs pillow: .*hpcompss\[tensorflow\]"):
        load(path=class_folders)
