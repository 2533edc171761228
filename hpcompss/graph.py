"""How one trial becomes tasks of an engine: the wiring, apart from what the tasks do and from where they run."""

from __future__ import annotations

import contextlib
import filecmp
import heapq
import itertools
import math
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
from hpcompss.fidelity.brackets import Bracket, Brackets
from hpcompss.objectives import point_of
from hpcompss.study import Study
from hpcompss.tasks.apart import HERE, apart, read_files
from hpcompss.tasks.evaluate import evaluate, evaluate_promoted, evaluate_suggested
from hpcompss.tasks.folds import (
    reduce_folds,
    reduce_folds_promoted,
    reduce_folds_suggested,
    train_fold,
    train_fold_promoted,
    train_fold_suggested,
)
from hpcompss.tasks.promote import promote, record_promoted
from hpcompss.tasks.reduce import reduce_trial
from hpcompss.tasks.suggest import SearchState, suggest
from hpcompss.tasks.train import REFIT, model_path, train, train_promoted, train_suggested
from hpcompss.training.checkpoint import (
    checkpoint_path,
    checkpoints_after,
    checkpoints_size,
    numbers_of_checkpoints,
    remove_checkpoints,
)
from hpcompss.training.kept import KERAS, WEIGHTS, existing, sibling
from hpcompss.trial import (
    Configuration,
    Failure,
    FailureKind,
    Resources,
    Result,
    Stage,
    Trial,
    TrialState,
    is_finished,
)

if TYPE_CHECKING:
    from hpcompss.training.job import Job

__all__ = [
    "BEST_MODEL",
    "Chain",
    "FunctionGraph",
    "KerasGraph",
    "TrialGraph",
    "TrialTasks",
    "best_model_path",
    "best_trials",
    "keep_best_models",
    "submit_with_files",
    "unlimited",
]

BEST_MODEL = "best.keras"
"""The best model's name in a study's folder; ``best.weights.h5`` where its weights alone could be kept."""

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

    @classmethod
    def of(cls, training: Future) -> TrialTasks:
        """Returns the tasks of a trial that is one training and no more."""
        return cls((training,), training)

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

    def submit_promoted(
        self,
        engine: Engine,
        study: Study,
        chosen: tuple[Future, int, Mapping[int, Result]],
        stage: Stage,
        resources: Resources,
    ) -> TrialTasks:
        """Submits the training tasks of a trial that goes on; which it is a task decides.

        Args:
            engine: Where to run.
            study: The study.
            chosen: Those that go on, the place of this one among them, and what is known of some already.
            stage: How far it is trained.
            resources: What it asks for.
        """

    def taken_up(self, engine: Engine, study: Study, trial: Trial) -> Trial:
        """Returns a trial of a study that is resumed with what tasks need to go on with it in the lagged order."""

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
        return TrialTasks.of(task)

    def submit_suggested(
        self, engine: Engine, study: Study, number: int, state: Future, resources: Resources
    ) -> TrialTasks:
        """Submits the trial's one training task."""
        stage = study.trials[number].stage
        task = engine.submit(evaluate_suggested, self._function, state, self._metric, stage, resources=resources)
        return TrialTasks.of(task)

    def submit_promoted(
        self,
        engine: Engine,
        study: Study,
        chosen: tuple[Future, int, Mapping[int, Result]],
        stage: Stage,
        resources: Resources,
    ) -> TrialTasks:
        """Submits the trial's one training task."""
        task = engine.submit(*(evaluate_promoted, self._function, *chosen, self._metric, stage), resources=resources)
        return TrialTasks.of(task)

    def taken_up(self, engine: Engine, study: Study, trial: Trial) -> Trial:
        """Returns the trial: there is no more to it than its record."""
        return trial

    def settle(self, study: Study, finished: Sequence[Trial]) -> None:
        """Leaves nothing behind."""


