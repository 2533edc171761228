"""The unit cube of a space, many points at a time: from any place in it to the configuration there, as arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hpcompss.space.parameters import Boolean, Choice, Int, Parameter
from hpcompss.space.space import Space
from hpcompss.trial import Configuration

__all__ = ["Cube"]

Array = NDArray[np.float64]


class Cube:
    """What `Space.encode` and `Space.decode` do for one configuration, for arrays of places in the unit cube.

    Args:
        space: The space.

    Attributes:
        counts: How many values each column has, infinite where it is continuous: shape (columns,).
        is_category: Whether the values of each column have no order: shape (columns,).
        is_continuous: Whether each column is continuous: shape (columns,).
        varies: Whether each column has more than one value: shape (columns,).
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        parameters = space.parameters
        self.counts: Array = np.array([parameter.count for parameter in parameters], dtype=float)
        self.is_category: NDArray[np.bool_] = np.array([_is_category(each) for each in parameters], dtype=bool)
        self.is_continuous: NDArray[np.bool_] = np.isinf(self.counts)
        self.varies: NDArray[np.bool_] = self.counts > 1
        self._conditions = [_conditions(space, column) for column in range(len(space))]
        self.is_conditional: NDArray[np.bool_] = np.array([bool(each) for each in self._conditions], dtype=bool)
        self._uneven = {column: _Uneven(each) for column, each in enumerate(parameters) if _is_uneven(each)}
        even = ~self.is_continuous
        even[list(self._uneven)] = False
        self._even = np.flatnonzero(even)

    def snap(self, places: Array) -> Array:
        """Returns the encoded configuration at each place.

        Args:
            places: Shape (points, columns), in [0, 1] and without NaN.

        Returns:
            The same shape: each column at the middle of the part that holds the place, NaN where inactive.
        """
        units = self.snap_columns(places)
        self.deactivate(units)
        return units

    def snap_columns(self, places: Array) -> Array:
        """Returns the same as `snap`, but for the conditions: every column has its value."""
        units: Array = np.clip(places, 0.0, 1.0)
        if len(self._even):
            counts = self.counts[self._even]
            units[:, self._even] = (np.minimum(np.floor(units[:, self._even] * counts), counts - 1) + 0.5) / counts
        for column, scale in self._uneven.items():
            units[:, column] = scale.snap(units[:, column])
        return units

    def deactivate(self, units: Array) -> None:
        """Puts NaN, in place, wherever a column is not active; ``units`` has shape (points, columns)."""
        for column, conditions in enumerate(self._conditions):
            for condition in conditions:
                holds = np.zeros(len(units), dtype=bool)
                for parent, wanted in condition:
                    # NaN of an inactive parent compares unequal to everything.
                    holds |= (np.abs(units[:, parent, None] - wanted) < 1e-12).any(axis=1)
                units[~holds, column] = np.nan

    def values(self, column: int) -> Array:
        """Returns the places of a countable column's values, ascending: shape (count,)."""
        if column in self._uneven:
            return self._uneven[column].middles()
        count = int(self.counts[column])
        return (np.arange(count) + 0.5) / count

    def masses(self, column: int) -> Array:
        """Returns the lengths of the parts of the unit interval that a countable column's values have: (count,)."""
        if column in self._uneven:
            return self._uneven[column].masses()
        count = int(self.counts[column])
        return np.full(count, 1.0 / count)

    def beside(self, column: int, places: Array, steps: int) -> Array:
        """Returns the places of the values so many steps away, the outermost for those beyond; shape as ``places``."""
        if column in self._uneven:
            return self._uneven[column].beside(places, steps)
        half = 0.5 / self.counts[column]
        return np.asarray(np.clip(places + 2 * steps * half, half, 1 - half))

    def decode(self, unit: Array) -> Configuration:
        """Returns the configuration of one encoded point, NaN where inactive: shape (columns,)."""
        return self._space.decode(np.nan_to_num(unit, nan=0.5))


class _Uneven:
    """The places of an Int on a log scale, each value's part being as long as the logarithm makes it."""

    def __init__(self, parameter: Parameter) -> None:
        if not isinstance(parameter, Int):
            raise TypeError("only an Int has parts of different lengths")
        self._parameter = parameter
        self._span = math.log1p((parameter.max_value - parameter.min_value + 1) / parameter.min_value)

    def _above(self, units: Array) -> Array:
        """Returns each place's value as its distance from the dense end."""
        parameter = self._parameter
        along = units if parameter.sampling == "log" else 1 - units
        above = np.floor(parameter.min_value * np.expm1(along * self._span))
        return np.asarray(np.clip(above, 0, parameter.max_value - parameter.min_value))

    def _middle(self, above: Array) -> Array:
        along: Array = np.log1p((above + 0.5) / self._parameter.min_value) / self._span
        return along if self._parameter.sampling == "log" else 1 - along

    def snap(self, units: Array) -> Array:
        return self._middle(self._above(units))

    def middles(self) -> Array:
        middles = self._middle(np.arange(self._parameter.count, dtype=float))
        return middles if self._parameter.sampling == "log" else middles[::-1]

    def masses(self) -> Array:
        edges = np.log1p(np.arange(self._parameter.count + 1) / self._parameter.min_value) / self._span
        masses: Array = np.diff(edges)
        return masses if self._parameter.sampling == "log" else masses[::-1]

    def beside(self, places: Array, steps: int) -> Array:
        ascending = steps if self._parameter.sampling == "log" else -steps
        last = self._parameter.max_value - self._parameter.min_value
        return self._middle(np.clip(self._above(places) + ascending, 0, last))


def _is_category(parameter: Parameter) -> bool:
    return isinstance(parameter, Boolean) or (isinstance(parameter, Choice) and not parameter.ordered)


def _is_uneven(parameter: Parameter) -> bool:
    return isinstance(parameter, Int) and parameter.step is None and parameter.sampling != "linear"


def _conditions(space: Space, column: int) -> Sequence[Sequence[tuple[int, Array]]]:
    """Returns a column's conditions: each as the columns that its parent's name has, with the places it asks for."""
    conditions = []
    for condition in space.parameters[column].conditions:
        wanted = []
        for parent, parameter in enumerate(space.parameters):
            if parameter.name == condition.parent:
                places = [parameter.encode(value) for value in condition.values if _has(parameter, value)]
                wanted.append((parent, np.array(places)))
        conditions.append(wanted)
    return conditions


def _has(parameter: Parameter, value: object) -> bool:
    try:
        parameter.check(value)
    except ValueError:
        return False
    return True
