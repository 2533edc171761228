"""The kinds of hyper-parameter, each with its values, its map to the unit interval and back, and its conditions.

Names, arguments and meaning are KerasTuner's (`keras_tuner.HyperParameters`), with this addition: every value that a
parameter can take encodes to its own place in the unit interval and decodes from it, so that a uniform draw there is a
draw from the parameter's prior (of a range of more than about 10^13 values, as many as a double tells apart).
"""

from __future__ import annotations

import abc
import math
import operator
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from hpcompss.errors import InputError, nearest, shown
from hpcompss.trial import Value

__all__ = ["Boolean", "Choice", "Condition", "Fixed", "Float", "Int", "Parameter", "parameter_from_json"]

SAMPLINGS = ("linear", "log", "reverse_log")
ROUNDING = 1e-9
"""How far a number of steps may miss a whole number and still count as one: 0.3 / 0.1 is 2.9999999999999996."""
RESOLUTION = 1e-13
"""How far apart neighbours must be, relative to their size, to stay two values when rounded to 15 digits."""
LARGEST = 1e300
"""The largest bound, and ratio of bounds on a log scale: what is computed from them stays a double."""


@dataclass(frozen=True)
class Condition:
    """A parameter is active only where its parent is active and has one of these values (a lone value may be given).

    Raises:
        InputError: The parent is not a name, or there are no values.
    """

    parent: str
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.parent, str):
            raise InputError(f"a parent is given by its name, not as {shown(self.parent)}")
        given: Any = _plain(self.values)
        several = hasattr(given, "__iter__") and not isinstance(given, str)
        values = tuple(dict.fromkeys(_plain(each) for each in (given if several else [given])))
        if not values:
            raise InputError(f"parent_values of {shown(self.parent)} is empty, so the condition could never hold")
        object.__setattr__(self, "values", values)

    def holds(self, configuration: Mapping[str, Value]) -> bool:
        """Returns whether the parent's value in ``configuration`` is one of those asked for."""
        return self.parent in configuration and configuration[self.parent] in self.values


class Parameter(abc.ABC):
    """A hyper-parameter: immutable, compared by value.

    Args:
        name: Its name in configurations.
        parent_name: The parameter it depends on, if any.
        parent_values: The values of that parent for which it is active.
        conditions: Further conditions; all must hold.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        name: str,
        *,
        parent_name: str | None = None,
        parent_values: Sequence[Value] | Value | None = None,
        conditions: Sequence[Condition] = (),
    ) -> None:
        if not isinstance(name, str) or not name:
            raise InputError(f"a parameter's name is a non-empty string, not {shown(name)}")
        self.name = name
        if (parent_name is None) != (parent_values is None):
            raise self._error("parent_name and parent_values go together")
        own = () if parent_name is None else (Condition(parent_name, parent_values),)  # type: ignore[arg-type]
        self.conditions: tuple[Condition, ...] = (*conditions, *own)
        for each in self.conditions:
            if not isinstance(each, Condition):
                raise self._error(f"its conditions must be Condition(parent, values), not {shown(each)}")

    @property
    @abc.abstractmethod
    def count(self) -> int | float:
        """How many values there are; `math.inf` where it is continuous."""

    @property
    @abc.abstractmethod
    def default(self) -> Value:
        """The value used where nothing else is known."""

    @abc.abstractmethod
    def value(self, index: int) -> Value:
        """Returns the value number ``index`` (from 0, ascending) of a countable parameter."""

    @abc.abstractmethod
    def index(self, value: Value) -> int:
        """Returns the number of ``value``, the inverse of `value`."""

    @abc.abstractmethod
    def check(self, value: Any) -> Value:
        """Returns ``value`` as this parameter's own type. Raises `InputError` where it is not one of its values."""

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """Returns the constructor's arguments, but for name and conditions."""

    def encode(self, value: Value) -> float:
        """Returns the place of ``value`` in the unit interval: the middle of the part that decodes to it."""
        return (self.index(value) + 0.5) / self.count

    def decode(self, unit: float) -> Value:
        """Returns the value at ``unit``, a number in [0, 1]."""
        count = int(self.count)
        return self.value(min(max(int(unit * count), 0), count - 1))

    def to_json(self) -> dict[str, Any]:
        """Returns plain data that `parameter_from_json` reads."""
        data = {"kind": self.kind, "name": self.name, **self.settings()}
        if self.conditions:
            data["conditions"] = [{"parent": each.parent, "values": list(each.values)} for each in self.conditions]
        return data

    def _error(self, message: str) -> InputError:
        return InputError(f"{self.kind} {getattr(self, 'name', '')!r}: {message}")

    def _identity(self) -> tuple[Any, ...]:
        # The repr tells True from 1 and 1 from 1.0, which compare equal.
        return (self.kind, self.name, repr(self.settings()), self.conditions)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parameter) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        arguments = [repr(self.name), *(f"{key}={value!r}" for key, value in self.settings().items())]
        if self.conditions:
            arguments.append(f"conditions={self.conditions!r}")
        return f"{self.kind}({', '.join(arguments)})"


