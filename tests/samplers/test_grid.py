from __future__ import annotations

import itertools
import re
import tracemalloc
from typing import Any

import pytest

from hpcompss.errors import InputError
from hpcompss.samplers import History, SpaceExhausted
from hpcompss.samplers.grid import Grid
from hpcompss.space import Boolean, Choice, Float, Int, Space
from hpcompss.trial import Configuration
from tests.samplers.conformance import SamplerConformance, finished

SPACE = Space([Int("a", 0, 2), Choice("b", ["x", "y"]), Boolean("c")])


class TestSequentialGrid(SamplerConformance):
    sampler = "grid"
    finite_only = True


class TestShuffledGrid(SamplerConformance):
    sampler = {"name": "grid", "order": "shuffled"}  # noqa: RUF012
    finite_only = True


def asked(sampler: Grid, numbers: range) -> list[Configuration]:
    history = History(sampler.space, "minimize")
    return [sampler.ask(history, [], number) for number in numbers]


def test_in_sequence_the_last_parameter_varies_fastest() -> None:
    rows = [tuple(each.values()) for each in asked(Grid(SPACE, seed=0), range(12))]
    assert rows == list(itertools.product([0, 1, 2], ["x", "y"], [False, True]))


def test_the_parameters_named_vary_slowest() -> None:
    found = asked(Grid(SPACE, seed=0, order=["c", "b"]), range(12))
    rows = [(each["c"], each["b"], each["a"]) for each in found]
    assert rows == list(itertools.product([False, True], ["x", "y"], [0, 1, 2]))
    assert all(list(each) == ["a", "b", "c"] for each in found)


def test_a_shuffle_depends_on_the_seed() -> None:
    orders = [
        [SPACE.key(each) for each in asked(Grid(SPACE, seed=seed, order="shuffled"), range(12))] for seed in (1, 2)
    ]
    assert orders[0] != orders[1]
    assert sorted(orders[0], key=repr) == sorted(orders[1], key=repr)


def test_trials_asked_out_of_turn_get_their_own_places() -> None:
    grid, history = Grid(SPACE, seed=0), History(SPACE, "minimize")
    assert [grid.ask(history, [], number) for number in (7, 2, 11)] == [SPACE.combination(n) for n in (7, 2, 11)]


def test_what_was_tried_is_passed_over() -> None:
    grid, history = Grid(SPACE, seed=0), History(SPACE, "minimize")
    history.extend(finished(place, SPACE.combination(place), None) for place in (4, 11))
    assert grid.ask(history, [SPACE.combination(5)], 4) == SPACE.combination(6)
    assert grid.ask(history, [], 11) == SPACE.combination(0)
    assert grid.ask(history, [], 23) == SPACE.combination(0)


def test_with_duplicates_the_grid_begins_again() -> None:
    grid = Grid(SPACE, seed=0, allow_duplicates=True)
    found = asked(grid, range(30))
    assert found == [SPACE.combination(number % 12) for number in range(30)]


@pytest.mark.parametrize("order", ["sequential", "shuffled"])
def test_a_huge_grid_is_never_listed(order: str) -> None:
    space = Space([Int(f"p{number}", 0, 99) for number in range(20)])
    tracemalloc.start()
    try:
        found = asked(Grid(space, seed=0, order=order), range(10**30, 10**30 + 20))
        assert tracemalloc.get_traced_memory()[1] < 300_000
    finally:
        tracemalloc.stop()
    assert len({space.key(each) for each in found}) == 20


def test_an_exhausted_grid() -> None:
    grid, history = Grid(SPACE, seed=0), History(SPACE, "minimize")
    history.extend(finished(place, SPACE.combination(place), 1.0) for place in range(10))
    pending = [SPACE.combination(10), SPACE.combination(11)]
    with pytest.raises(SpaceExhausted):
        grid.ask(history, pending, 12)


@pytest.mark.parametrize(
    ("space", "options", "sentence"),
    [
        (
            Space([Int("a", 0, 1), Float("rate", 1e-4, 0.1, sampling="log"), Float("dropout", 0, 0.5)]),
            {},
            "a grid needs a step for 'rate' (log, so it multiplies: 10 gives 4 points, 3 gives 7, 2 gives 10) "
            "and for 'dropout' (0.2 gives 3 points, 0.1 gives 6, 0.05 gives 11)",
        ),
        (
            Space([Float("rate", 0, 1)]),
            {"order": ["rate"]},
            "a grid needs a step for 'rate' (0.5 gives 3 points, 0.2 gives 6, 0.1 gives 11)",
        ),
        (SPACE, {"order": "shufled"}, "the grid has no order 'shufled'; did you mean 'shuffled'?"),
        (SPACE, {"order": ["a", "d"]}, "the space has no parameter 'd'; known: a, b, c"),
        (SPACE, {"order": 3}, "the grid's order is one of sequential, shuffled or a list of names, not 3"),
        (
            SPACE,
            {"order": ["a", 3]},
            "the grid's order is one of sequential, shuffled or a list of names, not ['a', 3]",
        ),
        (SPACE, {"seed": -1}, "the seed is a whole number from 0, not -1"),
    ],
)
def test_bad_input_is_told_in_a_sentence(space: Space, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        Grid(space, **{"seed": 0, **options})
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("low", "high", "sampling"),
    [
        (0.0, 1.0, "linear"),
        (-1e300, 1e300, "linear"),
        (0.0, 5e-324, "linear"),
        (1.0, 1.0 + 1e-15, "linear"),
        (1e-150, 1e150, "log"),
        (1.0, 1.0 + 1e-12, "log"),
        (1e-5, 1.0, "reverse_log"),
    ],
)
def test_the_steps_suggested_give_the_points_they_promise(low: float, high: float, sampling: str) -> None:
    with pytest.raises(InputError, match="a grid needs a step for 'x'") as caught:
        Grid(Space([Float("x", low, high, sampling=sampling)]), seed=0)
    for step, count in re.findall(r"([\d.e+-]+) gives (\d+)", str(caught.value)):
        space = Space([Float("x", low, high, step=float(step), sampling=sampling)])
        assert space.count == int(count)
        assert Grid(space, seed=0)
