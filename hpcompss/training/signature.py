"""What a user's ``fit`` can be called with, checked before it is called."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from hpcompss.errors import InputError
from hpcompss.training.data import Examples

__all__ = ["FitSignature", "repeated_argument"]

OPTIONS = (
    *("callbacks", "validation_data", "validation_split", "epochs", "initial_epoch", "batch_size", "sample_weight"),
    *("class_weight", "shuffle", "steps_per_epoch", "validation_steps", "validation_batch_size", "validation_freq"),
    "verbose",
)
"""The parameters of Keras's ``fit`` that are no data: a ``fit`` of the user's own takes these by name."""

SETTINGS = {"epochs": "training.epochs", "batch_size": "training.batch_size", "initial_epoch": "fidelity"}
"""The settings that arguments come from; the others are those of ``training.fit``."""

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class FitSignature:
    """The parameters of a ``fit(hp, model, ...)``.

    Args:
        fit: The bound method.

    Attributes:
        text: How the user wrote it, such as ``fit(hp, model, x, y, **kwargs)``.
    """

    def __init__(self, fit: Callable[..., Any]) -> None:
        try:
            self._signature: inspect.Signature | None = inspect.signature(fit)
        except (TypeError, ValueError):
            self._signature = None  # it is not written in Python, so calling it must show
        parameters = [] if self._signature is None else list(self._signature.parameters.values())
        self._rest = parameters[2:]
        opaque = self._signature is None
        self._any_data = opaque or any(each.kind is each.VAR_POSITIONAL for each in parameters)
        self._any_option = opaque or any(each.kind is each.VAR_KEYWORD for each in parameters)
        self._named = [each.name for each in self._rest if each.kind in NAMED]
        shown = ", ".join(str(each).partition(":")[0].partition("=")[0].strip() for each in parameters)
        self.text = f"fit({shown})" if parameters else "fit(hp, model, ...)"

    @property
    def takes_data(self) -> bool:
        """Whether training data can be passed; a ``fit(hp, model, **kwargs)`` makes its own."""
        return self._any_data or bool(self._places) or "x" in self._named

    @property
    def _places(self) -> list[str]:
        """The positional parameters for data: those before the first that is an option of Keras's ``fit``."""
        places = []
        for each in self._rest:
            if each.kind not in POSITIONAL or each.name in OPTIONS:
                break
            places.append(each.name)
        return places

    def names(self, name: str) -> bool:
        """Returns whether a parameter is written out."""
        return name in self._named

    def accepts(self, name: str) -> bool:
        """Returns whether an argument can be passed by this name."""
        return self._any_option or name in self._named

    def arguments(
        self, examples: Examples, stated: Mapping[str, Any], offered: Mapping[str, Any], refit: str | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Returns what to call the ``fit`` with after ``hp`` and ``model``.

        Args:
            examples: The training data.
            stated: What the workflow states, which ``fit`` must accept.
            offered: What is passed where ``fit`` accepts it.
            refit: The setting that asks for a training without validation data, or None.

        Raises:
            InputError: The ``fit`` cannot be called so; the key is the setting at fault.
        """
        data, named = self._data(examples)
        weights = examples.options if self.takes_data else {}
        for name in [*stated, *weights]:
            if not self.accepts(name):
                raise InputError(
                    f"{self.text} does not take {name!r}: add **kwargs to its parameters and pass them on to model.fit",
                    key="data" if name in weights else SETTINGS.get(name, f"training.fit.{name}"),
                )
        known = {name: value for name, value in offered.items() if self._takes_offered(name)}
        options = {**named, **weights, **stated, **known}
        self._check(data, options, refit)
        return data, options

    def _data(self, examples: Examples) -> tuple[tuple[Any, ...], dict[str, Any]]:
        arguments, places = examples.arguments, self._places
        if self._any_data or len(places) >= len(arguments):
            return arguments, {}
        if not places:
            by_name = {name: each for name, each in zip(("x", "y"), arguments, strict=False) if name in self._named}
            if len(by_name) in (0, len(arguments)):
                return (), by_name
        raise InputError(
            f"{self.text} takes no y, which the data has: write fit(self, hp, model, x, y, **kwargs)", key="model"
        )

    def _takes_offered(self, name: str) -> bool:
        # Validation data of the workflow says nothing of data that fit makes itself.
        return self.names(name) or (self.accepts(name) and (name == "callbacks" or self.takes_data))

    def _check(self, data: tuple[Any, ...], options: Mapping[str, Any], refit: str | None) -> None:
        if self._signature is None:
            return
        try:
            self._signature.bind(None, None, *data, **options)
        except TypeError as error:
            missing = re.findall(r"missing a required (?:keyword-only )?argument: '(\w+)'", str(error))
            name = missing[0] if missing else ""
            if name == "validation_data":
                where = f", which {refit} trains the winner without" if refit else ", and there is no validation data"
                raise InputError(
                    f"{self.text} needs validation_data{where}: give it the default None", key=refit or "model"
                ) from None
            if name in ("epochs", "batch_size"):
                raise InputError(f"{self.text} needs {name}: state training.{name}", key=f"training.{name}") from None
            if name:
                raise InputError(
                    f"{self.text} needs {name!r}, which no study passes: give it a default", key="model"
                ) from None
            raise InputError(f"{self.text} cannot be called with the data and **kwargs: {error}", key="model") from None


def repeated_argument(
    error: TypeError, text: str, stated: Collection[str], offered: Collection[str]
) -> InputError | None:
    """Returns what is wrong where the user's ``fit`` passes an argument to ``model.fit`` twice, else None.

    Args:
        error: What ``fit`` has raised.
        text: How the user wrote ``fit``.
        stated: The arguments that the workflow states.
        offered: The other arguments that ``fit`` was called with.
    """
    found = re.search(r"got multiple values for (?:keyword )?argument '(\w+)'", str(error))
    name = found[1] if found else ""
    if name in stated:
        key = SETTINGS.get(name, f"training.fit.{name}")
        return InputError(
            f"{text} passes {name!r} to model.fit itself, and {key} states it too: leave one of them out", key=key
        )
    if name in offered:
        return InputError(
            f"{text} passes {name!r} to model.fit itself, and again within **kwargs: name {name} among its parameters",
            key="model",
        )
    return None
