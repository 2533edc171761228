"""What every sampler must do. A new one joins by a subclass that names it:

class TestRandom(SamplerConformance):
    sampler = "random"
"""

from __future__ import annotations

import copy
import logging
import math
import pickle
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from hpcompss.samplers import History, Sampler, SpaceExhausted, make_sampler
from hpcompss.space import Boolean, Choice, Condition, Fixed, Float, Int, Parameter, Space
from hpcompss.trial import Configuration, Failure, FailureKind, Result, Trial, TrialState

KINDS: list[Parameter] = [
    Int("integer", -3, 12),
    Int("stepped_integer", 8, 64, step=8),
    Int("log_integer", 1, 1000, sampling="log"),
    Int("reverse_integer", 1, 100, sampling="reverse_log"),
    Int("power", 2, 64, step=2, sampling="log"),
    Float("stepped", 0.0, 1.0, step=0.1),
    Float("log_stepped", 1e-5, 1e-1, step=10, sampling="log"),
    Choice("word", ["a", "b", "c"]),
    Choice("size", [16, 32, 128]),
    Choice("unordered", [0.5, 0.1, 0.9], ordered=False),
    Choice("flags", [True, False]),
    Boolean("flag"),
    Fixed("constant", "same"),
]

CONDITIONAL: list[Parameter] = [
    Int("layers", 1, 3),
    Int("units_1", 1, 2, parent_name="layers", parent_values=[2, 3]),
    Int("units_2", 1, 2, parent_name="layers", parent_values=[3]),
    Choice("model", ["dense", "tree"]),
    Int("width", 1, 3, parent_name="model", parent_values="dense"),
    Float("width", 0, 1, step=0.5, parent_name="model", parent_values="tree"),
    Boolean("deep", conditions=[Condition("model", ("tree",)), Condition("layers", (1,))]),
]
"""A space of (1 + 2 + 4) * (3 + 3) + 3 combinations: an Int parent, twins under one name, a child of two parents."""

FINITE: dict[str, Space] = {
    "one parameter": Space([Int("x", 0, 99)]),
    "every kind": Space(KINDS),
    "conditional": Space(CONDITIONAL),
}

INFINITE: dict[str, Space] = {
    "continuous": Space([Float("x", -1, 1), Float("y", 1e-6, 1.0, sampling="log")]),
    "mixed": Space(
        [
            *KINDS,
            Float("linear", -1, 1),
            Float("log", 1e-6, 1, sampling="log"),
            Float("reverse", 0.5, 1, sampling="reverse_log"),
        ]
    ),
    "conditional continuous": Space(
        [
            *CONDITIONAL,
            Float("rate", 1e-4, 1, sampling="log", parent_name="layers", parent_values=[1, 2]),
            Float("momentum", 0, 1, conditions=[Condition("model", ("dense",)), Condition("width", (2, 3))]),
        ]
    ),
    "a branch with one point": Space([Boolean("b"), Float("x", 0, 1, parent_name="b", parent_values=True)]),
}


def finished(number: int, configuration: Configuration, value: float | None) -> Trial:
    """Returns a trial that gave ``value``, or failed where that is None."""
    if value is None:
        failure = Failure(FailureKind.EXCEPTION, "no luck")
        return Trial(number, configuration, TrialState.FAILED, Result(None, failure=failure))
    return Trial(number, configuration, TrialState.COMPLETE, Result(value))


def history_of(space: Space, values: Sequence[float | None], direction: str = "minimize") -> History:
    """Returns a history of random configurations with these values."""
    generator = np.random.default_rng(42)
    history = History(space, direction)
    history.extend(finished(number, space.sample(generator), value) for number, value in enumerate(values))
    return history


def random_values(count: int) -> list[float | None]:
    """Returns values of which one in seven is a failure."""
    generator = np.random.default_rng(7)
    return [None if number % 7 == 3 else float(generator.normal()) for number in range(count)]


