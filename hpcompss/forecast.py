"""How long the trials of a study will run: which to start first, and how long it is until the last one has finished."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hpcompss.samplers.cost import Cost, CostModel
from hpcompss.study import Study
from hpcompss.trial import Configuration, Trial

__all__ = ["Forecast", "expected_rest", "time_to_finish"]

Array = NDArray[np.float64]

RECENT = 50
"""A trial that is not known yet is expected to run as long as so many that finished last, on average: a sampler that
learns goes where trials take longer, or shorter."""

ROUNDS = 2
"""So many rounds of trials are given to slots one by one, for how the last ones fall decides; those before at once."""


LEAST = 0.05
"""The least deviation of log seconds that is believed in."""


OWN = 0.2
"""The deviation of the log seconds of a trial that goes on from what they were before."""


class Forecast:
    """Predicts the seconds of a study's trials from those that have finished, earlier runs of the study included.

    Args:
        study: The study.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._model = CostModel(study.space)
        self._cost: Cost | None = None
        self._predicted: dict[int, tuple[float, float]] = {}

    @property
    def tells_apart(self) -> bool:
        """Whether it is known by now that some configurations take longer than others."""
        cost = self._model.after(self._study.history)
        return cost is not None and cost.posterior is not None

    def seconds(self, configurations: Sequence[Configuration]) -> list[float] | None:
        """Returns the seconds that trials of configurations will run, or None while nothing is known."""
        cost = self._model.after(self._study.history)
        if cost is None or not configurations:
            return None
        units = np.array([self._study.space.encode(each) for each in configurations])
        seconds: list[float] = np.exp(cost(cost.points_of(units))).tolist()
        return seconds

    def longest_first(self, trials: Sequence[Trial]) -> list[Trial]:
        """Returns trials by their predicted seconds, the longest first; in their order while nothing is known."""
        order = np.argsort(-self._predict(trials)[0], kind="stable")
        return [trials[place] for place in order.tolist()]

    def in_time(self, trials: Sequence[Trial], seconds: float) -> list[Trial]:
        """Returns those trials that are expected to finish within so many seconds, or of which nothing is known."""
        known = np.exp(self._predict(trials)[0])
        return [trial for trial, expected in zip(trials, known.tolist(), strict=True) if not expected > seconds]

    def time_left(
        self, running: Sequence[tuple[Trial, float]], waiting: Sequence[Trial], to_come: int, slots: int
    ) -> float | None:
        """Returns the seconds until all trials have finished, or None while there is nothing to tell it from.

        Args:
            running: The trials that were given to the engine, each with the seconds that it has run for.
            waiting: Those that wait for a slot.
            to_come: How many more there will be.
            slots: How many run at once.
        """
        typical = self._typical()
        if typical is None or slots < 1:
            return None
        trials = [trial for trial, _ in running]
        elapsed = np.array([*(ran for _, ran in running), *(0.0 for _ in waiting)])
        rest = expected_rest(*self._predict([*trials, *waiting]), elapsed)
        rest = np.where(np.isnan(rest), typical, rest)
        return time_to_finish(rest[: len(running)], np.sort(rest[len(running) :])[::-1], to_come, typical, slots)

    def _typical(self) -> float | None:
        """Returns the mean seconds of the latest trials, failed ones too, or None while there are none."""
        seconds = self._study.history.seconds
        known = seconds[~np.isnan(seconds)][-RECENT:]
        return float(known.mean()) if len(known) else None

    def _predict(self, trials: Sequence[Trial]) -> tuple[Array, Array]:
        """Returns the expected logarithm of each trial's seconds and its deviation, shapes (n,); NaN while unknown."""
        cost = self._model.after(self._study.history)
        if cost is None:
            return np.full(len(trials), np.nan), np.full(len(trials), np.nan)
        if cost is not self._cost:
            self._cost = cost
            self._predicted = {}
        # In the lagged order a trial runs before the master knows its configuration.
        new = [each for each in trials if each.number not in self._predicted and each.configuration]
        if new:
            units = np.array([self._study.space.encode(each.configuration) for each in new])
            known = cost.predict(cost.points_of(units))
            self._predicted |= zip((each.number for each in new), zip(*known, strict=True), strict=True)
        unknown = (cost.median, cost.deviation)
        found = np.array([self._own(each) or self._predicted.get(each.number, unknown) for each in trials])
        found = found.reshape(len(trials), 2)
        shares = np.array([self._share(each) for each in trials])
        return found[:, 0] + np.log(shares), np.maximum(found[:, 1], LEAST)

    def _own(self, trial: Trial) -> tuple[float, float] | None:
        """Returns what a whole training takes by what the trial took so far, or None where it has not run yet."""
        scheduler, result = self._study.scheduler, trial.result
        if scheduler is None or result is None or not trial.stage.since:
            return None  # nor where each stage trains anew
        if result.budget is None or not 0 < result.seconds < math.inf:
            return None
        return math.log(result.seconds / result.budget * scheduler.levels[-1]), OWN

    def _share(self, trial: Trial) -> float:
        """Returns which share of a whole training the trial's stage is."""
        scheduler = self._study.scheduler
        if scheduler is None:
            return 1.0
        return (scheduler.budget(trial.stage) - trial.stage.since) / scheduler.levels[-1]


def expected_rest(logarithms: Array, deviations: Array, elapsed: Array) -> Array:
    """Returns how long trials are expected to go on that have run for some time.

    Their seconds are lognormal: the mean of what exceeds the time they have run, less that time. So one that runs
    longer than predicted is not taken to end at any moment.

    Args:
        logarithms: The mean of the logarithm of each one's seconds: shape (n,).
        deviations: Its standard deviation: shape (n,).
        elapsed: The seconds for which each one has run: shape (n,).

    Returns:
        Seconds: shape (n,).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        above = (logarithms - np.log(elapsed)) / deviations
        share = special.log_ndtr(above + deviations) - special.log_ndtr(above)
    share = np.where(elapsed > 0, share, 0.0)
    return np.asarray(np.maximum(np.exp(logarithms + deviations**2 / 2 + share) - elapsed, 0.0))


def time_to_finish(running: Array, waiting: Array, to_come: int, typical: float, slots: int) -> float:
    """Returns the seconds until all trials have finished, each being given to the slot that is free first.

    Args:
        running: How long each trial with a slot goes on: shape (r,).
        waiting: How long each one that waits for a slot will run, in the order of their start: shape (w,).
        to_come: How many more there will be.
        typical: The seconds of one of those.
        slots: How many run at once.
    """
    rounds = max(0, to_come // slots - ROUNDS)
    later = [*running[slots:].tolist(), *waiting.tolist(), *[typical] * (to_come - rounds * slots)]
    ends = [*running[:slots].tolist(), *[0.0] * (slots - len(running))]
    heapq.heapify(ends)
    for seconds in later:
        heapq.heapreplace(ends, ends[0] + seconds)
    return float(max(ends) + rounds * typical)
