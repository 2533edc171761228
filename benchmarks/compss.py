"""What COMPSs and its engine add to a search: trials of 10 s on 4 slots, against the time that the trials alone need.

Each order runs the real command line under the real ``runcompss``, on four slots of this machine; the trials sleep, so
that fewer cores do. Start and stop apart: counted from the first trial's start to the last one's end. Skipped where
``runcompss`` is not on PATH.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys

from common import ROOT, Target, disk_folder, interleaved, journal, median, report, run, spread

from hpcompss.cluster.commands import SCHEDULER
from hpcompss.cluster.nodes import parse_node
from hpcompss.cluster.resources import project_xml, resources_xml

MOST_ADDED = 0.05
"""The share of the ideal time that may be added."""

FUNCTION = """
import time


def rest(configuration):
    begun = time.time()
    time.sleep({seconds})
    return {{"loss": configuration["x"], "begun": begun, "ended": time.time()}}
"""


def measure(order: str, options: argparse.Namespace) -> dict[str, float]:
    with disk_folder(None) as folder:
        (folder / "function.py").write_text(FUNCTION.format(seconds=options.seconds))
        workflow = {
            "function": "function.py:rest",
            "space": {"x": {"type": "Float", "min_value": 0, "max_value": 1}},
            "objective": "loss",
            "search": {"sampler": "random", "trials": options.trials, "seed": 0, "order": order},
            "engine": "compss",
        }
        (folder / "workflow.yaml").write_text(json.dumps(workflow))
        nodes = [parse_node(f"localhost:{options.slots}cpu")]
        (folder / "resources.xml").write_text(resources_xml(nodes))
        installed = os.environ.get("COMPSS_HOME", "/opt/COMPSs")
        (folder / "project.xml").write_text(project_xml(nodes, installed, str(folder / "worker")))
        done = run(
            [
                *("runcompss", "--lang=python", f"--python_interpreter={sys.executable}", f"--pythonpath={ROOT}"),
                *(f"--resources={folder / 'resources.xml'}", f"--project={folder / 'project.xml'}"),
                f"--scheduler={options.scheduler}",
                *("--cpu_affinity=disabled", str(ROOT / "hpcompss" / "main.py"), "run"),
                *(str(folder / "workflow.yaml"), "--study", str(folder / "study")),
            ]
        )
        metrics = [each["metrics"] for each in journal(folder / "study") if each["event"] == "tell"]
    took = max(each["ended"] for each in metrics) - min(each["begun"] for each in metrics)
    return {"took": took, "whole": done.seconds}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40, help="trials of each run (default: 40)")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds of a trial (default: 10)")
    parser.add_argument("--slots", type=int, default=4, help="trials at once (default: 4)")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each order, in turn (default: 1)")
    parser.add_argument("--scheduler", default=SCHEDULER, help="COMPSs's scheduler (default: first in, first out)")
    parser.add_argument("--orders", nargs="+", default=["eager", "lagged"], help="which orders (default: both)")
    options = parser.parse_args()
    if shutil.which("runcompss") is None:
        print("skipped: runcompss is not on PATH")
        return 0
    ideal = -(-options.trials // options.slots) * options.seconds
    sides = {order: lambda _, order=order: measure(order, options) for order in options.orders}
    results = interleaved(options.repeats, sides)
    rows, targets = [], []
    for order, runs in results.items():
        took = [each["took"] for each in runs]
        whole = spread([each["whole"] for each in runs], ".1f")
        rows.append((order, f"{spread(took, '.1f')} s of {ideal:g} s; from runcompss's start to its end {whole} s"))
        targets.append(Target(f"{order}, added to the ideal", median(took) / ideal * 100 - 100, MOST_ADDED * 100,
                              False, " %"))  # fmt: skip
    title = f"COMPSs: {options.trials} trials of {options.seconds:g} s on {options.slots} slots"
    return report(title, rows, targets)


if __name__ == "__main__":
    sys.exit(main())
