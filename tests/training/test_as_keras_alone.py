"""A study of one trial gives the figures of Keras alone, with the same seed and data, for every form of data."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcompss.space.tracing import HyperParameters
from hpcompss.tasks.train import train
from hpcompss.training import feeding
from hpcompss.training.data import DataSpecification, load_data
from hpcompss.training.job import Job

ROWS, BATCH = 60, 16


def table(kind: Any = "float32") -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    x = random.normal(size=(ROWS, 4)).astype(kind)
    return x, (x[:, :1] - x[:, 1:2] > 0).astype("int32")


def split(x: Any, y: Any, *weights: Any) -> dict[str, Any]:
    """The last third is for validation."""
    end = 2 * ROWS // 3
    return {
        "train": (x[:end], y[:end], *(w[:end] for w in weights)),
        "validation": (x[end:], y[end:], *(w[end:] for w in weights)),
    }


# The data, each as a user's function returns it


def column_of_int32() -> Any:
    return split(*table())


def float64() -> Any:
    return split(*table("float64"))


def weights() -> Any:
    x, y = table()
    return split(x, y, np.where(y[:, 0], 5.0, 1.0))


def one_hot() -> Any:
    x, y = table()
    return split(x, np.eye(2, dtype="uint8")[y[:, 0]])


def several(x: Any, y: Any) -> tuple[Any, Any]:
    return {"left": x[:, :2], "right": x[:, 2:]}, {"kind": y, "size": x.sum(1, keepdims=True)}


def dictionaries() -> Any:
    x, y = table()
    end = 2 * ROWS // 3
    return {"train": several(x[:end], y[:end]), "validation": several(x[end:], y[end:])}


def lists() -> Any:
    return {name: (list(part[0].values()), list(part[1].values())) for name, part in dictionaries().items()}


def pandas_frame() -> Any:
    import pandas

    x, y = table()
    frame = pandas.DataFrame(x, columns=list("abcd"))
    return split(frame, pandas.Series(y[:, 0], name="kind"))


def mixed_frame() -> Any:
    import pandas

    x, y = table()
    frame = pandas.DataFrame(x, columns=list("abcd")).assign(a=np.arange(ROWS) % 3)
    return split(frame, pandas.DataFrame(y, columns=["kind"]))


def polars_frame() -> Any:
    import polars

    x, y = table()
    return split(polars.DataFrame(x, schema=list("abcd")), polars.Series("kind", y[:, 0]))


def words() -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    y = random.integers(0, 2, ROWS)
    x = np.array([" ".join([*random.choice(["the", "film"], 3), "good" if each else "bad"]) for each in y])
    return x, y


def text() -> Any:
    return split(*words())


def text_objects() -> Any:
    x, y = words()
    return split(x.astype(object)[:, None], y)


def sparse() -> Any:
    import scipy.sparse

    x, y = table()
    return split(scipy.sparse.csr_matrix(np.maximum(x, 0)), y)


def tensors() -> Any:
    import tensorflow

    return split(*map(tensorflow.constant, table()))


def tf_data() -> Any:
    import tensorflow

    slices = tensorflow.data.Dataset.from_tensor_slices
    parts = split(*table())
    return slices(parts["train"]).shuffle(40).batch(BATCH), slices(parts["validation"]).batch(BATCH)


def py_dataset() -> Any:
    import keras

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        def __init__(self, part: Any) -> None:
            super().__init__()
            self.part = part

        def __len__(self) -> int:
            return -(-len(self.part[0]) // BATCH)

        def __getitem__(self, number: int) -> Any:
            rows = slice(number * BATCH, (number + 1) * BATCH)
            return tuple(each[rows] for each in self.part)

    return {name: Batches(part) for name, part in split(*table()).items()}


def data_loader() -> Any:
    torch = pytest.importorskip("torch")
    parts = split(*table())
    tensor_sets = {name: torch.utils.data.TensorDataset(*map(torch.from_numpy, part)) for name, part in parts.items()}
    return {name: torch.utils.data.DataLoader(each, batch_size=BATCH) for name, each in tensor_sets.items()}


# The models


def finish(keras: Any, inputs: Any, features: Any) -> Any:
    outputs = keras.layers.Dense(1, activation="sigmoid")(keras.layers.Dropout(0.2)(features))
    model = keras.Model(inputs, outputs)
    model.compile("adam", "binary_crossentropy", metrics=["accuracy", keras.metrics.AUC(name="auc")])
    return model


def plain(hp: Any) -> Any:
    import keras

    inputs = keras.Input((4,))
    return finish(keras, inputs, keras.layers.Dense(hp.Int("units", 4, 8), activation="relu")(inputs))


def categorical(hp: Any) -> Any:
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
    model.compile(hp.Choice("optimizer", ["adam"]), "categorical_crossentropy", metrics=["accuracy"])
    return model


def branches(hp: Any) -> Any:
    import keras

    inputs = {name: keras.Input((2,), name=name) for name in ("left", "right")}
    both = keras.layers.concatenate(list(inputs.values()))
    outputs = {
        "kind": keras.layers.Dense(1, activation="sigmoid", name="kind")(both),
        "size": keras.layers.Dense(1, name="size")(both),
    }
    as_lists = hp.Choice("as", ["dicts", "lists"]) == "lists"
    model = keras.Model(list(inputs.values()) if as_lists else inputs, list(outputs.values()) if as_lists else outputs)
    losses = {"kind": "binary_crossentropy", "size": "mse"}
    model.compile(
        "adam",
        list(losses.values()) if as_lists else losses,
        metrics=[["accuracy"], ["mae"]] if as_lists else {"kind": ["accuracy"], "size": ["mae"]},
    )
    return model


def reader(hp: Any) -> Any:
    import keras

    vectorize = keras.layers.TextVectorization(hp.Int("tokens", 8, 9), output_sequence_length=4)
    vectorize.adapt(words()[0])
    inputs = keras.Input((1,), dtype="string")
    embedded = keras.layers.Embedding(9, 4)(vectorize(inputs))
    return finish(keras, inputs, keras.layers.GlobalAveragePooling1D()(embedded))


def unsupervised(hp: Any) -> Any:
    """Trains by its own step, on features alone."""
    import keras

    class Encoder(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(4)
            self.total = keras.metrics.Mean(name="total_loss")

        @property
        def metrics(self) -> Any:
            return [self.total]

        def train_step(self, data: Any) -> Any:
            import tensorflow

            x = data[0] if isinstance(data, tuple) else data
            with tensorflow.GradientTape() as tape:
                loss = keras.ops.mean(keras.ops.square(self.dense(x) - x))
            self.optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
            self.total.update_state(loss)
            return {"total_loss": self.total.result()}

    model = Encoder()
    model.dense.build((None, 4))
    model.compile(keras.optimizers.Adam(hp.Float("rate", 0.01, 0.02)))
    return model


def alone(keras: Any, job: Job, build: Callable[[Any], Any], configuration: Any, function: Callable[[], Any]) -> Any:
    """The curves of Keras alone."""
    keras.utils.set_random_seed(job.seed_of(0))
    parts = function()
    training, validation = parts if isinstance(parts, tuple) else (parts["train"], parts.get("validation"))
    training = training if isinstance(training, tuple) else (training,)
    model = build(HyperParameters(configuration))
    if build is reader:  # Keras takes text as tensors alone
        import tensorflow

        (x, y), (x_val, y_val) = training, validation
        training, validation = (tensorflow.constant(x), y), (tensorflow.constant(x_val), y_val)
    names = dict(zip(("x", "y", "sample_weight"), training, strict=False))
    options: dict[str, Any] = {} if job.batch_size is None else {"batch_size": job.batch_size}
    if function in (tf_data, data_loader):
        options["shuffle"] = False  # the stream decides that, and Keras warns where it is not said
    return model.fit(**names, validation_data=validation, epochs=job.epochs, verbose=0, **options).history


@pytest.mark.parametrize(
    ("function", "build", "configuration", "metric"),
    [
        (column_of_int32, plain, {"units": 5}, "val_auc"),
        (float64, plain, {"units": 5}, "val_loss"),
        (weights, plain, {"units": 5}, "val_loss"),
        (one_hot, categorical, {"optimizer": "adam"}, "val_accuracy"),
        (dictionaries, branches, {"as": "dicts"}, "val_kind_accuracy"),
        (lists, branches, {"as": "lists"}, "val_loss"),
        (pandas_frame, plain, {"units": 5}, "val_loss"),
        (mixed_frame, plain, {"units": 5}, "val_loss"),
        (polars_frame, plain, {"units": 5}, "val_loss"),
        (text, reader, {"tokens": 8}, "val_accuracy"),
        (text_objects, reader, {"tokens": 8}, "val_accuracy"),
        (sparse, plain, {"units": 5}, "val_loss"),
        (tensors, plain, {"units": 5}, "val_loss"),
        (tf_data, plain, {"units": 5}, "val_loss"),
        (py_dataset, plain, {"units": 5}, "val_loss"),
        (data_loader, plain, {"units": 5}, "val_loss"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_trial_has_the_figures_of_keras_alone(
    keras: Any, function: Any, build: Any, configuration: Any, metric: str
) -> None:
    stream = function in (tf_data, py_dataset, data_loader)
    direction = "minimize" if "loss" in metric else "maximize"
    job = Job(build, DataSpecification(function=function, run="1"), metric, direction, epochs=3, seed=7)
    job = dataclasses.replace(job, batch_size=None if stream else BATCH)
    expected = alone(keras, job, build, configuration, function)
    result = train(job, 0, configuration, None, None)
    assert result.failure is None, result.failure
    assert result.curves.keys() == expected.keys()
    for name, curve in expected.items():
        assert result.curves[name] == pytest.approx(curve, abs=1e-6), name


def features_alone() -> Any:
    return {"train": table()[0]}


def test_a_model_that_has_neither_targets_nor_validation(keras: Any) -> None:
    data = DataSpecification(function=features_alone, run="1", validation="none")
    job = Job(unsupervised, data, "total_loss", "minimize", epochs=3, seed=7, batch_size=BATCH)
    expected = alone(keras, job, unsupervised, {"rate": 0.01}, features_alone)
    result = train(job, 0, {"rate": 0.01}, None, None)
    assert result.failure is None and result.value == pytest.approx(min(expected["total_loss"]), abs=1e-6)


def test_large_arrays_are_read_by_batch_in_the_order_of_keras(
    keras: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = Job(plain, DataSpecification(function=weights, run="1"), "val_loss", "minimize", epochs=3, seed=7)
    job = dataclasses.replace(job, batch_size=BATCH)
    expected = alone(keras, job, plain, {"units": 5}, weights)
    seen: list[str] = []
    fit = keras.Model.fit

    @functools.wraps(fit)
    def noting(model: Any, x: Any, *args: Any, **rest: Any) -> Any:
        seen.append(type(x).__name__)
        return fit(model, x, *args, **rest)

    monkeypatch.setattr(keras.Model, "fit", noting)
    monkeypatch.setattr(feeding, "LARGE", 0)
    result = train(job, 0, {"units": 5}, None, None)
    assert "Dataset" in seen[0]
    for name, curve in expected.items():
        assert result.curves[name] == pytest.approx(curve, abs=1e-6), name


def generated() -> Any:
    def batches() -> Any:
        x, y = table()
        for begin in range(0, 40, 10):
            yield x[begin : begin + 10], y[begin : begin + 10]

    return {"train": batches, "validation": (table()[0][40:], table()[1][40:])}


@pytest.mark.parametrize(("steps", "count"), [(None, 4), (4, 4), (9, 9)])
def test_a_generator_begins_anew_when_it_ends(keras: Any, steps: int | None, count: int) -> None:
    job = Job(plain, DataSpecification(function=generated, run="1"), "val_loss", "minimize", epochs=3)
    job = dataclasses.replace(job, fit={} if steps is None else {"steps_per_epoch": steps})
    batches: list[int] = []
    counting = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: batches.append(batch))
    result = train(dataclasses.replace(job, callbacks=(lambda: counting,)), 0, {"units": 5}, None, None)
    assert result.failure is None and batches == 3 * list(range(count))


def test_a_stream_that_ends_within_an_epoch_fails_the_trial(keras: Any) -> None:
    job = Job(plain, DataSpecification(function=tf_data, run="1"), "val_loss", "minimize", epochs=3)
    result = train(dataclasses.replace(job, fit={"steps_per_epoch": 9}), 0, {"units": 5}, None, None)
    assert result.failure is not None and "the data ended within an epoch of 9 batches" in result.failure.reason


def several_features_alone() -> Any:
    x = table()[0]
    return {"train": ([x[:, :2], x[:, 2:]],)}


def test_large_features_without_targets_stay_features(keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of two inputs is not an input and its targets."""
    monkeypatch.setattr(feeding, "LARGE", 0)
    data = load_data(DataSpecification(function=several_features_alone, run="1", validation="none"))
    arguments = {"x": data.train.x, "y": None, "batch_size": BATCH, "shuffle": False}
    feeding.feed(keras, arguments)
    (batch,) = next(iter(arguments["x"]))
    assert [each.shape for each in batch] == [(BATCH, 2)] * 2
    np.testing.assert_array_equal(batch[1], table()[0][:BATCH, 2:])
