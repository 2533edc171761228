from __future__ import annotations

import importlib
import json
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcompss.errors import InputError
from hpcompss.space import Boolean, Choice, Condition, Fixed, Float, Int, Space, tracing
from hpcompss.space.tracing import Discovery, HyperParameters, Killed, discover

Declare = Callable[[Any], object]


def conditions(space: Space, name: str) -> list[tuple[str, tuple[Any, ...]]]:
    """The conditions of the one parameter of that name."""
    (found,) = [each for each in space.parameters if each.name == name]
    return [(condition.parent, condition.values) for condition in found.conditions]


def check_replays(declare: Declare, space: Space, samples: int = 20) -> None:
    """Every configuration of the space is handed out whole, and the function asks for nothing else."""
    generator = np.random.default_rng(0)
    for _ in range(samples):
        configuration = space.sample(generator)
        hp = HyperParameters(configuration)
        declare(hp)
        assert hp.warnings == []
        assert hp.values == configuration


# Discovery: plain branches


def one_branch(hp: Any) -> None:
    if hp.Choice("kind", ["a", "b", "c"]) == "b":
        hp.Int("units", 1, 5)


def a_loop(hp: Any) -> None:
    for i in range(hp.Int("layers", 1, 4)):
        hp.Int(f"units_{i}", 1, 3)


def nested_loops(hp: Any) -> None:
    for i in range(hp.Int("blocks", 0, 4)):
        for j in range(hp.Int(f"layers_{i}", 0, 2)):
            hp.Boolean(f"norm_{i}_{j}")


def both(hp: Any) -> None:
    a, b = hp.Boolean("a"), hp.Boolean("b")
    if a and b:
        hp.Int("c", 1, 3)


def all_three(hp: Any) -> None:
    if all([hp.Boolean("a"), hp.Choice("b", ["x", "y"]) == "y", hp.Int("c", 1, 3) > 2]):
        hp.Int("d", 1, 3)


def exclusive(hp: Any) -> None:
    if hp.Boolean("deep"):
        hp.Int("units", 1, 4)
    else:
        hp.Int("units", 5, 9)


def on_exclusive(hp: Any) -> None:
    units = hp.Int("units", 1, 4) if hp.Boolean("deep") else hp.Int("units", 5, 9)
    if units > 2:
        hp.Int("more", 1, 2)


def dynamic_bounds(hp: Any) -> None:
    hp.Int("a", 1, 8)
    hp.Int("b", 1, hp.get("a"))


def long_choice(hp: Any) -> None:
    if hp.Choice("kind", [f"k{i}" for i in range(40)]) == "k23":
        hp.Int("units", 1, 4)


def half_of_a_long_choice(hp: Any) -> None:
    if hp.Choice("size", list(range(40))) >= 20:
        hp.Int("units", 1, 4)


def threshold(hp: Any) -> None:
    if hp.Int("size", 1, 1000) > 700:
        hp.Int("units", 1, 3)


def steps(hp: Any) -> None:
    if hp.Float("dropout", 0.0, 0.9, step=0.1, default=0.5) > 0:
        hp.Choice("where", ["first", "last"])


def scopes(hp: Any) -> None:
    hp.Choice("model", ["tree", "net"])
    with hp.conditional_scope("model", ["net"]):
        hp.Choice("activation", ["relu", "elu"])
        with hp.conditional_scope("activation", "elu"):
            hp.Choice("alpha", [0.1, 1.0])
        hp.Int("width", 1, 3)
    with hp.conditional_scope("model", ["tree"]):
        hp.Int("width", 4, 9)


def scope_on_a_long_range(hp: Any) -> None:
    hp.Int("size", 1, 500)
    with hp.conditional_scope("size", [137, 250]):
        if hp.Boolean("special"):
            hp.Int("units", 1, 3)


def arguments(hp: Any) -> None:
    hp.Choice("booster", ["tree", "linear"])
    hp.Float("eta", 0.1, 0.5, step=0.1, parent_name="booster", parent_values=["tree"])
    hp.Int("depth", 1, 3, parent_name="booster", parent_values="tree")
    hp.Boolean("l1", parent_name="booster", parent_values=["linear"])
    hp.Choice("solver", ["x", "y"], parent_name="l1", parent_values=[True])
    hp.Fixed("passes", 3, parent_name="booster", parent_values=["linear"])


