"""Keras models with a ``fit`` of their own, of the kinds that users bring; tests name them as `fit_models.py:name`."""

from __future__ import annotations

import keras
import keras_tuner
import numpy as np
from keras import layers

import hpcompss


def network(hp, trainable=True):
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten()])
    model.add(layers.Dense(hp.Int("units", 4, 8, step=4), activation="relu", trainable=trainable))
    model.add(layers.Dense(10, activation="softmax"))
    return compiled(model)


def compiled(model, rate=0.01):
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def build(hp):
    return network(hp)


class Network(hpcompss.HyperModel):
    def build(self, hp):
        return network(hp)


class Passes(Network):
    """Passes everything on."""

    def fit(self, hp, model, *args, **kwargs):
        return model.fit(*args, **kwargs)


class Drops(Network):
    """Drops its arguments."""

    def fit(self, hp, model, x, y, validation_data=None, **kwargs):
        return model.fit(x, y, epochs=3, validation_data=validation_data, callbacks=kwargs["callbacks"])


class Halves(Network):
    """Makes data sets, and trains in two halves."""

    def fit(self, hp, model, x, y, epochs, batch_size, **kwargs):
        import tensorflow

        data = tensorflow.data.Dataset.from_tensor_slices((x, y)).batch(batch_size)
        model.fit(data, epochs=epochs // 2, **kwargs)
        return model.fit(data, epochs=epochs - epochs // 2, **kwargs)


class ManyRows(Network):
    """Needs more rows than are tried first, and declares after that."""

    def fit(self, hp, model, x, y, **kwargs):
        if len(x) < 300:
            hp.Boolean("too_few")
            raise ValueError("windows of 300")
        return model.fit(x, y, batch_size=hp.Choice("batch_size", [16, 32]), **kwargs)


class Broken(Network):
    def fit(self, hp, model, x, y, **kwargs):
        hp.Boolean("before")
        np.stack([])
        return model.fit(x, y, batch_size=hp.Choice("batch_size", [16, 32]), **kwargs)


class SomeBroken(Network):
    """Raises with one configuration alone."""

    def fit(self, hp, model, x, y, **kwargs):
        if hp.get("units") == 8:
            raise KeyError("labels")
        return model.fit(x, y, shuffle=hp.Boolean("shuffle"), **kwargs)


class AfterFit(Network):
    """Declares after a first training what depends on how that went."""

    def fit(self, hp, model, x, y, validation_data, **kwargs):
        stop = keras.callbacks.ReduceLROnPlateau(patience=1)
        callbacks = [*kwargs.pop("callbacks"), stop]
        history = model.fit(x, y, validation_data=validation_data, callbacks=callbacks, **kwargs)
        best = int(np.argmin(history.history["val_loss"])) + 1
        assert len(history.epoch) == len(history.history["accuracy"]) == kwargs["epochs"] >= best
        assert history.history["learning_rate"][-1] > 0 and not model.stop_training
        assert model.history is history
        loss, accuracy = model.evaluate(*validation_data)
        classes = model.predict(x).argmax(-1)
        assert 0 <= np.mean(classes == y) <= 1 and loss > 0 and accuracy >= 0
        model.load_weights("written-by-a-callback.weights.h5")
        compiled(model, hp.Float("fine_rate", 1e-4, 1e-2, sampling="log"))
        return model.fit(x, y, validation_data=validation_data, epochs=hp.Int("fine_epochs", 1, 3))


class TwoPhases(Network):
    def build(self, hp):
        return network(hp, trainable=False)

    def fit(self, hp, model, x, y, **kwargs):
        model.fit(x, y, **kwargs)
        model.layers[1].trainable = True
        return compiled(model, 0.001).fit(x, y, **kwargs)


class OwnData(Network):
    def fit(self, hp, model, **kwargs):
        x, y = np.random.default_rng(0).random((60, 8, 8, 1), "float32"), np.arange(60) % 10
        return model.fit(x, y, batch_size=hp.Choice("batch_size", [16, 32]), validation_data=(x, y), **kwargs)


class WithoutTargets(Network):
    def fit(self, hp, model, x, **kwargs):
        return model.fit(x, x, **kwargs)


class WithoutOptions(Network):
    def fit(self, hp, model, x, y):
        return model.fit(x, y)


class NeedsMore(Network):
    def fit(self, hp, model, x, y, groups, **kwargs):
        return model.fit(x, y, **kwargs)


class OwnEpochs(keras_tuner.HyperModel):
    def build(self, hp):
        return network(hp)

    def fit(self, hp, model, *args, **kwargs):
        return model.fit(*args, epochs=hp.Int("epochs", 2, 4), **kwargs)


class OwnCallbacks(Network):
    def fit(self, hp, model, x, y, **kwargs):
        return model.fit(x, y, callbacks=[], **kwargs)


class Forgets(Network):
    def fit(self, hp, model, x, y, validation_data=None, callbacks=None, epochs=1):
        return model.fit(x, y, validation_data=validation_data, epochs=epochs)


class Unpacks(Network):
    """Cannot do without validation data, though it has a default."""

    def fit(self, hp, model, x, y, validation_data=None, **kwargs):
        held, labels = validation_data
        return model.fit(x, y, validation_data=(held, labels), **kwargs)


class Another(Network):
    def fit(self, hp, model, x, y, **kwargs):
        return network(hp).fit(x, y, **kwargs)


class Loop(Network):
    """A training loop that needs validation data, and declares within."""

    def fit(self, hp, model, x, y, validation_data, callbacks=None, **kwargs):
        import tensorflow

        loss_of = keras.losses.SparseCategoricalCrossentropy()
        optimizer = keras.optimizers.SGD(hp.Float("rate", 1e-3, 1e-1))
        for _ in range(2):
            with tensorflow.GradientTape() as tape:
                loss = loss_of(y, model(x, training=True))
            optimizer.apply_gradients(
                zip(tape.gradient(loss, model.trainable_weights), model.trainable_weights, strict=True)
            )
        return {"my_loss": float(loss) * hp.Float("late", 1, 2)}


def callbacks(hp, trial):
    folder = trial.folder
    (folder / "note.txt").write_text(f"{trial.number} {trial.configuration['units']} {trial.part}")
    plateau = keras.callbacks.ReduceLROnPlateau("loss", patience=hp.Int("plateau", 1, 3))
    return [keras.callbacks.CSVLogger(str(folder / "own.csv")), keras.callbacks.CSVLogger("logs/log.csv"), plateau]


class Loads(Network):
    """Saves the best model by a callback, in two trainings, and reads it where it was said to be."""

    def fit(self, hp, model, x, y, callbacks, **kwargs):
        best = keras.callbacks.ModelCheckpoint("models/best.weights.h5", save_best_only=True, save_weights_only=True)
        model.fit(x, y, callbacks=[best, *callbacks], **kwargs)
        history = model.fit(x, y, callbacks=[best, *callbacks], **kwargs)
        model.load_weights("models/best.weights.h5")
        return history
