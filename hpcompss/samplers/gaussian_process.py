"""Bayesian optimisation: a Gaussian process of the objective, and where it expects the greatest improvement."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from hpcompss.samplers.base import Sampler, check_count, is_begun
from hpcompss.samplers.contenders import contender, within
from hpcompss.samplers.cost import RANKED, Cost, CostModel, Effects
from hpcompss.samplers.history import History
from hpcompss.samplers.numerics.acquisition import log_h
from hpcompss.samplers.numerics.features import Features
from hpcompss.samplers.numerics.lattice import Process, Tables, best_expected_improvement, lattice_of
from hpcompss.samplers.numerics.maximize import LocalSearch, maximize
from hpcompss.samplers.numerics.regression import Posterior, fit, squared_distances
from hpcompss.samplers.numerics.threads import one_thread
from hpcompss.samplers.startup import Startup
from hpcompss.space.branches import CONTINUOUS, Branch, branches
from hpcompss.space.cube import Cube
from hpcompss.space.space import Space
from hpcompss.trial import Configuration

__all__ = ["GaussianProcess", "LogExpectedImprovement"]

Array = NDArray[np.float64]

STARTUP = (5, 12)
"""Before the model come as many trials as there are parameters and one more, but at least and at most so many."""

FITTED = 128
"""To so many trials the hyper-parameters are fitted at most: the best half, and others spread over the rest."""

KEPT = 320
"""So many trials the model holds at most, chosen likewise: beyond them a suggestion would cost ever more."""

REFITS = 20
"""The hyper-parameters are fitted anew after each 1 / REFITS more trials; between, the factor is extended."""

PENALTY = 1.0
"""How much worse than the worst feasible trial an infeasible or failed one counts at most: by as much as the median is
worse than the best. With 0.3 and 3 the regret was larger on three of four constrained tasks."""

FANTASIES = 16
"""How many joint outcomes of the pending trials are imagined."""

SPREAD = 0.5
"""How far they spread about the expected one, as a share of what the process says. With 1 the regret after 100 trials
was 1.10 and 1.03 times as large with 32 in flight, on 14 tasks each, and 1.04 times with 8 (4 seeds)."""

MIXED = 10**6
"""The most combinations of a mixed space's discrete part that are compared, for given continuous values."""

MIXED_BRANCHES = 50
"""And the most branches."""

ALIKE = 0.05
"""Configurations of an infinite space are one promising place if no number differs by more than this of its range."""

FEW = 64
"""In a mixed space numbers of more values than this are left to gradients and the comparison of neighbours."""


