from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import linalg, special, stats

from hpcompss.samplers.numerics import lattice
from hpcompss.samplers.numerics.lattice import Best, Mixture, Process, best_density_ratio, best_expected_improvement

Array = NDArray[np.float64]
Indexes = NDArray[np.int64]


def matern(squares: Array) -> Array:
    scaled = np.sqrt(5 * squares)
    return (1 + scaled + scaled**2 / 3) * np.exp(-scaled)


def problem(
    shape: tuple[int, ...],
    observations: int,
    *,
    seed: int = 0,
    length: float = 0.5,
    amplitude: float = 1.7,
    noise: float = 1e-4,
    fantasies: int = 1,
) -> tuple[list[Array], Process, Indexes]:
    """Returns a lattice of squared distances, a process, and where on the lattice it was observed."""
    generator = np.random.default_rng(seed)
    axes = [(np.arange(size) + 0.5) / size for size in shape]
    indexes = np.column_stack([generator.integers(size, size=observations) for size in shape])
    points = np.column_stack([axis[index] for axis, index in zip(axes, indexes.T, strict=True)])
    target = generator.random(len(shape))
    values = ((points - target) ** 2).sum(axis=1) + 0.1 * generator.normal(size=observations)
    values = (values - values.mean()) / (values.std() or 1.0)
    weights = generator.uniform(0.2, 1, len(shape)) / length**2 / len(shape)
    tables = [w * (axis[:, None] - x) ** 2 for w, axis, x in zip(weights, axes, points.T, strict=True)]
    squares = sum((table[index] for table, index in zip(tables, indexes.T, strict=True)), np.zeros((observations,) * 2))
    covariance = amplitude * matern(squares) + noise * np.eye(observations)
    inverse = np.linalg.inv(linalg.cholesky(covariance, lower=True))
    heights = values[:, None] + 0.3 * generator.normal(size=(observations, fantasies)) * (fantasies > 1)
    return tables, Process(inverse.T @ inverse @ heights, inverse, amplitude, heights.min(axis=0)), indexes


def everywhere(tables: list[Array]) -> tuple[Indexes, Array]:
    """Returns all points and the sums of their tables' rows."""
    shape = [len(table) for table in tables]
    indexes = np.array(list(itertools.product(*map(range, shape))), dtype=np.int64).reshape(-1, len(shape))
    return indexes, sum((t[i] for t, i in zip(tables, indexes.T, strict=True)), np.zeros((len(indexes), 1)))


def foremost(indexes: Indexes, scores: Array, count: int, excluded: Indexes | None = None) -> Best:
    """Returns the best by sorting them all."""
    scores = scores.copy()
    if excluded is not None:
        scores[(indexes[:, None] == excluded).all(axis=2).any(axis=1)] = -np.inf
    order = np.argsort(-np.round(scores, 9), kind="stable")[: min(count, int((scores > -np.inf).sum()))]
    return Best(indexes[order], scores[order])


def assert_same(found: Best, expected: Best) -> None:
    np.testing.assert_array_equal(found.indexes, expected.indexes)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-7, atol=1e-7)


