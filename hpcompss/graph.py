"""How one trial becomes tasks of an engine: the wiring, apart from what the tasks do and from where they run."""

from __future__ import annotations

import contextlib
import filecmp
import itertools
import os
import shutil
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hpcompss.engines.base import Engine, Future
from hpcompss.errors import HpcompssError
from hpcompss.study import Study
from hpcompss.tasks.evaluate import evaluate, evaluate_suggested
from hpcompss.tasks.reduce import reduce_trial
from hpcompss.tasks.suggest import SearchState, suggest
from hpcompss.tasks.train import model_path, train, train_suggested
from hpcompss.trial import Configuration, Resources, Trial, is_finished

if TYPE_CHECKING:
    from hpcompss.training.job import Job

__all__ = ["BEST_MODEL", "Chain", "FunctionGraph", "KerasGraph", "TrialGraph", "TrialTasks", "keep_best_model"]

BEST_MODEL = "best.keras"
"""The best model's name in a study's folder."""


class TrialGraph(Protocol):
    """What the loop needs of a kind of trial."""

    def submit(self, engine: Engine, study: Study, trial: Trial, resources: Resources) -> Future:
        """Submits the tasks of a trial and returns the future of its `Result`."""

    def submit_suggested(
        self, engine: Engine, study: Study, number: int, state: Future, resources: Resources
    ) -> Future:
        """Submits the training tasks of a trial whose configuration is the result of a task."""

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

    def submit_suggested(
        self, engine: Engine, study: Study, number: int, state: Future, resources: Resources
    ) -> Future:
        """Submits the trial's one training task."""
        return engine.submit(evaluate_suggested, self._function, state, self._metric, resources=resources)

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
        """Submits the trial's one task, which keeps its model unless the best so far, or one on the front, beats it."""
        to_beat = study.best.value if study.feasible and not study.also else None
        return engine.submit(
            train,
            *(self._job, trial.number, trial.configuration, study.directory, to_beat, study.front_points),
            resources=resources,
        )

    def submit_suggested(
        self, engine: Engine, study: Study, number: int, state: Future, resources: Resources
    ) -> Future:
        """Submits the trial's one training task, which keeps its model unless what counts by then beats it."""
        return engine.submit(train_suggested, self._job, number, state, study.directory, resources=resources)

    def settle(self, study: Study, finished: Sequence[Trial]) -> None:
        """Keeps the best model, and those on the front where there are several objectives; removes what they beat."""
        if study.directory is not None and study.feasible:
            numbers = [trial.number for trial in finished]
            if study.also:
                # A model may leave the front long after its trial has finished.
                known = study.trials
                numbers += [each for each in _saved(study.directory) if is_finished(known[each])]
            keep_best_model(study.directory, study.best.number, numbers, kept=study.front_numbers)


@dataclass(frozen=True)
class TrialTasks:
    """The tasks of one trial.

    Attributes:
        training: The one that trains: whether it has started, how far and where it is.
        record: The last one, whose result is what came of the trial; in the eager order it is the training.
    """

    training: Future
    record: Future


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
        self._light = replace(resources, time_limit=None, memory=None)
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
        training = self._graph.submit_suggested(self._engine, self._study, number, state, self._resources)
        record = self._engine.submit(reduce_trial, state, training, resources=self._light, light=True)
        self._records.append(record)
        self._next += 1
        return TrialTasks(training, record)

    def _suggest(self, configuration: Configuration | None) -> Future:
        record = self._records[0] if len(self._records) == self._lag else None
        state = self._engine.submit(suggest, self._state, record, configuration, resources=self._light, light=True)
        self._state = state
        return state


def _saved(folder: Path) -> list[int]:
    """Returns the numbers of the trials whose models are in a study's folder."""
    stems = [path.stem.removeprefix("trial-") for path in model_path(folder, 0).parent.glob("trial-*.keras")]
    return [int(stem) for stem in stems if stem.isdecimal()]


def keep_best_model(folder: Path, best: int, finished: Sequence[int], kept: Collection[int] = ()) -> None:
    """Makes ``best.keras`` the model of trial ``best`` and removes the models of other trials that have finished.

    Args:
        folder: The study's.
        best: The number of the best trial.
        finished: Those whose models may be there without need; that of the best trial before is found by itself.
        kept: Others whose models stay.

    Raises:
        HpcompssError: The disk is full, or the folder cannot be written.
    """
    model = model_path(folder, best)
    target = folder / BEST_MODEL
    if not (model.exists() and _same(model, target)):
        former = [path for path in model.parent.glob("trial-*.keras") if _same(path, target)]
        try:
            if model.exists():
                _link(model, target)
            elif former:
                # The winner's model could not be saved, as its trial warns: better none than another trial's.
                target.unlink()
        except OSError as error:
            raise HpcompssError(
                f"{target}: the best model cannot be put there ({error.strerror}); it is {model}, and all else is "
                f"kept: mend that, then run  hpcompss resume {folder}"
            ) from None
        staying = [model_path(folder, number) for number in kept]
        for path in former:
            if path not in staying:
                path.unlink(missing_ok=True)
    for number in finished:
        if number != best and number not in kept:
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
