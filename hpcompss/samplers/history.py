"""What a sampler learns from: the finished trials as compact arrays, appended to and never rebuilt."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcompss.constraints import Constraint, total_violation
from hpcompss.objectives import Objective
from hpcompss.pareto import Point, non_dominated
from hpcompss.space.space import Key, Space
from hpcompss.trial import Trial, TrialState, fold_values, is_untrained

__all__ = ["History"]


class History:
    """The finished trials of a study, in the order in which they became known, after those of studies before it.

    Args:
        space: Their space.
        direction: ``"minimize"`` or ``"maximize"``.
        constraints: What trials must keep to.
        also: The objectives beside the first one.

    Attributes:
        keys: The configurations that the study tried itself.
        transferred: How many of the first trials are those of other studies.
        best_folds: The objective of the best of the study's own feasible trials on each fold, or in each repeat; empty
            where trials have none.
    """

    def __init__(
        self,
        space: Space,
        direction: str,
        constraints: Sequence[Constraint] = (),
        also: Sequence[Objective] = (),
    ) -> None:
        self.space = space
        self.direction = direction
        self.constraints = tuple(constraints)
        self.also = tuple(also)
        self._sign = -1.0 if direction == "maximize" else 1.0
        self._units: NDArray[np.float64] = np.empty((16, len(space)))
        self._losses: NDArray[np.float64] = np.empty(16)
        self._others: NDArray[np.float64] = np.empty((16, len(self.also)))
        self._first: NDArray[np.float64] | None = None
        self._violations: NDArray[np.float64] = np.empty(16)
        self._fidelities: NDArray[np.float64] = np.empty(16)
        self._adjusted: NDArray[np.float64] | None = None
        self._steps: dict[float, dict[float, tuple[tuple[float, float], ...]]] = {}
        self._rows: dict[int, int] = {}
        self._seconds: NDArray[np.float64] = np.empty(16)
        self._count = 0
        self.keys: set[Key] = set()
        self.transferred = 0
        self.best_folds: tuple[float, ...] = ()
        self._alignments: tuple[_Alignment, ...] = ()

    def __len__(self) -> int:
        return self._count

    @property
    def units(self) -> NDArray[np.float64]:
        """The configurations in the unit cube: shape (trials, parameters), NaN where inactive."""
        return self._units[: self._count]

    @property
    def losses(self) -> NDArray[np.float64]:
        """What is to be minimised, negated where it is maximised: shape (trials,), NaN for a failed trial.

        Where trials were given different shares of the full budget, they are those that are expected at the full one.
        """
        if not self._steps:
            return self._losses[: self._count]
        if self._adjusted is None or len(self._adjusted) != self._count:
            self._adjusted = _expected(self._losses[: self._count], self.fidelities, self._steps)
        return self._adjusted

    @property
    def points(self) -> NDArray[np.float64]:
        """What is to be minimised in each objective: shape (trials, objectives), NaN for a failed trial."""
        first = self.losses if self._first is None else self._first
        return np.column_stack([first, self._others[: self._count]])

    @property
    def violations(self) -> NDArray[np.float64]:
        """By how much constraints are violated, 0 where all hold: shape (trials,), NaN for a failed trial.

        A trial that was not trained for being infeasible has no loss, but the violation of the limit that it breaks.
        """
        return self._violations[: self._count]

    @property
    def fidelities(self) -> NDArray[np.float64]:
        """The share of the full budget that each trial was given, above 0 and up to 1: shape (trials,)."""
        return self._fidelities[: self._count]

    @property
    def seconds(self) -> NDArray[np.float64]:
        """How long each trial ran: shape (trials,), NaN where that is not known."""
        return self._seconds[: self._count]

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Whether each trial has no value: shape (trials,)."""
        return np.isnan(self.losses)

    @property
    def informative(self) -> NDArray[np.bool_]:
        """Whether each trial has a loss or is known to be infeasible: shape (trials,)."""
        return ~np.isnan(self.violations)

    @property
    def best(self) -> float | None:
        """The best value of the study's own feasible trials, or None while there is none."""
        return self.nth_best(1)

    def nth_best(self, place: int, without: int | None = None) -> float | None:
        """Returns the value in that place, from 1, of the study's own feasible trials; None while there are fewer.

        Args:
            place: The place.
            without: The number of a trial that does not count, or None.
        """
        counts = self._violations[: self._count] == 0
        counts[: self.transferred] = False
        if without is not None and without in self._rows:
            counts[self._rows[without]] = False
        losses = self._losses[: self._count][counts]
        return float(self._sign * np.partition(losses, place - 1)[place - 1]) if len(losses) >= place else None

    @property
    def front(self) -> list[Point]:
        """What the study's own feasible trials reach in several objectives that no other one of them beats."""
        if not self.also:
            return []
        reached = np.column_stack([self._losses[: self._count], self._others[: self._count]])[self.transferred :]
        own = reached[self.violations[self.transferred :] == 0]
        return [tuple(each) for each in own[non_dominated(own)].tolist()]

    def with_losses(self, losses: NDArray[np.float64]) -> History:
        """Returns a view of it whose losses are others, as they are, for a sampler that learns from one figure."""
        view = copy.copy(self)
        view._first = self.losses if self._first is None else self._first
        view._losses, view._adjusted, view._steps = losses, None, {}
        return view

    def append(self, trial: Trial, *, fidelity: float = 1.0) -> None:
        """Adds a finished trial, which was given that share of the full budget; one that went on takes its place."""
        folds = fold_values(trial.result.metrics) if trial.result is not None else ()
        before = self.best if folds else None
        if trial.number in self._rows:
            self._replace(self._rows[trial.number], trial, fidelity)
        else:
            self._begin(trial, fidelity)
        if folds and self.best != before:
            self.best_folds = folds

    def _begin(self, trial: Trial, fidelity: float) -> None:
        self._rows[trial.number] = self._count
        self._add(trial, fidelity)
        self.keys.add(self.space.key(trial.configuration))
        if self._alignments and not np.isnan(self._losses[self._count - 1]):
            self._align()

    def _replace(self, row: int, trial: Trial, fidelity: float) -> None:
        before, share = self._losses[row], self._fidelities[row]
        count, self._count = self._count, row
        self._add(trial, fidelity)
        self._count, self._adjusted = count, None
        step = float(before), float(self._losses[row])
        if share < fidelity and all(map(math.isfinite, step)):
            higher = self._steps.get(share, {})
            self._steps = {**self._steps, share: {**higher, fidelity: (*higher.get(fidelity, ()), step)}}

    def transfer(self, trials: Iterable[Trial], *, comparable: bool = True) -> None:
        """Adds finished trials of another study, before any of this one; what was tried there may be tried here.

        Args:
            trials: The trials, their configurations being of this space.
            comparable: Whether a configuration has the same value there and here. Else their values are kept shifted,
                by the median difference between each completed trial here and the nearest one there, as those come.
        """
        begin = self._count
        for trial in trials:
            self._add(trial, 1.0)
        self.transferred = self._count
        # They may have run on another machine.
        self._seconds[begin : self._count] = np.nan
        if not comparable:
            self._alignments += (_Alignment(begin, self._count, self.points[begin:]),)

    def _align(self) -> None:
        """Shifts the values of trials from elsewhere as the latest trial says."""
        row = self._count - 1
        latest, point = self._units[row], np.append(self._losses[row], self._others[row])
        aligned = []
        for each in self._alignments:
            place = slice(each.begin, each.end)
            distances = np.where(np.isnan(each.points[:, 0]), np.inf, _distances(self._units[place], latest))
            if np.isfinite(distances).any():
                gap = tuple((point - each.points[distances.argmin()]).tolist())
                each = dataclasses.replace(each, gaps=(*each.gaps, gap))
                shifted = each.points + np.median(each.gaps, axis=0)
                self._losses[place], self._others[place] = shifted[:, 0], shifted[:, 1:]
            aligned.append(each)
        self._alignments = tuple(aligned)

    def _add(self, trial: Trial, fidelity: float) -> None:
        if self._count == len(self._losses):
            self._grow()
        value = math.nan if trial.value is None or trial.state is not TrialState.COMPLETE else trial.value
        metrics = trial.result.metrics if trial.result is not None else {}
        others = [each.loss(metrics.get(each.metric, math.nan)) for each in self.also]
        succeeded = all(map(math.isfinite, (value, *others)))
        self._units[self._count] = self.space.encode(trial.configuration)
        self._losses[self._count] = self._sign * value if succeeded else np.nan
        self._others[self._count] = others if succeeded else np.nan
        self._violations[self._count] = total_violation(metrics, self.constraints) if succeeded else np.nan
        if trial.result is not None and is_untrained(trial.result):
            self._violations[self._count] = trial.result.violation
        self._fidelities[self._count] = fidelity
        seconds = trial.result.seconds if trial.result is not None else 0.0
        self._seconds[self._count] = seconds if 0 < seconds < math.inf else np.nan
        self._count += 1

    def copy(self) -> History:
        """Returns a history of the same trials that may be appended to without changing this one."""
        copied = copy.copy(self)
        for name in _ARRAYS:
            setattr(copied, name, getattr(self, name).copy())
        copied.keys, copied._rows = set(self.keys), dict(self._rows)
        return copied

    def extend(self, trials: Iterable[Trial]) -> None:
        """Adds finished trials in order."""
        for trial in trials:
            self.append(trial)

    def _grow(self) -> None:
        for name in _ARRAYS:
            array = getattr(self, name)
            setattr(self, name, np.concatenate([array, np.empty_like(array)]))


