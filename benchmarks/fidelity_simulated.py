"""Tuning in simulated time: LCBench's learning curves with their seconds, workers that are not there, and who tunes.

A `Contestant` says what a free worker shall train, from which epoch to which, and hears the best accuracy so far after
every epoch; it may end a training early. Every contestant meets the same machine, so that what going on with a model
costs is the same for all: the seconds of the epochs that it had not been trained for.
"""

from __future__ import annotations

import abc
import functools
import hashlib
import heapq
import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import common
import numpy as np
import sampler_peers as peers
import sampler_tasks as tasks
from numpy.typing import NDArray

from hpcompss.study import Study
from hpcompss.trial import Configuration

__all__ = ["CONTESTANTS", "PEERS", "SCHEDULERS", "WORKERS", "Progress", "curve", "missing", "run", "unit", "version"]

EPOCHS = tasks.EPOCHS
MIN_EPOCHS, ETA = 1, 3
WORKERS = 8

ENOUGH = 0.002
"""A search ends at this regret, and counts with it from then on: a tenth of the mean that is looked for."""

Array = NDArray[np.float64]


# What is tuned


@dataclass(frozen=True)
class Curve:
    """What training a configuration gives.

    Attributes:
        seconds: From the start to the end of each epoch, epoch 0 being the start: shape (53,).
        accuracies: The best validation accuracy (%) until then: shape (53,).
    """

    seconds: Array
    accuracies: Array


def curves(data_set: str, settings: Array) -> list[Curve]:
    """Returns the learning curves of settings of shape (count, 7), in the order of `tasks.LCBENCH`.

    The surrogate's time grows with the epoch but for 0 to 7 % of the steps, which count as taking none.
    """
    epochs = np.tile(np.arange(1, EPOCHS + 1), len(settings))
    found = tasks.outputs(data_set, np.repeat(settings, EPOCHS, axis=0), epochs).reshape(len(settings), EPOCHS, -1)
    found = np.pad(np.maximum.accumulate(found, axis=1), ((0, 0), (1, 0), (0, 0)))
    return [Curve(each[:, tasks.TIME], each[:, tasks.ACCURACY]) for each in found]


def curve(data_set: str, configuration: Configuration) -> Curve:
    """Returns a configuration's learning curve."""
    return curves(data_set, _settings([configuration]))[0]


def _settings(configurations: list[Configuration]) -> Array:
    names = tasks.LCBENCH.names
    return np.array([[configuration[name] for name in names] for configuration in configurations], dtype=float)


@functools.cache
def unit(data_set: str) -> float:
    """Returns the median seconds of a full training, by which a data set's times are divided."""
    generator = np.random.default_rng(0)
    settings = _settings([tasks.LCBENCH.sample(generator) for _ in range(1000)])
    return float(np.median([each.seconds[-1] for each in curves(data_set, settings)]))


# The machine


@dataclass(frozen=True)
class Training:
    """What a worker is given to do.

    Attributes:
        handle: What the contestant knows it by.
        configuration: What is trained.
        since: How many epochs it was trained for before.
        until: How many it shall have been trained for.
    """

    handle: Any
    configuration: Configuration
    since: int
    until: int


class Contestant(abc.ABC):
    """Tunes: what shall be trained, and for how long."""

    @abc.abstractmethod
    def begin(self) -> Training | None:
        """Returns what a free worker shall train, or None where it shall wait for something to end."""

    def goes_on(self, training: Training, epoch: int, accuracy: float) -> bool:
        """Takes the best accuracy until an epoch, and returns whether the training goes on."""
        return True

    @abc.abstractmethod
    def end(self, training: Training, epoch: int, accuracy: float) -> None:
        """Takes the best accuracy at the end of a training, and the epoch it came to."""


@dataclass(frozen=True)
class Progress:
    """How far a contestant has come.

    Attributes:
        times: When the best accuracy became better, in units of the data set's full trainings.
        regrets: The normalised regret from then on.
        trials: How many configurations were tried.
        trainings: How many of them were trained to the last epoch.
        processor: Seconds of processor time, the surrogate's included.
    """

    times: list[float]
    regrets: list[float]
    trials: int
    trainings: int
    processor: float


def simulate(contestant: Contestant, data_set: str, horizon: float, workers: int = WORKERS) -> Progress:
    """Lets a contestant tune until ``horizon`` full trainings' time has passed, or the regret is as good as none."""
    begun = time.process_time()
    task, until = tasks.make_task(f"lcbench-{data_set}"), horizon * unit(data_set)
    order = itertools.count()
    events: list[tuple[float, int, Training, Curve, int]] = []
    progress = Progress([], [], 0, 0, 0.0)
    now, free, best, trials, trainings = 0.0, workers, -math.inf, 0, 0

    def trained(training: Training, known: Curve, epoch: int) -> None:
        took = known.seconds[epoch + 1] - known.seconds[epoch]
        heapq.heappush(events, (now + took, next(order), training, known, epoch + 1))

    while True:
        while free and (training := contestant.begin()) is not None:
            trained(training, curve(data_set, training.configuration), training.since)
            free -= 1
            trials += not training.since
        if not events:
            break
        now, _, training, known, epoch = heapq.heappop(events)
        if now > until:
            break
        accuracy = float(known.accuracies[epoch])
        if accuracy > best:
            best = accuracy
            progress.times.append(now / unit(data_set))
            progress.regrets.append(float(task.regrets([-best])[0]))
            if progress.regrets[-1] <= ENOUGH:
                break
        if contestant.goes_on(training, epoch, accuracy) and epoch < training.until:
            trained(training, known, epoch)
        else:
            contestant.end(training, epoch, accuracy)
            free += 1
            trainings += epoch == EPOCHS
    return Progress(progress.times, progress.regrets, trials, trainings, time.process_time() - begun)


