"""What every sampler must do. A new one joins by a subclass that names it:

class TestRandom(SamplerConformance):
    sampler = "random"

One that learns from results is a subclass of `LearnerConformance`, and has to show it.
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

from hpcompss.constraints import Constraint
from hpcompss.objectives import Objective
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

ROUNDED: list[Parameter] = [
    Int("log", 1, 3, sampling="log"),
    Int("reverse", 1, 3, sampling="reverse_log"),
    Float("stepped", 0, 0.3, step=0.1),
]
"""A space of 3 * 3 * 4 combinations whose values are reached only if rounding is right."""

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


SIZE = Constraint("size", max=1.0)
"""What `history_of` bounds where it is given sizes."""


def finished(number: int, configuration: Configuration, value: float | None, size: float | None = None) -> Trial:
    """Returns a trial that gave ``value``, or failed where that is None or NaN; ``size`` is a metric."""
    if value is None or math.isnan(value):
        kind = FailureKind.EXCEPTION if value is None else FailureKind.NOT_FINITE
        return Trial(number, configuration, TrialState.FAILED, Result(None, failure=Failure(kind, "no luck")))
    metrics = {} if size is None else {SIZE.metric: size}
    return Trial(number, configuration, TrialState.COMPLETE, Result(value, metrics))


def untrained(number: int, configuration: Configuration, violation: float) -> Trial:
    """Returns a trial that was found infeasible before any training."""
    result = Result(None, failure=Failure(FailureKind.INFEASIBLE, "infeasible"), violation=violation)
    return Trial(number, configuration, TrialState.INFEASIBLE, result)


def history_of(
    space: Space,
    values: Sequence[float | None],
    direction: str = "minimize",
    sizes: Sequence[float | None] | None = None,
) -> History:
    """Returns a history of random configurations with these values; trials of a size above 1 are infeasible."""
    generator = np.random.default_rng(42)
    history = History(space, direction, [] if sizes is None else [SIZE])
    for number, (value, size) in enumerate(zip(values, sizes or [None] * len(values), strict=True)):
        history.append(finished(number, space.sample(generator), value, size))
    return history


def random_values(count: int) -> list[float | None]:
    """Returns values of which one in seven is a failure, and one in eleven is NaN."""
    values = np.random.default_rng(7).normal(size=count).tolist()
    return [None if n % 7 == 3 else math.nan if n % 11 == 5 else value for n, value in enumerate(values)]


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

    @pytest.mark.parametrize(("trials", "pending"), [(0, 0), (0, 200), (1, 0), (2, 1), (30, 0), (31, 200), (2000, 10)])
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

    @pytest.mark.parametrize(
        "sizes",
        [[2.0, 0.0], [2.0], [math.inf], [None], [math.nan], [1.0], [0.0] + [5.0] * 29],
        ids=["some", "all", "infinite", "missing", "NaN", "at the bound", "all but one"],
    )
    def test_infeasible_trials_are_no_obstacle(self, space: Space, sizes: list[float | None]) -> None:
        history = history_of(space, random_values(30), sizes=(sizes * 30)[:30])
        configuration = self.make(space, allow_duplicates=True).ask(history, [space.default] * 5, 35)
        assert space.validate(configuration) == configuration

    @pytest.mark.parametrize("one_in", [1, 2, 30], ids=["all", "half", "one"])
    def test_untrained_trials_are_no_obstacle(self, space: Space, one_in: int) -> None:
        generator, history = np.random.default_rng(42), History(space, "minimize")
        for number, value in enumerate(random_values(30)):
            configuration = space.sample(generator)
            is_trained = number % one_in != 0
            trial = finished if is_trained else untrained
            history.append(trial(number, configuration, value if is_trained else number + 0.1))  # type: ignore[operator]
        configuration = self.make(space, allow_duplicates=True).ask(history, [space.default] * 5, 35)
        assert space.validate(configuration) == configuration

    @pytest.mark.parametrize("sizes", [[0.5, 1.0, 2.0], [5.0], [1.0]], ids=["some", "infeasible", "alike"])
    def test_several_objectives_are_no_obstacle(self, space: Space, sizes: list[float]) -> None:
        generator = np.random.default_rng(3)
        history = History(
            space, "maximize", [SIZE], [Objective(SIZE.metric, "minimize"), Objective("cost", "maximize")]
        )
        for number, value in enumerate(random_values(32)):
            trial = finished(number, space.sample(generator), value, sizes[number % len(sizes)])
            if trial.value is not None and trial.result is not None:
                costs = {**trial.result.metrics, "cost": 10.0 ** (number % 7)}
                trial = Trial(number, trial.configuration, trial.state, Result(trial.value, costs))
            history.append(trial)
        sampler, pending = self.make(space), [space.default] * 3
        before = copy.deepcopy((history.units, history.points))
        asked = [sampler.ask(history, pending, number) for number in range(32, 35)]
        assert [space.validate(each) for each in asked] == asked
        copied = pickle.loads(pickle.dumps(history))
        assert asked == [self.make(space).ask(copied, pending, number) for number in range(32, 35)]
        np.testing.assert_equal((history.units, history.points), before)

    def test_a_configuration_may_have_many_values(self, space: Space) -> None:
        history = History(space, "maximize")
        history.extend(finished(number, space.default, value) for number, value in enumerate(random_values(40)))
        running = [space.default] * 20
        assert space.validate(self.make(space).ask(history, running, 60)) != space.default
        again = self.make(space, allow_duplicates=True).ask(history, running, 60)
        assert space.validate(again) == again

    def test_trials_of_other_studies_are_no_obstacle(self, space: Space) -> None:
        generator = np.random.default_rng(0)
        history = History(space, "minimize")
        for comparable in (True, False):
            trials = [finished(n, space.sample(generator), value) for n, value in enumerate(random_values(30))]
            history.transfer(trials, comparable=comparable)
        sampler = self.make(space)
        for number in range(3):
            configuration = sampler.ask(history, [], number)
            assert space.validate(configuration) == configuration
            history.append(finished(number, configuration, float(number)))

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

    def test_what_was_asked_before_makes_no_difference(self) -> None:
        space = Space([*CONDITIONAL, *([] if self.finite_only else [Float("x", 0, 1)])])
        sampler, history = self.make(space), history_of(space, random_values(39))
        for number in range(39, 45):
            configuration = sampler.ask(history, [], number)
            assert configuration == self.make(space).ask(history, [], number)
            history.append(finished(number, configuration, -1.0 * number))

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

    @pytest.mark.parametrize("parameters", [CONDITIONAL, ROUNDED], ids=["conditional", "rounded"])
    def test_a_finite_space_is_used_up_without_repeating(self, parameters: list[Parameter]) -> None:
        space = Space(parameters)
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


class LearnerConformance(SamplerConformance):
    """What every sampler must do that learns from results."""

    @pytest.mark.parametrize("how", ["failed", "infeasible", "untrained"])
    def test_it_learns_where_trials_fail(self, how: str) -> None:
        space = Space([Float("x", 0, 1), Choice("kind", ["a", "b"])])
        shares = []
        for seed in range(5):
            history = History(space, "minimize", [SIZE])
            sampler, generator = self.make(space, seed), np.random.default_rng(seed)
            for number in range(50):
                configuration = space.sample(generator) if number < 30 else sampler.ask(history, [], number)
                x = float(configuration["x"])
                lost = x > 0.6
                value = None if lost and how == "failed" else 1 - x
                if lost and how == "untrained":
                    history.append(untrained(number, configuration, x - 0.6))
                else:
                    history.append(finished(number, configuration, value, 2.0 if lost else 0.5))
            shares.append(np.mean(history.units[30:, 0] > 0.6))
            assert history.best is not None
            assert history.best < 0.45
        assert np.mean(shares) < 0.6

    def test_it_learns_which_value_is_good(self) -> None:
        space = Space([Int("units", 1, 64, sampling="log"), Choice("kind", list("abcde")), Float("rest", 0, 1)])

        def loss(configuration: Configuration) -> float:
            distance = abs(math.log2(int(configuration["units"])) - 4)
            return distance + 2 * (configuration["kind"] != "d") + 0.1 * float(configuration["rest"])

        found: dict[str, list[float]] = {"guided": [], "blind": []}
        for seed in range(6):
            sampler, generator = self.make(space, seed), np.random.default_rng(seed)
            history, blind = History(space, "minimize"), []
            for number in range(50):
                configuration = sampler.ask(history, [], number)
                history.append(finished(number, configuration, loss(configuration)))
                blind.append(loss(space.sample(generator)))
            found["guided"].append(float(np.sort(history.losses)[:10].mean()))
            found["blind"].append(float(np.sort(blind)[:10].mean()))
        assert np.median(found["guided"]) < 0.6 * np.median(found["blind"])
