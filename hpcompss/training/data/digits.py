"""Reads scikit-learn's bundled handwritten digits: 1,797 grey images of 8 x 8 pixels, ten classes."""

from __future__ import annotations

import numpy as np

from hpcompss.errors import MissingExtraError
from hpcompss.training.data.arrays import save_arrays
from hpcompss.training.data.cache import ArrayFolder, ClassNames
from hpcompss.training.data.split import select

__all__ = ["read"]

TEST_IMAGES = 360  # a fifth
BRIGHTEST = 16


def read(target: ArrayFolder) -> ClassNames:
    """Writes the images as float32 (n, 8, 8, 1) in [0, 1]: 1,437 for training and always the same 360 for the test.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingExtraError("scikit-learn", "tensorflow", "the data set 'digits'") from None
    digits = load_digits()
    x = (digits.images[..., np.newaxis] / BRIGHTEST).astype(np.float32)
    y = digits.target.astype(np.int64)
    # The user's seed must not move images between training and test: scores of different studies would not compare.
    test, train = select(TEST_IMAGES, len(y), y, np.random.RandomState(0))
    arrays = {"x_train": x[train], "y_train": y[train], "x_test": x[test], "y_test": y[test]}
    save_arrays(arrays, "the data set 'digits'", "data.name", target)
    return tuple(str(digit) for digit in digits.target_names)
