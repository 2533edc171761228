from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcompss.engines.simulated import Simulated
from hpcompss.forecast import Forecast, expected_rest, time_to_finish
from hpcompss.graph import TrialTasks
from hpcompss.loop import Loop, Snapshot
from hpcompss.space import Float, Int, Space
from hpcompss.stopping import StopRules
from hpcompss.study import Study
from hpcompss.trial import Result, Stage

DURATIONS = st.lists(st.floats(0.1, 100), max_size=8)


# The time left


def test_each_trial_is_given_to_the_slot_that_is_free_first():
    assert time_to_finish(np.array([3.0, 1.0]), np.array([4.0, 2.0]), 0, 0.0, 2) == 5.0
    assert time_to_finish(np.array([3.0]), np.array([]), 2, 10.0, 2) == 13.0
    assert time_to_finish(np.array([3.0]), np.array([]), 0, 10.0, 4) == 3.0
    assert time_to_finish(np.array([]), np.array([]), 9, 60.0, 8) == 120.0
    # More with the engine than there are slots: the rest waits there.
    assert time_to_finish(np.array([5.0, 5.0, 5.0]), np.array([]), 0, 0.0, 2) == 10.0


@given(DURATIONS, DURATIONS, st.integers(0, 10**6), st.floats(0.1, 100), st.integers(1, 8))
def test_the_time_left_is_at_least_that_of_full_slots_and_at_most_one_trial_more(
    running, waiting, to_come, typical, slots
):
    left = time_to_finish(np.array(running), np.array(waiting), to_come, typical, slots)
    work, longest = sum(running) + sum(waiting) + to_come * typical, max([0.0, *running, *waiting, typical])
    assert left >= max([0.0, work / slots, *running, *waiting]) * (1 - 1e-9)
    assert left <= work / slots + longest * (1 + 1e-9) + 1e-6


def test_a_trial_is_expected_to_go_on_as_long_as_those_that_ran_so_long():
    drawn = np.exp(1.0 + 0.5 * np.random.default_rng(0).standard_normal(10**6))
    for elapsed in (0.0, 1.0, 3.0, 6.0):
        expected = (drawn[drawn > elapsed] - elapsed).mean()
        found = expected_rest(np.array([1.0]), np.array([0.5]), np.array([elapsed]))
        assert found[0] == pytest.approx(expected, rel=0.02)


def test_a_trial_that_overruns_is_not_taken_to_end_at_any_moment():
    rest = expected_rest(np.zeros(3), np.full(3, 0.3), np.array([1.0, 10.0, 1000.0]))
    assert np.isfinite(rest).all()
    assert (rest > [0.2, 0.3, 10.0]).all()


def told(trials, sampler="random", lag=None):
    """Returns a study of which trials ran ``x`` seconds, and is asked for two more."""
    study = Study(Space([Float("x", 1, 100, sampling="log")]), sampler=sampler, seed=0, lag=lag)
    for _ in range(trials):
        trial = study.ask()
        study.tell(trial, 0.5, seconds=float(trial.configuration["x"]))
    return study


def test_trials_are_predicted_by_those_that_have_finished():
    study = told(40)
    forecast = Forecast(study)
    assert forecast.tells_apart
    new = [study.ask() for _ in range(10)]
    seconds = [float(trial.configuration["x"]) for trial in new]
    assert forecast.longest_first(new) == sorted(new, key=lambda trial: -float(trial.configuration["x"]))
    assert forecast.time_left([(trial, 0.0) for trial in new], [], 0, 10) == pytest.approx(max(seconds), rel=0.1)
    ran = forecast.time_left([(new[0], 0.4 * seconds[0])], [], 0, 10)
    assert ran == pytest.approx(0.6 * seconds[0], rel=0.2)
    assert forecast.time_left([], new, 0, 1) == pytest.approx(sum(seconds), rel=0.1)
    mean = np.mean(study.history.seconds)
    assert forecast.time_left([], [], 1000, 2) == pytest.approx(500 * mean)
    assert forecast.seconds([new[0].configuration]) == pytest.approx(seconds[:1], rel=0.1)


def test_nothing_is_told_before_a_trial_has_finished():
    study = told(0)
    forecast, trials = Forecast(study), [study.ask(), study.ask()]
    assert forecast.time_left([(trials[0], 3.0)], [trials[1]], 10, 2) is None
    assert forecast.seconds([trials[0].configuration]) is None
    assert forecast.longest_first(trials) == trials
    assert not forecast.tells_apart
    study.tell(trials[0], 1.0, seconds=8.0)
    assert forecast.time_left([(trials[1], 0.0)], [], 3, 2) == pytest.approx(16.0, rel=0.01)


