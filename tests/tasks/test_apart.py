"""Workers that do not see the study's folder: files travel, and the study is the one that it would be otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hpcompss
from hpcompss.engines import Local
from hpcompss.loop import View
from hpcompss.study import Study
from hpcompss.tasks.apart import HERE, apart, files_of, write_files
from hpcompss.tasks.folds import reduce_folds, train_fold
from hpcompss.tasks.train import train
from hpcompss.training.checkpoint import checkpoint_path, read_checkpoint
from hpcompss.trial import Failure, Result, Stage, Trial
from tests.keras_jobs import MODELS, make_job

MODEL = f"{MODELS}:build"
FIRST, SECOND = Stage(epochs=3, keeps=True), Stage(epochs=6, since=3, keeps=True)
CONFIGURATION = {"units": 8, "rate": 0.03}
NAMES = ["checkpoints/trial-0.epoch-3.npz", "models/trial-0.keras"]


def test_a_trial_apart_is_the_same_as_in_the_folder(keras: Any, tmp_path: Path) -> None:
    job = make_job(epochs=6)
    there = [train(job, 0, CONFIGURATION, tmp_path, None, stage) for stage in (FIRST, SECOND)]
    first = apart(train, [], False, job, 0, CONFIGURATION, HERE, None, FIRST)
    assert sorted(first.files) == NAMES
    checkpoint = {NAMES[0]: first.files[NAMES[0]]}
    second = apart(train, [checkpoint], False, job, 0, CONFIGURATION, HERE, None, SECOND)
    assert sorted(second.files) == ["checkpoints/trial-0.epoch-6.npz", NAMES[1]]
    for one, other in zip(there, (first, second), strict=True):
        same = {"seconds": 0.0, "files": {}}
        assert dataclasses.replace(one, **same) == dataclasses.replace(other, **same)
    write_files(tmp_path / "apart", second.files)
    states = [read_checkpoint(checkpoint_path(each, 0, 6)) for each in (tmp_path / "apart", tmp_path)]
    for mine, theirs in zip(states[0].group("model"), states[1].group("model"), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert "files" not in repr(second)


def test_what_folds_leave_goes_on_with_their_reduction(keras: Any) -> None:
    job = make_job(folds=2)
    folds = [dataclasses.replace(job, fold=fold) for fold in range(2)]
    stage = Stage(epochs=1, keeps=True)
    results = [apart(train_fold, [], False, each, 0, CONFIGURATION, HERE, (), [], stage) for each in folds]
    merged = apart(reduce_folds, results, True, job, 0, HERE, None, (), results)
    checkpoints = [f"checkpoints/trial-0.fold-{each}.epoch-1.npz" for each in (1, 2)]
    assert sorted(merged.files) == [*checkpoints, "models/trial-0.keras"]
    best = max(results, key=lambda each: each.value)
    assert merged.files["models/trial-0.keras"] in best.files.values()


def test_what_is_no_result_comes_back_as_it_is() -> None:
    failure = Failure.cancelled()
    assert apart(lambda folder: failure, [], False, HERE) is failure
    assert apart(lambda folder: None, [], True, HERE) is None


def test_files_are_found_in_results_trials_and_lists_of_them() -> None:
    one, other = Result(1.0, files={"a": b"1"}), Result(2.0, files={"b": b"2"})
    trial = Trial(0, {}, result=other)
    assert files_of([one, None, trial, Failure.cancelled(), {"c": b"3"}]) == {"a": b"1", "b": b"2", "c": b"3"}


@pytest.mark.parametrize("name", ["../outside", "/outside", "models/../../outside"])
def test_files_do_not_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not in the study's folder"):
        write_files(tmp_path / "study", {name: b""})
    assert not (tmp_path / "outside").exists()


def test_a_study_warns_where_it_cannot_keep_the_files(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("in the way")
    with Study(hpcompss.Space([hpcompss.Float("x", 0, 1)]), directory=tmp_path / "study") as study:
        (study.directory / "models").write_text("in the way")
        trial = study.ask()
        told = study.record(trial.number, Result(1.0, files={"models/trial-0.keras": b"1"}))
        assert told.value == 1.0
        assert "could not be put into the study's folder" in told.result.warnings[0]


# Whole studies


class Apart(Local):
    """Local workers that are not told where the study's folder is."""

    shares_files = False


