"""Calls of a user's ``build`` and ``fit`` in which nothing is trained: what they declare, and what ``fit`` does.

Keras's own ``fit`` is replaced meanwhile: it returns at once a ``History`` with the metrics that the model reports, so
that what follows it in the user's ``fit`` runs, too. ``evaluate`` and ``predict`` compute on a few rows. A training
loop of the user's own is left at its first step.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import os
import sysconfig
import tempfile
import textwrap
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcompss.errors import InputError
from hpcompss.space.tracing import HyperParameters
from hpcompss.training.callbacks import CurrentTrial, made_callbacks, replaced
from hpcompss.training.data import DataSet, Examples
from hpcompss.training.fitting import build_model, keras_session
from hpcompss.training.hypermodel import ModelBuilder, overrides_fit
from hpcompss.training.job import Job
from hpcompss.training.signature import FitSignature, repeated_argument
from hpcompss.trial import Configuration, Failure

__all__ = ["FitCall", "Rehearsal", "Rehearsed", "refit_epochs"]

ROWS = 256
"""How many rows ``fit`` is given first; where it raises it is given all of them."""

FEW_ROWS = 4
"""How many rows models are called with."""

MAX_WARNINGS = 3
"""How many different errors of ``fit`` are shown."""

DECLARATIONS = ("Int", "Float", "Choice", "Boolean", "Fixed", "conditional_scope")
"""The methods of `HyperParameters` that declare."""


@dataclass(frozen=True)
class FitCall:
    """A call of Keras's ``fit``.

    Attributes:
        given: Whether it is the model that the user's ``fit`` was given which is trained.
        heard: Whether the callbacks that the user's ``fit`` was given are among those of this call.
        epochs: The argument ``epochs``.
        initial_epoch: The argument ``initial_epoch``.
        validated: Whether there is validation data.
        named: The arguments that were passed.
    """

    given: bool
    heard: bool
    epochs: int
    initial_epoch: int
    validated: bool
    named: frozenset[str]


@dataclass(frozen=True)
class Rehearsed:
    """What a call of the user's ``fit`` has shown.

    Attributes:
        calls: The calls of Keras's ``fit``, in order.
        loop: Whether it has a training loop of its own, where it was left.
        returned: Whether it returned a model, alone or with figures.
        unjudged: Whether the objective is missing since there was no validation data.
        judged: The objectives measured on the training data, where there was validation data as well.
        error: What it raised, in one line, else empty.
        place: The user's line that raised it, such as ``load.py:45``; empty where there is none.
    """

    calls: tuple[FitCall, ...] = ()
    loop: bool = False
    returned: bool = False
    unjudged: bool = False
    judged: tuple[str, ...] = ()
    error: str = ""
    place: str = ""

    @property
    def ended(self) -> bool:
        """Whether the ``fit`` was seen from its beginning to its end."""
        return not self.loop and not self.error


class _StepReached(BaseException):
    """Leaves a user's ``fit`` at a training step; no `Exception`, so that the user's code lets it pass."""


class _Failed(Exception):
    """Tells that ``fit`` does not run to its end with a configuration; the reason is a warning already."""


class Rehearsal:
    """Calls the user's code with one configuration after the other.

    Args:
        keras: The module.
        job: What the study's trials share.
        hypermodel: The user's model family.
        data: The data.

    Attributes:
        seen: What the calls have shown, each with the first configuration that showed it.
        warnings: What the user should know.
    """

    def __init__(
        self,
        keras: Any,
        job: Job,
        hypermodel: ModelBuilder,
        data: DataSet,
    ) -> None:
        self._keras = keras
        self._job = job
        self._hypermodel = hypermodel
        self._data = data
        self._signature = FitSignature(hypermodel.fit)
        self._rows: int | None = ROWS
        self._fails = False
        self.seen: list[tuple[Rehearsed, Configuration]] = []
        self.warnings: list[str] = []

    @property
    def signature(self) -> FitSignature:
        """The parameters of the user's ``fit``."""
        return self._signature

    def declare(self, hp: HyperParameters) -> None:
        """Calls ``build``, and ``fit`` where the user wrote one, for what they declare.

        Raises:
            InputError: The user's code does not fit together, or a declaration is wrong.
            Exception: What ``build`` raises; or a sign that ``fit`` raised here and not with the defaults.
        """
        if not overrides_fit(self._hypermodel):
            build_model(self._keras, self._hypermodel, hp)
            with tempfile.TemporaryDirectory(prefix="hpcompss-") as folder:
                self._callbacks(hp, Path(folder))
            return
        first = not self.seen
        shown = self._with_enough_rows(hp)
        if all(shown != each for each, _ in self.seen):
            self.seen.append((shown, dict(hp.values)))
        if shown.error:
            self._warn(shown, {} if first or self._fails else hp.values)
            self._fails = self._fails or first
            if not self._fails:
                raise _Failed
        if first and not shown.loop and not self._signature.takes_data:
            self.warnings.append(
                f"{self._signature.text} takes no data, so it trains on its own; that of the workflow is for the test"
            )

    def without_validation(self, hp: HyperParameters, key: str) -> Rehearsed:
        """Calls ``build`` and ``fit`` as for the refit of a winner.

        Args:
            hp: Hands out the configuration.
            key: The setting that asks for it.

        Raises:
            InputError: The ``fit`` cannot do without validation data.
        """
        return self._attempt(hp, self._rows, refit=key)

    def _with_enough_rows(self, hp: HyperParameters) -> Rehearsed:
        space, values, warnings = list(hp.space), dict(hp.values), list(hp.warnings)
        shown = self._attempt(hp, self._rows)
        rows = self._data.train.rows
        if not shown.error or self._fails or self._rows is None or rows is None or rows <= ROWS:
            return shown
        # What was declared for too few rows need not be declared for all.
        hp.space[:], hp.warnings[:] = space, warnings
        hp.values.clear()
        hp.values.update(values)
        shown = self._attempt(hp, None)
        self._rows = self._rows if shown.error else None
        return shown

    def _attempt(self, hp: HyperParameters, rows: int | None, refit: str | None = None) -> Rehearsed:
        keras = self._keras
        model = build_model(keras, self._hypermodel, hp)
        # A generator is used up by a loop over it.
        data = self._data.open() if isinstance(self._data.train.x, types.GeneratorType) else self._data
        stated, listener = self.stated(), keras.callbacks.Callback()
        if refit:
            stated.pop("initial_epoch", None)
        calls: list[FitCall] = []
        with tempfile.TemporaryDirectory(prefix="hpcompss-") as folder:
            offered: dict[str, Any] = {"callbacks": [*self._callbacks(hp, Path(folder)), listener]}
            if not refit and data.validation is not None:
                offered["validation_data"] = _first(data.validation, rows).as_validation
            arguments, options = self._signature.arguments(_first(data.train, rows), stated, offered, refit)
            try:
                with _nothing_trained(keras, model, listener, calls):
                    outcome = self._hypermodel.fit(hp, model, *arguments, **options)
            except InputError:
                raise
            except _StepReached as step:
                if not self.seen:
                    self._warn_of_later(step)
                return Rehearsed(tuple(calls), loop=True)
            except Exception as error:
                if isinstance(error, TypeError):
                    wrong = repeated_argument(error, self._signature.text, stated, offered)
                    if wrong is not None and wrong.key == "training.epochs" and self._job.levels:
                        raise InputError(
                            f"{self._signature.text} passes 'epochs' to model.fit itself, but a scheduler decides on "
                            "it: pass **kwargs on, or leave the section fidelity out",
                            key="fidelity",
                        ) from error
                    if wrong is not None:
                        raise wrong from error
                return Rehearsed(tuple(calls), error=Failure.of(error).reason, place=_place_of(error))
        several = outcome if isinstance(outcome, list | tuple) else [outcome]
        returned = any(isinstance(each, keras.Model) for each in several)
        if self.seen:
            return Rehearsed(tuple(calls), returned=returned)
        history = next((each for each in several if isinstance(each, keras.callbacks.History)), None)
        return Rehearsed(
            tuple(calls),
            returned=returned,
            unjudged=self._lacks_objective(outcome),
            judged=self._judged_by_training(history if outcome is not None else getattr(model, "history", None)),
        )

    def _lacks_objective(self, outcome: Any) -> bool:
        """Returns whether a ``History`` has the objective's metric for the training data alone."""
        metric = self._job.metric
        if not metric.startswith("val_") or not isinstance(outcome, self._keras.callbacks.History):
            return False
        return metric not in outcome.history and metric.removeprefix("val_") in outcome.history

    def _judged_by_training(self, history: Any) -> tuple[str, ...]:
        """Returns the objectives of which a ``History`` has the values on the validation data, too."""
        names = [each.metric for each in self._job.objectives if not each.metric.startswith("val_")]
        if not names or not isinstance(history, self._keras.callbacks.History):
            return ()
        return tuple(name for name in names if {name, f"val_{name}"} <= set(history.history))

    @property
    def weighted(self) -> bool:
        """Whether ``fit`` is given weights of the rows."""
        return self._data.train.weights is not None and self._signature.takes_data

    def stated(self) -> dict[str, Any]:
        """Returns the arguments of ``fit`` that the workflow states."""
        job = self._job
        levels = [each for each in job.levels if isinstance(each, int)]
        stated = {
            "epochs": levels[-1] if levels else job.epochs,
            "batch_size": job.batch_size,
            "initial_epoch": (levels[-2] if len(levels) > 1 else 0) if levels else None,
            **job.fit,
        }
        return {name: value for name, value in stated.items() if value is not None}

    def _callbacks(self, hp: HyperParameters, folder: Path) -> list[Any]:
        # Callbacks themselves declare nothing, and copies may be large.
        makers = [each for each in self._job.callbacks if not isinstance(each, self._keras.callbacks.Callback)]
        return made_callbacks(makers, hp, CurrentTrial(0, dict(hp.values), folder))

    def _warn(self, shown: Rehearsed, values: Mapping[str, Any]) -> None:
        what = f"fit raised {shown.error}" + (f" ({shown.place})" if shown.place else "")
        if len(self.warnings) < MAX_WARNINGS and not any(each.startswith(what) for each in self.warnings):
            where = f" with {', '.join(f'{name}={value!r}' for name, value in values.items())}" if values else ""
            self.warnings.append(
                f"{what} while its hyper-parameters were looked for{where}: those after that line are not searched"
            )

    def _warn_of_later(self, step: BaseException) -> None:
        """Warns where a training loop declares hyper-parameters after its first step, at which it was left."""
        function = inspect.unwrap(self._hypermodel.fit)
        code = getattr(function, "__code__", None)
        lines = [line for frame, line in traceback.walk_tb(step.__traceback__) if frame.f_code is code]
        if not lines:
            return
        names = [each for each in inspect.signature(function).parameters if each != "self"]
        name = names[0] if names else ""
        later = _declared_after(function, name, lines[0])
        if later:
            file = os.path.basename(getattr(code, "co_filename", ""))
            self.warnings.append(
                f"fit declares hyper-parameters after the first step of its training loop ({file}:{later}), which are "
                "not searched: declare them before the loop"
            )


