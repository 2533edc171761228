"""Parzen estimators over a space: densities of mixtures with a kernel on each observation, and draws from them.

All densities are relative to the prior's, which is uniform in the unit cube.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hpcompss.space.cube import Cube

__all__ = ["Layout", "Marginals", "Parzen"]

Array = NDArray[np.float64]
Whole = NDArray[np.intp]

TABLED = 64
"""Up to so many values of an ordered parameter each have a mass of their own; more are taken for continuous."""

EXPONENT_DIMENSIONS = 3
"""Bandwidths shrink with the number n of observations as n^(-1/(4 + d)), Scott's rule. With d the true number of
dimensions they hardly shrink at all; d = 3 did as well as 2 and better than the true one (12 tasks of
benchmarks/sampler_tasks.py, 6 seeds)."""

KNOTS = 101
"""On so many points of the unit interval a marginal density is computed; it is linear between them."""


class Layout:
    """Which columns of a space have which kind of kernel.

    Args:
        cube: The space's.

    Attributes:
        smooth: The columns with kernels that are densities: shape (s,).
        tabled: Those with kernels that are tables of masses: shape (t,).
        sizes: How many values each of the latter has: shape (t,).
    """

    def __init__(self, cube: Cube) -> None:
        columns = np.flatnonzero(cube.varies)
        tabled = cube.is_category[columns] | (cube.counts[columns] <= TABLED)
        self.columns = len(cube.counts)
        self.smooth: Whole = columns[~tabled]
        self.tabled: Whole = columns[tabled]
        self.sizes: Whole = cube.counts[self.tabled].astype(int)
        self.is_category: list[bool] = cube.is_category[self.tabled].tolist()
        self.middles: list[Array] = [cube.values(int(column)) for column in self.tabled]
        self.masses: list[Array] = [cube.masses(int(column)) for column in self.tabled]
        # The parts of an Int on a log scale are not of one length.
        self._uneven = {at: np.cumsum(each)[:-1] for at, each in enumerate(self.masses) if np.ptp(each) > 1e-9}
        starts = np.concatenate([[0], np.cumsum(self.sizes)]).astype(int)
        self.tables: list[slice] = [slice(*pair) for pair in itertools.pairwise(starts)]
        self.starts: Whole = starts[:-1]
        self.width = int(starts[-1])

    def codes(self, units: Array) -> Whole:
        """Returns the number of each tabled column's value, -1 where inactive: shape (n, t)."""
        places = units[:, self.tabled]
        codes = np.floor(np.nan_to_num(places, nan=-1.0) * self.sizes).astype(int)
        for at, edges in self._uneven.items():
            codes[:, at] = np.searchsorted(edges, places[:, at])
        codes[np.isnan(places)] = -1
        return codes


class Observations:
    """Weighted configurations, looked up by column.

    Args:
        layout: That of the space.
        units: Encoded, NaN where inactive: shape (n, columns).
        weights: Shape (n,).
    """

    def __init__(self, layout: Layout, units: Array, weights: Array) -> None:
        self.layout = layout
        self.units = units
        self.weights = weights
        self.codes = layout.codes(units)

    def spread(self, column: int) -> tuple[float, float]:
        """Returns a column's weighted standard deviation and its effective number of observations (Kish, 1965)."""
        places = self.units[:, column]
        weights = np.where(np.isnan(places), 0.0, self.weights)
        total = float(weights.sum())
        if total <= 0:
            return 0.0, 0.0
        places = np.nan_to_num(places)
        mean = weights @ places / total
        deviation = math.sqrt(max(float(weights @ (places - mean) ** 2) / total, 0.0))
        return deviation, float(total * total / (weights @ weights))

    def bandwidth(self, column: int, least: float, exponent: float) -> float:
        """Returns a column's bandwidth by Scott's rule, between ``least`` and 1."""
        deviation, count = self.spread(column)
        return float(min(max(deviation * max(count, 1.0) ** exponent, least), 1.0))


