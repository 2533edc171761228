from __future__ import annotations

import json
import os
import signal

import pytest

from hpcompss.engines import Local
from hpcompss.errors import HpcompssError, InputError
from hpcompss.samplers import History, make_sampler
from hpcompss.samplers.base import Sampler
from hpcompss.samplers.random import Random
from hpcompss.space import Float, Int, Space
from hpcompss.study import Study
from hpcompss.tasks.reduce import reduce_trial
from hpcompss.tasks.suggest import EXHAUSTED, SearchState, suggest
from hpcompss.trial import Failure, FailureKind, Resources, Result, Trial, TrialState
from hpcompss.workflow import make_workflow

SAMPLER = {"name": "hyperopt", "startup_trials": 5}
LAG = 4


@pytest.fixture(scope="module", params=[1, 2])
def engine(request):
    with Local(workers=request.param, cores=2) as engine:
        yield engine


@pytest.fixture(scope="module")
def two():
    with Local(workers=2, cores=2) as engine:
        yield engine


def space():
    return Space([Int("x", 0, 99), Float("y", 0, 1)])


def study(**settings):
    return Study(space(), **{"sampler": SAMPLER, "seed": 3, "lag": LAG, **settings})


def slow(values):
    import random
    import time

    time.sleep(random.random() * 0.02)
    if values["x"] % 7 == 0:
        raise ValueError("seven")
    return (values["x"] - 30) ** 2 + values["y"]


def configurations(of):
    return [trial.configuration for trial in of.trials]


def in_order(trials=24):
    """Returns the configurations that the lagged order means, made one after the other without any engine."""
    sampler, known = make_sampler(SAMPLER, space(), seed=3), []
    state = SearchState.after(sampler, History(space(), "minimize"), [], LAG)
    for number in range(trials):
        state = suggest(state, known[number - LAG] if number >= LAG else None)
        values = state.configuration
        value = None if values["x"] % 7 == 0 else (values["x"] - 30) ** 2 + values["y"]
        failure = Failure(FailureKind.EXCEPTION, "seven") if value is None else None
        known.append(reduce_trial(state, Result(value, failure=failure)))
        assert len(state.history) == max(0, number - LAG + 1)
        assert len(state.pending) == min(number + 1, LAG)
    return [trial.configuration for trial in known]


def test_the_configurations_depend_on_seed_and_lag_alone(engine):
    found = study().optimize(slow, trials=24, engine=engine)
    assert configurations(found) == in_order()
    assert found.failed == sum(values["x"] % 7 == 0 for values in in_order())
    assert found.completed + found.failed == 24


def test_a_resumed_search_goes_on_as_if_it_had_never_stopped(two, tmp_path):
    study(directory=tmp_path / "s").optimize(slow, trials=9, engine=two).close()
    with Study.resume(tmp_path / "s") as resumed:
        assert resumed.lag == LAG
        resumed.optimize(slow, trials=24, engine=two)
    assert configurations(Study.load(tmp_path / "s")) == in_order()


def test_trials_that_were_lost_with_the_master_are_suggested_again(two, tmp_path):
    study(directory=tmp_path / "s").optimize(slow, trials=12, engine=two).close()
    journal = tmp_path / "s" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    lost = [line for line in lines if '"tell"' in line and json.loads(line)["number"] in (3, 7, 8)]
    journal.write_text("".join(line for line in lines if line not in lost and '"stop"' not in line))
    with Study.resume(tmp_path / "s") as resumed:
        assert resumed.interrupted == 3
        resumed.optimize(slow, trials=24, engine=two)
    assert configurations(Study.load(tmp_path / "s")) == in_order()


def test_a_search_whose_time_is_up_ends_and_goes_on(two, tmp_path):
    begun = study(directory=tmp_path / "s").optimize(slow, time=0.1, engine=two)
    assert begun.stopped == "the time is up"
    begun.close()
    trials = max(24, begun.started)  # a fast machine makes more of them in that time
    with Study.resume(tmp_path / "s") as resumed:
        resumed.optimize(slow, trials=trials, engine=two)
        assert resumed.completed + resumed.failed == trials
    assert configurations(Study.load(tmp_path / "s"))[:24] == in_order()


def test_the_journal_has_a_trial_before_its_configuration_is_known(two, tmp_path):
    study(directory=tmp_path / "s").optimize(slow, trials=3, engine=two).close()
    records = [json.loads(line) for line in (tmp_path / "s" / "journal.jsonl").read_text().splitlines()]
    assert (records[0]["order"], records[0]["lag"]) == ("lagged", LAG)
    assert [record["configuration"] for record in records if record["event"] == "ask"] == [None] * 3
    told = {record["number"]: record["configuration"] for record in records if record["event"] == "tell"}
    assert [told[number] for number in range(3)] == in_order()[:3]


