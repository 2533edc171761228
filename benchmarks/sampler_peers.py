"""The samplers that are compared: ours and each peer's, through one protocol, every task in the peer's own terms.

A `Searcher` is asked for a configuration and told its loss, which is to be minimised; between the two, the
configuration is pending and the searcher knows it, in the way its own library has for that. Peers are left at their
defaults. A space is translated as that library's users would write it: log scales, whole numbers, categories, and
conditions where the library has them.
"""

from __future__ import annotations

import abc
import ast
import copy
import functools
import hashlib
import inspect
import logging
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import common
import numpy as np

from hpcompss.samplers import SAMPLERS, History, make_sampler
from hpcompss.space import Boolean, Float, Int, Parameter, Space
from hpcompss.trial import Configuration, Result, Trial, TrialState, Value

__all__ = ["OURS", "PEERS", "Searcher", "make_searcher", "missing", "version"]

OURS = ("gp", "tpe", "auto", "quasirandom", "random", "hyperopt")


class Searcher(abc.ABC):
    """Suggests configurations for a task.

    Args:
        space: The task's space.
        seed: Makes its choices repeatable.
        trials: How many trials there will be, for those that take it into account.
    """

    @abc.abstractmethod
    def __init__(self, space: Space, seed: int, trials: int) -> None: ...

    @abc.abstractmethod
    def ask(self) -> tuple[Any, Configuration]:
        """Returns a configuration to try, pending from now on, with what `tell` knows it by."""

    @abc.abstractmethod
    def tell(self, handle: Any, loss: float) -> None:
        """Takes a pending configuration's loss."""

    def load(self, configurations: Sequence[Configuration], losses: Sequence[float]) -> None:
        """Takes finished trials that were suggested elsewhere."""
        raise NotImplementedError(f"{type(self).__name__} takes no trials from elsewhere here")


class Ours(Searcher):
    """A sampler of hpcompss, given the history and the pending configurations as a study would."""

    def __init__(self, space: Space, seed: int, trials: int, *, name: str) -> None:
        budget = {"trials": trials} if "trials" in inspect.signature(_class(name)).parameters else {}
        self.sampler = make_sampler(name, space, seed=seed, **budget)
        self.history = History(space, "minimize")
        self.pending: dict[int, Configuration] = {}
        self.asked = 0

    def ask(self) -> tuple[int, Configuration]:
        number, self.asked = self.asked, self.asked + 1
        configuration = self.sampler.ask(self.history, list(self.pending.values()), number)
        self.pending[number] = configuration
        return number, configuration

    def tell(self, handle: int, loss: float) -> None:
        self.history.append(Trial(handle, self.pending.pop(handle), TrialState.COMPLETE, Result(loss)))

    def load(self, configurations: Sequence[Configuration], losses: Sequence[float]) -> None:
        for configuration, loss in zip(configurations, losses, strict=True):
            self.history.append(Trial(self.asked, configuration, TrialState.COMPLETE, Result(loss)))
            self.asked += 1


class Optuna(Searcher):
    """Optuna's samplers at their defaults, the space defined by running it."""

    def __init__(self, space: Space, seed: int, trials: int, *, sampler: str) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore")
        self.space = space
        self.study = optuna.create_study(sampler=getattr(optuna.samplers, sampler)(seed=seed))

    def ask(self) -> tuple[Any, Configuration]:
        trial = self.study.ask()
        return trial, _by_running(self.space, functools.partial(_suggest, trial))

    def tell(self, handle: Any, loss: float) -> None:
        self.study.tell(handle, loss)

    def load(self, configurations: Sequence[Configuration], losses: Sequence[float]) -> None:
        import optuna

        for configuration, loss in zip(configurations, losses, strict=True):
            trial = optuna.trial.FixedTrial(configuration)
            params = _by_running(self.space, functools.partial(_suggest, trial))
            known = {"params": params, "distributions": trial.distributions, "value": loss}
            self.study.add_trial(optuna.trial.create_trial(**known))


