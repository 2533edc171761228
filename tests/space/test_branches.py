from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given

from hpcompss.space import Boolean, Choice, Condition, Fixed, Float, Int, Space
from hpcompss.space.branches import CONTINUOUS, Branch, branches
from hpcompss.space.cube import Cube
from tests.samplers.conformance import CONDITIONAL, KINDS
from tests.space.test_enumeration import SMALL, by_brute_force, conditional_spaces, frozen


def of(space: Space, limit: int = 10_000) -> list[Branch]:
    found = branches(space, limit)
    assert found is not None
    return found


def everywhere(branch: Branch) -> np.ndarray:
    """Returns the indexes of every configuration of a branch."""
    points = list(itertools.product(*map(range, branch.shape)))
    return np.array(points, dtype=np.intp).reshape(len(points), len(branch.shape))


@SMALL
@given(conditional_spaces())
def test_every_configuration_is_in_exactly_one_branch(space: Space) -> None:
    cube, found = Cube(space), of(space)
    listed = []
    for branch in found:
        indexes = everywhere(branch)
        units = branch.units(cube, indexes)
        assert len(units) == branch.count
        listed += [frozen(cube.decode(unit)) for unit in units]
        for unit in units:
            np.testing.assert_array_equal(np.isnan(space.encode(cube.decode(unit))), np.isnan(unit))
        rows, located = branch.locate(cube, units)
        assert rows.tolist() == list(range(len(units)))
        np.testing.assert_array_equal(located, indexes)
        for other in found:
            if other is not branch:
                assert len(other.locate(cube, units)[0]) == 0
    assert len(listed) == len(set(listed)) == sum(branch.count for branch in found) == space.count
    assert set(listed) == by_brute_force(space)


def test_without_conditions_it_is_one_box() -> None:
    space = Space(KINDS)
    (branch,) = of(space, limit=1)
    assert branch.axes == list(range(len(KINDS)))
    assert branch.count == space.count
    assert branch.shape == tuple(int(each.count) for each in KINDS)
    assert of(Space([])) == [Branch(())]
    assert Branch(()).count == 1


def test_values_that_switch_on_the_same_stay_together() -> None:
    space = Space([Int("layers", 0, 10**12), Boolean("deep", parent_name="layers", parent_values=[3, 4, 9])])
    without, with_it = sorted(of(space), key=lambda branch: -branch.count)
    assert without.runs == ((range(3), range(5, 9), range(10, 10**12 + 1)), None)
    assert with_it.runs == ((range(3, 5), range(9, 10)), (range(2),))
    assert with_it.numbers(0).tolist() == [3, 4, 9]
    assert (without.inactive, with_it.inactive) == ([1], [])
    assert without.count + with_it.count == space.count


def test_what_cannot_become_active_splits_nothing() -> None:
    space = Space(CONDITIONAL)
    found = of(space)
    assert sum(branch.count for branch in found) == space.count
    assert len(found) == 6
    children = [
        Boolean(f"child_{number}", conditions=[Condition("a", ("y",)), Condition("b", (number,))])
        for number in range(3)
    ]
    split = of(Space([Choice("a", ["x", "y"]), Int("b", 0, 9), *children]))
    assert [branch.count for branch in split] == [10, 2, 2, 2, 7]


def test_continuous_columns_are_told() -> None:
    space = Space(
        [
            Choice("model", ["line", "tree"]),
            Float("slope", 0, 1, parent_name="model", parent_values="line"),
            Fixed("depth", 3, parent_name="model", parent_values="tree"),
        ]
    )
    line, tree = of(space)
    assert line.runs == ((range(1),), CONTINUOUS, None)
    assert (line.axes, line.continuous, line.inactive, line.count) == ([0], [1], [2], math.inf)
    assert (tree.axes, tree.continuous, tree.inactive, tree.count) == ([0, 2], [], [1], 1)
    cube = Cube(space)
    np.testing.assert_array_equal(line.units(cube, np.zeros((1, 1), np.intp)), [[0.25, 0.5, np.nan]])
    units = np.array([[0.25, 0.123, np.nan], [0.75, np.nan, 0.5]])
    rows, indexes = line.locate(cube, units)
    assert (rows.tolist(), indexes.tolist()) == ([0], [[0]])
    with pytest.raises(ValueError, match="no numbered values"):
        line.numbers(1)


def test_more_than_the_limit_is_none() -> None:
    parents = [Boolean(f"b{number}") for number in range(40)]
    children = [Int(f"c{n}", 0, 5, parent_name=f"b{n}", parent_values=True) for n in range(40)]
    space = Space([*parents, *children])
    assert branches(space, 1000) is None
    assert len(of(Space([*parents[:4], *children[:4]]), limit=16)) == 16
    assert branches(Space([*parents[:4], *children[:4]]), 15) is None


def test_many_parameters_are_no_obstacle() -> None:
    space = Space([Float(f"x{number}", 0, 1) for number in range(2000)])
    (branch,) = of(space)
    assert len(branch.continuous) == 2000
