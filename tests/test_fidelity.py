"""Studies whose trials are trained in stages: ask and tell, the journal, the loop, the sampler's history."""

from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest

from hpcompss.engines.simulated import Simulated
from hpcompss.errors import InputError
from hpcompss.fidelity import Waiting
from hpcompss.graph import FunctionGraph
from hpcompss.loop import Loop
from hpcompss.objectives import Objective
from hpcompss.report.export import as_csv, as_plain
from hpcompss.samplers import History
from hpcompss.space import Float, Int, Space
from hpcompss.stopping import StopCheck, StopRules
from hpcompss.study import Study
from hpcompss.trial import Failure, FailureKind, Result, Trial, TrialState
from hpcompss.workflow import load_workflow, make_workflow

SCHEDULERS = ["successive_halving", "hyperband", "asha", "median", "extrapolation"]


def space():
    return Space([Float("x", 0, 1), Int("y", 0, 9)])


def made(scheduler="asha", **settings):
    fidelity = {"scheduler": scheduler, "min_epochs": 1, "max_epochs": 9}
    return Study(space(), **{"sampler": "random", "seed": 3, "metric": "loss", "fidelity": fidelity, **settings})


def train(values, epochs):
    return {"loss": (values["x"] - 0.3) ** 2 + 1 / epochs, "epochs": float(epochs)}


def simulated(workers=4):
    def seconds(function, result):
        return result.metrics.get("epochs", 1.0) if isinstance(result, Result) else 0.0

    return Simulated(workers, seconds, cost=0.0, submission=0.0)


def searched(study, trials, engine=None, **rules):
    with engine or simulated() as where:
        Loop(study, where, FunctionGraph(train, study.metric), StopRules(trials, **rules)).run()
    return study


