"""The sampler protocol: which configuration to try next, given what is known."""

from __future__ import annotations

import abc
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hpcompss.errors import InputError, shown
from hpcompss.samplers.history import History
from hpcompss.samplers.scalarisation import scalarised
from hpcompss.space.enumeration import Permutation
from hpcompss.space.space import Space
from hpcompss.trial import Configuration

__all__ = ["Sampler", "SpaceExhausted", "check_count", "is_begun"]


class SpaceExhausted(Exception):
    """Every configuration of a finite space was tried."""


class Sampler(abc.ABC):
    """Suggests configurations: a pure function of its arguments and of what it was made with.

    A sampler gives `propose`; `ask` is what others call.

    Args:
        space: What may vary.
        seed: Makes its choices repeatable; a whole number from 0.
        allow_duplicates: Whether a configuration may be suggested again.

    Raises:
        InputError: The seed is negative or no whole number.
    """

    PROPOSALS = 8
    """How many proposals of a model are worth their cost before an untried configuration is drawn at random."""

    learns = True
    """Whether what came of earlier trials decides what it suggests."""

    DRAWS = 1000
    """How often to draw from a space that is infinite, yet may have a branch with few configurations."""

    def __init__(self, space: Space, *, seed: int, allow_duplicates: bool = False) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise InputError(f"the seed is a whole number from 0, not {shown(seed)}")
        self.space = space
        self.seed = seed
        self.allow_duplicates = allow_duplicates

    def ask(self, history: History, pending: Sequence[Configuration], number: int) -> Configuration:
        """Returns the configuration of trial ``number``: the first proposal that was not tried.

        Where there are several objectives, it learns from another weighting of them each time (`scalarisation`).

        Args:
            history: The finished trials.
            pending: The configurations that are being tried.
            number: The trial's number, from 0.

        Raises:
            SpaceExhausted: Every configuration was tried or is being tried, and duplicates are not allowed.
        """
        generator = np.random.default_rng([self.seed, number])
        known = scalarised(history, self.seed, number) if history.also and self.learns else history
        proposals = itertools.chain(self.propose(known, pending, number, generator), self._drawn(generator))
        if self.allow_duplicates:
            return next(proposals)
        taken = {self.space.key(each) for each in pending}
        if len(history.keys) + len(taken - history.keys) >= self.space.count:
            raise SpaceExhausted
        for configuration in proposals:
            key = self.space.key(configuration)
            if key not in taken and key not in history.keys:
                return configuration
        raise SpaceExhausted

    def encoded(self, configurations: Sequence[Configuration]) -> NDArray[np.float64]:
        """Returns configurations in the unit cube, NaN where inactive: shape (configurations, columns)."""
        rows = [self.space.encode(each) for each in configurations]
        return np.array(rows).reshape(len(rows), len(self.space))

    @abc.abstractmethod
    def propose(
        self, history: History, pending: Sequence[Configuration], number: int, generator: np.random.Generator
    ) -> Iterator[Configuration]:
        """Yields configurations for trial ``number``, the preferred first; all chance comes from ``generator``.

        Once they are used up, configurations are drawn at random.
        """

    def _drawn(self, generator: np.random.Generator) -> Iterator[Configuration]:
        """Yields a finite space's combinations in random order; of an infinite one, random configurations."""
        if self.space.is_finite:
            lattice = self.space.lattice
            shuffle = Permutation(lattice.count, int(generator.integers(2**63)))
            yield from (lattice.combination(shuffle(place)) for place in range(lattice.count))
        else:
            yield from (self.space.sample(generator) for _ in range(self.DRAWS))


def is_begun(history: History, pending: Sequence[Configuration], startup_trials: int) -> bool:
    """Returns whether the trials of the start-up are under way and enough of them have completed to learn from."""
    completed = int(history.informative.sum())
    return completed >= math.ceil(startup_trials / 3) + 1 and completed + len(pending) >= startup_trials


def check_count(name: str, value: object) -> None:
    """Raises `InputError` where an option is not a whole number above 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} must be a whole number above 0, not {shown(value)}")
