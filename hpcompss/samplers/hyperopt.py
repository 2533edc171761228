"""Hyperopt's algorithms through the sampler protocol."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcompss.errors import InputError, nearest
from hpcompss.samplers.base import Sampler
from hpcompss.samplers.history import History
from hpcompss.space.parameters import Boolean, Choice, Int, Parameter
from hpcompss.space.space import Space
from hpcompss.trial import Configuration

__all__ = ["Hyperopt"]

ALGORITHMS = ("tpe", "anneal")

GAMMA = 0.25
CANDIDATES = 24
"""Hyperopt's own defaults."""

STEPS = 10
"""Up to so many evenly spaced numbers TPE is told that they are steps. After 80 trials on a quadratic function of six
Ints (medians of 24 seeds), that ended 2 times nearer the best with 4 and with 6 values, about level with 5, 8 and 10,
and farther from it with 12, 20 and 50. More are taken for continuous, which is also faster, since Hyperopt's mixtures
of steps loop over the trials in Python."""


class Hyperopt(Sampler):
    """Suggests with Hyperopt: its tree-structured Parzen estimator or its annealing.

    TPE (Bergstra et al., 2011, "Algorithms for hyper-parameter optimization") models each parameter by itself, from the
    trials in which it was active. So the space is given to Hyperopt flat, each trial with its active parameters only,
    and of what Hyperopt suggests the inactive ones are dropped: the conditions stay exact, whatever their shape. A
    number is modelled on its own scale, the axis of the unit cube.

    A trial that failed counts as the worst finished one. So does one that is still running, which keeps what TPE
    suggests at the same time apart (the constant liar of Ginsbourger et al., 2010, "Kriging is well-suited to
    parallelize optimization", with the worst value for the lie).

    Args:
        space: What may vary.
        seed: Makes its choices repeatable.
        algorithm: ``"tpe"`` or ``"anneal"``.
        startup_trials: How many trials must have finished before the model is asked; until then, draws are random.
        gamma: Of n trials, TPE takes the best gamma * sqrt(n) for good ones.
        candidates: How many candidates TPE weighs for each value.
        allow_duplicates: Whether a configuration may be suggested again.

    Raises:
        InputError: An argument is outside its range, or meant for the other algorithm.
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
            raise InputError(f"hyperopt has no algorithm {algorithm!r} here; {nearest(str(algorithm), ALGORITHMS)}")
        for name, value in (("startup_trials", startup_trials), ("candidates", candidates)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name} must be a whole number above 0, not {value!r}")
        if isinstance(gamma, bool) or not isinstance(gamma, int | float) or not 0 < gamma < math.inf:
            raise InputError(f"gamma must be a number above 0, not {gamma!r}")
        if algorithm != "tpe" and (gamma, candidates) != (GAMMA, CANDIDATES):
            raise InputError(f"gamma and candidates belong to tpe: leave them out for {algorithm}")
        self.algorithm = algorithm
        self.startup_trials = startup_trials
        self.gamma = gamma
        self.candidates = candidates

    def propose(
        self, history: History, pending: Sequence[Configuration], number: int, generator: np.random.Generator
    ) -> Iterator[Configuration]:
        """Yields random draws at first, then what the algorithm suggests with one seed after the other."""
        known = len(history) >= self.startup_trials and np.isfinite(history.losses).any()
        if not known or self.space.count == 1:
            yield from (self.space.sample(generator) for _ in range(self.PROPOSALS))
            return
        from hyperopt import base

        domain = base.Domain(None, {_label(self.space, column): node for column, node in self._nodes()})
        documents = self._documents(history, pending)
        trials = base.trials_from_docs(documents, validate=False)
        suggest = self._suggest()
        for _ in range(self.PROPOSALS):
            (document,) = suggest([len(documents)], domain, trials, int(generator.integers(2**31)))
            yield self._configuration(document["misc"]["vals"])

    def _suggest(self) -> Callable[..., Any]:
        from hyperopt import anneal, tpe

        if self.algorithm == "anneal":
            return anneal.suggest  # type: ignore[no-any-return]
        return partial(tpe.suggest, n_startup_jobs=0, n_EI_candidates=self.candidates, gamma=self.gamma, verbose=False)

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
        units = np.vstack([history.units, *(self.space.encode(each) for each in pending)])
        losses = np.concatenate([history.losses, np.full(len(pending), np.nan)])
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

    def _configuration(self, values: dict[str, list[float]]) -> Configuration:
        unit = np.full(len(self.space), 0.5)
        for column, parameter in enumerate(self.space.parameters):
            if parameter.count != 1:
                (value,) = values[_label(self.space, column)]
                unit[column] = (value + 0.5) / parameter.count if _is_indexed(parameter) else value
        return self.space.decode(unit)


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
