"""Reads data from the user's function: arrays go into the cache, streams are made anew for each training."""

from __future__ import annotations

import hashlib
import importlib.util
import traceback
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hpcompss.errors import InputError
from hpcompss.loading import load_attribute
from hpcompss.training.data.arrays import NAMES, PARTS, check_names, part_of, save_arrays, stream_in
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


def identity(function: Function, of_run: bool) -> tuple[object, ...]:
    """Returns what identifies the function's data.

    Args:
        function: The function, or where it is.
        of_run: Whether it is called once for a run, whatever becomes of its file meanwhile. Else the data depends on
            the file, too.
    """
    if isinstance(function, PickledFunction):
        named: tuple[object, ...] = (function.module, function.name, hashlib.sha256(function.payload).hexdigest())
        module = function.module
    else:
        named, module = (function,), str(function).rpartition(":")[0]
    return named if of_run else (*named, _module_digest(module))


def read(specification: DataSpecification, target: ArrayFolder) -> ClassNames:
    """Calls a function and writes the arrays that it returns; there are no class names.

    Args:
        specification: States the function.
        target: Where the arrays go; of streams it keeps that there are some.

    Raises:
        InputError: The function is absent, raises, or returns something else than data.
    """
    parts = call(specification)
    if stream_in(parts) is not None:
        target.streams = True
        return ()
    save_arrays(parts, specification.source_description, KEY, target, allow_nan=specification.allow_nan)
    return ()


def call(specification: DataSpecification) -> Mapping[str, Any]:
    """Calls a function and returns its data by the names in `NAMES`. Raises what `read` raises."""
    function, what = specification.function, specification.source_description
    called = _find(function) if isinstance(function, str) else function
    if called is None:
        raise ValueError("the data comes from no function")
    try:
        returned = called()
    except Exception as error:
        raise InputError(f"{what} raised {type(error).__name__}: {error} ({_place(error)})", key=KEY) from error
    return parts_of(returned, f"{what} returned", KEY)


def streams_of(specification: DataSpecification, name: str) -> DataSet:
    """Returns the streams of a function as a data set, whose `DataSet.open` calls the function again.

    Args:
        specification: States the function.
        name: What to call the data.

    Raises:
        InputError: The function fails, there is no validation data, or the specification asks for subsets.
    """
    what = specification.source_description
    for setting in ("train", "test"):
        if getattr(specification, setting) is not None:
            raise InputError(f"{what} is a stream, which cannot be split: leave it out", key=f"data.{setting}")

    def make() -> DataSet:
        parts = call(specification)
        check_names(parts, what, KEY)
        for setting in ("groups", "stratify"):
            if parts.get(setting) is not None:
                raise InputError(f"{what} has {setting}, and a stream, which cannot be split: leave it out", key=KEY)
        examples = {part: _examples(parts, part, specification) for part in PARTS}
        train, validation, test = (examples[part] for part in PARTS)
        if train is None:
            raise InputError(f"{what} has no training data: it has {', '.join(parts)}", key=KEY)
        if validation is None and specification.validation != NO_VALIDATION:
            raise InputError(
                f"{what} is a stream, which cannot be split: give validation data beside it, or state  "
                "validation: none",
                key="data.validation",
            )
        if validation is not None and specification.validation is not None:
            raise InputError(f"{what} has validation data of its own: leave it out", key="data.validation")
        return DataSet(train, validation, test, name=name, make=make)

    made = make()
    validation, test = (part and _unopened(part) for part in (made.validation, made.test))
    return DataSet(_unopened(made.train), validation, test, name=name, make=make)


def _unopened(part: Examples) -> Examples:
    return Examples(UnopenedStream.of(part.x)) if part.is_stream else part


def _examples(parts: Mapping[str, Any], part: str, specification: DataSpecification) -> Examples | None:
    """Returns one part: a stream, or arrays that stand beside one."""
    what = specification.source_description
    names = [name for name in (PARTS[part], f"x_{part}") if parts.get(name) is not None]
    stated = parts[names[0]] if names else None
    value, *beside = stated if isinstance(stated, tuple) and stated else (stated,)
    if is_stream(value) or callable(value):
        weights = ("sample_weight",) if part == "train" else ()
        others = [*names[1:], *(name for name in (f"y_{part}", f"sample_weight_{part}", *weights) if name in parts)]
        if others or beside:
            raise InputError(
                f"{names[0]} of {what} is a stream, whose batches hold their targets and weights: leave "
                f"{others[0] if others else 'what stands beside it'} out",
                key=KEY,
            )
        return Examples(_reiterable(value, names[0], specification, part == "train"))
    trees = part_of(parts, part, what, KEY)
    if not trees:
        return None
    return Examples(*(trees.get(name) for name in (f"x_{part}", f"y_{part}", f"sample_weight_{part}")))


def _reiterable(value: Any, name: str, specification: DataSpecification, to_train: bool) -> Any:
    """Returns a stream that can be gone through once an epoch: a generator is made anew for each."""
    if isinstance(value, types.GeneratorType):
        first = [value]

        def again() -> Any:
            made = first.pop() if first else call(specification)[name]
            return made[0] if isinstance(made, tuple) else made

        return restarting(again, to_train)
    if is_stream(value):
        return value
    made = value()
    if is_stream(made) and not isinstance(made, types.GeneratorType):
        return made
    if not isinstance(made, types.GeneratorType):
        raise InputError(f"{name} is a function that returned a {type(made).__name__}: it must be a generator", key=KEY)
    made.close()
    return restarting(value, to_train)


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

    A tuple is ``(x,)``, ``(x, y)``, ``(x, y, weights)``, a pair of these for training and test, or streams for
    training, validation and test. A list is several inputs, as in Keras.

    Args:
        returned: What the user gave.
        what: The beginning of a message: ``the function 'f' returned``.
        key: The setting that it belongs to.

    Raises:
        InputError: It has none of these forms.
    """
    if isinstance(returned, Mapping) and (not returned or any(str(name).lower() in NAMES for name in returned)):
        return returned
    if is_stream(returned) or kind_of(returned) is not None or hasattr(returned, "__array__"):
        return {"train": returned}
    if isinstance(returned, tuple) and len(returned) == 1 and _may_be_data(returned[0]):
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
        value is None
        or isinstance(value, Mapping | list | tuple)
        or kind_of(value) is not None
        or hasattr(value, "__array__")
    )


def _form(value: object) -> str:
    """Returns what ``value`` is, in a few words."""
    if isinstance(value, Mapping):
        return f"a mapping with {', '.join(map(repr, list(value)[:4]))}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
