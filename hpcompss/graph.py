"""How one trial becomes tasks of an engine: the wiring, apart from what the tasks do and from where they run."""

from __future__ import annotations

import contextlib
import filecmp
import heapq
import itertools
import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hpcompss.constraints import total_violation
from hpcompss.engines.base import Engine, Future
from hpcompss.errors import HpcompssError
from hpcompss.fidelity import Scheduler
from hpcompss.objectives import point_of
from hpcompss.study import Study
from hpcompss.tasks.evaluate import evaluate, evaluate_suggested
from hpcompss.tasks.folds import reduce_folds, reduce_folds_suggested, train_fold, train_fold_suggested
from hpcompss.tasks.reduce import reduce_trial
from hpcompss.tasks.suggest import SearchState, suggest
from hpcompss.tasks.train import REFIT, model_path, train, train_suggested
from hpcompss.training.checkpoint import checkpoints_size, numbers_of_checkpoints, remove_checkpoints
from hpcompss.trial import Configuration, Resources, Trial, TrialState, is_finished

if TYPE_CHECKING:
    from hpcompss.training.job import Job

__all__ = [
    "BEST_MODEL",
    "Chain",
    "FunctionGraph",
    "KerasGraph",
    "TrialGraph",
    "TrialTasks",
    "best_trials",
    "keep_best_models",
    "unlimited",
]

BEST_MODEL = "best.keras"
"""The best model's name in a study's folder."""

ROOM = 10 * 1000**3
"""Bytes that checkpoints may take where the workflow states nothing."""


@dataclass(frozen=True)
class TrialTasks:
    """The tasks of one trial.

    Attributes:
        trainings: Those that train, in their order: one, or one for each fold.
        record: The last one, whose result is what came of the trial; where there is nothing to reduce, the training.
        between: Those between, which the record takes.
    """

    trainings: tuple[Future, ...]
    record: Future
    between: tuple[Future, ...] = ()

    @property
    def training(self) -> Future:
        """The one that trains now, or is to be the next: how far and where it is."""
        return next((each for each in self.trainings if not each.done), self.trainings[-1])

    @property
    def started(self) -> float | None:
        """When the first one was given to a worker (`time.monotonic` seconds), or None while all wait."""
        return min((each.started for each in self.trainings if each.started is not None), default=None)

    @property
    def all(self) -> tuple[Future, ...]:
        """All of them, the last first: so cancelled, none starts for what it takes is there."""
        return (self.record, *self.between, *reversed(self.trainings))


class TrialGraph(Protocol):
    """What the loop needs of a kind of trial."""

    def submit(self, engine: Engine, study: Study, trial: Trial, resources: Resources) -> TrialTasks:
        """Submits the tasks of a trial; the record is its `Result`."""

    def submit_suggested(
        self, engine: Engine, study: Study, number: int, state: Future, resources: Resources
    ) -> TrialTasks:
        """Submits the training tasks of a trial whose configuration a task gives; the record is its `Result`."""

    def settle(self, study: Study, finished: Sequence[Trial]) -> None:
        """Does what finished trials leave to be done, once the journal has them."""


class FunctionGraph:
    """Trials of a plain Python function, one task each.

    Args:
        function: The function, or ``module:function``, or ``file.py:function``.
        metric: The objective's name among what it returns.
    """

    def __init__(self, function: Callable[..., float | Mapping[str, float]] | str, metric: str) -> None:
        self._function = function
        self._metric = metric

    def submit(self, engine: Engine, study: Study, trial: Trial, resources: Resources) -> TrialTasks:
        """Submits the trial's one task."""
        task = engine.submit(
            evaluate, self._function, trial.configuration, self._metric, trial.stage, resources=resources
        )
        return TrialTasks((task,), task)

    def submit_suggested(
        self, engine: Engine, study: Study, number: int, state: Future, resources: Resources
    ) -> TrialTasks:
        """Submits the trial's one training task."""
        task = engine.submit(evaluate_suggested, self._function, state, self._metric, resources=resources)
        return TrialTasks((task,), task)

    def settle(self, study: Study, finished: Sequence[Trial]) -> None:
        """Leaves nothing behind."""


