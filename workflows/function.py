"""A function that is not Keras: the cross-validated error of kernel ridge regression, with NumPy and SciPy alone.

The data are Friedman's first problem (Multivariate adaptive regression splines, 1991, section 4.3): five inputs that
matter, five that do not, and noise of standard deviation 1, which no model can foresee. The hyper-parameters:

=============  =======  =================================  =============================================
name           kind     values                             present
=============  =======  =================================  =============================================
kernel         choice   gaussian, laplacian, polynomial    always
length_scale   float    0.1 to 100, on a log scale         with the gaussian and the laplacian kernel
degree         int      1 to 6                             with the polynomial kernel
penalty        float    1e-6 to 10, on a log scale         always
=============  =======  =================================  =============================================
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve
from scipy.spatial.distance import cdist

FOLDS = 5
SAMPLES = 500


def objective(configuration):
    """Returns the error (RMSE) on data left out, over all folds, and how much of the variance is explained (R2)."""
    inputs, targets = friedman(seed=0)
    folds = np.arange(SAMPLES) % FOLDS
    predictions = np.empty(SAMPLES)
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        predictions[test] = fit_and_predict(configuration, inputs[train], targets[train], inputs[test])
    squared_error = np.mean((targets - predictions) ** 2)
    return {"rmse": float(np.sqrt(squared_error)), "r2": float(1 - squared_error / np.var(targets))}


def friedman(seed):
    """Returns the inputs, shape (samples, 10), uniform in [0, 1], and the targets, shape (samples,)."""
    generator = np.random.default_rng(seed)
    x = generator.uniform(size=(SAMPLES, 10))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    return x, y + generator.normal(size=SAMPLES)


def fit_and_predict(configuration, inputs, targets, new_inputs):
    """Returns what kernel ridge regression, fitted to ``inputs`` and ``targets``, predicts for ``new_inputs``."""
    mean = targets.mean()
    gram = kernel(configuration, inputs, inputs) + configuration["penalty"] * np.eye(len(inputs))
    weights = solve(gram, targets - mean, assume_a="pos")
    return mean + kernel(configuration, new_inputs, inputs) @ weights


def kernel(configuration, a, b):
    """Returns how alike each row of ``a`` is to each row of ``b``, shape (rows of a, rows of b); 1 is the same."""
    if configuration["kernel"] == "gaussian":
        return np.exp(-cdist(a, b, "sqeuclidean") / (2 * configuration["length_scale"] ** 2))
    if configuration["kernel"] == "laplacian":
        return np.exp(-cdist(a, b, "cityblock") / configuration["length_scale"])
    products = 1 + (a - 0.5) @ (b - 0.5).T
    lengths_a, lengths_b = 1 + np.sum((a - 0.5) ** 2, axis=1), 1 + np.sum((b - 0.5) ** 2, axis=1)
    return (products / np.sqrt(np.outer(lengths_a, lengths_b))) ** configuration["degree"]
