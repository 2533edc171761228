"""The space of all configurations: ordered parameters and the conditions between them."""

from __future__ import annotations

import copy
import graphlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcompss.errors import InputError, nearest, shown
from hpcompss.space.enumeration import Lattice, parents_first
from hpcompss.space.parameters import Condition, Parameter, parameter_from_json
from hpcompss.trial import Configuration, Value

__all__ = ["Key", "Space"]

Key = tuple[Value | None, ...]
"""A configuration as one hashable value."""


class Space:
    """Every configuration that may be tried.

    Parents stand before their children, else the order is the one given. A name may stand more than once where the
    conditions exclude each other (``units`` of one model or of another); at most one of them is then active.

    Args:
        parameters: What may vary.

    Raises:
        InputError: A name is declared twice, a parent is unknown or continuous, has no such value, or depends on its
            own child.
    """

    def __init__(self, parameters: Iterable[Parameter]) -> None:
        given = tuple(parameters)
        for each in given:
            if not isinstance(each, Parameter):
                raise InputError(
                    f"a space is made of parameters (Int, Float, Choice, Boolean, Fixed), not {shown(each)}"
                )
        by_name: dict[str, list[Parameter]] = {}
        for each in given:
            by_name.setdefault(each.name, []).append(each)
        related = [_with_checked_conditions(each, by_name) for each in given]
        _check_circles(related)
        self.parameters: tuple[Parameter, ...] = tuple(parents_first(related))
        self.names: tuple[str, ...] = tuple(dict.fromkeys(each.name for each in self.parameters))
        if len(self.names) < len(self.parameters):
            self._check_names()

    def __len__(self) -> int:
        """Returns the number of parameters, which is the number of columns of an encoded configuration."""
        return len(self.parameters)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.parameters == other.parameters

    def __hash__(self) -> int:
        return hash(self.parameters)

    def __repr__(self) -> str:
        return f"Space([{', '.join(map(repr, self.parameters))}])"

    # Configurations

    @property
    def default(self) -> Configuration:
        """The configuration of every active parameter's default."""
        configuration: Configuration = {}
        for parameter in self._active(configuration):
            configuration[parameter.name] = parameter.default
        return configuration

    def sample(self, generator: np.random.Generator) -> Configuration:
        """Returns a random configuration: each active parameter drawn from its own scale, parents first."""
        configuration: Configuration = {}
        units = generator.random(len(self.parameters)).tolist()
        for parameter, unit in zip(self.parameters, units, strict=True):
            if all(condition.holds(configuration) for condition in parameter.conditions):
                configuration[parameter.name] = parameter.decode(unit)
        return configuration

    def validate(self, configuration: Mapping[str, Any]) -> Configuration:
        """Returns ``configuration`` in the space's order and types.

        Raises:
            InputError: It has an unknown name or a value outside its parameter, lacks an active parameter, or states an
                inactive one.
        """
        for name in configuration:
            if name not in self.names:
                raise InputError(f"the space has no parameter {name!r}; {nearest(str(name), self.names)}")
        checked: Configuration = {}
        for parameter in self._active(checked):
            if parameter.name not in configuration:
                raise InputError(f"the configuration lacks {parameter.name!r}")
            checked[parameter.name] = parameter.check(configuration[parameter.name])
        for name in configuration:
            if name not in checked:
                raise InputError(f"{name!r} is not active in this configuration: leave it out")
        return checked

    def completed(self, configuration: Mapping[str, Any]) -> Configuration:
        """Returns the active parameters with their values in ``configuration``, else their defaults.

        Other names are left out. Raises `InputError` for a value outside its parameter, the key being its name.
        """
        complete: Configuration = {}
        for parameter in self._active(complete):
            name = parameter.name
            try:
                complete[name] = parameter.check(configuration[name]) if name in configuration else parameter.default
            except InputError as error:
                raise InputError(error.message, key=name) from None
        return complete

    def key(self, configuration: Mapping[str, Value]) -> Key:
        """Returns a hashable value that two configurations share exactly where they are the same."""
        return tuple(configuration.get(name) for name in self.names)

    def encode(self, configuration: Mapping[str, Value]) -> NDArray[np.float64]:
        """Returns the configuration's place in the unit cube: shape (len(self),), NaN where inactive."""
        unit = np.full(len(self.parameters), np.nan)
        seen: Configuration = {}
        for column, parameter in enumerate(self.parameters):
            if all(condition.holds(seen) for condition in parameter.conditions):
                seen[parameter.name] = configuration[parameter.name]
                unit[column] = parameter.encode(configuration[parameter.name])
        return unit

    def decode(self, unit: Sequence[float] | NDArray[np.float64]) -> Configuration:
        """Returns the configuration at a place in the unit cube, shape (len(self),); inactive columns are ignored."""
        configuration: Configuration = {}
        for parameter, place in zip(self.parameters, np.asarray(unit, dtype=float).tolist(), strict=True):
            if all(condition.holds(configuration) for condition in parameter.conditions):
                configuration[parameter.name] = parameter.decode(place)
        return configuration

    # Combinations

    @property
    def is_finite(self) -> bool:
        """Whether it has finitely many configurations."""
        return all(parameter.count != math.inf for parameter in self.parameters)

    @property
    def count(self) -> int | float:
        """How many configurations there are, exactly; `math.inf` where a parameter is continuous."""
        return self.lattice.count if self.is_finite else math.inf

    @cached_property
    def lattice(self) -> Lattice:
        """The numbering of a finite space's combinations, the last parameter varying fastest."""
        return self._lattice(self.parameters)

    def combination(self, number: int) -> Configuration:
        """Returns combination ``number`` (from 0) of a finite space. Raises `IndexError` outside it."""
        return self.lattice.combination(number)

    def combinations(self) -> Iterator[Configuration]:
        """Yields every combination of a finite space, one at a time."""
        lattice = self.lattice
        for number in range(lattice.count):
            yield lattice.combination(number)

    def reordered(self, names: Sequence[str]) -> Lattice:
        """Returns a numbering in which the parameters named vary slowest, the first of them the slowest.

        A child still comes right behind its last parent. Raises `InputError` for an unknown name.
        """
        for name in names:
            if name not in self.names:
                raise InputError(f"the space has no parameter {name!r}; {nearest(name, self.names)}")
        rank = {name: place for place, name in enumerate(names)}
        by_rank = sorted(self.parameters, key=lambda parameter: rank.get(parameter.name, len(rank)))
        return self._lattice(by_rank)

    # Plain data

    def to_json(self) -> list[dict[str, Any]]:
        """Returns plain data that `from_json` reads."""
        return [parameter.to_json() for parameter in self.parameters]

    @classmethod
    def from_json(cls, data: Sequence[dict[str, Any]]) -> Space:
        """Returns the space that `to_json` wrote."""
        return cls(parameter_from_json(each) for each in data)

    # Inside

    def _active(self, configuration: Configuration) -> Iterator[Parameter]:
        """Yields the active parameters; the caller fills ``configuration`` as they come."""
        for parameter in self.parameters:
            if all(condition.holds(configuration) for condition in parameter.conditions):
                yield parameter

    def _lattice(self, parameters: Sequence[Parameter]) -> Lattice:
        for parameter in parameters:
            if parameter.count == math.inf:
                raise InputError(
                    f"{parameter.name!r} is continuous, so its combinations cannot be listed: give it a step"
                )
        return Lattice(parents_first(parameters, adjacent=True), self.names)

    def _check_names(self) -> None:
        allowed: dict[str, list[dict[str, set[Value]]]] = {}
        for parameter in self.parameters:
            needs = _needs(parameter, allowed)
            for other in allowed.get(parameter.name, []):
                if not any(name in other and not (values & other[name]) for name, values in needs.items()):
                    raise InputError(
                        f"{parameter.name!r} is declared twice, and no condition keeps the two apart: "
                        "give one of them another name"
                    )
            allowed.setdefault(parameter.name, []).append(needs)


