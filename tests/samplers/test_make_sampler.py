from __future__ import annotations

from typing import Any

import pytest

from hpcompss.errors import InputError
from hpcompss.samplers import DEFAULT, SAMPLERS, check_sampler, make_sampler
from hpcompss.samplers.auto import Auto
from hpcompss.samplers.gaussian_process import GaussianProcess
from hpcompss.samplers.grid import Grid
from hpcompss.samplers.hyperopt import Hyperopt
from hpcompss.samplers.quasirandom import Quasirandom
from hpcompss.samplers.random import Random
from hpcompss.samplers.tpe import TreeParzen
from hpcompss.space import Float, Int, Space

SPACE = Space([Int("a", 0, 3)])


def test_every_name_makes_its_sampler() -> None:
    made = {name: type(make_sampler(name, SPACE, seed=3)) for name in SAMPLERS}
    assert made == {
        "auto": Auto,
        "grid": Grid,
        "random": Random,
        "quasirandom": Quasirandom,
        "hyperopt": Hyperopt,
        "tpe": TreeParzen,
        "gp": GaussianProcess,
    }
    assert DEFAULT in SAMPLERS


def test_arguments_are_passed_on() -> None:
    sampler = make_sampler({"name": "hyperopt", "gamma": 0.5}, SPACE, seed=3, allow_duplicates=True, candidates=9)
    assert isinstance(sampler, Hyperopt)
    assert (sampler.space, sampler.seed, sampler.allow_duplicates) == (SPACE, 3, True)
    assert (sampler.gamma, sampler.candidates) == (0.5, 9)


def test_the_number_of_trials_goes_to_those_that_ask_for_it() -> None:
    sampler = make_sampler("auto", SPACE, seed=3, trials=9)
    assert isinstance(sampler, Auto)
    assert sampler.choice[0] == "grid"
    assert isinstance(make_sampler("tpe", SPACE, seed=3, trials=9), TreeParzen)


def test_a_sampler_made_elsewhere_is_taken_as_it_is() -> None:
    sampler = Random(SPACE, seed=8)
    assert make_sampler(sampler, SPACE, seed=3) is sampler


def test_the_mapping_is_not_changed() -> None:
    given = {"name": "grid", "order": "shuffled"}
    make_sampler(given, SPACE, seed=3)
    assert given == {"name": "grid", "order": "shuffled"}


BAD: list[tuple[Any, str]] = [
    ("gird", "search.sampler: unknown sampler 'gird'; did you mean 'grid'?"),
    ("", "search.sampler: unknown sampler ''; known: auto, gp, grid, hyperopt, quasirandom, random, tpe"),
    (
        3,
        f"search.sampler: a sampler is given by its name ({', '.join(SAMPLERS)}), not as 3",
    ),
    (
        {},
        f"search.sampler: a sampler is given by its name ({', '.join(SAMPLERS)}), not as {{}}",
    ),
    (
        {"name": "grid", "ordre": "shuffled"},
        "search.sampler: the grid sampler has no option 'ordre'; did you mean 'order'?",
    ),
    ({"name": "random", "order": "shuffled"}, "search.sampler: the random sampler has no option 'order'; it has none"),
    ({"name": "random", "seed": 3}, "search.sampler: the random sampler has no option 'seed'; it has none"),
    (
        {"name": "hyperopt", 3: 4},
        "search.sampler: the hyperopt sampler has no option 3; known: algorithm, candidates, gamma, startup_trials",
    ),
]


@pytest.mark.parametrize(("sampler", "sentence"), BAD)
def test_bad_input_is_told_in_a_sentence(sampler: Any, sentence: str) -> None:
    for use in (lambda: make_sampler(sampler, SPACE, seed=3), lambda: check_sampler(sampler)):
        with pytest.raises(InputError) as caught:
            use()
        assert str(caught.value) == sentence


def test_what_the_sampler_objects_to_names_the_setting() -> None:
    with pytest.raises(InputError) as caught:
        make_sampler({"name": "grid", "order": "up"}, SPACE, seed=3)
    assert str(caught.value) == "search.sampler: the grid has no order 'up'; known: sequential, shuffled"
    with pytest.raises(InputError) as caught:
        make_sampler("grid", Space([Float("rate", 0, 1)]), seed=3)
    assert caught.value.key == "search.sampler"
