"""What the samplers are compared on: tuning tasks that take no training, each with its best known value.

- ``lcbench-<task>``: the LCBench surrogate of YAHPO Gym (34 data sets; a network's 7 hyper-parameters; validation
  accuracy after 52 epochs). The regret is scaled by the best and the worst value known.
- ``nas-bench-macro``: 6,561 networks really trained on CIFAR-10 (8 choices of 3); scaled by the best and the worst.
- The rest are functions of 2 to 20 dimensions with a known best. They are shifted, so that it lies neither in the
  centre nor in a corner. The regret is scaled by the median of 10,000 random configurations, and cut off at 1.

``python benchmarks/sampler_tasks.py`` searches for LCBench's best and worst values and prints the table that is below.
"""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import json
import math
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray

from hpcompss.space import Boolean, Choice, Float, Int, Parameter, Space

DATA = common.ROOT.parent / "shared" / "data"
"""Where LCBench and NAS-Bench-Macro are: beside this checkout."""

EPOCHS = 52

TIME, ACCURACY = 0, 1
"""Columns of what LCBench's surrogate says: seconds since the start, and validation accuracy (%)."""

Configuration = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A function to minimise.

    Attributes:
        name: How it is asked for.
        space: Its hyper-parameters.
        loss: Gives a configuration's loss.
        best: The least loss there is, or that is known.
        worst: The loss whose regret is 1, or None: the median of random configurations.
    """

    name: str
    space: Space
    loss: Callable[[Configuration], float] = field(repr=False)
    best: float
    worst: float | None = None

    def regrets(self, losses: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the normalised regret of losses, from 0 (the best known) to 1."""
        return np.clip((np.asarray(losses) - self.best) / (self.scale - self.best), 0, 1)

    @functools.cached_property
    def scale(self) -> float:
        """The loss whose regret is 1."""
        return self.random_median(10_000) if self.worst is None else self.worst

    def random_median(self, count: int) -> float:
        """Returns the median loss of random configurations."""
        generator = np.random.default_rng(0)
        return float(np.median([self.loss(self.space.sample(generator)) for _ in range(count)]))

    @functools.cached_property
    def fingerprint(self) -> str:
        """What changes when the task does: a digest of its space and of a few losses."""
        generator = np.random.default_rng(1)
        losses = [f"{self.loss(self.space.sample(generator)):.6g}" for _ in range(8)]
        return hashlib.sha256(json.dumps([self.space.to_json(), losses]).encode()).hexdigest()[:8]


# LCBench

# Data set: least and greatest validation accuracy (%) at 52 epochs, as `python benchmarks/sampler_tasks.py` found them.
ACCURACIES: dict[str, tuple[float, float]] = {
    "3945": (9.4098, 99.6583),
    "7593": (1.0699, 91.6549),
    "34539": (4.1053, 99.1464),
    "126025": (18.2622, 99.4726),
    "126026": (18.0499, 99.7485),
    "126029": (18.0071, 99.2838),
    "146212": (0.0000, 99.1971),
    "167104": (24.7944, 96.9920),
    "167149": (31.3084, 99.4851),
    "167152": (1.6656, 98.7154),
    "167161": (30.4568, 91.7878),
    "167168": (15.7622, 89.4266),
    "167181": (6.6972, 94.2855),
    "167184": (28.1906, 85.3425),
    "167185": (1.3156, 98.0781),
    "167190": (24.1228, 95.5688),
    "167200": (26.1585, 90.2790),
    "167201": (7.5735, 84.9790),
    "168329": (0.1150, 54.9514),
    "168330": (11.7561, 76.7201),
    "168331": (2.0243, 86.8808),
    "168335": (26.0359, 99.6960),
    "168868": (38.5125, 99.7568),
    "168908": (35.4524, 94.0983),
    "168910": (6.7443, 88.7767),
    "189354": (30.2592, 95.6582),
    "189862": (29.1188, 95.1770),
    "189865": (28.8095, 99.0326),
    "189866": (33.6780, 94.6968),
    "189873": (0.0257, 99.2421),
    "189905": (0.3820, 96.8652),
    "189906": (4.6503, 95.2755),
    "189908": (4.1103, 95.5269),
    "189909": (11.3686, 87.2857),
}


