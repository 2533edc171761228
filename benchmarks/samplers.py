"""Whether our samplers find better configurations, in fewer trials and in less time, than the peers' do.

Every sampler searches the same tasks (``sampler_tasks.py``) with the same seeds through one protocol
(``sampler_peers.py``), one thread each, ``--jobs`` at a time. The parts:

- regret: one trial at a time. The normalised regret of the best configuration so far, 0 for the best known, averaged
  over tasks and seeds, after 10, 25, 50 and 100 trials; the mean rank at the end among the samplers, with a bootstrap
  95 % interval; milliseconds a suggestion, being told the result included.
- flight: the same with 8 and 32 trials in flight. Of those running one, drawn at random, finishes at a time.
- speed: a suggestion's time in 10 mixed dimensions when 1,000 and 10,000 trials have finished.
- nas: how many trials it takes to find one of the best 0.1 % of NAS-Bench-Macro's networks.
- lattice: time and memory of an acquisition over 10^7 lattice points.

Times are processor time, which on an idle machine is what one waits, and which other work on the machine leaves alone.

``--short`` is a form of under ten minutes on 2 cores. The full form takes more than a day, nearly all of it the
peers': ``--cache DIR`` keeps every search, so that only what has changed runs again. Ours are known by a digest of
their source, peers by their version, tasks by a fingerprint.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import itertools
import json
import math
import multiprocessing
import os
import resource
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np
import sampler_peers as peers
import sampler_tasks as tasks
from common import Target
from numpy.typing import NDArray

from hpcompss.samplers import History, make_sampler
from hpcompss.space import Int, Space
from hpcompss.trial import Result, Trial, TrialState

PARTS = ("regret", "flight", "speed", "nas", "lattice")
CHECKPOINTS = (10, 25, 50, 100)
CANDIDATES = ("gp", "tpe", "quasirandom")
"""What `auto` picks from and is held against."""

REGRET_BOUNDS = {("gp", "optuna-gp"): 0.8, ("tpe", "optuna-tpe"): 0.75, ("tpe", "hyperopt-tpe"): 0.5}
"""What a sampler's mean regret at the end may be, as a share of the peer's."""

AUTO_BOUND = 1.1
FLIGHT_BOUND = 1.25
SPEED_BOUNDS = {("tpe", "optuna-tpe"): 1 / 5, ("gp", "optuna-gp"): 1 / 20}
MOST_GP = 100
"""ms a suggestion with 1,000 finished trials."""
MOST_TPE = 20
"""ms a suggestion with 10,000 finished trials."""
NAS_BOUND = 0.6
MOST_LATTICE_SECONDS = 3
MOST_LATTICE_MEMORY = 500
"""MB, of the whole process."""

NAS_TASK = "nas-bench-macro"
NAS_TRIALS = 400
NAS_SHARE = 0.001
SPEED_TASK = "network-10"

FLOOR = 1e-4
"""Regrets below it count as this much in the mean of the tasks' ratios."""

SLOW = ("keras-tuner", "scikit-optimize")
"""Peers that take so long that the short form gives them one trial at a time only, and fewer seeds."""

Array = NDArray[np.float64]


# Searches


@dataclass(frozen=True)
class Run:
    """One search: a sampler on a task.

    Attributes:
        sampler: The sampler's name.
        version: The sampler's version, or a digest of ours.
        task: The task's name.
        seed: The sampler's seed, and the seed of the order in which trials finish.
        flight: How many trials run at the same time.
        trials: How many trials there are at most.
        goal: The search ends at a loss that is no more than this.
    """

    sampler: str
    version: str
    task: str
    seed: int
    flight: int
    trials: int
    goal: float = -math.inf


@dataclass(frozen=True)
class Trajectory:
    """What came of a search.

    Attributes:
        losses: Each trial's loss, in the order in which they finished.
        seconds: The processor time of each suggestion, in the order of asking; being told results counts.
    """

    losses: list[float]
    seconds: list[float]