def test_where_all_have_failed_their_seconds_are_what_is_known():
    study = told(0)
    trial, other = study.ask(), study.ask()
    study.record(trial.number, Result(None, seconds=5.0))
    assert Forecast(study).time_left([(other, 0.0)], [], 3, 1) == pytest.approx(20.0)


def test_a_trial_of_the_lagged_order_is_predicted_before_its_configuration_is_known():
    study = Study(Space([Float("x", 1, 100)]), sampler="random", seed=0, lag=2)
    trial, other = study.begin(), study.begin()
    study.record(trial.number, Result(1.0, seconds=5.0), {"x": 7.0})
    assert Forecast(study).time_left([(other, 0.0)], [], 0, 1) == pytest.approx(5.0, rel=0.01)


def test_of_a_trial_in_stages_the_stage_counts():
    fidelity = {"scheduler": "asha", "min_epochs": 1, "max_epochs": 9, "eta": 3}
    study = Study(Space([Float("x", 0, 1)]), sampler="random", seed=0, fidelity=fidelity)
    trial, other = study.ask(), study.ask()
    study.tell(trial, 0.5, seconds=2.0)
    forecast = Forecast(study)
    # An epoch takes 2 s, and so the second stage 4 s.
    assert forecast.time_left([(other, 0.0)], [], 0, 1) == pytest.approx(2.0, rel=0.01)
    later = dataclasses.replace(other, stage=Stage(epochs=3, since=1))
    assert forecast.time_left([(later, 0.0)], [], 0, 1) == pytest.approx(4.0, rel=0.01)


@pytest.mark.parametrize(
    ("trials", "seconds_left", "stopping", "left"),
    [(12, None, "", 8.0), (12, 3.0, "", 3.0), (None, 3.0, "", 3.0), (None, None, "", None), (12, None, "enough", 0.0)],
)
def test_the_time_left_is_bounded_by_the_limit(trials, seconds_left, stopping, left):
    study = Study(Space([Float("x", 0, 1)]), sampler="random", seed=0)
    for _ in range(4):
        study.tell(study.ask(), 1.0, seconds=2.0)
    snapshot = Snapshot(study, [], [], trials, seconds_left, 2, stopping, forecast=Forecast(study))
    assert snapshot.time_left == (left if left is None else pytest.approx(left))


# The order


class Costly:
    """Trials of ``cost(configuration)`` virtual seconds, and in which order they were submitted."""

    def __init__(self, cost):
        self._cost = cost
        self.submitted = []

    def submit(self, engine, study, trial, resources):
        self.submitted.append(trial.number)
        result = Result(1.0, seconds=self._cost(trial.configuration))
        future = engine.submit(given, result, resources=resources)
        return TrialTasks((future,), future)

    def submit_suggested(self, engine, study, number, state, resources):
        raise NotImplementedError

    def settle(self, study, finished):
        pass


def given(result):
    return result


def run(study, graph, workers, **rules):
    """Returns the virtual seconds of a search."""
    with Simulated(workers, lambda function, result: result.seconds, cost=0.0, submission=0.0) as engine:
        Loop(study, engine, graph, StopRules(**rules)).run()
        return engine.clock


GRID = Space([Int("layers", 1, 6), Int("size", 1, 10)])


def lognormal(values):
    """Returns seconds whose logarithm deviates by about 0.9, from 8 to some 300."""
    return 8 * 1.35 ** float(values["layers"]) * 1.22 ** float(values["size"])


def test_long_trials_start_first(monkeypatch):
    graph, study = Costly(lognormal), Study(GRID, sampler="grid", seed=0)
    longest_first = run(study, graph, 8)
    assert study.completed == 60
    assert sorted(graph.submitted) == list(range(60)) != graph.submitted
    work = sum(lognormal(trial.configuration) for trial in study.trials)
    monkeypatch.setattr(Forecast, "tells_apart", False)
    in_turn = run(Study(GRID, sampler="grid", seed=0), Costly(lognormal), 8)
    assert longest_first < 1.05 * work / 8
    assert longest_first < 0.9 * in_turn


def staged(**rules):
    """Returns the order in which the best nine of 27 trials went on, as seconds, and when the last one had finished."""
    fidelity = {"scheduler": "successive_halving", "min_epochs": 1, "max_epochs": 27}
    study, graph = Study(GRID, sampler="random", seed=0, fidelity=fidelity), Costly(lognormal)
    took = run(study, graph, 4, trials=27, **rules)
    assert len(graph.submitted) == 27 + 9 + 3 + 1
    return [lognormal(study.trials[number].configuration) for number in graph.submitted[27:36]], took


