"""The first task of a Keras study: prepare the data and find the space by calling the user's code."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hpcompss import progress
from hpcompss.errors import HpcompssError, InputError
from hpcompss.loading import import_notes
from hpcompss.space.space import Space
from hpcompss.space.tracing import HyperParameters, Killed, discover
from hpcompss.training.callbacks import error_of_maker
from hpcompss.training.data import DataSet, load_data_once
from hpcompss.training.fit_checks import check_fit, check_settings
from hpcompss.training.fitting import (
    build_model,
    failure_of,
    keras_session,
    load_hypermodel,
    scored,
    unknown_metric,
)
from hpcompss.training.hypermodel import overrides_fit
from hpcompss.training.job import INFERENCE, PARAMETERS, Job
from hpcompss.training.rehearsal import Rehearsal
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


def inspect_model(
    job: Job, killed: Sequence[Killed] = (), time_limit: float | None = None
) -> Inspection | HpcompssError | Failure:
    """Returns what there is to know of a study's model; what is wrong with it comes back as data.

    It publishes ``call`` and ``declared``, as `discover` tells its watch: the master then knows which call the end of
    its process is due to.

    Args:
        job: What the study's trials share.
        killed: The calls of the user's code that ended earlier inspections.
        time_limit: Seconds after which a call of the user's code ends this process, or None for no limit.
    """
    try:
        hypermodel = load_hypermodel(job)
        data = load_data_once(job.data)
        own_fit = overrides_fit(hypermodel)
        check_settings(job, data, own_fit)
        with keras_session(job.seed) as keras:
            data = data.open()
            rehearsal = Rehearsal(keras, job, hypermodel, data)

            def declare(hp: HyperParameters) -> None:
                with _deadline(time_limit):
                    rehearsal.declare(hp)
                keras.backend.clear_session()

            found = discover(declare, killed, lambda call, declared: _tell(call=call, declared=declared))
            check, warnings = found.calls + 1, (*import_notes(job.model), *found.warnings, *rehearsal.warnings)
            if own_fit:
                warnings += check_fit(job, rehearsal)
                warnings += _training_metrics(rehearsal.seen[0][0].judged)
            elif check not in {each.call for each in killed}:
                _tell(call=check)
                with _deadline(time_limit):
                    _check_metric(keras, job, build_model(keras, hypermodel, HyperParameters(found.working)), data)
                if data.validation is not None:
                    warnings += _training_metrics([each.metric for each in job.objectives])
        return Inspection(found.space, warnings)
    except HpcompssError as error:
        return error
    except Exception as error:
        return error_of_maker(error) or failure_of(error)


def _training_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Returns a warning for each objective that Keras measures on the data that the model is trained on."""
    return tuple(
        f"{name} is measured on the training data, where a model that overfits does best: "
        f"the objective val_{name} is measured on the validation data"
        for name in names
        if not name.startswith("val_") and name not in (PARAMETERS, INFERENCE)
    )


def _tell(**step: float) -> None:
    progress.publish(**step)
    progress.flush()


@contextlib.contextmanager
def _deadline(seconds: float | None) -> Iterator[None]:
    """Ends this process by SIGALRM where the ``with`` takes longer, whatever library's code it hangs in."""
    if seconds is None:
        yield
        return
    before = signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _check_metric(keras: Any, job: Job, model: Any, data: DataSet) -> None:
    """Refuses what is asked of a metric the model does not report. Whatever else fails here is told of in a trial."""
    names: list[str] = []
    with contextlib.suppress(Exception):
        figures = scored(keras, model, data.train.batch(SAMPLES))
        prefixes = ("",) if data.validation is None else ("", "val_")
        names = [f"{prefix}{figure}" for figure in figures for prefix in prefixes]
    if names and job.metric not in names:
        raise unknown_metric(job.metric, names)
    needed = [(each.metric, f"objective.constraints.{each.metric}") for each in job.constraints]
    needed += [(each.metric, f"objective.also.{number}") for number, each in enumerate(job.also)]
    for metric, key in needed:
        if names and metric not in (known := (*names, PARAMETERS, INFERENCE)):
            raise InputError(unknown_metric(metric, known).message, key=key)