class GaussianProcess(Sampler):
    """Suggests where the expected improvement under a Gaussian process is greatest.

    The process has a Matern 5/2 kernel with a length scale for each parameter (`numerics.regression`). Losses above the
    median are replaced by what a normal distribution would have at their ranks, and failed and infeasible trials count
    as worse than all others: so what is good shapes the model (the half-rank warping of Song et al., 2024, "The Vizier
    Gaussian process bandit algorithm", section 4.1). Where trials were given a part of the full budget, the value that
    they are expected to reach is doubted, the more the smaller the part: how much is fitted. Pending trials take part
    with fantasies of their values (Snoek et al., 2012), drawn at half their deviation. The acquisition is the logarithm
    of the expected improvement (Ament et al., 2023); per second that of the expected improvement over the seconds that
    the trial is expected to run (Snoek et al., 2012, "Practical Bayesian optimization of machine learning algorithms",
    section 3.2).

    A finite space is searched exhaustively: of all its untried combinations the one with the greatest acquisition is
    taken. In other spaces gradients and comparisons take turns, and all combinations of the discrete part are compared
    at the best place found (`numerics.maximize`, `numerics.lattice`). Where a space has branches, every third
    suggestion is the best one in a branch that competes (`contenders`).

    Args:
        space: What may vary.
        seed: Makes its choices repeatable.
        startup_trials: How many trials must have completed before the model is asked; until then a quasi-random
            sequence is tried. None takes one more than there are parameters, between 5 and 12.
        exhaustive: The most combinations of a finite space that are all compared.
        per_second: Whether the improvement per second counts, and not that per trial.
        allow_duplicates: Whether a configuration may be suggested again.

    Raises:
        InputError: An option is not a whole number above 0.
    """

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        startup_trials: int | None = None,
        exhaustive: int = 10**8,
        per_second: bool = False,
        allow_duplicates: bool = False,
    ) -> None:
        super().__init__(space, seed=seed, allow_duplicates=allow_duplicates)
        self._cube = Cube(space)
        self._features = Features(self._cube)
        self._startup = Startup(space, seed=seed)
        if startup_trials is None:
            startup_trials = min(max(self._startup.dimensions + 1, STARTUP[0]), STARTUP[1])
        check_count("startup_trials", startup_trials)
        check_count("exhaustive", exhaustive)
        self.startup_trials = startup_trials
        self.exhaustive = exhaustive
        self._lattice = lattice_of(space, exhaustive)
        self._discrete = _discrete_part(space, self._cube, exhaustive) if self._lattice is None else None
        self._cost = CostModel(space) if per_second else None
        self._fitted: _Fitted | None = None

    def __getstate__(self) -> dict[str, Any]:
        # What is remembered only saves time, and a task is sent with its sampler.
        return {**self.__dict__, "_fitted": None}

    def propose(
        self, history: History, pending: Sequence[Configuration], number: int, generator: np.random.Generator
    ) -> Iterator[Configuration]:
        """Yields quasi-random configurations at first, then the model's, the greatest acquisition first."""
        if not is_begun(history, pending, self.startup_trials) or not len(self._features.columns):
            yield from self._startup.propose(number)
            return
        running = self.encoded(pending)
        with one_thread():
            values = warped(history)
            posterior = self.posterior(history, values, lambda first: warped(history, first))
            cost = None if self._cost is None else self._cost.after(history)
            acquisition = self._acquisition(posterior, float(values.min()), running, generator, cost)
        branch = contender(history, running, number)
        for where in (None,) if branch is None else (branch, None):
            with one_thread():
                units = self._best(acquisition, history, values, running, self.PROPOSALS, generator, where)
            for unit in units:
                yield self._cube.decode(unit)

    def expect(
        self, history: History, values: Array, incumbent: float, pending: Sequence[Configuration], count: int
    ) -> list[tuple[Configuration, float, float, float]]:
        """Returns the untried configurations of greatest expected improvement, with what the process expects of them.

        Args:
            history: The finished trials.
            values: Their standardised values: shape (trials,).
            incumbent: The value to improve on.
            pending: The configurations that are being tried.
            count: How many are wanted.

        Returns:
            The configurations, each with its mean, deviation and expected improvement, the greatest improvement first.
        """
        if not len(self._features.columns):
            return []
        generator = np.random.default_rng(self.seed)
        posterior = self.posterior(history, values, lambda first: standardised(values[:first]))
        running = self.encoded(pending)
        acquisition = self._acquisition(posterior, incumbent, running, generator)
        taken = history.keys | {self.space.key(each) for each in pending}
        units: list[Array] = []
        seen = set(taken)
        for unit in self._best(acquisition, history, values, running, count, generator):
            if len(units) == count:
                break
            key = self.space.key(self._cube.decode(unit))
            if key not in seen and (self._lattice is not None or not self._is_near(unit, units)):
                seen.add(key)
                units.append(unit)
        if not units:
            return []
        points = self._features.points(np.array(units))
        means, deviations = acquisition.posterior.predict(points)
        improvements = np.exp(acquisition(points))
        return [
            (self._cube.decode(unit), float(mean), float(deviation), float(improvement))
            for unit, mean, deviation, improvement in zip(
                units, means.mean(axis=1), deviations, improvements, strict=True
            )
        ]

    def _is_near(self, unit: Array, others: Sequence[Array]) -> bool:
        """Returns whether a configuration differs but little from one of others: its neighbours tell nothing more."""
        limits = np.where(self._cube.is_category, 0.0, ALIKE)
        rows = np.reshape(others, (-1, len(unit)))
        near = (np.nan_to_num(np.abs(rows - unit)) <= limits).all(axis=1)
        return bool((near & within(rows, ~np.isnan(unit))).any())

    # The model

    def _acquisition(
        self,
        posterior: Posterior,
        incumbent: float,
        running: Array,
        generator: np.random.Generator,
        cost: Cost | None = None,
    ) -> LogExpectedImprovement:
        if not len(running):
            return LogExpectedImprovement(posterior, np.array([incumbent]), cost)
        points = self._features.points(running)
        normals = special.ndtri(stats.qmc.Sobol(len(points), seed=generator).random(FANTASIES) * (1 - 1e-9) + 0.5e-9)
        posterior, fantasies = posterior.with_fantasies(points, SPREAD * normals)
        return LogExpectedImprovement(posterior, np.minimum(incumbent, fantasies.min(axis=0)), cost)

    def posterior(self, history: History, values: Array, early: Callable[[int], Array]) -> Posterior:
        """Returns the process after the history.

        It depends on nothing else; but what was fitted to the same first trials before is used again.

        Args:
            history: The finished trials.
            values: What the process is of, standardised: shape (trials,).
            early: Returns what that was for so many first trials, when nothing else was known: shape (first,).
        """
        count = len(history)
        step = max(1, 2 ** int(math.log2(max(1, count / REFITS))))
        first = count - count % step
        units, learned = history.units[:first], early(first)
        doubts = -np.log(history.fidelities)
        known = self._fitted
        if known is None or not known.is_of(units, learned, doubts[:first]):
            rows, groups = chosen(learned, FITTED), self._features.groups
            hyper = fit(self._features.points(units[rows]), standardised(learned[rows]), groups, doubts=doubts[rows])
            kept = chosen(learned, KEPT)
            posterior = Posterior(self._features.points(units[kept]), groups, hyper, doubts[kept])
            known = self._fitted = _Fitted(units.copy(), learned, doubts[:first], kept, posterior)
        later = np.arange(first, count)
        posterior = known.posterior
        if len(later):
            posterior = posterior.extended(self._features.points(history.units[later]), doubts[later])
        return posterior.given(values[np.concatenate([known.kept, later])])

    # The maximum

    def _best(
        self,
        acquisition: LogExpectedImprovement,
        history: History,
        values: Array,
        running: Array,
        count: int,
        generator: np.random.Generator,
        branch: NDArray[np.bool_] | None = None,
    ) -> Array:
        """Returns the encoded configurations of greatest acquisition, the greatest first: shape (n, columns)."""

        def boxes(of: Sequence[Branch]) -> list[Branch]:
            return [each for each in of if branch is None or each.is_of(branch)]

        if self._lattice is not None:
            middle = np.full(len(self.space), 0.5)
            tried = np.vstack([history.units[history.transferred :], running])
            tried = tried[: 0 if self.allow_duplicates else None]
            if acquisition.cost is None:
                return self._best_of_all(acquisition, boxes(self._lattice), middle, tried, count)
            # The search takes the parameters' own effects on the cost; of what it finds the whole cost decides.
            units = self._best_of_all(acquisition, boxes(self._lattice), middle, tried, max(count, RANKED))
            return units[np.argsort(-acquisition(self._features.points(units)), kind="stable")]
        order = np.argsort(values, kind="stable")
        if branch is not None:
            order = order[within(history.units[order], branch)]
        search = LocalSearch(acquisition, self._cube, self._features)
        wanted = None if branch is None else functools.partial(within, branch=branch)
        units, scores = maximize(search, history.units[order[:5]], generator, wanted)
        if self._discrete and (discrete := boxes(self._discrete)):
            # All values of the discrete part, with the others as they are at the best place found.
            better = self._best_of_all(acquisition, discrete, units[0], np.empty((0, len(self.space))), 1)
            if acquisition(self._features.points(better))[0] > scores[0]:
                units = np.vstack([search.climb(better, search.score(better))[0], better, units])
        return units if wanted is None else units[wanted(units)]

    def _best_of_all(
        self,
        acquisition: LogExpectedImprovement,
        boxes: Sequence[Branch],
        held: Array,
        tried: Array,
        count: int,
    ) -> Array:
        """Returns the best untried combinations of the branches, the best first.

        Args:
            acquisition: What is maximised.
            boxes: The branches.
            held: The places of the continuous columns: shape (columns,), NaN for the middle.
            tried: The configurations that are not wanted: shape (t, columns).
            count: How many are.

        Returns:
            Encoded configurations: shape (n, columns).
        """
        units, scores = np.empty((0, len(self.space))), np.empty(0)
        middle = self._cube.snap_columns(np.full((1, len(self.space)), 0.5))[0]
        held = np.where(np.isnan(held), middle, held)
        process, posterior = acquisition.process, acquisition.posterior

        def distances(column: int, units: Array) -> Array:
            of = self._features.of(column)
            return squared_distances(posterior.scaled(self._features.points(units))[:, of], posterior.points[:, of])

        tables = Tables(self._cube, distances)
        effects = None if acquisition.cost is None else Effects(acquisition.cost, self._cube, held)
        for branch in boxes:
            rest = np.full(len(self.space), np.nan)
            rest[branch.continuous] = held[branch.continuous]
            rest_cost = 0.0 if effects is None else effects.of_rest(branch)
            best = best_expected_improvement(
                tables.of(branch),
                process,
                base=self._base(posterior, rest, branch),
                costs=None if effects is None else effects.of_axes(branch),
                count=count,
                excluded=branch.locate(self._cube, tried)[1],
                above=np.sort(scores)[-count] + rest_cost if len(scores) >= count else -math.inf,
            )
            found = branch.units(self._cube, best.indexes)
            found[:, branch.continuous] = rest[branch.continuous]
            units, scores = np.vstack([units, found]), np.concatenate([scores, best.scores - rest_cost])
        return units[np.argsort(-scores, kind="stable")[:count]]

    def _base(self, posterior: Posterior, unit: Array, branch: Branch) -> Array:
        """Returns the squared distances in the columns that do not vary in a branch: shape (n,)."""
        rest = np.ones(len(self._features), dtype=bool)
        for axis in branch.axes:
            if axis in self._features.columns:
                rest[self._features.of(axis)] = False
        points = posterior.scaled(self._features.points(unit[None]))
        squares: Array = squared_distances(points[:, rest], posterior.points[:, rest])[0]
        return squares


