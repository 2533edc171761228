"""What a trial costs beside its work: trials of a Python function that does nothing, journal on disk, 2 workers.

The same six parameters are drawn at random by hpcompss (``Study(..., directory=...).optimize`` with two local workers)
and by Optuna (``JournalStorage(JournalFileBackend(...))``, two processes that share the study). hpcompss is timed from
before its workers start; Optuna from its first trial to its last, so its processes' start is not counted. Optuna is
given fewer trials, for it is slow; both are stated as trials a second. Then the master's peak memory over a long study.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from pathlib import Path
from typing import Any

from common import Target, absent, disk_folder, interleaved, median, report, run_side, spread, sync_milliseconds

LEAST_SPEED = 500
LEAST_RATIO = 3
MOST_MEMORY = 150
"""MB, at 20,000 trials."""


def nothing(configuration: dict[str, Any]) -> float:
    """Is what the trials of hpcompss run."""
    return 0.0


def run_hpcompss(trials: int, folder: Path) -> dict[str, float]:
    import hpcompss

    space = [
        hpcompss.Float("momentum", 0.0, 1.0),
        hpcompss.Float("rate", 1e-4, 1.0, sampling="log"),
        hpcompss.Int("depth", 1, 100),
        hpcompss.Int("units", 8, 256, step=8),
        hpcompss.Choice("kind", ["tree", "linear", "forest"]),
        hpcompss.Boolean("scaled"),
    ]
    begun = time.perf_counter()
    with (
        hpcompss.Study(space, sampler="random", seed=0, directory=folder / "study") as study,
        hpcompss.engines.Local(workers=2) as engine,
    ):
        study.optimize(nothing, trials=trials, engine=engine)
        seconds = time.perf_counter() - begun
        if study.completed != trials:
            raise SystemExit(f"only {study.completed} of {trials} trials completed")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    return {"seconds": seconds, "peak": peak}


def run_optuna(trials: int, folder: Path) -> dict[str, float]:
    import optuna

    storage = _storage(folder)
    optuna.create_study(study_name="study", storage=storage)
    context = multiprocessing.get_context("spawn")
    times = context.Queue()
    shares = [trials // 2, trials - trials // 2]
    processes = [
        context.Process(target=_optimize, args=(folder, share, seed, times)) for seed, share in enumerate(shares)
    ]
    for process in processes:
        process.start()
    spans = [times.get() for _ in processes]
    for process in processes:
        process.join()
    completed = len(optuna.load_study(study_name="study", storage=storage).trials)
    if completed != trials:
        raise SystemExit(f"Optuna has {completed} trials, not {trials}")
    return {"seconds": max(end for _, end in spans) - min(begin for begin, _ in spans)}


def _storage(folder: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(folder / "optuna.log")))


def _optimize(folder: Path, trials: int, seed: int, times: Any) -> None:
    import optuna

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("momentum", 0.0, 1.0)
        trial.suggest_float("rate", 1e-4, 1.0, log=True)
        trial.suggest_int("depth", 1, 100)
        trial.suggest_int("units", 8, 256, step=8)
        trial.suggest_categorical("kind", ["tree", "linear", "forest"])
        trial.suggest_categorical("scaled", [False, True])
        return 0.0

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.RandomSampler(seed=seed)
    study = optuna.load_study(study_name="study", storage=_storage(folder), sampler=sampler)
    begun = time.time()
    study.optimize(objective, n_trials=trials)
    times.put((begun, time.time()))


SIDES = {"hpcompss": run_hpcompss, "optuna": run_optuna}


def measure(side: str, trials: int, parent: str | None) -> dict[str, float]:
    """Runs one side in a process and a folder of its own; all libraries have one thread."""
    with disk_folder(parent) as folder:
        flush = sync_milliseconds(folder)
        _, figures = run_side(__file__, side, "--trials", trials, "--folder", folder, threads=1)
        return {**figures, "speed": trials / figures["seconds"], "flush": flush}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5000, help="hpcompss's trials (default: 5000)")
    parser.add_argument("--peer-trials", type=int, default=1000, help="Optuna's trials (default: 1000)")
    parser.add_argument("--memory-trials", type=int, default=20000, help="for the master's memory (default: 20000)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side, in turn (default: 3)")
    parser.add_argument("--folder", help="where to keep the journals (default: a temporary folder on a real disk)")
    parser.add_argument("--only", choices=SIDES, help="run one side here, once, and print its figures as JSON")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(SIDES[options.only](options.trials, Path(options.folder))))
        return 0

    reason = absent("optuna")
    sides = {"hpcompss": lambda _: measure("hpcompss", options.trials, options.folder)}
    if not reason:
        sides["optuna"] = lambda _: measure("optuna", options.peer_trials, options.folder)
    results = interleaved(options.repeats, sides)
    peak = measure("hpcompss", options.memory_trials, options.folder)["peak"]
    return show(options, results, peak, reason)


def show(options: argparse.Namespace, results: dict[str, list[dict[str, float]]], peak: float, reason: str) -> int:
    trials = {"hpcompss": options.trials, "optuna": options.peer_trials}
    speeds = {name: [run["speed"] for run in runs] for name, runs in results.items()}
    rows = []
    for name, speed in speeds.items():
        rows.append((f"{name}, {trials[name]:,} trials", f"{spread(speed, '.0f')} trials/s"))
        rows.append((f"{name}, one trial", f"{1000 / median(speed):.2f} ms"))
        if name == "hpcompss":
            rows.append(("hpcompss, master's peak memory", f"{median([run['peak'] for run in results[name]]):.0f} MB"))
    rows.append((f"hpcompss, master's peak memory at {options.memory_trials:,} trials", f"{peak:.0f} MB"))
    rows.append(("a flush of this disk", f"{spread([run['flush'] for runs in results.values() for run in runs])} ms"))
    targets = [Target("hpcompss's trials a second", median(speeds["hpcompss"]), LEAST_SPEED, True)]
    if not reason:
        ratio = median(speeds["hpcompss"]) / median(speeds["optuna"])
        targets.append(Target("times as fast as Optuna", ratio, LEAST_RATIO, True))
    targets.append(Target("the master's memory", peak, MOST_MEMORY, False, " MB"))
    title = f"Overhead: trials that do nothing, 2 workers, journal on disk, median of {options.repeats} runs"
    return report(title, rows, targets, [reason] * bool(reason))


if __name__ == "__main__":
    sys.exit(main())
