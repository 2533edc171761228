"""What it costs to pass data through a study, of ``model.fit`` on the same data: time of an epoch, and memory.

Epochs: one process with one thread trains the same network in turn by ``model.fit`` on arrays in memory, and as a trial
does, on arrays that are mapped from the cache; then the same with ``tf.data``. An epoch's seconds are those between the
ends of two epochs, so that what comes before the first one does not count.

Memory: a script has arrays in memory and tunes a small network on two workers. What all its processes hold of their own
(private memory, so that files which they map together count for nothing) is read ten times a second; the same with
arrays of a few rows is taken off, for it is what the libraries need.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from common import Target, absent, disk_folder, interleaved, median, report, run_side, spread

MOST_ARRAYS, MOST_STREAM, MOST_MEMORY = 1.05, 1.05, 1.3
"""Of an epoch of Keras alone; of the data. A stream is to cost nothing, which is 1 within what a machine's noise is."""

ROWS, EPOCHS, BATCH = 20_000, 8, 64


def arrays(rows: int) -> tuple[Any, Any]:
    import numpy as np

    random = np.random.default_rng(0)
    x = random.integers(0, 256, (rows, 32, 32, 3), np.uint8)
    return x, (x.mean((1, 2, 3)) > 127.5).astype(np.int64)


def build(hp: Any) -> Any:
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input((32, 32, 3)), layers.Rescaling(1 / 255)])
    model.add(layers.Conv2D(hp.Int("filters", 4, 8), 3, strides=2, activation="relu"))
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(2, activation="softmax"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def parts(rows: int) -> dict[str, Any]:
    x, y = arrays(rows)
    end = 4 * rows // 5
    return {"train": (x[:end], y[:end]), "validation": (x[end:], y[end:])}


def as_arrays() -> dict[str, Any]:
    return parts(ROWS)


def as_stream() -> dict[str, Any]:
    import tensorflow

    slices = tensorflow.data.Dataset.from_tensor_slices
    return {name: slices(part).batch(BATCH).prefetch(2) for name, part in parts(ROWS).items()}


def epoch_seconds(side: str) -> float:
    """Returns the median seconds of an epoch, without the first, of Keras alone or of a trial."""
    import keras

    from hpcompss.space.tracing import HyperParameters
    from hpcompss.tasks.train import train
    from hpcompss.training.data import DataSpecification
    from hpcompss.training.job import Job

    form, _, whose = side.partition("-")
    function = as_arrays if form == "arrays" else as_stream
    ends: list[float] = []
    end = keras.callbacks.History.on_epoch_end

    def noting(history: Any, epoch: int, logs: Any = None) -> None:
        ends.append(time.perf_counter())
        end(history, epoch, logs)

    keras.callbacks.History.on_epoch_end = noting
    batch = BATCH if form == "arrays" else None
    if whose == "alone":
        data, model = function(), build(HyperParameters())
        training = data["train"] if isinstance(data["train"], tuple) else (data["train"],)
        options = {"batch_size": batch} if batch else {"shuffle": False}
        model.fit(*training, validation_data=data["validation"], epochs=EPOCHS, verbose=0, **options)
    else:
        job = Job(build, DataSpecification(function=function, run="1"), "val_loss", "minimize", epochs=EPOCHS)
        result = train(Job(**{**vars(job), "batch_size": batch}), 0, {"filters": 8}, None, None)
        if result.failure:
            raise SystemExit(f"a trial went wrong: {result.failure}")
    return median([later - before for before, later in itertools.pairwise(ends[1:])])


# Memory


def tune(rows: int, folder: str) -> None:
    """Tunes on arrays in memory, and prints the peak of all processes' private memory in bytes."""
    import hpcompss

    x, y = arrays(rows)
    peak = [0]
    threading.Thread(target=_watch, args=(peak,), daemon=True).start()
    hpcompss.tune(
        model=build,
        data=(x, y),
        objective="val_loss",
        search={"trials": 4, "sampler": "random", "seed": 0},
        training={"epochs": 1, "batch_size": 256},
        engine={"name": "local", "workers": 2},
        study=Path(folder) / f"study-{rows}",
        view=hpcompss.loop.View(),
    )
    print(json.dumps({"peak": peak[0], "data": x.nbytes + y.nbytes}))


def _watch(peak: list[int]) -> None:
    while True:
        peak[0] = max(peak[0], sum(_private(process) for process in _family(os.getpid())))
        time.sleep(0.1)


def _family(process: int) -> list[int]:
    found = [process]
    for each in found:
        try:
            tasks = [(task / "children").read_text().split() for task in Path(f"/proc/{each}/task").iterdir()]
        except OSError:
            continue
        found += [int(child) for children in tasks for child in children if int(child) not in found]
    return found


def _private(process: int) -> int:
    """Returns a process's private memory in bytes, 0 for a copy of this one that is about to start another program."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        command = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return 0
    if process != os.getpid() and command == Path("/proc/self/cmdline").read_bytes():
        return 0
    fields = {line.split(":")[0]: line.split()[1] for line in lines[1:]}
    return 1024 * int(fields.get("Anonymous", 0))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="trainings of each kind (default: 5)")
    parser.add_argument("--megabytes", type=int, default=500, help="of the arrays in memory (default: 500)")
    parser.add_argument("--folder", help="where to keep the cache (default: a temporary folder on a real disk)")
    parser.add_argument("--only", help="run one side here and print its figures as JSON")
    parser.add_argument("--rows", type=int, default=0)
    options = parser.parse_args()
    if options.only == "tune":
        tune(options.rows, options.folder)
        return 0
    if options.only:
        print(json.dumps({"seconds": epoch_seconds(options.only)}))
        return 0
    reason = absent("tensorflow")
    if reason:
        print(f"skipped: {reason}")
        return 0

    with disk_folder(options.folder) as folder:
        os.environ["HPCOMPSS_CACHE"] = str(folder / "cache")

        def seconds(side: str) -> Any:
            return lambda repeat: run_side(__file__, side, threads=1)[1]["seconds"]

        sides = ("arrays-alone", "arrays-trial", "stream-alone", "stream-trial")
        took = interleaved(options.repeats, {side: seconds(side) for side in sides})
        rows = options.megabytes * 1_000_000 // (32 * 32 * 3 + 8)
        memory = [
            run_side(__file__, "tune", "--rows", count, "--folder", folder, threads=1)[1] for count in (500, rows)
        ]
    ratios = {
        form: median([ours / alone for ours, alone in zip(took[f"{form}-trial"], took[f"{form}-alone"], strict=True)])
        for form in ("arrays", "stream")
    }
    held = (memory[1]["peak"] - memory[0]["peak"]) / memory[1]["data"]
    table = [(f"an epoch, {side}", f"{spread(each, '.3f')} s") for side, each in took.items()]
    table += [
        ("the arrays", f"{memory[1]['data'] / 1e6:.0f} MB"),
        ("private memory of all processes at its peak", f"{memory[1]['peak'] / 1e6:.0f} MB"),
        ("the same with 500 rows", f"{memory[0]['peak'] / 1e6:.0f} MB"),
    ]
    targets = [
        Target("an epoch on arrays, of Keras alone", ratios["arrays"], MOST_ARRAYS, False),
        Target("an epoch on tf.data, of Keras alone", ratios["stream"], MOST_STREAM, False),
        Target("memory of master and workers, of the data", held, MOST_MEMORY, False),
    ]
    return report(f"Data of a Keras study, one thread, median of {options.repeats}", table, targets)


if __name__ == "__main__":
    sys.exit(main())
