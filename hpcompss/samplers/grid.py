"""Grid search: the combinations of a finite space one after the other, in any order, never listed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

import numpy as np

from hpcompss.errors import InputError, nearest, shown
from hpcompss.samplers.base import Sampler
from hpcompss.samplers.history import History
from hpcompss.space.enumeration import Permutation
from hpcompss.space.parameters import Float
from hpcompss.space.space import Space
from hpcompss.trial import Configuration

__all__ = ["Grid"]

ORDERS = ("sequential", "shuffled")

POINTS = (3, 6, 11)
"""About how many points the steps give that are suggested for a continuous parameter."""

FACTORS = (1.001, 1.01, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, *(10.0**power for power in range(1, 301)))
"""The steps that are suggested for a logarithmic scale."""


class Grid(Sampler):
    """Tries the combinations in order: trial ``number`` gets the first untried one from place ``number`` on.

    Args:
        space: What may vary; every number in it needs a step or is an Int.
        seed: Chooses the shuffle.
        order: ``"sequential"`` (the last parameter varies fastest), ``"shuffled"``, or the names of the parameters that
            vary slowest, the slowest first.
        allow_duplicates: Whether to begin again once all are tried.

    Raises:
        InputError: A parameter is continuous, or the order is unknown.
    """

    learns = False

    def __init__(
        self, space: Space, *, seed: int, order: str | Sequence[str] = "sequential", allow_duplicates: bool = False
    ) -> None:
        super().__init__(space, seed=seed, allow_duplicates=allow_duplicates)
        if continuous := [each for each in space.parameters if isinstance(each, Float) and each.count == math.inf]:
            raise InputError(f"a grid needs a step for {' and for '.join(map(_steps_of, continuous))}")
        if isinstance(order, str):
            if order not in ORDERS:
                raise InputError(f"the grid has no order {shown(order)}; {nearest(order, ORDERS)}")
            self._lattice = space.lattice
        elif isinstance(order, Sequence) and all(isinstance(name, str) for name in order):
            self._lattice = space.reordered(order)
        else:
            raise InputError(f"the grid's order is one of {', '.join(ORDERS)} or a list of names, not {shown(order)}")
        self._shuffle = Permutation(self._lattice.count, seed) if order == "shuffled" else None

    def propose(
        self, history: History, pending: Sequence[Configuration], number: int, generator: np.random.Generator
    ) -> Iterator[Configuration]:
        """Yields every combination once, from place ``number`` on and then from the first."""
        count = self._lattice.count
        for step in range(count):
            place = (number + step) % count
            yield self._lattice.combination(self._shuffle(place) if self._shuffle else place)


def _steps_of(parameter: Float) -> str:
    """Returns a continuous parameter's name, the steps it might be given, and how many points each of them gives."""
    if parameter.sampling == "linear":
        size = math.floor(math.log10(parameter.max_value - parameter.min_value))
        steps = [float(f"{digit}e{power}") for power in range(size - 2, size + 1) for digit in (1, 2, 5)]
    else:
        steps = list(FACTORS)
    counts: dict[int, float] = {}
    for step in steps:
        with contextlib.suppress(InputError):  # the step is too large, or too small to tell values apart
            stepped = Float(
                parameter.name, parameter.min_value, parameter.max_value, step=step, sampling=parameter.sampling
            )
            counts[int(stepped.count)] = step
    chosen = sorted({min(counts, key=lambda count: abs(count - points)) for points in POINTS if counts})
    given = [f"{counts[count]:g} gives {count}" for count in chosen] or ["none is fine enough"]
    given[0] += " points" if chosen else ""
    scale = "" if parameter.sampling == "linear" else f"{parameter.sampling}, so it multiplies: "
    return f"{parameter.name!r} ({scale}{', '.join(given)})"
