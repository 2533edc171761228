"""Fixes and narrows the parameters of a declared space, as the workflow states in ``search.space``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcompss.errors import InputError, nearest, shown
from hpcompss.space.branches import branches
from hpcompss.space.parameters import Choice, Condition, Fixed, Float, Int, Parameter
from hpcompss.space.space import Space
from hpcompss.trial import Value

__all__ = ["KEY", "Narrowing", "check_entries", "narrowed"]

KEY = "search.space"
"""Where a workflow states it."""

SETTINGS = ("fixed", "values", "min_value", "max_value", "step", "default", "type")

MAX_BRANCHES = 4096
"""The most branches of a space in which parameters are looked for that can never be active."""

ROUNDING = 1e-9
"""How far the quotient of two steps may miss a whole number."""


@dataclass(frozen=True)
class Narrowing:
    """A narrowed space.

    Attributes:
        space: What may vary now; each of its configurations is valid in the declared space.
        notes: What the user should know, such as parameters that were left out.
    """

    space: Space
    notes: tuple[str, ...] = ()


def check_entries(entries: Any) -> None:
    """Checks the form of the entries, as far as that is possible without the space.

    Raises:
        InputError: They are not a mapping of names to settings; its key is that of the entry.
    """
    if not isinstance(entries, Mapping):
        raise InputError(f"must be a mapping such as {{units: {{fixed: 64}}}}, not {shown(entries)}", key=KEY)
    for name, entry in entries.items():
        if not isinstance(name, str):
            raise InputError(f"a parameter's name is text: put {name} into quotation marks", key=KEY)
        key = f"{KEY}.{name}"
        if not isinstance(entry, Mapping) or not entry:
            example = f"{{fixed: {entry}}}" if isinstance(entry, str | int | float) else "{fixed: 64}"
            raise InputError(f"must be a mapping such as {example} or {{min_value: 1, max_value: 8}}", key=key)
        for setting, value in entry.items():
            if setting not in SETTINGS:
                hint = nearest(str(setting), SETTINGS)
                raise InputError(f"unknown key {setting!r}; {hint}", key=f"{key}.{setting}")
            if value is None:
                raise InputError("has no value: state one, or leave the key out", key=f"{key}.{setting}")
        for single in ("fixed", "values"):
            others = [each for each in entry if each not in (single, "type", *(["default"] * (single == "values")))]
            if single in entry and others:
                raise InputError(f"{single} leaves no room for {others[0]}: state one of them", key=key)
        if "values" in entry and (isinstance(entry["values"], str) or not isinstance(entry["values"], Sequence)):
            raise InputError(f"must be a list of values, not {shown(entry['values'])}", key=f"{key}.values")
        if "values" in entry and not entry["values"]:
            raise InputError("is empty: give at least one value", key=f"{key}.values")


def narrowed(space: Space, entries: Mapping[str, Any]) -> Narrowing:
    """Returns a space with some of its parameters fixed or narrowed.

    An entry applies to every parameter of its name. A parameter that can never be active any more is left out.

    Args:
        space: The declared space.
        entries: For each name ``fixed``, or ``values``, or some of ``min_value``, ``max_value``, ``step``, and
            ``default``. A range keeps those of its declared values that lie between the bounds.

    Raises:
        InputError: A name is not in the space, or an entry states what was not declared; its key is the entry's.
    """
    check_entries(entries)
    for name in entries:
        if name not in space.names:
            raise InputError(f"the space has no parameter {name!r}; {nearest(name, space.names)}", key=f"{KEY}.{name}")
    living: list[Parameter] = []
    for parameter in space.parameters:  # parents first
        reduced = _with_possible_conditions(parameter, living)
        if reduced is not None:
            twins = [each for each in space.parameters if each.name == parameter.name]
            entry = entries.get(parameter.name)
            living.append(reduced if entry is None else _narrowed(reduced, entry, twins))
    active = _active(living)
    left_out = [name for name in space.names if name not in active.names]
    notes = []
    if left_out:
        causes = " and ".join(map(repr, _causes(space, entries, left_out)))
        verb = "is never active" if len(left_out) == 1 else "are never active"
        why = f" as {KEY} narrows {causes}" if causes else ""
        notes.append(f"left out of the space: {', '.join(map(repr, left_out))} {verb}{why}")
    for name in left_out:
        if name in entries:
            _check_somewhere(space, name, entries[name])
            notes.append(f"{KEY}.{name} has no effect")
    return Narrowing(active, tuple(notes))


# Conditions


def _with_possible_conditions(child: Parameter, parents: Sequence[Parameter]) -> Parameter | None:
    """Returns a parameter whose conditions name only values that parents can have; None if one can never hold."""
    conditions = []
    for condition in child.conditions:
        own = [each for each in parents if each.name == condition.parent]
        values = tuple(value for value in condition.values if any(_has(each, value) for each in own))
        if not values:
            return None
        conditions.append(Condition(condition.parent, values))
    return _rebuilt(child, conditions)


def _active(parameters: Sequence[Parameter]) -> Space:
    """Returns the space of those parameters that some configuration has."""
    while True:
        space = Space(parameters)
        boxes = branches(space, MAX_BRANCHES)
        if boxes is None:
            return space  # what is never active does no harm
        present = {column for box in boxes for column, runs in enumerate(box.runs) if runs is not None}
        if len(present) == len(space):
            return space
        living: list[Parameter] = []
        for column, parameter in enumerate(space.parameters):
            reduced = _with_possible_conditions(parameter, living) if column in present else None
            living += [] if reduced is None else [reduced]
        parameters = living


def _causes(space: Space, entries: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Returns which of the entries are about ancestors of some parameters."""
    above, ancestors = set(names), set[str]()
    while above:
        parents = {each.parent for p in space.parameters if p.name in above for each in p.conditions}
        above = parents - ancestors
        ancestors |= parents
    return [name for name in entries if name in ancestors]


