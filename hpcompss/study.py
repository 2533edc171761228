"""A study: its space, its sampler, its trials and their record on disk; ask and tell."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import operator
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from hpcompss import __version__
from hpcompss.constraints import Constraint, breaches, constrained, parse_constraints, total_violation
from hpcompss.errors import InputError, nearest, shown
from hpcompss.fidelity import Report, Waiting, make_scheduler
from hpcompss.fidelity.brackets import Brackets
from hpcompss.importing import refuse_search
from hpcompss.journal import (
    LOCK,
    FolderLock,
    Journal,
    JournalError,
    finite,
    is_begun,
    make_folder,
    read_journal,
    result_from_json,
    result_to_json,
    undone_by_retries,
)
from hpcompss.objectives import DIRECTIONS, Objective, parse_objectives, point_of
from hpcompss.pareto import Front, Point
from hpcompss.samplers import DEFAULT, SpaceExhausted, make_sampler
from hpcompss.samplers.history import History
from hpcompss.space import Parameter, Space
from hpcompss.stopping import StopRules
from hpcompss.tasks.apart import write_files
from hpcompss.tasks.suggest import EXHAUSTED, next_configuration
from hpcompss.trial import (
    UNNAMED,
    Configuration,
    Failure,
    FailureKind,
    Resources,
    Result,
    Stage,
    Trial,
    TrialState,
    is_better,
    is_finished,
    result_of,
    state_of,
)
from hpcompss.warm_start import Source, initial_configurations, transferable

if TYPE_CHECKING:
    from hpcompss.engines.base import Engine

__all__ = ["JOURNAL", "LOGS", "WORKFLOW", "Study"]

JOURNAL = "journal.jsonl"
"""The journal's name in a study's folder."""

LOGS = "logs"
"""The name of the folder, in a study's, that keeps what workers print."""

MEASURED = 3
"""Of so many objectives the hypervolume is told at the most: with each further one it takes much longer."""

OF_THE_CODE = (FailureKind.EXCEPTION, FailureKind.DIED)
"""Failures that are most likely the code's doing: it raised, or its process ended. A limit that was exceeded or a value
that is not finite is more often the configuration's."""

REBUILT = (
    *("sampler", "scheduler", "_history", "_trials", "_running", "_interrupted"),
    *("_best", "_front", "_order", "_earlier", "_failures", "_failed", "_infeasible", "_untrained"),
)
"""The attributes of a study that follow from its records."""

RULES = tuple(StopRules.__dataclass_fields__)
"""The names of the rules that end a search."""

WORKFLOW = "workflow.yaml"
"""The resolved workflow's name in a study's folder."""


