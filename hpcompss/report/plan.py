"""What a workflow would do, without training anything: its space, its first configurations, and what fits at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from hpcompss.loop import View
from hpcompss.report.console import configuration, duration, short
from hpcompss.samplers import SpaceExhausted
from hpcompss.space import Boolean, Choice, Fixed, Float, Int, Parameter, Space
from hpcompss.trial import Configuration, Resources
from hpcompss.tuning import find_space, locating, open_engine, study_of
from hpcompss.workflow import Workflow

__all__ = ["Plan", "make_plan", "show_plan"]


@dataclass(frozen=True)
class Plan:
    """What a workflow would do.

    Attributes:
        workflow: The workflow.
        space: Its space.
        first: The first configurations that the sampler would try with nothing known yet.
        slots: How many trials would run at once.
        seed: The seed of ``first``.
    """

    workflow: Workflow
    space: Space
    first: list[Configuration]
    slots: int
    seed: int

    def to_plain(self) -> dict[str, Any]:
        """Returns the plan as plain data; an infinite count is None."""
        search, resources = self.workflow.search, self.workflow.trial_resources
        return {
            "space": self.space.to_json(),
            "combinations": None if self.space.count == math.inf else self.space.count,
            "sampler": search.sampler,
            "seed": self.seed,
            "trials": search.trials,
            "seconds": search.time,
            "first": self.first,
            "resources": {key: value for key, value in vars(resources).items() if value is not None},
            "at_once": self.slots,
        }


def make_plan(workflow: Workflow, *, first: int = 5, view: View | None = None) -> Plan:
    """Returns what a workflow would do.

    A Keras model's space is found by calling ``build``, in a worker; nothing is trained.

    Args:
        workflow: The workflow.
        first: How many configurations to show.
        view: Told what goes on meanwhile.

    Raises:
        InputError: Something the user stated is wrong.
        UserCodeError: The user's module or ``build`` raises.
    """
    with locating(workflow), open_engine(workflow) as engine:
        space = find_space(workflow, engine, view)
        slots = engine.capacity(workflow.trial_resources)
    study = study_of(workflow, space)
    shown: list[Configuration] = []
    try:
        for _ in range(min(first, workflow.search.trials or first)):
            shown.append(study.ask().configuration)
    except SpaceExhausted:
        pass
    return Plan(workflow, space, shown, slots, study.seed)


def show_plan(plan: Plan, console: Console) -> None:
    """Prints a plan."""

    def say(text: str = "") -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("parameter", "values", "scale", "how many", "active only when"):
        table.add_column(name, overflow="fold", justify="right" if name == "how many" else "left")
    for parameter in plan.space.parameters:
        many = "infinite" if parameter.count == math.inf else f"{parameter.count:,}"
        table.add_row(parameter.name, _values(parameter), _scale(parameter), many, _conditions(parameter))
    console.print(table)
    count = plan.space.count
    say(f"combinations: {'infinite' if count == math.inf else f'{count:,}'}")
    say()
    search = plan.workflow.search
    name = search.sampler if isinstance(search.sampler, str) else str(search.sampler.get("name"))
    limits = [f"{search.trials} trials"] if search.trials else []
    limits += [f"{duration(search.time)}"] if search.time else []
    say(f"search: {name}, seed {plan.seed}{' (drawn)' if search.seed is None else ''}, {' or '.join(limits) or 'all'}")
    for number, each in enumerate(plan.first):
        say(f"  trial {number}: {configuration(each)}")
    say()
    say(f"one trial asks for {_asked(plan.workflow.trial_resources)}")
    say(f"at once on this machine: {plan.slots}")


def _values(parameter: Parameter) -> str:
    if isinstance(parameter, Int | Float):
        step = "" if parameter.step is None or parameter.step == 1 else f", step {short(parameter.step)}"
        return f"{short(parameter.min_value)} to {short(parameter.max_value)}{step}"
    if isinstance(parameter, Choice):
        return ", ".join(short(value) for value in parameter.values)
    return "false, true" if isinstance(parameter, Boolean) else short(parameter.default)


def _scale(parameter: Parameter) -> str:
    if isinstance(parameter, Int | Float):
        return parameter.sampling
    if isinstance(parameter, Fixed):
        return "fixed"
    return "ordered" if isinstance(parameter, Choice) and parameter.ordered else "category"


def _conditions(parameter: Parameter) -> str:
    return " and ".join(f"{each.parent} is {_listed(each.values)}" for each in parameter.conditions)


def _listed(values: tuple[Any, ...]) -> str:
    """Returns values for people: a run of whole numbers by its ends."""
    numbers = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    if numbers and len(values) > 2 and list(values) == list(range(values[0], values[-1] + 1)):
        return f"{values[0]} to {values[-1]}"
    return " or ".join(short(value) for value in values)


def _asked(resources: Resources) -> str:
    parts = [f"{resources.cpu} cpu{'s' if resources.cpu > 1 else ''}", f"{short(resources.gpu)} gpu"]
    if resources.memory is not None:
        parts.append(f"{resources.memory / 1e9:.3g} GB of memory")
    if resources.time_limit is not None:
        parts.append(f"at most {duration(resources.time_limit)}")
    return ", ".join(parts)
