"""Large arrays that are mapped from files go to TensorFlow batch by batch, in the order and types of ``model.fit``.

From arrays Keras makes one tensor that holds a copy of all of them, in each worker. Here Keras shuffles and batches the
numbers of the rows, by the pipeline that it has for arrays, and each batch is then read from the files. So a training
sees just the batches that it would have seen.
"""

from __future__ import annotations

from typing import Any

__all__ = ["LARGE", "read_by_batch"]

LARGE = 64 << 20
"""Bytes of data from which on a copy in each worker is worth avoiding. Below it, Keras's own way costs less."""

KERAS_BATCH_SIZE = 32
"""What ``fit`` takes where no batch size is stated."""


def read_by_batch(keras: Any, arguments: dict[str, Any]) -> None:
    """Replaces the large mapped arrays among the arguments of ``model.fit`` by streams of the same batches.

    Args:
        keras: The module.
        arguments: The arguments by name, which are changed in place. Those of other data are left alone.
    """
    if keras.backend.backend() != "tensorflow" or arguments.get("validation_split"):
        return
    size = arguments.get("batch_size")
    validation = arguments.get("validation_data")
    if isinstance(validation, tuple):
        parts = (*validation, None, None)[:3]
        rows = arguments.get("validation_batch_size") or size or KERAS_BATCH_SIZE
        if _is_large(keras, parts) and not arguments.get("validation_steps"):
            arguments["validation_data"] = _stream(keras, parts, rows, False)
    parts = tuple(arguments.get(name) for name in ("x", "y", "sample_weight"))
    if not _is_large(keras, parts) or (size is None and arguments.get("steps_per_epoch")):
        return
    arguments["x"] = _stream(keras, parts, size or KERAS_BATCH_SIZE, arguments.get("shuffle", True))
    for name in ("y", "sample_weight", "batch_size"):
        arguments.pop(name, None)
    arguments["shuffle"] = False  # or Keras warns that it leaves the order to us


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

    packed = keras.tree.lists_to_tuples(tuple(part for part in parts if part is not None))
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
        filled = keras.tree.pack_sequence_as(packed, tensors)
        return filled if len(filled) > 1 else filled[0]

    options = tensorflow.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    batches = rows.map(batch, num_parallel_calls=tensorflow.data.AUTOTUNE).prefetch(2).with_options(options)
    return batches.apply(tensorflow.data.experimental.assert_cardinality(-(-len(numbers) // batch_size)))
