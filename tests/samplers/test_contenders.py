from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from hpcompss.samplers import History, make_sampler
from hpcompss.samplers.contenders import contender, within
from hpcompss.space import Boolean, Choice, Float, Int, Space
from hpcompss.trial import Configuration
from tests.samplers.conformance import SIZE, finished

NAMES = ("a", "b", "c")
SPACE = Space(
    [Choice("model", NAMES), *(Float(f"x_{name}", 0, 1, parent_name="model", parent_values=name) for name in NAMES)]
)
NONE = np.empty((0, 4))


def at(model: str, x: float = 0.5) -> Configuration:
    return {"model": model, f"x_{model}": x}


def history_of(*trials: tuple[str, float], sizes: Sequence[float] = ()) -> History:
    history = History(SPACE, "minimize", [SIZE])
    for number, (model, value) in enumerate(trials):
        size = sizes[number] if sizes else 0.5
        history.append(finished(number, at(model, number / len(trials)), value, size))
    return history


def chosen(history: History, running: np.ndarray = NONE, number: int = 2) -> str | None:
    branch = contender(history, running, number)
    if branch is None:
        return None
    (name,) = (name for name, active in zip(NAMES, branch[1:], strict=True) if active)
    return name


LED_BY_A = (("a", 1.0), ("a", 1.5), ("a", 2.0), ("b", 1.8), ("b", 3.0), ("c", 5.0), ("c", 6.0))


def test_every_third_trial_goes_to_the_less_tried_of_the_best_two_branches() -> None:
    history = history_of(*LED_BY_A)
    assert [chosen(history, number=number) for number in range(6)] == [None, None, "b", None, None, "b"]
    assert chosen(history_of(*LED_BY_A, ("b", 9.0), ("b", 9.0))) == "a"
    assert chosen(history_of(*LED_BY_A, ("b", 9.0))) == "a", "of two that are tried alike, the better one"


def test_what_is_running_counts_as_tried() -> None:
    running = np.array([SPACE.encode(at("b")), SPACE.encode(at("b", 0.1))])
    assert chosen(history_of(*LED_BY_A), running) == "a"


def test_a_branch_needs_two_feasible_trials() -> None:
    trials = (*LED_BY_A, ("c", 0.0))
    assert chosen(history_of(*trials, sizes=[0.5] * 5 + [3.0] * 2 + [0.5])) == "b"
    assert chosen(history_of(*trials)) == "c"
    assert chosen(history_of(*LED_BY_A[:4])) is None


def test_a_space_without_branches_or_of_many_has_no_contenders() -> None:
    flat = Space([Float("x", 0, 1), Boolean("b")])
    history = History(flat, "minimize")
    history.extend(finished(number, flat.sample(np.random.default_rng(number)), float(number)) for number in range(9))
    assert contender(history, np.empty((0, 2)), 2) is None
    pairs = [(Boolean(f"b{n}"), Int(f"n{n}", 0, 9, parent_name=f"b{n}", parent_values=True)) for n in range(4)]
    many = Space([parameter for pair in pairs for parameter in pair])
    history = History(many, "minimize")
    history.extend(finished(number, many.sample(np.random.default_rng(number)), float(number)) for number in range(99))
    assert contender(history, np.empty((0, 8)), 2) is None


def test_which_configurations_are_within_a_branch() -> None:
    units = np.array([SPACE.encode(at(name)) for name in "abca"])
    assert within(units, ~np.isnan(units[0])).tolist() == [True, False, False, True]


@pytest.mark.parametrize("name", ["gp", "tpe"])
def test_suggestions_are_in_the_branch_that_competes(name: str) -> None:
    generator = np.random.default_rng(0)
    history = History(SPACE, "minimize")
    for number in range(24):
        model = "a" if number < 12 else "b" if number < 18 else "c"
        x = float(generator.random())
        loss = {"a": 0.1, "b": 0.05 + (x - 0.7) ** 2, "c": 2.0}[model]
        history.append(finished(number, at(model, x), loss))
    asked = [make_sampler(name, SPACE, seed=seed).ask(history, [], 26) for seed in range(5)]
    assert {each["model"] for each in asked} == {"b"}
    assert np.median([abs(float(each["x_b"]) - 0.7) for each in asked]) < 0.3


@pytest.mark.parametrize("name", ["gp", "tpe"])
def test_a_branch_that_is_used_up_is_left(name: str) -> None:
    space = Space(
        [
            Choice("model", NAMES),
            Int("n", 0, 1, parent_name="model", parent_values="a"),
            Int("m", 0, 60, parent_name="model", parent_values="b"),
        ]
    )
    history = History(space, "minimize")
    history.append(finished(0, {"model": "c"}, 90.0))
    history.extend(finished(1 + n, {"model": "a", "n": n}, float(n)) for n in range(2))
    history.extend(finished(3 + n, {"model": "b", "m": 3 * n}, abs(3.0 * n - 31)) for n in range(20))
    for options in ({}, {"exhaustive": 1}):
        found = make_sampler({"name": name, **options}, space, seed=0).ask(history, [], 23)
        assert space.validate(found) == found
        if not options:
            assert found["model"] == "b"
            assert abs(int(found["m"]) - 31) < 9


@pytest.mark.parametrize("name", ["gp", "tpe"])
def test_a_branch_that_is_hard_to_tune_is_tuned(name: str) -> None:
    """Every `a` is quite good; of `b` most are bad, and a few are the best."""
    reached = []
    for seed in range(3):
        sampler, history = make_sampler(name, SPACE, seed=seed), History(SPACE, "minimize")
        for number in range(60):
            each = sampler.ask(history, [], number)
            x = float(each[f"x_{each['model']}"])
            loss = {"a": 0.1 + 0.02 * x, "b": abs(x - 0.77) ** 0.5, "c": 3.0}[str(each["model"])]
            history.append(finished(number, each, loss))
        assert history.best is not None
        reached.append(history.best)
    assert np.median(reached) < 0.1
