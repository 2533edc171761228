"""The tree-structured Parzen estimator: where good configurations are dense and bad ones are not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hpcompss.errors import InputError, shown
from hpcompss.samplers.base import Sampler, check_count, is_begun
from hpcompss.samplers.contenders import contender, within
from hpcompss.samplers.cost import RANKED, Cost, CostModel, Effects
from hpcompss.samplers.history import History
from hpcompss.samplers.numerics.lattice import Mixture, Tables, best_density_ratio, lattice_of
from hpcompss.samplers.numerics.parzen import Layout, Marginals, Parzen
from hpcompss.samplers.numerics.threads import one_thread
from hpcompss.samplers.scalarisation import layered
from hpcompss.samplers.startup import Startup
from hpcompss.space.branches import Branch
from hpcompss.space.cube import Cube
from hpcompss.space.space import Space
from hpcompss.trial import Configuration

__all__ = ["TreeParzen"]

Array = NDArray[np.float64]

MOST_GOOD = 25
"""The most trials that count as good, as in Optuna: after some 250 trials the estimator becomes a local one."""

LEAST_WEIGHT = 0.1
"""The weight of the worst of the good trials, as a share of their mean weight."""

PRIOR_WEIGHT = 1.5
"""The weight of the prior among the good trials. With 0.7 a search that began in one branch of a conditional space was
twice as likely to stay in it (the task ``models`` of benchmarks/sampler_tasks.py, 10 seeds)."""

WIDTH, SHRINKING, WIDE_TRIALS = 0.4, 0.8, 10
"""The least bandwidth among good trials: 0.4 of the range after 10 trials, and less as a power of their number. With
0.3 the regret after 100 trials was a third larger on ten data sets of LCBench and a sixteenth smaller on eleven
functions (6 seeds of benchmarks/samplers.py); a fixed bound of 0.05 ended at twice the regret."""

BAD_WIDTH = 0.05
"""The least bandwidth among the others; 0.02 to 0.15 made no difference."""

MARGINAL = 0.5
"""How much the densities of single parameters count beside the joint one; 1 was level with it, 0 a tenth worse."""

PENDING_WEIGHT = 0.3
"""The weight of a pending trial among the bad ones. With 1 the trials of a batch keep farther from what is good: with 8
in flight the regret after 100 trials was 1.04 times as large (8 tasks, 6 seeds)."""

ALTERNATE = 2
"""Every so many suggestions one is made without regard to its seconds, where progress per second is asked for. The
regret at equal seconds on 16 data sets of LCBench (5 seeds) was 0.91 times that without regard to them; with all
suggestions made per second 1.06 times, as they stayed where trials are cheap and not the best."""

CROSSED, AVERAGED = 0.5, 0.45
"""The shares of candidates that take each parameter from another draw, and that lie between two draws. With 0.25 for
the latter the regret after 100 trials was 1.06 times as large on 30 tasks (20 seeds) and 0.98 times on 22 others."""


class TreeParzen(Sampler):
    """Suggests where the density of good trials is largest relative to that of the others.

    Bergstra et al. (2011), "Algorithms for hyper-parameter optimization", with the components that Watanabe (2023),
    "Tree-structured Parzen estimator: understanding its algorithm components and their roles for better empirical
    performance", found to matter: one multivariate kernel for all parameters, good trials weighted by their improvement
    over the worst of them, and bandwidths with a lower bound that shrinks. Beside the joint density counts the product
    of the parameters' own, which needs fewer trials where they act one by one.

    Parameters that are active together are modelled together, whatever the branch (`numerics.parzen`). Pending, failed
    and infeasible trials are among the bad ones (for the pending: the constant liar of Ginsbourger et al., 2010).

    Per second, every second suggestion is the one with the largest ratio of densities over the seconds that its trial
    is expected to run: the ratio grows with the expected improvement (Bergstra et al., 2011, equation 3).

    A finite space is searched exhaustively: of all its untried combinations the best one is taken. Where a space has
    branches, every third suggestion is the best one in a branch that competes (`contenders`).

    Args:
        space: What may vary.
        seed: Makes its choices repeatable.
        startup_trials: How many trials must have completed before the model is asked; until then a quasi-random
            sequence is tried.
        gamma: The share of the completed trials that is good, above 0 and below 1; at most 25 trials are.
        candidates: How many draws from the density of good trials are compared, where the space is not searched
            exhaustively.
        exhaustive: The most combinations of a finite space that are all compared.
        per_second: Whether every second suggestion is chosen for what it promises per second.
        allow_duplicates: Whether a configuration may be suggested again.

    Raises:
        InputError: An option is outside its range.
    """

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        startup_trials: int = 10,
        gamma: float = 0.1,
        candidates: int = 128,
        exhaustive: int = 10**8,
        per_second: bool = False,
        allow_duplicates: bool = False,
    ) -> None:
        super().__init__(space, seed=seed, allow_duplicates=allow_duplicates)
        check_count("startup_trials", startup_trials)
        check_count("candidates", candidates)
        check_count("exhaustive", exhaustive)
        if isinstance(gamma, bool) or not isinstance(gamma, int | float) or not 0 < gamma < 1:
            raise InputError(f"gamma must be a number above 0 and below 1, not {shown(gamma)}")
        self.startup_trials = startup_trials
        self.gamma = gamma
        self.candidates = candidates
        self.exhaustive = exhaustive
        self._startup = Startup(space, seed=seed)
        self._cube = Cube(space)
        self._layout = Layout(self._cube)
        self._branches = lattice_of(space, exhaustive)
        self._cost = CostModel(space) if per_second else None

    def propose(
        self, history: History, pending: Sequence[Configuration], number: int, generator: np.random.Generator
    ) -> Iterator[Configuration]:
        """Yields quasi-random configurations at first, then the model's, the best first."""
        if not is_begun(history, pending, self.startup_trials) or not self._cube.varies.any():
            yield from self._startup.propose(number)
            return
        running = self.encoded(pending)
        if history.also:
            history = layered(history, MOST_GOOD + 1)
        cost = self._cost.after(history) if self._cost is not None and number % ALTERNATE else None
        if (branch := contender(history, running, number)) is not None:
            yield from self._best(history, running, generator, cost, branch)
        yield from self._best(history, running, generator, cost)

    def _best(
        self,
        history: History,
        running: Array,
        generator: np.random.Generator,
        cost: Cost | None,
        branch: NDArray[np.bool_] | None = None,
    ) -> Iterator[Configuration]:
        """Yields the best configurations, or those of a branch by what was tried in it."""
        with one_thread():
            ratio = self._ratio(history, running, cost, branch)
            if self._branches is not None:
                tried = np.vstack([history.units[history.transferred :], running])
                boxes = [each for each in self._branches if branch is None or each.is_of(branch)]
                units = ratio.best_of_all(self._cube, boxes, tried[: 0 if self.allow_duplicates else None])
            else:
                units = self._cube.snap(self._candidates(ratio.good, generator))
                if branch is not None:
                    units = units[within(units, branch)]
                units = units[np.argsort(-ratio(units), kind="stable")]
        for unit in units:
            yield self._cube.decode(unit)

    def _ratio(
        self,
        history: History,
        running: Array,
        cost: Cost | None = None,
        branch: NDArray[np.bool_] | None = None,
    ) -> _Ratio:
        units, losses, violations = history.units, history.losses, history.violations
        if branch is not None:
            rows = within(units, branch)
            units, losses, violations = units[rows], losses[rows], violations[rows]
            running = running[within(running, branch)]
        completed = int((~np.isnan(violations)).sum())
        losses = np.nan_to_num(losses, nan=np.inf)
        order = np.lexsort([losses, np.nan_to_num(violations, nan=np.inf)])
        count = max(2, min(math.ceil(self.gamma * completed), MOST_GOOD))
        good, bad = order[:count], order[count:]
        weights = _weights(losses[good], losses[order[min(count, len(order) - 1)]])
        others = np.vstack([units[bad], running])
        lies = np.concatenate([np.ones(len(bad)), np.full(len(running), PENDING_WEIGHT)])
        least = min(WIDTH * (completed / WIDE_TRIALS) ** -SHRINKING, WIDTH)
        return _Ratio(self._layout, units[good], weights, least, others, lies, cost)

    def _candidates(self, good: Parzen, generator: np.random.Generator) -> Array:
        """Returns draws from the density of good trials, some of them recombined: shape (candidates, columns)."""
        places = good.draw(self.candidates, generator)
        crossed, averaged = int(CROSSED * self.candidates), int(AVERAGED * self.candidates)
        for column in range(places.shape[1]):
            places[:crossed, column] = generator.permutation(places[:, column])[:crossed]
        if averaged:
            ordered = np.flatnonzero(self._cube.varies & ~self._cube.is_category)
            others = places[generator.permutation(self.candidates)[:averaged]][:, ordered]
            share = generator.random((averaged, 1))
            places[-averaged:, ordered] = share * places[-averaged:, ordered] + (1 - share) * others
        return places