class _Number(Parameter):
    """What Int and Float share: a range, a step and a scale."""

    min_value: float
    max_value: float
    step: float | None

    def _check_range(self, sampling: str | None) -> None:
        if sampling is None:
            sampling = "linear"
        if not isinstance(sampling, str) or sampling.lower() not in SAMPLINGS:
            raise self._error(f"unknown sampling {shown(sampling)}; {nearest(str(sampling), SAMPLINGS)}")
        self.sampling = sampling.lower()
        low, high, step = self.min_value, self.max_value, self.step
        if not (-LARGEST <= low <= LARGEST and -LARGEST <= high <= LARGEST):
            raise self._error(f"its bounds must be finite (at most {LARGEST}), not {low} and {high}")
        if low > high:
            raise self._error(f"min_value {low} is above max_value {high}: swap them")
        if self.sampling != "linear" and low <= 0:
            raise self._error(f"sampling={self.sampling!r} needs min_value above 0, not {low}")
        if self.sampling != "linear" and high / low > LARGEST:
            raise self._error(f"a log scale spans at most a factor of {LARGEST}, not {low} to {high}")
        if step is None:
            return
        if self.sampling == "linear" and not 0 < step < math.inf:
            raise self._error(f"step must be above 0, not {step}")
        if self.sampling != "linear" and not 1 < step < math.inf:
            raise self._error(f"with sampling={self.sampling!r} the step multiplies, so it must be above 1, not {step}")

    def _check_values(self, default: Value | None) -> None:
        """Checks what depends on the number of values."""
        low, high = self.min_value, self.max_value
        if self.step is not None and self.count == 1 and low < high:
            raise self._error(
                f"step {self.step} is larger than the range from {low} to {high}: only one value would remain"
            )
        self._default: Value | None = None if default is None else self._nearest(default)

    def _nearest(self, default: Value) -> Value:
        """Returns the value nearest to a default, which KerasTuner lets lie between two steps."""
        try:
            return self.check(default)
        except InputError as error:
            if self.step is None or isinstance(default, str) or not self.min_value <= default <= self.max_value:
                raise self._error(f"its default is not one of its values ({error.message})") from None
        last = int(self.count) - 1
        index = min(max(self.index(default), 0), last)
        around = [self.value(each) for each in (max(index - 1, 0), index, min(index + 1, last))]
        return min(around, key=lambda value: abs(float(value) - float(default)))

    @property
    def default(self) -> Value:
        if self._default is not None:
            return self._default
        return self.min_value if self.count == math.inf else self.value(0)

    def _at_step(self, number: int, steps: int) -> float:
        """Returns the value after ``number`` steps, ascending for every scale."""
        step = self.step or 1
        if self.sampling == "linear":
            return self.min_value + number * step
        if self.sampling == "log":
            return self.min_value * step**number
        return self.max_value - (self.min_value * step ** (steps - number) - self.min_value)

    def settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {"min_value": self.min_value, "max_value": self.max_value}
        if self.step is not None:
            settings["step"] = self.step
        if self.sampling != "linear":
            settings["sampling"] = self.sampling
        if self._default is not None:
            settings["default"] = self._default
        return settings


