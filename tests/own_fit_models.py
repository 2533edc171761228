"""Models whose `fit`, metrics, or way of being built is the user's own; named by tests as `own_fit_models.py:name`."""

from __future__ import annotations

import keras
import keras_tuner
import numpy as np
from keras import layers, ops

import hpcompss


def network(units, shape=(8, 8, 1), metrics=("accuracy",), rate=0.01):
    model = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(units, activation="relu")])
    model.add(layers.Dense(10, activation="softmax"))
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=list(metrics))
    return model


class Base(keras_tuner.HyperModel):
    def build(self, hp):
        return network(hp.Int("units", 4, 16, step=4))


# Which model is trained


class CrossValidated(Base):
    """KFold in fit, a new model for each, the mean returned."""

    def fit(self, hp, model, x, y, callbacks=None, validation_data=None, **kwargs):
        x, y, scores = np.asarray(x), np.asarray(y), []
        for part in (0, 1):
            fresh = self.build(hp)
            fresh.fit(x[part::2], y[part::2], **kwargs)
            scores.append(fresh.evaluate(x[1 - part :: 2], y[1 - part :: 2], verbose=0, return_dict=True)["accuracy"])
        return {"val_accuracy": float(np.mean(scores))}


class FirstFold(CrossValidated):
    """Trains the given model on the first fold, and a new one on the other."""

    def fit(self, hp, model, x, y, callbacks=None, validation_data=None, **kwargs):
        scores = []
        for part, each in enumerate((model, self.build(hp))):
            each.fit(x[part::2], y[part::2], **kwargs)
            scores.append(each.evaluate(x[1 - part :: 2], y[1 - part :: 2], verbose=0, return_dict=True)["accuracy"])
        return {"val_accuracy": float(np.mean(scores))}


class Another(Base):
    """Trains a model it makes itself, and returns its history."""

    def fit(self, hp, model, x, y, callbacks=None, **kwargs):
        return network(hp.get("units")).fit(x, y, **kwargs)


class Returned(Base):
    """Trains a smaller model than that of build, and returns it with or without its figures."""

    form = "pair"

    def fit(self, hp, model, x, y, validation_data=None, **kwargs):
        student = network(3)
        history = student.fit(x, y, validation_data=validation_data, **{**kwargs, "callbacks": []})
        figures = {name: values[-1] for name, values in history.history.items()}
        forms = {"model": student, "pair": (student, figures), "turned": (history, student), "three": (1, student, 2)}
        return forms[self.form]


class Wrapper(keras.Model):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x)


class Wrapped(Base):
    """Trains the model as a part of another."""

    def fit(self, hp, model, *args, **kwargs):
        around = Wrapper(model)
        around.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return around.fit(*args, **kwargs)


class Unmoved(Base):
    """Keras trains a model that learns nothing."""

    def fit(self, hp, model, *args, **kwargs):
        model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model.fit(*args, **kwargs)


# What a model is trained on


class Halved(hpcompss.HyperModel):
    """Takes every other pixel."""

    def build(self, hp):
        return network(hp.Int("units", 4, 16, step=4), shape=(32,))

    def fit(self, hp, model, x, y, validation_data=None, **kwargs):
        if validation_data is not None:
            kwargs["validation_data"] = halved(validation_data[0]), validation_data[1]
        return model.fit(halved(x), y, **kwargs)


class HalvedTested(Halved):
    def evaluate(self, hp, model, x, y):
        return model.evaluate(halved(x), y, verbose=0, return_dict=True)


def halved(images):
    return np.asarray(images).reshape(len(images), -1)[:, ::2]


class Scaled(Base):
    """Prepares the data without changing its shape, so that a test on the data as is would not fail."""

    def fit(self, hp, model, x, y, validation_data=None, **kwargs):
        if validation_data is not None:
            kwargs["validation_data"] = np.asarray(validation_data[0]) * 16 - 8, validation_data[1]
        return model.fit(np.asarray(x) * 16 - 8, y, **kwargs)


class ScaledTested(Scaled):
    def evaluate(self, hp, model, x, y):
        return model.evaluate(np.asarray(x) * 16 - 8, y, verbose=0)


class Augmented(Base):
    """Changes the training data alone."""

    def fit(self, hp, model, x, y, **kwargs):
        return model.fit(np.asarray(x) + 0.5, y, **kwargs)


class NeedsValidation(Base):
    def fit(self, hp, model, x, y, validation_data=None, **kwargs):
        if validation_data is None:
            raise ValueError("nothing to judge by")
        return model.fit(x, y, validation_data=validation_data, **kwargs)


class Shuffled(Base):
    """Gives Keras the same data as other arrays, in another order."""

    def fit(self, hp, model, x, y, validation_data=None, **kwargs):
        order = np.random.default_rng(0).permutation(len(x))
        if validation_data is not None:
            kwargs["validation_data"] = validation_data[0][::-1], validation_data[1][::-1].astype("float32")
        return model.fit(np.asarray(x)[order], np.asarray(y)[order], **kwargs)


