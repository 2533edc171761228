"""The data a trial trains on: arrays that all processes of a node share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]

__all__ = ["DataSet", "describe"]


@dataclass(frozen=True, eq=False)
class DataSet:
    """Training, validation and test examples; the arrays are read-only and mapped from files.

    Images are uint8 (n, height, width, channels) as decoded, so that a model rescales them itself
    (`keras.layers.Rescaling`), except those of ``digits``: float32 (n, 8, 8, 1) in [0, 1]. Other features keep their
    shape, with floats as float32. Classes are int64 (n,); other targets float32 (n,) or (n, outputs).

    Attributes:
        x_train: Features to train on.
        y_train: Their targets.
        x_val: Features to choose by.
        y_val: Their targets.
        x_test: Features for the winner's score, or None.
        y_test: Their targets, or None.
        class_names: The name of each class, in the order of its number, where the source has names.
        name: What to call the data, for people.
        joined: Training and validation data as one pair of arrays, where they lie in one file; see
            `training_and_validation`.
        place: The folder of the cache that holds the training examples, for what is made of them, or None.
    """

    x_train: Array
    y_train: Array
    x_val: Array
    y_val: Array
    x_test: Array | None = None
    y_test: Array | None = None
    class_names: tuple[str, ...] = ()
    name: str = ""
    joined: tuple[Array, Array] | None = field(default=None, repr=False)
    place: Path | None = field(default=None, repr=False)

    def portion(self, share: float, seed: int) -> tuple[Array, Array]:
        """Returns x and y of a share of the training data, copied unless it is all, see `split.portion`."""
        from hpcompss.training.data.split import portion

        return portion(self.x_train, self.y_train, share, seed)

    def training_and_validation(self) -> tuple[Array, Array]:
        """Returns x and y of both sets, to refit the winner; copied only where the source had both."""
        if self.joined is not None:
            return self.joined
        import numpy as np

        return np.concatenate([self.x_train, self.x_val]), np.concatenate([self.y_train, self.y_val])


def describe(data_set: DataSet) -> str:
    """Returns one line: ``digits: 1,150 train, 287 validation, 360 test; 8 x 8 x 1 float32; 10 classes``."""
    counts = f"{len(data_set.y_train):,} train, {len(data_set.y_val):,} validation"
    if data_set.y_test is not None:
        counts += f", {len(data_set.y_test):,} test"
    shape = " x ".join(str(side) for side in data_set.x_train.shape[1:]) or "1"
    return f"{data_set.name}: {counts}; {shape} {data_set.x_train.dtype}; {_targets(data_set)}"


def _targets(data_set: DataSet) -> str:
    import numpy as np

    targets: np.ndarray[Any, Any] = data_set.y_train
    if targets.dtype.kind == "f":
        outputs = 1 if targets.ndim == 1 else targets.shape[1]
        return f"regression of {outputs} value{'s' if outputs > 1 else ''}"
    if targets.ndim > 1:
        return f"{targets.shape[1]} labels each"
    return f"{len(data_set.class_names) or np.unique(targets).size} classes"