class Int(_Number):
    """A whole number between ``min_value`` and ``max_value``, both included.

    Args:
        name: Its name in configurations.
        min_value: The smallest value.
        max_value: The largest value.
        step: The distance between values; with ``sampling="log"`` their ratio.
        sampling: ``"linear"``, ``"log"`` or ``"reverse_log"`` (dense near ``max_value``).
        default: The value where nothing else is known; ``min_value`` unless stated.
        parent_name: The parameter it depends on, if any.
        parent_values: The values of that parent for which it is active.
        conditions: Further conditions; all must hold.

    Raises:
        InputError: The bounds are reversed or not finite, a log range reaches 0, or the step does not fit.
    """

    kind = "Int"
    min_value: int
    max_value: int
    step: int | None

    def __init__(
        self,
        name: str,
        min_value: int,
        max_value: int,
        step: int | None = None,
        sampling: str | None = "linear",
        default: int | None = None,
        parent_name: str | None = None,
        parent_values: Sequence[Value] | Value | None = None,
        *,
        conditions: Sequence[Condition] = (),
    ) -> None:
        super().__init__(name, parent_name=parent_name, parent_values=parent_values, conditions=conditions)
        self.min_value = self._whole("min_value", min_value)
        self.max_value = self._whole("max_value", max_value)
        self.step = None if step is None else self._whole("step", step)
        self._check_range(sampling)
        self._count = self._number_of_values()
        self._check_values(default)

    def _whole(self, argument: str, value: Any) -> int:
        plain = _plain(value)
        if isinstance(plain, float) and plain.is_integer():
            plain = int(plain)
        try:
            whole = operator.index(plain)
        except TypeError:
            whole = None
        if whole is None or isinstance(plain, bool):
            raise self._error(f"{argument} must be a whole number, not {shown(value)}")
        return whole

    def _number_of_values(self) -> int:
        if self.step is None:
            return self.max_value - self.min_value + 1
        if self.sampling == "linear":
            return (self.max_value - self.min_value) // self.step + 1
        count, value = 1, self.min_value * self.step
        while value <= self.max_value:
            count, value = count + 1, value * self.step
        return count

    @property
    def count(self) -> int:
        return self._count

    def value(self, index: int) -> int:
        if self.step is None:
            return self.min_value + index
        return int(self._at_step(index, self._count - 1))

    def index(self, value: Value) -> int:
        if not isinstance(value, int):
            raise self._error(f"{shown(value)} is not a whole number")
        if self.step is None:
            return value - self.min_value
        if self.sampling == "linear":
            return (value - self.min_value) // self.step
        if self.sampling == "log":
            return round(math.log(value / self.min_value, self.step))
        steps = round(math.log((self.max_value + self.min_value - value) / self.min_value, self.step))
        return self._count - 1 - steps

    def check(self, value: Any) -> int:
        whole = self._whole("a value", value)
        if not self.min_value <= whole <= self.max_value:
            raise self._error(f"{whole} is outside {self.min_value} to {self.max_value}")
        index = self.index(whole)
        if not 0 <= index < self._count or self.value(index) != whole:
            raise self._error(f"{whole} is not one of its steps (from {self.min_value}, step {self.step})")
        return whole

    def encode(self, value: Value) -> float:
        if self.step is not None or self.sampling == "linear" or not isinstance(value, int):
            return super().encode(value)
        # Value v owns the part of the log axis from log(v) to log(v + 1), so that no value is rounded away.
        above = value - self.min_value if self.sampling == "log" else self.max_value - value
        along = math.log1p((above + 0.5) / self.min_value) / self._log_span
        return along if self.sampling == "log" else 1 - along

    @property
    def _log_span(self) -> float:
        return math.log1p((self.max_value - self.min_value + 1) / self.min_value)

    def decode(self, unit: float) -> int:
        if self.step is not None or self.sampling == "linear":
            return int(super().decode(unit))
        along = unit if self.sampling == "log" else 1 - unit
        above = int(self.min_value * math.expm1(along * self._log_span))
        above = min(max(above, 0), self.max_value - self.min_value)
        return self.min_value + above if self.sampling == "log" else self.max_value - above


