"""Iterables of batches, told by their classes' names, so that no framework is imported to ask."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hpcompss.errors import InputError

__all__ = ["RESTARTS", "UnopenedStream", "chain", "is_stream", "restarting"]

STREAMS = (
    ("tensorflow", "Dataset", "DatasetV2"),
    ("keras", "PyDataset"),
    ("torch", "DataLoader"),
    ("grain", "Dataset", "DataLoader", "MapDataset", "IterDataset"),
)
"""The packages, each with the names of its classes of iterables that Keras's ``fit`` takes."""

RESTARTS = "_begins_anew"
"""The attribute of a stream of TensorFlow that may begin anew within an epoch, for it is a generator's."""


@dataclass(frozen=True)
class UnopenedStream:
    """Stands for a stream that each training makes for itself.

    Attributes:
        kind: The class of the stream.
        batches: How many batches it has, or None where it does not say.
    """

    kind: str
    batches: int | None

    @classmethod
    def of(cls, stream: Any) -> UnopenedStream:
        """Returns what stands for a stream."""
        batches = None
        for ask in (len, lambda each: each.num_batches):
            try:
                batches = int(ask(stream))
                break
            except (TypeError, AttributeError, ValueError, NotImplementedError):
                continue
        return cls(type(stream).__name__.strip("_"), batches)


def is_stream(value: Any) -> bool:
    """Returns whether Keras would iterate over a value for batches."""
    if isinstance(value, types.GeneratorType | UnopenedStream):
        return True
    return any(
        cls.__name__ in names and cls.__module__.partition(".")[0] == package
        for cls in type(value).__mro__
        for package, *names in STREAMS
    )


def chain(first: Any, second: Any) -> Any:
    """Returns a stream of the batches of one and then of another.

    Raises:
        InputError: There is no way to.
    """
    joinable = hasattr(first, "concatenate") and hasattr(second, "concatenate")
    if not joinable or int(first.cardinality()) == ENDLESS:
        kind = f"an endless {type(first).__name__}" if joinable else f"a {type(first).__name__}"
        raise InputError(
            f"{kind} cannot be joined with the validation data, to train the winner anew on both: leave refit out, or "
            "give a tf.data.Dataset that ends for each of them",
            key="training.refit",
        )
    joined = first.concatenate(second)
    if getattr(first, RESTARTS, False):
        setattr(joined, RESTARTS, True)
    return joined


ENDLESS = -1
"""What TensorFlow says for the number of batches of a stream that never ends."""


def restarting(make: Callable[[], Iterator[Any]], to_train: bool = True) -> Any:
    """Returns a stream of a generator's batches that begins anew with each epoch.

    With TensorFlow it is a ``tf.data.Dataset``. Other backends know generators alone, which end once: to train with it
    goes on for ever, and ``steps_per_epoch`` says how long an epoch is. Else its batches are kept in memory.

    Args:
        make: Returns the generator, which may end.
        to_train: Whether it is to train with, not for validation or the test.
    """
    from hpcompss.training.backends import chosen_backend

    if chosen_backend() != "tensorflow":
        return _endless(make) if to_train else _in_memory(list(make()))
    import keras
    import numpy as np
    import tensorflow

    def batches() -> Iterator[Any]:
        return map(keras.tree.lists_to_tuples, make())  # TensorFlow takes a list for one array

    first = next(batches(), None)
    if first is None:
        raise InputError("the generator ends before its first batch", key="data")

    def specification(value: Any) -> Any:
        array = np.asarray(value)
        kind = tensorflow.string if array.dtype.kind in "USO" else array.dtype
        return tensorflow.TensorSpec((None, *array.shape[1:]) if array.ndim else (), kind)

    signature = keras.tree.map_structure(specification, first)
    stream = tensorflow.data.Dataset.from_generator(batches, output_signature=signature)
    setattr(stream, RESTARTS, True)
    return stream


def _endless(make: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    while True:
        batch = None
        for batch in make():
            yield batch
        if batch is None:
            raise InputError("the generator ends before its first batch", key="data")


def _in_memory(batches: list[Any]) -> Any:
    """Returns batches as a stream that can be gone through again and again."""
    import keras

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return len(batches)

        def __getitem__(self, number: int) -> Any:
            return batches[number]

    return Batches()
