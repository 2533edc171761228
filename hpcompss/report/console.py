"""What the terminal shows: a live table while a search runs, plain lines where nobody watches, and the results."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hpcompss.engines.base import Future
from hpcompss.graph import best_model_path
from hpcompss.loop import INTERRUPTED, Snapshot, View
from hpcompss.report.edges import edges
from hpcompss.report.export import front_model
from hpcompss.study import Study
from hpcompss.tasks.finalize import ENSEMBLE
from hpcompss.trial import FailureKind, Result, Trial, TrialState, Value, fold_values, is_untrained

__all__ = ["is_untested", "make_console", "make_view", "refit_failure", "show_result", "show_status"]

MANY = 4
"""More trials than this in one turn get one line together, so that a thousand a second do not flood the output."""


WHOLE = 1e9
"""Below it a whole number (of parameters, say) is shown as it is."""

MANY_ON_FRONT = 20
"""So many trials of the front are shown at the most, spread evenly over it."""


def duration(seconds: float) -> str:
    """Returns a duration for people: ``3.2 s``, ``1 min 32 s``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def figure(value: float | None) -> str:
    """Returns a metric for people, with five significant digits; a whole number with all of its own."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.0f}" if abs(value) < WHOLE and value == int(value) else f"{value:.5g}"


def short(value: Value) -> str:
    """Returns a hyper-parameter's value for people, a float with four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def configuration(values: Mapping[str, Value]) -> str:
    """Returns a configuration on one line."""
    return " ".join(f"{name}={short(value)}" for name, value in values.items())


class _Console(Console):
    """A console that falls silent when nobody reads any more: a search goes on, for its study is what counts."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


def make_console(stream: TextIO) -> Console:
    """Returns a console on a stream; one that nobody watches has no end of line to keep to."""
    width = None if stream.isatty() else 10_000
    # What is printed is the user's: [brackets] and :colons: in it are no markup.
    return _Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def make_view(stream: TextIO) -> View:
    """Returns a live view for a terminal, plain lines for anything else."""
    console = make_console(stream)
    return LiveView(console) if console.is_terminal and not console.is_dumb_terminal else PlainView(console)


class PlainView(View):
    """One line a finished trial."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, message: str) -> None:
        """Prints the sentence."""
        self._console.print(message, markup=False)

    def update(self, snapshot: Snapshot) -> None:
        """Prints what finished."""
        study = snapshot.study
        of = "" if snapshot.trials is None else f"/{snapshot.trials}"
        if len(snapshot.finished) > MANY:
            best = f", {_so_far(study)}" if study.feasible else ""
            self.say(f"{study.finished}{of} trials finished, {study.failed} failed{best}")
            return
        for trial in snapshot.finished:
            best = f"  {_so_far(study)}" if study.feasible else ""
            self.say(f"trial {trial.number:>4}  {outcome(study, trial)}{best}  {study.finished}{of}")
            for warning in trial.result.warnings if trial.result else ():
                self.say(f"trial {trial.number:>4}  warning: {warning}")

    @contextlib.contextmanager
    def working(self, message: str) -> Iterator[None]:
        """Prints what is going on."""
        self.say(f"{message} ...")
        yield


