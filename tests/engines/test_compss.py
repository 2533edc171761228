from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from hpcompss.cluster.nodes import parse_node
from hpcompss.cluster.resources import project_xml, resources_xml
from hpcompss.engines import Local, compss, make_engine, messages
from hpcompss.engines.compss import Compss
from hpcompss.engines.messages import Desk, Line, Office, collect
from hpcompss.errors import HpcompssError, InputError
from hpcompss.space import Float, Int, Space
from hpcompss.study import Study
from hpcompss.trial import Failure, FailureKind, Resources
from tests.engines import functions as tasks
from tests.engines import standin
from tests.engines.conformance import EngineConformance, eventually, gather, outcome

ROOT = Path(__file__).parents[2]
RUNCOMPSS = ROOT / "tests" / "engines" / "standin" / "runcompss.py"


@pytest.fixture
def runtime(monkeypatch, tmp_path_factory):
    """The stand-in's runtime with one node of 4 cores and 2 GPUs, each of 4 units, which COMPSs does not bind."""
    options = tmp_path_factory.mktemp("options") / "options"
    options.write_text("-Dcompss.worker.gpu_affinity=disabled\n")
    monkeypatch.setenv("JVM_OPTIONS_FILE", str(options))
    yield standin.start([{"name": "localhost", "cpu": 4, "gpu": 8}], gpu_affinity="disabled")
    standin.stop()


@pytest.fixture
def two_nodes():
    yield standin.start([{"name": "node1", "cpu": 1}, {"name": "node2", "cpu": 1}])
    standin.stop()


@pytest.fixture
def resources_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("resources") / "resources.xml"
    file.write_text(resources_xml([parse_node("localhost:4cpu:2gpu:8GB")], gpu_shares=4))
    return file


@pytest.fixture
def engine(runtime, resources_file):
    with Compss(resources=resources_file, gpu_shares=4, grace=3) as engine:
        yield engine


class TestCompss(EngineConformance):
    @pytest.fixture
    def engine(self, runtime, resources_file):
        with Compss(resources=resources_file, gpu_shares=4, grace=3) as engine:
            yield engine


# What is lost


def kill_the_slot(marker):
    """Kills the Python worker of COMPSs that this runs in, the first time it is called."""
    if not marker.exists():
        marker.touch()
        os.kill(os.getppid(), 9)
        time.sleep(tasks.ENDLESS)
    return "second time"


def kill_every_slot():
    os.kill(os.getppid(), 9)
    time.sleep(tasks.ENDLESS)


def test_a_task_whose_process_is_killed_under_it_is_tried_again(engine, tmp_path):
    assert outcome(engine, kill_the_slot, tmp_path / "killed") == "second time"
    assert gather(engine, [engine.submit(tasks.identity, number) for number in range(6)]) == list(range(6))


def test_so_are_the_tasks_that_take_its_result(engine, tmp_path):
    first = engine.submit(kill_the_slot, tmp_path / "killed")
    second = engine.submit(tasks.identity, [first, 1])
    third = engine.submit(tasks.identity, {"a": second}, light=True)
    assert gather(engine, [third]) == [{"a": ["second time", 1]}]


def test_a_task_that_is_always_lost_fails_with_the_reason(engine):
    failure = outcome(engine, kill_every_slot)
    assert failure.kind is FailureKind.DIED
    assert "was lost 3 times" in failure.reason


def freeze_the_slot():
    """Stops the Python worker of COMPSs that this runs in: it never reports, and its line stays open."""
    os.kill(os.getppid(), 19)
    time.sleep(tasks.ENDLESS)


def test_a_task_that_never_reports_fails_after_its_deadline(engine):
    failure = outcome(engine, freeze_the_slot, time_limit=1)
    assert failure.kind is FailureKind.TIME_LIMIT
    assert re.fullmatch("ran past its limit of 1 s and was not heard of for [34] s", failure.reason)
    assert outcome(engine, tasks.add, 1, 1) == 2


def test_those_that_wait_for_it_go_on_without_it(engine):
    frozen = engine.submit(freeze_the_slot, resources=Resources(time_limit=1))
    after = engine.submit(tasks.identity, frozen)
    assert outcome(engine, tasks.identity, [after])[0].kind is FailureKind.TIME_LIMIT


def test_a_long_silence_before_a_task_is_not_held_against_it(engine):
    assert outcome(engine, tasks.add, 1, 1) == 2
    time.sleep(4)
    future = engine.submit(tasks.interval, 1.5)
    gather(engine, [future])
    assert future.attempt == 0


