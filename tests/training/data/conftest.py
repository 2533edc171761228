"""Small data sets of every format, made where a test runs."""

from __future__ import annotations

import io
import os
import tarfile

import numpy as np
import pytest
from PIL import Image

from hpcompss.training.data import DataSpecification, load_data


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """The cache of this test alone."""
    directory = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HPCOMPSS_CACHE", str(directory))
    return directory


@pytest.fixture
def load():
    """Loads the data that the keywords of a specification state."""
    return lambda **keys: load_data(DataSpecification(**keys))


def image_bytes(pixels, mode="RGB", suffix=".png"):
    stream = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).convert(mode).save(stream, Image.registered_extensions()[suffix])
    return stream.getvalue()


@pytest.fixture
def write_image():
    """Writes an image file of one brightness, with its folders."""

    def write(path, brightness=0, *, height=4, width=4, mode="RGB"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_bytes(np.full((height, width), brightness), mode, path.suffix))
        return path

    return write


@pytest.fixture
def class_folders(tmp_path, write_image):
    """A folder with ``train/`` of two classes of 10 images and ``test/`` of 3; a cat is dark, a dog is bright."""
    root = tmp_path / "pets"
    for part, count in (("train", 10), ("test", 3)):
        for number in range(count):
            write_image(root / part / "cat" / f"{number}.png", number)
            write_image(root / part / "dog" / f"{number}.png", 200 + number)
    return root


@pytest.fixture
def pack():
    """Packs a folder into a tar archive, compressed as its name says."""

    def pack(folder, archive, inside="."):
        with tarfile.open(archive, "w:gz" if archive.name.endswith("gz") else "w") as tar:
            tar.add(folder, inside)
        return archive

    return pack


@pytest.fixture
def archive_of(tmp_path):
    """Saves arrays as ``data.npz``."""

    def save(**arrays):
        path = tmp_path / "data.npz"
        np.savez(path, **arrays)
        return path

    return save


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes an importable module; returns its name, which no other test's module has."""

    def write(code):
        name = f"my_data_{os.path.basename(tmp_path)}"
        (tmp_path / "modules").mkdir(exist_ok=True)
        (tmp_path / "modules" / f"{name}.py").write_text(code, "utf-8")
        monkeypatch.syspath_prepend(tmp_path / "modules")
        return name

    return write
