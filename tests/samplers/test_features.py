from __future__ import annotations

import numpy as np
import pytest

from hpcompss.samplers.numerics.features import Features
from hpcompss.space import Boolean, Choice, Fixed, Float, Int, Space
from hpcompss.space.cube import Cube

SPACE = Space(
    [
        Fixed("constant", 1),
        Choice("word", ["a", "b", "c"]),
        Float("x", 0, 2, parent_name="word", parent_values=["a", "b"]),
        Boolean("flag", parent_name="word", parent_values="b"),
        Int("n", 1, 4),
    ]
)
FEATURES = Features(Cube(SPACE))


def place(**values: object) -> np.ndarray:
    return np.asarray(FEATURES.points(SPACE.encode({"constant": 1, **values})[None])[0])  # type: ignore[dict-item]


def test_a_category_has_a_coordinate_for_each_value_and_a_number_one() -> None:
    assert FEATURES.columns.tolist() == [1, 2, 3, 4]
    assert FEATURES.groups.tolist() == [0, 0, 0, 1, 2, 2, 3]
    assert len(FEATURES) == 7
    assert [FEATURES.of(column) for column in range(5)] == [
        slice(0, 0),
        slice(0, 3),
        slice(3, 4),
        slice(4, 6),
        slice(6, 7),
    ]
    assert (FEATURES.coordinate(2), FEATURES.coordinate(4)) == (3, 6)


def test_points() -> None:
    half = np.sqrt(0.5)
    np.testing.assert_allclose(place(word="b", x=0.5, flag=True, n=4), [0, half, 0, 0.25, 0, half, 0.875])
    np.testing.assert_allclose(place(word="c", n=1), [0, 0, half, 0.5, 0, 0, 0.125])


def test_values_of_a_category_are_equally_far_apart() -> None:
    here = place(word="b", x=0.5, flag=True, n=1)
    assert np.linalg.norm(here - place(word="a", x=0.5, n=1)) ** 2 == pytest.approx(1 + 0.5)
    assert np.linalg.norm(here - place(word="b", x=0.5, flag=False, n=1)) == pytest.approx(1)
    # An inactive flag is as far from one value as from the other.
    inactive, other = place(word="a", x=0.5, n=1), place(word="b", x=0.5, flag=False, n=1)
    assert np.linalg.norm(inactive - here) == pytest.approx(np.linalg.norm(inactive - other))


def test_a_space_of_one_configuration_has_no_coordinates() -> None:
    features = Features(Cube(Space([Fixed("x", 1), Int("y", 2, 2)])))
    assert len(features) == 0
    assert features.points(np.full((3, 2), 0.5)).shape == (3, 0)
