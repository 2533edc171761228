"""The maximum of an acquisition over a space of any kind: many candidates, then local search from the best of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from scipy.stats import qmc

from hpcompss.samplers.numerics.features import Features
from hpcompss.space.cube import Cube

__all__ = ["Acquisition", "LocalSearch", "maximize"]

Array = NDArray[np.float64]

CANDIDATES = 512
"""How many candidates are spread over the space, and how many more around the best trials."""

STARTS = 8
"""From how many candidates local search begins: the best ones, and others drawn by their acquisition."""

RELAXED = 20
"""Numbers of more values than this follow the gradient and are then rounded; of fewer, every value is compared."""

ROUNDS = 4
"""How often gradient and comparison take turns at most."""

COMPARED = 50
"""Of a category about so many values are compared at most, evenly chosen: to the model all untried ones are alike."""

ITERATIONS = 40
"""How many steps along the gradients a turn makes at most."""

STEPS = 10
"""How many parameters are changed by comparison in a turn at most."""

ENOUGH = 1e-4
"""A gain of the acquisition's logarithm below which a search has arrived."""

WIDTHS = (0.003, 0.3)
"""How far from the best trials candidates are drawn: the least and the greatest deviation, as shares of a range."""


class Acquisition(Protocol):
    """What is maximised: a function of points (see `Features`)."""

    def __call__(self, points: Array) -> Array:
        """Returns the acquisition at points (m, coordinates): shape (m,)."""

    def with_gradients(self, points: Array) -> tuple[Array, Array]:
        """Returns the acquisition at points (m, coordinates), shape (m,), and its gradients there."""


def maximize(
    search: LocalSearch,
    best: Array,
    generator: np.random.Generator,
    wanted: Callable[[Array], NDArray[np.bool_]] | None = None,
) -> tuple[Array, Array]:
    """Returns encoded configurations and their acquisitions, the greatest first: shapes (n, columns) and (n,).

    Args:
        search: In the space, of the acquisition.
        best: The best trials, encoded: shape (b, columns).
        generator: Chooses candidates.
        wanted: Which encoded configurations are, (n, columns) to (n,); None for all.
    """
    cube, features = search.cube, search.features
    units = np.vstack([_spread(cube, features, generator), _around(cube, features, best, generator), best])
    if wanted is not None:
        units = units[wanted(units)]
    scores = search.score(units)
    starts = _starts(scores, generator)
    found, gained = search.climb(units[starts], scores[starts])
    if wanted is not None:
        kept = wanted(found)
        found, gained = found[kept], gained[kept]
    units, scores = np.vstack([found, units]), np.concatenate([gained, scores])
    order = np.argsort(-scores, kind="stable")
    return units[order], scores[order]


def _spread(cube: Cube, features: Features, generator: np.random.Generator) -> Array:
    """Returns candidates spread evenly over the space."""
    places = np.full((CANDIDATES, len(cube.counts)), 0.5)
    places[:, features.columns] = qmc.Sobol(len(features.columns), seed=generator).random(CANDIDATES)
    return cube.snap(places)


def _around(cube: Cube, features: Features, best: Array, generator: np.random.Generator) -> Array:
    """Returns candidates that differ from one of the best trials in some parameters, by little or more.

    Few parameters at a time: in many dimensions a step in all of them leads nowhere (Regis and Shoemaker, 2013,
    "Combining radial basis function surrogates and dynamic coordinate search").
    """
    columns = features.columns
    shape = (CANDIDATES, len(columns))
    places = np.nan_to_num(best[generator.integers(len(best), size=CANDIDATES)], nan=0.5)
    widths = np.exp(generator.uniform(math.log(WIDTHS[0]), math.log(WIDTHS[1]), size=(CANDIDATES, 1)))
    moved = places[:, columns] + widths * generator.standard_normal(shape)
    # Reflected at the sides, so that none of them gathers candidates.
    moved = 1 - np.abs(1 - np.abs(moved) % 2)
    moved = np.where(cube.is_category[columns], generator.random(shape), moved)
    several = 2.0 ** generator.integers(0, 1 + math.ceil(math.log2(len(columns) + 1)), size=(CANDIDATES, 1))
    changes = generator.random(shape) * len(columns) < several
    changes[np.arange(CANDIDATES), generator.integers(len(columns), size=CANDIDATES)] = True
    places[:, columns] = np.where(changes, moved, places[:, columns])
    return cube.snap(places)


