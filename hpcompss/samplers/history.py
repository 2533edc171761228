"""What a sampler learns from: the finished trials as compact arrays, appended to and never rebuilt."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcompss.constraints import Constraint, total_violation
from hpcompss.objectives import Objective
from hpcompss.pareto import Point, non_dominated
from hpcompss.space.space import Key, Space
from hpcompss.trial import Trial, TrialState

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
        self._count = 0
        self.keys: set[Key] = set()
        self.transferred = 0
        self._alignments: tuple[_Alignment, ...] = ()

    def __len__(self) -> int:
        return self._count

    @property
    def units(self) -> NDArray[np.float64]:
        """The configurations in the unit cube: shape (trials, parameters), NaN where inactive."""
        return self._units[: self._count]

    @property
    def losses(self) -> NDArray[np.float64]:
        """What is to be minimised, negated where it is maximised: shape (trials,), NaN for a failed trial."""
        return self._losses[: self._count]

    @property
    def points(self) -> NDArray[np.float64]:
        """What is to be minimised in each objective: shape (trials, objectives), NaN for a failed trial."""
        first = self._losses if self._first is None else self._first
        return np.column_stack([first, self._others])[: self._count]

    @property
    def violations(self) -> NDArray[np.float64]:
        """By how much constraints are violated, 0 where all hold: shape (trials,), NaN for a failed trial."""
        return self._violations[: self._count]

    @property
    def fidelities(self) -> NDArray[np.float64]:
        """The share of the full budget that each trial was given, above 0 and up to 1: shape (trials,)."""
        return self._fidelities[: self._count]

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Whether each trial has no value: shape (trials,)."""
        return np.isnan(self.losses)

    @property
    def best(self) -> float | None:
        """The best value of the study's own feasible trials, or None while there is none."""
        own = slice(self.transferred, self._count)
        losses = self._losses[own][self._violations[own] == 0]
        return float(self._sign * losses.min()) if len(losses) else None

    @property
    def front(self) -> list[Point]:
        """What the study's own feasible trials reach that no other one of them beats, in all objectives."""
        own = self.points[self.transferred :][self.violations[self.transferred :] == 0]
        return [tuple(each) for each in own[non_dominated(own)].tolist()]

    def with_losses(self, losses: NDArray[np.float64]) -> History:
        """Returns a view of it whose losses are others, for a sampler that learns from one figure."""
        view = copy.copy(self)
        view._losses, view._first = losses, self._losses if self._first is None else self._first
        return view

    def append(self, trial: Trial, *, fidelity: float = 1.0) -> None:
        """Adds a finished trial, which was given that share of the full budget."""
        self._add(trial, fidelity)
        self.keys.add(self.space.key(trial.configuration))
        if self._alignments and not np.isnan(self._losses[self._count - 1]):
            self._align()

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
        if not comparable:
            self._alignments += (_Alignment(begin, self._count, self.points[begin:]),)

    def _align(self) -> None:
        """Shifts the values of trials from elsewhere as the latest trial says."""
        latest, point = self._units[self._count - 1], self.points[-1]
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
        self._fidelities[self._count] = fidelity
        self._count += 1

    def copy(self) -> History:
        """Returns a history of the same trials that may be appended to without changing this one."""
        copied = copy.copy(self)
        for name in _ARRAYS:
            setattr(copied, name, getattr(self, name).copy())
        copied.keys = set(self.keys)
        return copied

    def extend(self, trials: Iterable[Trial]) -> None:
        """Adds finished trials in order."""
        for trial in trials:
            self.append(trial)

    def _grow(self) -> None:
        for name in _ARRAYS:
            array = getattr(self, name)
            setattr(self, name, np.concatenate([array, np.empty_like(array)]))


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


_ARRAYS = ("_units", "_losses", "_others", "_violations", "_fidelities")
