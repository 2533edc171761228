"""What every trial of one Keras study shares, sent to each worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hpcompss.constraints import Constraint
from hpcompss.objectives import Objective
from hpcompss.training.data import DataSpecification

__all__ = ["INFERENCE", "PARAMETERS", "Job"]


PARAMETERS = "parameters"
"""The metric that every Keras trial reports beside those of its model: how many parameters that has."""

INFERENCE = "inference_ms"
"""The metric that a Keras trial reports where an objective or a constraint asks for it: the milliseconds that its model
takes to predict one sample."""


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
        constraints: What a model must keep to for its trial to be feasible.
        also: The objectives beside ``metric``.
    """

    model: Any
    data: DataSpecification
    metric: str
    direction: str
    epoch: str = "best"
    epochs: int | None = None
    batch_size: int | None = None
    seed: int = 0
    constraints: tuple[Constraint, ...] = ()
    also: tuple[Objective, ...] = ()

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """All objectives, the first of them first."""
        return (Objective(self.metric, self.direction), *self.also)

    @property
    def times_inference(self) -> bool:
        """Whether anything depends on how long a model takes to predict."""
        return INFERENCE in {each.metric for each in self.also} | {each.metric for each in self.constraints}
