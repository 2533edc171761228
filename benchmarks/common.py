"""What the benchmarks share: a disk to write to, child processes, repeats, and how figures are printed."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "workflows" / "digits.py"
# What is measured is this checkout, whichever hpcompss is installed.
sys.path.insert(0, str(ROOT))


def environment(threads: int | None = None) -> dict[str, str]:
    """Returns the environment of a child that imports this checkout, with ``threads`` threads a library."""
    from hpcompss.engines.local_process import THREAD_VARIABLES

    variables = {name: value for name, value in os.environ.items() if name not in THREAD_VARIABLES}
    if threads is not None:
        variables.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**variables, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}


def use_cores(count: int) -> None:
    """Binds this process, and so all that it starts, to ``count`` cores: what each side may use is the same."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < count:
        raise SystemExit(f"this benchmark needs {count} cores; this process may use {len(cores)}")
    os.sched_setaffinity(0, cores[:count])


@dataclass(frozen=True)
class Run:
    """A command that ran: seconds from its start to its end, seconds of processor time, and what it printed."""

    seconds: float
    processor: float
    output: str


def run(command: Sequence[str], *, threads: int | None = None, fine: Sequence[int] = (0,)) -> Run:
    """Runs a command to its end, whose exit status is one of those that are ``fine``."""
    before, begun = os.times(), time.perf_counter()
    done = subprocess.run(command, env=environment(threads), capture_output=True, text=True)
    seconds, after = time.perf_counter() - begun, os.times()
    if done.returncode not in fine:
        raise SystemExit(f"{' '.join(command)} failed with status {done.returncode}:\n{done.stdout}\n{done.stderr}")
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(seconds, processor, done.stdout)


def run_side(script: str, side: str, *arguments: Any, threads: int | None = None) -> tuple[Run, dict[str, Any]]:
    """Runs one side of a benchmark in a process of its own and returns it with the figures it printed.

    The script is started as ``script --only side arguments...`` and ends with a line of JSON.
    """
    done = run([sys.executable, script, "--only", side, *map(str, arguments)], threads=threads)
    return done, json.loads(done.output.splitlines()[-1])


def run_digits(folder: Path, *arguments: Any) -> tuple[Run, list[dict[str, Any]]]:
    """Runs the digits workflow into ``folder`` and returns the run with the journal's records."""
    command = [sys.executable, "-m", "hpcompss", "run", str(DIGITS.with_suffix(".yaml")), "--study", str(folder)]
    return run([*command, *map(str, arguments)]), journal(folder)


def journal(folder: Path) -> list[dict[str, Any]]:
    """Returns the whole records of a study's journal, also while it is written."""
    try:
        lines = (folder / "journal.jsonl").read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines[:-1]]


def seconds_of_trials(records: Sequence[Mapping[str, Any]]) -> float:
    """Returns the seconds from a study's beginning to its last trial's end."""
    return max(each["time"] for each in records if each["event"] == "tell") - records[0]["time"]


def interleaved(repeats: int, sides: Mapping[str, Callable[[int], Any]]) -> dict[str, list[Any]]:
    """Calls each side in turn with the repeat's number, ``repeats`` times over, so that noise meets all alike."""
    results: dict[str, list[Any]] = {name: [] for name in sides}
    for repeat in range(repeats):
        for name, side in sides.items():
            results[name].append(side(repeat))
            print(f"... {name}, {repeat + 1} of {repeats}", file=sys.stderr, flush=True)
    return results


def median(values: Sequence[float]) -> float:
    """Returns the median."""
    return statistics.median(values)


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Returns the median, with the least and the largest where there are several."""
    text = format(median(values), form)
    return text if len(values) == 1 else f"{text} ({min(values):{form}} to {max(values):{form}})"


def absent(*modules: str) -> str:
    """Returns why a peer is skipped, or an empty string where it is installed; nothing is imported."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return f"{' and '.join(missing)} not installed: pip install 'hpcompss[bench]'" if missing else ""


@contextlib.contextmanager
def disk_folder(parent: str | None) -> Iterator[Path]:
    """Gives an empty folder, removed afterwards: in ``parent``, else where temporary files go, else on a real disk."""
    candidates = [parent] if parent else [tempfile.gettempdir(), "/var/tmp", os.getcwd()]
    chosen = next((each for each in candidates if _file_system(each) not in ("tmpfs", "ramfs")), candidates[0])
    with tempfile.TemporaryDirectory(prefix="hpcompss-bench-", dir=chosen) as folder:
        yield Path(folder)


def _file_system(folder: str) -> str:
    """Returns the type of the file system that holds ``folder``, empty where the system does not tell."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return ""
    path = Path(folder).resolve()
    holding = [(len(point), kind) for point, kind in mounts if path.is_relative_to(point)]
    return max(holding, default=(0, ""))[1]


def sync_milliseconds(folder: Path, times: int = 100) -> float:
    """Returns how long the disk takes to keep a line: the median of ``times`` small writes, each flushed."""
    took = []
    with open(folder / "probe", "wb", buffering=0) as file:
        for _ in range(times):
            begun = time.perf_counter()
            file.write(b"x" * 300)
            getattr(os, "fdatasync", os.fsync)(file.fileno())
            took.append(time.perf_counter() - begun)
    return median(took) * 1000


# Printing


@dataclass(frozen=True)
class Target:
    """A figure to reach: what it is, its value, and its bound."""

    what: str
    value: float
    bound: float
    at_least: bool
    unit: str = ""

    @property
    def reached(self) -> bool:
        """Whether the value is on the right side of the bound."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        side = "at least" if self.at_least else "at most"
        verdict = "reached" if self.reached else "MISSED"
        return f"{verdict}: {self.what} {self.value:.3g}{self.unit}, to be {side} {self.bound:g}{self.unit}"


def report(title: str, rows: Sequence[tuple[str, str]], targets: Sequence[Target], skipped: Sequence[str] = ()) -> int:
    """Prints a benchmark's figures and returns its exit status: 0 where every target is reached."""
    print(title)
    print(machine())
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"  {name.ljust(width)}  {value}")
    for reason in skipped:
        print(f"skipped: {reason}")
    for target in targets:
        print(target)
    return 0 if all(target.reached for target in targets) else 1


def machine() -> str:
    """Returns the machine and what runs on it, in a line."""
    names = ("tensorflow", "tensorflow-cpu", "keras", "keras-tuner", "optuna", "numpy")
    versions = [f"{name} {version}" for name in names if (version := _version(name))]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    here = [f"{cores} cores of {_processor()}", load, f"{platform.system()}, Python {platform.python_version()}"]
    return "; ".join([*filter(None, here), ", ".join(versions)])


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
