"""The sampler for those who do not want to choose one: by the space and the number of trials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from hpcompss.samplers.base import Sampler
from hpcompss.samplers.gaussian_process import GaussianProcess
from hpcompss.samplers.grid import Grid
from hpcompss.samplers.history import History
from hpcompss.samplers.tpe import TreeParzen
from hpcompss.space.space import Space
from hpcompss.trial import Configuration

__all__ = ["Auto"]

MODELLED = 320
"""Up to so many trials a Gaussian process is asked, which holds as many; beyond them it would forget some."""


class Auto(Sampler):
    """Suggests with the algorithm that suits the space and the number of trials.

    A grid where all combinations fit into the planned trials, unless progress per second asks for an order; a Gaussian
    process for the first 320 trials, which begins with a quasi-random sequence; the tree-structured Parzen estimator
    from then on.

    Args:
        space: What may vary.
        seed: Makes its choices repeatable.
        trials: How many trials are planned; None where only the time is limited.
        per_second: Whether progress per second counts, and not that per trial.
        allow_duplicates: Whether a configuration may be suggested again.

    Attributes:
        choice: The algorithm's name, and why it was chosen.
    """

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        trials: int | None = None,
        per_second: bool = False,
        allow_duplicates: bool = False,
    ) -> None:
        super().__init__(space, seed=seed, allow_duplicates=allow_duplicates)
        options: dict[str, Any] = {"seed": seed, "allow_duplicates": allow_duplicates}
        self._later: Sampler | None = None
        self._first: Sampler
        self.choice: tuple[str, str]
        if trials is not None and space.count <= trials and not per_second:
            self._first = Grid(space, order="shuffled", **options)
            self.learns = False
            self.choice = ("grid", f"its {space.count} combinations fit into {trials} trials")
            return
        options["per_second"] = per_second
        self._first, self._later = GaussianProcess(space, **options), TreeParzen(space, **options)
        if trials is not None and trials <= MODELLED:
            self.choice = ("gp", f"{trials} trials are few enough for a model of all of them")
        else:
            planned = "the number of trials is open" if trials is None else f"{trials} trials are planned"
            self.choice = (
                "gp, then tpe",
                f"{planned}: a Gaussian process for the first {MODELLED}, then the cheaper one",
            )

    def propose(
        self, history: History, pending: Sequence[Configuration], number: int, generator: np.random.Generator
    ) -> Iterator[Configuration]:
        """Yields what the algorithm does."""
        own = len(history) - history.transferred
        sampler = self._later if self._later is not None and own >= MODELLED else self._first
        return sampler.propose(history, pending, number, generator)
