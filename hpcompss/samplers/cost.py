"""How long trials run: a model of the seconds that configurations took, for what has to be planned or paid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcompss.samplers.history import History
from hpcompss.samplers.numerics.features import Features
from hpcompss.samplers.numerics.lattice import Tables
from hpcompss.samplers.numerics.regression import Posterior, Prior, fit
from hpcompss.samplers.numerics.threads import one_thread
from hpcompss.space.branches import Branch
from hpcompss.space.cube import Cube
from hpcompss.space.space import Space

__all__ = ["RANKED", "Cost", "CostModel", "Effects"]

Array = NDArray[np.float64]

FEWEST = 4
"""Of fewer trials only the median is known."""

KEPT = 128
"""The model holds so many trials at most, spread evenly over all: a fit takes 2 to 10 ms, and explained 0.93 of the
variance of log seconds on six data sets of LCBench."""

REFITS = 8
"""It is fitted anew after each so many-th part more trials."""

ITERATIONS = 20
"""The most that a fit makes; 100 gave the same predictions."""

PRIOR = Prior(noise=(-4.0, 2.0))
"""That of the process of log seconds: a machine has moods. With noise of 20 % the share of variance explained after 200
trials was 0.90 with it, and 0.85 with the prior that suits objectives."""

ALIKE = 0.1
"""Where log seconds deviate less than this, configurations do not differ in what they cost."""

RANKED = 64
"""So many combinations that are best by the effects of single parameters are compared by their whole cost."""

REFERENCES = 32
"""Over so many of the trials the effect of one parameter is averaged."""

PLACES = 33
"""At so many places the effect of a number of more values is known; between them it is interpolated."""


@dataclass(frozen=True)
class Cost:
    """The logarithm of the seconds that a trial takes with the full budget, as a function of points (see `Features`).

    Attributes:
        median: What is expected where the configuration tells nothing.
        deviation: The standard deviation of the logarithm where it tells nothing.
        features: Of the space.
        points: Those of trials that were learned from: shape (n, coordinates).
        posterior: The process of the logarithm above the median, in deviations; None where only the median is known.
    """

    median: float
    deviation: float
    features: Features
    points: Array
    posterior: Posterior | None = None

    def __call__(self, points: Array) -> Array:
        """Returns the expected logarithm at points (m, coordinates): shape (m,)."""
        return self.predict(points)[0]

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Returns the expected logarithm and its deviation at points (m, coordinates): shapes (m,) and (m,)."""
        if self.posterior is None:
            return np.full(len(points), self.median), np.full(len(points), self.deviation)
        means, deviations = self.posterior.predict(points)
        noisy = np.sqrt(deviations**2 + self.posterior.hyper.noise)
        return self.median + self.deviation * means[:, 0], self.deviation * noisy

    def points_of(self, units: Array) -> Array:
        """Returns the points of encoded configurations: shape (n, columns) to (n, coordinates)."""
        return self.features.points(units)

    def with_gradients(self, points: Array) -> tuple[Array, Array]:
        """Returns the expected logarithm at points (m, coordinates), shape (m,), and its gradients there."""
        if self.posterior is None:
            return np.full(len(points), self.median), np.zeros_like(points)
        means, _, slopes, _ = self.posterior.predict_with_gradients(points)
        return self.median + self.deviation * means[:, 0], self.deviation * slopes[:, 0]

    def effects(self, column: int, units: Array) -> Array:
        """Returns what a parameter adds to the logarithm on average over trials: its main effect.

        Args:
            column: The parameter's.
            units: Encoded configurations that have no other value, shape (m, columns): NaN where it is inactive.

        Returns:
            Shape (m,); 0 on average over the trials.
        """
        of = self.features.of(column)
        if self.posterior is None or of.start == of.stop:
            return np.zeros(len(units))
        places = units[:, column]
        if len(places) > PLACES and self.features.is_number(column):
            active = ~np.isnan(places)
            known = np.linspace(0.0, 1.0, PLACES)
            effects = np.empty(len(places))
            effects[active] = np.interp(places[active], known, self._effects(of, known[:, None]))
            if not active.all():
                effects[~active] = self._effects(of, np.full((1, 1), 0.5))
            return effects
        return self._effects(of, self.features.points(units)[:, of])

    def _effects(self, of: slice, values: Array) -> Array:
        """Returns the mean over the references of what values (m, coordinates of the parameter) change: shape (m,)."""
        rows = np.linspace(0, len(self.points) - 1, min(REFERENCES, len(self.points))).astype(int)
        references = self.points[rows]
        changed = np.repeat(references[None], len(values), axis=0)
        changed[:, :, of] = values[:, None]
        predicted = self(changed.reshape(-1, references.shape[1])).reshape(len(values), -1)
        return np.asarray(predicted.mean(axis=1) - self(references).mean())


