"""The records of a study: what a trial asks for, what it tried, and what came of it."""

from __future__ import annotations

import enum
import math
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from hpcompss.errors import InputError, nearest, shown
from hpcompss.reasons import one_line, printable, reason_of

__all__ = [
    "UNNAMED",
    "Configuration",
    "Failure",
    "FailureKind",
    "Resources",
    "Result",
    "Stage",
    "Trial",
    "TrialState",
    "Value",
    "fold_name",
    "fold_values",
    "is_better",
    "is_finished",
    "is_untrained",
    "result_of",
    "state_of",
]

UNNAMED = "value"
"""The objective's name where the user gave it none."""

Value: TypeAlias = int | float | str | bool
"""What a hyper-parameter can be."""

Configuration = dict[str, Value]
"""One choice of every active hyper-parameter, by name; an inactive one is absent."""


class TrialState(str, enum.Enum):
    """Where a trial stands."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    COMPLETE = "complete"
    FAILED = "failed"
    INFEASIBLE = "infeasible"
    """It breaks a limit that was checked before any training, so it has no value."""


class FailureKind(str, enum.Enum):
    """Why a task gave no result."""

    EXCEPTION = "exception"
    """The function raised."""
    NOT_FINITE = "not_finite"
    """The objective's value was NaN or infinite."""
    TIME_LIMIT = "time_limit"
    """It ran past ``Resources.time_limit`` and was killed."""
    MEMORY = "memory"
    """It grew past ``Resources.memory`` and was killed."""
    DIED = "died"
    """Its process ended by itself: a signal (segmentation fault, the kernel's out-of-memory killer) or an exit."""
    CANCELLED = "cancelled"
    """The master cancelled it."""
    INFEASIBLE = "infeasible"
    """The configuration breaks a limit, so it was not trained. It is no fault and is not tried again."""


@dataclass(frozen=True)
class Resources:
    """What one trial asks for.

    Attributes:
        cpu: Cores, and so threads; at least 1.
        gpu: GPUs; a fraction below 1 shares one GPU between trials, 0 hides all of them.
        memory: Bytes its process may hold resident, or None for no limit.
        time_limit: Seconds it may run, or None for no limit.
        single_use: Whether its process ends with it, so that no later task inherits memory or state from it.
    """

    cpu: int = 1
    gpu: float = 0
    memory: int | None = None
    time_limit: float | None = None
    single_use: bool = False

    def __post_init__(self) -> None:
        if self.cpu < 1:
            raise InputError(f"a trial needs at least 1 cpu, not {self.cpu}")
        if not (0 <= self.gpu <= 1 or (1 < self.gpu < math.inf and self.gpu == int(self.gpu))):
            raise InputError(f"gpu is 0, a fraction below 1, or a whole number, not {self.gpu}")
        if self.memory is not None and self.memory < 1:
            raise InputError(f"a trial needs at least 1 byte of memory, not {self.memory}")
        if self.time_limit is not None and not self.time_limit > 0:
            raise InputError(f"a trial's time_limit is above 0 seconds, not {self.time_limit}")


@dataclass(frozen=True)
class Failure:
    """Why a task gave no result: an error as data, which an engine returns in place of the task's value.

    Attributes:
        kind: What sort of end it was.
        reason: One line for the user.
        traceback: The Python traceback where there is one, else empty.
    """

    kind: FailureKind
    reason: str
    traceback: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", printable(one_line(self.reason)))
        object.__setattr__(self, "traceback", printable(self.traceback))

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Returns what a task raised, with the traceback from the first frame that is not this package's."""
        trace = error.__traceback__
        while trace is not None and _PACKAGE in Path(trace.tb_frame.f_code.co_filename).parents:
            trace = trace.tb_next
        text = "".join(traceback.TracebackException(type(error), error, trace).format())
        return cls(FailureKind.EXCEPTION, reason_of(error), text)

    @classmethod
    def cancelled(cls, reason: str = "it was cancelled") -> Failure:
        """Returns what a cancelled task gives for a result."""
        return cls(FailureKind.CANCELLED, reason)


_PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Result:
    """What came of a trial.

    Attributes:
        value: The objective, or None when the trial failed.
        metrics: The other figures it reported, by name.
        epoch: The epoch (counted from 1) that gave the value, or None where there are no epochs.
        seconds: How long it ran.
        failure: Why it failed, or None.
        curves: Each metric's value after every epoch; kept in the journal, not in the master's memory.
        warnings: What the user should know about this trial although it did not fail.
        budget: How much it was trained where trials are given different amounts, in all so far: epochs, or the share
            of the training data. None where every trial is given all there is.
        ended: Whether further training would change nothing, because it stopped early.
        violation: By how much it breaks the limit that kept it from being trained, relative to the limit; else 0.
        files: What a worker without the study's folder has left for it, by path in there; neither in the journal nor in
            the master's memory.
    """

    value: float | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    epoch: int | None = None
    seconds: float = 0.0
    failure: Failure | None = None
    curves: Mapping[str, list[float]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    budget: float | None = None
    ended: bool = False
    violation: float = 0.0
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Stage:
    """The part of a trial that one training task does.

    Attributes:
        epochs: How many epochs the model shall have been trained for at its end, earlier stages included; None for
            those of the workflow.
        share: The share of the training data that it is trained on, above 0 and up to 1; None for those of the
            workflow.
        since: How many epochs it was trained for before, whose checkpoint it goes on from; 0 to begin anew.
        keeps: Whether to leave a checkpoint, from which a later stage can go on.
    """

    epochs: int | None = None
    share: float | None = None
    since: int = 0
    keeps: bool = False

    @property
    def budget(self) -> dict[str, float]:
        """What is stated of it, ``epochs`` or ``share``, by its name; empty where a trial is given all there is."""
        stated = {"epochs": self.epochs, "share": self.share}
        return {name: value for name, value in stated.items() if value is not None}


@dataclass(frozen=True)
class Trial:
    """One configuration and what came of it.

    Attributes:
        number: Counted from 0 in the order of suggestion.
        configuration: The values of the active hyper-parameters.
        state: Where it stands. One that was trained in part has completed, until it goes on.
        result: What came of it so far, or None before anything did.
        stage: The part of it that runs, or ran last.
    """

    number: int
    configuration: Configuration
    state: TrialState = TrialState.RUNNING
    result: Result | None = None
    stage: Stage = Stage()

    @property
    def value(self) -> float | None:
        """The objective, or None before there is one or when it failed."""
        return None if self.result is None else self.result.value


def is_finished(trial: Trial) -> bool:
    """Returns whether a trial has completed, failed, or was found infeasible."""
    return trial.state in (TrialState.COMPLETE, TrialState.FAILED, TrialState.INFEASIBLE)


def is_untrained(result: Result) -> bool:
    """Returns whether a trial was found infeasible before any training."""
    return result.failure is not None and result.failure.kind is FailureKind.INFEASIBLE


def state_of(result: Result) -> TrialState:
    """Returns the state of a trial that ended with a result."""
    if is_untrained(result):
        return TrialState.INFEASIBLE
    return TrialState.FAILED if result.value is None else TrialState.COMPLETE


def is_better(value: float, than: float, direction: str) -> bool:
    """Returns whether ``value`` is better than another where one would ``"minimize"`` or ``"maximize"``."""
    return value > than if direction == "maximize" else value < than


def fold_name(metric: str, kind: str, fold: int) -> str:
    """Returns the name of a metric on one fold, or in one repeat, counted from 0: ``val_accuracy[fold 1]``."""
    return f"{metric}[{kind} {fold + 1}]"


def fold_values(metrics: Mapping[str, float]) -> tuple[float, ...]:
    """Returns those of a trial's metrics that `fold_name` named: the objective on each fold that it was trained on."""
    return tuple(value for name, value in metrics.items() if _FOLD.search(name))


_FOLD = re.compile(r"\[(fold|repeat) \d+\]$")


def result_of(value: Any, metric: str) -> Result:
    """Returns the result of a trial whose function returned ``value``: a number, or metrics by name.

    A lone metric is the objective where that has no name of its own (``UNNAMED``).

    Raises:
        InputError: It is neither, or the metrics lack the objective.
    """
    metrics: dict[str, float] = {}
    if isinstance(value, Mapping):
        metrics = {str(name): _number(name, each) for name, each in value.items()}
        if not metrics:
            raise InputError(f"nothing was returned: return the objective {metric!r}")
        name = next(iter(metrics)) if metric == UNNAMED and len(metrics) == 1 else metric
        if name not in metrics:
            returned = ", ".join(map(repr, sorted(metrics)))
            raise InputError(
                f"the objective {metric!r} is not among what was returned ({returned}); {nearest(metric, metrics)}"
            )
        objective = metrics[name]
    else:
        objective = _number(metric, value)
    if not math.isfinite(objective):
        return Result(None, metrics, failure=Failure(FailureKind.NOT_FINITE, f"{metric} is {objective}"))
    return Result(objective, metrics)


def _number(name: object, value: Any) -> float:
    try:
        if not isinstance(value, str | bytes):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"{name} must be a number, not {shown(value)}")
