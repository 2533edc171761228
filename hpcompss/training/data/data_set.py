"""The data a trial trains on: arrays that all processes of a node share, or streams that each makes for itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcompss.training.data.examples import Examples
from hpcompss.training.data.streams import UnopenedStream

if TYPE_CHECKING:
    import numpy as np

__all__ = ["DataSet", "describe"]


@dataclass(frozen=True, eq=False)
class DataSet:
    """Examples to train on, to choose by and to test with; arrays are read-only and mapped from files.

    Images are uint8 (n, height, width, channels) as decoded, so that a model rescales them itself
    (`keras.layers.Rescaling`), except those of ``digits``: float32 (n, 8, 8, 1) in [0, 1].

    Attributes:
        train: What to train on.
        validation: What to choose by, or None where trials are judged by the training alone.
        test: What the winner is scored on, or None.
        class_names: The name of each class, in the order of its number, where the source has names.
        name: What to call the data, for people.
        joined: Training and validation data together, where they lie in one file; see `training_and_validation`.
        place: The folder of the cache that holds the training examples, for what is made of them, or None.
        in_order: Whether the order of the rows means something, so that none are drawn.
        digest: That of what the source gave; empty for streams.
        make: Makes the data anew, for streams; None for arrays.
    """

    train: Examples
    validation: Examples | None
    test: Examples | None = None
    class_names: tuple[str, ...] = ()
    name: str = ""
    joined: Examples | None = field(default=None, repr=False)
    place: Path | None = field(default=None, repr=False)
    in_order: bool = False
    digest: str = ""
    make: Callable[[], DataSet] | None = field(default=None, repr=False)

    def open(self) -> DataSet:
        """Returns the data with its streams made anew, for one training. Arrays stay as they are."""
        return self if self.make is None else self.make()

    def portion(self, share: float, seed: int) -> Examples:
        """Returns a share of the training data, copied unless it is all, see `split.portion`."""
        from hpcompss.training.data.split import portion

        return portion(self.train, share, seed, self.in_order)

    def training_and_validation(self) -> Examples:
        """Returns both sets as one, to refit the winner; copied only where the source had both.

        Streams are joined one after the other, by a method of their own where they have one.
        """
        if self.joined is not None:
            return self.joined
        if self.validation is None:
            return self.train
        if self.train.is_stream or self.validation.is_stream:
            from hpcompss.training.data.streams import chain

            return Examples(chain(self.train.x, self.validation.x))
        from hpcompss.training.data.trees import concatenate

        pair = (self.train, self.validation)
        weights = None
        if any(part.weights is not None for part in pair):  # a row without one counts as one
            weights = concatenate([part.weights if part.weights is not None else _ones(part, pair) for part in pair])
        y = None if self.train.y is None else concatenate([part.y for part in pair])
        return Examples(concatenate([part.x for part in pair]), y, weights)


def _ones(part: Examples, pair: tuple[Examples, Examples]) -> Any:
    """Returns weights of 1 for a part, in the form of those that the other part has."""
    import numpy as np

    from hpcompss.training.data.trees import map_tree

    pattern = next(each.weights for each in pair if each.weights is not None)
    return map_tree(lambda leaf: np.ones((part.rows or 0, *leaf.shape[1:]), np.float32), pattern)


def describe(data_set: DataSet) -> str:
    """Returns one line: ``digits: 1,150 train, 287 validation, 360 test; 8 x 8 x 1 float32; 10 classes``."""
    parts = {"train": data_set.train, "validation": data_set.validation, "test": data_set.test}
    counts = ", ".join(_amount(name, part) for name, part in parts.items() if part is not None)
    shown = [f"{data_set.name}: {counts}"]
    if not data_set.train.is_stream:
        shown += [_features(data_set.train.x), _targets(data_set.train.y, data_set.class_names)]
        shown += ["weights of the rows"] if data_set.train.weights is not None else []
    return "; ".join(shown)


def _amount(name: str, part: Examples) -> str:
    if not part.is_stream:
        return f"{part.rows:,} {name}"
    stream = part.x if isinstance(part.x, UnopenedStream) else UnopenedStream.of(part.x)
    return f"{name} ({stream.kind})" if stream.batches is None else f"{stream.batches:,} batches {name} ({stream.kind})"


def _features(x: Any) -> str:
    from hpcompss.training.data.trees import leaves

    found = list(leaves(x))
    if len(found) > 1:
        return ", ".join(f"{_plain(name)} {_shape(leaf)}" for name, leaf in found)
    return _shape(found[0][1])


def _plain(name: str) -> str:
    """Returns the name of a leaf, such as ``['image'][0]``, as people write it: ``image[0]``."""
    first, _, rest = name.partition("]")
    return first.strip("['\"") + rest


def _shape(leaf: Any) -> str:
    from hpcompss.training.data.trees import is_frame, is_text

    if is_frame(leaf):
        return f"{leaf.shape[1]} column{'s' if leaf.shape[1] > 1 else ''}"
    sides = " x ".join("?" if side is None else str(side) for side in leaf.shape[1:]) or "1"
    return f"{sides} {'text' if is_text(leaf) else getattr(leaf, 'dtype', 'columns')}"


def _targets(y: Any, class_names: tuple[str, ...]) -> str:
    import numpy as np

    from hpcompss.training.data.split import labels_of
    from hpcompss.training.data.trees import leaves

    if y is None:
        return "no targets"
    found = list(leaves(y))
    if len(found) > 1:
        return f"targets {', '.join(_plain(name) for name, _ in found)}"
    labels: np.ndarray[Any, Any] | None = labels_of(y)
    if labels is not None:
        return f"{len(class_names) or np.unique(labels).size} classes"
    leaf = found[0][1]
    columns = leaf.shape[1] if len(leaf.shape) > 1 else 1
    if getattr(getattr(leaf, "dtype", None), "kind", "f") in "iu":
        return f"{columns} labels each"
    return f"regression of {columns} value{'s' if columns > 1 else ''}"
