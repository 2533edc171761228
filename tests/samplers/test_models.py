"""What the samplers with a model of their own must do alike."""

from __future__ import annotations

import math
import pickle
import statistics
import time
from typing import Any

import numpy as np
import pytest

from hpcompss.samplers import History, Sampler, make_sampler
from hpcompss.samplers.random import Random
from hpcompss.space import Choice, Int, Space
from tests.samplers.conformance import SIZE, finished, history_of, random_values
from tests.samplers.problem import FLAT, SPACE, best_of, in_parallel, learned, spacing


@pytest.fixture(params=["gp", "tpe"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_it_beats_random_search(name: str) -> None:
    guided = [best_of(make_sampler(name, SPACE, seed=seed), 40) for seed in range(4 if name == "gp" else 10)]
    blind = [best_of(Random(SPACE, seed=seed), 40) for seed in range(10)]
    assert statistics.median(guided) < (0.1 if name == "gp" else 0.6) * statistics.median(blind)


def test_running_trials_are_other_ones(name: str) -> None:
    for seed in range(3):
        pending = in_parallel(make_sampler(name, SPACE, seed=seed), learned(30), 8, known=True)
        assert len({SPACE.key(each) for each in pending}) == 8
        assert spacing(pending, SPACE) > 1e-3


def share_lost(sampler: Sampler, how: str) -> float:
    """Returns how many of 20 suggestions fall where the best values would be, but trials fail or are infeasible."""
    generator, history = np.random.default_rng(1), History(FLAT, "minimize", [SIZE])
    for number in range(50):
        configuration = FLAT.sample(generator) if number < 30 else sampler.ask(history, [], number)
        x, y = float(configuration["x"]), float(configuration["y"])
        lost = x > 0.5
        value = None if lost and how == "failed" else 1 - x + (y - 0.5) ** 2
        history.append(finished(number, configuration, value, 2.0 if lost else 0.5))
    assert history.best is not None
    assert history.best < 0.56
    return float(np.mean(history.units[30:, 0] > 0.5))


@pytest.mark.parametrize("how", ["failed", "infeasible"])
def test_where_trials_are_lost_few_are_made(name: str, how: str) -> None:
    assert statistics.mean(share_lost(make_sampler(name, FLAT, seed=seed), how) for seed in range(3)) < 0.45


@pytest.mark.parametrize(
    "values",
    [[1.0], [1e300, -1e300, 5.0], [1.7e308, -1.7e308], [5e-324, 0.0], [None, 1.0], [None, math.nan, 3.0, 1e300]],
    ids=["constant", "huge", "largest", "least", "failed", "all"],
)
def test_no_values_are_an_obstacle(name: str, values: list[float | None]) -> None:
    for space in (SPACE, Space([Int("n", 0, 30), Choice("c", list("abc"))])):
        history = history_of(space, (values * 40)[:40])
        configuration = make_sampler(name, space, seed=0).ask(history, [space.default], 41)
        assert space.validate(configuration) == configuration


def test_numbers_that_no_array_could_count(name: str) -> None:
    space = Space([Int("n", 1, 10**20), Choice("c", ["a", "b"]), Int("m", -(10**30), 10**30)])
    configuration = make_sampler(name, space, seed=0).ask(history_of(space, random_values(30)), [space.default], 31)
    assert space.validate(configuration) == configuration


def test_a_search_that_only_failed_goes_on_with_other_points(name: str) -> None:
    history = history_of(SPACE, [None] * 40)
    found = in_parallel(make_sampler(name, SPACE, seed=0), history, 10, known=True)
    assert len({SPACE.key(each) for each in found}) == 10


@pytest.mark.parametrize("options", [{}, {"exhaustive": 1}])
def test_it_travels_light(name: str, options: dict[str, Any]) -> None:
    sampler = make_sampler(name, SPACE, seed=0, **options)
    fresh = pickle.dumps(sampler)
    history = learned(400)
    asked = sampler.ask(history, [], 400)
    carried = pickle.dumps(sampler)
    assert len(carried) == len(fresh) < 20_000
    assert pickle.loads(carried).ask(history, [], 400) == asked


def test_a_long_history_costs_little(name: str) -> None:
    history = history_of(SPACE, random_values(3000))
    sampler = make_sampler(name, SPACE, seed=0)
    sampler.ask(history, [], 3000)
    begun = time.process_time()
    for number in range(3001, 3006):
        sampler.ask(history, [], number)
    assert time.process_time() - begun < 2.5
