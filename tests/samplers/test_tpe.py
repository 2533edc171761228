from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hpcompss.errors import InputError
from hpcompss.samplers.quasirandom import Quasirandom
from hpcompss.samplers.tpe import TreeParzen, _weights
from hpcompss.space import Choice, Float, Int, Space
from hpcompss.trial import Configuration
from tests.samplers.conformance import CONDITIONAL, LearnerConformance, finished, history_of, random_values
from tests.samplers.problem import FLAT, SPACE, bowl, learned

LATTICE = Space([*CONDITIONAL, Int("log", 1, 5, sampling="log")])


class TestTree(LearnerConformance):
    sampler = "tpe"


class TestTreeByDraws(LearnerConformance):
    sampler = {"name": "tpe", "exhaustive": 1, "candidates": 64}  # noqa: RUF012


@pytest.mark.parametrize("pending", [0, 6])
@pytest.mark.parametrize("seed", range(3))
def test_of_a_finite_space_the_best_untried_combination_is_taken(seed: int, pending: int) -> None:
    history = history_of(LATTICE, random_values(60), sizes=[0.5, 0.5, 2.0] * 20)
    running = [LATTICE.sample(np.random.default_rng(number)) for number in range(pending)]
    sampler = TreeParzen(LATTICE, seed=seed)
    found = sampler.ask(history, running, 60)
    taken = history.keys | {LATTICE.key(each) for each in running}
    untried = [each for each in LATTICE.combinations() if LATTICE.key(each) not in taken]
    units = np.array([LATTICE.encode(each) for each in [found, *untried]])
    encoded = np.array([LATTICE.encode(each) for each in running]).reshape(pending, len(LATTICE))
    scores = sampler._ratio(history, encoded)(units)
    assert found in untried
    assert scores[0] == pytest.approx(scores[1:].max(), abs=1e-8)
    # Candidates enough to draw them all find the same.
    drawn = TreeParzen(LATTICE, seed=seed, exhaustive=1, candidates=20_000).ask(history, running, 60)
    assert drawn == found


def test_of_other_spaces_the_best_draw_is_taken() -> None:
    history = learned(50)
    sampler = TreeParzen(SPACE, seed=0)
    ratio = sampler._ratio(history, np.empty((0, len(SPACE))))
    proposals = [SPACE.encode(each) for each in sampler.propose(history, [], 51, np.random.default_rng(0))]
    assert len(proposals) == 128
    assert (np.diff(ratio(np.array(proposals))) <= 1e-9).all()


def test_at_first_it_is_quasi_random() -> None:
    for values in (random_values(9), [None] * 30):
        history, number = history_of(SPACE, values), len(values)
        expected = Quasirandom(SPACE, seed=4).ask(history, [], number)
        assert TreeParzen(SPACE, seed=4).ask(history, [], number) == expected
    assert TreeParzen(SPACE, seed=4, startup_trials=3).ask(learned(3), [], 3) != Quasirandom(SPACE, seed=4).ask(
        learned(3), [], 3
    )


def test_the_better_of_the_good_weigh_more() -> None:
    weights = _weights(np.array([0.0, 2.0, 3.0, 4.0]), 4.0)
    assert weights.mean() == pytest.approx(1)
    assert weights.tolist() == sorted(weights, reverse=True)
    assert weights[-1] > 0
    for losses, edge in (([1.0, 1.0], 1.0), ([-1.7e308, 1.0], 1.7e308), ([1.0, 2.0], np.inf)):
        assert _weights(np.array(losses), edge).tolist() == [1.0, 1.0]


def test_where_many_trials_run_fewer_are_added() -> None:
    crowd: list[Configuration] = [{"x": 0.3 + step / 100, "y": 0.7 - step / 100} for step in range(-8, 9)]
    sampler = TreeParzen(FLAT, seed=0)
    near = []
    for pending in ([], crowd):
        found = [FLAT.encode(sampler.ask(bowl(), pending, number)) for number in range(30, 42)]
        near.append(np.median([np.linalg.norm(each - [0.3, 0.7]) for each in found]))
    assert near[0] < 0.7 * near[1]


def test_feasible_trials_are_better_than_any_other() -> None:
    space = Space([Choice("kind", list("abcdef")), Float("x", 0, 1)])
    history = history_of(space, [], sizes=[])
    generator = np.random.default_rng(0)
    for number in range(60):
        configuration: Configuration = space.sample(generator)
        feasible = configuration["kind"] == "d"
        history.append(finished(number, configuration, 5.0 if feasible else -5.0, 0.5 if feasible else 3.0))
    sampler = TreeParzen(space, seed=0)
    found = [sampler.ask(history, [], number)["kind"] for number in range(60, 80)]
    assert found.count("d") > 12


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"startup_trials": 0}, "startup_trials must be a whole number above 0, not 0"),
        ({"candidates": 2.5}, "candidates must be a whole number above 0, not 2.5"),
        ({"exhaustive": True}, "exhaustive must be a whole number above 0, not True"),
        ({"gamma": 1}, "gamma must be a number above 0 and below 1, not 1"),
        ({"gamma": "0.1"}, "gamma must be a number above 0 and below 1, not '0.1'"),
    ],
)
def test_bad_input_is_told_in_a_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        TreeParzen(SPACE, seed=0, **options)
    assert str(caught.value) == sentence


def test_its_options_matter() -> None:
    history = learned(60)
    plain = TreeParzen(SPACE, seed=0).ask(history, [], 60)
    for options in ({"gamma": 0.4}, {"candidates": 5}, {"startup_trials": 61}):
        assert TreeParzen(SPACE, seed=0, **options).ask(history, [], 60) != plain  # type: ignore[arg-type]