def records(folder, event):
    lines = (folder / "journal.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["event"] == event]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_any_sampler_feeds_any_scheduler(scheduler, sampler):
    study = searched(made(scheduler, sampler=sampler), 20)
    assert study.stopped == "all 20 trials are done"
    assert study.finished == study.completed == 20
    budgets = [trial.result.budget for trial in study.trials]
    assert max(budgets) == 9
    assert study.best.result.budget == 9
    assert len(study.history) == 20
    assert sorted(study.history.fidelities) == sorted(budget / 9 for budget in budgets)


def test_ask_hands_out_stages_and_waits():
    study = made("successive_halving")
    trials = [study.ask() for _ in range(9)]
    assert {(trial.stage.epochs, trial.stage.since) for trial in trials} == {(1, 0)}
    for trial in trials:
        study.tell(trial, train(trial.configuration, 1))
    again = [study.ask() for _ in range(3)]
    assert [(trial.stage.epochs, trial.stage.since) for trial in again] == [(3, 1)] * 3
    best = sorted(trials, key=lambda trial: train(trial.configuration, 1)["loss"])[:3]
    assert [trial.number for trial in again] == [trial.number for trial in best]
    assert study.pending == []
    assert study.completed == 9
    with pytest.raises(Waiting):
        study.suggest(last=True)


def test_a_study_that_is_loaded_is_as_it_was(tmp_path):
    study = searched(made(directory=tmp_path / "s"), 20)
    study.close()
    loaded = Study.load(tmp_path / "s")
    assert loaded.trials == study.trials
    assert loaded.best == study.best
    assert loaded.scheduler.rungs == study.scheduler.rungs
    assert np.array_equal(loaded.history.losses, study.history.losses)
    continued = records(tmp_path / "s", "continue")
    assert continued and {record["budget"] for record in continued} == {3, 9}
    assert len(records(tmp_path / "s", "tell")) == 20 + len(continued)


def test_a_stage_that_was_interrupted_is_done_again_and_nothing_else(tmp_path):
    searched(made(directory=tmp_path / "s"), 20).close()
    journal = tmp_path / "s" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    last = max(place for place, line in enumerate(lines) if '"budget": 3' in line and '"tell"' in line)
    lost = json.loads(lines[last])
    journal.write_text("".join(lines[:last]))
    with Study.resume(tmp_path / "s") as study:
        trial = study.trials[lost["number"]]
        assert (trial.state, trial.result.budget, study.interrupted) == (TrialState.COMPLETE, 1, 0)
        before = len(lines[:last])
        searched(study, 20)
        assert study.trials[lost["number"]].result.budget >= 3
    again = [json.loads(line) for line in journal.read_text().splitlines()[before:]]
    assert next(each for each in again if each["event"] == "tell" and each["number"] == lost["number"])["budget"] == 3


def test_more_trials_on_resume(tmp_path):
    searched(made(directory=tmp_path / "s"), 12).close()
    with Study.resume(tmp_path / "s") as study:
        searched(study, 30)
        assert study.finished == 30
        assert study.stopped == "all 30 trials are done"


def test_what_fails_when_it_goes_on_keeps_what_it_had():
    study = made("successive_halving")
    for trial in [study.ask() for _ in range(9)]:
        study.tell(trial, train(trial.configuration, 1))
    trial = study.ask()
    study.tell(trial, failure="out of memory")
    known = study.trials[trial.number]
    assert (known.state, known.result.budget) == (TrialState.COMPLETE, 1)
    assert known.result.warnings == ("training it up to epoch 3 failed: out of memory",)
    assert (study.failed, study.completed) == (0, 9)
    others = [study.ask() for _ in range(2)]
    for other in others:
        study.tell(other, train(other.configuration, 3))
    assert study.ask().number == others[0].number


def test_the_seconds_of_stages_are_added_up():
    study = made("successive_halving")
    for trial in [study.ask() for _ in range(9)]:
        study.record(trial.number, Result(trial.configuration["x"], seconds=2.0))
    trial = study.ask()
    study.record(trial.number, Result(0.5, seconds=5.0))
    assert study.trials[trial.number].result.seconds == 7.0


def test_a_value_that_gets_worse_may_lose_the_lead():
    study = made("successive_halving")
    trials = [study.ask() for _ in range(9)]
    for trial in trials:
        study.tell(trial, float(trial.number))
    assert study.best.number == 0
    trial = study.ask()
    assert trial.number == 0
    assert study.best.number == 0
    study.tell(trial, 5.0)
    assert study.best.number == 1


def test_constraints_of_trials_that_go_on():
    study = made("successive_halving", constraints={"size": {"max": 5}})
    for trial in [study.ask() for _ in range(9)]:
        study.tell(trial, {"loss": float(trial.number), "size": 9.0 if trial.number < 3 else 1.0})
    assert (study.feasible, study.best.number) == (6, 3)
    trial = study.ask()
    study.tell(trial, {"loss": 0.5, "size": 9.0})
    assert (trial.number, study.feasible, study.best.number) == (3, 5, 4)


def test_the_curves_of_the_stages_are_one(tmp_path):
    study = made("successive_halving", directory=tmp_path / "s")
    for trial in [study.ask() for _ in range(9)]:
        study.record(trial.number, Result(1.0 * trial.number, curves={"loss": [1.0]}, budget=1))
    trial = study.ask()
    study.record(trial.number, Result(0.5, curves={"loss": [0.7, 0.5]}, budget=3))
    study.flush()
    assert as_plain(study)["trials"][trial.number]["curves"] == {"loss": [1.0, 0.7, 0.5]}
    trial = study.ask()
    study.record(trial.number, Result(0.5, curves={"loss": [0.9, 0.8, 0.6]}, budget=3))  # it had to begin anew
    study.flush()
    assert as_plain(study)["trials"][trial.number]["curves"] == {"loss": [0.9, 0.8, 0.6]}
    rows = list(csv.DictReader(io.StringIO(as_csv(study))))
    assert [row["budget"] for row in rows].count("3") == 2
    study.close()


def test_shares_of_the_data():
    fidelity = {"scheduler": "successive_halving", "min_share": 0.1, "eta": 3}
    study = Study(space(), sampler="random", seed=1, metric="loss", fidelity=fidelity)
    shares = []

    def train_on(values, share):
        shares.append(share)
        return {"loss": values["x"], "epochs": 1.0}

    with simulated() as engine:
        Loop(study, engine, FunctionGraph(train_on, "loss"), StopRules(9)).run()
    assert sorted({round(share, 3) for share in shares}) == [0.1, 0.316, 1.0]
    assert study.best.result.budget == 1.0


def test_losses_at_less_than_the_full_budget_are_adjusted():
    history = History(space(), "minimize")

    def told(number, value, share):
        result = Result(value)
        history.append(Trial(number, {"x": number / 10, "y": 0}, TrialState.COMPLETE, result), fidelity=share)

    for number, value in enumerate([0.9, 0.8, 0.7, 0.95]):
        told(number, value, 0.1)
    assert history.losses.tolist() == [0.9, 0.8, 0.7, 0.95]
    told(0, 0.6, 0.5)
    told(1, 0.6, 0.5)
    told(1, 0.5, 1.0)
    # From 0.1 to 0.5 both lead to 0.6, which makes a slope of a sixth; from 0.5 to 1 it is a half, for one is known.
    assert np.allclose(history.losses, [0.5, 0.5, 0.5 + (0.7 - 0.85) / 12, 0.5 + (0.95 - 0.85) / 12])
    assert history.fidelities.tolist() == [0.5, 1.0, 0.1, 0.1]
    assert history.best == 0.5
    assert np.allclose(history.copy().losses, history.losses)


SIZE = {"metric": "size", "direction": "minimize"}


def test_the_front_follows_trials_that_go_on(tmp_path):
    study = made("successive_halving", also=[SIZE], directory=tmp_path / "s")
    for trial in [study.ask() for _ in range(9)]:
        study.tell(trial, {"loss": float(trial.number), "size": 9.0 - trial.number})
    first = study.ask()
    assert (first.number, study.front_numbers) == (0, [*range(9)])
    study.tell(first, {"loss": 1.5, "size": 9.0})
    assert study.front_numbers == [*range(1, 9)]
    second = study.ask()
    study.give_back(second.number)
    assert (second.number, study.front_numbers) == (8, [*range(1, 9)])  # the other end of the front
    study.tell(study.ask(), {"loss": 0.5, "size": 1.0})
    assert (study.front_numbers, study.front_points, study.best.number) == ([8], [(0.5, 1.0)], 8)
    study.tell(study.ask(), failure="out of memory")
    assert (study.front_numbers, study.completed) == ([8], 9)
    assert study.history.front == study.front_points
    study.close()
    loaded = Study.load(tmp_path / "s")
    assert (loaded.front_numbers, loaded.hypervolume) == (study.front_numbers, study.hypervolume)


def test_what_is_infeasible_when_it_goes_on_leaves_the_front():
    study = made("successive_halving", also=[SIZE], constraints={"size": {"max": 9}})
    for trial in [study.ask() for _ in range(9)]:
        study.tell(trial, {"loss": float(trial.number), "size": 9.0 - (trial.number == 1)})
    assert study.front_numbers == [0, 1]
    study.tell(study.ask(), {"loss": 0.0, "size": 10.0})
    assert study.front_numbers == [1]


def small_and_large(values, epochs):
    """The smaller the worse, so that all are on the front; and each again, a little worse in both."""
    size = float(values["y"] // 2)
    behind = values["y"] % 2
    return {"loss": 10 - size + 0.1 * behind, "size": size + 0.1 * behind, "epochs": float(epochs)}


@pytest.mark.parametrize(
    ("settings", "trials"),
    [
        ({"scheduler": "successive_halving"}, 9),
        ({"scheduler": "successive_halving", "lag": 2}, 9),
        ({"scheduler": "asha"}, 27),
    ],
    ids=["brackets", "lagged", "asha"],
)
def test_the_front_goes_on_and_not_the_best_in_the_first_objective_alone(settings, trials):
    scheduler, rest = settings["scheduler"], {key: value for key, value in settings.items() if key != "scheduler"}
    fidelity = {"scheduler": scheduler, "min_epochs": 1, "max_epochs": 3, "eta": 3}
    one = Space([Int("y", 0, trials - 1)])
    study = Study(one, sampler="random", seed=3, metric="loss", also=[SIZE], fidelity=fidelity, **rest)
    with simulated() as engine:
        Loop(study, engine, FunctionGraph(small_and_large, "loss"), StopRules(trials)).run()
    went_on = [trial for trial in study.trials if trial.result.budget == 3]
    assert went_on
    if scheduler == "asha":
        sizes = [trial.configuration["y"] // 2 for trial in went_on]
        assert min(sizes) < 4 and max(sizes) > 8
    assert sum(trial.configuration["y"] % 2 for trial in went_on) <= len(went_on) / 3


@pytest.mark.parametrize("scheduler", ["median", "extrapolation"])
def test_what_leads_in_another_objective_is_not_stopped_for_its_curve(scheduler):
    study = made(scheduler, also=[SIZE])

    def told(loss, size, epochs):
        trial = study.ask()
        study.tell(trial, {"loss": loss, "size": size})
        return trial

    while sum(each.result.budget == 9 for each in study.trials if each.result) < 8:
        told(0.1, 5.0, 9)
    while study.due():
        told(0.1, 5.0, 9)
    small = told(0.9, 1.0, 1)
    assert [number for number, _ in study.due()] == [small.number]
    told(0.9, 1.0, 2)
    while study.due():
        told(0.9, 1.0, 9)
    assert study.trials[small.number].result.budget == 9
    large = told(0.9, 9.0, 1)
    assert study.trials[large.number].result.budget == 1
    assert scheduler == "extrapolation" or not study.due()


@pytest.mark.parametrize("scheduler", ["asha", "hyperband"])
@pytest.mark.parametrize(("sampler", "per"), [("tpe", None), ("gp", None), ("gp", "second"), ("tpe", "second")])
def test_any_scheduler_goes_with_several_objectives(tmp_path, scheduler, sampler, per):
    def train(values, epochs):
        return {"loss": (values["x"] - 0.3) ** 2 + 1 / epochs, "size": values["x"] ** 2, "epochs": float(epochs)}

    study = made(scheduler, sampler=sampler, per=per, also=[SIZE], directory=tmp_path / "s")
    with simulated() as engine:
        Loop(study, engine, FunctionGraph(train, "loss"), StopRules(20)).run()
    study.close()
    reached = [(*study.point(each).values(), each.number) for each in study.trials]
    front = [
        number
        for loss, size, number in reached
        if not any(a <= loss and b <= size and (a, b, other) < (loss, size, number) for a, b, other in reached)
    ]
    assert sorted(study.front_numbers) == front and study.best.number in front
    loaded = Study.load(tmp_path / "s")
    assert loaded.front == study.front
    assert np.array_equal(loaded.history.points, study.history.points)
    rows = csv.DictReader(io.StringIO(as_csv(study)))
    assert [int(row["number"]) for row in rows if row["front"]] == front


def test_a_weighting_of_objectives_is_adjusted_once():
    history = History(space(), "minimize", also=[Objective("size", "minimize")])

    def told(number, value, size, share):
        result = Result(value, {"size": size})
        history.append(Trial(number, {"x": number / 10, "y": 0}, TrialState.COMPLETE, result), fidelity=share)

    told(0, 0.9, 4.0, 0.1)
    told(1, 0.8, 7.0, 0.1)
    told(0, 0.6, 3.0, 1.0)
    assert np.allclose(history.points, [[0.6, 3.0], [0.55, 7.0]])
    view = history.with_losses(np.array([1.0, 2.0]))
    assert view.losses.tolist() == [1.0, 2.0]
    assert np.allclose(view.points, history.points)
    assert history.front == [(0.6, 3.0)]  # what was reached, not what is expected of more training


def test_a_trial_joins_the_front_again_only_by_getting_better():
    history = History(space(), "minimize", also=[Objective("size", "minimize")])
    check = StopCheck(StopRules(patience=1), history)

    def told(number, value, size):
        result = Result(value, {"size": size})
        check.add(Trial(number, {"x": number / 10, "y": 0}, TrialState.COMPLETE, result))

    told(0, 0.9, 4.0)
    told(1, 0.9, 5.0)
    assert "joined the front" in check.reason()
    told(0, 0.9, 4.5)
    assert "joined the front" in check.reason()
    told(0, 0.8, 4.5)
    assert check.reason() == ""


def test_patience_counts_trials_not_stages():
    study = made("successive_halving", sampler="random")
    searched(study, 200, simulated(1), patience=15)
    assert "no improvement in the last 15 trials" in study.stopped


def test_the_target_may_be_reached_when_a_trial_goes_on():
    study = searched(made("asha"), 200, simulated(1), target=0.2)
    assert study.stopped.startswith("the target 0.2 is reached")
    assert study.best.result.budget == 9


def test_it_may_be_in_the_lagged_order_too():
    study = searched(made("successive_halving", lag=4), 200, simulated(2), target=0.2)
    assert study.stopped.startswith("the target 0.2 is reached")
    assert study.best.result.budget == 9
    assert study.finished < 100


def test_a_finite_space_is_searched_to_its_end():
    fidelity = {"scheduler": "successive_halving", "min_epochs": 1, "max_epochs": 9}
    study = Study(Space([Int("x", 0, 4)]), sampler="random", seed=1, metric="loss", fidelity=fidelity)
    searched(study, None)
    assert study.finished == 5
    assert study.stopped == "the space is exhausted: all 5 configurations were tried"
    assert study.best.result.budget == 9


def test_failed_first_trials_and_failed_stages_reach_the_history_once():
    study = made("successive_halving")
    for trial in [study.ask() for _ in range(9)]:
        if trial.number < 2:
            study.record(trial.number, Result(None, failure=Failure(FailureKind.EXCEPTION, "no")))
        else:
            study.tell(trial, float(trial.number))
    trial = study.ask()
    study.tell(trial, failure="later")
    assert len(study.history) == 9
    assert int(study.history.failed.sum()) == 2
    assert math.isfinite(study.history.losses[trial.number])


def test_asha_keeps_many_workers_busy():
    study = made("asha", sampler="random")
    with simulated(64) as engine:
        Loop(study, engine, FunctionGraph(train, "loss"), StopRules(1000)).run()
        starts = sorted(begin for begin, _ in engine.spans)
        until = starts[-1]
        busy = sum(min(end, until) - begin for begin, end in engine.spans)
    assert busy / (64 * until) > 0.95


# The workflow


def function_workflow(**sections):
    space = {"x": {"type": "Float", "min_value": 0.0, "max_value": 1.0}}
    return {"function": train, "space": space, "objective": "loss", "search": {"trials": 27}, **sections}


def test_the_workflow_states_the_scheduler():
    made = make_workflow(function_workflow(fidelity={"scheduler": "asha", "max_epochs": 27, "eta": 3}))
    assert made.scheduling() == {"scheduler": "asha", "max_epochs": 27, "eta": 3}
    assert make_workflow(function_workflow(fidelity="none")).scheduling() is None
    epochs = make_workflow(function_workflow(fidelity="hyperband", training={"epochs": 27}))
    assert epochs.scheduling() == {"scheduler": "hyperband", "max_epochs": 27}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "fidelity: {scheduler: ahsa, max_epochs: 9}",
            "unknown scheduler 'ahsa'; did you mean 'asha'?",
        ),
        ("fidelity: {scheduler: asha, max_epoch: 9}", "unknown key 'max_epoch'; did you mean 'max_epochs'?"),
        ("fidelity: {scheduler: asha, max_epochs: 9, eta: 1}", "fidelity.eta: eta is a number above 1"),
        ("fidelity: {scheduler: asha, min_epochs: 10, max_epochs: 9}", "min_epochs (10) is above max_epochs (9)"),
        ("fidelity: {scheduler: asha, min_epochs: 20}\ntraining: {epochs: 12}", "is above training.epochs (12), which"),
        ("fidelity: {scheduler: median, max_epochs: 9, eta: 3}", "the median scheduler has no option 'eta'"),
        (
            "fidelity: {scheduler: hyperband, max_epochs: 81}",
            "needs at least 81 trials to train one of them to the end",
        ),
        ("fidelity: asha", "the greatest number of epochs is not known: give max_epochs"),
        ("fidelity: {scheduler: asha, max_epochs: 9}\ntraining: {epochs: 8}", "is not what training.epochs says (8)"),
    ],
)
def test_bad_workflows_name_the_line(tmp_path, line, message):
    file = tmp_path / "study.yaml"
    (tmp_path / "f.py").write_text("def f(values, epochs): return values['x']")
    file.write_text(
        "function: f.py:f\nspace: {x: {type: Float, min_value: 0, max_value: 1}}\nobjective: {metric: loss}\n"
        f"search: {{trials: 30}}\n{line}\n"
    )
    with pytest.raises(InputError) as caught:
        load_workflow(file)
    assert message in str(caught.value)
    assert f"{file}:5" in str(caught.value)