class Float(_Number):
    """A number between ``min_value`` and ``max_value``, both included; continuous unless it has a step.

    Args:
        name: Its name in configurations.
        min_value: The smallest value.
        max_value: The largest value.
        step: The distance between values; with ``sampling="log"`` their ratio; None for a continuous range.
        sampling: ``"linear"``, ``"log"`` or ``"reverse_log"`` (dense near ``max_value``).
        default: The value where nothing else is known; ``min_value`` unless stated.
        parent_name: The parameter it depends on, if any.
        parent_values: The values of that parent for which it is active.
        conditions: Further conditions; all must hold.

    Raises:
        InputError: The bounds are reversed or not finite, a log range reaches 0, or the step does not fit.
    """

    kind = "Float"

    def __init__(
        self,
        name: str,
        min_value: float,
        max_value: float,
        step: float | None = None,
        sampling: str | None = "linear",
        default: float | None = None,
        parent_name: str | None = None,
        parent_values: Sequence[Value] | Value | None = None,
        *,
        conditions: Sequence[Condition] = (),
    ) -> None:
        super().__init__(name, parent_name=parent_name, parent_values=parent_values, conditions=conditions)
        self.min_value = self._number("min_value", min_value)
        self.max_value = self._number("max_value", max_value)
        self.step = None if step is None else self._number("step", step)
        self._check_range(sampling)
        self._last_step = self._steps()
        self._check_values(default)

    def _number(self, argument: str, value: Any) -> float:
        plain = _plain(value)
        if not isinstance(plain, bool | str):
            try:
                return float(plain)
            except (TypeError, ValueError, OverflowError):
                pass
        raise self._error(f"{argument} must be a number, not {shown(value)}")

    def _steps(self) -> int:
        """Returns how many steps fit between the bounds."""
        low, high, step = self.min_value, self.max_value, self.step
        if step is None or low == high:
            return 0
        gap, size = step, max(abs(low), abs(high))
        if self.sampling != "linear":
            gap, size = low * (step - 1), low if self.sampling == "log" else high
        if gap < size * RESOLUTION:
            raise self._error(f"step {step} is too small: values next to each other would be the same number")
        if self.sampling == "linear":
            steps, error = high / step - low / step, size / step
        else:
            steps = error = _log_ratio(high, low) / math.log(step)
        return math.floor(steps + ROUNDING + 4 * sys.float_info.epsilon * error)

    @property
    def count(self) -> int | float:
        if self.min_value == self.max_value:
            return 1
        return math.inf if self.step is None else self._last_step + 1

    def value(self, index: int) -> float:
        # 15 digits are what a double holds for sure: 3 steps of 0.1 are 0.3, not 0.30000000000000004.
        value = float(f"{self._at_step(index, self._last_step):.15g}")
        return min(max(value, self.min_value), self.max_value)

    def index(self, value: Value) -> int:
        number = float(value)
        if self.step is None:
            return 0
        if self.sampling == "linear":
            return round((number - self.min_value) / self.step)
        if self.sampling == "log":
            return round(_log_ratio(number, self.min_value) / math.log(self.step))
        return self._last_step - round(_log_ratio(self._mirrored(number), self.min_value) / math.log(self.step))

    def _mirrored(self, number: float) -> float:
        """Returns the number on the other side of the range's middle."""
        return min(self.max_value - number + self.min_value, self.max_value)

    def check(self, value: Any) -> float:
        number = self._number("a value", value)
        if not self.min_value <= number <= self.max_value:
            raise self._error(f"{number} is outside {self.min_value} to {self.max_value}")
        if self.count == math.inf:
            return number
        index = min(max(self.index(number), 0), self._last_step)
        exact = self.value(index)
        if not math.isclose(number, exact, rel_tol=ROUNDING, abs_tol=(self.step or 0) * ROUNDING):
            raise self._error(f"{number} is not one of its steps (from {self.min_value}, step {self.step})")
        return exact

    def encode(self, value: Value) -> float:
        if self.count != math.inf:
            return super().encode(value)
        number = float(value)
        if self.sampling == "linear":
            return (number - self.min_value) / (self.max_value - self.min_value)
        span = _log_ratio(self.max_value, self.min_value)
        if self.sampling == "log":
            return _log_ratio(number, self.min_value) / span
        return 1 - _log_ratio(self._mirrored(number), self.min_value) / span

    def decode(self, unit: float) -> float:
        if self.count != math.inf:
            return float(super().decode(unit))
        if self.sampling == "linear":
            number = self.min_value * (1 - unit) + self.max_value * unit
        else:
            along = unit if self.sampling == "log" else 1 - unit
            span = _log_ratio(self.max_value, self.min_value)
            number = self.min_value + self.min_value * math.expm1(along * span)
            if self.sampling == "reverse_log":
                number = self._mirrored(number)
        return min(max(number, self.min_value), self.max_value)


