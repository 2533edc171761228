"""The sampling task of the lagged order: what may be known by now, and the next configuration to try.

In that order suggestion i uses the results of the trials numbered up to i - lag, and no later ones. So the tasks form
a chain, ``state_i = suggest(state_(i-1), record_(i-lag))``, which can be submitted ahead and gives the same
configurations whatever finishes first, on one worker or a thousand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hpcompss.samplers.base import Sampler, SpaceExhausted
from hpcompss.samplers.history import History
from hpcompss.trial import Configuration, Failure, FailureKind, Result, Trial, TrialState

__all__ = ["EXHAUSTED", "SearchState", "next_configuration", "suggest", "suggestion"]

EXHAUSTED = Failure(FailureKind.EXCEPTION, "no untried configuration is found")
"""What a trial is given for a result that the sampler has no configuration for."""


def next_configuration(
    sampler: Sampler,
    initial: Sequence[Configuration],
    history: History,
    pending: Sequence[Configuration],
    number: int,
) -> Configuration:
    """Returns what trial ``number`` tries: the initial configurations in order, then what the sampler suggests.

    Raises:
        SpaceExhausted: The sampler has no untried configuration.
    """
    if number < len(initial):
        return dict(initial[number])
    return sampler.ask(history, pending, number - len(initial))


@dataclass(frozen=True)
class SearchState:
    """A search after a suggestion. It is never changed: tasks of one process may share it.

    Attributes:
        sampler: What suggests.
        history: The finished trials that count by now, in the order of their numbers.
        pending: The configurations suggested since, the latest last; None for a trial that got none.
        number: The number of the latest suggestion; -1 before the first.
        initial: What the first trials try, whatever the sampler.
        full: The full budget, where trials are given different amounts.
    """

    sampler: Sampler
    history: History
    pending: tuple[Configuration | None, ...] = ()
    number: int = -1
    initial: tuple[Configuration, ...] = ()
    full: float | None = None

    @property
    def configuration(self) -> Configuration | None:
        """The latest suggestion, or None where no untried configuration was found."""
        return self.pending[-1]

    @classmethod
    def after(
        cls,
        sampler: Sampler,
        history: History,
        trials: Iterable[Trial],
        lag: int,
        initial: Sequence[Configuration] = (),
        full: float | None = None,
        promoted: Iterable[Trial] = (),
    ) -> SearchState:
        """Returns the state after the suggestion of the last of ``trials``, which have all finished.

        Args:
            sampler: What suggests.
            history: What was known before the first trial; it is not changed.
            trials: The trials from number 0 on.
            lag: How many numbers a result is behind the first suggestion that it counts for.
            initial: What the first trials try.
            full: The full budget, where trials are given different amounts.
            promoted: Those that went on, as of each stage, as far as they count by then.
        """
        known, history = list(trials), history.copy()
        for trial in (*(trial for trial in known[:-lag] if trial.configuration), *promoted):
            history.append(trial, fidelity=_fidelity(trial, full))
        pending = tuple(trial.configuration or None for trial in known[-lag:])
        return cls(sampler, history, pending, len(known) - 1, tuple(initial), full)


def suggestion(state: SearchState | Failure) -> tuple[Configuration, History] | Failure:
    """Returns the latest suggestion and what it was made from, or why there is none.

    Args:
        state: The search after it, or the `Failure` of a task before.
    """
    if isinstance(state, Failure):
        return state
    return EXHAUSTED if state.configuration is None else (state.configuration, state.history)


def _fidelity(trial: Trial, full: float | None) -> float:
    """Returns the share of the full budget that a trial was given by a stage."""
    budget = trial.result.budget if trial.result is not None else None
    return 1.0 if full is None or budget is None else budget / full


def suggest(
    state: SearchState | Failure,
    record: Trial | Failure | None,
    configuration: Configuration | None = None,
    promoted: Sequence[Trial | Failure | None] = (),
) -> SearchState | Failure:
    """Returns the state after one more suggestion, or the `Failure` of one before it.

    Args:
        state: The state after the suggestion before.
        record: The trial whose result counts from now on, the first one pending; None while there is none.
        configuration: What is known to have been suggested, for a trial that finished before the search was resumed.
        promoted: Trials that went on and count as such from now on.
    """
    if isinstance(state, Failure):
        return state
    number, history, pending = state.number + 1, state.history, state.pending
    if record is not None:
        first, *rest = pending
        pending = tuple(rest)
        if first is not None:
            if isinstance(record, Failure):
                record = Trial(number - len(state.pending), first, TrialState.FAILED, Result(None, failure=record))
            history = history.copy()
            history.append(record, fidelity=_fidelity(record, state.full))
    went_on = [each for each in promoted if isinstance(each, Trial) and each.value is not None]
    if went_on:
        history = history.copy()
        for each in went_on:
            history.append(each, fidelity=_fidelity(each, state.full))
    if configuration is None:
        try:
            tried = [each for each in pending if each is not None]
            configuration = next_configuration(state.sampler, state.initial, history, tried, number)
        except SpaceExhausted:
            configuration = None
    return dataclasses.replace(state, history=history, pending=(*pending, configuration), number=number)
