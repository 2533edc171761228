"""What a training needs to go on exactly where it stopped, as one file: written whole, read back, given to a model.

A checkpoint is NumPy's ``.npz``: arrays (variables of the model and of its optimizer, weights of the best epoch, random
states), and what is plain as JSON. Of the user's own callbacks only those attributes that are not plain are pickled; a
study's folder is the user's own, as is the model's module, which runs in the same process.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import random
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcompss.drafts import whole
from hpcompss.training.backends import generators

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

__all__ = [
    "FOLDER",
    "Checkpoint",
    "CheckpointError",
    "build_variables",
    "checkpoint_path",
    "checkpoints_after",
    "checkpoints_size",
    "give_callbacks",
    "give_model",
    "give_random_states",
    "numbers_of_checkpoints",
    "put_callbacks",
    "put_model",
    "put_random_states",
    "read_checkpoint",
    "remove_checkpoints",
    "write_checkpoint",
]

FOLDER = "checkpoints"
"""Where they are in a study's folder."""

PLAIN = "plain"
"""The array that holds what is no array: JSON, in bytes."""


class CheckpointError(BaseException):
    """A checkpoint is missing, damaged, or of another model; no `Exception`, so that the user's code lets it pass."""


@dataclass
class Checkpoint:
    """The state of a training after an epoch.

    Attributes:
        epoch: How many epochs it was trained for.
        arrays: Arrays by name; those of a group are ``group/0``, ``group/1``, ...
        plain: What JSON can hold.
    """

    epoch: int
    arrays: dict[str, Array] = field(default_factory=dict)
    plain: dict[str, Any] = field(default_factory=dict)

    def put(self, group: str, arrays: Sequence[Array]) -> None:
        """Adds a group of arrays."""
        self.arrays |= {f"{group}/{position}": array for position, array in enumerate(arrays)}

    def group(self, name: str) -> list[Array]:
        """Returns the arrays of a group in their order."""
        count = sum(each.startswith(f"{name}/") for each in self.arrays)
        return [self.arrays[f"{name}/{position}"] for position in range(count)]


# On disk


def checkpoint_path(folder: Path, number: int, epochs: int, part: str = "") -> Path:
    """Returns where the state of a trial after so many epochs is kept.

    Args:
        folder: The study's.
        number: The trial's.
        epochs: How many epochs it was trained for.
        part: Tells apart the models of one trial, such as ``"fold-1"``.
    """
    name = f"trial-{number}.{part}." if part else f"trial-{number}."
    return folder / FOLDER / f"{name}epoch-{epochs}.npz"


def remove_checkpoints(folder: Path, number: int, keep: Collection[int] = ()) -> None:
    """Removes the checkpoints of a trial, of all its parts, but those after the epochs to ``keep``."""
    for path in (folder / FOLDER).glob(f"trial-{number}.*"):
        if not path.name.endswith(tuple(f".epoch-{epochs}.npz" for epochs in keep)):
            with contextlib.suppress(OSError):
                path.unlink()


def checkpoints_after(folder: Path, number: int, epochs: int) -> list[Path]:
    """Returns the checkpoints of a trial, of all its parts, after so many epochs."""
    return sorted((folder / FOLDER).glob(f"trial-{number}.*epoch-{epochs}.npz"))


def numbers_of_checkpoints(folder: Path) -> set[int]:
    """Returns the numbers of the trials that have checkpoints in a study's folder."""
    found = (_NUMBER.match(path.name) for path in (folder / FOLDER).glob("trial-*.npz"))
    return {int(each[1]) for each in found if each}


_NUMBER = re.compile(r"trial-(\d+)\.")


def checkpoints_size(folder: Path) -> int:
    """Returns how many bytes the checkpoints of a study take."""
    size = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(folder / FOLDER) as files:
        for file in files:
            with contextlib.suppress(FileNotFoundError):  # one that was removed meanwhile
                size += file.stat().st_size
    return size


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint that is there whole or not at all. Raises `OSError`."""
    import numpy as np

    path.parent.mkdir(exist_ok=True)
    plain = json.dumps({"epoch": checkpoint.epoch, **checkpoint.plain}).encode()
    arrays: dict[str, Any] = {**checkpoint.arrays, PLAIN: np.frombuffer(plain, np.uint8)}
    with whole(path) as draft, draft.open("wb") as file:
        np.savez(file, **arrays)


def read_checkpoint(path: Path) -> Checkpoint:
    """Returns what `write_checkpoint` wrote. Raises `CheckpointError` where that is not there, or not whole."""
    import numpy as np

    try:
        # Reading an array to its end also compares its checksum.
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        plain = json.loads(arrays.pop(PLAIN).tobytes())
        return Checkpoint(plain.pop("epoch"), arrays, plain)
    except FileNotFoundError:
        raise CheckpointError("it is missing") from None
    except Exception as error:
        raise CheckpointError(f"it is damaged: {error}") from error


# A model's variables


def put_model(checkpoint: Checkpoint, model: Any) -> None:
    """Takes a model's variables (weights, statistics, states of random layers) and those of its optimizer."""
    checkpoint.put("model", _values(model.variables))
    checkpoint.put("optimizer", _values(_optimizer_variables(model)))


