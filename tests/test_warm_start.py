from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from hpcompss.engines import Local
from hpcompss.errors import InputError
from hpcompss.space import Boolean, Choice, Fixed, Float, Int, Space
from hpcompss.study import Study
from hpcompss.trial import Configuration


@pytest.fixture
def space():
    return Space(
        [
            Choice("booster", ["tree", "linear"], default="linear"),
            Float("eta", 0.1, 1.0, default=0.3, parent_name="booster", parent_values=["tree"]),
            Int("depth", 1, 15, default=4),
        ]
    )


def tried(study, count) -> list[Configuration]:
    """Returns what the first trials try."""
    return [study.ask().configuration for _ in range(count)]


# Configurations to try first


def test_initial_configurations_come_first(space):
    initial = [{"booster": "tree", "eta": 0.5, "depth": 2}, {"booster": "linear", "depth": 5}]
    study = Study(space, sampler="random", seed=0, initial=initial)
    first = tried(study, 4)
    assert first[:2] == initial
    assert first[2:] == tried(Study(space, sampler="random", seed=0), 2)


def test_what_is_left_out_has_its_default(space):
    study = Study(space, initial=[{}, {"booster": "tree"}, {"depth": 7.0}])
    assert tried(study, 3) == [
        {"booster": "linear", "depth": 4},
        {"booster": "tree", "eta": 0.3, "depth": 4},
        {"booster": "linear", "depth": 7},
    ]


def test_the_same_one_twice_is_tried_once(space):
    study = Study(space, initial=[{}, {"depth": 4}, {"depth": 5}, {"booster": "linear"}], allow_duplicates=True)
    assert [each["depth"] for each in study.initial] == [4, 5]


def test_a_grid_does_not_repeat_them():
    study = Study([Int("x", 0, 5)], sampler="grid", initial=[{"x": 4}, {"x": 1}])
    assert [each["x"] for each in tried(study, 6)] == [4, 1, 0, 2, 3, 5]


def test_they_survive_a_resume(space, tmp_path):
    with Study(space, seed=1, initial=[{"depth": 9}, {"depth": 8}, {"depth": 7}], directory=tmp_path / "s") as study:
        study.tell(study.ask(), 1.0)
        study.ask()
    with Study.resume(tmp_path / "s") as resumed:
        assert [each["depth"] for each in tried(resumed, 2)] == [8, 7]


def test_the_lagged_order_has_them_too(tmp_path):
    study = Study(
        [Int("x", 0, 9)], sampler="grid", initial=[{"x": 7}, {"x": 0}, {"x": 9}], lag=2, directory=tmp_path / "s"
    )
    with Local(workers=2, cores=2) as engine:
        study.optimize(lambda values: values["x"], trials=2, engine=engine).close()
        with Study.resume(tmp_path / "s") as resumed:
            resumed.optimize(lambda values: values["x"], trials=20, engine=engine)
            assert [trial.configuration["x"] for trial in resumed.trials] == [7, 0, 9, 1, 2, 3, 4, 5, 6, 8]


BAD = {
    "outside": ([{}, {"depth": 16}], "search.initial.1", "Int 'depth': 16 is outside 1 to 15"),
    "unknown": ([{"dept": 3}], "search.initial.0", "the space has no parameter 'dept'; did you mean 'depth'"),
    "inactive": ([{"eta": 0.5}], "search.initial.0", "'eta' is not active in this configuration: leave it out"),
    "no configuration": (["depth"], "search.initial.0", "a configuration is a mapping of names to values, not 'depth'"),
    "no list": ({"depth": 3}, "search.initial", "must be a list of configurations, not {'depth': 3}"),
}


@pytest.mark.parametrize(("initial", "key", "message"), BAD.values(), ids=BAD)
def test_what_is_no_initial_configuration(space, initial, key, message):
    with pytest.raises(InputError, match=message) as caught:
        Study(space, initial=initial)
    assert caught.value.key == key


# Another study's trials


ABOUT = {"task": "t", "module": "m"}


def made(folder, space, values=lambda x: x["x"], trials=6, **settings):
    """Runs a study of some trials and returns its folder."""
    settings = {"sampler": "random", "seed": 5, "about": ABOUT, **settings}
    with Study(space, directory=folder, **settings) as study:
        for _ in range(trials):
            trial = study.ask()
            study.tell(trial, values(trial.configuration))
    return folder


