"""Models as files: a whole ``.keras`` file where Keras can read it back, else weights for what the user's code builds.

Beside the model a file holds, as JSON, what is needed to use it: what the model was called with, say.
"""

from __future__ import annotations

import contextlib
import json
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcompss.drafts import whole
from hpcompss.errors import InputError
from hpcompss.space.tracing import HyperParameters
from hpcompss.training.hypermodel import ModelBuilder
from hpcompss.training.user_objects import user_objects
from hpcompss.trial import Configuration, Failure

__all__ = [
    "KERAS",
    "WEIGHTS",
    "About",
    "example_inputs",
    "existing",
    "load_model",
    "move_model",
    "read_about",
    "remove_model",
    "reset_metrics",
    "save_model",
    "sibling",
    "why_unsaved",
]

KERAS, WEIGHTS = ".keras", ".weights.h5"
"""How the files of models end: whole ones, and those of weights alone."""

ABOUT = "hpcompss.json"
"""The name of what a file holds beside the model."""


@dataclass(frozen=True)
class About:
    """What a file says of its model.

    Attributes:
        inputs: What the model was called with in training, see `evidence.input_specification`, or None.
        prepared: Whether ``fit`` prepared the data, so that the model alone cannot be scored on the test set.
        has_test: Whether there is a test set.
    """

    inputs: Any = None
    prepared: bool = False
    has_test: bool = True


# Paths


def sibling(path: Path) -> Path:
    """Returns where the weights alone of the model of a ``.keras`` file are."""
    return path.with_name(path.name.removesuffix(KERAS) + WEIGHTS)


def existing(path: Path) -> Path | None:
    """Returns the file of a model, given the path of its ``.keras`` file: that, its weights, or None."""
    return next((each for each in (path, sibling(path)) if each.exists()), None)


def remove_model(path: Path) -> None:
    """Removes the file of a model, given the path of its ``.keras`` file."""
    for each in (path, sibling(path)):
        each.unlink(missing_ok=True)


def move_model(path: Path, target: Path) -> bool:
    """Moves the file of a model, given the paths of ``.keras`` files; returns whether there was one."""
    found = existing(path)
    if found is None:
        return False
    found.replace(target if found == path else sibling(target))
    return True


# To a file


def save_model(
    keras: Any,
    hypermodel: ModelBuilder,
    model: Any,
    path: Path,
    configuration: Configuration | None,
    about: About = About(),
) -> str:
    """Writes a model to a file that is there whole or not at all, and returns what the user should know of that.

    Args:
        keras: The module.
        hypermodel: The user's model family, which builds a model of weights alone.
        model: The model.
        path: The ``.keras`` file. The weights are put beside it, and replace it, where Keras cannot read it back.
        configuration: What builds such a model; None where nothing does, and the weights alone are of no use.
        about: What the file is to say of it.

    Raises:
        OSError: The file cannot be written.
        Exception: Neither the model nor its weights could be read back.
    """
    path.parent.mkdir(exist_ok=True)
    try:
        with _writing(path) as draft:
            with _quiet():
                model.save(draft)
            note = _check_readable(keras, model, draft, user_objects(hypermodel)) if _has_own_objects(draft) else ""
            with zipfile.ZipFile(draft, "a") as file:
                file.writestr(ABOUT, json.dumps(asdict(about)))
        sibling(path).unlink(missing_ok=True)
        return note
    except OSError:
        raise
    except Exception as error:
        if configuration is None:
            raise
        reason = why_unsaved(error)
    target = sibling(path)
    with _writing(target) as draft:
        _write_weights(model, draft, about)
        _check_same(model, _rebuilt(keras, hypermodel, draft, configuration))
    path.unlink(missing_ok=True)
    return (
        f"its weights alone are kept, since Keras cannot write the whole model and read it back ({reason}): "
        "Study.best_model() builds it and loads them"
    )


