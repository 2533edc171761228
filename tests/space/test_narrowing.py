from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcompss.errors import InputError
from hpcompss.space import Boolean, Choice, Condition, Fixed, Float, Int, Parameter, Space
from hpcompss.space.narrowing import check_entries, narrowed
from hpcompss.space.tracing import HyperParameters, discover

DECLARED = Space(
    [
        Int("units", 16, 128, step=16),
        Float("rate", 1e-5, 1e-1, sampling="log"),
        Choice("kind", ["a", "b", "c"]),
        Int("depth", 1, 5, parent_name="kind", parent_values=["a", "b"]),
        Float("drop.out", 0.0, 0.9, step=0.1, parent_name="depth", parent_values=[3, 4, 5]),
        Boolean("norm/first", parent_name="kind", parent_values=["c"]),
        Choice("filters", [8, 16, 1024]),
        Int("powers", 4, 64, step=2, sampling="log"),
        Int("mirrored", 4, 64, step=2, sampling="reverse_log"),
        Int("free", 1, 1000, sampling="log"),
    ]
)


def one(entries: dict[str, Any], name: str, space: Space = DECLARED) -> Parameter:
    """The one parameter of that name in the narrowed space."""
    (found,) = [each for each in narrowed(space, entries).space.parameters if each.name == name]
    return found


def values(parameter: Parameter) -> list[Any]:
    return [parameter.value(index) for index in range(int(parameter.count))]


# What is left


def test_the_issues_own_example() -> None:
    entries = {"units": {"fixed": 64}, "rate": {"min_value": 1e-4, "max_value": 1e-2}}
    assert one(entries, "units") == Fixed("units", 64)
    assert one(entries, "rate") == Float("rate", 1e-4, 1e-2, sampling="log")
    others = [each for each in narrowed(DECLARED, entries).space.parameters if each.name not in entries]
    assert others == [each for each in DECLARED.parameters if each.name not in entries]


@pytest.mark.parametrize(
    ("name", "entry", "left"),
    [
        ("units", {"min_value": 30, "max_value": 70}, [32, 48, 64]),
        ("units", {"step": 32}, [16, 48, 80, 112]),
        ("units", {"min_value": 32, "step": 48}, [32, 80, 128]),
        ("units", {"values": [64, 16]}, [16, 64]),
        ("units", {"max_value": 20}, [16]),
        ("units", {"min_value": np.int64(100)}, [112, 128]),
        ("units", {"type": "Int", "max_value": 32}, [16, 32]),
        ("kind", {"values": ["c", "a"]}, ["a", "c"]),
        ("filters", {"max_value": 100}, [8, 16]),
        ("filters", {"fixed": 1024.0}, [1024]),
        ("powers", {"min_value": 5}, [8, 16, 32, 64]),
        ("powers", {"step": 4}, [4, 16, 64]),
        ("mirrored", {"max_value": 64}, [4, 36, 52, 60, 64]),
        ("mirrored", {"max_value": 60}, [4, 36, 52, 60]),
        ("mirrored", {"min_value": 30, "step": 4}, [36, 60]),
        ("free", {"max_value": 20, "step": 4}, [1, 4, 16]),
    ],
)
def test_what_a_range_or_a_choice_keeps(name: str, entry: dict[str, Any], left: list[Any]) -> None:
    found = one({name: entry}, name)
    assert values(found) == left
    assert [type(each) for each in values(found)] == [type(each) for each in left]


def test_steps_of_floats_stay_those_declared() -> None:
    kept = one({"drop.out": {"min_value": 0.25, "max_value": 0.62}}, "drop.out")
    assert values(kept) == [0.3, 0.4, 0.5, 0.6]
    assert kept.conditions == (Condition("depth", (3, 4, 5)),)


def test_defaults() -> None:
    space = Space([Int("x", 1, 9, default=5), Choice("y", ["a", "b", "c"], default="b")])
    assert one({"x": {"max_value": 7}}, "x", space).default == 5
    assert one({"x": {"max_value": 4}}, "x", space).default == 1
    assert one({"x": {"default": 3}}, "x", space).default == 3
    assert one({"y": {"values": ["a", "c"]}}, "y", space).default == "a"
    assert one({"y": {"values": ["a", "c"], "default": "c"}}, "y", space).default == "c"
    assert one({"y": {"default": "c"}}, "y", space).default == "c"


