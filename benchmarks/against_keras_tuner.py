"""hpcompss against KerasTuner's RandomSearch: the same digits model, trials, epochs, batch size and 2 cores.

Both take `build(hp)` of workflows/digits.py, as it is, and the same arrays from one file. hpcompss runs its command
line with two local workers of 1 thread each; KerasTuner runs in one process with the threads it takes by itself on 2
cores (2), ``executions_per_trial=1``, and saves the best model. Compared are the seconds from process start to process
end, imports included; hpcompss's also include the winner's score on the test set. KerasTuner's random search is handed
the configurations that hpcompss has drawn, so that both train the same models; the repeats have other seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from common import (
    DIGITS,
    Target,
    absent,
    disk_folder,
    interleaved,
    median,
    report,
    run_digits,
    run_side,
    spread,
    use_cores,
)

LEAST_RATIO = 1.7
DATA = "digits.npz"
CONFIGURATIONS = "configurations.json"


def save_data(folder: Path) -> None:
    """Writes the digits images, split as the workflow splits them."""
    import numpy as np

    from hpcompss.training.data import DataSpecification, load_data

    data = load_data(DataSpecification(name="digits", validation=0.2))
    names = ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test")
    np.savez(folder / DATA, **{name: getattr(data, name) for name in names})


def measure_hpcompss(options: argparse.Namespace, folder: Path, seed: int) -> dict[str, float]:
    run, records = run_digits(
        folder / "study",
        *("--workers", 2, "--trials", options.trials, "--seed", seed, "--set", "resources.cpu=1"),
        *("--set", f"data={{path: {folder / DATA}}}"),
        *("--set", f"training.epochs={options.epochs}", "--set", f"training.batch_size={options.batch_size}"),
    )
    if not (folder / "study" / "best.keras").exists():
        raise SystemExit("hpcompss kept no best model")
    asked = {each["number"]: each["configuration"] for each in records if each["event"] == "ask"}
    values = [each["value"] for each in records if each["event"] == "tell" and each["value"] is not None]
    if len(values) != options.trials:
        raise SystemExit(f"hpcompss completed {len(values)} trials, not {options.trials}")
    (folder / CONFIGURATIONS).write_text(json.dumps([asked[number] for number in sorted(asked)]))
    return {"seconds": run.seconds, "processor": run.processor, "best": max(values)}


def measure_keras_tuner(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    stated = {"folder": folder, "epochs": options.epochs, "batch-size": options.batch_size}
    run, figures = run_side(__file__, "keras_tuner", *(part for name in stated for part in (f"--{name}", stated[name])))
    return {"seconds": run.seconds, "processor": run.processor, "best": figures["best"]}


def run_keras_tuner(options: argparse.Namespace) -> dict[str, Any]:
    """Searches with KerasTuner in this process and saves the best model."""
    import keras_tuner
    import numpy as np
    from keras_tuner.engine.trial import TrialStatus

    from hpcompss.loading import load_attribute

    configurations = json.loads((options.folder / CONFIGURATIONS).read_text())

    class Listed(keras_tuner.oracles.RandomSearchOracle):
        """Random search whose draws were made before."""

        def populate_space(self, trial_id: str) -> dict[str, Any]:
            return {"status": TrialStatus.RUNNING, "values": configurations[int(trial_id)]}

    oracle = Listed(objective=keras_tuner.Objective("val_accuracy", "max"), max_trials=len(configurations))
    tuner = keras_tuner.Tuner(
        oracle,
        load_attribute(f"{DIGITS}:build"),
        executions_per_trial=1,
        overwrite=True,
        directory=options.folder / "tuner",
        project_name="digits",
    )
    data = np.load(options.folder / DATA)
    tuner.search(
        data["x_train"],
        data["y_train"],
        validation_data=(data["x_val"], data["y_val"]),
        epochs=options.epochs,
        batch_size=options.batch_size,
        verbose=0,
    )
    tuner.get_best_models(1)[0].save(options.folder / "best.keras")
    check_same(oracle, configurations)
    return {"best": oracle.get_best_trials(1)[0].score}


def check_same(oracle: Any, configurations: list[dict[str, Any]]) -> None:
    """Exits where KerasTuner has not trained what it was handed."""
    for number, configuration in enumerate(configurations):
        trial = oracle.trials[f"{number:0{len(str(len(configurations)))}d}"]
        values = trial.hyperparameters.values
        if trial.status != "COMPLETED" or {name: values[name] for name in configuration} != configuration:
            raise SystemExit(f"KerasTuner's trial {number} ({trial.status}) has {values}, not {configuration}")


def figures_of(runs: list[dict[str, float]], name: str) -> list[float]:
    return [run[name] for run in runs]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=24, help="trials of each side (default: 24)")
    parser.add_argument("--epochs", type=int, default=12, help="epochs of each trial (default: 12)")
    parser.add_argument("--batch-size", type=int, default=64, help="samples a step (default: 64)")
    parser.add_argument("--seed", type=int, default=0, help="of the first run's configurations (default: 0)")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each side, in turn (default: 1)")
    parser.add_argument("--only", choices=("keras_tuner",), help="run one side here, print its figures as JSON")
    parser.add_argument("--folder", type=Path, help="with --only: where the data and the configurations are")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(run_keras_tuner(options)))
        return 0
    if reason := absent("tensorflow", "sklearn", "keras_tuner", "tensorboard"):
        print(f"skipped: {reason}")
        return 0

    use_cores(2)
    with disk_folder(None) as base:
        os.environ["HPCOMPSS_CACHE"] = str(base / "cache")  # the data is of no use afterwards
        folders = [base / str(repeat) for repeat in range(options.repeats)]
        for folder in folders:
            folder.mkdir()
            save_data(folder)
        sides = {
            "hpcompss, 2 workers with 1 thread": lambda n: measure_hpcompss(options, folders[n], options.seed + n),
            "KerasTuner, 2 threads": lambda n: measure_keras_tuner(options, folders[n]),
        }
        results = interleaved(options.repeats, sides)
    return show(options, results)


def show(options: argparse.Namespace, results: dict[str, list[dict[str, float]]]) -> int:
    rows = [
        (
            name,
            f"{spread(figures_of(runs, 'seconds'), '.1f')} s, "
            f"of processor time {spread(figures_of(runs, 'processor'), '.1f')} s; "
            f"best val_accuracy {spread(figures_of(runs, 'best'), '.4f')}",
        )
        for name, runs in results.items()
    ]
    ours, theirs = (median(figures_of(runs, "seconds")) for runs in results.values())
    title = (
        f"KerasTuner: {options.trials} digits trials of {options.epochs} epochs, "
        f"batches of {options.batch_size}, 2 cores, median of {options.repeats}"
    )
    return report(title, rows, [Target("times as fast as KerasTuner", theirs / ours, LEAST_RATIO, True)])


if __name__ == "__main__":
    sys.exit(main())
