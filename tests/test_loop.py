from __future__ import annotations

import errno
import math
import os
import signal
import threading
import time
from collections import Counter

import pytest

import hpcompss
from hpcompss.engines import Local
from hpcompss.errors import InputError
from hpcompss.graph import FunctionGraph, TrialTasks
from hpcompss.journal import JournalError
from hpcompss.loop import Loop, StudyFailed
from hpcompss.space import Choice, Float, Int, Space
from hpcompss.stopping import StopRules
from hpcompss.study import Study
from hpcompss.trial import FailureKind, Resources, TrialState

PATIENCE = 60.0
"""Seconds that a trial hangs, or that a test waits: never reached unless something is broken."""

# The functions that trials run are defined inside the tests, so that they travel whole and workers import no pytest.


@pytest.fixture(scope="module")
def two():
    """An engine of two workers, of which each test leaves two that work."""
    with Local(workers=2, cores=2) as engine:
        yield engine


@pytest.fixture(scope="module")
def one():
    """An engine of one worker: trials finish in the order of their numbers."""
    with Local(workers=1, cores=1) as engine:
        yield engine


@pytest.fixture
def whole():
    """A study of whole numbers, in their order."""
    return Study(Space([Int("x", 0, 99)]), sampler="grid")


def events(folder, event):
    text = (folder / "journal.jsonl").read_text()
    return text.count(f'"event": "{event}"')


def watched(study, engine, function, watch=lambda snapshot: None, begun=None, **rules):
    graph = FunctionGraph(function, study.metric)
    return Loop(study, engine, graph, StopRules(**rules), watch=watch, begun=begun).run()


# A search


@pytest.mark.parametrize("lag", [None, 2])
def test_at_the_deadline_running_trials_are_ended_to_be_tried_again(two, tmp_path, lag):
    def first_long_then_short(values):
        import time

        time.sleep(0 if flag.exists() else 60)
        return values["x"]

    flag = tmp_path / "flag"
    study = Study(Space([Int("x", 0, 99)]), sampler="grid", lag=lag, directory=tmp_path / "s")
    begun = time.monotonic()
    assert watched(study, two, first_long_then_short, trials=3, deadline=2.0) == "the time is up"
    assert time.monotonic() - begun < PATIENCE / 2
    assert (study.completed, study.failed) == (0, 0)
    study.close()
    flag.touch()
    with Study.resume(tmp_path / "s") as resumed:
        watched(resumed, two, first_long_then_short, trials=3)
        assert [trial.value for trial in resumed.trials] == [0, 1, 2]


def test_what_went_before_the_search_counts_for_the_deadline(two, whole):
    began = time.monotonic() - 100
    assert watched(whole, two, lambda values: 1.0, trials=3, deadline=50, begun=began) == "the time is up"
    assert whole.started == 0


@pytest.mark.parametrize("lag", [None, 3])
def test_the_time_counts_from_the_start_of_the_first_trial(two, lag):
    """What went before the search, and the wait for a worker, count for nothing."""

    def function(values):
        import time

        time.sleep(0.1)
        return values["x"]

    def blocking():
        import time

        time.sleep(1.5)

    for _ in range(2):
        two.submit(blocking)
    study = Study([Float("x", 0, 1)], seed=0, sampler="random", lag=lag)
    began = time.monotonic() - 100
    left = []
    reason = watched(
        *(study, two, function, lambda snapshot: left.append(snapshot.seconds_left)), begun=began, seconds=1.0
    )
    assert reason == "the time is up"
    assert study.completed >= 4
    assert left[0] == 1.0
    assert time.monotonic() - began < 100 + 1.5 + 1.0 + PATIENCE / 2


def test_the_example_of_the_documentation():
    space = hpcompss.Space(
        [
            hpcompss.Choice("booster", ["tree", "linear"]),
            hpcompss.Float("eta", 1e-4, 1.0, sampling="log", parent_name="booster", parent_values=["tree"]),
            hpcompss.Int("depth", 1, 15),
        ]
    )
    study = hpcompss.Study(space, sampler="random", direction="minimize", seed=0)
    study.tell(study.ask(), 100.0)
    with hpcompss.engines.Local(workers=2) as engine:
        again = study.optimize(lambda values: values["depth"] + values.get("eta", 0.5), trials=100, engine=engine)
    assert again is study
    assert (study.completed, study.started) == (100, 100)
    assert study.best.value < 2
    assert study.stopped == "all 100 trials are done"


