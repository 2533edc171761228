"""What a user's model module gives: a `build(hp)` function or a `HyperModel`, as in KerasTuner."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

from hpcompss.errors import InputError
from hpcompss.space.tracing import HyperParameters

__all__ = ["HyperModel", "ModelBuilder", "as_hypermodel", "origin", "overrides_fit", "own_evaluate"]

LIBRARIES = ("hpcompss", "keras_tuner")
"""The packages whose ``fit`` and ``evaluate`` only pass on to the model's."""


class HyperModel:
    """A family of Keras models: override `build`, and `fit` where the training varies too.

    Override `evaluate` where a model cannot be scored on the test set as it is, because `fit` prepares the data.

    Args:
        name: For the user's own use.
        tunable: Whether the hyper-parameters declared in `build` may vary; if not, they keep their defaults.
    """

    def __init__(self, name: str | None = None, tunable: bool = True) -> None:
        self.name = name
        self.tunable = tunable
        if not tunable:
            # What a copy declares stays out of the space, and gets its defaults.
            build = self.build
            self.build = lambda hp: build(hp.copy())  # type: ignore[method-assign]

    def build(self, hp: HyperParameters) -> Any:
        """Returns a compiled Keras model for the values that ``hp`` hands out."""
        raise NotImplementedError(f"{type(self).__name__} must override build(hp)")

    def fit(self, hp: HyperParameters, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Trains the model.

        Args:
            hp: Hands out hyper-parameters of the training, such as the batch size.
            model: What `build` returned.
            *args: The training data, ``x, y``. A ``fit(hp, model, **kwargs)`` makes its own.
            **kwargs: ``validation_data`` (but in a refit), ``callbacks`` (which must be passed on), and ``epochs``,
                ``batch_size`` and further arguments where the workflow states them.

        Returns:
            What ``model.fit`` returns, or a mapping of metrics, or the objective as a number. Where it trains another
            model than it was given, that model, or that model and its figures: ``return model, history``.
        """
        return model.fit(*args, **kwargs)

    def evaluate(self, hp: HyperParameters, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Scores a trained model on the test set, at the end of the search.

        Args:
            hp: Hands out the configuration that the model was trained with.
            model: The trained model.
            *args: The test data, ``x, y``.
            **kwargs: ``sample_weight`` where the test data has weights.

        Returns:
            A mapping of metrics, what ``model.evaluate`` returns, or the objective as a number.
        """
        return model.evaluate(*args, **kwargs, return_dict=True)


class ModelBuilder(Protocol):
    """Anything with `HyperModel`'s two methods, such as a KerasTuner ``HyperModel``."""

    def build(self, hp: HyperParameters) -> Any: ...

    def fit(self, hp: HyperParameters, model: Any, *args: Any, **kwargs: Any) -> Any: ...


class _FunctionModel(HyperModel):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self._function = function

    def build(self, hp: HyperParameters) -> Any:
        return self._function(hp)


def as_hypermodel(found: Any, reference: str) -> ModelBuilder:
    """Returns what ``reference`` named as something to build and fit: a function, a class or an object.

    Raises:
        InputError: It is none of these.
    """
    if hasattr(found, "compile") and hasattr(found, "fit"):
        raise InputError(f"{reference} is a Keras model: name a function build(hp) that returns one", key="model")
    if inspect.isclass(found):
        try:
            inspect.signature(found).bind()
        except TypeError as error:
            raise InputError(
                f"{reference} cannot be made without arguments ({error}): name one made", key="model"
            ) from None
        found = found()
    if hasattr(found, "build") and hasattr(found, "fit"):
        return found  # type: ignore[no-any-return]
    if callable(found):
        return _FunctionModel(found)
    raise InputError(f"{reference} is neither a function build(hp) nor a HyperModel", key="model")


def origin(model: ModelBuilder) -> Any:
    """Returns what the user gave: a function, or an object with ``build`` and ``fit``."""
    return model._function if isinstance(model, _FunctionModel) else model


def own_evaluate(model: ModelBuilder) -> Callable[..., Any] | None:
    """Returns the user's `evaluate`, or None where there is none."""
    method: Callable[..., Any] | None = getattr(model, "evaluate", None)
    home = getattr(method, "__module__", None) or ""
    return None if method is None or home.partition(".")[0] in LIBRARIES else method


def overrides_fit(model: ModelBuilder) -> bool:
    """Returns whether the user wrote a `fit`, in which hyper-parameters may be declared as well."""
    home = getattr(model.fit, "__module__", None) or ""
    return home.partition(".")[0] not in LIBRARIES
