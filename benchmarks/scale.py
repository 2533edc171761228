"""How busy 1,920 simulated workers are kept, in the eager and in the lagged order.

Trials of five minutes (lognormal) on the simulated engine with the costs that COMPSs was seen to have: 0.05 s a task on
its worker, 0.0005 s a submission and 0.065 s a result on the master. The loop, the graph and the study are the real
ones; the time is virtual. Utilisation is the workers' share of time spent in trials, start and stop apart: from the
moment all workers have been busy once until the last trial starts. Target: 95 %.
"""

from __future__ import annotations

import argparse
import math
import sys
import time

import common  # noqa: F401 - finds this checkout
import numpy as np

from hpcompss.engines.simulated import Simulated
from hpcompss.graph import FunctionGraph
from hpcompss.loop import Loop
from hpcompss.space import Float, Space
from hpcompss.stopping import StopRules
from hpcompss.study import Study
from hpcompss.tasks.evaluate import evaluate, evaluate_suggested
from hpcompss.trial import Result

MEAN = 300.0
"""Seconds of a trial, on average."""

TARGET = 0.95


def trial_seconds(function: object, value: object) -> float:
    if function in (evaluate, evaluate_suggested) and isinstance(value, Result):
        return value.metrics["seconds"]
    return 0.0


def utilisation(spans: list[tuple[float, float]], workers: int) -> float:
    """Returns the busy share of the workers' time, start and stop apart."""
    starts = sorted(start for start, _ in spans)
    begin, end = starts[workers - 1], starts[-1]
    busy = sum(min(stop, end) - max(start, begin) for start, stop in spans if stop > begin and start < end)
    return busy / (workers * (end - begin))


def run(workers: int, trials: int, sigma: float, lag: int | None) -> tuple[float, float]:
    """Returns the utilisation and the real seconds that the simulation took."""
    generator = np.random.default_rng(0)
    draws = iter(generator.lognormal(math.log(MEAN) - sigma**2 / 2, sigma, trials))

    def function(values: dict[str, float]) -> dict[str, float]:
        return {"value": values["x"], "seconds": float(next(draws))}

    study = Study(Space([Float(name, 0, 1) for name in ("x", "y", "z")]), seed=0, metric="value", lag=lag)
    begun = time.perf_counter()
    with Simulated(workers, trial_seconds, cost=0.05, submission=0.0005, fetching=0.065) as engine:
        Loop(study, engine, FunctionGraph(function, "value"), StopRules(trials=trials)).run()
        return utilisation(engine.spans, workers), time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1920)
    parser.add_argument("--waves", type=int, default=4, help="trials a worker")
    options = parser.parse_args()
    workers, trials = options.workers, options.workers * options.waves
    print(f"{workers} workers, {trials} trials of {MEAN:g} s on average")
    print(f"{'order':<16}{'sigma':>6}{'utilisation':>14}{'took':>10}")
    orders = {"eager": 0, "lagged, lag 2x": 2, "lagged, lag 4x": 4}
    reached = True
    for sigma, name in ((0.25, "eager"), (0.25, "lagged, lag 2x"), (0.5, "eager"), (0.5, "lagged, lag 4x")):
        busy, seconds = run(workers, trials, sigma, orders[name] * workers or None)
        reached &= busy >= TARGET
        print(f"{name:<16}{sigma:>6}{busy:>13.1%}{seconds:>8.0f} s", flush=True)
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
