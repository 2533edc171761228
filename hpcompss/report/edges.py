"""Whether the best configuration lies at the edge of what was allowed, so that a wider range may hold a better one."""

from __future__ import annotations

import math

from hpcompss.space.parameters import Choice, Float, Int
from hpcompss.study import Study
from hpcompss.trial import TrialState, Value

__all__ = ["edges"]

EDGE_SHARE = 0.03
"""The share of a range, on the parameter's scale, that counts as its edge."""

FEWEST_VALUES = 3
"""Of a range with fewer values every one is an edge."""


def edges(study: Study) -> list[str]:
    """Returns a sentence for each number of the best configuration that is at the edge of its range.

    An edge that is there by nature, as 0 for a rate or one layer, is none, nor is one where only one value was tried.
    With several objectives nothing is said: the ends of a front are often at the edge of a range.
    """
    if study.also or not study.feasible:
        return []
    sentences = []
    completed = [trial.configuration for trial in study.trials if trial.state is TrialState.COMPLETE]
    for parameter in study.space.parameters:
        value = study.best.configuration.get(parameter.name)
        tried = {each[parameter.name] for each in completed if parameter.name in each}
        if value is None or len(tried) < 2 or not isinstance(parameter, Int | Float | Choice):
            continue
        if (edge := _edge(parameter, value)) is not None:
            end, which = edge
            at = f"is the {which} allowed" if value == end else f"is close to the {which} allowed, {_shown(end)}"
            sentences.append(f"{parameter.name} {_shown(value)} {at}: the best may lie beyond")
    return sentences


def _edge(parameter: Int | Float | Choice, value: Value) -> tuple[Value, str] | None:
    """Returns the end of a range that a value is at, and which one that is; None for neither."""
    if parameter.count < FEWEST_VALUES:
        return None
    if isinstance(parameter, Choice):
        return _edge_of_numbers(parameter, value) if parameter.ordered else None
    low, high = parameter.min_value, parameter.max_value
    if parameter.step is not None:
        low, high = parameter.value(0), parameter.value(int(parameter.count) - 1)
    place = _place(parameter.sampling, low, high, float(value))
    if place <= EDGE_SHARE and not _is_natural(low, smallest=True):
        return low, "smallest"
    if place >= 1 - EDGE_SHARE and not _is_natural(high, smallest=False):
        return high, "largest"
    return None


def _edge_of_numbers(parameter: Choice, value: Value) -> tuple[Value, str] | None:
    """Returns what `_edge` does for a choice of numbers."""
    for end, which in ((min(parameter.values), "smallest"), (max(parameter.values), "largest")):
        if value == end and not _is_natural(end, smallest=which == "smallest"):
            return end, which
    return None


def _is_natural(end: Value, *, smallest: bool) -> bool:
    """Returns whether a range ends there by nature: a rate at 0 and 1, a count at 0 or 1."""
    if smallest:
        return end in ((0, 1) if isinstance(end, int) else (0,))
    return isinstance(end, float) and end == 1


def _place(sampling: str, low: float, high: float, value: float) -> float:
    """Returns where a value is between the ends of its range, from 0 to 1, on the parameter's scale."""
    if sampling == "log":
        return math.log(value / low) / math.log(high / low)
    if sampling == "reverse_log":
        return 1 - math.log((high + low - value) / low) / math.log(high / low)
    return (value - low) / (high - low)


def _shown(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
