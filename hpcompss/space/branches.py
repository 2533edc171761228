"""A space with conditions as a union of disjoint boxes, in each of which the parameters vary freely."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcompss.space.cube import Cube
from hpcompss.space.parameters import Parameter
from hpcompss.space.space import Space

__all__ = ["CONTINUOUS", "Branch", "branches"]

Runs = tuple[range, ...]
"""Numbers of a parameter's values, as ascending runs."""

CONTINUOUS: Runs = ()
"""Stands for the values of a continuous parameter, which have no numbers."""


@dataclass(frozen=True)
class Branch:
    """The configurations in which the same parameters are active, each free to have any of some values.

    Attributes:
        runs: For each column of the space the numbers of the values that it may have, `CONTINUOUS`, or None where it is
            inactive.
    """

    runs: tuple[Runs | None, ...]

    @property
    def axes(self) -> list[int]:
        """The active columns whose values are countable."""
        return [column for column, runs in enumerate(self.runs) if runs]

    @property
    def continuous(self) -> list[int]:
        """The active columns that are continuous."""
        return [column for column, runs in enumerate(self.runs) if runs == CONTINUOUS]

    @property
    def inactive(self) -> list[int]:
        """The columns that are not active."""
        return [column for column, runs in enumerate(self.runs) if runs is None]

    def is_of(self, active: NDArray[np.bool_]) -> bool:
        """Returns whether just these columns are active in it: shape (columns,)."""
        return bool(np.array_equal([runs is not None for runs in self.runs], active))

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values each of `axes` has."""
        return tuple(sum(run.stop - run.start for run in self.runs[axis] or ()) for axis in self.axes)

    @property
    def count(self) -> int | float:
        """How many configurations it has, infinite where a column is continuous."""
        return math.inf if self.continuous else math.prod(self.shape)

    def numbers(self, column: int) -> NDArray[np.intp]:
        """Returns the numbers of the values that one of `axes` may have, ascending: shape (values,)."""
        runs = self.runs[column]
        if not runs:
            raise ValueError(f"column {column} has no numbered values here")
        return np.concatenate([np.arange(run.start, run.stop) for run in runs])

    def places(self, cube: Cube, column: int) -> NDArray[np.float64]:
        """Returns the places in the unit interval of the values that one of `axes` may have: shape (values,)."""
        return cube.values(column)[self.numbers(column)]

    def units(self, cube: Cube, indexes: NDArray[np.intp]) -> NDArray[np.float64]:
        """Returns encoded configurations.

        Args:
            cube: The space's.
            indexes: Which of its values each of `axes` has: shape (points, axes).

        Returns:
            Shape (points, columns), NaN where inactive, and 0.5 where continuous.
        """
        units = np.full((len(indexes), len(self.runs)), np.nan)
        units[:, self.continuous] = 0.5
        for place, column in enumerate(self.axes):
            units[:, column] = self.places(cube, column)[indexes[:, place]]
        return units

    def locate(self, cube: Cube, units: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Returns which of some encoded configurations are in this branch, and where.

        Args:
            cube: The space's.
            units: Shape (points, columns), NaN where inactive.

        Returns:
            The rows that are here, ascending, shape (rows,), and their indexes along `axes`, shape (rows, axes).
        """
        active = np.array([runs is not None for runs in self.runs], dtype=bool)
        rows = np.flatnonzero((~np.isnan(units) == active).all(axis=1))
        indexes = np.empty((len(rows), len(self.axes)), dtype=np.intp)
        inside = np.ones(len(rows), dtype=bool)
        for place, column in enumerate(self.axes):
            allowed = self.places(cube, column)
            found = np.clip(np.searchsorted(allowed, units[rows, column] - TOLERANCE), 0, len(allowed) - 1)
            inside &= np.abs(allowed[found] - units[rows, column]) < TOLERANCE
            indexes[:, place] = found
        return rows[inside], indexes[inside]


TOLERANCE = 1e-12
"""How far an encoded value may be from its place and still be the same value."""


