from __future__ import annotations

import math

import numpy as np
import pytest

from hpcompss.constraints import Constraint
from hpcompss.objectives import Objective
from hpcompss.pareto import hypervolume
from hpcompss.samplers import History, make_sampler
from hpcompss.samplers.scalarisation import augmented_tchebycheff, normalised, scalarised
from hpcompss.space import Choice, Float, Space
from hpcompss.trial import Result, Trial, TrialState

SPACE = Space([Float("x", 0, 1), Float("y", 0, 1), Choice("kind", ["a", "b", "c"])])


def history(*points, constraints=()):
    known = History(SPACE, "minimize", constraints, [Objective("size", "minimize")])
    for number, point in enumerate(points):
        configuration = SPACE.sample(np.random.default_rng(number))
        result = Result(None) if point is None else Result(point[0], {"size": point[1]})
        state = TrialState.FAILED if point is None else TrialState.COMPLETE
        known.append(Trial(number, configuration, state, result))
    return known


def test_the_loss_is_the_worst_weighted_objective_and_a_little_of_their_sum():
    points = np.array([[1.0, 0.0], [0.5, 0.5], [np.nan, np.nan]])
    np.testing.assert_allclose(augmented_tchebycheff(points, np.array([0.8, 0.2])), [0.84, 0.425, np.nan])


def test_what_is_known_lies_from_0_to_1():
    points = np.array([[1.0, 5.0], [3.0, 5.0], [2.0, 5.0], [7.0, 9.0], [np.nan, np.nan]])
    scaled = normalised(points, np.array([True, True, True, False, False]))
    np.testing.assert_allclose(scaled, [[0, 0], [1, 0], [0.5, 0], [3, 2], [np.nan, np.nan]])


def test_what_spans_decades_is_taken_by_its_logarithm():
    sizes = 10.0 ** np.arange(5)
    scaled = normalised(np.column_stack([sizes, -sizes]), np.ones(5, dtype=bool))
    np.testing.assert_allclose(scaled[:, 0], [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(scaled[:, 1], 1 - (sizes - 1) / 9999)


def test_each_trial_has_weights_of_its_own():
    known = history((0.0, 1.0), None, (1.0, 0.0), (0.4, 0.4))
    best = [int(np.nanargmin(scalarised(known, 0, number).losses)) for number in range(60)]
    assert {best.count(place) > 3 for place in (0, 2, 3)} == {True}
    np.testing.assert_equal(scalarised(known, 0, 5).losses, scalarised(known, 0, 5).losses)
    np.testing.assert_equal(known.losses, [0.0, np.nan, 1.0, 0.4])


def test_without_a_feasible_trial_it_is_as_it_was():
    known = history((0.0, 5.0), (1.0, 7.0), constraints=[Constraint("size", max=1)])
    assert scalarised(known, 0, 1) is known
    assert known.front == []


def share(name: str, seed: int) -> float:
    """Returns how much of the front of two opposed bowls a search of 40 trials finds."""
    known = History(SPACE, "minimize", also=[Objective("size", "minimize")])
    sampler = make_sampler(name, SPACE, seed=seed)
    for number in range(40):
        configuration = sampler.ask(known, [], number)
        x, y = float(configuration["x"]), float(configuration["y"])
        away = (y - 0.3) ** 2 + 0.2 * (configuration["kind"] != "b")
        result = Result(x**2 + away, {"size": (1 - x) ** 2 + away})
        known.append(Trial(number, configuration, TrialState.COMPLETE, result))
    return hypervolume(np.array(known.front), np.ones(2))


@pytest.mark.parametrize("name", ["gp", "tpe"])
def test_what_learns_finds_more_of_the_front_than_chance(name):
    learned, drawn = ([share(each, seed) for seed in range(3)] for each in (name, "random"))
    assert np.mean(learned) > np.mean(drawn) + 0.02
    assert math.isfinite(sum(learned))
