from __future__ import annotations

import json
import os
import time

import numpy as np
import pytest

from hpcompss.main import main
from hpcompss.training.data import DataSpecification, load_data


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache with data of a file, split; data and modules from a master; and what killed processes left."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("HPCOMPSS_CACHE", str(folder))
    monkeypatch.setenv("COLUMNS", "200")
    np.savez(tmp_path / "table.npz", x_train=np.zeros((100, 9)), y_train=np.zeros(100))
    load_data(DataSpecification(path=tmp_path / "table.npz"))
    entry = next(path for path in folder.glob("table.npz-*") if path.is_dir())
    (folder / "fetched" / "0123").mkdir(parents=True)
    (folder / "fetched" / "0123" / "description.json").write_bytes((entry / "description.json").read_bytes())
    (folder / "modules" / "4567").mkdir(parents=True)
    (folder / "modules" / "4567" / "model.py").write_text("x = 1\n")
    for name, age in (("old.partial", 7200), ("new.partial", 0)):
        (folder / name).mkdir()
        (folder / name / "x_train.npy").write_text("half")
        for path in (folder / name / "x_train.npy", folder / name):
            os.utime(path, (time.time() - age,) * 2)
    return folder


def names(capsys, *arguments, key="entries"):
    assert main(["cache", "--json", *arguments]) == 0
    return [entry["name"].rpartition("-")[0] or entry["name"] for entry in json.loads(capsys.readouterr().out)[key]]


ALL = ["old.partial", "table.npz", "fetched/0123", "modules/4567"]


def test_what_is_there(cache, capsys):
    assert names(capsys) == ALL
    assert main(["cache"]) == 0
    shown = capsys.readouterr().out
    assert "name" in shown and "last used" in shown and "Python modules from a master" in shown
    assert "table.npz'" in shown and f"in {cache}: 4 entries, " in shown


def test_clearing_all_leaves_what_is_being_written(cache, capsys):
    assert main(["cache", "--clear"]) == 0
    assert f"removed from {cache}: 4 entries, " in capsys.readouterr().out
    assert sorted(path.name for path in cache.iterdir()) == ["fetched", "modules", "new.partial"]
    assert names(capsys) == []
    assert main(["cache"]) == 0
    assert f"in {cache}: 0 entries, 0 B" in capsys.readouterr().out


def test_clearing_some(cache, capsys):
    assert names(capsys, "--clear", "fetched/0123", "modules/4567", key="removed") == ALL[2:]
    assert names(capsys) == ALL[:2]


def test_those_unused(cache, capsys):
    month = time.time() - 31 * 86400
    description = cache / "fetched" / "0123" / "description.json"
    os.utime(description, (month, month))
    assert names(capsys, "--unused", "30d") == ["fetched/0123"]
    assert names(capsys, "--unused", "30d", "--clear", key="removed") == ["fetched/0123"]
    assert names(capsys) == ["old.partial", "table.npz", "modules/4567"]


def test_no_such_entry(cache, capsys):
    assert main(["cache", "--clear", "modules/4568"]) == 2
    assert "has no entry 'modules/4568'; did you mean 'modules/4567'?" in capsys.readouterr().err
    assert names(capsys) == ALL


def test_no_cache_at_all(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HPCOMPSS_CACHE", str(tmp_path / "absent"))
    assert names(capsys) == []
