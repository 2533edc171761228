from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, stats

from hpcompss.samplers.numerics.regression import (
    JITTER,
    Hyperparameters,
    Posterior,
    _Objective,
    fit,
    matern,
    squared_distances,
)

Array = NDArray[np.float64]

GROUPS = np.array([0, 1, 1, 2])
HYPER = Hyperparameters(np.array([4.0, 0.5, 9.0]), 1.7, 1e-3)


def observations(count: int = 14, seed: int = 0) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    points = generator.random((count, 4))
    values = np.sin(6 * points[:, 0]) + points[:, 1] * points[:, 3] + 0.1 * generator.normal(size=count)
    return points, (values - values.mean()) / values.std()


def covariance(first: Array, second: Array, hyper: Hyperparameters = HYPER) -> Array:
    """Returns the signal's covariance, by its definition."""
    away = np.sqrt(((first[:, None] - second) ** 2 * hyper.weights[GROUPS]).sum(axis=2))
    scaled = math.sqrt(5) * away
    return np.asarray(hyper.amplitude * (1 + scaled + scaled**2 / 3) * np.exp(-scaled))


def noisy(points: Array) -> Array:
    return covariance(points, points) + (HYPER.noise + JITTER * HYPER.amplitude) * np.eye(len(points))


def test_the_kernels_derivative() -> None:
    squares = np.linspace(0.01, 9, 40)
    slopes = (matern(squares + 1e-6)[0] - matern(squares - 1e-6)[0]) / 2e-6
    np.testing.assert_allclose(matern(squares)[1], slopes, rtol=1e-6)
    assert matern(np.zeros(1))[0] == 1


def test_squared_distances() -> None:
    first, second = np.random.default_rng(0).random((2, 5, 3))
    np.testing.assert_allclose(squared_distances(first, second), ((first[:, None] - second) ** 2).sum(axis=2))
    assert (squared_distances(1e4 + 1e-6 * first, 1e4 + 1e-6 * first) >= 0).all()


def test_the_objective_is_the_marginal_likelihood_times_the_prior() -> None:
    points, values = observations()
    mean, deviation = np.array([0.1, 0.2, 0.3, 0.4, -5.0]), np.array([1.0, 2.0, 1.5, 0.7, 2.0])
    objective = _Objective(points, values, GROUPS, 0.0, mean, deviation)
    logarithms = np.log([*HYPER.weights, HYPER.amplitude, HYPER.noise])
    dense = noisy(points)
    ones = np.linalg.solve(dense, np.ones(len(points)))
    constant = ones @ values / ones.sum()
    likelihood = stats.multivariate_normal(np.full(len(points), constant), dense).logpdf(values)
    prior = -0.5 * (((logarithms - mean) / deviation) ** 2).sum()
    expected = -likelihood - 0.5 * len(points) * math.log(2 * math.pi) - prior
    assert objective(logarithms)[0] == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("doubted", [False, True])
def test_the_objectives_gradient(seed: int, doubted: bool) -> None:
    points, values = observations(20, seed)
    doubts, count = (np.arange(20) % 3.0, 6) if doubted else (0.0, 5)
    objective = _Objective(points, values, GROUPS, doubts, np.zeros(count), np.full(count, 2.0))
    logarithms = np.random.default_rng(seed).normal([0, 0, 0, 0, -4, -2][:count], 1)
    slopes = optimize.approx_fprime(logarithms, lambda at: objective(at)[0], 1e-6)
    np.testing.assert_allclose(objective(logarithms)[1], slopes, rtol=1e-4, atol=1e-4)


def test_points_that_coincide_are_no_obstacle() -> None:
    points = np.repeat(observations(3)[0], 60, axis=0)
    values = np.random.default_rng(0).normal(size=180)
    hyper = fit(points, values, GROUPS)
    assert hyper.noise > 0.5
    certain = Hyperparameters(np.full(3, math.exp(-12)), math.exp(5), math.exp(-16))
    posterior = Posterior(points, GROUPS, certain).extended(points).given(np.tile(values, 2))
    process, _ = posterior.with_fantasies(points, np.random.default_rng(1).normal(size=(4, 180)))
    assert np.isfinite(process.predict(points)[0]).all()


def test_the_fit_finds_what_matters() -> None:
    generator = np.random.default_rng(0)
    points = generator.random((60, 3))
    values = np.sin(8 * points[:, 0]) + 0.05 * generator.normal(size=60)
    hyper = fit(points, (values - values.mean()) / values.std(), np.arange(3))
    assert hyper.weights[0] > 20 * hyper.weights[1:].max()
    assert math.sqrt(hyper.noise) == pytest.approx(0.05 / values.std(), rel=0.5)


def test_the_posterior_is_that_of_the_textbook() -> None:
    points, values = observations()
    asked = np.random.default_rng(1).random((9, 4))
    posterior = Posterior(points, GROUPS, HYPER).given(values)
    dense, cross = noisy(points), covariance(asked, points)
    ones = np.linalg.solve(dense, np.ones(len(points)))
    mean = ones @ values / ones.sum()
    means, deviations = posterior.predict(asked)
    assert posterior.mean == pytest.approx(mean)
    np.testing.assert_allclose(means[:, 0], mean + cross @ np.linalg.solve(dense, values - mean))
    variance = HYPER.amplitude - (cross * np.linalg.solve(dense, cross.T).T).sum(axis=1)
    np.testing.assert_allclose(deviations**2, variance, rtol=1e-6)