@pytest.mark.parametrize("sampler", ["tpe", "gp", "hyperopt"])
def test_a_sampler_that_learns_knows_every_short_trial_that_has_finished(one, sampler):
    def valley(values):
        return (values["x"] - 0.3) ** 2

    space = Space([Float("x", 0, 1)])
    by_hand = Study(space, sampler=sampler, seed=1)
    for _ in range(30):
        trial = by_hand.ask()
        by_hand.tell(trial, valley(trial.configuration))
    study = Study(space, sampler=sampler, seed=1)
    most = []
    watched(study, one, valley, lambda snapshot: most.append(len(snapshot.running)), trials=30)
    assert [trial.configuration for trial in study.trials] == [trial.configuration for trial in by_hand.trials]
    assert max(most) == 1


def test_where_nothing_is_learnt_short_trials_are_given_in_advance(one, whole):
    most = []
    watched(whole, one, lambda values: 1.0, lambda snapshot: most.append(len(snapshot.running)), trials=60)
    assert 9 <= max(most) <= 60


def test_without_an_engine_workers_are_started_and_ended(whole):
    whole.optimize(lambda values: os.getpid(), trials=4)
    assert whole.completed == 4
    for process in {int(trial.value) for trial in whole.trials}:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_an_engine_that_is_given_stays_open(whole, two):
    whole.optimize(lambda values: os.getpid(), trials=3, engine=two)
    whole.optimize(lambda values: os.getpid(), trials=6, engine=two)
    assert len({trial.value for trial in whole.trials}) <= 2


def test_a_function_takes_along_what_it_uses(whole, two):
    offset = 10

    def double(number):
        return 2 * number

    def function(values):
        return {"value": double(values["x"]) + offset, "cube": values["x"] ** 3}

    whole.optimize(function, trials=3, engine=two)
    assert [trial.value for trial in whole.trials] == [10, 12, 14]
    assert [trial.result.metrics["cube"] for trial in whole.trials] == [0, 1, 8]


def test_a_function_by_name(whole, two, tmp_path):
    (tmp_path / "model.py").write_text("def f(values): return values['x'] / 2\n")
    whole.optimize(f"{tmp_path}/model.py:f", trials=3, engine=two)
    assert [trial.value for trial in whole.trials] == [0, 0.5, 1]


def test_a_function_cannot_change_what_is_recorded(whole, two):
    def function(values):
        values["x"] = 7
        return 1.0

    whole.optimize(function, trials=3, engine=two)
    assert [trial.configuration for trial in whole.trials] == [{"x": 0}, {"x": 1}, {"x": 2}]


# A trial that fails


def test_every_kind_of_failure_is_one_trials_alone(tmp_path):
    kinds = ["fine", "raises", "nan", "none", "segfault", "exit", "leaves", "hangs", "grows", "no text", "also fine"]

    def function(values):
        import ctypes
        import os
        import sys
        import time

        kind = values["kind"]
        if kind == "raises":
            raise ZeroDivisionError("division\nby zero")
        if kind == "nan":
            return math.nan
        if kind == "none":
            return None
        if kind == "segfault":
            ctypes.string_at(0)
        if kind == "exit":
            os._exit(3)
        if kind == "leaves":
            sys.exit("enough")
        if kind == "hangs":
            time.sleep(PATIENCE)
        if kind == "grows":
            block = bytearray(os.urandom(1)) * (700 << 20)
            time.sleep(PATIENCE)
            return len(block)
        if kind == "no text":
            open(b"/no/such/\xff")  # noqa: SIM115
        return 1.0

    folder = tmp_path / "study"
    resources = Resources(memory=500 << 20, time_limit=3)
    with Study(Space([Choice("kind", kinds)]), sampler="grid", directory=folder) as study, Local(workers=2) as engine:
        study.optimize(function, engine=engine, resources=resources)
    trials = {trial.configuration["kind"]: trial for trial in study.trials}
    tried = "the space is exhausted: all 11 configurations were tried, 9 failed"
    assert study.stopped == f"{tried}: fix the cause, then resume with --retry-failed"
    assert {kind for kind in kinds if trials[kind].state is TrialState.COMPLETE} == {"fine", "also fine"}
    failures = {kind: trials[kind].result.failure for kind in kinds if trials[kind].result.failure}
    assert {kind: failure.kind for kind, failure in failures.items()} == {
        "raises": FailureKind.EXCEPTION,
        "nan": FailureKind.NOT_FINITE,
        "none": FailureKind.EXCEPTION,
        "segfault": FailureKind.DIED,
        "exit": FailureKind.DIED,
        "leaves": FailureKind.EXCEPTION,
        "hangs": FailureKind.TIME_LIMIT,
        "grows": FailureKind.MEMORY,
        "no text": FailureKind.EXCEPTION,
    }
    reasons = {kind: failure.reason for kind, failure in failures.items()}
    assert reasons["raises"] == "ZeroDivisionError: division"
    assert reasons["nan"] == "value is nan"
    assert reasons["none"] == "value must be a number, not None"
    assert "signal 11 (segmentation fault)" in reasons["segfault"]
    assert reasons["exit"] == "its process exited with status 3"
    assert reasons["leaves"] == "SystemExit: enough"
    assert reasons["hangs"] == "ran past its limit of 3 s"
    assert "of the 524 MB it asked for" in reasons["grows"]
    assert "\\udcff" in reasons["no text"] or "\\xff" in reasons["no text"]
    assert (Study.load(folder).completed, Study.load(folder).failed) == (2, 9)


