"""The task of one trial of a Keras study: build, train, validate, and keep the model if it may be the best."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcompss.constraints import total_violation
from hpcompss.objectives import point_of
from hpcompss.pareto import Point, dominates
from hpcompss.space.tracing import HyperParameters
from hpcompss.tasks.promote import at_place
from hpcompss.tasks.suggest import SearchState, suggestion
from hpcompss.training.callbacks import CurrentTrial
from hpcompss.training.checkpoint import Checkpoint, CheckpointError, checkpoint_path, read_checkpoint
from hpcompss.training.data import Examples
from hpcompss.training.feeding import callable_inputs
from hpcompss.training.fitting import (
    build_model,
    failure_of,
    fit_model,
    inference_milliseconds,
    keras_session,
    load_hypermodel,
)
from hpcompss.training.hypermodel import ModelBuilder
from hpcompss.training.job import INFERENCE, PARAMETERS, Job
from hpcompss.training.kept import KERAS, About, remove_model, save_model
from hpcompss.trial import Configuration, Failure, FailureKind, Result, Stage, Trial, is_better

__all__ = [
    "REFIT",
    "is_wanted",
    "model_path",
    "train",
    "train_promoted",
    "train_suggested",
]

REFIT = "refit"
"""What a model is called that was trained anew at the end."""

WHOLE = Stage()
"""All of a training in one task."""


def model_path(folder: Path, number: int, part: str = "") -> Path:
    """Returns where a trial's model is kept until it is known not to be the best: whole, or as weights beside it.

    Args:
        folder: The study's.
        number: The trial's.
        part: What the model is of, where it is not the trial's own: ``fold-1``, ``repeat-1``, ``refit``.
    """
    return folder / "models" / f"trial-{number}{part and f'-{part}'}{KERAS}"


def train(
    job: Job,
    number: int,
    configuration: Configuration,
    folder: Path | None,
    to_beat: float | None,
    stage: Stage = WHOLE,
    front: Sequence[Point] = (),
) -> Result:
    """Returns what came of training one configuration; what is raised becomes a failed result.

    Args:
        job: What the study's trials share.
        number: The trial's.
        configuration: The values of the active hyper-parameters.
        folder: The study's, which keeps the model and the checkpoint; None keeps neither.
        to_beat: The value to reach when the trial began, the best or that of the last whose model is kept: a worse
            model is not kept, an equal one is. None keeps any.
        stage: The part of the training that this task does. Its curves are those of its own epochs, which are all of
            them where its checkpoint could not be used; the rest of the result is that of the whole trial so far.
        front: Where there are several objectives, what others had reached when the trial began: a model that none of
            them beats in all objectives is kept, too.
    """
    begun = time.perf_counter()
    try:
        job = job.with_configuration(configuration)
        result = _train(job, number, configuration, folder, to_beat, stage, front)
    except Exception as error:
        result = Result(None, failure=failure_of(error))
    return dataclasses.replace(result, seconds=time.perf_counter() - begun)


def train_suggested(
    job: Job, number: int, state: SearchState | Failure, folder: Path | None, stage: Stage = WHOLE
) -> Result | Failure:
    """Does what `train` does with the latest suggestion of a search, in the lagged order.

    Args:
        job: What the study's trials share.
        number: The trial's.
        state: The search, or why there is no suggestion.
        folder: The study's, which keeps the model and the checkpoint; None keeps neither.
        stage: The part of the training that this task does.
    """
    found = suggestion(state)
    if isinstance(found, Failure):
        return found
    configuration, history = found
    return train(job, number, configuration, folder, history.nth_best(job.kept), stage, history.front)


def train_promoted(
    job: Job,
    promoted: Sequence[Trial] | Failure,
    place: int,
    known: Mapping[int, Result],
    folder: Path | None,
    stage: Stage,
) -> Result | Failure | None:
    """Does what `train` does with a trial that goes on, in the lagged order; None where there is no such trial.

    Args:
        job: What the study's trials share.
        promoted: Those that go on.
        place: Which of them, from 0.
        known: What came of trials that went on before the search was resumed.
        folder: The study's, which keeps the model and the checkpoint; None keeps neither.
        stage: The part of the training that this task does.
    """
    trial, outcome = at_place(promoted, place, known)
    return outcome if trial is None else train(job, trial.number, trial.configuration, folder, None, stage)


def _train(
    job: Job,
    number: int,
    configuration: Configuration,
    folder: Path | None,
    to_beat: float | None,
    stage: Stage,
    front: Sequence[Point],
) -> Result:
    if not stage.since:
        return _train_from(None, job, number, configuration, folder, to_beat, stage, front)
    try:
        if folder is None:
            raise CheckpointError("there is no folder")
        checkpoint = read_checkpoint(checkpoint_path(folder, number, stage.since, job.part))
        return _train_from(checkpoint, job, number, configuration, folder, to_beat, stage, front)
    except CheckpointError as error:
        warning = f"its checkpoint after epoch {stage.since} cannot be used, so that it began anew: {error}"
    result = _train_from(None, job, number, configuration, folder, to_beat, stage, front)
    return dataclasses.replace(result, warnings=(*result.warnings, warning))


def _train_from(
    checkpoint: Checkpoint | None,
    job: Job,
    number: int,
    configuration: Configuration,
    folder: Path | None,
    to_beat: float | None,
    stage: Stage,
    front: Sequence[Point],
) -> Result:
    hypermodel = load_hypermodel(job)
    data = job.load()
    epochs, keep = stage.epochs or job.epochs, None
    if stage.keeps and folder is not None and epochs is not None:
        keep = checkpoint_path(folder, number, epochs, job.part)
    hp = HyperParameters(configuration)
    with _folder_or_temporary(folder) as place, keras_session(job.seed_of(number)) as keras:
        data = data.open()
        training = data.train if stage.share is None else data.portion(stage.share, job.data.seed)
        model = build_model(keras, hypermodel, hp)
        if (oversized := job.oversized(model, lambda: _sample(keras, job, training))) is not None:
            return oversized
        curves = fit_model(
            *(keras, job, hypermodel, hp, model, training, data.validation),
            epochs=stage.epochs,
            exact=stage.epochs is not None,
            checkpoint=checkpoint,
            keep=keep,
            trial=CurrentTrial.of(place, number, configuration, job.part),
        )
        warnings = tuple(dict.fromkeys(hp.warnings))
        trained = model if curves.model is None else curves.model
        inputs = None if curves.evidence is None else curves.evidence.inputs_of(trained)
        metrics = {**_size(trained), **curves.metrics}
        if job.times_inference:
            sample = (data.validation or data.train).batch(1).take(slice(1))  # a stream's batch has more rows
            metrics[INFERENCE] = inference_milliseconds(keras, trained, sample.x, inputs)
        result = Result(
            curves.value,
            metrics,
            epoch=curves.epoch,
            curves=curves.of_stage,
            budget=stage.share if stage.epochs is None else curves.epochs,
            ended=curves.ended,
        )
        if not math.isfinite(curves.value):
            failure = Failure(FailureKind.NOT_FINITE, f"{job.metric} is {curves.value} after training")
            return dataclasses.replace(result, value=None, epoch=None, failure=failure, warnings=warnings)
        if folder is not None:
            path = model_path(folder, number, job.part)
            if curves.model is not None and is_wanted(job, curves.value, metrics, to_beat, front):
                prepared = curves.evidence is not None and curves.evidence.prepares_data(
                    trained, training, data.validation
                )
                about = About(inputs, prepared, data.test is not None)
                warnings += _kept(keras, hypermodel, trained, path, configuration, about)
            elif path.parent.is_dir():
                # What it was at an earlier stage is not the model of this result.
                remove_model(path)
    return dataclasses.replace(result, warnings=warnings)


def _sample(keras: Any, job: Job, training: Examples) -> Any:
    """Returns features to call a model with; those of a stream come from a new one, so that training has them all."""
    if training.is_stream:
        training = job.load().open().train
    return callable_inputs(keras, training.batch(1).x)


@contextlib.contextmanager
def _folder_or_temporary(folder: Path | None) -> Iterator[Path]:
    """Gives the study's folder; where there is none, one that is removed at the end."""
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="hpcompss-") as name:
        yield Path(name)


