"""The `hp` object of `build(hp)`: it hands out a configuration's values, and by calling the function finds the space.

The interface is KerasTuner's `HyperParameters`, so that its functions run unchanged. A space is discovered by calling
the function again and again with other values: a parameter that appears or goes when one other changes depends on it,
also where the user wrote a plain ``if`` or ``for`` and no ``conditional_scope``.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import numpy as np

from hpcompss.errors import InputError, nearest, shown
from hpcompss.space.parameters import KINDS, Boolean, Choice, Condition, Fixed, Float, Int, Parameter
from hpcompss.space.space import Space
from hpcompss.trial import Configuration, Value

__all__ = ["Discovery", "HyperParameters", "Killed", "discover"]


class HyperParameters:
    """What a model-building function asks for its hyper-parameters.

    Args:
        values: The configuration to hand out; a parameter that it lacks gets its default.

    Attributes:
        values: The values of the active parameters declared so far, by name.
        space: The parameters declared so far, active or not.
        warnings: What the user should know of this use.
    """

    def __init__(self, values: Mapping[str, Value] | None = None) -> None:
        self.values: Configuration = {}
        self.space: list[Parameter] = []
        self.warnings: list[str] = []
        self._given = dict(values or {})
        self._replaying = values is not None
        self._conditions: list[Condition] = []
        self._scopes: list[str] = []
        self._on_declare: Callable[[], None] | None = None

    def Int(
        self,
        name: str,
        min_value: int,
        max_value: int,
        step: int | None = None,
        sampling: str | None = "linear",
        default: int | None = None,
        parent_name: str | None = None,
        parent_values: Sequence[Value] | Value | None = None,
    ) -> Any:
        """Returns the value of a whole number (see `hpcompss.Int`), or None where it is inactive."""
        with self._maybe_conditional(parent_name, parent_values) as conditions:
            return self._declare(
                Int(self._scoped(name), min_value, max_value, step, sampling, default, conditions=conditions)
            )

    def Float(
        self,
        name: str,
        min_value: float,
        max_value: float,
        step: float | None = None,
        sampling: str | None = "linear",
        default: float | None = None,
        parent_name: str | None = None,
        parent_values: Sequence[Value] | Value | None = None,
    ) -> Any:
        """Returns the value of a number (see `hpcompss.Float`), or None where it is inactive."""
        with self._maybe_conditional(parent_name, parent_values) as conditions:
            return self._declare(
                Float(self._scoped(name), min_value, max_value, step, sampling, default, conditions=conditions)
            )

    def Choice(
        self,
        name: str,
        values: Sequence[Value],
        ordered: bool | None = None,
        default: Value | None = None,
        parent_name: str | None = None,
        parent_values: Sequence[Value] | Value | None = None,
    ) -> Any:
        """Returns one of ``values`` (see `hpcompss.Choice`), or None where it is inactive."""
        with self._maybe_conditional(parent_name, parent_values) as conditions:
            return self._declare(Choice(self._scoped(name), values, ordered, default, conditions=conditions))

    def Boolean(
        self,
        name: str,
        default: bool = False,
        parent_name: str | None = None,
        parent_values: Sequence[Value] | Value | None = None,
    ) -> Any:
        """Returns True or False (see `hpcompss.Boolean`), or None where it is inactive."""
        with self._maybe_conditional(parent_name, parent_values) as conditions:
            return self._declare(Boolean(self._scoped(name), default, conditions=conditions))

    def Fixed(
        self,
        name: str,
        value: Value,
        parent_name: str | None = None,
        parent_values: Sequence[Value] | Value | None = None,
    ) -> Any:
        """Returns ``value`` (see `hpcompss.Fixed`), or None where it is inactive."""
        with self._maybe_conditional(parent_name, parent_values) as conditions:
            return self._declare(Fixed(self._scoped(name), value, conditions=conditions))

    @contextlib.contextmanager
    def conditional_scope(self, parent_name: str, parent_values: Sequence[Value] | Value) -> Iterator[None]:
        """Makes the parameters declared inside active only where the parent has one of ``parent_values``."""
        name = self._scoped(parent_name)
        names = {parameter.name for parameter in self.space}
        if name not in names:
            hint = f"; {nearest(name, names)}" if names else ""
            raise InputError(f"conditional_scope: no parameter {name!r} was declared before{hint}")
        values = tuple(parent_values) if isinstance(parent_values, list | tuple) else (parent_values,)
        self._conditions.append(Condition(name, values))
        try:
            yield
        finally:
            self._conditions.pop()

    @contextlib.contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Puts ``name/`` before the names of the parameters declared inside."""
        self._scopes.append(name)
        try:
            yield
        finally:
            self._scopes.pop()

    def get(self, name: str) -> Any:
        """Returns the value of a parameter. Raises `ValueError` where it is inactive, `KeyError` where undeclared."""
        name = self._scoped(name)
        if name in self.values:
            return self.values[name]
        if any(parameter.name == name for parameter in self.space):
            raise ValueError(f"{name} is currently inactive.")
        raise KeyError(f"{name} does not exist.")

    def __getitem__(self, name: str) -> Any:
        return self.get(name)

    def __contains__(self, name: str) -> bool:
        return self._scoped(name) in self.values

    def is_active(self, parameter: str | Parameter) -> bool:
        """Returns whether a declared parameter is active."""
        if isinstance(parameter, Parameter):
            return self._holds(parameter)
        return any(self._holds(each) for each in self.space if each.name == parameter)

    def copy(self) -> HyperParameters:
        """Returns an independent copy, which hands out the same values."""
        twin = HyperParameters({**self._given, **self.values} if self._replaying else None)
        twin._given = {**self._given, **self.values}
        twin.values, twin.space = dict(self.values), list(self.space)
        return twin

    def get_config(self) -> dict[str, Any]:
        """Returns the parameters and values so far as plain data, in KerasTuner's form.

        The data is ``{"space": [{"class_name": ..., "config": {...}}, ...], "values": {...}}``.
        """
        return {"space": [_to_config(each) for each in self.space], "values": dict(self.values)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> HyperParameters:
        """Returns the object that `get_config` described; KerasTuner's own data is read as well.

        Raises:
            InputError: The data has another form, or describes what is no parameter.
        """
        if not isinstance(config, Mapping) or not {"space", "values"} <= set(config):
            raise InputError(f"a configuration of hp is {{'space': [...], 'values': {{...}}}}, not {shown(config)}")
        hp = cls()
        hp.space = [_from_config(each) for each in config["space"]]
        hp.values = dict(config["values"])
        return hp

    def merge(self, hps: Any, overwrite: bool = True) -> None:
        """Adds the parameters of another object.

        Args:
            hps: A `HyperParameters`, or a list of parameters; those of KerasTuner are taken, too.
            overwrite: Whether a parameter replaces one that has the same name and conditions, and its value.

        Raises:
            InputError: Something in ``hps`` is no parameter.
        """
        for each in getattr(hps, "space", hps):
            parameter = each if isinstance(each, Parameter) else _from_object(each)
            known = [
                place
                for place, other in enumerate(self.space)
                if other.name == parameter.name and other.conditions == parameter.conditions
            ]
            if known and not overwrite:
                continue
            if known:
                self.space[known[0]] = parameter
            else:
                self.space.append(parameter)
            if self._holds(parameter) and (overwrite or parameter.name not in self.values):
                self.values[parameter.name] = self._given_value(parameter)

    def ensure_active_values(self) -> None:
        """Gives each active parameter that has no value one, and takes away the values of inactive ones.

        The value is that of the configuration, else the default: a model must be built alike each time.
        """
        for parameter in self.space:
            if not self._holds(parameter):
                if not self.is_active(parameter.name):
                    self.values.pop(parameter.name, None)
            elif parameter.name not in self.values:
                self.values[parameter.name] = self._given_value(parameter)

    def _declare(self, parameter: Parameter) -> Value | None:
        active = self._holds(parameter)
        for known in self.space:
            if known.name == parameter.name and (
                known.conditions == parameter.conditions or (active and self._holds(known))
            ):
                _check_same(known, parameter)
                break
        else:
            self.space.append(parameter)
        if active and parameter.name not in self.values:
            self.values[parameter.name] = self._given_value(parameter)
        if self._on_declare is not None:
            self._on_declare()
        return self.values[parameter.name] if active else None

    def _given_value(self, parameter: Parameter) -> Value:
        if parameter.name in self._given:
            try:
                return parameter.check(self._given[parameter.name])
            except InputError as error:
                self.warnings.append(f"{error.message}; its default {parameter.default!r} was used")
        elif self._replaying:
            self.warnings.append(
                f"{parameter.name!r} is not in the space that was found by calling the function; "
                f"its default {parameter.default!r} was used (declare it before the branch that hides it)"
            )
        return parameter.default

    def _holds(self, parameter: Parameter) -> bool:
        return all(condition.holds(self.values) for condition in parameter.conditions)

    def _scoped(self, name: str) -> str:
        return "/".join([*self._scopes, str(name)])

    @contextlib.contextmanager
    def _maybe_conditional(
        self, parent_name: str | None, parent_values: Sequence[Value] | Value | None
    ) -> Iterator[tuple[Condition, ...]]:
        if (parent_name is None) != (parent_values is None):
            raise InputError("parent_name and parent_values go together")
        if parent_name is None or parent_values is None:
            yield tuple(self._conditions)
        else:
            with self.conditional_scope(parent_name, parent_values):
                yield tuple(self._conditions)


def _to_config(parameter: Parameter) -> dict[str, Any]:
    """Returns a parameter as KerasTuner describes it."""
    conditions = [
        {"class_name": "Parent", "config": {"name": each.parent, "values": list(each.values)}}
        for each in parameter.conditions
    ]
    config: dict[str, Any] = {"name": parameter.name, "conditions": conditions, **parameter.settings()}
    if isinstance(parameter, Int | Float):
        config |= {"step": parameter.step, "sampling": parameter.sampling}
    if isinstance(parameter, Choice):
        config["ordered"] = parameter.ordered
    if not isinstance(parameter, Fixed):
        config["default"] = parameter.default
    return {"class_name": parameter.kind, "config": config}


def _from_config(entry: Any) -> Parameter:
    """Returns the parameter that KerasTuner, or `_to_config`, described."""
    try:
        kind, config = KINDS[entry["class_name"]], dict(entry["config"])
        conditions = [
            Condition(each["config"]["name"], tuple(each["config"]["values"])) for each in config.pop("conditions", ())
        ]
        return kind(config.pop("name"), conditions=conditions, **config)
    except InputError:
        raise
    except (LookupError, TypeError) as error:
        raise InputError(
            f"a parameter reads {{'class_name': 'Int', 'config': {{'name': ..., ...}}}}, not {shown(entry)}"
        ) from error


def _from_object(found: Any) -> Parameter:
    """Returns an object of KerasTuner's as a parameter."""
    if not hasattr(found, "get_config"):
        raise InputError(f"merge takes a HyperParameters or a list of parameters, and {shown(found)} is none")
    return _from_config({"class_name": type(found).__name__, "config": found.get_config()})


def _check_same(known: Parameter, again: Parameter) -> None:
    """Refuses a parameter declared again, in the same place, as something else."""
    if type(known) is not type(again) or _meaning(known) != _meaning(again):
        raise InputError(
            f"{known.name!r} is declared twice, as {known!r} and as {again!r}: "
            "give the two different names, or the same bounds"
        )


def _meaning(parameter: Parameter) -> str:
    """Returns a parameter's settings, with those that may be left out."""
    settings = {**parameter.settings(), "default": parameter.default}
    if isinstance(parameter, Int) and parameter.sampling == "linear":
        settings["step"] = parameter.step or 1
    return repr(sorted(settings.items()))


@dataclass(frozen=True)
class Killed:
    """A call of the function in an earlier discovery that was the end of its process.

    Attributes:
        call: Which call it was, counted from 1. Calls come in the same order each time.
        declared: How many declarations it made before.
        reason: What happened, continuing a sentence that begins with the configuration: ``"is too large"``.
    """

    call: int
    declared: int
    reason: str


@dataclass(frozen=True)
class Discovery:
    """What calling a function has shown of its space.

    Attributes:
        space: All parameters found.
        calls: How often the function was called.
        warnings: What may be missing, for the user.
        working: The values of the first call that ran to its end.
    """

    space: Space
    calls: int
    warnings: tuple[str, ...] = ()
    working: Mapping[str, Value] = field(default_factory=dict)


PROBES = 16
"""After so many new random configurations in a row that show nothing new the space counts as found. A branch that needs
two particular booleans shows itself in all but 1 % of cases (0.75 to the 16th)."""

CALLS = 400
"""How often the function is called at the most."""

LISTED = 8
"""A range of up to so many whole numbers is tried whole, another by its ends and by halving; a choice always whole."""

CONDITIONED = 1000
"""A condition is inferred only on a parent of up to so many values, since it lists them."""


def discover(
    declare: Callable[[HyperParameters], object],
    killed: Sequence[Killed] = (),
    watch: Callable[[int, int], None] | None = None,
) -> Discovery:
    """Finds the space of a function that asks a `HyperParameters` for its values.

    A branch may depend on any number of parameters, each having one of some values (``if a and b``, nested loops). What
    depends on one *or* another, on a sum, or on a continuous parameter is found too, but counts as always active.

    Args:
        declare: The function; what it returns is not looked at.
        killed: The calls that ended earlier discoveries of the same function together with their process. They are
            made up to the declaration that was their last, and what is known to be at fault is not called again.
        watch: Called before each call with its number and 0, and after each declaration with the number of the call
            and of the declarations in it so far.

    Raises:
        InputError: It declares a parameter wrongly or twice, or with bounds that depend on too many values, or no call
            survives.
        Exception: What it raises at its default values.
    """
    explorer = _Explorer(declare, killed, watch)
    space = explorer.explore()
    return Discovery(space, explorer.calls, tuple(explorer.warnings), explorer.working)


class _LastDeclaration(BaseException):
    """Stops a call at the last declaration it survives; no `Exception`, so that the user's code lets it pass."""


@dataclass(frozen=True)
class _Trace:
    """One call.

    Attributes:
        values: What it used.
        chosen: Those values that are not the default: calls that have these in common are the same.
        active: The parameters active in it, by number.
        ended: Whether it ran to its end.
        killed: How it ended its process in an earlier discovery, or None.
    """

    values: Configuration
    chosen: Configuration
    active: frozenset[int]
    ended: bool
    killed: Killed | None = None


class _Explorer:
    """Finds the space of a function: calls it, changing one value at a time, then at random, and explains what it saw.

    Parameters are known by their number, in the order in which they were first seen.
    """

    def __init__(
        self,
        declare: Callable[[HyperParameters], object],
        killed: Sequence[Killed] = (),
        watch: Callable[[int, int], None] | None = None,
    ) -> None:
        self.calls = 0
        self.warnings: list[str] = []
        self._declare = declare
        self._killed = {each.call: each for each in killed}
        self._watch = watch
        self._traces: list[_Trace] = []
        self._called: dict[frozenset[tuple[str, Value]], _Trace] = {}
        self._numbers: dict[Parameter, int] = {}
        self._parameters: list[Parameter] = []
        self._order: list[int] = []
        self._varied: set[int] = set()
        self._looked_at = 0
        self._causes: dict[int, list[str]] = {}

    def explore(self) -> Space:
        """Calls the function until nothing new appears, and returns its space."""
        self._call({}, strict=True)
        generator = np.random.default_rng(0)
        space, quiet = self._space(), 0
        for _ in range(CALLS):
            calls = self.calls
            self._call(self._careful(space.sample(generator), generator))
            if self.calls > calls:
                before, space = space, self._space()
                quiet = quiet + 1 if space == before else 0
            if quiet == PROBES:
                break
        if self.calls >= CALLS:
            self.warnings.append(f"the space was searched with {CALLS} calls and may hold more: use conditional_scope")
        self._warn_of_killed()
        return space

    @property
    def working(self) -> Configuration:
        """The values of the first call that ran to its end."""
        return next((trace.values for trace in self._traces if trace.ended), {})

    def _space(self) -> Space:
        """Returns the space as far as it is known, after the calls that explain what is new in it."""
        while True:
            self._vary_new()
            calls = self.calls
            parameters = [self._conditioned(number) for number in self._order if not self._superseded(number)]
            if self.calls == calls:
                return _checked(parameters)

    # Calling

    def _call(self, values: Configuration, *, strict: bool = False) -> _Trace | None:
        """Calls the function, or returns None where it was called often enough.

        What it raises is passed on only for the defaults, whose failure is a mistake.
        """
        given = frozenset(values.items())
        if given in self._called or self.calls >= CALLS or self._is_hopeless(values):
            return self._called.get(given)
        self.calls += 1
        killed = self._killed.get(self.calls)
        hp = HyperParameters()
        hp._given = dict(values)
        hp._on_declare = self._listener(killed)
        ended = True
        try:
            if killed is None or killed.declared:
                self._declare(hp)
            ended = killed is None
        except _LastDeclaration:
            ended = False
        except InputError as error:
            if not values:
                raise
            where = ", ".join(f"{name}={value!r}" for name, value in values.items())
            raise InputError(f"{error.message} (with {where})", key=error.key) from None
        except Exception:
            if strict:
                raise
            ended = False
        numbers = self._number(hp.space)
        active = [number for number in numbers if hp.is_active(self._parameters[number])]
        defaults = {self._parameters[number].name: self._parameters[number].default for number in active}
        chosen = {name: value for name, value in hp.values.items() if value != defaults[name]}
        trace = _Trace(dict(hp.values), chosen, frozenset(active), ended, killed)
        self._traces.append(trace)
        for same in (given, frozenset(chosen.items()), frozenset(hp.values.items())):
            self._called.setdefault(same, trace)
        return trace

    def _number(self, declared: Sequence[Parameter]) -> list[int]:
        """Returns the parameters' numbers; puts what is new in order, each behind the one it was declared after."""
        numbers: list[int] = []
        for parameter in declared:
            if parameter not in self._numbers:
                self._numbers[parameter] = len(self._parameters)
                self._parameters.append(parameter)
                place = self._order.index(numbers[-1]) + 1 if numbers else 0
                self._order.insert(place, self._numbers[parameter])
            numbers.append(self._numbers[parameter])
        return numbers

    def _vary_new(self) -> None:
        """Changes each parameter not yet varied, from the call that showed it, until nothing new appears."""
        while self._looked_at < len(self._traces):
            base = self._traces[self._looked_at]
            self._looked_at += 1
            if base.killed:
                self._vary_killed(base)
                continue
            for number in [each for each in self._order if each in base.active and each not in self._varied]:
                self._varied.add(number)
                self._vary(base, self._parameters[number])

    def _vary(self, base: _Trace, parameter: Parameter) -> None:
        """Calls with other values of one parameter; in a long range, looks for where the set of parameters changes."""
        active: dict[Value, frozenset[int]] = {}
        for value in self._values_to_try(parameter):
            trace = self._call(_changed(base, parameter, value))
            if trace is not None and not trace.killed:
                active[value] = trace.active
        if not isinstance(parameter, Int | Float) or parameter.count == math.inf:
            return
        gaps = list(itertools.pairwise(sorted(parameter.index(value) for value in active)))
        while gaps:
            low, high = gaps.pop()
            middle = (low + high) // 2
            if low < middle and active[parameter.value(low)] != active[parameter.value(high)]:
                trace = self._call(_changed(base, parameter, parameter.value(middle)))
                if trace is not None and not trace.killed:
                    active[parameter.value(middle)] = trace.active
                    gaps += [(low, middle), (middle, high)]

    def _values_to_try(self, parameter: Parameter) -> list[Value]:
        if isinstance(parameter, Float) or (isinstance(parameter, Int) and parameter.count > LISTED):
            named = [value for each in self._parameters for value in _named(each, parameter)]
            return list(dict.fromkeys([parameter.default, parameter.min_value, _last(parameter), *named]))
        return [parameter.value(index) for index in range(int(parameter.count))]

    # Calls that end their process

    def _listener(self, killed: Killed | None) -> Callable[[], None]:
        """Tells the watch of a call and of each declaration in it, and stops it where it was killed before."""
        call, declared = self.calls, 0
        if self._watch is not None:
            self._watch(call, 0)

        def on_declare() -> None:
            nonlocal declared
            declared += 1
            if self._watch is not None:
                self._watch(call, declared)
            if killed is not None and declared >= killed.declared:
                raise _LastDeclaration

        return on_declare

    def _vary_killed(self, base: _Trace) -> None:
        """Looks for a call that survives, changing what was declared last first; others show more than this one."""
        for number in [each for each in reversed(self._order) if each in base.active]:
            if any(trace.ended for trace in self._traces):
                return
            self._vary(base, self._parameters[number])

    def _fault(self, killed: _Trace) -> tuple[Configuration, Configuration]:
        """Returns the values at fault for a killed call, and what these were in calls that ran to their end.

        They are those in which it differs from the call most like it that ran to its end, and from the call most like
        it that had these values and ran to its end all the same, and so on. Where no call ran to its end yet, they are
        all its values.
        """
        fault: Configuration = {}
        survived: Configuration = {}
        alike = [trace.values for trace in self._traces if trace.ended]
        while alike:
            differences = [[name for name in killed.values if each.get(name) != killed.values[name]] for each in alike]
            names, values = min(zip(differences, alike, strict=True), key=lambda pair: len(pair[0]))
            if not names:
                break
            fault |= {name: killed.values[name] for name in names}
            survived |= {name: values[name] for name in names if name in values}
            alike = [each for each in alike if all(each.get(name) == value for name, value in fault.items())]
        return fault or killed.values, survived

    def _is_hopeless(self, values: Configuration) -> bool:
        """Returns whether values are at fault for a killed call, or lie beyond those as seen from one that survived."""
        return any(self._is_beyond(values, *self._fault(trace)) for trace in self._traces if trace.killed)

    def _is_beyond(self, values: Configuration, fault: Configuration, survived: Configuration) -> bool:
        defaults = {each.name: each.default for each in reversed(self._parameters)}
        for name, limit in fault.items():
            value, good = values.get(name, defaults[name]), survived.get(name)
            if value == limit:
                continue
            if not (_is_number(value) and _is_number(limit) and _is_number(good)):
                return False
            if not (good < limit < value or good > limit > value):
                return False
        return bool(fault)

    def _careful(self, values: Configuration, generator: np.random.Generator) -> Configuration:
        """Returns the values with those that may be at fault for a killed call replaced by ones that survived."""
        careful = dict(values)
        for trace in self._traces:
            for name in self._fault(trace)[0] if trace.killed else ():
                survived = dict.fromkeys(
                    each.values[name] for each in self._traces if each.ended and name in each.values
                )
                if survived and careful.get(name) not in survived:
                    careful[name] = list(survived)[int(generator.integers(len(survived)))]
        return careful

    def _warn_of_killed(self) -> None:
        faults: dict[str, str] = {}
        for trace in self._traces:
            if trace.killed:
                fault, _ = self._fault(trace)
                named = ", ".join(f"{name}={value!r}" for name, value in _blamed(fault, trace.values).items())
                faults.setdefault(named or "the model", trace.killed.reason)
        if faults and not any(trace.ended for trace in self._traces):
            tried = "; ".join(f"{named} {reason}" for named, reason in faults.items())
            raise InputError(f"no configuration of build(hp) was found that can be built: {tried}", key="resources")
        self.warnings += [
            f"{named} {reason}: trials with {'these together' if ', ' in named else 'it'} will fail"
            for named, reason in faults.items()
        ]

    # Explaining

    def _superseded(self, number: int) -> bool:
        """Returns whether the parameter never counts, another of its name being active wherever its conditions hold."""
        return not any(number in trace.active for trace in self._traces) and any(
            trace.ended and self._lacks(trace, number) for trace in self._traces
        )

    def _conditioned(self, number: int) -> Parameter:
        """Returns a parameter with the conditions that the calls have shown beside the declared ones."""
        parameter = self._parameters[number]
        inferred = self._explanation(number)
        if not inferred:
            return parameter
        return type(parameter)(parameter.name, **parameter.settings(), conditions=(*parameter.conditions, *inferred))

    def _explanation(self, number: int) -> list[Condition]:
        """Returns conditions that hold in every call with the parameter and in none without, or an empty list.

        As long as some call without it meets them all, one more cause is looked for on the way to that call.
        """
        causes = self._causes.setdefault(number, [])
        while True:
            present = [trace for trace in self._traces if number in trace.active]
            absent = [trace for trace in self._traces if trace.ended and self._lacks(trace, number)]
            conditions = self._conditions(causes, present, absent)
            against = next((trace for trace in absent if _hold(conditions, trace)), None)
            if against is None or not present:
                conditions = _needed(conditions, absent)
                if len(conditions) < 2 or not self._vary_all(present[0], causes):
                    return conditions
            else:
                cause = self._cause(number, present, against, causes)
                if cause is None or cause in causes:
                    return []
                causes.append(cause)

    def _lacks(self, trace: _Trace, number: int) -> bool:
        """Returns whether a call did not ask for the parameter although its declared conditions hold."""
        return number not in trace.active and _hold(self._parameters[number].conditions, trace)

    def _vary_all(self, base: _Trace, names: Sequence[str]) -> bool:
        """Varies several causes of a parameter where it is present, since one may have hidden what another does.

        Returns:
            Whether that took new calls.
        """
        calls = self.calls
        for number in base.active:
            if self._parameters[number].name in names:
                self._vary(base, self._parameters[number])
        return self.calls > calls

    def _cause(self, number: int, present: Sequence[_Trace], lacking: _Trace, known: Sequence[str]) -> str | None:
        """Returns what takes the parameter away when it alone changes, found by halving the way to a call without.

        The way begins at the call with the parameter that differs least, in what is not known to be a cause.
        """
        ways = [(trace, _differing(trace, lacking)) for trace in present]
        having, names = min(ways, key=lambda way: (len(set(way[1]) & set(known)), len(way[1])))
        low, high = 0, len(names)
        while high - low > 1:
            middle = (low + high) // 2
            unchanged = {name: value for name, value in having.chosen.items() if name not in names[:middle]}
            changed = {name: lacking.chosen[name] for name in names[:middle] if name in lacking.chosen}
            trace = self._call({**unchanged, **changed})
            if trace is None or not (number in trace.active or trace.ended):
                return None
            low, high = (middle, high) if number in trace.active else (low, middle)
        return names[low] if names else None

    def _conditions(
        self, causes: Sequence[str], present: Sequence[_Trace], absent: Sequence[_Trace]
    ) -> list[Condition]:
        """Returns a condition on each cause that has a value in every call with the parameter."""
        values = {name: {trace.values.get(name) for trace in present} for name in causes}
        conditions = []
        for name in causes:
            variants = [each for each in self._parameters if each.name == name]
            if None in values[name] or any(each.count > CONDITIONED for each in variants):
                continue
            others = [other for other in causes if other != name]
            without = {
                trace.values.get(name)
                for trace in absent
                if all(trace.values.get(other) in values[other] for other in others)
            }
            kept = [value for each in variants for value in _filled(each, values[name], without)]
            conditions.append(Condition(name, tuple(kept)))
        return conditions


def _blamed(fault: Configuration, values: Configuration) -> Configuration:
    """Returns what to name as the cause: one value where that is sure, else all values of the call."""
    return fault if len(fault) == 1 else values


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _checked(parameters: Sequence[Parameter]) -> Space:
    """Returns the space of these parameters, or says which depends on more than could be found out."""
    try:
        return Space(parameters)
    except InputError:
        first: dict[str, Parameter] = {}
        for parameter in parameters:
            other = first.setdefault(parameter.name, parameter)
            if other.settings() != parameter.settings():
                raise InputError(
                    f"{parameter.name!r} is declared now with {other.settings()}, now with {parameter.settings()}, "
                    "and no condition tells which of them counts: give it the same bounds everywhere, or each case "
                    "its own name"
                ) from None
        raise


def _changed(base: _Trace, parameter: Parameter, value: Value) -> Configuration:
    """Returns what to give a call that is to differ from another in this value alone."""
    values = {**base.chosen, parameter.name: value}
    if value == parameter.default:
        del values[parameter.name]
    return values


def _hold(conditions: Sequence[Condition], trace: _Trace) -> bool:
    return all(condition.holds(trace.values) for condition in conditions)


def _differing(one: _Trace, other: _Trace) -> list[str]:
    """Returns the names of what was chosen differently."""
    names = dict.fromkeys([*one.chosen, *other.chosen])
    return [name for name in names if one.chosen.get(name) != other.chosen.get(name)]


def _needed(conditions: Sequence[Condition], absent: Sequence[_Trace]) -> list[Condition]:
    """Returns the conditions without those that the others make superfluous."""
    needed = list(conditions)
    for condition in conditions:
        fewer = [each for each in needed if each is not condition]
        if not any(_hold(fewer, trace) for trace in absent):
            needed = fewer
    return needed


def _filled(cause: Parameter, held: set[Value | None], without: set[Value | None]) -> list[Value]:
    """Returns the values held, and of a range the untried ones between two with none known to be without between."""
    kept: list[Value] = []
    pending: list[Value] = []
    holds = False
    for index in range(int(cause.count)):
        value = cause.value(index)
        if value in held:
            kept += [*pending, value]
            pending, holds = [], True
        elif holds and isinstance(cause, Int | Float) and value not in without:
            pending.append(value)
        else:
            pending, holds = [], False
    return kept


def _named(child: Parameter, parent: Parameter) -> Iterator[Value]:
    """Yields the values of ``parent`` that ``child``'s declared conditions name."""
    for condition in child.conditions:
        if condition.parent == parent.name:
            for value in condition.values:
                with contextlib.suppress(InputError):
                    yield parent.check(value)


def _last(parameter: Int | Float) -> Value:
    return parameter.max_value if parameter.count == math.inf else parameter.value(int(parameter.count) - 1)