class KerasGraph:
    """Trials that train a Keras model: one task each, or one for each fold or repeat and a reduction.

    By default each fold takes what came of the folds before it, and is not trained where the configuration is clearly
    beaten by then; else, and where a scheduler has trials go on, all are trained side by side. The best model so far is
    always in the study's folder. Where workers do not see that, files travel with arguments and results.

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
        number, configuration, stage = trial.number, trial.configuration, trial.stage
        # Not what the trial itself reached before it goes on: that counts no more once it has.
        to_beat, best = study.history.nth_best(self._job.kept, without=number), study.history.best_folds
        known = zip(study.front_numbers, study.front_points, strict=True) if study.also else ()
        front = [point for each, point in known if each != number]
        if self._job.parts == 1:
            task = submit_with_files(
                *(engine, study, train, self._job, number, configuration, HERE, to_beat, stage, front),
                reads=_checkpoints(study, self._job, trial),
                resources=resources,
            )
            return TrialTasks.of(task)
        trainings: list[Future] = []
        for job, earlier in self._folds([] if stage.budget else trainings):
            task = submit_with_files(
                *(engine, study, train_fold, job, number, configuration, HERE, best, earlier, stage),
                reads=_checkpoints(study, job, trial),
                resources=resources,
            )
            trainings.append(task)
        return self._reduced(
            engine, study, trainings, resources, reduce_folds, number, HERE, to_beat, best, trainings, front
        )

    def _reduced(
        self,
        engine: Engine,
        study: Study,
        trainings: Sequence[Future],
        resources: Resources,
        function: Callable[..., object],
        *args: object,
    ) -> TrialTasks:
        """Submits the reduction of a trial's folds, and returns the trial's tasks."""
        record = submit_with_files(
            engine,
            study,
            function,
            self._job,
            *args,
            needs=trainings,
            hands_on=True,
            resources=unlimited(resources),
            light=True,
        )
        return TrialTasks(tuple(trainings), record)

    def submit_suggested(
        self, engine: Engine, study: Study, number: int, state: Future, resources: Resources
    ) -> TrialTasks:
        """Submits the trial's tasks, which keep its model unless what counts by then beats it."""
        stage = study.trials[number].stage
        if self._job.parts == 1:
            task = submit_with_files(
                *(engine, study, train_suggested, self._job, number, state, HERE, stage), resources=resources
            )
            return TrialTasks.of(task)
        trainings: list[Future] = []
        for job, earlier in self._folds([] if stage.budget else trainings):
            task = submit_with_files(
                *(engine, study, train_fold_suggested, job, number, state, HERE, earlier, stage), resources=resources
            )
            trainings.append(task)
        return self._reduced(
            engine, study, trainings, resources, reduce_folds_suggested, number, state, HERE, trainings
        )

    def submit_promoted(
        self,
        engine: Engine,
        study: Study,
        chosen: tuple[Future, int, Mapping[int, Result]],
        stage: Stage,
        resources: Resources,
    ) -> TrialTasks:
        """Submits the trial's tasks, which keep its model."""
        promoted, *_ = chosen
        if self._job.parts == 1:
            task = submit_with_files(
                *(engine, study, train_promoted, self._job, *chosen, HERE, stage), needs=[promoted], resources=resources
            )
            return TrialTasks.of(task)
        trainings = [
            submit_with_files(
                *(engine, study, train_fold_promoted, job, *chosen, HERE, stage), needs=[promoted], resources=resources
            )
            for job, _ in self._folds([])
        ]
        return self._reduced(engine, study, trainings, resources, reduce_folds_promoted, *chosen, HERE, trainings)

    def _folds(self, trainings: Sequence[Future]) -> Iterator[tuple[Job, list[Future]]]:
        """Yields the job of each fold, with those of the trainings so far whose results it takes."""
        for fold in range(self._job.parts):
            # A configuration that is beaten in the first objective may be the best in another.
            stops = self._job.fold_stopping and not self._job.also
            yield replace(self._job, fold=fold), list(trainings) if stops else []

    def taken_up(self, engine: Engine, study: Study, trial: Trial) -> Trial:
        """Returns the trial with its checkpoints, where workers do not see the study's folder."""
        if study.directory is None or engine.shares_files or trial.result is None or not trial.stage.keeps:
            return trial
        paths = checkpoints_after(study.directory, trial.number, trial.stage.epochs or 0)
        return replace(trial, result=replace(trial.result, files=read_files(study.directory, paths)))

    def settle(self, study: Study, finished: Sequence[Trial]) -> None:
        """Keeps the best models and removes those they have beaten, and checkpoints that nothing goes on from."""
        keep_best_models(study, self._job.kept)
        if study.directory is not None and study.scheduler is not None:
            study.due()  # it finds out who does not go on; in the lagged order nobody else asks
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

    With a scheduler each bracket is submitted with all of its levels: a reduction takes the records of one level and
    gives those that go on, for whose places the tasks of the next level are there already. What came of them counts for
    suggestions from the second bracket after theirs on, so that none waits for the longest of them.

    Args:
        engine: Where to run.
        study: The study, with a lag; its trials so far.
        graph: How a trial is trained.
        resources: What one trial asks for.

    Attributes:
        promoted: The stages of trials that go on, with their tasks, that were submitted since the loop took them last.
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
        self._brackets = study.scheduler if isinstance(study.scheduler, Brackets) else None
        self.promoted: list[tuple[Stage, TrialTasks]] = []
        self._first: dict[int, list[Trial | Future]] = {}
        self._later: dict[int, list[Trial | Future]] = {}
        finished = [self._stages(trial.number)[0] for trial in itertools.takewhile(is_finished, study.trials)]
        self._next = len(finished)
        full = None if self._brackets is None else self._brackets.levels[-1]
        self._state: SearchState | Future = SearchState.after(
            *(study.sampler, study.prior, finished, self._lag, study.initial, full), self._take_up(finished)
        )
        self._records: deque[Trial | Future] = deque(finished[-self._lag :], maxlen=self._lag)

    def _take_up(self, finished: Sequence[Trial]) -> list[Trial]:
        """Takes in the brackets of a study that is resumed, and returns what came of promoted trials and counts."""
        counting: list[Trial] = []
        if self._brackets is None:
            return counting
        for trial in finished:
            self._add_to_bracket(self._brackets, trial.number, trial)
        for index, later in list(self._later.items()):
            known = [each for each in later if isinstance(each, Trial)]
            if self._brackets.begin_of(index + 2) < len(finished) and len(known) == len(later):
                counting += known
                del self._later[index]
        return counting

    def submit(self, number: int) -> TrialTasks:
        """Submits the tasks of a trial. The numbers of the trials that have not finished must come in order."""
        self._catch_up(number)
        trial = self._study.trials[number]
        stage = trial.stage
        state = self._suggest(trial.configuration or None)  # one that failed before is tried again as it was
        tasks = self._graph.submit_suggested(self._engine, self._study, number, state, self._resources)
        budget = None if self._brackets is None else self._brackets.budget(stage)
        record = self._engine.submit(reduce_trial, state, tasks.record, budget, resources=self._light, light=True)
        self._keep(record)
        return TrialTasks(tasks.trainings, record, between=(tasks.record,))

    def close(self) -> None:
        """Submits what goes on of a last bracket that has fewer trials than it could have."""
        self._catch_up(self._study.started)
        if self._brackets is not None and self._next:
            bracket = self._brackets.bracket(self._next - 1)
            if bracket.index in self._first:
                self._promote(self._brackets, bracket, self._first.pop(bracket.index))

    def _catch_up(self, number: int) -> None:
        """Takes in the trials before one that had finished before the study was resumed."""
        while self._next < number:
            known = self._stages(self._next)[0]
            self._suggest(known.configuration)
            self._keep(known)

    def _keep(self, record: Trial | Future) -> None:
        self._records.append(record)
        if self._brackets is not None:
            self._add_to_bracket(self._brackets, self._next, record)
        self._next += 1

    def _add_to_bracket(self, brackets: Brackets, number: int, record: Trial | Future) -> None:
        bracket = brackets.bracket(number)
        first = self._first.setdefault(bracket.index, [])
        first.append(record)
        if len(first) == bracket.size:
            self._promote(brackets, bracket, self._first.pop(bracket.index))

    def _promote(self, brackets: Brackets, bracket: Bracket, group: Sequence[Trial | Future]) -> None:
        """Submits all levels of a bracket after the first, or takes what is known of them."""
        study = self._study
        if all(isinstance(each, Trial) for each in group) and brackets.is_done(bracket):
            stages = [self._stages(number)[1:] for number in bracket.numbers]
            self._later[bracket.index] = [stage for each in stages for stage in each]
            return
        later: list[Trial | Future] = []
        for rung, count in enumerate(brackets.survivors(bracket, len(group)), start=bracket.rung + 1):
            budget, before = brackets.levels[rung], brackets.levels[rung - 1]
            stage = brackets.stage(budget, since=before)
            best = self._engine.submit(
                *(promote, list(group), count, study.constraints, study.objectives), resources=self._light, light=True
            )
            known = self._known(brackets, bracket, budget)
            group = []
            for place in range(count):
                tasks = self._graph.submit_promoted(
                    *(self._engine, study, (best, place, known), stage, self._resources)
                )
                record = self._engine.submit(
                    *(record_promoted, best, place, tasks.record, study.constraints, study.also, budget),
                    resources=self._light,
                    light=True,
                )
                self.promoted.append((stage, TrialTasks(tasks.trainings, record, between=(tasks.record,))))
                group.append(record)
            later += group
        self._later[bracket.index] = later

    def _known(self, brackets: Brackets, bracket: Bracket, budget: float) -> dict[int, Result]:
        """Returns what came of the trials of a bracket at a level, in a study that is resumed."""
        known: dict[int, Result] = {}
        standings = brackets.rungs[brackets.levels.index(budget)]
        for number in bracket.numbers[: max(0, self._study.started - bracket.begin)]:
            for trial in self._stages(number)[1:]:
                if trial.result is not None and brackets.budget(trial.stage) == budget:
                    failed = Result(None, failure=Failure(FailureKind.EXCEPTION, "it failed before"))
                    known[number] = trial.result if standings[number][1] < math.inf else failed
        return known

    def _stages(self, number: int) -> list[Trial]:
        """Returns what is known of each stage of a trial, with what it needs to go on."""
        return [self._graph.taken_up(self._engine, self._study, each) for each in self._study.stages(number)]

    def _suggest(self, configuration: Configuration | None) -> Future:
        record = self._records[0] if len(self._records) == self._lag else None
        later: list[Trial | Future] = []
        if self._brackets is not None:
            bracket = self._brackets.bracket(self._next)
            if bracket.begin == self._next:
                later = self._later.pop(bracket.index - 2, [])
        state = self._engine.submit(
            suggest, self._state, record, configuration, later, resources=self._light, light=True
        )
        self._state = state
        return state


