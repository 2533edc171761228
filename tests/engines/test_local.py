from __future__ import annotations

import gc
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from hpcompss.engines import Local
from hpcompss.engines.local_process import THREAD_VARIABLES, WorkerProcess, worker_environment
from hpcompss.errors import InputError
from hpcompss.trial import Failure, FailureKind, Resources
from tests.engines import functions as tasks
from tests.engines.conformance import MEGABYTE, EngineConformance, alive, eventually, gather, outcome

ROOT = Path(__file__).parents[2]


class TestLocal(EngineConformance):
    @pytest.fixture
    def engine(self):
        with Local(cores=4, gpus=["0", "1"]) as engine:
            yield engine


@pytest.fixture
def one():
    """An engine with a single worker."""
    with Local(workers=1, cores=2) as engine:
        yield engine


@pytest.fixture
def run(tmp_path):
    """Runs a script of its own, and returns what it printed."""

    def run(code):
        return finish(start(tmp_path, code))

    return run


def start(folder, code):
    script = folder / "script.py"
    script.write_text(textwrap.dedent(code))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-W", "error", script], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )


def finish(process):
    with process:
        output, _ = process.communicate(timeout=tasks.PATIENCE)
    assert process.returncode == 0
    return output


def descriptors():
    return len(os.listdir("/proc/self/fd"))


# Workers


def test_a_worker_is_used_again(one):
    assert len({outcome(one, tasks.process) for _ in range(5)}) == 1


def test_workers_bounds_what_runs_at_once():
    with Local(workers=2, cores=8) as engine:
        assert engine.capacity(Resources()) == 2
        assert len(set(gather(engine, [engine.submit(tasks.process) for _ in range(20)]))) <= 2


def test_memory_bounds_what_runs_at_once():
    with Local(cores=4, memory=1000 * MEGABYTE) as engine:
        assert engine.capacity(Resources(memory=400 * MEGABYTE)) == 2
        resources = Resources(memory=600 * MEGABYTE)
        intervals = gather(engine, [engine.submit(tasks.interval, 0.05, resources=resources) for _ in range(3)])
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(intervals))


@pytest.mark.parametrize("cpu", [1, 2])
def test_threads_are_stated_in_the_environment(one, cpu):
    stated = outcome(one, tasks.environment, *THREAD_VARIABLES, cpu=cpu)
    assert stated == dict.fromkeys(THREAD_VARIABLES, str(cpu))


