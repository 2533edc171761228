"""How one trial becomes tasks of an engine: the wiring, apart from what the tasks do and from where they run."""

from __future__ import annotations

import contextlib
import filecmp
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hpcompss.engines.base import Engine, Future
from hpcompss.errors import HpcompssError
from hpcompss.study import Study
from hpcompss.tasks.evaluate import evaluate
from hpcompss.tasks.train import model_path, train
from hpcompss.trial import Configuration, Resources, Trial

if TYPE_CHECKING:
    from hpcompss.training.job import Job

__all__ = ["BEST_MODEL", "FunctionGraph", "KerasGraph", "TrialGraph", "keep_best_model"]

BEST_MODEL = "best.keras"
"""The best model's name in a study's folder."""


class TrialGraph(Protocol):
    """What the loop needs of a kind of trial."""

    def submit(self, engine: Engine, study: Study, trial: Trial, resources: Resources) -> Future:
        """Submits the tasks of a trial and returns the future of its `Result`."""

    def settle(self, study: Study, finished: Sequence[Trial]) -> None:
        """Does what finished trials leave to be done, once the journal has them."""


class FunctionGraph:
    """Trials of a plain Python function, one task each.

    Args:
        function: The function, or ``module:function``, or ``file.py:function``.
        metric: The objective's name among what it returns.
    """

    def __init__(self, function: Callable[[Configuration], float | Mapping[str, float]] | str, metric: str) -> None:
        self._function = function
        self._metric = metric

    def submit(self, engine: Engine, study: Study, trial: Trial, resources: Resources) -> Future:
        """Submits the trial's one task."""
        return engine.submit(evaluate, self._function, trial.configuration, self._metric, resources=resources)

    def settle(self, study: Study, finished: Sequence[Trial]) -> None:
        """Leaves nothing behind."""


class KerasGraph:
    """Trials that train a Keras model, one task each. The best model so far is always in the study's folder.

    Args:
        job: What the trials share.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def submit(self, engine: Engine, study: Study, trial: Trial, resources: Resources) -> Future:
        """Submits the trial's one task, which keeps its model only where it beats the best so far."""
        to_beat = study.best.value if study.completed else None
        return engine.submit(
            train, self._job, trial.number, trial.configuration, study.directory, to_beat, resources=resources
        )

    def settle(self, study: Study, finished: Sequence[Trial]) -> None:
        """Keeps the best model and removes those it has beaten."""
        if study.directory is not None and study.completed:
            keep_best_model(study.directory, study.best.number, [trial.number for trial in finished])


def keep_best_model(folder: Path, best: int, finished: Sequence[int]) -> None:
    """Makes ``best.keras`` the model of trial ``best`` and removes the models of other trials that have finished.

    Args:
        folder: The study's.
        best: The number of the best trial.
        finished: Those whose models may be there without need; that of the best trial before is found by itself.

    Raises:
        HpcompssError: The disk is full, or the folder cannot be written.
    """
    kept = model_path(folder, best)
    target = folder / BEST_MODEL
    if not (kept.exists() and _same(kept, target)):
        former = [path for path in kept.parent.glob("trial-*.keras") if _same(path, target)]
        try:
            if kept.exists():
                _link(kept, target)
            elif former:
                # The winner's model could not be saved, as its trial warns: better none than another trial's.
                target.unlink()
        except OSError as error:
            raise HpcompssError(
                f"{target}: the best model cannot be put there ({error.strerror}); it is {kept}, and all else is kept: "
                f"mend that, then run  hpcompss resume {folder}"
            ) from None
        for path in former:
            path.unlink(missing_ok=True)
    for number in finished:
        if number != best:
            with contextlib.suppress(OSError):
                model_path(folder, number).unlink()


def _same(path: Path, target: Path) -> bool:
    """Returns whether ``target`` is a link to a file, or a copy of it."""
    return target.exists() and (path.samefile(target) or filecmp.cmp(path, target, shallow=False))


def _link(kept: Path, target: Path) -> None:
    """Makes ``target`` the file ``kept`` in one step, a copy of it where the file system has no links."""
    draft = target.with_name(f".{target.name}.draft")
    draft.unlink(missing_ok=True)
    try:
        try:
            os.link(kept, draft)
        except OSError:
            shutil.copy2(kept, draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
