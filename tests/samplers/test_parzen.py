from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate, stats

from hpcompss.samplers.numerics.parzen import Layout, Marginals, Parzen
from hpcompss.space import Boolean, Choice, Fixed, Float, Int, Parameter, Space
from hpcompss.space.cube import Cube

Array = NDArray[np.float64]

KINDS: dict[str, Parameter] = {
    "continuous": Float("x", 0, 1),
    "integer": Int("x", 0, 9),
    "log integer": Int("x", 1, 20, sampling="log"),
    "reverse log integer": Int("x", 1, 20, sampling="reverse_log"),
    "many integers": Int("x", 0, 999),
    "many log integers": Int("x", 10, 999, sampling="log"),
    "stepped": Float("x", 0, 1, step=0.1),
    "category": Choice("x", ["a", "b", "c"]),
}

CONDITIONAL = Space(
    [
        Choice("model", ["a", "b", "c"]),
        Int("units", 1, 4, sampling="log", parent_name="model", parent_values=["a", "b"]),
        Boolean("deep", parent_name="units", parent_values=[2, 4]),
        Int("steps", 0, 2),
        Fixed("constant", 1),
    ]
)
"""All of its columns are tabled, so that its combinations can be counted."""


def estimators(space: Space, count: int = 12, least: float = 0.05) -> tuple[Parzen, Marginals, Array]:
    """Returns both estimators of the same random observations, and these."""
    cube, generator = Cube(space), np.random.default_rng(0)
    units = cube.snap(generator.random((count, len(space))) ** 2)
    weights = generator.uniform(0.2, 2, count)
    parzen, marginals = (
        kind(Layout(cube), units, weights, prior_weight=0.7, least=least) for kind in (Parzen, Marginals)
    )
    return parzen, marginals, units


def combinations(space: Space) -> tuple[Array, Array]:
    """Returns a finite space's combinations, encoded, and the prior's mass of each."""
    cube = Cube(space)
    units = np.array([space.encode(each) for each in space.combinations()])
    layout = Layout(cube)
    masses = np.ones(len(units))
    for at, codes in enumerate(layout.codes(units).T):
        masses *= np.where(codes < 0, 1.0, layout.masses[at][codes])
    return units, masses


@pytest.mark.parametrize("kind", KINDS)
def test_a_density_of_one_parameter_integrates_to_one(kind: str) -> None:
    space = Space([KINDS[kind]])
    places = (np.arange(20_000)[:, None] + 0.5) / 20_000
    for estimator in estimators(space)[:2]:
        total = np.exp(estimator.log_density(Cube(space).snap(places))).mean()
        assert total == pytest.approx(1, abs=3e-3 if kind in ("many log integers", "continuous") else 1e-3)


def test_a_density_of_a_conditional_space_integrates_to_one() -> None:
    units, masses = combinations(CONDITIONAL)
    assert masses.sum() == pytest.approx(1)
    assert masses @ np.exp(estimators(CONDITIONAL)[0].log_density(units)) == pytest.approx(1)


def test_a_density_of_a_mixed_space_integrates_to_one() -> None:
    space = Space(
        [*CONDITIONAL.parameters, Float("rate", 0, 1, parent_name="model", parent_values="a"), Int("width", 1, 500)]
    )
    points = Cube(space).snap(np.random.default_rng(0).random((40_000, 7)))
    density = np.exp(estimators(space, least=0.2)[0].log_density(points))
    assert density.mean() == pytest.approx(1, abs=4 * density.std() / 200)


def test_it_is_the_mixture_of_its_kernels() -> None:
    space = Space(
        [Float("x", 0, 1), Float("y", 0, 1), Boolean("flag"), Float("z", 0, 1, parent_name="flag", parent_values=True)]
    )
    cube = Cube(space)
    parzen, _, observed = estimators(space, count=5)
    points = cube.snap(np.random.default_rng(1).random((50, 4)))
    table = np.exp(parzen.log_tables[0])
    for point, found in zip(points, parzen.log_density(points), strict=True):
        kernels = []
        for unit in observed:
            factors = [table[int(point[2] > 0.5), int(unit[2] > 0.5)]]
            for column, width in zip((0, 1, 3), parzen.bandwidths, strict=True):
                if not np.isnan(point[column]) and not np.isnan(unit[column]):
                    low, high = -unit[column] / width, (1 - unit[column]) / width
                    factors.append(stats.truncnorm(low, high, unit[column], width).pdf(point[column]))
            kernels.append(np.prod(factors))
        assert np.exp(found) == pytest.approx(float(parzen.weights @ [*kernels, 1.0]))
    assert parzen.kernels(points).shape == (50, 5)


def test_draws_follow_the_density() -> None:
    units, masses = combinations(CONDITIONAL)
    parzen = estimators(CONDITIONAL)[0]
    drawn = Cube(CONDITIONAL).snap(parzen.draw(5000, np.random.default_rng(0)))
    same = np.isclose(drawn[:, None], units, equal_nan=True).all(axis=2)
    expected = 5000 * masses * np.exp(parzen.log_density(units))
    assert stats.chisquare(same.sum(axis=0), expected).pvalue > 0.01


def test_continuous_draws_follow_the_density() -> None:
    parzen = estimators(Space([Float("x", 0, 1)]), least=0.03)[0]
    drawn = parzen.draw(3000, np.random.default_rng(0))[:, 0]
    grid = np.linspace(0, 1, 5001)
    cumulated = integrate.cumulative_trapezoid(np.exp(parzen.log_density(grid[:, None])), grid, initial=0)
    assert stats.kstest(drawn, lambda places: np.interp(places, grid, cumulated)).pvalue > 0.01


def test_what_no_observation_has_is_drawn_from_the_prior() -> None:
    space = Space([Boolean("flag"), Float("x", 0, 1, parent_name="flag", parent_values=True)])
    units = np.array([[0.25, np.nan]] * 6)
    parzen = Parzen(Layout(Cube(space)), units, np.ones(6), prior_weight=1.0, least=0.1)
    assert stats.kstest(parzen.draw(2000, np.random.default_rng(0))[:, 1], "uniform").pvalue > 0.01
    on, off = parzen.log_density(np.array([[0.75, 0.1], [0.25, np.nan]]))
    assert on < 0 < off
    assert parzen.log_density(np.array([[0.75, 0.1], [0.75, 0.9]])).tolist() == pytest.approx([on, on])


def test_without_observations_it_is_the_prior() -> None:
    for space in (CONDITIONAL, Space([Float("x", 0, 1)]), Space([])):
        cube = Cube(space)
        points = cube.snap(np.random.default_rng(0).random((9, len(space))))
        none = np.empty((0, len(space)))
        for kind in (Parzen, Marginals):
            estimator = kind(Layout(cube), none, np.empty(0), prior_weight=1.0, least=0.1)
            assert estimator.log_density(points).tolist() == pytest.approx([0.0] * 9)


def test_marginal_densities_are_those_of_each_parameter_alone() -> None:
    space = Space([Float("x", 0, 1), Int("n", 0, 9), Choice("c", ["a", "b", "c"])])
    generator = np.random.default_rng(2)
    observed, points = (Cube(space).snap(generator.random((count, 3))) for count in (12, 30))
    weights = generator.uniform(0.2, 2, 12)

    def density(columns: list[int]) -> Array:
        layout = Layout(Cube(Space([space.parameters[column] for column in columns])))
        marginals = Marginals(layout, observed[:, columns], weights, prior_weight=0.7, least=0.05)
        return marginals.log_density(points[:, columns])

    np.testing.assert_allclose(density([0, 1, 2]), density([0]) + density([1]) + density([2]))
