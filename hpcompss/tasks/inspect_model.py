"""The first task of a Keras study: prepare the data and find the space by calling the user's code."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from hpcompss.errors import HpcompssError, InputError
from hpcompss.space.space import Space
from hpcompss.space.tracing import HyperParameters, discover
from hpcompss.training.data import Examples, load_data_once
from hpcompss.training.fitting import declare_all, failure_of, keras_session, load_hypermodel, scored, unknown_metric
from hpcompss.training.hypermodel import overrides_fit
from hpcompss.training.job import INFERENCE, PARAMETERS, Job
from hpcompss.trial import Failure

__all__ = ["Inspection", "inspect_model"]

SAMPLES = 8
"""How many samples a model is tried on."""


@dataclass(frozen=True)
class Inspection:
    """What a study needs to know of its model and data before it begins.

    Attributes:
        space: What may vary.
        warnings: What the user should know.
    """

    space: Space
    warnings: tuple[str, ...]


def inspect_model(job: Job) -> Inspection | HpcompssError | Failure:
    """Returns what there is to know of a study's model; what is wrong with it comes back as data.

    Args:
        job: What the study's trials share.
    """
    try:
        hypermodel = load_hypermodel(job)
        data = load_data_once(job.data)
        sample = data.open().train.batch(SAMPLES)
        with keras_session(job.seed) as keras:

            def declare(hp: HyperParameters) -> None:
                declare_all(keras, job, hypermodel, hp, sample)
                keras.backend.clear_session()

            found = discover(declare)
            if not overrides_fit(hypermodel):
                _check_metric(keras, job, declare_all(keras, job, hypermodel, HyperParameters(), sample), sample)
        return Inspection(found.space, found.warnings)
    except HpcompssError as error:
        return error
    except Exception as error:
        return failure_of(error)


def _check_metric(keras: Any, job: Job, model: Any, sample: Examples) -> None:
    """Refuses what is asked of a metric the model does not report. Whatever else fails here is told of in a trial."""
    names: list[str] = []
    with contextlib.suppress(Exception):
        names = [name for figure in scored(keras, model, sample) for name in (figure, f"val_{figure}")]
    if names and job.metric not in names:
        raise unknown_metric(job.metric, names)
    needed = [(each.metric, f"objective.constraints.{each.metric}") for each in job.constraints]
    needed += [(each.metric, f"objective.also.{number}") for number, each in enumerate(job.also)]
    for metric, key in needed:
        if names and metric not in (known := (*names, PARAMETERS, INFERENCE)):
            raise InputError(unknown_metric(metric, known).message, key=key)
