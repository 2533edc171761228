from __future__ import annotations

from typing import Any

import pytest

from hpcompss.samplers import History, make_sampler
from hpcompss.samplers.auto import MODELLED, Auto
from hpcompss.samplers.gaussian_process import GaussianProcess
from hpcompss.samplers.grid import Grid
from hpcompss.samplers.tpe import TreeParzen
from hpcompss.space import Boolean, Float, Int, Space
from tests.samplers.conformance import FINITE, INFINITE, SamplerConformance, history_of, random_values
from tests.samplers.problem import SPACE


class TestOpen(SamplerConformance):
    """With an open number of trials; what it chooses has shown elsewhere that it learns."""

    sampler = "auto"


@pytest.mark.parametrize(
    ("space", "trials", "choice"),
    [
        (Space([Int("x", 0, 9)]), 10, ("grid", "its 10 combinations fit into 10 trials")),
        (Space([Int("x", 0, 9)]), 9, ("gp", "9 trials are few enough for a model of all of them")),
        (SPACE, MODELLED, ("gp", f"{MODELLED} trials are few enough for a model of all of them")),
        (
            SPACE,
            MODELLED + 1,
            (
                "gp, then tpe",
                f"{MODELLED + 1} trials are planned: a Gaussian process for the first {MODELLED}, then the cheaper one",
            ),
        ),
        (
            Space([Boolean("b")]),
            None,
            (
                "gp, then tpe",
                f"the number of trials is open: a Gaussian process for the first {MODELLED}, then the cheaper one",
            ),
        ),
    ],
)
def test_its_choice_goes_by_the_space_and_the_trials(space: Space, trials: int | None, choice: tuple[str, str]) -> None:
    assert Auto(space, seed=0, trials=trials).choice == choice


@pytest.mark.parametrize("trials", [5, MODELLED, 3000, None])
def test_it_does_what_its_choice_does(trials: int | None) -> None:
    space = FINITE["one parameter"] if trials is None else INFINITE["continuous"]
    for finished in (3, 40, MODELLED, MODELLED + 30):
        history = history_of(space, random_values(finished))
        expected = (TreeParzen if finished >= MODELLED else GaussianProcess)(space, seed=4, allow_duplicates=True)
        found = Auto(space, seed=4, trials=trials, allow_duplicates=True).ask(history, [], finished)
        assert found == expected.ask(history, [], finished)


def test_a_small_space_is_tried_whole() -> None:
    space = FINITE["one parameter"]
    history = History(space, "minimize")
    sampler = make_sampler("auto", space, seed=1, trials=100)
    grid = Grid(space, seed=1, order="shuffled")
    assert [sampler.ask(history, [], n) for n in range(100)] == [grid.ask(history, [], n) for n in range(100)]


def test_it_has_no_options() -> None:
    options: dict[str, Any] = {"name": "auto", "trials": 3}
    with pytest.raises(ValueError, match="the auto sampler has no option 'trials'; it has none"):
        make_sampler(options, Space([Float("x", 0, 1)]), seed=0)
