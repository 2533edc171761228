"""Recognises the format of a file or folder by looking into it, and reads it."""

from __future__ import annotations

import posixpath
import tarfile
from pathlib import Path

from hpcompss.errors import InputError
from hpcompss.training.data import cifar10_batches, image_folder, kaggle, npz, tables
from hpcompss.training.data.cache import ArrayFolder, ClassNames
from hpcompss.training.data.files import Archive, FileTree, Folder
from hpcompss.training.data.images import is_image
from hpcompss.training.data.specification import DataSpecification

__all__ = ["read"]

LOOKED_FOR = (
    "looked for an .npz file with x_train and y_train, a table (.csv, .parquet), or, in a folder or a tar archive, "
    "images in class folders "
    "(train/<class>/, test/<class>/ or <class>/), the CIFAR-10 python batches (data_batch_1 ...) or Kaggle's "
    f"train/ with {kaggle.TABLE}"
)


def read(specification: DataSpecification, target: ArrayFolder) -> ClassNames:
    """Writes the arrays of the data at the path of a specification, and returns its class names.

    Raises:
        InputError: The format is unknown, or see the format's reader.
    """
    path, image_size = Path(specification.path or ""), specification.image_size
    if path.is_dir():
        _check_no_columns(specification)
        return _read_tree(Folder(path), image_size, target)
    if tables.is_table(path):
        _check_no_image_size(path, image_size)
        return tables.read(specification, target)
    _check_no_columns(specification)
    try:
        archive, arrays = tarfile.is_tarfile(path), npz.is_npz(path)
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror or error}", key="data.path") from error
    if archive:
        return _read_tree(Archive(path), image_size, target)
    if arrays:
        _check_no_image_size(path, image_size)
        return npz.read(path, specification.allow_nan, target)
    raise InputError(f"the format of '{path}' is unknown: {LOOKED_FOR}", key="data.path")


def _read_tree(tree: FileTree, image_size: tuple[int, int] | None, target: ArrayFolder) -> ClassNames:
    base_names = {posixpath.basename(name) for name in tree.files}
    if cifar10_batches.FIRST_BATCH in base_names:
        _check_no_image_size(tree.path, image_size)
        return cifar10_batches.read(tree, target)
    if kaggle.TABLE in base_names:
        return kaggle.read(tree, image_size, target)
    if any(is_image(name) for name in base_names):
        return image_folder.read(tree, image_size, target)
    found = f"holds {len(tree.files):,} files of another kind" if tree.files else "is empty"
    raise InputError(f"'{tree.path}' {found}: {LOOKED_FOR}", key="data.path")


def _check_no_image_size(path: Path, image_size: tuple[int, int] | None) -> None:
    if image_size is not None:
        raise InputError(f"resizes image files only, and '{path}' holds arrays: leave it out", key="data.image_size")


def _check_no_columns(specification: DataSpecification) -> None:
    for name in ("target", "features", "weights"):
        if getattr(specification, name):
            raise InputError(
                f"names columns of a table, and '{specification.path}' is none (.csv, .parquet): leave it out",
                key=f"data.{name}",
            )
