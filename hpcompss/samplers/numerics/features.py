"""Configurations as points of a Euclidean space, in which a Gaussian process measures distances."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hpcompss.space.cube import Cube

__all__ = ["Features"]

Array = NDArray[np.float64]


class Features:
    """Maps encoded configurations to points.

    A number is one coordinate, its place in the unit interval. A category is a coordinate for each of its values, so
    that two different values are at distance 1. An inactive parameter is where it makes no difference: a number in the
    middle, a category at equal distance from all values.

    Args:
        cube: The space's.

    Attributes:
        columns: The columns of the cube that vary, in the order of the groups: shape (groups,).
        groups: The group of each coordinate: shape (coordinates,).
    """

    def __init__(self, cube: Cube) -> None:
        self._cube = cube
        self.columns: NDArray[np.intp] = np.flatnonzero(cube.varies)
        widths = [int(cube.counts[column]) if cube.is_category[column] else 1 for column in self.columns]
        self._widths = widths
        self.groups: NDArray[np.intp] = np.repeat(np.arange(len(widths)), widths)
        self._starts = np.concatenate([[0], np.cumsum(widths)[:-1]]).astype(int) if widths else np.zeros(0, int)
        categories = cube.is_category[self.columns]
        self._numbers = self._starts[~categories]
        self._number_columns = self.columns[~categories]
        self._categories = [
            (int(start), int(column), int(cube.counts[column]))
            for start, column in zip(self._starts[categories], self.columns[categories], strict=True)
        ]

    def __len__(self) -> int:
        """Returns the number of coordinates."""
        return len(self.groups)

    def points(self, units: Array) -> Array:
        """Returns the points of encoded configurations: shape (n, columns) to (n, coordinates)."""
        points = np.empty((len(units), len(self.groups)))
        points[:, self._numbers] = np.nan_to_num(units[:, self._number_columns], nan=0.5)
        for start, column, count in self._categories:
            places = units[:, column]
            points[:, start : start + count] = 0.0
            active = np.flatnonzero(~np.isnan(places))
            points[active, start + (places[active] * count).astype(int)] = math.sqrt(0.5)
        return points

    def coordinate(self, column: int) -> int:
        """Returns the coordinate of a column that is a number."""
        return int(self._starts[np.searchsorted(self.columns, column)])

    def is_number(self, column: int) -> bool:
        """Returns whether a column is a number that varies."""
        return column in self._number_columns

    def of(self, column: int) -> slice:
        """Returns the coordinates of a column; none where it does not vary."""
        place = int(np.searchsorted(self.columns, column))
        if place == len(self.columns) or self.columns[place] != column:
            return slice(0, 0)
        return slice(int(self._starts[place]), int(self._starts[place]) + self._widths[place])