def test_three_first_failures_alike_stop_the_study(whole, two):
    def function(values):
        return 1 / (0 * values["x"])

    with pytest.raises(StudyFailed, match=r"the first 3 trials failed in the same way \(ZeroDivisionError: ") as caught:
        whole.optimize(function, trials=50, engine=two)
    assert "in function" in caught.value.traceback
    assert "return 1 / (0 * values" in caught.value.traceback
    assert whole.completed == 0
    assert 3 <= whole.failed < 50
    assert whole.stopped.startswith("the first 3 trials failed alike: ZeroDivisionError")


def test_a_death_alike_stops_the_study(whole, two):
    def function(values):
        os.abort()

    with pytest.raises(StudyFailed, match=r"killed by signal 6 \(aborted\)"):
        whole.optimize(function, trials=50, engine=two)


def test_a_study_that_failed_stops_again_unless_it_is_mended(tmp_path, one):
    space, folder = Space([Int("x", 0, 99)]), tmp_path / "study"
    with Study(space, sampler="grid", directory=folder) as study, pytest.raises(StudyFailed):
        study.optimize(lambda values: values["y"], trials=9, engine=one)
    with Study.resume(folder) as study:
        failed = study.failed
        with pytest.raises(StudyFailed):
            study.optimize(lambda values: values["y"], trials=50, engine=one)
        assert study.failed > failed
        study.optimize(lambda values: values["x"], trials=50, engine=one)
        assert study.started == 50
        assert study.completed > 0


def test_different_failures_do_not_stop_the_study(whole, one):
    def function(values):
        if values["x"] == 0:
            raise ValueError("one")
        if values["x"] == 1:
            raise KeyError("two")
        if values["x"] == 2:
            return math.nan
        raise RuntimeError("from then on")

    whole.optimize(function, trials=20, engine=one)
    assert whole.failed == 20


def test_failures_of_one_kind_from_different_lines_do_not_stop_the_study(whole, one):
    def function(values):
        if values["x"] % 2:
            raise ValueError("odd")
        raise ValueError("even")

    whole.optimize(function, trials=10, engine=one)
    assert whole.failed == 10


def test_failures_alike_after_a_success_do_not_stop_the_study(whole, one):
    whole.optimize(lambda values: math.nan if values["x"] else 1.0, trials=10, engine=one)
    assert (whole.completed, whole.failed) == (1, 9)


def test_failures_alike_of_a_study_that_has_succeeded_before_do_not_stop_it(tmp_path, one):
    folder = tmp_path / "study"
    with Study(Space([Int("x", 0, 99)]), sampler="grid", directory=folder) as study:
        study.tell(study.ask(), 1.0)
    with Study.resume(folder) as study:
        study.optimize(lambda values: math.nan, trials=10, engine=one)
    assert study.failed == 9


# Limits


def test_earlier_trials_count_towards_the_limit(whole, two):
    for trials, expected in [(5, 5), (5, 5), (3, 5), (8, 8)]:
        whole.optimize(lambda values: 1.0, trials=trials, engine=two)
        assert (whole.completed, whole.started) == (expected, expected)


