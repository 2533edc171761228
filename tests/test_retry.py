"""Failed trials that are tried again: nothing is left of the failure, in memory as on disk."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcompss.engines import Local
from hpcompss.errors import InputError
from hpcompss.journal import JournalError
from hpcompss.report.export import as_plain
from hpcompss.samplers import SpaceExhausted
from hpcompss.space import Float, Int, Space
from hpcompss.study import Study
from hpcompss.trial import Failure, FailureKind, Result, TrialState

SPACE = Space([Int("x", 0, 29), Float("y", 0.0, 1.0)])
ASHA = {"scheduler": "asha", "min_epochs": 1, "max_epochs": 9}
HALVING = {"scheduler": "successive_halving", "min_epochs": 1, "max_epochs": 9}
MEDIAN = {"scheduler": "median", "min_epochs": 1, "max_epochs": 4, "startup_trials": 1}


@pytest.fixture(scope="module")
def two():
    with Local(workers=2, cores=2) as engine:
        yield engine


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "study"


def everything(study):
    """Returns what a study knows, for comparison."""
    history, scheduler = study.history, study.scheduler
    return {
        "trials": study.trials,
        "counts": (study.completed, study.feasible, study.failed, study.finished, study.started),
        "order": [trial.number for trial in study.in_order],
        "best": study.best if study.feasible else None,
        "front": study.front_numbers,
        "failures": study.failures,
        "interrupted": sorted(study._interrupted),
        "running": sorted(study._running),
        "history": (history.units.tolist(), repr(history.losses.tolist()), history.keys, history.fidelities.tolist()),
        "rungs": None if scheduler is None else scheduler.rungs,
        "due": study.due(),
    }


def test_a_failed_trial_waits_as_if_it_had_been_interrupted(folder):
    study = Study(SPACE, sampler="random", seed=0, directory=folder)
    first, second = study.ask(), study.ask()
    study.tell(first, failure="no labels")
    study.tell(second, 1.0)
    retried = study.retry(0)
    assert (retried.number, retried.configuration) == (0, first.configuration)
    assert (retried.state, retried.result) == (TrialState.INTERRUPTED, None)
    assert (study.completed, study.failed, study.interrupted) == (1, 0, 1)
    assert [trial.number for trial in study.in_order] == [1]
    assert study.pending == [first.configuration]
    again = study.ask()
    assert (again.number, again.configuration) == (0, first.configuration)
    study.tell(again, 0.5)
    assert study.best.number == 0
    assert [trial.number for trial in study.in_order] == [1, 0]
    assert everything(Study.load(folder)) == everything(study)


@pytest.mark.parametrize("number", [0, 1, 2, 7, -1])
def test_only_a_failed_trial_is_tried_again(number):
    study = Study(SPACE, seed=0)
    study.tell(study.ask(), 1.0)
    study.ask()
    study.tell(study.ask(), failure="why")
    study.retry(2)
    with pytest.raises(InputError, match=rf"trial {number} is \w+: only a trial that has failed can be tried again"):
        study.retry(number)


def test_a_closed_study_tries_nothing_again(folder):
    with Study(SPACE, seed=0, directory=folder) as study:
        study.tell(study.ask(), failure="why")
    for each in (study, Study.load(folder)):
        with pytest.raises(InputError, match="is closed, or was loaded for reading alone"):
            each.retry_failed()


def test_failed_trials_are_chosen_by_reason_and_kind():
    study = Study(SPACE, seed=0)
    for number, (kind, reason) in enumerate(
        [(FailureKind.EXCEPTION, "KeyError: 'Labels'"), (FailureKind.MEMORY, "2 GB"), (FailureKind.EXCEPTION, "other")]
    ):
        study.ask()
        study.record(number, Result(None, failure=Failure(kind, reason)))
    assert study.retry_failed("no such reason") == []
    assert [trial.number for trial in study.retry_failed("labels")] == [0]
    assert [trial.number for trial in study.retry_failed(kinds=[FailureKind.MEMORY])] == [1]
    assert [trial.number for trial in study.retry_failed()] == [2]
    assert study.failures == {}


def test_the_sampler_may_not_take_the_configuration_of_a_trial_that_waits():
    study = Study([Int("x", 0, 3)], sampler="random", seed=0)
    for _ in range(3):
        study.tell(study.ask(), failure="why")
    study.retry_failed()
    tried = [study.ask() for _ in range(4)]
    assert [trial.number for trial in tried] == [0, 1, 2, 3]
    assert sorted(trial.configuration["x"] for trial in tried) == [0, 1, 2, 3]
    with pytest.raises(SpaceExhausted):
        study.ask()


def test_a_retry_that_cannot_be_written_changes_nothing(folder, monkeypatch):
    study = Study(SPACE, seed=0, directory=folder)
    study.tell(study.ask(), failure="why")
    before = everything(study)
    with monkeypatch.context() as patch, pytest.raises(JournalError):
        patch.setattr("os.pwrite", lambda *arguments: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        study.retry(0)
    assert everything(study) == before
    study.close()
    assert Study.load(folder).failed == 1


def test_a_retry_that_a_kill_cut_short_did_not_happen(folder):
    study = Study(SPACE, seed=0, directory=folder)
    study.tell(study.ask(), failure="why")
    study.retry(0)
    study.close()
    journal = folder / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-5])
    assert Study.load(folder).failed == 1


def test_the_loss_of_a_failure_that_was_tried_again_is_seen(folder):
    with Study(SPACE, seed=0, directory=folder) as study:
        study.tell(study.ask(), 1.0)
    with (folder / "journal.jsonl").open("a") as file:
        file.write(json.dumps({"event": "retry", "number": 3, "configuration": {}}) + "\n")
    with pytest.raises(InputError, match="this line does not fit those before it"):
        Study.load(folder)


def test_the_curves_of_a_failure_are_not_exported(folder):
    with Study(SPACE, seed=0, metric="loss", directory=folder) as study:
        study.ask()
        failure = Failure(FailureKind.NOT_FINITE, "loss is nan")
        study.record(0, Result(None, failure=failure, curves={"loss": [1.0, math.nan]}))
        study.flush()
        assert as_plain(study)["trials"][0]["curves"] == {"loss": [1.0, None]}
        study.retry(0)
        assert "curves" not in as_plain(study)["trials"][0]


# Whatever happens: in memory, on disk and read again it is the same, and as if no retried failure had been


STEPS = ["ask", "ask", "tell", "tell", "infeasible", "fail", "fail", "nan", "give back", "retry", "retry all", "reopen"]
OPTIONS = [{}, {"fidelity": ASHA}, {"fidelity": HALVING}, {"fidelity": MEDIAN}, {"also": ["loss"]}]


class Pair:
    """The same study in a folder and in memory, told the same."""

    def __init__(self, folder, options):
        settings = {"sampler": "random", "seed": 1, "metric": "error", "constraints": {"size": {"max": 1}}, **options}
        self.folder = folder
        self.studies = [Study(SPACE, directory=folder, **settings), Study(SPACE, **settings)]

    def call(self, name, *arguments, **options):
        return [getattr(study, name)(*arguments, **options) for study in self.studies]

    def do(self, step, random):
        kept, memory = self.studies
        running = sorted(kept._running)
        if step == "ask":
            asked = self.call("ask")
            assert asked[0] == asked[1]
        elif step in ("tell", "infeasible", "fail", "nan") and running:
            number = running[random.integers(len(running))]
            value = float(random.integers(100))
            failure = None
            if step in ("fail", "nan"):
                kind = FailureKind.EXCEPTION if step == "fail" else FailureKind.NOT_FINITE
                value, failure = None, Failure(kind, f"why {number % 2}", "trace")
            metrics = {"size": 2.0 if step == "infeasible" else 1.0, "loss": float(random.integers(9))}
            curves = {"error": [float(random.integers(100)), math.nan if step == "nan" else 1.0]}
            self.call("record", number, Result(value, metrics, failure=failure, curves=curves))
            self.call("flush")
        elif step == "give back" and running:
            self.call("give_back", running[0])
        elif step == "retry" and kept.failures:
            self.call("retry", sorted(kept.failures)[0])
        elif step == "retry all":
            self.call("retry_failed", f"why {random.integers(2)}")
        elif step == "reopen":
            kept.close()
            self.studies[0] = Study.resume(self.folder)
            for number in running:
                memory.give_back(number)
            memory._interrupted.sort()
            self.studies[0]._interrupted.sort()


@settings(deadline=None, max_examples=80)
@given(
    steps=st.lists(st.sampled_from(STEPS), max_size=40),
    options=st.sampled_from(OPTIONS),
    seed=st.integers(0, 1000),
)
def test_a_study_is_the_same_however_it_is_read(steps, options, seed):
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as name:
        pair = Pair(Path(name) / "study", options)
        for step in steps:
            pair.do(step, random)
            kept, memory = pair.studies
            assert everything(kept) == everything(memory)
        kept, memory = pair.studies
        for number in sorted(kept._running):
            pair.call("give_back", number)
        assert everything(Study.load(pair.folder)) == everything(kept)
        kept.close()


@pytest.mark.parametrize("options", [{}, {"also": ["loss"]}])
@settings(deadline=None, max_examples=30)
@given(told=st.lists(st.sampled_from([None, 1.0, 2.0, 3.0]), min_size=1, max_size=12))
def test_nothing_is_left_of_a_failure(told, options):
    """The study is that in which the failed trials were interrupted in place of failing."""
    failed, interrupted = (Study(SPACE, sampler="random", seed=1, metric="error", **options) for _ in range(2))
    for value in told:
        for study in (failed, interrupted):
            trial = study.ask()
            if value is not None:
                study.tell(trial, {"error": value, "loss": value})
            elif study is failed:
                study.tell(trial, failure="why")
    failed.retry_failed()
    for number in sorted(interrupted._running):
        interrupted.give_back(number)
    assert everything(failed) == everything(interrupted)


# In stages


def staged(options, **more):
    return Study(SPACE, sampler="random", seed=0, metric="error", fidelity=options, **more)


@pytest.mark.parametrize("options", [ASHA, HALVING, MEDIAN])
def test_a_stage_that_failed_is_tried_again_from_where_it_stood(options, folder):
    study = staged(options, directory=folder)
    while not any(trial.stage.since for trial in study.trials):
        trial = study.ask()
        if not trial.stage.since:
            study.tell(trial, float(trial.number))
    before = trial.result
    study.tell(trial, failure="the disk was full")
    number, budget = trial.number, study.trials[trial.number].stage
    assert study.failures == {number: Failure(FailureKind.EXCEPTION, "the disk was full")}
    assert study.failed == 0
    study.retry(number)
    assert study.trials[number].result == before
    assert everything(Study.load(folder)) == everything(study)
    again = study.ask()
    assert (again.number, again.stage) == (number, budget)
    study.tell(again, 0.25)
    assert study.best.number == number
    assert everything(Study.load(folder)) == everything(study)


def test_a_bracket_waits_for_the_trial_that_is_tried_again():
    study = staged(HALVING)
    for number in range(9):
        study.ask()
        study.tell(number, **({"failure": "why"} if number == 4 else {"value": float(number)}))
    assert [number for number, _ in study.due()] == [0, 1, 2]
    study.retry(4)
    assert study.due() == []
    assert study.ask().number == 4
    study.tell(4, -1.0)
    assert [number for number, _ in study.due()] == [4, 0, 1]


# On an engine


def mistaken(values, **budget):
    """Fails for some configurations while there is a flag."""
    import json
    from pathlib import Path

    flag = Path(values["flag"]) if "flag" in values else None
    if flag is not None and flag.exists() and values["x"] % 3 == 0:
        raise KeyError(json.dumps("labels"))
    return (values["x"] - 12) ** 2 + budget.get("epochs", 0)


@pytest.mark.parametrize(
    "options", [{}, {"lag": 3}, {"fidelity": ASHA}, {"lag": 2, "fidelity": HALVING}, {"lag": 20, "fidelity": HALVING}]
)
def test_a_search_goes_on_after_its_mistake_is_mended(options, folder, two, tmp_path):
    flag = str(tmp_path / "flag")
    Path(flag).touch()

    def function(values, **budget):
        return mistaken({**values, "flag": flag}, **budget)

    with Study(SPACE, sampler="random", seed=3, metric="error", directory=folder, **options) as study:
        study.optimize(function, trials=18, engine=two)
        tried, failed = {trial.number: trial.configuration for trial in study.trials}, study.failed
        assert failed >= 3
        assert failed == sum(values["x"] % 3 == 0 for values in tried.values())
        assert study.stopped == f"all 18 trials are done, {failed} of which failed"
    Path(flag).unlink()
    with Study.resume(folder) as study:
        retried = study.retry_failed("labels")
        assert [trial.number for trial in retried] == [n for n, values in tried.items() if values["x"] % 3 == 0]
        study.optimize(function, trials=18, engine=two)
        assert {trial.number: trial.configuration for trial in study.trials} == tried
        assert (study.failed, study.completed, study.stopped) == (0, 18, "all 18 trials are done")
        assert sorted(trial.number for trial in study.in_order) == list(range(18))
        study.optimize(function, trials=24, engine=two)
        assert (study.started, study.failed) == (24, 0)
        # What the sampler knows is what a study knows that reads it all again.
        assert len(study.history) == 24
    assert everything(Study.load(folder)) == everything(study)


def test_in_the_lagged_order_what_is_tried_again_keeps_its_configuration(two, folder, tmp_path):
    """The sampler learns by then from trials that it did not know when it suggested the one that is tried again."""
    flag = str(tmp_path / "flag")
    Path(flag).touch()

    def function(values):
        return mistaken({**values, "flag": flag})

    with Study(SPACE, sampler="tpe", seed=3, metric="error", directory=folder, lag=2) as study:
        study.optimize(function, trials=30, engine=two)
        tried = [trial.configuration for trial in study.trials]
        assert study.failed >= 3
    Path(flag).unlink()
    with Study.resume(folder) as study:
        assert all(study.trials[trial.number].configuration for trial in study.retry_failed())
        study.optimize(function, trials=30, engine=two)
        assert [trial.configuration for trial in study.trials] == tried
        assert study.failed == 0