class LiveView(View):
    """A table of what runs, redrawn in place, above a bar of what is done."""

    SHOWN = 20
    """How many running trials are shown at the most."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._begun = time.monotonic()
        self._warned: set[str] = set()

    def say(self, message: str) -> None:
        """Prints the sentence above the table."""
        self._console.print(message, markup=False)

    def update(self, snapshot: Snapshot) -> None:
        """Redraws the table."""
        if self._live is None:
            self._begun = time.monotonic()
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        for trial in snapshot.finished:
            self._tell_trouble(trial)
        self._live.update(self._picture(snapshot))

    def closing(self) -> None:
        """Takes the table away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    @contextlib.contextmanager
    def working(self, message: str) -> Iterator[None]:
        """Shows a spinner."""
        with self._console.status(Text(message)):
            yield

    def _tell_trouble(self, trial: Trial) -> None:
        """Prints a failure, and a warning the first time it is given."""
        result = trial.result
        if result is None:
            return
        if result.failure is not None:
            failed = "" if is_untrained(result) else "failed: "
            style = "yellow" if is_untrained(result) else "red"
            self._console.print(Text(f"trial {trial.number} {failed}{result.failure.reason}", style=style))
        for warning in result.warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                self._console.print(Text(f"trial {trial.number}: {warning}", style="yellow"))

    def _picture(self, snapshot: Snapshot) -> RenderableType:
        study = snapshot.study
        parts: list[RenderableType] = [self._running(snapshot)]
        hidden = len(snapshot.running) - self.SHOWN
        if hidden > 0:
            parts.append(Text(f"... and {hidden} more running", style="dim"))
        if study.feasible:
            best = Text.assemble(
                ("best  ", "bold"),
                f"trial {study.best.number}  {study.metric} ",
                (figure(study.best.value), "bold green"),
                f"  front of {study.front_size}" if study.also else "",
                f"  {configuration(study.best.configuration)}",
            )
            best.truncate(self._console.width, overflow="ellipsis")
            parts.append(best)
        parts.append(self._bar(snapshot))
        return Group(*parts)

    def _running(self, snapshot: Snapshot) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
        for name in ("trial", "where", "epoch", snapshot.study.metric, "running"):
            table.add_column(name, no_wrap=True, justify="left" if name == "where" else "right")
        table.add_column("configuration", no_wrap=True, overflow="ellipsis", ratio=1)
        now = time.monotonic()
        for trial, future in snapshot.running[: self.SHOWN]:
            running = "waiting" if future.started is None else duration(now - future.started)
            table.add_row(
                "" if trial.number < 0 else str(trial.number),  # one that goes on, which only its task knows
                future.place,
                _epoch(future),
                figure(future.progress.get(snapshot.study.metric)),
                running,
                configuration(trial.configuration),
            )
        return table

    def _bar(self, snapshot: Snapshot) -> RenderableType:
        study = snapshot.study
        left = snapshot.time_left
        of = "" if snapshot.trials is None else f"/{snapshot.trials}"
        text = Text.assemble(
            (f"{study.finished}{of} done", "bold"),
            f"  {_completed(study)}  ",
            (f"{study.failed} failed", "red" if study.failed else "dim"),
            f"  {duration(time.monotonic() - self._begun)}",
            "" if left is None else f", about {duration(left)} left",
        )
        if snapshot.stopping:
            ending = f"  {snapshot.stopping}: waiting for {len(snapshot.running)} running"
            hint = " (Ctrl-C again to stop at once; they are tried again on resume)"
            text.append(ending + (hint if snapshot.stopping == INTERRUPTED else ""), style="yellow")
        row = Table.grid(padding=(0, 1))
        if snapshot.trials is not None:
            row.add_row(ProgressBar(total=snapshot.trials, completed=study.finished, width=24), text)
        else:
            row.add_row(text)
        return row


def _epoch(future: Future) -> str:
    progress = future.progress
    if "epoch" not in progress:
        return "-"
    total = progress.get("epochs")
    return f"{progress['epoch']:.0f}/{total:.0f}" if total else f"{progress['epoch']:.0f}"


def outcome(study: Study, trial: Trial) -> str:
    """Returns what came of a trial, for one line."""
    result = trial.result
    if result is None:
        return trial.state.value
    if result.failure is not None:
        if is_untrained(result):
            return f"{result.failure.reason}  {duration(result.seconds)}"
        return f"failed after {duration(result.seconds)}: {result.failure.reason}"
    epoch = ("" if result.epoch is None else f" at epoch {result.epoch}") + _budget(result)
    breaches = study.breaches(trial)
    infeasible = f" (infeasible: {breaches})" if breaches else ""
    return f"{_reached(study, trial)}{epoch}{infeasible}  {duration(result.seconds)}"


def _reached(study: Study, trial: Trial) -> str:
    """Returns what a trial reached in each objective, and how the first differs between its folds or repeats."""
    first, *others = (f"{metric} {figure(value)}" for metric, value in study.point(trial).items())
    return ", ".join([first + ("" if trial.result is None else _spread(study, trial.result)), *others])


