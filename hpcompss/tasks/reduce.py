"""The reduction task of the lagged order: from what came of a trial's training to its record."""

from __future__ import annotations

import dataclasses

from hpcompss.constraints import constrained
from hpcompss.tasks.suggest import EXHAUSTED, SearchState
from hpcompss.trial import Failure, FailureKind, Result, Trial, TrialState, state_of

__all__ = ["reduce_trial", "result_from"]


def reduce_trial(state: SearchState | Failure, outcome: object, budget: float | None = None) -> Trial | Failure:
    """Returns the record of a trial, whatever became of it, or the `Failure` that kept it from being suggested.

    Args:
        state: The search after the trial was suggested.
        outcome: What its training gave: a `Result`, or a `Failure` in place of one.
        budget: How much it was trained, where trials are given different amounts.
    """
    if isinstance(state, Failure):
        return state
    if state.configuration is None:
        return Trial(state.number, {}, TrialState.FAILED, Result(None, failure=EXHAUSTED))
    result = constrained(result_from(outcome), state.history.constraints, state.history.also)
    result = result if result.budget is not None else dataclasses.replace(result, budget=budget)
    return Trial(state.number, state.configuration, state_of(result), result)


def result_from(outcome: object, seconds: float = 0.0) -> Result:
    """Returns the result of a trial from what its training gave.

    Args:
        outcome: A `Result`, or a `Failure` in place of one.
        seconds: How long it ran, where it does not say so itself.
    """
    if isinstance(outcome, Result):
        return outcome
    if isinstance(outcome, Failure):
        return Result(None, seconds=seconds, failure=outcome)
    return Result(None, seconds=seconds, failure=Failure(FailureKind.DIED, f"it returned {outcome!r}, no result"))
