from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, stats

from hpcompss.errors import InputError
from hpcompss.samplers import gaussian_process
from hpcompss.samplers.gaussian_process import GaussianProcess, LogExpectedImprovement, chosen, half_ranked, warped
from hpcompss.samplers.history import History
from hpcompss.samplers.numerics import lattice
from hpcompss.samplers.numerics.regression import Hyperparameters, Posterior
from hpcompss.samplers.quasirandom import Quasirandom
from hpcompss.space import Boolean, Choice, Float, Int, Space
from tests.samplers.conformance import CONDITIONAL, SIZE, LearnerConformance, finished, history_of, random_values
from tests.samplers.problem import FLAT, SPACE, bowl, in_parallel, learned, spacing

Array = NDArray[np.float64]

LATTICE = Space([*CONDITIONAL, Int("log", 1, 5, sampling="log")])


class TestProcess(LearnerConformance):
    sampler = "gp"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[LogExpectedImprovement]:
    """The acquisitions that samplers made."""
    made: list[LogExpectedImprovement] = []

    class Kept(LogExpectedImprovement):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(gaussian_process, "LogExpectedImprovement", Kept)
    return made


@pytest.mark.parametrize("kernel", ["any", "numpy"])
@pytest.mark.parametrize("pending", [0, 6])
@pytest.mark.parametrize("seed", range(2))
def test_of_a_finite_space_the_best_untried_combination_is_taken(
    seed: int, pending: int, kernel: str, asked: list[LogExpectedImprovement], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lattice, "SMALL", 16)
    if kernel == "numpy":
        monkeypatch.setattr(lattice, "kernels", lambda name: None)
    history = history_of(LATTICE, random_values(60), sizes=[0.5, 0.5, 2.0] * 20)
    running = [LATTICE.sample(np.random.default_rng(number)) for number in range(pending)]
    sampler = GaussianProcess(LATTICE, seed=seed)
    found = sampler.ask(history, running, 60)
    taken = history.keys | {LATTICE.key(each) for each in running}
    untried = [each for each in LATTICE.combinations() if LATTICE.key(each) not in taken]
    points = sampler._features.points(np.array([LATTICE.encode(each) for each in [found, *untried]]))
    scores = asked[0](points)
    assert found in untried
    assert scores[0] == pytest.approx(scores[1:].max(), abs=1e-6)
    # In so small a space local search arrives there, too, or where it gains next to nothing more.
    searched = GaussianProcess(LATTICE, seed=seed, exhaustive=1)
    assert searched._lattice is searched._discrete is None
    assert asked[0](sampler._features.points(LATTICE.encode(searched.ask(history, running, 60))[None])) == (
        pytest.approx(scores[0], abs=1e-3)
    )


def test_all_combinations_of_the_discrete_part_are_compared(asked: list[LogExpectedImprovement]) -> None:
    space = Space(
        [
            Choice("model", list("abc")),
            *(Choice(f"c{number}", list("pqrs")) for number in range(4)),
            Boolean("flag", parent_name="model", parent_values="a"),
            Int("many", 1, 5000),
            Float("x", 0, 1),
        ]
    )
    sampler = GaussianProcess(space, seed=0)
    found = space.encode(sampler.ask(history_of(space, random_values(40)), [], 40))
    cube, features = sampler._cube, sampler._features
    places = np.random.default_rng(0).random((30_000, len(space)))
    held = ~(cube.counts <= 64)
    places[:, held] = found[held]
    assert asked[0](features.points(found[None]))[0] >= asked[0](features.points(cube.snap(places))).max() - 1e-9


def test_the_acquisition_is_the_expected_improvement_averaged_over_fantasies() -> None:
    generator = np.random.default_rng(0)
    points = generator.random((8, 3))
    process = Posterior(points, np.arange(3), Hyperparameters(np.array([3.0, 1.0, 6.0]), 1.2, 1e-4))
    process = process.given(generator.normal(size=8))
    process, values = process.with_fantasies(generator.random((2, 3)), generator.normal(size=(5, 2)))
    incumbents = np.minimum(-0.5, values.min(axis=0))
    acquisition = LogExpectedImprovement(process, incumbents)
    asked = generator.random((6, 3))
    means, deviations = process.predict(asked)
    z = (incumbents - means) / deviations[:, None]
    improvements = deviations[:, None] * (stats.norm.pdf(z) + z * stats.norm.cdf(z))
    np.testing.assert_allclose(np.exp(acquisition(asked)), improvements.mean(axis=1), rtol=1e-6)
    values, gradients = acquisition.with_gradients(asked)
    np.testing.assert_allclose(values, acquisition(asked))
    for point, gradient in zip(asked, gradients, strict=True):
        slopes = optimize.approx_fprime(point, lambda at: acquisition(at[None])[0], 1e-7)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-4, atol=1e-4)


def test_running_trials_keep_suggestions_apart() -> None:
    aware, unaware = (
        statistics.median(
            spacing(in_parallel(GaussianProcess(FLAT, seed=seed), bowl(), 8, known), FLAT) for seed in range(3)
        )
        for known in (True, False)
    )
    assert aware > 3 * unaware


