"""The loop of a search: ask, record, submit, wait, record, until a rule ends it."""

from __future__ import annotations

import contextlib
import math
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from hpcompss.constraints import constrained
from hpcompss.engines.base import Engine, Future
from hpcompss.errors import HpcompssError
from hpcompss.fidelity import Waiting
from hpcompss.fidelity.brackets import Brackets
from hpcompss.forecast import Forecast
from hpcompss.graph import Chain, TrialGraph, TrialTasks
from hpcompss.samplers import SpaceExhausted
from hpcompss.stopping import StopCheck, StopRules, all_done, all_tried
from hpcompss.study import Study
from hpcompss.tasks.reduce import result_from
from hpcompss.tasks.suggest import EXHAUSTED
from hpcompss.trial import (
    Configuration,
    Failure,
    FailureKind,
    Resources,
    Result,
    Stage,
    Trial,
    is_finished,
    is_untrained,
)

__all__ = ["Loop", "Snapshot", "StudyFailed", "SuggestionFailed", "View"]

INTERRUPTED = "interrupted"
"""What a search says that was stopped by Ctrl-C or SIGTERM."""

ALIKE = 3
"""So many first trials that fail in the same way end the study: the fault is then in what they share."""

TURN = 0.2
"""Seconds between two looks at limits and signals while nothing finishes."""

LOSSES = 5
"""How often in a row the tasks of the lagged order are submitted anew because the engine lost one of them for good."""

SHORT = 0.05
"""Seconds of a trial below which the engine is given some in advance, so that no worker waits for the journal, where
the sampler would learn nothing from what is under way."""

AHEAD = 8
"""How many short trials a slot is given in advance at least; and how many trials of known configurations are asked for,
for each slot, before there is room for them, so that the longest of them can start first."""

MOST_SHORT = 64
"""How many short trials a slot is given in advance at most: as many as take as long as one that is just not short."""

UNKNOWN = -1
"""The number of a trial that goes on while it is for a task to say which one that is."""

MOST_AHEAD = 256
"""How many are asked for before there is room at most: each suggestion is compared with all that are under way."""


class StudyFailed(HpcompssError):
    """The first trials all failed alike. Its traceback is that of the user's code."""

    def __init__(self, reason: str, traceback: str, folder: Path | None = None) -> None:
        again = "call its retry_failed() and optimize again"
        if folder is not None:
            again = f"run  hpcompss resume {folder} --retry-failed"
        super().__init__(
            f"the first {ALIKE} trials failed in the same way ({reason}), so the study stopped: "
            f"fix the cause, then {again}"
        )
        self.traceback = traceback