def test_defaults_of_what_keeps_all_its_values() -> None:
    space = Space([Boolean("flag"), Choice("size", [1, 2], ordered=False), Fixed("same", 3)])
    entries = {"flag": {"default": True}, "size": {"default": 2}, "same": {"default": 3}}
    assert narrowed(space, entries).space == Space(
        [Boolean("flag", default=True), Choice("size", [1, 2], ordered=False, default=2), Fixed("same", 3)]
    )
    assert narrowed(space, {"flag": {"values": [True, False]}, "size": {"values": [2, 1]}}).space == space
    with pytest.raises(InputError, match="it is fixed to 3"):
        narrowed(space, {"same": {"fixed": 4}})


def test_numbers_without_an_order_keep_none() -> None:
    space = Space([Choice("size", [1, 2, 3], ordered=False)])
    assert one({"size": {"values": [3, 1]}}, "size", space) == Choice("size", [1, 3], ordered=False)


# Conditions


def test_children_that_are_never_active_are_left_out() -> None:
    narrowing = narrowed(DECLARED, {"kind": {"fixed": "c"}})
    assert "depth" not in narrowing.space.names and "drop.out" not in narrowing.space.names
    assert narrowing.notes == (
        "left out of the space: 'depth', 'drop.out' are never active as search.space narrows 'kind'",
    )
    (child,) = [each for each in narrowing.space.parameters if each.name == "norm/first"]
    assert child.conditions == (Condition("kind", ("c",)),)


def test_conditions_keep_the_values_that_are_left() -> None:
    assert one({"kind": {"values": ["b", "c"]}}, "depth").conditions == (Condition("kind", ("b",)),)
    assert one({"depth": {"max_value": 4}}, "drop.out").conditions == (Condition("depth", (3, 4)),)


def test_conditions_that_exclude_each_other_once_narrowed() -> None:
    space = Space(
        [
            Choice("a", [1, 2, 3]),
            Boolean("b", parent_name="a", parent_values=[2, 3]),
            Int("c", 1, 3, conditions=[Condition("a", (1, 2)), Condition("b", (True,))]),
            Int("d", 1, 3, parent_name="c", parent_values=[2]),
        ]
    )
    assert narrowed(space, {"a": {"values": [1, 3]}}).space.names == ("a", "b")
    assert narrowed(space, {"a": {"values": [1, 2]}}).space.names == ("a", "b", "c", "d")


def test_an_entry_of_what_is_left_out_has_no_effect_but_must_fit() -> None:
    kind = {"kind": {"fixed": "c"}}
    assert narrowed(DECLARED, {**kind, "depth": {"fixed": 2}}).notes[1] == "search.space.depth has no effect"
    with pytest.raises(InputError, match="9 is outside 1 to 5"):
        narrowed(DECLARED, {**kind, "depth": {"fixed": 9}})


# One name in several branches


def funnel(hp: Any) -> None:
    hp.Int("second", 4, hp.Choice("first", [8, 16, 32]), step=4)


def test_an_entry_applies_to_each_parameter_of_its_name() -> None:
    space = discover(funnel).space
    ranges = [
        (each.min_value, each.max_value)
        for each in narrowed(space, {"second": {"max_value": 16}}).space.parameters
        if isinstance(each, Int)
    ]
    assert sorted(ranges) == [(4, 8), (4, 16), (4, 16)]
    fixed = narrowed(space, {"second": {"fixed": 8}}).space
    assert {each for each in fixed.parameters if each.name == "second"} == {
        Fixed("second", 8, parent_name="first", parent_values=[first]) for first in (8, 16, 32)
    }


def test_a_branch_in_which_nothing_is_left_is_told() -> None:
    space = discover(funnel).space
    with pytest.raises(InputError) as caught:
        narrowed(space, {"second": {"fixed": 12}})
    assert caught.value.key == "search.space.second.fixed"
    assert "where first is 8: narrow 'first' too" in caught.value.message
    left = narrowed(space, {"first": {"min_value": 16}, "second": {"fixed": 12}}).space
    assert [each["second"] for each in left.combinations()] == [12, 12]


# Mistakes


