from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hpcompss.errors import InputError
from hpcompss.space import Boolean, Choice, Condition, Fixed, Float, Int, Space

NETWORK = Space(
    [
        Int("layers", 1, 3),
        Int("units_1", 16, 64, step=16, parent_name="layers", parent_values=[2, 3]),
        Int("units_2", 16, 64, step=16, parent_name="layers", parent_values=[3]),
        Choice("optimizer", ["adam", "sgd"]),
        Float("momentum", 0.0, 0.9, step=0.3, parent_name="optimizer", parent_values=["sgd"]),
        Boolean("nesterov", conditions=[Condition("optimizer", ("sgd",)), Condition("momentum", (0.6, 0.9))]),
        Float("rate", 1e-4, 1e-1, sampling="log"),
        Fixed("loss", "mse"),
    ]
)


def configurations(space: Space, count: int = 200) -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    return [space.sample(generator) for _ in range(count)]


# Configurations


def test_what_is_sampled_is_valid() -> None:
    for configuration in configurations(NETWORK):
        assert NETWORK.validate(configuration) == configuration
        assert list(NETWORK.validate(configuration)) == list(configuration)


def test_an_inactive_parameter_is_absent() -> None:
    for configuration in configurations(NETWORK):
        assert ("units_1" in configuration) == (configuration["layers"] >= 2)
        assert ("momentum" in configuration) == (configuration["optimizer"] == "sgd")
        assert ("nesterov" in configuration) == (configuration.get("momentum", 0) >= 0.6)


def test_the_unit_cube_and_back() -> None:
    for configuration in configurations(NETWORK):
        unit = NETWORK.encode(configuration)
        assert unit.shape == (len(NETWORK),)
        inactive = [parameter.name not in configuration for parameter in NETWORK.parameters]
        assert np.isnan(unit).tolist() == inactive
        decoded = NETWORK.decode(unit)
        assert decoded.pop("rate") == pytest.approx(configuration.pop("rate"), rel=1e-12)
        assert decoded == configuration


def test_every_place_of_the_cube_is_a_configuration() -> None:
    for corner in (np.zeros(len(NETWORK)), np.ones(len(NETWORK)), np.full(len(NETWORK), 0.5)):
        NETWORK.validate(NETWORK.decode(corner))


def test_default_is_valid() -> None:
    assert NETWORK.validate(NETWORK.default) == NETWORK.default
    assert NETWORK.default == {"layers": 1, "optimizer": "adam", "rate": 1e-4, "loss": "mse"}


def test_draws_are_repeatable() -> None:
    assert configurations(NETWORK) == configurations(NETWORK)


def test_validation_gives_the_spaces_order_and_types() -> None:
    given = {"loss": "mse", "rate": np.float32(0.01), "optimizer": "sgd", "momentum": 0.1 + 0.2, "layers": np.int64(1)}
    checked = NETWORK.validate(given)
    assert list(checked) == ["layers", "optimizer", "momentum", "rate", "loss"]
    assert checked["momentum"] == 0.3
    assert type(checked["layers"]) is int
    assert type(checked["rate"]) is float


def test_keys_tell_configurations_apart() -> None:
    drawn = configurations(NETWORK)
    assert len({NETWORK.key(each) for each in drawn}) == len({json.dumps(each) for each in drawn})
    shuffled = dict(reversed(drawn[0].items()))
    assert NETWORK.key(shuffled) == NETWORK.key(drawn[0])


# Structure


def test_the_order_given_is_kept() -> None:
    assert NETWORK.names == ("layers", "units_1", "units_2", "optimizer", "momentum", "nesterov", "rate", "loss")


def test_a_parent_is_moved_before_its_child() -> None:
    space = Space([Int("b", 0, 1, parent_name="a", parent_values=[1]), Int("c", 0, 1), Int("a", 0, 1)])
    assert space.names == ("a", "b", "c")


def test_a_space_may_be_empty() -> None:
    space = Space([])
    assert space.count == 1
    assert list(space.combinations()) == [{}]
    assert space.sample(np.random.default_rng(0)) == {}


def test_finite_and_not() -> None:
    assert not NETWORK.is_finite
    assert NETWORK.count == math.inf
    assert Space(each for each in NETWORK.parameters if each.name != "rate").count == (1 + 4 + 16) * (1 + 2 + 2 * 2)