def named_scopes(hp: Any) -> None:
    hp.Choice("kind", ["x", "y"])
    with hp.name_scope("encoder"):
        hp.Choice("kind", ["a", "b"])
        with hp.conditional_scope("kind", ["a"]), hp.name_scope("first"):
            hp.Int("units", 1, 3)


def shared_name(hp: Any) -> None:
    hp.Choice("kind", ["a", "b", "c"])
    with hp.conditional_scope("kind", ["a", "b"]):
        hp.Int("units", 1, 3)
    hp.Int("units", 1, 3)


def shared_name_the_other_way(hp: Any) -> None:
    hp.Choice("kind", ["a", "b", "c"])
    hp.Int("units", 1, 3)
    with hp.conditional_scope("kind", ["a", "b"]):
        hp.Int("units", 1, 3)


def raising_after(hp: Any) -> None:
    if hp.Choice("kind", ["a", "b", "c"]) == "b":
        hp.Int("units", 1, 3)
        raise RuntimeError("not yet written")
    hp.Boolean("last")


@pytest.mark.parametrize(
    ("declare", "count"),
    [
        (one_branch, 2 + 5),
        (a_loop, 3 + 9 + 27 + 81),
        (nested_loops, 1 + 7 + 7**2 + 7**3 + 7**4),
        (both, 3 + 3),
        (all_three, 11 + 3),
        (exclusive, 4 + 5),
        (on_exclusive, 2 + 2 * 2 + 5 * 2),
        (dynamic_bounds, 36),
        (long_choice, 39 + 4),
        (half_of_a_long_choice, 20 + 20 * 4),
        (threshold, 700 + 300 * 3),
        (steps, 1 + 9 * 2),
        (scopes, 6 + (1 + 2) * 3),
        (scope_on_a_long_range, 498 + 2 * (1 + 3)),
        (arguments, 5 * 3 + 1 + 2),
        (named_scopes, 2 * (3 + 1)),
        (shared_name, 9),
        (shared_name_the_other_way, 9),
    ],
)
def test_finds_exactly_what_the_function_asks_for(declare: Declare, count: int) -> None:
    found = discover(declare)
    assert found.space.count == count
    assert found.warnings == ()
    check_replays(declare, found.space)


def test_conditions_are_readable() -> None:
    assert conditions(discover(one_branch).space, "units") == [("kind", ("b",))]
    assert conditions(discover(a_loop).space, "units_2") == [("layers", (3, 4))]
    assert conditions(discover(both).space, "c") == [("a", (True,)), ("b", (True,))]
    assert conditions(discover(nested_loops).space, "norm_1_1") == [("layers_1", (2,))]
    assert conditions(discover(threshold).space, "units") == [("size", tuple(range(701, 1001)))]
    assert conditions(discover(steps).space, "where") == [("dropout", tuple(i / 10 for i in range(1, 10)))]


def test_parameters_keep_the_order_in_which_they_are_declared() -> None:
    def declare(hp: Any) -> None:
        for i in range(hp.Int("layers", 1, 3)):
            hp.Int(f"units_{i}", 1, 3)
        hp.Float("rate", 1e-4, 1e-1, sampling="log")

    assert discover(declare).space.names == ("layers", "units_0", "units_1", "units_2", "rate")


def test_keeps_every_argument() -> None:
    def declare(hp: Any) -> None:
        hp.Int("int", 2, 64, step=2, sampling="log", default=8)
        hp.Float("float", 0.1, 10.0, sampling="REVERSE_LOG")
        hp.Choice("choice", [1, 2, 3], ordered=False, default=2)
        hp.Boolean("boolean", default=True)
        hp.Fixed("fixed", "constant")

    assert discover(declare).space == Space(
        [
            Int("int", 2, 64, step=2, sampling="log", default=8),
            Float("float", 0.1, 10.0, sampling="reverse_log"),
            Choice("choice", [1, 2, 3], ordered=False, default=2),
            Boolean("boolean", default=True),
            Fixed("fixed", "constant"),
        ]
    )


def test_a_function_without_hyper_parameters_has_an_empty_space() -> None:
    found = discover(lambda hp: None)
    assert len(found.space) == 0 and found.calls == 1


