"""The scheduler protocol: how much a new trial is trained, and which of the trained ones go on."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpcompss.errors import InputError, shown
from hpcompss.pareto import Point, dominates, ordered
from hpcompss.trial import Stage

__all__ = ["Deciding", "Report", "Scheduler", "Standing", "Waiting", "check_eta", "geometric", "ranked"]

Standing = tuple[float, ...]
"""How good a trial is at a level: by how much it breaks constraints, then what it reached in each objective, to be
minimised."""


def ranked(standings: Sequence[tuple[Standing, int]]) -> list[int]:
    """Returns the numbers of trials, the best first; of equals the lowest number comes first.

    Those that break constraints come behind all others, the less they do the sooner. Where there are several
    objectives, the rest is ordered as NSGA-II selects.

    Args:
        standings: Those of the trials, each with its number.
    """
    by_standing = sorted(standings)
    if not by_standing or len(by_standing[0][0]) == 2:
        return [number for _, number in by_standing]
    numbers = [number for _, number in by_standing]
    feasible = sum(standing[0] == 0 for standing, _ in by_standing)
    points = np.array([standing[1:] for standing, _ in by_standing[:feasible]]).reshape(feasible, -1)
    return [numbers[place] for place in ordered(points).tolist()] + numbers[feasible:]


class Waiting(Exception):
    """Nothing can start before something that runs has finished."""


@dataclass(frozen=True)
class Report:
    """What came of one stage of a trial.

    Attributes:
        number: The trial's.
        budget: How much it has been trained now: epochs, or the share of the training data.
        loss: What is to be minimised; infinite where the stage failed.
        violation: By how much it breaks constraints, 0 where it keeps to all.
        ended: Whether further training would change nothing.
        curve: The loss after each epoch of this stage; empty where there are none.
        others: What is to be minimised in the objectives after the first.
    """

    number: int
    budget: float
    loss: float
    violation: float = 0.0
    ended: bool = False
    curve: tuple[float, ...] = ()
    others: Point = ()

    @property
    def standing(self) -> Standing:
        """How good it is."""
        if self.loss == math.inf:
            return (math.inf,) * (2 + len(self.others))
        return (self.violation, self.loss, *self.others)


class Scheduler(abc.ABC):
    """Says who trains how long. It knows nothing but the reports it was given, in their order, and what goes on.

    Args:
        levels: The budgets at which trials are compared, ascending; the last is the full one.

    Attributes:
        levels: The same.
        rungs: For each level the standing of every trial that has reached it, by its number.
    """

    fewest = 1
    """How many trials it takes for one of them to be trained to the end."""

    def __init__(self, levels: tuple[float, ...]) -> None:
        self.levels = levels
        self.rungs: list[dict[int, Standing]] = [{} for _ in levels]
        self._going: set[int] = set()
        self._ended: set[int] = set()
        self._gone: set[int] = set()
        self._dropped: list[int] = []

    def first(self, number: int) -> float:
        """Returns the budget that trial ``number`` is first trained with."""
        return self.levels[0]

    def stage(self, budget: float, since: float = 0) -> Stage:
        """Returns the part of a trial that ends at a budget, after it was trained with another one before."""
        if isinstance(self.levels[0], int):
            return Stage(epochs=int(budget), since=int(since), keeps=budget < self.levels[-1])
        return Stage(share=budget)

    def budget(self, stage: Stage) -> float:
        """Returns the budget that a part of a trial ends at."""
        return next(iter(stage.budget.values()))

    def report(self, report: Report) -> None:
        """Takes in what came of a stage; each level of a trial counts once."""
        rung = self.levels.index(report.budget)
        self._going.discard(report.number)
        if report.ended:
            self._ended.add(report.number)
        if report.number not in self.rungs[rung]:
            self.rungs[rung][report.number] = report.standing
            self.heed(report, rung)

    @abc.abstractmethod
    def heed(self, report: Report, rung: int) -> None:
        """Does what a report at a level asks for."""

    @abc.abstractmethod
    def due(self, begun: int | None = None) -> list[tuple[int, float]]:
        """Returns the trials that should go on now and to which budget, the most promising first.

        Args:
            begun: How many trials have begun, where no more will as far as is known.
        """

    def dropped(self) -> list[int]:
        """Returns the trials of which it has turned out, since this was asked last, that they do not go on."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def drop(self, number: int) -> None:
        """Takes note that a trial does not go on."""
        if number not in self._gone:
            self._gone.add(number)
            self._dropped.append(number)

    def promise(self, number: int) -> tuple[int, float, float]:
        """Returns how likely a trial is to go on, the greatest being the likeliest: by its level, then by its rank."""
        rung = max((rung for rung, there in enumerate(self.rungs) if number in there), default=0)
        violation, loss, *_ = self.rungs[rung].get(number, (math.inf, math.inf))
        return rung, -violation, -loss

    def begin(self, number: int) -> None:
        """Takes note that a trial goes on, so that it is not due any more."""
        self._going.add(number)
        self._gone.discard(number)

    def give_back(self, number: int) -> None:
        """Takes note that a stage was interrupted: it is due again."""
        self._going.discard(number)

    def _reaches(self, number: int, rung: int) -> bool:
        """Returns whether a trial is at a level or on the way there; one that has ended is there at once."""
        if number not in self.rungs[rung] and number in self._ended:
            # More training would change nothing, so it stands there as it stood below.
            violation, loss, *others = self.rungs[rung - 1][number]
            self.report(Report(number, self.levels[rung], loss, violation, ended=True, others=tuple(others)))
        return number in self.rungs[rung] or number in self._going