@pytest.fixture(scope="module")
def engines(keras_cache: Path) -> Iterator[dict[bool, Local]]:
    options = {"workers": 1, "cores": 1, "preload": ["keras"]}
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HPCOMPSS_CACHE", str(keras_cache))
        with Local(**options) as shared, Apart(**options) as apart:
            yield {True: shared, False: apart}


BUDGETS = {"min_epochs": 1, "max_epochs": 2, "eta": 2}

CASES: dict[str, dict[str, Any]] = {
    "eager": {
        "search": {"trials": 2, "order": "eager"},
        "fidelity": {"scheduler": "asha", **BUDGETS},
        "training": {"refit": True, "ensemble": 2},
    },
    "lagged": {
        "search": {"trials": 4, "order": "lagged", "lag": 2},
        "fidelity": {"scheduler": "successive_halving", **BUDGETS},
    },
}
FOLDS = {
    "search": {"trials": 2, "order": "lagged", "lag": 2},
    "fidelity": {"scheduler": "successive_halving", **BUDGETS},
    "training": {"folds": 2},
}


def sections(stated: dict[str, dict[str, Any]]) -> dict[str, Any]:
    settings = {key: dict(value) for key, value in stated.items()}
    settings["training"] = {"batch_size": 64, "epochs": 2, **settings.get("training", {})}
    settings["search"] = {"sampler": "random", "seed": 1, **settings["search"]}
    return {
        "model": MODEL,
        "data": {"name": "digits", "train": 120, "validation": 40, "test": 40},
        "objective": "val_accuracy",
        **settings,
    }


def contents(folder: Path) -> list[str]:
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return sorted(each for each in names if each.startswith(("models/", "checkpoints/")) or each.endswith(".keras"))


def outcomes(study: Study) -> list[Any]:
    return [
        (each.configuration, each.state, each.value, each.result and each.result.budget, each.result.warnings)
        for each in study.trials
    ]


@pytest.mark.parametrize("case", ["eager", pytest.param("lagged", marks=pytest.mark.slow)])
def test_a_study_is_the_same_without_a_shared_folder(engines: dict[bool, Local], tmp_path: Path, case: str) -> None:
    whole = hpcompss.tune(engine=engines[True], view=View(), study=tmp_path / "whole", **sections(CASES[case]))
    settings, trials = sections(CASES[case]), CASES[case]["search"]["trials"]
    if case == "lagged":
        settings["search"]["trials"] = 2  # the rest after it was closed
    study = hpcompss.tune(engine=engines[False], view=View(), study=tmp_path / "study", **settings)
    if case == "lagged":
        study = hpcompss.resume(tmp_path / "study", trials=trials, engine=engines[False], view=View())
    assert outcomes(study) == outcomes(whole)
    assert any(each.result is not None and each.result.budget == 2 for each in study.trials)
    assert study.test == whole.test
    assert "best.keras" in contents(tmp_path / "study")
    assert contents(tmp_path / "study") == contents(tmp_path / "whole")


def test_folds_go_on_without_a_shared_folder(engines: dict[bool, Local], tmp_path: Path) -> None:
    study = hpcompss.tune(engine=engines[False], view=View(), study=tmp_path / "study", **sections(FOLDS))
    assert sorted(each.result.budget for each in study.trials if each.result is not None) == [1, 2]
    assert not any(each.result.warnings for each in study.trials if each.result is not None)
    best = study.best.number
    assert contents(tmp_path / "study") == [
        "best.keras",
        f"models/trial-{best}-refit.keras",
        f"models/trial-{best}.keras",
    ]