class KerasGraph:
    """Trials that train a Keras model: one task each, or one for each fold or repeat and a reduction.

    By default each fold takes what came of the folds before it, and is not trained where the configuration is clearly
    beaten by then; else, and where a scheduler has trials go on, all are trained side by side. The best model so far is
    always in the study's folder.

    Args:
        job: What the trials share.
        room: How many bytes the checkpoints may take, from which trials go on.
    """

    def __init__(self, job: Job, room: int = ROOM) -> None:
        self._job = job
        self._room = room

    def submit(self, engine: Engine, study: Study, trial: Trial, resources: Resources) -> TrialTasks:
        """Submits the trial's tasks, which keep its model unless those that are kept so far beat it.

        Where there are several objectives, it is kept as well unless another trial beats it in all of them.
        """
        to_beat, best = study.history.nth_best(self._job.kept), study.history.best_folds
        number, configuration, folder = trial.number, trial.configuration, study.directory
        # Not what the trial itself reached before it goes on: that counts no more once it has.
        known = zip(study.front_numbers, study.front_points, strict=True) if study.also else ()
        front = [point for each, point in known if each != number]
        if self._job.parts == 1:
            task = engine.submit(
                train, self._job, number, configuration, folder, to_beat, trial.stage, front, resources=resources
            )
            return TrialTasks((task,), task)
        trainings: list[Future] = []
        for job, earlier in self._folds([] if trial.stage.budget else trainings):
            task = engine.submit(
                *(train_fold, job, number, configuration, folder, best, earlier, trial.stage), resources=resources
            )
            trainings.append(task)
        record = engine.submit(
            reduce_folds,
            self._job,
            number,
            folder,
            to_beat,
            best,
            trainings,
            front,
            resources=unlimited(resources),
            light=True,
        )
        return TrialTasks(tuple(trainings), record)

    def submit_suggested(
        self, engine: Engine, study: Study, number: int, state: Future, resources: Resources
    ) -> TrialTasks:
        """Submits the trial's tasks, which keep its model unless what counts by then beats it."""
        folder = study.directory
        if self._job.parts == 1:
            task = engine.submit(train_suggested, self._job, number, state, folder, resources=resources)
            return TrialTasks((task,), task)
        trainings: list[Future] = []
        for job, earlier in self._folds(trainings):
            task = engine.submit(train_fold_suggested, job, number, state, folder, earlier, resources=resources)
            trainings.append(task)
        record = engine.submit(
            *(reduce_folds_suggested, self._job, number, state, folder, trainings),
            resources=unlimited(resources),
            light=True,
        )
        return TrialTasks(tuple(trainings), record)

    def _folds(self, trainings: Sequence[Future]) -> Iterator[tuple[Job, list[Future]]]:
        """Yields the job of each fold, with those of the trainings so far whose results it takes."""
        for fold in range(self._job.parts):
            # A configuration that is beaten in the first objective may be the best in another.
            stops = self._job.fold_stopping and not self._job.also
            yield replace(self._job, fold=fold), list(trainings) if stops else []

    def settle(self, study: Study, finished: Sequence[Trial]) -> None:
        """Keeps the best models and removes those they have beaten, and checkpoints that nothing goes on from."""
        keep_best_models(study, self._job.kept)
        if study.directory is not None and study.scheduler is not None:
            for trial in finished:
                remove_checkpoints(study.directory, trial.number, keep=[trial.stage.epochs or 0])
            for number in study.scheduler.dropped():
                remove_checkpoints(study.directory, number)
            _bound_checkpoints(study, study.directory, study.scheduler, self._room)


class Chain:
    """The graph of a search in the lagged order: sampling, training, reduction, trial after trial.

    ::

        suggest i-1 ---> suggest i ---> suggest i+1 --->
                          ^   |   \\
               record i-lag   |    +--> train i ---> record i
                              +----------------------^

    Trials that finished before, in a study that is resumed, take part with what is known of them.

    Args:
        engine: Where to run.
        study: The study, with a lag; its trials so far.
        graph: How a trial is trained.
        resources: What one trial asks for.
    """

    def __init__(self, engine: Engine, study: Study, graph: TrialGraph, resources: Resources) -> None:
        if study.lag is None:
            raise ValueError("a chain needs a study in the lagged order")
        self._engine = engine
        self._study = study
        self._graph = graph
        self._resources = resources
        self._light = unlimited(resources)
        self._lag = study.lag
        finished = list(itertools.takewhile(is_finished, study.trials))
        self._next = len(finished)
        self._state: SearchState | Future = SearchState.after(
            study.sampler, study.prior, finished, self._lag, study.initial
        )
        self._records: deque[Trial | Future] = deque(finished[-self._lag :], maxlen=self._lag)

    def submit(self, number: int) -> TrialTasks:
        """Submits the tasks of a trial. The numbers of the trials that have not finished must come in order."""
        while self._next < number:
            known = self._study.trials[self._next]
            self._suggest(known.configuration)
            self._records.append(known)
            self._next += 1
        state = self._suggest(None)
        tasks = self._graph.submit_suggested(self._engine, self._study, number, state, self._resources)
        record = self._engine.submit(reduce_trial, state, tasks.record, resources=self._light, light=True)
        self._records.append(record)
        self._next += 1
        return TrialTasks(tasks.trainings, record, between=(tasks.record,))

    def _suggest(self, configuration: Configuration | None) -> Future:
        record = self._records[0] if len(self._records) == self._lag else None
        state = self._engine.submit(suggest, self._state, record, configuration, resources=self._light, light=True)
        self._state = state
        return state


