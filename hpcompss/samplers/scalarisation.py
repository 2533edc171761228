"""Several objectives as one: what a sampler learns from that knows of one figure a trial."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hpcompss.pareto import non_dominated
from hpcompss.samplers.history import History

__all__ = ["augmented_tchebycheff", "layered", "normalised", "scalarised"]

Array = NDArray[np.float64]

RHO = 0.05
"""The share of the sum in the augmented Tchebycheff function, as in Knowles (2006): of two trials alike where they are
worst, the one that is better in the other objectives is the better."""

SKEWED = 0.1
"""An objective above 0 of which half of what is known lies within this share of the range, near the least (a number of
parameters over several decades, say), is taken by its logarithm: else all but the largest would look alike."""


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


def layered(history: History, count: int) -> History:
    """Returns a view of a scalarised history in which no trial is better than one that beats it in all objectives.

    The trials that none beats come first, then those that none of the rest beats, and so on, as many as are told
    apart; within such a layer the weighting decides. So do Ozaki et al. (2022), "Multiobjective tree-structured Parzen
    estimator", but for the weighting.

    Args:
        history: What `scalarised` returned.
        count: How many of the best trials have to be told from the others.
    """
    left = np.flatnonzero(history.violations == 0)
    points, layers, layer = history.points, np.zeros(len(history)), 0
    told = len(left) - count
    while len(left) > max(told, 0):
        first = non_dominated(points[left])
        layer += 1
        left = left[~first]
        layers[left] = layer
    return history.with_losses(history.losses + (1 + RHO) * layers)


def normalised(points: Array, known: NDArray[np.bool_]) -> Array:
    """Returns each objective scaled so that what is known lies from 0 to 1.

    Args:
        points: What is to be minimised: shape (trials, objectives), NaN for a failed trial.
        known: Which trials count: shape (trials,), at least one.
    """
    scaled = np.empty_like(points)
    for column, values in enumerate(points.T):
        values = values / 2  # so that no difference overflows
        least, most = values[known].min(), values[known].max()
        if least > 0 and np.median(values[known]) - least < SKEWED * (most - least):
            # What is infeasible may be below what is known, even below 0.
            values = np.log(np.maximum(values, least) / least)
            least, most = 0.0, math.log(most / least)
        scaled[:, column] = (values - least) / (most - least if most > least else 1.0)
    return scaled


def augmented_tchebycheff(points: Array, weights: Array) -> Array:
    """Returns the loss of normalised points, (trials, objectives), by weights, (objectives,): shape (trials,).

    Knowles (2006), equation 2: the worst weighted objective, and a little of their sum.
    """
    weighted = points * weights
    return np.asarray(weighted.max(axis=1) + RHO * weighted.sum(axis=1))