def build_of_fixed_batches(hp):
    inputs = keras.Input(batch_shape=(20, 8, 8, 1))
    flat = ops.reshape(inputs, (20, 64))
    outputs = layers.Dense(10, activation="softmax")(layers.Dense(hp.Int("units", 4, 8))(flat))
    model = keras.Model(inputs, outputs)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


# What Keras cannot write or read by itself


class Count(keras.metrics.Metric):
    """How many samples were seen."""

    def __init__(self, name="count", **kwargs):
        super().__init__(name=name, **kwargs)
        self.total = self.add_weight(shape=(), initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign_add(ops.cast(ops.shape(y_true)[0], "float32"))

    def result(self):
        return self.total * 1


METRICS = [Count(), "accuracy"]


def build_with_shared_metrics(hp):
    """The same objects for each model."""
    return network(hp.Int("units", 4, 16, step=4), metrics=METRICS)


class FoldsWithSharedMetrics(hpcompss.HyperModel):
    """The same metric objects for the models of all folds."""

    def build(self, hp):
        return build_with_shared_metrics(hp)

    def fit(self, hp, model, x, y, callbacks=None, validation_data=None, **kwargs):
        counts = []
        for _ in range(2):
            fresh = self.build(hp)
            history = fresh.fit(x, y, **kwargs)
            other = self.build(hp)
            counts += [history.history["count"][0], other.evaluate(x, y, verbose=0, return_dict=True)["count"]]
        assert counts == [len(x)] * 4, counts
        return {"val_accuracy": 0.5}


BASE = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(8, activation="relu")])


def build_on_shared_base(hp):
    """Trains layers that the module holds, and that the next model is built on."""
    model = keras.Sequential([BASE, layers.Dense(hp.Int("units", 10, 20)), layers.Dense(10, activation="softmax")])
    model.compile(keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


class Net(keras.Model):
    """Has arguments and no get_config, and weights only once it was called."""

    def __init__(self, units):
        super().__init__()
        self.layers_of_it = [layers.Flatten(), layers.Dense(units, "relu"), layers.Dense(10, "softmax")]

    def call(self, x):
        for layer in self.layers_of_it:
            x = layer(x)
        return x


def hits(y_true, y_pred):
    labels = ops.cast(ops.reshape(y_true, (-1,)), "int64")
    return ops.mean(ops.cast(ops.equal(labels, ops.cast(ops.argmax(y_pred, -1), "int64")), "float32"))


def build_net(hp):
    model = Net(hp.Int("units", 4, 16, step=4))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=[hits])
    return model


class Gate(layers.Layer):
    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return x * self.factor


def build_with_own_objects(hp):
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), Gate(), layers.Dense(hp.Int("units", 10, 20))])
    model.add(layers.Dense(10, activation="softmax"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=[hits, Count()])
    return model


def smoothed(share):
    """Makes a loss that nothing but this call can make."""

    def loss(y_true, y_pred):
        return (1 - share) * keras.losses.sparse_categorical_crossentropy(y_true, y_pred)

    return loss


def build_with_made_loss(hp):
    model = network(hp.Int("units", 4, 16, step=4))
    model.compile("adam", smoothed(0.1), metrics=["accuracy"])
    return model


class Coder(keras.Model):
    """Trains and validates by its steps, and has no call."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.encoder = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(width)])
        self.decoder = keras.Sequential([keras.Input((width,)), layers.Dense(64), layers.Reshape((8, 8, 1))])
        self.total = keras.metrics.Mean(name="total")

    @property
    def metrics(self):
        return [self.total]

    def loss_of(self, data):
        x = data[0] if isinstance(data, tuple) else data
        return ops.mean(ops.square(x - self.decoder(self.encoder(x))))

    def train_step(self, data):
        import tensorflow

        with tensorflow.GradientTape() as tape:
            loss = self.loss_of(data)
        self.optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
        self.total.update_state(loss)
        return {"total": self.total.result()}

    def test_step(self, data):
        self.total.update_state(self.loss_of(data))
        return {"total": self.total.result()}


def build_coder(hp):
    model = Coder(hp.Int("width", 2, 6))
    model.compile("adam")
    return model


# Several inputs


def build_pair(hp):
    left, right = keras.Input((4,), name="left"), keras.Input((1,), dtype="int32", name="right")
    joined = layers.Concatenate()([left, layers.Flatten()(layers.Embedding(3, 2)(right))])
    outputs = layers.Dense(1)(layers.Dense(hp.Int("units", 4, 8))(joined))
    model = keras.Model({"left": left, "right": right}, outputs)
    model.compile("adam", "mse", metrics=["mae"])
    return model


def data_without_test():
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 120)
    return {"x_train": random.random((120, 8, 8, 1)) + labels[:, None, None, None], "y_train": labels}