@functools.cache
def _surrogate() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = DATA / "lcbench" / "model.onnx"
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@functools.cache
def _codes() -> dict[str, int]:
    return json.loads((DATA / "lcbench" / "encoding.json").read_text())["OpenML_task_id"]


LCBENCH = Space(
    [
        Int("batch_size", 16, 512, sampling="log"),
        Float("learning_rate", 1e-4, 1e-1, sampling="log"),
        Float("momentum", 0.1, 0.99),
        Float("weight_decay", 1e-5, 1e-1),
        Int("num_layers", 1, 5),
        Int("max_units", 64, 1024, sampling="log"),
        Float("max_dropout", 0.0, 1.0),
    ]
)


def outputs(data_set: str, settings: NDArray[np.float64], epochs: NDArray[np.int_]) -> NDArray[np.float64]:
    """Returns what the surrogate says, with time (s) and validation accuracy (%) in the columns `TIME` and `ACCURACY`.

    Args:
        data_set: Its name.
        settings: Configurations in the order of `LCBENCH`: shape (count, 7).
        epochs: The epoch after which each is looked at, from 1 to 52: shape (count,).

    Returns:
        Figures of shape (count, 6).
    """
    codes = np.full((len(settings), 1), _codes()[data_set], dtype=np.int32)
    inputs = {"x_cat": codes, "x_cont": np.column_stack([epochs, settings]).astype(np.float32)}
    return _surrogate().run(["output"], inputs)[0].astype(float)


def accuracies(data_set: str, settings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the validation accuracy (%) after 52 epochs for settings of shape (count, 7)."""
    return outputs(data_set, settings, np.full(len(settings), EPOCHS))[:, ACCURACY]


def _lcbench(data_set: str) -> Task:
    least, greatest = ACCURACIES[data_set]

    def loss(configuration: Configuration) -> float:
        settings = [[configuration[name] for name in LCBENCH.names]]
        return -float(accuracies(data_set, np.array(settings, dtype=float))[0])

    return Task(f"lcbench-{data_set}", LCBENCH, loss, -greatest, -least)


def search_accuracies(data_set: str, count: int = 100_000) -> tuple[float, float]:
    """Returns the least and the greatest accuracy found: random settings, then differential evolution from the ends."""
    generator = np.random.default_rng(0)
    units = generator.random((count, len(LCBENCH)))
    values = accuracies(data_set, _settings(units))
    found = []
    for sign in (1, -1):
        order = np.argsort(sign * values)[:200]
        found.append(sign * _evolve(lambda x, sign=sign: sign * accuracies(data_set, _settings(x)), units[order]))
    return found[0] if found[0] < found[1] else found[1], max(found)


def _settings(units: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the settings at places in the unit cube, rounded as `LCBENCH` rounds them."""
    columns = []
    for parameter, unit in zip(LCBENCH.parameters, units.T, strict=True):
        low, high = parameter.min_value, parameter.max_value
        whole = isinstance(parameter, Int)
        if parameter.sampling == "log":
            value = low * ((high + whole) / low) ** unit
        else:
            value = low + (high + whole - low) * unit
        columns.append(np.clip(np.floor(value), low, high) if whole else value)
    return np.stack(columns, axis=1)


def _evolve(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]], units: NDArray[np.float64], generations: int = 300
) -> float:
    """Returns the least value found by differential evolution (rand/1/bin and best/1/bin in turn)."""
    generator = np.random.default_rng(1)
    values = function(units)
    for generation in range(generations):
        first, second, third = (units[generator.permutation(len(units))] for _ in range(3))
        base = units[np.argmin(values)] if generation % 2 else first
        trial = base + generator.uniform(0.3, 0.9) * (second - third)
        crossed = generator.random(units.shape) < 0.7
        trial = np.clip(np.where(crossed, trial, units), 0, 1)
        better = (tried := function(trial)) < values
        units[better], values[better] = trial[better], tried[better]
    return float(values.min())


# NAS-Bench-Macro


@functools.cache
def networks() -> dict[str, float]:
    """Returns the mean test accuracy (%) of every network, by its 8 digits."""
    table = json.loads((DATA / "nas-bench-macro-cifar10.json").read_text())
    return {digits: entry["mean_acc"] for digits, entry in table.items()}


