"""Image files decoded one after the other into uint8 arrays; memory holds one image at a time."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hpcompss.errors import InputError, MissingExtraError
from hpcompss.training.data.cache import ArrayFile, ArrayFolder
from hpcompss.training.data.files import FileTree

__all__ = ["Label", "is_image", "write_images"]

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
GREY_MODES = ("1", "L", "LA", "La")
COLOUR_MODES = ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB")


class Label(NamedTuple):
    """Which set (``train``, ``val`` or ``test``) an image belongs to, and the number of its class."""

    part: str
    number: int


class _ColourAfterGreyError(Exception):
    """A colour image came after grey ones, so that all have to be decoded as colour images."""


def is_image(name: str) -> bool:
    """Whether ``name`` is that of an image file."""
    return name.lower().endswith(SUFFIXES)


def write_images(
    tree: FileTree, labels: Mapping[str, Label], image_size: tuple[int, int] | None, target: ArrayFolder
) -> None:
    """Decodes the images named in ``labels`` into uint8 (n, height, width, channels), their classes into int64 (n,).

    There is one channel when all images are grey, else three; transparency is dropped.

    Args:
        tree: Where the files are.
        labels: The label of each image by its name.
        image_size: Height and width to resize to (bilinear), or None when all images have one size.
        target: Where the arrays go.

    Raises:
        InputError: An image is damaged, or of another size than the first.
        MissingExtraError: Pillow is not installed.
    """
    try:
        _write(tree, labels, image_size, target, colour=False)
    except _ColourAfterGreyError:
        _write(tree, labels, image_size, target, colour=True)


def _write(
    tree: FileTree,
    labels: Mapping[str, Label],
    image_size: tuple[int, int] | None,
    target: ArrayFolder,
    *,
    colour: bool,
) -> None:
    files: dict[str, ArrayFile] = {}
    numbers: dict[str, list[int]] = {}
    first_name, row_shape = "", ()
    for name, content in tree.contents(labels):
        pixels = _decode(f"{tree.path}/{name}", content, image_size, colour=colour)
        if not first_name:
            first_name, row_shape = name, pixels.shape
            colour = pixels.shape[2] == 3
        _check_shape(first_name, row_shape, name, pixels.shape)
        part, number = labels[name]
        if part not in files:
            files[part] = target.open(f"x_{part}", row_shape, np.uint8)
            numbers[part] = []
        files[part].append(pixels[np.newaxis])
        numbers[part].append(number)
    for part, classes in numbers.items():
        target.save(f"y_{part}", np.array(classes, np.int64))


def _decode(
    name: str, content: bytes, image_size: tuple[int, int] | None, *, colour: bool
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Returns the pixels, uint8 (height, width, channels); a grey image has three channels where ``colour``."""
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError("pillow", "tensorflow", "reading image files") from None
    try:
        image: Image.Image = Image.open(io.BytesIO(content))
        if image.mode not in GREY_MODES + COLOUR_MODES:
            raise InputError(f"'{name}' has more than 8 bits a channel: save it with 8", key="data.path")
        image = image.convert("RGB" if colour or image.mode in COLOUR_MODES else "L")
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds, a plain SyntaxError among them
        raise InputError(f"cannot decode the image '{name}': {error}", key="data.path") from error
    if image_size is not None:
        height, width = image_size
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.uint8)
    return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]


def _check_shape(first_name: str, first: tuple[int, ...], name: str, shape: tuple[int, ...]) -> None:
    if shape[:2] != first[:2]:
        raise InputError(
            f"images differ in size: '{first_name}' is {first[0]} x {first[1]}, '{name}' is {shape[0]} x {shape[1]} "
            "(height x width); state data.image_size: [height, width] to resize them",
            key="data.path",
        )
    if shape[2] > first[2]:
        raise _ColourAfterGreyError
