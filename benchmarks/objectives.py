"""How much of the Pareto front our samplers find where there are two objectives, and how much Optuna's do.

Every sampler searches the same tasks with the same seeds, one trial at a time:

- ``nas-bench-macro``: 6,561 networks really trained on CIFAR-10; the error and the number of parameters.
- ``zdt1`` and ``zdt2``: the problems of Zitzler, Deb and Thiele (2000), "Comparison of multiobjective evolutionary
  algorithms", one front convex and one concave, with continuous, logarithmic, whole and categorical parameters.
- ``network``: a made-up network's error and its number of parameters, which spans four decades. Its front is measured
  with the logarithm of that number; the samplers are told the number itself.

The figure is the hypervolume of the trials' front, as a share of that of the true front. The reference point is behind
the worst of the true front by a tenth of what that spans. Targets are on the mean shortfall (1 less that share).
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import itertools
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import common
import numpy as np
import sampler_peers as peers
import sampler_tasks as tasks
from common import Target
from numpy.typing import NDArray

from hpcompss.objectives import Objective
from hpcompss.pareto import hypervolume, non_dominated
from hpcompss.samplers import History
from hpcompss.space import Boolean, Choice, Float, Int, Space
from hpcompss.trial import Configuration, Result, Trial, TrialState

OURS = ("gp", "tpe", "random")
PEERS = {"optuna-tpe": "TPESampler", "optuna-nsga2": "NSGAIISampler"}
BOUNDS = {("gp", "optuna-tpe"): 0.5, ("tpe", "optuna-tpe"): 1.0, ("tpe", "optuna-nsga2"): 0.85}
"""What the mean shortfall of one of our samplers may be, as a share of the peer's."""

NAS = "nas-bench-macro"

MARGIN = 0.1
"""How far the reference point is behind the worst of the true front, as a share of what that spans."""

Pair = tuple[float, float]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """Two functions to minimise.

    Attributes:
        space: Their hyper-parameters.
        losses: Gives a configuration's losses.
        front: The true front, as it is measured: shape (points, 2).
        measured: What the hypervolume is taken of.
    """

    space: Space
    losses: Callable[[Configuration], Pair]
    front: Array
    measured: Callable[[Array], Array] = lambda losses: losses

    def share(self, losses: Sequence[Pair]) -> float:
        """Returns the hypervolume of what was found, as a share of the true front's."""
        best, worst = self.front.min(axis=0), self.front.max(axis=0)
        reference = worst + MARGIN * (worst - best)
        scaled = (self.measured(np.array(losses)) - best) / (reference - best)
        ideal = (self.front - best) / (reference - best)
        one = np.ones(2)
        return hypervolume(scaled[non_dominated(scaled)], one) / hypervolume(ideal, one)


def nas() -> Task:
    """Returns the task of NAS-Bench-Macro."""
    table = json.loads((tasks.DATA / "nas-bench-macro-cifar10.json").read_text())
    space = tasks.make_task(NAS).space
    digit = {"identity": "0", "mbconv3": "1", "mbconv6": "2"}

    def losses(configuration: Configuration) -> Pair:
        network = table["".join(digit[str(configuration[name])] for name in space.names)]
        return 100 - network["mean_acc"], network["params"]

    points = np.array([(100 - each["mean_acc"], each["params"]) for each in table.values()])
    return Task(space, losses, points[non_dominated(points)])


def zdt(concave: bool) -> Task:
    """Returns a task of ZDT1 or ZDT2, whose optimum is not at a corner."""
    space = Space(
        [
            Float("first", 0, 1),
            Float("second", 0, 1),
            Float("third", 0, 1),
            Float("rate", 1e-4, 1, sampling="log"),
            Int("count", 1, 9),
            Choice("kind", ["a", "b", "c", "d"]),
            Boolean("flag"),
        ]
    )

    def losses(values: Configuration) -> Pair:
        away = [
            abs(values["second"] - 0.3),
            abs(values["third"] - 0.8),
            abs(math.log10(values["rate"]) + 3) / 4,
            abs(values["count"] - 4) / 8,
            {"a": 0.5, "b": 0.2, "c": 0.0, "d": 0.7}[values["kind"]],
            0.3 * values["flag"],
        ]
        first, g = values["first"], 1 + 9 * sum(away) / len(away)
        return first, g * (1 - ((first / g) ** 2 if concave else math.sqrt(first / g)))

    first = np.linspace(0, 1, 1001)
    return Task(space, losses, np.column_stack([first, 1 - (first**2 if concave else np.sqrt(first))]))


