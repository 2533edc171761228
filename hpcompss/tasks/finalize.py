"""The last task of a Keras study: its scores on the test set, once, after a refit and an ensemble where asked for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcompss.errors import InputError
from hpcompss.space.tracing import HyperParameters
from hpcompss.tasks.train import REFIT, model_path, save_model
from hpcompss.training.callbacks import CurrentTrial
from hpcompss.training.data import DataSet, load_data_once
from hpcompss.training.ensemble import average
from hpcompss.training.fitting import build_model, failure_of, fit_model, keras_session, load_hypermodel, scored
from hpcompss.training.hypermodel import ModelBuilder
from hpcompss.training.job import Job
from hpcompss.training.rehearsal import refit_epochs
from hpcompss.trial import Configuration, Failure, Trial

__all__ = ["ENSEMBLE", "Scores", "finalize"]

ENSEMBLE = "ensemble.keras"
"""The ensemble's name in a study's folder."""


@dataclass(frozen=True)
class Scores:
    """What a study's models reach on the test set; all metrics are empty where there is none.

    Attributes:
        metrics: Those of the winner's model, of the refitted one where there is such.
        before_refit: Those of the winner's model before the refit; None where it was not refitted or was not kept.
        ensemble: Those of the ensemble, None where there is none.
        members: The trials whose models it averages.
        warnings: What the user should know.
        files: What a worker without the study's folder has left for it, by path in there.
    """

    metrics: dict[str, float]
    before_refit: dict[str, float] | None = None
    ensemble: dict[str, float] | None = None
    members: list[int] = field(default_factory=list)
    warnings: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)


def finalize(
    job: Job,
    number: int,
    configuration: Configuration,
    epoch: int | None,
    folder: Path,
    refit: bool,
    members: Sequence[Trial] = (),
) -> Scores | Failure:
    """Returns the scores of a study's models on the test set; what is raised comes back as data.

    Args:
        job: What the study's trials share.
        number: The winning trial's.
        configuration: Its values.
        epoch: The epoch that gave its score.
        folder: The study's, where the trial's model is.
        refit: Whether to train the model anew on training and validation data together, for ``epoch`` epochs, and to
            keep that one beside the trial's own.
        members: The trials whose own models, not refitted, are averaged into an ensemble; none for no ensemble.
    """
    try:
        job = job.with_configuration(configuration)
        hypermodel, data = load_hypermodel(job), load_data_once(job.data)
        own, refitted = None, None
        if not refit or model_path(folder, number).exists():
            with keras_session(job.seed + number) as keras:
                own = _scored(
                    keras, job, _kept_model(keras, job, hypermodel, data, folder, number, configuration), data
                )
        ensemble, used, notes = _ensemble(job, hypermodel, data, folder, members)
        if refit:
            refitted = _refit(job, hypermodel, data, folder, number, configuration, epoch)
        metrics = own if refitted is None else refitted
        return Scores(metrics or {}, own if refit else None, ensemble, used, notes)
    except Exception as error:
        return failure_of(error)


def _refit(
    job: Job,
    hypermodel: ModelBuilder,
    data: DataSet,
    folder: Path,
    number: int,
    configuration: Configuration,
    epoch: int | None,
) -> dict[str, float]:
    hp = HyperParameters(configuration)
    epochs = refit_epochs(job, hypermodel, data, configuration, epoch)
    with keras_session(job.seed + number) as keras:
        model = build_model(keras, hypermodel, hp)
        together = data.training_and_validation()
        trial = CurrentTrial.of(folder, number, configuration, REFIT)
        fit_model(
            *(keras, job, hypermodel, hp, model, together, None), epochs=epochs, trial=trial, refit="training.refit"
        )
        save_model(model, model_path(folder, number, REFIT))
        return _scored(keras, job, model, data)


def _ensemble(
    job: Job, hypermodel: ModelBuilder, data: DataSet, folder: Path, members: Sequence[Trial]
) -> tuple[dict[str, float] | None, list[int], tuple[str, ...]]:
    """Returns the ensemble's metrics, its members, and what the user should know of it; it never ends the study."""
    present = [trial for trial in members if model_path(folder, trial.number).exists()]
    absent = [trial.number for trial in members if trial not in present]
    notes = [f"the ensemble lacks trial {each}, whose model was not kept" for each in absent]
    if members and len(present) < 2:
        notes.append(f"there is no ensemble, for which two models are needed, not {len(present)}")
    if len(present) < 2:
        return None, [], tuple(notes)
    try:
        with keras_session(job.seed) as keras:
            models = [
                _kept_model(keras, job, hypermodel, data, folder, trial.number, trial.configuration)
                for trial in present
            ]
            names = [f"trial_{trial.number}" for trial in present]
            ensemble = average(keras, models, names, data.train.x)
            scores = _scored(keras, job, ensemble, data)
            save_model(ensemble, folder / ENSEMBLE)
        return scores, [trial.number for trial in present], tuple(notes)
    except Exception as error:
        return None, [], (*notes, f"the ensemble could not be made: {failure_of(error).reason}")


def _kept_model(
    keras: Any,
    job: Job,
    hypermodel: ModelBuilder,
    data: DataSet,
    folder: Path,
    number: int,
    configuration: Configuration,
) -> Any:
    """Returns the model of a trial, built anew, with the weights that were kept."""
    if not model_path(folder, number).exists():
        raise InputError(f"the model of trial {number} was not kept; training.refit: true trains it anew")
    model = build_model(keras, hypermodel, HyperParameters(configuration))
    # Weights alone: a model with the user's own layers loads only where those are registered.
    model(data.train.x[:1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the optimizer's state is left out
        model.load_weights(model_path(folder, number))
    return model


def _scored(keras: Any, job: Job, model: Any, data: DataSet) -> dict[str, float]:
    """Returns the metrics of a model on the test set, empty where there is none."""
    if data.test is None:
        return {}
    if not model.compiled:
        raise InputError("build(hp) does not compile the model, so no metrics are known to test it by")
    return scored(keras, model, data.test, job.batch_size)