class SamplerConformance:
    sampler: Any
    """What `make_sampler` takes."""

    finite_only = False
    """Whether it refuses a continuous parameter."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "space" in metafunc.fixturenames:
            spaces = FINITE if self.finite_only else {**FINITE, **INFINITE}
            metafunc.parametrize("space", spaces.values(), ids=spaces.keys())

    def make(self, space: Space, seed: int = 1, **options: Any) -> Sampler:
        return make_sampler(self.sampler, space, seed=seed, **options)

    # What it suggests

    @pytest.mark.parametrize(("trials", "pending"), [(0, 0), (0, 50), (1, 0), (2, 1), (30, 0), (31, 50), (1000, 10)])
    def test_suggestions_are_valid(self, space: Space, trials: int, pending: int) -> None:
        history = history_of(space, random_values(trials))
        running = [space.sample(np.random.default_rng(number)) for number in range(pending)]
        sampler = self.make(space, allow_duplicates=True)
        for number in range(trials + pending, trials + pending + 3):
            configuration = sampler.ask(history, running, number)
            checked = space.validate(configuration)
            assert configuration == checked
            assert [type(value) for value in configuration.values()] == [
                type(configuration[key]) for key in configuration
            ]
            assert all(type(configuration[name]) is type(checked[name]) for name in checked)

    @pytest.mark.parametrize("value", [0.0, 1e300, -1e300, None], ids=["constant", "huge", "low", "failed"])
    def test_a_constant_objective_is_no_obstacle(self, space: Space, value: float | None) -> None:
        sampler = self.make(space, allow_duplicates=True)
        configuration = sampler.ask(history_of(space, [value] * 30), [space.default] * 5, 35)
        assert space.validate(configuration) == configuration

    def test_ties_and_extremes_are_no_obstacle(self, space: Space) -> None:
        values: list[float | None] = [*([1.0] * 10), *([2.0] * 10), None, 1e300, -1e300, 1e-300, *([1.0] * 10)]
        configuration = self.make(space, allow_duplicates=True).ask(history_of(space, values), [], 40)
        assert space.validate(configuration) == configuration

    def test_the_direction_is_only_a_sign(self, space: Space) -> None:
        values = random_values(30)
        negated = [None if value is None else -value for value in values]
        sampler = self.make(space, allow_duplicates=True)
        down = sampler.ask(history_of(space, values, "minimize"), [], 30)
        up = sampler.ask(history_of(space, negated, "maximize"), [], 30)
        assert down == up

    # Purity

    @pytest.mark.parametrize("trials", [0, 40])
    def test_the_same_question_has_the_same_answer(self, space: Space, trials: int) -> None:
        history = history_of(space, random_values(trials))
        pending = [space.sample(np.random.default_rng(number)) for number in range(4)]
        before = copy.deepcopy((history.units, history.losses, history.keys, pending))
        sampler = self.make(space)
        first = [sampler.ask(history, pending, number) for number in range(trials, trials + 3)]
        np.random.seed(trials)
        random.seed(trials)
        again = [sampler.ask(history, pending, number) for number in reversed(range(trials, trials + 3))]
        fresh = [self.make(space).ask(history, pending, number) for number in range(trials, trials + 3)]
        copied = pickle.loads(pickle.dumps(sampler))
        carried = [copied.ask(pickle.loads(pickle.dumps(history)), pending, n) for n in range(trials, trials + 3)]
        assert first == again[::-1] == fresh == carried
        np.testing.assert_equal((history.units, history.losses, history.keys, pending), before)

    def test_other_seeds_of_chance_are_left_alone(self, space: Space) -> None:
        np.random.seed(3)
        random.seed(3)
        expected = (np.random.random(), random.random())
        np.random.seed(3)
        random.seed(3)
        self.make(space).ask(history_of(space, random_values(30)), [], 30)
        assert (np.random.random(), random.random()) == expected

    def test_it_is_silent(
        self, space: Space, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO):
            self.make(space).ask(history_of(space, random_values(30)), [], 30)
        assert capfd.readouterr() == ("", "")
        assert not caplog.records

    # Duplicates

    def test_a_finite_space_is_used_up_without_repeating(self) -> None:
        space = FINITE["conditional"]
        count = int(space.count)
        sampler, history = self.make(space), History(space, "minimize")
        pending: list[Trial] = []
        seen = set()
        for number in range(count):
            configuration = sampler.ask(history, [each.configuration for each in pending], number)
            seen.add(space.key(configuration))
            pending.append(finished(number, configuration, math.sin(number)))
            if len(pending) == 5:
                history.append(pending.pop(number % 5))
        assert len(seen) == count
        with pytest.raises(SpaceExhausted):
            sampler.ask(history, [each.configuration for each in pending], count)
        history.extend(pending)
        with pytest.raises(SpaceExhausted):
            sampler.ask(history, [], count)

    def test_what_runs_twice_counts_once(self) -> None:
        space = Space([Boolean("b")])
        history = History(space, "minimize")
        history.append(finished(0, {"b": True}, 1.0))
        assert self.make(space).ask(history, [{"b": True}, {"b": True}], 3) == {"b": False}

    def test_a_single_point(self) -> None:
        for space in (Space([]), Space([Fixed("x", 3)]), Space([Int("x", 5, 5), Choice("y", ["a"])])):
            sampler, history = self.make(space), History(space, "minimize")
            assert sampler.ask(history, [], 0) == space.default
            with pytest.raises(SpaceExhausted):
                sampler.ask(history, [space.default], 1)
            history.append(finished(0, space.default, None))
            with pytest.raises(SpaceExhausted):
                sampler.ask(history, [], 1)
            many = history_of(space, random_values(30))
            assert self.make(space, allow_duplicates=True).ask(many, [space.default], 31) == space.default

    def test_duplicates_where_they_are_allowed(self) -> None:
        space = Space([Boolean("b"), Choice("c", ["x", "y"])])
        sampler, history = self.make(space, allow_duplicates=True), History(space, "minimize")
        for number in range(30):
            history.append(finished(number, sampler.ask(history, [space.default], number), float(number)))
        assert len(history.keys) == 4

    def test_nothing_is_tried_twice(self, space: Space) -> None:
        sampler, history = self.make(space), History(space, "minimize")
        for number in range(35):
            history.append(finished(number, sampler.ask(history, [], number), -float(number)))
        assert len(history.keys) == 35