def search(run: Run) -> Trajectory:
    """Runs one search: ``flight`` trials are asked for, then one of them, drawn at random, finishes at a time.

    Which one is drawn depends on the task and the seed alone, so that every sampler meets the same order.
    """
    task = tasks.make_task(run.task)
    searcher = peers.make_searcher(run.sampler, task.space, run.seed, run.trials)
    order = np.random.default_rng([zlib.crc32(run.task.encode()), run.seed])
    pending: list[tuple[Any, float]] = []
    losses: list[float] = []
    seconds: list[float] = []
    told = 0.0
    while len(losses) < run.trials and min(losses, default=math.inf) > run.goal:
        while len(pending) < run.flight and len(seconds) < run.trials:
            begun = time.process_time()
            handle, configuration = searcher.ask()
            seconds.append(time.process_time() - begun + told)
            told = 0.0
            pending.append((handle, task.loss(configuration)))
        handle, loss = pending.pop(int(order.integers(len(pending))))
        losses.append(loss)
        begun = time.process_time()
        searcher.tell(handle, loss)
        told += time.process_time() - begun
    return Trajectory(losses, seconds)


class Cache:
    """Keeps trajectories as JSON files, so that what has not changed does not run again."""

    def __init__(self, folder: str | None) -> None:
        self.folder = None if folder is None else Path(folder)

    def path(self, run: Run) -> Path | None:
        """Returns where a search is kept, or None where none is."""
        if self.folder is None:
            return None
        task = f"{run.task}-{tasks.make_task(run.task).fingerprint}"
        goal = "" if run.goal == -math.inf else f"-goal{run.goal:.6g}"
        name = f"flight{run.flight}-trials{run.trials}{goal}-seed{run.seed}.json"
        return self.folder / f"{run.sampler}-{run.version}" / task / name

    def read(self, run: Run) -> Trajectory | None:
        """Returns a search's trajectory, or None where it is not kept."""
        path = self.path(run)
        try:
            return Trajectory(**json.loads(path.read_text())) if path else None
        except (FileNotFoundError, ValueError):
            return None

    def write(self, run: Run, trajectory: Trajectory) -> None:
        """Keeps a search's trajectory."""
        if (path := self.path(run)) is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        rounded = asdict(trajectory) | {"seconds": [round(each, 6) for each in trajectory.seconds]}
        partial.write_text(json.dumps(rounded))
        partial.replace(path)


def search_all(runs: Sequence[Run], jobs: int, cache: Cache) -> dict[Run, Trajectory]:
    """Returns each run's trajectory, from the cache or from ``jobs`` processes of one thread each."""
    done = {run: found for run in runs if (found := cache.read(run)) is not None}
    waiting = [run for run in runs if run not in done]
    _progress(f"{len(done)} searches are in the cache, {len(waiting)} to run")
    begun = printed = time.monotonic()
    with concurrent.futures.ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(search, run): run for run in waiting}
        for count, future in enumerate(concurrent.futures.as_completed(futures), 1):
            run = futures[future]
            try:
                done[run] = future.result()
            except Exception as error:
                pool.shutdown(cancel_futures=True)
                raise RuntimeError(f"{run} failed") from error
            cache.write(run, done[run])
            if time.monotonic() - printed > 10 or count == len(waiting):
                printed = time.monotonic()
                _progress(f"{count} of {len(waiting)}, {printed - begun:.0f} s: {run.sampler}, {run.task}")
    return {run: done[run] for run in runs}


def _progress(text: str) -> None:
    print(f"... {text}", file=sys.stderr, flush=True)


def plan(options: argparse.Namespace, samplers: Sequence[str], names: Sequence[str]) -> list[Run]:
    """Returns the searches that the parts asked for need."""
    runs = []
    versions = {sampler: peers.version(sampler) for sampler in samplers}
    for sampler in samplers:
        seeds = min(options.seeds, options.slow_seeds) if sampler in SLOW else options.seeds
        for flight in _flights(options):
            few = seeds if flight == 1 else min(seeds, options.flight_seeds)
            if flight > 1 and options.short and sampler in SLOW:
                continue
            for seed in range(few):
                runs += [Run(sampler, versions[sampler], task, seed, flight, options.trials) for task in names]
        if "nas" in options.parts and not (options.short and sampler in SLOW):
            goal = nas_goal()
            runs += [Run(sampler, versions[sampler], NAS_TASK, seed, 1, NAS_TRIALS, goal) for seed in range(seeds)]
    return runs


def _flights(options: argparse.Namespace) -> list[int]:
    chosen = [each for each in options.in_flight if each > 1] if "flight" in options.parts else []
    return [1, *chosen] if {"regret", "flight"} & {*options.parts} else []


# Regret