@dataclass(frozen=True)
class _Fitted:
    """A process fitted to the first trials of a history.

    Attributes:
        units: Their configurations.
        values: What the process was of.
        doubts: How much each of those was doubted.
        kept: Which of them the process holds.
        posterior: The process, without values.
    """

    units: Array
    values: Array
    doubts: Array
    kept: NDArray[np.intp]
    posterior: Posterior

    def is_of(self, units: Array, values: Array, doubts: Array) -> bool:
        """Returns whether it was fitted to these trials."""
        same = np.array_equal(self.values, values) and np.array_equal(self.doubts, doubts)
        return same and np.array_equal(self.units, units, equal_nan=True)


def _discrete_part(space: Space, cube: Cube, exhaustive: int) -> list[Branch] | None:
    """Returns the branches of a space with its numbers of many values held, or None where there are too many."""
    found = branches(space, MIXED_BRANCHES)
    if found is None:
        return None
    many = ~cube.is_category & (cube.counts > FEW)
    held = []
    for branch in found:
        runs = list(branch.runs)
        for axis, count in zip(branch.axes, branch.shape, strict=True):
            # A parent that the branch restricts is not free to be held.
            if many[axis] and count == cube.counts[axis]:
                runs[axis] = CONTINUOUS
        held.append(Branch(tuple(runs)))
    combinations = sum(math.prod(branch.shape) for branch in held)
    return held if 1 < combinations <= min(MIXED, exhaustive) else None