def _with_checked_conditions(child: Parameter, by_name: Mapping[str, Sequence[Parameter]]) -> Parameter:
    """Returns ``child`` with its conditions' values as its parents have them, so that they compare equal."""
    conditions = []
    for condition in child.conditions:
        if condition.parent not in by_name:
            raise InputError(
                f"{child.name!r} depends on {condition.parent!r}, which is not in the space; "
                + nearest(condition.parent, by_name)
            )
        parents = by_name[condition.parent]
        values = [checked for value in condition.values for checked in _parent_values(child, parents, value)]
        conditions.append(Condition(condition.parent, tuple(values)))
    twin = copy.copy(child)
    twin.conditions = tuple(dict.fromkeys(conditions))
    return twin


def _parent_values(child: Parameter, parents: Sequence[Parameter], value: Value) -> list[Value]:
    """Returns ``value`` as those of the parents, all of one name, have it that can."""
    if any(parent.count == math.inf for parent in parents):
        raise InputError(f"{child.name!r} depends on {parents[0].name!r}, which is continuous: give that one a step")
    if len({isinstance(parent.default, bool) for parent in parents}) > 1:
        raise InputError(
            f"{child.name!r} depends on {parents[0].name!r}, which is a boolean in one place and not in another: "
            "give one of them another name"
        )
    values, errors = [], []
    for parent in parents:
        try:
            values.append(parent.check(value))
        except InputError as error:
            errors.append(error.message)
    if not values:
        raise InputError(f"{child.name!r} depends on a value its parent cannot have: {errors[0]}")
    return values


def _check_circles(parameters: Sequence[Parameter]) -> None:
    parents: dict[str, set[str]] = {}
    for parameter in parameters:
        parents.setdefault(parameter.name, set()).update(condition.parent for condition in parameter.conditions)
    try:
        graphlib.TopologicalSorter(parents).prepare()
    except graphlib.CycleError as error:
        names = ", ".join(map(repr, error.args[1][1:]))
        raise InputError(f"the conditions of {names} go round in a circle: break it by removing one") from None


def _needs(parameter: Parameter, known: Mapping[str, list[dict[str, set[Value]]]]) -> dict[str, set[Value]]:
    """Returns the values that ancestors must have for ``parameter`` to be active, as far as they are certain."""
    needs: dict[str, set[Value]] = {}
    for condition in parameter.conditions:
        above = known[condition.parent]
        certain = [(condition.parent, set(condition.values))]
        for name in set.intersection(*(set(each) for each in above)):
            certain.append((name, set.union(*(each[name] for each in above))))
        for name, values in certain:
            needs[name] = needs[name] & values if name in needs else values
    return needs