def _nas_bench_macro(name: str) -> Task:
    known = networks()
    blocks = Space(Choice(f"block_{place}", ["identity", "mbconv3", "mbconv6"]) for place in range(8))
    digit = {"identity": "0", "mbconv3": "1", "mbconv6": "2"}

    def loss(configuration: Configuration) -> float:
        return -known["".join(digit[configuration[each]] for each in blocks.names)]

    return Task(name, blocks, loss, -max(known.values()), -min(known.values()))


# Functions of continuous parameters, each of an array of shape (d,)

Vector = NDArray[np.float64]


def _branin(x: Vector) -> float:
    first, second = x
    bowl = second - 5.1 / (4 * math.pi**2) * first**2 + 5 / math.pi * first - 6
    return float(bowl**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(first) + 10)


_HARTMANN_WEIGHTS = np.array([1.0, 1.2, 3.0, 3.2])
_HARTMANN3 = (
    np.array([[3, 10, 30], [0.1, 10, 35], [3, 10, 30], [0.1, 10, 35]]),
    np.array([[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]]) * 1e-4,
)
_HARTMANN6 = (
    np.array(
        [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
    ),
    np.array(
        [
            [1312, 1696, 5569, 124, 8283, 5886],
            [2329, 4135, 8307, 3736, 1004, 9991],
            [2348, 1451, 3522, 2883, 3047, 6650],
            [4047, 8828, 8732, 5743, 1091, 381],
        ]
    )
    * 1e-4,
)


def _hartmann(x: Vector, sharpness: Vector, centres: Vector) -> float:
    return -float(_HARTMANN_WEIGHTS @ np.exp(-(sharpness * (x - centres) ** 2).sum(axis=1)))


def _ackley(x: Vector) -> float:
    spread = -20 * math.exp(-0.2 * math.sqrt(float(np.mean(x**2))))
    return spread - math.exp(float(np.mean(np.cos(2 * math.pi * x)))) + 20 + math.e


def _rosenbrock(x: Vector) -> float:
    return float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))


def _levy(x: Vector) -> float:
    w = 1 + (x - 1) / 4
    inner = (w[:-1] - 1) ** 2 * (1 + 10 * np.sin(math.pi * w[:-1] + 1) ** 2)
    last = (w[-1] - 1) ** 2 * (1 + math.sin(2 * math.pi * w[-1]) ** 2)
    return float(math.sin(math.pi * w[0]) ** 2 + inner.sum() + last)


def _styblinski_tang(x: Vector) -> float:
    return float(np.mean(x**4 - 16 * x**2 + 5 * x)) / 2


def _griewank(x: Vector) -> float:
    return float(np.sum(x**2) / 4000 - np.prod(np.cos(x / np.sqrt(np.arange(1, len(x) + 1)))) + 1)


def _rotated_ellipsoid(x: Vector) -> float:
    turned = _rotation(len(x)) @ x
    return float(10 ** (2 * np.arange(len(x)) / (len(x) - 1)) @ turned**2)


@functools.cache
def _rotation(dimensions: int) -> NDArray[np.float64]:
    return np.linalg.qr(np.random.default_rng(7).standard_normal((dimensions, dimensions)))[0]


_STYBLINSKI_TANG_AT = -2.903534027771177


def _continuous(
    name: str, function: Callable[[Vector], float], at: Sequence[float], width: Sequence[float], best: float = 0.0
) -> Task:
    """Returns the task of a function whose optimum, at ``at``, is moved to a place of its own in a box."""
    place = _places(name, len(at))
    space = Space(Float(f"x{number}", -1.0, 1.0) for number in range(len(at)))
    centre, width = np.asarray(at, dtype=float), np.asarray(width, dtype=float)

    def loss(configuration: Configuration) -> float:
        unit = (np.array([configuration[each] for each in space.names]) + 1) / 2
        return function(centre + width * (unit - place))

    return Task(name, space, loss, best)


