from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy.stats import qmc

from hpcompss.errors import InputError
from hpcompss.samplers import History
from hpcompss.samplers.quasirandom import SOBOL_DIMENSIONS, Quasirandom
from hpcompss.samplers.random import Random
from hpcompss.space import Boolean, Choice, Condition, Fixed, Float, Int, Space
from hpcompss.trial import Configuration
from tests.samplers.conformance import SamplerConformance, finished

METHODS = ["sobol", "halton"]


class TestSobol(SamplerConformance):
    sampler = "quasirandom"


class TestHalton(SamplerConformance):
    sampler = {"name": "quasirandom", "method": "halton"}  # noqa: RUF012


def points(space: Space, count: int, first: int = 0, **options: Any) -> list[Configuration]:
    sampler = Quasirandom(space, **{"seed": 3, "allow_duplicates": True, **options})
    history = History(space, "minimize")
    return [sampler.ask(history, [], number) for number in range(first, first + count)]


@pytest.mark.parametrize("first", [0, 256, 1024 * 7])
@pytest.mark.parametrize("seed", range(4))
def test_values_have_equal_shares(first: int, seed: int) -> None:
    parameters = [
        Choice("word", ["a", "b", "c", "d"]),
        Boolean("flag"),
        Int("integer", 5, 12),
        Float("stepped", 0, 1.5, step=0.1),
        Int("power", 2, 16, step=2, sampling="log"),
        Choice("odd", ["x", "y", "z"]),
    ]
    drawn = points(Space(parameters), 256, first, seed=seed)
    for parameter in parameters:
        counts = Counter(each[parameter.name] for each in drawn)
        assert len(counts) == parameter.count
        assert max(counts.values()) - min(counts.values()) <= (0 if parameter.name != "odd" else 2)


def test_a_child_is_balanced_and_does_not_weigh_on_its_parent() -> None:
    space = Space(
        [
            Choice("model", ["a", "b"]),
            Int("units", 1, 4, parent_name="model", parent_values="b"),
            Choice("deep", [1, 2], conditions=[Condition("model", ("b",)), Condition("units", (3, 4))]),
        ]
    )
    drawn = points(space, 256)
    assert Counter(each["model"] for each in drawn) == {"a": 128, "b": 128}
    assert Counter(each["units"] for each in drawn if "units" in each) == {1: 32, 2: 32, 3: 32, 4: 32}
    assert Counter(each["deep"] for each in drawn if "deep" in each) == {1: 32, 2: 32}


def test_numbers_follow_their_scale() -> None:
    drawn = points(Space([Float("rate", 1e-4, 1, sampling="log"), Float("x", 0, 1)]), 64)
    assert Counter(int(np.log10(float(each["rate"])) + 4) for each in drawn) == {0: 16, 1: 16, 2: 16, 3: 16}


@pytest.mark.parametrize("method", METHODS)
def test_it_is_more_even_than_chance(method: str) -> None:
    space = Space([Float(f"x{number}", 0, 1) for number in range(5)])
    history = History(space, "minimize")
    even = [
        qmc.discrepancy([space.encode(each) for each in points(space, 100, method=method, seed=n)]) for n in range(5)
    ]
    blind = [
        qmc.discrepancy([space.encode(Random(space, seed=seed).ask(history, [], n)) for n in range(100)])
        for seed in range(5)
    ]
    assert max(even) < 0.3 * min(blind)


@pytest.mark.parametrize("method", METHODS)
def test_trials_get_the_points_of_one_sequence(method: str) -> None:
    space = Space([Float("x", 0, 1), Fixed("constant", 3), Float("y", 0, 1)])
    kind = qmc.Sobol if method == "sobol" else qmc.Halton
    expected = kind(2, scramble=True, seed=np.random.default_rng(3)).random(2048)
    drawn = [[each["x"], each["y"]] for each in points(space, 2048, method=method)]
    np.testing.assert_allclose(np.array(drawn, dtype=float), expected, atol=2e-9)


def test_what_was_tried_gives_way_to_the_next_points() -> None:
    space = Space([Int("a", 0, 3), Boolean("b")])
    sequence = points(space, 40)
    sampler, history = Quasirandom(space, seed=3), History(space, "minimize")
    history.append(finished(0, sequence[5], 1.0))
    untried = [each for each in sequence[5:] if each != sequence[5]]
    assert sampler.ask(history, [], 5) == untried[0]
    later = next(each for each in untried if each != untried[0])
    assert sampler.ask(history, [untried[0]], 5) == later


def test_one_value_takes_no_dimension() -> None:
    lone = points(Space([Float("x", 0, 1)]), 10)
    beside = points(Space([Fixed("f", 1), Float("x", 0, 1), Int("i", 2, 2)]), 10)
    assert [each["x"] for each in lone] == [each["x"] for each in beside]


def test_seeds_differ() -> None:
    space = Space([Float("x", 0, 1)])
    drawn = {each["x"] for seed in range(10) for each in points(space, 10, seed=seed)}
    assert len(drawn) == 100


def test_a_large_range_is_reached_to_the_last_digit() -> None:
    drawn = points(Space([Int("x", 0, 10**14)]), 200)
    assert len({int(each["x"]) % 10 for each in drawn}) == 10


@pytest.mark.parametrize("method", METHODS)
def test_late_trials_cost_no_more(method: str) -> None:
    space = Space([Float(f"x{number}", 0, 1) for number in range(10)])
    begun = time.process_time()
    drawn = points(space, 500, first=19_800, method=method)
    assert time.process_time() - begun < 1
    assert len(pickle.dumps(Quasirandom(space, seed=3))) < 10_000
    assert len({each["x0"] for each in drawn}) == 500


@pytest.mark.parametrize("method", METHODS)
def test_many_dimensions(method: str) -> None:
    space = Space([Float(f"x{number}", 0, 1) for number in range(2000)])
    drawn = points(space, 3, first=700, method=method)
    assert 0.45 < np.mean([list(each.values()) for each in drawn]) < 0.55


def test_scipy_stats_is_imported_only_when_asked() -> None:
    script = "import sys; import hpcompss.samplers.quasirandom; print('scipy.stats' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_bad_input_is_told_in_a_sentence() -> None:
    with pytest.raises(InputError) as caught:
        Quasirandom(Space([Float("x", 0, 1)]), seed=0, method="sobel")
    assert str(caught.value) == "quasirandom has no method 'sobel'; did you mean 'sobol'?"
    space = Space([Boolean(f"b{number}") for number in range(SOBOL_DIMENSIONS + 1)])
    with pytest.raises(InputError) as caught:
        Quasirandom(space, seed=0)
    assert str(caught.value) == (
        "a sobol sequence has at most 21201 dimensions, and the space 21202 parameters: use method: halton"
    )
    assert Quasirandom(space, seed=0, method="halton").method == "halton"
