"""What the tests of Keras trials share: Keras itself, imported once, and small jobs on the digits images."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import pytest

from hpcompss.training.data import DataSpecification
from hpcompss.training.job import Job

MODELS = Path(__file__).with_name("keras_models.py")


def make_job(model: Any = "build", **settings: Any) -> Job:
    """A job of one epoch on 80 images, for a model of `keras_models.py` or a Python object."""
    reference = f"{MODELS}:{model}" if isinstance(model, str) else model
    data = DataSpecification(name="digits", train=120, validation=40)
    return Job(reference, data, **{"metric": "val_accuracy", "direction": "maximize", "epochs": 1, **settings})


@pytest.fixture(scope="session")
def keras_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the digits are kept, decoded once."""
    return tmp_path_factory.mktemp("keras-cache")


@pytest.fixture
def keras(keras_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Keras with one thread, and the cache of these tests."""
    monkeypatch.setenv("HPCOMPSS_CACHE", str(keras_cache))
    monkeypatch.setenv("HPCOMPSS_THREADS", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from hpcompss.training.fitting import _import_keras

        return _import_keras()


@pytest.fixture
def fit_epochs(keras: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ``epochs`` that each call of Keras's ``fit`` was given."""
    epochs: list[int] = []
    fit = keras.Model.fit

    @functools.wraps(fit)
    def noting(*args: Any, **kwargs: Any) -> Any:
        epochs.append(kwargs["epochs"])
        return fit(*args, **kwargs)

    monkeypatch.setattr(keras.Model, "fit", noting)
    return epochs
