"""The classes and functions of the user's code, by name: what Keras needs to read the user's models from files."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hpcompss.training.hypermodel import ModelBuilder, origin

__all__ = ["shared_layers", "user_objects"]

LIBRARIES = ("builtins", "hpcompss", "jax", "keras", "keras_tuner", "numpy", "tensorflow", "torch")
"""Packages whose objects Keras finds by itself, or never asks for."""

INSTALLED = ("site-packages", "dist-packages")
"""The names of folders that hold installed packages: another package in there is not the user's code."""


def user_objects(hypermodel: ModelBuilder) -> dict[str, Any]:
    """Returns the classes and functions that the user's model may be made of, as Keras's ``custom_objects``.

    They are those that the module of the model has, and the modules of the same folder that it imports. Of objects of
    one name the first one counts, and the module of the model comes first.

    Args:
        hypermodel: The user's model family.
    """
    objects: dict[str, Any] = {}
    for value in _values(hypermodel):
        if isinstance(value, type | types.FunctionType):
            objects.setdefault(value.__name__, value)
    return objects


def shared_layers(keras: Any, hypermodel: ModelBuilder) -> list[Any]:
    """Returns the layers and models that the user's modules, or the object with ``build``, hold from trial to trial.

    Args:
        keras: The module.
        hypermodel: The user's model family.
    """
    held = [*_values(hypermodel), *getattr(origin(hypermodel), "__dict__", {}).values()]
    found = {}
    for value in held:
        for each in keras.tree.flatten(value) if isinstance(value, list | tuple | dict) else [value]:
            if isinstance(each, keras.Layer):
                found[id(each)] = each
    return list(found.values())


def _values(hypermodel: ModelBuilder) -> Iterator[Any]:
    """Yields what stands in the user's modules, but for modules and what libraries define."""
    pending = list(_namespaces(origin(hypermodel)))
    roots = {str(each.get("__name__")) for each in pending}
    folders = [Path(each["__file__"]).resolve().parent for each in pending if each.get("__file__")]
    seen: dict[int, Mapping[str, Any]] = {}  # held, so that no other one gets its identity
    while pending:
        namespace = pending.pop(0)
        if id(namespace) in seen:
            continue
        seen[id(namespace)] = namespace
        for value in list(namespace.values()):
            if isinstance(value, types.ModuleType):
                pending += [vars(value)] if _is_near(value, folders) else []
            elif not isinstance(value, type | types.FunctionType):
                yield value
            elif not _is_library(value.__module__):
                yield value
                home = sys.modules.get(value.__module__)
                if value.__module__ in roots or (home is not None and _is_near(home, folders)):
                    pending += _namespaces(value)


def _namespaces(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yields where the names stand that a function, a class or an object uses: modules, globals and closures."""
    while isinstance(value, functools.partial):
        value = value.func
    value = inspect.unwrap(getattr(value, "__func__", value))
    if isinstance(value, types.FunctionType):
        # What was pickled by value has globals of its own; its module may be another one here.
        yield value.__globals__
        names = inspect.getclosurevars(value).nonlocals
        if names:
            yield names
        return
    for cls in (value if isinstance(value, type) else type(value)).__mro__:
        if _is_library(cls.__module__):
            continue
        for method in vars(cls).values():
            if isinstance(method, types.FunctionType):
                yield from _namespaces(method)
        if cls.__module__ in sys.modules and cls.__module__ != "__main__":
            yield vars(sys.modules[cls.__module__])


def _is_library(module: str | None) -> bool:
    return (module or "builtins").partition(".")[0] in LIBRARIES


def _is_near(module: types.ModuleType, folders: list[Path]) -> bool:
    """Returns whether a module is in a folder of the user's code, or below it."""
    file = getattr(module, "__file__", None)
    if not file or _is_library(module.__name__):
        return False
    path = Path(file).resolve()
    nearest = [folder for folder in folders if folder in path.parents and folder.name not in INSTALLED]
    return any(not set(INSTALLED) & set(path.relative_to(folder).parts) for folder in nearest)
