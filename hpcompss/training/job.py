"""What every trial of one Keras study shares, sent to each worker."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hpcompss.constraints import Constraint
from hpcompss.objectives import Objective
from hpcompss.training.data import DataSet, DataSpecification, load_data_once, load_folds
from hpcompss.trial import Configuration, Failure, FailureKind, Result

__all__ = ["INFERENCE", "PARAMETERS", "EarlyStopping", "Job"]

FOLD_STEP = 1_000_003
"""Between the seeds of two folds: more than a study has trials, so that no two tasks of a study share a seed."""

PARAMETERS = "parameters"
"""The metric that every Keras trial reports beside those of its model: how many parameters that has."""

INFERENCE = "inference_ms"
"""The metric that a Keras trial reports where an objective or a constraint asks for it: the milliseconds that its model
takes to predict one sample."""


@dataclass(frozen=True)
class EarlyStopping:
    """When a training that no longer gets better ends before its last epoch.

    Attributes:
        patience: It ends after so many epochs in a row that brought no better value of the objective.
        min_delta: By how much a value must be better to count as that.
    """

    patience: int
    min_delta: float = 0.0


@dataclass(frozen=True)
class Job:
    """How the models of a study are built, trained and judged.

    Attributes:
        model: ``file.py:build``, ``module:Class``, or the Python object itself.
        data: Where the data comes from.
        metric: The objective, as Keras names it (``val_accuracy``).
        direction: ``"minimize"`` or ``"maximize"``.
        epoch: Which epoch's value counts, ``"best"`` or ``"last"``; its weights are those kept.
        epochs: How many epochs, or None to leave it to the model's own ``fit``.
        batch_size: Samples a step, or None for Keras's default or the model's own ``fit``.
        seed: Makes initial weights and the order of samples repeatable, with the trial's number.
        early_stopping: When a training ends early, or None for never.
        constraints: What a model must keep to for its trial to be feasible.
        also: The objectives beside ``metric``.
        folds: On how many folds each configuration is trained, or None where it is trained on the split of the data.
        repeats: How often each configuration is trained, from other weights and in another order; None for once.
        fold: Which of the folds or repeats a task trains, from 0; None where there are none, or for a task that does
            not train one.
        fold_stopping: Whether a configuration that is clearly beaten after some folds is not trained on the rest.
        kept: Of how many trials, the best ones, the models are kept.
        searched: Which of ``epochs`` and ``batch_size`` each configuration decides (see `with_configuration`).
        max_parameters: How many parameters a model may have to be trained, or None for any number.
        backend: Keras's backend, or None for that of each worker.
        fit: Further arguments of ``fit``, by name.
        callbacks: Callbacks of the user's, functions that make them, and references to either.
        refit: Whether the winner is trained anew at the end.
        levels: The budgets at which a scheduler compares trials, ascending: epochs, or shares of the data as floats;
            empty where each trial is trained at once.
    """

    model: Any
    data: DataSpecification
    metric: str
    direction: str
    epoch: str = "best"
    epochs: int | None = None
    batch_size: int | None = None
    seed: int = 0
    early_stopping: EarlyStopping | None = None
    constraints: tuple[Constraint, ...] = ()
    also: tuple[Objective, ...] = ()
    folds: int | None = None
    repeats: int | None = None
    fold: int | None = None
    fold_stopping: bool = True
    kept: int = 1
    searched: tuple[str, ...] = ()
    max_parameters: int | None = None
    backend: str | None = None
    fit: Mapping[str, Any] = field(default_factory=dict)
    callbacks: tuple[Any, ...] = ()
    refit: bool = False
    levels: tuple[float, ...] = ()

    def with_configuration(self, configuration: Configuration) -> Job:
        """Returns the job of one trial, with the epochs and the batch size that its configuration decides."""
        if not self.searched:
            return self
        decided: dict[str, Any] = {name: int(configuration[name]) for name in self.searched}
        return dataclasses.replace(self, **decided, searched=())

    def oversized(self, model: Any, sample: Callable[[], Any]) -> Result | None:
        """Returns the result of a trial whose model has too many parameters to be trained, else None.

        A model whose parameters exist only once it was called is called with one sample. One that cannot be called so,
        since only its training builds it, is not checked.

        Args:
            model: The Keras model.
            sample: Returns the features of a few examples, as the model is called with them.
        """
        if self.max_parameters is None:
            return None
        with contextlib.suppress(Exception):
            if not model.built:
                model(sample())
        try:
            count = int(model.count_params())
        except ValueError:
            return None
        if count <= self.max_parameters:
            return None
        reason = f"infeasible: {count:,} parameters, at most {self.max_parameters:,} (resources.parameters)"
        violation = (count - self.max_parameters) / self.max_parameters
        failure = Failure(FailureKind.INFEASIBLE, reason)
        return Result(None, {PARAMETERS: float(count)}, failure=failure, violation=violation)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """All objectives, the first of them first."""
        return (Objective(self.metric, self.direction), *self.also)

    @property
    def times_inference(self) -> bool:
        """Whether anything depends on how long a model takes to predict."""
        return INFERENCE in {each.metric for each in self.also} | {each.metric for each in self.constraints}

    @property
    def parts(self) -> int:
        """How many folds or repeats there are, 1 where there are none."""
        return self.folds or self.repeats or 1

    @property
    def kind(self) -> str:
        """What one part is called."""
        return "repeat" if self.repeats else "fold"

    @property
    def part(self) -> str:
        """What the task trains, as its files are named: ``fold-1``; empty for a whole trial."""
        return "" if self.fold is None else f"{self.kind}-{self.fold + 1}"

    def seed_of(self, number: int) -> int:
        """Returns the seed of a trial's weights and order; that of each fold and repeat is another."""
        return self.seed + number + FOLD_STEP * (self.fold or 0)

    def load(self) -> DataSet:
        """Returns what the task trains on. Raises what `load_data` raises, and where there are too many folds."""
        if self.folds is None or self.fold is None:
            return load_data_once(self.data)
        return load_folds(self.data, self.folds)[self.fold]
