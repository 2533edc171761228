"""Random search: every configuration is drawn from the space's own scales."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hpcompss.samplers.base import Sampler
from hpcompss.samplers.history import History
from hpcompss.trial import Configuration

__all__ = ["Random"]


class Random(Sampler):
    """Draws each parameter uniformly on its scale, whatever came of earlier trials (Bergstra and Bengio, 2012).

    Args:
        space: What may vary.
        seed: Makes its choices repeatable.
        allow_duplicates: Whether a configuration may be suggested again.
    """

    learns = False

    def propose(
        self, history: History, pending: Sequence[Configuration], number: int, generator: np.random.Generator
    ) -> Iterator[Configuration]:
        """Yields independent draws."""
        return (self.space.sample(generator) for _ in range(self.PROPOSALS))
