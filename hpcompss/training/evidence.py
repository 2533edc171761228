"""Which model a user's ``fit`` trained, and on what: whether figures, the model kept and the test belong together.

A ``fit`` of the user's own may train another model than it is given, or none, or prepare the data first. What shows
that is observed: calls of Keras's ``fit``, the models that callbacks report of, and the weights before and after.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hpcompss.errors import InputError
from hpcompss.training.data import Examples

__all__ = ["MIXED", "UNTRAINED", "Evidence", "input_specification"]

UNTRAINED = (
    "no model is kept and none is tested: fit(hp, model, ...) did not train the model that it was given; train that "
    "one, or return the trained model with its figures (return model, history)"
)

MIXED = (
    "no model is kept and none is tested: the figures are not those of one model; have fit(hp, model, ...) return the "
    "model to keep with its figures (return model, history)"
)

COMPARED_ROWS = 4
"""How many rows of what ``fit`` trained on are looked for in what it was given."""

CHUNK_ROWS = 4096
"""How many rows are compared at a time."""


class Evidence:
    """What is seen of one call of the user's ``fit``.

    Args:
        keras: The module.
        model: The model that ``fit`` is given.
        own_fit: Whether the user wrote the ``fit``. Keras's own trains the model on the data, as is.
    """

    def __init__(self, keras: Any, model: Any, own_fit: bool) -> None:
        self._keras = keras
        self._model = model
        self._own_fit = own_fit
        self._before = _digests(keras, model) if own_fit else None
        self._calls: list[Mapping[str, Any]] = []

    def add_call(self, arguments: Mapping[str, Any]) -> None:
        """Takes in the arguments of a call of Keras's ``fit``, the model among them as ``self``."""
        self._calls.append(dict(arguments))

    @functools.cached_property
    def trained(self) -> bool:
        """Whether the model that ``fit`` was given was trained; to be asked after ``fit``."""
        if not self._own_fit or any(_overlap(call["self"], self._model) for call in self._calls):
            return True
        if not self._model.weights:
            return bool(self._model.built)  # there is nothing to train
        return _digests(self._keras, self._model) != self._before

    def settle(self, outcome: Any, reporters: Sequence[Any]) -> tuple[Any, Any, str]:
        """Returns what ``fit`` returned without its model, the model whose figures these are, and why there is none.

        Args:
            outcome: What ``fit`` returned: a model, a model and its figures in either order, or figures alone.
            reporters: The models that callbacks have reported epochs of.

        Raises:
            InputError: ``fit`` returned several models, or more beside one than its figures.
        """
        if not self._own_fit:
            return outcome, self._model, ""
        returned, figures = self._split(outcome)
        if returned is not None:
            trained = returned is not self._model or self.trained
            return figures, returned if trained else None, "" if trained else UNTRAINED
        owners = self._owners(outcome, reporters)
        if len(owners) > 1:
            return outcome, None, MIXED
        if not owners or (owners[0] is self._model and not self.trained):
            return outcome, None, UNTRAINED
        return outcome, owners[0], ""

    def _split(self, outcome: Any) -> tuple[Any, Any]:
        """Returns the model that ``fit`` returned, or None, and the rest."""
        is_model = self._keras.Model
        if isinstance(outcome, is_model):
            return outcome, None
        if not isinstance(outcome, list | tuple) or not any(isinstance(each, is_model) for each in outcome):
            return None, outcome
        rest = [each for each in outcome if not isinstance(each, is_model)]
        if len(outcome) != 2 or len(rest) != 1:
            raise InputError(
                "fit(hp, model, ...) returns one model and its figures (return model, history), not "
                f"{len(outcome) - len(rest)} models and {len(rest)} other values",
                key="model",
            )
        return next(each for each in outcome if isinstance(each, is_model)), rest[0]

    def _owners(self, outcome: Any, reporters: Sequence[Any]) -> list[Any]:
        """Returns the models that figures are of: one where all is well."""
        reported = self._distinct(reporters)
        if outcome is None:
            return reported or [self._model]
        several = outcome if isinstance(outcome, list | tuple) else [outcome]
        histories = [
            getattr(each, "model", None) for each in several if isinstance(each, self._keras.callbacks.History)
        ]
        if histories and len(histories) == len(several) and None not in histories:
            return self._distinct(histories)
        fitted = self._distinct(call["self"] for call in self._calls)
        if len(fitted) > 1 and self.trained:
            return fitted  # a mean over folds, say
        # Numbers do not say which model they are of.
        return self._distinct([self._model, *reported])

    def _distinct(self, models: Iterable[Any]) -> list[Any]:
        """Returns the models without repetition; one that trained the given model as a part counts as that."""
        distinct: list[Any] = []
        for each in models:
            model = self._model if _overlap(each, self._model) and self.trained else each
            if not any(model is other for other in distinct):
                distinct.append(model)
        return distinct

    def is_among(self, model: Any, reporters: Sequence[Any]) -> bool:
        """Returns whether epochs were reported of a model, or of one around it."""
        return any(each is model for each in self._distinct(reporters))

    def inputs_of(self, model: Any) -> Any:
        """Returns what a model was called with in its last training, see `input_specification`; None if unknown."""
        for call in reversed(self._calls):
            if call["self"] is model:
                return input_specification(self._keras, call.get("x"))
        return None

    def prepares_data(self, model: Any, training: Examples, validation: Examples | None) -> bool:
        """Returns whether ``fit`` is seen to have trained or judged a model on other data than it was given.

        Args:
            model: The model.
            training: The training data that it was given.
            validation: The validation data that it was given, or None.
        """
        if not self._own_fit:
            return False
        for call in reversed(self._calls):
            if call["self"] is not model:
                continue
            given, used = training, Examples(call.get("x"), call.get("y"))
            if validation is not None and call.get("validation_data") is not None:
                given, used = validation, _as_examples(call["validation_data"])
            return _differ(self._keras, given, used)
        return False


