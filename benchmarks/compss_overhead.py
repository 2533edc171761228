"""What a trial costs the COMPSs engine itself, on the master: three tasks submitted, their messages, one result taken.

PyCOMPSs is replaced by functions that do no work: a task returns at once, has told so by the time it is asked, and its
result is there. So what is measured is this engine's own time, as processor time a trial. Target: under 5 ms.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import types
from typing import Any

import common  # noqa: F401 - finds this checkout

from hpcompss.engines import pickling
from hpcompss.engines.compss_worker import VALUE
from hpcompss.trial import Result

TARGET = 5.0
"""Milliseconds."""

COUNT = 60
"""Configurations that the trials' state holds, about those of a search with 15 slots."""


class Runtime:
    """PyCOMPSs without work: what it is given counts as done."""

    def __init__(self) -> None:
        self.heard: Any = None
        self.outcome = VALUE + pickling.dumps(Result(0.5, metrics={"loss": 0.1}, seconds=1.0))
        self.probe = VALUE + pickling.dumps({"node": "here", "reached": True, "problem": "", "shared": False})

    def install(self) -> None:
        """Puts modules of PyCOMPSs' names in place."""
        modules: dict[str, dict[str, Any]] = {
            "pycompss": {},
            "pycompss.api": {},
            "pycompss.util": {},
            "pycompss.api.task": {"task": lambda **options: lambda function: self.submit},
            "pycompss.api.constraint": {"constraint": lambda **options: lambda function: function},
            "pycompss.api.parameter": {"COLLECTION_IN": "COLLECTION_IN", "IN_DELETE": "IN_DELETE"},
            "pycompss.api.api": {
                "compss_wait_on": lambda handle: handle[0],
                "compss_delete_object": lambda handle: None,
                "compss_get_number_of_resources": lambda: 1,
            },
            "pycompss.util.context": {
                "CONTEXT": types.SimpleNamespace(in_master=lambda: True, is_nesting_enabled=lambda: False)
            },
        }
        for name, content in modules.items():
            sys.modules[name] = types.ModuleType(name)
            vars(sys.modules[name]).update(content)
        sys.modules["pycompss.api"].api = sys.modules["pycompss.api.api"]  # type: ignore[attr-defined]

    def submit(self, order: bytes, *results: Any) -> list[bytes]:
        if self.heard is None:
            return [self.probe]
        for event in ("start", "done"):
            self.heard({"event": event, "task": self.number, "attempt": 0})
        self.number += 1
        return [self.outcome]

    number = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    options = parser.parse_args()
    runtime = Runtime()
    runtime.install()
    from hpcompss.engines.compss import Compss
    from hpcompss.samplers import History, make_sampler
    from hpcompss.space import Float, Space
    from hpcompss.tasks.evaluate import evaluate_suggested
    from hpcompss.tasks.reduce import reduce_trial
    from hpcompss.tasks.suggest import SearchState, suggest

    space = Space([Float(f"x{number}", 0, 1) for number in range(10)])
    state = SearchState.after(make_sampler("random", space, seed=0), History(space, "minimize"), [], COUNT)
    engine = Compss(8, grace=0.01)
    runtime.heard = engine._heard
    costs = []
    previous: Any = state
    for _ in range(options.trials):
        begun = time.process_time()
        suggestion = engine.submit(suggest, previous, None, None, light=True)
        training = engine.submit(evaluate_suggested, "module:function", suggestion, "loss")
        record = engine.submit(reduce_trial, suggestion, training, light=True)
        while not engine.wait([record], timeout=1):
            pass
        record.result()
        costs.append(time.process_time() - begun)
        previous = suggestion
    engine.close()
    figures = {"median_ms": statistics.median(costs) * 1000, "p99_ms": sorted(costs)[int(len(costs) * 0.99)] * 1000}
    print(f"a trial costs the master {figures['median_ms']:.2f} ms (99 of 100 at most {figures['p99_ms']:.2f} ms)")
    print(json.dumps(figures))
    sys.exit(0 if figures["median_ms"] < TARGET else 1)


if __name__ == "__main__":
    main()
