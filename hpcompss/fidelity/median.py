"""The median stopping rule: a trial ends that is worse at its best than others were on average."""

from __future__ import annotations

import math
import statistics

from hpcompss.errors import InputError
from hpcompss.fidelity.base import Deciding, Report

__all__ = ["MedianStopping", "check_trials", "even", "median"]


def median(low: float, high: float, *, interval: int | None = None, startup_trials: int = 5) -> MedianStopping:
    """Returns the median stopping rule of Golovin et al. (2017), "Google Vizier", section 3.2.1.

    Args:
        low: How many epochs every trial is trained.
        high: The full number of epochs.
        interval: How many epochs lie between two looks; ``low`` by default.
        startup_trials: How many other trials must have come as far before one is stopped.

    Raises:
        InputError: An option is outside its range, or the budget is no number of epochs.
    """
    check_trials(startup_trials)
    return MedianStopping(even("median", low, high, interval), startup_trials)


class MedianStopping(Deciding):
    """Ends a trial whose best loss is above the median of the others' mean losses over as many epochs."""

    def __init__(self, levels: tuple[float, ...], startup_trials: int) -> None:
        super().__init__(levels)
        self._startup_trials = startup_trials
        self._means: list[dict[int, float]] = [{} for _ in levels]
        self._sums: dict[int, tuple[float, int, float]] = {}

    def survives(self, report: Report, rung: int) -> bool:
        """Returns whether it may still become better than half of the others."""
        total, count, best = self._sums.get(report.number, (0.0, 0, math.inf))
        losses = [loss for loss in report.curve if math.isfinite(loss)] or [report.loss]
        total, count, best = total + sum(losses), count + len(losses), min(best, report.loss, *losses)
        self._sums[report.number] = (total, count, best)
        others = self._means[rung].values()
        stays = len(others) < self._startup_trials or best <= statistics.median(others) or self.leads(report, rung)
        if total < math.inf:
            self._means[rung][report.number] = total / count
        return stays


def even(scheduler: str, low: float, high: float, interval: int | None) -> tuple[float, ...]:
    """Returns the budgets ``low``, ``low + interval``, ... and ``high``.

    Raises:
        InputError: They are shares of the data, or the interval is no whole number of epochs.
    """
    if not isinstance(low, int):
        message = f"{scheduler} looks at learning curves, which are over epochs: give min_epochs in place of min_share"
        raise InputError(message, key="fidelity.min_share")
    step = low if interval is None else interval
    if isinstance(step, bool) or not isinstance(step, int) or step < 1:
        message = f"the interval is a whole number of epochs of at least 1, not {interval!r}"
        raise InputError(message, key="fidelity.interval")
    return (*range(low, int(high), step), high)


def check_trials(count: object) -> None:
    """Raises `InputError` where a number of start-up trials is no whole number of at least 1."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        message = f"must be a whole number of at least 1, not {count!r}"
        raise InputError(message, key="fidelity.startup_trials")
