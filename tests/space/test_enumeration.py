from __future__ import annotations

import itertools
import math
import pickle
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcompss.space import Boolean, Choice, Condition, Fixed, Float, Int, Parameter, Space
from hpcompss.space.enumeration import Permutation, parents_first
from hpcompss.trial import Configuration, Value


def by_brute_force(space: Space) -> set[frozenset[tuple[str, Value]]]:
    """Returns every configuration, from the product of all parameters' values and the meaning of a condition."""
    found = set()
    ranges = [[each.value(index) for index in range(int(each.count))] for each in space.parameters]
    for values in itertools.product(*ranges):
        configuration: Configuration = {}
        for parameter, value in zip(space.parameters, values, strict=True):
            if all(configuration.get(each.parent) in each.values for each in parameter.conditions):
                configuration[parameter.name] = value
        found.add(frozenset(configuration.items()))
    return found


def frozen(configuration: Configuration) -> frozenset[tuple[str, Value]]:
    return frozenset(configuration.items())


def parameter_of(kind: str, name: str, size: int, conditions: tuple[Condition, ...]) -> Parameter:
    made: dict[str, Parameter] = {
        "Int": Int(name, 0, size - 1, conditions=conditions),
        "stepped Int": Int(name, 1, 2 ** (size - 1), step=2, sampling="log", conditions=conditions)
        if size > 1
        else Int(name, 1, 1, conditions=conditions),
        "Float": Float(name, 0, 0.1 * (size - 1), step=0.1 if size > 1 else None, conditions=conditions),
        "Choice": Choice(name, list("abcde"[:size]), conditions=conditions),
        "Boolean": Boolean(name, conditions=conditions),
        "Fixed": Fixed(name, 3.5, conditions=conditions),
    }
    return made[kind]


KINDS = st.sampled_from(["Int", "stepped Int", "Float", "Choice", "Boolean", "Fixed"])


@st.composite
def conditional_spaces(draw: st.DrawFn) -> Space:
    """Draws a space of up to 6 parameters with up to two conditions each, some of them twins under one name."""
    parameters: list[Parameter] = []

    def conditions(most: int = 2) -> tuple[Condition, ...]:
        parents = {each.name: each for each in parameters}
        names = draw(st.lists(st.sampled_from(sorted(parents)), max_size=most, unique=True)) if parents else []
        chosen = []
        for name in names:
            values = {each.value(index) for each in parameters if each.name == name for index in range(int(each.count))}
            some = draw(st.lists(st.sampled_from(sorted(values, key=repr)), min_size=1, unique=True))
            chosen.append(Condition(name, tuple(some)))
        return tuple(chosen)

    for number in range(draw(st.integers(1, 4))):
        parameters.append(parameter_of(draw(KINDS), f"p{number}", draw(st.integers(1, 4)), conditions()))
    if draw(st.booleans()):
        switch = Choice("switch", ["a", "b", "c"], conditions=conditions())
        twins = [
            parameter_of("Int", "twin", draw(st.integers(1, 3)), (Condition("switch", ("a",)), *conditions(1))),
            parameter_of("stepped Int", "twin", draw(st.integers(1, 3)), (Condition("switch", ("b", "c")),)),
        ]
        parameters += [switch, *twins]
        parameters.append(parameter_of(draw(KINDS), "last", 2, conditions()))
    return Space(draw(st.permutations(parameters)))


SMALL = settings(max_examples=150)


@SMALL
@given(conditional_spaces())
def test_every_combination_once_and_nothing_else(space: Space) -> None:
    expected = by_brute_force(space)
    assert space.count == len(expected)
    combinations = list(space.combinations())
    assert len(combinations) == len(expected)
    assert set(map(frozen, combinations)) == expected
    for number, configuration in enumerate(combinations):
        assert space.combination(number) == configuration
        assert space.validate(configuration) == configuration
        assert list(configuration) == [name for name in space.names if name in configuration]


