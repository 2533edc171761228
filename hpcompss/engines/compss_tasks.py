"""The functions that COMPSs knows as tasks; nothing else imports PyCOMPSs' decorators.

A worker looks a task up by its module's and its own name, and its constraint is fixed by its decorator. So there is
a task for each shape of resources, made when its name is first asked for, in the master and in each worker alike:
``take2_4_1_4096`` asks for 4 CPU units, 1 GPU unit and 4,096 MB and takes two results of other tasks, ``many_4_1_4096``
a list of them.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from typing import Any

from pycompss.api.constraint import constraint
from pycompss.api.parameter import COLLECTION_IN, IN_DELETE
from pycompss.api.task import task

from hpcompss.engines.compss_worker import run

__all__ = ["task_of"]

SINGLE = 4
"""How many results a task takes by themselves; PyCOMPSs keeps a list of them, once it has seen it, for ever."""


def task_of(cpu: int, gpu: int, memory: int, results: int) -> Callable[..., Any]:
    """Returns the task of a shape, which takes its order and then the results, each by itself or all in a list.

    Args:
        cpu: CPU units.
        gpu: GPU units.
        memory: Bytes, 0 for any.
        results: How many results of other tasks it takes; where they are more than `SINGLE`, in a list.
    """
    kind = "many" if results > SINGLE else f"take{results}"
    made: Callable[..., Any] = __getattr__(f"{kind}_{cpu}_{gpu}_{-(-memory // 1_000_000)}")
    return made


def __getattr__(name: str) -> Any:
    match = re.fullmatch(r"(many|take(\d))_(\d+)_(\d+)_(\d+)", name)
    if match is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _made:
        cpu, gpu, memory = map(int, match.groups()[2:])
        # A text without spaces, for what an operation of an agent submits is registered by a line that is split there.
        units = f"{{processorType:CPU,computingUnits:{cpu}}}"
        if gpu:
            units += f",{{processorType:GPU,computingUnits:{gpu}}}"
        # Written so, PyCOMPSs does not take it for an expression, whose value it would round down to a whole number.
        limits = {"MemorySize": str(memory / 1000)} if memory else {}
        function = _many if match[2] is None else _TAKING[int(match[2])]
        named = types.FunctionType(function.__code__, globals(), name, function.__defaults__)
        named.__qualname__, named.__module__ = name, __name__
        directions: dict[str, Any] = {"results": COLLECTION_IN} if match[2] is None else {}
        # An ignored failure gives None, which is noticed; any other kind ends the application. PyCOMPSs would keep each
        # order, which is of no use to any other task, for ever.
        decorated = task(returns=1, on_failure="IGNORE", order=IN_DELETE, **directions)(named)
        _made[name] = constraint(processors=f"[{units}]", **limits)(decorated)
    return _made[name]


_made: dict[str, Any] = {}


# PyCOMPSs reads the signatures, and knows no *results that may be futures of several kinds.


def _many(order, results):  # type: ignore[no-untyped-def]
    return run(order, results)


def _take0(order):  # type: ignore[no-untyped-def]
    return run(order, [])


def _take1(order, a):  # type: ignore[no-untyped-def]
    return run(order, [a])


def _take2(order, a, b):  # type: ignore[no-untyped-def]
    return run(order, [a, b])


def _take3(order, a, b, c):  # type: ignore[no-untyped-def]
    return run(order, [a, b, c])


def _take4(order, a, b, c, d):  # type: ignore[no-untyped-def]
    return run(order, [a, b, c, d])


_TAKING = (_take0, _take1, _take2, _take3, _take4)