def test_a_finite_space_is_searched_whole(two):
    found = Study(Space([Int("x", 0, 9)]), seed=0, lag=3).optimize(lambda values: values["x"], trials=50, engine=two)
    assert sorted(values["x"] for values in configurations(found)) == list(range(10))
    assert found.stopped == "the space is exhausted: all 10 configurations were tried"


def test_a_lag_of_one_is_one_trial_after_the_other(two):
    found = Study(Space([Int("x", 0, 99)]), sampler="grid", lag=1).optimize(slow, trials=5, engine=two)
    assert [values["x"] for values in configurations(found)] == [0, 1, 2, 3, 4]


class Broken(Sampler):
    def propose(self, history, pending, number, generator):
        raise ZeroDivisionError("no idea")
        yield {}


def test_a_sampler_that_raises_ends_the_search_with_its_error(two):
    broken = study()
    broken.sampler = Broken(space(), seed=0)
    with pytest.raises(HpcompssError, match=r"the sampler failed \(ZeroDivisionError: no idea\)"):
        broken.optimize(slow, trials=3, engine=two)


class Deadly(Random):
    """Kills the process that it suggests in, as often as there are files to take away."""

    folder = None

    def propose(self, history, pending, number, generator):
        if number == 5:
            for file in self.folder.glob("*"):
                file.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().propose(history, pending, number, generator)


def deadly(folder, deaths):
    folder.mkdir()
    for number in range(deaths):
        (folder / str(number)).touch()
    made = study(sampler="random")
    made.sampler = Deadly(space(), seed=3)
    made.sampler.folder = folder
    return made


def test_tasks_that_the_engine_lost_are_submitted_anew(two, tmp_path):
    found = deadly(tmp_path / "deaths", 2).optimize(slow, trials=12, engine=two)
    assert found.completed + found.failed == 12
    assert configurations(found) == configurations(study(sampler="random").optimize(slow, trials=12, engine=two))


def test_but_not_for_ever(two, tmp_path):
    with pytest.raises(HpcompssError, match=r"the engine lost the tasks of the search 5 times in a row .*signal 9"):
        deadly(tmp_path / "deaths", 50).optimize(slow, trials=12, engine=two)


# The tasks, without an engine


class Dry(Sampler):
    def propose(self, history, pending, number, generator):
        return iter(())

    def _drawn(self, generator):
        return iter(())


def test_a_trial_without_a_configuration_is_a_failed_record():
    state = suggest(SearchState.after(Dry(space(), seed=0), History(space(), "minimize"), [], 1), None)
    record = reduce_trial(state, EXHAUSTED)
    assert (record.number, record.configuration, record.result.failure) == (0, {}, EXHAUSTED)
    assert len(suggest(state, record).history) == 0


def test_a_state_is_never_changed():
    state = suggest(
        SearchState.after(make_sampler("random", space(), seed=0), History(space(), "minimize"), [], 1), None
    )
    record = reduce_trial(state, Result(1.0))
    assert len(suggest(state, record).history) == len(suggest(state, record).history) == 1
    assert len(state.history) == 0


def test_a_record_that_was_lost_counts_as_a_failed_trial():
    state = suggest(
        SearchState.after(make_sampler("random", space(), seed=0), History(space(), "minimize"), [], 1), None
    )
    lost = Failure(FailureKind.DIED, "its node is gone")
    after = suggest(state, lost)
    assert len(after.history) == 1
    assert after.history.best is None
    assert reduce_trial(state, lost) == Trial(0, state.configuration, TrialState.FAILED, Result(None, failure=lost))


def test_the_best_value_in_a_history_is_in_the_direction_of_the_study():
    state = SearchState.after(make_sampler("random", space(), seed=0), History(space(), "maximize"), [], 1)
    record = None
    for value in (1.0, 5.0, 3.0):
        state = suggest(state, record)
        record = reduce_trial(state, Result(value))
    assert state.history.best == 5.0


# Bad input


@pytest.mark.parametrize("lag", [0, -1, 2.5, True, "4"])
def test_a_lag_that_is_no_count_is_refused(lag):
    with pytest.raises(InputError, match="the lag is a whole number"):
        study(lag=lag)


def test_ask_is_refused_in_the_lagged_order():
    with pytest.raises(InputError, match="run the study with optimize"):
        study().ask()


def test_a_lag_without_the_lagged_order_is_refused():
    sections = {"function": slow, "space": [Int("x", 0, 9)], "objective": "loss"}
    with pytest.raises(InputError, match="add  order: lagged"):
        make_workflow({**sections, "search": {"trials": 3, "lag": 2}})
    assert make_workflow({**sections, "search": {"trials": 3, "order": "lagged", "lag": 2}}).search.lag == 2


def test_a_shape_of_several_cores_is_one_worker_for_all_tasks():
    with Local(workers=1, cores=2) as engine:
        found = study().optimize(
            lambda values: __import__("os").getpid(), trials=6, engine=engine, resources=Resources(2)
        )
    assert len({trial.value for trial in found.trials}) == 1