def test_a_node_that_dies_takes_no_trial_with_it(two_nodes, tmp_path):
    with Compss(2, grace=20) as engine:
        futures = [engine.submit(tasks.touch_and_wait_for, tmp_path / str(n), tmp_path / "gate", n) for n in range(2)]
        for number in range(2):
            eventually((tmp_path / str(number)).exists)
        standin.kill_node("node1")
        (tmp_path / "gate").touch()
        assert gather(engine, futures) == [0, 1]


@pytest.fixture
def hasty(monkeypatch):
    """Has the engine look for what is lost ten times a second, and suspect it soon."""
    monkeypatch.setattr(compss, "CHECK_INTERVAL", 0.1)
    monkeypatch.setattr(compss, "SUSPICION", 0.2)


def test_a_small_task_behind_a_large_silent_one_is_not_held_lost(two_nodes, hasty, tmp_path):
    nodes = tmp_path / "resources.xml"
    nodes.write_text(resources_xml([parse_node("node1:1cpu"), parse_node("node2:1cpu")]))
    with Compss(resources=nodes, address="127.0.0.1", grace=0.6) as engine:
        large = [engine.submit(tasks.interval, 3) for _ in range(2)]
        small = engine.submit(tasks.identity, 1, light=True)
        gather(engine, [*large, small])
        assert [future.attempt for future in (*large, small)] == [0, 0, 0]


def test_a_dead_slot_costs_no_trial_however_long_the_others_take(hasty, tmp_path):
    nodes = tmp_path / "resources.xml"
    nodes.write_text(resources_xml([parse_node("node1:2cpu")]))
    standin.start([{"name": "node1", "cpu": 2}])
    try:
        with Compss(resources=nodes, address="127.0.0.1", grace=3) as engine:
            assert outcome(engine, kill_the_slot, tmp_path / "killed") == "second time"
            futures = [engine.submit(tasks.interval, 2) for _ in range(4)]
            assert not any(isinstance(result, Failure) for result in gather(engine, futures))
            # What it took while the sound one was busy does not count.
            assert any(future.attempt > future.unstarted for future in futures)
    finally:
        standin.stop()


def test_a_result_that_is_lost_after_its_task_is_done_is_made_again(engine, runtime, monkeypatch):
    wait_on, losses = runtime.compss_wait_on, iter([True, True])
    monkeypatch.setattr(engine, "_runtime", types.SimpleNamespace(**vars(runtime)))
    engine._runtime.compss_wait_on = lambda handle: None if next(losses, False) else wait_on(handle)
    assert outcome(engine, tasks.add, 1, 2) == 3
    engine._runtime.compss_wait_on = lambda handle: None
    failure = outcome(engine, tasks.add, 1, 2)
    assert failure.kind is FailureKind.DIED
    assert "was lost 3 times" in failure.reason


def test_a_task_whose_line_breaks_goes_on(engine, tmp_path):
    future = engine.submit(tasks.touch_and_wait_for, tmp_path / "begun", tmp_path / "gate", 1)
    eventually((tmp_path / "begun").exists, engine)
    engine._desk._callers[future.number, 0].connection.shutdown(socket.SHUT_RDWR)
    assert engine.wait([future], timeout=5) == []
    assert future.attempt == 0
    tasks.touch(tmp_path / "gate")
    assert gather(engine, [future]) == [1]


def test_what_waits_when_the_engine_is_closed_does_not_run(runtime, resources_file, tmp_path):
    with Compss(resources=resources_file, gpu_shares=4) as engine:
        running = engine.submit(tasks.wait_for, tmp_path / "never", resources=Resources(cpu=4))
        queued = [engine.submit(tasks.touch, tmp_path / str(n), resources=Resources(cpu=4)) for n in range(4)]
        eventually(lambda: engine.wait([running], timeout=0.1) or running.started is not None)
        engine.cancel(queued[0])
    begun = time.monotonic()
    runtime.compss_barrier()
    assert time.monotonic() - begun < 10
    assert list(tmp_path.glob("*")) == []


@pytest.mark.parametrize("lag", [None, 4])
def test_no_more_trials_run_at_once_than_there_may_be_workers(runtime, resources_file, tmp_path, lag):
    def crowd(values):
        mine = tmp_path / secrets.token_hex(8)
        mine.touch()
        until = time.monotonic() + 5  # however long a loaded machine takes to start the other one
        while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.3)
        count = len(list(tmp_path.iterdir()))
        mine.unlink()
        return count

    with Compss(2, resources=resources_file, gpu_shares=4) as engine:
        study = Study(Space([Float("x", 0, 1)]), seed=0, lag=lag)
        study.optimize(crowd, trials=8, engine=engine)
    assert max(trial.value for trial in study.trials) == 2


