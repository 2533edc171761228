"""Reads the official CIFAR-10 python batches: ``data_batch_1`` to ``data_batch_5`` and ``test_batch``.

The format: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import io
import pickle
import posixpath
from typing import Any

import numpy as np

from hpcompss.errors import InputError
from hpcompss.training.data.cache import Array, ArrayFile, ArrayFolder, ClassNames
from hpcompss.training.data.files import FileTree

__all__ = ["CLASS_NAMES", "FIRST_BATCH", "read"]

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FIRST_BATCH = "data_batch_1"
BATCHES = {**{f"data_batch_{number}": "train" for number in range(1, 6)}, "test_batch": "test"}
"""The set that each file belongs to."""

IMAGE_BYTES = 3 * 32 * 32


def read(tree: FileTree, target: ArrayFolder) -> ClassNames:
    """Writes the images as uint8 (n, 32, 32, 3) and their classes as int64 (n,).

    Raises:
        InputError: A batch is absent, damaged, or not what it should be.
    """
    first = next(name for name in tree.files if posixpath.basename(name) == FIRST_BATCH)
    names = {posixpath.join(posixpath.dirname(first), batch): part for batch, part in BATCHES.items()}
    absent = sorted(names.keys() - set(tree.files))
    if absent:
        raise InputError(f"'{tree.path}' lacks the batch '{absent[0]}' of CIFAR-10", key="data.path")
    files: dict[str, ArrayFile] = {}
    labels: dict[str, list[Array]] = {"train": [], "test": []}
    for name, content in tree.contents(names):
        part = names[name]
        pixels, classes = _decode(f"{tree.path}/{name}", content)
        if part not in files:
            files[part] = target.open(f"x_{part}", (32, 32, 3), np.uint8)
        files[part].append(pixels)
        labels[part].append(classes)
    for part, batches in labels.items():
        target.save(f"y_{part}", np.concatenate(batches))
    return CLASS_NAMES


def _decode(name: str, content: bytes) -> tuple[Array, Array]:
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        pixels = np.asarray(batch[b"data"], np.uint8)
        classes = np.asarray(batch[b"labels"], np.int64)
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(f"cannot read the CIFAR-10 batch '{name}': {error}", key="data.path") from error
    if pixels.shape != (len(classes), IMAGE_BYTES) or not len(classes):
        raise InputError(
            f"the CIFAR-10 batch '{name}' has {len(classes):,} labels and pixels of shape {pixels.shape}; each label "
            f"needs {IMAGE_BYTES} pixels",
            key="data.path",
        )
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), classes


class _Unpickler(pickle.Unpickler):
    """Makes NumPy arrays and nothing else, so that opening a file from anywhere runs none of its code."""

    def find_class(self, module: str, name: str) -> Any:
        reconstruct = np.empty(0).__reduce__()[0]
        allowed = {"_reconstruct": reconstruct, "ndarray": np.ndarray, "dtype": np.dtype}
        if module.partition(".")[0] == "numpy" and name in allowed:
            return allowed[name]
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is not an array")