class Effects:
    """A cost as the sum of the effects of single parameters: what an exact search of a lattice can take.

    Args:
        cost: The cost.
        cube: The space's.
        held: The places of continuous columns, shape (columns,), or None where there are none.
    """

    def __init__(self, cost: Cost, cube: Cube, held: Array | None = None) -> None:
        self._cost = cost
        self._tables = Tables(cube, lambda column, units: cost.effects(column, units)[:, None])
        self._inactive = np.full(len(cube.counts), np.nan)
        self._held = self._inactive if held is None else held
        self._known: dict[tuple[int, bool], float] = {}

    def of_axes(self, branch: Branch) -> list[Array]:
        """Returns the effects of the values of each of a branch's axes: shape (values,) each."""
        return [table[np.arange(len(table))][:, 0] for table in self._tables.of(branch)]

    def of_rest(self, branch: Branch) -> float:
        """Returns the effect of the columns that do not vary in a branch."""
        inactive = sum(self._effect(column, False) for column in branch.inactive)
        return inactive + sum(self._effect(column, True) for column in branch.continuous)

    def _effect(self, column: int, active: bool) -> float:
        if (column, active) not in self._known:
            units = self._inactive[None].copy()
            units[0, column] = self._held[column] if active else np.nan
            self._known[column, active] = float(self._cost.effects(column, units)[0])
        return self._known[column, active]


class CostModel:
    """Learns how long the trials of a space run: a Gaussian process of the logarithm of their seconds.

    Failed trials do not count, which may have been cut short. A trial with a share of the full budget counts as if it
    had taken that share of the seconds. What is learned depends on the history alone.

    Args:
        space: What may vary.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self.features = Features(Cube(space))
        self._fitted: tuple[Array, Array, Cost] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # What is remembered only saves time, and a task is sent with its sampler.
        return {**self.__dict__, "_fitted": None}

    def after(self, history: History) -> Cost | None:
        """Returns what the history tells, or None while no seconds are known."""
        known = np.flatnonzero(~history.failed & (history.seconds > 0))
        if not len(known):
            return None
        step = max(1, 2 ** int(math.log2(max(1, len(known) / REFITS))))
        known = known[: len(known) - len(known) % step]
        units, logarithms = history.units[known], np.log(history.seconds[known] / history.fidelities[known])
        if self._fitted is not None:
            before, learned, cost = self._fitted
            if np.array_equal(learned, logarithms) and np.array_equal(before, units, equal_nan=True):
                return cost
        cost = self._fit(units, logarithms)
        self._fitted = units, logarithms, cost
        return cost

    def _fit(self, units: Array, logarithms: Array) -> Cost:
        rows = np.linspace(0, len(units) - 1, min(len(units), KEPT)).astype(int)
        points, logarithms = self.features.points(units[rows]), logarithms[rows]
        median, deviation = float(np.median(logarithms)), float(logarithms.std())
        cost = Cost(median, deviation, self.features, points)
        if len(rows) < FEWEST or deviation < ALIKE or not len(self.features):
            return cost
        with one_thread():
            values = (logarithms - median) / deviation
            hyper = fit(points, values, self.features.groups, prior=PRIOR, iterations=ITERATIONS)
            posterior = Posterior(points, self.features.groups, hyper).given(values)
        return Cost(median, deviation, self.features, points, posterior)