def _suggest(trial: Any, parameter: Parameter) -> Value:
    """Returns the value that an Optuna trial suggests."""
    name = parameter.name
    if isinstance(parameter, Int):
        log = parameter.sampling == "log"
        return trial.suggest_int(name, parameter.min_value, parameter.max_value, step=parameter.step or 1, log=log)
    if isinstance(parameter, Float):
        log = parameter.sampling == "log"
        return trial.suggest_float(name, parameter.min_value, parameter.max_value, step=parameter.step, log=log)
    return trial.suggest_categorical(name, _values(parameter))


class HyperoptTpe(Searcher):
    """Hyperopt's own TPE at its defaults; conditions are ``hp.choice`` of dictionaries."""

    def __init__(self, space: Space, seed: int, trials: int) -> None:
        from hyperopt import base

        logging.getLogger("hyperopt").setLevel(logging.ERROR)
        nodes = _HyperoptNodes(space)
        self.space = space
        self.domain = base.Domain(_passed, nodes.top())
        self.trials = base.Trials()
        self.generator = np.random.default_rng(seed)

    def ask(self) -> tuple[int, Configuration]:
        from hyperopt import base, tpe

        (identity,) = self.trials.new_trial_ids(1)
        self.trials.refresh()
        seed = int(self.generator.integers(2**31 - 1))
        (document,) = tpe.suggest([identity], self.domain, self.trials, seed, verbose=False)
        document["state"] = base.JOB_STATE_RUNNING
        self.trials.insert_trial_docs([document])
        self.trials.refresh()
        chosen = self.domain.evaluate(_assigned(document), None)["chosen"]
        return identity, _by_running(self.space, lambda parameter: _cast(parameter, _found(chosen, parameter.name)))

    def tell(self, handle: int, loss: float) -> None:
        from hyperopt import base

        document = next(each for each in reversed(self.trials._dynamic_trials) if each["tid"] == handle)
        document["state"] = base.JOB_STATE_DONE
        document["result"] = {"status": "ok", "loss": loss}
        self.trials.refresh()


def _passed(chosen: Any) -> dict[str, Any]:
    return {"status": "ok", "loss": 0.0, "chosen": chosen}


def _assigned(document: dict[str, Any]) -> dict[str, Any]:
    """Returns the value of every label of a Hyperopt trial that has one."""
    return {label: values[0] for label, values in document["misc"]["vals"].items() if values}


def _found(tree: Any, name: str) -> Any:
    """Returns what stands under ``name`` in nested dictionaries."""
    if name in tree:
        return tree[name]["value"] if isinstance(tree[name], Mapping) else tree[name]
    for each in tree.values():
        if isinstance(each, Mapping) and (found := _found(each, name)) is not None:
            return found
    return None


