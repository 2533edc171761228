"""A small mixed and conditional function to minimise, and what is measured of a search of it."""

from __future__ import annotations

import math

import numpy as np

from hpcompss.samplers import History, Sampler
from hpcompss.space import Choice, Float, Int, Space
from hpcompss.trial import Configuration
from tests.samplers.conformance import finished

SPACE = Space(
    [
        Choice("model", ["line", "parabola"]),
        Float("slope", -1, 1, parent_name="model", parent_values="line"),
        Float("x", -5, 5, parent_name="model", parent_values="parabola"),
        Float("rate", 1e-6, 1, sampling="log"),
        Int("units", 1, 8),
    ]
)

FLAT = Space([Float("x", 0, 1), Float("y", 0, 1)])


def loss(configuration: Configuration) -> float:
    """Is 0 at x = 2, rate = 1e-3, units = 6 of the parabola, and at least 3 on the line."""
    if configuration["model"] == "line":
        shape = 3 + abs(float(configuration["slope"]))
    else:
        shape = (float(configuration["x"]) - 2) ** 2 / 4
    return shape + (math.log10(float(configuration["rate"])) + 3) ** 2 / 3 + abs(int(configuration["units"]) - 6) / 4


def best_of(sampler: Sampler, trials: int) -> float:
    history = History(sampler.space, "minimize")
    for number in range(trials):
        configuration = sampler.ask(history, [], number)
        history.append(finished(number, configuration, loss(configuration)))
    return float(np.nanmin(history.losses))


def learned(trials: int) -> History:
    """Returns a history of random configurations with their losses."""
    generator = np.random.default_rng(0)
    history = History(SPACE, "minimize")
    for number in range(trials):
        configuration = SPACE.sample(generator)
        history.append(finished(number, configuration, loss(configuration)))
    return history


def bowl(trials: int = 30) -> History:
    """Returns random trials of a function that is best at x = 0.3, y = 0.7."""
    generator, history = np.random.default_rng(0), History(FLAT, "minimize")
    for number in range(trials):
        configuration = FLAT.sample(generator)
        value = (float(configuration["x"]) - 0.3) ** 2 + (float(configuration["y"]) - 0.7) ** 2
        history.append(finished(number, configuration, value))
    return history


def in_parallel(sampler: Sampler, history: History, count: int, known: bool) -> list[Configuration]:
    """Returns what is suggested to so many workers at once, each knowing of the others' trials or not."""
    pending: list[Configuration] = []
    for number in range(count):
        pending.append(sampler.ask(history, pending if known else [], len(history) + number))
    return pending


def spacing(configurations: list[Configuration], space: Space) -> float:
    """Returns the median distance to the nearest other one in the unit cube."""
    points = np.nan_to_num([space.encode(each) for each in configurations], nan=0.5)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return float(np.median(distances.min(axis=1)))
