"""Whether spending epochs only where they pay saves time: ours and the peers' schedulers, simulated and real.

The parts:

- simulated: 8 workers tune LCBench's network in simulated time (``fidelity_simulated.py``). Measured is the time at
  which the mean normalised regret, over data sets and seeds, of the best accuracy that a contestant has seen at any
  epoch, comes down to 0.02. Time counts in median full trainings of the data set. Those that are compared with are
  simulated for longer than ours with a scheduler, as much as it takes to see the bounds kept; one that does not get
  there counts with the whole of its time, so that the ratio to it is at most what is printed.
- utilisation: how busy ASHA keeps 64 simulated workers, through the real loop, with the costs that COMPSs was seen to
  have and full trainings of ten minutes (median).
- digits: real digits on 2 cores until 98 % validation accuracy, against KerasTuner's Hyperband (``fidelity_real.py``).
- cifar10: the real CIFAR-10 on 2 cores, 15 minutes with a scheduler and 15 without. It runs where it is asked for.

``--short`` is a form of under ten minutes on 2 cores. ``--cache DIR`` keeps every simulated search, so that only what
has changed runs again.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import math
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import common
import fidelity_real as real
import fidelity_simulated as simulated
import numpy as np
import sampler_tasks as tasks
from common import Target
from fidelity_simulated import Progress
from numpy.typing import NDArray

from hpcompss.engines.simulated import Simulated
from hpcompss.graph import FunctionGraph
from hpcompss.loop import Loop
from hpcompss.stopping import StopRules
from hpcompss.study import Study
from hpcompss.tasks.evaluate import evaluate
from hpcompss.trial import Configuration, Result

PARTS = ("simulated", "utilisation", "digits", "cifar10")

LEVELS = (0.1, 0.05, 0.02, 0.01)
"""Mean regrets at which times are printed."""

LEVEL = 0.02
CHECKPOINTS = (1, 2, 5, 10, 20, 40, 60, 100)
CANDIDATE = "hyperband+gp"
"""The one of ours that is held to the bounds, named before it was measured."""

BOUNDS = {"tpe": 1 / 3, "optuna-tpe-hyperband": 0.7}
"""What its time may be, as a share of these contestants'."""

LONGER = {"tpe": 3.0, "optuna-tpe-hyperband": 1.5}
"""For how many times the horizon they are simulated: enough that the bounds can be seen to be kept."""

MOST_DIGITS = 0.5
LEAST_POINTS = 3

SHORT_DATA_SETS = ("3945", "34539", "126026", "146212", "167149", "167152", "168868", "189906")
"""Data sets of the short form: those on which the level is reached soonest, so that it can be seen in minutes."""

UTILISATION = 0.95
UTILISATION_WORKERS = 64
UTILISATION_TRIALS = 2000
UTILISATION_DATA_SET = "167168"
UTILISATION_UNIT = 600.0
"""Seconds that the median full training takes in the utilisation part."""

Array = NDArray[np.float64]


# Simulated


def time_of(name: str, horizon: float) -> float:
    """Returns for how long a contestant is simulated where ours with a scheduler are for ``horizon``."""
    return horizon * LONGER.get(name, 1.0)


@dataclass(frozen=True)
class Run:
    """One simulated search: the contestant, what changes when it does, the data set, the seed, and how long."""

    contestant: str
    version: str
    data_set: str
    seed: int
    horizon: float

    def read(self, cache: Path | None) -> Progress | None:
        """Returns what came of it, or None where that is not kept."""
        try:
            return None if cache is None else Progress(**json.loads(self._path(cache).read_text()))
        except (FileNotFoundError, ValueError):
            return None

    def write(self, cache: Path | None, progress: Progress) -> None:
        """Keeps what came of it."""
        if cache is not None:
            path = self._path(cache)
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(asdict(progress)))
            partial.replace(path)

    def _path(self, cache: Path) -> Path:
        name = f"{self.data_set}-seed{self.seed}-horizon{self.horizon:g}.json"
        return cache / f"{self.contestant}-{self.version}" / name


def search(run: Run) -> Progress:
    return simulated.run(run.contestant, run.data_set, run.seed, run.horizon)