def test_a_limit_that_no_machine_reaches_is_no_hindrance(two_nodes):
    with Compss(2) as engine:
        assert outcome(engine, tasks.add, 1, 1, memory=1 << 50) == 2


# GPUs


def test_gpus_that_compss_would_die_of_binding_are_refused(resources_file):
    standin.start([{"name": "localhost", "cpu": 4, "gpu": 8}])
    try:
        with Compss(resources=resources_file, gpu_shares=4) as engine:
            for gpu in (0.25, 2):
                with pytest.raises(InputError, match=r"resources.gpu: COMPSs cannot bind .*--gpu_affinity=disabled"):
                    engine.submit(tasks.identity, 0, resources=Resources(gpu=gpu))
            assert outcome(engine, tasks.environment, "CUDA_VISIBLE_DEVICES", gpu=1)["CUDA_VISIBLE_DEVICES"] in (
                "0",
                "1",
            )
    finally:
        standin.stop()


# Messages


@pytest.fixture
def office():
    heard = []
    secret = secrets.token_bytes(32)
    desk = Desk("127.0.0.1", 0, secret, lambda message: heard.append(message) or {"cancel": message["task"] == 7})
    yield desk, Office(desk.address, desk.port, None, secret), heard
    desk.close()


def test_a_line_carries_what_a_task_tells_and_what_the_master_wants(office):
    desk, where, heard = office
    with Line(where, 3, 0) as line:
        line.start(place="here")
        line.progress(epoch=2)
        assert not line.cancelled
        assert desk.tell(3, 0, {"cancel": True})
        eventually(lambda: line.listen(0.1) or line.cancelled)
        line.done()
    eventually(lambda: len(heard) == 4)
    assert [message["event"] for message in heard] == ["start", "progress", "done", "gone"]
    assert heard[1] == {"task": 3, "attempt": 0, "event": "progress", "values": {"epoch": 2}}
    assert not desk.tell(3, 0, {"cancel": True})


def test_a_line_that_broke_is_opened_anew(office):
    _, where, heard = office
    with Line(where, 3, 0) as line:
        line.start()
        line._connection.close()
        line.progress(epoch=1)
        line.done()
    eventually(lambda: {"progress", "done"} <= {message["event"] for message in heard})


def test_a_line_to_a_master_that_is_held_up_is_opened_later(monkeypatch):
    monkeypatch.setattr(messages, "PATIENCE", 0.2)
    monkeypatch.setattr(messages, "REOPENING", 0.2)
    secret, heard = secrets.token_bytes(32), []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address, port = silent.getsockname()
        line = Line(Office(address, port, None, secret), 3, 0)
        assert line.found
        assert not line.start()
    desk = Desk(address, port, secret, heard.append)
    with line:
        line.done()
        eventually(lambda: [message["event"] for message in heard] == ["done"])
    desk.close()


def test_the_masters_address_is_one_that_others_reach():
    assert messages.local_address(["localhost", "no-such-host.invalid"]) == "127.0.0.1"


def test_a_task_that_is_no_longer_wanted_learns_it_when_it_starts(office):
    with Line(office[1], 7, 0) as line:
        line.start()
        assert line.cancelled


def test_a_message_without_the_secret_is_not_heard(office):
    desk, where, heard = office
    with Line(Office(where.address, where.port, None, b"another"), 1, 0) as line:
        line.done()
        line.listen(tasks.PATIENCE)
        assert line._connection is None
    assert heard == []
    with socket.create_connection((desk.address, desk.port)) as connection:
        connection.sendall(b"x" * 200_000)
        connection.settimeout(tasks.PATIENCE)
        try:
            while connection.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass
    assert heard == []


def test_a_message_that_is_repeated_on_another_line_is_not_heard(office):
    _, where, heard = office
    sent = []
    with Line(where, 1, 0) as line:
        line._connection.close()
        line._connection = socket.create_connection((where.address, where.port))
        line._number = line._connection.makefile().readline().strip()
        line.done()
        eventually(lambda: len(heard) == 1)
        sent.append(messages._sealed(where.secret, f"{line._number} up 0", heard[0]))
    eventually(lambda: len(heard) == 2)
    with socket.create_connection((where.address, where.port)) as connection:
        connection.makefile().readline()
        connection.sendall(sent[0])
        connection.settimeout(tasks.PATIENCE)
        assert connection.recv(1) == b""
    assert len(heard) == 2