def branches(space: Space, limit: int) -> list[Branch] | None:
    """Returns the space as disjoint boxes: every configuration is in exactly one of them.

    A parameter on which later ones depend is split into the groups of values that switch on the same of those that
    could still become active.

    Args:
        space: Any.
        limit: The most boxes wanted.

    Returns:
        The boxes, by ascending values of the parents, or None where there would be more than ``limit``.
    """
    found: list[Branch] = []
    for branch in _Walk(space).branches():
        if len(found) == limit:
            return None
        found.append(branch)
    return found


_State = tuple[tuple[Runs | None, ...], frozenset[str], frozenset[int]]
"""The runs of the first columns; the names that have a value; the columns, later ones included, that are inactive."""


class _Walk:
    """Goes through the parameters, parents first, one branch after the other."""

    def __init__(self, space: Space) -> None:
        self._parameters = space.parameters
        self._dependants = [
            [column for column, child in enumerate(space.parameters) if _depends(child, parameter)]
            for parameter in space.parameters
        ]
        last = {parameter.name: column for column, parameter in enumerate(space.parameters)}
        self._is_last = [last[parameter.name] == column for column, parameter in enumerate(space.parameters)]

    def branches(self) -> Iterator[Branch]:
        """Yields the branches, depth first."""
        stack: list[_State] = [((), frozenset(), frozenset())]
        while stack:
            runs, present, ruled_out = stack.pop()
            column = len(runs)
            if column == len(self._parameters):
                yield Branch(runs)
                continue
            parameter = self._parameters[column]
            if column not in ruled_out:
                open_ = [each for each in self._dependants[column] if each not in ruled_out]
                groups = list(self._groups(parameter, open_))
                after = present | {parameter.name}
                stack += [((*runs, group), after, ruled_out | excluded) for group, excluded in reversed(groups)]
            elif self._is_last[column] and parameter.name not in present:
                stack.append(((*runs, None), present, ruled_out | frozenset(self._dependants[column])))
            else:
                stack.append(((*runs, None), present, ruled_out))

    def _groups(self, parameter: Parameter, dependants: list[int]) -> Iterator[tuple[Runs, frozenset[int]]]:
        """Yields the parameter's values in groups, each with the dependants that it rules out."""
        if parameter.count == math.inf:
            yield CONTINUOUS, frozenset()
            return
        wanted = {column: self._wanted(parameter, column) for column in dependants}
        told = sorted(set().union(*wanted.values()))
        groups: dict[frozenset[int], list[range]] = {}
        first = 0
        for number in [*told, int(parameter.count)]:
            if number > first:
                groups.setdefault(frozenset(dependants), []).append(range(first, number))
            if number < parameter.count:
                excluded = frozenset(column for column in dependants if number not in wanted[column])
                groups.setdefault(excluded, []).append(range(number, number + 1))
            first = number + 1
        for excluded, group in groups.items():
            yield _joined(group), excluded

    def _wanted(self, parent: Parameter, column: int) -> set[int]:
        """Returns the numbers of the parent's values for which the conditions on it hold."""
        sets = [
            {number for value in condition.values if (number := _number(parent, value)) is not None}
            for condition in self._parameters[column].conditions
            if condition.parent == parent.name
        ]
        return set.intersection(*sets)


def _depends(child: Parameter, parent: Parameter) -> bool:
    return any(condition.parent == parent.name for condition in child.conditions)


def _joined(runs: list[range]) -> Runs:
    """Returns ascending runs with those that touch made one."""
    joined = runs[:1]
    for run in runs[1:]:
        if run.start == joined[-1].stop:
            joined[-1] = range(joined[-1].start, run.stop)
        else:
            joined.append(run)
    return tuple(joined)


def _number(parameter: Parameter, value: object) -> int | None:
    """Returns the number of ``value``, or None where it belongs to another parameter of the same name."""
    try:
        return parameter.index(parameter.check(value))
    except ValueError:
        return None