def _places(name: str, count: int) -> NDArray[np.float64]:
    """Returns where the optimum lies in the unit cube: never in the middle tenth nor near a side."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    away = generator.uniform(0.05, 0.35, count)
    return 0.5 + np.where(generator.random(count) < 0.5, -away, away)


def _in_place(name: str, function: Callable[[Vector], float], low: Vector, high: Vector, best: float) -> Task:
    """Returns the task of a function whose optimum is well placed already."""
    space = Space(Float(f"x{number}", float(a), float(b)) for number, (a, b) in enumerate(zip(low, high, strict=True)))
    return Task(name, space, lambda c: function(np.array([c[each] for each in space.names])), best)


# Mixed and conditional functions


def _ackley_mixed(name: str) -> Task:
    """Returns Ackley's function of 3 floats, 3 Ints, and 3 Choices whose values are in no order."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    place = _places(name, 3)
    levels = [generator.permutation([-2.0, -1.0, 0.0, 1.0, 2.0]) for _ in range(3)]
    wholes = [3, 8, 6]
    parameters: list[Parameter] = [Float(f"x{number}", 0.0, 1.0) for number in range(3)]
    parameters += [Int(f"n{number}", 0, 10) for number in range(3)]
    parameters += [Choice(f"c{number}", list("abcde")) for number in range(3)]
    space = Space(parameters)

    def loss(configuration: Configuration) -> float:
        x = [8 * (configuration[f"x{number}"] - place[number]) for number in range(3)]
        x += [(configuration[f"n{number}"] - wholes[number]) * 0.8 for number in range(3)]
        x += [levels[number]["abcde".index(configuration[f"c{number}"])] for number in range(3)]
        return _ackley(np.array(x))

    return Task(name, space, loss, 0.0)


def _network(name: str) -> Task:
    """Returns a made-up network's loss: floats and Ints on log scales, Choices that move the best learning rate."""
    space = Space(
        [
            Float("learning_rate", 1e-5, 1.0, sampling="log"),
            Float("weight_decay", 1e-7, 1e-1, sampling="log"),
            Float("momentum", 0.0, 0.99),
            Float("dropout", 0.0, 0.8),
            Int("batch_size", 8, 512, sampling="log"),
            Int("layers", 1, 8),
            Int("units", 8, 1024, sampling="log"),
            Choice("activation", ["relu", "tanh", "gelu", "sigmoid"]),
            Choice("schedule", ["constant", "cosine", "steps"]),
            Boolean("normalised"),
        ]
    )
    # Each activation's and schedule's own cost, and by how many decades it moves the best learning rate.
    activations = {"relu": (0.06, 0.0), "tanh": (0.10, -0.6), "gelu": (0.0, -0.3), "sigmoid": (0.25, 0.8)}
    schedules = {"constant": (0.08, -0.4), "cosine": (0.0, 0.0), "steps": (0.03, 0.3)}

    def loss(configuration: Configuration) -> float:
        activation, move = activations[configuration["activation"]]
        schedule, further = schedules[configuration["schedule"]]
        batch = math.log10(configuration["batch_size"] / 48)
        depth, units = configuration["layers"], math.log10(configuration["units"] / 210)
        normalised = configuration["normalised"]
        rate = math.log10(configuration["learning_rate"]) + 2.37 - move - further - 0.7 * batch
        rate -= 0.0 if normalised else -0.25 * (depth - 5)
        momentum = configuration["momentum"] - 0.83
        rate += 0.8 * momentum
        decay = math.log10(configuration["weight_decay"]) + 4.3
        capacity = 0.3 * (depth - 5) / 3 + units
        dropout = configuration["dropout"] - 0.23 - 0.15 * max(capacity, 0.0)
        cost = 1 - math.exp(-0.35 * rate**2) + 0.02 * decay**2 + 0.6 * momentum**2 + 0.4 * dropout**2
        cost += 0.12 * capacity**2 + 0.004 * (depth - 5) ** 2 + 0.03 * batch**2 + 0.02 * decay * dropout
        return cost + activation + schedule + (0.0 if normalised else 0.03 + 0.015 * max(depth - 3, 0))

    return Task(name, space, loss, 0.0)


