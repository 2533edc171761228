"""What a study begins with: configurations to try first, and what the trials of other studies say of its space."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpcompss.constraints import Constraint, constrained, parse_constraints
from hpcompss.errors import InputError, shown
from hpcompss.objectives import Objective
from hpcompss.space.space import Key, Space
from hpcompss.trial import Configuration, Result, Trial, TrialState, is_finished

if TYPE_CHECKING:
    from hpcompss.study import Study

__all__ = ["Source", "initial_configurations", "transferable"]

KEY = "search.warm_start"


@dataclass(frozen=True)
class Source:
    """What was taken over from another study.

    Attributes:
        directory: Its folder.
        comparable: Whether a configuration has the same value there and here, as the task is the same.
        trials: Its finished trials, their configurations being of the new space.
        left_out: How many trials do not fit, by reason.
    """

    directory: str
    comparable: bool
    trials: tuple[Trial, ...]
    left_out: Mapping[str, int]

    def __str__(self) -> str:
        reasons = "; ".join(f"{count}: {reason}" for reason, count in self.left_out.items())
        left_out = f", {sum(self.left_out.values())} left out ({reasons})" if self.left_out else ""
        shifted = "" if self.comparable else "; values shifted to this study's, for model, data or training differ"
        return f"{len(self.trials)} trials taken over from {self.directory}{left_out}{shifted}"

    def to_json(self) -> dict[str, Any]:
        """Returns plain data that `from_json` reads."""
        return {
            "directory": self.directory,
            "comparable": self.comparable,
            "left_out": dict(self.left_out),
            "trials": [
                {"configuration": each.configuration, "value": each.value, "metrics": dict(each.result.metrics)}
                for each in self.trials
                if each.result is not None
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Source:
        """Returns what `to_json` wrote."""
        trials = []
        for number, each in enumerate(data["trials"]):
            state = TrialState.FAILED if each["value"] is None else TrialState.COMPLETE
            trials.append(Trial(number, each["configuration"], state, Result(each["value"], each["metrics"])))
        return cls(data["directory"], data["comparable"], tuple(trials), data["left_out"])


def initial_configurations(space: Space, stated: Sequence[Mapping[str, Any]]) -> list[Configuration]:
    """Returns configurations to try first, whole and each of them once.

    Args:
        space: What may vary.
        stated: The configurations; a parameter that one leaves out has its default.

    Raises:
        InputError: One of them is not in the space; its key is that of the configuration.
    """
    if isinstance(stated, str | Mapping) or not isinstance(stated, Sequence):
        raise InputError(f"must be a list of configurations, not {shown(stated)}", key="search.initial")
    chosen: dict[Key, Configuration] = {}
    for number, each in enumerate(stated):
        try:
            if not isinstance(each, Mapping):
                raise InputError(f"a configuration is a mapping of names to values, not {shown(each)}")
            whole = space.validate({**each, **space.completed(each)})
        except InputError as error:
            raise InputError(error.message, key=f"search.initial.{number}") from None
        chosen.setdefault(space.key(whole), whole)
    return list(chosen.values())


def transferable(study: Study, space: Space, settings: Mapping[str, Any]) -> Source:
    """Returns the finished trials of a study as far as they say something of another one's space.

    A parameter that is new has its default, for the other study ran without it; one that is gone is left out. A trial
    whose values lie outside the new space is left out, and counted.

    Args:
        study: The other study.
        space: What may vary in the new one.
        settings: The new study's.

    Raises:
        InputError: The objectives differ, or the spaces have nothing in common.
    """
    objectives = (study.metric, study.direction), (settings["metric"], settings["direction"])
    if objectives[0] != objectives[1]:
        there, here = (f"to {direction} {metric}" for metric, direction in objectives)
        raise InputError(f"{study.directory} was {there}, this one is {here}: name one of that objective", key=KEY)
    if not _varying(study.space) & _varying(space):
        raise InputError(
            f"the space of {study.directory} ({', '.join(study.space.names)}) has no parameter that varies in common "
            f"with this one ({', '.join(space.names)}): name another study, or none",
            key=KEY,
        )
    constraints = parse_constraints(settings.get("constraints", {}))
    also = tuple(Objective(**each) for each in settings.get("also", ()))
    taken, left_out = [], Counter[str]()
    for trial in filter(is_finished, study.trials):
        try:
            taken.append(_fitted(trial, study.space, space, constraints, also))
        except InputError as error:
            left_out[error.message] += 1
    if all(trial.value is None for trial in taken):
        reasons = "; ".join(left_out) or f"it has {len(taken)} finished trials, none of which completed"
        message = f"no trial of {study.directory} says anything of this space ({reasons}): name another, or none"
        raise InputError(message, key=KEY)
    comparable = _task(study.settings) == _task(settings)
    return Source(str(study.directory), comparable, tuple(taken), dict(left_out))


def _varying(space: Space) -> set[str]:
    return {parameter.name for parameter in space.parameters if parameter.count > 1}


def _fitted(
    trial: Trial, there: Space, here: Space, constraints: Sequence[Constraint], also: Sequence[Objective]
) -> Trial:
    """Returns a trial with its configuration in another space. Raises `InputError` where it has none."""
    if trial.state is TrialState.INFEASIBLE:
        raise InputError("it was infeasible there and not trained")
    try:
        configuration = here.completed(trial.configuration)
    except InputError as error:
        raise InputError(f"a value of {error.key!r} is outside this space") from None
    for name in configuration:
        if name in there.names and name not in trial.configuration:
            raise InputError(f"{name!r} was not active there")
    result = constrained(trial.result or Result(None), constraints, also)
    if result.failure is not None and trial.value is not None:
        raise InputError(result.failure.reason)
    needed = {each.metric for each in constraints} | {each.metric for each in also}
    metrics = {name: value for name, value in result.metrics.items() if name in needed and math.isfinite(value)}
    return Trial(trial.number, configuration, trial.state, Result(result.value, metrics))


def _task(settings: Mapping[str, Any]) -> tuple[Any, Any]:
    """Returns what decides, beside the configuration, which value it has."""
    about = settings.get("about", {})
    return about.get("task"), about.get("module")
