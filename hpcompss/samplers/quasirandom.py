"""Quasi-random search: points that fill the space more evenly than chance does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hpcompss.errors import InputError, nearest, shown
from hpcompss.samplers.base import Sampler
from hpcompss.samplers.history import History
from hpcompss.space.space import Space
from hpcompss.trial import Configuration

__all__ = ["Quasirandom", "sobol_point"]

METHODS = ("sobol", "halton")

SOBOL_DIMENSIONS = 21_201
"""For so many dimensions direction numbers are known (Joe and Kuo, 2008)."""

BITS = 30
"""How finely a Sobol sequence divides each dimension; finer than that it is random."""

BLOCK_POINTS = 1024
BLOCK_NUMBERS = 1 << 20
"""How many points are made at a time, and of how many numbers at most."""


class Quasirandom(Sampler):
    """Tries the points of one scrambled low-discrepancy sequence: trial ``number`` gets point ``number``.

    Every parameter of more than one value has a dimension, whether it is active or not, so that each of them is evenly
    spread among the trials in which it is. Where a configuration was tried, the sequence's next ones are proposed.

    Args:
        space: What may vary.
        seed: Chooses the scrambling.
        method: ``"sobol"`` (scrambled by a random linear matrix and a digital shift: Matousek, 1998, "On the
            L2-discrepancy for anchored boxes") or ``"halton"`` (with random permutations of digits: Owen, 2017, "A
            randomized Halton algorithm in R").
        allow_duplicates: Whether a configuration may be suggested again.

    Raises:
        InputError: The method is unknown, or the space has more dimensions than a Sobol sequence can.
    """

    PROPOSALS = 256
    learns = False

    def __init__(self, space: Space, *, seed: int, method: str = "sobol", allow_duplicates: bool = False) -> None:
        super().__init__(space, seed=seed, allow_duplicates=allow_duplicates)
        if method not in METHODS:
            raise InputError(f"quasirandom has no method {shown(method)}; {nearest(str(method), METHODS)}")
        self.method = method
        self._columns = [column for column, parameter in enumerate(space.parameters) if parameter.count != 1]
        if method == "sobol" and len(self._columns) > SOBOL_DIMENSIONS:
            raise InputError(
                f"a sobol sequence has at most {SOBOL_DIMENSIONS} dimensions, and the space {len(self._columns)} "
                "parameters: use method: halton"
            )

    def propose(
        self, history: History, pending: Sequence[Configuration], number: int, generator: np.random.Generator
    ) -> Iterator[Configuration]:
        """Yields point ``number`` and those after it."""
        return self.points(number)

    def points(self, number: int) -> Iterator[Configuration]:
        """Yields point ``number`` of the sequence and those after it."""
        for place in range(number, number + self.PROPOSALS):
            unit = np.full(len(self.space), 0.5)
            if self._columns:
                unit[self._columns] = _point(self.method, len(self._columns), self.seed, place)
            yield self.space.decode(unit)


def sobol_point(dimensions: int, seed: int, number: int) -> NDArray[np.float64]:
    """Returns point ``number`` of the scrambled Sobol sequence of a seed: shape (dimensions,)."""
    return _point("sobol", dimensions, seed, number)


def _point(method: str, dimensions: int, seed: int, number: int) -> NDArray[np.float64]:
    """Returns one point of a sequence: shape (dimensions,)."""
    most = max(1, min(BLOCK_POINTS, BLOCK_NUMBERS // dimensions))
    size = 1 << (most.bit_length() - 1)
    block, place = divmod(number, size)
    point: NDArray[np.float64] = _block(method, dimensions, seed, block, size)[place]
    return point


@lru_cache(maxsize=8)
def _block(method: str, dimensions: int, seed: int, block: int, size: int) -> NDArray[np.float64]:
    """Returns the points from ``block * size`` on: shape (size, dimensions)."""
    from scipy.stats import qmc

    generator = np.random.default_rng(seed)
    sequence = (
        qmc.Sobol(dimensions, scramble=True, bits=BITS, seed=generator)
        if method == "sobol"
        else qmc.Halton(dimensions, scramble=True, seed=generator)
    )
    if block:  # Sobol.fast_forward(0) raises an OverflowError
        sequence.fast_forward(block * size)
    points: NDArray[np.float64] = sequence.random(size)
    if method == "sobol":
        points += np.ldexp(np.random.default_rng([seed, block]).random(points.shape), -BITS)
    return points