def test_at_first_it_is_quasi_random() -> None:
    for values in (random_values(5), [None] * 30):
        history, number = history_of(SPACE, values), len(values)
        expected = Quasirandom(SPACE, seed=4).ask(history, [], number)
        assert GaussianProcess(SPACE, seed=4).ask(history, [], number) == expected
    assert GaussianProcess(SPACE, seed=4).startup_trials == 6
    assert GaussianProcess(FLAT, seed=4).startup_trials == 5
    assert GaussianProcess(FLAT, seed=4, startup_trials=2).ask(bowl(2), [], 2) != Quasirandom(FLAT, seed=4).ask(
        bowl(2), [], 2
    )


def test_bad_values_count_by_their_rank_and_good_ones_as_they_are() -> None:
    losses = np.array([-4.0, -2.0, 0.0, 1.0, 1e9, 2.0, 3.0])
    values = half_ranked(losses)
    assert np.argsort(values).tolist() == np.argsort(losses).tolist()
    assert values[:2].tolist() == [-1.0, -0.6]
    assert values.max() < 3
    np.testing.assert_allclose(half_ranked(1e-3 * losses), values)
    assert half_ranked(np.array([1.7e308, -1.7e308, 1.7e308])).tolist() == pytest.approx([0.5, -1.0, 0.5], abs=1)


def test_what_failed_is_worse_than_all_that_is_feasible() -> None:
    sizes = [0.0] * 5 + [5.0, 0.0, 3.0]
    history = history_of(SPACE, [1.0, None, 3.0, 2.0, math.nan, -9.0, 0.0, -7.0], sizes=sizes)
    values = warped(history)
    assert values.mean() == pytest.approx(0)
    assert values.std() == pytest.approx(1)
    assert np.argsort(values)[:6].tolist() == [6, 0, 3, 2, 7, 5]
    assert values[1] == values[4] == values.max()
    np.testing.assert_allclose(warped(history, 4), warped(history_of(SPACE, [1.0, None, 3.0, 2.0])))


@pytest.mark.parametrize("known", [[1.0], [1.0, 1.0, 1.0]])
def test_what_failed_is_worse_where_all_that_is_feasible_is_alike(known: list[float | None]) -> None:
    count = len(known)
    failed = warped(history_of(SPACE, known + [None] * 9))
    infeasible = warped(history_of(SPACE, known + [-1.0] * 9, sizes=[0.5] * count + [2.0 + each for each in range(9)]))
    assert failed[:count].max() < failed[count:].min()
    assert np.all(np.diff(infeasible[count - 1 :]) > 0)


def test_few_feasible_trials_lead_to_more() -> None:
    """A small corner is feasible, far from the best values."""
    space = Space([Float("x", 0, 1), Float("y", 0, 1)])
    shares = []
    for seed in range(3):
        sampler, history = GaussianProcess(space, seed=seed), History(space, "minimize", [SIZE])
        for number in range(40):
            each = sampler.ask(history, [], number)
            x, y = float(each["x"]), float(each["y"])
            history.append(finished(number, each, (x - 0.9) ** 2, 1 + abs(x - 0.2) + abs(y - 0.7) - 0.15))
        shares.append(float(np.mean(history.violations[20:] == 0)))
    assert np.mean(shares) > 0.3


def test_where_nothing_is_feasible_the_least_violation_is_best() -> None:
    history = history_of(SPACE, [1.0, 2.0, 3.0, None, 0.0], sizes=[3.0, 2.0, 9.0, None, math.inf])
    values = warped(history)
    assert np.argsort(values)[:2].tolist() == [1, 0]
    assert values[2] < values[3] == values[4] == values.max()
    assert not warped(history_of(SPACE, [1.0, None], sizes=[math.inf, None])).any()


def test_a_bounded_model_holds_the_best_half_and_some_of_the_rest() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    kept = chosen(values, 100)
    assert len(set(kept.tolist())) == 100
    assert kept.tolist() == sorted(kept)
    order = np.argsort(values)
    assert set(order[:50]) < set(kept)
    assert order[-1] in kept
    assert chosen(values[:7], 100).tolist() == list(range(7))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"startup_trials": 0}, "startup_trials must be a whole number above 0, not 0"),
        ({"exhaustive": 1.5}, "exhaustive must be a whole number above 0, not 1.5"),
    ],
)
def test_bad_input_is_told_in_a_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        GaussianProcess(SPACE, seed=0, **options)
    assert str(caught.value) == sentence


def test_a_fit_is_used_again_for_the_same_first_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = []
    fit = gaussian_process.fit
    monkeypatch.setattr(
        gaussian_process, "fit", lambda *arguments, **options: fits.append(1) or fit(*arguments, **options)
    )
    sampler, history = GaussianProcess(SPACE, seed=0), learned(160)
    for number in range(160, 176):
        configuration = sampler.ask(history, [], number)
        history.append(finished(number, configuration, 1.0))
    assert len(fits) == 2
