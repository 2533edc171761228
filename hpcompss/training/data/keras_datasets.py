"""Reads the data sets of `keras.datasets`, which Keras downloads once and keeps in ``~/.keras``."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hpcompss.errors import InputError, MissingExtraError
from hpcompss.training.data import cifar10_batches
from hpcompss.training.data.arrays import save_arrays
from hpcompss.training.data.cache import Array, ArrayFolder, ClassNames

__all__ = ["CLASS_NAMES", "WORDS", "WORD_LIMIT", "arrays_of", "read"]

WORDS = 20_000
"""The size of the vocabulary of ``imdb`` and ``reuters``; rarer words become 2, as Keras does."""

WORD_LIMIT = 256
"""The length of their texts: only the last words are kept, and a shorter text begins with zeros."""

CLASS_NAMES: dict[str, ClassNames] = {
    "cifar10": cifar10_batches.CLASS_NAMES,
    "fashion_mnist": (
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
    "imdb": ("negative", "positive"),
    "mnist": tuple("0123456789"),
}
"""Names that Keras documents but does not return."""


def read(name: str, target: ArrayFolder) -> ClassNames:
    """Downloads, unless Keras has it already, and writes the data set ``name`` (see `arrays_of`).

    Raises:
        InputError: It could not be downloaded.
        MissingExtraError: Keras is not installed.
    """
    try:
        module = importlib.import_module(f"keras.datasets.{name}")
    except ImportError as error:
        raise MissingExtraError("keras", "tensorflow", f"the data set '{name}'") from error
    options = {"num_words": WORDS} if name in ("imdb", "reuters") else {}
    try:
        loaded = module.load_data(**options)
    except Exception as error:  # Keras raises a plain Exception when there is no network
        raise InputError(
            f"the data set '{name}' could not be downloaded: give your own copy in data.path ({error})", key="data.name"
        ) from error
    save_arrays(arrays_of(loaded), f"the data set '{name}'", "data.name", target)
    if name == "reuters":
        return tuple(module.get_label_names())
    return CLASS_NAMES.get(name, ())


def arrays_of(loaded: tuple[tuple[Any, Any], tuple[Any, Any]]) -> dict[str, Array]:
    """Returns what Keras loaded as arrays by name: grey images get a channel axis, texts one length.

    Args:
        loaded: ((x_train, y_train), (x_test, y_test)).
    """
    (x_train, y_train), (x_test, y_test) = loaded
    return {"x_train": _features(x_train), "y_train": y_train, "x_test": _features(x_test), "y_test": y_test}


def _features(x: Array) -> Array:
    if x.dtype == object:
        return _pad(x)
    if x.dtype == np.uint8 and x.ndim == 3:
        return x[..., np.newaxis]
    return x


def _pad(texts: Sequence[Sequence[int]] | Array) -> Array:
    """Returns word numbers as int32 (n, WORD_LIMIT), cut and padded at the beginning like Keras' pad_sequences."""
    padded = np.zeros((len(texts), WORD_LIMIT), np.int32)
    for row, text in zip(padded, texts, strict=True):
        words = text[-WORD_LIMIT:]
        row[WORD_LIMIT - len(words) :] = words
    return padded