def _optimisers(name: str) -> Task:
    """Returns a choice of optimiser, each with parameters of its own, beside two that all share."""
    space = Space(
        [
            Choice("optimiser", ["sgd", "adam", "rmsprop", "lbfgs"]),
            Float("sgd_rate", 1e-4, 10.0, sampling="log", parent_name="optimiser", parent_values=["sgd"]),
            Float("sgd_momentum", 0.0, 0.99, parent_name="optimiser", parent_values=["sgd"]),
            Boolean("nesterov", parent_name="optimiser", parent_values=["sgd"]),
            Float("adam_rate", 1e-6, 1e-1, sampling="log", parent_name="optimiser", parent_values=["adam"]),
            Float("beta_1", 0.5, 0.99, parent_name="optimiser", parent_values=["adam"]),
            Float("beta_2_gap", 1e-4, 1e-1, sampling="log", parent_name="optimiser", parent_values=["adam"]),
            Float("rms_rate", 1e-6, 1e-1, sampling="log", parent_name="optimiser", parent_values=["rmsprop"]),
            Float("rho", 0.5, 0.999, parent_name="optimiser", parent_values=["rmsprop"]),
            Int("memory", 1, 50, parent_name="optimiser", parent_values=["lbfgs"]),
            Choice("line_search", ["wolfe", "armijo", "none"], parent_name="optimiser", parent_values=["lbfgs"]),
            Int("batch_size", 8, 512, sampling="log"),
            Float("dropout", 0.0, 0.8),
        ]
    )

    def loss(configuration: Configuration) -> float:
        batch = math.log10(configuration["batch_size"] / 70)
        shared = 0.08 * batch**2 + 0.5 * (configuration["dropout"] - 0.31) ** 2
        return shared + branches[configuration["optimiser"]](configuration, batch)

    def sgd(c: Configuration, batch: float) -> float:
        rate = math.log10(c["sgd_rate"] / (1 - c["sgd_momentum"])) - 0.42 - 0.8 * batch
        return 0.13 * rate**2 + 0.3 * (c["sgd_momentum"] - 0.86) ** 2 + (0.0 if c["nesterov"] else 0.01)

    def adam(c: Configuration, batch: float) -> float:
        rate = math.log10(c["adam_rate"]) + 3.1 - 0.4 * batch
        return (
            0.015 + 0.06 * rate**2 + 0.2 * (c["beta_1"] - 0.88) ** 2 + 0.01 * (math.log10(c["beta_2_gap"]) + 2.6) ** 2
        )

    def rmsprop(c: Configuration, batch: float) -> float:
        rate = math.log10(c["rms_rate"]) + 3.4 - 0.4 * batch
        return 0.03 + 0.07 * rate**2 + 0.2 * (c["rho"] - 0.93) ** 2

    def lbfgs(c: Configuration, batch: float) -> float:
        search = {"wolfe": 0.0, "armijo": 0.03, "none": 0.12}[c["line_search"]]
        return 0.11 + search + 0.05 * (math.log10(c["memory"] / 17)) ** 2 - 0.03 * math.tanh(batch)

    branches = {"sgd": sgd, "adam": adam, "rmsprop": rmsprop, "lbfgs": lbfgs}
    return Task(name, space, loss, 0.0)


def _layers(name: str) -> Task:
    """Returns a stack of 1 to 5 layers, each with a width, a dropout and an activation of its own."""
    parameters: list[Parameter] = [Int("layers", 1, 5), Float("learning_rate", 1e-5, 1.0, sampling="log")]
    for layer in range(5):
        within = {"parent_name": "layers", "parent_values": list(range(layer + 1, 6))}
        parameters += [
            Int(f"units_{layer}", 8, 512, sampling="log", **within),
            Float(f"dropout_{layer}", 0.0, 0.7, **within),
            Choice(f"activation_{layer}", ["relu", "tanh", "swish"], **within),
        ]
    space = Space(parameters)
    units = [180, 90, 130, 40, 60]
    dropout = [0.12, 0.33, 0.21, 0.45, 0.3]
    cost = [
        {"relu": 0.0, "tanh": 0.05, "swish": 0.02},
        {"relu": 0.03, "tanh": 0.04, "swish": 0.0},
        {"relu": 0.02, "tanh": 0.0, "swish": 0.03},
        {"relu": 0.0, "tanh": 0.03, "swish": 0.03},
        {"relu": 0.01, "tanh": 0.0, "swish": 0.02},
    ]

    def loss(configuration: Configuration) -> float:
        layers = configuration["layers"]
        rate = math.log10(configuration["learning_rate"]) + 2.2 + 0.2 * (layers - 3)
        total = [0.22, 0.09, 0.0, 0.035, 0.11][layers - 1] + 0.08 * rate**2
        before = 0.0
        for layer in range(layers):
            width = math.log10(configuration[f"units_{layer}"] / units[layer])
            total += 0.09 * width**2 + 0.05 * (width - before) ** 2
            total += 0.3 * (configuration[f"dropout_{layer}"] - dropout[layer]) ** 2
            total += cost[layer][configuration[f"activation_{layer}"]]
            before = width
        return total

    return Task(name, space, loss, 0.0)