def _starts(scores: Array, generator: np.random.Generator) -> NDArray[np.intp]:
    """Returns where local search begins: half at the best candidates, half drawn in proportion to the acquisition."""
    best = np.argsort(-scores, kind="stable")[: STARTS // 2]
    drawn = scores + generator.gumbel(size=len(scores))
    drawn[best] = -np.inf
    return np.concatenate([best, np.argsort(-drawn, kind="stable")[: STARTS - len(best)]])


class LocalSearch:
    """Local search: the gradient in continuous parameters, comparison of neighbours in the others.

    Args:
        acquisition: What is maximised.
        cube: The space's.
        features: Of the same space.
    """

    def __init__(self, acquisition: Acquisition, cube: Cube, features: Features) -> None:
        self._acquisition = acquisition
        self.cube = cube
        self.features = features
        ordered = features.columns[~cube.is_category[features.columns]]
        self._relaxed = ordered[cube.counts[ordered] > RELAXED]
        self._coordinates = np.array([features.coordinate(int(column)) for column in self._relaxed], dtype=int)
        self._discrete = features.columns[~cube.is_continuous[features.columns]]

    def score(self, units: Array) -> Array:
        """Returns the acquisition at encoded configurations: shape (n, columns) to (n,)."""
        return self._acquisition(self.features.points(units))

    def climb(self, units: Array, scores: Array) -> tuple[Array, Array]:
        """Returns what local search from encoded configurations leads to, and the acquisitions there."""
        units, scores = units.copy(), scores.copy()
        going = np.arange(len(units))
        for _ in range(ROUNDS):
            before = scores[going].copy()
            if len(self._relaxed):
                self._follow_gradients(units, scores, going)
            if len(self._discrete):
                self._compare_neighbours(units, scores, going)
            # Without both kinds of parameter there is nothing to take turns.
            if not (len(self._relaxed) and len(self._discrete)):
                break
            going = going[scores[going] - before > ENOUGH]
            if not len(going):
                break
        return units, scores

    def _follow_gradients(self, units: Array, scores: Array, places: NDArray[np.intp]) -> None:
        """Moves configurations, in place, along their active relaxed parameters, all at the same time.

        Their sum is maximised: one search over many variables costs less than many searches.
        """
        rows, which = np.nonzero(~np.isnan(units[places][:, self._relaxed]))
        if not len(rows):
            return
        columns, coordinates = self._relaxed[which], self._coordinates[which]
        points, moved = self.features.points(units[places]), np.nan_to_num(units[places], nan=0.5)

        def objective(values: Array) -> tuple[float, Array]:
            points[rows, coordinates] = values
            found, gradients = self._acquisition.with_gradients(points)
            return -float(found.sum()), -gradients[rows, coordinates]

        found = optimize.minimize(
            objective,
            moved[rows, columns],
            jac=True,
            method="L-BFGS-B",
            bounds=[(0.0, 1.0)] * len(rows),
            options={"maxiter": ITERATIONS, "ftol": 1e-6, "gtol": 1e-4},
        )
        moved[rows, columns] = found.x
        self._accept(units, scores, places, self.cube.snap(moved))

    def _compare_neighbours(self, units: Array, scores: Array, places: NDArray[np.intp]) -> None:
        """Moves configurations, in place, each to the best of those that differ in one discrete parameter, again and
        again until none is better."""
        for _ in range(STEPS):
            neighbours, owners = self._neighbours(units, places)
            if not len(owners):
                return
            tried = self.score(neighbours)
            # The best of each owner comes last, and so is what an assignment by owner keeps.
            order = np.argsort(tried, kind="stable")
            best = np.full(len(units), -1)
            best[owners[order]] = order
            chosen = best[places]
            better = (chosen >= 0) & (tried[chosen] > scores[places] + ENOUGH)
            places, chosen = places[better], chosen[better]
            if not len(places):
                return
            units[places], scores[places] = neighbours[chosen], tried[chosen]

    def _neighbours(self, units: Array, places: NDArray[np.intp]) -> tuple[Array, NDArray[np.intp]]:
        """Returns the configurations that differ in one discrete parameter, and whose neighbours they are."""
        cube = self.cube
        made, owners = [], []
        for column in self._discrete.tolist():
            active = places[~np.isnan(units[places, column])]
            if not len(active):
                continue
            own = units[active, column]
            if cube.is_category[column] or cube.counts[column] <= RELAXED:
                some = cube.values(column)[:: math.ceil(cube.counts[column] / COMPARED)]
                values = np.broadcast_to(some, (len(active), len(some)))
            else:
                values = np.stack([cube.beside(column, own, steps) for steps in (-2, -1, 1, 2)], axis=1)
            rows, which = np.nonzero(np.abs(values - own[:, None]) > 1e-12)
            changed = np.nan_to_num(units[active[rows]], nan=0.5)
            changed[:, column] = values[rows, which]
            made.append(changed)
            owners.append(active[rows])
        if not made:
            return np.empty((0, units.shape[1])), np.empty(0, dtype=np.intp)
        return cube.snap(np.vstack(made)), np.concatenate(owners)

    def _accept(self, units: Array, scores: Array, places: NDArray[np.intp], moved: Array) -> None:
        tried = self.score(moved)
        better = tried > scores[places]
        units[places[better]], scores[places[better]] = moved[better], tried[better]