def refit_epochs(
    job: Job, hypermodel: ModelBuilder, data: DataSet, configuration: Configuration, epoch: int | None
) -> int | None:
    """Returns for how many epochs a refit asks, or None for those of the job.

    A ``fit`` that calls ``model.fit`` several times would train each phase for the epochs of all; it is given the
    workflow's epochs, as in the trial.

    Args:
        job: What the study's trials share.
        hypermodel: The user's model family.
        data: The data.
        configuration: The winner's.
        epoch: The epoch that gave its value, over all phases.
    """
    if not overrides_fit(hypermodel):
        return epoch
    stages = [level for level in job.levels if isinstance(level, int)]
    # A fit of the user's own that sets its epochs itself would be given them twice.
    if not job.epochs and not stages:
        return None
    with keras_session(job.seed) as keras:
        shown = Rehearsal(keras, job, hypermodel, data.open()).without_validation(
            HyperParameters(configuration), "training.refit"
        )
    if len(shown.calls) > 1:
        return None
    return epoch or job.epochs or stages[-1]


def _first(examples: Examples, rows: int | None) -> Examples:
    """Returns the first rows, or all of what has none or where no number is given."""
    return examples if rows is None or examples.rows is None else examples.take(slice(rows))


# Where the user's code is


def _place_of(error: BaseException) -> str:
    """Returns the innermost line of the user's code in a traceback: ``load.py:45``."""
    foreign = [Path(__file__).resolve().parents[1]]
    foreign += [
        Path(path).resolve() for name, path in sysconfig.get_paths().items() if name.endswith(("lib", "stdlib"))
    ]
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = Path(frame.f_code.co_filename)
        if file.suffix == ".py" and not any(file.resolve().is_relative_to(folder) for folder in foreign):
            place = f"{file.name}:{line}"
    return place