class Regrets:
    """The least normalised regret so far of every search with as many trials in flight.

    Attributes:
        names: The tasks.
        curves: Each sampler's regrets: shape (seeds, tasks, trials), the seeds counted from 0.
        milliseconds: Each sampler's mean processor time of a suggestion.
    """

    def __init__(self, done: Mapping[Run, Trajectory], flight: int, names: Sequence[str]) -> None:
        self.names = list(names)
        self.curves: dict[str, Array] = {}
        self.milliseconds: dict[str, float] = {}
        searches = {run: each for run, each in done.items() if run.flight == flight and run.goal == -math.inf}
        for sampler in dict.fromkeys(run.sampler for run in searches):
            own = {(run.seed, run.task): each for run, each in searches.items() if run.sampler == sampler}
            seeds = sorted({seed for seed, _ in own})
            regrets = [[tasks.make_task(name).regrets(own[seed, name].losses) for name in names] for seed in seeds]
            self.curves[sampler] = np.minimum.accumulate(regrets, axis=2)
            self.milliseconds[sampler] = 1000 * float(np.mean([each.seconds for each in own.values()]))

    def mean(self, sampler: str, trials: int = 0, group: str = "") -> float:
        """Returns the mean over tasks (of a group) and seeds, after ``trials`` trials or at the end."""
        chosen = [not group or tasks.group(name) == group for name in self.names]
        return float(self.curves[sampler][:, chosen, trials - 1].mean())

    def ratio(self, sampler: str, other: str) -> float:
        """Returns a sampler's mean regret at the end as a share of another's, over the seeds that both have."""
        own, others = self._ends(sampler, other)
        return _ratio(own.mean(), others.mean())

    def comparison(self, sampler: str, other: str) -> str:
        """Returns the ratio of two samplers' regrets at the end in words, with what lies behind the mean.

        The interval is of 1,000 draws, with replacement, of each task's seeds; the geometric mean of the tasks' ratios
        takes regrets below `FLOOR` for that.
        """
        both = self._ends(sampler, other)
        generator = np.random.default_rng(0)
        drawn = generator.integers(both.shape[1], size=(1000, *both.shape))
        sums = np.take_along_axis(both[None], drawn, axis=2).sum(axis=(2, 3))
        low, high = np.quantile(sums[:, 0] / np.maximum(sums[:, 1], 1e-300), [0.025, 0.975])
        own, others = both.mean(axis=1)
        by_task = np.exp(np.mean(np.log(np.maximum(own, FLOOR) / np.maximum(others, FLOOR))))
        ratio = f"{self.ratio(sampler, other):.2f} ({low:.2f} to {high:.2f})"
        better = f"less on {np.sum(own < others)} of {len(self.names)} tasks"
        return f"{ratio}; geometric mean over tasks {by_task:.2f}; {better}"

    def ranks(self) -> dict[str, tuple[float, float, float]]:
        """Returns each sampler's mean rank at the end with the ends of its bootstrap 95 % interval.

        It is taken over the tasks and the seeds that all samplers have, ties sharing the mean of their ranks.
        """
        import scipy.stats

        ends = self._ends(*self.curves).reshape(len(self.curves), -1)
        ranks = scipy.stats.rankdata(ends, axis=0)
        drawn = np.random.default_rng(0).integers(ranks.shape[1], size=(2000, ranks.shape[1]))
        low, high = np.quantile(ranks[:, drawn].mean(axis=2), [0.025, 0.975], axis=1)
        return dict(zip(self.curves, zip(ranks.mean(axis=1), low, high, strict=True), strict=True))

    def _ends(self, *samplers: str) -> Array:
        """Returns the regrets at the end: shape (samplers, seeds that all have, tasks)."""
        seeds = min(len(self.curves[sampler]) for sampler in samplers)
        return np.stack([self.curves[sampler][:seeds, :, -1] for sampler in samplers])


def _ratio(value: float, other: float) -> float:
    return float(value / other) if other else math.inf if value else 1.0


