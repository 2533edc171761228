"""Keras models whose training has every kind of state that a checkpoint must hold; named as `staged_models.py:name`."""

from __future__ import annotations

import collections
import random

import keras
import numpy as np
from keras import layers

import hpcompss


def head(*first):
    """Layers with random states and moving statistics, and a softmax over the ten digits."""
    middle = [layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Dropout(0.3), layers.Flatten()]
    return keras.Sequential([*first, *middle, layers.Dense(10, activation="softmax")])


def compiled(model, optimizer):
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def adam_with_schedule(hp):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.02, 3, 0.9)
    flips = layers.RandomFlip("horizontal")
    return compiled(head(keras.Input((8, 8, 1)), flips), keras.optimizers.Adam(schedule))


class Noise(layers.Layer):
    """Draws from Keras's one generator for all that names none."""

    def call(self, inputs, training=False):
        return inputs + 0.1 * keras.random.normal(keras.ops.shape(inputs)) if training else inputs


class Arrays(hpcompss.HyperModel):
    """A `fit` of the user's own on arrays, for a model that is built by its first batch, and callbacks with states."""

    def build(self, hp):
        return compiled(head(Noise()), keras.optimizers.SGD(0.05, momentum=0.9))

    def fit(self, hp, model, *args, callbacks, **kwargs):
        plateau = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=1.0)
        return model.fit(*args, callbacks=[*callbacks, plateau, Jolt()], **kwargs)


class SeededArrays(Arrays):
    """The same without Keras's one generator, which JAX does not trace."""

    def build(self, hp):
        return compiled(head(layers.GaussianNoise(0.1)), keras.optimizers.Adam(0.01))


class Jolt(keras.callbacks.Callback):
    """Changes the weights by what three generators draw and by what it remembers."""

    def on_train_begin(self, logs=None):
        self.unpicklable = lambda: None
        self.last = collections.deque(maxlen=3)
        self.count = 0

    def on_epoch_end(self, epoch, logs=None):
        self.last.append(random.random() + np.random.random())
        self.count += 1
        change = sum(self.last) * self.count * 1e-3
        self.model.set_weights([each + change for each in self.model.get_weights()])


class DataSets(hpcompss.HyperModel):
    """A `fit` of the user's own that makes a data set, in an order that TensorFlow draws."""

    def build(self, hp):
        return compiled(head(keras.Input((8, 8, 1))), "rmsprop")

    def fit(self, hp, model, x, y, **kwargs):
        import tensorflow

        data = tensorflow.data.Dataset.from_tensor_slices((x, y)).shuffle(50).batch(20)
        return model.fit(data, **kwargs)


class Deaf(hpcompss.HyperModel):
    """Does not heed the epochs of a stage, in one way or another."""

    def build(self, hp):
        hp.Choice("fault", list(FAULTS))
        dense = layers.Dense(10, activation="softmax")
        return compiled(keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), dense]), "sgd")

    def fit(self, hp, model, x, y, validation_data, callbacks, **kwargs):
        return FAULTS[hp.get("fault")](model, x, y, validation_data=validation_data, callbacks=callbacks, **kwargs)


def ignores(model, x, y, epochs, initial_epoch, **kwargs):
    return model.fit(x, y, **kwargs)


def begins_anew(model, x, y, initial_epoch, **kwargs):
    return model.fit(x, y, **kwargs)


def keeps_callbacks(model, x, y, callbacks, **kwargs):
    return model.fit(x, y, **kwargs)


def sets_epochs(model, x, y, **kwargs):
    return model.fit(x, y, epochs=2, **kwargs)


def names_arguments(model, x, y, validation_data, callbacks, epochs):
    return model.fit(x, y, validation_data=validation_data, callbacks=callbacks, epochs=epochs)


def fits_twice(model, x, y, **kwargs):
    model.fit(x, y, **kwargs)
    return model.fit(x, y, **kwargs)


FAULTS = {
    each.__name__: each for each in (ignores, begins_anew, keeps_callbacks, sets_epochs, names_arguments, fits_twice)
}
