"""A convolutional network for CIFAR-10: 32 x 32 colour pixels, ten classes."""

from __future__ import annotations

import keras
from keras import layers

import hpcompss


class CIFAR10(hpcompss.HyperModel):
    """Convolutional blocks, each twice as wide as the one before and half as high, then a dense layer."""

    def build(self, hp):
        """Returns the compiled network that ``hp`` describes; pixels are whole numbers in 0..255, labels in 0..9."""
        model = keras.Sequential([keras.Input((32, 32, 3), dtype="uint8"), layers.Rescaling(1 / 255)])
        if hp.Boolean("augmentation"):
            model.add(layers.RandomFlip("horizontal"))
            model.add(layers.RandomTranslation(0.1, 0.1))

        filters = hp.Int("filters", 16, 64, step=16, default=32)
        for block in range(hp.Int("conv_blocks", 2, 4, default=3)):
            model.add(layers.Conv2D(filters * 2**block, hp.Choice("kernel_size", [3, 5]), padding="same"))
            if hp.Boolean("batch_normalization", default=True):
                # At Keras's default of 0.99 the averages that validation uses lag several short epochs behind.
                model.add(layers.BatchNormalization(momentum=0.9))
            model.add(layers.ReLU())
            model.add(layers.MaxPooling2D())
        model.add(layers.Flatten())
        model.add(layers.Dense(hp.Int("units", 64, 512, step=64, default=128), activation="relu"))
        model.add(layers.Dropout(hp.Float("dropout", 0.0, 0.5, step=0.1)))
        model.add(layers.Dense(10, activation="softmax"))

        model.compile(self.optimizer(hp), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    def optimizer(self, hp):
        """Returns Adam, or stochastic gradient descent, which has a momentum to choose as well."""
        learning_rate = hp.Float("learning_rate", 3e-4, 3e-2, sampling="log", default=1e-3)
        if hp.Choice("optimizer", ["adam", "sgd"]) == "adam":
            return keras.optimizers.Adam(learning_rate)
        with hp.conditional_scope("optimizer", ["sgd"]):
            momentum = hp.Float("momentum", 0.8, 0.99, default=0.9)
        return keras.optimizers.SGD(learning_rate, momentum=momentum)

    def fit(self, hp, model, *args, **kwargs):
        """Trains with the batch size that ``hp`` chooses, and returns the history."""
        return model.fit(*args, batch_size=hp.Choice("batch_size", [32, 64, 128]), **kwargs)
