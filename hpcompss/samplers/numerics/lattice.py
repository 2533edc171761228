"""The exact maximum of an acquisition over all points of a finite lattice, streamed.

A lattice is a product of axes. Each axis has a table with a row for each of its values, and what a point is to the
model is the sum of one row of each table: squared distances to the observations for a Gaussian process, log densities
of the kernels for a Parzen estimator. So the axes are split into outer and inner ones, the sums of each group are made
once, and each point costs one addition for each observation or kernel.

Of equally good points the one with the lowest number comes first; numbers count the last axis fastest.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, special

from hpcompss.samplers.numerics.acquisition import log_h
from hpcompss.samplers.numerics.compiled import kernels, thread_count
from hpcompss.space.branches import Branch, Runs, branches
from hpcompss.space.cube import Cube
from hpcompss.space.space import Space

__all__ = [
    "Best",
    "Mixture",
    "Process",
    "Table",
    "best_density_ratio",
    "best_expected_improvement",
    "lattice_of",
]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Model = tuple[Array, Array, Array, Array, float]
Costs = tuple[Array, Array, float]

DECIMALS = 9
"""How finely acquisitions are told apart, far above their rounding errors: equals are then equal on every machine."""
SMALL = 4096
"""Of so many points, each is evaluated at once and exactly."""
FEW = 64
"""And of so many where a bound from elsewhere rules most of them out."""
PART = 1 << 18
"""About how many points are searched at a time."""
INNER = 1 << 17
"""How many numbers the inner axes' sums may hold: a megabyte, which the second cache keeps."""
LEAST = 1e-12
"""The least share of the prior variance that is taken to be left."""
CLIMBS = 4
"""From how many of the best random points the search begins with a climb."""
AROUND = 256
"""Of an axis with more values, so many are looked at in a step of a climb."""
LONG = 4096
"""The table of an axis of more values is not held."""
DENSE = 10**6
"""A parameter of more values is as good as continuous: an acquisition tells its neighbours apart no more."""
BRANCHES = 1000
"""Of a space of more branches the combinations are not all compared: each costs a millisecond or some more."""
STEPS = 1024
"""How finely deviations are told apart where points are ruled out."""
COST_STEPS = 32
"""And how finely costs."""


class Table(Protocol):
    """What one axis of a lattice contributes: an array (values, n), or something that makes its rows when asked."""

    def __len__(self) -> int:
        """Returns how many values the axis has."""

    def __getitem__(self, rows: Integers, /) -> Array:
        """Returns some rows: shape (rows,) to (rows, n)."""


class _LazyTable:
    """A table that is too long to be held: its rows are made when asked for."""

    def __init__(self, count: int, make: Callable[[Integers], Array]) -> None:
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: Integers, /) -> Array:
        return self._make(rows)


class Tables:
    """The tables of a space's columns. Each is made once, as most branches share those of most columns.

    Args:
        cube: The space's.
        make: Returns some rows, (m, n), of a column's table, given the column and its values as encoded configurations
            that have no other value: shape (m, columns).
    """

    def __init__(self, cube: Cube, make: Callable[[int, Array], Array]) -> None:
        self._cube = cube
        self._make = make
        self._made: dict[tuple[int, Runs | None], Table] = {}

    def of(self, branch: Branch) -> list[Table]:
        """Returns the tables of a branch's axes."""
        return [self._table(branch, axis) for axis in branch.axes]

    def _table(self, branch: Branch, axis: int) -> Table:
        key = axis, branch.runs[axis]
        if key not in self._made:
            places = branch.places(self._cube, axis)

            def rows(numbers: Integers) -> Array:
                units = np.full((len(numbers), len(self._cube.counts)), np.nan)
                units[:, axis] = places[numbers]
                return self._make(axis, units)

            count = len(places)
            self._made[key] = rows(np.arange(count)) if count <= LONG else _LazyTable(count, rows)
        return self._made[key]


