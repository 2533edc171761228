"""Reads class-named folders of images, with ``train/`` and ``test/`` above them or not."""

from __future__ import annotations

import os.path
from collections.abc import Iterable

from hpcompss.errors import InputError
from hpcompss.training.data.cache import ArrayFolder, ClassNames
from hpcompss.training.data.files import FileTree
from hpcompss.training.data.images import Label, is_image, write_images

__all__ = ["find_labels", "read"]

PARTS = {"train": "train", "test": "test", "val": "val", "validation": "val"}
"""The folders that may stand above the classes, and the set each one holds."""


def read(tree: FileTree, image_size: tuple[int, int] | None, target: ArrayFolder) -> ClassNames:
    """Decodes all images; returns the classes in alphabetical order.

    Raises:
        InputError: See `find_labels` and `hpcompss.training.data.images.write_images`.
    """
    labels, class_names = find_labels(tree)
    write_images(tree, labels, image_size, target)
    return class_names


def find_labels(tree: FileTree) -> tuple[dict[str, Label], ClassNames]:
    """Returns the label of each image, and the class names.

    The layout is ``train/<class>/.../image`` with ``test/`` and ``val/`` beside ``train/``, or ``<class>/image``;
    either may lie in further folders, as archives often do.

    Raises:
        InputError: An image is in no class folder, a class has no image, or the test set has a class of its own.
    """
    images = [name for name in tree.files if is_image(name)]
    root = _root_of_parts(images)
    if root is not None:
        class_folders = {name: _class_folder_in_part(tree, name, root) for name in images}
        places = {folder: (PARTS[folder.split("/")[-2]], os.path.basename(folder)) for folder in class_folders.values()}
        _check_none_is_empty(tree, places, {root + part for part in PARTS})
    else:
        root = _root_of_classes(tree, images)
        class_folders = {name: _class_folder(tree, name, root) for name in images}
        places = {folder: ("train", os.path.basename(folder)) for folder in class_folders.values()}
        _check_none_is_empty(tree, places, {root.rstrip("/")})
    numbers = _number_classes(tree, places.values())
    labels = {folder: Label(part, numbers[class_name]) for folder, (part, class_name) in places.items()}
    return {name: labels[folder] for name, folder in class_folders.items()}, tuple(numbers)


def _root_of_parts(images: Iterable[str]) -> str | None:
    """Returns the shortest beginning (empty, or ending in ``/``) after which ``train/<class>/`` follows, or None."""
    roots = set()
    for name in images:
        before, _, after = f"/{name}".partition("/train/")
        if "/" in after:
            roots.add(f"{before[1:]}/" if before else "")
    return min(roots, key=len, default=None)


def _class_folder_in_part(tree: FileTree, name: str, root: str) -> str:
    folders = name[len(root) :].split("/")[:-1]
    if not name.startswith(root) or len(folders) < 2 or folders[0] not in PARTS:
        raise InputError(
            f"the image '{name}' in '{tree.path}' is not in a class folder of {root}train, {root}test or {root}val",
            key="data.path",
        )
    return root + "/".join(folders[:2])


def _root_of_classes(tree: FileTree, images: Iterable[str]) -> str:
    """Returns the folder that holds the class folders (empty, or ending in ``/``)."""
    folders = {os.path.dirname(name) for name in images}
    common = os.path.commonpath(folders) if "" not in folders else ""
    root = f"{common}/" if common else ""
    classes = {folder[len(root) :].partition("/")[0] for folder in folders}
    if len(folders) == 1 or classes <= PARTS.keys():
        raise InputError(
            f"labels are missing: the images in '{tree.path}' are not in one folder a class, nor is there Kaggle's "
            "trainLabels.csv beside train/",
            key="data.path",
        )
    return root


def _class_folder(tree: FileTree, name: str, root: str) -> str:
    folders = name[len(root) :].split("/")[:-1]
    if not folders:
        raise InputError(f"the image '{name}' in '{tree.path}' is in no class folder", key="data.path")
    if len(folders) > 1:
        outer, inner = root + folders[0], root + "/".join(folders[:2])
        raise InputError(
            f"cannot tell whether '{outer}' or '{inner}' is a class in '{tree.path}': put images directly into the "
            "class folders, or name the folders above the classes train and test",
            key="data.path",
        )
    return root + folders[0]


def _check_none_is_empty(tree: FileTree, class_folders: Iterable[str], parents: set[str]) -> None:
    for folder in sorted(tree.folders.difference(class_folders)):
        if os.path.dirname(folder) in parents:
            raise InputError(f"the class folder '{folder}' in '{tree.path}' holds no image", key="data.path")


def _number_classes(tree: FileTree, places: Iterable[tuple[str, str]]) -> dict[str, int]:
    classes = sorted({class_name for part, class_name in places if part == "train"})
    if len(classes) < 2:
        raise InputError(f"'{tree.path}' has one class only, '{classes[0]}'", key="data.path")
    for part, class_name in places:
        if class_name not in classes:
            raise InputError(
                f"'{tree.path}' has images of the class '{class_name}' for {part}, but none for train", key="data.path"
            )
    return {class_name: number for number, class_name in enumerate(classes)}
