"""Whether more trials at once beat more threads a trial: 40 trials of the digits workflow on 2 cores.

The same trials (one seed, random search, a fixed number of epochs) run on two workers with 1 thread each, and on one
worker with 2 threads. Compared are the seconds from the study's beginning (data read, space found, one worker ready) to
the end of its last trial; the whole run from process start to process end is printed, too.
"""

from __future__ import annotations

import argparse
import sys

from common import (
    Target,
    absent,
    disk_folder,
    interleaved,
    median,
    report,
    run_digits,
    seconds_of_trials,
    spread,
    use_cores,
)

LEAST_RATIO = 1.3


def measure(workers: int, threads: int, options: argparse.Namespace) -> dict[str, float]:
    with disk_folder(None) as folder:
        run, records = run_digits(
            folder / "study",
            *("--workers", workers, "--trials", options.trials, "--seed", options.seed),
            *("--set", f"resources.cpu={threads}", "--set", f"training.epochs={options.epochs}"),
        )
    best = max(each["value"] for each in records if each["event"] == "tell" and each["value"] is not None)
    return {"whole": run.seconds, "processor": run.processor, "trials": seconds_of_trials(records), "best": best}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40, help="trials of each run (default: 40)")
    parser.add_argument("--epochs", type=int, default=12, help="epochs of each trial (default: 12)")
    parser.add_argument("--seed", type=int, default=7, help="which configurations (default: 7)")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each side, in turn (default: 1)")
    options = parser.parse_args()
    if reason := absent("tensorflow", "sklearn"):
        print(f"skipped: {reason}")
        return 0

    use_cores(2)
    many, one = "2 workers with 1 thread", "1 worker with 2 threads"
    sides = {many: lambda _: measure(2, 1, options), one: lambda _: measure(1, 2, options)}
    results = interleaved(options.repeats, sides)
    seconds = {name: [run["trials"] for run in runs] for name, runs in results.items()}
    rows = [
        (
            name,
            f"{spread(seconds[name], '.1f')} s, {60 * options.trials / median(seconds[name]):.1f} trials a minute; "
            f"whole run {spread([run['whole'] for run in runs], '.1f')} s, "
            f"of processor time {spread([run['processor'] for run in runs], '.1f')} s; "
            f"best val_accuracy {runs[0]['best']:.4f}",
        )
        for name, runs in results.items()
    ]
    ratio = median(seconds[one]) / median(seconds[many])
    title = (
        f"Workers: {options.trials} digits trials of {options.epochs} epochs on 2 cores, median of {options.repeats}"
    )
    return report(title, rows, [Target("times as fast with 2 workers", ratio, LEAST_RATIO, True)])


if __name__ == "__main__":
    sys.exit(main())