class Deciding(Scheduler):
    """A scheduler that decides as soon as a trial reports whether that one goes on."""

    def __init__(self, levels: tuple[float, ...]) -> None:
        super().__init__(levels)
        self._continuing: dict[int, int] = {}

    @abc.abstractmethod
    def survives(self, report: Report, rung: int) -> bool:
        """Returns whether a trial that has just reported at a level should go on."""

    def heed(self, report: Report, rung: int) -> None:
        """Decides."""
        self._continuing.pop(report.number, None)
        survives = self.survives(report, rung)
        if survives and rung + 1 < len(self.levels) and report.loss < math.inf and not report.ended:
            self._continuing[report.number] = rung + 1
        else:
            self.drop(report.number)

    def leads(self, report: Report, rung: int) -> bool:
        """Returns whether there are several objectives and no other trial at a level beats it in all of them.

        Its learning curve, which is of the first objective alone, then says too little.
        """
        if not report.others or report.violation > 0 or report.loss == math.inf:
            return False
        point = report.standing[1:]
        return not any(standing[0] == 0 and dominates(standing[1:], point) for standing in self.rungs[rung].values())

    def due(self, begun: int | None = None) -> list[tuple[int, float]]:
        """Returns those that were let go on, in the order of their reports."""
        return [(number, self.levels[rung]) for number, rung in self._continuing.items() if number not in self._going]


def geometric(low: float, high: float, eta: float) -> tuple[float, ...]:
    """Returns budgets from ``low`` to ``high``, both included, each about ``eta`` times the one before.

    Whole numbers, epochs, are rounded. Raises `InputError` where there is none between that is worth it.
    """
    check_eta(eta)
    whole = isinstance(low, int)
    if low * eta > high * (1 + 1e-9):
        name = "min_epochs" if whole else "min_share"
        message = f"{low:g} times eta ({eta:g}) is above {high:g}, so that nothing could be stopped early: lower {name}"
        raise InputError(message, key=f"fidelity.{name}")
    steps = round(math.log(high / low) / math.log(eta))
    between = (low * (high / low) ** (step / steps) for step in range(1, steps))
    return tuple(sorted({low, *(round(each) if whole else each for each in between), high}))


def check_eta(eta: object) -> None:
    """Raises `InputError` where eta is not above 1."""
    if isinstance(eta, bool) or not isinstance(eta, int | float) or not 1 < eta < math.inf:
        raise InputError(f"eta is a number above 1, for one trial in eta goes on, not {shown(eta)}", key="fidelity.eta")
