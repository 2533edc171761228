"""The user's callbacks: made anew for each training, and kept from writing where another trial writes."""

from __future__ import annotations

import contextlib
import copy
import inspect
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcompss.errors import InputError, cause_of, shown
from hpcompss.loading import load_attribute
from hpcompss.space.tracing import HyperParameters
from hpcompss.trial import Configuration

__all__ = ["CurrentTrial", "check_callbacks", "error_of_maker", "made_callbacks", "place_callback", "reading_placed"]

KEY = "training.callbacks"
"""The setting that names callbacks."""

FOLDERS = {"TensorBoard": "log_dir", "BackupAndRestore": "backup_dir"}
"""Keras's callbacks that write into a folder, with the attribute that holds it."""

FILES = {"ModelCheckpoint": "filepath", "CSVLogger": "filename"}
"""Keras's callbacks that write a file, with the attribute that holds its path."""

PLACE = "_hpcompss_place"
"""The attribute of a callback that holds its path as the user gave it, and as it was changed."""


@dataclass(frozen=True)
class CurrentTrial:
    """The trial that a callback is made for.

    Attributes:
        number: The trial's, counted from 0.
        configuration: The values of its hyper-parameters.
        path: Where its folder is, once it is made.
        part: What is trained, if not the trial as such: ``fold-1``, ``repeat-1``, ``refit``; else empty.
    """

    number: int
    configuration: Configuration
    path: Path
    part: str = ""

    @property
    def folder(self) -> Path:
        """The trial's own folder in that of the study, ``trials/NUMBER``; it is made when it is asked for."""
        self.path.mkdir(parents=True, exist_ok=True)
        return self.path

    @property
    def name(self) -> str:
        """What is put into the paths of callbacks: ``trial-3``, ``trial-3/fold-1``."""
        return os.path.join(f"trial-{self.number}", self.part) if self.part else f"trial-{self.number}"

    @classmethod
    def of(cls, folder: Path, number: int, configuration: Configuration, part: str = "") -> CurrentTrial:
        """Returns a trial of the study in a folder."""
        return cls(number, configuration, folder / "trials" / str(number) / part, part)


# Making them


def _is_callback(value: Any) -> bool:
    """Returns whether a value is a Keras callback, without importing Keras."""
    return any(
        each.__name__ == "Callback" and each.__module__.partition(".")[0] in ("keras", "tf_keras", "tensorflow")
        for each in type(value).__mro__
    )


def _copied(callback: Any) -> Any:
    try:
        return copy.deepcopy(callback)
    except Exception as error:
        name = type(callback).__name__
        raise InputError(
            f"the callback {name} cannot be copied for each trial ({cause_of(error)}): give a function that makes it, "
            f"such as  lambda: {name}(...)",
            key=KEY,
        ) from None


def _called(function: Callable[..., Any], hp: HyperParameters, trial: CurrentTrial) -> Any:
    """Calls a function that makes callbacks with those of ``hp`` and ``trial`` that it has parameters for."""
    known = {"hp": hp, "trial": trial}
    return function(**{name: known[name] for name in _wanted(function)})