def test_gpus_are_counted_in_the_order_of_the_bus(monkeypatch):
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert worker_environment(1, ["3", "5"])["CUDA_VISIBLE_DEVICES"] == "3,5"
    assert worker_environment(1, [])["CUDA_VISIBLE_DEVICES"] == ""
    assert worker_environment(1, [])["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_gpus_that_the_user_numbered_keep_their_order(monkeypatch):
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert "CUDA_DEVICE_ORDER" not in worker_environment(1, ["3"])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
@pytest.mark.parametrize("cpu", [1, 2])
def test_threads_are_what_was_asked_for(one, cpu):
    def threads_of_a_product():
        import numpy

        matrix = numpy.ones((600, 600))
        matrix @ matrix
        return len(os.listdir("/proc/self/task"))

    assert outcome(one, threads_of_a_product, cpu=cpu) <= cpu


def test_a_grown_worker_is_replaced():
    with Local(workers=1) as engine:
        first = outcome(engine, tasks.leak, 20 * MEGABYTE)
        for _ in range(3):
            assert outcome(engine, tasks.leak, 20 * MEGABYTE) == first
        assert outcome(engine, tasks.leak, 150 * MEGABYTE) == first
        assert outcome(engine, tasks.leak, 0) != first
        eventually(lambda: not alive(first))


def test_a_grown_worker_is_kept_when_growth_is_allowed():
    with Local(workers=1, worker_memory_growth=None) as engine:
        assert len({outcome(engine, tasks.leak, size * MEGABYTE) for size in (0, 0, 0, 200, 0)}) == 1


@pytest.fixture
def started(monkeypatch):
    """Counts the workers that are started."""
    processes = []

    class Counted(WorkerProcess):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            processes.append(self)

    monkeypatch.setattr("hpcompss.engines.local.WorkerProcess", Counted)
    return processes


def running(engine, folder, count):
    """Returns futures of that many tasks, all running, and the ids of their processes."""
    futures = [engine.submit(tasks.announce, folder / str(each), folder / "gate") for each in range(count)]
    eventually(lambda: all((folder / str(each)).exists() for each in range(count)) or engine.wait(futures, 0.01))
    return futures, [int(each) for number in range(count) for each in (folder / str(number)).read_text().split()]


def test_cancelling_starts_no_worker_and_waits_for_none(started, tmp_path, monkeypatch):
    with Local(cores=3) as engine:
        futures, processes = running(engine, tmp_path, 3)
        queued = [engine.submit(tasks.identity, number) for number in range(3)]
        with monkeypatch.context() as patient:
            patient.setattr(WorkerProcess, "_await_end", lambda self, seconds: pytest.fail("it waits"))
            for future in futures + queued:
                engine.cancel(future)
        assert {each.kind for each in gather(engine, futures + queued)} == {FailureKind.CANCELLED}
        eventually(lambda: not any(map(alive, processes)))
        assert len(started) == 3
        assert outcome(engine, tasks.identity, 1) == 1
        assert len(started) == 4


def test_a_killed_worker_is_succeeded_where_a_task_waits(one, started, tmp_path):
    (first,), _ = running(one, tmp_path, 1)
    second = one.submit(tasks.identity, 7)
    one.cancel(first)
    assert gather(one, [second]) == [7]
    assert len(started) == 2


def test_no_worker_is_started_for_one_that_died_while_no_task_waits(one, started):
    outcome(one, tasks.kill_self)
    one.wait([one.submit(tasks.identity, 1)], timeout=0)
    assert len(started) == 2


def test_a_killed_process_that_does_not_die_is_given_up(one, started, tmp_path, monkeypatch):
    monkeypatch.setattr("hpcompss.engines.local.DEATH_PATIENCE", 0.0)
    monkeypatch.setattr(WorkerProcess, "signal_end", lambda self: None)
    monkeypatch.setattr(WorkerProcess, "_await_end", lambda self, seconds: None)
    (first,), processes = running(one, tmp_path, 1)
    one.cancel(first)
    assert outcome(one, tasks.identity, 7) == 7
    for process in processes:
        os.kill(process, signal.SIGKILL)
    started[0]._process.wait()


def test_an_idle_worker_makes_room_for_another_shape():
    with Local(cores=2) as engine:
        small = gather(engine, [engine.submit(tasks.interval, 0.01) for _ in range(2)])
        assert len(small) == 2
        assert outcome(engine, tasks.environment, "OMP_NUM_THREADS", cpu=2) == {"OMP_NUM_THREADS": "2"}
        assert outcome(engine, tasks.environment, "OMP_NUM_THREADS", cpu=1) == {"OMP_NUM_THREADS": "1"}


def test_mixed_shapes_all_run():
    with Local(cores=3, gpus=["0"]) as engine:
        shapes = [Resources(cpu=1 + number % 3, gpu=(0, 0, 0.5, 1)[number % 4]) for number in range(24)]
        futures = [engine.submit(tasks.identity, number, resources=shape) for number, shape in enumerate(shapes)]
        assert gather(engine, futures) == list(range(24))


def test_a_worker_that_died_idle_harms_no_task(one):
    process = outcome(one, tasks.process)
    os.kill(process, signal.SIGKILL)
    eventually(lambda: not alive(process))
    assert outcome(one, tasks.add, 1, 1) == 2


def test_a_worker_that_cannot_start_fails_its_task_and_says_why(tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho no such library >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with Local(workers=2) as engine:
        for failure in gather(engine, [engine.submit(tasks.identity, number) for number in range(4)]):
            assert failure.kind is FailureKind.DIED
            assert failure.reason == "its worker could not start: its process exited with status 3"
            assert failure.traceback == "no such library"


def test_modules_are_imported_ahead():
    with Local(workers=1, preload=("no_such_module", "colorsys")) as engine:
        assert outcome(engine, lambda: "colorsys" in sys.modules)


def test_workers_import_what_the_master_can(one, tmp_path, monkeypatch):
    (tmp_path / "module_of_the_user.py").write_text("def answer():\n    return 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    import module_of_the_user

    assert outcome(one, module_of_the_user.answer) == 42


def test_a_function_that_the_worker_cannot_import_is_a_failure(one, tmp_path, monkeypatch):
    outcome(one, tasks.identity, 0)
    (tmp_path / "module_too_late.py").write_text("def answer():\n    return 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    import module_too_late

    assert "ModuleNotFoundError" in outcome(one, module_too_late.answer).reason


def test_each_task_begins_in_the_masters_folder(one, tmp_path):
    assert outcome(one, os.chdir, tmp_path) is None
    assert outcome(one, os.getcwd) == os.getcwd()


def test_workers_see_neither_the_masters_arguments_nor_its_own(one):
    assert outcome(one, lambda: (sys.argv[1:], "HPCOMPSS_WORKER_PATH" in os.environ)) == ([], False)


@pytest.mark.parametrize("raises", [True, False])
def test_a_task_that_forks_carelessly_has_one_result(one, raises):
    process = outcome(one, tasks.fork_carelessly, raises)
    assert outcome(one, tasks.process) == process


# What a failure tells


def test_a_segmentation_fault_tells_where(one):
    failure = outcome(one, tasks.segfault)
    assert failure.reason == "its process was killed by signal 11 (segmentation fault)"
    assert "Segmentation fault" in failure.traceback
    assert "in segfault" in failure.traceback


def test_last_words_are_those_of_the_task_that_died(one):
    outcome(one, lambda: print("an earlier task", file=sys.stderr))
    failure = outcome(one, tasks.abort_with, "Check failed: no more memory\n")
    assert "signal 6" in failure.reason
    assert "Check failed: no more memory" in failure.traceback
    assert "an earlier task" not in failure.traceback


def test_a_kill_from_outside_is_explained(one):
    assert "out-of-memory killer; ask for more memory" in outcome(one, tasks.kill_self).reason


def test_what_tasks_print_is_kept_where_asked(tmp_path):
    with Local(workers=1, log_directory=tmp_path / "logs") as engine:
        outcome(engine, lambda: print("hello"))
        assert (tmp_path / "logs" / "worker-1.log").read_text() == "hello\n"


def test_the_place_names_the_gpus():
    with Local(cores=1, gpus=["5", "7"]) as engine:
        for gpu, place in [(0, "worker 1"), (1, "worker 1, GPU 5"), (2, "worker 1, GPUs 5, 7")]:
            future = engine.submit(tasks.identity, 0, resources=Resources(gpu=gpu))
            gather(engine, [future])
            assert future.place == place


# The graph


def test_a_chain_of_a_thousand():
    with Local(workers=2) as engine:
        future = engine.submit(tasks.identity, 0)
        for _ in range(1000):
            future = engine.submit(tasks.add, future, 1)
        assert gather(engine, [future]) == [1000]


def test_thousands_of_tasks():
    with Local(workers=2) as engine:
        futures = [engine.submit(tasks.identity, number) for number in range(2000)]
        assert gather(engine, futures) == list(range(2000))


def test_results_pass_from_task_to_task_unread_by_the_master(one, tmp_path, monkeypatch):
    (tmp_path / "module_of_results.py").write_text(
        "class Result:\n    value = 42\ndef make():\n    return Result()\ndef read(result):\n    return result.value\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def make():
        import module_of_results

        return module_of_results.make()

    def read(result):
        return result.value

    assert outcome(one, read, one.submit(make)) == 42
    assert "module_of_results" not in sys.modules


def test_a_result_that_the_master_cannot_read_is_a_failure(one, tmp_path, monkeypatch):
    (tmp_path / "module_of_the_worker.py").write_text("class Result:\n    pass\n")

    def make(folder):
        sys.path.insert(0, folder)
        import module_of_the_worker

        return module_of_the_worker.Result()

    failure = outcome(one, make, str(tmp_path))
    assert failure.kind is FailureKind.EXCEPTION
    assert "cannot be read by the master: ModuleNotFoundError" in failure.reason


def test_futures_of_another_engine_are_refused(one):
    with Local(workers=1) as other:
        future = other.submit(tasks.identity, 1)
        with pytest.raises(InputError, match="another engine"):
            one.submit(tasks.identity, future)
        with pytest.raises(InputError, match="another engine"):
            one.wait([future])
        with pytest.raises(InputError, match="another engine"):
            one.cancel(future)


# The master


def test_functions_of_a_plain_script_run_without_importing_it_again(run):
    output = run("""
        import dataclasses
        from hpcompss.engines import Local

        print("imported")

        @dataclasses.dataclass
        class Point:
            x: int

        def double(point):
            return Point(2 * point.x)

        engine = Local(workers=2)
        futures = [engine.submit(double, Point(number)) for number in range(3)]
        futures.append(engine.submit(lambda point: point.x, futures[1]))
        while not all(future.done for future in futures):
            engine.wait([future for future in futures if not future.done])
        print([future.result() for future in futures])
        # Not closed: the workers must end with the script all the same.
    """)
    assert output == "imported\n[Point(x=0), Point(x=2), Point(x=4), 2]\n"


def test_workers_end_when_the_master_is_killed(tmp_path):
    process = start(
        tmp_path,
        """
        import os, threading, time
        from hpcompss.engines import Local
        from tests.engines import functions as tasks

        def begin():
            engine.submit(tasks.announce, "a", "never")
            engine.submit(tasks.announce, "b", "never")
            engine.wait([engine.submit(announce_and_sleep_in_c)], timeout=0.1)

        def announce_and_sleep_in_c():
            tasks.announce("c", ".")
            tasks.sleep_in_c()

        engine = Local(cores=4)
        thread = threading.Thread(target=begin)
        thread.start()
        thread.join()
        while not all(map(os.path.exists, "abc")):
            engine.wait([engine.submit(tasks.identity, 0)])
        time.sleep(0.2)
        child = os.fork()
        if child == 0:
            time.sleep(600)  # a forked process that outlives the master keeps nothing alive
            os._exit(0)
        print(child, flush=True)
        time.sleep(600)
        """,
    )
    with process:
        child = int(process.stdout.readline())
        process.kill()
        try:
            for name in "abc":
                for member in (tmp_path / name).read_text().split():
                    eventually(lambda member=member: not alive(int(member)))
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_forked_master_leaves_the_workers_to_the_master(run):
    output = run("""
        import os, sys
        from hpcompss.engines import Local

        engine = Local(workers=1)
        first = engine.submit(os.getpid)
        engine.wait([first])
        pending = engine.submit(os.getpid)
        if os.fork() == 0:
            for action in (lambda: engine.submit(os.getpid), lambda: engine.wait([pending])):
                try:
                    action()
                except RuntimeError as error:
                    print(error, flush=True)
            engine.close()
            sys.exit(0)
        os.wait()
        engine.wait([pending])
        print(first.result() == pending.result())
    """)
    assert output.splitlines() == [
        "this engine is closed",
        "this engine belongs to the process that this one was forked from",
        "True",
    ]


def test_an_engine_works_in_a_thread_and_after_its_end():
    with Local(workers=2) as engine:
        futures = []

        def work():
            futures.append(engine.submit(tasks.interval, 0.3))
            assert outcome(engine, tasks.add, 1, 1) == 2

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert not isinstance(gather(engine, futures)[0], Failure)


def test_a_forgotten_engine_ends_its_workers():
    engine = Local(workers=1)
    process = outcome(engine, tasks.process)
    del engine
    gc.collect()
    assert not alive(process)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts file descriptors in /proc")
def test_no_file_descriptor_is_left_behind():
    for _ in range(2):
        with Local(workers=1) as engine:
            outcome(engine, tasks.exit_at_once, 1)
    before = descriptors()
    for number in range(50):
        with Local(workers=1) as engine:
            future = engine.submit(tasks.identity, number)
            if number % 10 == 0:
                gather(engine, [future])
                outcome(engine, tasks.exit_at_once, 1)
    assert descriptors() == before


# Bad arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": 0}, "engine.workers: workers must be at least 1, not 0"),
        ({"cores": -1}, "engine.cores: cores must be at least 1, not -1"),
        ({"memory": 0}, "engine.memory: memory must be at least 1, not 0"),
        ({"gpus": -1}, "engine.gpus: gpus must be a list of names or a number from 0, not -1"),
        ({"gpus": "0,1"}, "engine.gpus: gpus must be a list of names or a number from 0, not '0,1'"),
        ({"worker_memory_growth": 1.0}, "worker_memory_growth must be above 1, not 1.0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_argument_out_of_range_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Local(**arguments)


def test_a_log_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"the log directory .* cannot be made"):
        Local(log_directory=tmp_path / "file" / "logs")


def test_what_is_asked_beyond_the_machine_is_named():
    with Local(cores=2, gpus=0, memory=2_000 * MEGABYTE) as engine:
        with pytest.raises(InputError, match=r"a trial asks for 64 cpus, this machine has 2: lower resources\.cpu"):
            engine.submit(tasks.identity, 0, resources=Resources(cpu=64))
        with pytest.raises(InputError, match=r"a trial asks for 0\.5 GPU, this machine has 0: lower resources\.gpu"):
            engine.submit(tasks.identity, 0, resources=Resources(gpu=0.5))
        with pytest.raises(
            InputError, match=r"asks for 3 GB of memory, this machine has 2 GB: lower resources\.memory"
        ):
            engine.submit(tasks.identity, 0, resources=Resources(memory=3_000 * MEGABYTE))
