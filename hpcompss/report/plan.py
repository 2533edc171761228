"""What a workflow would do, without training anything: its space, what it would try, and what fits at once."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hpcompss.errors import InputError
from hpcompss.forecast import Forecast
from hpcompss.journal import finite
from hpcompss.loop import SHORT, View
from hpcompss.report.console import configuration, duration, figure, short
from hpcompss.samplers import SpaceExhausted, prediction
from hpcompss.samplers.prediction import Prediction
from hpcompss.space import Boolean, Choice, Fixed, Float, Int, Parameter
from hpcompss.study import Study
from hpcompss.tasks.suggest import next_configuration
from hpcompss.trial import Configuration, Resources
from hpcompss.tuning import (
    check_sources,
    find_space,
    forgetting,
    locating,
    open_engine,
    read_data_once,
    study_of,
    with_limits,
)
from hpcompss.workflow import Workflow

__all__ = ["Plan", "make_plan", "show_plan"]

FIRST = 5
"""How many configurations are shown of a study that has not begun."""

PROMISING = 10
"""And how many predicted ones of a study that has."""

NOTHING = 1e-6
"""An expected improvement below this share of the deviation is shown as 0."""


@dataclass(frozen=True)
class Plan:
    """What a workflow would do.

    Attributes:
        workflow: The workflow.
        study: Its study: one that is there, or one that has not begun.
        first: The first configurations that a study that has not begun would try.
        predicted: The most promising configurations that are untried, once trials have finished.
        seconds: How long a trial of each of these is predicted to run, or None where that is not known.
        time_left: Seconds that the trials to come will take on so many slots, or None where that is not known.
        slots: How many trials would run at once.
    """

    workflow: Workflow
    study: Study
    first: list[Configuration]
    predicted: list[Prediction]
    slots: int
    seconds: list[float] | None = None
    time_left: float | None = None

    def to_plain(self) -> dict[str, Any]:
        """Returns the plan as plain data; an infinite count is None."""
        search, resources, space = self.workflow.search, self.workflow.trial_resources, self.study.space
        choice = self.study.choice
        return {
            "space": space.to_json(),
            "combinations": None if space.count == math.inf else space.count,
            "sampler": search.sampler,
            **({} if choice is None else {"chosen": {"name": choice[0], "reason": choice[1]}}),
            "seed": self.study.seed,
            "trials": search.trials,
            "seconds": search.time,
            "target": search.target,
            "patience": search.patience,
            "min_improvement": search.min_improvement,
            "warm_start": [{"directory": each.directory, "trials": len(each.trials)} for each in self.study.sources],
            "first": self.first,
            "finished": self.study.finished,
            "predicted": finite([vars(each) for each in self.predicted]),
            "predicted_seconds": self.seconds,
            "time_left": self.time_left,
            "resources": {
                key: value
                for key, value in {**vars(resources), "parameters": self.workflow.resources.parameters}.items()
                if value is not None and value is not False
            },
            "at_once": self.slots,
        }


def make_plan(
    workflow: Workflow, *, folder: Path | None = None, first: int | None = None, view: View | None = None
) -> Plan:
    """Returns what a workflow would do.

    A Keras model's space is found by calling ``build``, in a worker; nothing is trained. Of a study that has begun the
    space is known, and what its trials have shown.

    Args:
        workflow: The workflow.
        folder: The folder of the workflow's study, where it has begun.
        first: How many configurations to show: by default 5, and 10 predicted ones of a study that has begun.
        view: Told what goes on meanwhile.

    Raises:
        InputError: Something the user stated is wrong, or the study is another workflow's.
        UserCodeError: The user's module or ``build`` raises.
    """
    view = view or View()
    begun = None if folder is None else Study.load(folder)
    if begun is not None and begun.settings.get("about", {}).get("workflow") != workflow.digest:
        raise InputError(
            f"{folder} holds the study of another workflow or of other settings: plan it as it is, with no option that "
            f"changes one, by  hpcompss plan {folder}"
        )
    if begun is None:
        check_sources(workflow)
    with locating(workflow), forgetting(workflow), open_engine(workflow, view=view) as engine:
        if begun is None:
            read_data_once(workflow, engine, view)
        study = study_of(workflow, find_space(workflow, engine, view)) if begun is None else begun
        slots = engine.capacity(workflow.trial_resources)
    if begun is None:
        count = first or FIRST
        return Plan(workflow, study, _first(study, min(count, workflow.search.trials or count)), [], slots)
    workflow = with_limits(workflow, begun)
    with view.working("predicting"):
        predicted = prediction.predict(study.history, study.pending, first or PROMISING)
        forecast = Forecast(begun)
        seconds = forecast.seconds([each.configuration for each in predicted])
        seconds = seconds if seconds and max(seconds) >= SHORT else None
        total = min(workflow.search.trials or math.inf, begun.space.count)
        to_come = None if total == math.inf else max(0, int(total) - begun.finished)
        time_left = forecast.time_left([], [], to_come, slots) if to_come else None
        return Plan(workflow, study, [], predicted, slots, seconds, time_left)


def _first(study: Study, count: int) -> list[Configuration]:
    shown: list[Configuration] = []
    known = study.prior
    with contextlib.suppress(SpaceExhausted):
        while len(shown) < count:
            shown.append(next_configuration(study.sampler, study.initial, known, shown, len(shown)))
    return shown


def show_plan(plan: Plan, console: Console) -> None:
    """Prints a plan."""

    def say(text: str = "") -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("parameter", "values", "scale", "how many", "active only when"):
        table.add_column(name, overflow="fold", justify="right" if name == "how many" else "left")
    study = plan.study
    for parameter in study.space.parameters:
        many = "infinite" if parameter.count == math.inf else f"{parameter.count:,}"
        table.add_row(parameter.name, _values(parameter), _scale(parameter), many, _conditions(parameter))
    console.print(table)
    count = study.space.count
    say(f"combinations: {'infinite' if count == math.inf else f'{count:,}'}")
    say()
    search = plan.workflow.search
    name = search.sampler if isinstance(search.sampler, str) else str(search.sampler.get("name"))
    limits = [f"{search.trials} trials"] if search.trials else []
    limits += [f"{duration(search.time)}"] if search.time else []
    limits += [f"the target {search.target:g}"] if search.target is not None else []
    limits += [f"{search.patience} trials without improvement"] if search.patience else []
    if search.min_improvement is not None:
        limits.append(f"an expected improvement below {search.min_improvement:g}")
    if study.choice is not None:
        name += f" ({study.choice[0]}: {study.choice[1]})"
    say(f"search: {name}, seed {study.seed}{' (drawn)' if search.seed is None else ''}, {' or '.join(limits) or 'all'}")
    if study.scheduler is not None and plan.workflow.fidelity is not None:
        levels = [f"{each:.0%}" if isinstance(each, float) else str(each) for each in study.scheduler.levels]
        unit = "of the data" if isinstance(study.scheduler.levels[0], float) else "epochs"
        say(f"stages: {', '.join(levels)} {unit} ({plan.workflow.fidelity.scheduler})")
    for source in study.sources:
        say(f"warm start: {source}")
    for number, each in enumerate(plan.first):
        say(f"  trial {number}: {configuration(each)}")
    if study.directory is not None:
        _show_predicted(plan, console, say)
    say()
    say(f"one trial asks for {_asked(plan.workflow.trial_resources)}")
    if plan.workflow.resources.parameters is not None:
        say(f"models of more than {plan.workflow.resources.parameters:,} parameters are skipped")
    say(f"at once on this machine: {plan.slots}")
    if plan.time_left is not None:
        say(f"the trials that remain take about {duration(plan.time_left)} in all")


def _show_predicted(plan: Plan, console: Console, say: Callable[[str], None]) -> None:
    best = f", the best {figure(plan.study.best.value)}" if plan.study.feasible else ""
    say(f"known: {plan.study.finished} trials have finished{best}")
    if not plan.predicted:
        say(f"nothing can be predicted: {prediction.obstacle(plan.study.history)}")
        return
    by = f", by {plan.study.metric} alone" if plan.study.also else ""
    say(f"the most promising untried configurations{by}, by a Gaussian process of what has finished:")
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = [f"expected {plan.study.metric}", "expected improvement", *(["expected time"] if plan.seconds else [])]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("configuration", no_wrap=True, overflow="ellipsis")
    for place, each in enumerate(plan.predicted):
        expected = f"{figure(each.value)} ± {each.deviation:.2g}"
        improvement = figure(each.improvement) if each.improvement > NOTHING * each.deviation else "0"
        seconds = [duration(plan.seconds[place])] if plan.seconds else []
        table.add_row(expected, improvement, *seconds, configuration(each.configuration))
    console.print(table)


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