def regret_rows(regrets: Regrets, flight: int, trials: int, verbose: bool) -> list[tuple[str, str]]:
    """Returns the figures of one number of trials in flight."""
    groups = [group for group in tasks.GROUPS if group in map(tasks.group, regrets.names)]
    points = [each for each in CHECKPOINTS if each <= trials]
    head = "".join(f"{f'at {point}':>9}" for point in points) + f"{'rank (95 %)':>25}{'ms':>9}  "
    rows = [(f"{flight} in flight", head + "".join(f"{group:>11}" for group in groups))]
    for sampler, (rank, low, high) in regrets.ranks().items():
        line = "".join(f"{regrets.mean(sampler, point):9.4f}" for point in points)
        line += f"{f'{rank:.2f} ({low:.2f} to {high:.2f})':>25}{regrets.milliseconds[sampler]:9.1f}  "
        rows.append((sampler, line + "".join(f"{regrets.mean(sampler, group=group):11.4f}" for group in groups)))
    there = regrets.curves
    pairs = itertools.product(("gp", "tpe", "auto"), peers.PEERS) if verbose else REGRET_BOUNDS
    pairs = [(ours, peer) for ours, peer in pairs if ours in there and peer in there]
    return rows + [(f"{ours} of {peer}", regrets.comparison(ours, peer)) for ours, peer in pairs]


def print_tasks(regrets: Regrets, flight: int, trials: int) -> None:
    """Prints the mean regret at the end of each task."""
    print(f"{f'{flight} in flight, at {trials}':22}" + "".join(f"{each[:15]:>16}" for each in regrets.curves))
    for row, name in enumerate(regrets.names):
        print(f"{name:22}" + "".join(f"{curves[:, row, -1].mean():16.4f}" for curves in regrets.curves.values()))
    print()


def regret_targets(regrets: Regrets) -> list[Target]:
    """Returns the targets of searches with one trial at a time."""
    there = regrets.curves
    targets = [
        Target(f"{ours}'s mean regret, of {peer}'s", regrets.ratio(ours, peer), bound, False)
        for (ours, peer), bound in REGRET_BOUNDS.items()
        if ours in there and peer in there
    ]
    candidates = [each for each in CANDIDATES if each in there]
    if "auto" in there and candidates:
        best = min(candidates, key=regrets.mean)
        ratio = regrets.ratio("auto", best)
        targets.append(Target(f"auto's mean regret, of its best candidate's ({best})", ratio, AUTO_BOUND, False))
    return targets


def flight_targets(alone: Regrets, regrets: Regrets, flight: int) -> list[Target]:
    """Returns the targets of searches with several trials in flight."""
    targets = []
    rivals = [each for each in regrets.curves if each in peers.PEERS]
    for ours in ("gp", "tpe"):
        if ours not in regrets.curves:
            continue
        what = f"{ours}'s mean regret with {flight} in flight"
        curves = regrets.curves[ours]
        ratio = _ratio(curves[:, :, -1].mean(), alone.curves[ours][: len(curves), :, -1].mean())
        targets.append(Target(f"{what}, of its own with 1", ratio, FLIGHT_BOUND, False))
        if rivals:
            ratio, best = max((regrets.ratio(ours, rival), rival) for rival in rivals)
            targets.append(Target(f"{what}, of the best peer's ({best})", ratio, 1, False))
    return targets


# NAS-Bench-Macro


def nas_goal() -> float:
    """Returns the loss of the worst network of the best 0.1 %."""
    losses = sorted(-accuracy for accuracy in tasks.networks().values())
    return losses[int(len(losses) * NAS_SHARE) - 1]


def nas_figures(done: Mapping[Run, Trajectory]) -> tuple[list[tuple[str, str]], list[Target]]:
    """Returns how many trials each sampler needed, with the target."""
    needed: dict[str, list[int]] = {}
    for run, trajectory in done.items():
        if run.goal > -math.inf:
            found = trajectory.losses[-1] <= run.goal
            needed.setdefault(run.sampler, []).append(len(trajectory.losses) if found else NAS_TRIALS + 1)
    head = (
        f"trials to one of the best {NAS_SHARE:.1%}, median (least to most); {NAS_TRIALS + 1} where {NAS_TRIALS} failed"
    )
    rows = [("NAS-Bench-Macro", head)]
    rows += [(sampler, common.spread(counts, ".0f")) for sampler, counts in needed.items()]
    medians = {sampler: common.median(counts) for sampler, counts in needed.items()}
    ours = min((each for each in medians if each in ("gp", "tpe", "auto")), key=medians.__getitem__, default="")
    peer = min((each for each in medians if each in peers.PEERS), key=medians.__getitem__, default="")
    if not ours or not peer:
        return rows, []
    what = f"our best median of trials on NAS-Bench-Macro ({ours}), of the best peer's ({peer})"
    return rows, [Target(what, medians[ours] / medians[peer], NAS_BOUND, False)]


# Speed


