"""Small Keras models as a user writes them, for the digits images; named by tests as `keras_models.py:name`."""

from __future__ import annotations

import os
import signal
import time

import keras
import keras_tuner
import numpy as np
from keras import layers

import hpcompss


def network(units=8, rate=0.01, metrics=("accuracy",)):
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(units, activation="relu")])
    model.add(layers.Dense(10, activation="softmax"))
    if metrics is not None:
        optimizer = keras.optimizers.Adam(rate)
        model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=list(metrics))
    return model


def build(hp):
    return network(hp.Int("units", 4, 16, step=4), hp.Float("rate", 1e-3, 1e-1, sampling="log"))


def build_unbuilt(hp):
    """Has no input layer, so it has parameters only once it was called."""
    model = keras.Sequential([layers.Flatten(), layers.Dense(hp.Int("units", 4, 16, step=4), activation="relu")])
    model.add(layers.Dense(10, activation="softmax"))
    model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def build_named(hp):
    layer_list = [keras.Input((8, 8, 1)), layers.Flatten(), layers.Rescaling(1 / 255)]
    layer_list += [layers.Dense(hp.Int("units", 4, 16), activation="relu"), layers.Dense(10, activation="softmax")]
    model = keras.Sequential(layer_list, name="network")
    model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


# KerasTuner's own classes


class Tuned(keras_tuner.HyperModel):
    def build(self, hp):
        return network(hp.Int("units", 4, 16, step=4))

    def fit(self, hp, model, *args, **kwargs):
        if hp.Choice("optimizer", ["adam", "sgd"]) == "sgd":
            hp.Float("momentum", 0.0, 0.9)
        return model.fit(*args, batch_size=hp.Choice("batch_size", [20, 40]), **kwargs)


tuned = Tuned(name="an instance")
untunable = Tuned(tunable=False)


class Wrapped(keras_tuner.HyperModel):
    """Builds with another, whose hyper-parameters do not vary."""

    def build(self, hp):
        hp.Choice("activation", ["relu", "tanh"])
        return untunable.build(hp)


class FailsOnAll(hpcompss.HyperModel):
    """Raises where it is given the training and the validation data together."""

    def build(self, hp):
        return build(hp)

    def fit(self, hp, model, x, y, **kwargs):
        if len(x) == 200:
            raise ValueError("too many")
        return model.fit(x, y, **kwargs)


class OwnLoop(keras_tuner.HyperModel):
    """KerasTuner's guide to training loops of one's own: not compiled, and the objective comes back as a number."""

    def build(self, hp):
        return network(hp.Int("units", 4, 8), metrics=None)

    def fit(self, hp, model, x, y, validation_data, callbacks=None, **kwargs):
        import tensorflow

        optimizer = keras.optimizers.SGD(hp.Float("rate", 1e-3, 1e-1, sampling="log"))
        loss_of = keras.losses.SparseCategoricalCrossentropy()
        for callback in callbacks:
            callback.set_model(model)
        best = float("inf")
        for epoch in range(2):
            with tensorflow.GradientTape() as tape:
                loss = loss_of(y, model(x, training=True))
            optimizer.apply(tape.gradient(loss, model.trainable_weights), model.trainable_weights)
            loss = float(loss_of(validation_data[1], model(validation_data[0])))
            for callback in callbacks:
                callback.on_epoch_end(epoch, logs={"my_loss": loss})
            best = min(best, loss)
        return best


# This package's own class


class Scripted(hpcompss.HyperModel):
    """Reports what a test says, without any training: a list of each epoch's metrics, and what `fit` returns."""

    epochs: list = []  # noqa: RUF012
    outcome: object = None
    passes_callbacks_on = True

    def build(self, hp):
        hp.Int("units", 4, 8)
        return network(4)

    def fit(self, hp, model, *args, callbacks, **kwargs):
        for epoch, logs in enumerate(self.epochs):
            model.set_weights([np.full_like(each, epoch + 1) for each in model.get_weights()])
            for callback in callbacks if self.passes_callbacks_on else []:
                callback.set_model(model)
                callback.on_epoch_end(epoch, logs)
        return self.outcome


class Untunable(hpcompss.HyperModel):
    def __init__(self):
        super().__init__(tunable=False)

    def build(self, hp):
        return network(hp.Int("units", 4, 8))


