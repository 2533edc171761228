"""What it costs to train in stages: writing a checkpoint and going on from it, of a rung of one epoch on the digits.

One process with one thread runs three tasks in turn, as a worker does: a rung of the first epoch without a checkpoint,
the same with one, and a rung of the second epoch that goes on from it and leaves the next. A rung is all that its task
does: building the model, tracing it, the epoch, the validation, saving the model. The cost is the time spent in taking
and writing the state, and in reading it and giving it back; the difference of whole rungs is printed beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import DIGITS, Target, absent, disk_folder, median, report, run_side, spread

MOST = 5
"""Per cent of a rung."""

CONFIGURATION = {
    "conv_layers": 2,
    "filters_0": 32,
    "filters_1": 64,
    "dropout": 0.2,
    "units": 64,
    "learning_rate": 0.001,
    "optimizer": "adam",
}
PARTS = ("put_model", "put_callbacks", "put_random_states", "write_checkpoint")
PARTS += ("give_model", "give_callbacks", "give_random_states")


def timed(function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        begun = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            spent[0] += time.perf_counter() - begun

    return call


def measure(folder: Path, repeats: int) -> dict[str, Any]:
    """Returns the seconds of each kind of rung, and of what in them belongs to checkpoints."""
    from hpcompss.tasks import train as task
    from hpcompss.training import fitting
    from hpcompss.training.checkpoint import checkpoints_size, remove_checkpoints
    from hpcompss.training.data import DataSpecification
    from hpcompss.training.job import Job
    from hpcompss.trial import Stage

    spent = [0.0]
    for name in PARTS:
        setattr(fitting, name, timed(getattr(fitting, name), spent))
    task.read_checkpoint = timed(task.read_checkpoint, spent)
    job = Job(f"{DIGITS}:build", DataSpecification(name="digits"), "val_accuracy", "maximize", batch_size=64)
    stages = {
        "without": Stage(epochs=1),
        "first": Stage(epochs=1, keeps=True),
        "later": Stage(epochs=2, since=1, keeps=True),
        "three": Stage(epochs=4, since=1),
    }
    figures: dict[str, Any] = {name: [] for name in (*stages, "cost of first", "cost of later")}
    for repeat in range(repeats + 1):
        for name, stage in stages.items():
            spent[0], begun = 0.0, time.perf_counter()
            result = task.train(job, repeat, CONFIGURATION, folder, None, stage)
            seconds = time.perf_counter() - begun
            if result.failure or result.warnings:
                raise SystemExit(f"a trial went wrong: {result}")
            if repeat:  # the first time all is slower: what is imported, the data
                figures[name].append(seconds)
                figures.get(f"cost of {name}", []).append(spent[0])
        figures["size"] = checkpoints_size(folder) / 2
        remove_checkpoints(folder, repeat)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="rungs of each kind (default: 15)")
    parser.add_argument("--folder", help="where to keep the checkpoints (default: a temporary folder on a real disk)")
    parser.add_argument("--only", choices=["rungs"], help="run the rungs here and print their figures as JSON")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(Path(options.folder), options.repeats)))
        return 0
    reason = absent("tensorflow", "sklearn")
    if reason:
        print(f"skipped: {reason}")
        return 0

    with disk_folder(options.folder) as folder:
        _, figures = run_side(__file__, "rungs", "--repeats", options.repeats, "--folder", folder, threads=1)
    without, first, later = (figures[name] for name in ("without", "first", "later"))
    rows = [
        ("a rung of one epoch, without a checkpoint", f"{spread(without)} s"),
        ("the same, leaving one", f"{spread(first)} s: {100 * (median(first) / median(without) - 1):+.1f} %"),
        (
            "a later one, going on and leaving one",
            f"{spread(later)} s: {100 * (median(later) / median(without) - 1):+.1f} %",
        ),
        ("an epoch more of a later one", f"{(median(figures['three']) - median(later)) / 2 * 1000:.0f} ms"),
        ("taking and writing the state", f"{1000 * median(figures['cost of first']):.1f} ms"),
        ("the same, after reading and giving it back", f"{1000 * median(figures['cost of later']):.1f} ms"),
        ("a checkpoint's size", f"{figures['size'] / 1e6:.2f} MB"),
    ]
    share = 100 * median([cost / whole for cost, whole in zip(figures["cost of later"], later, strict=True)])
    title = f"Checkpoints: rungs of one epoch on the digits, one thread, median of {options.repeats}"
    return report(title, rows, [Target("a checkpoint's share of a rung's time", share, MOST, False, " %")])


if __name__ == "__main__":
    sys.exit(main())
