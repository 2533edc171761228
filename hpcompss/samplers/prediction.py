"""What a model of the finished trials says of configurations that were not tried yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpcompss.samplers.gaussian_process import GaussianProcess
from hpcompss.samplers.history import History
from hpcompss.trial import Configuration

__all__ = ["Prediction", "obstacle", "predict"]

FENCE = 3.0
"""Losses that exceed the third quartile by so many times the distance between the quartiles count as if they did by so
much: how bad the worst trials are says little of where the best one is."""


@dataclass(frozen=True)
class Prediction:
    """What is expected of a configuration, in the objective's own units.

    Attributes:
        configuration: The configuration.
        value: The expected value of the objective.
        deviation: The standard deviation of that value.
        improvement: By how much it is expected to beat the best value known, at least 0.
    """

    configuration: Configuration
    value: float
    deviation: float
    improvement: float


def predict(history: History, pending: Sequence[Configuration], count: int, *, seed: int = 0) -> list[Prediction]:
    """Returns the most promising untried configurations under a Gaussian process, the largest improvement first.

    Args:
        history: The finished trials.
        pending: The configurations that are being tried.
        count: How many are wanted.
        seed: Chooses where an infinite space is searched.

    Returns:
        At most ``count``; none while fewer than two trials of different values are feasible, and where every
        configuration was tried.
    """
    feasible = history.violations == 0
    size = float(np.abs(history.losses[feasible]).max(initial=0.0))
    if size == 0:
        return []
    # Squares of what is at most 1 stay numbers, however large the losses are.
    losses = np.where(feasible, history.losses, np.nan) / size
    known = losses[feasible]
    if len(known) < 2 or np.ptp(known) == 0:
        return []
    low, high = np.quantile(known, [0.25, 0.75])
    own = losses[history.transferred :][feasible[history.transferred :]]
    best = float(own.min()) if len(own) else float(known.min())
    losses[~feasible] = known.max()
    losses = np.minimum(losses, high + FENCE * (high - low) if high > low else np.inf)
    centre, scale = float(losses.mean()), float(losses.std())
    unit = scale * size
    sign = -1.0 if history.direction == "maximize" else 1.0
    sampler = GaussianProcess(history.space, seed=seed)
    expected = sampler.expect(history, (losses - centre) / scale, (best - centre) / scale, pending, count)
    return [
        Prediction(configuration, sign * (size * centre + unit * mean), unit * deviation, unit * improvement)
        for configuration, mean, deviation, improvement in expected
    ]


def obstacle(history: History) -> str:
    """Returns, in words, why nothing can be predicted, where `predict` returns nothing."""
    known = history.losses[history.violations == 0]
    if len(known) < 2:
        return f"{'no trial is' if len(known) == 0 else 'only one trial is'} feasible and has a value"
    if np.ptp(known / 2) == 0:
        return f"all {len(known)} feasible trials have the same value"
    return "every combination was tried or is being tried"