def test_a_declared_condition_is_kept_without_an_if() -> None:
    space = discover(scopes).space
    assert conditions(space, "alpha") == [("model", ("net",)), ("activation", ("elu",))]
    assert [each.conditions for each in space.parameters if each.name == "width"] == [
        (Condition("model", ("net",)),),
        (Condition("model", ("tree",)),),
    ]


# Discovery: what no conjunction of conditions describes stays active


def either(hp: Any) -> None:
    a, b = hp.Boolean("a"), hp.Boolean("b")
    if a or b:
        hp.Int("c", 1, 3)


def a_sum(hp: Any) -> None:
    if hp.Int("a", 1, 5) + hp.Int("b", 1, 5) > 6:
        hp.Int("c", 1, 3)


def continuous_parent(hp: Any) -> None:
    if hp.Float("rate", 0, 1) > 0.5:
        hp.Int("c", 1, 3)


def very_long_range(hp: Any) -> None:
    if hp.Int("size", 1, 100_000) > 700:
        hp.Int("c", 1, 3)


@pytest.mark.parametrize("declare", [either, a_sum, continuous_parent, very_long_range])
def test_what_has_no_such_condition_is_always_active(declare: Declare) -> None:
    space = discover(declare).space
    assert conditions(space, "c") == []
    generator = np.random.default_rng(0)
    for _ in range(20):
        hp = HyperParameters(space.sample(generator))
        declare(hp)
        assert hp.warnings == []


# Discovery: errors


def test_a_branch_that_raises_hides_what_follows_but_not_what_comes_before() -> None:
    space = discover(raising_after).space
    assert conditions(space, "units") == [("kind", ("b",))]
    assert conditions(space, "last") == []


def test_what_the_function_raises_at_its_defaults_is_passed_on() -> None:
    def declare(hp: Any) -> None:
        hp.Int("a", 1, 3)
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        discover(declare)


def test_a_parameter_declared_twice_with_other_bounds_is_refused() -> None:
    def declare(hp: Any) -> None:
        hp.Int("units", 1, 3)
        hp.Int("units", 1, 4)

    with pytest.raises(InputError, match=r"'units' is declared twice, as Int.*max_value=3.* and as Int.*max_value=4"):
        discover(declare)


def test_a_parameter_declared_twice_as_two_kinds_is_refused() -> None:
    def declare(hp: Any) -> None:
        hp.Int("units", 1, 3)
        hp.Float("units", 1, 3)

    with pytest.raises(InputError, match="declared twice"):
        discover(declare)


def test_a_parameter_declared_twice_with_other_bounds_in_a_branch_is_refused() -> None:
    def declare(hp: Any) -> None:
        hp.Int("units", 1, 3)
        if hp.Boolean("more"):
            hp.Int("units", 1, 4)

    with pytest.raises(InputError, match="declared twice"):
        discover(declare)


def test_a_parameter_declared_again_in_a_scope_with_other_bounds_is_refused() -> None:
    def declare(hp: Any) -> None:
        hp.Choice("kind", ["a", "b"])
        hp.Int("units", 1, 3)
        with hp.conditional_scope("kind", ["b"]):
            hp.Int("units", 1, 4)

    with pytest.raises(InputError, match="declared twice"):
        discover(declare)


def test_the_same_parameter_may_be_declared_twice() -> None:
    def declare(hp: Any) -> None:
        assert hp.Int("units", 1, 3) == hp.Int("units", 1, 3)

    assert discover(declare).space == Space([Int("units", 1, 3)])


def test_bounds_that_depend_on_a_continuous_value_are_refused() -> None:
    def declare(hp: Any) -> None:
        hp.Float("low", 1, 8)
        hp.Float("high", hp.get("low"), 10)

    with pytest.raises(InputError, match=r"'high' is declared now with .* no condition tells which .* same bounds"):
        discover(declare)


def test_a_condition_on_a_continuous_parameter_is_refused() -> None:
    def declare(hp: Any) -> None:
        hp.Float("rate", 0, 1)
        with hp.conditional_scope("rate", [0.5]):
            hp.Int("units", 1, 3)

    with pytest.raises(InputError, match="'rate', which is continuous: give that one a step"):
        discover(declare)


def test_a_scope_of_an_unknown_parent_is_refused() -> None:
    def declare(hp: Any) -> None:
        hp.Choice("model", ["a", "b"])
        with hp.conditional_scope("modle", ["a"]):
            pass

    with pytest.raises(InputError, match=r"no parameter 'modle' was declared before; did you mean 'model'\?"):
        discover(declare)