@pytest.fixture(params=["numba", "numpy"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Runs a test with and without the compiled kernels, and with parts so small that there are many."""
    if request.param == "numba":
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr(lattice, "kernels", lambda name: None)
    monkeypatch.setattr(lattice, "SMALL", 64)
    monkeypatch.setattr(lattice, "PART", 700)
    monkeypatch.setattr(lattice, "INNER", 1500)
    monkeypatch.setenv("HPCOMPSS_THREADS", "3")
    yield request.param


SHAPES = [(4, 3, 5, 6, 7), (1, 2500, 1), (40, 61), (3, 900), (900, 3), (2,) * 11, (5, 1, 4, 1)]


def test_the_score_is_the_expected_improvement() -> None:
    tables, process, _ = problem((4, 5, 6), 9, fantasies=3)
    _, squares = everywhere(tables)
    covariance = process.amplitude * matern(squares)
    half = covariance @ process.factor_inverse.T
    deviation = np.sqrt(process.amplitude - (half**2).sum(axis=1))[:, None]
    z = (process.incumbents - covariance @ process.duals) / deviation
    improvement = (deviation * (stats.norm.pdf(z) + z * stats.norm.cdf(z))).mean(axis=1)
    np.testing.assert_allclose(np.exp(process.score(squares)), improvement, rtol=1e-6, atol=1e-12)


@pytest.mark.usefixtures("kernel")
class TestExpectedImprovement:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("length", [0.05, 0.3, 2.0])
    def test_the_best_are_those_of_an_exhaustive_search(self, shape: tuple[int, ...], length: float) -> None:
        tables, process, observed = problem(shape, 30, seed=len(shape), length=length)
        indexes, squares = everywhere(tables)
        scores = process.score(squares)
        for count, excluded in ((1, None), (7, observed), (40, indexes[:100])):
            found = best_expected_improvement(tables, process, count=count, excluded=excluded)
            assert_same(found, foremost(indexes, scores, count, excluded))

    @pytest.mark.parametrize("observations", [1, 2, 9, 70])
    @pytest.mark.parametrize("fantasies", [1, 5])
    def test_fantasies_are_averaged(self, observations: int, fantasies: int) -> None:
        tables, process, _ = problem((5, 4, 6, 30), observations, seed=observations, fantasies=fantasies)
        indexes, squares = everywhere(tables)
        expected = foremost(indexes, process.score(squares), 5)
        assert_same(best_expected_improvement(tables, process, count=5), expected)

    def test_the_base_is_added_everywhere(self) -> None:
        tables, process, _ = problem((5, 4, 6, 30, 3), 20)
        indexes, squares = everywhere(tables[:-1])
        base = tables[-1][2]
        expected = foremost(indexes, process.score(squares + base), 3)
        assert_same(best_expected_improvement(tables[:-1], process, base=base, count=3), expected)

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("spread", [0.1, 2.0, 50.0])
    def test_costs_are_taken_off(self, shape: tuple[int, ...], spread: float) -> None:
        tables, process, observed = problem(shape, 30, seed=len(shape), fantasies=3)
        indexes, squares = everywhere(tables)
        generator = np.random.default_rng(1)
        costs = [spread * generator.normal(size=size) for size in shape]
        paid = sum((each[index] for each, index in zip(costs, indexes.T, strict=True)), np.zeros(len(indexes)))
        scores = process.score(squares) - paid
        for count, excluded in ((1, None), (7, observed), (40, indexes[:100])):
            found = best_expected_improvement(tables, process, costs=costs, count=count, excluded=excluded)
            assert_same(found, foremost(indexes, scores, count, excluded))
        middle = float(np.median(scores))
        above = best_expected_improvement(tables, process, costs=costs, count=len(indexes), above=middle)
        assert len(above.scores) == (scores >= middle).sum()

    def test_of_equals_the_first_is_taken(self) -> None:
        tables, process, _ = problem((6, 10, 7), 15)
        doubled = [np.repeat(table, 2, axis=0) for table in tables]
        found = best_expected_improvement(doubled, process, count=12)
        single = best_expected_improvement(tables, process, count=2)
        corners = np.array(list(itertools.product((0, 1), repeat=3)))
        np.testing.assert_array_equal(found.indexes[:8], 2 * single.indexes[0] + corners)
        np.testing.assert_array_equal(found.indexes[8:], 2 * single.indexes[1] + corners[:4])

    def test_a_flat_acquisition_gives_the_first_untried(self) -> None:
        tables = [np.full((size, 4), 1e6) for size in (20, 30, 5)]
        process = Process(np.ones((4, 1)), np.eye(4), 1.0, np.zeros(1))
        found = best_expected_improvement(tables, process, count=3, excluded=np.array([[0, 0, 0], [0, 0, 2]]))
        assert found.indexes.tolist() == [[0, 0, 1], [0, 0, 3], [0, 0, 4]]

    def test_there_may_be_fewer_than_wanted(self) -> None:
        tables, process, _ = problem((3, 40), 8)
        indexes, squares = everywhere(tables)
        scores = process.score(squares)
        assert len(best_expected_improvement(tables, process, count=1000).scores) == 120
        assert len(best_expected_improvement(tables, process, count=1000, excluded=indexes[:100]).scores) == 20
        assert len(best_expected_improvement(tables, process, excluded=indexes).scores) == 0
        middle = float(np.median(scores))
        assert len(best_expected_improvement(tables, process, count=1000, above=middle).scores) == 60
        assert len(best_expected_improvement(tables, process, above=scores.max() + 1).scores) == 0

    def test_no_axes_are_one_point(self) -> None:
        _, process, _ = problem((3,), 4)
        found = best_expected_improvement([], process, base=np.ones(4))
        assert found.indexes.shape == (1, 0)

    def test_ill_conditioned_covariances_are_no_obstacle(self) -> None:
        tables, process, _ = problem((9, 9, 9, 3), 60, length=3.0, noise=1e-8)
        _, squares = everywhere(tables)
        found = best_expected_improvement(tables, process, count=4)
        scores = process.score(squares)
        assert found.scores[0] == pytest.approx(scores.max(), abs=1e-4)


@pytest.mark.usefixtures("kernel")
def test_tables_may_be_made_when_asked() -> None:
    class Lazy:
        def __init__(self, table: Array) -> None:
            self._table = table

        def __len__(self) -> int:
            return len(self._table)

        def __getitem__(self, rows: Indexes, /) -> Array:
            return self._table[rows]

    tables, process, _ = problem((30, 40, 5), 20)
    lazy = best_expected_improvement([Lazy(table) for table in tables], process, count=3)
    assert_same(lazy, best_expected_improvement(tables, process, count=3))


def mixtures(shape: tuple[int, ...], seed: int = 0, narrow: float = 0.1) -> tuple[Mixture, Mixture]:
    generator = np.random.default_rng(seed)
    made = []
    for count in (6, 33):
        centres = [generator.random(count) for _ in shape]
        widths = np.append(np.full(count - 1, narrow), 1.0)
        tables = [
            -0.5 * (((np.arange(size) + 0.5) / size)[:, None] - centre) ** 2 / widths**2 - np.log(widths)
            for size, centre in zip(shape, centres, strict=True)
        ]
        made.append(Mixture(tables, np.log(generator.dirichlet(np.ones(count)))))
    return made[0], made[1]


@pytest.mark.usefixtures("kernel")
class TestDensityRatio:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("narrow", [0.002, 0.1, 1.0])
    def test_the_best_are_those_of_an_exhaustive_search(self, shape: tuple[int, ...], narrow: float) -> None:
        good, bad = mixtures(shape, narrow=narrow)
        indexes, upper = everywhere(list(good.tables))  # type: ignore[arg-type]
        _, lower = everywhere(list(bad.tables))  # type: ignore[arg-type]
        scores = special.logsumexp(upper + good.log_weights, axis=1) - special.logsumexp(
            lower + bad.log_weights, axis=1
        )
        for count, excluded in ((1, None), (7, indexes[::3]), (40, indexes[:100])):
            found = best_density_ratio(good, bad, count=count, excluded=excluded)
            assert_same(found, foremost(indexes, scores, count, excluded))

    def test_of_equals_the_first_untried_are_taken(self) -> None:
        flat = Mixture([np.zeros((size, 3)) for size in (50, 40)], np.zeros(3))
        found = best_density_ratio(flat, flat, count=3, excluded=np.array([[0, 1], [7, 7]]))
        assert found.indexes.tolist() == [[0, 0], [0, 2], [0, 3]]
        assert found.scores.tolist() == [0, 0, 0]


def test_both_kernels_give_the_same_at_full_size() -> None:
    pytest.importorskip("numba")
    tables, process, observed = problem((6, 7, 5, 8, 9, 10), 40, length=0.4)
    found = [best_expected_improvement(tables, process, count=20, excluded=observed)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lattice, "kernels", lambda name: None)
        found.append(best_expected_improvement(tables, process, count=20, excluded=observed))
    assert_same(*found)
    np.testing.assert_array_equal(found[0].scores, found[1].scores)