def _kept(
    keras: Any, hypermodel: ModelBuilder, model: Any, path: Path, configuration: Configuration, about: About
) -> tuple[str, ...]:
    """Keeps a model, and returns what the user should know of that."""
    try:
        note = save_model(keras, hypermodel, model, path, configuration, about)
        return (note,) if note else ()
    except Exception as error:
        # The figures are right all the same, and KerasTuner's models need not be able to be saved.
        with contextlib.suppress(OSError):
            remove_model(path)
        return (f"its model could not be saved: {failure_of(error).reason}",)


def is_wanted(
    job: Job, value: float, metrics: Mapping[str, float], to_beat: float | None, front: Sequence[Point]
) -> bool:
    """Returns whether the model of a trial is kept: it keeps to all constraints, and nothing known beats it.

    Args:
        job: What the study's trials share.
        value: What the trial reached.
        metrics: Its metrics.
        to_beat: The value to reach when the trial began, or None.
        front: Where there are several objectives, what others had reached when the trial began.
    """
    if total_violation(metrics, job.constraints):
        return False
    if to_beat is None or not is_better(to_beat, value, job.direction):
        return True
    if not job.also or any(each.metric not in metrics for each in job.also):
        return False
    point = point_of(value, metrics, job.objectives)
    return not any(dominates(each, point) for each in front)


def _size(model: Any) -> dict[str, float]:
    """Returns how many parameters a model has, as a metric; nothing for one that was never called."""
    with contextlib.suppress(ValueError):
        return {PARAMETERS: float(model.count_params())}
    return {}