def _has(parameter: Parameter, value: Value) -> bool:
    try:
        parameter.check(value)
    except InputError:
        return False
    return True


def _rebuilt(parameter: Parameter, conditions: Sequence[Condition]) -> Parameter:
    return type(parameter)(parameter.name, **parameter.settings(), conditions=conditions)


# Values


def _check_somewhere(space: Space, name: str, entry: Mapping[str, Any]) -> None:
    """Checks an entry against the declared parameters of a name, one of which must allow it."""
    twins = [each for each in space.parameters if each.name == name]
    errors = []
    for twin in twins:
        try:
            _narrowed(twin, entry, twins)
            return
        except InputError as error:
            errors.append(error)
    raise errors[0]


def _narrowed(parameter: Parameter, entry: Mapping[str, Any], twins: Sequence[Parameter]) -> Parameter:
    """Returns what an entry leaves of a parameter.

    Args:
        parameter: The parameter, its conditions reduced.
        entry: What is stated of its name.
        twins: All declared parameters of that name.
    """
    key = f"{KEY}.{parameter.name}"
    stated = {setting: each.item() if hasattr(each, "item") else each for setting, each in entry.items()}
    kind = stated.pop("type", parameter.kind)
    if kind != parameter.kind:
        raise InputError(
            f"{parameter.name!r} is declared as {parameter.kind}, not as {kind}; {{fixed: ...}} fixes a value",
            key=f"{key}.type",
        )
    try:
        if "fixed" in stated:
            return Fixed(parameter.name, parameter.check(stated["fixed"]), conditions=parameter.conditions)
        if "values" in stated:
            values = _listed(parameter, stated["values"], twins)
        elif isinstance(parameter, Int | Float):
            return _as_fixed(_narrowed_range(parameter, stated, twins))
        elif isinstance(parameter, Choice) and parameter.ordered:
            values = _between(parameter, stated, twins)
        else:
            values = [parameter.value(index) for index in range(int(parameter.count))]
            for setting in stated:
                if setting != "default":
                    hint = "fixed or values" if isinstance(parameter, Choice) else "fixed"
                    raise _OutsideError(f"a {parameter.kind} has no {setting}: state {hint}", setting)
        return _as_fixed(_of_values(parameter, values, stated.get("default")))
    except _OutsideError as error:
        setting = f".{error.setting}" if error.setting in stated else ""
        raise InputError(f"{error.message}{_where(parameter, twins)}", key=f"{key}{setting}") from None
    except InputError as error:
        setting = next((each for each in ("fixed", "default", "step") if each in stated), "")
        message = f"{error.message}{_where(parameter, twins)}"
        raise InputError(message, key=f"{key}.{setting}" if setting else key) from None


class _OutsideError(InputError):
    """An entry does not fit the declared parameter; names the setting."""

    def __init__(self, message: str, setting: str) -> None:
        super().__init__(message)
        self.setting = setting


def _where(parameter: Parameter, twins: Sequence[Parameter]) -> str:
    """Returns, in words, which of several parameters of one name is meant; empty for the only one."""
    if len(twins) == 1 or not parameter.conditions:
        return ""
    told = [f"{each.parent} is {' or '.join(map(str, each.values))}" for each in parameter.conditions]
    return f" (where {' and '.join(told)}: narrow {parameter.conditions[0].parent!r} too, or widen this)"


