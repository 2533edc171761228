"""What Keras is given in place of text and of large arrays, so that the model sees the same.

Keras takes text as TensorFlow's tensors alone. From arrays it makes one tensor that holds a copy of all of them, in
each worker. Where arrays are large and mapped from files, Keras shuffles and batches the numbers of the rows here, by
the pipeline that it has for arrays, and each batch is then read from the files. So a training sees just the batches
that it would have seen.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from hpcompss.errors import InputError
from hpcompss.training.data.streams import RESTARTS, is_stream
from hpcompss.training.data.trees import is_frame, is_text, kind_of, map_tree

__all__ = ["LARGE", "callable_inputs", "feed", "feed_evaluation", "needing_whole_epochs"]

LARGE = 64 << 20
"""Bytes of data from which on a copy in each worker is worth avoiding. Below it, Keras's own way costs less."""

KERAS_BATCH_SIZE = 32
"""What ``fit`` and ``evaluate`` take where no batch size is stated."""

PARTS = ("x", "y", "sample_weight")


def feed(keras: Any, arguments: dict[str, Any]) -> None:
    """Replaces text, and large mapped arrays, among the arguments of ``model.fit``.

    Args:
        keras: The module.
        arguments: The arguments by name, which are changed in place. Those of other data are left alone.
    """
    x: Any = arguments.get("x")
    if is_stream(x) and not isinstance(x, keras.utils.PyDataset):
        arguments.setdefault("shuffle", False)  # or Keras warns that the stream decides that
        if arguments.get("steps_per_epoch") and getattr(x, RESTARTS, False):
            arguments["x"] = x.repeat()
    if keras.backend.backend() != "tensorflow":
        return
    size, validation = arguments.get("batch_size"), arguments.get("validation_data")
    if isinstance(validation, tuple):
        validation = tuple(map_tree(_as_tensor, part) for part in validation)
        arguments["validation_data"] = validation
        if not arguments.get("validation_steps") and _is_large(keras, validation):
            rows = arguments.get("validation_batch_size") or size or KERAS_BATCH_SIZE
            arguments["validation_data"] = _stream(keras, validation, rows, False)
    if arguments.get("validation_split") or (size is None and arguments.get("steps_per_epoch")):
        _feed(keras, arguments, None)
    elif _feed(keras, arguments, size or KERAS_BATCH_SIZE, arguments.get("shuffle", True)):
        arguments["shuffle"] = False  # or Keras warns that it leaves the order to us


def feed_evaluation(keras: Any, arguments: dict[str, Any]) -> None:
    """Does the same with the arguments of ``model.evaluate``."""
    if keras.backend.backend() == "tensorflow":
        _feed(keras, arguments, None if arguments.get("steps") else arguments.get("batch_size") or KERAS_BATCH_SIZE)


def callable_inputs(keras: Any, inputs: Any) -> Any:
    """Returns a few examples as a model can be called with them: text as tensors, frames and sparse rows as arrays."""

    def converted(leaf: Any) -> Any:
        if keras.backend.backend() == "tensorflow":
            leaf = _as_tensor(leaf)
        if is_frame(leaf) or kind_of(leaf) in ("pandas", "polars"):
            return leaf.to_numpy()
        return leaf.toarray() if hasattr(leaf, "toarray") else leaf

    return map_tree(converted, inputs)


@contextlib.contextmanager
def needing_whole_epochs(steps: int | None) -> Iterator[None]:
    """Raises where a stream ends within an epoch, for which Keras has a warning, after which it trains less.

    Args:
        steps: How many batches an epoch has. None where the stream says that by its end, of which Keras warns, too.

    Raises:
        InputError: The stream ended early.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore" if steps is None else "error", r"\s*Your input ran out of data", UserWarning)
        try:
            yield
        except UserWarning as warning:
            if "ran out of data" not in str(warning):
                raise
            raise InputError(
                f"the data ended within an epoch of {steps} batches, or within its validation: lower "
                "training.fit.steps_per_epoch or validation_steps, or give a stream with more batches "
                "(dataset.repeat())",
                key="training.fit.steps_per_epoch",
            ) from None


def _feed(keras: Any, arguments: dict[str, Any], batch_size: int | None, shuffle: Any = False) -> bool:
    """Replaces the data among some arguments, and returns whether by a stream: of no batch size there is none."""
    parts = tuple(map_tree(_as_tensor, arguments.get(name)) for name in PARTS)
    arguments |= {name: part for name, part in zip(PARTS, parts, strict=True) if part is not None}
    if batch_size is None or not _is_large(keras, parts):
        return False
    arguments["x"] = _stream(keras, parts, batch_size, shuffle)
    for name in ("y", "sample_weight", "batch_size"):
        arguments.pop(name, None)
    return True


def _as_tensor(leaf: Any) -> Any:
    """Returns text as a tensor; anything else as it is."""
    array = leaf
    if is_frame(leaf) or kind_of(leaf) in ("pandas", "polars"):
        types = set(map(str, leaf.dtypes if is_frame(leaf) else [leaf.dtype]))
        if not types <= {"object", "str", "string", "String"}:
            return leaf
        array = leaf.to_numpy()
    if not is_text(array):
        return leaf
    import tensorflow

    return tensorflow.constant(array)


def _is_large(keras: Any, parts: tuple[Any, ...]) -> bool:
    """Returns whether data is nothing but arrays mapped from files, and much of it."""
    import numpy as np

    leaves = [leaf for leaf in keras.tree.flatten(parts) if leaf is not None]
    mapped = all(isinstance(leaf, np.memmap) and leaf.dtype.kind in "biuf" for leaf in leaves)
    return mapped and sum(leaf.nbytes for leaf in leaves) > LARGE


def _stream(keras: Any, parts: tuple[Any, ...], batch_size: int, shuffle: Any) -> Any:
    import numpy as np
    import tensorflow
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    x, y, weights = (*parts, None, None)[:3]
    packed = keras.tree.lists_to_tuples(keras.utils.pack_x_y_sample_weight(x, y, weights))
    leaves = keras.tree.flatten(packed)
    floats = np.dtype(keras.config.floatx())
    types = [floats if leaf.dtype.kind == "f" else leaf.dtype for leaf in leaves]
    numbers = np.arange(len(leaves[0]))
    rows = ArrayDataAdapter(numbers, batch_size=batch_size, shuffle=shuffle).get_tf_dataset()

    def read(positions: Any) -> list[Any]:
        return [np.asarray(leaf[positions], kind) for leaf, kind in zip(leaves, types, strict=True)]

    def batch(positions: Any) -> Any:
        tensors = tensorflow.numpy_function(read, [positions], types, stateful=False)
        for tensor, leaf in zip(tensors, leaves, strict=True):
            tensor.set_shape((None, *leaf.shape[1:]))
        return keras.tree.pack_sequence_as(packed, tensors)

    options = tensorflow.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    batches = rows.map(batch).prefetch(2).with_options(options)
    return batches.apply(tensorflow.data.experimental.assert_cardinality(-(-len(numbers) // batch_size)))