def error_of_maker(error: Exception) -> InputError | None:
    """Returns what is wrong where a function that makes callbacks raised an error; None where none did."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    lines = [line for _, line in traceback.walk_tb(error.__traceback__)]
    calls = [number for number, frame in enumerate(frames) if frame.f_code is _called.__code__]
    if not calls or calls[-1] + 1 >= len(frames):
        return None
    function = frames[calls[-1]].f_locals["function"]
    name = getattr(function, "__qualname__", type(function).__qualname__)
    code, line = frames[calls[-1] + 1].f_code, lines[calls[-1] + 1]
    return InputError(
        f"the function {name}, which makes callbacks, raised {type(error).__name__}: {error} "
        f"({code.co_filename}:{line})",
        key=KEY,
    )


def _wanted(function: Callable[..., Any]) -> list[str]:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    for each in parameters:
        optional = each.default is not each.empty or each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        if not optional and (each.name not in ("hp", "trial") or each.kind is each.POSITIONAL_ONLY):
            raise InputError(
                f"{name} needs {each.name!r}: a function that makes callbacks takes hp, trial, both or neither, by "
                "these names",
                key=KEY,
            )
    return [each.name for each in parameters if each.name in ("hp", "trial")]


def check_callbacks(given: Sequence[Any]) -> None:
    """Refuses what is no callback and makes none, or what cannot be copied for each trial. Raises `InputError`."""
    for each in given:
        if _is_callback(each):
            _copied(each)
        elif callable(each):
            _wanted(each)
        elif not isinstance(each, str):
            raise InputError(
                f"must be Keras callbacks, functions that make them, or file.py:function, not {shown(each)}", key=KEY
            )


def made_callbacks(given: Sequence[Any], hp: HyperParameters, trial: CurrentTrial) -> list[Any]:
    """Returns callbacks for one training, none of which another training has.

    Args:
        given: Callbacks, functions that make one or several, and references to either.
        hp: Hands out the hyper-parameters that such a function declares.
        trial: What the callbacks are for.

    Raises:
        InputError: Something is none of these, or a callback cannot be copied.
        Exception: What the user's function raises.
    """
    made: list[Any] = []
    for each in given:
        named = each if isinstance(each, str) else getattr(each, "__qualname__", type(each).__qualname__)
        source = load_attribute(each) if isinstance(each, str) else each
        if isinstance(source, list | tuple) or _is_callback(source):
            returned = [_copied(one) if _is_callback(one) else one for one in _as_list(source)]
        elif callable(source):
            returned = _as_list(_called(source, hp, trial))
        else:
            raise InputError(f"{named} is neither a Keras callback nor a function that makes one", key=KEY)
        if wrong := [one for one in returned if not _is_callback(one)]:
            raise InputError(
                f"{named} must give Keras callbacks, a list of them or one, not {shown(wrong[0])}", key=KEY
            )
        made += returned
    return made


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


# Where they write


def place_callback(keras: Any, callback: Any, trial: CurrentTrial) -> None:
    """Puts the trial's name into the path that one of Keras's callbacks writes to: ``logs`` becomes ``logs/trial-3``.

    A file moves into such a folder, which is made: ``models/best.keras`` becomes ``models/trial-3/best.keras``. It is
    done once, however often a callback is used in a training. A path in the trial's own folder stays as it is.
    """
    for names, place in ((FOLDERS, _in_folder), (FILES, _in_folder_of_file)):
        for name, attribute in names.items():
            path = getattr(callback, attribute, None)
            if not isinstance(callback, getattr(keras.callbacks, name)) or not isinstance(path, str):
                continue
            before = getattr(callback, PLACE, None)
            original = before[0] if before and before[1] == path else path
            if _is_within(original, trial.path):
                continue
            placed = place(original, trial)
            _replace_paths(callback, path, placed)
            setattr(callback, PLACE, [original, placed])
            if name == "CSVLogger" and "://" not in placed:
                os.makedirs(os.path.dirname(placed) or ".", exist_ok=True)


def _in_folder(path: str, trial: CurrentTrial) -> str:
    return os.path.join(path, trial.name)


def _in_folder_of_file(path: str, trial: CurrentTrial) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, trial.name, name)


def _is_within(path: str, folder: Path) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def _replace_paths(callback: Any, old: str, new: str) -> None:
    """Changes a path in a callback, and the paths that its constructor made of it."""
    for name, value in list(vars(callback).items()):
        if isinstance(value, str) and (value == old or value.startswith(os.path.join(old, ""))):
            setattr(callback, name, new + value[len(old) :])


@contextlib.contextmanager
def reading_placed(keras: Any, trial: CurrentTrial, namespace: dict[str, Any]) -> Iterator[list[Any]]:
    """Makes the user's code find the files of callbacks that were placed, under the paths that it gave.

    A common ``fit`` saves the best model by ``ModelCheckpoint("best.keras")`` and reads ``best.keras`` afterwards.

    Args:
        keras: The module.
        trial: What is trained.
        namespace: The globals of the user's module, which may have imported ``load_model`` by name.

    Yields:
        A list that takes the callbacks that were placed.
    """
    placed: list[Any] = []

    def found(path: Any) -> Any:
        if not isinstance(path, str | os.PathLike):
            return path
        folders = {os.path.abspath(os.path.dirname(each[0])) for one in placed if (each := getattr(one, PLACE, None))}
        moved = _in_folder_of_file(os.fspath(path), trial)
        inside = os.path.dirname(os.path.abspath(path)) in folders
        return moved if inside and os.path.exists(moved) else path

    load_weights, load_model = keras.Model.load_weights, keras.models.load_model

    def weights(model: Any, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        return load_weights(model, found(filepath), *args, **kwargs)

    def whole(filepath: Any, *args: Any, **kwargs: Any) -> Any:
        return load_model(found(filepath), *args, **kwargs)

    with contextlib.ExitStack() as stack:
        stack.enter_context(replaced(keras.Model, "load_weights", weights))
        for module in (keras.models, keras.saving):
            stack.enter_context(replaced(module, "load_model", whole))
        for name in [name for name, value in namespace.items() if value is load_model]:
            namespace[name] = whole
            stack.callback(namespace.__setitem__, name, load_model)
        yield placed


@contextlib.contextmanager
def replaced(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Replaces an attribute meanwhile."""
    before = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, before)
