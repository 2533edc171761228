"""An ensemble: several Keras models as one, whose output is the mean of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpcompss.errors import InputError

__all__ = ["average"]

JUDGED_BY = ("loss", "loss_weights", "metrics", "weighted_metrics")
"""What of a model's compilation says how it is judged; how it learns is the rest."""

STATELESS = "sgd"
"""An optimizer without variables for each weight. A file of others, which have not learned, could not be read back."""


def average(keras: Any, models: Sequence[Any], names: Sequence[str], x: Any) -> Any:
    """Returns one model that averages the outputs of several with equal weights, compiled with what judges the first.

    Args:
        keras: The module.
        models: The models, which have been built; they take the same input and have one output each.
        names: What to call each of them inside the ensemble.
        x: Features, shape (n, ...), of the kind that the models take.

    Raises:
        InputError: A model has several outputs.
    """
    compiled = models[0].get_compile_config() or {}
    inputs = keras.Input(x.shape[1:], dtype=str(x.dtype))
    outputs = []
    for model, name in zip(models, names, strict=True):
        model.name = name  # two models of one family have the same name, where the user gave them one
        if model.compiled:
            model.compile(STATELESS)
        output = model(inputs)
        if isinstance(output, list | tuple | dict):
            raise InputError(
                "an ensemble is made of models with one output: leave training.ensemble out", key="training"
            )
        outputs.append(output)
    # In full precision, whatever the models compute in.
    mean = keras.layers.Average(dtype=keras.config.floatx(), name="mean")(outputs)
    ensemble = keras.Model(inputs, mean, name="ensemble")
    judged_by = {name: compiled[name] for name in JUDGED_BY if compiled.get(name) is not None}
    if judged_by:
        ensemble.compile(STATELESS, **keras.saving.deserialize_keras_object(judged_by))
    return ensemble