class Parzen:
    """A mixture of products of kernels, one on each observation, and of the prior: the multivariate estimator.

    A kernel over a number is a normal density, truncated to the unit interval, with one bandwidth for all observations;
    over a number of few values, its mass at each; over a category, Aitchison and Aitken's (1976). Where a column is
    active in a point and not in an observation, the kernel is the prior's; where it is inactive in the point there is
    none. So each branch of a conditional space has its own density, and what branches share is learnt from all.

    The logarithm of a kernel is an inner product: that of (x, -x^2 / 2, 1) with (m, 1, -m^2 / 2 - log z) for a number
    x and an observation m, in units of the bandwidth; that of a table's row with the observation's place for the
    others. So all kernels at all points are one matrix product.

    Args:
        layout: That of the space.
        units: The observations, encoded, NaN where inactive: shape (n, columns).
        weights: Shape (n,).
        prior_weight: The weight of the prior.
        least: The smallest bandwidth, as a share of the range.
    """

    def __init__(self, layout: Layout, units: Array, weights: Array, *, prior_weight: float, least: float) -> None:
        self._layout = layout
        self._observed = Observations(layout, units, weights)
        self.weights: Array = np.append(weights, prior_weight) / (weights.sum() + prior_weight)
        exponent = -1.0 / (4 + EXPONENT_DIMENSIONS)
        self.bandwidths: Array = np.array(
            [self._observed.bandwidth(int(column), least, exponent) for column in layout.smooth]
        )
        count = float(weights.sum() ** 2 / (weights @ weights)) if len(weights) else 0.0
        self.log_tables = [
            _category_kernels(int(size), count)
            if layout.is_category[at]
            else _number_kernels(
                layout.middles[at],
                layout.masses[at],
                self._observed.bandwidth(int(layout.tabled[at]), max(least, 0.25 / size), exponent),
            )
            for at, size in enumerate(layout.sizes)
        ]
        self._smooth_rows = self._rows_of_observations()
        self._table_rows = np.zeros((len(units), layout.width))
        who, which = np.nonzero(self._observed.codes >= 0)
        self._table_rows[who, layout.starts[which] + self._observed.codes[who, which]] = 1.0

    def _rows_of_observations(self) -> Array:
        places = self._observed.units[:, self._layout.smooth]
        active = ~np.isnan(places)
        middles = np.where(active, places, 0.0) / self.bandwidths
        inside = special.ndtr(1.0 / self.bandwidths - middles) - special.ndtr(-middles)
        heights = -0.5 * middles**2 - np.log(inside * self.bandwidths * math.sqrt(2 * math.pi))
        return np.hstack([middles, active, np.where(active, heights, 0.0)])

    def kernels(self, units: Array) -> Array:
        """Returns the logarithm of every observation's kernel at encoded points: shape (m, n)."""
        layout = self._layout
        places = units[:, layout.smooth]
        active = ~np.isnan(places)
        scaled = np.where(active, places, 0.0) / self.bandwidths
        kernels = np.hstack([scaled, -0.5 * scaled**2, active]) @ self._smooth_rows.T
        if layout.width:
            rows = np.zeros((len(units), layout.width))
            codes = layout.codes(units)
            for at, where in enumerate(layout.tables):
                present = codes[:, at] >= 0
                rows[present, where] = self.log_tables[at][codes[present, at]]
            kernels += rows @ self._table_rows.T
        return kernels

    def log_density(self, units: Array) -> Array:
        """Returns the logarithm of the density at encoded points (m, columns): shape (m,)."""
        kernels = self.kernels(units)
        highest = np.maximum(kernels.max(axis=1, initial=0.0), 0.0)
        kernels -= highest[:, None]
        np.exp(kernels, out=kernels)
        density = kernels @ self.weights[:-1] + self.weights[-1] * np.exp(-highest)
        return np.asarray(np.log(density) + highest)

    def draw(self, count: int, generator: np.random.Generator) -> Array:
        """Returns places in the unit cube drawn from the mixture, not yet snapped to values: shape (count, columns)."""
        layout = self._layout
        chosen = generator.choice(len(self.weights), count, p=self.weights)
        places = generator.random((count, layout.columns))
        drawn = np.flatnonzero(chosen < len(self._observed.units))
        kernels = chosen[drawn]
        for column, bandwidth in zip(layout.smooth, self.bandwidths, strict=True):
            middles = self._observed.units[kernels, column]
            active = ~np.isnan(middles)
            rows, middles = drawn[active], middles[active]
            low, high = special.ndtr(-middles / bandwidth), special.ndtr((1 - middles) / bandwidth)
            quantiles = low + places[rows, column] * (high - low)
            places[rows, column] = np.clip(middles + bandwidth * special.ndtri(quantiles), 0.0, 1.0)
        for at, column in enumerate(layout.tabled):
            codes = self._observed.codes[kernels, at]
            active = codes >= 0
            rows, last = drawn[active], layout.sizes[at] - 1
            sums = np.cumsum(np.exp(self.log_tables[at]) * layout.masses[at][:, None], axis=0)
            values = (sums[:, codes[active]] < places[rows, column]).sum(axis=0)
            places[rows, column] = layout.middles[at][np.minimum(values, last)]
        return places