def test_a_scope_before_any_parameter_is_refused() -> None:
    def declare(hp: Any) -> None:
        with hp.conditional_scope("model", ["a"]):
            pass

    with pytest.raises(InputError, match=r"no parameter 'model' was declared before$"):
        discover(declare)


def test_a_parent_without_values_is_refused() -> None:
    def declare(hp: Any) -> None:
        hp.Boolean("a")
        hp.Int("units", 1, 3, parent_name="a")

    with pytest.raises(InputError, match="parent_name and parent_values go together"):
        discover(declare)


def test_an_error_in_a_branch_is_not_hidden() -> None:
    def declare(hp: Any) -> None:
        if hp.Boolean("deep"):
            hp.Int("units", 4, 1)

    with pytest.raises(InputError, match=r"min_value 4 is above max_value 1: swap them \(with deep=True\)$"):
        discover(declare)


# Discovery: its cost


def test_is_the_same_every_time() -> None:
    first, second = discover(nested_loops), discover(nested_loops)
    assert first == second


@pytest.mark.parametrize("number", [30, 250])
def test_the_number_of_calls_is_bounded(number: int) -> None:
    calls = 0

    def declare(hp: Any) -> None:
        nonlocal calls
        calls += 1
        for i in range(number):
            if hp.Boolean(f"use_{i}"):
                hp.Int(f"units_{i}", 1, 3)

    found = discover(declare)
    assert calls == found.calls <= tracing.CALLS
    assert (found.calls == tracing.CALLS) == bool(found.warnings) == (number == 250)


def test_few_calls_find_a_usual_model() -> None:
    """Each call builds a model, which takes time: KerasTuner's own example must not need hundreds."""

    def declare(hp: Any) -> None:
        for i in range(hp.Int("layers", 2, 20)):
            hp.Int(f"units_{i}", 32, 512, step=32)
        hp.Choice("learning_rate", [1e-2, 1e-3, 1e-4])

    found = discover(declare)
    assert found.space.count == sum(16**layers for layers in range(2, 21)) * 3
    assert found.calls < 80


# Random functions, against listing all that they ask


Block = list[tuple[Any, ...]]


@st.composite
def blocks(draw: st.DrawFn, depth: int = 3, prefix: str = "p") -> Block:
    """A function as data: it asks for parameters, and branches or loops on each behind where it asked."""
    block: Block = []
    for number in range(draw(st.integers(1, 2 if prefix != "p" else 3))):
        name = f"{prefix}{number}"
        values = draw(st.sampled_from([[False, True], ["x", "y", "z"], [1, 2, 3, 4]]))
        block.append(("ask", name, values, draw(st.sampled_from(values))))
        if depth and draw(st.booleans()):
            if values[-1] == 4 and draw(st.booleans()):
                block.append(("loop", name, draw(blocks(depth=0, prefix=f"{name}_loop"))))
            else:
                met = draw(st.lists(st.sampled_from(values), unique=True))
                other = draw(blocks(depth=depth - 1, prefix=f"{name}_else")) if draw(st.booleans()) else []
                block.append(("if", name, met, draw(blocks(depth=depth - 1, prefix=f"{name}_then")), other))
    return block


def run(block: Block, hp: Any, suffix: str = "") -> None:
    values: dict[str, Any] = {}
    for kind, name, *rest in block:
        if kind == "ask":
            domain, default = rest
            if domain == [False, True]:
                values[name] = hp.Boolean(name + suffix, default=default)
            elif domain[0] == "x":
                values[name] = hp.Choice(name + suffix, domain, default=default)
            else:
                values[name] = hp.Int(name + suffix, domain[0], domain[-1], default=default)
        elif kind == "if":
            met, then, otherwise = rest
            run(then if values[name] in met else otherwise, hp, suffix)
        else:
            for turn in range(values[name]):
                run(rest[0], hp, f"{suffix}_{turn}")