def lattice_of(space: Space, most: int) -> list[Branch] | None:
    """Returns the branches of a finite space, or None where it is not searched exhaustively.

    Args:
        space: Any.
        most: How many combinations may be compared.
    """
    if space.count > most or any(parameter.count > DENSE for parameter in space.parameters):
        return None
    return branches(space, BRANCHES)


@dataclass(frozen=True)
class Best:
    """The best points of a lattice, the best first.

    Attributes:
        indexes: The index of each point along each axis: shape (points, axes).
        scores: The acquisition there: shape (points,).
    """

    indexes: Integers
    scores: Array


@dataclass(frozen=True)
class Process:
    """A Gaussian process of Matern 5/2 covariance after n observations.

    Attributes:
        duals: The inverse of the observations' covariance times how far their values are above the constant mean: shape
            (n, fantasies), a column for each fantasy of pending observations.
        factor_inverse: The inverse of the covariance's lower Cholesky factor: shape (n, n).
        amplitude: The prior variance.
        incumbents: How far the least value is above the constant mean, in each fantasy: shape (fantasies,).
    """

    duals: Array
    factor_inverse: Array
    amplitude: float
    incumbents: Array

    def score(self, squares: Array) -> Array:
        """Returns the logarithm of the expected improvement, averaged over the fantasies: shape (points,).

        Args:
            squares: Squared distances to the observations, scaled by the length scales: shape (points, n).
        """
        scaled = np.sqrt(5.0 * squares)
        covariance = self.amplitude * ((1.0 + scaled + scaled * scaled / 3.0) * np.exp(-scaled))
        half = covariance @ self.factor_inverse.T
        variance = self.amplitude - np.einsum("ij,ij->i", half, half)
        deviation = np.sqrt(np.maximum(variance, LEAST * self.amplitude))
        return _log_mean_improvement(self.incumbents - covariance @ self.duals, deviation)

    @cached_property
    def pivoted(self) -> tuple[Integers, Model]:
        """The observations in the order in which they explain the most, and the process in that order."""
        order, inverse, variances = _pivoted(self.factor_inverse)
        model = (
            np.ascontiguousarray(self.amplitude * self.duals[order].T),
            np.array(self.incumbents, dtype=np.float64),
            np.sqrt(self.amplitude / variances),
            np.ascontiguousarray(math.sqrt(self.amplitude) * inverse),
            float(self.amplitude),
        )
        return order, model


@dataclass(frozen=True)
class Mixture:
    """A mixture of products of one-dimensional kernels on a lattice.

    Attributes:
        tables: For each axis the logarithm of each kernel's density at each value: shape (values, kernels).
        log_weights: The logarithm of each kernel's weight: shape (kernels,).
    """

    tables: Sequence[Table]
    log_weights: Array


def best_expected_improvement(
    tables: Sequence[Table],
    process: Process,
    *,
    base: Array | None = None,
    costs: Sequence[Array] | None = None,
    count: int = 1,
    excluded: Integers | None = None,
    above: float = -math.inf,
) -> Best:
    """Returns the lattice's points of greatest expected improvement, exactly; scores are its logarithm less the cost.

    Conditioning on fewer observations never lowers the variance, and the expected improvement grows with it. So a point
    is ruled out as soon as its mean and the variance given some of the observations promise too little; few points are
    then left whose variance costs the full n^2 operations.

    Args:
        tables: For each axis the squared distances, scaled by the length scales, of each value to each observation:
            shape (values, n), all at least 0.
        process: The model.
        base: Squared distances to the observations that every point has besides: shape (n,).
        costs: For each axis what each value takes off the score: shape (values,). None takes off nothing.
        count: How many points are wanted.
        excluded: The indexes along the axes of points that are not: shape (points, axes).
        above: Points below this score are not wanted either.
    """
    product = _Product(tables, len(process.duals), base, costs)
    pool = _Pool(product, count, excluded, above)
    if product.count <= (SMALL if above == -math.inf else FEW):
        numbers = np.arange(product.count)
        pool.add(product.scores(process, numbers), numbers)
        return pool.best()
    if above == -math.inf:
        _climb(product, process, pool)
    _Search(product, process, pool).run()
    numbers = pool.numbers
    final = _Pool(product, count, excluded, above)
    final.add(product.scores(process, numbers), numbers)
    return final.best()


