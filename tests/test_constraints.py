from __future__ import annotations

import json
import math

import numpy as np
import pytest

from hpcompss.constraints import Constraint, breaches, constrained, parse_constraints, total_violation
from hpcompss.engines import Local
from hpcompss.errors import InputError
from hpcompss.report.console import outcome
from hpcompss.report.export import as_csv, as_plain
from hpcompss.space import Int, Space
from hpcompss.study import Study
from hpcompss.trial import Failure, FailureKind, Result

BOUNDS = {"size": {"max": 1000}, "recall": {"min": 0.5, "max": 0.9}}


@pytest.fixture
def study():
    return Study([Int("x", 0, 99)], sampler="grid", metric="loss", constraints={"size": {"max": 50}})


def test_a_violation_is_in_units_of_the_bound_or_of_one():
    size, recall = parse_constraints(BOUNDS)
    assert (size, recall) == (Constraint("size", max=1000), Constraint("recall", min=0.5, max=0.9))
    assert [size.violation(value) for value in (0, 1000, 1500)] == [0, 0, 0.5]
    assert [recall.violation(value) for value in (0.25, 0.5, 0.9)] == [0.25, 0, 0]
    assert Constraint("x", max=-100.0).violation(-50) == 0.5


def test_violations_add_up():
    constraints = parse_constraints(BOUNDS)
    assert total_violation({"size": 1500, "recall": 0.25}, constraints) == 0.75
    assert total_violation({"size": 900, "recall": 0.7}, constraints) == 0
    assert total_violation({"size": 900}, constraints) == math.inf
    assert total_violation({}, ()) == 0


def test_what_is_broken_is_said():
    constraints = parse_constraints(BOUNDS)
    assert (
        breaches({"size": 1234567, "recall": 0.25}, constraints)
        == "size 1234567 is above 1000, recall 0.25 is below 0.5"
    )
    assert breaches({"size": 1000, "recall": 0.5}, constraints) == ""


def test_a_result_without_the_metric_is_a_failure():
    constraints = parse_constraints(BOUNDS)
    fine = Result(1.0, {"size": 5, "recall": 0.1})
    assert constrained(fine, constraints) is fine
    missing = constrained(Result(1.0, {"size": 5, "recal": 0.6}, epoch=3), constraints)
    reason = "it reports no 'recall', which objective.constraints bounds; did you mean 'recal'?"
    assert (missing.value, missing.epoch, missing.failure) == (None, 3, Failure(FailureKind.EXCEPTION, reason))
    unknown = constrained(Result(1.0, {"size": math.nan, "recall": 0.6}), constraints)
    reason = "size, which objective.constraints bounds, is nan"
    assert (unknown.value, unknown.failure) == (None, Failure(FailureKind.NOT_FINITE, reason))
    failed = Result(None, failure=Failure(FailureKind.DIED, "it died"))
    assert constrained(failed, constraints) is failed


def test_the_best_trial_is_feasible(study):
    for loss, size in ((3.0, 10), (1.0, 51), (2.0, 50), (0.0, 99)):
        study.tell(study.ask(), {"loss": loss, "size": size})
    assert (study.best.number, study.best.value) == (2, 2.0)
    assert (study.completed, study.feasible, study.failed) == (4, 2, 0)
    np.testing.assert_allclose(study.history.violations, [0, 0.02, 0, 0.98])
    assert study.history.best == 2.0
    assert study.breaches(study.trials[1]) == "size 51 is above 50"
    assert outcome(study, study.trials[1]) == "loss 1 (infeasible: size 51 is above 50)  0.0 s"


def test_without_a_feasible_trial_there_is_no_best(study):
    study.tell(study.ask(), {"loss": 1.0, "size": 51})
    with pytest.raises(LookupError, match="no trial is feasible yet"):
        _ = study.best
    assert study.history.best is None
    assert as_plain(study)["best"] is None


UNNAMED = "it reports no 'size', which objective.constraints bounds; it reports one number only"


def test_a_trial_that_says_nothing_of_a_constraint_has_failed(study):
    assert study.tell(study.ask(), 1.0).result.failure.reason == UNNAMED
    assert (study.completed, study.failed) == (0, 1)
    np.testing.assert_equal(study.history.violations, [np.nan])


def test_what_is_exported(study):
    study.tell(study.ask(), {"loss": 1.0, "size": 51})
    study.tell(study.ask(), {"loss": 1.0, "size": 1})
    study.tell(study.ask(), failure="no")
    plain = as_plain(study)
    assert plain["counts"] == {"completed": 2, "infeasible": 1, "failed": 1, "unfinished": 0}
    assert [trial.get("feasible") for trial in plain["trials"]] == [False, True, None]
    rows = [line.split(",") for line in as_csv(study).splitlines()]
    assert rows[0][-2] == "infeasible"
    assert [row[-2] for row in rows[1:]] == ["size 51 is above 50", "", ""]


def test_constraints_are_in_the_journal(tmp_path):
    with Study([Int("x", 0, 9)], seed=0, metric="loss", constraints=BOUNDS, directory=tmp_path / "s") as study:
        study.tell(study.ask(), {"loss": 1.0, "size": 2000, "recall": 0.1})
        study.tell(study.ask(), {"loss": 1.0, "size": 1, "recal": 0.1})
    header, *_ = (json.loads(line) for line in (tmp_path / "s" / "journal.jsonl").read_text().splitlines())
    assert header["constraints"] == BOUNDS
    loaded = Study.load(tmp_path / "s")
    assert (loaded.completed, loaded.feasible, loaded.failed) == (1, 0, 1)
    np.testing.assert_equal(loaded.history.violations, study.history.violations)
    assert loaded.trials == study.trials


@pytest.mark.parametrize("lag", [None, 2])
def test_a_search_knows_of_them(lag):
    def function(values):
        return {"loss": values["x"], "size": values["x"]} if values["x"] != 12 else {"loss": 0.0}

    constraints = {"size": {"min": 5}}
    study = Study(Space([Int("x", 0, 19)]), sampler="grid", metric="loss", constraints=constraints, lag=lag)
    with Local(workers=2, cores=2) as engine:
        study.optimize(function, engine=engine)
    assert (study.best.value, study.completed, study.feasible, study.failed) == (5, 19, 14, 1)
    by_unit = np.argsort(study.history.units[:, 0])
    np.testing.assert_allclose(study.history.violations[by_unit][:5], [1, 0.8, 0.6, 0.4, 0.2])


BAD = {
    "a list": ([("size", 3)], "objective.constraints", r"constraints read \{metric: \{max: 1.0\}, ...\}, not"),
    "a number": ({"size": 3}, "objective.constraints.size", r"a constraint reads .* not 3"),
    "nothing": ({"size": {}}, "objective.constraints.size", r"a constraint reads .* not \{\}"),
    "an unknown bound": ({"size": {"maxi": 3}}, "objective.constraints.size", "unknown bound 'maxi'; did you mean"),
    "a word": ({"size": {"max": "3"}}, "objective.constraints.size", "max must be a finite number, not '3'"),
    "no number": ({"size": {"max": math.nan}}, "objective.constraints.size", "max must be a finite number, not nan"),
    "swapped bounds": ({"size": {"max": 1, "min": 2}}, "objective.constraints.size", "min 2 is above max 1: swap them"),
}  # fmt: skip


@pytest.mark.parametrize(("stated", "key", "message"), BAD.values(), ids=BAD)
def test_what_is_no_constraint(stated, key, message):
    with pytest.raises(InputError, match=message) as caught:
        Study([Int("x", 0, 9)], constraints=stated)
    assert caught.value.key == key
