"""Where a graph of tasks is run: the engine protocol and the engines. Each is imported only when it is asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hpcompss.errors import InputError, nearest

if TYPE_CHECKING:
    from hpcompss.engines.base import Engine, Future
    from hpcompss.engines.compss import Compss
    from hpcompss.engines.dask import Dask
    from hpcompss.engines.joblib import Joblib
    from hpcompss.engines.local import Local
    from hpcompss.engines.mpi import Mpi
    from hpcompss.engines.ray import Ray

__all__ = [
    "Compss",
    "Dask",
    "Engine",
    "Future",
    "Joblib",
    "Local",
    "Mpi",
    "Ray",
    "check_engine",
    "chosen_engine",
    "follow",
    "make_engine",
    "mpi_rank",
]

_HOMES = {
    "Compss": "hpcompss.engines.compss",
    "Dask": "hpcompss.engines.dask",
    "Engine": "hpcompss.engines.base",
    "Future": "hpcompss.engines.base",
    "Joblib": "hpcompss.engines.joblib",
    "Local": "hpcompss.engines.local",
    "Mpi": "hpcompss.engines.mpi",
    "Ray": "hpcompss.engines.ray",
}

ENGINES = {"local": "Local", "compss": "Compss", "dask": "Dask", "ray": "Ray", "mpi": "Mpi", "joblib": "Joblib"}
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
    """Returns the engine that a name stands for here.

    ``auto`` is ``compss`` inside COMPSs, ``mpi`` where ``mpiexec`` has started several ranks, elsewhere ``local``.
    """
    if name != AUTO:
        return name
    if inside_compss():
        return "compss"
    return "mpi" if _launched(MPI_SIZES) > 1 else "local"


MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
MPI_RANKS = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")
"""The environment variables by which Open MPI, PMIx, and MPICH and its kin tell a process of its job."""


def mpi_rank() -> int:
    """Returns this process's rank among those that ``mpiexec`` has started; 0 where it was not started so."""
    return _launched(MPI_RANKS)


def follow(name: str) -> None:
    """Works for the first rank of MPI until that ends, where this is another one and the engine of this name is MPI's.

    Raises:
        SystemExit: It has.
    """
    if mpi_rank() and chosen_engine(name) == "mpi":
        import_module(_HOMES["Mpi"]).serve()
        raise SystemExit(0)


def _launched(variables: Sequence[str]) -> int:
    found = (os.environ.get(variable, "") for variable in variables)
    return next((int(value) for value in found if value.isdecimal()), 0)


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
