"""What every engine must do. A new engine joins with one subclass of `EngineConformance` and its fixture ``engine``."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from hpcompss.errors import InputError
from hpcompss.tasks.apart import HERE, apart
from hpcompss.trial import Failure, FailureKind, Resources
from tests.engines import functions as tasks

MEGABYTE = 1_000_000
ROOT = Path(__file__).parents[2]


def gather(engine, futures):
    """Returns the results of all futures, in their order."""
    left = futures
    while left := [future for future in left if not future.done]:
        assert engine.wait(left, timeout=tasks.PATIENCE), "nothing was done in a minute"
    return [future.result() for future in futures]


def outcome(engine, function, *args, **resources):
    return gather(engine, [engine.submit(function, *args, resources=Resources(**resources))])[0]


def eventually(condition, engine=None):
    """Waits until a condition holds, and lets the engine work meanwhile."""
    end = time.monotonic() + tasks.PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came"
        if engine is None:
            time.sleep(0.01)
        else:
            engine.wait([engine.submit(tasks.identity, 0)], timeout=0.01)


def short(engine, folder, deeds=None):
    """Submits a hundred tasks of which the engine knows that they take no time, but for what some do besides."""
    gather(engine, [engine.submit(tasks.note, folder, number) for number in range(100, 200)])
    deeds = deeds or {}
    return [engine.submit(tasks.note, folder, number, *deeds.get(number, ())) for number in range(100)]


def begun(folder):
    """Returns how often each of them was begun."""
    return [len((folder / str(number)).read_text()) for number in range(100)]


def alive(process):
    """Whether a process runs; one that is dead and not yet waited for does not."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