def input_specification(keras: Any, x: Any) -> Any:
    """Returns shapes and types of one input or a structure of them: ``{"shape": [null, 8], "dtype": "float32"}``.

    Args:
        keras: The module.
        x: Arrays, tensors, or a data set of TensorFlow or Keras.

    Returns:
        Plain data, or None where ``x`` is anything else.
    """
    try:
        x = _first_features(x)
        return None if x is None else keras.tree.map_structure(_leaf_specification, x)
    except Exception:
        return None


def _first_features(x: Any) -> Any:
    specification = getattr(x, "element_spec", None)  # tf.data
    if specification is not None:
        return specification[0] if isinstance(specification, tuple) else specification
    if any(each.__name__ == "PyDataset" for each in type(x).__mro__):
        batch = x[0]
        return batch[0] if isinstance(batch, tuple) else batch
    return x


def _leaf_specification(array: Any) -> dict[str, Any]:
    import numpy as np

    if not hasattr(array, "shape"):
        array = np.asarray(array)
    dtype = array.dtype
    name = getattr(dtype, "name", None) or str(dtype).rpartition(".")[2]
    if name == "object" or name.startswith(("str", "bytes")):
        name = "string"
    return {"shape": [None, *(None if side is None else int(side) for side in tuple(array.shape)[1:])], "dtype": name}


def _as_examples(validation_data: Any) -> Examples:
    return Examples(*validation_data[:2]) if isinstance(validation_data, tuple) else Examples(validation_data)


def _digests(keras: Any, model: Any) -> list[int]:
    """Returns checksums of what a training changes: the trainable weights, or all where there are none."""
    import numpy as np

    weights = model.trainable_weights or model.weights
    return [zlib.crc32(np.ascontiguousarray(keras.ops.convert_to_numpy(each)).tobytes()) for each in weights]


def _overlap(model: Any, other: Any) -> bool:
    """Returns whether two models are one, or have variables in common."""
    if model is other:
        return True
    if model is None:
        return False
    ours = {id(each) for each in other.variables}
    return any(id(each) in ours for each in model.variables)


def _differ(keras: Any, given: Examples, used: Examples) -> bool:
    """Returns whether rows that were used are not among those given; False where that cannot be seen."""
    try:
        if used.is_stream:
            used = _first_batch(used)
        if given.is_stream or used.x is None:
            return False
        parts = [(given.x, used.x), (given.y, used.y)]
        return any(_parts_differ(keras, *part) for part in parts)
    except Exception:
        return False


def _first_batch(examples: Examples) -> Examples:
    """Returns the first batch of a data set that can be read again; nothing of any other stream."""
    names = {each.__name__ for each in type(examples.x).__mro__}
    if "DatasetV2" in names:
        batch = next(iter(examples.x.take(1)))
    elif "PyDataset" in names:
        batch = examples.x[0]
    else:
        return Examples(None)
    return _as_examples(batch)


def _parts_differ(keras: Any, given: Any, used: Any) -> bool:
    import numpy as np

    if given is used:
        return False
    if given is None or used is None:
        return True
    given, used = keras.tree.flatten(given), keras.tree.flatten(used)
    if len(given) != len(used):
        return True
    return any(_rows_differ(np.asarray(each), np.asarray(other)) for each, other in zip(given, used, strict=True))


def _rows_differ(given: Any, used: Any) -> bool:
    """Returns whether one of the first rows of ``used`` is nowhere in ``given``, whatever order that has."""
    import numpy as np

    rows = used[:COMPARED_ROWS].reshape(min(len(used), COMPARED_ROWS), -1)
    if not len(rows) or rows.shape[1] != int(np.prod(given.shape[1:], dtype=np.int64)):
        return len(rows) > 0

    def among(row: Any, others: Any) -> bool:
        others = others.reshape(len(others), -1)
        if rows.dtype.kind in "SUO" or others.dtype.kind in "SUO":
            equal = np.vectorize(_text, otypes=[object])(others) == np.array([_text(each) for each in row], object)
        else:
            equal = np.isclose(others, row, rtol=1e-5, atol=1e-8, equal_nan=True)
        return bool(equal.all(axis=1).any())

    for row in rows:
        chunks = (given[begin : begin + CHUNK_ROWS] for begin in range(0, len(given), CHUNK_ROWS))
        if not (among(row, given[:COMPARED_ROWS]) or any(among(row, chunk) for chunk in chunks)):
            return True
    return False


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