@SMALL
@given(conditional_spaces(), st.data())
def test_another_order_has_the_same_combinations(space: Space, data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(space.names), unique=True))
    lattice = space.reordered(names)
    assert lattice.count == space.count
    combinations = {frozen(lattice.combination(number)) for number in range(lattice.count)}
    assert combinations == by_brute_force(space)


@SMALL
@given(conditional_spaces(), st.randoms(use_true_random=False))
def test_decoding_reaches_only_combinations(space: Space, random: object) -> None:
    expected = by_brute_force(space)
    for step in range(20):
        unit = [(step * (column + 3) % 20 + 0.5) / 20 for column in range(len(space))]
        assert frozen(space.decode(unit)) in expected


def test_the_last_parameter_varies_fastest() -> None:
    space = Space([Int("a", 0, 1), Choice("b", ["x", "y"]), Boolean("c")])
    assert [tuple(each.values()) for each in space.combinations()] == list(
        itertools.product([0, 1], ["x", "y"], [False, True])
    )


@given(st.permutations("abcd"), st.integers(0, 4))
def test_the_parameters_named_vary_slowest(order: list[str], named: int) -> None:
    space = Space([Int(name, 0, 2) for name in "abcd"])
    lattice = space.reordered(order[:named])
    full = [*order[:named], *(name for name in "abcd" if name not in order[:named])]
    rows = [tuple(lattice.combination(number)[name] for name in full) for number in range(lattice.count)]
    assert rows == sorted(rows)


def test_a_child_varies_with_its_parent() -> None:
    space = Space([Int("a", 0, 2), Int("b", 0, 2), Int("child", 0, 2, parent_name="b", parent_values=[1])])
    lattice = space.reordered(["b"])
    rows = [(each["b"], each.get("child", -1), each["a"]) for each in map(lattice.combination, range(lattice.count))]
    assert rows == sorted(rows)
    assert list(lattice.combination(4)) == ["a", "b", "child"]


def test_a_named_child_comes_before_the_rest() -> None:
    space = Space([Int("a", 0, 2), Int("b", 0, 2), Int("child", 0, 2, parent_name="b", parent_values=[1])])
    lattice = space.reordered(["child"])
    rows = [(each["b"], each.get("child", -1), each["a"]) for each in map(lattice.combination, range(lattice.count))]
    assert rows == sorted(rows)


def test_outside_the_lattice() -> None:
    space = Space([Int("a", 0, 2)])
    for number in (-1, 3):
        with pytest.raises(IndexError, match=f"combination {number} of 3"):
            space.combination(number)


# Size