def network() -> Task:
    """Returns the task of a made-up network."""
    space = Space(
        [
            Int("layers", 1, 4),
            Int("units", 4, 512, sampling="log"),
            Float("rate", 1e-5, 1e-1, sampling="log"),
            Float("dropout", 0, 0.8),
            Choice("activation", ["relu", "tanh", "sigmoid"]),
        ]
    )

    def size(layers: int, units: int) -> float:
        return 64 * units + (layers - 1) * units**2 + 10 * units

    def least(layers: int, units: int) -> float:
        return 0.02 + 0.5 * math.exp(-0.35 * (math.log2(size(layers, units)) - 8)) + 0.01 * (layers - 2) ** 2

    def losses(values: Configuration) -> Pair:
        layers, units = values["layers"], values["units"]
        rate = (math.log10(values["rate"]) + 2 + 0.5 * math.log10(units)) ** 2
        dropout = (values["dropout"] - 0.15 * math.log10(units)) ** 2
        kind = {"relu": 0.0, "tanh": 0.02, "sigmoid": 0.1}[values["activation"]]
        return least(layers, units) + 0.05 * rate + 0.3 * dropout + kind, size(layers, units)

    points = np.array([(least(*each), size(*each)) for each in itertools.product(range(1, 5), range(4, 513))])

    def measured(losses: Array) -> Array:
        return np.column_stack([losses[:, 0], np.log10(losses[:, 1])])

    return Task(space, losses, measured(points[non_dominated(points)]), measured)


TASKS: dict[str, Callable[[], Task]] = {
    NAS: nas,
    "zdt1": functools.partial(zdt, False),
    "zdt2": functools.partial(zdt, True),
    "network": network,
}


class Ours(peers.Ours):
    """A sampler of hpcompss, given a history with two objectives."""

    def __init__(self, space: Space, seed: int, trials: int, *, name: str) -> None:
        super().__init__(space, seed, trials, name=name)
        self.history = History(space, "minimize", also=[Objective("second", "minimize")])

    def tell(self, handle: int, losses: Pair) -> None:  # type: ignore[override]
        result = Result(losses[0], {"second": losses[1]})
        self.history.append(Trial(handle, self.pending.pop(handle), TrialState.COMPLETE, result))


class Optuna(peers.Optuna):
    """A sampler of Optuna at its defaults, in a study of two directions."""

    def __init__(self, space: Space, seed: int, trials: int, *, sampler: str) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore")
        self.space = space
        made = getattr(optuna.samplers, sampler)(seed=seed)
        self.study = optuna.create_study(sampler=made, directions=["minimize", "minimize"])


def search(name: str, sampler: str, seed: int, trials: int) -> dict[str, float]:
    """Returns the share of the front that one search finds, and the milliseconds of a suggestion."""
    task = TASKS[name]()
    made: Any = Optuna if sampler in PEERS else Ours
    option = {"sampler": PEERS[sampler]} if sampler in PEERS else {"name": sampler}
    searcher = made(task.space, seed, trials, **option)
    found: list[Pair] = []
    spent = 0.0
    for _ in range(trials):
        begun = time.process_time()
        handle, configuration = searcher.ask()
        spent += time.process_time() - begun
        found.append(task.losses(configuration))
        searcher.tell(handle, found[-1])
    return {"share": task.share(found), "milliseconds": 1000 * spent / trials}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everyone = [*OURS, *PEERS]
    parser.add_argument("--tasks", nargs="+", choices=[*TASKS], default=[*TASKS], metavar="TASK", help="(all)")
    parser.add_argument("--samplers", nargs="+", choices=everyone, default=everyone, metavar="NAME", help="(all)")
    parser.add_argument("--seeds", type=int, default=5, help="searches of each task (5)")
    parser.add_argument("--trials", type=int, default=100, help="trials of each search (100)")
    parser.add_argument("--jobs", type=int, default=2, help="searches at the same time (2)")
    options = parser.parse_args()
    os.environ.update(common.environment(threads=1))
    missing = common.absent("optuna")
    samplers = [each for each in options.samplers if not missing or each not in PEERS]
    skipped = [f"Optuna: {missing}"] if missing else []
    if NAS in options.tasks and NAS not in tasks.choose(["all"]):
        options.tasks.remove(NAS)
        skipped.append(f"{NAS}: {tasks.DATA} lacks its table")
    runs = list(itertools.product(samplers, options.tasks, range(options.seeds)))
    shares: dict[str, dict[str, list[float]]] = {each: {name: [] for name in options.tasks} for each in samplers}
    times: dict[str, list[float]] = {each: [] for each in samplers}
    with concurrent.futures.ProcessPoolExecutor(options.jobs) as pool:
        jobs = [pool.submit(search, name, sampler, seed, options.trials) for sampler, name, seed in runs]
        for (sampler, name, _), job in zip(runs, jobs, strict=True):
            shares[sampler][name].append(job.result()["share"])
            times[sampler].append(job.result()["milliseconds"])
    rows = [("share of the front's hypervolume", ", ".join(options.tasks) + ": mean; ms a suggestion")]
    means: dict[str, float] = {}
    for sampler in samplers:
        each = [float(np.mean(shares[sampler][name])) for name in options.tasks]
        means[sampler] = 1 - float(np.mean(each))
        figures = ", ".join(f"{share:.3f}" for share in each)
        rows.append((sampler, f"{figures}: {1 - means[sampler]:.3f}; {np.mean(times[sampler]):.1f} ms"))
    targets = [
        Target(f"the shortfall of {ours}, of {peer}'s", means[ours] / means[peer], bound, False)
        for (ours, peer), bound in BOUNDS.items()
        if ours in means and peer in means
    ]
    title = f"Two objectives: {len(options.tasks)} tasks, {options.seeds} seeds, {options.trials} trials, 1 thread each"
    return common.report(title, rows, targets, skipped)


if __name__ == "__main__":
    sys.exit(main())
