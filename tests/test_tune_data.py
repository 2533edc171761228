"""Data passed to `hpcompss.tune` in Python, from end to end."""

from __future__ import annotations

import numpy as np
import pandas
import pytest

import hpcompss
from hpcompss.engines import Local
from hpcompss.errors import InputError
from hpcompss.loop import View
from hpcompss.tasks.train import train
from hpcompss.training.data.specification import DataSpecification, PickledFunction
from hpcompss.training.job import Job
from hpcompss.trial import FailureKind
from tests.keras_jobs import keras_cache

__all__ = ["keras_cache"]

X = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
Y = (X[:, :1] > 0).astype(np.uint8)


@pytest.fixture(scope="module")
def engine(keras_cache):
    with pytest.MonkeyPatch.context() as environment, Local(workers=1, cores=1, preload=["keras"]) as local:
        environment.setenv("HPCOMPSS_CACHE", str(keras_cache))
        yield local


@pytest.fixture
def tune(engine, tmp_path):
    def run(model, data, **settings):
        settings = {"objective": "val_loss", "search": {"trials": 1, "sampler": "random"}, **settings}
        return hpcompss.tune(
            model=model,
            data=data,
            training={"epochs": 1},
            study=tmp_path / "study",
            engine=engine,
            view=View(),
            **settings,
        )

    return run


def build(hp):
    import keras

    inputs = keras.Input((2,), name="table")
    outputs = keras.layers.Dense(1, "sigmoid")(keras.layers.Dense(hp.Int("units", 2, 4))(inputs))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "binary_crossentropy", weighted_metrics=["accuracy"])
    return model


def test_arrays_with_validation_and_test_data(tune):
    study = tune(build, (X, Y, np.ones(40)), validation_data=(X[:8], Y[:8]), test_data=(X[:8], Y[:8]))
    assert study.test["metrics"]["loss"] == pytest.approx(study.best.value, abs=1e-6)


def test_a_frame_in_a_dict_of_inputs(tune):
    data = {"x_train": {"table": pandas.DataFrame(X)}, "y_train": pandas.Series(Y[:, 0]), "validation": 8}
    assert tune(build, data).best is not None


def test_a_function_of_streams(tune):
    def make():
        import tensorflow

        return tuple(tensorflow.data.Dataset.from_tensor_slices((X, Y)).batch(8) for _ in range(2))

    assert tune(build, make).best is not None


def test_a_stream_that_cannot_be_sent(tune):
    tensorflow = pytest.importorskip("tensorflow")
    with pytest.raises(InputError, match="data of the class _BatchDataset cannot be sent to workers: pass a function"):
        tune(build, tensorflow.data.Dataset.from_tensor_slices((X, Y)).batch(8))


def test_an_unknown_key_of_the_split(tune):
    with pytest.raises(InputError, match=r"data.validation.sharee: unknown key 'sharee'; did you mean 'share'\?$"):
        tune(build, {"x_train": X, "y_train": Y, "validation": {"sharee": 0.2}})


def failing():
    raise KeyError("no folder")


def test_a_function_of_callbacks_that_raises_is_named(tune):
    with pytest.raises(
        InputError, match=r"the function failing, which makes callbacks, raised KeyError: .*test_tune_data.py:\d+\)$"
    ):
        tune(build, (X, Y), callbacks=[failing])


def unbuilt(hp):
    import keras

    model = keras.Sequential([keras.layers.Dense(hp.Int("units", 2, 4)), keras.layers.Dense(1, "sigmoid")])
    model.compile("sgd", "binary_crossentropy")
    return model


def function_of_streams():
    import tensorflow

    return tuple(tensorflow.data.Dataset.from_tensor_slices((X, Y)).batch(8) for _ in range(2))


def function_of_a_frame():
    return {"x_train": pandas.DataFrame(X), "y_train": Y, "validation": (X[:8], Y[:8])}


@pytest.mark.parametrize("function", [function_of_streams, function_of_a_frame])
def test_the_parameters_of_an_unbuilt_model_are_limited(function, keras_cache, monkeypatch):
    monkeypatch.setenv("HPCOMPSS_CACHE", str(keras_cache))
    data = DataSpecification(function=PickledFunction.of(function), run="one")
    job = Job(model=unbuilt, data=data, metric="loss", direction="minimize", epochs=1, max_parameters=3)
    failure = train(job, 0, {"units": 2}, None, None).failure
    assert failure.kind is FailureKind.INFEASIBLE, failure.traceback


def test_resuming_with_the_same_data_and_with_other(tune, tmp_path, engine):
    tune(build, (X, Y))
    with pytest.raises(InputError, match=r"the data passed is not that of the study in .*: pass the same, or begin"):
        hpcompss.resume(tmp_path / "study", trials=2, model=build, data=(X + 1, Y), engine=engine, view=View())
    study = hpcompss.resume(tmp_path / "study", trials=2, model=build, data=(X, Y), engine=engine, view=View())
    assert len(study.trials) == 2


def test_resuming_a_study_of_streams_asks_for_them(tune, tmp_path, engine):
    import keras

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return X[:8], Y[:8]

    tune(build, Batches(), validation_data=(X[:8], Y[:8]))
    with pytest.raises(InputError, match=r"begun in Python with streams: go on there with .*, data=\.\.\.\)"):
        hpcompss.resume(tmp_path / "study", trials=2, model=build, engine=engine, view=View())
