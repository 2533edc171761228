"""What data a study trains on, as the user states it: plain values, checked, that travel to every worker."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hpcompss.errors import InputError, nearest, shown

__all__ = ["KERAS_DATA_SETS", "NO_VALIDATION", "PASSED", "DataSpecification", "PickledFunction", "ValidationSplit"]

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

PASSED = "passed"
"""The name of the function that returns streams which were passed in Python."""


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
class ValidationSplit:
    """How validation data is split off the training data.

    Attributes:
        share: How much of it: a count or a fraction.
        order: ``"shuffled"`` draws the rows; ``"as_given"`` takes the last ones, as for a series in time.
        stratify: Whether classes are kept in proportion, or the column whose values are; None for targets that are
            classes alone.
        groups: The column whose equal values stay together, or None.

    Raises:
        InputError: A value is of the wrong type or out of range, or two of them contradict each other.
    """

    share: int | float | None = None
    order: str = "shuffled"
    stratify: bool | str | None = None
    groups: str | None = None

    def __post_init__(self) -> None:
        key = "data.validation"
        _check_amount(self.share, f"{key}.share", whole=False)
        if self.order not in ("shuffled", "as_given"):
            hint = nearest(str(self.order), ("shuffled", "as_given"))
            raise InputError(f"must be shuffled or as_given, not {shown(self.order)}; {hint}", key=f"{key}.order")
        if self.stratify is not None and not (isinstance(self.stratify, bool | str) and self.stratify != ""):
            raise InputError(f"must be true, false or a column, not {shown(self.stratify)}", key=f"{key}.stratify")
        if self.groups is not None and not (isinstance(self.groups, str) and self.groups):
            raise InputError(f"must be the name of a column, not {shown(self.groups)}", key=f"{key}.groups")
        if self.in_order and (self.stratify or self.groups):
            what = "stratify" if self.stratify else "groups"
            raise InputError(f"rows in the order as_given are not drawn: leave {what} out", key=f"{key}.{what}")

    @property
    def in_order(self) -> bool:
        """Whether rows keep their order."""
        return self.order == "as_given"

    @property
    def way(self) -> tuple[object, ...]:
        """All but how much: what decides which rows go together."""
        return (self.order, self.stratify, self.groups)


NO_VALIDATION = "none"
"""What ``validation`` says where trials are judged by the training alone."""


@dataclass(frozen=True)
class DataSpecification:
    """The workflow's ``data:`` section. Hashable, and pickles.

    A number of examples is a count (a whole number) or a fraction of what there is (a number with a point). They apply
    in this order: ``test``, then ``train``, then ``validation``, each to what the one before has left.

    Attributes:
        name: ``digits`` or a data set of `keras.datasets`; only a title when ``path`` or ``function`` is stated.
        path: A file or folder whose format is recognised by looking (see `hpcompss.training.data.recognition`); made
            absolute here, so state it relative to the current folder, or absolute.
        function: ``module:function`` or ``/path/file.py:function``, or a callable without arguments, that returns data
            in one of the forms of `hpcompss.training.data.function.parts_of`.
        arrays: The name in the cache of arrays that were given in Python.
        train: How much of the training set to use; all of it by default.
        test: How much of the source's test set to use, or, when it has none, to split off its training set.
        validation: How much of the training set to split off for validation (0.2 by default), how
            (`ValidationSplit`), or ``"none"`` to judge trials by the training alone. An error when the source
            has a validation set of its own, which is then used whole.
        seed: Seed of subsets and splits.
        image_size: Height and width in pixels to which image files are resized; None where all have one size.
        target: The column of a table that holds the targets, or several.
        features: The columns of a table that are features; all others by default.
        weights: The column of a table that holds the weights of the rows.
        cache: Whether what the function returns is kept for other studies, until the function's file changes.
        allow_nan: Whether targets may be NaN.
        run: Tells one run of a study from others, for data that is made anew for each.

    Raises:
        InputError: A value is of the wrong type or out of range, the data set is unknown, or no source is stated.
    """

    name: str | None = None
    path: str | os.PathLike[str] | None = None
    function: str | Callable[[], Any] | None = None
    arrays: str | None = None
    train: int | float | None = None
    test: int | float | None = None
    validation: int | float | str | ValidationSplit | None = None
    seed: int = 0
    image_size: tuple[int, int] | None = None
    target: str | tuple[str, ...] | None = None
    features: tuple[str, ...] | None = None
    weights: str | None = None
    cache: bool = False
    allow_nan: bool = False
    run: str = ""

    def __post_init__(self) -> None:
        _check_source(self)
        for key in ("train", "test"):
            _check_amount(getattr(self, key), f"data.{key}", whole=True)
        if not isinstance(self.validation, ValidationSplit) and self.validation != NO_VALIDATION:
            _check_amount(self.validation, "data.validation", whole=False)
        if self.cache and self.function is None:
            raise InputError("belongs to data.function: leave it out", key="data.cache")
        _check_seed(self.seed)
        if self.path is not None:
            object.__setattr__(self, "path", os.path.abspath(os.path.expanduser(self.path)))
        if callable(self.function) and not isinstance(self.function, PickledFunction):
            object.__setattr__(self, "function", PickledFunction.of(self.function))
        if self.image_size is not None:
            object.__setattr__(self, "image_size", _checked_size(self))
        for key in ("target", "features", "weights"):
            _check_columns(self, key)

    @property
    def split(self) -> ValidationSplit | None:
        """How validation data is split off; None for no validation."""
        if self.validation == NO_VALIDATION:
            return None
        if isinstance(self.validation, ValidationSplit):
            return self.validation
        return ValidationSplit(None if isinstance(self.validation, str) else self.validation)

    @property
    def split_columns(self) -> dict[str, str]:
        """The columns that splits go by, by the name of the setting: ``{"groups": "patient"}``."""
        stated = {} if self.split is None else {"groups": self.split.groups, "stratify": self.split.stratify}
        return {setting: column for setting, column in stated.items() if isinstance(column, str)}

    @property
    def title(self) -> str:
        """What to call the data: ``cifar10``, ``flowers.tar.gz``, ``my_data:load``, ``my_data.py:load``."""
        if self.name is not None:
            return self.name
        if self.arrays is not None or self.function_name == PASSED:
            return "data"
        return os.path.basename(self.path if self.path is not None else self.function_name)

    @property
    def function_name(self) -> str:
        """The function by its name; empty when the data comes from elsewhere."""
        if isinstance(self.function, PickledFunction):
            return ":".join(part for part in (self.function.module, self.function.name) if part)
        return self.function if isinstance(self.function, str) else ""

    @property
    def source_description(self) -> str:
        """Where the data comes from, for messages."""
        if self.path is not None:
            return f"'{os.fspath(self.path)}'"
        if self.arrays is not None or self.function_name == PASSED:
            return "the data passed"
        if self.function is not None:
            return f"the function '{self.function_name}'"
        return f"the data set '{self.name}'"


def _check_source(specification: DataSpecification) -> None:
    for key in ("name", "function", "path", "arrays"):
        value = getattr(specification, key)
        accepted = isinstance(value, str) or (key == "function" and callable(value))
        accepted = accepted or (key == "path" and isinstance(value, os.PathLike))
        if value is not None and (not accepted or not value):
            raise InputError(f"must be a text that is not empty, not {shown(value)}", key=f"data.{key}")
    sources = [key for key in ("path", "function", "arrays") if getattr(specification, key) is not None]
    if len(sources) > 1:
        first, second = (f"data.{key}" for key in sources[:2])
        raise InputError(f"state either {first} or {second}, not both", key=second)
    if sources:
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
        none = ", or none" if key == "data.validation" else ""
        raise InputError(f"must be a count such as 1000 or a fraction such as 0.2{none}, not {shown(amount)}", key=key)
    if isinstance(amount, int) and amount < 1:
        raise InputError(f"a count must be at least 1, not {amount}", key=key)
    if isinstance(amount, float) and not (0 < amount < 1 or (whole and amount == 1)):
        raise InputError(
            f"a fraction must be above 0 and {'at most' if whole else 'below'} 1, not {amount} (a count has no point)",
            key=key,
        )


def _check_seed(seed: object) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"must be a whole number from 0 to {LARGEST_SEED}, not {shown(seed)}", key="data.seed")


def _checked_size(specification: DataSpecification) -> tuple[int, int]:
    size = specification.image_size
    if isinstance(size, (list, tuple)) and len(size) == 2:
        height, width = size
        if all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in (height, width)):
            return height, width
    raise InputError(f"must be [height, width] in pixels, such as [32, 32], not {shown(size)}", key="data.image_size")


def _check_columns(specification: DataSpecification, key: str) -> None:
    value = getattr(specification, key)
    if value is None:
        return
    names = value if isinstance(value, tuple) and key != "weights" else (value,)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise InputError(f"must be the name of a column, or a list of them, not {shown(value)}", key=f"data.{key}")
    if specification.path is None:
        raise InputError("names columns of a table: state data.path too, or leave it out", key=f"data.{key}")
    if key == "features":
        object.__setattr__(specification, key, names)