def _listed(parameter: Parameter, stated: Sequence[Any], twins: Sequence[Parameter]) -> list[Value]:
    """Returns those of the values stated that the parameter has, in the declared order; each must be a twin's."""
    for value in stated:
        if not any(_has(twin, value) for twin in twins):
            try:
                twins[0].check(value)
            except InputError as error:
                raise _OutsideError(error.message, "values") from None
    values = [parameter.check(value) for value in stated if _has(parameter, value)]
    if not values:
        raise _OutsideError(f"none of {shown(list(stated))} is a value of {parameter.name!r}", "values")
    for value in values:
        if values.count(value) > 1:
            raise _OutsideError(f"{shown(value)} is stated twice", "values")
    return sorted(values, key=parameter.index if parameter.count != math.inf else float)


def _of_values(parameter: Parameter, values: Sequence[Value], default: Any) -> Parameter:
    """Returns a parameter with some of the declared values."""
    if default is None:
        declared = parameter.settings().get("default")
        default = declared if declared in values else None
    elif (default := parameter.check(default)) not in values:
        raise _OutsideError(f"{default!r} is not one of the values that are left, {list(values)!r}", "default")
    if isinstance(parameter, Fixed):
        return parameter
    if len(values) == parameter.count:
        settings = {**parameter.settings(), **({} if default is None else {"default": default})}
        return type(parameter)(parameter.name, **settings, conditions=parameter.conditions)
    ordered = parameter.ordered if isinstance(parameter, Choice) else isinstance(parameter, Int | Float)
    return Choice(parameter.name, values, ordered, default, conditions=parameter.conditions)


def _as_fixed(parameter: Parameter) -> Parameter:
    """Returns a parameter that has one value left as `Fixed`."""
    if parameter.count != 1:
        return parameter
    return Fixed(parameter.name, parameter.value(0), conditions=parameter.conditions)


def _bounds(
    parameter: Parameter, stated: Mapping[str, Any], twins: Sequence[Parameter], least: float, most: float
) -> tuple[float, float]:
    """Returns the bounds that an entry and a parameter have in common.

    Args:
        parameter: The parameter.
        stated: The entry.
        twins: All of its name: what is stated must lie within the range of all of them.
        least: The smallest declared value of the parameter.
        most: Its largest.
    """
    low, high = stated.get("min_value", least), stated.get("max_value", most)
    spans = [_span(twin) for twin in twins if _is_number(twin)]
    widest = min(span[0] for span in spans), max(span[1] for span in spans)
    for setting, bound in (("min_value", low), ("max_value", high)):
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
            raise _OutsideError(f"must be a finite number, not {shown(bound)}", setting)
        if not widest[0] <= bound <= widest[1]:
            declared = f"{widest[0]:.10g} to {widest[1]:.10g}"
            message = f"{bound:.10g} is outside the declared range of {parameter.name!r}, {declared}"
            raise _OutsideError(message, setting)
    if low > high:
        raise _OutsideError(f"min_value {low:.10g} is above max_value {high:.10g}: no value is left", "min_value")
    return max(low, least), min(high, most)


def _is_number(parameter: Parameter) -> bool:
    """Returns whether all values of a parameter are ordered numbers."""
    return isinstance(parameter, Int | Float) or (isinstance(parameter, Choice) and parameter.ordered)


def _span(parameter: Parameter) -> tuple[float, float]:
    """Returns the smallest and the largest declared bound of a parameter."""
    if isinstance(parameter, Int | Float):
        return parameter.min_value, parameter.max_value
    values = [float(parameter.value(index)) for index in range(int(parameter.count))]
    return min(values), max(values)


def _between(parameter: Choice, stated: Mapping[str, Any], twins: Sequence[Parameter]) -> list[Value]:
    """Returns the values of a choice of numbers that lie between the bounds stated."""
    if "step" in stated:
        raise _OutsideError("a Choice has no step: state values", "step")
    low, high = _bounds(parameter, stated, twins, *_span(parameter))
    values = [value for value in parameter.values if low <= float(value) <= high]
    if not values:
        raise _OutsideError(f"no value of {parameter.name!r} lies between {low:.10g} and {high:.10g}", "min_value")
    return values