def test_without_a_line_messages_are_files(tmp_path):
    where = Office(None, 0, tmp_path, b"secret")
    with Line(where, 5, 1) as line:
        line.start(place="node7")
        line.done()
        assert not line.cancelled
        (tmp_path / "5.cancel").touch()
        line.listen(0)
        assert line.cancelled
    (tmp_path / "6-0.done").write_bytes(b"forged {}\n")
    assert [message["event"] for message in collect(where)] == ["start", "done"]
    assert collect(where) == []


def test_the_secret_is_not_in_what_is_printed():
    assert "topsecret" not in repr(Office("here", 1, None, b"topsecret"))


def test_a_study_goes_on_by_files_where_the_master_cannot_be_reached(runtime, resources_file, tmp_path):
    logs = tmp_path / "logs"
    with Compss(resources=resources_file, gpu_shares=4, shared=True, log_directory=logs, grace=3) as engine:
        engine._desk.close()
        futures = [engine.submit(tasks.add, number, 1) for number in range(4)]
        assert gather(engine, futures) == [1, 2, 3, 4]
        assert outcome(engine, kill_the_slot, tmp_path / "killed") == "second time"
    assert list((tmp_path / "logs").glob(".messages-*")) == []


# Studies


def slow(values):
    import random
    import time

    time.sleep(random.random() * 0.05)
    return (values["x"] - 30) ** 2 + values["y"]


def search(engine, **settings):
    study = Study(Space([Int("x", 0, 99), Float("y", 0, 1)]), sampler={"name": "hyperopt", "startup_trials": 5}, seed=3,
                  **settings)  # fmt: skip
    study.optimize(slow, trials=16, engine=engine)
    assert study.completed == 16
    return [trial.configuration for trial in study.trials]


def test_the_lagged_order_gives_the_same_configurations_here_and_on_one_machine(engine):
    with Local(workers=1, cores=1) as one, Local(workers=2, cores=2) as two:
        assert search(engine, lag=4) == search(one, lag=4) == search(two, lag=4)


def test_the_eager_order_runs_here_too(engine):
    assert len(search(engine)) == 16


# Bad input


def test_without_pycompss_the_engine_says_how_to_start_it():
    with pytest.raises(InputError, match=r"PyCOMPSs is not installed .* or use  --engine local"):
        make_engine("compss")


def test_outside_runcompss_the_engine_says_how_to_start_it(monkeypatch):
    monkeypatch.syspath_prepend(standin.FOLDER)
    try:
        with pytest.raises(InputError, match=r"start it as  runcompss hpcompss/main.py run WORKFLOW, or use"):
            make_engine("compss")
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "pycompss"]:
            del sys.modules[name]


def test_an_address_that_is_not_this_machines_is_refused(runtime, resources_file):
    with pytest.raises(InputError, match=r"engine.address: the master cannot listen on 192\.0\.2\.1"):
        Compss(resources=resources_file, address="192.0.2.1")


def test_workers_that_cannot_reach_the_master_are_found_out_at_once(runtime, resources_file, monkeypatch):
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    monkeypatch.setattr(Desk, "__init__", lambda self, *args: vars(self).update(address="127.0.0.1", port=port))
    monkeypatch.setattr(Desk, "close", lambda self: None)
    with pytest.raises(InputError, match=f"workers on .* cannot reach the master .127.0.0.1:{port}: Connection"):
        Compss(resources=resources_file, grace=1)


def test_a_folder_that_workers_do_not_see_although_it_is_said_to_be_shared_is_refused(
    runtime, resources_file, tmp_path, monkeypatch
):
    hidden = tmp_path / "hidden"
    monkeypatch.setattr(compss, "_message_folder", lambda logs: hidden)
    with pytest.raises(InputError, match=r"engine.shared: workers on .* do not see the study's folder .*study"):
        Compss(resources=resources_file, shared=True, log_directory=tmp_path / "study" / "logs")


def test_a_worker_whose_python_lacks_hpcompss_is_found_out_at_once(resources_file, monkeypatch):
    standin.start([{"name": "localhost", "cpu": 1}])
    try:
        from pycompss import _master

        monkeypatch.setattr(_master, "submit", lambda where, *rest: _failed(_master))
        with pytest.raises(HpcompssError, match="hpcompss must be installed for the workers' Python"):
            Compss(resources=resources_file, grace=1)
    finally:
        monkeypatch.undo()
        standin.stop()


