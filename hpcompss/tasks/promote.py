"""The tasks of a bracket in the lagged order: which of its trials go on, and the record of each that did.

Which they are is known when the tasks run, so those after are submitted for places: the best, the second best, ...
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from hpcompss.constraints import Constraint, constrained, total_violation
from hpcompss.fidelity.base import Standing, ranked
from hpcompss.objectives import Objective, point_of
from hpcompss.tasks.reduce import result_from
from hpcompss.training.checkpoint import FOLDER as CHECKPOINTS
from hpcompss.trial import Failure, Result, Trial, state_of

__all__ = ["at_place", "promote", "record_promoted"]


def promote(
    records: Sequence[Trial | Failure | None],
    count: int,
    constraints: Sequence[Constraint],
    objectives: Sequence[Objective],
) -> list[Trial] | Failure:
    """Returns the best trials of a level, the best first, or the `Failure` of one that was not even suggested.

    Of the files that travel with their results they keep the checkpoints.

    Args:
        records: All that have reached it; None for a place that nobody took.
        count: How many go on at most; failed ones never do.
        constraints: Infeasible trials rank behind all others.
        objectives: What they are judged by.
    """
    known: dict[int, Trial] = {}
    standings: list[tuple[Standing, int]] = []
    for record in records:
        if isinstance(record, Failure):
            return record
        if record is not None and record.value is not None and record.result is not None:
            known[record.number] = record
            point = point_of(record.value, record.result.metrics, objectives)
            standings.append(((total_violation(record.result.metrics, constraints), *point), record.number))
    return [_to_go_on(known[number]) for number in ranked(standings)[:count]]


def _to_go_on(trial: Trial) -> Trial:
    if trial.result is None or not trial.result.files:
        return trial
    files = {path: each for path, each in trial.result.files.items() if path.startswith(f"{CHECKPOINTS}/")}
    return dataclasses.replace(trial, result=dataclasses.replace(trial.result, files=files))


def at_place(
    promoted: Sequence[Trial] | Failure, place: int, known: Mapping[int, Result]
) -> tuple[Trial | None, Result | Failure | None]:
    """Returns the trial to be trained in a place; or None and what there is to say without training.

    Args:
        promoted: Those that go on.
        place: From 0, the best.
        known: What came of trials that went on before the search was resumed.
    """
    if isinstance(promoted, Failure):
        return None, promoted
    if place >= len(promoted):
        return None, None
    trial = promoted[place]
    if trial.number in known:
        return None, known[trial.number]
    if trial.result is not None and trial.result.ended:
        return None, dataclasses.replace(trial.result, seconds=0.0, curves={}, files={})
    return trial, None


def record_promoted(
    promoted: Sequence[Trial] | Failure,
    place: int,
    outcome: object,
    constraints: Sequence[Constraint],
    also: Sequence[Objective],
    budget: float,
) -> Trial | Failure | None:
    """Returns the record of a trial that went on, as of that stage; None for a place that nobody took.

    Args:
        promoted: Those that go on.
        place: From 0, the best.
        outcome: What its training gave: a `Result`, or a `Failure` in place of one.
        constraints: What trials must keep to.
        also: The objectives after the first.
        budget: How much it was trained by then.
    """
    if isinstance(promoted, Failure):
        return promoted
    if place >= len(promoted):
        return None
    trial = promoted[place]
    result = constrained(result_from(outcome), constraints, also)
    result = result if result.budget is not None else dataclasses.replace(result, budget=budget)
    return Trial(trial.number, trial.configuration, state_of(result), result)
