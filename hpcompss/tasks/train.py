"""The task of one trial of a Keras study: build, train, validate, and keep the model if it may be the best."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from pathlib import Path
from typing import Any

from hpcompss.constraints import total_violation
from hpcompss.space.tracing import HyperParameters
from hpcompss.tasks.suggest import EXHAUSTED, SearchState
from hpcompss.training.fitting import build_model, failure_of, fit_model, keras_session, load_hypermodel
from hpcompss.training.job import PARAMETERS, Job
from hpcompss.trial import Configuration, Failure, FailureKind, Result, is_better

__all__ = ["REFIT", "model_path", "save_model", "train", "train_suggested"]

REFIT = "refit"
"""What a model is called that was trained anew at the end."""


def model_path(folder: Path, number: int, part: str = "") -> Path:
    """Returns where a trial's model is kept until it is known not to be the best.

    Args:
        folder: The study's.
        number: The trial's.
        part: What the model is of, where it is not the trial's own: ``fold-1``, ``repeat-1``, ``refit``.
    """
    return folder / "models" / f"trial-{number}{part and f'-{part}'}.keras"


def train(job: Job, number: int, configuration: Configuration, folder: Path | None, to_beat: float | None) -> Result:
    """Returns what came of training one configuration; what is raised becomes a failed result.

    Args:
        job: What the study's trials share.
        number: The trial's.
        configuration: The values of the active hyper-parameters.
        folder: The study's, which keeps the model; None keeps no model.
        to_beat: The value to reach when the trial began, the best or that of the last whose model is kept: a worse
            model is not kept, an equal one is. None keeps any.
    """
    begun = time.perf_counter()
    try:
        result = _train(job, number, configuration, folder, to_beat)
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
    return train(job, number, state.configuration, folder, state.history.nth_best(job.kept))


def _train(job: Job, number: int, configuration: Configuration, folder: Path | None, to_beat: float | None) -> Result:
    hypermodel = load_hypermodel(job)
    data = job.load()
    hp = HyperParameters(configuration)
    with keras_session(job.seed_of(number)) as keras:
        model = build_model(keras, hypermodel, hp)
        curves = fit_model(keras, job, hypermodel, hp, model, (data.x_train, data.y_train), (data.x_val, data.y_val))
        warnings = tuple(dict.fromkeys(hp.warnings))
        metrics = {**_size(model), **curves.metrics}
        if not math.isfinite(curves.value):
            failure = Failure(FailureKind.NOT_FINITE, f"{job.metric} is {curves.value} after training")
            return Result(None, metrics, failure=failure, curves=curves.values, warnings=warnings)
        worse = to_beat is not None and is_better(to_beat, curves.value, job.direction)
        if folder is not None and not worse and not total_violation(metrics, job.constraints):
            try:
                save_model(model, model_path(folder, number, job.part))
            except Exception as error:
                # The figures are right all the same, and KerasTuner's models need not be able to be saved.
                warnings += (f"its model could not be saved: {failure_of(error).reason}",)
    return Result(curves.value, metrics, epoch=curves.epoch, curves=curves.values, warnings=warnings)


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
