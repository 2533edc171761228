"""How soon ``hpcompss --help`` answers: the median of 20 process starts, beside ``optuna --help`` and bare Python.

The commands take turns, so that noise meets all alike; each is timed from its start to its end.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from common import Target, absent, environment, interleaved, median, report, run, spread

LIMIT = 0.3
"""Seconds."""


def program(name: str) -> list[str]:
    """Returns how to start a console script of this Python, or its module where the script is not installed."""
    script = Path(sys.executable).parent / name
    return [str(script)] if script.exists() else [sys.executable, "-m", name]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20, help="process starts of each command (default: 20)")
    options = parser.parse_args()

    commands = {
        "hpcompss --help": [*program("hpcompss"), "--help"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    reason = absent("optuna")
    if not reason:
        commands["optuna --help"] = [*program("optuna"), "--help"]
    for command in commands.values():  # once before: files are read from the disk and compiled
        subprocess.run(command, env=environment(), check=True, stdout=subprocess.DEVNULL)
    sides = {name: lambda _, command=command: run(command).seconds for name, command in commands.items()}
    took = interleaved(options.repeats, sides)

    ours = median(took["hpcompss --help"])
    rows = [(name, f"{spread(seconds, '.3f')} s") for name, seconds in took.items()]
    if not reason:
        rows.append(("ratio", f"optuna takes {median(took['optuna --help']) / ours:.1f} times as long"))
    title = f"Start-up: median of {options.repeats} process starts"
    return report(
        title, rows, [Target("hpcompss --help answers in", ours, LIMIT, False, " s")], [reason] * bool(reason)
    )


if __name__ == "__main__":
    sys.exit(main())
