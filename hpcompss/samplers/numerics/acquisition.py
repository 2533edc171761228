"""The logarithm of the expected improvement, stable however small the improvement.

Ament et al. (2023), "Unexpected improvements to expected improvement for Bayesian optimization": with
``z = (incumbent - mean) / deviation`` the expected improvement is ``deviation * h(z)``, where
``h(z) = pdf(z) + z cdf(z)`` (their equations 2 and 8). Here h is taken from the Mills ratio ``R(x) = cdf(-x) / pdf(x)``
for negative z, as ``h(-x) = pdf(x) (1 - x R(x))``, whose cancellation the continued fraction of R avoids (Abramowitz
and Stegun, 26.2.14).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

__all__ = ["log_expected_improvement", "log_h", "log_h_slope"]

TAIL = -6.0
"""Below it the continued fraction is used: 40 of its terms are then exact to a double's last digits, and above it the
direct formula loses at most a factor of 36 of its precision."""
TERMS = 40
FARTHEST = 1e150
"""Where squares still are doubles."""
HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
MILLS = math.sqrt(math.pi / 2)


def log_expected_improvement(mean: ArrayLike, deviation: ArrayLike, incumbent: ArrayLike) -> NDArray[np.float64]:
    """Returns the logarithm of how far a normal variable is expected to fall below the incumbent.

    Args:
        mean: Of the variable; any shapes that broadcast.
        deviation: Its standard deviation, at least 0; where it is 0, the improvement is certain.
        incumbent: The least value known.
    """
    improvement = np.subtract(incumbent, mean, dtype=np.float64)
    scale = np.maximum(np.asarray(deviation, dtype=np.float64), np.finfo(np.float64).tiny)
    with np.errstate(over="ignore"):
        return np.asarray(np.log(scale) + log_h(improvement / scale))


def log_h(z: ArrayLike) -> NDArray[np.float64]:
    """Returns ``log(pdf(z) + z cdf(z))`` of the standard normal distribution, in the shape of ``z``."""
    z = np.asarray(z, dtype=np.float64)
    with np.errstate(over="ignore"):
        below = -0.5 * z * z - HALF_LOG_TAU + np.log(_share(z))
        above = np.maximum(z, -1.0)
        return np.asarray(np.where(z < -1, below, np.log(_density(above) + above * special.ndtr(above))))


def log_h_slope(z: ArrayLike) -> NDArray[np.float64]:
    """Returns the derivative of `log_h`, which is ``cdf(z) / h(z)``, in the shape of ``z``.

    The derivative by the mean is therefore ``-log_h_slope(z) / deviation``, and that by the deviation
    ``(1 - z * log_h_slope(z)) / deviation``.
    """
    z = np.asarray(z, dtype=np.float64)
    share, below, above = _share(z), np.clip(-z, 1.0, FARTHEST), np.maximum(z, -1.0)
    cumulative = special.ndtr(above)
    direct = cumulative / (_density(above) + above * cumulative)
    return np.asarray(np.where(z < -1, (1 - share) / (below * share), direct))


def _density(z: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(under="ignore", over="ignore"):
        return np.asarray(np.exp(-0.5 * z * z - HALF_LOG_TAU))


def _share(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns ``h(z) / pdf(z)``, which is ``1 + z R(-z)``, for z < -1 (anything elsewhere)."""
    near = np.clip(-z, 1.0, -TAIL)
    share: NDArray[np.float64] = np.asarray(1 - near * MILLS * special.erfcx(near / math.sqrt(2)))
    is_far = z < TAIL
    if is_far.any():
        far = np.minimum(-z[is_far], FARTHEST)
        tail = far
        for term in range(TERMS, 1, -1):
            tail = far + term / tail
        share[is_far] = 1 / (far * tail + 1)
    return share