# Who tunes


class Ours(Contestant):
    """A study of hpcompss, asked and told.

    Args:
        seed: The study's.
        sampler: Its sampler's name.
        scheduler: Its scheduler's name and options; None trains all to the end.
    """

    def __init__(self, seed: int, *, sampler: str, scheduler: Mapping[str, Any] | None = None) -> None:
        budgets = {"min_epochs": MIN_EPOCHS, "max_epochs": EPOCHS, "eta": ETA}
        fidelity = {} if scheduler is None else {"fidelity": {**budgets, **scheduler}}
        objective = {"direction": "maximize", "metric": "val_accuracy"}
        self.study = Study(tasks.LCBENCH, sampler=sampler, seed=seed, **objective, **fidelity)

    def begin(self) -> Training | None:
        from hpcompss.fidelity import Waiting

        try:
            trial = self.study.ask()
        except Waiting:
            return None
        stage = trial.stage
        return Training(trial, trial.configuration, stage.since, stage.epochs or EPOCHS)

    def end(self, training: Training, epoch: int, accuracy: float) -> None:
        self.study.tell(training.handle, accuracy)


class Optuna(Contestant):
    """Optuna's TPESampler, alone or with its HyperbandPruner, both at their defaults but for the epochs and eta."""

    def __init__(self, seed: int, *, hyperband: bool) -> None:
        import optuna

        self.searcher = peers.Optuna(tasks.LCBENCH, seed, 0, sampler="TPESampler")
        pruner = optuna.pruners.HyperbandPruner(min_resource=MIN_EPOCHS, max_resource=EPOCHS, reduction_factor=ETA)
        # The name decides which trial goes to which bracket.
        self.study = self.searcher.study = optuna.create_study(
            study_name=f"study-{seed}",
            sampler=self.searcher.study.sampler,
            pruner=pruner if hyperband else optuna.pruners.NopPruner(),
        )

    def begin(self) -> Training:
        trial, configuration = self.searcher.ask()
        return Training(trial, configuration, 0, EPOCHS)

    def goes_on(self, training: Training, epoch: int, accuracy: float) -> bool:
        training.handle.report(-accuracy, epoch)
        return not training.handle.should_prune()

    def end(self, training: Training, epoch: int, accuracy: float) -> None:
        import optuna

        if epoch == EPOCHS:
            self.study.tell(training.handle, -accuracy)
        else:
            self.study.tell(training.handle, state=optuna.trial.TrialState.PRUNED)


SCHEDULERS: dict[str, dict[str, Any]] = {
    "asha": {"scheduler": "asha"},
    "stopping": {"scheduler": "asha", "form": "stopping"},
    "hyperband": {"scheduler": "hyperband"},
}
"""Ours, by the name that stands before the sampler's in a contestant's."""

PEERS = ("optuna-tpe-hyperband", "optuna-tpe")

CONTESTANTS: dict[str, Callable[[int], Contestant]] = {
    "optuna-tpe-hyperband": functools.partial(Optuna, hyperband=True),
    "optuna-tpe": functools.partial(Optuna, hyperband=False),
    **{sampler: functools.partial(Ours, sampler=sampler) for sampler in ("tpe", "gp")},
    **{
        f"{name}+{sampler}": functools.partial(Ours, sampler=sampler, scheduler=scheduler)
        for name, scheduler in SCHEDULERS.items()
        for sampler in ("tpe", "gp")
    },
}


def missing(name: str) -> str:
    """Returns why a contestant is skipped, or an empty string."""
    return common.absent("optuna") if name in PEERS else ""


def version(name: str) -> str:
    """Returns what changes when a contestant does: a peer's version, or a digest of what makes a study of ours."""
    return metadata.version("optuna") if name in PEERS else _digest()


@functools.cache
def _digest() -> str:
    package = common.ROOT / "hpcompss"
    folders = ("fidelity", "samplers", "space")
    files = [
        package / "study.py",
        package / "trial.py",
        *(each for name in folders for each in package.glob(f"{name}/**/*.py")),
    ]
    return hashlib.sha256(b"\0".join(each.read_bytes() for each in sorted(files))).hexdigest()[:12]


def run(name: str, data_set: str, seed: int, horizon: float) -> Progress:
    """Returns what a contestant, by its name, makes of a data set."""
    return simulate(CONTESTANTS[name](seed), data_set, horizon)