class Marginals:
    """The product of each column's own density: the univariate estimator, which takes the parameters for independent.

    Args:
        layout: That of the space.
        units: The observations, encoded, NaN where inactive: shape (n, columns).
        weights: Shape (n,).
        prior_weight: The weight of the prior.
        least: The smallest bandwidth, as a share of the range.
    """

    def __init__(self, layout: Layout, units: Array, weights: Array, *, prior_weight: float, least: float) -> None:
        self._layout = layout
        observed = Observations(layout, units, weights)
        knots = np.linspace(0.0, 1.0, KNOTS)
        self.smooth: list[Array] = []
        for column in layout.smooth:
            places = units[:, column]
            active = ~np.isnan(places)
            bandwidth = observed.bandwidth(int(column), max(least, 1.0 / KNOTS), -0.2)
            nearest = np.rint(places[active] * (KNOTS - 1)).astype(int)
            shares = np.bincount(nearest, weights[active], KNOTS)
            inside = special.ndtr((1 - knots) / bandwidth) - special.ndtr(-knots / bandwidth)
            away = (knots[:, None] - knots) / bandwidth
            density = np.exp(-0.5 * away**2) @ (shares / inside) / (bandwidth * math.sqrt(2 * math.pi))
            self.smooth.append(np.log((density + prior_weight) / (shares.sum() + prior_weight)))
        self.log_tables: list[Array] = []
        for at, size in enumerate(layout.sizes):
            active = observed.codes[:, at] >= 0
            shares = np.bincount(observed.codes[active, at], weights[active], size)
            if layout.is_category[at]:
                kernels = np.exp(_category_kernels(int(size), observed.spread(int(layout.tabled[at]))[1]))
            else:
                bandwidth = observed.bandwidth(int(layout.tabled[at]), max(least, 0.25 / size), -0.2)
                kernels = np.exp(_number_kernels(layout.middles[at], layout.masses[at], bandwidth))
            self.log_tables.append(np.log((kernels @ shares + prior_weight) / (shares.sum() + prior_weight)))

    def log_density(self, units: Array) -> Array:
        """Returns the logarithm of the density at encoded points (m, columns): shape (m,)."""
        total = np.zeros(len(units))
        for column, logarithms in zip(self._layout.smooth, self.smooth, strict=True):
            place = np.nan_to_num(units[:, column], nan=0.0) * (KNOTS - 1)
            below = np.minimum(place.astype(int), KNOTS - 2)
            share = place - below
            value = logarithms[below] * (1 - share) + logarithms[below + 1] * share
            total += np.where(np.isnan(units[:, column]), 0.0, value)
        codes = self._layout.codes(units)
        for at, logarithms in enumerate(self.log_tables):
            total += np.where(codes[:, at] < 0, 0.0, logarithms[codes[:, at]])
        return total


def _category_kernels(size: int, count: float) -> Array:
    """Returns the logarithms of a category's kernels, relative to the prior: a row a value, a column an observation's.

    The share that is spread over all values is that of one observation of each among ``count``: so a value that was
    never tried is not forgotten while little is known.
    """
    spread = 0.5 * size / (count + 0.5 * size)
    return np.asarray(np.log(size * (1 - spread) * np.eye(size) + spread))


def _number_kernels(middles: Array, masses: Array, bandwidth: float) -> Array:
    """Returns the logarithms of the kernels of a number of few values, relative to the prior: row is the value."""
    edges = np.concatenate([[0.0], np.cumsum(masses)])
    mass = np.diff(special.ndtr((edges[:, None] - middles) / bandwidth), axis=0)
    return np.asarray(np.log(np.maximum(mass / mass.sum(axis=0) / masses[:, None], 1e-300)))