class _Ratio:
    """The logarithm of the good trials' density over the others', joint and marginal, less that of the seconds."""

    def __init__(
        self,
        layout: Layout,
        good: Array,
        weights: Array,
        least: float,
        bad: Array,
        ones: Array,
        cost: Cost | None = None,
    ) -> None:
        self._layout = layout
        self._cost = cost
        self.good = Parzen(layout, good, weights, prior_weight=PRIOR_WEIGHT, least=least)
        self._bad = Parzen(layout, bad, ones, prior_weight=1.0, least=BAD_WIDTH)
        self._good_marginals = Marginals(layout, good, weights, prior_weight=PRIOR_WEIGHT, least=least)
        self._bad_marginals = Marginals(layout, bad, ones, prior_weight=1.0, least=BAD_WIDTH)

    def __call__(self, units: Array) -> Array:
        """Returns it at encoded points (m, columns): shape (m,)."""
        ratio = self.good.log_density(units) - self._bad.log_density(units) + self._marginal(units)
        return np.asarray(ratio if self._cost is None else ratio - self._cost(self._cost.points_of(units)))

    def _marginal(self, units: Array) -> Array:
        return MARGINAL * (self._good_marginals.log_density(units) - self._bad_marginals.log_density(units))

    def best_of_all(self, cube: Cube, boxes: Sequence[Branch], tried: Array) -> Array:
        """Returns the untried combinations of a finite space where it is greatest, the greatest first."""
        if self._cost is None:
            return self._best_of_all(cube, boxes, tried, Sampler.PROPOSALS, None)
        # The search takes the parameters' own effects on the cost; of what it finds the whole cost decides.
        units = self._best_of_all(cube, boxes, tried, RANKED, Effects(self._cost, cube))
        return units[np.argsort(-self(units), kind="stable")]

    def _best_of_all(
        self, cube: Cube, boxes: Sequence[Branch], tried: Array, count: int, effects: Effects | None
    ) -> Array:
        def logarithms(axis: int, units: Array) -> Array:
            own = self._marginal(units)
            own = own if self._cost is None else own - self._cost.effects(axis, units)
            return _with_prior(self.good.kernels(units)) + own[:, None]

        units, scores = np.empty((0, len(cube.counts))), np.empty(0)
        good = Tables(cube, logarithms)
        bad = Tables(cube, lambda axis, units: _with_prior(self._bad.kernels(units)))
        for branch in boxes:
            rest = 0.0 if effects is None else effects.of_rest(branch)
            best = best_density_ratio(
                Mixture(good.of(branch), np.log(self.good.weights) - rest),
                Mixture(bad.of(branch), np.log(self._bad.weights)),
                count=count,
                excluded=branch.locate(cube, tried)[1],
                above=np.sort(scores)[-count] if len(scores) >= count else -math.inf,
            )
            units = np.vstack([units, branch.units(cube, best.indexes)])
            scores = np.concatenate([scores, best.scores])
        return units[np.argsort(-scores, kind="stable")[:count]]


def _with_prior(kernels: Array) -> Array:
    """Returns the logarithms of kernels, (m, n), with that of the prior's, to which they are relative: (m, n + 1)."""
    return np.hstack([kernels, np.zeros((len(kernels), 1))])


def _weights(losses: Array, edge: float) -> Array:
    """Returns the weights of the good trials, 1 on average: by how much each is better than the edge."""
    with np.errstate(over="ignore", invalid="ignore"):
        better = np.nan_to_num(np.maximum(edge - losses, 0.0), nan=0.0)
        mean = better.mean()
    if not 0 < mean < math.inf:
        return np.ones(len(losses))
    weights = np.maximum(better / mean, LEAST_WEIGHT)
    return np.asarray(weights / weights.mean())