def peak_memory(space: Space) -> int:
    tracemalloc.start()
    try:
        count = int(space.count)
        for number in (0, 1, count // 3, count - 1):
            space.combination(number)
        assert next(iter(space.combinations())) == space.combination(0)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_thousand_billion_combinations_cost_no_memory() -> None:
    space = Space([Int(f"p{number}", 0, 99) for number in range(20)])
    assert peak_memory(space) < 200_000
    assert space.count == 100**20
    digits = 12345678901234567890
    assert list(space.combination(digits).values()) == [digits // 100 ** (19 - place) % 100 for place in range(20)]


def test_a_long_range_is_not_listed() -> None:
    space = Space([Int("a", 0, 10**12), Boolean("b", parent_name="a", parent_values=[7, 10**12])])
    assert peak_memory(space) < 200_000
    assert space.count == 10**12 + 1 + 2
    assert [space.combination(number) for number in (6, 7, 8, 9)] == [
        {"a": 6},
        {"a": 7, "b": False},
        {"a": 7, "b": True},
        {"a": 8},
    ]


@pytest.mark.parametrize("interleaved", [True, False])
def test_booleans_with_a_child_each_do_not_explode(interleaved: bool) -> None:
    parents = [Boolean(f"p{number}") for number in range(20)]
    children = [Int(f"c{number}", 1, 3, parent_name=f"p{number}", parent_values=True) for number in range(20)]
    pairs = [each for pair in zip(parents, children, strict=True) for each in pair]
    space = Space(pairs if interleaved else [*parents, *children])
    assert peak_memory(space) < 1_000_000
    assert space.count == 4**20
    assert Space(space.parameters).reordered([f"p{number}" for number in range(20)]).count == 4**20


def test_children_of_two_parents_do_not_explode() -> None:
    first = [Boolean(f"a{number}") for number in range(20)]
    second = [Boolean(f"b{number}") for number in range(20)]
    children = [
        Int(f"c{number}", 1, 3, conditions=[Condition(f"a{number}", (True,)), Condition(f"b{number}", (True,))])
        for number in range(20)
    ]
    space = Space([*first, *second, *children])
    assert peak_memory(space) < 1_000_000
    assert space.count == 6**20


def test_sixty_layers_do_not_explode() -> None:
    layers = [
        Int(f"units_{number}", 1, 10, parent_name="layers", parent_values=list(range(number, 61)))
        for number in range(1, 61)
    ]
    space = Space([Int("layers", 1, 60), *layers])
    assert peak_memory(space) < 5_000_000
    assert space.count == sum(10**depth for depth in range(1, 61))
    assert len(space.combination(int(space.count) - 1)) == 61


def test_a_chain_of_sixty_does_not_explode() -> None:
    chain = [Boolean(f"p{number}", parent_name=f"p{number - 1}", parent_values=True) for number in range(1, 60)]
    space = Space([Boolean("p0"), *chain])
    assert peak_memory(space) < 1_000_000
    assert space.count == 61


def test_a_chain_deeper_than_the_stack() -> None:
    chain = [Boolean(f"p{number}", parent_name=f"p{number - 1}", parent_values=True) for number in range(1, 1100)]
    assert Space([*reversed(chain), Boolean("p0")]).count == 1101


# The order of parameters


@SMALL
@given(conditional_spaces(), st.booleans(), st.data())
def test_parents_come_first(space: Space, adjacent: bool, data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(space.parameters))
    ordered = parents_first(shuffled, adjacent=adjacent)
    assert sorted(ordered, key=repr) == sorted(shuffled, key=repr)
    for place, parameter in enumerate(ordered):
        later = {each.name for each in ordered[place:]}
        assert not later & {condition.parent for condition in parameter.conditions}
    assert parents_first(ordered, adjacent=adjacent) == ordered


# Shuffling


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 255, 256, 257, 1000, 4096])
@pytest.mark.parametrize("seed", [0, 1, 2**64, -5])
def test_a_permutation_hits_every_number_once(size: int, seed: int) -> None:
    permutation = Permutation(size, seed)
    assert sorted(map(permutation, range(size))) == list(range(size))


def test_a_permutation_shuffles() -> None:
    shuffled = [Permutation(1000, seed)(0) for seed in range(300)]
    assert len(set(shuffled)) > 200
    first = list(map(Permutation(1000, 7), range(1000)))
    assert first == list(map(Permutation(1000, 7), range(1000)))
    assert sum(abs(a - b) for a, b in itertools.pairwise(first)) / 999 == pytest.approx(1000 / 3, rel=0.1)


@pytest.mark.parametrize("size", [10**12, 10**100, 10**1000])
def test_a_permutation_of_many_numbers(size: int) -> None:
    permutation = pickle.loads(pickle.dumps(Permutation(size, 3)))
    places = [permutation(number) for number in range(200)]
    assert len(set(places)) == 200
    assert all(0 <= place < size for place in places)
    assert max(places) > size // 2 > min(places)


def test_outside_a_permutation() -> None:
    for number in (-1, 5):
        with pytest.raises(IndexError, match=f"place {number} of 5"):
            Permutation(5, 0)(number)


def test_infinitely_many() -> None:
    assert Space([Float("a", 0, 1)]).count == math.inf


def lazily(space: Space) -> Iterator[Configuration]:
    return itertools.islice(space.combinations(), 3)


def test_combinations_are_listed_lazily() -> None:
    space = Space([Int(f"p{number}", 0, 9) for number in range(100)])
    assert [each["p99"] for each in lazily(space)] == [0, 1, 2]
