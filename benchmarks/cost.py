"""What predicted seconds are good for: their accuracy, the order of the queue, and progress per second.

All of it in virtual time. On eight data sets of LCBench (see sampler_tasks.py), with the surrogate's own seconds:

- how much of the variance of log seconds the model of cost explains after 20, 50 and 200 trials, where the median
  explains none of it;
- the mean normalised regret of ``gp`` and ``tpe`` with and without ``per: second`` after the same seconds, a quarter, a
  half and all of those of 60 random trials. Target: with it at most that without it, after all of them.

And 60 trials of 8 to 300 seconds on 8 simulated workers: their time of that of the order of their numbers. Target: 0.9.
"""

from __future__ import annotations

import argparse
import math
import sys

import common
import numpy as np
import sampler_tasks as tasks

from hpcompss.engines.base import Engine, Future
from hpcompss.engines.simulated import Simulated
from hpcompss.forecast import Forecast
from hpcompss.loop import Loop
from hpcompss.samplers import History, make_sampler
from hpcompss.samplers.cost import CostModel
from hpcompss.space import Int, Space
from hpcompss.stopping import StopRules
from hpcompss.study import Study
from hpcompss.trial import Configuration, Resources, Result, Trial, TrialState

DATA_SETS = ("3945", "126026", "167168", "168330", "189906", "146212", "168910", "189862")
BUDGET = 60
"""Random trials whose mean seconds make the budget."""
SHARES = (0.25, 0.5, 1.0)
"""The shares of the budget at which regrets are taken."""
MOST_TIME = 0.9


def outcome(data_set: str, configuration: Configuration) -> tuple[float, float]:
    """Returns the seconds of a configuration and its validation accuracy."""
    settings = [[float(configuration[name]) for name in tasks.LCBENCH.names]]
    figures = tasks.outputs(data_set, np.array(settings), np.array([tasks.EPOCHS]))[0]
    seconds, accuracy = figures[tasks.TIME], figures[tasks.ACCURACY]
    return float(seconds), float(accuracy)


def random_trials(data_set: str, count: int, seed: int) -> History:
    """Returns random trials of a data set."""
    history, generator = History(tasks.LCBENCH, "maximize"), np.random.default_rng(seed)
    for number in range(count):
        add(history, number, tasks.LCBENCH.sample(generator), data_set)
    return history


def add(history: History, number: int, configuration: Configuration, data_set: str) -> tuple[float, float]:
    """Adds a configuration's trial to a history; returns its seconds and its accuracy."""
    seconds, accuracy = outcome(data_set, configuration)
    history.append(Trial(number, configuration, TrialState.COMPLETE, Result(accuracy, seconds=seconds)))
    return seconds, accuracy


def explained(data_set: str, count: int, seed: int) -> float:
    """Returns the share of the variance of log seconds that is explained of 500 other configurations."""
    others = random_trials(data_set, 500, seed=1000)
    cost = CostModel(tasks.LCBENCH).after(random_trials(data_set, count, seed))
    truth = np.log(others.seconds)
    return 1 - float(np.mean((cost(cost.points_of(others.units)) - truth) ** 2) / truth.var())


def regrets(name: str, data_set: str, seed: int, per_second: bool, budget: float) -> list[float]:
    """Returns the normalised regrets of a search after the shares of a budget of seconds."""
    sampler = make_sampler(name, tasks.LCBENCH, seed=seed, per_second=per_second)
    history, spent, best, curve = History(tasks.LCBENCH, "maximize"), 0.0, -math.inf, []
    least, greatest = tasks.ACCURACIES[data_set]
    while spent < budget:
        seconds, accuracy = add(history, len(history), sampler.ask(history, [], len(history)), data_set)
        spent, best = spent + seconds, max(best, accuracy)
        curve.append((spent, best))
    found = [max((value for at, value in curve if at <= share * budget), default=least) for share in SHARES]
    return [min(1.0, max(0.0, (greatest - each) / (greatest - least))) for each in found]


class Costly:
    """Trials of known virtual seconds."""

    def submit(self, engine: Engine, study: Study, trial: Trial, resources: Resources) -> Future:
        """Submits a task that takes what the configuration costs."""
        size, layers = float(trial.configuration["size"]), float(trial.configuration["layers"])
        return engine.submit(given, Result(1.0, seconds=8 * 1.35**layers * 1.22**size), resources=resources)

    def settle(self, study: Study, finished: object) -> None:
        """Leaves nothing to be done."""


def given(result: Result) -> Result:
    return result


class InTurn(Forecast):
    """Predicts nothing, so that trials start in the order of their numbers."""

    tells_apart = False


def makespan(longest_first: bool) -> float:
    """Returns the virtual seconds of a shuffled grid of 60 trials on 8 workers."""
    study = Study(
        Space([Int("layers", 1, 6), Int("size", 1, 10)]), sampler={"name": "grid", "order": "shuffled"}, seed=0
    )
    with Simulated(8, lambda function, result: result.seconds) as engine:
        loop = Loop(study, engine, Costly(), StopRules())
        if not longest_first:
            loop._forecast = InTurn(study)
        loop.run()
        return engine.clock


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2, help="searches of each data set (2)")
    options = parser.parse_args()
    ratio = makespan(True) / makespan(False)
    rows = [("60 trials on 8 workers, longest first", f"{ratio:.2f} times the order of their numbers")]
    targets = [common.Target("the time of the longest first, of the order of numbers", ratio, MOST_TIME, False)]
    if reason := common.absent("onnxruntime"):
        return common.report("Predicted seconds", rows, targets, [f"LCBench: {reason}"])
    for count in (20, 50, 200):
        shares = [explained(each, count, seed) for each in DATA_SETS for seed in range(options.seeds)]
        rows.append(
            (f"variance of log seconds explained after {count}", f"{np.mean(shares):.2f} (least {min(shares):.2f})")
        )
    budgets = {each: BUDGET * float(random_trials(each, 500, 0).seconds.mean()) for each in DATA_SETS}
    for name in ("gp", "tpe"):
        found = {
            per_second: np.mean(
                [
                    regrets(name, each, seed, per_second, budgets[each])
                    for each in DATA_SETS
                    for seed in range(options.seeds)
                ],
                axis=0,
            )
            for per_second in (False, True)
        }
        for per_second, means in found.items():
            line = "  ".join(f"{mean:.4f} at {share:.0%}" for mean, share in zip(means, SHARES, strict=True))
            rows.append((f"{name}{', per second' if per_second else ''}", line))
        targets.append(
            common.Target(
                f"{name}'s regret per second, of that without", found[True][-1] / found[False][-1], 1.0, False
            )
        )
    title = f"Predicted seconds: {len(DATA_SETS)} data sets of LCBench, {options.seeds} seeds"
    return common.report(title, rows, targets, [])


if __name__ == "__main__":
    sys.exit(main())