@pytest.mark.parametrize(
    ("entries", "key", "said"),
    [
        ({"unit": {"fixed": 64}}, "search.space.unit", "no parameter 'unit'; did you mean 'units'?"),
        ({"units": {"fixed": 65}}, "search.space.units.fixed", "65 is not one of its steps"),
        ({"units": {"fixed": 1024}}, "search.space.units.fixed", "1024 is outside 16 to 128"),
        ({"units": {"fixed": True}}, "search.space.units.fixed", "must be a whole number"),
        ({"units": {"min_value": 8}}, "search.space.units.min_value", "8 is outside the declared range of 'units'"),
        ({"units": {"max_value": 129}}, "search.space.units.max_value", "16 to 128"),
        ({"units": {"max_value": "many"}}, "search.space.units.max_value", "must be a finite number"),
        ({"units": {"max_value": 20.5}}, "search.space.units.max_value", "must be a whole number"),
        ({"units": {"min_value": 33, "max_value": 40}}, "search.space.units.min_value", "no value of 'units' lies"),
        ({"units": {"min_value": 64, "max_value": 32}}, "search.space.units.min_value", "no value is left"),
        ({"units": {"step": 24}}, "search.space.units.step", "no multiple of the declared step 16"),
        ({"units": {"step": 0}}, "search.space.units.step", "must be above 0"),
        ({"units": {"max_value": 32, "step": 32}}, "search.space.units.step", "only one value would remain"),
        ({"units": {"step": 32, "default": 32}}, "search.space.units.default", "not one of the values that are left"),
        ({"units": {"max_value": 32, "default": 64}}, "search.space.units.default", "64 is not between"),
        ({"powers": {"step": 3}}, "search.space.powers.step", "no power of the declared step 2"),
        ({"free": {"step": 1.5}}, "search.space.free.step", "whole number"),
        ({"rate": {"min_value": 0}}, "search.space.rate.min_value", "0 is outside the declared range"),
        ({"rate": {"fixed": float("nan")}}, "search.space.rate.fixed", "is outside"),
        ({"kind": {"values": ["a", "z"]}}, "search.space.kind.values", "'z' is not one of ['a', 'b', 'c']"),
        ({"kind": {"values": ["a", "a"]}}, "search.space.kind.values", "'a' is stated twice"),
        ({"kind": {"values": []}}, "search.space.kind.values", "is empty"),
        ({"kind": {"values": "a"}}, "search.space.kind.values", "must be a list"),
        ({"kind": {"max_value": 3}}, "search.space.kind.max_value", "a Choice has no max_value"),
        ({"kind": {"values": ["a"], "default": "b"}}, "search.space.kind.default", "not one of the values"),
        ({"filters": {"step": 8}}, "search.space.filters.step", "a Choice has no step"),
        ({"filters": {"min_value": 20, "max_value": 30}}, "search.space.filters.min_value", "lies between 20 and 30"),
        ({"units": {"type": "Float"}}, "search.space.units.type", "declared as Int, not as Float"),
        ({"units": {"minimum": 3}}, "search.space.units.minimum", "unknown key 'minimum'"),
        ({"units": {"fixed": 64, "step": 16}}, "search.space.units", "fixed leaves no room for step"),
        ({"units": {"fixed": None}}, "search.space.units.fixed", "has no value"),
        ({"units": {}}, "search.space.units", "must be a mapping"),
        ({"units": 64}, "search.space.units", "such as {fixed: 64}"),
        ({1: {"fixed": 64}}, "search.space", "put 1 into quotation marks"),
        ([], "search.space", "must be a mapping"),
    ],
)
def test_a_mistake_is_told_with_its_key(entries: Any, key: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        narrowed(DECLARED, entries)
    assert (caught.value.key, said in caught.value.message) == (key, True), str(caught.value)


def test_the_form_is_checked_without_the_space() -> None:
    check_entries({"anything": {"fixed": 1}})
    with pytest.raises(InputError, match="unknown key 'fix'; did you mean 'fixed'"):
        check_entries({"anything": {"fix": 1}})


# Whatever is stated


@st.composite
def spaces_and_entries(draw: st.DrawFn) -> tuple[Space, dict[str, Any]]:
    parameters: list[Parameter] = []
    entries: dict[str, Any] = {}
    for number in range(draw(st.integers(1, 4))):
        parents = [each for each in parameters if each.count < 50]
        conditions = []
        for parent in draw(st.lists(st.sampled_from(parents), max_size=2)) if parents else []:
            chosen = draw(st.lists(st.sampled_from(values(parent)), min_size=1, unique=True))
            conditions.append(Condition(parent.name, tuple(chosen)))
        parameter = draw(declared(f"p.{number}", conditions))
        parameters.append(parameter)
        if draw(st.booleans()):
            entries[parameter.name] = draw(entry_of(parameter))
    return Space(parameters), entries


@st.composite
def declared(draw: st.DrawFn, name: str, conditions: list[Condition]) -> Parameter:
    kind = draw(st.sampled_from(["Int", "Float", "Choice", "Boolean"]))
    if kind == "Boolean":
        return Boolean(name, conditions=conditions)
    if kind == "Choice":
        several = draw(st.sampled_from([["a", "b", "c"], [1, 2, 4, 8], [0.5, 0.1]]))
        return Choice(name, several, conditions=conditions)
    sampling = draw(st.sampled_from(["linear", "log", "reverse_log"]))
    low = draw(st.integers(1, 20))
    high = low * draw(st.integers(2, 30))
    step = draw(st.sampled_from([None, 2, 3] if sampling != "linear" else [None, 1, 2, 5]))
    if step is not None and (low * step > high if sampling != "linear" else low + step > high):
        step = None
    if kind == "Int":
        return Int(name, low, high, step, sampling, conditions=conditions)
    step_size = step if step is None or sampling != "linear" else step / 8
    return Float(name, low / 8, high / 8, step_size, sampling, conditions=conditions)


@st.composite
def entry_of(draw: st.DrawFn, parameter: Parameter) -> dict[str, Any]:
    units = st.floats(0, 1)
    form = draw(st.sampled_from(["fixed", "values", "bounds"]))
    if form == "fixed":
        return {"fixed": parameter.decode(draw(units))}
    if form == "values" or not isinstance(parameter, Int | Float):
        several = [parameter.decode(each) for each in draw(st.lists(units, min_size=1, max_size=4))]
        return {"values": list(dict.fromkeys(several))}
    low, high = sorted(parameter.decode(each) for each in draw(st.tuples(units, units)))
    entry = {"min_value": low, "max_value": high}
    return {key: each for key, each in entry.items() if draw(st.booleans())} or entry


def obeys(entry: dict[str, Any], value: Any) -> bool:
    if "fixed" in entry:
        return bool(value == entry["fixed"])
    if "values" in entry:
        return value in entry["values"]
    return bool(entry.get("min_value", value) <= value <= entry.get("max_value", value))


@given(spaces_and_entries(), st.integers(0, 2**32 - 1))
def test_what_is_sampled_is_declared_and_obeys(stated: tuple[Space, dict[str, Any]], seed: int) -> None:
    space, entries = stated
    left = narrowed(space, entries).space
    generator = np.random.default_rng(seed)
    for _ in range(20):
        configuration = left.sample(generator)
        assert space.validate(configuration) == configuration
        assert all(obeys(entries[name], value) for name, value in configuration.items() if name in entries)
    assert Space.from_json(left.to_json()) == left
    if space.is_finite and space.count < 3000:
        allowed = [
            each for each in space.combinations() if all(obeys(entries[k], v) for k, v in each.items() if k in entries)
        ]
        assert {left.key(each) for each in allowed} == {left.key(each) for each in left.combinations()}
        assert {name for each in allowed for name in each} == set(left.names)


def test_a_narrowed_configuration_is_handed_out_whole() -> None:
    def build(hp: Any) -> None:
        for layer in range(hp.Int("layers", 1, 4)):
            hp.Int(f"units_{layer}", 8, 64, step=8)
        if hp.Choice("optimizer", ["adam", "sgd"]) == "sgd":
            hp.Float("momentum", 0.0, 0.9)

    entries = {"layers": {"max_value": 2}, "units_1": {"values": [8, 64]}, "optimizer": {"fixed": "adam"}}
    left = narrowed(discover(build).space, entries).space
    assert left.names == ("layers", "units_0", "units_1", "optimizer")
    generator = np.random.default_rng(0)
    for _ in range(20):
        configuration = left.sample(generator)
        hp = HyperParameters(configuration)
        build(hp)
        assert hp.values == configuration and hp.warnings == [] and configuration["optimizer"] == "adam"
