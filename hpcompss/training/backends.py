"""What differs between Keras's backends: which one is used, what it needs, its threads, its random generators."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcompss.errors import InputError, MissingExtraError, nearest

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

__all__ = [
    "VARIABLE",
    "Generator",
    "check_backend",
    "chosen_backend",
    "generators",
    "import_keras",
    "stated_backend",
    "using_backend",
]

VARIABLE = "KERAS_BACKEND"
"""The environment variable that chooses Keras's backend. Keras reads it once, when it is imported."""

BACKENDS = ("jax", "tensorflow", "torch")
"""The backends that can train. Each is also the name of the extra that brings it."""

DEFAULT = "tensorflow"


def stated_backend() -> str | None:
    """Returns the backend that this process was told to use, by `VARIABLE` or by importing Keras; None for neither."""
    keras = sys.modules.get("keras")
    with contextlib.suppress(AttributeError):  # one whose import failed, or goes on
        return str(keras.backend.backend()) if keras is not None else os.environ.get(VARIABLE) or None
    return os.environ.get(VARIABLE) or None


def chosen_backend() -> str:
    """Returns the backend that Keras uses in this process, without importing it."""
    return stated_backend() or _configured() or DEFAULT


def _configured() -> str | None:
    """Returns the backend that Keras's file of settings names."""
    home = Path.home() if os.access(Path.home(), os.W_OK) else Path("/tmp")
    folder = Path(os.environ.get("KERAS_HOME") or home / ".keras")
    try:
        settings = json.loads((folder / "keras.json").read_text())
        return str(settings["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def using_backend(backend: str) -> Iterator[None]:
    """Has the processes that are started inside the ``with`` use a backend.

    Raises:
        InputError: It cannot train, or Keras has none of this name.
    """
    if backend not in BACKENDS:
        raise InputError(f"Keras cannot train with {VARIABLE}={backend}: {nearest(backend, BACKENDS)}")
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = backend
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def import_keras() -> Any:
    """Returns Keras, with as many threads as this worker has.

    Raises:
        MissingExtraError: Keras or its backend is not installed.
    """
    backend = chosen_backend()
    try:
        import keras
    except ImportError as error:
        package = (getattr(error, "name", None) or "keras").partition(".")[0]
        purpose = "training a model" if backend == DEFAULT else f"training a model with {VARIABLE}={backend}"
        raise MissingExtraError(package, backend if backend in BACKENDS else DEFAULT, purpose) from error
    threads = os.environ.get("HPCOMPSS_THREADS")
    if threads:
        _limit_threads(keras.backend.backend(), int(threads))
    return keras


def _limit_threads(backend: str, threads: int) -> None:
    """Gives a backend its threads. JAX has taken them from the environment (``NPROC``) when it started."""
    # One pool of n threads, and one that hands it work: more would oversubscribe the slot. It is too late for that
    # where what the user passed has started the library already; it then follows the environment.
    with contextlib.suppress(RuntimeError):
        if backend == "tensorflow":
            import tensorflow

            tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
            tensorflow.config.threading.set_inter_op_parallelism_threads(1)
        elif backend == "torch":
            import torch

            torch.set_num_threads(threads)
            torch.set_num_interop_threads(1)


def check_backend(keras: Any, expected: str | None) -> None:
    """Refuses to train with another backend than the study's, or than the user's module asks for.

    Args:
        keras: The module.
        expected: The study's backend, or None for any.

    Raises:
        InputError: Keras has another one.
    """
    used, stated = keras.backend.backend(), os.environ.get(VARIABLE) or None
    if stated not in (None, used):
        raise InputError(
            f"the model's module sets {VARIABLE}={stated}, which is too late, as Keras was imported with {used}: "
            f"set it where hpcompss is started, as in  {VARIABLE}={stated} hpcompss run ...",
            key="model",
        )
    if expected not in (None, used):
        raise InputError(f"this worker's Keras uses {used}, the study {expected}: start it with {VARIABLE}={expected}")


@dataclass(frozen=True)
class Generator:
    """The state of a random generator of which a process has one.

    Attributes:
        read: Returns it.
        write: Sets it.
    """

    read: Callable[[], Array]
    write: Callable[[Array], None]


def generators(keras: Any) -> dict[str, Generator]:
    """Returns Keras's generator and those of its backend by their names, as far as they are there already."""
    # Not asked for where there is none yet, for making it draws from Python's.
    from keras.src.backend.common.global_state import get_global_attribute

    own = get_global_attribute("global_seed_generator")
    backend = keras.backend.backend()
    found = {} if own is None else {"keras": _of_variable(own.state)}
    if backend == "tensorflow":
        import tensorflow

        with contextlib.suppress(RuntimeError):  # there is none, and TensorFlow is to be deterministic
            found["tensorflow"] = _of_variable(tensorflow.random.get_global_generator().state)
    elif backend == "torch":
        import torch

        found["torch"] = _of_torch(torch.get_rng_state, torch.set_rng_state)
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            for device in range(torch.cuda.device_count()):
                found[f"torch/{device}"] = _of_torch(
                    lambda device=device: torch.cuda.get_rng_state(device),
                    lambda state, device=device: torch.cuda.set_rng_state(state, device),
                )
    return found


def _of_variable(variable: Any) -> Generator:
    import numpy as np

    return Generator(lambda: np.asarray(variable), variable.assign)


def _of_torch(read: Callable[..., Any], write: Callable[..., Any]) -> Generator:
    import torch

    return Generator(lambda: read().numpy(), lambda state: write(torch.tensor(state, dtype=torch.uint8)))
