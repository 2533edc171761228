"""Hyperopt's algorithms through the sampler protocol."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcompss.errors import InputError, MissingExtraError, nearest, shown
from hpcompss.samplers.base import Sampler
from hpcompss.samplers.history import History
from hpcompss.space.parameters import Boolean, Choice, Int, Parameter
from hpcompss.space.space import Space
from hpcompss.trial import Configuration

__all__ = ["Hyperopt"]

ALGORITHMS = ("tpe", "atpe", "anneal")

Values = dict[str, list[float]]
"""A configuration in Hyperopt's terms: a list of one value for each label."""

GAMMA = 0.25
CANDIDATES = 24
"""Hyperopt's own defaults."""

ADAPTIVE_PROPOSALS = 3
"""How many proposals of adaptive TPE are worth their cost, some 70 ms each, before a configuration is drawn."""

STEPS = 10
"""Up to so many evenly spaced numbers TPE is told that they are steps. After 80 trials on a quadratic function of six
Ints (medians of 24 seeds), that ended 2 times nearer the best with 4 and with 6 values, about level with 5, 8 and 10,
and farther from it with 12, 20 and 50. More are taken for continuous, which is also faster, since Hyperopt's mixtures
of steps loop over the trials in Python."""


class Hyperopt(Sampler):
    """Suggests with Hyperopt: its tree-structured Parzen estimator (TPE), the adaptive form of that, or its annealing.

    TPE (Bergstra et al., 2011, "Algorithms for hyper-parameter optimization") models each parameter by itself, from the
    trials in which it was active. So the space is given to Hyperopt flat, each trial with its active parameters only,
    and of what Hyperopt suggests the inactive ones are dropped: the conditions stay exact, whatever their shape. A
    number is modelled on its own scale, the axis of the unit cube.

    Adaptive TPE (B. Arsenault, 2018) lets models that were trained beforehand choose TPE's settings, the trials that it
    looks at, and which parameters to hold. It measures how each parameter goes with the loss, for which each trial must
    have a value of it; where it was inactive, a random one is put that tells nothing.

    A trial that failed or is infeasible counts as the worst feasible one; while none is feasible, the loss is by how
    much the constraints are violated. A trial that is still running counts as the worst too, which keeps what TPE
    suggests at the same time apart (the constant liar of Ginsbourger et al., 2010, "Kriging is well-suited to
    parallelize optimization", with the worst value for the lie).

    Args:
        space: What may vary.
        seed: Makes its choices repeatable.
        algorithm: ``"tpe"``, ``"atpe"`` (which needs the extra ``atpe``) or ``"anneal"``.
        startup_trials: How many trials must have finished before the model is asked; until then, draws are random.
        gamma: Of n trials, TPE takes the best gamma * sqrt(n) for good ones.
        candidates: How many candidates TPE weighs for each value.
        allow_duplicates: Whether a configuration may be suggested again.

    Raises:
        InputError: An argument is outside its range, or meant for another algorithm.
        MissingExtraError: ``atpe`` lacks a package.
    """

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        algorithm: str = "tpe",
        startup_trials: int = 20,
        gamma: float = GAMMA,
        candidates: int = CANDIDATES,
        allow_duplicates: bool = False,
    ) -> None:
        super().__init__(space, seed=seed, allow_duplicates=allow_duplicates)
        if algorithm not in ALGORITHMS:
            raise InputError(
                f"hyperopt has no algorithm {shown(algorithm)} here; {nearest(str(algorithm), ALGORITHMS)}"
            )
        for name, value in (("startup_trials", startup_trials), ("candidates", candidates)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name} must be a whole number above 0, not {shown(value)}")
        if isinstance(gamma, bool) or not isinstance(gamma, int | float) or not 0 < gamma < math.inf:
            raise InputError(f"gamma must be a number above 0, not {shown(gamma)}")
        if algorithm != "tpe" and (gamma, candidates) != (GAMMA, CANDIDATES):
            raise InputError(f"gamma and candidates belong to tpe: leave them out for {algorithm}")
        for package, module in (("lightgbm", "lightgbm"), ("scikit-learn", "sklearn")):
            if algorithm == "atpe" and importlib.util.find_spec(module) is None:
                raise MissingExtraError(package, "atpe", "hyperopt's atpe")
        self.algorithm = algorithm
        self.startup_trials = startup_trials
        self.gamma = gamma
        self.candidates = candidates

    def propose(
        self, history: History, pending: Sequence[Configuration], number: int, generator: np.random.Generator
    ) -> Iterator[Configuration]:
        """Yields random draws at first, then what the algorithm suggests with one seed after the other."""
        known = len(history) >= self.startup_trials and np.isfinite(_losses(history)).any()
        if not known or self.space.count == 1:
            yield from (self.space.sample(generator) for _ in range(self.PROPOSALS))
            return
        from hyperopt import base

        domain = base.Domain(None, {_label(self.space, column): node for column, node in self._nodes()})
        documents = self._documents(history, pending)
        suggest = self._adaptive(domain, documents) if self.algorithm == "atpe" else self._plain(domain, documents)
        for _ in range(ADAPTIVE_PROPOSALS if self.algorithm == "atpe" else self.PROPOSALS):
            yield self._configuration(suggest(int(generator.integers(2**31))))

    def _plain(self, domain: Any, documents: list[dict[str, Any]]) -> Callable[[int], Values]:
        """Returns the function that suggests with a seed, for TPE and annealing."""
        from hyperopt import anneal, base, tpe

        trials = base.trials_from_docs(documents, validate=False)
        algorithm: Callable[..., Any] = anneal.suggest
        if self.algorithm == "tpe":
            settings = {"n_startup_jobs": 0, "n_EI_candidates": self.candidates, "gamma": self.gamma, "verbose": False}
            algorithm = partial(tpe.suggest, **settings)

        def suggest(seed: int) -> Values:
            (document,) = algorithm([len(documents)], domain, trials, seed)
            return dict(document["misc"]["vals"])

        return suggest

    def _adaptive(self, domain: Any, documents: list[dict[str, Any]]) -> Callable[[int], Values]:
        """Returns the function that suggests with a seed, for adaptive TPE.

        It does what ``hyperopt.atpe.suggest`` does, but for reading the models from disk every time, and for a mistake:
        to that, an inactive parameter's value is text, and so is then every other value of it.
        """
        from hyperopt import atpe

        config = atpe.Hyperparameter.createHyperparameterConfigForHyperoptDomain(domain)
        losses = _positive([document["result"]["loss"] for document in documents])
        chance = np.random.default_rng(self.seed).random((len(documents), len(self.space)))
        columns = {_label(self.space, column): (column, each) for column, each in enumerate(self.space.parameters)}
        results = []
        for document, loss, row in zip(documents, losses, chance.tolist(), strict=True):
            result = {"trial": document["tid"], "status": "ok", "loss": loss, "log": "", "time": 0.0}
            for label, values in document["misc"]["vals"].items():
                column, parameter = columns[label]
                result[label] = (values or _observed(parameter, np.array([row[column]]))[0])[0]
            results.append(result)

        def suggest(seed: int) -> Values:
            with _silent():
                optimizer = _adaptive_optimizer()  # before the seed: to read the models takes chance, the first time
            with _seeded(seed), _silent():
                found = optimizer.recommendNextParameters(config, results, currentTrials=[])
            return {label: [value] for label, value in found.items()}

        return suggest

    def _nodes(self) -> Iterator[tuple[int, Any]]:
        """Yields the columns that vary, each with Hyperopt's description of it."""
        from hyperopt import hp

        for column, parameter in enumerate(self.space.parameters):
            label, count = _label(self.space, column), parameter.count
            if count == 1:
                continue
            if _is_category(parameter):
                yield column, hp.randint(label, count)
            elif _is_steps(parameter):
                yield column, hp.quniform(label, -0.5, count - 0.5, 1)
            else:
                yield column, hp.uniform(label, 0, 1)

    def _documents(self, history: History, pending: Sequence[Configuration]) -> list[dict[str, Any]]:
        """Returns the finished and the running trials as Hyperopt's documents."""
        units = np.vstack([history.units, self.encoded(pending)])
        losses = np.concatenate([_losses(history), np.full(len(pending), np.nan)])
        losses[~np.isfinite(losses)] = losses[np.isfinite(losses)].max()
        columns = {
            _label(self.space, column): _observed(parameter, units[:, column])
            for column, parameter in enumerate(self.space.parameters)
            if parameter.count != 1
        }
        return [
            _document(number, loss, {label: values[number] for label, values in columns.items()})
            for number, loss in enumerate(losses.tolist())
        ]

    def _configuration(self, values: Values) -> Configuration:
        unit = np.full(len(self.space), 0.5)
        for column, parameter in enumerate(self.space.parameters):
            if parameter.count != 1:
                (value,) = values[_label(self.space, column)]
                unit[column] = (value + 0.5) / parameter.count if _is_indexed(parameter) else value
        return self.space.decode(unit)