def _models(name: str) -> Task:
    """Returns a choice of model on two levels: a support vector machine's kernel has parameters of its own."""
    svm = {"parent_name": "model", "parent_values": ["svm"]}
    forest = {"parent_name": "model", "parent_values": ["forest"]}
    boosting = {"parent_name": "model", "parent_values": ["boosting"]}
    space = Space(
        [
            Choice("model", ["svm", "forest", "boosting"]),
            Float("c", 1e-3, 1e3, sampling="log", **svm),
            Choice("kernel", ["linear", "rbf", "polynomial"], **svm),
            Float("gamma", 1e-5, 10.0, sampling="log", parent_name="kernel", parent_values=["rbf", "polynomial"]),
            Int("degree", 2, 6, parent_name="kernel", parent_values=["polynomial"]),
            Int("trees", 10, 1000, sampling="log", **forest),
            Int("depth", 1, 30, **forest),
            Float("features", 0.05, 1.0, **forest),
            Float("rate", 1e-3, 1.0, sampling="log", **boosting),
            Int("rounds", 10, 2000, sampling="log", **boosting),
            Int("leaves", 2, 256, sampling="log", **boosting),
            Float("share", 0.2, 1.0, **boosting),
        ]
    )

    def svm_loss(c: Configuration) -> float:
        regular = math.log10(c["c"]) - 0.74
        if c["kernel"] == "linear":
            return 0.17 + 0.02 * (regular + 1.5) ** 2
        gamma = math.log10(c["gamma"]) + 2.13
        if c["kernel"] == "rbf":
            return 0.02 + 0.05 * gamma**2 + 0.02 * (regular + 0.7 * gamma) ** 2
        return 0.07 + 0.04 * (gamma - 0.5) ** 2 + 0.02 * (regular + gamma) ** 2 + 0.02 * abs(c["degree"] - 3)

    def forest_loss(c: Configuration) -> float:
        grown = 0.3 * math.exp(-c["depth"] / 5)
        return 0.06 + grown + 0.1 * (c["features"] - 0.38) ** 2 + 0.03 * math.exp(-c["trees"] / 120)

    def boosting_loss(c: Configuration) -> float:
        effort = math.log10(c["rate"] * c["rounds"]) - 1.28
        leaves = math.log10(c["leaves"] / 23)
        slow = 0.02 * (math.log10(c["rate"]) + 1.7) ** 2
        return 0.12 * effort**2 + 0.06 * (leaves + 0.4 * effort) ** 2 + slow + 0.15 * (c["share"] - 0.71) ** 2

    losses = {"svm": svm_loss, "forest": forest_loss, "boosting": boosting_loss}

    def loss(configuration: Configuration) -> float:
        return losses[configuration["model"]](configuration)

    return Task(name, space, loss, 0.0)


# All tasks, by name


