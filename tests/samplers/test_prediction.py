from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from hpcompss.samplers import History
from hpcompss.samplers.prediction import obstacle, predict
from hpcompss.space import Boolean, Fixed, Float, Int, Space
from hpcompss.trial import Configuration
from tests.samplers.conformance import SIZE, finished, history_of, random_values
from tests.samplers.problem import SPACE

SQUARE = Space([Int("x", 0, 20), Float("y", -1, 1, step=0.1)])


def score(configuration: Configuration) -> float:
    """Is 500 at x = 13, y = 0.4, and less elsewhere."""
    return 500 - 2 * (float(configuration["x"]) - 13) ** 2 - 80 * (float(configuration["y"]) - 0.4) ** 2


def known(sign: float = 1.0, trials: int = 40, step: float = 0.0) -> History:
    generator = np.random.default_rng(0)
    history = History(SQUARE, "maximize" if sign > 0 else "minimize")
    for number in range(trials):
        configuration = SQUARE.sample(generator)
        history.append(finished(number, configuration, sign * score(configuration) + step))
    return history


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_predictions_are_in_the_objectives_own_units(sign: float) -> None:
    history = known(sign)
    found = predict(history, [], 10)
    assert len({SQUARE.key(each.configuration) for each in found}) == 10
    assert not {SQUARE.key(each.configuration) for each in found} & history.keys
    improvements = [each.improvement for each in found]
    assert improvements == sorted(improvements, reverse=True)
    assert found[0].configuration == {"x": 13, "y": pytest.approx(0.4, abs=0.11)}
    assert history.best is not None
    for each in found:
        assert each.value == pytest.approx(sign * score(each.configuration), abs=max(4 * each.deviation, 2))
        assert each.improvement >= 0
        gain = sign * (each.value - history.best)
        assert max(gain, 0) - 1e-6 <= each.improvement <= max(gain, 0) + each.deviation


def test_the_direction_is_only_a_sign() -> None:
    up, down = predict(known(1.0), [], 3), predict(known(-1.0), [], 3)
    for one, other in zip(up, down, strict=True):
        assert one.configuration == other.configuration
        assert (one.value, one.deviation, one.improvement) == (-other.value, other.deviation, other.improvement)


def test_an_offset_is_only_added() -> None:
    for one, other in zip(predict(known(), [], 3), predict(known(step=64.0), [], 3), strict=True):
        assert one.configuration == other.configuration
        assert one.value + 64 == pytest.approx(other.value)
        assert one.improvement == pytest.approx(other.improvement)


def test_they_repeat() -> None:
    history = history_of(SPACE, random_values(40))
    assert predict(history, [SPACE.default], 5) == predict(history, [SPACE.default], 5)


def test_running_trials_are_no_predictions() -> None:
    history = known()
    first = predict(history, [], 1)[0].configuration
    assert first not in [each.configuration for each in predict(history, [first], 10)]


def test_little_knowledge_gives_no_predictions() -> None:
    for values in ([], [1.0], [1.0] * 30, [None] * 30, [None, 3.0, math.nan]):
        assert predict(history_of(SPACE, values), [], 3) == []
    assert len(predict(history_of(SPACE, [1.0, 2.0]), [], 3)) == 3
    assert predict(history_of(SPACE, [1.0, 2.0, 3.0], sizes=[5.0, 5.0, 0.5]), [], 3) == []


def test_a_space_that_is_used_up_gives_no_predictions() -> None:
    space = Space([Boolean("a"), Boolean("b")])
    history = History(space, "minimize")
    history.extend(finished(number, space.combination(number), float(number)) for number in range(3))
    assert [each.configuration for each in predict(history, [], 9)] == [space.combination(3)]
    assert predict(history, [space.combination(3)], 9) == []
    point = Space([Fixed("x", 1)])
    assert predict(history_of(point, [1.0, 2.0]), [], 3) == []


def test_where_nothing_can_be_predicted_the_reason_is_told() -> None:
    assert obstacle(history_of(SPACE, [None, math.nan])) == "no trial is feasible and has a value"
    assert obstacle(history_of(SPACE, [None, 3.0])) == "only one trial is feasible and has a value"
    assert obstacle(history_of(SPACE, [1.0] * 30)) == "all 30 feasible trials have the same value"
    assert obstacle(history_of(Space([Boolean("a")]), [1.0, 2.0])) == "every combination was tried or is being tried"


def test_the_promising_places_of_an_infinite_space_lie_apart() -> None:
    space = Space([Float("x", 0, 1), Float("y", 0, 1), Boolean("b")])
    generator = np.random.default_rng(0)
    history = History(space, "minimize")
    for number in range(25):
        each = space.sample(generator)
        history.append(finished(number, each, (each["x"] - 0.3) ** 2 + (each["y"] - 0.6) ** 2 + 0.1 * each["b"]))
    found = [each.configuration for each in predict(history, [], 10)]
    assert len(found) == 10
    for one, other in itertools.combinations(found, 2):
        assert one["b"] != other["b"] or max(abs(one[name] - other[name]) for name in "xy") > 0.05


def test_the_best_is_that_of_the_studys_own_feasible_trials() -> None:
    space = Space([Float("x", 0, 1)])
    history = History(space, "minimize", [SIZE])
    history.transfer(finished(number, {"x": number / 20}, number / 20 - 5, 0.5) for number in range(20))
    history.append(finished(0, {"x": 0.5}, -4.5, 0.5))
    history.append(finished(1, {"x": 0.93}, -9.0, 3.0))
    (found,) = predict(history, [], 1)
    assert 0.2 < found.improvement < 0.6
    assert found.value == pytest.approx(-5, abs=0.2)


@pytest.mark.parametrize(
    "values",
    [[1e300, -1e300, 5.0, 3.0], [1e308, -1e308], [5e-324, 0.0], [1.0, 1e300], [0.0, -1e-300], [1.0, 1.0 + 1e-15]],
)
def test_no_values_are_an_obstacle(values: list[float | None]) -> None:
    for each in predict(history_of(SPACE, (values * 20)[:30]), [], 3):
        assert SPACE.validate(each.configuration) == each.configuration
        assert math.isfinite(each.value)
        assert math.isfinite(each.improvement)
