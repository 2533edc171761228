from __future__ import annotations

import pickle

import numpy as np

from hpcompss.samplers import History
from hpcompss.space import Boolean, Float, Space
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