def _spread(study: Study, result: Result) -> str:
    """Returns, in words, how a trial's value differs between its folds or repeats; empty where it has none."""
    deviation = result.metrics.get(f"{study.metric}_std")
    deviates = "" if deviation is None else f"standard deviation {figure(deviation)} of "
    for kind in ("fold", "repeat"):
        if count := round(result.metrics.get(f"{kind}s", 0)) if fold_values(result.metrics) else 0:
            return f" ({deviates}{count} {kind}{'s' if count > 1 else ''})"
    return ""


def _budget(result: Result) -> str:
    """Returns how much a trial was trained so far, where that differs between trials."""
    if result.budget is None:
        return ""
    return f" of {result.budget}" if isinstance(result.budget, int) else f" with {result.budget:.0%} of the data"


def _show_budgets(study: Study, say: Any) -> None:
    """Prints how many trials were trained how much."""
    if study.scheduler is None:
        return
    unit = "epochs" if isinstance(study.scheduler.levels[0], int) else "of the data"
    counts = Counter(study.scheduler.budget(trial.stage) for trial in study.trials if trial.result is not None)
    shown = [f"{count} with {level if unit == 'epochs' else f'{level:.0%}'}" for level, count in sorted(counts.items())]
    say(f"trials: {', '.join(shown)} {unit}")


def _so_far(study: Study) -> str:
    """Returns the best value so far, and how many trials are on the front where there are several objectives."""
    front = f", front of {study.front_size}" if study.also else ""
    return f"best {figure(study.best.value)} (trial {study.best.number}){front}"


def _completed(study: Study) -> str:
    """Returns how many trials have a value, and how many of those break a constraint."""
    infeasible = study.completed - study.feasible
    return f"{study.completed} completed" + (f" ({infeasible} infeasible)" if infeasible else "")


def show_result(study: Study, console: Console) -> None:
    """Prints what a search has found and where it is."""

    def say(text: str = "") -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    if not study.feasible:
        what = f"is feasible ({_completed(study)}, " if study.completed else "has completed ("
        say(f"no trial {what}{study.failed} failed)")
    else:
        best = study.best
        epoch = "" if best.result is None or best.result.epoch is None else f" at epoch {best.result.epoch}"
        by = f" by {study.metric}" if study.also else ""
        say(f"best{by}: trial {best.number}, {_reached(study, best)}{epoch}")
        width = max((len(name) for name in best.configuration), default=0)
        for name, value in best.configuration.items():
            say(f"  {name:<{width}}  {value}")
        for sentence in edges(study):
            say(f"note: {sentence}")
        _show_test(study, say)
        _show_front(study, console)
    _show_budgets(study, say)
    _show_failures(study, say)
    if study.directory is not None:
        _show_models(study, study.directory, say)
        for warning in study.best.result.warnings if study.feasible and study.best.result is not None else ():
            say(f"warning: {warning}")
        say(f"results: {study.directory}")


def _show_models(study: Study, folder: Path, say: Any) -> None:
    """Prints where the best model and the ensemble are, and how to load what is no whole model."""
    path = best_model_path(study)
    load = f"hpcompss.Study.load({str(folder)!r})"
    if path is not None:
        say(f"best model: {path}")
        if path.suffix != Path(ENSEMBLE).suffix:
            say(f"  its weights; build(hp) with the best configuration makes the model: {load}.best_model()")
    if study.test and "ensemble" in study.test:
        if (folder / ENSEMBLE).exists():
            say(f"ensemble: {folder / ENSEMBLE}")
        else:
            say(f"ensemble: {load}.ensemble_model()")