@pytest.mark.parametrize("scheduler", ["asha", "median", "extrapolation"])
def test_what_decides_as_trials_report_is_not_for_the_lagged_order(scheduler):
    with pytest.raises(InputError, match="take successive_halving or hyperband, or order: eager"):
        made(scheduler, lag=4)


# The lagged order, in which brackets are submitted ahead


def outcomes(study):
    return [(trial.configuration, trial.result.budget, trial.value) for trial in study.trials]


@pytest.mark.parametrize("scheduler", ["successive_halving", "hyperband"])
def test_brackets_that_are_submitted_ahead_depend_on_seed_and_lag_alone(scheduler):
    found = [
        outcomes(searched(made(scheduler, lag=4, sampler="tpe"), 40, simulated(workers))) for workers in (1, 3, 16)
    ]
    assert found[0] == found[1] == found[2]
    eager = searched(made(scheduler, sampler="random"), 40)
    lagged = searched(made(scheduler, lag=4, sampler="random"), 40)
    assert outcomes(eager) == outcomes(lagged)


def test_a_whole_bracket_is_submitted_ahead():
    """The engine has the tasks of all levels before the first one is done."""
    study = made("successive_halving", lag=2)
    with simulated(2) as engine:
        loop = Loop(study, engine, FunctionGraph(train, "loss"), StopRules(9))
        loop._fill()
        stages = [trial.stage.epochs for trial, _ in loop._running.values()]
        loop._end(list(loop._running))
    assert sorted(stages) == [1] * 9 + [3] * 3 + [9]