def search_all(runs: Sequence[Run], jobs: int, cache: Path | None) -> dict[Run, Progress]:
    """Returns what came of each run, from the cache or from ``jobs`` processes of one thread each."""
    done = {run: found for run in runs if (found := run.read(cache)) is not None}
    waiting = [run for run in runs if run not in done]
    _progress(f"{len(done)} searches are in the cache, {len(waiting)} to run")
    with concurrent.futures.ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(search, run): run for run in waiting}
        for count, future in enumerate(concurrent.futures.as_completed(futures), 1):
            run = futures[future]
            done[run] = future.result()
            run.write(cache, done[run])
            if count % 10 == 0 or count == len(waiting):
                _progress(f"{count} of {len(waiting)}: {run.contestant}, {run.data_set}")
    return {run: done[run] for run in runs}


def _progress(text: str) -> None:
    print(f"... {text}", file=sys.stderr, flush=True)


def mean_regrets(progresses: Sequence[Progress]) -> tuple[Array, Array]:
    """Returns the times at which the mean regret of searches changes, and the mean from then on; it is 1 before."""
    times = np.concatenate([each.times for each in progresses])
    gains = np.concatenate([-np.diff([1.0, *each.regrets]) for each in progresses])
    order = np.argsort(times, kind="stable")
    return times[order], 1 - np.cumsum(gains[order]) / len(progresses)


def time_to(progresses: Sequence[Progress], level: float) -> float:
    """Returns when the mean regret of searches came down to a level; infinity where it did not."""
    times, means = mean_regrets(progresses)
    reached = np.flatnonzero(means <= level + 1e-12)
    return float(times[reached[0]]) if len(reached) else math.inf


def regret_at(progresses: Sequence[Progress], time: float) -> float:
    """Returns the mean regret of searches at a time."""
    times, means = mean_regrets(progresses)
    before = int(np.searchsorted(times, time, side="right"))
    return float(means[before - 1]) if before else 1.0


def simulated_figures(options: argparse.Namespace) -> tuple[list[tuple[str, str]], list[Target], list[str]]:
    """Returns the figures of simulated time, the targets, and which contestants are skipped."""
    reasons = {name: simulated.missing(name) for name in options.contestants}
    there = [name for name, reason in reasons.items() if not reason]
    runs = [
        Run(name, simulated.version(name), data_set, seed, time_of(name, options.horizon))
        for name in there
        for data_set in options.data_sets
        for seed in range(options.seeds)
    ]
    done = search_all(runs, options.jobs, options.cache)
    by_name = {name: [each for run, each in done.items() if run.contestant == name] for name in there}
    if options.verbose:
        print_data_sets(done, there)
    rows = progress_rows(by_name, options)
    skipped = [f"{name}: {reason}" for name, reason in reasons.items() if reason]
    return rows, simulated_targets(by_name, options.horizon), skipped


def progress_rows(by_name: Mapping[str, Sequence[Progress]], options: argparse.Namespace) -> list[tuple[str, str]]:
    """Returns each contestant's mean regrets and the times at which they came down to the levels."""
    longest = max(time_of(name, options.horizon) for name in by_name)
    points = [each for each in CHECKPOINTS if each <= longest]
    head = "".join(f"{f'at {point}':>8}" for point in points) + "  " + "".join(f"{f'to {each}':>9}" for each in LEVELS)
    title = f"{simulated.WORKERS} workers, {len(options.data_sets)} data sets, {options.seeds} seeds"
    rows = [(title, f"{head}{'trials':>9}{'to the end':>12}{'s':>8}")]
    for name, progresses in by_name.items():
        until = time_of(name, options.horizon)
        line = "".join(f"{regret_at(progresses, each):8.4f}" if each <= until else f"{'-':>8}" for each in points)
        line += "  "
        line += "".join(f"{_shown(time_to(progresses, level)):>9}" for level in LEVELS)
        figures = [[each.trials, each.trainings, each.processor] for each in progresses]
        trials, trainings, processor = np.mean(figures, axis=0)
        rows.append((name, f"{line}{trials:9.0f}{trainings:12.0f}{processor:8.1f}"))
    return rows


def _shown(time: float) -> str:
    return "never" if time == math.inf else f"{time:.2f}"


def print_data_sets(done: Mapping[Run, Progress], names: Sequence[str]) -> None:
    """Prints for each data set the median over seeds of the time to the level."""
    print(f"{f'median time to {LEVEL}':22}" + "".join(f"{name:>22}" for name in names))
    for data_set in dict.fromkeys(run.data_set for run in done):
        line = ""
        for name in names:
            own = [each for run, each in done.items() if (run.contestant, run.data_set) == (name, data_set)]
            line += f"{_shown(common.median([time_to([each], LEVEL) for each in own])):>22}"
        print(f"{data_set:22}{line}")
    print()


