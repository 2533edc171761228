"""What the engines share whose results come as bytes: their futures, and how futures stand among arguments."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

from hpcompss.engines.base import Future
from hpcompss.engines.local_worker import Dependency, replaced
from hpcompss.errors import InputError
from hpcompss.trial import Failure, FailureKind

__all__ = ["PickledFuture", "detached"]


class PickledFuture(Future):
    """A future whose result stays pickled until somebody asks for it, or for ever in the master."""

    done = False
    started: float | None = None
    progress: Mapping[str, float] = MappingProxyType({})
    place = ""

    def __init__(self) -> None:
        self._pickled: bytes | memoryview | None = None
        self._value: Any = None

    def __reduce__(self) -> NoReturn:
        raise InputError("a future must be an argument of the task, or stand in a list, tuple or dict that is one")

    def result(self) -> Any:
        if not self.done:
            raise RuntimeError("this task is not done: wait for it first")
        if self._pickled is not None:
            try:
                self._value = pickle.loads(self._pickled)
            except Exception as error:
                reason = f"its result cannot be read by the master: {type(error).__name__}: {error}"
                self._value = Failure(FailureKind.EXCEPTION, reason)
            self._pickled = None
        return self._value


_Own = TypeVar("_Own", bound=Future)


def detached(arguments: Sequence[Any], own: Callable[[Future], _Own]) -> tuple[list[Any], list[_Own]]:
    """Returns the arguments of a task with a `Dependency` in place of each future, and the futures.

    Args:
        arguments: The arguments.
        own: Returns a future that is the engine's own, and refuses any other.
    """
    found: dict[_Own, Dependency] = {}

    def stand_in(argument: Any) -> Any:
        if not isinstance(argument, Future):
            return argument
        return found.setdefault(own(argument), Dependency(len(found)))

    return [replaced(argument, stand_in) for argument in arguments], list(found)