class Study:
    """A search over a space.

    Args:
        space: What may vary.
        sampler: ``"grid"``, ``"random"``, ``"hyperopt"``, or a mapping of its ``name`` and its options.
        direction: ``"minimize"`` or ``"maximize"``.
        seed: Makes the suggestions repeatable; drawn, and kept in the journal, where it is None.
        metric: The objective's name.
        directory: The folder that keeps the study, new or empty; None keeps it in memory alone.
        allow_duplicates: Whether a configuration may be tried twice.
        lag: None for the eager order, in which a suggestion uses all that is known when it is made. A number for the
            lagged order, in which suggestion i uses the results of the trials numbered up to i - lag alone: the same
            seed and lag then give the same configurations, whatever finishes first.
        initial: Configurations to try first, each a mapping of names to values: those it leaves out have their
            defaults.
        warm_start: The folder of another study with the same objective, or several: what came of its trials informs
            the sampler as far as they fit the space. Whether values mean the same there and here is told by ``task``
            and ``module`` in ``about`` of both.
        constraints: Bounds on other metrics that a trial reports, such as ``{"parameters": {"max": 1e6}}``: a trial
            that breaks one is infeasible and never the best, one that lacks such a metric has failed.
        also: Further objectives among the metrics that a trial reports: names whose direction is known, or mappings
            such as ``{"metric": "latency", "direction": "minimize"}``. A trial that lacks one has failed.
        budget: How many trials are planned, for a sampler that goes by it.
        fidelity: How long trials are trained, such as ``{"scheduler": "asha", "min_epochs": 1, "max_epochs": 27}``:
            those that do badly end early (`fidelity.make_scheduler`). None trains all to the end.
        per: ``"second"`` to prefer what promises the most progress per second; None counts every trial alike.
        about: Plain data that belongs to the study, kept in the journal.

    Attributes:
        directory: Its folder, or None.
        settings: What it was made with, as plain data.
        test: The winner's scores on the test set (``number``, ``metrics``, ``refit``), or None before they are known.
        stopped: Why the last search ended, empty while it goes on.
        data_digest: A digest of the data that the trials are trained on, empty where it is not known.
        code: Digests of the user's files as of the last time that it was begun or resumed, or None.
        limits: What was stated on resume in place of the workflow's own stop rules, as those of `StopRules`.
        model: The Python object that builds its models, where it was begun with one in this process, else None.

    Raises:
        InputError: An argument is wrong, or the folder is not empty, not writable, or in use.
    """

    def __init__(
        self,
        space: Space | Iterable[Parameter],
        *,
        sampler: str | Mapping[str, Any] = DEFAULT,
        direction: str = "minimize",
        seed: int | None = None,
        metric: str = UNNAMED,
        directory: str | os.PathLike[str] | None = None,
        allow_duplicates: bool = False,
        lag: int | None = None,
        initial: Sequence[Mapping[str, Any]] = (),
        warm_start: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
        constraints: Mapping[str, Any] | None = None,
        also: Sequence[str | Mapping[str, str]] = (),
        budget: int | None = None,
        fidelity: Mapping[str, Any] | None = None,
        per: str | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        space = space if isinstance(space, Space) else Space(space)
        if not isinstance(direction, str) or direction not in DIRECTIONS:
            raise InputError(
                f"unknown direction {shown(direction)}; {nearest(str(direction), DIRECTIONS)}", key="direction"
            )
        if seed is None:
            seed = int.from_bytes(os.urandom(4), "big")
        elif isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
            raise InputError(f"the seed is a whole number of at least 0, not {shown(seed)}", key="seed")
        if not isinstance(sampler, str | Mapping):
            raise InputError(
                "a study's sampler is a name or a mapping of name and options, which its journal can hold, "
                f"not {shown(sampler)}",
                key="sampler",
            )
        if lag is not None and (isinstance(lag, bool) or not isinstance(lag, int) or lag < 1):
            raise InputError(f"the lag is a whole number of at least 1, not {shown(lag)}", key="search.lag")
        if per is not None and not (isinstance(per, str) and per == "second"):
            raise InputError(
                f"progress is counted per 'second' or, without per, per trial, not per {shown(per)}",
                key="objective.per",
            )
        parse_constraints(constraints or {})
        scheduler = make_scheduler(fidelity, budget)
        if lag is not None and not isinstance(scheduler, Brackets | None):
            raise InputError(
                "in the lagged order brackets are submitted ahead, while this scheduler decides as trials report: take "
                "successive_halving or hyperband, or order: eager",
                key="fidelity.scheduler",
            )
        further = parse_objectives(also, metric)
        settings = {
            "direction": direction,
            "metric": metric,
            "seed": operator.index(seed),
            "sampler": sampler if isinstance(sampler, str) else dict(sampler),
            "allow_duplicates": allow_duplicates,
            **({} if lag is None else {"order": "lagged", "lag": lag}),
            **({} if budget is None else {"budget": budget}),
            **({} if scheduler is None else {"fidelity": dict(fidelity or {})}),
            **({} if per is None else {"per": per}),
            "space": space.to_json(),
            **({"constraints": {key: dict(each) for key, each in constraints.items()}} if constraints else {}),
            **({"also": [vars(each) for each in further]} if further else {}),
            **({"about": dict(about)} if about else {}),
        }
        if chosen := initial_configurations(space, initial):
            settings["initial"] = chosen
        elsewhere = [warm_start] if isinstance(warm_start, str | os.PathLike) else warm_start
        if sources := [transferable(_elsewhere(each), space, settings) for each in elsewhere]:
            settings["warm_start"] = [each.to_json() for each in sources]
        self._open(space, settings)
        if directory is not None:
            self._create(Path(directory))
        if self.choice is not None:
            self.note("sampler", name=self.choice[0], reason=self.choice[1])
            self.flush()

    def _open(self, space: Space, settings: dict[str, Any]) -> None:
        self.space = space
        self.sampler = make_sampler(
            settings["sampler"],
            space,
            seed=settings["seed"],
            allow_duplicates=settings["allow_duplicates"],
            trials=settings.get("budget"),
            per_second=settings.get("per") == "second",
        )
        self.settings = settings
        self.scheduler = make_scheduler(settings.get("fidelity"))
        self.constraints: tuple[Constraint, ...] = parse_constraints(settings.get("constraints", {}))
        self.also: tuple[Objective, ...] = tuple(Objective(**each) for each in settings.get("also", ()))
        self.initial: list[Configuration] = settings.get("initial", [])
        self.sources = tuple(Source.from_json(each) for each in settings.get("warm_start", ()))
        self.directory: Path | None = None
        self.test: dict[str, Any] | None = None
        self.stopped = ""
        self.code: dict[str, str] | None = settings.get("about", {}).get("code")
        self.limits: dict[str, Any] = {}
        self.data_digest = ""
        self.model: Any = None
        self._history = self.prior
        self._trials: list[Trial] = []
        self._running: dict[int, Trial] = {}
        self._interrupted: list[int] = []
        self._best: Trial | None = None
        self._front = Front()
        self._order: list[int] = []
        self._earlier: dict[int, tuple[Trial, ...]] = {}
        self._failures: dict[int, Failure] = {}
        self._failed = 0
        self._infeasible = 0
        self._untrained = 0
        self._journal: Journal | None = None
        self._lock: FolderLock | None = None
        self._unwritten: list[dict[str, Any]] = []
        self._in_memory: list[dict[str, Any]] = []

    # What is known

    @property
    def direction(self) -> str:
        """``"minimize"`` or ``"maximize"``."""
        return str(self.settings["direction"])

    @property
    def metric(self) -> str:
        """The objective's name."""
        return str(self.settings["metric"])

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """All objectives, the first of them first."""
        return (Objective(self.metric, self.direction), *self.also)

    @property
    def seed(self) -> int:
        """What makes the suggestions repeatable."""
        return int(self.settings["seed"])

    @property
    def choice(self) -> tuple[str, str] | None:
        """Which sampler was chosen, and why, where that was left to hpcompss."""
        return getattr(self.sampler, "choice", None)

    @property
    def lag(self) -> int | None:
        """How many numbers a result is behind the first suggestion it counts for; None in the eager order."""
        return self.settings.get("lag")

    @property
    def trials(self) -> Sequence[Trial]:
        """All trials by number, running ones included."""
        return tuple(self._trials)

    @property
    def best(self) -> Trial:
        """The feasible trial with the best value, the lowest of equals. Raises `LookupError` while there is none.

        Where there are several objectives, it is the best by the first one, and of those the best by the next: an end
        of the `front`.
        """
        if self._best is None:
            raise LookupError(f"no trial {'is feasible' if self.completed else 'has completed'} yet")
        return self._best

    @property
    def front(self) -> list[Trial]:
        """The feasible trials that no other one beats in all objectives, the best by the first objective first."""
        return [self._trials[number] for number in self.front_numbers]

    @property
    def front_numbers(self) -> list[int]:
        """The numbers of the trials on the front."""
        if self.also:
            return self._front.numbers
        return [] if self._best is None else [self._best.number]

    @property
    def front_size(self) -> int:
        """How many trials are on the front."""
        return len(self._front) if self.also else int(self._best is not None)

    @property
    def front_points(self) -> list[Point]:
        """What the trials on the front reach in each of several objectives, to be minimised; none of one objective."""
        return self._front.points

    @property
    def hypervolume(self) -> float | None:
        """The share that the front dominates of what lies between the best and the worst in two or three objectives."""
        return self._front.hypervolume if 1 < len(self.objectives) <= MEASURED else None

    def point(self, trial: Trial) -> dict[str, float]:
        """Returns what a trial that has completed reached in each objective, by the metric's name."""
        if trial.value is None or trial.result is None:
            return {}
        return {self.metric: trial.value, **{each.metric: trial.result.metrics[each.metric] for each in self.also}}

    @property
    def completed(self) -> int:
        """How many trials have a value, or were found infeasible before any training."""
        return self.finished - self._failed

    @property
    def untrained(self) -> int:
        """How many trials were found infeasible before any training, and so have no value."""
        return self._untrained

    @property
    def feasible(self) -> int:
        """How many trials have a value and keep to all constraints."""
        return self.completed - self._infeasible

    @property
    def failed(self) -> int:
        """How many trials failed."""
        return self._failed

    @property
    def failures(self) -> dict[int, Failure]:
        """Why trials failed, by number: those that have no value, and those whose latest stage failed."""
        return dict(self._failures)

    @property
    def finished(self) -> int:
        """How many trials completed or failed, or were found infeasible."""
        return len(self._order)

    @property
    def started(self) -> int:
        """How many trials were begun, whatever came of them."""
        return len(self._trials)

    @property
    def interrupted(self) -> int:
        """How many trials were interrupted and wait to be tried again."""
        return len(self._interrupted)

    @property
    def is_next_foreseen(self) -> bool:
        """Whether the next configuration is what it is whatever comes of the trials that run."""
        return bool(self._interrupted) or self.started < len(self.initial) or not self.sampler.learns

    @property
    def in_order(self) -> Sequence[Trial]:
        """The trials that completed or failed, in the order in which they did."""
        return tuple(self._trials[number] for number in self._order)

    @property
    def pending(self) -> list[Configuration]:
        """The configurations that are being tried, or wait to be tried again, and that nothing is known of yet."""
        trials = [self._trials[number] for number in (*self._running, *self._interrupted)]
        tried = [trial.configuration for trial in trials if trial.result is None]
        return [each for each in tried if each or not len(self.space)]  # in the lagged order they are not all known

    def due(self, *, last: bool = False) -> list[tuple[int, float]]:
        """Returns the trials that go on now and to which budget, the most promising first.

        Args:
            last: Whether no new trial will begin.
        """
        return [] if self.scheduler is None else self.scheduler.due(self.started if last else None)

    def stages(self, number: int) -> tuple[Trial, ...]:
        """Returns a trial as it stood after each of its stages so far."""
        trial = self._trials[number]
        return self._earlier.get(number, ()) + ((trial,) if is_finished(trial) else ())

    @property
    def history(self) -> History:
        """What samplers learn from."""
        return self._history

    @property
    def prior(self) -> History:
        """What was known before the first trial: those of other studies, as far as they were taken over."""
        history = History(self.space, self.direction, self.constraints, self.also)
        for source in self.sources:
            history.transfer(source.trials, comparable=source.comparable)
        return history

    def breaches(self, trial: Trial) -> str:
        """Returns, in words, which constraints a trial breaks; empty where it is feasible or has no value."""
        return "" if trial.value is None or trial.result is None else breaches(trial.result.metrics, self.constraints)

    # Ask and tell

    def ask(self) -> Trial:
        """Returns the next trial to run: an interrupted one first, one that goes on, or a new suggestion.

        With a scheduler its `stage` says how far to train it.

        Raises:
            SpaceExhausted: Every configuration of a finite space was tried.
            Waiting: No trial may begin, and which of the others go on depends on those that run.
            JournalError: The journal cannot be written.
        """
        trial = self.suggest()
        try:
            self.flush()
        except JournalError:
            self.give_back(trial.number)
            raise
        return trial

    def tell(
        self,
        trial: Trial | int,
        value: float | Mapping[str, float] | None = None,
        *,
        failure: str | None = None,
        seconds: float = 0.0,
    ) -> Trial:
        """Records what came of a trial and returns its record.

        Args:
            trial: What `ask` returned, or its number.
            value: The objective, or a mapping of metrics that holds it under the study's metric; a lone metric counts
                whatever its name where the study's metric has none of its own. NaN and infinity make a failed trial.
            failure: Why it has no value, in place of ``value``.
            seconds: How long it ran, for what goes by that; 0 where it is not known.

        Raises:
            InputError: The trial is not running, or the value or the seconds are no number.
            JournalError: The journal cannot be written.
        """
        if (value is None) == (failure is None):
            raise InputError("tell takes either a value or failure='the reason'")
        if not 0 <= seconds < math.inf:
            raise InputError(f"a trial runs for a number of seconds, at least 0, not {seconds!r}")
        if failure is not None:
            result = Result(value=None, failure=Failure(FailureKind.EXCEPTION, failure))
        else:
            result = result_of(value, self.metric)
        result = dataclasses.replace(result, seconds=seconds)
        finished = self.record(trial if isinstance(trial, int) else trial.number, result)
        self.flush()
        return finished

    def retry(self, number: int) -> Trial:
        """Makes a failed trial wait to be tried again, as if it had been interrupted, and returns its record.

        It keeps its number and configuration. Samplers and the scheduler forget that it failed. Where only its latest
        stage failed, that stage is tried again.

        Args:
            number: The trial's.

        Raises:
            InputError: The trial has not failed, or the study is closed.
            JournalError: The journal cannot be written.
        """
        if number not in self._failures:
            state = self._trials[number].state.value if 0 <= number < len(self._trials) else "unknown"
            raise InputError(f"trial {number} is {state}: only a trial that has failed can be tried again")
        self._try_again([number])
        return self._trials[number]

    def retry_failed(self, reason: str = "", *, kinds: Collection[FailureKind] | None = None) -> list[Trial]:
        """Makes failed trials wait to be tried again, see `retry`, and returns their records.

        Args:
            reason: Only those whose reason contains this text, whatever the case of its letters.
            kinds: Only those that failed in one of these ways; None for all.

        Raises:
            InputError: The study is closed.
            JournalError: The journal cannot be written.
        """
        numbers = [
            number
            for number, failure in sorted(self._failures.items())
            if reason.casefold() in failure.reason.casefold() and (kinds is None or failure.kind in kinds)
        ]
        if numbers:
            self._try_again(numbers)
        return [self._trials[number] for number in numbers]

    def _try_again(self, numbers: Sequence[int]) -> None:
        """Records that trials are tried again, and rebuilds what follows from the records."""
        self._check_open()
        self.flush()
        for number in numbers:
            # The journal of the lagged order has a configuration only with the result, which no longer counts.
            configuration = self._trials[number].configuration
            self.note("retry", number=number, configuration=configuration)
        try:
            self.flush()
        except JournalError:
            self._unwritten.clear()
            raise
        self._rebuild()

    def _rebuild(self) -> None:
        """Takes up anew what follows from the records, after some of them ceased to count."""
        if self.directory is None:
            records: list[dict[str, Any]] = [{"event": "study", **self.settings}, *self._in_memory]
        else:
            records = list(read_journal(self.directory / JOURNAL))
        journal = (self.directory or Path()) / JOURNAL
        rebuilt = self._replayed(records, journal, undone_by_retries(records))
        for number in sorted(set(rebuilt._running) - set(self._running)):
            rebuilt.give_back(number)
        for name in REBUILT:
            setattr(self, name, getattr(rebuilt, name))
        self.stopped = ""

    def optimize(
        self,
        function: Callable[[Configuration], float | Mapping[str, float]],
        *,
        trials: int | None = None,
        time: float | None = None,
        target: float | None = None,
        patience: int | None = None,
        min_improvement: float | None = None,
        engine: Engine | None = None,
        resources: Resources | None = None,
    ) -> Study:
        """Tries configurations until a rule ends the search and returns this study.

        Args:
            function: Called on a worker with a configuration; returns the objective or a mapping of metrics.
            trials: How many trials the study shall have in all, those before this call included.
            time: Seconds from the start of the first trial of this call after which no new one starts.
            target: The value that is good enough.
            patience: How many finished trials in a row may bring no better value.
            min_improvement: The expected improvement below which a further trial is not worth it.
            engine: Where to run; by default local worker processes, closed at the end. One that is given stays open.
            resources: What one trial asks for.

        Raises:
            InputError: No rule is sure to end the search of an infinite space, a rule is no number that can be met, or
                no worker can run such a trial.
            StudyFailed: The first three trials failed alike.
            JournalError: The journal cannot be written.
            KeyboardInterrupt: After Ctrl-C, once what ran has finished (at once after a second one); all is kept.
        """
        from hpcompss.engines import Local
        from hpcompss.graph import FunctionGraph
        from hpcompss.loop import INTERRUPTED, Loop

        refuse_search()
        rules = StopRules(trials, time, None, target, patience, min_improvement)
        with contextlib.nullcontext(engine) if engine is not None else Local() as where:
            graph = FunctionGraph(function, self.metric)
            if Loop(self, where, graph, rules, resources=resources or Resources()).run() == INTERRUPTED:
                raise KeyboardInterrupt
        return self

    # Ask and tell in batches, for the loop

    def suggest(
        self, *, last: bool = False, order: Callable[[Sequence[Trial]], Sequence[Trial]] | None = None
    ) -> Trial:
        """Returns the next trial; it counts once `flush` has returned. See `ask`.

        Args:
            last: Whether no new trial may begin.
            order: Puts the trials that may go on now, each with the stage that it would do, into the order in which
                they do. By default the most promising is the first. Those that it leaves out go on only where no new
                trial may begin.
        """
        self._check_open()
        if self.lag is not None:
            raise InputError("in the lagged order tasks make the suggestions: run the study with optimize")
        if self._interrupted:
            trial = self._marked(self._interrupted.pop(0), TrialState.RUNNING)
        elif chosen := self._next_due(self.due(last=last), last, order):
            return self.go_on(*chosen)
        elif last:
            raise Waiting
        else:
            number = len(self._trials)
            try:
                configuration = next_configuration(self.sampler, self.initial, self._history, self.pending, number)
            except SpaceExhausted:
                if not (chosen := self._next_due(self.due(last=True), True, order)):
                    raise
                return self.go_on(*chosen)
            trial = self._begun(number, configuration)
            self._unwritten.append({"event": "ask", "number": number, "configuration": configuration, "time": _now()})
        self._running[trial.number] = trial
        return trial

    def _next_due(
        self,
        due: Sequence[tuple[int, float]],
        last: bool,
        order: Callable[[Sequence[Trial]], Sequence[Trial]] | None,
    ) -> tuple[int, float] | None:
        """Returns which of the trials that are due goes on, and to which budget; None for none of them."""
        if order is None or not due:
            return due[0] if due else None
        budgets = dict(due)
        ordered = order(
            [dataclasses.replace(self._trials[each], stage=self._next_stage(each, budgets[each])) for each in budgets]
        )
        if not ordered:
            return due[0] if last else None
        return ordered[0].number, budgets[ordered[0].number]

    def _next_stage(self, number: int, budget: float) -> Stage:
        trial = self._trials[number]
        if self.scheduler is None or not is_finished(trial) or budget not in self.scheduler.levels:
            raise ValueError(f"trial {number} goes on, but it cannot")
        return self.scheduler.stage(budget, since=self.scheduler.budget(trial.stage))

    def go_on(self, number: int, budget: float) -> Trial:
        """Returns a trial that has reported, to be trained further; it counts once `flush` has returned."""
        trial = self._continue(number, budget)
        self._unwritten.append({"event": "continue", "number": number, "budget": budget, "time": _now()})
        return trial

    def _begun(self, number: int, configuration: Configuration) -> Trial:
        stage = Stage() if self.scheduler is None else self.scheduler.stage(self.scheduler.first(number))
        trial = Trial(number, configuration, stage=stage)
        self._trials.append(trial)
        return trial

    def _continue(self, number: int, budget: float) -> Trial:
        trial, stage = self._trials[number], self._next_stage(number, budget)
        self._earlier[number] = (*self._earlier.get(number, ()), trial)
        trial = dataclasses.replace(trial, state=TrialState.RUNNING, stage=stage)
        self._trials[number] = self._running[number] = trial
        if self.scheduler is not None:
            self.scheduler.begin(number)
        return trial

    def begin(self) -> Trial:
        """Returns the next trial of the lagged order, whose configuration a task will suggest; else like `suggest`."""
        self._check_open()
        if self._interrupted:
            number = min(self._interrupted)
            self._interrupted.remove(number)
            trial = self._marked(number, TrialState.RUNNING)
        else:
            trial = self._begun(len(self._trials), {})
            self._unwritten.append({"event": "ask", "number": trial.number, "configuration": None, "time": _now()})
        self._running[trial.number] = trial
        return trial

    def record(self, number: int, result: Result, configuration: Configuration | None = None) -> Trial:
        """Records what came of a running trial; it counts once `flush` has returned. See `tell`.

        Args:
            number: The trial's.
            result: What came of it.
            configuration: What it tried, where `begin` began it.
        """
        self._check_open()
        if number not in self._running:
            raise InputError(f"trial {number} is not running: tell takes each trial once, after ask")
        if self.scheduler is not None and result.budget is None:
            result = dataclasses.replace(result, budget=self.scheduler.budget(self._trials[number].stage))
        if self.directory is not None:
            result = _put_down(self.directory, result)
        data = result_to_json(constrained(result, self.constraints, self.also))
        told = {} if configuration is None else {"configuration": configuration}
        self._unwritten.append({"event": "tell", "number": number, "time": _now(), **told, **data})
        self._configure(number, configuration)
        # Rounded as on disk, so that a study reads the same before and after it is resumed.
        return self._finish(number, result_from_json(data))

    def _configure(self, number: int, configuration: Configuration | None) -> None:
        if configuration is not None:
            self._trials[number] = dataclasses.replace(self._trials[number], configuration=configuration)

    def give_back(self, number: int) -> None:
        """Puts a running trial among the interrupted ones, to be tried again; one that went on is as it was before."""
        del self._running[number]
        if number in self._earlier and self._trials[number].result is not None:
            *before, self._trials[number] = self._earlier[number]
            self._earlier[number] = tuple(before)
            if self.scheduler is not None:
                self.scheduler.give_back(number)
            return
        self._interrupted.append(number)
        self._marked(number, TrialState.INTERRUPTED)

    def _marked(self, number: int, state: TrialState) -> Trial:
        self._trials[number] = dataclasses.replace(self._trials[number], state=state)
        return self._trials[number]

    def note(self, event: str, **data: Any) -> None:
        """Adds an event to the journal, a figure that is not finite as None; it counts once `flush` has returned."""
        data = finite(data)
        self._heed(event, data)
        self._unwritten.append({"event": event, "time": _now(), **data})

    def flush(self) -> None:
        """Writes what is new to the journal. Raises `JournalError`."""
        if self._journal is not None and self._unwritten:
            if self._lock is not None:
                self._lock.check()
            self._journal.append(self._unwritten)
        if self.directory is None:
            self._in_memory += map(self._slim, self._unwritten)
        self._unwritten.clear()

    def _slim(self, record: dict[str, Any]) -> dict[str, Any]:
        """Returns a record without what nothing is rebuilt from: see `_finish`."""
        if self.scheduler is None:
            record = {key: value for key, value in record.items() if key != "curves"}
        if "failure" in record:
            record = {**record, "failure": {**record["failure"], "traceback": ""}}
        return record

    def _check_open(self) -> None:
        """Refuses what the journal could not keep."""
        if self.directory is not None and self._journal is None:
            raise InputError(
                f"the study in {self.directory} is closed, or was loaded for reading alone: go on with "
                f"Study.resume({str(self.directory)!r})"
            )

    def _finish(self, number: int, result: Result) -> Trial:
        # Curves and tracebacks stay in the journal: 20,000 trials of them do not fit in a light master.
        failure = result.failure and dataclasses.replace(result.failure, traceback="")
        slim = dataclasses.replace(result, curves={}, failure=failure)
        running = self._trials[number]
        if running.result is None:
            self._order.append(number)
        else:
            self._infeasible -= self._is_infeasible(running)
            slim = _continued(running.result, slim, running.stage)
        trial = dataclasses.replace(running, state=state_of(slim), result=slim)
        self._trials[number] = trial
        self._running.pop(number, None)
        if trial.configuration or not len(self.space):  # else no configuration was left to try
            self._learn(trial, result)
        if failure is None or failure == EXHAUSTED or failure.kind is FailureKind.INFEASIBLE:
            self._failures.pop(number, None)
        else:
            self._failures[number] = failure
        self._failed += trial.state is TrialState.FAILED
        self._infeasible += self._is_infeasible(trial)
        self._untrained += trial.state is TrialState.INFEASIBLE
        if self.also:
            self._place(trial)
            return trial
        if self._best is not None and self._best.number == number:
            self._best = None  # it may have become worse
            for each in self._trials:
                self._consider(each)
        self._consider(trial)
        return trial

    def _learn(self, trial: Trial, stage: Result) -> None:
        """Tells the sampler's history and the scheduler of a trial as it stands, and of its latest stage."""
        if self.scheduler is None:
            self._history.append(trial)
            return
        budget = self.scheduler.budget(trial.stage)
        if stage.value is not None or len(self.stages(trial.number)) == 1:
            self._history.append(trial, fidelity=budget / self.scheduler.levels[-1])
        first = self.objectives[0]
        curve = map(first.loss, stage.curves.get(self.metric, ()))
        violation = total_violation(stage.metrics, self.constraints) if stage.value is not None else math.inf
        point = (math.inf,) * len(self.objectives)
        if stage.value is not None:
            point = point_of(stage.value, stage.metrics, self.objectives)
        loss, *others = point
        self.scheduler.report(Report(trial.number, budget, loss, violation, stage.ended, tuple(curve), tuple(others)))

    def _is_infeasible(self, trial: Trial) -> bool:
        if trial.state is TrialState.INFEASIBLE:
            return True
        metrics = trial.result.metrics if trial.result is not None else {}
        return trial.value is not None and total_violation(metrics, self.constraints) > 0

    def _consider(self, trial: Trial) -> None:
        """Takes a trial for the best one if it is; one that goes on counts as it stood."""
        if trial.value is not None and not self._is_infeasible(trial) and self._is_best(trial):
            self._best = trial

    def _place(self, trial: Trial) -> None:
        """Puts a trial on the front of several objectives, or off it; where it stood before counts no more."""
        if trial.value is None or trial.result is None or self._is_infeasible(trial):
            self._front.discard(trial.number)
        else:
            self._front.add(trial.number, point_of(trial.value, trial.result.metrics, self.objectives))
        numbers = self._front.numbers
        self._best = self._trials[numbers[0]] if numbers else None

    def _is_best(self, trial: Trial) -> bool:
        best = self._best
        if best is None or best.value is None or trial.value is None:
            return True
        # Which of two equals finishes first is chance, and the winner must not be.
        return is_better(trial.value, best.value, self.direction) or (
            trial.value == best.value and trial.number < best.number
        )

    # What it leaves

    def best_model(self, model: Any = None) -> Any:
        """Returns the best model, trained and compiled, from ``best.keras`` or from ``best.weights.h5``.

        The user's own layers, losses and metrics are found in the module that the model is built in. Weights alone are
        given to the model that ``build`` makes of the best configuration::

            model = hpcompss.Study.load("studies/mine").best_model()

        Args:
            model: What builds it, a function ``build(hp)`` or a ``HyperModel``: needed where the study was begun with a
                Python object, in another process.

        Raises:
            InputError: No model was kept, it is unknown what builds it, or its file does not give it back.
        """
        from hpcompss.delivered import best_model

        return best_model(self, model)

    def ensemble_model(self, model: Any = None) -> Any:
        """Returns the ensemble, from ``ensemble.keras`` or made of its members' models; see `best_model`.

        Args:
            model: As that of `best_model`.

        Raises:
            InputError: There is no ensemble, or a model of a member is gone.
        """
        from hpcompss.delivered import ensemble_model

        return ensemble_model(self, model)

    # On disk

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> Study:
        """Returns a study as its folder has it, for reading. Raises `InputError` where there is none."""
        folder = Path(directory)
        journal = folder / JOURNAL
        try:
            study = cls._replayed(read_journal(journal), journal)
        except _TriedAgain:
            records = list(read_journal(journal))
            study = cls._replayed(records, journal, undone_by_retries(records))
        study.directory = folder
        for number in sorted(study._running):
            study.give_back(number)
        return study

    @classmethod
    def resume(cls, directory: str | os.PathLike[str]) -> Study:
        """Returns a study to go on with, its interrupted trials first.

        Raises:
            InputError: The folder holds no study, is in use, or its journal is damaged.
        """
        folder = Path(directory)
        if not (folder / JOURNAL).exists():
            raise InputError(f"{folder} holds no study: it has no {JOURNAL}")
        lock = FolderLock(folder)
        try:
            study = cls.load(folder)
            study._journal = Journal(folder / JOURNAL)
        except BaseException:
            lock.release()
            raise
        study._lock = lock
        study.note("resume", hpcompss=__version__)
        study.flush()
        return study

    @staticmethod
    def check_folder(folder: Path) -> None:
        """Makes a new study's folder. Raises `InputError` where it cannot be made or written, or holds something."""
        try:
            make_folder(folder)
            content = sorted(each.name for each in folder.iterdir() if not each.name.startswith(LOCK))
        except OSError as error:
            raise InputError(f"the study folder {folder} cannot be made ({error.strerror}): choose another") from None
        if is_begun(folder / JOURNAL):
            raise InputError(
                f"{folder} holds a study already: go on with  hpcompss resume {folder}  (Study.resume), "
                "or choose another folder"
            )
        foreign = [name for name in content if name not in (JOURNAL, LOGS, WORKFLOW)]
        if foreign:
            raise InputError(f"the study folder {folder} is not empty (it has {foreign[0]!r}): choose another")
        if not os.access(folder, os.W_OK):
            raise InputError(f"the study folder {folder} cannot be written: choose another")

    def close(self) -> None:
        """Writes what is new and lets others have the folder; harmless when repeated."""
        try:
            self.flush()
        finally:
            if self._journal is not None:
                self._journal.close()
            if self._lock is not None:
                self._lock.release()
            self._journal = self._lock = None

    def __enter__(self) -> Study:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _create(self, folder: Path) -> None:
        self.check_folder(folder)
        self._lock = FolderLock(folder)
        self.directory = folder
        try:
            # Again, for another master may have made its study here before the lock was ours.
            self.check_folder(folder)
            self._journal = Journal(folder / JOURNAL, {"hpcompss": __version__, "time": _now(), **self.settings})
        except BaseException:
            self._lock.release()
            raise

    @classmethod
    def _described(cls, header: Mapping[str, Any], journal: Path) -> Study:
        """Returns a study without trials from the first line of its journal."""
        settings = {key: value for key, value in header.items() if key not in ("event", "format", "hpcompss", "time")}
        try:
            study = cls.__new__(cls)
            study._open(Space.from_json(settings["space"]), settings)
        except (LookupError, TypeError) as error:
            message = f"the study's description is damaged ({error}): restore it"
            raise InputError(message, file=journal, line=1) from None
        return study

    @classmethod
    def _replayed(cls, records: Iterable[Mapping[str, Any]], journal: Path, undone: Set[int] | None = None) -> Study:
        """Returns a study from its records, those that were running still so.

        Args:
            records: All of them, the description first.
            journal: Where they stand, for messages.
            undone: The places of those that do not count, since trials were tried again; None where that is not known.

        Raises:
            _TriedAgain: A trial was tried again, and it is not known what does not count.
            InputError: The records do not fit each other.
        """
        records = iter(records)
        header = next(records, None)
        if header is None:
            raise InputError(f"{journal.parent} holds no study: its journal is empty")
        study = cls._described(header, journal)
        for line, record in enumerate(records, start=2):
            if undone is None and record["event"] == "retry":
                raise _TriedAgain
            if undone is not None and line in undone:
                continue
            try:
                study._replay(record)
            except (LookupError, TypeError, ValueError) as error:
                raise InputError(
                    f"this line does not fit those before it ({error}): restore them, or delete it and all after it "
                    "to go on from there",
                    file=journal,
                    line=line,
                ) from None
        return study

    def _replay(self, record: Mapping[str, Any]) -> None:
        if record["event"] == "ask":
            number = record["number"]
            if number != len(self._trials):
                raise ValueError(f"trial {number} begins where trial {len(self._trials)} should")
            self._running[number] = self._begun(number, record["configuration"] or {})
        elif record["event"] == "continue":
            if record["number"] in self._running:
                self.give_back(record["number"])  # a master before this one had begun it
            self._continue(record["number"], record["budget"])
        elif record["event"] == "tell":
            if record["number"] not in self._running:
                raise ValueError(f"trial {record['number']} ends, but is not running")
            self._configure(record["number"], record.get("configuration"))
            self._finish(record["number"], result_from_json(record))
        elif record["event"] == "retry":
            if record["number"] not in self._running and not is_finished(self._trials[record["number"]]):
                raise ValueError(f"trial {record['number']} is tried again, but has not failed")
            self._configure(record["number"], record["configuration"])
            self.stopped = ""
        else:
            self._heed(record["event"], record)

    def _heed(self, event: str, data: Mapping[str, Any]) -> None:
        if event == "data":
            self.data_digest = data.get("digest", "")
        elif event == "test":
            self.test = {key: value for key, value in data.items() if key not in ("event", "time")}
        elif event in ("stop", "resume"):
            self.stopped = data.get("reason", "")
        elif event == "code":
            self.code = data["files"]
        elif event == "limits":
            self.limits |= {key: value for key, value in data.items() if key in RULES}


class _TriedAgain(Exception):
    """Some of a journal's records do not count, which must be known before they are read."""


def _elsewhere(directory: str | os.PathLike[str]) -> Study:
    """Returns a study to learn from."""
    try:
        return Study.load(directory)
    except InputError as error:
        raise InputError(str(error), key="search.warm_start") from None


def _continued(before: Result, stage: Result, part: Stage) -> Result:
    """Returns what is known of a trial that went on: what it had before, where that failed."""
    seconds = before.seconds + stage.seconds
    if stage.failure is not None:
        further = f"up to epoch {part.epochs}" if part.epochs else f"on {part.share} of the data"
        warnings = (*before.warnings, f"training it {further} failed: {stage.failure.reason}")
        return dataclasses.replace(before, seconds=seconds, warnings=warnings, ended=True)
    warnings = tuple(dict.fromkeys((*before.warnings, *stage.warnings)))
    return dataclasses.replace(stage, seconds=seconds, warnings=warnings)


def _now() -> float:
    return round(time.time(), 3)


def _put_down(folder: Path, result: Result) -> Result:
    """Puts the files that came with a result into the study's folder, or adds the warning that it cannot."""
    try:
        write_files(folder, result.files)
    except OSError as error:
        warning = f"its files could not be put into the study's folder: {error.strerror}"
        return dataclasses.replace(result, warnings=(*result.warnings, warning))
    return result
