"""A small convolutional network for the digits images: 8 x 8 grey pixels, ten classes."""

from __future__ import annotations

import keras
from keras import layers


def build(hp):
    """Returns the compiled network that the hyper-parameters ``hp`` describe; pixels are in [0, 1], labels in 0..9."""
    model = keras.Sequential([keras.Input((8, 8, 1))])
    for i in range(hp.Int("conv_layers", 1, 3)):
        filters = hp.Int(f"filters_{i}", 16, 64, step=16)
        model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
    model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(layers.Dropout(hp.Float("dropout", 0.0, 0.5, step=0.1)))
    model.add(layers.Dense(hp.Int("units", 32, 128, step=32), activation="relu"))
    model.add(layers.Dense(10, activation="softmax"))

    learning_rate = hp.Float("learning_rate", 3e-4, 3e-2, sampling="log")
    if hp.Choice("optimizer", ["adam", "rmsprop"]) == "adam":
        optimizer = keras.optimizers.Adam(learning_rate)
    else:
        optimizer = keras.optimizers.RMSprop(learning_rate)
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