def _check_readable(keras: Any, model: Any, path: Path, objects: Mapping[str, Any]) -> str:
    """Raises what keeps a file from giving the model back; returns what keeps it from being compiled."""
    try:
        _check_same(model, _read_keras(keras, path, objects))
    except Exception as error:
        _check_same(model, _read_keras(keras, path, objects, compile=False))
        return (
            f"keras.saving.load_model reads its file with compile=False alone ({why_unsaved(error)}): "
            "Study.best_model() gives it compiled"
        )
    return ""


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """Gives a draft of a file, whose name ends as Keras demands it."""
    if not path.name.endswith(WEIGHTS):
        with whole(path) as draft:
            yield draft
        return
    with whole(path) as draft:
        named = draft.with_name(draft.name.removesuffix(".h5") + WEIGHTS)
        try:
            yield named
            named.replace(draft)
        finally:
            named.unlink(missing_ok=True)


def _write_weights(model: Any, path: Path, about: About) -> None:
    import h5py

    with _built(model):
        model.save_weights(path)
    with h5py.File(path, "a") as file:
        file.attrs[ABOUT] = json.dumps(asdict(about))


def _has_own_objects(path: Path) -> bool:
    """Returns whether a ``.keras`` file names anything that is not Keras's own."""

    def own(config: Any) -> bool:
        if isinstance(config, list):
            return any(map(own, config))
        if not isinstance(config, dict):
            return False
        if "class_name" in config and "config" in config and config["class_name"] not in PLAIN_CLASSES:
            package = (config.get("module") or "").partition(".")[0]
            # Keras's own functions are plain strings, unless they were given as objects.
            function = config["class_name"] == "function" and _is_builtin(str(config["config"]))
            if package != "keras" and not function:
                return True
        return any(map(own, config.values()))

    return own(_config_of(path))


PLAIN_CLASSES = ("__tuple__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__typespec__")
"""What stands for plain values in the configuration of a model."""


def _config_of(path: Path) -> Any:
    with zipfile.ZipFile(path) as file:
        return json.loads(file.read("config.json"))


def _is_builtin(name: str) -> bool:
    """Returns whether Keras has a function of this name, for activations, losses or metrics."""
    import keras

    return any(hasattr(module, name) for module in (keras.activations, keras.losses, keras.metrics))


def _check_same(model: Any, again: Any) -> None:
    """Raises `ValueError` where a model that was read back has other weights."""
    import numpy as np

    ours, theirs = model.get_weights(), again.get_weights()
    if [each.shape for each in ours] != [each.shape for each in theirs]:
        raise ValueError(f"it has {len(ours)} weights and comes back with {len(theirs)}, or with others")
    if not all(np.array_equal(each, other, equal_nan=True) for each, other in zip(ours, theirs, strict=True)):
        raise ValueError("it comes back with other weights")


# From a file


def load_model(keras: Any, hypermodel: ModelBuilder, path: Path, configuration: Configuration | None) -> Any:
    """Returns the model of a file.

    Args:
        keras: The module.
        hypermodel: The user's model family, whose module has the classes and functions that the file names.
        path: The file: a whole model, or weights, which a model is built for.
        configuration: What to build it by; None where nothing builds it.

    Raises:
        InputError: The file does not give a model.
    """
    objects = user_objects(hypermodel)
    whole_file = path.name.endswith(KERAS)
    first: Exception | None = None
    model = None
    if whole_file and (configuration is None or not _is_ambiguous(path, objects)):
        try:
            model = _read_keras(keras, path, objects)
        except Exception as error:
            first = error
    if configuration is not None and (model is None or not model.compiled):
        try:
            model = _rebuilt(keras, hypermodel, path, configuration)
        except Exception as error:
            first = first or error
    if model is None and whole_file:
        with contextlib.suppress(Exception):
            model = _read_keras(keras, path, objects, compile=False)
    if model is None:
        raise InputError(f"{path} does not give a model: {why_unsaved(first)}") from first
    return model


def _is_ambiguous(path: Path, objects: Mapping[str, Any]) -> bool:
    """Returns whether the user's code has a function of the name of one of Keras's that the file names."""
    rivals = [name for name in objects if _is_builtin(name)]
    text = json.dumps(_config_of(path)) if rivals else ""
    return any(json.dumps(name) in text for name in rivals)


