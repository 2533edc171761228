"""Learning-curve extrapolation: a trial ends that can hardly win any more."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpcompss.errors import InputError
from hpcompss.fidelity.base import Deciding, Report
from hpcompss.fidelity.median import check_trials, even

__all__ = ["Extrapolation", "extrapolation", "probability_below"]

Array = NDArray[np.float64]

FEWEST_POINTS = 4
"""Epochs of a curve before it is extrapolated: two coefficients, and something to tell the noise by."""

EXPONENTS = tuple(np.geomspace(0.05, 3.0, 12))
"""Of the power laws ``t ** -c``."""

TIMES = 12
"""How many exponentials, with time constants from 1 epoch to twice the full number."""

PRIOR_SCALE = (50.0, 150.0)
"""Standard deviations, in units of that of the noise: of the curve's end around its last value, and of its fall."""

NOISE = (0.5, 1e-4)
"""Shape and scale of the inverse gamma prior of the noise's variance, in units of the curve's range squared."""


def extrapolation(
    low: float, high: float, *, interval: int | None = None, probability: float = 0.05, startup_trials: int = 3
) -> Extrapolation:
    """Returns the predictive termination of Domhan et al. (2015), "Speeding up automatic hyperparameter optimization
    of deep neural networks by extrapolation of learning curves".

    Args:
        low: How many epochs every trial is trained.
        high: The full number of epochs.
        interval: How many epochs lie between two looks; ``low`` by default.
        probability: A trial ends when it is less probable than this that it becomes better than the best one.
        startup_trials: How many trials must have been trained to the end before one is stopped.

    Raises:
        InputError: An option is outside its range, or the budget is no number of epochs.
    """
    check_trials(startup_trials)
    if isinstance(probability, bool) or not isinstance(probability, int | float) or not 0 < probability < 1:
        message = f"the probability is a number above 0 and below 1, not {probability!r}"
        raise InputError(message, key="fidelity.probability")
    return Extrapolation(even("extrapolation", low, high, interval), probability, startup_trials)


class Extrapolation(Deciding):
    """Ends a trial that will hardly become better than the best of those trained to the end."""

    def __init__(self, levels: tuple[float, ...], probability: float, startup_trials: int) -> None:
        super().__init__(levels)
        self._probability = probability
        self._startup_trials = startup_trials
        self._curves: dict[int, list[float]] = {}

    def survives(self, report: Report, rung: int) -> bool:
        """Returns whether it still may win."""
        curve = self._curves.setdefault(report.number, [])
        curve += report.curve or (report.loss,)
        is_last = rung + 1 == len(self.levels)
        if is_last or report.ended or report.loss == math.inf:
            del self._curves[report.number]
            return False
        finals = [loss for violation, loss, *_ in self.rungs[-1].values() if violation == 0]
        if len(finals) < self._startup_trials or report.loss <= min(finals) or self.leads(report, rung):
            return True
        epochs = np.arange(1, len(curve) + 1) * (report.budget / len(curve))
        survives = probability_below(min(finals), epochs, curve, self.levels[-1]) >= self._probability
        if not survives:
            del self._curves[report.number]
        return survives


def probability_below(bound: float, epochs: ArrayLike, losses: ArrayLike, horizon: float) -> float:
    """Returns how probable it is that a learning curve lies below ``bound`` at ``horizon`` epochs.

    The curve is ``a + b f(t)`` with noise, where f is one of a family of power laws and exponentials, of which Domhan
    et al. mix eleven. Each is a Bayesian linear regression with a conjugate prior, so that its evidence and its
    prediction (Student's t) have a closed form; they are averaged by their evidence.

    Args:
        bound: The loss to get below.
        epochs: When the losses were measured: shape (n,), above 0, ascending.
        losses: The losses, NaN where there is none: shape (n,).
        horizon: The epoch to look at.

    Returns:
        A probability; 1 where there are too few losses to tell.
    """
    from scipy import special

    times, values = np.asarray(epochs, float), np.asarray(losses, float)
    known = np.isfinite(values)
    times, values = times[known], values[known]
    if len(values) < FEWEST_POINTS:
        return 1.0
    scale = float(np.ptp(values)) or max(abs(float(values[-1])), 1.0) * 1e-3
    scaled, target = (values - values[-1]) / scale, (bound - values[-1]) / scale
    shape = NOISE[0] + len(values) / 2
    weights, probabilities = [], []
    for basis, ahead in _family(times, horizon):
        design, point = np.stack([np.ones_like(basis), basis], axis=1), np.array([1.0, ahead])
        precision = design.T @ design + np.diag(1 / np.square(PRIOR_SCALE))
        mean = np.linalg.solve(precision, design.T @ scaled)
        rest = NOISE[1] + 0.5 * float(scaled @ scaled - mean @ precision @ mean)
        rest = max(rest, 1e-12)
        weights.append(-0.5 * np.linalg.slogdet(precision)[1] - shape * math.log(rest))
        spread = math.sqrt(rest / shape * (1 + float(point @ np.linalg.solve(precision, point))))
        probabilities.append(special.stdtr(2 * shape, (target - float(point @ mean)) / spread))
    evidence = np.exp(np.array(weights) - max(weights))
    return float(evidence @ np.array(probabilities) / evidence.sum())


def _family(times: Array, horizon: float) -> list[tuple[Array, float]]:
    """Returns, for each curve that falls from 1 at the first time, its values there and at the horizon."""
    first = times[0]
    family = [((times / first) ** -power, float((horizon / first) ** -power)) for power in EXPONENTS]
    for constant in np.geomspace(1.0, 2 * horizon, TIMES):
        family.append((np.exp((first - times) / constant), math.exp((first - horizon) / constant)))
    return family
