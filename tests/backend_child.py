"""What `tests.training.test_backends` runs in a process for each of Keras's backends: prints what it saw as JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hpcompss.tasks.finalize import finalize
from hpcompss.tasks.folds import reduce_folds, train_fold
from hpcompss.tasks.train import train
from hpcompss.training.checkpoint import checkpoint_path, read_checkpoint
from hpcompss.training.fitting import _import_keras
from hpcompss.trial import Failure, Result, Stage, Trial, TrialState
from tests.keras_jobs import make_job

STAGED = Path(__file__).with_name("staged_models.py")
MODEL = {"jax": "SeededArrays", "torch": "Arrays"}
CONFIGURATION: dict[str, Any] = {"units": 8, "rate": 0.03}


def good(result: Any) -> Any:
    assert not isinstance(result, Failure), result
    assert not isinstance(result, Result) or (result.failure is None and result.warnings == ()), result
    return result


def disturb(keras: Any) -> None:
    """Has the generators stand elsewhere than where a training left them."""
    random.seed(99)
    np.random.seed(99)
    if keras.backend.backend() == "torch":
        import torch

        torch.manual_seed(99)


def staged(keras: Any, folder: Path, model: str) -> bool:
    """Whether a training in two stages gives what one in a single stage gives, to the last bit."""
    job = make_job(metric="val_loss", direction="minimize", epochs=4, batch_size=16, epoch="last")
    job = dataclasses.replace(job, model=f"{STAGED}:{model}")
    states = []
    results = []
    for name, stages in {
        "whole": [Stage(4, keeps=True)],
        "staged": [Stage(2, keeps=True), Stage(4, since=2, keeps=True)],
    }.items():
        (folder / model / name).mkdir(parents=True)
        for stage in stages:
            disturb(keras)
            last = good(train(job, 5, {}, folder / model / name, None, stage))
        states.append(read_checkpoint(checkpoint_path(folder / model / name, 5, 4)))
        results.append((last.value, last.epoch, dict(last.metrics)))
    arrays = [state.arrays for state in states]
    assert arrays[0].keys() == arrays[1].keys()
    equal = all(np.array_equal(arrays[0][key], arrays[1][key]) for key in arrays[0] if "callback" not in key)
    return equal and results[0] == results[1]


def folded(folder: Path) -> dict[str, Any]:
    """What a trial of two folds reaches, and its refitted model and an ensemble on the test set."""
    folder.mkdir()
    job = make_job("build", folds=2)
    outcomes: list[Any] = []
    for fold in range(2):
        each = dataclasses.replace(job, fold=fold)
        outcomes.append(good(train_fold(each, 0, CONFIGURATION, folder, (), list(outcomes))))
    result = good(reduce_folds(job, 0, folder, None, (), outcomes))
    other = good(train(make_job("build"), 1, CONFIGURATION, folder, None))
    members = [Trial(number, CONFIGURATION, TrialState.COMPLETE, each) for number, each in enumerate((result, other))]
    scores = good(finalize(job, 0, CONFIGURATION, result.epoch, folder, True, members))
    return {
        "value": result.value,
        "folds": result.metrics["folds"],
        "scores": scores.metrics,
        "ensemble": scores.ensemble,
    }


def threads(backend: str) -> int:
    """How many threads the backend computes with."""
    if backend == "torch":
        import torch

        return torch.get_num_threads()
    names = [Path(f"/proc/self/task/{each}/comm").read_text() for each in os.listdir("/proc/self/task")]
    return sum("XLAEigen" in name for name in names)


def main(folder: Path) -> None:
    keras = _import_keras()
    backend = keras.backend.backend()
    seen: dict[str, Any] = {"backend": backend}
    seen["staged"] = staged(keras, folder, MODEL[backend])
    seen["folded"] = folded(folder / "folded")
    seen["threads"] = threads(backend)
    print(json.dumps(seen))


main(Path(sys.argv[1]))
