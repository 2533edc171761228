"""A model whose larger choice needs more memory than a trial may have."""

from __future__ import annotations

import time
from typing import Any

import keras
import numpy as np


def build(hp: Any) -> Any:
    if hp.Choice("size", ["small", "huge"]) == "huge":
        array = np.ones(4 * 10**9, np.uint8)
        time.sleep(60)
        del array
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    model.compile(keras.optimizers.SGD(hp.Choice("rate", [0.1, 0.01])), "sparse_categorical_crossentropy", ["accuracy"])
    return model