class LogExpectedImprovement:
    """The logarithm of the expected improvement (per second), averaged over fantasies, as a function of points.

    Args:
        posterior: The process; with several columns of duals where there are fantasies.
        incumbents: The value to improve on in each fantasy: shape (fantasies,).
        cost: What to take off it, or None.
    """

    def __init__(self, posterior: Posterior, incumbents: Array, cost: Cost | None = None) -> None:
        self.posterior = posterior
        self._incumbents = incumbents
        self.cost = cost

    @property
    def process(self) -> Process:
        """The same, without the cost, for `numerics.lattice`."""
        posterior = self.posterior
        return Process(
            posterior.duals, posterior.factor_inverse, posterior.hyper.amplitude, self._incumbents - posterior.mean
        )

    def __call__(self, points: Array) -> Array:
        """Returns it at points (m, coordinates): shape (m,)."""
        means, deviations = self.posterior.predict(points)
        logarithms = log_h((self._incumbents - means) / deviations[:, None])
        highest = logarithms.max(axis=1)
        scores = np.log(deviations) + highest + np.log(np.exp(logarithms - highest[:, None]).mean(axis=1))
        return np.asarray(scores if self.cost is None else scores - self.cost(points))

    def with_gradients(self, points: Array) -> tuple[Array, Array]:
        """Returns it at points (m, coordinates), shape (m,), and its gradients there, shape (m, coordinates)."""
        means, deviations, mean_slopes, slopes = self.posterior.predict_with_gradients(points)
        z = (self._incumbents - means) / deviations[:, None]
        logarithms = log_h(z)
        highest = logarithms.max(axis=1)
        shares = np.exp(logarithms - highest[:, None])
        totals = shares.sum(axis=1)
        values = np.log(deviations) + highest + np.log(totals / z.shape[1])
        # The slope of log h is the normal distribution's cdf over h.
        pulls = shares / totals[:, None] * np.exp(special.log_ndtr(z) - logarithms)
        gradients = (1 - np.einsum("ij,ij->i", pulls, z))[:, None] * slopes
        gradients = (gradients - (pulls[:, None, :] @ mean_slopes)[:, 0]) / deviations[:, None]
        if self.cost is None:
            return values, gradients
        costs, rises = self.cost.with_gradients(points)
        return values - costs, gradients - rises


