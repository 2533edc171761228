"""Gaussian process regression: Matern 5/2 with a length scale for each parameter, fitted by its marginal likelihood."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

__all__ = ["Hyperparameters", "Posterior", "Prior", "fit"]

Array = NDArray[np.float64]

JITTER = 1e-8
"""Added to the covariance's diagonal, relative to the amplitude: keeps its Cholesky factor where points coincide."""

LEAST = 1e-12
"""The least variance, relative to the amplitude, that rounding leaves."""


@dataclass(frozen=True)
class Prior:
    """What is believed of the hyper-parameters before any data: normal distributions of their logarithms.

    Attributes:
        length: Mean and deviation of log length scale, at one dimension. With d dimensions log(d) / 2 is added to the
            mean, as distances grow with the square root of d (Hvarfner et al., 2024, "Vanilla Bayesian optimization
            performs great in high dimensions", section 5).
        amplitude: Mean and deviation of log signal variance; the values are standardised.
        noise: Mean and deviation of log noise variance.
        doubt: Mean and deviation of the logarithm of what a doubt of 1 adds to it.
    """

    length: tuple[float, float] = (0.0, 1.2)
    amplitude: tuple[float, float] = (0.0, 1.0)
    noise: tuple[float, float] = (-11.0, 2.0)
    doubt: tuple[float, float] = (-3.0, 2.0)


@dataclass(frozen=True)
class Hyperparameters:
    """The hyper-parameters of a process.

    Attributes:
        weights: One over the square of each group's length scale: shape (groups,).
        amplitude: The signal's variance.
        noise: The noise's variance.
        doubt: What a doubt of 1 adds to it.
    """

    weights: Array
    amplitude: float
    noise: float
    doubt: float = 0.0


def matern(squares: Array) -> tuple[Array, Array]:
    """Returns Matern 5/2 of squared distances and its derivative by them (Rasmussen and Williams, 2006, eq. 4.17)."""
    scaled = np.sqrt(5.0 * squares)
    decay = np.exp(-scaled)
    return (1.0 + scaled + scaled * scaled / 3.0) * decay, (-5.0 / 6.0) * (1.0 + scaled) * decay


def squared_distances(first: Array, second: Array) -> Array:
    """Returns the squared distances between the rows of two arrays, shapes (n, p) and (m, p): shape (n, m)."""
    squares = -2.0 * first @ second.T
    squares += np.einsum("ij,ij->i", first, first)[:, None]
    squares += np.einsum("ij,ij->i", second, second)
    return np.maximum(squares, 0.0, out=squares)


def fit(
    points: Array,
    values: Array,
    groups: NDArray[np.intp],
    *,
    doubts: Array | float = 0.0,
    prior: Prior = Prior(),
    iterations: int = 100,
) -> Hyperparameters:
    """Returns the hyper-parameters that maximise marginal likelihood times prior, by L-BFGS with exact gradients.

    Args:
        points: Shape (n, p).
        values: Standardised: shape (n,).
        groups: Which length scale each of the p columns has: shape (p,).
        doubts: How much each value is to be doubted beside the noise that all have, at least 0: shape (n,).
        prior: Over the logarithms of the hyper-parameters.
        iterations: The most that L-BFGS makes.
    """
    count = int(groups.max()) + 1
    others = [prior.amplitude, prior.noise]
    bounds = [(-12.0, 9.0)] * count + [(-5.0, 5.0), (-16.0, 2.0)]
    if np.any(doubts):
        others.append(prior.doubt)
        bounds.append((-16.0, 3.0))
    mean = np.array([-2 * prior.length[0] - math.log(count)] * count + [each[0] for each in others])
    deviation = np.array([2 * prior.length[1]] * count + [each[1] for each in others])
    objective = _Objective(points, values, groups, doubts, mean, deviation)
    start = mean.copy()
    start[:count] = np.maximum(start[:count], -2 * math.log(0.5 * math.sqrt(count)))
    found = optimize.minimize(
        objective,
        np.clip(start, [low for low, _ in bounds], [high for _, high in bounds]),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": iterations, "ftol": 1e-6, "gtol": 1e-4},
    )
    return Hyperparameters(np.exp(found.x[:count]), *np.exp(found.x[count:]).tolist())