def _bound_checkpoints(study: Study, folder: Path, scheduler: Scheduler, room: int) -> None:
    """Removes the checkpoints of the trials that are the least likely to go on, until the rest fits into its room.

    Such a trial begins anew if it goes on nevertheless.
    """
    if checkpoints_size(folder) > room:
        trials = study.trials
        resting = [number for number in numbers_of_checkpoints(folder) if is_finished(trials[number])]
        for number in sorted(resting, key=scheduler.promise):
            remove_checkpoints(folder, number)
            if checkpoints_size(folder) <= room:
                return


def unlimited(resources: Resources) -> Resources:
    """Returns the shape of a trial without its limits, for what is not a training."""
    return replace(resources, time_limit=None, memory=None)


def best_trials(study: Study, count: int) -> list[Trial]:
    """Returns the best feasible trials, up to ``count``; of equals those with the lowest numbers come first."""
    if count == 1:
        return [study.best] if study.feasible else []
    ranked = [
        (point_of(trial.value, trial.result.metrics, study.objectives), trial.number)
        for trial in study.trials
        if trial.state is TrialState.COMPLETE and trial.value is not None and trial.result is not None
        if not total_violation(trial.result.metrics, study.constraints)
    ]
    return [study.trials[number] for _, number in heapq.nsmallest(count, ranked)]


def keep_best_models(study: Study, count: int) -> None:
    """Makes ``best.keras`` the best trial's model and removes those of finished trials that are not among the best.

    Where there are several objectives, those on the front are kept as well.

    Args:
        study: The study; what it keeps is that of its trials now.
        count: Of how many trials, the best ones, the models are kept.

    Raises:
        HpcompssError: The disk is full, or the folder cannot be written.
    """
    best = [trial.number for trial in best_trials(study, count)]
    if study.directory is None or not best:
        return
    models = _models(study.directory)
    _make_best(study.directory / BEST_MODEL, best[0], models)
    trials, kept = study.trials, {*best, *study.front_numbers}
    for number, paths in models.items():
        if number not in kept and number < len(trials) and is_finished(trials[number]):
            for path in paths:
                with contextlib.suppress(OSError):
                    path.unlink()


def _models(folder: Path) -> dict[int, list[Path]]:
    """Returns the models in a study's folder by the number of their trial; those half written are left out."""
    models: dict[int, list[Path]] = {}
    for path in model_path(folder, 0).parent.glob("trial-*.keras"):
        if found := _MODEL.fullmatch(path.name):
            models.setdefault(int(found[1]), []).append(path)
    return models


_MODEL = re.compile(r"trial-(\d+)(-[a-z]+)?(-\d+)?\.keras")


def _make_best(target: Path, best: int, models: Mapping[int, Sequence[Path]]) -> None:
    """Makes ``best.keras`` the model of a trial, the refitted one where there is such."""
    folder = target.parent
    kept = next((path for path in (model_path(folder, best, REFIT), model_path(folder, best)) if path.exists()), None)
    try:
        if kept is not None and not _same(kept, target):
            _link(kept, target)
        elif kept is None and any(_same(path, target) for paths in models.values() for path in paths):
            # The winner's model could not be saved, as its trial warns: better none than another trial's.
            target.unlink()
    except OSError as error:
        raise HpcompssError(
            f"{target}: the best model cannot be put there ({error.strerror}); it is {kept}, and all else is kept: "
            f"mend that, then run  hpcompss resume {folder}"
        ) from None


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