@pytest.mark.parametrize("kept", [0, 6, 9, 11, 14, 20])
def test_brackets_that_are_resumed_are_what_they_would_have_been(tmp_path, kept):
    settings = {"lag": 4, "sampler": {"name": "tpe", "startup_trials": 4}}
    whole = searched(made("successive_halving", **settings, directory=tmp_path / "s"), 27)
    expected = outcomes(whole)
    whole.close()
    journal = tmp_path / "s" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    told = [place for place, line in enumerate(lines) if '"event": "tell"' in line]
    journal.write_text("".join(lines[: told[kept]]))
    with Study.resume(tmp_path / "s") as study:
        searched(study, 27)
        assert outcomes(study) == expected
    told = [(each["number"], each["budget"]) for each in records(tmp_path / "s", "tell")]
    assert len(told) == len(set(told))


def test_failed_trials_leave_places_that_nobody_takes():
    def fails(values, epochs):
        if values["x"] < 0.75 and epochs == 1:
            raise ValueError("no")
        return train(values, epochs)

    study = made("successive_halving", lag=4, initial=[{"x": 0.9}])
    with simulated() as where:
        Loop(study, where, FunctionGraph(fails, "loss"), StopRules(27)).run()
    assert study.finished == 27
    assert 0 < study.failed < 27
    assert study.best.result.budget == 9


def test_a_last_bracket_that_is_not_full_in_the_lagged_order():
    study = searched(made("successive_halving", lag=4), 13)
    assert sorted(trial.result.budget for trial in study.trials) == [1] * 9 + [3] * 2 + [9] * 2
    assert study.stopped == "all 13 trials are done"
