"""Building and training one Keras model on a worker: the only code that touches Keras, and inside functions only."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import inspect
import math
import statistics
import sys
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from hpcompss import progress
from hpcompss.errors import InputError, nearest, shown
from hpcompss.loading import load_attribute
from hpcompss.space.tracing import HyperParameters
from hpcompss.training.backends import check_backend, import_keras
from hpcompss.training.callbacks import CurrentTrial, made_callbacks, place_callback, reading_placed, replaced
from hpcompss.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    build_variables,
    give_callbacks,
    give_model,
    give_random_states,
    put_callbacks,
    put_model,
    put_random_states,
    write_checkpoint,
)
from hpcompss.training.data import Examples
from hpcompss.training.evidence import Evidence, input_specification
from hpcompss.training.feeding import feed, feed_evaluation, needing_whole_epochs
from hpcompss.training.hypermodel import ModelBuilder, as_hypermodel, overrides_fit
from hpcompss.training.job import INFERENCE, Job
from hpcompss.training.kept import example_inputs, reset_metrics
from hpcompss.training.signature import FitSignature, repeated_argument
from hpcompss.training.user_objects import shared_layers
from hpcompss.trial import Failure, is_better

__all__ = [
    "Curves",
    "build_model",
    "fit_model",
    "fixed_batch_size",
    "hypermodel_of",
    "inference_milliseconds",
    "keras_session",
    "load_hypermodel",
    "scored",
    "unknown_metric",
]


WARM_UP = 5
"""Predictions before those that are timed."""

TIMED, MOST_TIMED = 100, 2.0
"""So many predictions are timed, or as many as fit into so many seconds, but no fewer than those of the warm-up."""


@contextlib.contextmanager
def keras_session(seed: int) -> Iterator[Any]:
    """Gives Keras, with this worker's threads and the trial's seed; afterwards frees what the models held."""
    keras = _import_keras()
    policy = keras.config.dtype_policy()
    keras.utils.set_random_seed(seed % 2**32)
    before = set(_gradients())
    try:
        yield keras
    finally:
        # What one trial has set must not reach the next.
        keras.config.set_dtype_policy(policy)
        keras.backend.clear_session()
        # Each would keep its model's whole graph for as long as the worker lives, which clear_session overlooks:
        # 9 MB a trial of the digits network, and ever slower trials (TensorFlow's issue 80895).
        gradients = _gradients()
        for name in [each for each in gradients if each.startswith("CustomGradient-") and each not in before]:
            del gradients[name]
        gc.collect()


def _gradients() -> dict[str, Any]:
    """Returns TensorFlow's registry of gradients by name, or an empty one where it has none."""
    operations = sys.modules.get("tensorflow.python.framework.ops")
    registry: dict[str, Any] = getattr(getattr(operations, "gradient_registry", None), "_registry", {})
    return registry


@functools.cache
def _import_keras() -> Any:
    keras = import_keras()
    # Keras collects garbage at the end of each session: 0.3 s while it looks at all that was imported, else 0.02 s.
    gc.collect()
    gc.freeze()
    return keras


def load_hypermodel(job: Job) -> ModelBuilder:
    """Returns the user's model family. Raises what importing its module raises."""
    return hypermodel_of(job.model, job.backend)


def hypermodel_of(model: Any, backend: str | None = None) -> ModelBuilder:
    """Returns the model family that ``file.py:build`` names or a Python object is; see `load_hypermodel`."""
    # First of all: the user's module may start TensorFlow, whose threads are then as they are.
    keras = _import_keras()
    if isinstance(model, str):
        found = load_attribute(model)
        check_backend(keras, backend)
        return as_hypermodel(found, model)
    check_backend(keras, backend)
    return as_hypermodel(model, getattr(model, "__qualname__", "model"))


def build_model(keras: Any, hypermodel: ModelBuilder, hp: HyperParameters) -> Any:
    """Returns the model for a configuration, compiled unless the user's own ``fit`` may do without.

    Raises:
        InputError: ``build`` returns anything else.
    """
    _restore_shared_layers(keras, hypermodel)
    model = hypermodel.build(hp)
    if not isinstance(model, keras.Model):
        raise InputError(f"build(hp) must return a Keras model, not {shown(model)}", key="model")
    if not model.compiled and not overrides_fit(hypermodel):
        raise InputError("build(hp) must compile the model before it returns it: call model.compile(...)", key="model")
    reset_metrics(keras, model)  # a metric that the user's module holds still has what it has seen of the last model
    return model


