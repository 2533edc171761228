"""The engines beside what they run on: what a task costs, how soon a worker is of use, and four machines at once.

- A task that does nothing, on each engine that is installed, and the same function submitted to the framework itself,
  with as many in flight: Python's process pool for the engine local, Dask's, Ray's, MPI's and joblib's own. In flight
  are as many as a study gives in advance of trials that take no time; the cost with one for each slot is printed, too.
- The time from the start of ``hpcompss worker`` to the start of its first trial: of a plain function, and of a function
  that imports TensorFlow.
- Four workers, each on a machine of its own: network namespaces joined by a bridge (needs root and ``ip``), against the
  ideal time of trials that sleep.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import Target, disk_folder, environment, interleaved, journal, median, report, spread

MOST_COST = 1.5
"""Times the cost of the framework's own bare submission."""

SOONEST = {"plain": 3.0, "tensorflow": 10.0}
"""Seconds from a worker's start to its first trial."""

LEAST_SPEED_UP = 0.9
"""Of the ideal speed-up of four machines."""

MACHINES = 4
SLOTS = 2
ADVANCE = 64
"""How many tasks each slot is given in advance: `hpcompss.loop.MOST_SHORT`."""


def nothing(number: int) -> int:
    return number


# What a task costs


@dataclass(frozen=True)
class Load:
    """How many tasks are run, and how many of them are in flight."""

    tasks: int
    flight: int


def through_engine(engine: Any, load: Load) -> float:
    """Returns the seconds a task takes through one of our engines."""
    from hpcompss.trial import Resources

    engine.await_workers()
    while engine.capacity(Resources()) < SLOTS:
        engine.wait([engine.submit(nothing, 0)])

    def run(count: int) -> None:
        running = [engine.submit(nothing, number) for number in range(load.flight)]
        sent = load.flight
        while running:
            for done in engine.wait(running):
                running.remove(done)
                if sent < count:
                    running.append(engine.submit(nothing, sent))
                    sent += 1

    run(load.flight + 20)
    begun = time.perf_counter()
    run(load.tasks)
    return (time.perf_counter() - begun) / load.tasks


def through_futures(submit: Callable[[int], Any], load: Load) -> float:
    """Returns the seconds a task takes that ``submit(number)`` gives to a pool of `concurrent.futures`."""
    from concurrent.futures import FIRST_COMPLETED, wait

    def run(count: int) -> None:
        running = {submit(number) for number in range(load.flight)}
        sent = load.flight
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each in done:
                each.result()
                if sent < count:
                    running.add(submit(sent))
                    sent += 1

    run(load.flight + 20)
    begun = time.perf_counter()
    run(load.tasks)
    return (time.perf_counter() - begun) / load.tasks


def local(load: Load) -> tuple[float, float]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    from hpcompss.engines.local import Local

    with Local(SLOTS, cores=SLOTS) as engine:
        ours = through_engine(engine, load)
    with ProcessPoolExecutor(SLOTS, mp_context=multiprocessing.get_context("spawn")) as pool:
        return ours, through_futures(lambda number: pool.submit(nothing, number), load)


