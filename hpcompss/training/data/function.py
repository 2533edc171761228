"""Reads data from the user's function: arrays go into the cache, streams are made anew for each training."""

from __future__ import annotations

import hashlib
import importlib.util
import traceback
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hpcompss.errors import InputError, nearest
from hpcompss.loading import load_attribute
from hpcompss.training.data.arrays import NAMES, PARTS, save_arrays, stream_in
from hpcompss.training.data.cache import ArrayFolder, ClassNames
from hpcompss.training.data.data_set import DataSet
from hpcompss.training.data.examples import Examples
from hpcompss.training.data.specification import NO_VALIDATION, DataSpecification, PickledFunction
from hpcompss.training.data.streams import UnopenedStream, is_stream, restarting
from hpcompss.training.data.trees import kind_of

__all__ = ["call", "identity", "parts_of", "read", "streams_of"]

Function = str | Callable[[], Any]
KEY = "data.function"
EXPECTED = (
    "((x_train, y_train), (x_test, y_test)); (x, y); a tuple of streams (train, validation[, test]); or a dict with "
    "train, validation and test, or x_train, y_train, x_val, y_val, x_test, y_test, sample_weight"
)


def identity(function: Function) -> tuple[object, ...]:
    """Returns what the function's data depends on as far as can be known: its name, its code and its module's file."""
    if isinstance(function, PickledFunction):
        digest = hashlib.sha256(function.payload).hexdigest()
        return (function.module, function.name, digest, _module_digest(function.module))
    return (function, _module_digest(str(function).rpartition(":")[0]))


def read(function: Function, name: str, allow_nan: bool, target: ArrayFolder) -> ClassNames:
    """Calls the function and writes the arrays that it returns; there are no class names.

    Args:
        function: ``module:function``, ``file.py:function``, or something to call without arguments.
        name: What to call it in messages.
        allow_nan: Whether targets may be NaN.
        target: Where the arrays go; of streams it keeps that there are some.

    Raises:
        InputError: The function is absent, raises, or returns something else than data.
    """
    parts = call(function, name)
    if stream_in(parts) is not None:
        target.streams = True
        return ()
    save_arrays(parts, f"the function '{name}'", KEY, target, allow_nan=allow_nan)
    return ()


def call(function: Function, name: str) -> Mapping[str, Any]:
    """Calls the function and returns its data by the names in `NAMES`. Raises what `read` raises."""
    called = _find(function) if isinstance(function, str) else function
    try:
        returned = called()
    except Exception as error:
        raise InputError(
            f"the function '{name}' raised {type(error).__name__}: {error} ({_place(error)})", key=KEY
        ) from error
    return parts_of(returned, f"the function '{name}' returned", KEY)


def streams_of(specification: DataSpecification, name: str) -> DataSet:
    """Returns the streams of a function as a data set, whose `DataSet.open` calls the function again.

    Raises:
        InputError: The function fails, there is no validation data, or the specification asks for subsets.
    """
    function, what = specification.function, f"the function '{specification.function_name}'"
    if function is None:
        raise ValueError("only functions return streams")
    for setting in ("train", "test"):
        if getattr(specification, setting) is not None:
            raise InputError(f"{what} returns a stream, which cannot be split: leave it out", key=f"data.{setting}")

    def make() -> DataSet:
        parts = call(function, specification.function_name)
        _check_stream_names(parts, what)
        found = {short: _examples(parts, short, what, specification) for short in PARTS}
        train, validation, test = (found[short] for short in PARTS)
        if train is None:
            raise InputError(f"{what} returned no training data: it has {', '.join(parts)}", key=KEY)
        if validation is None and specification.validation != NO_VALIDATION:
            raise InputError(
                f"{what} returned a stream, which cannot be split: return (train, validation) or a dict with both, or "
                "state  validation: none",
                key=KEY,
            )
        if validation is not None and specification.validation is not None:
            raise InputError(f"{what} has a validation set of its own: leave it out", key="data.validation")
        return DataSet(train, validation, test, name=name, make=make)

    made = make()
    validation, test = (part and _unopened(part) for part in (made.validation, made.test))
    return DataSet(_unopened(made.train), validation, test, name=name, make=make)


def _unopened(part: Examples) -> Examples:
    return Examples(UnopenedStream.of(part.x)) if part.is_stream else part


