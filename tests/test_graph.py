from __future__ import annotations

import errno
import os
import shutil

import pytest

from hpcompss import graph
from hpcompss.engines.simulated import Simulated
from hpcompss.errors import HpcompssError
from hpcompss.graph import BEST_MODEL, KerasGraph, best_trials, keep_best_models
from hpcompss.space import Int, Space
from hpcompss.study import Study
from hpcompss.tasks.train import REFIT, model_path, train
from hpcompss.trial import Resources
from tests.keras_jobs import make_job


@pytest.fixture(params=["links", "copies"])
def file_system(request, monkeypatch):
    """File systems with and without links."""
    if request.param == "copies":

        def link(*arguments):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)


@pytest.fixture
def folder(tmp_path, file_system):
    return tmp_path


@pytest.fixture
def study(folder):
    """A study that minimises, with a trial for each number; those that have not finished run."""
    with Study(Space([Int("x", 0, 99)]), sampler="random", seed=1, directory=folder) as study:
        for _ in range(6):
            study.ask()
        yield study


def trained(folder, number, part=""):
    path = model_path(folder, number, part)
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"model {number} {part}".strip())


def finish(study, number, value):
    """A trial ends; its model is there."""
    trained(study.directory, number)
    study.tell(number, value)


def models(folder):
    return sorted(path.name for path in (folder / "models").iterdir())


def best_model(folder):
    return (folder / BEST_MODEL).read_text()


def test_the_best_model_replaces_the_one_before(folder, study):
    finish(study, 0, 5.0)
    finish(study, 1, 3.0)
    trained(folder, 2)
    keep_best_models(study, 1)
    assert (best_model(folder), models(folder)) == ("model 1", ["trial-1.keras", "trial-2.keras"])
    finish(study, 2, 1.0)
    keep_best_models(study, 1)
    assert (best_model(folder), models(folder)) == ("model 2", ["trial-2.keras"])
    assert not list(folder.glob("*.draft"))


def test_a_model_that_is_the_best_still_is_left_as_it_is(folder, study):
    finish(study, 0, 1.0)
    keep_best_models(study, 1)
    before = (folder / BEST_MODEL).stat()
    finish(study, 1, 2.0)
    keep_best_models(study, 1)
    assert (folder / BEST_MODEL).stat().st_ino == before.st_ino
    assert models(folder) == ["trial-0.keras"]


def test_the_models_of_the_best_trials_are_kept(folder, study):
    kept = []
    for number, value in enumerate((4.0, 3.0, 5.0, 3.0, 1.0)):
        finish(study, number, value)
        keep_best_models(study, 2)
        kept.append([int(name[6]) for name in models(folder)])
    assert kept == [[0], [0, 1], [0, 1], [1, 3], [1, 4]]
    assert best_model(folder) == "model 4"
    assert [trial.number for trial in best_trials(study, 3)] == [4, 1, 3]
    study.tell(5, failure="it failed")
    assert [trial.number for trial in best_trials(study, 9)] == [4, 1, 3, 0, 2]


def test_infeasible_trials_are_not_among_the_best(tmp_path):
    with Study(Space([Int("x", 0, 9)]), metric="error", constraints={"cost": {"max": 1}}, directory=tmp_path) as study:
        for number, cost in enumerate((2, 1, 0)):
            study.tell(study.ask(), {"error": number, "cost": cost})
        assert [trial.number for trial in best_trials(study, 2)] == [1, 2]


def test_a_model_that_was_trained_anew_becomes_the_best(folder, study):
    finish(study, 0, 1.0)
    keep_best_models(study, 1)
    trained(folder, 0, REFIT)
    keep_best_models(study, 1)
    assert best_model(folder) == "model 0 refit"
    assert models(folder) == ["trial-0-refit.keras", "trial-0.keras"]
    finish(study, 1, 0.5)
    keep_best_models(study, 1)
    assert (best_model(folder), models(folder)) == ("model 1", ["trial-1.keras"])


def test_the_models_of_folds_go_with_their_trial(folder, study):
    finish(study, 0, 1.0)
    for number in (1, 2):
        trained(folder, number, "fold-2")
    study.tell(1, failure="the task that reduces its folds was killed")
    keep_best_models(study, 1)
    assert models(folder) == ["trial-0.keras", "trial-2-fold-2.keras"]


def test_files_that_are_no_models_of_trials_are_left(folder, study):
    finish(study, 0, 1.0)
    (folder / "models" / "trial-mine.keras").write_text("mine")
    (folder / "models" / "trial-1.77.draft.keras").write_text("half a mod")
    study.tell(1, 2.0)
    keep_best_models(study, 1)
    assert models(folder) == ["trial-0.keras", "trial-1.77.draft.keras", "trial-mine.keras"]


def test_a_winner_that_kept_no_model_leaves_none_rather_than_anothers(folder, study):
    finish(study, 1, 2.0)
    keep_best_models(study, 1)
    study.tell(2, 1.0)
    keep_best_models(study, 1)
    assert not (folder / BEST_MODEL).exists()


def test_a_best_model_whose_origin_was_deleted_stays(folder, study):
    finish(study, 1, 1.0)
    keep_best_models(study, 1)
    model_path(folder, 1).unlink()
    keep_best_models(study, 1)
    assert best_model(folder) == "model 1"


def test_what_a_killed_master_left_is_cleared_away(folder, study):
    finish(study, 0, 1.0)
    (folder / f".{BEST_MODEL}.draft").write_text("half a mod")
    keep_best_models(study, 1)
    assert best_model(folder) == "model 0"
    assert not (folder / f".{BEST_MODEL}.draft").exists()


def test_a_full_disk_leaves_the_best_model_before(tmp_path, study, monkeypatch):
    finish(study, 0, 2.0)
    keep_best_models(study, 1)
    finish(study, 1, 1.0)

    def no_room(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "link", no_room)
        full.setattr(shutil, "copy2", no_room)
        with pytest.raises(HpcompssError, match=r"No space left on device.*run  hpcompss resume"):
            keep_best_models(study, 1)
    assert (best_model(tmp_path), models(tmp_path)) == ("model 0", ["trial-0.keras", "trial-1.keras"])
    keep_best_models(study, 1)
    assert (best_model(tmp_path), models(tmp_path)) == ("model 1", ["trial-1.keras"])


def test_a_trial_that_goes_on_need_not_beat_what_it_was(monkeypatch, tmp_path):
    submitted = []
    monkeypatch.setattr(graph, "submit_with_files", lambda engine, study, *args, **options: submitted.append(args))
    fidelity = {"scheduler": "successive_halving", "min_epochs": 1, "max_epochs": 3}
    with Study(Space([Int("x", 0, 99)]), sampler="random", seed=1, directory=tmp_path, fidelity=fidelity) as study:
        for value in (3.0, 1.0, 2.0):
            study.tell(study.ask(), value)
        trial = study.ask()
        with Simulated(1, lambda function, value: 0.0) as engine:
            KerasGraph(make_job()).submit(engine, study, trial, Resources())
    function, _, number, _, _, to_beat, *_ = submitted[0]
    assert (function, number, to_beat) == (train, 1, 2.0)
