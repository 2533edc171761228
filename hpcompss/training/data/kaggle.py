"""Reads Kaggle's CIFAR-10 layout: ``train/<id>.png`` with the classes in ``trainLabels.csv`` (columns id, label)."""

from __future__ import annotations

import csv
import os.path
import posixpath

from hpcompss.errors import InputError
from hpcompss.training.data.cache import ArrayFolder, ClassNames
from hpcompss.training.data.files import FileTree
from hpcompss.training.data.images import Label, is_image, write_images

__all__ = ["TABLE", "find_labels", "read"]

TABLE = "trainLabels.csv"


def read(tree: FileTree, image_size: tuple[int, int] | None, target: ArrayFolder) -> ClassNames:
    """Decodes the training images; returns the classes in alphabetical order. Kaggle's test images have no labels.

    Raises:
        InputError: See `find_labels` and `hpcompss.training.data.images.write_images`.
    """
    labels, class_names = find_labels(tree)
    write_images(tree, labels, image_size, target)
    return class_names


def find_labels(tree: FileTree) -> tuple[dict[str, Label], ClassNames]:
    """Returns the label of each training image, and the class names.

    Raises:
        InputError: The table lacks a column or an image, names an image that is absent, or there are no images.
    """
    table = next(name for name in tree.files if posixpath.basename(name) == TABLE)
    classes = _read_table(tree, table)
    folder = posixpath.join(posixpath.dirname(table), "train")
    images = {
        os.path.splitext(posixpath.basename(name))[0]: name
        for name in tree.files
        if posixpath.dirname(name) == folder and is_image(name)
    }
    if not images:
        raise InputError(f"'{tree.path}' has {TABLE}, but no images in {folder}/", key="data.path")
    _check_same(tree, images.keys() - classes.keys(), f"{TABLE} has no label for the image '{{}}' of {folder}/")
    _check_same(tree, classes.keys() - images.keys(), f"{TABLE} names the image '{{}}', which is not in {folder}/")
    class_names = tuple(sorted(set(classes.values())))
    numbers = {class_name: number for number, class_name in enumerate(class_names)}
    return {name: Label("train", numbers[classes[key]]) for key, name in images.items()}, class_names


def _read_table(tree: FileTree, name: str) -> dict[str, str]:
    """Returns the class of each image by its id."""
    rows = csv.DictReader(tree.content(name).decode("utf-8-sig", "replace").splitlines())
    if not {"id", "label"} <= set(rows.fieldnames or ()):
        raise InputError(f"'{name}' in '{tree.path}' lacks the columns id and label", key="data.path")
    return {row["id"]: row["label"] for row in rows if row["label"]}


def _check_same(tree: FileTree, odd: set[str], message: str) -> None:
    if odd:
        others = f" (and {len(odd) - 1:,} others)" if len(odd) > 1 else ""
        raise InputError(f"'{tree.path}': {message.format(min(odd))}{others}", key="data.path")