def test_interrupted_trials_are_tried_although_the_limit_is_reached(tmp_path, two):
    folder = tmp_path / "study"
    with Study(Space([Int("x", 0, 99)]), sampler="grid", directory=folder) as study:
        for _ in range(4):
            study.ask()
        study.tell(1, 0.0)
    with Study.resume(folder) as study:
        study.optimize(lambda values: values["x"] + 0.5, trials=3, engine=two)
        assert [trial.value for trial in study.trials] == [0.5, 0.0, 2.5, 3.5]


def test_the_time_ends_a_search(two):
    def function(values):
        import time

        time.sleep(0.02)
        return values["x"]

    study = Study([Float("x", 0, 1)])
    study.optimize(function, time=0.4, engine=two)
    assert study.stopped == "the time is up"
    assert study.completed >= 1
    assert study.started == study.finished + study.interrupted


def test_no_time_at_all(whole, two):
    assert whole.optimize(lambda values: 1.0, time=0, engine=two).started == 0


def test_a_space_is_exhausted(two):
    study = Study([Int("x", 1, 7)])
    study.optimize(lambda values: values["x"], trials=100, engine=two)
    assert study.stopped == "the space is exhausted: all 7 configurations were tried"
    assert sorted(trial.value for trial in study.trials) == [1, 2, 3, 4, 5, 6, 7]
    study.optimize(lambda values: values["x"], engine=two)
    assert study.started == 7


@pytest.mark.parametrize(
    ("parameter", "options", "which"),
    [(Float("x", 0, 1), {}, "of an infinite space"), (Int("x", 0, 9), {"allow_duplicates": True}, "with duplicates")],
)
def test_a_search_without_end_is_refused(two, parameter, options, which):
    study = Study([parameter], **options)
    with pytest.raises(InputError, match=f"a search {which}.* needs a limit: give the number of trials, the time"):
        study.optimize(lambda values: 1.0, engine=two)
    assert study.started == 0


def test_what_no_worker_has_is_refused_and_loses_nothing(whole, two):
    with pytest.raises(InputError, match=r"a trial asks for 99 cpus, this machine has 2: lower resources.cpu"):
        whole.optimize(lambda values: 1.0, trials=3, engine=two, resources=Resources(cpu=99))
    whole.optimize(lambda values: 1.0, trials=3, engine=two)
    assert (whole.completed, whole.interrupted) == (3, 0)


def test_what_cannot_be_sent_is_refused_and_loses_nothing(whole, two):
    lock = threading.Lock()
    with pytest.raises(InputError, match="cannot be sent to a worker"):
        whole.optimize(lambda values: lock.locked(), trials=3, engine=two)
    whole.optimize(lambda values: 1.0, trials=3, engine=two)
    assert (whole.completed, whole.interrupted) == (3, 0)


# Watching


def test_those_who_watch_see_every_trial_once(whole, two):
    seen, snapshots = Counter(), []

    def watch(snapshot):
        seen.update(trial.number for trial in snapshot.finished)
        snapshots.append((len(snapshot.running), snapshot.stopping))
        assert all(trial.result is not None for trial in snapshot.finished)
        assert (snapshot.study, snapshot.trials, snapshot.slots) == (whole, 30, 2)
        assert 0 <= snapshot.seconds_left <= PATIENCE

    watched(whole, two, lambda values: 1.0, watch, trials=30, seconds=PATIENCE)
    assert seen == Counter(range(30))
    assert snapshots[-1] == (0, "all 30 trials are done")


def test_progress_is_seen_while_a_trial_runs(whole, one):
    def function(values):
        import time

        from hpcompss.progress import publish

        publish(epoch=3, value=0.25)
        time.sleep(0.5)
        return 1.0

    seen = []

    def watch(snapshot):
        seen.extend((dict(future.progress), future.place) for _, future in snapshot.running)

    watched(whole, one, function, watch, trials=2)
    assert ({"epoch": 3, "value": 0.25}, "worker 1") in seen


def test_a_watcher_that_fails_ends_the_search_and_loses_nothing(whole, two):
    def watch(snapshot):
        raise RuntimeError("no screen")

    with pytest.raises(RuntimeError, match="no screen"):
        watched(whole, two, lambda values: 1.0, watch, trials=30)
    assert whole.started == whole.finished + whole.interrupted
    whole.optimize(lambda values: 1.0, trials=30, engine=two)
    assert whole.completed == 30