def _read_keras(keras: Any, path: Path, objects: Mapping[str, Any], compile: bool = True) -> Any:
    with _quiet():
        # The user's own code wrote it, and runs in this process anyway: so a lambda is no danger.
        model = keras.saving.load_model(path, custom_objects=dict(objects), safe_mode=False, compile=compile)
    reset_metrics(keras, model)
    return model


def _rebuilt(keras: Any, hypermodel: ModelBuilder, path: Path, configuration: Configuration) -> Any:
    """Returns the model that the user's code builds, with the weights of a file."""
    model = hypermodel.build(HyperParameters(configuration))
    about = read_about(path)
    if not _is_built(model) and about.inputs is not None:
        model(example_inputs(keras, about.inputs))
    with _quiet(), _built(model):
        model.load_weights(path)
    reset_metrics(keras, model)
    return model


def read_about(path: Path) -> About:
    """Returns what a file says of its model; what it would say of any where it says nothing."""
    text: Any = None
    with contextlib.suppress(KeyError, OSError, ValueError, zipfile.BadZipFile):
        if path.name.endswith(KERAS):
            with zipfile.ZipFile(path) as file:
                text = file.read(ABOUT)
        else:
            import h5py

            with h5py.File(path) as file:
                text = file.attrs[ABOUT]
    return About(**json.loads(text)) if text else About()


def example_inputs(keras: Any, specification: Any, rows: int = 1) -> Any:
    """Returns zeros, or empty texts, of the shapes and types of a specification."""
    import numpy as np

    def is_leaf(value: Any) -> bool:
        return isinstance(value, dict) and set(value) == {"shape", "dtype"} and isinstance(value["dtype"], str)

    def example(value: Any) -> Any:
        if is_leaf(value):
            shape = [rows, *(side or 1 for side in value["shape"][1:])]
            if value["dtype"] == "string":
                return keras.ops.convert_to_tensor(np.full(shape, "", object), dtype="string")
            return keras.ops.convert_to_tensor(np.zeros(shape), dtype=value["dtype"])
        if isinstance(value, dict):
            return {key: example(each) for key, each in value.items()}
        return [example(each) for each in value]

    return example(specification)


def reset_metrics(keras: Any, model: Any) -> None:
    """Sets back all metrics of a model, those too that Keras has not looked at yet: their objects may be shared."""
    model.reset_metrics()
    compiled = getattr(model, "_compile_metrics", None)
    given = [getattr(compiled, name, None) for name in ("_user_metrics", "_user_weighted_metrics")]
    for metric in keras.tree.flatten(given):
        if isinstance(metric, keras.Metric):
            # One that makes its variables at its first use has nothing to set back before.
            with contextlib.suppress(AttributeError):
                metric.reset_state()


def _is_built(model: Any) -> bool:
    """Returns whether a model has all its weights. One without ``call`` is never marked as built."""
    layers = model._flatten_layers(include_self=False)
    return model.built or (bool(model.weights) and all(each.built for each in layers))


@contextlib.contextmanager
def _built(model: Any) -> Iterator[None]:
    """Marks a model as built, as far as it is, for Keras reads and writes weights of such alone."""
    marked = model.built
    if not _is_built(model):
        raise InputError("it has no weights before it is called: call it, or build it, in build(hp)")
    model.built = True
    try:
        yield
    finally:
        model.built = marked


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leaves out Keras's warnings: that an optimizer's state does not fit, or that no call has built a model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def why_unsaved(error: BaseException | None) -> str:
    """Returns why a model cannot be saved as a file of its own, in a few words."""
    if error is None:
        return "it is unknown what builds it"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, NotImplementedError) and "get_config" in str(error):
        name = next((line.split()[1] for line in lines if line.startswith("Object ")), "a part of it")
        return f"{name} has no get_config()"
    return Failure.of(error).reason.partition(". ")[0]
