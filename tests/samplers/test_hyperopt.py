from __future__ import annotations

import math
import statistics
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from hpcompss.errors import InputError
from hpcompss.samplers import History, Sampler
from hpcompss.samplers.hyperopt import Hyperopt
from hpcompss.samplers.random import Random
from hpcompss.space import Boolean, Choice, Condition, Float, Int, Space
from hpcompss.trial import Configuration
from tests.samplers.conformance import SamplerConformance, finished, history_of, random_values

SPACE = Space(
    [
        Choice("model", ["line", "parabola"]),
        Float("slope", -1, 1, parent_name="model", parent_values="line"),
        Float("x", -5, 5, parent_name="model", parent_values="parabola"),
        Float("rate", 1e-6, 1, sampling="log"),
        Int("units", 1, 8),
    ]
)


def loss(configuration: Configuration) -> float:
    """Is 0 at x = 2, rate = 1e-3, units = 6 of the parabola, and at least 3 on the line."""
    if configuration["model"] == "line":
        shape = 3 + abs(float(configuration["slope"]))
    else:
        shape = (float(configuration["x"]) - 2) ** 2 / 4
    return shape + (math.log10(float(configuration["rate"])) + 3) ** 2 / 3 + abs(int(configuration["units"]) - 6) / 4


def best_of(sampler: Sampler, trials: int) -> float:
    history = History(sampler.space, "minimize")
    for number in range(trials):
        configuration = sampler.ask(history, [], number)
        history.append(finished(number, configuration, loss(configuration)))
    return float(np.nanmin(history.losses))


class TestTpe(SamplerConformance):
    sampler = {"name": "hyperopt", "startup_trials": 5}  # noqa: RUF012


class TestAnneal(SamplerConformance):
    sampler = {"name": "hyperopt", "algorithm": "anneal", "startup_trials": 1}  # noqa: RUF012


@pytest.mark.parametrize("algorithm", ["tpe", "anneal"])
def test_it_beats_random_search(algorithm: str) -> None:
    guided = [best_of(Hyperopt(SPACE, seed=seed, algorithm=algorithm), 60) for seed in range(10)]
    blind = [best_of(Random(SPACE, seed=seed), 60) for seed in range(10)]
    assert statistics.median(guided) < 0.5 * statistics.median(blind)


def test_at_first_it_draws_like_random_search() -> None:
    history = history_of(SPACE, random_values(19))
    assert Hyperopt(SPACE, seed=4).ask(history, [], 19) == Random(SPACE, seed=4).ask(history, [], 19)
    history = history_of(SPACE, [None] * 30)
    assert Hyperopt(SPACE, seed=4).ask(history, [], 30) == Random(SPACE, seed=4).ask(history, [], 30)


def learned(space: Space, trials: int, seed: int = 0) -> History:
    """Returns a history of random configurations with their losses."""
    generator = np.random.default_rng(seed)
    history = History(space, "minimize")
    for number in range(trials):
        configuration = space.sample(generator)
        history.append(finished(number, configuration, loss(configuration)))
    return history


def in_parallel(sampler: Sampler, history: History, count: int, known: bool) -> list[Configuration]:
    """Returns what is suggested to so many workers at once, each knowing of the others' trials or not."""
    pending: list[Configuration] = []
    for number in range(count):
        pending.append(sampler.ask(history, pending if known else [], len(history) + number))
    return pending


def spacing(configurations: list[Configuration], space: Space) -> float:
    """Returns the median distance to the nearest other one in the unit cube."""
    points = np.array([space.encode(each) for each in configurations])
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return float(np.median(distances.min(axis=1)))


def test_running_trials_keep_suggestions_apart() -> None:
    space = Space([Float("x", -5, 5), Float("y", -5, 5)])
    history = History(space, "minimize")
    generator = np.random.default_rng(0)
    for number in range(40):
        configuration = space.sample(generator)
        value = (float(configuration["x"]) - 2) ** 2 + (float(configuration["y"]) + 1) ** 2
        history.append(finished(number, configuration, value))
    tpe, anneal = (Hyperopt(space, seed=0, algorithm=algorithm) for algorithm in ("tpe", "anneal"))
    aware, unaware = (spacing(in_parallel(tpe, history, 20, known), space) for known in (True, False))
    assert aware > 4 * unaware
    assert spacing(in_parallel(anneal, history, 20, known=True), space) > 0.01