class Folds(hpcompss.HyperModel):
    """Trains clones, and returns a list of their histories."""

    def build(self, hp):
        return network(4)

    def fit(self, hp, model, x, y, **kwargs):
        histories = []
        for _ in range(hp.Int("folds", 2, 3)):
            clone = keras.models.clone_model(model)
            clone.compile("sgd", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
            histories.append(clone.fit(x, y, **kwargs))
        return histories


# Layers that a file alone cannot bring back


class Scale(layers.Layer):
    """A layer of the user's own, not registered."""

    def build(self, shape):
        self.factor = self.add_weight(shape=(1,), initializer="ones")

    def call(self, inputs):
        return inputs * self.factor


class Unsaveable(layers.Layer):
    """A layer whose arguments Keras cannot write to a file."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


def build_with(layer, hp):
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layer])
    model.add(layers.Dense(hp.Int("units", 10, 20), activation="softmax"))
    model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def build_with_own_layer(hp):
    return build_with(Scale(), hp)


def build_unsaveable(hp):
    return build_with(Unsaveable(lambda inputs: inputs * 2), hp)


# What goes wrong


def build_nothing(hp):
    network(hp.Int("units", 4, 8))


def build_uncompiled(hp):
    return network(hp.Int("units", 4, 8), metrics=None)


def build_raising(hp):
    hp.Int("units", 4, 8)
    raise ZeroDivisionError("my own mistake")


def build_without_hyper_parameters(hp):
    return network()


class EachClass(keras.metrics.Metric):
    """A number for each class, not one."""

    def __init__(self):
        super().__init__(name="each_class")
        self.seen = self.add_weight(shape=(10,), initializer="zeros")

    def update_state(self, labels, predictions, sample_weight=None):
        self.seen.assign_add(keras.ops.sum(keras.ops.one_hot(keras.ops.reshape(labels, (-1,)), 10), axis=0))

    def result(self):
        return self.seen


def build_score_each_class(hp):
    return network(hp.Int("units", 4, 8), metrics=[EachClass(), "accuracy"])


class Fault(keras.callbacks.Callback):
    """Does what it is told when a training begins, so that nothing happens where nothing is trained."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def on_train_begin(self, logs=None):
        self.fault()


class Faulty(hpcompss.HyperModel):
    """Each fault is one configuration's."""

    def build(self, hp):
        hp.Choice("fault", ["none", "raises", "diverges", "crashes", "hangs", "grows"])
        return network(8)

    def fit(self, hp, model, x, y, callbacks, **kwargs):
        name = hp.get("fault")

        def fault():
            if name == "raises":
                raise ZeroDivisionError("this configuration's mistake")
            if name == "crashes":
                os.kill(os.getpid(), signal.SIGSEGV)
            if name == "hangs":
                time.sleep(600)
            held = []
            while name == "grows":
                held.append(np.ones(8 << 20))
                time.sleep(0.05)

        if name == "diverges":
            return {"loss": float("nan"), "val_accuracy": float("nan")}
        return model.fit(x, y, callbacks=[Fault(fault), *callbacks], **kwargs)


class Alike(hpcompss.HyperModel):
    """Every training raises in the same line."""

    def build(self, hp):
        return network(hp.Int("units", 4, 16))

    def fit(self, hp, model, x, y, callbacks, **kwargs):
        def fault():
            raise ZeroDivisionError(f"every training's mistake, with {hp.get('units')} units")

        return model.fit(x, y, callbacks=[Fault(fault), *callbacks], **kwargs)


class Slow(hpcompss.HyperModel):
    """Takes a while, so that a test can interrupt it."""

    def build(self, hp):
        return network(hp.Int("units", 4, 64))

    def fit(self, hp, model, x, y, callbacks, **kwargs):
        return model.fit(x, y, callbacks=[Fault(lambda: time.sleep(1)), *callbacks], **kwargs)


def report_threads(hp):
    """Has no model: shows, as an error, how many threads TensorFlow has."""
    import tensorflow

    hp.Int("units", 4, 8)
    threads = tensorflow.config.threading
    counts = threads.get_intra_op_parallelism_threads(), threads.get_inter_op_parallelism_threads()
    raise RuntimeError(f"threads {counts}")


def convolutions(hp):
    """Computes for some seconds on all the threads it has."""
    model = keras.Sequential([keras.Input((8, 8, 1))])
    for _ in range(4):
        model.add(layers.Conv2D(hp.Int("filters", 96, 128, step=32), 3, padding="same", activation="relu"))
    model.add(layers.Flatten())
    model.add(layers.Dense(10, activation="softmax"))
    model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
