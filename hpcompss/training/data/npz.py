"""Reads NumPy archives: ``.npz`` with x_train, y_train[, x_val, y_val][, x_test, y_test]."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from hpcompss.errors import InputError
from hpcompss.training.data.arrays import save_arrays
from hpcompss.training.data.cache import ArrayFolder, ClassNames

__all__ = ["is_npz", "read"]


def is_npz(path: Path) -> bool:
    """Whether ``path`` is a zip archive of ``.npy`` files."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(".npy") for name in archive.namelist())


def read(path: Path, allow_nan: bool, target: ArrayFolder) -> ClassNames:
    """Writes the archive's arrays; there are no class names.

    Raises:
        InputError: The file is damaged, or see `hpcompss.training.data.arrays.save_arrays`.
    """
    try:
        archive = np.load(path, allow_pickle=False)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot read '{path}': {error}", key="data.path") from error
    arrays = {}
    with archive:
        for name in archive.files:
            try:
                arrays[name] = archive[name]
            except Exception as error:  # Python objects, a damaged archive
                raise InputError(f"cannot read {name} of '{path}': {error}", key="data.path") from error
    save_arrays(arrays, f"'{path}'", "data.path", target, allow_nan=allow_nan)
    return ()