def test_a_name_may_stand_twice_where_conditions_exclude_each_other() -> None:
    space = Space(
        [
            Choice("model", ["dense", "tree"]),
            Int("size", 8, 64, step=8, parent_name="model", parent_values=["dense"]),
            Int("size", 1, 9, parent_name="model", parent_values=["tree"]),
            Boolean("deep", parent_name="size", parent_values=[8, 64]),
        ]
    )
    assert space.names == ("model", "size", "deep")
    assert len(space) == 4
    assert space.count == (8 + 2) + (9 + 1)
    for configuration in configurations(space):
        assert space.validate(configuration) == configuration
        assert space.decode(space.encode(configuration)) == configuration
        assert ("deep" in configuration) == (configuration["size"] in (8, 64))


def test_a_name_may_stand_three_times() -> None:
    space = Space(
        [
            Choice("model", ["a", "b", "c"]),
            Boolean("wide", parent_name="model", parent_values=["a"]),
            Int("wide", 1, 2, parent_name="model", parent_values=["b"]),
            Int("units", 1, 3, parent_name="model", parent_values=["a", "b"]),
            Int("units", 1, 9, parent_name="model", parent_values=["c"]),
        ]
    )
    assert space.count == 2 * 3 + 2 * 3 + 9


def test_grandparents_keep_twins_apart() -> None:
    space = Space(
        [
            Boolean("first"),
            Int("n", 1, 2, parent_name="first", parent_values=True),
            Int("units", 1, 3, parent_name="n", parent_values=[1, 2]),
            Int("units", 1, 9, parent_name="first", parent_values=False),
        ]
    )
    assert space.count == 2 * 3 + 9


def test_twin_parents_keep_twins_apart() -> None:
    space = Space(
        [
            Choice("model", ["a", "b", "c"]),
            Int("n", 1, 2, parent_name="model", parent_values="a"),
            Int("n", 1, 3, parent_name="model", parent_values="b"),
            Int("units", 1, 3, parent_name="n", parent_values=[1, 2]),
            Int("units", 1, 9, parent_name="model", parent_values="c"),
        ]
    )
    assert space.count == 2 * 3 + (2 * 3 + 1) + 9


def test_conditions_name_their_parents_own_values() -> None:
    space = Space(
        [
            Float("rate", 0, 1, step=0.1),
            Int("steps", 1, 5, parent_name="rate", parent_values=[0.1 + 0.2, np.float64(0.5)]),
            Choice("size", [1.0, 2.0]),
            Boolean("more", parent_name="size", parent_values=2),
        ]
    )
    assert space.parameters[1].conditions == (Condition("rate", (0.3, 0.5)),)
    assert space.count == (9 + 2 * 5) * 3
    assert space.validate({"rate": 0.3, "steps": 2, "size": 1})["steps"] == 2
    json.dumps(space.to_json())


# Identity and plain data


def test_a_space_survives_json_and_pickle() -> None:
    read = Space.from_json(json.loads(json.dumps(NETWORK.to_json())))
    assert read == NETWORK
    assert hash(read) == hash(NETWORK)
    assert repr(read) == repr(NETWORK)
    assert read.parameters == NETWORK.parameters
    assert pickle.loads(pickle.dumps(NETWORK)) == NETWORK


def test_a_space_with_its_lattice_survives_pickle() -> None:
    space = Space([Int("a", 0, 3), Int("b", 0, 3, parent_name="a", parent_values=[1])])
    assert space.count == 7
    assert pickle.loads(pickle.dumps(space)).combination(6) == space.combination(6)


def test_what_differs_is_not_equal() -> None:
    a, b = Int("a", 0, 1), Int("b", 0, 1)
    assert Space([a, b]) == Space([a, b])
    assert Space([a, b]) != Space([b, a])
    assert Space([a]) != Space([Int("a", 0, 2)])
    assert Space([a]) != [a]


# Bad input, each with its sentence

A = Int("a", 0, 3)