def suggestion(sampler: str, finished: int, suggestions: int) -> dict[str, float]:
    """Returns the mean time of ``suggestions`` suggestions, each told its result, and of the first, in ms."""
    task = tasks.make_task(SPEED_TASK)
    generator = np.random.default_rng(0)
    configurations = [task.space.sample(generator) for _ in range(finished)]
    searcher = peers.make_searcher(sampler, task.space, 0, finished + suggestions + 1)
    searcher.load(configurations, [task.loss(each) for each in configurations])
    times = []
    for _ in range(suggestions + 1):
        begun = time.process_time()
        handle, configuration = searcher.ask()
        searcher.tell(handle, task.loss(configuration))
        times.append(1000 * (time.process_time() - begun))
    return {"first": times[0], "mean": float(np.mean(times[1:])), "most": max(times[1:])}


SPEED_RUNS = (
    ("tpe", 1000, 50),
    ("optuna-tpe", 1000, 20),
    ("gp", 1000, 30),
    ("optuna-gp", 1000, 3),
    ("tpe", 10_000, 30),
    ("optuna-tpe", 10_000, 5),
)
"""A sampler, the trials that have finished, and how many suggestions are timed."""


def speed_figures(samplers: Sequence[str]) -> tuple[list[tuple[str, str]], list[Target]]:
    """Returns the times of a suggestion, each sampler in a process of its own with one thread."""
    rows = [("a suggestion, 10 dimensions", "ms, mean (the slowest; the first in its process)")]
    means: dict[tuple[str, int], float] = {}
    for sampler, finished, count in SPEED_RUNS:
        if sampler in samplers:
            _progress(f"a suggestion of {sampler} with {finished:,} finished trials")
            _, found = common.run_side(__file__, sampler, "--finished", finished, "--suggestions", count, threads=1)
            means[sampler, finished] = found["mean"]
            line = f"{found['mean']:.1f} ({found['most']:.1f}; {found['first']:.1f})"
            rows.append((f"{sampler}, {finished:,} finished", line))
    targets = [
        Target(f"{ours}'s suggestion at 1,000, of {peer}'s", means[ours, 1000] / means[peer, 1000], bound, False)
        for (ours, peer), bound in SPEED_BOUNDS.items()
        if (ours, 1000) in means and (peer, 1000) in means
    ]
    limits = {("gp", 1000): MOST_GP, ("tpe", 10_000): MOST_TPE}
    for (ours, finished), most in limits.items():
        if (ours, finished) in means:
            what = f"{ours}'s suggestion at {finished:,}"
            targets.append(Target(what, means[ours, finished], most, False, " ms"))
    return rows, targets


# Lattice


def lattice() -> dict[str, float]:
    """Returns the seconds of a suggestion of ``gp`` and of ``tpe`` after 100 trials, and the peak memory in MB.

    Each compares all 11,718,750 combinations of 10 parameters, in a process of its own with 2 threads; the median of
    three, after one that compiles.
    """
    space = Space([Int("x0", 1, 6), *(Int(f"x{number}", 1, 5) for number in range(1, 10))])
    optimum = np.random.default_rng(1).integers(1, 6, len(space))
    generator = np.random.default_rng(0)
    history = History(space, "minimize")
    for number in range(100):
        configuration = space.sample(generator)
        away = np.array(list(configuration.values())) - optimum
        loss = float(away @ away + 0.5 * away[:-1] @ away[1:])
        history.append(Trial(number, configuration, TrialState.COMPLETE, Result(loss)))
    found = {"combinations": float(space.count)}
    for name in ("gp", "tpe"):
        sampler, times = make_sampler(name, space, seed=0), []
        for number in range(100, 104):
            begun = time.perf_counter()
            sampler.ask(history, [], number)
            times.append(time.perf_counter() - begun)
        found[name] = common.median(times[1:])
    return {**found, "peak": peak_memory()}


def lattice_figures() -> tuple[list[tuple[str, str]], list[Target]]:
    """Returns the time and the memory of an acquisition over the lattice."""
    _, found = common.run_side(__file__, "lattice", threads=2)
    what = f"all of {found['combinations']:,.0f} combinations, 100 trials"
    kind = "without numba" if common.absent("numba") else "with numba"
    row = (what, f"gp {found['gp']:.2f} s, tpe {found['tpe']:.2f} s, {found['peak']:.0f} MB, {kind}")
    slowest = max(found["gp"], found["tpe"])
    return [row], [
        Target(f"a suggestion from {what}", slowest, MOST_LATTICE_SECONDS, False, " s"),
        Target("its process's memory", found["peak"], MOST_LATTICE_MEMORY, False, " MB"),
    ]