def test_a_task_that_returns_no_result_is_a_failed_trial(whole, two):
    class Graph(FunctionGraph):
        def submit(self, engine, study, trial, resources):
            task = engine.submit(lambda: None if trial.number else 3, resources=resources)
            return TrialTasks((task,), task)

    Loop(whole, two, Graph(None, "value"), StopRules(trials=2)).run()
    assert {trial.result.failure.reason for trial in whole.trials} == {
        "it returned None, no result",
        "it returned 3, no result",
    }


# On disk


def test_a_trial_is_on_disk_before_it_starts(tmp_path, two):
    folder = tmp_path / "study"
    path = str(folder / "journal.jsonl")

    def function(values):
        with open(path) as journal:
            return float(f'"configuration": {{"x": {values["x"]}}}' in journal.read())

    with Study(Space([Int("x", 0, 99)]), directory=folder) as study:
        study.optimize(function, trials=50, engine=two)
    assert {trial.value for trial in study.trials} == {1.0}


def test_what_happens_together_is_flushed_together(tmp_path, two, monkeypatch):
    turns, flushes = [], []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda number: flushes.append(real(number)))
    with Study(Space([Int("x", 0, 999)]), sampler="random", directory=tmp_path / "study") as study:
        watched(study, two, lambda values: 1.0, turns.append, trials=200)
    assert len(flushes) <= len(turns) + 3, "one for the description, the first trials, the reason of the end"
    assert events(tmp_path / "study", "ask") == events(tmp_path / "study", "tell") == 200


def test_a_full_disk_ends_the_search_and_loses_nothing(tmp_path, two, monkeypatch):
    real, writes = os.pwrite, []

    def write(number, data, place):
        writes.append(place)
        if len(writes) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(number, data, place)

    folder = tmp_path / "study"
    with Study(Space([Int("x", 0, 99)]), directory=folder) as study:
        with monkeypatch.context() as full:
            full.setattr(os, "pwrite", write)
            with pytest.raises(JournalError, match="No space left on device"):
                study.optimize(lambda values: 1.0, trials=40, engine=two)
        assert study.started == study.finished + study.interrupted
        study.optimize(lambda values: 1.0, trials=40, engine=two)
    assert events(folder, "ask") == events(folder, "tell") == 40
    assert Study.load(folder).completed == 40


# Signals


def sleeping(seconds):
    def function(values):
        import time

        time.sleep(seconds)
        return 1.0

    return function


def test_the_first_interrupt_lets_running_trials_finish(whole, two):
    handler = signal.getsignal(signal.SIGINT)
    numbers = []

    def watch(snapshot):
        if not numbers and all(future.started for _, future in snapshot.running):
            numbers.extend(trial.number for trial, _ in snapshot.running)
            os.kill(os.getpid(), signal.SIGINT)

    assert watched(whole, two, sleeping(0.3), watch, trials=50) == "interrupted"
    assert len(numbers) == 2
    assert all(whole.trials[number].value == 1.0 for number in numbers)
    assert whole.interrupted == 0
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("signals", [[signal.SIGINT, signal.SIGINT], [signal.SIGTERM]], ids=["interrupts", "term"])
def test_the_second_interrupt_ends_running_trials(whole, two, signals):
    left = list(signals)

    def watch(snapshot):
        if left and all(future.started for _, future in snapshot.running):
            os.kill(os.getpid(), left.pop(0))

    assert watched(whole, two, sleeping(PATIENCE), watch, trials=50) == "interrupted"
    assert (whole.interrupted, whole.finished) == (2, 0)
    whole.optimize(lambda values: 1.0, trials=10, engine=two)
    assert [trial.value for trial in whole.trials] == [1.0] * 10


def test_what_only_waits_for_a_worker_is_not_begun_after_an_interrupt(whole, one):
    def watch(snapshot):
        if len(snapshot.running) > 5:
            os.kill(os.getpid(), signal.SIGINT)
            watchers.clear()

    watchers = [watch]
    watched(whole, one, lambda values: 1.0, lambda snapshot: [each(snapshot) for each in watchers[:]], trials=100)
    assert whole.stopped == "interrupted"
    assert whole.interrupted > 0
    assert whole.started == whole.finished + whole.interrupted


def test_outside_the_main_thread_signals_are_left_alone(whole, two):
    reasons = []

    def work():
        reasons.append(watched(whole, two, lambda values: 1.0, trials=5))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(PATIENCE)
    assert reasons == ["all 5 trials are done"]