def warped(history: History, first: int | None = None) -> Array:
    """Returns what the process is of: standardised losses, the bad half by rank.

    Infeasible trials are worse than all feasible ones, the more the farther they are from being feasible, and failed
    ones are the worst.

    Args:
        history: The finished trials.
        first: Of so many first ones, as if there were no others; None takes all.
    """
    losses, violations = history.losses[:first], history.violations[:first]
    feasible = violations == 0
    if not feasible.any():
        # Nothing is known to be feasible: come nearer to it first.
        losses, feasible = violations, np.isfinite(violations)
    if not feasible.any():
        return np.zeros(len(losses))
    values = np.empty(len(losses))
    values[feasible] = half_ranked(losses[feasible])
    if not feasible.all():
        away = np.nan_to_num(violations[~feasible], nan=np.inf, posinf=np.inf)
        values[~feasible] = values[feasible].max() + PENALTY * stats.rankdata(away) / len(away)
    return standardised(values)


def half_ranked(losses: Array) -> Array:
    """Returns losses with those above the median replaced by a normal distribution's quantiles at their ranks."""
    halves = losses / 2  # whose differences are finite, however large the losses are
    away = halves - np.median(halves)
    good = away < 0
    away[good] /= max(-away.min(), 1e-300)
    scale = math.sqrt(float(np.mean(away[good] ** 2))) if good.any() else 1.0
    ranks = (stats.rankdata(losses) - 0.5) / len(losses)
    return np.asarray(np.where(good, away, scale * special.ndtri(np.maximum(ranks, 0.5))))


def standardised(values: Array) -> Array:
    """Returns values with mean 0 and deviation 1, or all 0 where they are alike."""
    deviation = values.std()
    return (values - values.mean()) / deviation if deviation > 0 else np.zeros(len(values))


def chosen(values: Array, count: int) -> NDArray[np.intp]:
    """Returns which trials a bounded model learns from: the best half, and others spread evenly over the rest."""
    if len(values) <= count:
        return np.arange(len(values))
    order = np.argsort(values, kind="stable")
    half = count // 2
    rest = order[half:]
    spread = rest[np.linspace(0, len(rest) - 1, count - half).astype(int)]
    return np.sort(np.concatenate([order[:half], spread]))
