"""What a model-based sampler tries before there is anything to learn from."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from hpcompss.samplers.quasirandom import Quasirandom, sobol_point
from hpcompss.space.cube import Cube
from hpcompss.space.space import Space
from hpcompss.trial import Configuration

__all__ = ["Startup"]

ALIKE = 4
"""So many of the first trials give repeated choices the same value."""


class Startup:
    """A quasi-random sequence that at first takes repeated choices together.

    Choices whose names differ in their numbers alone and whose values are the same (``block_0``, ``block_1``, ...) are
    what a network repeats. The first trials give them all one value: what is good for one is often good for all, which
    so many trials would else hardly tell.

    Args:
        space: What may vary.
        seed: Chooses the sequence.

    Attributes:
        dimensions: How many parameters vary, repeated choices counted as one.
    """

    def __init__(self, space: Space, *, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._sequence = Quasirandom(space, seed=seed)
        self._groups = _groups(space)
        self.dimensions = len(self._groups)

    def propose(self, number: int) -> Iterator[Configuration]:
        """Yields configurations for trial ``number``, the preferred first."""
        if number < ALIKE and any(len(group) > 1 for group in self._groups):
            unit = np.full(len(self._space), 0.5)
            for group, place in zip(self._groups, sobol_point(self.dimensions, self._seed, number), strict=True):
                unit[group] = place
            yield self._space.decode(unit)
        yield from self._sequence.points(number)


def _groups(space: Space) -> list[list[int]]:
    """Returns the columns that vary, repeated choices together."""
    cube = Cube(space)
    groups: dict[object, list[int]] = {}
    for column in np.flatnonzero(cube.varies).tolist():
        parameter = space.parameters[column]
        name = re.sub(r"\d+", "#", parameter.name)
        key = (name, repr(parameter.settings())) if cube.is_category[column] and "#" in name else column
        groups.setdefault(key, []).append(column)
    return list(groups.values())