def build_variables(model: Any, sample: Any) -> None:
    """Makes those variables of a compiled model and its optimizer that its first training step would make.

    Args:
        model: The model.
        sample: Something it can be called with, in case it is not built, or None.
    """
    if not model.built and sample is not None:
        model(sample)
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def give_model(checkpoint: Checkpoint, model: Any) -> None:
    """Gives a model that is built alike what `put_model` took. Raises `CheckpointError` where it is another model."""
    _assign(model.variables, checkpoint.group("model"), "the model")
    _assign(_optimizer_variables(model), checkpoint.group("optimizer"), "its optimizer")


def _optimizer_variables(model: Any) -> list[Any]:
    return [] if model.optimizer is None else list(model.optimizer.variables)


def _values(variables: Sequence[Any]) -> list[Array]:
    import numpy as np

    return [np.asarray(variable) for variable in variables]


def _assign(variables: Sequence[Any], arrays: Sequence[Array], owner: str) -> None:
    if [tuple(each.shape) for each in variables] != [each.shape for each in arrays]:
        raise CheckpointError(f"it is of another model: the variables of {owner} have other shapes")
    for variable, array in zip(variables, arrays, strict=True):
        # NumPy's files know bfloat16 only as two bytes.
        variable.assign(array.view(_values([variable])[0].dtype) if array.dtype.kind == "V" else array)


# Random states


def put_random_states(checkpoint: Checkpoint, keras: Any) -> None:
    """Takes the states of the generators that are not the model's own: Python's, NumPy's, Keras's and its backend's.

    What TensorFlow's stateful operations would draw next (``tf.random.normal``, without a generator) nobody can tell.
    """
    import numpy as np

    version, words, gauss = random.getstate()
    _, keys, *rest = np.random.get_state()
    checkpoint.arrays["random/python"] = np.array(words, np.uint32)
    checkpoint.arrays["random/numpy"] = np.asarray(keys)
    checkpoint.plain["random"] = {"python": [version, gauss], "numpy": rest}
    for name, generator in generators(keras).items():
        checkpoint.arrays[f"random/{name}"] = generator.read()


def give_random_states(checkpoint: Checkpoint, keras: Any) -> None:
    """Sets the generators to where they were."""
    import numpy as np

    if "random/keras" in checkpoint.arrays:
        keras.random.uniform(())  # which makes the generator of Keras's functions, if need be
    for name, generator in generators(keras).items():
        if f"random/{name}" in checkpoint.arrays:
            generator.write(checkpoint.arrays[f"random/{name}"])
    version, gauss = checkpoint.plain["random"]["python"]
    random.setstate((version, tuple(checkpoint.arrays["random/python"].tolist()), gauss))
    np.random.set_state(("MT19937", checkpoint.arrays["random/numpy"], *checkpoint.plain["random"]["numpy"]))


# The user's callbacks


def put_callbacks(checkpoint: Checkpoint, keras: Any, callbacks: Sequence[Any]) -> None:
    """Takes the attributes of callbacks, without those that are parts of models or have no pickle."""
    import numpy as np

    checkpoint.plain["callbacks"] = states = []
    for position, callback in enumerate(callbacks):
        plain = {}
        for name, value in vars(callback).items():
            if name in ("_model", "params"):
                continue
            if _is_plain(value):
                plain[name] = value
            elif (content := _pickled(keras, value)) is not None:
                checkpoint.arrays[f"callback/{position}/{name}"] = np.frombuffer(content, np.uint8)
        states.append({"class": type(callback).__qualname__, "plain": plain})


def give_callbacks(checkpoint: Checkpoint, callbacks: Sequence[Any]) -> None:
    """Sets the attributes of the callbacks that were there before, told by their place and class."""
    for position, (callback, state) in enumerate(zip(callbacks, checkpoint.plain["callbacks"], strict=False)):
        if type(callback).__qualname__ != state["class"]:
            continue
        values = dict(state["plain"])
        start = f"callback/{position}/"
        for name, content in checkpoint.arrays.items():
            if name.startswith(start):
                with contextlib.suppress(Exception):  # a class that is gone, say: this much begins anew
                    values[name.removeprefix(start)] = pickle.loads(content.tobytes())
        for name, value in values.items():
            with contextlib.suppress(AttributeError):
                setattr(callback, name, value)


def _is_plain(value: Any) -> bool:
    """Returns whether a value comes back from JSON the same."""
    if type(value) is list:
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(type(key) is str and _is_plain(each) for key, each in value.items())
    return value is None or type(value) in (bool, int, float, str)


def _pickled(keras: Any, value: Any) -> bytes | None:
    """Returns a value's pickle, or None for what has none or holds more than values."""
    import numpy as np

    # Parts of the model would come back as copies; arrays mapped from a file are data that are there anyway.
    foreign = (
        keras.Model,
        keras.Layer,
        keras.Variable,
        keras.optimizers.Optimizer,
        keras.callbacks.Callback,
        np.memmap,
    )

    class Pickler(pickle.Pickler):
        def persistent_id(self, each: Any) -> None:
            if isinstance(each, foreign):
                raise pickle.PicklingError

    content = io.BytesIO()
    try:
        Pickler(content, pickle.HIGHEST_PROTOCOL).dump(value)
    except Exception:
        return None
    return content.getvalue()