class Lister:
    """Answers with every combination of values, one run after another."""

    def __init__(self, first: list[int]) -> None:
        self.answers = first
        self.asked: list[tuple[int, int]] = []

    def _next(self, values: list[Any]) -> Any:
        place = len(self.asked)
        number = self.answers[place] if place < len(self.answers) else 0
        self.asked.append((number, len(values)))
        return values[number]

    def Boolean(self, name: str, default: bool) -> Any:
        return self._next([False, True])

    def Choice(self, name: str, values: list[Any], default: Any) -> Any:
        return self._next(values)

    def Int(self, name: str, low: int, high: int, default: int) -> Any:
        return self._next(list(range(low, high + 1)))


def listed(block: Block, most: int) -> Iterator[None]:
    answers: list[int] = []
    for _ in range(most):
        lister = Lister(answers)
        run(block, lister)
        yield
        asked = lister.asked
        while asked and asked[-1][0] == asked[-1][1] - 1:
            asked.pop()
        if not asked:
            return
        answers = [number for number, _ in asked]
        answers[-1] += 1


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(blocks())
def test_finds_the_space_of_any_nested_branches_and_loops(block: Block) -> None:
    found = discover(lambda hp: run(block, hp))
    check_replays(lambda hp: run(block, hp), found.space)
    count = sum(1 for _ in listed(block, most=2000))
    assert found.space.count == count or count == 2000 <= found.space.count


# Replay


def test_hands_out_the_values_given() -> None:
    hp = HyperParameters({"kind": "b", "units": 4})
    assert hp.Choice("kind", ["a", "b"]) == "b"
    assert hp.Int("units", 1, 5) == 4
    assert hp.values == {"kind": "b", "units": 4} and hp.warnings == []


def test_hands_out_a_value_in_the_type_of_its_parameter() -> None:
    hp = HyperParameters({"rate": 1, "units": 4.0})
    rate, units = hp.Float("rate", 0, 2), hp.Int("units", 1, 5)
    assert (rate, type(rate), units, type(units)) == (1.0, float, 4, int)


def test_warns_of_a_parameter_that_is_not_in_the_space() -> None:
    hp = HyperParameters({"kind": "b"})
    hp.Choice("kind", ["a", "b"])
    assert hp.Int("units", 2, 5) == 2
    assert len(hp.warnings) == 1 and "'units' is not in the space" in hp.warnings[0]
    assert hp.Int("units", 2, 5) == 2
    assert len(hp.warnings) == 1


def test_warns_of_a_value_that_does_not_fit() -> None:
    hp = HyperParameters({"units": 9})
    assert hp.Int("units", 2, 5, default=3) == 3
    assert len(hp.warnings) == 1 and "9 is outside 2 to 5; its default 3 was used" in hp.warnings[0]


def test_without_values_it_hands_out_defaults_and_warns_of_nothing() -> None:
    hp = HyperParameters()
    assert hp.Int("units", 2, 5) == 2 and hp.Boolean("norm") is False and hp.warnings == []


def test_an_inactive_parameter_is_none_and_has_no_value() -> None:
    hp = HyperParameters({"kind": "a"})
    hp.Choice("kind", ["a", "b"])
    with hp.conditional_scope("kind", ["b"]):
        assert hp.Int("units", 1, 3) is None
    assert "units" not in hp and hp.values == {"kind": "a"}
    with pytest.raises(ValueError, match="units is currently inactive"):
        hp.get("units")
    with pytest.raises(KeyError, match="width does not exist"):
        hp["width"]


def test_a_value_can_be_asked_for_by_name() -> None:
    hp = HyperParameters({"kind": "b", "deep/kind": "x"})
    hp.Choice("kind", ["a", "b"])
    with hp.name_scope("deep"):
        hp.Choice("kind", ["x", "y"])
        assert hp.get("kind") == hp["kind"] == "x" and "kind" in hp
    assert hp.get("kind") == "b" and hp["deep/kind"] == "x" and "deep/kind" in hp and "other" not in hp


def test_a_copy_hands_out_the_same_values_and_declares_for_itself() -> None:
    hp = HyperParameters({"a": 3, "b": 2})
    hp.Int("a", 1, 3)
    twin = hp.copy()
    assert twin.get("a") == 3 and twin.Int("b", 1, 3) == 2
    assert hp.values == {"a": 3} and [each.name for each in hp.space] == ["a"]


# Plain data, and what KerasTuner has beside


@pytest.fixture
def keras_tuner() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("keras_tuner")


