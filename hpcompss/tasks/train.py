"""The task of one trial of a Keras study: build, train, validate, and keep the model if it may be the best."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcompss.constraints import total_violation
from hpcompss.objectives import point_of
from hpcompss.pareto import Point, dominates
from hpcompss.space.tracing import HyperParameters
from hpcompss.tasks.suggest import EXHAUSTED, SearchState
from hpcompss.training.data import load_data_once
from hpcompss.training.fitting import (
    build_model,
    failure_of,
    fit_model,
    inference_milliseconds,
    keras_session,
    load_hypermodel,
)
from hpcompss.training.job import INFERENCE, PARAMETERS, Job
from hpcompss.trial import Configuration, Failure, FailureKind, Result, is_better

__all__ = ["model_path", "save_model", "train", "train_suggested"]


def model_path(folder: Path, number: int) -> Path:
    """Returns where a trial's model is kept until it is known not to be the best."""
    return folder / "models" / f"trial-{number}.keras"


def train(
    job: Job,
    number: int,
    configuration: Configuration,
    folder: Path | None,
    to_beat: float | None,
    front: Sequence[Point] = (),
) -> Result:
    """Returns what came of training one configuration; what is raised becomes a failed result.

    Args:
        job: What the study's trials share.
        number: The trial's.
        configuration: The values of the active hyper-parameters.
        folder: The study's, which keeps the model; None keeps no model.
        to_beat: The best value when the trial began: a worse model is not kept, an equal one is. None keeps any.
        front: Where there are several objectives, what was reached when the trial began, in place of ``to_beat``: a
            model that is beaten in all objectives is not kept.
    """
    begun = time.perf_counter()
    try:
        result = _train(job, number, configuration, folder, to_beat, front)
    except Exception as error:
        result = Result(None, failure=failure_of(error))
    return dataclasses.replace(result, seconds=time.perf_counter() - begun)


def train_suggested(job: Job, number: int, state: SearchState | Failure, folder: Path | None) -> Result | Failure:
    """Does what `train` does with the latest suggestion of a search, in the lagged order.

    Args:
        job: What the study's trials share.
        number: The trial's.
        state: The search, or why there is no suggestion.
        folder: The study's, which keeps the model; None keeps no model.
    """
    if isinstance(state, Failure):
        return state
    if state.configuration is None:
        return EXHAUSTED
    history = state.history
    to_beat, front = (None, history.front) if job.also else (history.best, [])
    return train(job, number, state.configuration, folder, to_beat, front)


def _train(
    job: Job,
    number: int,
    configuration: Configuration,
    folder: Path | None,
    to_beat: float | None,
    front: Sequence[Point],
) -> Result:
    hypermodel = load_hypermodel(job)
    data = load_data_once(job.data)
    hp = HyperParameters(configuration)
    with keras_session(job.seed + number) as keras:
        model = build_model(keras, hypermodel, hp)
        curves = fit_model(keras, job, hypermodel, hp, model, (data.x_train, data.y_train), (data.x_val, data.y_val))
        warnings = tuple(dict.fromkeys(hp.warnings))
        metrics = {**_size(model), **curves.metrics}
        if job.times_inference:
            metrics[INFERENCE] = inference_milliseconds(model, data.x_val[:1])
        if not math.isfinite(curves.value):
            failure = Failure(FailureKind.NOT_FINITE, f"{job.metric} is {curves.value} after training")
            return Result(None, metrics, failure=failure, curves=curves.values, warnings=warnings)
        worse = to_beat is not None and is_better(to_beat, curves.value, job.direction)
        worse |= bool(front) and _is_dominated(job, curves.value, metrics, front)
        if folder is not None and not worse and not total_violation(metrics, job.constraints):
            try:
                save_model(model, model_path(folder, number))
            except Exception as error:
                # The figures are right all the same, and KerasTuner's models need not be able to be saved.
                warnings += (f"its model could not be saved: {failure_of(error).reason}",)
    return Result(curves.value, metrics, epoch=curves.epoch, curves=curves.values, warnings=warnings)


def _is_dominated(job: Job, value: float, metrics: Mapping[str, float], front: Sequence[Point]) -> bool:
    """Returns whether a model is beaten in all objectives, or lacks one of them."""
    try:
        point = point_of(value, metrics, job.objectives)
    except KeyError:
        return True
    return any(dominates(each, point) for each in front)


def _size(model: Any) -> dict[str, float]:
    """Returns how many parameters a model has, as a metric; nothing for one that was never called."""
    with contextlib.suppress(ValueError):
        return {PARAMETERS: float(model.count_params())}
    return {}


def save_model(model: Any, path: Path) -> None:
    """Writes a ``.keras`` file that is there whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    draft = path.with_name(f"{path.stem}.{os.getpid()}.draft.keras")
    try:
        model.save(draft)
        with draft.open("rb") as written:
            # The journal, which is flushed, must not name a model that a power cut took.
            os.fsync(written.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