def _restore_shared_layers(keras: Any, hypermodel: ModelBuilder) -> None:
    """Gives layers that the user's module holds, a base model say, the weights they had before the first trial."""
    for layer in shared_layers(keras, hypermodel):
        if layer not in _SHARED:
            _SHARED[layer] = layer.get_weights() if layer.built else None
        elif (weights := _SHARED[layer]) is not None:
            layer.set_weights(weights)


_SHARED: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
"""The layers that users' modules hold, with their first weights; None of one that had none yet."""


class Curves:
    """What a training reported after each epoch, earlier stages included, and the weights of the epoch that counts.

    Attributes:
        values: Each metric's values, one an epoch; NaN where an epoch had none.
        epoch: The epoch (from 1) that counts, or None where there is none or the figures are those of no epoch.
        value: The objective, NaN where there is none.
        since: How many of the epochs were those of earlier stages.
        ended: Whether the training was ended before its last epoch, or would have been had there been another.
        phases: How many calls of ``model.fit`` have begun.
        model: The model that the figures are of, or None where that is not known or was not trained.
        evidence: What was seen of the training, or None before it.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self.values: dict[str, list[float]] = {}
        self.epoch: int | None = None
        self.value = math.nan
        self.since = 0
        self.ended = False
        self.model: Any = None
        self.evidence: Evidence | None = None
        self._source: Any = None
        self._final: dict[str, float] = {}
        self._weights: Any = None
        self._to_beat: float | None = None
        self._waited = 0
        self.phases = 0

    def begin(self) -> None:
        """Begins a phase: a call of ``model.fit``, in each of which early stopping counts anew."""
        self.phases += 1
        if self.phases > 1:
            self._to_beat, self._waited, self.ended = None, 0, False

    def add(self, logs: Mapping[str, Any], model: Any = None) -> None:
        """Takes in an epoch's metrics and keeps the model's weights where it is the best so far."""
        figures, before = _figures(logs), self.epochs
        for name in {**self.values, **figures}:
            self.values.setdefault(name, [math.nan] * before).append(figures.get(name, math.nan))
        if self._job.metric not in figures:
            return
        value = figures[self._job.metric]
        self._wait(value)
        if self._job.epoch == "last":
            self.epoch, self.value = self.epochs, value
        elif math.isfinite(value) and (self.epoch is None or is_better(value, self.value, self._job.direction)):
            self.epoch, self.value = self.epochs, value
            self._source, self._weights = model, None if model is None else model.get_weights()

    def _wait(self, value: float) -> None:
        """Counts the epochs since one that was clearly better than those before, for early stopping."""
        rule = self._job.early_stopping
        if rule is None:
            return
        self._waited += 1
        margin = rule.min_delta if self._job.direction == "maximize" else -rule.min_delta
        better = self._to_beat is None or is_better(value, self._to_beat + margin, self._job.direction)
        if better and math.isfinite(value):
            self._to_beat, self._waited = value, 0

    @property
    def exhausted(self) -> bool:
        """Whether early stopping's patience has run out."""
        rule = self._job.early_stopping
        return rule is not None and self._waited >= rule.patience

    @property
    def epochs(self) -> int:
        """How many epochs were reported, in all stages."""
        return max(map(len, self.values.values()), default=0)

    @property
    def of_stage(self) -> dict[str, list[float]]:
        """Each metric's values in this stage's epochs."""
        return {name: curve[self.since :] for name, curve in self.values.items()}

    def conclude(self, figures: Mapping[str, float]) -> None:
        """Takes the figures that a user's own ``fit`` returns, in place of those of any epoch.

        They describe the model as ``fit`` left it, unless the objective is just that of the epoch that counts, or would
        count if this stage were the first: ``fit`` does not know of earlier ones.
        """
        self._final = dict(figures)
        if self._job.metric in figures and figures[self._job.metric] not in (self.value, self._best_of_stage):
            self.epoch, self.value, self._weights = None, figures[self._job.metric], None

    def forget(self) -> None:
        """Drops all epochs: they are those of another model than the one that is kept."""
        self.values, self.epoch, self.value, self.since, self._weights = {}, None, math.nan, 0, None

    @property
    def _best_of_stage(self) -> float:
        best = Curves(self._job)
        for value in self.of_stage.get(self._job.metric, ()):
            best.add({self._job.metric: value})
        return best.value

    def put(self, checkpoint: Checkpoint) -> None:
        """Adds to a checkpoint what the next stage must know of the epochs so far."""
        kept = ("values", "epoch", "value", "_to_beat", "_waited")
        checkpoint.plain["curves"] = {name: getattr(self, name) for name in kept}
        if self._weights is not None and self.epoch != self.epochs:
            checkpoint.put("best", self._weights)

    def give(self, checkpoint: Checkpoint, model: Any) -> None:
        """Takes that from the checkpoint, whose variables the model has."""
        for name, value in checkpoint.plain["curves"].items():
            setattr(self, name, value)
        self.since = self.epochs
        self._weights = checkpoint.group("best") or (model.get_weights() if self.epoch == self.epochs else None)
        self._source = model
        if self._job.epoch == "last":
            self._weights = None

    def restore(self) -> None:
        """Gives the model that was trained the weights of the epoch that counts."""
        if self._weights is not None:
            self._source.set_weights(self._weights)
            self._weights = None

    @property
    def metrics(self) -> dict[str, float]:
        """All metrics at the epoch that counts, or at the last where none does, and what ``fit`` returned."""
        number = (self.epoch or self.epochs) - 1
        return {**{name: curve[number] for name, curve in self.values.items()}, **self._final}


