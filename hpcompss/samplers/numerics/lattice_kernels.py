"""The compiled search of a part of a lattice for the greatest expected improvement; see `lattice`, which calls it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hpcompss.samplers.numerics.compiled import compiled

__all__ = ["scan"]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Model = tuple[Array, Array, Array, Array, float]
Costs = tuple[Array, Array, float]

WIDTH = 128
"""How many points are taken at a time: few enough for the first cache, enough for vector instructions."""
STRIDE = 8
"""After how many rows of the triangular product the variance's bound is looked at again."""
ROUNDER = 6755399441055744.0
"""1.5 * 2**52: a number added to it is rounded to a whole one, which then stands in its last bits."""
LOG2_E = 1.4426950408889634
LOG_2 = 0.6931471805599453
LEAST = 1e-12
"""The least share of the prior variance that is taken to be left."""
RESOLUTION = 1e-9
"""How finely acquisitions are told apart, far above their rounding errors: equals are then equal on every machine."""
TAIL = -6.0
TERMS = 40
HALF_LOG_TAU = 0.9189385332046727


@compiled()
def _decay(exponent: float) -> float:
    """Returns exp(-exponent) for an exponent of at least 0, in operations that have vector instructions everywhere.

    2**-k exp(f) with k whole and f at most log(2) / 2 in size, for which the series ends after 13 terms.
    """
    scaled = min(exponent * LOG2_E, 1020.0)
    rounded = scaled + ROUNDER
    rest = ((rounded - ROUNDER) - scaled) * LOG_2
    series = 1.0 / 479001600.0
    series = series * rest + 1.0 / 39916800.0
    series = series * rest + 1.0 / 3628800.0
    series = series * rest + 1.0 / 362880.0
    series = series * rest + 1.0 / 40320.0
    series = series * rest + 1.0 / 5040.0
    series = series * rest + 1.0 / 720.0
    series = series * rest + 1.0 / 120.0
    series = series * rest + 1.0 / 24.0
    series = series * rest + 1.0 / 6.0
    series = series * rest + 0.5
    series = series * rest + 1.0
    series = series * rest + 1.0
    bits = np.int64((1023 << 52) - (np.float64(rounded).view(np.int64) << 52))
    return series * bits.view(np.float64)


@compiled()
def _matern(squares: float) -> float:
    """Returns Matern 5/2 at five times a squared distance (Rasmussen and Williams, 2006, equation 4.17)."""
    scaled = math.sqrt(squares)
    return (1.0 + scaled + scaled * scaled * (1.0 / 3.0)) * _decay(scaled)


@compiled()
def _log_h(z: float) -> float:
    """Returns `acquisition.log_h`."""
    if z >= -1.0:
        return math.log(math.exp(-0.5 * z * z - HALF_LOG_TAU) + 0.5 * z * math.erfc(-z * math.sqrt(0.5)))
    if z >= TAIL:
        density = math.exp(-0.5 * z * z - HALF_LOG_TAU)
        share = 1.0 + z * 0.5 * math.erfc(-z * math.sqrt(0.5)) / density
    else:
        tail = -z
        for term in range(TERMS, 1, -1):
            tail = -z + term / tail
        share = 1.0 / (1.0 - z * tail)
    return -0.5 * z * z - HALF_LOG_TAU + math.log(share)


@compiled(reorder=True)
def _dot(first: Array, second: Array, count: int) -> float:
    total = 0.0
    for place in range(count):
        total += first[place] * second[place]
    return total


@compiled()
def _bound(row: Array, inner: Array, start: int, model: Model, gains: Array, near: Array) -> None:
    """Fills what is cheap to know of a row's points from ``start`` on.

    Args:
        row: What the outer axes add to the squared distances: shape (n,).
        inner: What the inner axes add: shape (n, columns).
        start: The first of the points.
        model: See `scan`.
        gains: Receives how far below the incumbent the mean is, in each fantasy: shape (fantasies, points).
        near: Receives the root of the largest share of the variance that one observation explains: shape (points,).
    """
    duals, incumbents, reach, _, _ = model
    count = min(WIDTH, inner.shape[1] - start)
    correlation = np.empty(WIDTH)
    near[:] = 0.0
    for fantasy in range(len(duals)):
        gains[fantasy, :] = incumbents[fantasy]
    for observation in range(len(row)):
        base, pull = row[observation], reach[observation]
        for point in range(count):
            value = _matern(base + inner[observation, start + point])
            correlation[point] = value
            near[point] = max(near[point], value * pull)
        for fantasy in range(len(duals)):
            dual = duals[fantasy, observation]
            for point in range(count):
                gains[fantasy, point] -= dual * correlation[point]


