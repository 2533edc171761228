"""The tasks of a trial that is trained on folds, or repeated: one training each, and their reduction to one result.

A configuration is clearly beaten when it is worse than the best trial on every fold so far, and on average by more than
the standard deviation of the best trial's folds. It is then not trained on the rest.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpcompss.pareto import Point
from hpcompss.tasks.promote import at_place
from hpcompss.tasks.reduce import result_from
from hpcompss.tasks.suggest import SearchState, suggestion
from hpcompss.tasks.train import is_wanted, model_path, train
from hpcompss.training.job import Job
from hpcompss.training.kept import move_model, remove_model
from hpcompss.trial import Configuration, Failure, FailureKind, Result, Stage, Trial, fold_name

__all__ = [
    "is_beaten",
    "reduce_folds",
    "reduce_folds_promoted",
    "reduce_folds_suggested",
    "train_fold",
    "train_fold_promoted",
    "train_fold_suggested",
]

Outcome = Result | Failure | None
"""What came of one fold; None where it was not trained, since the trial had failed or was beaten by then."""


def is_beaten(values: Sequence[float], best: Sequence[float], direction: str) -> bool:
    """Returns whether a configuration is clearly beaten after some folds.

    Args:
        values: Its values on the first folds.
        best: Those of the best trial, on all folds; empty where there is none yet.
        direction: ``"minimize"`` or ``"maximize"``.
    """
    if not values or len(best) < 2:
        return False
    deficits = [(than - value) * (1 if direction == "maximize" else -1) for value, than in zip(values, best)]  # noqa: B905
    return min(deficits) > 0 and statistics.fmean(deficits) > statistics.stdev(best)


def train_fold(
    job: Job,
    number: int,
    configuration: Configuration,
    folder: Path | None,
    best: Sequence[float],
    earlier: Sequence[Outcome],
    stage: Stage = Stage(),
) -> Outcome:
    """Returns what came of training a configuration on one fold, or None where that is not worth it any more.

    Args:
        job: What the study's trials share, and which fold this is.
        number: The trial's.
        configuration: The values of the active hyper-parameters.
        folder: The study's, which keeps the model; None keeps no model.
        best: The values of the best trial when this one began, on all folds.
        earlier: What came of the folds before this one; empty where all are trained, whatever comes of them.
        stage: The part of the training that this task does.
    """
    values = []
    for outcome in earlier:
        value = None if outcome is None else result_from(outcome).value
        if value is None:
            return None
        values.append(value)
    if is_beaten(values, best, job.direction):
        return None
    # Of the folds' models the best one is kept, so a worse one need not be written.
    to_beat = (max if job.direction == "maximize" else min)(values) if values else None
    return train(job, number, configuration, folder, to_beat, stage)


def train_fold_suggested(
    job: Job,
    number: int,
    state: SearchState | Failure,
    folder: Path | None,
    earlier: Sequence[Outcome],
    stage: Stage = Stage(),
) -> Outcome:
    """Does what `train_fold` does with the latest suggestion of a search, in the lagged order.

    Args:
        job: What the study's trials share, and which fold this is.
        number: The trial's.
        state: The search, or why there is no suggestion.
        folder: The study's, which keeps the model; None keeps no model.
        earlier: What came of the folds before this one.
        stage: The part of the training that this task does.
    """
    found = suggestion(state)
    if isinstance(found, Failure):
        return found
    configuration, history = found
    return train_fold(job, number, configuration, folder, history.best_folds, earlier, stage)


def train_fold_promoted(
    job: Job,
    promoted: Sequence[Trial] | Failure,
    place: int,
    known: Mapping[int, Result],
    folder: Path | None,
    stage: Stage,
) -> Outcome:
    """Does what `train_fold` does with a trial that goes on, in the lagged order; see `train_promoted`."""
    trial, _ = at_place(promoted, place, known)
    return None if trial is None else train_fold(job, trial.number, trial.configuration, folder, (), (), stage)


def reduce_folds_promoted(
    job: Job,
    promoted: Sequence[Trial] | Failure,
    place: int,
    known: Mapping[int, Result],
    folder: Path | None,
    outcomes: Sequence[Outcome],
) -> Result | Failure | None:
    """Does what `reduce_folds` does for a trial that goes on, in the lagged order; see `train_promoted`."""
    trial, outcome = at_place(promoted, place, known)
    return outcome if trial is None else reduce_folds(job, trial.number, folder, None, (), outcomes)


def reduce_folds(
    job: Job,
    number: int,
    folder: Path | None,
    to_beat: float | None,
    best: Sequence[float],
    outcomes: Sequence[Outcome],
    front: Sequence[Point] = (),
) -> Result:
    """Returns the result of a trial from those of its folds, and keeps the model of the best of these.

    The value is the mean. That of a trial that was not trained on all folds, since it was clearly beaten, is the value
    of the best trial less its mean deficit on the folds that it was trained on, so that it is never the best for its
    folds being easy. Metrics are means, with the sample standard deviation of the objective, the number of folds
    trained, and the objective on each. The epoch is the mean of theirs, rounded. Curves are means over the folds that
    have such an epoch, with the objective's on each fold. Seconds are added up.

    Args:
        job: What the study's trials share.
        number: The trial's.
        folder: The study's, or None.
        to_beat: The value to reach when the trial began: a worse trial keeps no model. None keeps any.
        best: The values of the best trial when this one began, on all folds.
        outcomes: What came of the folds, in their order.
        front: Where there are several objectives, what others had reached when the trial began: one that none of them
            beats in all objectives keeps its model, too.
    """
    results = [result_from(outcome) for outcome in outcomes if outcome is not None]
    merged = _merged(job, results)
    failure = next((_named(job, fold, each.failure) for fold, each in enumerate(results) if each.failure), None)
    if failure is not None:
        _keep_model(job, number, folder, [])
        return dataclasses.replace(merged, failure=failure)
    values = [each.value for each in results if each.value is not None]
    value = statistics.fmean(values)
    if None in outcomes:
        deficits = [than - each for each, than in zip(values, best)]  # noqa: B905
        value = statistics.fmean(best) - statistics.fmean(deficits)
    wanted = is_wanted(job, value, merged.metrics, to_beat, front)
    try:
        _keep_model(job, number, folder, values if wanted else [])
    except OSError as error:
        warnings = (*merged.warnings, f"its model could not be kept: {error.strerror}")
        merged = dataclasses.replace(merged, warnings=warnings)
    return dataclasses.replace(merged, value=value)


def reduce_folds_suggested(
    job: Job, number: int, state: SearchState | Failure, folder: Path | None, outcomes: Sequence[Outcome]
) -> Result | Failure:
    """Does what `reduce_folds` does for the latest suggestion of a search, in the lagged order.

    Args:
        job: What the study's trials share.
        number: The trial's.
        state: The search, or why there is no suggestion.
        folder: The study's, or None.
        outcomes: What came of the folds, in their order.
    """
    found = suggestion(state)
    if isinstance(found, Failure):
        return found
    _, history = found
    to_beat, best = history.nth_best(job.kept), history.best_folds
    return reduce_folds(job, number, folder, to_beat, best, outcomes, history.front)


def _named(job: Job, fold: int, failure: Failure) -> Failure:
    if failure.kind is FailureKind.INFEASIBLE:
        return failure  # whatever the fold
    return dataclasses.replace(failure, reason=f"{job.kind} {fold + 1}: {failure.reason}")


def _merged(job: Job, results: Sequence[Result]) -> Result:
    """Returns all but the value of a trial."""
    values = [each.value for each in results if each.value is not None]
    shared = [name for name in results[0].metrics if all(name in each.metrics for each in results)]
    metrics = {name: statistics.fmean(each.metrics[name] for each in results) for name in shared}
    if len(values) > 1:
        metrics[f"{job.metric}_std"] = statistics.stdev(values)
    metrics[f"{job.kind}s"] = float(len(values))
    metrics |= {fold_name(job.metric, job.kind, fold): value for fold, value in enumerate(values)}
    epochs = [each.epoch for each in results if each.epoch is not None]
    budgets = [each.budget for each in results if each.budget is not None]
    return Result(
        None,
        metrics,
        epoch=round(statistics.fmean(epochs)) if epochs else None,
        seconds=sum(each.seconds for each in results),
        curves=_curves(job, results),
        warnings=tuple(dict.fromkeys(warning for each in results for warning in each.warnings)),
        budget=max(budgets, default=None),
        ended=all(each.ended for each in results),
        violation=max(each.violation for each in results),
    )


def _curves(job: Job, results: Sequence[Result]) -> dict[str, list[float]]:
    curves = {}
    for name in results[0].curves:
        each_fold = [each.curves[name] for each in results if name in each.curves]
        curves[name] = [
            statistics.fmean(curve[epoch] for curve in each_fold if epoch < len(curve))
            for epoch in range(max(map(len, each_fold)))
        ]
    for fold, each in enumerate(results):
        if job.metric in each.curves:
            curves[fold_name(job.metric, job.kind, fold)] = each.curves[job.metric]
    return curves


def _keep_model(job: Job, number: int, folder: Path | None, values: Sequence[float]) -> None:
    """Makes the model of the best fold that has one the trial's, and removes those of the others.

    Args:
        job: What the study's trials share.
        number: The trial's.
        folder: The study's, or None.
        values: What the folds have reached; empty to keep no model.
    """
    if folder is None:
        return
    paths = [model_path(folder, number, dataclasses.replace(job, fold=fold).part) for fold in range(job.parts)]
    sign = -1 if job.direction == "maximize" else 1
    remove_model(model_path(folder, number))  # that of an earlier stage
    for fold in sorted(range(len(values)), key=lambda fold: sign * values[fold]):
        if move_model(paths[fold], model_path(folder, number)):
            break
    for path in paths:
        remove_model(path)
