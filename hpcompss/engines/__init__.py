"""Where a graph of tasks is run: the engine protocol and the engines. Each is imported only when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hpcompss.errors import InputError, nearest

if TYPE_CHECKING:
    from hpcompss.engines.base import Engine, Future
    from hpcompss.engines.compss import Compss
    from hpcompss.engines.local import Local

__all__ = ["Compss", "Engine", "Future", "Local", "check_engine", "make_engine"]

_HOMES = {
    "Compss": "hpcompss.engines.compss",
    "Engine": "hpcompss.engines.base",
    "Future": "hpcompss.engines.base",
    "Local": "hpcompss.engines.local",
}

_ENGINES = {"local": "Local", "compss": "Compss"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def check_engine(name: str) -> None:
    """Raises `InputError` where there is no engine of this name."""
    if name not in _ENGINES:
        raise InputError(f"unknown engine {name!r}; {nearest(name, _ENGINES)}", key="engine.name")


def make_engine(name: str, **options: Any) -> Engine:
    """Returns the engine of a workflow. Raises `InputError` where there is none of this name."""
    check_engine(name)
    engine: Engine = __getattr__(_ENGINES[name])(**options)
    return engine