def _declared_after(function: Any, name: str, line: int) -> int | None:
    """Returns the first line after another one where a function declares a hyper-parameter, or None.

    Args:
        function: The user's ``fit``.
        name: What it calls its ``hp``.
        line: The line of the file after which to look.
    """
    try:
        source, begun = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(source)))
    except (OSError, SyntaxError, TypeError):
        return None
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        declares = (
            isinstance(node.func, ast.Attribute)
            and node.func.attr in DECLARATIONS
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == name
        )
        hands_on = any(isinstance(each, ast.Name) and each.id == name for each in node.args)
        if declares or hands_on:
            lines.append(node.lineno + begun - 1)
    return min((each for each in lines if each > line), default=None)


# What stands in for Keras


@contextlib.contextmanager
def _nothing_trained(keras: Any, model: Any, listener: Any, calls: list[FitCall]) -> Iterator[None]:
    """Replaces what trains in Keras by what looks the same, and what predicts by what takes no time.

    Args:
        keras: The module.
        model: The model that the user's ``fit`` is given.
        listener: One of the callbacks that it is given.
        calls: Takes the calls of Keras's ``fit``.
    """
    fit, evaluate, predict = keras.Model.fit, keras.Model.evaluate, keras.Model.predict
    load_weights, load_model = keras.Model.load_weights, keras.models.load_model
    signature = inspect.signature(fit)
    trained: list[Any] = [model]

    def step(*args: Any, **kwargs: Any) -> None:
        raise _StepReached

    @functools.wraps(fit)
    def pretend(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        trainee = given["self"]
        trained.append(trainee)
        callbacks = given.get("callbacks")
        callbacks = getattr(callbacks, "callbacks", None) or keras.tree.flatten(callbacks)
        call = FitCall(
            given=trainee is model,
            heard=any(each is listener for each in callbacks),
            epochs=int(given.get("epochs", 1)),
            initial_epoch=int(given.get("initial_epoch", 0)),
            validated=given.get("validation_data") is not None or bool(given.get("validation_split")),
            named=frozenset(given) - {"self"},
        )
        calls.append(call)
        trainee.stop_training = False
        figures = functools.partial(_figures, keras, evaluate, trainee, given, call.validated, callbacks)
        trainee.history = _history(keras, trainee, range(call.initial_epoch, call.epochs), figures)
        return trainee.history

    def few_evaluated(model: Any, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        few = _few(Examples(x, y, kwargs.pop("sample_weight", None)))
        known = {name: kwargs[name] for name in ("return_dict",) if name in kwargs}
        with _eager(model):
            return evaluate(model, *few.arguments, **few.options, **known, verbose=0)

    def few_predicted(model: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        import numpy as np

        examples = Examples(x)
        few = _few(examples)
        with _eager(model):
            outputs = predict(model, few.x, verbose=0)
        rows = None if few is examples else examples.rows
        if rows is None:
            return outputs
        # As many rows as were asked for, since they are compared with as many targets.
        return keras.tree.map_structure(lambda each: each[np.arange(rows) % len(each)], outputs)

    def weights_there(model: Any, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        # A callback that did not run has written no file.
        return load_weights(model, filepath, *args, **kwargs) if os.path.exists(filepath) else None

    def model_there(filepath: Any, *args: Any, **kwargs: Any) -> Any:
        return load_model(filepath, *args, **kwargs) if os.path.exists(filepath) else trained[-1]

    with contextlib.ExitStack() as stack:
        for name, stand_in in (
            ("fit", pretend),
            ("evaluate", few_evaluated),
            ("predict", few_predicted),
            ("train_on_batch", step),
            ("load_weights", weights_there),
        ):
            stack.enter_context(replaced(keras.Model, name, stand_in))
        stack.enter_context(replaced(keras.optimizers.Optimizer, "apply", step))
        for module in (keras.models, keras.saving):
            stack.enter_context(replaced(module, "load_model", model_there))
        yield


def _few(examples: Examples) -> Examples:
    """Returns a few rows, or a stream's first batch; all where the user's own data cannot be cut."""
    try:
        return examples.batch(FEW_ROWS)
    except Exception:
        return examples


def _history(keras: Any, model: Any, epochs: range, figures: Callable[[], Mapping[str, float]]) -> Any:
    """Returns a ``History`` of epochs that never were, whose figures are computed when they are asked for."""

    class Pretended(keras.callbacks.History):  # type: ignore[misc]
        _values: dict[str, list[float]] | None = None

        @property
        def history(self) -> dict[str, list[float]]:
            if self._values is None:
                self._values = {name: [value] * len(epochs) for name, value in figures().items()}
            return self._values

        @history.setter
        def history(self, values: dict[str, list[float]]) -> None:
            self._values = values or None

    history = Pretended()
    history.epoch = list(epochs)
    history.set_params({"verbose": 0, "epochs": epochs.stop, "steps": 1})
    history.set_model(model)
    return history


def _figures(
    keras: Any,
    evaluate: Callable[..., Any],
    model: Any,
    given: Mapping[str, Any],
    validated: bool,
    callbacks: Sequence[Any],
) -> dict[str, float]:
    """Returns the metrics that a model reports in a training: those of a few rows, or 1 where that cannot be.

    Args:
        keras: The module.
        evaluate: Keras's.
        model: The model.
        given: The arguments of ``fit``.
        validated: Whether there is validation data.
        callbacks: Those of the training.
    """
    try:
        few = _few(Examples(given.get("x"), given.get("y"), given.get("sample_weight")))
        with _eager(model):
            scores = evaluate(model, *few.arguments, **few.options, verbose=0, return_dict=True)
    except Exception:
        # A model that only trains has names alone.
        scores = {"loss": 1.0, **{each.name: 1.0 for each in model.metrics if each.name != "compile_metrics"}}
    figures = {name: value if isinstance(value, float) else float(value) for name, value in scores.items()}
    if validated:
        figures |= {f"val_{name}": value for name, value in figures.items()}
    schedulers = (keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau)
    if any(isinstance(each, schedulers) for each in callbacks):
        figures["learning_rate"] = float(model.optimizer.learning_rate)
    return figures


@contextlib.contextmanager
def _eager(model: Any) -> Iterator[None]:
    """Runs a model without compiling it, which takes longer than a few rows do."""
    before = model.run_eagerly
    functions = ("test_function", "predict_function")
    model.run_eagerly = True
    for name in functions:
        setattr(model, name, None)
    try:
        yield
    finally:
        model.run_eagerly = before
        for name in functions:
            setattr(model, name, None)
