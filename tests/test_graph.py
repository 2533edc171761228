from __future__ import annotations

import errno
import os
import shutil

import pytest

from hpcompss.errors import HpcompssError
from hpcompss.graph import BEST_MODEL, keep_best_model
from hpcompss.tasks.train import model_path


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


def trained(folder, number):
    path = model_path(folder, number)
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"model {number}")


def models(folder):
    return sorted(path.name for path in (folder / "models").iterdir())


def best_model(folder):
    return (folder / BEST_MODEL).read_text()


def test_the_best_model_replaces_the_one_before(folder):
    for number in (0, 1, 2):
        trained(folder, number)
    keep_best_model(folder, 1, [0, 1])
    assert (best_model(folder), models(folder)) == ("model 1", ["trial-1.keras", "trial-2.keras"])
    keep_best_model(folder, 2, [2])
    assert (best_model(folder), models(folder)) == ("model 2", ["trial-2.keras"])
    assert sorted(path.name for path in folder.iterdir()) == [BEST_MODEL, "models"]


def test_a_model_that_is_the_best_still_is_left_as_it_is(folder):
    trained(folder, 0)
    keep_best_model(folder, 0, [0])
    before = (folder / BEST_MODEL).stat()
    trained(folder, 1)
    keep_best_model(folder, 0, [1])
    assert (folder / BEST_MODEL).stat().st_ino == before.st_ino
    assert models(folder) == ["trial-0.keras"]


def test_a_model_that_was_trained_anew_becomes_the_best(folder):
    trained(folder, 0)
    keep_best_model(folder, 0, [0])
    model_path(folder, 0).unlink()
    model_path(folder, 0).write_text("model 0, refitted")
    keep_best_model(folder, 0, [])
    assert best_model(folder) == "model 0, refitted"


def test_a_winner_that_kept_no_model_leaves_none_rather_than_anothers(folder):
    keep_best_model(folder, 0, [0])
    trained(folder, 1)
    keep_best_model(folder, 1, [1])
    keep_best_model(folder, 2, [2, 3])
    assert not (folder / BEST_MODEL).exists()


def test_a_best_model_whose_origin_was_deleted_stays(folder):
    trained(folder, 1)
    keep_best_model(folder, 1, [1])
    model_path(folder, 1).unlink()
    keep_best_model(folder, 1, [1])
    assert best_model(folder) == "model 1"


def test_what_a_killed_master_left_is_cleared_away(folder):
    trained(folder, 0)
    (folder / f".{BEST_MODEL}.draft").write_text("half a mod")
    keep_best_model(folder, 0, [0])
    assert best_model(folder) == "model 0"
    assert sorted(path.name for path in folder.iterdir()) == [BEST_MODEL, "models"]


def test_a_full_disk_leaves_the_best_model_before(tmp_path, monkeypatch):
    trained(tmp_path, 0)
    keep_best_model(tmp_path, 0, [0])
    trained(tmp_path, 1)

    def no_room(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "link", no_room)
        full.setattr(shutil, "copy2", no_room)
        with pytest.raises(HpcompssError, match=r"No space left on device.*run  hpcompss resume"):
            keep_best_model(tmp_path, 1, [1])
    assert (best_model(tmp_path), models(tmp_path)) == ("model 0", ["trial-0.keras", "trial-1.keras"])
    keep_best_model(tmp_path, 1, [0, 1])
    assert (best_model(tmp_path), models(tmp_path)) == ("model 1", ["trial-1.keras"])
