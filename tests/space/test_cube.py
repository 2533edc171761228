from __future__ import annotations

import numpy as np
import pytest

from hpcompss.space import Int, Space
from hpcompss.space.cube import Cube
from tests.samplers.conformance import FINITE, INFINITE

SPACES = {**FINITE, **INFINITE}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
def test_it_agrees_with_the_space_point_by_point(space: Space) -> None:
    places = np.random.default_rng(0).random((500, len(space)))
    places[0], places[1] = 0.0, 1.0
    expected = [space.encode(space.decode(place)) for place in places]
    cube = Cube(space)
    units = cube.snap(places)
    np.testing.assert_allclose(units, expected, atol=1e-12)
    np.testing.assert_allclose(cube.snap(np.nan_to_num(units, nan=0.3)), units, atol=1e-12)
    assert [cube.decode(unit) for unit in units] == [space.decode(place) for place in places]


@pytest.mark.parametrize("sampling", ["linear", "log", "reverse_log"])
def test_values_and_neighbours(sampling: str) -> None:
    space = Space([Int("x", 1, 9, sampling=sampling)])
    cube, parameter = Cube(space), space.parameters[0]
    places = np.array([parameter.encode(value) for value in range(1, 10)])
    np.testing.assert_allclose(cube.values(0), places, atol=1e-12)
    np.testing.assert_allclose(cube.beside(0, places, 2), places[[2, 3, 4, 5, 6, 7, 8, 8, 8]], atol=1e-12)
    np.testing.assert_allclose(cube.beside(0, places, -1), places[[0, 0, 1, 2, 3, 4, 5, 6, 7]], atol=1e-12)


@pytest.mark.parametrize("sampling", ["linear", "log", "reverse_log"])
def test_masses_are_the_shares_of_a_uniform_draw(sampling: str) -> None:
    space = Space([Int("x", 1, 9, sampling=sampling)])
    places = (np.arange(100_000) + 0.5) / 100_000
    drawn = np.bincount([space.decode([place])["x"] for place in places.tolist()])[1:]
    np.testing.assert_allclose(Cube(space).masses(0), drawn / 100_000, atol=2e-5)
