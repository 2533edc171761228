from __future__ import annotations

import pickle

import numpy as np

from hpcompss.constraints import Constraint
from hpcompss.samplers import History
from hpcompss.space import Boolean, Float, Space
from hpcompss.trial import Result, Trial, TrialState
from tests.samplers.conformance import finished, history_of, random_values

SPACE = Space([Boolean("b"), Float("x", 0, 2, parent_name="b", parent_values=True)])


def test_trials_become_arrays() -> None:
    history = History(SPACE, "minimize")
    history.append(finished(0, {"b": False}, 3.0))
    history.extend([finished(2, {"b": True, "x": 0.5}, None), finished(1, {"b": True, "x": 2.0}, -1.0)])
    assert len(history) == 3
    np.testing.assert_equal(history.units, [[0.25, np.nan], [0.75, 0.25], [0.75, 1.0]])
    np.testing.assert_equal(history.losses, [3.0, np.nan, -1.0])
    assert history.keys == {(False, None), (True, 0.5), (True, 2.0)}


def test_a_maximised_value_is_negated() -> None:
    history = History(SPACE, "maximize")
    history.append(finished(0, {"b": False}, 3.0))
    assert history.losses.tolist() == [-3.0]


def test_it_grows() -> None:
    values = random_values(1000)
    history = history_of(SPACE, values)
    assert history.units.shape == (1000, 2)
    np.testing.assert_equal(history.losses, [np.nan if value is None else value for value in values])
    copied = pickle.loads(pickle.dumps(history))
    np.testing.assert_equal((copied.units, copied.losses, copied.keys), (history.units, history.losses, history.keys))


def test_the_best_value_is_that_of_a_feasible_trial() -> None:
    history = History(SPACE, "maximize", [Constraint("size", max=10)])
    for number, (value, size) in enumerate([(1.0, 10), (3.0, 11), (2.0, 9)]):
        history.append(Trial(number, {"b": False}, TrialState.COMPLETE, Result(value, {"size": size})))
    history.append(finished(3, {"b": False}, None))
    np.testing.assert_allclose(history.violations, [0, 0.1, 0, np.nan])
    assert history.best == 2.0


def test_trials_of_other_studies_are_known_but_neither_tried_nor_the_best() -> None:
    history = History(SPACE, "minimize")
    history.transfer([finished(0, {"b": False}, 1.0), finished(1, {"b": True, "x": 1.0}, None)])
    assert (len(history), history.transferred, history.keys, history.best) == (2, 2, set(), None)
    history.append(finished(0, {"b": False}, 3.0))
    assert (len(history), history.transferred, history.keys, history.best) == (3, 2, {(False, None)}, 3.0)
    assert history.losses[0] == 1.0


def test_values_that_are_not_comparable_are_shifted_by_the_median_gap_to_the_nearest() -> None:
    history = History(SPACE, "maximize")
    there = [finished(0, {"b": False}, 1.0), finished(1, {"b": True, "x": 0.0}, 5.0), finished(2, {"b": False}, None)]
    history.transfer(there[:1])
    history.transfer(there, comparable=False)
    history.append(finished(0, {"b": True, "x": 2.0}, None))
    np.testing.assert_equal(history.losses, [-1, -1, -5, np.nan, np.nan])
    copied = history.copy()
    history.append(finished(1, {"b": True, "x": 0.1}, 6.0))
    np.testing.assert_equal(history.losses[:4], [-1, -2, -6, np.nan])
    history.append(finished(2, {"b": False}, 4.0))
    np.testing.assert_equal(history.losses[:4], [-1, -3, -7, np.nan])
    np.testing.assert_equal(copied.losses, [-1, -1, -5, np.nan, np.nan])


def test_the_best_may_be_asked_for_without_a_trial() -> None:
    history = History(Space([Float("x", 0, 1)]), "maximize")
    for number, value in enumerate((0.2, 0.9, 0.5)):
        history.append(Trial(number, {"x": value}, TrialState.COMPLETE, Result(value)))
    assert (history.nth_best(1), history.nth_best(1, without=1), history.nth_best(3, without=1)) == (0.9, 0.5, None)
    assert history.nth_best(1, without=7) == 0.9