@lru_cache(maxsize=1)
def _adaptive_optimizer() -> Any:
    """Returns adaptive TPE with its models, which take long to read and do not change."""
    import sklearn.preprocessing  # noqa: F401  (Hyperopt uses it without importing it)
    from hyperopt import atpe

    optimizer = atpe.ATPEOptimizer()
    optimizer.parameterModels = {name: _Predictor(model) for name, model in optimizer.parameterModels.items()}
    return optimizer


class _Predictor:
    """A model that is not asked why: adaptive TPE asks it each time, uses no answer, and waits most of its time."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def predict(self, rows: list[list[float]], pred_contrib: bool = False) -> Any:
        if pred_contrib:
            return np.ones((len(rows), (len(rows[0]) + 1) * self._model.num_model_per_iteration()))
        return self._model.predict(rows, num_threads=1)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds the global generators that Hyperopt draws from, and puts them back afterwards."""
    states = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keeps Hyperopt from logging and from warning of what it handles itself."""
    logger = logging.getLogger("hyperopt")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _positive(losses: list[float]) -> list[float]:
    """Returns losses as adaptive TPE wants them: above 0, and small enough to compute their moments."""
    array = np.array(losses)
    array = array / max(1.0, np.abs(array).max() / 1e6)
    return list((array - min(array.min(), 0.0) + (0.1 if array.min() <= 0 else 0.0)).tolist())


def _losses(history: History) -> NDArray[np.float64]:
    """Returns what is to be minimised, not finite where a trial is to count as the worst: shape (trials,)."""
    feasible = np.where(history.violations == 0, history.losses, np.nan)
    return feasible if np.isfinite(feasible).any() else history.violations


def _label(space: Space, column: int) -> str:
    # Annealing visits the labels from the last to the first; parents, which stand first, must choose first.
    return f"{len(space) - column:09d}"


def _is_category(parameter: Parameter) -> bool:
    return isinstance(parameter, Boolean) or (isinstance(parameter, Choice) and not parameter.ordered)


def _is_steps(parameter: Parameter) -> bool:
    uneven = isinstance(parameter, Int) and parameter.step is None and parameter.sampling != "linear"
    return parameter.count <= STEPS and not uneven


def _is_indexed(parameter: Parameter) -> bool:
    return _is_category(parameter) or _is_steps(parameter)


def _observed(parameter: Parameter, units: NDArray[np.float64]) -> list[list[float]]:
    """Returns each trial's value in Hyperopt's terms: empty where the parameter was inactive."""
    if not _is_indexed(parameter):
        return [[] if math.isnan(value) else [value] for value in units.tolist()]
    return [[] if math.isnan(value) else [int(value)] for value in (units * parameter.count).tolist()]


def _document(number: int, loss: float, values: dict[str, list[float]]) -> dict[str, Any]:
    active: list[int] = [number]
    inactive: list[int] = []
    indices = {label: active if value else inactive for label, value in values.items()}
    return {
        "tid": number,
        "spec": None,
        "state": 2,
        "exp_key": None,
        "result": {"status": "ok", "loss": loss},
        "misc": {"tid": number, "idxs": indices, "vals": values},
    }