def test_a_running_trial_counts_as_the_worst() -> None:
    space = Space([Float("x", 0, 1)])
    history = History(space, "minimize")
    history.extend(finished(number, {"x": number / 30}, abs(number / 30 - 0.5)) for number in range(30))
    pending: list[Configuration] = [{"x": 0.5 + step / 500} for step in range(-5, 6)]
    sampler = Hyperopt(space, seed=0)
    alone = [float(sampler.ask(history, [], number)["x"]) for number in range(30, 60)]
    crowded = [float(sampler.ask(history, pending, number)["x"]) for number in range(30, 60)]
    near = [sum(abs(value - 0.5) < 0.05 for value in values) for values in (alone, crowded)]
    assert near[0] > near[1]


def test_failed_trials_are_avoided() -> None:
    space = Space([Float("x", 0, 1)])
    history = History(space, "minimize")
    history.extend(
        finished(number, {"x": number / 40}, None if number > 20 else 1 - number / 40) for number in range(40)
    )
    sampler = Hyperopt(space, seed=0)
    found = [float(sampler.ask(history, [], number)["x"]) for number in range(40, 60)]
    assert statistics.median(found) < 0.55
    assert statistics.median(found) > 0.3


def test_a_category_is_not_taken_for_a_number() -> None:
    words = list("abcdefghi")
    for values, ordered in ((words, None), (list(range(9)), False)):
        space = Space([Choice("c", values, ordered=ordered), Float("noise", 0, 1)])
        history = History(space, "minimize")
        generator = np.random.default_rng(0)
        good = {values[2], values[6]}
        for number in range(60):
            configuration = space.sample(generator)
            history.append(finished(number, configuration, float(configuration["c"] not in good)))
        sampler = Hyperopt(space, seed=0)
        found = [sampler.ask(history, [], number)["c"] for number in range(60, 90)]
        assert sum(each in good for each in found) > 20


def test_children_of_an_int_and_of_two_parents_are_learned() -> None:
    space = Space(
        [
            Int("layers", 1, 3),
            Boolean("drop"),
            Float("rate", 0, 1, conditions=[Condition("layers", (2, 3)), Condition("drop", (True,))]),
            Float("width", 1, 100, sampling="log", parent_name="layers", parent_values=[1]),
        ]
    )

    def value(configuration: Configuration) -> float:
        return abs(float(configuration["rate"]) - 0.2) if "rate" in configuration else 1.0

    scores = []
    for seed in range(3):
        sampler, history = Hyperopt(space, seed=seed), History(space, "minimize")
        for number in range(50):
            configuration = sampler.ask(history, [], number)
            history.append(finished(number, configuration, value(configuration)))
        scores.append(history.losses.min())
    assert statistics.median(scores) < 0.02


def test_the_scale_is_the_parameters_own() -> None:
    space = Space([Float("rate", 1e-8, 1, sampling="log")])
    generator = np.random.default_rng(1)
    found: list[float] = []
    for seed in range(4):
        history = History(space, "minimize")
        for number in range(60):
            configuration = space.sample(generator)
            history.append(finished(number, configuration, abs(math.log10(float(configuration["rate"])) + 6)))
        sampler = Hyperopt(space, seed=seed)
        found += [math.log10(float(sampler.ask(history, [], number)["rate"])) for number in range(60, 70)]
    assert statistics.median(abs(each + 6) for each in found) < 1.5


def test_options_reach_hyperopt() -> None:
    history = learned(SPACE, 60)
    plain = Hyperopt(SPACE, seed=0).ask(history, [], 60)
    changes: list[dict[str, Any]] = [{"gamma": 2.0}, {"candidates": 1}, {"startup_trials": 61}, {"algorithm": "anneal"}]
    for options in changes:
        assert Hyperopt(SPACE, seed=0, **options).ask(history, [], 60) != plain


def test_hyperopt_is_imported_only_when_asked() -> None:
    script = (
        "import sys; import hpcompss.samplers.hyperopt, hpcompss.samplers.grid, hpcompss.samplers.random; "
        "print([name for name in ('hyperopt', 'scipy', 'networkx', 'tqdm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"algorithm": "tep"}, "hyperopt has no algorithm 'tep' here; did you mean 'tpe'?"),
        ({"startup_trials": 0}, "startup_trials must be a whole number above 0, not 0"),
        ({"startup_trials": "5"}, "startup_trials must be a whole number above 0, not '5'"),
        ({"candidates": 2.5}, "candidates must be a whole number above 0, not 2.5"),
        ({"gamma": 0}, "gamma must be a number above 0, not 0"),
        ({"gamma": float("inf")}, "gamma must be a number above 0, not inf"),
        ({"algorithm": "anneal", "gamma": 0.5}, "gamma and candidates belong to tpe: leave them out for anneal"),
    ],
)
def test_bad_input_is_told_in_a_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        Hyperopt(SPACE, **{"seed": 0, **options})
    assert str(caught.value) == sentence
