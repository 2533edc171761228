from __future__ import annotations

import io
import json
import math

import numpy as np
import pytest

from hpcompss.constraints import Constraint, breaches, constrained, parse_constraints, total_violation
from hpcompss.engines import Local
from hpcompss.errors import InputError
from hpcompss.graph import FunctionGraph, TrialTasks
from hpcompss.loop import Loop, StudyFailed
from hpcompss.report.console import make_console, outcome, show_status
from hpcompss.report.export import as_csv, as_plain
from hpcompss.space import Int, Space
from hpcompss.study import Study
from hpcompss.tasks.suggest import suggestion
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


# Infeasible before any training


def oversized(count, most=50):
    failure = Failure(FailureKind.INFEASIBLE, f"infeasible: {count} parameters, at most {most} (resources.parameters)")
    return Result(None, {"parameters": float(count)}, seconds=0.5, failure=failure, violation=(count - most) / most)


@pytest.fixture
def skipped(tmp_path):
    """A study on disk whose trials 0 and 2 were found infeasible before any training, while 3 failed."""
    with Study([Int("x", 0, 99)], sampler="grid", metric="loss", directory=tmp_path / "s") as study:
        results = [oversized(60), Result(2.0), oversized(75), Result(None, failure=Failure(FailureKind.DIED, "died"))]
        for result in results:
            study.record(study.ask().number, result)
        study.flush()
    return study


def test_an_untrained_trial_is_infeasible_and_not_failed(skipped):
    assert [trial.state.value for trial in skipped.trials] == ["infeasible", "complete", "infeasible", "failed"]
    assert (skipped.finished, skipped.completed, skipped.feasible, skipped.failed) == (4, 3, 1, 1)
    assert (skipped.untrained, skipped.best.number) == (2, 1)
    np.testing.assert_equal(skipped.history.violations, [0.2, 0, 0.5, np.nan])
    np.testing.assert_equal(skipped.history.losses, [np.nan, 2, np.nan, np.nan])
    assert list(skipped.history.informative) == [True, True, True, False]


def test_an_untrained_trial_is_named_everywhere(skipped):
    reason = "infeasible: 60 parameters, at most 50 (resources.parameters)"
    assert outcome(skipped, skipped.trials[0]) == f"{reason}  0.5 s"
    plain = as_plain(skipped)
    assert plain["counts"] == {"completed": 3, "infeasible": 2, "failed": 1, "unfinished": 0}
    assert [trial.get("feasible") for trial in plain["trials"]] == [False, None, False, None]
    assert plain["trials"][0]["failure"] == {"kind": "infeasible", "reason": reason}
    row = as_csv(skipped).splitlines()[1]
    assert row.startswith("0,infeasible,,0.5,") and row.endswith(f'"{reason}"')
    shown = io.StringIO()
    show_status(skipped, False, make_console(shown))
    assert "3 completed (2 infeasible), 1 failed" in shown.getvalue()
    assert f"\n1 trial {reason}\n" in shown.getvalue() and "1 trial failed: died" in shown.getvalue()


def test_an_untrained_trial_is_loaded_as_it_was(skipped):
    loaded = Study.load(skipped.directory)
    assert loaded.trials == skipped.trials
    assert (loaded.completed, loaded.feasible, loaded.failed, loaded.untrained) == (3, 1, 1, 2)
    np.testing.assert_equal(loaded.history.violations, skipped.history.violations)


def test_untrained_trials_of_another_study_are_left_out(skipped):
    warm = Study([Int("x", 0, 99)], sampler="random", metric="loss", warm_start=skipped.directory)
    assert warm.sources[0].left_out == {"it was infeasible there and not trained": 2}
    assert len(warm.sources[0].trials) == 2


def limited(configuration, raises=False):
    """Finds the trials up to x = 4 infeasible, as a task does."""
    if configuration["x"] < 5:
        return oversized(60 - configuration["x"])
    return Result(None, failure=Failure(FailureKind.EXCEPTION, "always")) if raises else Result(configuration["x"])


def limited_suggested(state):
    return limited(suggestion(state)[0])


class Limited(FunctionGraph):
    def __init__(self, raises=False):
        super().__init__(limited, "loss")
        self._raises = raises

    def submit(self, engine, study, trial, resources):
        return TrialTasks.of(engine.submit(limited, trial.configuration, self._raises, resources=resources))

    def submit_suggested(self, engine, study, number, state, resources):
        return TrialTasks.of(engine.submit(limited_suggested, state, resources=resources))


@pytest.mark.parametrize("lag", [None, 2])
def test_a_search_goes_on_after_untrained_trials(lag):
    study = Study([Int("x", 0, 9)], sampler="grid", metric="loss", lag=lag)
    with Local(workers=2, cores=2) as engine:
        Loop(study, engine, Limited()).run()
    assert (study.best.value, study.completed, study.feasible, study.failed) == (5, 10, 5, 0)
    assert [trial.state.value for trial in study.trials] == ["infeasible"] * 5 + ["complete"] * 5


def test_untrained_trials_do_not_count_among_the_first_that_fail_alike():
    study = Study([Int("x", 0, 19)], sampler="grid", metric="loss")
    with Local(workers=1, cores=1) as engine, pytest.raises(StudyFailed, match="first 3 trials"):
        Loop(study, engine, Limited(raises=True)).run()
    assert (study.untrained, study.failed) == (5, 3)


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
