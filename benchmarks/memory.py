"""Whether workers stay small: the resident memory of the one worker over 200 Keras trials in a row.

The digits workflow runs on one worker, few epochs a trial. From outside, every 50 ms, the resident memory (``VmRSS``)
of the worker is read beside the number of trials in the journal. Compared are the largest value until trial 200 has
ended and the largest until trial 20 has. A worker that hpcompss replaced because it had grown is counted and named.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from common import DIGITS, Target, absent, disk_folder, environment, report

MOST_GROWTH = 1.3
PAUSE = 0.05
"""Seconds between two readings."""


def children(process: int) -> Iterator[int]:
    """Yields the processes that ``process`` started."""
    for thread in Path(f"/proc/{process}/task").glob("*"):
        try:
            yield from map(int, (thread / "children").read_text().split())
        except OSError:
            continue


def resident(process: int) -> float:
    """Returns the MB a process holds resident, 0 where it is gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS:")), 0.0)


class Watch:
    """The largest memory of the workers so far, at the end of each trial."""

    def __init__(self) -> None:
        self.largest = 0.0
        self.workers: list[int] = []
        self.at_trial: list[float] = []
        self.readings: list[float] = []

    def look(self, master: int) -> None:
        now = 0.0
        for worker in children(master):
            memory = resident(worker)
            now = max(now, memory)
            if memory and worker not in self.workers:
                self.workers.append(worker)
        self.largest = max(self.largest, now)
        self.readings.append(now)

    def count(self, finished: int) -> None:
        """Notes the memory of the trials that have finished since the last call."""
        while len(self.at_trial) < finished:
            self.at_trial.append(self.largest)


def watched(options: argparse.Namespace, folder: Path) -> Watch:
    command = [sys.executable, "-m", "hpcompss", "run", str(DIGITS.with_suffix(".yaml")), "--study", str(folder)]
    command += ["--workers", "1", "--trials", str(options.trials), "--seed", "0"]
    command += ["--set", f"training.epochs={options.epochs}"]
    watch, finished, position = Watch(), 0, 0
    with open(folder.parent / "output", "w+b") as output:
        process = subprocess.Popen(command, env=environment(), stdout=output, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                watch.look(process.pid)
                new, position = new_text(folder / "journal.jsonl", position)
                finished += new.count(b'{"event": "tell"')
                watch.count(finished)
                time.sleep(PAUSE)
        finally:
            process.kill()
            process.wait()
        if len(watch.at_trial) < options.trials:
            output.seek(0)
            raise SystemExit(f"only {len(watch.at_trial)} trials ended:\n{output.read().decode()}")
    return watch


def new_text(path: Path, position: int) -> tuple[bytes, int]:
    """Returns the lines added to a file since ``position``, and the position after them."""
    if not path.exists():
        return b"", position
    with path.open("rb") as file:
        file.seek(position)
        text = file.read()
    end = text.rfind(b"\n") + 1
    return text[:end], position + end


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200, help="trials in a row (default: 200)")
    parser.add_argument("--first", type=int, default=20, help="the trial to compare with (default: 20)")
    parser.add_argument("--epochs", type=int, default=1, help="epochs of each trial (default: 1)")
    options = parser.parse_args()
    reason = absent("tensorflow", "sklearn") or (
        "" if os.path.exists("/proc/self/status") else "there is no /proc here"
    )
    if reason:
        print(f"skipped: {reason}")
        return 0

    with disk_folder(None) as folder:
        watch = watched(options, folder / "study")
    marks = sorted({1, options.first, options.trials // 4, options.trials // 2, options.trials})
    rows = [(f"largest until trial {mark} has ended", f"{watch.at_trial[mark - 1]:.0f} MB") for mark in marks]
    rows.append(("worker processes, one at a time", str(len(watch.workers))))
    growth = watch.at_trial[-1] / watch.at_trial[options.first - 1]
    title = f"Memory: one worker, {options.trials} digits trials of {options.epochs} epoch(s) in a row"
    what = f"memory after trial {options.trials}, of that after trial {options.first},"
    return report(title, rows, [Target(what, growth, MOST_GROWTH, False)])


if __name__ == "__main__":
    sys.exit(main())
