"""Bounds on what trials report beside the objective: a trial that breaks one is infeasible, never the best."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcompss.errors import InputError, nearest
from hpcompss.objectives import Objective
from hpcompss.trial import Failure, FailureKind, Result

__all__ = ["Constraint", "breaches", "constrained", "parse_constraints", "total_violation"]

KEY = "objective.constraints"


@dataclass(frozen=True)
class Constraint:
    """What a metric must keep to; at least one of the bounds is stated.

    Attributes:
        metric: The metric's name among what a trial reports.
        min: Its smallest allowed value, or None.
        max: Its largest allowed value, or None.
    """

    metric: str
    min: float | None = None
    max: float | None = None

    def violation(self, value: float) -> float:
        """Returns by how much a value breaks the bounds, in units of the bound or of 1, whichever is larger."""
        below = 0.0 if self.min is None else (self.min - value) / max(1.0, abs(self.min))
        above = 0.0 if self.max is None else (value - self.max) / max(1.0, abs(self.max))
        return max(0.0, below, above)

    def breach(self, value: float) -> str:
        """Returns, in words, which bound a value breaks; empty where it keeps to both."""
        if self.min is not None and value < self.min:
            return f"{self.metric} {value:.7g} is below {self.min:.7g}"
        if self.max is not None and value > self.max:
            return f"{self.metric} {value:.7g} is above {self.max:.7g}"
        return ""


def parse_constraints(stated: Mapping[str, Any]) -> tuple[Constraint, ...]:
    """Returns the constraints of plain data such as ``{"parameters": {"max": 1e6}}``.

    Raises:
        InputError: It is not of that form; its key is that of the constraint.
    """
    if not isinstance(stated, Mapping):
        raise InputError(f"constraints read {{metric: {{max: 1.0}}, ...}}, not {stated!r}", key=KEY)
    return tuple(_constraint(str(metric), bounds) for metric, bounds in stated.items())


def _constraint(metric: str, bounds: Any) -> Constraint:
    key = f"{KEY}.{metric}"
    if not isinstance(bounds, Mapping) or not bounds:
        raise InputError(f"a constraint reads {{min: 0.5}}, {{max: 1.0}} or both, not {bounds!r}", key=key)
    for name, bound in bounds.items():
        if name not in ("min", "max"):
            raise InputError(f"unknown bound {name!r}; {nearest(str(name), ('min', 'max'))}", key=key)
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
            raise InputError(f"{name} must be a finite number, not {bound!r}", key=key)
    found = Constraint(metric, **bounds)
    if found.min is not None and found.max is not None and found.min > found.max:
        raise InputError(f"min {found.min:g} is above max {found.max:g}: swap them", key=key)
    return found


def constrained(result: Result, constraints: Sequence[Constraint], also: Sequence[Objective] = ()) -> Result:
    """Returns a result, as a failure where it lacks a finite figure that a constraint bounds or that is an objective.

    Args:
        result: What came of a trial.
        constraints: The bounds.
        also: The objectives beside the first one.
    """
    needed = [(each.metric, f"{KEY} bounds") for each in constraints]
    needed += [(each.metric, "is an objective") for each in also]
    for metric, why in needed if result.value is not None else ():
        value = result.metrics.get(metric)
        if value is None:
            reason = f"it reports no {metric!r}, which {why}; "
            reason += nearest(metric, result.metrics) if result.metrics else "it reports one number only"
            failure = Failure(FailureKind.EXCEPTION, reason)
        elif not math.isfinite(value):
            failure = Failure(FailureKind.NOT_FINITE, f"{metric}, which {why}, is {value}")
        else:
            continue
        return dataclasses.replace(result, value=None, failure=failure)
    return result


def total_violation(metrics: Mapping[str, float], constraints: Sequence[Constraint]) -> float:
    """Returns the sum of the violations, 0 where all constraints hold; infinite where a figure is missing or NaN."""
    figures = [metrics.get(each.metric, math.nan) for each in constraints]
    if any(math.isnan(figure) for figure in figures):
        return math.inf
    return sum(each.violation(figure) for each, figure in zip(constraints, figures, strict=True))


def breaches(metrics: Mapping[str, float], constraints: Sequence[Constraint]) -> str:
    """Returns, in words, which constraints metrics break; empty where all hold."""
    stated = (each.breach(metrics[each.metric]) for each in constraints if each.metric in metrics)
    return ", ".join(filter(None, stated))
