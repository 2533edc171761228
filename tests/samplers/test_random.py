from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from hpcompss.samplers import History
from hpcompss.samplers.random import Random
from hpcompss.space import Boolean, Choice, Float, Int, Space
from hpcompss.trial import Configuration
from tests.samplers.conformance import SamplerConformance


class TestRandom(SamplerConformance):
    sampler = "random"


def draws(space: Space, count: int = 3000) -> list[Configuration]:
    sampler, history = Random(space, seed=5, allow_duplicates=True), History(space, "minimize")
    return [sampler.ask(history, [], number) for number in range(count)]


@pytest.mark.parametrize(
    ("parameter", "prior"),
    [
        (Float("x", -2, 3), stats.uniform(-2, 5)),
        (Float("x", 1e-5, 1e-1, sampling="log"), stats.loguniform(1e-5, 1e-1)),
    ],
)
def test_numbers_follow_their_prior(parameter: Float, prior: stats.rv_continuous) -> None:
    values = [float(each["x"]) for each in draws(Space([parameter]))]
    assert stats.kstest(values, prior.cdf).pvalue > 0.01


def test_reverse_log_is_dense_at_the_top() -> None:
    values = np.array([float(each["x"]) for each in draws(Space([Float("x", 0.9, 0.999, sampling="reverse_log")]))])
    assert stats.kstest(0.9 + 0.999 - values, stats.loguniform(0.9, 0.999).cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("parameter", "shares"),
    [
        (Int("x", 1, 5), [0.2] * 5),
        (Int("x", 1, 16, step=2, sampling="log"), [0.2] * 5),
        (Int("x", 1, 4, sampling="log"), np.diff(np.log(np.arange(1, 6))) / np.log(5)),
        (Float("x", 0, 0.3, step=0.1), [0.25] * 4),
        (Choice("x", ["a", "b", "c"]), [1 / 3] * 3),
        (Boolean("x"), [0.5, 0.5]),
    ],
)
def test_values_follow_their_prior(parameter: Int | Float | Choice | Boolean, shares: list[float]) -> None:
    counts = Counter(each["x"] for each in draws(Space([parameter])))
    observed = [counts[parameter.value(index)] for index in range(int(parameter.count))]
    assert stats.chisquare(observed, np.asarray(shares) * sum(observed)).pvalue > 0.01


def test_a_child_does_not_weigh_on_its_parent() -> None:
    space = Space([Choice("a", ["x", "y"]), Int("child", 1, 9, parent_name="a", parent_values="y")])
    counts = Counter(each["a"] for each in draws(space))
    assert stats.chisquare([counts["x"], counts["y"]]).pvalue > 0.01
    children = Counter(each["child"] for each in draws(space) if "child" in each)
    assert stats.chisquare([children[value] for value in range(1, 10)]).pvalue > 0.01


def test_other_seeds_and_numbers_draw_other_configurations() -> None:
    space = Space([Float("x", 0, 1)])
    history = History(space, "minimize")
    drawn = {Random(space, seed=seed).ask(history, [], number)["x"] for seed in range(10) for number in range(10)}
    assert len(drawn) == 100