def test_of_those_that_go_on_together_long_ones_start_first():
    seconds, took = staged()
    ranks = np.argsort(np.argsort(seconds))
    assert np.corrcoef(ranks, np.arange(9))[0, 1] < -0.9
    by_promise, longer = staged(patience=100)  # results may end it, so the most promising go first
    assert sorted(by_promise) == sorted(seconds)
    assert by_promise != seconds
    assert took < longer


def halved(seconds):
    """Returns a study with successive halving of which nine trials took so many seconds an epoch each."""
    fidelity = {"scheduler": "asha", "min_epochs": 1, "max_epochs": 9}
    study = Study(GRID, sampler="random", seed=0, fidelity=fidelity)
    for trial, each in zip([study.ask() for _ in seconds], seconds, strict=True):
        study.record(trial.number, Result(float(trial.number), seconds=each, budget=1))
    return study


def test_what_a_trial_took_tells_how_long_it_goes_on():
    study = halved([10.0, 1.0, 4.0] + [2.0] * 6)
    forecast = Forecast(study)
    due = [dataclasses.replace(study.trials[each], stage=Stage(3, since=1)) for each, _ in study.due()]
    assert [each.number for each in due] == [0, 1, 2]
    assert [each.number for each in forecast.longest_first(due)] == [0, 2, 1]
    assert [[each.number for each in forecast.in_time(due, left)] for left in (21, 19, 7, 1)] == [
        [0, 1, 2], [1, 2], [1], []
    ]  # fmt: skip


def test_what_would_not_finish_before_the_deadline_does_not_go_on():
    study = halved([10.0, 1.0, 4.0] + [2.0] * 6)
    assert study.suggest(order=lambda trials: trials[1:]).number == 1
    assert study.suggest(order=lambda trials: []).number == 9  # a new one
    assert study.suggest(last=True, order=lambda trials: []).number == 0


def test_only_a_deadline_keeps_trials_from_going_on(monkeypatch):
    asked = []
    monkeypatch.setattr(Forecast, "in_time", lambda self, trials, left: asked.append(left) or [])
    fidelity = {"scheduler": "asha", "min_epochs": 1, "max_epochs": 9}
    for rules in ({"deadline": 1000.0}, {"seconds": 1000.0}):
        study, graph = Study(GRID, sampler="random", seed=0, fidelity=fidelity), Costly(lognormal)
        run(study, graph, 2, trials=9, **rules)
        went_on = len(graph.submitted) - 9
        assert went_on > 0
        # With a deadline only once no new trial may begin, for then there is nothing better to do.
        assert (graph.submitted[:9] == list(range(9))) == ("deadline" in rules)
    assert asked
    assert all(990 < left <= 1000 for left in asked)


@pytest.mark.parametrize(
    ("workers", "settings", "rules"),
    [
        (1, {}, {}),
        (4, {}, {"patience": 100}),
        (4, {}, {"deadline": 1e6}),
        (4, {"sampler": "gp"}, {"trials": 14}),
    ],
    ids=["one slot", "results may end it", "the time may end it", "a sampler that learns"],
)
def test_else_they_start_in_the_order_of_their_numbers(workers, settings, rules):
    graph, study = Costly(lognormal), Study(GRID, **{"sampler": "grid", "seed": 0, **settings})
    run(study, graph, workers, **rules)
    assert graph.submitted == sorted(graph.submitted)


def test_the_longest_of_the_interrupted_ones_starts_first_and_none_is_lost(tmp_path):
    with Study(GRID, sampler="gp", seed=0, directory=tmp_path / "s") as study:
        run(study, Costly(lognormal), 4, trials=20)
        waiting = {study.ask().number: lognormal(study.trials[-1].configuration) for _ in range(8)}
    with Study.resume(tmp_path / "s") as resumed:
        graph = Costly(lognormal)
        run(resumed, graph, 2, trials=28)
        assert resumed.completed == 28
        assert sorted(graph.submitted) == sorted(waiting)
        longest = sorted(waiting, key=waiting.__getitem__)[-2:]
        assert set(graph.submitted[:2]) == set(longest)


def test_what_was_asked_ahead_is_tried_again_after_an_interruption(tmp_path, monkeypatch):
    class Ends(Costly):
        def settle(self, study, finished):
            if study.finished >= 12:
                raise KeyboardInterrupt

    with Study(GRID, sampler="grid", seed=0, directory=tmp_path / "s") as study:
        with pytest.raises(KeyboardInterrupt):
            run(study, Ends(lognormal), 4)
        assert study.interrupted > 4
        assert study.started == study.finished + study.interrupted
    with Study.resume(tmp_path / "s") as resumed:
        run(resumed, Costly(lognormal), 4)
        assert resumed.completed == 60
        assert len({tuple(trial.configuration.items()) for trial in resumed.trials}) == 60