def _functions() -> dict[str, Callable[[str], Task]]:
    def ackley(dimensions: int) -> Callable[[str], Task]:
        return lambda name: _continuous(name, _ackley, [0] * dimensions, [20] * dimensions)

    def rosenbrock(dimensions: int) -> Callable[[str], Task]:
        return lambda name: _continuous(name, _rosenbrock, [1] * dimensions, [4] * dimensions)

    def styblinski_tang(dimensions: int) -> Callable[[str], Task]:
        at, best = [_STYBLINSKI_TANG_AT] * dimensions, -39.16616570377142
        return lambda name: _continuous(name, _styblinski_tang, at, [10] * dimensions, best)

    ones, zeros = np.ones(6), np.zeros(6)
    return {
        "branin-2": lambda name: _in_place(name, _branin, np.array([-5, 0]), np.array([10, 15]), 0.39788735772973816),
        "hartmann-3": lambda name: _in_place(
            name, lambda x: _hartmann(x, *_HARTMANN3), zeros[:3], ones[:3], -3.86277978
        ),
        "hartmann-6": lambda name: _in_place(name, lambda x: _hartmann(x, *_HARTMANN6), zeros, ones, -3.32236801),
        "ackley-5": ackley(5),
        "ackley-10": ackley(10),
        "rosenbrock-4": rosenbrock(4),
        "rosenbrock-8": rosenbrock(8),
        "levy-10": lambda name: _continuous(name, _levy, [1] * 10, [20] * 10),
        "styblinski-tang-10": styblinski_tang(10),
        "styblinski-tang-20": styblinski_tang(20),
        "griewank-6": lambda name: _continuous(name, _griewank, [0] * 6, [200] * 6),
        "rotated-ellipsoid-6": lambda name: _continuous(name, _rotated_ellipsoid, [0] * 6, [4] * 6),
        "ackley-mixed-9": _ackley_mixed,
        "network-10": _network,
        "optimisers": _optimisers,
        "layers": _layers,
        "models": _models,
    }


FUNCTIONS = _functions()

SHORT = ("lcbench-167168", "hartmann-6", "network-10", "optimisers")
"""The tasks of the short form."""

FULL_DATA_SETS = (
    "3945",
    "7593",
    "34539",
    "126026",
    "167104",
    "167168",
    "167190",
    "168330",
    "168868",
    "189354",
    "189873",
    "189906",
)
"""LCBench's data sets in the full form; the others are there by name or pattern."""


GROUPS = ("lcbench", "nas", "functions", "mixed")

MIXED = ("ackley-mixed-9", "network-10", "optimisers", "layers", "models")
"""The functions of several kinds of parameter, or of conditional ones."""


def group(name: str) -> str:
    """Returns which of `GROUPS` a task belongs to."""
    if name in FUNCTIONS:
        return "mixed" if name in MIXED else "functions"
    return "lcbench" if name.startswith("lcbench-") else "nas"


def task_names() -> Iterator[str]:
    """Yields every task there is; those of data that is not on this machine are left out."""
    if (DATA / "lcbench" / "model.onnx").exists() and not common.absent("onnxruntime"):
        yield from (f"lcbench-{data_set}" for data_set in ACCURACIES)
    if (DATA / "nas-bench-macro-cifar10.json").exists():
        yield "nas-bench-macro"
    yield from FUNCTIONS


def choose(patterns: Sequence[str]) -> list[str]:
    """Returns the tasks that match: names or patterns (``lcbench-*``), or ``short``, ``full`` and ``all``."""
    there = list(task_names())
    other = {f"lcbench-{each}" for each in ACCURACIES} - {f"lcbench-{each}" for each in FULL_DATA_SETS}
    groups = {"short": SHORT, "full": [each for each in there if each not in other], "all": there}
    chosen: list[str] = []
    for pattern in patterns:
        matching = [each for each in groups.get(pattern, []) if each in there] or fnmatch.filter(there, pattern)
        if not matching:
            raise SystemExit(f"no task matches {pattern!r}; there are: short, full, all, {', '.join(there)}")
        chosen += matching
    return list(dict.fromkeys(chosen))


@functools.cache
def make_task(name: str) -> Task:
    """Returns a task by its name."""
    if name.startswith("lcbench-"):
        return _lcbench(name.removeprefix("lcbench-"))
    return FUNCTIONS[name](name) if name in FUNCTIONS else _nas_bench_macro(name)


def main() -> int:
    data_sets = [each for each in json.loads((DATA / "lcbench" / "config_space.json").read_text())["hyperparameters"]]
    for data_set in next(each["choices"] for each in data_sets if each["name"] == "OpenML_task_id"):
        least, greatest = search_accuracies(data_set)
        print(f'    "{data_set}": ({least:.4f}, {greatest:.4f}),', flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