SLOPE = 0.5
"""How much a difference at one share of the budget is worth at the next, before trials that went on tell; it counts as
one of them. With 1 a trial that was good early was expected to end beyond the best there is."""


def _expected(
    losses: NDArray[np.float64],
    shares: NDArray[np.float64],
    steps: Mapping[float, Mapping[float, Sequence[tuple[float, float]]]],
) -> NDArray[np.float64]:
    """Returns the losses that trials are expected to have at the full budget.

    Args:
        losses: Those that they have: shape (trials,).
        shares: The shares of the full budget that they had: shape (trials,).
        steps: By a share and the next one, the losses that trials which went on had at the two.

    Returns:
        Shape (trials,); from share to share a straight line through what went on.
    """
    lines: dict[float, tuple[float, float]] = {}
    for share in sorted(steps, reverse=True):
        following = min(steps[share])
        start, slope = _line(np.array(steps[share][following]))
        start_after, slope_after = lines.get(following, (0.0, 1.0))
        lines[share] = start_after + slope_after * start, slope_after * slope
    distinct, places = np.unique(shares, return_inverse=True)
    found = np.array([lines.get(float(share), (0.0, 1.0)) for share in distinct])[places]
    return np.asarray(found[:, 0] + found[:, 1] * losses)


def _line(step: NDArray[np.float64]) -> tuple[float, float]:
    """Returns start and slope, from 0 to 1, of a line through pairs of losses (n, 2), by least squares with a prior."""
    centre = np.median(step, axis=0)
    before, after = (step - centre).T
    spread = float(before @ before)
    slope = (float(before @ after) + SLOPE * spread / len(step)) / (spread + spread / len(step)) if spread else SLOPE
    slope = min(max(slope, 0.0), 1.0)
    return float(centre[1] - slope * centre[0]), slope


@dataclass(frozen=True)
class _Alignment:
    """Trials of a study whose values are not those of this one, with what they had there.

    Attributes:
        begin: The first of them.
        end: The one behind the last.
        points: What they reached there in each objective, to be minimised: shape (trials, objectives).
        gaps: By how much what each completed trial here reached exceeds what the nearest one there did.
    """

    begin: int
    end: int
    points: NDArray[np.float64]
    gaps: tuple[Point, ...] = ()


def _distances(units: NDArray[np.float64], unit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the distances of places, shape (n, parameters), to one; 1 in a column that one of two lacks."""
    apart = np.where(np.isnan(units) & np.isnan(unit), 0.0, np.nan_to_num(np.abs(units - unit), nan=1.0))
    distances: NDArray[np.float64] = apart.sum(axis=1)
    return distances


_ARRAYS = ("_units", "_losses", "_others", "_violations", "_fidelities", "_seconds")
