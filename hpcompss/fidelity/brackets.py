"""Successive halving and Hyperband: of a bracket of trials the best are trained more, level by level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hpcompss.fidelity.base import Report, Scheduler, geometric, ranked

__all__ = ["Bracket", "Brackets", "hyperband", "successive_halving"]


def successive_halving(low: float, high: float, *, eta: float = 3) -> Brackets:
    """Returns successive halving: of each bracket of trials one in ``eta`` goes on from level to level.

    Jamieson and Talwalkar (2016), "Non-stochastic best arm identification and hyperparameter optimization", with as
    many trials in a bracket as leave one at the full budget.
    """
    levels = geometric(low, high, eta)
    return Brackets(levels, eta, [(0, math.ceil(eta ** (len(levels) - 1)))])


def hyperband(low: float, high: float, *, eta: float = 3) -> Brackets:
    """Returns Hyperband: brackets in turn that begin with many trials at the lowest level, and with fewer higher up.

    Li et al. (2018), "Hyperband: a novel bandit-based approach to hyperparameter optimization", algorithm 1.
    """
    levels = geometric(low, high, eta)
    most = len(levels) - 1
    sizes = [math.ceil((most + 1) / (each + 1) * eta**each) for each in range(most, -1, -1)]
    return Brackets(levels, eta, list(enumerate(sizes)))


@dataclass(frozen=True)
class Bracket:
    """Trials that are compared with each other.

    Attributes:
        index: Its number, from 0.
        begin: The number of its first trial.
        size: How many trials it has.
        rung: The index of the level that they begin at.
    """

    index: int
    begin: int
    size: int
    rung: int

    @property
    def numbers(self) -> range:
        """The numbers of its trials."""
        return range(self.begin, self.begin + self.size)


class Brackets(Scheduler):
    """Brackets of trials, one after the other; a level is judged when all of a bracket have reached it.

    Args:
        levels: The budgets, ascending.
        eta: One trial in so many goes on, at least one of a bracket.
        shapes: For each of the brackets that take turns, the index of its first level and its size.
    """

    def __init__(self, levels: tuple[float, ...], eta: float, shapes: Sequence[tuple[int, int]]) -> None:
        super().__init__(levels)
        self._eta = eta
        self._shapes = tuple(shapes)
        self._turn = sum(size for _, size in shapes)
        self._open: dict[int, Bracket] = {}
        self.fewest = shapes[0][1]

    def bracket(self, number: int) -> Bracket:
        """Returns the bracket of a trial."""
        turns, place = divmod(number, self._turn)
        begin = number - place
        for position, (rung, size) in enumerate(self._shapes):
            if place < size:
                return Bracket(turns * len(self._shapes) + position, begin, size, rung)
            place, begin = place - size, begin + size
        raise ValueError(number)

    def survivors(self, bracket: Bracket, size: int) -> list[int]:
        """Returns how many of a bracket with so many trials go on to each of its levels after the first."""
        counts = [size]
        for _ in self.levels[bracket.rung + 1 :]:
            counts.append(max(1, int(counts[-1] // self._eta)))
        return counts[1:]

    def is_done(self, bracket: Bracket) -> bool:
        """Returns whether all of a bracket's trials have been trained as far as they should be."""
        return self._look(bracket.rung, bracket.numbers)[1]

    def begin_of(self, index: int) -> int:
        """Returns the number of the first trial of a bracket."""
        turns, position = divmod(index, len(self._shapes))
        return turns * self._turn + sum(size for _, size in self._shapes[:position])

    @property
    def largest(self) -> int:
        """How many trials the largest bracket has."""
        return max(size for _, size in self._shapes)

    def first(self, number: int) -> float:
        """Returns the first budget of its bracket."""
        return self.levels[self.bracket(number).rung]

    def heed(self, report: Report, rung: int) -> None:
        """Has the trial's bracket looked at again."""
        bracket = self.bracket(report.number)
        self._open[bracket.index] = bracket

    def due(self, begun: int | None = None) -> list[tuple[int, float]]:
        """Returns those that go on, by their brackets and then the best first."""
        found: list[tuple[int, float]] = []
        for index, bracket in sorted(self._open.items()):
            numbers = bracket.numbers if begun is None else bracket.numbers[: max(0, begun - bracket.begin)]
            due, is_done = self._look(bracket.rung, numbers)
            found += due
            if is_done and len(numbers) == bracket.size:
                del self._open[index]
        return found

    def _look(self, first: int, numbers: Sequence[int]) -> tuple[list[tuple[int, float]], bool]:
        """Returns which of a bracket go on now, and whether all of it is done."""
        group = list(numbers)
        for rung in range(first, len(self.levels)):
            if not all(number in self.rungs[rung] for number in group):
                return [], False
            chosen = self.chosen(group, rung) if rung + 1 < len(self.levels) else []
            for number in group:
                if number not in chosen:
                    self.drop(number)
            due = [number for number in chosen if not self._reaches(number, rung + 1)]
            if due:
                return [(number, self.levels[rung + 1]) for number in due], False
            group = chosen
        return [], True

    def chosen(self, group: Sequence[int], rung: int) -> list[int]:
        """Returns those of a group, all of which have reached a level, that go on from there.

        They are the best, the best first, and such as went on already when the bracket was thought to be smaller.
        """
        standings = self.rungs[rung]
        numbers = ranked([(standings[number], number) for number in group if standings[number][1] < math.inf])
        count = max(1, int(len(group) // self._eta))
        return numbers[:count] + [number for number in numbers[count:] if number in self.rungs[rung + 1]]