class _HyperoptNodes:
    """A space as Hyperopt's users write it: a parent with children is a choice of dictionaries that hold them."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.made: dict[str, Any] = {}

    def top(self) -> dict[str, Any]:
        return {each.name: self._node(each) for each in self.space.parameters if not each.conditions}

    def _node(self, parameter: Parameter) -> Any:
        # A child of several values of its parent is one node in all of their branches, so that it keeps its label.
        if parameter.name not in self.made:
            self.made[parameter.name] = self._new(parameter)
        return self.made[parameter.name]

    def _new(self, parameter: Parameter) -> Any:
        from hyperopt import hp

        name = parameter.name
        children = [each for each in self.space.parameters if name in {known.parent for known in each.conditions}]
        if children:
            return hp.choice(name, [self._branch(value, children) for value in _values(parameter)])
        if isinstance(parameter, Int):
            if parameter.sampling == "log":
                return hp.qloguniform(name, math.log(parameter.min_value), math.log(parameter.max_value), 1)
            if parameter.step is None:
                return hp.uniformint(name, parameter.min_value, parameter.max_value)
            return hp.quniform(name, parameter.min_value, parameter.max_value, parameter.step)
        if isinstance(parameter, Float):
            if parameter.sampling == "log":
                return hp.loguniform(name, math.log(parameter.min_value), math.log(parameter.max_value))
            return hp.uniform(name, parameter.min_value, parameter.max_value)
        return hp.choice(name, _values(parameter))

    def _branch(self, value: Value, children: Iterable[Parameter]) -> dict[str, Any]:
        return {"value": value} | {each.name: self._node(each) for each in children if value in _parents(each)}


class KerasTuner(Searcher):
    """KerasTuner's Bayesian optimisation at its defaults, with one tuner's id for each trial in flight."""

    def __init__(self, space: Space, seed: int, trials: int) -> None:
        import keras_tuner

        warnings.simplefilter("ignore")
        settings = keras_tuner.HyperParameters()
        _declare(settings, space)
        self.space = space
        self.oracle = keras_tuner.oracles.BayesianOptimizationOracle(
            objective=keras_tuner.Objective("loss", "min"),
            max_trials=trials,
            hyperparameters=settings,
            seed=seed + 1,  # it takes 0 for no seed
        )
        self.oracle.verbose = 0
        # What it writes to disk after each call is not the search's cost.
        self.oracle.save = self.oracle._save_trial = lambda *_: None
        self.asked = 0

    def ask(self) -> tuple[Any, Configuration]:
        self.asked += 1
        trial = self.oracle.create_trial(f"tuner{self.asked}")
        if trial.status != "RUNNING":  # it believes that the space is used up
            return None, self.space.sample(np.random.default_rng(self.asked))
        values = trial.hyperparameters.values
        return trial, _by_running(self.space, lambda parameter: _cast(parameter, values[parameter.name]))

    def tell(self, handle: Any, loss: float) -> None:
        if handle is not None:
            self.oracle.update_trial(handle.trial_id, {"loss": loss})
            handle.status = "COMPLETED"
            self.oracle.end_trial(handle)


def _declare(settings: Any, space: Space) -> None:
    """Declares a space to KerasTuner."""
    import contextlib

    for parameter in space.parameters:
        with contextlib.ExitStack() as scopes:
            for condition in _ancestry(space, parameter):
                scopes.enter_context(settings.conditional_scope(condition.parent, list(condition.values)))
            if isinstance(parameter, Int | Float):
                kind = settings.Int if isinstance(parameter, Int) else settings.Float
                bounds = {"min_value": parameter.min_value, "max_value": parameter.max_value}
                kind(parameter.name, **bounds, step=parameter.step, sampling=parameter.sampling)
            elif isinstance(parameter, Boolean):
                settings.Boolean(parameter.name)
            else:
                settings.Choice(parameter.name, _values(parameter), ordered=getattr(parameter, "ordered", False))


def _ancestry(space: Space, parameter: Parameter) -> list[Any]:
    """Returns a parameter's conditions and those of its parents, the outermost first."""
    by_name = {each.name: each for each in space.parameters}
    above = [found for each in parameter.conditions for found in _ancestry(space, by_name[each.parent])]
    return [*above, *parameter.conditions]


class ScikitOptimize(Searcher):
    """scikit-optimize's Optimizer with its Gaussian process, otherwise at its defaults.

    It knows no conditions: it is given the flat space, and of what it suggests the inactive parameters are dropped.
    Its strategy for pending configurations, told to a copy with the best value for a lie (``cl_min``, the default of
    ``ask(n_points)``), is applied to those that are pending.
    """

    def __init__(self, space: Space, seed: int, trials: int) -> None:
        from skopt import Optimizer

        warnings.simplefilter("ignore")
        self.space = space
        self.optimizer = Optimizer([_dimension(each) for each in space.parameters], "GP", random_state=seed)
        self.pending: dict[int, list[Any]] = {}
        self.asked = 0

    def ask(self) -> tuple[int, Configuration]:
        asking = self.optimizer
        if self.pending and self.optimizer.yi and self.optimizer._n_initial_points <= 0:
            asking = copy.deepcopy(self.optimizer)
            asking.tell(list(self.pending.values()), [min(self.optimizer.yi)] * len(self.pending))
        point = asking.ask()
        self.asked += 1
        self.pending[self.asked] = point
        values = dict(zip((each.name for each in self.space.parameters), point, strict=True))
        return self.asked, _by_running(self.space, lambda parameter: _cast(parameter, values[parameter.name]))

    def tell(self, handle: int, loss: float) -> None:
        self.optimizer.tell(self.pending.pop(handle), loss)


