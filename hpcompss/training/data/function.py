"""Reads data from the user's function."""

from __future__ import annotations

import hashlib
import importlib.util
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from hpcompss.errors import InputError
from hpcompss.loading import load_attribute
from hpcompss.training.data.arrays import KEYS, save_arrays
from hpcompss.training.data.cache import ArrayFolder, ClassNames
from hpcompss.training.data.specification import PickledFunction

__all__ = ["identity", "read"]

Function = str | Callable[[], Any]
KEY = "data.function"
EXPECTED = f"((x_train, y_train), (x_test, y_test)), or a dict with {', '.join(KEYS[:2])}[, {', '.join(KEYS[2:])}]"


def identity(function: Function) -> tuple[object, ...]:
    """Returns what the function's data depends on as far as can be known: its name, its code and its module's file."""
    if isinstance(function, PickledFunction):
        digest = hashlib.sha256(function.payload).hexdigest()
        return (function.module, function.name, digest, _module_digest(function.module))
    return (function, _module_digest(str(function).rpartition(":")[0]))


def read(function: Function, name: str, target: ArrayFolder) -> ClassNames:
    """Calls the function and writes what it returns; there are no class names.

    Args:
        function: ``module:function``, ``file.py:function``, or something to call without arguments.
        name: What to call it in messages.
        target: Where the arrays go.

    Raises:
        InputError: The function is absent, raises, or returns something else than data.
    """
    call = _find(function) if isinstance(function, str) else function
    try:
        returned = call()
    except Exception as error:
        raise InputError(
            f"the function '{name}' raised {type(error).__name__}: {error} ({_place(error)})", key=KEY
        ) from error
    save_arrays(_arrays_of(returned, name), f"the function '{name}'", KEY, target)
    return ()


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
    call: Callable[[], Any] = found
    return call


def _place(error: Exception) -> str:
    """Returns the file and line where ``error`` was raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}"


def _arrays_of(returned: object, name: str) -> Mapping[str, object]:
    if isinstance(returned, Mapping):
        return returned
    if _is_pair(returned) and all(_is_pair(part) for part in returned):
        return dict(zip(("x_train", "y_train", "x_test", "y_test"), (*returned[0], *returned[1]), strict=True))
    raise InputError(f"the function '{name}' returned {_form(returned)}; it must return {EXPECTED}", key=KEY)


def _is_pair(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, (tuple, list)) and len(value) == 2


def _form(value: object) -> str:
    """Returns what ``value`` is, in a few words."""
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
