from __future__ import annotations

import dataclasses
import math
import pickle
from collections.abc import Callable

import numpy as np
import pytest

from hpcompss.errors import InputError
from hpcompss.samplers import History, check_sampler, make_sampler
from hpcompss.samplers.cost import FEWEST, KEPT, CostModel, Effects
from hpcompss.space import Choice, Float, Int, Space
from hpcompss.space.branches import branches
from hpcompss.space.cube import Cube
from hpcompss.trial import Configuration, Result, Trial, TrialState
from tests.samplers.conformance import finished
from tests.samplers.problem import SPACE

NETWORK = Space(
    [
        Int("layers", 1, 5),
        Int("units", 16, 512, sampling="log"),
        Float("learning_rate", 1e-4, 1e-1, sampling="log"),
        Choice("kind", ["dense", "convolution"]),
        Int("width", 1, 7, parent_name="kind", parent_values=["convolution"]),
    ]
)

Seconds = Callable[[Configuration], float]


def network(values: Configuration) -> float:
    """Returns the seconds of a made-up network: layers and units multiply, a wide kernel costs its square."""
    kernel = 3 * float(values["width"]) ** 2 if "width" in values else 1.0
    return 2 + 0.001 * float(values["layers"]) * float(values["units"]) * kernel


def timed(space: Space, trials: int, seconds: Seconds, noise: float = 0.0, seed: int = 0) -> History:
    """Returns random trials of a space with their seconds, spread lognormally."""
    generator, history = np.random.default_rng(seed), History(space, "minimize")
    for number in range(trials):
        values = space.sample(generator)
        ran = seconds(values) * math.exp(noise * generator.standard_normal())
        history.append(Trial(number, values, TrialState.COMPLETE, Result(generator.random(), seconds=ran)))
    return history


def explained(history: History, seconds: Seconds) -> float:
    """Returns the share of the variance of log seconds that is explained of 500 other configurations."""
    generator = np.random.default_rng(99)
    others = [history.space.sample(generator) for _ in range(500)]
    cost = CostModel(history.space).after(history)
    assert cost is not None
    truth = np.log([seconds(each) for each in others])
    units = np.array([history.space.encode(each) for each in others])
    return 1 - float(np.mean((cost(cost.points_of(units)) - truth) ** 2) / truth.var())


@pytest.mark.parametrize(("trials", "least"), [(20, 0.5), (50, 0.8), (200, 0.9)])
def test_the_seconds_of_other_configurations_are_predicted(trials: int, least: float) -> None:
    assert explained(timed(NETWORK, trials, network), network) > least


def test_noise_is_not_taken_for_the_cost() -> None:
    assert explained(timed(NETWORK, 100, network, noise=0.3), network) > 0.7
    assert explained(timed(NETWORK, 100, lambda values: 10.0, noise=0.3), network) < 0.3


def test_of_few_trials_the_median_is_known() -> None:
    history = timed(NETWORK, FEWEST - 1, network)
    cost = CostModel(NETWORK).after(history)
    assert cost is not None
    assert cost.posterior is None
    points = cost.points_of(history.units)
    np.testing.assert_allclose(cost(points), np.median(np.log(history.seconds)))
    assert not cost.with_gradients(points)[1].any()


def test_nothing_is_known_of_trials_without_seconds_nor_of_failed_ones() -> None:
    history = History(NETWORK, "minimize")
    for number in range(10):
        values = NETWORK.sample(np.random.default_rng(number))
        failed = finished(number, values, None)
        assert failed.result is not None
        history.append(dataclasses.replace(failed, result=dataclasses.replace(failed.result, seconds=3.0)))
        history.append(finished(10 + number, values, 1.0))
    assert np.nanmax(history.seconds) == 3.0
    assert np.isnan(history.seconds[1])
    assert CostModel(NETWORK).after(history) is None


def test_seconds_of_other_studies_say_nothing_here() -> None:
    history = History(NETWORK, "minimize")
    source = timed(NETWORK, 5, network)
    history.transfer([Trial(0, NETWORK.decode(each), TrialState.COMPLETE, Result(1.0, seconds=3.0)) for each in
                      np.nan_to_num(source.units, nan=0.5)])  # fmt: skip
    assert np.isnan(history.seconds).all()


def test_a_trial_with_a_part_of_the_budget_counts_as_if_it_had_all() -> None:
    whole, parts = timed(NETWORK, 30, network), History(NETWORK, "minimize")
    for number, seconds in enumerate(whole.seconds):
        share = (number % 3 + 1) / 3
        values = NETWORK.decode(np.nan_to_num(whole.units[number], nan=0.5))
        parts.append(Trial(number, values, TrialState.COMPLETE, Result(1.0, seconds=seconds * share)), fidelity=share)
    costs = [CostModel(NETWORK).after(each) for each in (whole, parts)]
    assert costs[0] is not None
    assert costs[1] is not None
    points = costs[0].points_of(whole.units)
    np.testing.assert_allclose(costs[0](points), costs[1](points), rtol=1e-6)


def test_what_is_learned_depends_on_the_history_alone() -> None:
    history, model = timed(SPACE, 300, lambda values: float(values["units"])), CostModel(SPACE)
    grown = History(SPACE, "minimize")
    for number in range(300):
        values = SPACE.decode(np.nan_to_num(history.units[number], nan=0.5))
        result = Result(float(history.losses[number]), seconds=float(history.seconds[number]))
        grown.append(Trial(number, values, TrialState.COMPLETE, result))
        if number % 7 == 0:
            model.after(grown)
    followed, fresh = model.after(grown), CostModel(SPACE).after(grown)
    assert followed is not None
    assert fresh is not None
    assert len(fresh.points) == KEPT
    np.testing.assert_array_equal(followed(fresh.points), fresh(fresh.points))
    assert model.after(grown) is followed
    assert pickle.loads(pickle.dumps(model))._fitted is None