@compiled()
def _promises(gains: Array, left: float, required: Array) -> bool:
    """Returns whether a point may be good enough, if that share of the prior variance is left at most."""
    steps = len(required) - 1
    least = required[min(int(math.sqrt(max(left, 0.0)) * steps) + 1, steps)]
    return bool(gains.max() >= least)


@compiled()
def _score(correlation: Array, gains: Array, model: Model, required: Array) -> float:
    """Returns the acquisition of a point, or minus infinity as soon as it is known to be too low.

    The rows of the triangular product are what each further observation explains, so that the variance of the first of
    them is an upper bound of the variance.
    """
    _, _, _, inverse, amplitude = model
    explained = 0.0
    for row in range(len(correlation)):
        half = _dot(inverse[row], correlation, row + 1)
        explained += half * half
        if row % STRIDE == STRIDE - 1 and not _promises(gains, 1.0 - explained, required):
            return -math.inf
    deviation = math.sqrt(amplitude * max(1.0 - explained, LEAST))
    largest, total = -math.inf, 0.0
    for gain in gains:
        value = _log_h(gain / deviation)
        if value > largest:
            total = total * math.exp(largest - value) + 1.0
            largest = value
        elif value > -math.inf:
            total += math.exp(value - largest)
    if total == 0.0:
        return -math.inf
    score = largest + math.log(total / len(gains)) + math.log(deviation)
    return math.floor(score / RESOLUTION + 0.5) * RESOLUTION


@compiled()
def _insert(scores: Array, numbers: Integers, score: float, number: int) -> None:
    """Puts a point among the best, the best first; of equals, the one that was there first."""
    place = len(scores) - 1
    if not score > scores[place]:
        return
    while place > 0 and score > scores[place - 1]:
        scores[place], numbers[place] = scores[place - 1], numbers[place - 1]
        place -= 1
    scores[place], numbers[place] = score, number


@compiled()
def _holds(numbers: Integers, number: int) -> bool:
    place = np.searchsorted(numbers, number)
    return bool(place < len(numbers) and numbers[place] == number)


@compiled()
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
    """Puts the best points of some rows into ``scores`` and ``numbers``, the best first.

    Args:
        rows: What the outer axes add to five times the squared distances: shape (rows, n).
        inner: What the inner axes add: shape (n, columns).
        model: The process, in units of which a correlation is 1 at most: ``duals`` (fantasies, n), ``incumbents``
            above the mean (fantasies,), ``reach`` (n,), the inverse of the covariance's Cholesky factor times the root
            of the amplitude (n, n), and the amplitude.
        required: The least improvement of the mean that is worth a look where the cost is at least this many steps and
            the deviation at most this many steps of the prior one: shape (cost steps, steps + 1).
        costs: What is taken off the scores, at least 0 in all: of each row (rows,), of each inner point (columns,), and
            how much a step is.
        first: The number in the lattice of the first row's first point.
        stride: How much further the next row's first point is.
        excluded: The numbers of points that are not wanted, ascending.
        scores: Minus infinity where empty.
        numbers: As long as ``scores``.

    Returns:
        Of how many points the variance was looked at.
    """
    fantasies, looks = len(model[0]), 0
    row_costs, inner_costs, cost_step = costs
    last = len(required) - 1
    gains, near = np.empty((fantasies, WIDTH)), np.empty(WIDTH)
    correlation = np.empty(rows.shape[1])
    for place in range(len(rows)):
        row = rows[place]
        for start in range(0, inner.shape[1], WIDTH):
            _bound(row, inner, start, model, gains, near)
            for point in range(min(WIDTH, inner.shape[1] - start)):
                column = start + point
                cost = row_costs[place] + inner_costs[column]
                least = required[min(int(cost / cost_step), last)]
                if not _promises(gains[:, point], 1.0 - near[point] * near[point], least):
                    continue
                number = first + place * stride + column
                if _holds(excluded, number):
                    continue
                looks += 1
                for observation in range(len(row)):
                    correlation[observation] = _matern(row[observation] + inner[observation, column])
                score = _score(correlation, gains[:, point], model, least)
                _insert(scores, numbers, score - cost, number)
    return looks