class _Objective:
    """Minus the logarithm of marginal likelihood times prior, with its gradient.

    Rasmussen and Williams (2006), equations 2.30 and 5.9; the constant mean is the generalised least squares one.
    """

    def __init__(
        self,
        points: Array,
        values: Array,
        groups: NDArray[np.intp],
        doubts: Array | float,
        mean: Array,
        deviation: Array,
    ) -> None:
        self._points = points
        self._values = values
        self._groups = groups
        self._count = int(groups.max()) + 1
        self._doubts = doubts
        self._mean = mean
        self._deviation = deviation
        self._squares = points * points

    def __call__(self, logarithms: Array) -> tuple[float, Array]:
        count = self._count
        weights = np.exp(logarithms[:count])
        amplitude, noise, *doubt = np.exp(logarithms[count:]).tolist()
        doubted = doubt[0] * self._doubts if doubt else 0.0
        scaled = self._points * np.sqrt(weights)[self._groups]
        correlation, slope = matern(squared_distances(scaled, scaled))
        covariance = amplitude * correlation
        covariance.flat[:: len(covariance) + 1] += noise + JITTER * amplitude + doubted
        factor, failed = linalg.lapack.dpotrf(covariance, lower=1, clean=1, overwrite_a=1)
        off = (logarithms - self._mean) / self._deviation
        if failed:
            return 1e10, np.zeros_like(logarithms)
        inverse, _ = linalg.lapack.dpotri(factor, lower=1)
        inverse += np.tril(inverse, -1).T
        sums = inverse.sum(axis=0)
        residual = self._values - (sums @ self._values) / sums.sum()
        dual = inverse @ residual
        value = 0.5 * residual @ dual + np.log(factor.diagonal()).sum() + 0.5 * off @ off
        inverse -= dual[:, None] * dual
        gradient = off / self._deviation
        gradient[count] += 0.5 * amplitude * (np.vdot(inverse, correlation) + JITTER * np.trace(inverse))
        gradient[count + 1] += 0.5 * noise * np.trace(inverse)
        if doubt:
            gradient[-1] += 0.5 * doubted @ inverse.diagonal()
        slope *= inverse
        rows = slope.sum(axis=0)
        moments = rows @ self._squares - np.einsum("ij,ij->j", self._points, slope @ self._points)
        gradient[:count] += amplitude * weights * np.bincount(self._groups, moments, count)
        return float(value), gradient


