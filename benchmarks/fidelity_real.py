"""Real trainings for `fidelity.py`: digits until 98 % against KerasTuner's Hyperband, CIFAR-10 with and without rungs.

On digits both sides take `build(hp)` of workflows/digits.py and the same arrays, on the same 2 cores: hpcompss's
command line with two workers of 1 thread, KerasTuner in one process with 2 threads. What is measured is the time from
the process's start until a model with the validation accuracy is known: to hpcompss when the journal has it, at the end
of a rung; to KerasTuner already at the end of the epoch, by a callback.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import common
import sampler_tasks
from against_keras_tuner import DATA, save_data

GOAL = 0.98
EPOCHS = 12
BATCH_SIZE = 64
ETA = 3

MOST_TRIALS = 500
"""More than it takes; the search ends at the goal."""

DIGITS_FIDELITY = {"scheduler": "asha", "form": "stopping", "min_epochs": 1, "max_epochs": EPOCHS, "eta": ETA}
CIFAR10_FIDELITY = {"scheduler": "asha", "min_epochs": 1, "max_epochs": 15, "eta": 2}
"""With an eta of 3 the last stage takes 11 epochs of 15, too many to end within the time; with 2 it takes 7."""

CIFAR10 = common.ROOT / "workflows" / "cifar10.yaml"
IMAGES = sampler_tasks.DATA / "cifar10-images.tar.gz"

Curve = list[tuple[float, float]]
"""Points of minutes and the best value so far."""

COLOURS = ("#3b76af", "#ee8636")


# Digits


def digits_hpcompss(folder: Path, seed: int) -> float:
    """Returns the seconds until hpcompss knows a model that reaches the goal."""
    save_data(folder)
    begun = time.time()
    settings = {
        "data": {"path": str(folder / DATA)},
        "training": {"epochs": EPOCHS, "batch_size": BATCH_SIZE},
        "fidelity": DIGITS_FIDELITY,
        "search.target": GOAL,
    }
    _, records = common.run_digits(
        folder / "study",
        *("--workers", 2, "--trials", MOST_TRIALS, "--seed", seed),
        *(part for key, value in settings.items() for part in ("--set", f"{key}={json.dumps(value)}")),
    )
    reached = [each["time"] for each in records if each["event"] == "tell" and (each["value"] or 0) >= GOAL]
    return min(reached, default=math.inf) - begun


def digits_keras_tuner(script: str, folder: Path, seed: int) -> float:
    """Returns the seconds until KerasTuner has trained a model that reaches the goal."""
    save_data(folder)
    begun = time.time()
    _, figures = common.run_side(script, "keras_tuner", "--folder", folder, "--seed", seed)
    return figures["reached"] - begun


class _Reached(BaseException):
    """Ends KerasTuner's search, which goes on after every `Exception`."""


def search_with_keras_tuner(folder: Path, seed: int) -> dict[str, float]:
    """Searches with KerasTuner's Hyperband in this process and returns when a model reached the goal."""
    import keras
    import keras_tuner
    import numpy as np

    from hpcompss.loading import load_attribute

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            if logs is not None and logs["val_accuracy"] >= GOAL:
                raise _Reached

    tuner = keras_tuner.Hyperband(
        load_attribute(f"{common.DIGITS}:build"),
        objective=keras_tuner.Objective("val_accuracy", "max"),
        max_epochs=EPOCHS,
        factor=ETA,
        hyperband_iterations=10,
        seed=seed + 1,  # it takes 0 for no seed
        overwrite=True,
        directory=folder / "tuner",
        project_name="digits",
    )
    data = np.load(folder / DATA)
    known = {"validation_data": (data["x_val"], data["y_val"]), "batch_size": BATCH_SIZE, "verbose": 0}
    try:
        tuner.search(data["x_train"], data["y_train"], callbacks=[Watch()], **known)
    except _Reached:
        return {"reached": time.time()}
    return {"reached": math.inf}


# CIFAR-10


