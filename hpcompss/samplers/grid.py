"""Grid search: the combinations of a finite space one after the other, in any order, never listed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hpcompss.errors import InputError, nearest
from hpcompss.samplers.base import Sampler
from hpcompss.samplers.history import History
from hpcompss.space.enumeration import Permutation
from hpcompss.space.space import Space
from hpcompss.trial import Configuration

__all__ = ["Grid"]

ORDERS = ("sequential", "shuffled")


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

    def __init__(
        self, space: Space, *, seed: int, order: str | Sequence[str] = "sequential", allow_duplicates: bool = False
    ) -> None:
        super().__init__(space, seed=seed, allow_duplicates=allow_duplicates)
        if isinstance(order, str):
            if order not in ORDERS:
                raise InputError(f"the grid has no order {order!r}; {nearest(order, ORDERS)}")
            self._lattice = space.lattice
        elif isinstance(order, Sequence) and all(isinstance(name, str) for name in order):
            self._lattice = space.reordered(order)
        else:
            raise InputError(f"the grid's order is one of {', '.join(ORDERS)} or a list of names, not {order!r}")
        self._shuffle = Permutation(self._lattice.count, seed) if order == "shuffled" else None

    def propose(
        self, history: History, pending: Sequence[Configuration], number: int, generator: np.random.Generator
    ) -> Iterator[Configuration]:
        """Yields every combination once, from place ``number`` on and then from the first."""
        count = self._lattice.count
        for step in range(count):
            place = (number + step) % count
            yield self._lattice.combination(self._shuffle(place) if self._shuffle else place)