def _figures(logs: Mapping[str, Any]) -> dict[str, float]:
    """Returns those metrics that are one number each: a metric may also be one number a class."""
    figures = {}
    for name, value in logs.items():
        with contextlib.suppress(TypeError, ValueError):
            figures[str(name)] = float(value)
    return figures


def _recorder(
    keras: Any,
    curves: Curves,
    epochs: int | None,
    checkpoint: Checkpoint | None,
    keep: Callable[[Checkpoint], None] | None,
) -> Any:
    """Returns the callback that fills ``curves``, tells the engine of each epoch, and ends what is not to go on.

    It must be the last of the callbacks: then it sees what the others have done, and sets them back after they began.

    Args:
        keras: The module.
        curves: What it fills.
        epochs: How many epochs there are to be in all, or None where that is not known.
        checkpoint: What the training goes on from, or None for its beginning.
        keep: Takes the state after the last epoch, or None where no later stage can follow.
    """

    class Recorder(keras.callbacks.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.numbers: list[int] = []
            self.models: list[Any] = []
            self.others: list[Any] = []
            self.data: Any = None
            self.iterators = 0
            self.restored = False

        def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
            curves.begin()
            if checkpoint is None:
                return
            try:
                build_variables(self.model, _sample(keras, self.data))
                give_model(checkpoint, self.model)
                give_callbacks(checkpoint, self.others)
                curves.give(checkpoint, self.model)
                # Each iterator takes the next seed of a data set that shuffles.
                while self.iterators < checkpoint.plain["iterators"]:
                    iter(self.data)
                give_random_states(checkpoint, keras)
            except Exception as error:
                raise CheckpointError(f"it is damaged: {error}") from error
            self.restored = True

        def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
            figures = _figures(logs or {})
            curves.add(figures, self.model)
            self.numbers.append(epoch)
            total = epochs or (self.params or {}).get("epochs") or 0
            progress.publish(**{**figures, "epoch": epoch + 1, "epochs": total})
            if self.model is None:
                return
            if not any(each is self.model for each in self.models):
                self.models.append(self.model)
            if math.isnan(figures.get("loss", 0.0)) or curves.exhausted:
                self.model.stop_training = True
            curves.ended = bool(getattr(self.model, "stop_training", False))
            if keep is not None and epoch + 1 == epochs and not curves.ended:
                keep(self.state(epoch + 1))

        def state(self, epoch: int) -> Checkpoint:
            state = Checkpoint(epoch)
            put_model(state, self.model)
            put_callbacks(state, keras, self.others)
            curves.put(state)
            put_random_states(state, keras)
            state.plain["iterators"] = self.iterators
            return state

    return Recorder()


def _sample(keras: Any, data: Any) -> Any:
    """Returns something to call a model with which is to learn from ``data``, or None where that is unclear."""
    import numpy as np

    specification = getattr(data, "element_spec", None)
    if specification is None:
        return data[:1] if hasattr(data, "shape") else None
    return keras.tree.map_structure(
        lambda each: np.zeros([size or 1 for size in each.shape], each.dtype.as_numpy_dtype), specification[0]
    )


def fit_model(
    keras: Any,
    job: Job,
    hypermodel: ModelBuilder,
    hp: HyperParameters,
    model: Any,
    training: Examples,
    validation: Examples | None,
    *,
    epochs: int | None = None,
    exact: bool = False,
    checkpoint: Checkpoint | None = None,
    keep: Path | None = None,
    trial: CurrentTrial | None = None,
    refit: str | None = None,
) -> Curves:
    """Trains a model with the user's ``fit`` and returns its curves, the weights being those that count.

    Args:
        keras: The module.
        job: What the study's trials share.
        hypermodel: The user's model family.
        hp: Hands out the configuration.
        model: What ``build`` returned.
        training: What to learn from.
        validation: What to judge by, or None where the training alone does that.
        epochs: In place of the job's.
        exact: Whether these epochs are a stage's, no more and no fewer; the user's ``fit`` is then given its
            ``initial_epoch``, too.
        checkpoint: What to go on from, or None to begin.
        keep: Where to write the state after the last epoch, from which another stage can go on, or None for nowhere.
        trial: What the user's callbacks are made for, or None where there are none.
        refit: The setting that asks for a refit, which keeps the last weights and has no objective; else None.

    Raises:
        InputError: The training does not report the objective, or the user's ``fit`` does not heed a stage's epochs.
        CheckpointError: The checkpoint does not fit the model.
    """
    curves = Curves(dataclasses.replace(job, epoch="last", early_stopping=None) if refit else job)
    stated = _stated(job, epochs)
    if exact:
        stated["initial_epoch"] = 0 if checkpoint is None else checkpoint.epoch
    writer = None if keep is None else functools.partial(_keep, keep, hp)
    recorder = _recorder(keras, curves, stated.get("epochs"), checkpoint, writer)
    own = [] if trial is None else made_callbacks(job.callbacks, hp, trial)
    offered: dict[str, Any] = {"callbacks": [*own, recorder]}
    if validation is not None:
        offered["validation_data"] = validation.as_validation
    curves.evidence = evidence = Evidence(keras, model, overrides_fit(hypermodel))
    with _argument_errors(hypermodel, exact, stated, offered) as signature, _placing(keras, hypermodel, trial) as place:
        arguments, options = signature.arguments(training, stated, offered, refit)
        own_fit = overrides_fit(hypermodel)
        whole = contextlib.nullcontext() if own_fit else needing_whole_epochs(job.fit.get("steps_per_epoch"))
        with _watched(keras, recorder, place, evidence), whole:
            outcome = hypermodel.fit(hp, model, *arguments, **options)
    is_model_alone = isinstance(outcome, keras.Model)
    outcome, curves.model, reason = evidence.settle(outcome, recorder.models)
    if reason:
        hp.warnings.append(reason)
    if refit:
        return curves
    if exact:
        _check_epochs(recorder, curves, range(stated["initial_epoch"], stated["epochs"]))
    if curves.model is not None and recorder.models and not evidence.is_among(curves.model, recorder.models):
        curves.forget()
    told = bool(curves.values)
    if is_model_alone and curves.model is not None and not told:
        figures = scored(keras, curves.model, validation or training, job.batch_size)
        outcome = {name if validation is None else f"val_{name}": value for name, value in figures.items()}
    _read_outcome(keras, outcome, curves)
    if job.metric not in curves.metrics:
        raise unknown_metric(job.metric, curves.metrics)
    if not told and curves.model is not None and curves.epoch not in (None, curves.epochs):
        hp.warnings.append(
            "fit(hp, model, ...) does not pass its callbacks on to model.fit: the model kept is that of the last "
            f"epoch, not of epoch {curves.epoch}, which counts"
        )
    curves.restore()
    return curves


def _keep(path: Path, hp: HyperParameters, state: Checkpoint) -> None:
    try:
        write_checkpoint(path, state)
    except OSError as error:
        hp.warnings.append(f"its checkpoint could not be written ({error.strerror}): a later stage begins anew")


HEED = (
    "fit(hp, model, *args, **kwargs) must train for the epochs of a stage: pass all of **kwargs on to one model.fit, "
    "callbacks, epochs and initial_epoch among them"
)
"""What a ``fit`` of the user's own must do where trials are trained in stages."""


@contextlib.contextmanager
def _argument_errors(
    hypermodel: ModelBuilder, exact: bool, stated: Mapping[str, Any], offered: Mapping[str, Any]
) -> Iterator[FitSignature]:
    """Gives the parameters of the user's ``fit``, and says what it must do where arguments do not fit them.

    A stage's ``fit`` must take ``initial_epoch`` and must not set its ``epochs`` itself.
    """
    signature = FitSignature(hypermodel.fit)
    try:
        yield signature
    except InputError as error:
        if exact and error.key in ("training.epochs", "fidelity"):
            raise InputError(f"{HEED} ({error.message})", key="model") from error
        raise
    except TypeError as error:
        repeated = repeated_argument(error, signature.text, stated, offered)
        if exact and any(f"argument '{name}'" in str(error) for name in ("epochs", "initial_epoch")):
            raise InputError(f"{HEED} ({error})", key="model") from error
        if repeated is not None:
            raise repeated from error
        raise


@contextlib.contextmanager
def _placing(keras: Any, hypermodel: ModelBuilder, trial: CurrentTrial | None) -> Iterator[Callable[[Any], None]]:
    """Gives what puts the trial's name into the paths of a callback, where there is a trial."""
    if trial is None:
        yield lambda callback: None
        return
    namespace = getattr(inspect.unwrap(hypermodel.fit), "__globals__", {})
    with reading_placed(keras, trial, namespace if overrides_fit(hypermodel) else {}) as placed:

        def place(callback: Any) -> None:
            place_callback(keras, callback, trial)
            placed.append(callback)

        yield place


def _check_epochs(recorder: Any, curves: Curves, asked: range) -> None:
    expected = list(asked)[: len(recorder.numbers)] if curves.ended else list(asked)
    if recorder.numbers != expected or (asked.start and not recorder.restored):
        numbers = [number + 1 for number in recorder.numbers]
        reported = f"epochs {', '.join(map(str, numbers))}" if numbers else "no epochs"
        raise InputError(f"{HEED}; it reported {reported}, not {asked.start + 1} to {asked.stop}", key="model")


def unknown_metric(metric: str, reported: Collection[str]) -> InputError:
    """Returns the error that a training reports other metrics than the objective."""
    hint = f"{nearest(metric, reported)} (it reports {', '.join(reported)})" if reported else "it reports nothing"
    return InputError(f"the training reports no number {metric!r}; {hint}", key="objective.metric")


def _stated(job: Job, epochs: int | None = None) -> dict[str, Any]:
    """Returns the arguments of ``fit`` that the workflow states; the user's ``fit`` may set the others itself."""
    stated = {"epochs": epochs or job.epochs, "batch_size": job.batch_size, **job.fit}
    return {name: value for name, value in stated.items() if value is not None}


@contextlib.contextmanager
def _watched(keras: Any, recorder: Any, place: Callable[[Any], None], evidence: Evidence) -> Iterator[None]:
    """Makes every model's ``fit`` silent unless told otherwise, and ``recorder`` the last of its callbacks.

    The metrics of a model are reset before it is trained or evaluated.
    ``place`` is called with each of the other callbacks, ``evidence`` is told of each call.
    """
    fit, evaluate = keras.Model.fit, keras.Model.evaluate
    signature = inspect.signature(fit)

    @functools.wraps(evaluate)
    def reset_and_evaluate(model: Any, *args: Any, **kwargs: Any) -> Any:
        if "_use_cached_eval_dataset" not in kwargs:  # not the validation within a training
            reset_metrics(keras, model)
        return evaluate(model, *args, **kwargs)

    @functools.wraps(fit)
    def watched(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        # Keras does not reset metrics that its model has not used yet, such as those of the user's module.
        reset_metrics(keras, given.arguments["self"])
        given.arguments.setdefault("verbose", 0)
        evidence.add_call(given.arguments)
        callbacks: Any = given.arguments.get("callbacks")
        is_list = isinstance(callbacks, keras.callbacks.CallbackList)
        ordered = callbacks.callbacks if is_list else keras.tree.flatten(callbacks)
        for each in ordered:
            if each is not recorder:
                place(each)
        feed(keras, given.arguments)
        if not any(each is recorder for each in ordered):
            return fit(*given.args, **given.kwargs)
        ordered.remove(recorder)
        own = (keras.callbacks.History, keras.callbacks.ProgbarLogger)
        recorder.others = [each for each in ordered if not isinstance(each, own)]
        recorder.data = given.arguments.get("x")
        ordered.append(recorder)
        given.arguments["callbacks"] = callbacks if is_list else ordered
        with _counted_iterators(recorder):
            return fit(*given.args, **given.kwargs)

    with replaced(keras.Model, "fit", watched), replaced(keras.Model, "evaluate", reset_and_evaluate):
        yield


@contextlib.contextmanager
def _counted_iterators(recorder: Any) -> Iterator[None]:
    """Counts how many iterators of TensorFlow's data set are made: its order in an epoch depends on that."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None or not isinstance(recorder.data, tensorflow.data.Dataset):
        yield
        return
    make = tensorflow.data.Dataset.__iter__

    def counted(data: Any) -> Any:
        recorder.iterators += data is recorder.data
        return make(data)

    with replaced(tensorflow.data.Dataset, "__iter__", counted):
        yield


def _read_outcome(keras: Any, outcome: Any, curves: Curves) -> None:
    """Takes what ``fit`` returned: a History, metrics by name, the objective, or a list of these, which is averaged."""
    if outcome is None and curves.values:
        return
    if not isinstance(outcome, keras.callbacks.History):
        curves.conclude(_returned_figures(keras, outcome, curves))
    elif not curves.values:
        names = list(outcome.history)
        for figures in zip(*outcome.history.values(), strict=False):
            curves.add(dict(zip(names, figures, strict=True)))


def _returned_figures(keras: Any, outcome: Any, curves: Curves) -> dict[str, float]:
    if isinstance(outcome, Mapping):
        return _figures(outcome)
    if isinstance(outcome, list | tuple) and outcome:
        several = []
        for each in outcome:
            one = Curves(curves._job)
            _read_outcome(keras, each, one)
            several.append(one.metrics)
        names = [name for name in several[0] if all(name in each for each in several)]
        return {name: sum(each[name] for each in several) / len(several) for name in names}
    try:
        return {curves._job.metric: float(outcome)}
    except (TypeError, ValueError):
        raise InputError(
            "fit(hp, model, ...) must return what model.fit returns, metrics by name or a number, not "
            f"{shown(outcome)}",
            key="model",
        ) from None


def failure_of(error: BaseException) -> Failure:
    """Returns what a trial raised."""
    return Failure.of(error)


def inference_milliseconds(keras: Any, model: Any, sample: Any, specification: Any = None) -> float:
    """Returns how long a model takes to predict one sample, in milliseconds: the median of calls that are compiled.

    Args:
        keras: The module.
        model: The model.
        sample: A batch of one. Where the model does not take it, since ``fit`` prepares the data, zeros take its place.
        specification: What the model was trained on, see `evidence.input_specification`: the zeros are such.

    Raises:
        InputError: The model takes neither.
    """
    try:
        model.predict_on_batch(sample)
    except Exception as error:
        specification = specification or input_specification(keras, getattr(model, "input", None))
        if specification is None:
            reason = failure_of(error).reason
            raise InputError(f"{INFERENCE} cannot be measured, as the model predicts no sample: {reason}") from error
        sample = example_inputs(keras, specification)
    for _ in range(WARM_UP):  # the first of them compiles
        model.predict_on_batch(sample)
    times: list[float] = []
    until = time.perf_counter() + MOST_TIMED
    while len(times) < TIMED and (len(times) < WARM_UP or time.perf_counter() < until):
        begun = time.perf_counter()
        model.predict_on_batch(sample)
        times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times)


def scored(keras: Any, model: Any, data: Examples, batch_size: int | None = None) -> dict[str, float]:
    """Returns the metrics of a model on some examples, as the model names them.

    Args:
        keras: The module.
        model: The model.
        data: The examples.
        batch_size: That of the study; a model that takes batches of one size alone gets those.
    """
    reset_metrics(keras, model)
    size = None if data.is_stream else fixed_batch_size(model) or batch_size
    arguments = {**dict(zip(("x", "y"), data.arguments, strict=False)), **data.options, "batch_size": size}
    feed_evaluation(keras, arguments)
    return _figures(model.evaluate(**arguments, verbose=0, return_dict=True))


def fixed_batch_size(model: Any) -> int | None:
    """Returns the one size of batches that a model takes, or None where it takes any."""
    sizes = {each.shape[0] for each in getattr(model, "inputs", None) or []}
    return next(iter(sizes)) if len(sizes) == 1 else None