def _narrowed_range(parameter: Int | Float, stated: Mapping[str, Any], twins: Sequence[Parameter]) -> Parameter:
    """Returns a range with those of the declared values that lie between the bounds, every so many of them."""
    low, high = _bounds(parameter, stated, twins, parameter.min_value, parameter.max_value)
    whole = isinstance(parameter, Int)
    for setting, bound in (("min_value", low), ("max_value", high)):
        if whole and bound != int(bound):
            raise _OutsideError(f"must be a whole number, not {shown(bound)}", setting)
    every = _every(parameter, stated["step"]) if "step" in stated else 1
    step = stated.get("step", parameter.step)
    default = _default(parameter, stated.get("default"), low, high)
    if parameter.step is None:
        if low > high:
            raise _OutsideError(f"no value of {parameter.name!r} lies between the bounds", "min_value")
        return _range(parameter, low, high, step, default)
    first, last = _numbers_between(parameter, low, high)
    if first > last:
        raise _OutsideError(
            f"no value of {parameter.name!r} lies between {low:.10g} and {high:.10g} (step {parameter.step:.10g} from "
            f"{parameter.min_value:.10g})",
            "min_value" if "min_value" in stated else "max_value",
        )
    if every > 1 and first + every > last:
        raise _OutsideError(f"step {stated['step']:.10g} is larger than the range: only one value would remain", "step")
    numbers = range(first, last + 1, every)
    if len(numbers) == 1:
        return Fixed(parameter.name, parameter.value(first), conditions=parameter.conditions)
    ends = parameter.value(numbers[0]), parameter.value(numbers[-1])
    default = default if default is not None and (parameter.index(default) - first) % every == 0 else None
    if stated.get("default") is not None and default is None:
        raise _OutsideError(f"{shown(stated['default'])} is not one of the values that are left", "default")
    if parameter.sampling != "reverse_log" and (plain := _range(parameter, *ends, step, default)).count == len(numbers):
        whole = isinstance(plain, Int)
        if whole or all(plain.value(index) == parameter.value(number) for index, number in enumerate(numbers)):
            return plain
    # The steps of reverse_log depend on both ends, and those of floats may be rounded otherwise from another start.
    values = [parameter.value(number) for number in numbers]
    return Choice(parameter.name, values, True, default, conditions=parameter.conditions)


def _range(parameter: Int | Float, low: Any, high: Any, step: Any, default: Any) -> Parameter:
    arguments: dict[str, Any] = {"step": step, "sampling": parameter.sampling, "default": default}
    arguments["conditions"] = parameter.conditions
    if isinstance(parameter, Int):
        return Int(parameter.name, int(low), int(high), **arguments)
    return Float(parameter.name, low, high, **arguments)


def _default(parameter: Int | Float, stated: Any, low: float, high: float) -> Value | None:
    """Returns the default stated, or the declared one where it is still there."""
    if stated is not None:
        default = parameter.check(stated)
        if not low <= float(default) <= high:
            raise _OutsideError(f"{shown(default)} is not between {low:.10g} and {high:.10g}", "default")
        return default
    declared = parameter.settings().get("default")
    return declared if declared is not None and low <= float(declared) <= high else None


def _every(parameter: Int | Float, step: Any) -> int:
    """Returns how many declared steps one step stated is.

    A range without steps takes any, as its own kind checks it; whole numbers do so where steps add.
    """
    if isinstance(step, bool) or not isinstance(step, int | float):
        raise _OutsideError(f"must be a number, not {shown(step)}", "step")
    if parameter.step is None:
        return 1
    linear = parameter.sampling == "linear"
    if step <= (0 if linear else 1):
        raise _OutsideError(f"must be above {0 if linear else 1}, not {shown(step)}", "step")
    ratio = step / parameter.step if linear else math.log(step) / math.log(parameter.step)
    if ratio < 0.5 or abs(ratio - round(ratio)) > ROUNDING * max(1.0, ratio):
        relation = "multiple" if linear else "power"
        raise _OutsideError(f"{shown(step)} is no {relation} of the declared step {parameter.step!r}", "step")
    return round(ratio)


def _numbers_between(parameter: Int | Float, low: float, high: float) -> tuple[int, int]:
    """Returns the numbers of the first and the last declared value within bounds; the first is larger if none is."""
    count = int(parameter.count)
    tolerance = ROUNDING * max(abs(low), abs(high)) if isinstance(parameter, Float) else 0.0

    def first_at_least(bound: float) -> int:
        begin, end = 0, count
        while begin < end:
            middle = (begin + end) // 2
            begin, end = (middle + 1, end) if float(parameter.value(middle)) < bound else (begin, middle)
        return begin

    return first_at_least(low - tolerance), first_at_least(math.nextafter(high + tolerance, math.inf)) - 1