class Choice(Parameter):
    """One of a list of values of one type.

    Args:
        name: Its name in configurations.
        values: The values: all int, all float, all str or all bool (int and float together become float).
        ordered: Whether their order means something; True for numbers unless stated, False for all else.
        default: The value where nothing else is known; the first unless stated.
        parent_name: The parameter it depends on, if any.
        parent_values: The values of that parent for which it is active.
        conditions: Further conditions; all must hold.

    Raises:
        InputError: The list is empty, mixes types, or repeats a value.
    """

    kind = "Choice"

    def __init__(
        self,
        name: str,
        values: Sequence[Value],
        ordered: bool | None = None,
        default: Value | None = None,
        parent_name: str | None = None,
        parent_values: Sequence[Value] | Value | None = None,
        *,
        conditions: Sequence[Condition] = (),
    ) -> None:
        super().__init__(name, parent_name=parent_name, parent_values=parent_values, conditions=conditions)
        self.values = self._of_one_type(values)
        self._index = {each: number for number, each in enumerate(self.values)}
        if len(self._index) < len(self.values):
            twice = next(each for each in self.values if self.values.count(each) > 1)
            raise self._error(f"{twice!r} is in its values twice")
        numeric = not isinstance(self.values[0], str | bool)
        if ordered and not numeric:
            raise self._error("only numbers can be ordered=True")
        self.ordered = numeric if ordered is None else bool(ordered)
        self._default = None if default is None else self.check(default)

    def _of_one_type(self, values: Sequence[Value]) -> tuple[Value, ...]:
        if isinstance(values, str) or not hasattr(values, "__iter__"):
            raise self._error(f"values must be a list, not {shown(values)}")
        items = [_plain(each) for each in values]
        if not items:
            raise self._error("values is empty: give at least one")
        types = {type(each) for each in items}
        if types == {int, float}:
            items, types = [math.inf if abs(each) > LARGEST else float(each) for each in items], {float}
        if len(types) > 1 or not types <= {int, float, str, bool}:
            raise self._error(f"its values must be all int, all float, all str or all bool, not {shown(items)}")
        if types == {float} and not all(math.isfinite(float(each)) for each in items):
            raise self._error("its values must be finite")
        return tuple(items)

    @property
    def count(self) -> int:
        return len(self.values)

    @property
    def default(self) -> Value:
        return self.values[0] if self._default is None else self._default

    def value(self, index: int) -> Value:
        return self.values[index]

    def index(self, value: Value) -> int:
        return self._index[value]

    def check(self, value: Any) -> Value:
        plain = _plain(value)
        if isinstance(plain, bool) == isinstance(self.values[0], bool):
            try:
                return self.values[self._index[plain]]
            except (KeyError, TypeError):
                pass
        raise self._error(f"{shown(value)} is not one of {list(self.values)!r}")

    def settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {"values": list(self.values)}
        if not self.ordered and not isinstance(self.values[0], str | bool):
            settings["ordered"] = False
        if self._default is not None:
            settings["default"] = self._default
        return settings


