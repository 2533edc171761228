"""What trials are compared by: metrics, and which way each of them is better."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcompss.errors import InputError, nearest, shown

__all__ = ["DIRECTIONS", "Objective", "direction_of", "parse_objectives", "point_of", "unknown_direction"]

DIRECTIONS = ("minimize", "maximize")

KEY = "objective.also"

_MAXIMIZED = re.compile(
    r"accuracy|(^|_)(acc|auc|f1|f1_score|fbeta_score|precision|recall|r2|r2_score|iou|io_u|score|specificity|"
    r"sensitivity|cosine_similarity|true_positives|true_negatives)(_|$)|_at_"
)
_MINIMIZED = re.compile(
    r"(^|_)(loss|mse|mae|mape|msle|rmse|error|hinge|poisson|kl_divergence|logcosh|log_cosh|cost|time|seconds|regret|"
    r"perplexity|false_positives|false_negatives|parameters|ms|milliseconds|latency|flops|bytes)(_|$)|"
    r"crossentropy|cross_entropy"
)


def direction_of(metric: str) -> str | None:
    """Returns which way a metric is better by its name (``val_accuracy``: ``"maximize"``), or None where unknown."""
    if _MINIMIZED.search(metric):
        return "minimize"
    return "maximize" if _MAXIMIZED.search(metric) else None


@dataclass(frozen=True)
class Objective:
    """A metric that is to be as small or as large as can be.

    Attributes:
        metric: Its name among what a trial reports.
        direction: ``"minimize"`` or ``"maximize"``.
    """

    metric: str
    direction: str

    def loss(self, value: float) -> float:
        """Returns what is to be minimised: the value, negated where it is maximised. That of a loss is the value."""
        return -value if self.direction == "maximize" else value


def parse_objectives(stated: Sequence[Any], first: str) -> tuple[Objective, ...]:
    """Returns the objectives beside the first one of plain data: names, or ``{"metric": ..., "direction": ...}``.

    Args:
        stated: The plain data.
        first: The metric of the first objective.

    Raises:
        InputError: It is not of that form, or a metric is there twice; its key is that of the objective.
    """
    if isinstance(stated, str | Mapping) or not isinstance(stated, Sequence):
        raise InputError(f"further objectives read [metric, ...], not {shown(stated)}", key=KEY)
    found = tuple(_objective(each, f"{KEY}.{number}") for number, each in enumerate(stated))
    known = {first}
    for number, each in enumerate(found):
        if each.metric in known:
            raise InputError(f"{each.metric!r} is an objective already: leave it out", key=f"{KEY}.{number}")
        known.add(each.metric)
    return found


def _objective(stated: Any, key: str) -> Objective:
    given = {"metric": stated} if isinstance(stated, str) else stated
    if not isinstance(given, Mapping) or not isinstance(given.get("metric"), str) or set(given) - {*_FIELDS}:
        raise InputError(
            f"an objective is a metric's name or {{metric: ..., direction: ...}}, not {shown(stated)}", key=key
        )
    metric, direction = given["metric"], given.get("direction", direction_of(given["metric"]))
    if direction is None:
        raise InputError(unknown_direction(metric), key=key)
    if direction not in DIRECTIONS:
        raise InputError(f"unknown direction {shown(direction)}; {nearest(str(direction), DIRECTIONS)}", key=key)
    return Objective(metric, direction)


_FIELDS = tuple(Objective.__dataclass_fields__)


def unknown_direction(metric: str) -> str:
    """Returns, in words, that a metric's direction must be stated."""
    return f"the direction of {metric!r} is not known: write {{metric: {metric}, direction: maximize}} (or minimize)"


def point_of(value: float, metrics: Mapping[str, float], objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Returns what is to be minimised of a trial, one figure an objective.

    Args:
        value: Of the first objective.
        metrics: Where those of the others are.
        objectives: All objectives.

    Raises:
        KeyError: A metric is missing.
    """
    first, *others = objectives
    return first.loss(value), *(each.loss(metrics[each.metric]) for each in others)