def submit_with_files(
    engine: Engine,
    study: Study,
    function: Callable[..., object],
    *args: object,
    reads: Sequence[Path] = (),
    needs: Sequence[Future] = (),
    hands_on: bool = False,
    resources: Resources,
    light: bool = False,
) -> Future:
    """Submits a task that reads and writes files of the study's folder; see `Engine.submit`.

    Args:
        engine: Where to run.
        study: The study.
        function: The task.
        *args: Its arguments, `HERE` in place of the folder.
        reads: The files in the folder that it reads, as far as they are there.
        needs: Whose results have the other files that it takes where workers do not see the folder.
        hands_on: Whether all those files go on with its result.
        resources: What it asks for.
        light: It takes milliseconds.
    """
    folder = study.directory
    if folder is None or engine.shares_files:
        there = (folder if each is HERE else each for each in args)
        return engine.submit(function, *there, resources=resources, light=light)
    sources = [read_files(folder, [path for path in reads if path.exists()]), *needs]
    return engine.submit(apart, function, sources, hands_on, *args, resources=resources, light=light)


def _checkpoints(study: Study, job: Job, trial: Trial) -> list[Path]:
    """Returns what a trial goes on from."""
    if study.directory is None or not trial.stage.since:
        return []
    return [checkpoint_path(study.directory, trial.number, trial.stage.since, job.part)]


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