def declare_several(hp: Any) -> None:
    hp.Int("units", 8, 64, step=8, default=16)
    hp.Int("few", 1, 5)
    hp.Float("rate", 1e-4, 1e-1, sampling="log")
    hp.Choice("sizes", [1, 2, 3], ordered=False)
    with hp.conditional_scope("sizes", [2, 3]), hp.name_scope("deep"):
        hp.Boolean("norm", default=True)
    if hp.Choice("kind", ["a", "b"]) == "b":
        hp.Fixed("momentum", 0.5, parent_name="kind", parent_values="b")


@pytest.mark.parametrize("kind", ["a", "b"])
def test_its_configuration_is_plain_data_and_comes_back(kind: str) -> None:
    hp = HyperParameters({"kind": kind, "units": 24, "few": 1, "rate": 0.01, "sizes": 3, "deep/norm": False})
    declare_several(hp)
    config = json.loads(json.dumps(hp.get_config()))
    assert config["values"] == hp.values
    assert config["space"][0]["class_name"] == "Int" and config["space"][0]["config"]["name"] == "units"
    again = HyperParameters.from_config(config)
    assert again.get_config() == config
    assert again.get("deep/norm") is False
    declare_several(again)  # as declared already, with the values that came back
    assert again.values == hp.values and len(again.space) == len(hp.space)


