from __future__ import annotations

import itertools
import json
import threading
import time

import pytest

from hpcompss.constraints import Constraint
from hpcompss.engines import Local
from hpcompss.errors import InputError
from hpcompss.samplers import History, prediction
from hpcompss.samplers.prediction import Prediction
from hpcompss.space import Float, Int, Space
from hpcompss.stopping import StopCheck, StopRules, all_done, all_tried
from hpcompss.study import Study
from tests.samplers.conformance import finished

SPACE = Space([Int("x", 0, 99)])


@pytest.fixture(scope="module")
def one():
    """An engine of one worker: trials finish in the order of their numbers."""
    with Local(workers=1, cores=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def two():
    with Local(workers=2, cores=2) as engine:
        yield engine


def reasons(values, direction="minimize", **rules):
    """Returns what is said after each of some trials, as far as something is."""
    check = StopCheck(StopRules(**rules), History(SPACE, direction))
    said = {}
    for number, value in enumerate(values):
        check.add(finished(number, {"x": number}, value))
        if reason := check.reason():
            said[number] = reason
    return said


# The rules


@pytest.mark.parametrize(
    ("direction", "values", "number", "reason"),
    [
        ("maximize", [0.1, None, 0.953], 2, "the target 0.95 is reached (trial 2: 0.953)"),
        ("maximize", [0.95], 0, "the target 0.95 is reached (trial 0: 0.95)"),
        ("minimize", [1.0, 0.96, 0.12345678], 2, "the target 0.95 is reached (trial 2: 0.12346)"),
    ],
)
def test_a_target(direction, values, number, reason):
    assert reasons(values, direction, target=0.95) == {number: reason}


def test_a_target_that_is_missed():
    assert reasons([1.0, None, 0.96], target=0.95) == {}


def test_patience():
    said = reasons([5, 6, None, 4, 4, 7], patience=2)
    assert said == {
        2: "no improvement in the last 2 trials (the best is trial 0: 5)",
        5: "no improvement in the last 2 trials (the best is trial 3: 4)",
    }


def test_patience_with_failures():
    assert reasons([None, None, None], patience=3) == {2: "no improvement in the last 3 trials, which all failed"}


def test_patience_without_a_feasible_trial():
    check = StopCheck(StopRules(patience=2), History(SPACE, "minimize", [Constraint("size", max=1)]))
    study = Study(SPACE, metric="loss", constraints={"size": {"max": 1}}, seed=0)
    check.add(study.tell(study.ask(), {"loss": 0.0, "size": 2}))
    check.add(study.tell(study.ask(), failure="why"))
    assert check.reason() == "no improvement in the last 2 trials, none of which was feasible"


# Told once more when all has finished


def checked(values, **rules):
    check = StopCheck(StopRules(**rules), History(SPACE, "maximize"))
    for number, value in enumerate(values):
        check.add(finished(number, {"x": number}, value))
    return check


def test_a_trial_that_ran_on_and_became_better_is_told():
    check = checked([5, 4, 3], patience=2)
    reason = check.reason()
    assert check.at_end(reason, finished(0, {"x": 0}, 5)) == reason
    told = check.at_end(reason, finished(3, {"x": 3}, 8))
    assert told == f"{reason}; of those that still ran, trial 3 reached 8"


def test_a_target_that_further_training_lost_again_is_told():
    check = checked([0.96], target=0.95)
    reason = check.reason()
    assert check.at_end(reason, finished(1, {"x": 1}, 0.97)) == reason
    told = check.at_end(reason, finished(0, {"x": 0}, 0.9))
    assert told == f"{reason}; training it further made it worse, the best is now trial 0: 0.9"
    assert "no trial is feasible" in check.at_end(reason, None)


def test_the_best_is_another_one_once_it_became_worse():
    check = checked([5, 4, 3, 2], patience=4)
    check.add(finished(0, {"x": 0}, 1))
    assert check.reason() == ""
    check.add(finished(4, {"x": 4}, 3.5))
    assert check.reason() == "no improvement in the last 4 trials (the best is trial 1: 4)"


@pytest.mark.parametrize(
    ("trials", "failed", "said"),
    [
        (4, 0, "all 4 trials are done"),
        (4, 1, "all 4 trials are done, 1 of which failed"),
        (4, 4, "all 4 trials failed"),
        (1, 0, "the only trial is done"),
        (1, 1, "the only trial failed"),
    ],
)
def test_all_trials_are_done(trials, failed, said):
    assert all_done(trials, failed) == said


def test_a_space_whose_trials_failed_says_what_to_do():
    tried = "the space is exhausted: all 4 configurations were tried"
    assert all_tried(4, 0) == tried
    assert all_tried(4, 3) == f"{tried}, 3 failed: fix the cause, then resume with --retry-failed"
    assert all_tried(4, 3, on_disk=False).endswith("fix the cause, then call retry_failed() and optimize again")
    assert all_tried(1, 0) == "the space is exhausted: its only configuration was tried"


def test_the_reason_counts_what_failed_while_the_last_trials_ran(two):
    study = Study(Space([Int("x", 0, 9)]), sampler="grid")
    study.optimize(lambda values: values["x"] if values["x"] < 2 else float("nan"), trials=4, engine=two)
    assert study.stopped == "all 4 trials are done, 2 of which failed"
    study.optimize(lambda values: values["x"], engine=two)
    assert study.stopped.startswith("the space is exhausted: all 10 configurations were tried, 2 failed: fix the cause")
    assert len(study.retry_failed()) == 2
    study.optimize(lambda values: values["x"], engine=two)
    assert study.stopped == "the space is exhausted: all 10 configurations were tried"
    assert study.best.value == 0


def test_only_feasible_trials_reach_a_target():
    rules, constraints = StopRules(target=1.0, patience=3), [Constraint("size", max=1)]
    check = StopCheck(rules, History(SPACE, "minimize", constraints))
    study = Study(SPACE, metric="loss", constraints={"size": {"max": 1}}, seed=0)
    for _ in range(2):
        check.add(study.tell(study.ask(), {"loss": 0.0, "size": 2}))
    assert check.reason() == ""
    check.add(study.tell(study.ask(), {"loss": 0.0, "size": 1}))
    assert check.reason() == "the target 1 is reached (trial 2: 0)"


@pytest.fixture
def predicted(monkeypatch):
    """What `predict` was asked; it expects an improvement of 10 / trials."""
    asked = []

    def predict(history, pending, count, *, seed=0):
        asked.append((len(history), list(pending)))
        return [Prediction({"x": 0}, 0.0, 1.0, 10 / len(history))]

    monkeypatch.setattr(prediction, "predict", predict)
    return asked


def test_an_expected_improvement_that_is_too_small(predicted):
    said = reasons([1.0] * 60, min_improvement=0.21)
    assert min(said) == 47
    assert said[47] == "the expected improvement, 0.208, is below 0.21"
    known = [trials for trials, _ in predicted]
    assert known[:3] == [20, 21, 22]
    assert len(set(known)) == len(known) < 35
    assert all(trials + max(1, trials // 20) == after for trials, after in itertools.pairwise(known))


def test_a_wide_space_takes_longer_to_know(predicted):
    check = StopCheck(
        StopRules(min_improvement=0.0), History(Space([Float(f"x{n}", 0, 1) for n in range(15)]), "minimize")
    )
    for number in range(30):
        check.add(finished(number, {f"x{n}": 0.5 for n in range(15)}, 1.0))
        assert check.reason([{"a": 1}]) == ""
    assert predicted == [(30, [{"a": 1}])]


def test_nothing_to_predict_ends_nothing(monkeypatch):
    monkeypatch.setattr(prediction, "predict", lambda history, pending, count: [])
    assert reasons([1.0] * 30, min_improvement=1.0) == {}
    assert reasons([None] * 30, min_improvement=1.0) == {}


BAD = {
    "target": ["0.9", float("nan"), float("inf"), True],
    "patience": [0, -1, 2.5, True, "3"],
    "min_improvement": [-0.1, float("nan"), "0"],
}


@pytest.mark.parametrize(("rule", "value"), [(rule, value) for rule, values in BAD.items() for value in values])
def test_a_rule_that_is_no_number(rule, value):
    with pytest.raises(InputError, match="number") as caught:
        StopRules(**{rule: value})
    assert caught.value.key == f"search.{rule}"


@pytest.mark.parametrize("rules", [{"target": 1.0}, {"min_improvement": 1.0}, {"target": 1.0, "min_improvement": 1.0}])
def test_a_target_alone_may_never_end(rules):
    infinite = Space([Float("x", 0, 1)])
    with pytest.raises(InputError, match="give the number of trials, the time, or the patience"):
        Study(infinite).optimize(lambda values: 1.0, **rules)
    StopRules(**rules).check_end(SPACE, False)
    for limit in ({"trials": 1}, {"seconds": 1.0}, {"deadline": 1.0}, {"patience": 1}):
        StopRules(**rules, **limit).check_end(infinite, True)


# A search


@pytest.mark.parametrize("lag", [None, 3])
def test_a_target_ends_a_search(one, tmp_path, lag):
    with Study(SPACE, sampler="grid", direction="maximize", lag=lag, directory=tmp_path / "s") as study:
        study.optimize(slow, target=5.0, engine=one)
        assert study.stopped == "the target 5 is reached (trial 5: 5)"
        assert study.best.value >= 5
        # What ran goes on to its end, what waited does not begin.
        assert study.finished <= 8
    events = [json.loads(line) for line in (tmp_path / "s" / "journal.jsonl").read_text().splitlines()]
    assert events[-1]["event"] == "stop"
    assert events[-1]["reason"] == study.stopped
    with Study.resume(tmp_path / "s") as resumed:
        begun = resumed.started
        resumed.optimize(slow, target=5.0, engine=one)
        assert resumed.stopped.startswith("the target 5 is reached (trial ")
        assert resumed.started == begun
        resumed.optimize(slow, target=12.0, engine=one)
        assert resumed.stopped == "the target 12 is reached (trial 12: 12)"
        assert [trial.configuration["x"] for trial in resumed.trials[:13]] == list(range(13))


def slow(values):
    import time

    time.sleep(0.1)
    return values["x"]


@pytest.mark.parametrize("lag", [None, 4])
def test_patience_ends_a_search(one, lag):
    study = Study(Space([Float("x", 0, 1)]), seed=0, lag=lag)
    study.optimize(lambda values: 1.0, patience=10, engine=one)
    assert study.stopped == "no improvement in the last 10 trials (the best is trial 0: 1)"
    assert study.finished >= 11


def test_in_the_lagged_order_it_does_not_matter_what_finishes_first(two, tmp_path):
    """Trial 0 ends last of the first ones: the others must not reach the target before it counts."""

    def function(values):
        import time

        while values["x"] == 0 and not gate.exists():
            time.sleep(0.01)
        return values["x"]

    gate = tmp_path / "gate"
    study = Study(SPACE, sampler="grid", direction="maximize", lag=8)
    opener = threading.Timer(1.0, gate.touch)
    opener.start()
    begun = time.monotonic()
    study.optimize(function, target=3.0, engine=two)
    assert time.monotonic() - begun >= 1.0
    assert study.stopped == "the target 3 is reached (trial 3: 3)"
    opener.join()


def test_the_expected_improvement_is_judged_once_a_batch(one, predicted):
    study = Study(SPACE, sampler="grid").optimize(lambda values: 1.0, min_improvement=0.3, engine=one)
    assert study.stopped.startswith("the expected improvement, 0.")
    assert len({trials for trials, _ in predicted}) == len(predicted)


def test_the_lagged_order_asks_of_prefixes_alone(two, predicted):
    study = Study(SPACE, sampler="grid", lag=4).optimize(lambda values: 1.0, min_improvement=0.3, engine=two)
    assert study.stopped == "the expected improvement, 0.294, is below 0.3"
    assert predicted == [(trials, []) for trials in range(20, 35)]


def test_all_trials_done_is_said_where_no_rule_is_met(one):
    study = Study(SPACE, sampler="grid").optimize(slow, trials=3, target=-1.0, patience=50, engine=one)
    assert study.stopped == "all 3 trials are done"
