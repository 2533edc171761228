"""What a user's module does while a worker imports it: a search is refused, a training is noted.

A script that is also the module of a model runs whole in every worker. A search at its top level would then run there
again, unseen, for each of them.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.machinery
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from hpcompss.errors import InputError

__all__ = ["importing", "refuse_search"]

SEARCHES = (
    ("keras_tuner.src.engine.base_tuner", "BaseTuner", "search"),
    ("keras_tuner.engine.base_tuner", "BaseTuner", "search"),
    ("keras_tuner.src.tuners.sklearn_tuner", "SklearnTuner", "search"),
    ("optuna.study.study", "Study", "optimize"),
)
"""The methods by which other libraries search: module, class and name."""

TRAININGS = (("keras.src.models.model", "Model", "fit"),)
"""The methods by which models are trained."""

GUARD = "put it under  if __name__ == '__main__':"


class _Import:
    """One module of the user's that is being imported.

    Attributes:
        file: Its file.
        notes: What the user should know of it.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.notes: list[str] = []

    def line(self) -> int | None:
        """Returns the line of the module that runs now, or None where its top level does not run."""
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            if frame.f_code.co_name == "<module>" and frame.f_code.co_filename == self.file:
                return frame.f_lineno
            frame = frame.f_back
        return None

    def describe(self, line: int, deed: str) -> str:
        """Returns what the module does in a line."""
        return f"{Path(self.file).name} {deed} when it is imported (line {line})"


_imports: list[_Import] = []


def refuse_search() -> None:
    """Refuses a search that a worker comes to by importing a user's module. Raises `InputError`."""
    for each in reversed(_imports):
        if (line := each.line()) is not None:
            raise InputError(f"{each.describe(line, 'runs a search')}: {GUARD}")


def _note_training() -> None:
    for each in reversed(_imports):
        if (line := each.line()) is not None:
            note = f"{each.describe(line, 'trains a model')}, which happens in every worker: {GUARD}"
            each.notes += [] if note in each.notes else [note]
            return


@contextlib.contextmanager
def importing(file: str) -> Iterator[list[str]]:
    """Refuses searches, and notes trainings, at the top level of a module that is imported inside the ``with``.

    Args:
        file: The module's file.

    Yields:
        What the user should know of the module, filled meanwhile.
    """
    current = _Import(file)
    _imports.append(current)
    try:
        with _watched_methods():
            yield current.notes
    finally:
        _imports.remove(current)


@contextlib.contextmanager
def _watched_methods() -> Iterator[None]:
    """Calls `refuse_search` before other libraries' searches and `_note_training` before trainings."""
    if len(_imports) > 1:
        yield  # the outer import watches
        return
    watches: dict[str, list[tuple[str, str, Callable[[], None]]]] = {}
    for targets, watch in ((SEARCHES, refuse_search), (TRAININGS, _note_training)):
        for module, owner, name in targets:
            watches.setdefault(module, []).append((owner, name, watch))
    with contextlib.ExitStack() as stack:

        def patch(module: ModuleType) -> None:
            for owner, name, watch in watches[module.__name__]:
                if (found := getattr(module, owner, None)) is not None:
                    stack.enter_context(_preceded(found, name, watch))

        finder = _Finder(watches, patch)
        sys.meta_path.insert(0, finder)
        stack.callback(sys.meta_path.remove, finder)
        for name in watches:
            if name in sys.modules:
                patch(sys.modules[name])
        yield


@contextlib.contextmanager
def _preceded(owner: Any, name: str, watch: Callable[[], None]) -> Iterator[None]:
    """Has a method call ``watch`` first, inside the ``with``."""
    own, method = name in vars(owner), getattr(owner, name)

    @functools.wraps(method)
    def preceded(*args: Any, **kwargs: Any) -> Any:
        watch()
        return method(*args, **kwargs)

    setattr(owner, name, preceded)
    try:
        yield
    finally:
        if vars(owner).get(name) is preceded:  # else the user's module has replaced it
            if own:
                setattr(owner, name, method)
            else:
                delattr(owner, name)


class _Finder(MetaPathFinder):
    """Finds modules as Python does, and has some of them patched when they have been imported."""

    def __init__(self, names: Any, patch: Callable[[ModuleType], None]) -> None:
        self._names = names
        self._patch = patch

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._names:
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if found is None or found.loader is None:
            return None
        execute = found.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            self._patch(module)

        found.loader.exec_module = exec_module  # type: ignore[method-assign]
        return found
