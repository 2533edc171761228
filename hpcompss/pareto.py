"""Several objectives: which trials no other one beats (the Pareto front), and how much of the possible they reach."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Front", "Point", "dominates", "hypervolume", "non_dominated", "ordered"]

Array = NDArray[np.float64]

Point = tuple[float, ...]
"""What is to be minimised of a trial, one figure an objective."""


def dominates(point: Point, other: Point) -> bool:
    """Returns whether a point is nowhere worse than another one, and somewhere better."""
    return point != other and all(one <= two for one, two in zip(point, other, strict=True))


def non_dominated(points: Array) -> NDArray[np.bool_]:
    """Returns which points no other one dominates, and of equal points the first alone.

    Args:
        points: What is to be minimised: shape (points, objectives).

    Returns:
        Shape (points,).
    """
    kept = np.zeros(len(points), dtype=bool)
    # In this order a point is dominated by those before it alone: the first that is left is on the front.
    left = np.lexsort((np.arange(len(points)), *points.T[::-1]))
    while len(left):
        kept[left[0]] = True
        left = left[~(points[left] >= points[left[0]]).all(axis=1)]
    return kept


def ordered(points: Array) -> NDArray[np.intp]:
    """Returns the order of points from the best: front by front, and on a front those in the emptiest places first.

    So does NSGA-II select (Deb et al., 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II", section
    III); of equal places the first point comes first.

    Args:
        points: What is to be minimised: shape (points, objectives). With one objective they are sorted by it.
    """
    if points.shape[1] == 1:
        return np.argsort(points[:, 0], kind="stable")
    order: list[NDArray[np.intp]] = []
    left = np.arange(len(points))
    while len(left):
        front = left[non_dominated(points[left])]
        order.append(front[np.argsort(-_emptiness(points[front]), kind="stable")])
        left = np.setdiff1d(left, front)
    return np.concatenate(order) if order else left


def _emptiness(front: Array) -> Array:
    """Returns how far apart the neighbours of each point of a front are, summed over the objectives: shape (points,).

    It is infinite at the ends (Deb et al., 2002, "crowding distance").
    """
    distances = np.zeros(len(front))
    for column in front.T:
        order = np.argsort(column, kind="stable")
        values = column[order] / 2  # so that no difference overflows
        span = values[-1] - values[0]
        distances[order[[0, -1]]] = np.inf
        if span > 0:
            distances[order[1:-1]] += (values[2:] - values[:-2]) / span
    return distances


def _covers(members: Array, point: Array) -> bool:
    """Returns whether a member is nowhere worse than a point."""
    return bool((members <= point).all(axis=1).any())


class Front:
    """The trials that no other one dominates; of those alike in all objectives the one of the lowest number.

    In which order they come makes no difference. A trial may come again, having been trained further: what it was
    before then counts no more.
    """

    def __init__(self) -> None:
        self._points: dict[int, Point] = {}
        self._numbers: list[int] = []
        self._members: Array = np.empty((0, 0))

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, number: int) -> bool:
        return number in self._numbers

    @property
    def numbers(self) -> list[int]:
        """The numbers of its trials, the best by the first objective first."""
        return sorted(self._numbers, key=self._points.__getitem__)

    @property
    def points(self) -> list[Point]:
        """What its trials reached, in the same order."""
        return [self._points[number] for number in self.numbers]

    def add(self, number: int, point: Point) -> bool:
        """Takes in a trial and returns whether it joins the front with what no trial, itself before included, reached.

        Args:
            number: Its number.
            point: What it reached.
        """
        row = np.array([point])
        is_new = not self._numbers or not _covers(self._members, row[0])
        self.discard(number)
        self._points[number] = point
        if not self._numbers:
            self._numbers, self._members = [number], row
            return is_new
        if _covers(self._members, row[0]):
            for place in np.flatnonzero((self._members == row).all(axis=1)).tolist():
                self._numbers[place] = min(number, self._numbers[place])
            return False
        stay = np.flatnonzero(~(self._members >= row).all(axis=1))
        self._numbers = [*(self._numbers[place] for place in stay.tolist()), number]
        self._members = np.vstack([self._members[stay], row])
        return is_new

    def discard(self, number: int) -> None:
        """Forgets a trial, where it is known; what it alone dominated is on the front again."""
        if self._points.pop(number, None) is None or number not in self._numbers:
            return
        numbers = sorted(self._points)
        points = np.array([self._points[each] for each in numbers]).reshape(len(numbers), self._members.shape[1])
        kept = np.flatnonzero(non_dominated(points))
        self._numbers, self._members = [numbers[place] for place in kept.tolist()], points[kept]

    @property
    def hypervolume(self) -> float:
        """The share that the front dominates of the box between the best and the worst reached in each objective.

        It is from 0 to 1. A new worst makes it larger, too: it shows how one search goes, and compares no two.
        """
        if not self._points:
            return 0.0
        points = np.array(list(self._points.values())) / 2  # so that no difference overflows
        best, worst = points.min(axis=0), points.max(axis=0)
        varies = worst > best
        reached = (self._members[:, varies] / 2 - best[varies]) / (worst - best)[varies]
        return hypervolume(reached, np.ones(reached.shape[1])) if varies.any() else 0.0


def hypervolume(points: Array, reference: Array) -> float:
    """Returns the volume of what points dominate, up to a reference point.

    Exact, by slices along the first objective (Fonseca et al., 2006, "An improved dimension-sweep algorithm for the
    hypervolume indicator"), in a time that grows as points^(objectives - 1).

    Args:
        points: What is to be minimised: shape (points, objectives).
        reference: The worst that counts: shape (objectives,).
    """
    points = points[(points < reference).all(axis=1)]
    if not len(points):
        return 0.0
    points = points[np.argsort(points[:, 0], kind="stable")]
    widths = np.diff(points[:, 0], append=reference[0])
    if points.shape[1] == 1:
        return float(reference[0] - points[0, 0])
    if points.shape[1] == 2:
        return float(widths @ (reference[1] - np.minimum.accumulate(points[:, 1])))
    slices = (hypervolume(points[: count + 1, 1:], reference[1:]) for count in range(len(points)) if widths[count])
    return float(widths[widths > 0] @ np.fromiter(slices, float))