def simulated_targets(by_name: Mapping[str, Sequence[Progress]], horizon: float) -> list[Target]:
    """Returns the targets of simulated time."""
    times = {name: time_to(progresses, LEVEL) for name, progresses in by_name.items()}
    targets = []
    for other, bound in BOUNDS.items():
        if other in times and CANDIDATE in times:
            until = time_of(other, horizon)
            whole = f" (which does not get there in {until:g})" if times[other] == math.inf else ""
            what = f"{CANDIDATE}'s time to a mean regret of {LEVEL}, of {other}'s{whole}"
            targets.append(Target(what, times[CANDIDATE] / min(times[other], until), bound, False))
    return targets


# Utilisation


def utilisation_figures() -> tuple[list[tuple[str, str]], list[Target]]:
    """Returns the share of 64 workers' time, from the start until the last task starts, that they were training."""
    rows, targets = [], []
    for form in ("promotion", "stopping"):
        spans = asha_spans(form)
        last = max(start for start, _ in spans)
        busy = sum(min(end, last) - start for start, end in spans) / (UTILISATION_WORKERS * last)
        what = f"ASHA ({form}), {UTILISATION_WORKERS} workers, {UTILISATION_TRIALS} trials"
        rows.append((what, f"{busy:.1%} busy in {last / 3600:.1f} h, {len(spans)} rungs trained"))
        targets.append(Target(f"utilisation with ASHA ({form})", 100 * busy, 100 * UTILISATION, True, " %"))
    return rows, targets


def asha_spans(form: str) -> list[tuple[float, float]]:
    """Returns when each task of an ASHA study on simulated workers trained: start and end, in virtual seconds."""
    second = UTILISATION_UNIT / simulated.unit(UTILISATION_DATA_SET)
    trained: dict[str, int] = {}

    def function(configuration: Configuration, epochs: int) -> dict[str, float]:
        curve = simulated.curve(UTILISATION_DATA_SET, configuration)
        key = json.dumps(configuration, sort_keys=True)
        took = curve.seconds[epochs] - curve.seconds[trained.get(key, 0)]
        trained[key] = epochs
        return {"val_accuracy": float(curve.accuracies[epochs]), "seconds": second * took}

    def seconds(called: object, value: object) -> float:
        return value.metrics["seconds"] if called is evaluate and isinstance(value, Result) else 0.0

    fidelity = {"scheduler": "asha", "form": form, "min_epochs": 1, "max_epochs": tasks.EPOCHS}
    objective = {"direction": "maximize", "metric": "val_accuracy"}
    study = Study(tasks.LCBENCH, sampler="tpe", seed=0, fidelity=fidelity, **objective)
    with Simulated(UTILISATION_WORKERS, seconds, cost=0.05, submission=0.0005, fetching=0.065) as engine:
        Loop(study, engine, FunctionGraph(function, "val_accuracy"), StopRules(trials=UTILISATION_TRIALS)).run()
        return engine.spans


# Real trainings


def digits_figures(options: argparse.Namespace) -> tuple[list[tuple[str, str]], list[Target], list[str]]:
    """Returns the seconds to 98 % on digits, ours and KerasTuner's in turn."""
    if reason := common.absent("tensorflow", "sklearn", "keras_tuner"):
        return [], [], [f"digits: {reason}"]
    with common.disk_folder(None) as base:
        os.environ["HPCOMPSS_CACHE"] = str(base / "cache")  # the data is of no use afterwards

        def folder() -> Path:
            return Path(tempfile.mkdtemp(dir=base))

        sides = {
            "hpcompss": lambda repeat: real.digits_hpcompss(folder(), options.seed + repeat),
            "KerasTuner's Hyperband": lambda repeat: real.digits_keras_tuner(__file__, folder(), options.seed + repeat),
        }
        results = common.interleaved(options.repeats, sides)
    rows = [(f"digits, {real.GOAL:.0%}, {name}", f"{common.spread(each, '.1f')} s") for name, each in results.items()]
    ours, theirs = (common.median(each) for each in results.values())
    what = f"time to {real.GOAL:.0%} on digits, of KerasTuner's Hyperband's"
    return rows, [Target(what, ours / theirs, MOST_DIGITS, False)], []