class SuggestionFailed(HpcompssError):
    """The sampler raised in a task. Its traceback is that of the sampler."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"the sampler failed ({failure.reason}): everything recorded so far is kept")
        self.traceback = failure.traceback


@dataclass(frozen=True)
class Snapshot:
    """How a search stands, for those who watch it.

    Attributes:
        study: The study.
        running: The trials that run, with their futures.
        finished: The trials that finished since the last snapshot.
        trials: How many trials the study shall have, or None.
        seconds_left: Seconds left to start trials in, or None.
        slots: How many trials run at once.
        stopping: Why no further trial starts, or an empty string.
        waiting: The trials that have not been given to the engine yet.
        forecast: What is predicted of the trials' seconds, or None.
    """

    study: Study
    running: Sequence[tuple[Trial, Future]]
    finished: Sequence[Trial]
    trials: int | None
    seconds_left: float | None
    slots: int
    stopping: str
    waiting: Sequence[Trial] = ()
    forecast: Forecast | None = None

    @property
    def time_left(self) -> float | None:
        """Seconds until the search is expected to end, bounded by its time limit; None where nothing tells it."""
        total = min(self.trials or math.inf, self.study.space.count)
        to_come = 0.0 if self.stopping else total - self.study.finished - len(self.running) - len(self.waiting)
        expected = None
        if self.forecast is not None and to_come < math.inf:
            now = time.monotonic()
            running = [
                (trial, 0.0 if future.started is None else now - future.started) for trial, future in self.running
            ]
            expected = self.forecast.time_left(running, self.waiting, max(0, int(to_come)), self.slots)
        return min((each for each in (expected, self.seconds_left) if each is not None), default=None)


class View:
    """Watches a search; every method may be overridden, none needs to be."""

    def say(self, message: str) -> None:
        """Takes a sentence for the user."""

    def update(self, snapshot: Snapshot) -> None:
        """Takes how the search stands, at every turn."""

    def working(self, message: str) -> contextlib.AbstractContextManager[None]:
        """Shows that something without trials is going on."""
        return contextlib.nullcontext()

    def closing(self) -> None:
        """Ends what is shown live."""


class Loop:
    """Runs the trials of a study on an engine.

    A trial is in the journal before it starts, and its result before anything depends on it; what happened together is
    flushed together. In the lagged order the master only keeps the journal: sampling, training and reduction are tasks,
    submitted ahead in a window of twice the lag. In the eager order trials that depend on no result are asked for
    before there is room, and start by their predicted seconds, the longest first; so do those that a scheduler has go
    on, unless results or the time may end the search before: then the most promising go on first. The first Ctrl-C lets
    running trials finish, the second ends them; they are tried again on resume.

    Args:
        study: The study; it may have trials already.
        engine: Where to run.
        graph: How a trial becomes tasks.
        rules: When the search ends. Trials that a deadline ends are tried again on resume.
        begun: When its deadline began to count (`time.monotonic` seconds); None for when it runs. The time limit counts
            from the start of the first trial of this run.
        resources: What one trial asks for.
        watch: Called at every turn.

    Raises:
        InputError: No rule is sure to end the search, or no worker can run such a trial.
    """

    def __init__(
        self,
        study: Study,
        engine: Engine,
        graph: TrialGraph,
        rules: StopRules = StopRules(),
        *,
        begun: float | None = None,
        resources: Resources = Resources(),
        watch: Callable[[Snapshot], None] = lambda snapshot: None,
    ) -> None:
        rules.check_end(study.space, study.sampler.allow_duplicates)
        rules.check_objectives(len(study.objectives))
        self._study = study
        self._engine = engine
        self._graph = graph
        self._rules = rules
        self._seconds = math.inf if rules.seconds is None else rules.seconds
        self._deadline = math.inf if rules.deadline is None else rules.deadline
        self._resources = resources
        self._watch = watch
        self._starting: deque[Trial] = deque()
        self._running: dict[Future, tuple[Trial, TrialTasks]] = {}
        self._chain: Chain | None = None
        self._losses = 0
        self._forecast = Forecast(study)
        self._finished: list[Trial] = []
        self._first: list[Failure] = []
        self._durations: deque[float] = deque(maxlen=20)
        self._stopping = ""
        self._reword: Callable[[], str] | None = None
        self._check = StopCheck(rules, study.prior)
        self._checked = 0
        self._met = ""
        self._flushing = 0.0
        self._signals = 0
        self._stated_begun = begun
        self._begun = 0.0
        self._first_start: float | None = None

    def run(self) -> str:
        """Runs until a rule is met and returns, in words, which.

        Raises:
            StudyFailed: The first three trials failed alike.
            JournalError: The journal cannot be written; the running trials are ended.
        """
        self._begun = time.monotonic() if self._stated_begun is None else self._stated_begun
        with self._heeding_signals():
            try:
                self._check_results(resumed=True)
                self._fill()
                while self._running:
                    self._collect(self._done())
                    self._check_results()
                    self._check_limits()
                    self._fill()
                    self._show()
            finally:
                self._end(list(self._running))
                self._give_back_starting()
        if self._reword is not None:
            self._stopping = self._reword()
        self._study.note("stop", reason=self._stopping)
        self._study.flush()
        return self._stopping

    # Starting trials

    def _fill(self) -> None:
        """Starts as many trials as there is room for. What finished before is flushed with what begins."""
        self._check_limits()
        room = self._room() - len(self._running)
        while not self._stopping and (len(self._starting) < room or self._asks_ahead(room)):
            trials = self._rules.trials
            last = trials is not None and self._study.started >= trials
            try:
                self._starting.append(self._next(last))
                continue
            except Waiting:
                reword = self._all_done
            except SpaceExhausted:
                reword = self._all_tried
            self._close_chain()
            if self._study.scheduler is not None and (self._running or self._starting):
                break  # what runs may let others go on
            self._stop(reword(), reword)
        begun = time.monotonic()
        self._study.flush()
        self._flushing = time.monotonic() - begun
        if self._finished:
            self._graph.settle(self._study, self._finished)
        if 0 < room < len(self._starting):
            self._starting = deque(self._forecast.longest_first(self._starting))
        while self._starting and len(self._running) < self._room():
            tasks = self._submit(self._starting[0])
            self._running[tasks.record] = self._starting.popleft(), tasks
            self._take_promoted()

    def _next(self, last: bool) -> Trial:
        """Returns the next trial; in the lagged order its configuration is still to be suggested, by a task.

        Args:
            last: Whether no new trial may begin.

        Raises:
            Waiting: None may begin, and none goes on now.
            SpaceExhausted: There is no configuration left.
        """
        study = self._study
        if study.lag is None:
            return study.suggest(last=last, order=self._order)
        if last and not study.interrupted:
            raise Waiting
        if not study.interrupted and not study.sampler.allow_duplicates and study.started >= study.space.count:
            raise SpaceExhausted
        return study.begin()

    def _submit(self, trial: Trial) -> TrialTasks:
        if self._study.lag is None:
            return self._graph.submit(self._engine, self._study, trial, self._resources)
        if self._chain is None:
            self._chain = Chain(self._engine, self._study, self._graph, self._resources)
        return self._chain.submit(trial.number)

    def _close_chain(self) -> None:
        """Submits what goes on in the lagged order when no further trial begins."""
        if self._study.lag is not None and isinstance(self._study.scheduler, Brackets) and not self._starting:
            if self._chain is None:
                self._chain = Chain(self._engine, self._study, self._graph, self._resources)
            self._chain.close()
            self._take_promoted()

    def _take_promoted(self) -> None:
        """Waits from now on for the trials of the lagged order that go on; which they are their tasks know."""
        if self._chain is not None:
            for stage, tasks in self._chain.promoted:
                self._running[tasks.record] = Trial(UNKNOWN, {}, stage=stage), tasks
            self._chain.promoted.clear()

    def _room(self) -> int:
        """Returns how many trials the engine should have: its slots, and some in advance where they are short."""
        if self._study.lag is not None:
            brackets = self._study.scheduler
            return 2 * max(self._study.lag, brackets.largest if isinstance(brackets, Brackets) else 0)
        slots = max(1, self._engine.capacity(self._resources))
        if self._study.sampler.learns or not self._are_short():
            return slots
        mean = sum(self._durations) / len(self._durations)
        return slots * (1 + min(MOST_SHORT, max(AHEAD, int(SHORT / max(mean, SHORT / MOST_SHORT)))))

    def _asks_ahead(self, room: int) -> bool:
        """Returns whether to ask for one more trial than there is room for, so that the longest of them starts first.

        That saves time only where several run at once and the last one to finish decides. Where results or the time may
        end the search before all trials have run, they start in the order of their numbers.
        """
        if self._study.lag is not None or not self._runs_to_the_end:
            return False
        if self._study.scheduler is not None:
            return False  # which may have others go on first
        slots = self._engine.capacity(self._resources)
        if len(self._starting) >= room + min(AHEAD * slots, MOST_AHEAD) or self._are_short():
            return False
        return self._study.is_next_foreseen and self._forecast.tells_apart

    @property
    def _order(self) -> Callable[[Sequence[Trial]], Sequence[Trial]] | None:
        """How the trials go on that a scheduler lets go on; None for the most promising first."""
        if self._deadline < math.inf:
            left = self._deadline - (time.monotonic() - self._begun)
            return lambda trials: self._forecast.in_time(trials, left)  # nothing would come of the others
        return self._forecast.longest_first if self._runs_to_the_end else None

    @property
    def _runs_to_the_end(self) -> bool:
        """Whether the last trial to finish decides how long the search takes: several run at once, and all will run."""
        several = self._engine.capacity(self._resources) > 1
        limited = min(self._seconds, self._deadline) < math.inf
        return several and not limited and not self._rules.judge_results

    def _are_short(self) -> bool:
        return bool(self._durations) and sum(self._durations) / len(self._durations) < SHORT

    # Finishing trials

    def _done(self) -> list[Future]:
        """Waits for trials to finish; for short ones as long again as a flush takes, to flush many together."""
        done = self._engine.wait(list(self._running), timeout=TURN)
        until = time.monotonic() + min(self._flushing, TURN)
        while done and self._are_short() and (left := until - time.monotonic()) > 0:
            finished = set(done)
            rest = [future for future in self._running if future not in finished]
            if not rest:
                break
            done += self._engine.wait(rest, timeout=left)
        return done

    def _collect(self, done: Sequence[Future]) -> None:
        self._look_for_first_start(bool(done))
        self._finished = []
        results = []
        lost = [future for future in done if self._is_lost(future)]
        for future in sorted(done, key=self._turn_of):
            if future in lost:
                continue
            trial = self._running[future][0]
            if trial.number == UNKNOWN:
                self._record_promoted(trial.stage, future)
                continue
            result, configuration = self._outcome(future)
            del self._running[future]
            self._finished.append(self._study.record(trial.number, result, configuration))
            results.append(result)
            if result.failure == EXHAUSTED:
                self._stop(f"the space is exhausted: {EXHAUSTED.reason}")
                self._close_chain()
        if lost:
            self._begin_anew(lost[0])
        self._durations.extend(result.seconds for result in results)
        self._check_alike(results)

    def _turn_of(self, future: Future) -> tuple[bool, tuple[float, ...]]:
        """Returns what orders the records of a turn: a trial that went on follows what it was before."""
        trial = self._running[future][0]
        goes_on = trial.number == UNKNOWN
        return goes_on, tuple(trial.stage.budget.values()) if goes_on else ()

    def _record_promoted(self, stage: Stage, future: Future) -> None:
        """Records what came of a trial that went on in the lagged order, unless nobody did or that is known."""
        record, scheduler = future.result(), self._study.scheduler
        if isinstance(record, Failure):
            raise SuggestionFailed(record)
        del self._running[future]
        if record is None or scheduler is None:
            return
        budget = scheduler.budget(stage)
        if scheduler.budget(self._study.trials[record.number].stage) < budget:
            self._study.go_on(record.number, budget)
            self._finished.append(self._study.record(record.number, record.result))

    def _is_lost(self, future: Future) -> bool:
        """Returns whether the engine, not the sampler, is why there is no record of a trial of the lagged order."""
        outcome = future.result()
        is_failure = self._study.lag is not None and isinstance(outcome, Failure)
        return is_failure and outcome.kind is not FailureKind.EXCEPTION

    def _begin_anew(self, lost: Future) -> None:
        """Gives back all trials that are under way, to be suggested again, alike, from what the journal has."""
        self._losses += 1
        if self._losses > LOSSES:
            raise HpcompssError(
                f"the engine lost the tasks of the search {LOSSES} times in a row ({lost.result().reason}): everything "
                f"recorded so far is kept, go on with  hpcompss resume {self._study.directory}"
            )
        self._end(list(self._running))
        self._chain = None
        self._stop("")

    def _outcome(self, future: Future) -> tuple[Result, Configuration | None]:
        """Returns what came of a trial and, in the lagged order, the configuration that a task suggested."""
        outcome = future.result()
        if self._study.lag is not None:
            if isinstance(outcome, Trial) and outcome.result is not None:
                self._losses = 0
                return outcome.result, outcome.configuration
            if isinstance(outcome, Failure):
                raise SuggestionFailed(outcome)
        now = time.monotonic()
        seconds = now - (future.started or now) if future.seconds is None else future.seconds
        result = result_from(outcome, seconds=seconds)
        return constrained(result, self._study.constraints, self._study.also), None

    def _check_alike(self, results: Sequence[Result]) -> None:
        """Stops a study of which nothing has completed yet, where what came first failed in the same way."""
        if len(self._first) == ALIKE or self._study.completed > self._study.untrained:
            return
        failures = [result.failure for result in results if result.failure is not None and not is_untrained(result)]
        self._first.extend(failures[: ALIKE - len(self._first)])
        if len(self._first) == ALIKE and len({_likeness(failure) for failure in self._first}) == 1:
            first = self._first[0]
            self._study.note("stop", reason=f"the first {ALIKE} trials failed alike: {first.reason}")
            self._study.flush()
            raise StudyFailed(first.reason, first.traceback, self._study.directory)

    # Ending

    def _check_results(self, resumed: bool = False) -> None:
        """Looks whether what finished meets a rule; in the lagged order trial by trial, whatever finished first."""
        if not self._rules.judge_results or self._met:
            return
        study = self._study
        if study.lag is None:
            for trial in study.in_order if resumed else self._finished:
                self._check.add(trial)
            self._met = self._check.reason(study.pending)
            return
        for trial in self._finished:
            if trial.number < self._checked:
                self._check.add(trial)  # it went on
        known = study.trials
        while self._checked < len(known) and is_finished(known[self._checked]) and not self._met:
            self._check.add(known[self._checked])
            self._checked += 1
            self._met = "" if resumed else self._check.reason()
        self._met = self._met or self._check.reason()

    def _check_limits(self) -> None:
        self._look_for_first_start()
        spent = time.monotonic() - self._begun
        time_is_up = spent >= self._deadline or self._spent_on_trials >= self._seconds
        ended: list[Future] = []
        if self._signals > 1 or spent >= self._deadline:
            ended = [future for future in self._running if not future.done]
        elif self._signals or time_is_up or self._met:
            waiting = [each for each, (_, tasks) in self._running.items() if tasks.started is None]
            ended = [future for future in waiting if not future.done]
        stops = bool(self._signals or time_is_up or self._met)
        given_back = self._give_back_starting() if stops else 0
        self._end(ended)
        if self._signals:
            self._stop(INTERRUPTED)
        elif time_is_up and (ended or given_back or not self._stopping):
            self._stop("the time is up")
        elif self._met:
            self._stop(
                self._met, lambda: self._check.at_end(self._met, self._study.best if self._study.feasible else None)
            )

    def _look_for_first_start(self, is_over: bool = False) -> None:
        """Takes note of when the first trial of this run started; from then on the time limit counts.

        Args:
            is_over: Whether one has finished already.
        """
        if self._first_start is None and self._seconds < math.inf:
            now = time.monotonic()
            started = [tasks.started for _, tasks in self._running.values() if tasks.started is not None]
            if started or is_over:
                self._first_start = min(max(self._begun, min(started, default=now)), now)

    @property
    def _spent_on_trials(self) -> float:
        """Seconds since the first trial of this run started."""
        return 0.0 if self._first_start is None else time.monotonic() - self._first_start

    def _stop(self, reason: str, reword: Callable[[], str] | None = None) -> None:
        """Starts no further trial.

        Args:
            reason: Why.
            reword: Returns the reason again once all that runs has finished, which may change what is true.
        """
        self._stopping, self._reword = reason, reword

    def _met_at_end(self) -> str:
        return self._check.at_end(self._met, self._study.best if self._study.feasible else None)

    def _all_done(self) -> str:
        return all_done(self._study.started, self._study.failed)

    def _all_tried(self) -> str:
        if self._study.space.count == math.inf:
            return f"the space is exhausted: {EXHAUSTED.reason}"
        return all_tried(int(self._study.space.count), self._study.failed, self._study.directory is not None)

    def _give_back_starting(self) -> int:
        """Gives back the trials that the engine does not have yet, and returns how many they were."""
        count = len(self._starting)
        while self._starting:
            self._study.give_back(self._starting.popleft().number)
        return count

    def _end(self, futures: Sequence[Future]) -> None:
        """Ends trials that run or wait; they count as interrupted and are tried again on resume."""
        for future in futures:
            trial, tasks = self._running.pop(future)
            for each in tasks.all:
                self._engine.cancel(each)
            if trial.number != UNKNOWN:
                self._study.give_back(trial.number)

    def _show(self) -> None:
        left = min(self._seconds - self._spent_on_trials, self._deadline - (time.monotonic() - self._begun))
        self._watch(
            Snapshot(
                study=self._study,
                running=[(trial, tasks.training) for trial, tasks in self._running.values()],
                finished=self._finished,
                trials=self._rules.trials,
                seconds_left=None if left == math.inf else max(0.0, left),
                slots=self._engine.capacity(self._resources),
                stopping="" if self._starting else self._stopping,
                waiting=tuple(self._starting),
                forecast=self._forecast,
            )
        )

    @contextlib.contextmanager
    def _heeding_signals(self) -> Iterator[None]:
        """Counts Ctrl-C (SIGINT) once and SIGTERM twice; outside the main thread signals are not ours to heed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def heed(number: int, frame: FrameType | None) -> None:
            self._signals += 2 if number == signal.SIGTERM else 1

        before: dict[int, Any] = {each: signal.signal(each, heed) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _likeness(failure: Failure) -> tuple[str, str]:
    """Returns what two failures of one cause share: the kind, and the line that raised or else the reason."""
    lines = [line.strip() for line in failure.traceback.splitlines() if line.lstrip().startswith("File ")]
    kind_of_error = failure.reason.partition(":")[0]
    return failure.kind.value, lines[-1] + kind_of_error if lines else re.sub(r"[\d.]+", "#", failure.reason)