def _dimension(parameter: Parameter) -> Any:
    from skopt.space import Categorical, Integer, Real

    if isinstance(parameter, Int | Float) and parameter.step is None:
        kind = Integer if isinstance(parameter, Int) else Real
        prior = "log-uniform" if parameter.sampling == "log" else "uniform"
        return kind(parameter.min_value, parameter.max_value, prior=prior)
    return Categorical(_values(parameter))


# What the peers share


def _by_running(space: Space, value_of: Any) -> Configuration:
    """Returns the configuration of the active parameters, each asked for in turn, parents first."""
    configuration: Configuration = {}
    for parameter in space.parameters:
        if all(condition.holds(configuration) for condition in parameter.conditions):
            configuration[parameter.name] = value_of(parameter)
    return configuration


def _values(parameter: Parameter) -> list[Value]:
    return [parameter.value(index) for index in range(int(parameter.count))]


def _parents(child: Parameter) -> set[Value]:
    return {value for condition in child.conditions for value in condition.values}


def _cast(parameter: Parameter, value: Any) -> Value:
    """Returns a peer's value (a NumPy scalar, a whole number as a float) in the parameter's own type and range."""
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(parameter, Int):
        return min(max(round(plain), parameter.min_value), parameter.max_value)
    return min(max(plain, parameter.min_value), parameter.max_value) if isinstance(parameter, Float) else plain


# By name

PEERS: dict[str, tuple[str, tuple[str, ...], Any]] = {
    "optuna-tpe": ("optuna", ("optuna",), functools.partial(Optuna, sampler="TPESampler")),
    "optuna-gp": ("optuna", ("optuna", "torch"), functools.partial(Optuna, sampler="GPSampler")),
    "hyperopt-tpe": ("hyperopt", ("hyperopt",), HyperoptTpe),
    "keras-tuner": ("keras-tuner", ("keras_tuner", "sklearn"), KerasTuner),
    "scikit-optimize": ("scikit-optimize", ("skopt",), ScikitOptimize),
}
"""Each peer's package, the modules it needs, and its searcher."""


def missing(name: str) -> str:
    """Returns why a sampler is skipped, or an empty string."""
    if name in PEERS:
        return common.absent(*PEERS[name][1])
    if name in SAMPLERS:
        return ""
    return f"hpcompss has no sampler {name!r}"


def make_searcher(name: str, space: Space, seed: int, trials: int) -> Searcher:
    """Returns a searcher by its name."""
    if name in PEERS:
        return PEERS[name][2](space, seed, trials)
    return Ours(space, seed, trials, name=name)


def version(name: str) -> str:
    """Returns what changes when a sampler does: a peer's version, or a digest of the files that ours is made of."""
    return metadata.version(PEERS[name][0]) if name in PEERS else _digest(name)


def _class(name: str) -> type:
    import importlib

    module, _, attribute = SAMPLERS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


@functools.cache
def _digest(name: str) -> str:
    """Returns a digest of a sampler's module and of all it imports of this package, of all samplers where unsure."""
    package = common.ROOT / "hpcompss"
    everything = {*package.glob("samplers/**/*.py"), *package.glob("space/**/*.py")}
    used: set[Path] = set()
    waiting = [_file(SAMPLERS[name].partition(":")[0])]
    while waiting:
        path = waiting.pop()
        if path is None or path in used or not path.exists():
            continue
        used.add(path)
        waiting += [_file(module) for module in _imports(path)]
    looks_up = package / "samplers" / "__init__.py" in used
    files = everything if looks_up else used & everything
    return hashlib.sha256(b"\0".join(each.read_bytes() for each in sorted(files))).hexdigest()[:12]


def _file(module: str) -> Path | None:
    path = common.ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _imports(path: Path) -> list[str]:
    """Returns the modules of this package that a file imports, anywhere in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
    return [each for each in found if each.startswith("hpcompss.")]
