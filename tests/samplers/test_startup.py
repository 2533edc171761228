from __future__ import annotations

import itertools

from hpcompss.samplers.quasirandom import Quasirandom
from hpcompss.samplers.startup import Startup
from hpcompss.space import Boolean, Choice, Float, Int, Space

BLOCKS = Space([Choice(f"block_{number}", ["skip", "small", "large"]) for number in range(8)])


def test_repeated_choices_are_first_tried_alike() -> None:
    for seed in range(10):
        startup = Startup(BLOCKS, seed=seed)
        first = [next(startup.propose(number)) for number in range(4)]
        assert all(len(set(each.values())) == 1 for each in first)
        assert len({each["block_0"] for each in first}) >= 2
        assert len(set(next(startup.propose(4)).values())) > 1


def test_what_is_repeated_counts_once() -> None:
    space = Space(
        [Choice("unit_0", ["a", "b"]), Choice("unit_1", ["a", "b"]), Choice("unit_2", ["a", "c"]), Int("n", 1, 9)]
    )
    assert Startup(space, seed=0).dimensions == 3
    assert Startup(BLOCKS, seed=0).dimensions == 1


def test_other_parameters_follow_the_sequence() -> None:
    space = Space([Float("x0", 0, 1), Float("x1", 0, 1), Boolean("first"), Boolean("last"), Choice("c", ["p", "q"])])
    startup, sequence = Startup(space, seed=3), Quasirandom(space, seed=3)
    for number in range(12):
        expected = list(itertools.islice(sequence.points(number), 5))
        assert list(itertools.islice(startup.propose(number), 5)) == expected


def test_conditional_repeated_choices() -> None:
    layers = [Choice(f"kind_{n}", ["p", "q"], parent_name="n", parent_values=list(range(n, 4))) for n in range(1, 4)]
    space = Space([Int("n", 1, 3), *layers])
    for number in range(4):
        configuration = next(Startup(space, seed=1).propose(number))
        assert space.validate(configuration) == configuration
        assert len({value for name, value in configuration.items() if name != "n"}) == 1
