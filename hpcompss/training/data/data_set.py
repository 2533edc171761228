"""The data a trial trains on: arrays that all processes of a node share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcompss.training.data.examples import Examples

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
    """

    train: Examples
    validation: Examples | None
    test: Examples | None = None
    class_names: tuple[str, ...] = ()
    name: str = ""
    joined: Examples | None = field(default=None, repr=False)
    place: Path | None = field(default=None, repr=False)

    def open(self) -> DataSet:
        """Returns the data with its streams made anew, for one training. Arrays stay as they are."""
        return self

    def portion(self, share: float, seed: int) -> Examples:
        """Returns a share of the training data, copied unless it is all, see `split.portion`."""
        from hpcompss.training.data.split import portion

        return portion(self.train, share, seed)

    def training_and_validation(self) -> Examples:
        """Returns both sets as one, to refit the winner; copied only where the source had both."""
        if self.joined is not None:
            return self.joined
        if self.validation is None:
            return self.train
        import numpy as np

        return Examples(
            np.concatenate([self.train.x, self.validation.x]), np.concatenate([self.train.y, self.validation.y])
        )


def describe(data_set: DataSet) -> str:
    """Returns one line: ``digits: 1,150 train, 287 validation, 360 test; 8 x 8 x 1 float32; 10 classes``."""
    counts = f"{len(data_set.train.y):,} train"
    if data_set.validation is not None:
        counts += f", {len(data_set.validation.y):,} validation"
    if data_set.test is not None:
        counts += f", {len(data_set.test.y):,} test"
    shape = " x ".join(str(side) for side in data_set.train.x.shape[1:]) or "1"
    return f"{data_set.name}: {counts}; {shape} {data_set.train.x.dtype}; {_targets(data_set)}"


def _targets(data_set: DataSet) -> str:
    import numpy as np

    targets: np.ndarray[Any, Any] = data_set.train.y
    if targets.dtype.kind == "f":
        outputs = 1 if targets.ndim == 1 else targets.shape[1]
        return f"regression of {outputs} value{'s' if outputs > 1 else ''}"
    if targets.ndim > 1:
        return f"{targets.shape[1]} labels each"
    return f"{len(data_set.class_names) or np.unique(targets).size} classes"