BAD: dict[str, tuple[Callable[[], object], str]] = {
    "no parameter": (
        lambda: Space([A, "b"]),  # type: ignore[list-item]
        "a space is made of parameters (Int, Float, Choice, Boolean, Fixed), not 'b'",
    ),
    "unknown parent": (
        lambda: Space([Int("layers", 0, 3), Boolean("x", parent_name="layer", parent_values=[1])]),
        "'x' depends on 'layer', which is not in the space; did you mean 'layers'?",
    ),
    "impossible parent value": (
        lambda: Space([A, Boolean("x", parent_name="a", parent_values=[1, 4])]),
        "'x' depends on a value its parent cannot have: Int 'a': 4 is outside 0 to 3",
    ),
    "parent value of another type": (
        lambda: Space([A, Boolean("x", parent_name="a", parent_values=["1"])]),
        "'x' depends on a value its parent cannot have: Int 'a': a value must be a whole number, not '1'",
    ),
    "continuous parent": (
        lambda: Space([Float("rate", 0, 1), Boolean("x", parent_name="rate", parent_values=[0.5])]),
        "'x' depends on 'rate', which is continuous: give that one a step",
    ),
    "own parent": (
        lambda: Space([Int("a", 0, 3, parent_name="a", parent_values=[1])]),
        "the conditions of 'a' go round in a circle: break it by removing one",
    ),
    "circle": (
        lambda: Space(
            [
                Boolean("top", parent_name="b", parent_values=True),
                Boolean("a", parent_name="b", parent_values=True),
                Boolean("b", parent_name="a", parent_values=True),
            ]
        ),
        " go round in a circle: break it by removing one",
    ),
    "twice the same": (
        lambda: Space([A, A]),
        "'a' is declared twice, and no condition keeps the two apart: give one of them another name",
    ),
    "twice with other bounds": (
        lambda: Space([A, Int("a", 0, 5)]),
        "'a' is declared twice, and no condition keeps the two apart: give one of them another name",
    ),
    "twice under overlapping conditions": (
        lambda: Space(
            [
                A,
                Int("x", 0, 5, parent_name="a", parent_values=[1, 2]),
                Int("x", 0, 6, parent_name="a", parent_values=[2, 3]),
            ]
        ),
        "'x' is declared twice, and no condition keeps the two apart: give one of them another name",
    ),
    "twice under conditions on different parents": (
        lambda: Space(
            [
                A,
                Boolean("b"),
                Int("x", 0, 5, parent_name="a", parent_values=[1]),
                Int("x", 0, 6, parent_name="b", parent_values=True),
            ]
        ),
        "'x' is declared twice, and no condition keeps the two apart: give one of them another name",
    ),
    "boolean and number of one name as parent": (
        lambda: Space(
            [
                A,
                Boolean("b", parent_name="a", parent_values=0),
                Int("b", 0, 1, parent_name="a", parent_values=1),
                Int("x", 0, 5, parent_name="b", parent_values=[1]),
            ]
        ),
        "'x' depends on 'b', which is a boolean in one place and not in another: give one of them another name",
    ),
    "unknown name": (
        lambda: NETWORK.validate({"layer": 1}),
        "the space has no parameter 'layer'; did you mean 'layers'?",
    ),
    "name no string": (lambda: NETWORK.validate({3: 1}), "the space has no parameter 3; known: layers, "),  # type: ignore[dict-item]
    "lacking": (lambda: NETWORK.validate({"layers": 1}), "the configuration lacks 'optimizer'"),
    "lacking child": (
        lambda: NETWORK.validate({"layers": 1, "optimizer": "sgd"}),
        "the configuration lacks 'momentum'",
    ),
    "inactive": (
        lambda: NETWORK.validate({**NETWORK.default, "momentum": 0.3}),
        "'momentum' is not active in this configuration: leave it out",
    ),
    "outside": (lambda: NETWORK.validate({**NETWORK.default, "layers": 4}), "Int 'layers': 4 is outside 1 to 3"),
    "continuous combinations": (
        lambda: NETWORK.combination(0),
        "'rate' is continuous, so its combinations cannot be listed: give it a step",
    ),
    "unknown in an order": (
        lambda: Space([A]).reordered(["b"]),
        "the space has no parameter 'b'; known: a",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_in_a_sentence(case: str) -> None:
    act, sentence = BAD[case]
    with pytest.raises(InputError) as caught:
        act()
    assert sentence in str(caught.value)


def test_a_circle_names_its_members_only() -> None:
    with pytest.raises(InputError) as caught:
        BAD["circle"][0]()
    assert "'a', 'b'" in str(caught.value) or "'b', 'a'" in str(caught.value)
    assert "top" not in str(caught.value)
