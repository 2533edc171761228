from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hpcompss.samplers.numerics.features import Features
from hpcompss.samplers.numerics.maximize import LocalSearch, maximize
from hpcompss.space import Boolean, Choice, Condition, Fixed, Float, Int, Space
from hpcompss.space.cube import Cube

Array = NDArray[np.float64]


class Peak:
    """An acquisition that is greatest at one point, and narrow."""

    def __init__(self, point: Array, ripples: float = 0.0) -> None:
        self._point = point
        self._ripples = ripples

    def __call__(self, points: Array) -> Array:
        away = points - self._point
        return np.asarray(-20 * (away**2).sum(axis=1) + self._ripples * np.cos(40 * away).sum(axis=1))

    def with_gradients(self, points: Array) -> tuple[Array, Array]:
        away = points - self._point
        return self(points), -40 * away - 40 * self._ripples * np.sin(40 * away)


SPACES: dict[str, tuple[Space, dict[str, Any]]] = {
    "continuous": (Space([Float(f"x{n}", 0, 1) for n in range(8)]), {f"x{n}": 0.1 + 0.1 * n for n in range(8)}),
    "at a corner": (Space([Float("x", 0, 1), Float("y", 0, 1)]), {"x": 0.0, "y": 1.0}),
    "mixed": (
        Space(
            [
                Float("rate", 1e-5, 1, sampling="log"),
                Int("many", 0, 10**9),
                Int("wide", 1, 4000, sampling="log"),
                Int("few", 1, 6),
                Choice("word", list("abcdefgh")),
                Boolean("flag"),
                Float("stepped", 0, 1, step=0.25),
                Fixed("constant", 3),
            ]
        ),
        {
            "rate": 1e-3,
            "many": 123_456_789,
            "wide": 17,
            "few": 5,
            "word": "f",
            "flag": True,
            "stepped": 0.75,
            "constant": 3,
        },
    ),
    "conditional": (
        Space(
            [
                Choice("model", list("abcd")),
                Float("x", 0, 1, parent_name="model", parent_values=["a", "c"]),
                Float("y", 0, 1, parent_name="model", parent_values=["b"]),
                Int("layers", 1, 3, parent_name="model", parent_values=["c", "d"]),
                Float("z", 0, 1, conditions=[Condition("layers", (2,)), Condition("model", ("c",))]),
            ]
        ),
        {"model": "c", "x": 0.9, "layers": 2, "z": 0.2},
    ),
}


@pytest.mark.parametrize("ripples", [0.0, 0.3])
@pytest.mark.parametrize("name", SPACES)
def test_the_maximum_is_found(name: str, ripples: float) -> None:
    space, best = SPACES[name]
    cube = Cube(space)
    features = Features(cube)
    unit = space.encode(best)
    acquisition = Peak(features.points(unit[None])[0], ripples)
    generator = np.random.default_rng(0)
    tried = cube.snap(generator.random((5, len(space))))
    units, scores = maximize(LocalSearch(acquisition, cube, features), tried, generator)
    assert scores[0] == pytest.approx(acquisition(features.points(unit[None]))[0], abs=1e-3 if ripples == 0 else 2)
    if ripples == 0:
        np.testing.assert_allclose(units[0], unit, atol=5e-3)
    assert (np.diff(scores) <= 0).all()
    np.testing.assert_allclose(scores, acquisition(features.points(units)))
    np.testing.assert_allclose(units, cube.snap(np.nan_to_num(units, nan=0.5)), atol=1e-12)
    again = np.random.default_rng(0)
    tried = cube.snap(again.random((5, len(space))))
    np.testing.assert_array_equal(maximize(LocalSearch(acquisition, cube, features), tried, again)[0], units)


def test_a_climb_never_goes_down_and_leaves_what_it_was_given() -> None:
    space, best = SPACES["mixed"]
    cube = Cube(space)
    features = Features(cube)
    search = LocalSearch(Peak(features.points(space.encode(best)[None])[0], 1.0), cube, features)
    units = cube.snap(np.random.default_rng(0).random((20, len(space))))
    before, scores = units.copy(), search.score(units)
    found, gained = search.climb(units, scores)
    assert (gained >= scores).all()
    assert (gained > scores).any()
    np.testing.assert_array_equal(units, before)
    np.testing.assert_allclose(search.score(found), gained)


def test_a_small_discrete_space_is_climbed_to_the_top() -> None:
    space = Space([Int("a", 0, 9), Choice("b", list("xyz")), Float("c", 0, 1, step=0.1)])
    cube = Cube(space)
    features = Features(cube)
    top = space.encode({"a": 7, "b": "y", "c": 0.3})
    search = LocalSearch(Peak(features.points(top[None])[0]), cube, features)
    units = np.array([space.encode(each) for each in space.combinations()])
    found, _ = search.climb(units, search.score(units))
    np.testing.assert_allclose(found, np.tile(top, (len(units), 1)))
