"""Several objectives as one: what a sampler learns from that knows of one figure a trial."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpcompss.samplers.history import History

__all__ = ["augmented_tchebycheff", "normalised", "scalarised"]

Array = NDArray[np.float64]

RHO = 0.05
"""The share of the sum in the augmented Tchebycheff function, as in Knowles (2006): of two trials alike where they are
worst, the one that is better in the other objectives is the better."""

DECADE = 10.0
"""An objective whose middle four fifths span more than this factor (a number of parameters, say) is taken by its
logarithm: else all but the largest would look alike."""


def scalarised(history: History, seed: int, number: int) -> History:
    """Returns a view of a history whose losses are those of one weighting of the objectives, another for each trial.

    Knowles (2006), "ParEGO: a hybrid algorithm with on-line landscape approximation for expensive multiobjective
    optimization problems", but for the weights, which are drawn evenly from all there are. Whatever the shape of the
    front, each of its trials is the best by some weights. Any sampler so finds many of them, one after the other.

    Args:
        history: Trials with several objectives.
        seed: The sampler's.
        number: Of the trial that is to be suggested.
    """
    known = history.violations == 0
    if not known.any():
        return history  # nothing is known to be feasible: that is looked for first, whatever the objectives
    points = normalised(history.points, known)
    weights = np.random.default_rng([seed, number, 1]).dirichlet(np.ones(points.shape[1]))
    return history.with_losses(augmented_tchebycheff(points, weights))


def normalised(points: Array, known: NDArray[np.bool_]) -> Array:
    """Returns each objective scaled so that what is known lies from 0 to 1.

    Args:
        points: What is to be minimised: shape (trials, objectives), NaN for a failed trial.
        known: Which trials count: shape (trials,), at least one.
    """
    scaled = np.empty_like(points)
    for column, values in enumerate(points.T):
        low, high = np.quantile(values[known], [0.1, 0.9])
        least = values[known].min()
        if least > 0 and high > DECADE * low:
            # What is infeasible may be below what is known, even below 0.
            values = np.log(np.maximum(values, least))
        values = values / 2  # so that no difference overflows
        span = np.ptp(values[known])
        scaled[:, column] = (values - values[known].min()) / (span if span > 0 else 1.0)
    return scaled


def augmented_tchebycheff(points: Array, weights: Array) -> Array:
    """Returns the loss of normalised points, (trials, objectives), by weights, (objectives,): shape (trials,).

    Knowles (2006), equation 2: the worst weighted objective, and a little of their sum.
    """
    weighted = points * weights
    return np.asarray(weighted.max(axis=1) + RHO * weighted.sum(axis=1))
