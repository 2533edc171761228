"""Data that was passed in Python: arrays are written to the cache once, what makes streams is kept as a function."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpcompss.cache_folder import cache_folder
from hpcompss.errors import InputError
from hpcompss.training.data.specification import PASSED, PickledFunction

__all__ = ["data_section"]

PASSED_DATA = "the data passed"

OPTIONS = (
    *("name", "path", "function", "train", "validation", "test", "seed", "image_size"),
    *("target", "features", "weights", "cache", "allow_nan"),
)
"""The settings of the section ``data`` of a workflow."""


@dataclass(frozen=True)
class Passed:
    """Returns data that was passed, as a function of the user's would."""

    parts: Mapping[str, Any]

    def __call__(self) -> Mapping[str, Any]:
        return self.parts


def data_section(data: Any, validation_data: Any = None, test_data: Any = None) -> Any:
    """Returns the section ``data`` of a workflow for data in any form that Keras takes.

    Args:
        data: ``(x, y)``, ``(x, y, weights)``, arrays by the names of `arrays.NAMES`, a function that returns data, a
            stream that can be pickled; or the section itself, which may hold such arrays beside its settings.
        validation_data: What Keras takes under this name.
        test_data: The same for the test.

    Raises:
        InputError: The data has another form, arrays do not match, or a stream cannot be sent to workers.
    """
    if callable(data) and (validation_data is not None or test_data is not None):
        data = {"train": data}  # a function that makes a generator
    parts, settings = _parts(data)
    for name, value in (("validation", validation_data), ("test", test_data)):
        if value is None:
            continue
        if not parts:
            raise InputError(
                f"{name}_data goes with data that is passed as arrays or streams: leave it out", key=f"{name}_data"
            )
        if parts.get(name) is not None:
            raise InputError(f"data has a part for {name}, too: leave one out", key=f"{name}_data")
        parts[name] = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not parts:
        return settings
    from hpcompss.training.data.arrays import stream_in, trees_of
    from hpcompss.training.data.cache import ArrayFolder, ClassNames, cached
    from hpcompss.training.data.digests import add_tree

    if (stream := stream_in(parts)) is not None:
        return {**settings, "function": _function_of(parts, stream)}
    trees = trees_of(parts, PASSED_DATA, "data", allow_nan=settings.get("allow_nan", False))

    def build(folder: ArrayFolder) -> ClassNames:
        for name, tree in trees.items():
            folder.save_tree(name, tree)
        return ()

    digest = hashlib.blake2b(digest_size=16)
    add_tree(digest, trees)
    entry = cached(cache_folder(), "arrays", (digest.hexdigest(),), build, PASSED_DATA)
    return {**settings, "arrays": entry.path.name}


def _parts(data: Any) -> tuple[dict[str, Any], Any]:
    """Returns what of the data is arrays or streams, by their names, and the settings beside them."""
    from hpcompss.training.data.function import parts_of
    from hpcompss.training.data.streams import is_stream

    if data is None or isinstance(data, str):
        return {}, data
    if isinstance(data, Mapping):
        settings = {key: value for key, value in data.items() if key in OPTIONS and _is_setting(key, value)}
        parts = {key: value for key, value in data.items() if key not in settings}
        if not parts or "name" in settings or "path" in settings or "function" in settings:
            return {}, dict(data)
        return dict(parts_of(parts, "data is", "data")), settings
    if callable(data) and not is_stream(data):
        return {}, {"function": data}
    return dict(parts_of(data, "data is", "data")), {}


def _is_setting(key: str, value: Any) -> bool:
    """Returns whether a value is a setting of the section, not data under one of its names."""
    if key not in ("train", "validation", "test"):
        return True
    if key == "validation" and isinstance(value, Mapping):
        return all(each is None or isinstance(each, str | int | float) for each in value.values())
    return value is None or isinstance(value, str | int | float)


def _function_of(parts: Mapping[str, Any], name: str) -> PickledFunction:
    """Returns a function that returns streams on a worker.

    Args:
        parts: The data by its names.
        name: That of a part which is a stream.
    """
    import cloudpickle

    try:
        return PickledFunction("", PASSED, cloudpickle.dumps(Passed(dict(parts))))
    except Exception as error:
        value = parts[name][0] if isinstance(parts[name], tuple) else parts[name]
        raise InputError(
            f"data of the class {type(value).__name__} cannot be sent to workers: pass a function that makes it, such "
            "as data=make_data",
            key="data",
        ) from error
