from __future__ import annotations

import csv
import io
import math

import pytest

from hpcompss.report.export import as_csv, as_plain
from hpcompss.space import Int
from hpcompss.study import Study
from hpcompss.trial import Result, TrialState


@pytest.fixture
def study(tmp_path):
    """A study with parameters named like columns; its first trial has curves, its second never ended."""
    space = [Int("value", 1, 9), Int("epoch", 1, 9), Int("loss", 1, 9)]
    with Study(space, metric="loss", seed=1, directory=tmp_path / "study") as study:
        first, _ = study.ask(), study.ask()
        curves = {"loss": [0.5, math.nan, 0.25]}
        study.record(first.number, Result(0.25, {"loss": 0.25, "other": math.inf}, epoch=3, curves=curves))
    return study


def test_no_two_columns_share_a_name(study):
    header, row, _ = csv.reader(io.StringIO(as_csv(study)))
    fixed = ["number", "state", "value", "seconds", "epoch"]
    parameters = ["parameter:value", "parameter:epoch", "parameter:loss"]
    assert header == [*fixed, *parameters, "metric:loss", "metric:other", "reason"]
    cells = dict(zip(header, row, strict=True))
    assert cells["value"] == "0.25"
    assert cells["parameter:value"] == str(study.trials[0].configuration["value"])


def test_learning_curves_are_exported(study):
    first, second = as_plain(study)["trials"]
    assert first["curves"] == {"loss": [0.5, None, 0.25]}
    assert first["metrics"] == {"loss": 0.25, "other": None}
    assert "curves" not in second


def test_a_study_in_memory_has_no_curves():
    study = Study([Int("x", 1, 9)], seed=1)
    study.tell(study.ask(), 1.0)
    assert "curves" not in as_plain(study)["trials"][0]


def test_an_interrupted_trial_has_a_state_of_its_own(study):
    assert TrialState("interrupted") is TrialState.INTERRUPTED
    states = [trial["state"] for trial in as_plain(Study.load(study.directory))["trials"]]
    assert states == ["complete", "interrupted"]