def cifar10(folder: Path, options: argparse.Namespace) -> dict[str, Curve]:
    """Returns how the best validation accuracy grew, with a scheduler and without, one run after the other."""
    sides: dict[str, Mapping[str, Any]] = {
        "with a scheduler": {"fidelity": {**CIFAR10_FIDELITY, "max_epochs": options.epochs}},
        "without": {},
    }
    _hpcompss("plan", (0,), options, {})  # which decodes the images, so that neither side does
    return {name: _search_cifar10(folder / str(place), options, sides[name]) for place, name in enumerate(sides)}


def _search_cifar10(folder: Path, options: argparse.Namespace, settings: Mapping[str, Any]) -> Curve:
    limits = {"search.deadline": f"{options.minutes:g}m", "search.trials": MOST_TRIALS}
    # With 1 ends what has no tested model: the deadline came first.
    _hpcompss("run", (0, 1), options, {**limits, **settings}, "--study", folder, "--workers", 2)
    return best_so_far(common.journal(folder))


def _hpcompss(
    command: str,
    fine: Sequence[int],
    options: argparse.Namespace,
    settings: Mapping[str, Any],
    *arguments: object,
) -> None:
    """Runs a command of hpcompss on CIFAR-10, whose exit status is one of those that are ``fine``."""
    data = {"data.path": str(IMAGES), "data.train": options.images, "training.epochs": options.epochs}
    assignments = [f"{key}={json.dumps(value)}" for key, value in {**data, **settings}.items()]
    stated = (part for each in assignments for part in ("--set", each))
    common.run([sys.executable, "-m", "hpcompss", command, str(CIFAR10), *map(str, arguments), *stated], fine=fine)


def best_so_far(records: Sequence[Mapping[str, Any]]) -> Curve:
    """Returns when the best value became better: minutes since the study began, and the value."""
    curve: Curve = []
    for each in records:
        if (
            each["event"] == "tell"
            and each["value"] is not None
            and each["value"] > max((v for _, v in curve), default=0)
        ):
            curve.append(((each["time"] - records[0]["time"]) / 60, each["value"]))
    return curve


def draw(curves: Mapping[str, Curve], minutes: float, file: Path) -> None:
    """Draws the curves as SVG: the best value so far against minutes."""
    width, height, left, bottom, top = 640.0, 400.0, 64.0, 350.0, 30.0
    values = [value for curve in curves.values() for _, value in curve]
    low, high = math.floor(min(values) * 20) / 20, math.ceil(max(values) * 20) / 20

    def across(minute: float) -> float:
        return left + (width - left - 20) * minute / minutes

    def down(value: float) -> float:
        return bottom - (bottom - top) * (value - low) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="12">',
        f'<rect width="{width:g}" height="{height:g}" fill="white"/>',
        f'<text x="{left:g}" y="18" font-weight="bold">best validation accuracy so far, CIFAR-10</text>',
        f'<text x="{width - 20:g}" y="{bottom + 36:g}" text-anchor="end">minutes</text>',
    ]
    for step in range(6):
        value, minute = low + (high - low) * step / 5, minutes * step / 5
        parts += [
            f'<path d="M{left:g},{down(value):.1f} H{width - 20:g}" stroke="#ddd"/>',
            f'<text x="{left - 6:g}" y="{down(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>',
            f'<text x="{across(minute):.1f}" y="{bottom + 18:g}" text-anchor="middle">{minute:g}</text>',
        ]
    for row, ((name, curve), colour) in enumerate(zip(curves.items(), COLOURS, strict=True)):
        steps = [f"M{across(curve[0][0]):.1f},{down(curve[0][1]):.1f}"]
        steps += [f"H{across(minute):.1f} V{down(value):.1f}" for minute, value in curve[1:]]
        line = " ".join([*steps, f"H{across(minutes):.1f}"])
        y = bottom - 34 + 18 * row
        parts += [
            f'<path d="{line}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<text x="{width - 30:g}" y="{y:g}" text-anchor="end" fill="{colour}">'
            f"{escape(name)}: {curve[-1][1]:.4f}</text>",
        ]
    file.write_text("\n".join([*parts, "</svg>\n"]), encoding="utf-8")