def test_the_trials_of_another_study_are_known(tmp_path):
    space = Space([Float("x", 0, 1)])
    folder = made(tmp_path / "old", space)
    old = Study.load(folder)
    study = Study(space, warm_start=folder, about=ABOUT, directory=tmp_path / "new")
    shutil.rmtree(folder)
    study.close()
    for each in (study, Study.load(tmp_path / "new")):
        np.testing.assert_equal(each.history.units, old.history.units)
        np.testing.assert_equal(each.history.losses, old.history.losses)
        assert (each.history.transferred, each.history.keys, each.history.best) == (6, set(), None)
        assert (each.trials, each.started, each.feasible) == ((), 0, 0)
        assert [source.comparable for source in each.sources] == [True]
        assert str(each.sources[0]) == f"6 trials taken over from {folder}"


def test_what_was_tried_there_may_be_tried_here(tmp_path):
    space = Space([Int("x", 0, 3)])
    folder = made(tmp_path / "old", space, trials=4)
    study = Study(space, sampler="grid", warm_start=folder)
    assert [each["x"] for each in tried(study, 4)] == [0, 1, 2, 3]


def test_a_search_goes_by_them_in_both_orders(tmp_path):
    space = Space([Float("x", 0, 1)])
    folder = made(tmp_path / "old", space, lambda values: (values["x"] - 0.3) ** 2, trials=40)
    for lag in (None, 2):
        sampler = {"name": "hyperopt", "startup_trials": 20}
        warm = Study(space, sampler=sampler, seed=0, lag=lag, warm_start=[folder], about=ABOUT)
        cold = Study(space, sampler=sampler, seed=0, lag=lag)
        with Local(workers=1, cores=1) as engine:
            found = [
                np.mean([abs(trial.configuration["x"] - 0.3) for trial in study.trials])
                for study in (warm, cold)
                if study.optimize(lambda values: (values["x"] - 0.3) ** 2, trials=15, engine=engine)
            ]
        assert found[0] < 0.8 * found[1]
        assert len(warm.history) == 55


def test_an_overlapping_space(tmp_path):
    old = Space([Int("x", 0, 9), Boolean("gone"), Choice("kind", ["a", "b"])])
    new = Space([Int("x", 0, 5), Float("fresh", 0, 1, default=0.5), Choice("kind", ["a", "c"])])
    folder = made(tmp_path / "old", old, trials=40)
    study = Study(new, warm_start=folder, about=ABOUT)
    known = [trial.configuration for trial in Study.load(folder).trials]
    fitting = [each for each in known if each["x"] <= 5 and each["kind"] == "a"]
    (source,) = study.sources
    assert [trial.configuration for trial in source.trials] == [
        {"x": each["x"], "fresh": 0.5, "kind": "a"} for each in fitting
    ]
    assert source.left_out == {
        "a value of 'x' is outside this space": sum(each["x"] > 5 for each in known),
        "a value of 'kind' is outside this space": sum(each["x"] <= 5 and each["kind"] == "b" for each in known),
    }
    assert f", {40 - len(fitting)} left out (" in str(source)


def test_a_parameter_that_was_not_active_there_has_no_value_here(tmp_path):
    old = Space([Boolean("deep"), Int("depth", 1, 3, parent_name="deep", parent_values=True)])
    folder = made(tmp_path / "old", old, lambda values: 1.0, trials=4)
    study = Study([Boolean("deep"), Int("depth", 1, 3)], warm_start=folder)
    assert study.sources[0].left_out == {"'depth' was not active there": 1}
    assert all(trial.configuration["deep"] for trial in study.sources[0].trials)


def test_failed_trials_are_known_too(tmp_path):
    space = Space([Int("x", 0, 9)])
    folder = made(tmp_path / "old", space, lambda values: float("nan") if values["x"] < 5 else 1.0, trials=10)
    study = Study(space, warm_start=folder, about=ABOUT)
    assert study.history.failed.sum() == 5
    with Study.resume(folder) as old:
        np.testing.assert_equal(study.history.losses, old.history.losses)


def test_several_studies(tmp_path):
    space = Space([Int("x", 0, 9)])
    folders = [made(tmp_path / name, space, trials=3) for name in "ab"]
    study = Study(space, warm_start=folders, about=ABOUT)
    assert (study.history.transferred, len(study.sources)) == (6, 2)