def _show_front(study: Study, console: Console) -> None:
    """Prints the trials that no other one beats, where there are several objectives."""
    if not study.also or not study.front_size:
        return
    front = study.front
    volume = "" if study.hypervolume is None else f", hypervolume {figure(study.hypervolume)}"
    places = sorted({round(place * (len(front) - 1) / (MANY_ON_FRONT - 1)) for place in range(MANY_ON_FRONT)})
    shown = [front[place] for place in places]
    rest = "" if len(shown) == len(front) else f"; {len(shown)} of them, export has all"
    trials = "trial" if len(front) == 1 else "trials"
    console.print(f"front: {len(front)} {trials} that no other one beats{volume}{rest}", soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("trial", *(each.metric for each in study.objectives)):
        table.add_column(name, justify="right", no_wrap=True)
    models = [front_model(study, trial) for trial in shown]
    if any(models):
        table.add_column("model", no_wrap=True)
    table.add_column("configuration", no_wrap=True, overflow="ellipsis")
    for trial, model in zip(shown, models, strict=True):
        row = [str(trial.number), *(figure(value) for value in study.point(trial).values())]
        row += [f"models/{Path(model).name}" if model else "-"] if any(models) else []
        table.add_row(*row, configuration(trial.configuration))
    console.print(table)


def is_untested(study: Study) -> bool:
    """Returns whether the best model has yet to be scored on the test set."""
    if not study.feasible or best_model_path(study) is None:
        return False
    return study.test is None or study.test["number"] != study.best.number


def refit_failure(study: Study) -> str:
    """Returns why the refit that was asked for failed, with what to do; empty where it did not."""
    test = study.test
    if not study.feasible or not test or test["number"] != study.best.number or "refit_failed" not in test:
        return ""
    return f"the best model could not be trained anew: {test['refit_failed']}; fix the cause, then resume the study"


def _show_test(study: Study, say: Any) -> None:
    test = study.test
    if is_untested(study):
        say("not yet scored on the test set: resume does so when the search has ended")
        return
    if not test or test["number"] != study.best.number:
        return
    if failure := refit_failure(study):
        say(f"warning: {failure}")
    if test.get("reason"):
        say(f"not scored on the test set: {test['reason']}")
    if test["metrics"]:
        refit = " (trained anew on training and validation data)" if test.get("refit") else ""
        say(f"on the test set{refit}: {_figures(test['metrics'])}")
        if test.get("before_refit"):
            say(f"on the test set, before it was trained anew: {_figures(test['before_refit'])}")
        if test.get("ensemble", {}).get("metrics"):
            *others, last = test["ensemble"]["members"]
            members = f"{', '.join(map(str, others))} and {last}"
            say(f"on the test set, the ensemble of trials {members}: {_figures(test['ensemble']['metrics'])}")


def _figures(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {figure(value)}" for name, value in metrics.items())


def _show_failures(study: Study, say: Any) -> None:
    failures = [t.result.failure for t in study.trials if t.result is not None and t.result.failure is not None]
    for (kind, reason), count in Counter((each.kind, each.reason) for each in failures).most_common(5):
        failed = "" if kind is FailureKind.INFEASIBLE else "failed: "
        say(f"{count} trial{'s' if count > 1 else ''} {failed}{reason}")


def show_status(study: Study, running: bool, console: Console) -> None:
    """Prints how a study on disk stands.

    Args:
        study: The study as its folder has it.
        running: Whether a master is at work on it.
        console: Where to print.
    """
    unfinished = study.started - study.finished
    state = "running" if running else "not running"
    waiting = f", {unfinished} {'running' if running else 'to be tried again on resume'}" if unfinished else ""
    console.print(
        f"{study.directory}: {state}; {_completed(study)}, {study.failed} failed{waiting}",
        markup=False,
        soft_wrap=True,
    )
    if not running and study.stopped:
        console.print(f"stopped: {study.stopped}", markup=False, soft_wrap=True)
    sign = -1 if study.direction == "maximize" else 1
    ranked = sorted(
        (trial for trial in study.trials if trial.state is TrialState.COMPLETE and trial.value is not None),
        key=lambda trial: (study.breaches(trial) != "", sign * (trial.value or 0.0)),
    )
    if study.also and study.feasible:
        _show_front(study, console)
    elif ranked:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("trial", study.metric, "epoch", "time"):
            table.add_column(name, justify="right", no_wrap=True)
        if study.constraints:
            table.add_column("constraints", no_wrap=True)
        table.add_column("configuration", no_wrap=True, overflow="ellipsis")
        for trial in ranked[:10]:
            result = trial.result
            epoch = "-" if result is None or result.epoch is None else f"{result.epoch}{_budget(result)}"
            seconds = "-" if result is None else duration(result.seconds)
            row = [str(trial.number), figure(trial.value), epoch, seconds]
            row += [study.breaches(trial) or "met"] if study.constraints else []
            table.add_row(*row, configuration(trial.configuration))
        console.print(table)
    _show_failures(study, lambda text: console.print(text, markup=False, soft_wrap=True))
