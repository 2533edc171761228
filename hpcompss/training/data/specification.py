"""What data a study trains on, as the user states it: plain values, checked, that travel to every worker."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hpcompss.errors import InputError, nearest

__all__ = ["KERAS_DATA_SETS", "DataSpecification", "PickledFunction"]

KERAS_DATA_SETS = (
    "boston_housing",
    "california_housing",
    "cifar10",
    "cifar100",
    "fashion_mnist",
    "imdb",
    "mnist",
    "reuters",
)
"""The modules of `keras.datasets`; stated here because the master must not import Keras to ask."""

LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class PickledFunction:
    """A function of the Python API, kept as bytes so that a specification is hashable and pickles everywhere alike.

    Attributes:
        module: Where it was defined.
        name: Its qualified name.
        payload: Its cloudpickle.
    """

    module: str
    name: str
    payload: bytes

    def __call__(self) -> Any:
        import cloudpickle

        return cloudpickle.loads(self.payload)()

    @classmethod
    def of(cls, function: Callable[[], Any]) -> PickledFunction:
        """Returns ``function`` as bytes."""
        import cloudpickle

        module = getattr(function, "__module__", None) or "__main__"
        name = getattr(function, "__qualname__", type(function).__qualname__)
        return cls(module, name, cloudpickle.dumps(function))


@dataclass(frozen=True)
class DataSpecification:
    """The workflow's ``data:`` section. Hashable, and pickles.

    A number of examples is a count (a whole number) or a fraction of what there is (a number with a point). They apply
    in this order: ``test``, then ``train``, then ``validation``, each to what the one before has left.

    Attributes:
        name: ``digits`` or a data set of `keras.datasets`; only a title when ``path`` or ``function`` is stated.
        path: A file or folder whose format is recognised by looking (see `hpcompss.training.data.recognition`); made
            absolute here, so state it relative to the current folder, or absolute.
        function: ``module:function`` or ``/path/file.py:function``, or a callable without arguments, that returns
            ``((x_train, y_train), (x_test, y_test))`` or a dict of the arrays by name.
        train: How much of the training set to use; all of it by default.
        test: How much of the source's test set to use, or, when it has none, to split off its training set.
        validation: How much of the training set to split off for validation; 0.2 by default. An error when the source
            has a validation set of its own, which is then used whole.
        seed: Seed of subsets and splits.
        image_size: Height and width in pixels to which image files are resized; None where all have one size.

    Raises:
        InputError: A value is of the wrong type or out of range, the data set is unknown, or no source is stated.
    """

    name: str | None = None
    path: str | os.PathLike[str] | None = None
    function: str | Callable[[], Any] | None = None
    train: int | float | None = None
    test: int | float | None = None
    validation: int | float | None = None
    seed: int = 0
    image_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        _check_source(self)
        for key in ("train", "test", "validation"):
            _check_amount(getattr(self, key), f"data.{key}", whole=key != "validation")
        _check_seed(self.seed)
        if self.path is not None:
            object.__setattr__(self, "path", os.path.abspath(os.path.expanduser(self.path)))
        if callable(self.function) and not isinstance(self.function, PickledFunction):
            object.__setattr__(self, "function", PickledFunction.of(self.function))
        if self.image_size is not None:
            object.__setattr__(self, "image_size", _checked_size(self))

    @property
    def title(self) -> str:
        """What to call the data: ``cifar10``, ``flowers.tar.gz``, ``my_data:load``, ``my_data.py:load``."""
        if self.name is not None:
            return self.name
        return os.path.basename(self.path if self.path is not None else self.function_name)

    @property
    def function_name(self) -> str:
        """The function by its name; empty when the data comes from elsewhere."""
        if isinstance(self.function, PickledFunction):
            return f"{self.function.module}:{self.function.name}"
        return self.function if isinstance(self.function, str) else ""

    @property
    def source_description(self) -> str:
        """Where the data comes from, for messages."""
        if self.path is not None:
            return f"'{os.fspath(self.path)}'"
        if self.function is not None:
            return f"the function '{self.function_name}'"
        return f"the data set '{self.name}'"


def _check_source(specification: DataSpecification) -> None:
    for key in ("name", "function", "path"):
        value = getattr(specification, key)
        accepted = isinstance(value, str) or (key == "function" and callable(value))
        accepted = accepted or (key == "path" and isinstance(value, os.PathLike))
        if value is not None and (not accepted or not value):
            raise InputError(f"must be a text that is not empty, not {value!r}", key=f"data.{key}")
    if specification.path is not None and specification.function is not None:
        raise InputError("state either data.path or data.function, not both", key="data.function")
    if specification.path is not None or specification.function is not None:
        return
    if specification.name is None:
        raise InputError("no source is stated: give data.name, data.path or data.function", key="data")
    known = ("digits", *KERAS_DATA_SETS)
    if specification.name not in known:
        hint = nearest(specification.name, known)
        raise InputError(
            f"unknown data set '{specification.name}': {hint} (your own files go in data.path)", key="data.name"
        )
    if specification.image_size is not None:
        raise InputError("resizes image files only: state data.path too, or leave it out", key="data.image_size")


def _check_amount(amount: object, key: str, *, whole: bool) -> None:
    if amount is None:
        return
    if isinstance(amount, bool) or not isinstance(amount, (int, float)):
        raise InputError(f"must be a count such as 1000 or a fraction such as 0.2, not {amount!r}", key=key)
    if isinstance(amount, int) and amount < 1:
        raise InputError(f"a count must be at least 1, not {amount}", key=key)
    if isinstance(amount, float) and not (0 < amount < 1 or (whole and amount == 1)):
        raise InputError(
            f"a fraction must be above 0 and {'at most' if whole else 'below'} 1, not {amount} (a count has no point)",
            key=key,
        )


def _check_seed(seed: object) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"must be a whole number from 0 to {LARGEST_SEED}, not {seed!r}", key="data.seed")


def _checked_size(specification: DataSpecification) -> tuple[int, int]:
    size = specification.image_size
    if isinstance(size, (list, tuple)) and len(size) == 2:
        height, width = size
        if all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in (height, width)):
            return height, width
    raise InputError(f"must be [height, width] in pixels, such as [32, 32], not {size!r}", key="data.image_size")