def test_the_gradient_is_that_of_the_logarithm() -> None:
    history = timed(NETWORK, 40, network)
    cost = CostModel(NETWORK).after(history)
    assert cost is not None
    point = cost.points_of(history.units)[3]
    (value,), (gradient,) = cost.with_gradients(point[None])
    assert value == pytest.approx(float(cost(point[None])[0]))
    for place in range(len(point)):
        step = 1e-6 * np.eye(len(point))[place]
        slope = float((cost((point + step)[None]) - cost((point - step)[None]))[0]) / 2e-6
        assert gradient[place] == pytest.approx(slope, abs=1e-5)


def test_effects_add_up_where_parameters_multiply_the_seconds() -> None:
    space = Space([Int("layers", 1, 4), Choice("kind", ["a", "b"]), Int("deep", 1, 3, parent_name="kind",
                   parent_values=["b"])])  # fmt: skip

    def seconds(values: Configuration) -> float:
        return 2.0 ** float(values["layers"]) * 3.0 ** float(values.get("deep", 0))

    cost, cube = CostModel(space).after(timed(space, 60, seconds)), Cube(space)
    assert cost is not None
    effects, apart = Effects(cost, cube), []
    for branch in branches(space, 10) or []:
        indexes = np.array(list(np.ndindex(*branch.shape)))
        of_axes = [each[index] for each, index in zip(effects.of_axes(branch), indexes.T, strict=True)]
        summed = effects.of_rest(branch) + np.sum(of_axes, axis=0)
        apart.append(summed - np.log([seconds(cube.decode(each)) for each in branch.units(cube, indexes)]))
    # The same but for a constant, in both branches.
    assert np.ptp(np.concatenate(apart)) < 0.5


def test_a_long_axis_is_interpolated() -> None:
    space = Space([Int("units", 1, 2000)])
    cost, cube = CostModel(space).after(timed(space, 60, lambda values: float(values["units"]))), Cube(space)
    assert cost is not None
    units = cube.values(0)[:, None]
    exact = cost(units) - cost(cost.points).mean()
    # Over the references, which are some of the points.
    assert np.abs(np.diff(cost.effects(0, units) - exact)).max() < 0.05


# Progress per second

CHEAP = Space([Float("x", 0, 1), Choice("kind", ["cheap", "dear"])])
STEPPED = Space([Int("x", 0, 9999), Choice("kind", ["cheap", "dear"])])


def search(name: str, space: Space, seed: int, per_second: bool) -> tuple[float, float]:
    """Returns the share of cheap trials after the start, and the best loss, where only ``x`` matters for that."""
    sampler, history = make_sampler(name, space, seed=seed, per_second=per_second), History(space, "minimize")
    top, cheap = 1.0 if space is CHEAP else 9999.0, []
    for number in range(36):
        values = sampler.ask(history, [], number)
        cheap.append(values["kind"] == "cheap")
        loss = (float(values["x"]) / top - 0.3) ** 2
        history.append(Trial(number, values, TrialState.COMPLETE, Result(loss, seconds=1.0 if cheap[-1] else 20.0)))
    return float(np.mean(cheap[12:])), float(np.nanmin(history.losses))


@pytest.mark.parametrize("space", [CHEAP, STEPPED], ids=["candidates", "lattice"])
@pytest.mark.parametrize(("name", "seeds"), [("gp", 1), ("tpe", 4)])
def test_of_two_that_promise_as_much_the_cheap_one_is_tried(name: str, seeds: int, space: Space) -> None:
    with_cost = [search(name, space, seed, True) for seed in range(seeds)]
    without = [search(name, space, seed, False)[0] for seed in range(seeds)]
    assert np.mean([cheap for cheap, _ in with_cost]) > np.mean(without) + 0.1
    assert max(best for _, best in with_cost) < 1e-4


@pytest.mark.parametrize("name", ["gp", "tpe", "auto"])
@pytest.mark.parametrize("space", [CHEAP, STEPPED], ids=["candidates", "lattice"])
def test_without_seconds_suggestions_are_as_usual(name: str, space: Space) -> None:
    generator, history = np.random.default_rng(0), History(space, "minimize")
    for number in range(20):
        history.append(finished(number, space.sample(generator), float(generator.random())))
    samplers = [make_sampler(name, space, seed=1, per_second=each) for each in (False, True)]
    assert samplers[0].ask(history, [], 21) == samplers[1].ask(history, [], 21)


@pytest.mark.parametrize("name", ["random", "grid", "quasirandom", "hyperopt"])
def test_a_sampler_that_cannot_heed_seconds_is_refused(name: str) -> None:
    sentence = rf"the sampler {name} does not choose by what trials cost, .* take gp, tpe or auto"
    with pytest.raises(InputError, match=sentence) as caught:
        check_sampler({"name": name}, per_second=True)
    assert caught.value.key == "objective.per"
    with pytest.raises(InputError, match=sentence):
        make_sampler(name, STEPPED, seed=0, per_second=True)


def test_auto_searches_where_a_grid_would_try_everything_in_any_order() -> None:
    sampler = make_sampler("auto", STEPPED, seed=0, trials=1000, per_second=True)
    assert getattr(sampler, "choice")[0] == "gp, then tpe"  # noqa: B009