def cifar10_figures(options: argparse.Namespace) -> tuple[list[tuple[str, str]], list[Target], list[str]]:
    """Returns the best validation accuracies on CIFAR-10, and draws how they grew."""
    if reason := common.absent("tensorflow") or ("" if real.IMAGES.exists() else f"{real.IMAGES} is not there"):
        return [], [], [f"cifar10: {reason}"]
    with common.disk_folder(None) as folder:
        curves = real.cifar10(folder, options)
    if not all(curves.values()):
        return [], [], [f"cifar10: no trial finished within {options.minutes:g} minutes"]
    if options.picture is not None:
        real.draw(curves, options.minutes, options.picture)
    best = {name: curve[-1][1] for name, curve in curves.items()}
    rows = [(f"CIFAR-10, {options.minutes:g} minutes, {name}", f"{value:.4f}") for name, value in best.items()]
    points = 100 * (best["with a scheduler"] - best["without"])
    return rows, [Target("validation accuracy that the scheduler adds", points, LEAST_POINTS, True, " points")], []


# The command


def main() -> int:
    options = parse()
    if options.only:
        print(json.dumps(real.search_with_keras_tuner(options.folder, options.seed)))
        return 0
    rows: list[tuple[str, str]] = []
    targets: list[Target] = []
    skipped: list[str] = []
    for part in options.parts:
        more, reached, reasons = figures(part, options)
        rows, targets, skipped = rows + more, targets + reached, skipped + reasons
    return common.report("Fidelity: epochs only where they pay", rows or [("", "nothing ran")], targets, skipped)


def figures(part: str, options: argparse.Namespace) -> tuple[list[tuple[str, str]], list[Target], list[str]]:
    """Returns the rows and the targets of a part, and what of it is skipped."""
    if part in ("digits", "cifar10"):
        common.use_cores(2)
        return (digits_figures if part == "digits" else cifar10_figures)(options)
    os.environ.update(common.environment(threads=1))
    if "lcbench-3945" not in tasks.task_names():
        return [], [], [f"{part}: LCBench needs onnxruntime and {tasks.DATA}"]
    return simulated_figures(options) if part == "simulated" else (*utilisation_figures(), [])


def parse() -> argparse.Namespace:
    """Returns the command's options, the short form's filled in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everyone = list(simulated.CONTESTANTS)
    parser.add_argument("--short", action="store_true", help="few data sets and seeds: under ten minutes on 2 cores")
    parser.add_argument(
        "--parts", type=lambda text: text.split(","), default=[*PARTS[:3]], help=f"of {','.join(PARTS)}"
    )
    parser.add_argument("--contestants", nargs="+", choices=everyone, default=everyone, metavar="NAME", help="(all)")
    parser.add_argument("--data-sets", nargs="+", choices=tasks.ACCURACIES, metavar="NAME", help="(all 34)")
    parser.add_argument("--seeds", type=int, help="simulated searches of each data set (3)")
    parser.add_argument("--horizon", type=float, help="simulated time of ours with a scheduler, in full trainings (55)")
    parser.add_argument("--jobs", type=int, default=2, help="simulated searches at the same time (2)")
    parser.add_argument("--cache", metavar="DIR", type=Path, help="keep every simulated search here")
    parser.add_argument("--verbose", action="store_true", help="print every data set's times, too")
    parser.add_argument("--repeats", type=int, help="runs of each side on digits (5)")
    parser.add_argument("--minutes", type=float, default=15, help="of each side on CIFAR-10 (15)")
    parser.add_argument("--epochs", type=int, default=15, help="of a full training on CIFAR-10 (15)")
    parser.add_argument("--images", type=int, default=10_000, help="training images on CIFAR-10 (10,000)")
    parser.add_argument("--picture", metavar="FILE", type=Path, help="draw both curves on CIFAR-10 as SVG")
    parser.add_argument("--seed", type=int, default=0, help="of the first run on digits (0)")
    parser.add_argument("--only", choices=("keras_tuner",), help="run one side on digits here, and print JSON")
    parser.add_argument("--folder", type=Path, help="with --only: where the data is")
    options = parser.parse_args()
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"unknown part {part!r}; there are {', '.join(PARTS)}")
    short = {"data_sets": [*SHORT_DATA_SETS], "seeds": 1, "horizon": 20.0, "repeats": 1}
    full = {"data_sets": [*tasks.ACCURACIES], "seeds": 3, "horizon": 55.0, "repeats": 5}
    for name, value in (short if options.short else full).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


if __name__ == "__main__":
    sys.exit(main())
