"""An ensemble: several Keras models as one, whose output is the mean of theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpcompss.errors import InputError
from hpcompss.training.evidence import input_specification

__all__ = ["average"]

JUDGED_BY = ("loss", "loss_weights", "metrics", "weighted_metrics")
"""What of a model's compilation says how it is judged; how it learns is the rest."""

STATELESS = "sgd"
"""An optimizer without variables for each weight. A file of others, which have not learned, could not be read back."""


def average(
    keras: Any, models: Sequence[Any], names: Sequence[str], objects: Mapping[str, Any], specification: Any = None
) -> Any:
    """Returns one model that averages the outputs of several with equal weights, compiled with what judges the first.

    Args:
        keras: The module.
        models: The models, which have been built; they take the same inputs and have one output each.
        names: What to call each of them inside the ensemble.
        objects: The user's classes and functions by name.
        specification: What the first model was trained on, see `evidence.input_specification`; needed of a model that
            does not say itself what it takes.

    Raises:
        InputError: A model has several outputs, the models take different inputs, or it is unknown which.
    """
    inputs = _inputs(keras, models, specification)
    compiled = models[0].get_compile_config() if models[0].compiled else None
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
    judged_by = {name: compiled[name] for name in JUDGED_BY if compiled and compiled.get(name) is not None}
    if judged_by:
        ensemble.compile(STATELESS, **keras.saving.deserialize_keras_object(judged_by, custom_objects=dict(objects)))
    return ensemble


def _inputs(keras: Any, models: Sequence[Any], specification: Any) -> Any:
    """Returns inputs such as the models take, in their structure and with their names."""
    tensors = [getattr(model, "input", None) for model in models]
    if any(each is None for each in tensors):
        if specification is None:
            raise InputError("it is unknown what its models take: build them in build(hp), with keras.Input")
        return _map_leaves(specification, lambda leaf: keras.Input(leaf["shape"][1:], dtype=leaf["dtype"]))
    shapes = [input_specification(keras, each) for each in tensors]
    if any(each != shapes[0] for each in shapes):
        raise InputError(f"its models take different inputs: {', '.join(sorted({str(each) for each in shapes}))}")
    return keras.tree.map_structure(
        lambda each: keras.Input(batch_shape=each.shape, dtype=each.dtype, name=each.name), tensors[0]
    )


def _map_leaves(specification: Any, function: Any) -> Any:
    if isinstance(specification, dict):
        if isinstance(specification.get("dtype"), str):
            return function(specification)
        return {key: _map_leaves(each, function) for key, each in specification.items()}
    return [_map_leaves(each, function) for each in specification]