def best_model_path(study: Study) -> Path | None:
    """Returns the file of the best model, whole or its weights alone, or None where there is none."""
    return None if study.directory is None else existing(study.directory / BEST_MODEL)


def keep_best_models(study: Study, count: int) -> None:
    """Makes ``best.keras`` (or ``best.weights.h5``) the best trial's model, and removes beaten models.

    Those of finished trials that are not among the best are removed.

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
    _make_best(study.directory, best[0], models)
    trials, kept = study.trials, {*best, *study.front_numbers}
    for number, paths in models.items():
        if number not in kept and number < len(trials) and is_finished(trials[number]):
            for path in paths:
                with contextlib.suppress(OSError):
                    path.unlink()


def _models(folder: Path) -> dict[int, list[Path]]:
    """Returns the models in a study's folder by the number of their trial; those half written are left out."""
    models: dict[int, list[Path]] = {}
    for path in model_path(folder, 0).parent.glob("trial-*"):
        if found := _MODEL.fullmatch(path.name):
            models.setdefault(int(found[1]), []).append(path)
    return models


_MODEL = re.compile(rf"trial-(\d+)(-[a-z]+)?(-\d+)?({re.escape(KERAS)}|{re.escape(WEIGHTS)})")


def _make_best(folder: Path, best: int, models: Mapping[int, Sequence[Path]]) -> None:
    """Makes ``best.keras`` the model of a trial, the refitted one where there is such."""
    kept = existing(model_path(folder, best, REFIT)) or existing(model_path(folder, best))
    targets = [folder / BEST_MODEL, sibling(folder / BEST_MODEL)]
    target = targets[0] if kept is None or kept.name.endswith(KERAS) else targets[1]
    try:
        if kept is not None:
            if not _same(kept, target):
                _link(kept, target)
            for other in targets:
                if other != target:
                    other.unlink(missing_ok=True)
            return
        for each in targets:
            if any(_same(path, each) for paths in models.values() for path in paths):
                # No model of the winner was kept, as its trial warns: better none than another trial's.
                each.unlink()
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
