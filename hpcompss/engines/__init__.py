"""Where a graph of tasks is run: the engine protocol and the engines. Each is imported only when it is asked for."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hpcompss.errors import InputError, nearest

if TYPE_CHECKING:
    from hpcompss.engines.base import Engine, Future
    from hpcompss.engines.compss import Compss
    from hpcompss.engines.dask import Dask
    from hpcompss.engines.local import Local

__all__ = ["Compss", "Dask", "Engine", "Future", "Local", "check_engine", "chosen_engine", "make_engine"]

_HOMES = {
    "Compss": "hpcompss.engines.compss",
    "Dask": "hpcompss.engines.dask",
    "Engine": "hpcompss.engines.base",
    "Future": "hpcompss.engines.base",
    "Local": "hpcompss.engines.local",
}

ENGINES = {"local": "Local", "compss": "Compss", "dask": "Dask"}
"""The engines by their names, each with its class."""

AUTO = "auto"
"""Stands for the engine of the place that a study is started in."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def check_engine(name: str) -> None:
    """Raises `InputError` where there is no engine of this name."""
    if name != AUTO and name not in ENGINES:
        raise InputError(f"unknown engine {name!r}; {nearest(name, [AUTO, *ENGINES])}", key="engine.name")


def chosen_engine(name: str) -> str:
    """Returns the engine that a name stands for here: ``auto`` is ``compss`` inside COMPSs, elsewhere ``local``."""
    if name != AUTO:
        return name
    return "compss" if inside_compss() else "local"


def inside_compss() -> bool:
    """Returns whether COMPSs runs this program: started by ``runcompss``, or as an operation of an agent."""
    context: Any = sys.modules.get("pycompss.util.context")
    # An operation that an agent was asked for is itself a task there, which may have tasks of its own.
    return context is not None and (context.CONTEXT.in_master() or context.CONTEXT.is_nesting_enabled())


def make_engine(name: str, **options: Any) -> Engine:
    """Returns the engine of this name. Raises `InputError` where there is none."""
    check_engine(name)
    engine: Engine = __getattr__(ENGINES[chosen_engine(name)])(**options)
    return engine