class SharedConformance:
    """Has the tests of a class share a `Placed` engine until one of them closes it; ``make()`` makes a new one.

    What a test leaves running is ended after it, so that the next one finds all workers free.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def shared(cls):
        made = []
        yield made
        for engine in made:
            engine.close()

    @pytest.fixture
    def engine(self, shared):
        if not shared or shared[-1]._closed:
            shared[:] = [self.make()]
            shared[-1].await_workers()
        engine = shared[-1]
        yield engine
        if not engine._closed:
            left = [*engine._running.values(), *engine._light.values(), *(future for _, future in engine._queue)]
            for future in left:
                engine.cancel(future)


class EngineConformance:
    """The tests; a subclass gives the fixture ``engine``: a new engine with 4 cores and GPUs 0 and 1, as declared."""

    @pytest.fixture
    def engine(self):
        raise NotImplementedError

    # Values

    def test_a_task_returns_its_value(self, engine):
        assert outcome(engine, tasks.add, 2, 3) == 5

    def test_files_travel_with_results(self, engine):
        files = [{}]
        for _ in range(3):
            files = [engine.submit(apart, tasks.count_file_up, files, False, HERE)]
        merged = engine.submit(apart, tasks.count_file_up, files, True, HERE, light=True)
        first, last = gather(engine, [files[0], merged])
        assert (first.value, last.value) == (3, 4)
        assert last.files == {"models/count.bin": b"\4" * tasks.MEGABYTE}

    def test_a_function_without_a_name_runs(self, engine):
        base = 10
        assert outcome(engine, lambda value: base + value, 5) == 15

    def test_a_result_is_not_there_before_the_task_is_done(self, engine, tmp_path):
        future = engine.submit(tasks.wait_for, tmp_path / "gate")
        assert not future.done
        with pytest.raises(RuntimeError, match="not done"):
            future.result()
        tasks.touch(tmp_path / "gate")
        gather(engine, [future])
        assert future.done
        assert future.result() is None

    def test_each_future_gets_the_value_of_its_own_task(self, engine):
        futures = [engine.submit(tasks.add, number, number) for number in range(50)]
        assert gather(engine, futures) == [2 * number for number in range(50)]

    def test_large_arguments_and_results_arrive(self, engine):
        block = os.urandom(1 * MEGABYTE) * 50
        assert outcome(engine, tasks.identity, block) == block

    def test_what_does_not_pickle_is_refused_at_once(self, engine):
        with pytest.raises(InputError, match="argument 1 of identity cannot be sent"):
            engine.submit(tasks.identity, threading.Lock())

    def test_a_function_that_does_not_pickle_is_refused_at_once(self, engine):
        lock = threading.Lock()
        with pytest.raises(InputError, match=r"the function .* cannot be sent"):
            engine.submit(lambda: lock)

    # Failures

    def test_what_a_task_flushed_is_known_when_its_process_dies(self, engine):
        future = engine.submit(tasks.tell_and_die, 50)
        (failure,) = gather(engine, [future])
        assert failure.kind is FailureKind.DIED
        assert future.progress == {"call": 50}

    def test_the_process_of_a_single_use_task_ends_with_it(self, engine):
        used = outcome(engine, tasks.process, single_use=True)
        assert used not in gather(engine, [engine.submit(tasks.process) for _ in range(8)])
        eventually(lambda: not alive(used), engine)

    def test_an_exception_is_a_result(self, engine):
        failure = outcome(engine, tasks.divide, 1, 0)
        assert failure.kind is FailureKind.EXCEPTION
        assert failure.reason == "ZeroDivisionError: division by zero"
        assert "return first / second" in failure.traceback
        # The clone itself may be called hpcompss.
        assert "hpcompss" not in failure.traceback.replace(str(ROOT), "")

    def test_the_reason_is_one_line(self, engine):
        failure = outcome(engine, tasks.fail_two_lines)
        assert failure.reason == "ValueError: the first line"
        assert "the second line" in failure.traceback

    def test_an_exception_that_neither_pickles_nor_prints_is_a_result(self, engine):
        assert "Strange" in outcome(engine, tasks.fail_strangely).reason

    @pytest.mark.parametrize(("function", "args"), [(tasks.leave, (3,)), (tasks.interrupt, ())])
    def test_a_task_cannot_end_its_worker_by_an_exception(self, engine, function, args):
        assert outcome(engine, function, *args).kind is FailureKind.EXCEPTION
        assert outcome(engine, tasks.add, 1, 1) == 2

    def test_a_result_that_does_not_pickle_is_a_failure(self, engine):
        failure = outcome(engine, tasks.unpicklable)
        assert failure.kind is FailureKind.EXCEPTION
        assert "what unpicklable returned cannot be sent" in failure.reason

    @pytest.mark.parametrize(
        ("function", "args", "reason"),
        [
            (tasks.kill_self, (), "signal 9"),
            (tasks.segfault, (), "signal 11"),
            (tasks.exit_at_once, (3,), "status 3"),
        ],
    )
    def test_the_death_of_a_worker_is_the_result_of_its_task_alone(self, engine, tmp_path, function, args, reason):
        others = [engine.submit(tasks.touch_and_wait_for, tmp_path / str(n), tmp_path / "gate", n) for n in range(2)]
        dying = [engine.submit(function, *args) for _ in range(3)]
        queued = [engine.submit(tasks.identity, number) for number in range(8)]
        for failure in gather(engine, dying):
            assert failure.kind is FailureKind.DIED
            assert reason in failure.reason
        tasks.touch(tmp_path / "gate")
        assert gather(engine, others) == [0, 1]
        assert gather(engine, queued) == list(range(8))

    def test_a_task_past_its_time_limit_is_killed_even_in_foreign_code(self, engine):
        futures = [engine.submit(tasks.sleep_in_c, resources=Resources(time_limit=0.5)) for _ in range(2)]
        assert gather(engine, futures) == [Failure(FailureKind.TIME_LIMIT, "ran past its limit of 0.5 s")] * 2
        assert outcome(engine, tasks.add, 1, 1) == 2

    def test_the_time_in_the_queue_does_not_count(self, engine):
        resources = Resources(cpu=4, time_limit=10)
        futures = [engine.submit(tasks.interval, 0.1, resources=resources) for _ in range(3)]
        assert not any(isinstance(result, Failure) for result in gather(engine, futures))
        starts = [future.started for future in futures]
        assert starts == sorted(starts)

    def test_a_task_past_its_memory_limit_is_killed(self, engine):
        failure = outcome(engine, tasks.hold, 400 * MEGABYTE, memory=200 * MEGABYTE)
        assert failure.kind is FailureKind.MEMORY
        assert "of the 200 MB it asked for" in failure.reason

    def test_the_memory_of_its_children_is_its_own(self, engine):
        assert outcome(engine, tasks.hold_in_child, 400 * MEGABYTE, memory=200 * MEGABYTE).kind is FailureKind.MEMORY

    def test_a_task_within_its_limits_is_left_alone(self, engine):
        size = 20 * MEGABYTE
        assert outcome(engine, tasks.hold, size, 0.6, memory=500 * MEGABYTE, time_limit=tasks.PATIENCE) == size

    # The graph

    def test_a_future_is_an_argument(self, engine):
        first = engine.submit(tasks.add, 1, 2)
        assert outcome(engine, tasks.add, first, first) == 6

    def test_a_future_that_is_done_is_an_argument(self, engine):
        first = engine.submit(tasks.add, 1, 2)
        assert gather(engine, [first]) == [3]
        assert outcome(engine, tasks.add, first, 1) == 4

    def test_lists_tuples_and_dicts_of_futures_are_arguments(self, engine):
        ones = [engine.submit(tasks.identity, number) for number in range(3)]
        assert outcome(engine, tasks.identity, [*ones, 9]) == [0, 1, 2, 9]
        assert outcome(engine, tasks.identity, (ones[0], "x")) == (0, "x")
        assert outcome(engine, tasks.identity, {"a": ones[1], "b": 5}) == {"a": 1, "b": 5}

    def test_a_future_deeper_inside_is_refused(self, engine):
        future = engine.submit(tasks.identity, 1)
        with pytest.raises(InputError, match="a future must be an argument"):
            engine.submit(tasks.identity, [[future]])

    def test_a_failure_is_an_argument(self, engine):
        failed = engine.submit(tasks.divide, 1, 0)
        died = engine.submit(tasks.exit_at_once, 3)
        results = outcome(engine, tasks.identity, [failed, died])
        assert [result.kind for result in results] == [FailureKind.EXCEPTION, FailureKind.DIED]

    def test_a_task_waits_for_all_its_arguments(self, engine, tmp_path):
        late = engine.submit(tasks.touch_and_wait_for, tmp_path / "late", tmp_path / "gate", 1)
        sum_of_both = engine.submit(tasks.add, engine.submit(tasks.identity, 2), late)
        assert engine.wait([sum_of_both], timeout=0.3) == []
        tasks.touch(tmp_path / "gate")
        assert gather(engine, [sum_of_both]) == [3]

    def test_a_long_chain_of_tasks_runs_to_its_end(self, engine):
        future = engine.submit(tasks.identity, 0)
        for _ in range(200):
            future = engine.submit(tasks.add, future, 1)
        assert gather(engine, [future]) == [200]

    # Waiting

    def test_waiting_returns_after_its_timeout(self, engine, tmp_path):
        future = engine.submit(tasks.wait_for, tmp_path / "gate")
        assert engine.wait([future], timeout=0) == []
        assert engine.wait([future], timeout=0.2) == []
        tasks.touch(tmp_path / "gate")

    def test_waiting_returns_what_is_done(self, engine, tmp_path):
        slow = engine.submit(tasks.wait_for, tmp_path / "gate")
        quick = engine.submit(tasks.identity, 1)
        assert engine.wait([slow, quick], timeout=tasks.PATIENCE) == [quick]
        assert engine.wait([slow, quick]) == [quick]
        tasks.touch(tmp_path / "gate")
        assert engine.wait([slow]) == [slow]

    def test_waiting_for_nothing_returns_nothing(self, engine):
        assert engine.wait([]) == []

    # Cancelling

    def test_a_running_task_is_cancelled(self, engine, tmp_path):
        running = engine.submit(tasks.announce, tmp_path / "processes", tmp_path / "never")
        eventually((tmp_path / "processes").exists, engine)
        engine.cancel(running)
        assert gather(engine, [running])[0].kind is FailureKind.CANCELLED
        for process in (tmp_path / "processes").read_text().split():
            eventually(lambda process=process: not alive(int(process)))
        assert outcome(engine, tasks.add, 1, 1) == 2

    def test_a_queued_task_is_cancelled(self, engine, tmp_path):
        running = engine.submit(tasks.wait_for, tmp_path / "gate", resources=Resources(cpu=4))
        queued = engine.submit(tasks.touch, tmp_path / "ran", resources=Resources(cpu=4))
        after = engine.submit(tasks.identity, queued, resources=Resources(cpu=4))
        engine.cancel(queued)
        assert queued.result().kind is FailureKind.CANCELLED
        tasks.touch(tmp_path / "gate")
        assert gather(engine, [running, after])[1].kind is FailureKind.CANCELLED
        assert not (tmp_path / "ran").exists()

    def test_a_task_that_waits_for_another_is_cancelled(self, engine, tmp_path):
        first = engine.submit(tasks.wait_for, tmp_path / "gate")
        second = engine.submit(tasks.touch, first)
        engine.cancel(second)
        tasks.touch(tmp_path / "gate")
        assert gather(engine, [first, second])[1].kind is FailureKind.CANCELLED

    def test_cancelling_what_is_done_changes_nothing(self, engine):
        future = engine.submit(tasks.identity, 7)
        gather(engine, [future])
        engine.cancel(future)
        assert future.result() == 7

    # Many short tasks

    def test_each_short_task_is_begun_once(self, engine, tmp_path):
        assert gather(engine, short(engine, tmp_path)) == list(range(100))
        assert begun(tmp_path) == [1] * 100

    def test_a_task_that_takes_its_time_among_short_ones_delays_none_behind_it(self, engine, tmp_path):
        futures = short(engine, tmp_path, {40: (tasks.wait_for, tmp_path / "gate")})
        assert gather(engine, futures[41:]) == list(range(41, 100))
        assert not futures[40].done
        tasks.touch(tmp_path / "gate")
        assert gather(engine, futures) == list(range(100))
        assert begun(tmp_path) == [1] * 100

    def test_a_crash_among_short_tasks_is_of_one_alone(self, engine, tmp_path):
        results = gather(engine, short(engine, tmp_path, {40: (tasks.exit_at_once, 3)}))
        assert results.pop(40).kind is FailureKind.DIED
        assert results == [*range(40), *range(41, 100)]
        assert begun(tmp_path) == [1] * 100

    def test_one_of_many_short_tasks_is_cancelled(self, engine, tmp_path):
        futures = short(engine, tmp_path)
        engine.cancel(futures[60])
        results = gather(engine, futures)
        assert results.pop(60).kind is FailureKind.CANCELLED
        assert results == [*range(60), *range(61, 100)]

    def test_one_that_takes_its_time_among_short_ones_is_cancelled(self, engine, tmp_path):
        futures = short(engine, tmp_path, {40: (tasks.announce, tmp_path / "processes", tmp_path / "never")})
        gather(engine, futures[41:])
        eventually((tmp_path / "processes").exists, engine)
        engine.cancel(futures[40])
        results = gather(engine, futures)
        assert results.pop(40).kind is FailureKind.CANCELLED
        assert results == [*range(40), *range(41, 100)]
        for process in (tmp_path / "processes").read_text().split():
            eventually(lambda process=process: not alive(int(process)))

    # Resources

    def test_tasks_run_at_the_same_time(self, engine, tmp_path):
        futures = [engine.submit(tasks.meet, tmp_path, str(number), 4) for number in range(4)]
        assert not any(isinstance(result, Failure) for result in gather(engine, futures))

    def test_cores_are_never_oversubscribed(self, engine):
        cpus = [1, 2, 1, 4, 3, 1, 1, 2, 2, 1, 1, 1]
        futures = [engine.submit(tasks.interval, 0.05, resources=Resources(cpu=cpu)) for cpu in cpus]
        intervals = gather(engine, futures)
        for start, _ in intervals:
            busy = sum(cpu for cpu, (begin, end) in zip(cpus, intervals, strict=True) if begin <= start < end)
            assert busy <= 4

    def test_a_large_task_is_not_overtaken_for_ever(self, engine):
        cpus = [1] * 6 + [4] + [1] * 12
        futures = [engine.submit(tasks.interval, 0.02, resources=Resources(cpu=cpu)) for cpu in cpus]
        starts = [start for start, _ in gather(engine, futures)]
        assert starts[6] < min(starts[7:])

    def test_each_whole_gpu_goes_to_one_task(self, engine, tmp_path):
        resources = Resources(gpu=1)
        futures = [engine.submit(tasks.meet, tmp_path, str(number), 2, resources=resources) for number in range(2)]
        assert sorted(gather(engine, futures)) == ["0", "1"]

    def test_two_halves_share_a_gpu(self, engine, tmp_path):
        resources = Resources(gpu=0.5)
        futures = [engine.submit(tasks.meet, tmp_path, str(number), 4, resources=resources) for number in range(4)]
        assert sorted(gather(engine, futures)) == ["0", "0", "1", "1"]

    def test_a_task_may_have_several_gpus(self, engine, tmp_path):
        assert sorted(outcome(engine, tasks.meet, tmp_path, "one", 1, gpu=2).split(",")) == ["0", "1"]

    def test_a_task_without_a_gpu_sees_none(self, engine, tmp_path):
        assert outcome(engine, tasks.meet, tmp_path, "one", 1) == ""

    def test_gpus_are_never_oversubscribed(self, engine):
        shares = [0.5, 1, 0.25, 2, 0.5, 0.5, 1, 1, 0.25]
        futures = [engine.submit(tasks.interval, 0.05, resources=Resources(gpu=share)) for share in shares]
        intervals = gather(engine, futures)
        for start, _ in intervals:
            busy = sum(share for share, (begin, end) in zip(shares, intervals, strict=True) if begin <= start < end)
            assert busy <= 2

    def test_capacity_counts_what_fits(self, engine):
        assert [engine.capacity(Resources(cpu=cpu)) for cpu in (1, 2, 3, 4, 5)] == [4, 2, 1, 1, 0]
        assert [engine.capacity(Resources(gpu=gpu)) for gpu in (1, 2, 3)] == [2, 1, 0]
        assert [engine.capacity(Resources(gpu=gpu)) for gpu in (0.5, 0.6, 0.25)] == [4, 2, 4]
        assert engine.capacity(Resources(memory=1 << 60)) == 0

    @pytest.mark.parametrize("resources", [{"cpu": 64}, {"gpu": 3}, {"memory": 1 << 60}], ids=["cpu", "gpu", "memory"])
    def test_what_no_machine_has_is_refused(self, engine, resources):
        (key,) = resources
        with pytest.raises(InputError, match=f"lower resources.{key}") as caught:
            engine.submit(tasks.identity, 0, resources=Resources(**resources))
        assert caught.value.key == f"resources.{key}"

    # What is known of a running task

    def test_progress_reaches_the_master(self, engine, tmp_path):
        future = engine.submit(tasks.count_up, 100, tmp_path / "gate")
        assert future.progress == {}
        eventually(lambda: future.progress == {"epoch": 100, "loss": 0.01}, engine)
        tasks.touch(tmp_path / "gate")
        gather(engine, [future])
        assert future.progress == {"epoch": 101, "loss": 0.0}

    def test_much_progress_does_no_harm(self, engine):
        future = engine.submit(tasks.publish_much, 20_000)
        assert gather(engine, [future]) == [20_000]
        assert future.progress == {"epoch": 19_999}

    def test_a_task_has_a_place_and_a_time_once_it_runs(self, engine, tmp_path):
        before = time.monotonic()
        running = engine.submit(tasks.touch_and_wait_for, tmp_path / "begun", tmp_path / "gate")
        queued = engine.submit(tasks.identity, running)
        eventually((tmp_path / "begun").exists, engine)
        assert before <= running.started <= time.monotonic()
        assert running.place
        assert queued.started is None
        assert queued.place == ""
        tasks.touch(tmp_path / "gate")
        gather(engine, [queued])

    # Closing

    def test_closing_leaves_no_process_and_cancels_the_rest(self, engine, tmp_path):
        busy = [engine.submit(tasks.announce, tmp_path / str(n), tmp_path / "never") for n in range(2)]
        queued = engine.submit(tasks.identity, busy)
        for number in range(2):
            eventually((tmp_path / str(number)).exists, engine)
        engine.close()
        engine.close()
        texts = [(tmp_path / str(number)).read_text() for number in range(2)]
        for process in itertools.chain.from_iterable(text.split() for text in texts):
            eventually(lambda process=process: not alive(int(process)))
        assert [future.result().kind for future in (*busy, queued)] == [FailureKind.CANCELLED] * 3
        assert engine.wait([queued]) == [queued]

    def test_nothing_is_submitted_to_a_closed_engine(self, engine):
        with engine:
            pass
        with pytest.raises(RuntimeError, match="closed"):
            engine.submit(tasks.identity, 1)

    def test_tasks_that_print_much_do_no_harm(self, engine):
        assert outcome(engine, tasks.print_much, 5 * MEGABYTE) == 5 * MEGABYTE

    def test_a_signal_at_the_terminal_is_the_masters_business(self, engine, tmp_path):
        future = engine.submit(tasks.announce, tmp_path / "processes", tmp_path / "gate")
        eventually((tmp_path / "processes").exists, engine)
        os.kill(int((tmp_path / "processes").read_text().split()[0]), signal.SIGINT)
        tasks.touch(tmp_path / "gate")
        assert gather(engine, [future]) == [None]
