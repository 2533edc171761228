"""The functions that COMPSs knows as tasks; nothing else imports PyCOMPSs' decorators.

A worker looks a task up by its module's and its own name, and its constraint is fixed by its decorator. So there is
a task for each shape of resources, made when its name is first asked for, in the master and in each worker alike:
``join_2_1_4096`` asks for 2 CPU units, 1 GPU unit and 4,096 MB and takes results of other tasks, ``leaf_2_1_4096``
takes none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pycompss.api.constraint import constraint
from pycompss.api.parameter import COLLECTION_IN
from pycompss.api.task import task

from hpcompss.engines.compss_worker import run

__all__ = ["task_of"]


def task_of(cpu: int, gpu: int, memory: int, joins: bool) -> Callable[..., Any]:
    """Returns the task of a shape.

    Args:
        cpu: CPU units.
        gpu: GPU units.
        memory: Bytes, 0 for any.
        joins: Whether it takes results of other tasks.
    """
    made: Callable[..., Any] = __getattr__(f"{'join' if joins else 'leaf'}_{cpu}_{gpu}_{-(-memory // 1_000_000)}")
    return made


def __getattr__(name: str) -> Any:
    match = re.fullmatch(r"(join|leaf)_(\d+)_(\d+)_(\d+)", name)
    if match is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _made:
        kind, cpu, gpu, memory = match[1], *map(int, match.groups()[1:])
        processors = [{"processorType": "CPU", "computingUnits": str(cpu)}]
        if gpu:
            processors.append({"processorType": "GPU", "computingUnits": str(gpu)})
        limits = {"memory_size": str(memory / 1000)} if memory else {}
        function = _join(name) if kind == "join" else _leaf(name)
        # An ignored failure gives None, which is noticed; any other kind ends the application.
        directions = {"results": COLLECTION_IN} if kind == "join" else {}
        decorated = task(returns=1, on_failure="IGNORE", **directions)(function)
        _made[name] = constraint(processors=processors, **limits)(decorated)
    return _made[name]


_made: dict[str, Any] = {}


def _join(name: str) -> Callable[..., bytes]:
    def join(order, results):  # type: ignore[no-untyped-def]  # PyCOMPSs reads the signature
        return run(order, results)

    join.__name__ = join.__qualname__ = name
    return join


def _leaf(name: str) -> Callable[..., bytes]:
    def leaf(order):  # type: ignore[no-untyped-def]
        return run(order, [])

    leaf.__name__ = leaf.__qualname__ = name
    return leaf
