"""Kernels compiled with Numba where it is installed (``pip install 'hpcompss[numba]'``).

A module of kernels decorates its functions with `compiled` and is imported through `kernels`, when it is first needed:
importing Numba takes about half a second. Kernels release the lock of the interpreter and run in ordinary threads.
Numba's own parallel loops would be no better here, and their threading layers survive no fork (GNU OpenMP) or allow no
second caller (workqueue).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

__all__ = ["compiled", "kernels", "thread_count"]

Function = TypeVar("Function", bound=Callable[..., Any])

EXACT = {"contract", "nsz", "arcp"}
"""Freedoms of the compiler that keep the order of a sum."""


def compiled(*, reorder: bool = False) -> Callable[[Function], Function]:
    """Returns a decorator that compiles a function when it is first called, and keeps the result on disk.

    Args:
        reorder: Whether the compiler may reorder the terms of sums, which lets it use vector instructions for them.
    """
    numba: Any = importlib.import_module("numba")
    settings: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": {*EXACT, "reassoc"} if reorder else EXACT,
    }

    def decorate(function: Function) -> Function:
        try:
            made: Function = numba.njit(cache=True, **settings)(function)
        except RuntimeError:  # no folder may be written to: neither beside the source nor in the user's own cache
            return numba.njit(**settings)(function)  # type: ignore[no-any-return]
        _forgive_full_disks(made)
        return made

    return decorate


def _forgive_full_disks(function: Any) -> None:
    """Makes a compiled function work where its result cannot be kept: a quota is often used up."""
    save = function._cache.save_overload

    def save_if_possible(*arguments: Any) -> None:
        with contextlib.suppress(OSError):
            save(*arguments)

    function._cache.save_overload = save_if_possible


@functools.cache
def kernels(name: str) -> ModuleType | None:
    """Returns the module of kernels of that name, or None where Numba is missing or does not go with this NumPy."""
    if importlib.util.find_spec("numba") is None:
        return None
    try:
        importlib.import_module("numba")
    except ImportError:
        return None
    return importlib.import_module(name)


def thread_count() -> int:
    """Returns how many threads a computation may use: what the environment says, else one a core."""
    for variable in ("HPCOMPSS_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        stated = os.environ.get(variable, "")
        if stated.isdecimal() and int(stated) > 0:
            return int(stated)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