def peak_memory() -> float:
    """Returns the most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)


# The command


def main() -> int:
    options = parse()
    if options.only:
        sampler, finished, suggestions = options.only, options.finished, options.suggestions
        print(json.dumps(lattice() if sampler == "lattice" else suggestion(sampler, finished, suggestions)))
        return 0
    os.environ.update(common.environment(threads=1))
    names = tasks.choose(options.tasks)
    reasons = {each: peers.missing(each) for each in options.samplers}
    samplers = [each for each, reason in reasons.items() if not reason]
    skipped = [f"{each}: {reason}" for each, reason in reasons.items() if reason]
    if NAS_TASK not in tasks.choose(["all"]):
        options.parts = [each for each in options.parts if each != "nas"]
        skipped.append(f"nas: {tasks.DATA} lacks its table")
    runs = plan(options, samplers, names)
    return show(options, samplers, names, search_all(runs, options.jobs, Cache(options.cache)), skipped)


def parse() -> argparse.Namespace:
    """Returns the command's options, the short form's filled in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everyone = [*peers.OURS, *peers.PEERS]
    parser.add_argument("--short", action="store_true", help="few tasks and seeds: under ten minutes on 2 cores")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=[*PARTS], help=f"of {','.join(PARTS)}")
    parser.add_argument("--samplers", nargs="+", choices=everyone, default=everyone, metavar="NAME", help="(all)")
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="names or patterns; short, full or all (full)")
    parser.add_argument("--seeds", type=int, help="searches of each task (20)")
    parser.add_argument("--flight-seeds", type=int, help="the same with several trials in flight (as --seeds)")
    parser.add_argument("--slow-seeds", type=int, help=f"at most so many for {' and '.join(SLOW)} (as --seeds)")
    parser.add_argument("--trials", type=int, default=100, help="trials of each search (100)")
    parser.add_argument("--in-flight", nargs="+", type=int, metavar="COUNT", help="for the flight part (8 32)")
    parser.add_argument("--jobs", type=int, default=2, help="searches at the same time (2)")
    parser.add_argument("--cache", metavar="DIR", help="keep every search here, and run again only what has changed")
    parser.add_argument("--verbose", action="store_true", help="print every task's regret and every pair, too")
    parser.add_argument("--only", metavar="NAME", help="time this sampler's suggestions here, and print JSON")
    parser.add_argument("--finished", type=int, default=1000, help="with --only: trials that have finished (1000)")
    parser.add_argument("--suggestions", type=int, default=10, help="with --only: suggestions that are timed (10)")
    options = parser.parse_args()
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"unknown part {part!r}; there are {', '.join(PARTS)}")
    short = {"tasks": ["short"], "seeds": 2, "flight_seeds": 1, "slow_seeds": 1, "in_flight": [8]}
    full = {"tasks": ["full"], "seeds": 20, "flight_seeds": 10**6, "slow_seeds": 10**6, "in_flight": [8, 32]}
    for name, value in (short if options.short else full).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def show(
    options: argparse.Namespace,
    samplers: Sequence[str],
    names: Sequence[str],
    done: Mapping[Run, Trajectory],
    skipped: list[str],
) -> int:
    """Prints the figures of the parts asked for and returns the exit status."""
    rows: list[tuple[str, str]] = []
    targets: list[Target] = []
    alone = Regrets(done, 1, names)
    for flight in _flights(options):
        regrets = alone if flight == 1 else Regrets(done, flight, names)
        if options.verbose:
            print_tasks(regrets, flight, options.trials)
        if flight > 1 or "regret" in options.parts:
            rows += regret_rows(regrets, flight, options.trials, options.verbose)
            targets += regret_targets(alone) if flight == 1 else flight_targets(alone, regrets, flight)
    for part, figures in (
        ("nas", lambda: nas_figures(done)),
        ("speed", lambda: speed_figures(samplers)),
        ("lattice", lattice_figures),
    ):
        if part in options.parts:
            more, reached = figures()
            rows += more
            targets += reached
    seeds = f"{options.seeds} seeds" if options.seeds > 1 else "1 seed"
    title = f"Samplers: mean normalised regret, {len(names)} tasks, {seeds}, {options.trials} trials, 1 thread each"
    return common.report(title, rows, targets, skipped)


if __name__ == "__main__":
    sys.exit(main())