def best_density_ratio(
    good: Mixture,
    bad: Mixture,
    *,
    count: int = 1,
    excluded: Integers | None = None,
    above: float = -math.inf,
) -> Best:
    """Returns the lattice's points at which the ratio of two densities is greatest, exactly; scores are its logarithm.

    Bergstra et al. (2011), "Algorithms for hyper-parameter optimization", equation 3: this maximises the expected
    improvement under a Parzen estimator. Sums over the kernels of products over the axes are matrix products.

    Args:
        good: The density of good points.
        bad: The density of bad ones, on the same lattice. It must not vanish, so it has a wide kernel.
        count: How many points are wanted.
        excluded: The indexes along the axes of points that are not: shape (points, axes).
        above: Points below this score are not wanted either.
    """
    upper = _Product(good.tables, len(good.log_weights), good.log_weights)
    lower = _Product(bad.tables, len(bad.log_weights), bad.log_weights)
    pool = _Pool(upper, count, excluded, above)
    split = upper.split(INNER // max(upper.width, lower.width))
    for columns in split.tiles:
        inner = [_exponential(each.inner_sums(split, columns).T, 0) for each in (upper, lower)]
        for rows in split.parts(len(columns), PART):
            outer = [_exponential(each.outer_sums(split, rows), 1) for each in (upper, lower)]
            scores = _log_product(outer[0], inner[0]) - _log_product(outer[1], inner[1])
            pool.add_block(scores, split, rows, columns)
    return pool.best()


def _exponential(logarithms: Array, axis: int) -> tuple[Array, Array]:
    """Returns the exponentials after division by the greatest along an axis, and the logarithms of that."""
    shift = logarithms.max(axis=axis, keepdims=True)
    with np.errstate(under="ignore"):
        return np.exp(logarithms - shift), shift


def _log_product(left: tuple[Array, Array], right: tuple[Array, Array]) -> Array:
    with np.errstate(divide="ignore", under="ignore"):
        product = left[0] @ right[0]
        np.log(product, out=product)
    product += left[1]
    product += right[1]
    return product


@dataclass(frozen=True)
class _Split:
    """A lattice as rows, one for each point of the outer axes, of columns, one for each point of the inner ones.

    Attributes:
        axes: How many axes are outer ones.
        rows: How many rows there are.
        columns: How many columns.
        width: The most columns to take at a time.
    """

    axes: int
    rows: int
    columns: int
    width: int

    @property
    def tiles(self) -> list[range]:
        """The columns in groups."""
        return _pieces(self.columns, self.width)

    def parts(self, columns: int, points: int) -> list[range]:
        """Returns the rows in groups that have at most so many points in so many columns, or one row each."""
        return _pieces(self.rows, max(1, points // columns))


def _pieces(count: int, most: int) -> list[range]:
    """Returns the numbers below ``count`` in ranges of about the same length."""
    pieces = max(1, math.ceil(count / most))
    edges = [count * piece // pieces for piece in range(pieces + 1)]
    return [range(start, stop) for start, stop in itertools.pairwise(edges)]


class _Product:
    """The points of a lattice by their numbers.

    Args:
        tables: Of each axis.
        width: The length n of the tables' rows.
        base: What to add to every sum: shape (n,).
        costs: What each axis's values take off the scores: shape (values,) each.
    """

    def __init__(
        self, tables: Sequence[Table], width: int, base: Array | None, costs: Sequence[Array] | None = None
    ) -> None:
        self._tables = list(tables)
        self._costs = [np.zeros(len(table)) for table in tables] if costs is None else list(costs)
        self._base = np.zeros(width) if base is None else np.asarray(base, dtype=np.float64)
        self.width = width
        self.shape = tuple(len(table) for table in tables)
        self.count = math.prod(self.shape)

    def indexes(self, numbers: Integers) -> Integers:
        """Returns the points' indexes along the axes: shape (points, axes)."""
        return _unravel(numbers, self.shape)

    def numbers(self, indexes: Integers) -> Integers:
        """Returns the numbers of points given by their indexes along the axes, shape (points, axes)."""
        numbers = np.zeros(len(indexes), dtype=np.int64)
        for axis, size in enumerate(self.shape):
            numbers = numbers * size + indexes[:, axis]
        return numbers

    def sums(self, numbers: Integers) -> Array:
        """Returns the sums of the tables' rows: shape (points, n)."""
        return self._base + self._sums(numbers, 0, len(self.shape))

    def scores(self, process: Process, numbers: Integers) -> Array:
        """Returns the acquisition under a process, less the costs: shape (points,)."""
        return process.score(self.sums(numbers)) - self._cost(numbers, 0, len(self.shape))

    @property
    def least_cost(self) -> float:
        """The least cost of a point."""
        return float(sum(each.min() for each in self._costs))

    @property
    def cost_range(self) -> float:
        """By how much the greatest cost of a point exceeds the least."""
        return float(sum(np.ptp(each) for each in self._costs))

    def around(self, number: int, generator: np.random.Generator) -> Integers:
        """Returns points that differ from one along a single axis; of a long axis, its neighbours and a sample."""
        found, stride = [], 1
        for size in reversed(self.shape):
            index = number // stride % size
            others = np.arange(size)
            if size > AROUND:
                near = np.arange(max(0, index - 8), min(size, index + 9))
                others = np.concatenate([near, generator.integers(size, size=AROUND)])
            found.append(number + (others[others != index] - index) * stride)
            stride *= size
        return np.concatenate(found)

    def outer_sums(self, split: _Split, rows: range) -> Array:
        """Returns the sums of the outer axes and the base: shape (rows, n)."""
        return self._base + self._sums(np.arange(rows.start, rows.stop), 0, split.axes)

    def inner_sums(self, split: _Split, columns: range) -> Array:
        """Returns the sums of the inner axes: shape (columns, n)."""
        return self._sums(np.arange(columns.start, columns.stop), split.axes, len(self.shape))

    def costs(self, split: _Split, rows: range, columns: range) -> tuple[Array, Array]:
        """Returns the outer axes' costs above the least cost, (rows,), and those of the inner ones, (columns,)."""
        outer = self._cost(np.arange(rows.start, rows.stop), 0, split.axes)
        return outer - self.least_cost, self._cost(np.arange(columns.start, columns.stop), split.axes, len(self.shape))

    def split(self, width: int) -> _Split:
        """Returns the lattice with as many of the last axes inner ones as about ``width`` columns take.

        A long axis before a short one is an outer one: its columns would be too many to be shared by the rows.
        """
        axis, columns = len(self.shape), 1
        while axis > 0 and columns * 4 <= width and (columns == 1 or columns * self.shape[axis - 1] <= 4 * width):
            axis -= 1
            columns *= self.shape[axis]
        return _Split(axis, self.count // columns, columns, max(1, width))

    def _cost(self, numbers: Integers, first: int, stop: int) -> Array:
        total = np.zeros(len(numbers))
        for axis, index in enumerate(_unravel(numbers, self.shape[first:stop]).T, start=first):
            total += self._costs[axis][index]
        return total

    def _sums(self, numbers: Integers, first: int, stop: int) -> Array:
        total = np.zeros((len(numbers), self.width))
        for axis, index in enumerate(_unravel(numbers, self.shape[first:stop]).T, start=first):
            total += self._tables[axis][index]
        return total


def _unravel(numbers: Integers, shape: Sequence[int]) -> Integers:
    indexes = np.empty((len(numbers), len(shape)), dtype=np.int64)
    for axis in reversed(range(len(shape))):
        numbers, indexes[:, axis] = np.divmod(numbers, shape[axis])
    return indexes


def _climb(product: _Product, process: Process, pool: _Pool) -> None:
    """Gives the pool good points: the best of a random sample and what a step at a time along any axis makes of it."""
    generator = np.random.default_rng(0)
    numbers = generator.integers(product.count, size=SMALL)
    scores = product.scores(process, numbers)
    pool.add(scores, numbers)
    for start in np.argsort(-scores, kind="stable")[:CLIMBS]:
        number, score = numbers[start], scores[start]
        while True:
            around = product.around(number, generator)
            found = product.scores(process, around)
            pool.add(found, around)
            place = int(np.argmax(found))
            if not found[place] > score:
                break
            number, score = around[place], found[place]


class _Search:
    """The search of a whole lattice for the greatest expected improvement, by threads that share a pool.

    Args:
        product: The lattice of squared distances.
        process: The model.
        pool: Has good points already, which makes the search fast, and gets the best.
    """

    def __init__(self, product: _Product, process: Process, pool: _Pool) -> None:
        self._product = product
        self._pool = pool
        self._amplitude = process.amplitude
        self._split = product.split(INNER // product.width)
        self._order, self._model = process.pivoted
        self._least_cost = product.least_cost
        self._cost_steps = COST_STEPS if product.cost_range > 0 else 1
        self._cost_step = product.cost_range / COST_STEPS or 1.0
        duals = self._model[0]
        # What rounding does to a mean, amply.
        self._slack = 1e-9 * math.sqrt(process.amplitude) + 1e-14 * float(np.abs(duals).sum(axis=1).max())
        compiled = kernels("hpcompss.samplers.numerics.lattice_kernels")
        self._scan: Callable[..., int] = compiled.scan if compiled else scan

    def run(self) -> None:
        """Searches every point."""
        threads = thread_count()
        points = min(max(self._product.count // (8 * threads), SMALL), PART)
        jobs = [(columns, rows) for columns in self._split.tiles for rows in self._split.parts(len(columns), points)]
        threads = min(threads, len(jobs))
        if threads == 1:
            for job in jobs:
                self._search(job)
            return
        with ThreadPoolExecutor(threads) as executor:
            for _ in executor.map(self._search, jobs):
                pass

    def _search(self, job: tuple[range, range]) -> None:
        columns, rows = job
        outer = np.ascontiguousarray(5.0 * self._product.outer_sums(self._split, rows)[:, self._order])
        inner = np.ascontiguousarray(5.0 * self._product.inner_sums(self._split, columns).T[self._order])
        scores, numbers = np.full(self._pool.count, -np.inf), np.full(self._pool.count, -1, dtype=np.int64)
        first = rows.start * self._split.columns + columns.start
        costs = (*self._product.costs(self._split, rows, columns), self._cost_step)
        self._scan(
            *(outer, inner, self._model, self._required(), costs, first, self._split.columns),
            *(self._pool.excluded, scores, numbers),
        )
        self._pool.add(scores[numbers >= 0] - self._least_cost, numbers[numbers >= 0])

    def _required(self) -> Array:
        """Returns what a mean must reach, for each step of the cost: shape (cost steps, STEPS + 1)."""
        threshold = self._pool.threshold + self._least_cost
        steps = [threshold + step * self._cost_step for step in range(self._cost_steps)]
        return np.stack([_required(each, self._amplitude) for each in steps]) - self._slack


def _pivoted(factor_inverse: Array) -> tuple[Integers, Array, Array]:
    """Returns an order of the observations in which the first explain the most, and what belongs to it.

    Each next observation is the one of greatest variance given those before it, so that a bound of a variance that
    looks at the first few is tight.

    Args:
        factor_inverse: The inverse of the covariance's lower Cholesky factor: shape (n, n).

    Returns:
        The order, the factor's inverse in that order, and the observations' variances in that order.
    """
    factor, _ = linalg.lapack.dtrtri(factor_inverse, lower=1)
    covariance = np.tril(factor) @ np.tril(factor).T
    pivoted, pivots, _, failed = linalg.lapack.dpstrf(covariance, lower=1)
    if failed:
        return np.arange(len(covariance)), factor_inverse, covariance.diagonal().copy()
    order = pivots.astype(np.int64) - 1
    inverse, _ = linalg.lapack.dtrtri(pivoted, lower=1)
    return order, np.tril(inverse), covariance.diagonal()[order]


def _required(threshold: float, amplitude: float) -> Array:
    """Returns how far below the incumbent a mean must be for its point to reach a score.

    Args:
        threshold: The score.
        amplitude: The prior variance.

    Returns:
        For deviations of at most 0, 1, ... `STEPS` parts of the prior one, a little less than is exact: shape
        (STEPS + 1,).
    """
    deviations = math.sqrt(amplitude) * np.arange(1, STEPS + 1) / STEPS
    z, values = _log_h_table()
    places = np.searchsorted(values, threshold - 2.0 * 10.0**-DECIMALS - np.log(deviations)) - 1
    least = np.where(places < 0, -np.inf, z[places])
    return np.concatenate([[np.inf], deviations * least])


@lru_cache(maxsize=1)
def _log_h_table() -> tuple[Array, Array]:
    z = np.sinh(np.linspace(-20.0, 20.0, 1 << 14))
    return z, log_h(z)


def _log_mean_improvement(gains: Array, deviation: Array) -> Array:
    """Returns the logarithm of the expected improvement, averaged over fantasies.

    Args:
        gains: How far below the incumbent the mean is in each fantasy: shape (points, fantasies).
        deviation: Shape (points,).
    """
    values = log_h(gains / deviation[:, None])
    score: Array = special.logsumexp(values, axis=1) - math.log(values.shape[1]) + np.log(deviation)
    return score


def scan(
    rows: Array,
    inner: Array,
    model: Model,
    required: Array,
    costs: Costs,
    first: int,
    stride: int,
    excluded: Integers,
    scores: Array,
    numbers: Integers,
) -> int:
    """Does what `lattice_kernels.scan` does, in NumPy."""
    columns = inner.shape[1]
    row_costs, inner_costs, cost_step = costs
    height = max(1, INNER // inner.size)
    buffers = np.empty((3, height * columns, len(inner)))
    inner = np.ascontiguousarray(inner.T)
    looks = 0
    for start in range(0, len(rows), height):
        piece = rows[start : start + height]
        correlation, *spare = buffers[:, : len(piece) * columns]
        np.add(piece[:, None], inner, out=correlation.reshape(len(piece), columns, -1))
        _correlate(correlation, *spare)
        piece_costs = (row_costs[start : start + height, None] + inner_costs).ravel()
        gains, promising = _promising(correlation, model, required, (piece_costs / cost_step).astype(np.int64))
        row, column = np.divmod(promising, columns)
        found = first + (row + start) * stride + column
        wanted = ~np.isin(found, excluded)
        promising, found = promising[wanted], found[wanted]
        looks += len(found)
        if len(found):
            exact = _exact(correlation[promising], gains[promising], model) - piece_costs[promising]
            _keep(scores, numbers, exact, found)
    return looks


def _correlate(squares: Array, scaled: Array, decay: Array) -> None:
    """Makes five times squared distances Matern 5/2 correlations, in place; the other two arrays are overwritten."""
    np.sqrt(squares, out=scaled)
    np.negative(scaled, out=decay)
    np.exp(decay, out=decay)
    squares /= 3.0
    squares += scaled
    squares += 1.0
    squares *= decay


def _promising(correlation: Array, model: Model, required: Array, cost_steps: Integers) -> tuple[Array, Integers]:
    """Returns the improvements of the means, shape (points, fantasies), and which points are not ruled out."""
    duals, incumbents, reach, _, _ = model
    gains = incumbents - correlation @ duals.T
    near = (correlation * reach).max(axis=1)
    left = np.maximum(1.0 - near * near, 0.0)
    steps = np.minimum((np.sqrt(left) * STEPS).astype(np.int64) + 1, STEPS)
    least = required[np.minimum(cost_steps, len(required) - 1), steps]
    return gains, np.flatnonzero(gains.max(axis=1) >= least)


def _exact(correlation: Array, gains: Array, model: Model) -> Array:
    _, _, _, inverse, amplitude = model
    half = correlation @ inverse.T
    left = 1.0 - np.einsum("ij,ij->i", half, half)
    return np.round(_log_mean_improvement(gains, np.sqrt(amplitude * np.maximum(left, LEAST))), DECIMALS)


def _keep(scores: Array, numbers: Integers, found_scores: Array, found_numbers: Integers) -> None:
    """Puts points among the best so far, in place."""
    all_scores, all_numbers = np.concatenate([scores, found_scores]), np.concatenate([numbers, found_numbers])
    order = np.lexsort([all_numbers, -all_scores])[: len(scores)]
    scores[:], numbers[:] = all_scores[order], all_numbers[order]


class _Pool:
    """The best points seen so far; threads may add to it.

    Args:
        product: The lattice.
        count: How many to keep.
        excluded: The indexes of points that are never kept: shape (points, axes), or None.
        above: The least score.
    """

    def __init__(self, product: _Product, count: int, excluded: Integers | None, above: float) -> None:
        self._product = product
        self.count = count
        self._above = above
        self._lock = threading.Lock()
        self._scores: Array = np.empty(0)
        self.numbers: Integers = np.empty(0, dtype=np.int64)
        given = np.empty((0, len(product.shape)), dtype=np.int64) if excluded is None else np.asarray(excluded)
        self.excluded: Integers = np.unique(product.numbers(given)) if len(given) else np.empty(0, dtype=np.int64)

    @property
    def threshold(self) -> float:
        """What a point must reach to be of interest."""
        return float(self._scores[-1]) if len(self._scores) == self.count else self._above

    def add(self, scores: Array, numbers: Integers) -> None:
        """Takes notice of points, in any order, those included that it has."""
        numbers, first = np.unique(numbers, return_index=True)
        scores = np.round(scores[first], DECIMALS)
        kept = (scores >= self.threshold) & ~np.isin(numbers, self.excluded)
        scores, numbers = _foremost(scores[kept], numbers[kept], self.count)
        with self._lock:
            numbers, first = np.unique(np.concatenate([self.numbers, numbers]), return_index=True)
            scores = np.concatenate([self._scores, scores])[first]
            order = np.lexsort([numbers, -scores])[: self.count]
            self._scores, self.numbers = scores[order], numbers[order]

    def add_block(self, scores: Array, split: _Split, rows: range, columns: range) -> None:
        """Takes notice of some rows' points: shape (rows, columns)."""
        np.round(scores, DECIMALS, out=scores)
        row, column = np.divmod(self.excluded, split.columns)
        here = (rows.start <= row) & (row < rows.stop) & (columns.start <= column) & (column < columns.stop)
        scores[row[here] - rows.start, column[here] - columns.start] = -np.inf
        places = np.flatnonzero(scores.ravel() >= self.threshold)
        found, places = _foremost(scores.ravel()[places], places, self.count)
        row, column = np.divmod(places, len(columns))
        self.add(found, (row + rows.start) * split.columns + column + columns.start)

    def best(self) -> Best:
        """Returns the points, the best first."""
        return Best(self._product.indexes(self.numbers), self._scores)


def _foremost(scores: Array, numbers: Integers, count: int) -> tuple[Array, Integers]:
    """Returns at least the ``count`` best, of equals the first, from numbers that ascend."""
    if len(scores) <= count:
        return scores, numbers
    least = np.partition(scores, len(scores) - count)[len(scores) - count]
    better = np.flatnonzero(scores > least)
    kept = np.sort(np.concatenate([better, np.flatnonzero(scores == least)[: count - len(better)]]))
    return scores[kept], numbers[kept]