class Posterior:
    """A process after observations.

    Args:
        points: Shape (n, p).
        groups: Which weight each column has: shape (p,).
        hyper: Those of the process.
        doubts: How much the value of each is to be doubted, see `fit`: shape (n,).

    Attributes:
        points: The observations, scaled by the length scales: shape (n, p).
        factor_inverse: The inverse of the covariance's lower Cholesky factor: shape (n, n).
        mean: The constant mean.
        duals: The covariance's inverse times what the values are above the mean: shape (n, fantasies), one column
            where nothing is fantasised; empty before `given`.
    """

    def __init__(
        self, points: Array, groups: NDArray[np.intp], hyper: Hyperparameters, doubts: Array | float = 0.0
    ) -> None:
        self.hyper = hyper
        self._roots = np.sqrt(hyper.weights)[groups]
        self.points = self.scaled(points)
        factor = linalg.cholesky(
            self._covariance(self.points, doubts), lower=True, overwrite_a=True, check_finite=False
        )
        self.factor_inverse = _inverse(factor)
        self.mean = 0.0
        self.duals: Array = np.empty((len(points), 0))

    def scaled(self, points: Array) -> Array:
        """Returns points in units of the length scales: shape (m, p)."""
        return points * self._roots

    def given(self, values: Array) -> Posterior:
        """Returns the process given the observations' values: shape (n,)."""
        process = copy.copy(self)
        half = self.factor_inverse @ np.column_stack([np.ones(len(values)), values])
        # The mean by generalised least squares.
        process.mean = float(half[:, 0] @ half[:, 1] / (half[:, 0] @ half[:, 0]))
        process.duals = (self.factor_inverse.T @ (half[:, 1] - process.mean * half[:, 0]))[:, None]
        return process

    def extended(self, points: Array, doubts: Array | float = 0.0) -> Posterior:
        """Returns the process with more observations, before their values are given.

        The Cholesky factor is extended, not made anew: n^2 q operations and not n^3.

        Args:
            points: Shape (q, p).
            doubts: How much the value of each is to be doubted: shape (q,).
        """
        added = self.scaled(points)
        cross = self.hyper.amplitude * matern(squared_distances(added, self.points))[0]
        lower = cross @ self.factor_inverse.T
        corner = self._covariance(added, doubts) - lower @ lower.T
        inverse = _inverse(linalg.cholesky(corner, lower=True, overwrite_a=True, check_finite=False))
        count, more = len(self.points), len(added)
        process = copy.copy(self)
        process.points = np.vstack([self.points, added])
        process.factor_inverse = np.zeros((count + more, count + more))
        process.factor_inverse[:count, :count] = self.factor_inverse
        process.factor_inverse[count:, :count] = -inverse @ (lower @ self.factor_inverse)
        process.factor_inverse[count:, count:] = inverse
        return process

    def with_fantasies(self, points: Array, normals: Array) -> tuple[Posterior, Array]:
        """Returns the process after pending points, once for each fantasy of their values, and those values.

        Snoek et al. (2012), "Practical Bayesian optimization of machine learning algorithms", section 3.2.

        Args:
            points: Shape (q, p).
            normals: Independent standard normal numbers: shape (fantasies, q).

        Returns:
            The process, and the values fantasised: shape (q, fantasies).
        """
        process = self.extended(points)
        count = len(self.points)
        means, _ = self.predict(points)
        corner = linalg.solve_triangular(process.factor_inverse[count:, count:], np.eye(len(points)), lower=True)
        drawn = corner @ normals.T
        # In the terms of the factor, a fantasy is its normal numbers above its expectation.
        process.duals = process.factor_inverse.T[:, count:] @ normals.T
        process.duals[:count] += self.duals
        return process, means + drawn

    def _covariance(self, points: Array, doubts: Array | float) -> Array:
        covariance = self.hyper.amplitude * matern(squared_distances(points, points))[0]
        noise = self.hyper.noise + JITTER * self.hyper.amplitude + self.hyper.doubt * doubts
        covariance.flat[:: len(covariance) + 1] += noise
        return covariance

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Returns means and deviation of the noiseless function at points (m, p): shapes (m, fantasies) and (m,)."""
        amplitude = self.hyper.amplitude
        covariance = amplitude * matern(squared_distances(self.scaled(points), self.points))[0]
        half = covariance @ self.factor_inverse.T
        variance = amplitude - np.einsum("ij,ij->i", half, half)
        return covariance @ self.duals + self.mean, np.sqrt(np.maximum(variance, LEAST * amplitude))

    def predict_with_gradients(self, points: Array) -> tuple[Array, Array, Array, Array]:
        """Returns means, deviations and their gradients at points (m, p).

        Returns:
            Means (m, fantasies), deviations (m,), the means' gradients (m, fantasies, p) and the deviations' (m, p).
        """
        away = self.scaled(points)[:, None, :] - self.points
        correlation, slope = matern(np.einsum("ijk,ijk->ij", away, away))
        amplitude = self.hyper.amplitude
        covariance = amplitude * correlation
        half = covariance @ self.factor_inverse.T
        variance = amplitude - np.einsum("ij,ij->i", half, half)
        deviations = np.sqrt(np.maximum(variance, LEAST * amplitude))
        away *= (2.0 * amplitude * slope)[:, :, None]
        away *= self._roots
        slopes = -((half @ self.factor_inverse)[:, None, :] @ away)[:, 0] / deviations[:, None]
        return covariance @ self.duals + self.mean, deviations, self.duals.T @ away, slopes


def _inverse(factor: Array) -> Array:
    """Returns the inverse of a lower triangular matrix."""
    inverse, _ = linalg.lapack.dtrtri(factor, lower=1)
    return np.ascontiguousarray(np.tril(inverse))