def test_it_goes_through_what_has_no_noise() -> None:
    points, values = observations()
    exact = Posterior(points, GROUPS, Hyperparameters(HYPER.weights, 1.7, 1e-12)).given(values)
    means, deviations = exact.predict(points)
    np.testing.assert_allclose(means[:, 0], values, atol=1e-5)
    assert deviations.max() < 1e-3


def test_more_observations_are_as_good_as_a_new_process() -> None:
    points, values = observations()
    whole = Posterior(points, GROUPS, HYPER)
    grown = Posterior(points[:6], GROUPS, HYPER).extended(points[6:10]).extended(points[10:])
    np.testing.assert_allclose(grown.points, whole.points)
    np.testing.assert_allclose(grown.factor_inverse, whole.factor_inverse, atol=1e-8)
    np.testing.assert_allclose(grown.given(values).duals, whole.given(values).duals, atol=1e-6)


def test_fantasies_are_conditioned_on() -> None:
    points, values = observations()
    posterior = Posterior(points, GROUPS, HYPER).given(values)
    pending, normals = np.random.default_rng(1).random((3, 4)), np.random.default_rng(2).normal(size=(5, 3))
    process, fantasies = posterior.with_fantasies(pending, normals)
    everything = np.vstack([points, pending])
    for column, fantasy in enumerate(fantasies.T):
        expected = np.linalg.solve(noisy(everything), np.concatenate([values, fantasy]) - posterior.mean)
        np.testing.assert_allclose(process.duals[:, column], expected, rtol=1e-6, atol=1e-6)


def test_fantasies_follow_the_posterior() -> None:
    points, values = observations()
    posterior = Posterior(points, GROUPS, HYPER).given(values)
    pending = np.random.default_rng(1).random((3, 4))
    _, fantasies = posterior.with_fantasies(pending, np.vstack([np.zeros((1, 3)), np.eye(3)]))
    means, _ = posterior.predict(pending)
    np.testing.assert_allclose(fantasies[:, :1], means)
    cross = covariance(pending, points)
    expected = noisy(pending) - cross @ np.linalg.solve(noisy(points), cross.T)
    factor = fantasies[:, 1:] - means
    np.testing.assert_allclose(factor @ factor.T, expected, atol=1e-8)


def test_points_and_their_gradients() -> None:
    points, values = observations()
    posterior, _ = Posterior(points, GROUPS, HYPER).given(values).with_fantasies(points[:2] + 0.1, np.eye(2))
    asked = np.random.default_rng(3).random((3, 4))
    means, deviations, mean_slopes, slopes = posterior.predict_with_gradients(asked)
    expected_means, expected_deviations = posterior.predict(asked)
    np.testing.assert_allclose(means, expected_means)
    np.testing.assert_allclose(deviations, expected_deviations)
    for step, column in zip(1e-6 * np.eye(4), range(4), strict=True):
        (above, high), (below, low) = posterior.predict(asked + step), posterior.predict(asked - step)
        np.testing.assert_allclose(mean_slopes[:, :, column], (above - below) / 2e-6, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(slopes[:, column], (high - low) / 2e-6, rtol=1e-4, atol=1e-6)


def test_what_is_doubted_shapes_the_process_less() -> None:
    points, _ = observations()
    doubts = np.zeros(len(points))
    doubts[0] = 2.0
    hyper = dataclasses.replace(HYPER, doubt=0.7)
    noise = np.diag(HYPER.noise + hyper.doubt * doubts + 1e-8 * HYPER.amplitude)
    expected = covariance(points, points) + noise
    for posterior in (
        Posterior(points, GROUPS, hyper, doubts),
        Posterior(points[1:], GROUPS, hyper).extended(points[:1], doubts[:1]),
    ):
        inverse = posterior.factor_inverse.T @ posterior.factor_inverse
        first = np.allclose(posterior.points[0], posterior.scaled(points[0]))
        ordered = expected if first else np.roll(expected, (-1, -1), (0, 1))
        np.testing.assert_allclose(inverse, np.linalg.inv(ordered), rtol=1e-6, atol=1e-8)


def test_how_much_doubted_values_are_off_is_learned() -> None:
    generator = np.random.default_rng(0)
    points, doubts = generator.random((80, 2)), np.repeat([0.0, 1.0], 40)
    truth = np.sin(4 * points[:, 0]) + points[:, 1]
    values = truth + 0.5 * doubts * generator.normal(size=80)
    scale = values.std()
    hyper = fit(points, (values - values.mean()) / scale, np.arange(2), doubts=doubts)
    assert hyper.doubt == pytest.approx((0.5 / scale) ** 2, rel=0.6)
    assert hyper.noise < 0.05 * hyper.doubt
