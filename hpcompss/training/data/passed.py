"""Data that was passed in Python: arrays are written to the cache once, what makes streams is kept as a function."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Mapping
from typing import Any

from hpcompss.cache_folder import cache_folder
from hpcompss.errors import InputError

__all__ = ["data_section"]

OPTIONS = (
    *("name", "path", "function", "train", "validation", "test", "seed", "image_size"),
    *("target", "features", "weights", "cache", "allow_nan"),
)
"""The settings of the section ``data`` of a workflow."""

COPY_BYTES = 1 << 24


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
    parts, settings = _parts(data)
    for name, value in (("validation", validation_data), ("test", test_data)):
        if value is not None:
            if not parts:
                raise InputError(f"{name}_data goes with data that is passed as arrays or a stream: leave it out")
            parts[name] = value if isinstance(value, tuple) else (value,)
    if not parts:
        return settings
    from hpcompss.training.data.arrays import save_arrays, stream_in
    from hpcompss.training.data.cache import ArrayFolder, ClassNames, cached

    if stream_in(parts) is not None:
        return {**settings, "function": _function_of(parts)}

    def build(folder: ArrayFolder) -> ClassNames:
        save_arrays(parts, "the data that was passed", "data", folder, allow_nan=settings.get("allow_nan", False))
        return ()

    entry = cached(cache_folder(), "arrays", (_digest(parts),), build)
    return {**settings, "arrays": entry.path.name}


def _parts(data: Any) -> tuple[dict[str, Any], Any]:
    """Returns what of the data is arrays or streams, by their names, and the settings beside them."""
    if data is None or isinstance(data, str):
        return {}, data
    if isinstance(data, Mapping):
        settings = {key: value for key, value in data.items() if key in OPTIONS and _is_setting(key, value)}
        parts = {key: value for key, value in data.items() if key not in settings}
        if not parts or "name" in settings or "path" in settings or "function" in settings:
            return {}, dict(data)
        from hpcompss.training.data.function import parts_of

        return dict(parts_of(parts, "data is", "data")), settings
    if callable(data) and not _is_stream(data):
        return {}, {"function": data}
    from hpcompss.training.data.function import parts_of

    return dict(parts_of(data, "data is", "data")), {}


def _is_stream(value: Any) -> bool:
    from hpcompss.training.data.streams import is_stream

    return is_stream(value)


def _is_setting(key: str, value: Any) -> bool:
    """Returns whether a value is a setting of the section, not data under one of its names."""
    if value is None or isinstance(value, str | int | float):
        return True
    if key == "validation" and isinstance(value, Mapping):
        return set(value) <= {"share", "order", "stratify", "groups"}
    return key not in ("train", "validation", "test")


def _function_of(parts: Mapping[str, Any]) -> Callable[[], Any]:
    """Returns a function that returns streams on a worker."""
    import cloudpickle

    try:
        content = cloudpickle.dumps(dict(parts))
    except Exception as error:
        kind = next(type(value[0] if isinstance(value, tuple) else value).__name__ for value in parts.values())
        raise InputError(
            f"data of the class {kind} cannot be sent to workers: pass a function that makes it, such as "
            "data=make_data",
            key="data",
        ) from error

    def streams() -> Any:
        return pickle.loads(content)

    return streams


def _digest(parts: Mapping[str, Any]) -> str:
    """Returns a digest of data, by which the same arrays are kept once."""
    import numpy as np

    digest = hashlib.blake2b(digest_size=16)

    def add(value: Any) -> None:
        if isinstance(value, Mapping):
            for key, each in value.items():
                digest.update(f"{key}:".encode())
                add(each)
        elif isinstance(value, list | tuple):
            digest.update(f"{type(value).__name__}{len(value)}".encode())
            if len(value) > 1000:  # of rows
                digest.update(pickle.dumps(value))
                return
            for each in value:
                add(each)
        elif isinstance(value, np.ndarray) and value.dtype.kind not in "OV" and value.ndim:
            digest.update(f"{value.dtype.str}{value.shape}".encode())
            step = max(1, COPY_BYTES // max(1, value[:1].nbytes))
            for start in range(0, len(value), step):
                digest.update(np.ascontiguousarray(value[start : start + step]).view(np.uint8).data)
        else:
            digest.update(pickle.dumps(value))

    add(parts)
    return digest.hexdigest()
