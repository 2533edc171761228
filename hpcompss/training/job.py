"""What every trial of one Keras study shares, sent to each worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hpcompss.constraints import Constraint
from hpcompss.training.data import DataSpecification

__all__ = ["PARAMETERS", "EarlyStopping", "Job"]


PARAMETERS = "parameters"
"""The metric that every Keras trial reports beside those of its model: how many parameters that has."""


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
