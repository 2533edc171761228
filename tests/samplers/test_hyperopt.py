from __future__ import annotations

import datetime
import importlib.util
import math
import statistics
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from hpcompss.errors import InputError, MissingExtraError
from hpcompss.samplers import History
from hpcompss.samplers.hyperopt import Hyperopt, _seeded, _silent
from hpcompss.samplers.random import Random
from hpcompss.space import Boolean, Choice, Condition, Float, Int, Space
from hpcompss.trial import Configuration
from tests.samplers.conformance import LearnerConformance, finished, history_of, random_values
from tests.samplers.problem import SPACE, best_of, in_parallel, learned, spacing

needs_atpe = pytest.mark.skipif(importlib.util.find_spec("lightgbm") is None, reason="needs lightgbm")


class TestTpe(LearnerConformance):
    sampler = {"name": "hyperopt", "startup_trials": 5}  # noqa: RUF012


class TestAnneal(LearnerConformance):
    sampler = {"name": "hyperopt", "algorithm": "anneal", "startup_trials": 1}  # noqa: RUF012


@needs_atpe
@pytest.mark.slow
class TestAdaptive(LearnerConformance):
    sampler = {"name": "hyperopt", "algorithm": "atpe", "startup_trials": 10}  # noqa: RUF012


@pytest.mark.parametrize("algorithm", ["tpe", "anneal", pytest.param("atpe", marks=needs_atpe)])
def test_it_beats_random_search(algorithm: str) -> None:
    seeds = 2 if algorithm == "atpe" else 10
    guided = [best_of(Hyperopt(SPACE, seed=seed, algorithm=algorithm), 60) for seed in range(seeds)]
    blind = [best_of(Random(SPACE, seed=seed), 60) for seed in range(10)]
    assert statistics.median(guided) < 0.5 * statistics.median(blind)


def test_at_first_it_draws_like_random_search() -> None:
    history = history_of(SPACE, random_values(19))
    assert Hyperopt(SPACE, seed=4).ask(history, [], 19) == Random(SPACE, seed=4).ask(history, [], 19)
    history = history_of(SPACE, [None] * 30)
    assert Hyperopt(SPACE, seed=4).ask(history, [], 30) == Random(SPACE, seed=4).ask(history, [], 30)


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
    history = learned(60)
    plain = Hyperopt(SPACE, seed=0).ask(history, [], 60)
    changes: list[dict[str, Any]] = [{"gamma": 2.0}, {"candidates": 1}, {"startup_trials": 61}, {"algorithm": "anneal"}]
    for options in changes:
        assert Hyperopt(SPACE, seed=0, **options).ask(history, [], 60) != plain


@needs_atpe
def test_adaptive_tpe_is_hyperopts_own() -> None:
    from hyperopt import atpe, base, hp

    space = Space([Float("x", 0, 1), Float("y", 0, 1), Choice("c", ["a", "b", "c"])])
    generator = np.random.default_rng(0)
    history = History(space, "minimize")
    for number in range(40):
        configuration = space.sample(generator)
        history.append(finished(number, configuration, 1 + (float(configuration["x"]) - 0.3) ** 2))
    documents = Hyperopt(space, seed=0)._documents(history, [])
    for document in documents:
        document["book_time"] = document["refresh_time"] = datetime.datetime.now()
    nodes = {"000000003": hp.uniform("000000003", 0, 1), "000000002": hp.uniform("000000002", 0, 1)}
    domain = base.Domain(None, {**nodes, "000000001": hp.randint("000000001", 3)})
    trials = base.trials_from_docs(documents, validate=False)
    for number in range(40, 45):
        seed = int(np.random.default_rng([0, number]).integers(2**31))
        with _seeded(seed), _silent():
            (expected,) = atpe.suggest([40], domain, trials, seed)
        (x,), (y,), (c,) = (expected["misc"]["vals"][label] for label in sorted(nodes | {"000000001": 0}, reverse=True))
        found = Hyperopt(space, seed=0, algorithm="atpe").ask(history, [], number)
        assert found == {"x": x, "y": y, "c": "abc"[int(c)]}


@pytest.mark.parametrize(("module", "package"), [("lightgbm", "lightgbm"), ("sklearn", "scikit-learn")])
def test_a_missing_package_is_told_with_its_extra(module: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else name)
    with pytest.raises(MissingExtraError) as caught:
        Hyperopt(SPACE, seed=0, algorithm="atpe")
    assert str(caught.value) == f"hyperopt's atpe needs {package}: install it with  pip install 'hpcompss[atpe]'"
    assert Hyperopt(SPACE, seed=0).algorithm == "tpe"


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
        ({"algorithm": "atpe", "candidates": 5}, "gamma and candidates belong to tpe: leave them out for atpe"),
        ({"algorithm": "anneal", "gamma": 0.5}, "gamma and candidates belong to tpe: leave them out for anneal"),
    ],
)
def test_bad_input_is_told_in_a_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        Hyperopt(SPACE, **{"seed": 0, **options})
    assert str(caught.value) == sentence