def _failed(master):
    return None


def test_the_resources_file_of_the_run_is_found(two_nodes, tmp_path, monkeypatch):
    nodes = [parse_node("node1:2cpu"), parse_node("node2:6cpu"), parse_node("node3:8cpu")]
    (tmp_path / "resources.xml").write_text(resources_xml(nodes))
    (tmp_path / "project.xml").write_text(project_xml(nodes[:2], "/opt/COMPSs", "/tmp"))
    options = tmp_path / "options"
    options.write_text("".join(f"-Dcompss.{kind}.file={tmp_path / kind}.xml\n" for kind in ("resources", "project")))
    monkeypatch.setenv("JVM_OPTIONS_FILE", str(options))
    with Compss(address="127.0.0.1") as engine:
        assert engine.capacity(Resources(cpu=2)) == 4


@pytest.mark.parametrize("scheduler", ["lookahead.locality.LocalityTS", "orderstrict.fifo.FifoTS"])
def test_a_scheduler_that_lets_old_trials_wait_is_noted(two_nodes, tmp_path, monkeypatch, scheduler):
    options = tmp_path / "options"
    options.write_text(f"-Dcompss.scheduler=es.bsc.compss.scheduler.{scheduler}\n")
    monkeypatch.setenv("JVM_OPTIONS_FILE", str(options))
    with Compss(2) as engine:
        assert ("start runcompss with  --scheduler=" in engine.advice) == ("fifo" not in scheduler)


# The command line


def runcompss(*arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, str(RUNCOMPSS), *map(str, arguments)],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=5 * tasks.PATIENCE,
    )  # fmt: skip


@pytest.mark.parametrize("order", [pytest.param("eager", marks=pytest.mark.slow), "lagged"])
def test_digits_are_tuned_under_runcompss_on_two_workers(tmp_path, order):
    nodes = [parse_node("node1:1cpu"), parse_node("node2:1cpu")]
    (tmp_path / "resources.xml").write_text(resources_xml(nodes))
    (tmp_path / "project.xml").write_text(project_xml(nodes, "/opt/COMPSs", "/tmp/worker"))
    done = runcompss(
        f"--resources={tmp_path / 'resources.xml'}",
        f"--project={tmp_path / 'project.xml'}",
        ROOT / "hpcompss" / "main.py",
        *("run", ROOT / "workflows" / "digits.yaml", "--study", tmp_path / "study"),
        *("--trials", "4", "--seed", "1", "--set", "training.epochs=1", "--set", f"search.order={order}"),
        *("--set", "engine.address=127.0.0.1", "--set", "engine.shared=true", "--json"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "2 trials at once, 1 cpu and 0 gpu each" in done.stderr
    assert json.loads(done.stdout)["best"]["value"] > 0.3
    assert Study.load(tmp_path / "study").completed == 4
    assert (tmp_path / "study" / "best.keras").exists()
    assert Study.load(tmp_path / "study").lag == (8 if order == "lagged" else None)


def test_a_trial_that_fits_no_node_is_refused_before_anything_is_submitted(tmp_path, resources_file):
    done = runcompss(
        f"--resources={resources_file}",
        ROOT / "hpcompss" / "main.py",
        *("run", ROOT / "workflows" / "digits.yaml", "--engine", "compss", "--study", tmp_path / "study"),
        *("--set", "resources.cpu=64"),
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "a trial asks for 64 cpus, the largest node has 4: lower resources.cpu" in done.stderr
    assert not (tmp_path / "study").exists()


def test_the_engine_local_is_taken_at_its_word_with_a_warning(tmp_path, resources_file):
    done = runcompss(
        f"--resources={resources_file}",
        ROOT / "hpcompss" / "main.py",
        *("run", ROOT / "workflows" / "function.yaml", "--engine", "local", "--study", tmp_path / "study"),
        *("--trials", "2", "--workers", "1"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "warning: the engine local uses this machine alone" in done.stdout
    assert "1 trial at once" in done.stdout


def test_arguments_that_runcompss_has_split_are_refused_with_the_reason(tmp_path, resources_file):
    done = runcompss(
        f"--resources={resources_file}",
        ROOT / "hpcompss" / "main.py",
        *("run", ROOT / "workflows" / "function.yaml", "--set", "search={trials: 3}"),
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "unrecognized arguments: 3}; runcompss splits arguments at spaces" in done.stderr
