from __future__ import annotations

import pytest

from hpcompss.engines.simulated import Simulated
from hpcompss.errors import InputError
from hpcompss.space import Float, Int, Space
from hpcompss.study import Study
from hpcompss.tasks.evaluate import evaluate, evaluate_suggested
from hpcompss.trial import FailureKind, Resources, Result
from tests.engines import functions as tasks


def engine(workers, seconds=10.0, **costs):
    return Simulated(workers, lambda function, value: seconds, **{"cost": 0.0, "submission": 0.0, **costs})


def test_tasks_share_the_workers_in_virtual_time():
    with engine(4) as simulated:
        futures = [simulated.submit(tasks.add, number, 1) for number in range(10)]
        done = []
        while len(done) < 10:
            done += simulated.wait([future for future in futures if not future.done])
        assert [future.result() for future in futures] == list(range(1, 11))
        assert simulated.clock == 30.0


def test_a_task_waits_for_those_it_takes():
    with engine(4) as simulated:
        first = simulated.submit(tasks.add, 1, 2)
        second = simulated.submit(tasks.identity, [first, 5])
        assert simulated.wait([second]) == [second]
        assert (second.result(), simulated.clock) == ([3, 5], 20.0)


def test_each_task_and_each_submission_has_its_cost():
    with engine(1, cost=0.5, submission=0.25) as simulated:
        futures = [simulated.submit(tasks.identity, number) for number in range(2)]
        simulated.wait(futures[1:])
        assert simulated.clock == 0.25 + 2 * 10.5


def test_waiting_ends_after_its_time():
    with engine(1) as simulated:
        future = simulated.submit(tasks.identity, 1)
        assert simulated.wait([future], timeout=3) == []
        assert simulated.clock == 3.0
        assert simulated.wait([future], timeout=7) == [future]


def test_an_exception_is_a_result():
    with engine(1) as simulated:
        future = simulated.submit(tasks.divide, 1, 0)
        simulated.wait([future])
        assert future.result().kind is FailureKind.EXCEPTION


def test_cpus_are_never_oversubscribed():
    with engine(4) as simulated:
        futures = [simulated.submit(tasks.identity, n, resources=Resources(cpu=3 if n % 2 else 1)) for n in range(12)]
        simulated.wait(futures[-1:])
        edges = [(start, 3 if n % 2 else 1) for n, (start, _) in enumerate(simulated.spans)]
        edges += [(end, -3 if n % 2 else -1) for n, (_, end) in enumerate(simulated.spans)]
        busy = 0
        for _, change in sorted(edges):
            busy += change
            assert busy <= 4


def test_a_cancelled_task_makes_room():
    with engine(1) as simulated:
        first, second = (simulated.submit(tasks.identity, number) for number in range(2))
        simulated.cancel(first)
        simulated.wait([second])
        assert (first.result().kind, second.result(), simulated.clock) == (FailureKind.CANCELLED, 1, 10.0)


def test_closing_cancels_the_rest():
    simulated = engine(1)
    futures = [simulated.submit(tasks.identity, number) for number in range(2)]
    simulated.close()
    assert [future.result().kind for future in futures] == [FailureKind.CANCELLED] * 2
    with pytest.raises(RuntimeError, match="closed"):
        simulated.submit(tasks.identity, 1)


def test_what_never_fits_is_refused():
    with pytest.raises(InputError, match="this engine has 2 cpus"):
        engine(2).submit(tasks.identity, 1, resources=Resources(cpu=3))
    with pytest.raises(InputError, match="at least 1 worker"):
        engine(0)


def score(values):
    return {"value": (values["x"] - 30) ** 2, "seconds": 1 + 50 * values["y"]}


def trial_seconds(function, value):
    return value.metrics["seconds"] if function in (evaluate, evaluate_suggested) and isinstance(value, Result) else 0.0


@pytest.mark.parametrize("workers", [1, 3, 40])
def test_the_lagged_order_gives_the_same_configurations_on_any_number_of_workers(workers):
    def found(count):
        study = Study(Space([Int("x", 0, 99), Float("y", 0, 1)]), seed=1, lag=6, metric="value")
        with Simulated(count, trial_seconds) as simulated:
            study.optimize(score, trials=60, engine=simulated)
        assert study.completed == 60
        return [trial.configuration for trial in study.trials]

    assert found(workers) == found(2)