def dask(load: Load) -> tuple[float, float]:
    from distributed import LocalCluster, as_completed

    from hpcompss.engines.dask import Dask

    with (
        LocalCluster(SLOTS, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
        cluster.get_client() as client,
    ):
        with Dask(address=cluster.scheduler_address) as engine:
            ours = through_engine(engine, load)

        def run(count: int) -> None:
            flow = as_completed([client.submit(nothing, number, pure=False) for number in range(load.flight)])
            sent = load.flight
            for each in flow:
                each.result()
                if sent < count:
                    flow.add(client.submit(nothing, sent, pure=False))
                    sent += 1

        run(load.flight + 20)
        begun = time.perf_counter()
        run(load.tasks)
        return ours, (time.perf_counter() - begun) / load.tasks


def ray(load: Load) -> tuple[float, float]:
    import ray as bare

    from hpcompss.engines.ray import Ray

    bare.init("local", num_cpus=SLOTS, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        with Ray() as engine:
            ours = through_engine(engine, load)
        remote = bare.remote(nothing)

        def run(count: int) -> None:
            running = [remote.remote(number) for number in range(load.flight)]
            sent = load.flight
            while running:
                done, running = bare.wait(running)
                for each in done:
                    bare.get(each)
                    if sent < count:
                        running.append(remote.remote(sent))
                        sent += 1

        run(load.flight + 20)
        begun = time.perf_counter()
        run(load.tasks)
        return ours, (time.perf_counter() - begun) / load.tasks
    finally:
        bare.shutdown()


def joblib(load: Load) -> tuple[float, float]:
    from joblib import parallel_config
    from joblib.externals.loky import get_reusable_executor

    from hpcompss.engines.joblib import Joblib

    with parallel_config("loky", n_jobs=SLOTS), Joblib() as engine:
        ours = through_engine(engine, load)
    with get_reusable_executor(SLOTS) as pool:  # joblib cannot use one that it has not made itself
        return ours, through_futures(lambda number: pool.submit(nothing, number), load)


def mpi(load: Load) -> tuple[float, float]:
    """Runs this program under ``mpiexec``, for each of the two sides."""
    found = []
    for side in ("ours", "bare"):
        command = [*_mpiexec(), "-n", str(SLOTS + 1), "--oversubscribe", "--bind-to", "none", sys.executable]
        if side == "bare":
            command += ["-m", "mpi4py.futures"]
        variables = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        done = subprocess.run(
            [*command, __file__, "--mpi", side, "--tasks", str(load.tasks), "--flight", str(load.flight)],
            env={**environment(1), **variables},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: {done.stderr.strip().splitlines()[-1:]}")
        found.append(float(done.stdout.split()[-1]))
    return found[0], found[1]


def under_mpi(side: str, load: Load) -> None:
    if side == "ours":
        from hpcompss.engines.mpi import Mpi

        with Mpi() as engine:  # only the first rank comes here
            print(through_engine(engine, load))
        return
    from mpi4py.futures import MPIPoolExecutor

    with MPIPoolExecutor() as pool:
        print(through_futures(lambda number: pool.submit(nothing, number), load))


def _mpiexec() -> list[str]:
    beside = Path(sys.executable).with_name("mpiexec")
    return [str(beside)] if beside.exists() else ["mpiexec"]


ENGINES: dict[str, tuple[Callable[[Load], tuple[float, float]], str]] = {
    "local": (local, "hpcompss"),
    "dask": (dask, "distributed"),
    "ray": (ray, "ray"),
    "mpi": (mpi, "mpi4py"),
    "joblib": (joblib, "joblib"),
}


class Findings:
    """What the parts found: rows to print, targets, and what was skipped."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []
        self.targets: list[Target] = []
        self.skipped: list[str] = []


def costs(options: argparse.Namespace, found: Findings) -> None:
    sides = {}
    for name, (measure, package) in ENGINES.items():
        if importlib.util.find_spec(package) is None:
            found.skipped.append(f"{name}: {package} is not installed")
        elif name == "mpi" and shutil.which(_mpiexec()[0]) is None:
            found.skipped.append(f"{name}: there is no mpiexec")
        elif name in options.engines:
            for what, flight in ((name, SLOTS * (1 + ADVANCE)), (f"{name}, none in advance", SLOTS)):
                load = Load(options.tasks, flight)
                sides[what] = lambda _, measure=measure, load=load: measure(load)
    for what, runs in interleaved(options.repeats, sides).items():
        ours, bare = [1000 * first for first, _ in runs], [1000 * second for _, second in runs]
        ratios = [first / second for first, second in runs]
        found.rows.append((f"a task on {what}", f"{spread(ours)} ms; bare {spread(bare)} ms; ratio {spread(ratios)}"))
        if what in ENGINES:
            target = Target(f"a task on {what}, of its bare submission", median(ratios), MOST_COST, False)
            found.targets.append(target)


# How soon a worker is of use

FUNCTION = """
import time


def plain(configuration):
    return {"loss": configuration["x"], "begun": time.time()}


def tensorflow(configuration):
    import tensorflow

    return {"loss": configuration["x"], "begun": time.time()}


def rest(configuration):
    begun = time.time()
    time.sleep(SECONDS)
    return {"loss": configuration["x"], "begun": begun, "ended": time.time()}
"""


def _workflow(folder: Path, function: str, trials: int, seconds: float = 0.0, **engine: Any) -> Path:
    (folder / "function.py").write_text(FUNCTION.replace("SECONDS", str(seconds)))
    path = folder / "workflow.yaml"
    path.write_text(
        json.dumps(
            {
                "function": f"function.py:{function}",
                "space": {"x": {"type": "Float", "min_value": 0, "max_value": 1}},
                "objective": "loss",
                "search": {"sampler": "random", "trials": trials, "seed": 0},
                "engine": {"name": "dask", "workers": 0, **engine},
            }
        )
    )
    return path


@contextlib.contextmanager
def _started(*commands: list[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    processes = [
        subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        for command in commands
    ]
    try:
        yield processes
    finally:
        for each in processes:
            each.terminate()
        for each in processes:
            each.wait()


HPCOMPSS = [sys.executable, "-m", "hpcompss"]


def _port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def start(function: str) -> float:
    """Returns the seconds from a worker's start to the start of its first trial; the master runs already."""
    with disk_folder(None) as folder:
        port = _port()
        workflow = _workflow(folder, function, 1, port=port)
        with _started([*HPCOMPSS, "run", str(workflow), "--study", str(folder / "study")]) as (master,):
            time.sleep(5.0)
            begun = time.time()
            with _started([*HPCOMPSS, "worker", f"tcp://127.0.0.1:{port}", "--cpu", "1"]):
                master.wait()
        (told,) = [each for each in journal(folder / "study") if each["event"] == "tell"]
        return float(told["metrics"]["begun"]) - begun


def starts(options: argparse.Namespace, found: Findings) -> None:
    sides = {name: lambda _, name=name: start(name) for name in SOONEST}
    for name, seconds in interleaved(options.repeats, sides).items():
        what = f"from a worker's start to its first trial, {name}"
        found.rows.append((what, f"{spread(seconds, '.1f')} s"))
        found.targets.append(Target(what, median(seconds), SOONEST[name], False, " s"))


# Four machines


@contextlib.contextmanager
def _machines(count: int) -> Iterator[list[str]]:
    """Gives network namespaces, whose addresses are 10.123.0.2 and on; this machine's is 10.123.0.1."""
    names = [f"hpcompss-{number}" for number in range(count)]

    def ip(*words: str, check: bool = True) -> None:
        subprocess.run(["ip", *words], check=check, capture_output=True)

    try:
        ip("link", "add", "hpcompss", "type", "bridge")
        ip("addr", "add", "10.123.0.1/24", "dev", "hpcompss")
        ip("link", "set", "hpcompss", "up")
        for number, name in enumerate(names):
            ip("netns", "add", name)
            ip("link", "add", f"hpc{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", f"hpc{number}", "master", "hpcompss", "up")
            ip("-n", name, "addr", "add", f"10.123.0.{number + 2}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            ip("netns", "del", name, check=False)
        ip("link", "del", "hpcompss", check=False)


def machines(options: argparse.Namespace, found: Findings) -> None:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        found.skipped.append("four machines: network namespaces need root and the program ip (Debian: iproute2)")
        return
    try:
        with _machines(MACHINES) as names, disk_folder(None) as folder:
            port = _port()
            workflow = _workflow(folder, "rest", options.trials, options.seconds, host="10.123.0.1", port=port)
            address = f"tcp://10.123.0.1:{port}"
            workers = [["ip", "netns", "exec", name, *HPCOMPSS, "worker", address, "--cpu", "1"] for name in names]
            with _started(*workers):
                time.sleep(10.0)
                subprocess.run(
                    [*HPCOMPSS, "run", str(workflow), "--study", str(folder / "study")],
                    env=environment(),
                    check=True,
                    capture_output=True,
                )
            told = [each["metrics"] for each in journal(folder / "study") if each["event"] == "tell"]
    except subprocess.CalledProcessError as error:
        words = (error.stderr or b"").decode(errors="replace").strip()
        found.skipped.append(f"four machines: {' '.join(error.cmd)} ended with status {error.returncode}: {words}")
        return
    seconds = max(each["ended"] for each in told) - min(each["begun"] for each in told)
    speed_up = options.trials * options.seconds / seconds / MACHINES
    found.rows.append(
        (
            f"{len(told)} trials of {options.seconds:g} s on {MACHINES} machines",
            f"{seconds:.1f} s, {100 * speed_up:.1f} % of the ideal speed-up",
        )
    )
    found.targets.append(Target("of the ideal speed-up of four machines", speed_up, LEAST_SPEED_UP, True))


PARTS = {"costs": costs, "starts": starts, "machines": machines}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--mpi", choices=("ours", "bare"), help=argparse.SUPPRESS)
    parser.add_argument("--flight", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.mpi:
        under_mpi(options.mpi, Load(options.tasks, options.flight))
        return 0
    found = Findings()
    for part in options.parts:
        PARTS[part](options, found)
    return report("Engines: what they add to what they run on", found.rows, found.targets, found.skipped)


if __name__ == "__main__":
    sys.exit(main())