def test_its_configuration_is_kerastuners(keras_tuner: Any) -> None:
    hp, theirs = HyperParameters(), keras_tuner.HyperParameters()
    declare_several(hp)
    declare_several(theirs)
    assert keras_tuner.HyperParameters.from_config(hp.get_config()).values == theirs.values
    read = HyperParameters.from_config(theirs.get_config())
    assert read.values == hp.values
    declare_several(read)
    assert [each.name for each in read.space] == [each.name for each in theirs.space]
    assert [each.conditions for each in read.space] == [each.conditions for each in hp.space]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "a configuration of hp is"),
        ([], "a configuration of hp is"),
        ({"space": [{"class_name": "Integer", "config": {"name": "x"}}], "values": {}}, "a parameter reads"),
        ({"space": [{"class_name": "Int", "config": {"name": "x"}}], "values": {}}, "a parameter reads"),
        ({"space": ["x"], "values": {}}, "a parameter reads"),
        (
            {"space": [{"class_name": "Int", "config": {"name": "x", "min_value": 3, "max_value": 1}}], "values": {}},
            "min_value 3 is above max_value 1",
        ),
    ],
)
def test_what_is_no_configuration_of_it(config: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        HyperParameters.from_config(config)


def test_merging(keras_tuner: Any) -> None:
    other = HyperParameters()
    other.Int("units", 1, 9, default=5)
    other.Boolean("norm")
    hp = HyperParameters()
    hp.Int("units", 1, 3)
    hp.merge(other, overwrite=False)
    assert hp.values == {"units": 1, "norm": False} and hp.space[0] == Int("units", 1, 3)
    hp.merge(other)
    assert hp.values == {"units": 5, "norm": False} and hp.space == other.space
    hp.merge([Choice("kind", ["a", "b"]), Int("deep", 1, 2, parent_name="kind", parent_values="b")])
    assert hp.values == {"units": 5, "norm": False, "kind": "a"} and len(hp.space) == 4
    theirs = keras_tuner.HyperParameters()
    theirs.Float("rate", 0.5, 1.0)
    for source in (theirs, theirs.space):
        hp.merge(source)
        assert hp.get("rate") == 0.5
    with pytest.raises(InputError, match="'units' is none"):
        hp.merge(["units"])


def test_merged_parameters_are_found_and_handed_out() -> None:
    extra = HyperParameters()
    extra.Choice("optimizer", ["adam", "sgd"])

    def declare(hp: Any) -> None:
        hp.merge(extra)
        if hp.get("optimizer") == "sgd":
            hp.Float("momentum", 0, 0.9, step=0.3)

    found = discover(declare)
    assert found.space.count == 5 and conditions(found.space, "momentum") == [("optimizer", ("sgd",))]
    check_replays(declare, found.space)


def test_active_values_are_ensured() -> None:
    hp = HyperParameters()
    hp.Choice("kind", ["a", "b"])
    hp.Int("few", 1, 3, parent_name="kind", parent_values="a")
    hp.space.append(Int("units", 4, 8, parent_name="kind", parent_values="b"))
    hp.values["kind"] = "b"
    hp.ensure_active_values()
    assert hp.values == {"kind": "b", "units": 4}
    hp.values["kind"] = "a"
    hp.ensure_active_values()
    assert hp.values == {"kind": "a", "few": 1}
    replayed = HyperParameters({"kind": "b", "units": 7})
    replayed.merge(hp)
    replayed.values.pop("units")
    replayed.ensure_active_values()
    assert replayed.values == {"kind": "b", "units": 7} and replayed.warnings == []


def test_twins_keep_the_value_of_the_active_one() -> None:
    hp = HyperParameters({"kind": "b", "width": 7})
    hp.Choice("kind", ["a", "b"])
    for kind, most in (("b", 9), ("a", 3)):
        hp.Int("width", 1, most, parent_name="kind", parent_values=kind)
    hp.ensure_active_values()
    assert hp.values == {"kind": "b", "width": 7}


def test_a_continuous_space_replays() -> None:
    def declare(hp: Any) -> None:
        hp.Float("rate", 1e-4, 1e-1, sampling="log")
        if hp.Choice("optimizer", ["adam", "sgd"]) == "sgd":
            hp.Float("momentum", 0, 0.99)

    found = discover(declare)
    assert found.space.count == math.inf
    check_replays(declare, found.space)


# Discovery: calls that end their process


class _Death(BaseException):
    pass


def discover_deadly(declare: Declare, deadly: Callable[[dict[str, Any]], bool]) -> tuple[Discovery, int]:
    """Discovers a function whose process is killed where ``deadly`` holds; returns how often that was, too."""
    killed: list[Killed] = []
    while True:
        last = (0, 0)

        def watch(*step: int) -> None:
            nonlocal last
            last = (step[0], step[1])

        def build(hp: Any) -> None:
            declare(hp)
            if deadly(hp.values):
                raise _Death

        try:
            return discover(build, killed, watch), len(killed)
        except _Death:
            killed.append(Killed(*last, "is too large"))


@pytest.mark.parametrize("values", [[16, 64, 4_000_000], [4_000_000, 64, 16]])
def test_the_rest_is_searched_where_a_choice_ends_the_process(values: list[int]) -> None:
    def declare(hp: Any) -> None:
        hp.Int("depth", 1, 3)
        hp.Choice("units", values)
        hp.Float("rate", 1e-4, 1e-1)

    found, deaths = discover_deadly(declare, lambda values: values["units"] > 1000)
    assert deaths <= 2
    assert found.warnings == ("units=4000000 is too large: trials with it will fail",)
    assert found.space == discover(declare).space
    assert found.working["units"] in (16, 64)


def test_what_lies_beyond_a_value_that_ends_the_process_is_not_called() -> None:
    def declare(hp: Any) -> None:
        if hp.Boolean("wide"):
            hp.Int("width", 1, 10**6)
        for layer in range(hp.Int("layers", 1, 3)):
            hp.Int(f"units_{layer}", 10, 10**6)

    found, deaths = discover_deadly(declare, lambda values: max(map(int, values.values())) > 10**5)
    assert deaths == 4
    assert {each.partition(" ")[0] for each in found.warnings} == {
        *(f"units_{layer}=1000000" for layer in range(3)),
        "width=1000000",
    }
    assert found.space == discover(declare).space


def test_a_combination_that_ends_the_process_is_named_whole() -> None:
    def declare(hp: Any) -> None:
        hp.Int("depth", 1, 3)
        hp.Choice("units", [16, 64, 600])

    found, _ = discover_deadly(declare, lambda values: values["units"] * values["depth"] > 1000)
    assert "depth=3, units=600 is too large: trials with these together will fail" in found.warnings
    assert not any(each.startswith("units=600 ") for each in found.warnings)


def test_where_no_call_survives_that_is_said() -> None:
    with pytest.raises(InputError, match=r"no configuration .* can be built: units=16 is too large; units=64 is too"):
        discover_deadly(lambda hp: hp.Choice("units", [16, 64]), lambda values: True)


def test_a_call_that_ends_the_process_before_it_declares_anything_is_not_made_again() -> None:
    with pytest.raises(InputError, match="the model is too large"):
        discover(lambda hp: pytest.fail("it was called"), [Killed(1, 0, "is too large")])