def _check_stream_names(parts: Mapping[str, Any], what: str) -> None:
    for name in parts:
        if name not in NAMES:
            raise InputError(f"{what} has the unknown name {name!r}; {nearest(str(name).lower(), NAMES)}", key=KEY)


def _examples(parts: Mapping[str, Any], short: str, what: str, specification: DataSpecification) -> Examples | None:
    """Returns one part: a stream, or arrays that stand beside one."""
    value, y = parts.get(PARTS[short]), parts.get(f"y_{short}")
    name = PARTS[short]
    if value is None:
        value, name = parts.get(f"x_{short}"), f"x_{short}"
    if value is None:
        return None
    if is_stream(value) or callable(value):
        if y is not None:
            raise InputError(
                f"{name} of {what} is a stream, whose batches hold their targets: leave y_{short} out", key=KEY
            )
        return Examples(_reiterable(value, name, specification))
    if isinstance(value, tuple) and name == PARTS[short]:
        return Examples(*value)
    return Examples(value, y, parts.get(f"sample_weight_{short}"))


def _reiterable(value: Any, name: str, specification: DataSpecification) -> Any:
    """Returns a stream that can be gone through once an epoch: a generator is made anew by calling the function."""
    if not callable(value) or is_stream(value):
        if not isinstance(value, types.GeneratorType):
            return value
        function = specification.function
        first = [value]

        def again() -> Any:
            if first:
                return first.pop()
            parts = call(function, specification.function_name) if function is not None else {}
            found = parts[name]
            return found() if callable(found) else found

        return restarting(again)
    made = value()
    if not isinstance(made, types.GeneratorType):
        if is_stream(made):
            return made
        raise InputError(f"{name} is a function that returned a {type(made).__name__}: it must be a generator", key=KEY)
    made.close()
    return restarting(value)


def _module_digest(place: str) -> str:
    """Returns a digest of the module's file, or nothing where there is none, as in an interactive session."""
    path = Path(place)
    if not place.endswith(".py"):
        try:
            specification = importlib.util.find_spec(place)
        except Exception:  # whatever is wrong with it is told when the function is called
            return ""
        path = Path((specification and specification.origin) or "")
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _find(function: str) -> Callable[[], Any]:
    try:
        found = load_attribute(function)
    except InputError as error:
        raise InputError(error.message, key=KEY) from error
    except Exception as error:
        place = function.rpartition(":")[0]
        reason = f"{type(error).__name__}: {error} ({_place(error)})"
        raise InputError(f"the module '{place}' does not import: {reason}", key=KEY) from error
    if not callable(found):
        raise InputError(f"'{function}' is no function but a {type(found).__name__}", key=KEY)
    found_function: Callable[[], Any] = found
    return found_function


def _place(error: Exception) -> str:
    """Returns the file and line where ``error`` was raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}"


def parts_of(returned: object, what: str, key: str) -> Mapping[str, Any]:
    """Returns data that a user gave, in any of its forms, by the names in `NAMES`.

    A tuple is ``(x, y)``, ``(x, y, weights)``, a pair of these for training and test, or streams for training,
    validation and test. A list is several inputs, as in Keras.

    Args:
        returned: What the user gave.
        what: The beginning of a message: ``the function 'f' returned``.
        key: The setting that it belongs to.

    Raises:
        InputError: It has none of these forms.
    """
    if isinstance(returned, Mapping) and (not returned or any(str(name).lower() in NAMES for name in returned)):
        return returned
    if is_stream(returned):
        return {"train": returned}
    if isinstance(returned, tuple) and len(returned) in (2, 3):
        if any(is_stream(part) or callable(part) for part in returned):
            return dict(zip(PARTS.values(), returned, strict=False))
        if all(isinstance(part, tuple) and len(part) in (2, 3) for part in returned):
            names = ("train", "test") if len(returned) == 2 else tuple(PARTS.values())
            return dict(zip(names, returned, strict=True))
        if all(_may_be_data(part) for part in returned):
            return {"train": returned}
    raise InputError(f"{what} {_form(returned)}: it must be {EXPECTED}", key=key)


def _may_be_data(value: Any) -> bool:
    return (
        value is None or isinstance(value, Mapping | list) or kind_of(value) is not None or hasattr(value, "__array__")
    )


def _form(value: object) -> str:
    """Returns what ``value`` is, in a few words."""
    if isinstance(value, Mapping):
        return f"a mapping with {', '.join(map(repr, list(value)[:4]))}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