def test_values_of_another_task_are_shifted_as_trials_come(tmp_path):
    space = Space([Float("x", 0, 1)])
    folder = made(tmp_path / "old", space, lambda values: values["x"], trials=30)
    study = Study(space, direction="minimize", warm_start=folder, about={**ABOUT, "task": "longer"}, seed=9)
    there = Study.load(folder).history.losses
    np.testing.assert_equal(study.history.losses, there)
    for _ in range(9):
        trial = study.ask()
        study.tell(trial, trial.configuration["x"] + 100)
    np.testing.assert_allclose(study.history.losses[:30], there + 100, atol=0.1)
    np.testing.assert_allclose(np.diff(study.history.losses[:30]), np.diff(there))
    assert study.history.best == min(trial.value for trial in study.trials)
    assert "values shifted to this study's" in str(study.sources[0])
    copied = study.history.copy()
    trial = study.ask()
    study.tell(trial, 0.0)
    assert len(copied) == 39


def test_constraints_hold_for_them_too(tmp_path):
    space, bounds = Space([Int("x", 0, 9)]), {"size": {"max": 4}}
    folder = made(
        tmp_path / "old",
        space,
        lambda values: {"loss": 1.0, "size": values["x"], "more": 3.0},
        metric="loss",
        trials=10,
    )
    study = Study(space, metric="loss", constraints=bounds, warm_start=folder)
    assert sorted(study.history.violations) == [0, 0, 0, 0, 0, 0.25, 0.5, 0.75, 1.0, 1.25]
    assert all(set(trial.result.metrics) == {"size"} for trial in study.sources[0].trials)
    with pytest.raises(
        InputError, match=r"says anything of this space \(it reports no 'weight', which objective.constraints bounds"
    ):
        Study(space, metric="loss", constraints={"weight": {"max": 4}}, warm_start=folder)


def test_they_are_neither_counted_nor_judged(tmp_path):
    space = Space([Int("x", 0, 9)])
    folder = made(tmp_path / "old", space)
    study = Study(space, sampler="grid", warm_start=folder, about=ABOUT)
    with Local(workers=1, cores=1) as engine:
        study.optimize(lambda values: values["x"] + 50.0, trials=3, target=1.0, engine=engine)
    assert (study.started, study.best.value, study.stopped) == (3, 50.0, "all 3 trials are done")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"space": [Int("y", 0, 9)]}, r"the space of .*old \(x\) has no parameter that varies in common with this one"),
        ({"space": [Fixed("x", 3), Int("y", 0, 9)]}, r"no parameter that varies in common with this one \(x, y\)"),
        ({"space": [Int("x", 50, 60)]}, r"no trial of .*old says anything of this space \(a value of 'x' is outside"),
        ({"direction": "maximize"}, "old was to minimize value, this one is to maximize value: name"),
        ({"metric": "loss"}, "old was to minimize value, this one is to minimize loss: name one of that objective"),
        ({"warm_start": "nowhere"}, r"nowhere holds no study \(No such file or directory: journal.jsonl\)"),
    ],
)  # fmt: skip
def test_a_study_that_has_nothing_to_say(tmp_path, settings, message):
    folder = made(tmp_path / "old", Space([Int("x", 0, 9)]))
    with pytest.raises(InputError, match=message) as caught:
        Study(**{"space": Space([Int("x", 0, 9)]), "warm_start": folder, **settings}, directory=tmp_path / "new")
    assert caught.value.key == "search.warm_start"
    assert not (tmp_path / "new").exists()


def test_a_study_without_results(tmp_path):
    folder = made(tmp_path / "old", Space([Int("x", 0, 9)]), lambda values: float("nan"), trials=3)
    with pytest.raises(InputError, match="it has 3 finished trials, none of which completed"):
        Study([Int("x", 0, 9)], warm_start=folder)


def test_the_journal_has_them(tmp_path):
    folder = made(tmp_path / "old", Space([Int("x", 0, 9)]), trials=1)
    Study([Int("x", 0, 9)], warm_start=folder, initial=[{"x": 3}], budget=9, directory=tmp_path / "new").close()
    header = json.loads((tmp_path / "new" / "journal.jsonl").read_text().splitlines()[0])
    assert header["initial"] == [{"x": 3}]
    assert header["budget"] == 9
    (source,) = header["warm_start"]
    assert (source["directory"], source["comparable"], source["left_out"]) == (str(folder), False, {})
    assert len(source["trials"]) == 1