class Boolean(Parameter):
    """True or False.

    Args:
        name: Its name in configurations.
        default: The value where nothing else is known.
        parent_name: The parameter it depends on, if any.
        parent_values: The values of that parent for which it is active.
        conditions: Further conditions; all must hold.
    """

    kind = "Boolean"

    def __init__(
        self,
        name: str,
        default: bool = False,
        parent_name: str | None = None,
        parent_values: Sequence[Value] | Value | None = None,
        *,
        conditions: Sequence[Condition] = (),
    ) -> None:
        super().__init__(name, parent_name=parent_name, parent_values=parent_values, conditions=conditions)
        self._default = self.check(default)

    @property
    def count(self) -> int:
        return 2

    @property
    def default(self) -> bool:
        return self._default

    def value(self, index: int) -> bool:
        return bool(index)

    def index(self, value: Value) -> int:
        return int(value)

    def check(self, value: Any) -> bool:
        plain = _plain(value)
        if isinstance(plain, bool):
            return plain
        raise self._error(f"{shown(value)} is neither true nor false")

    def settings(self) -> dict[str, Any]:
        return {"default": True} if self._default else {}


class Fixed(Parameter):
    """One value that does not vary but belongs to the configuration.

    Args:
        name: Its name in configurations.
        value: The value.
        parent_name: The parameter it depends on, if any.
        parent_values: The values of that parent for which it is active.
        conditions: Further conditions; all must hold.
    """

    kind = "Fixed"

    def __init__(
        self,
        name: str,
        value: Value,
        parent_name: str | None = None,
        parent_values: Sequence[Value] | Value | None = None,
        *,
        conditions: Sequence[Condition] = (),
    ) -> None:
        super().__init__(name, parent_name=parent_name, parent_values=parent_values, conditions=conditions)
        self._value: Value = _plain(value)
        finite = not isinstance(self._value, float) or math.isfinite(self._value)
        if not isinstance(self._value, int | float | str | bool) or not finite:
            raise self._error(f"its value must be a finite number, a string or a boolean, not {shown(value)}")

    @property
    def count(self) -> int:
        return 1

    @property
    def default(self) -> Value:
        return self._value

    def value(self, index: int) -> Value:
        return self._value

    def index(self, value: Value) -> int:
        return 0

    def check(self, value: Any) -> Value:
        if type(_plain(value)) is type(self._value) and _plain(value) == self._value:
            return self._value
        raise self._error(f"it is fixed to {self._value!r}, not {shown(value)}")

    def settings(self) -> dict[str, Any]:
        return {"value": self._value}


KINDS: dict[str, type[Parameter]] = {each.kind: each for each in (Int, Float, Choice, Boolean, Fixed)}


def parameter_from_json(data: dict[str, Any]) -> Parameter:
    """Returns the parameter that `Parameter.to_json` wrote."""
    arguments = dict(data)
    kind = KINDS[arguments.pop("kind")]
    conditions = [Condition(each["parent"], tuple(each["values"])) for each in arguments.pop("conditions", ())]
    return kind(arguments.pop("name"), **arguments, conditions=conditions)


def _plain(value: Any) -> Any:
    """Returns a NumPy scalar as Python's own type, anything else as it is."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def _log_ratio(high: float, low: float) -> float:
    """Returns log(high / low), which for neighbouring numbers is not 0."""
    return math.log1p((high - low) / low)
