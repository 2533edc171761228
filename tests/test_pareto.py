from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcompss.pareto import Front, dominates, hypervolume, non_dominated, ordered

POINTS = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.tuples(*[st.integers(0, 5).map(float)] * width), min_size=1, max_size=25)
)


def test_one_point_dominates_another():
    assert dominates((1.0, 2.0), (1.0, 3.0))
    assert not dominates((1.0, 2.0), (1.0, 2.0))
    assert not dominates((0.0, 3.0), (1.0, 2.0))


@given(POINTS, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=100)
def test_the_front_is_what_nothing_dominates_in_whatever_order_it_came(points, random):
    expected = [
        number
        for number, point in enumerate(points)
        if not any(dominates(other, point) for other in points) and point not in points[:number]
    ]
    assert np.flatnonzero(non_dominated(np.array(points))).tolist() == expected
    numbers = list(range(len(points)))
    random.shuffle(numbers)
    front = Front()
    for number in numbers:
        seen = set(front.points)
        assert front.add(number, points[number]) == (number in front and points[number] not in seen)
    assert sorted(front.numbers) == expected
    assert front.points == sorted(points[number] for number in expected)
    assert len(front) == len(expected)


@given(POINTS)
@settings(deadline=None, max_examples=100)
def test_points_are_ordered_front_by_front(points):
    order = ordered(np.array(points)).tolist()
    assert sorted(order) == list(range(len(points)))
    left = list(range(len(points)))
    while left:
        front = {left[place] for place in np.flatnonzero(non_dominated(np.array([points[each] for each in left])))}
        assert front == set(order[: len(front)])
        order, left = order[len(front) :], [each for each in left if each not in front]


def test_on_a_front_the_ends_come_first_and_then_the_emptiest_places():
    front = np.array([[0.0, 10.0], [1.0, 9.0], [2.0, 8.0], [6.0, 2.0], [9.0, 1.0], [10.0, 0.0]])
    assert ordered(front).tolist() == [0, 5, 3, 2, 4, 1]
    assert ordered(np.array([[3.0], [1.0], [2.0], [1.0]])).tolist() == [1, 3, 2, 0]
    assert ordered(np.empty((0, 2))).tolist() == []


@given(POINTS, st.data())
@settings(deadline=None, max_examples=100)
def test_a_trial_that_comes_again_is_as_if_it_had_come_so_at_first(points, data):
    front, final = Front(), dict(enumerate(points))
    for number, point in final.items():
        front.add(number, point)
    for number in data.draw(st.lists(st.integers(0, len(points) - 1), max_size=6)):
        final[number] = data.draw(st.sampled_from(points))
        front.add(number, final[number])
    gone = data.draw(st.sampled_from(sorted(final)))
    front.discard(gone)
    del final[gone]
    fresh = Front()
    for number, point in final.items():
        fresh.add(number, point)
    assert front.numbers == fresh.numbers
    assert front.hypervolume == fresh.hypervolume


@given(POINTS)
@settings(deadline=None, max_examples=60)
def test_the_hypervolume_counts_the_cells_that_are_dominated(points):
    width = len(points[0])
    cells = itertools.product(range(6), repeat=width)
    expected = sum(any(all(x <= cell for x, cell in zip(each, at, strict=True)) for each in points) for at in cells)
    assert hypervolume(np.array(points), np.full(width, 6.0)) == pytest.approx(expected)


def test_the_share_of_what_is_possible():
    front = Front()
    assert front.hypervolume == 0
    front.add(0, (1.0, 1.0, 7.0))
    assert front.hypervolume == 0
    front.add(1, (0.0, 2.0, 7.0))
    assert front.hypervolume == 0
    front.add(2, (2.0, 0.0, 7.0))
    assert front.hypervolume == 0.25
    front.add(3, (1e308, -1e308, 7.0))
    assert 0 <= front.hypervolume <= 1


def test_a_long_search_is_no_burden():
    points = np.random.default_rng(0).random((10_000, 2))
    front = Front()
    for number, point in enumerate(points.tolist()):
        front.add(number, tuple(point))
    assert sorted(front.numbers) == np.flatnonzero(non_dominated(points)).tolist()
