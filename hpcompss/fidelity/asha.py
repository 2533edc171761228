"""Asynchronous successive halving (ASHA): nobody waits for a level to fill."""

from __future__ import annotations

import bisect
import math

from hpcompss.errors import InputError, nearest
from hpcompss.fidelity.base import Deciding, Report, Scheduler, Standing, geometric, ranked

__all__ = ["AsynchronousPromotion", "AsynchronousStopping", "asha"]

FORMS = ("promotion", "stopping")


def asha(low: float, high: float, *, eta: float = 3, form: str = "promotion") -> Scheduler:
    """Returns ASHA of Li et al. (2020), "A system for massively parallel hyperparameter tuning".

    Args:
        low: The least budget.
        high: The full budget.
        eta: One trial in so many goes on.
        form: ``"promotion"`` (their algorithm 2): a trial rests at its level until it is among the best there.
            ``"stopping"``: it is judged once, when it gets there, by those that did before.

    Raises:
        InputError: The form is unknown, or eta leaves a single level.
    """
    levels = geometric(low, high, eta)
    if form not in FORMS:
        raise InputError(f"unknown form {form!r}; {nearest(str(form), FORMS)}", key="fidelity.form")
    return AsynchronousPromotion(levels, eta) if form == "promotion" else AsynchronousStopping(levels, eta)


class _Ranking:
    """The trials at a level."""

    def __init__(self) -> None:
        self._standings: list[tuple[Standing, int]] = []
        self._numbers: list[int] | None = None

    def add(self, report: Report) -> None:
        """Takes in one more."""
        bisect.insort(self._standings, (report.standing, report.number))
        self._numbers = None

    @property
    def numbers(self) -> list[int]:
        """Their numbers, the best first."""
        if self._numbers is None:
            self._numbers = ranked(self._standings)
        return self._numbers


class AsynchronousPromotion(Scheduler):
    """Of those at a level, the best one in eta goes on if it has not yet; where there is none, a new trial begins."""

    def __init__(self, levels: tuple[float, ...], eta: float) -> None:
        super().__init__(levels)
        self._eta = eta
        self._ranked = [_Ranking() for _ in levels]
        self.fewest = math.ceil(eta ** (len(levels) - 1))

    def heed(self, report: Report, rung: int) -> None:
        """Takes the trial's rank at its level."""
        self._ranked[rung].add(report)
        if rung + 1 == len(self.levels) or report.loss == math.inf:
            self.drop(report.number)

    def due(self, begun: int | None = None) -> list[tuple[int, float]]:
        """Returns those that are among the best at their level and have not gone on, the highest level first."""
        found = []
        for rung in range(len(self.levels) - 2, -1, -1):
            numbers = self._ranked[rung].numbers
            for number in numbers[: int(len(numbers) // self._eta)]:
                if self.rungs[rung][number][1] < math.inf and not self._reaches(number, rung + 1):
                    found.append((number, self.levels[rung + 1]))
        return found


class AsynchronousStopping(Deciding):
    """A trial goes on if it is among the best one in eta of those that have reached its level, itself included."""

    def __init__(self, levels: tuple[float, ...], eta: float) -> None:
        super().__init__(levels)
        self._eta = eta
        self._ranked = [_Ranking() for _ in levels]

    def survives(self, report: Report, rung: int) -> bool:
        """Returns whether it is; the best of fewer than eta does."""
        self._ranked[rung].add(report)
        numbers = self._ranked[rung].numbers
        return numbers.index(report.number) < max(1, int(len(numbers) // self._eta))
