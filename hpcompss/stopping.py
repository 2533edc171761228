"""When a search ends: the rules a user states, and the check of those that depend on what was found."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from hpcompss.constraints import total_violation
from hpcompss.errors import InputError, shown
from hpcompss.objectives import Objective, point_of
from hpcompss.pareto import Front
from hpcompss.samplers.history import History
from hpcompss.space.space import Space
from hpcompss.trial import Configuration, Trial, is_better

__all__ = ["StopCheck", "StopRules", "all_done", "all_tried"]

FEWEST = 20
"""Finished trials, and twice the number of parameters, before an expected improvement is believed."""

SHARE = 20
"""The expected improvement is computed anew for each so many-th part more trials, for it takes a model of all."""


@dataclass(frozen=True)
class StopRules:
    """When a search ends, beside a space that is exhausted; the first rule that is met ends it.

    Attributes:
        trials: How many trials the study shall have in all.
        seconds: After how long no new trial starts, counted from the start of the first one of a run.
        deadline: After how many seconds the running trials are ended, too, counted from the start of the program.
        target: The value of the (first) objective that is good enough.
        patience: How many finished trials in a row, failed ones too, may bring no better value; where there are several
            objectives, none that joins the front.
        min_improvement: The expected improvement of the most promising untried configuration, in the objective's
            units, below which a further trial is not worth it.

    Raises:
        InputError: A rule is no number that can be met.
    """

    trials: int | None = None
    seconds: float | None = None
    deadline: float | None = None
    target: float | None = None
    patience: int | None = None
    min_improvement: float | None = None

    def __post_init__(self) -> None:
        if self.target is not None and not _is_figure(self.target):
            raise InputError(f"the target is a finite number, not {shown(self.target)}", key="search.target")
        if self.patience is not None and (not _is_figure(self.patience, int) or self.patience < 1):
            message = f"the patience is a whole number of at least 1, not {shown(self.patience)}"
            raise InputError(message, key="search.patience")
        if self.min_improvement is not None and (not _is_figure(self.min_improvement) or self.min_improvement < 0):
            message = f"the smallest improvement is a number from 0, not {shown(self.min_improvement)}"
            raise InputError(message, key="search.min_improvement")

    @property
    def judge_results(self) -> bool:
        """Whether some of them depend on what was found."""
        return any(each is not None for each in (self.target, self.patience, self.min_improvement))

    def check_end(self, space: Space, allow_duplicates: bool) -> None:
        """Raises `InputError` where a search may never end by itself."""
        ending = (self.trials, self.seconds, self.deadline, self.patience)
        if all(each is None for each in ending) and (allow_duplicates or not space.is_finite):
            which = "with duplicates allowed" if space.is_finite else "of an infinite space"
            raise InputError(
                f"a search {which} needs a limit: give the number of trials, the time, or the patience", key="search"
            )

    def check_objectives(self, count: int) -> None:
        """Raises `InputError` where a rule says nothing of so many objectives."""
        if self.min_improvement is not None and count > 1:
            raise InputError(
                f"min_improvement is for a search with one objective, this one has {count}: take trials, time or "
                "patience, which counts the trials since one joined the front",
                key="search.min_improvement",
            )


def _is_figure(value: object, kind: type | tuple[type, ...] = (int, float)) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)  # type: ignore[arg-type]


def all_done(trials: int, failed: int) -> str:
    """Returns, in words, that a search has had all its trials.

    >>> all_done(20, 3)
    'all 20 trials are done, 3 of which failed'
    """
    subject = f"all {trials} trials" if trials > 1 else "the only trial"
    if failed == trials:
        return f"{subject} failed"
    return f"{subject} {'are' if trials > 1 else 'is'} done" + (f", {failed} of which failed" if failed else "")


def all_tried(configurations: int, failed: int, on_disk: bool = True) -> str:
    """Returns, in words, that a finite space has no untried configuration.

    Args:
        configurations: How many there are.
        failed: How many trials failed.
        on_disk: Whether the study has a folder.
    """
    tried = f"the space is exhausted: all {configurations} configurations were tried"
    if configurations == 1:
        tried = "the space is exhausted: its only configuration was tried"
    again = "resume with --retry-failed" if on_disk else "call retry_failed() and optimize again"
    return f"{tried}, {failed} failed: fix the cause, then {again}" if failed else tried


class StopCheck:
    """Says whether the trials that finished meet a rule; it is told of them in the order in which they count.

    Args:
        rules: The rules.
        history: What was known before the first trial.
    """

    def __init__(self, rules: StopRules, history: History) -> None:
        self._rules = rules
        self._history = history.copy()
        self._best: Trial | None = None
        self._feasible: dict[int, Trial] = {}
        self._added: set[int] = set()
        self._latest: deque[Trial] = deque(maxlen=rules.patience or 1)
        self._front = Front()
        self._objectives = (Objective("", history.direction), *history.also)
        self._finished = 0
        self._since_best = 0
        self._due = max(FEWEST, 2 * len(history.space))

    def add(self, trial: Trial) -> None:
        """Takes in a finished trial, or one that went on, which counts once but may have become the best."""
        if trial.configuration or not len(self._history.space):  # else no configuration was left to try
            is_new = trial.number not in self._added
            self._added.add(trial.number)
            self._finished += is_new
            if self._rules.min_improvement is not None:
                self._history.append(trial)
            joins, is_best = self._merits(trial)
            self._since_best = 0 if joins else self._since_best + is_new
            if is_new:
                self._latest.append(trial)
            if is_best:
                self._best = trial
            elif self._best is not None and self._best.number == trial.number:
                self._best = self._best_of_all()  # it went on and became worse

    def _best_of_all(self) -> Trial | None:
        sign = -1.0 if self._history.direction == "maximize" else 1.0
        return min(self._feasible.values(), key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)

    def _merits(self, trial: Trial) -> tuple[bool, bool]:
        """Returns whether a trial joins the front, which of one objective the best alone does, and whether it is best.

        One of an equal value is neither.
        """
        self._feasible.pop(trial.number, None)
        if trial.value is None or trial.result is None:
            return False, False
        if total_violation(trial.result.metrics, self._history.constraints) > 0:
            self._front.discard(trial.number)
            return False, False
        self._feasible[trial.number] = trial
        best = None if self._best is None else self._best.value
        is_best = best is None or is_better(trial.value, best, self._history.direction)
        if not self._history.also:
            return is_best, is_best
        return self._front.add(trial.number, point_of(trial.value, trial.result.metrics, self._objectives)), is_best

    def reason(self, pending: Sequence[Configuration] = ()) -> str:
        """Returns, in words, which rule is met by what is known; empty where none is.

        Args:
            pending: The configurations that are being tried.
        """
        rules, best = self._rules, self._best
        value = None if best is None else best.value
        known = "" if best is None else f"trial {best.number}: {value:.5g}"
        if rules.target is not None and value is not None and self._reaches(value, rules.target):
            return f"the target {rules.target:g} is reached ({known})"
        if rules.patience is not None and self._since_best >= rules.patience:
            if self._history.also:
                return f"none of the last {rules.patience} trials joined the front, which has {len(self._front)}"
            said = f"no improvement in the last {rules.patience} trials"
            if best is not None:
                return f"{said} (the best is {known})"
            have_failed = all(trial.value is None for trial in self._latest)
            return f"{said}, {'which all failed' if have_failed else 'none of which was feasible'}"
        if rules.min_improvement is not None and value is not None and self._finished >= self._due:
            self._due = self._finished + max(1, self._finished // SHARE)
            return self._too_little(rules.min_improvement, pending)
        return ""

    def at_end(self, reason: str, best: Trial | None) -> str:
        """Returns the reason that a rule was met, with what the trials that still ran changed about it.

        Args:
            reason: What `reason` returned.
            best: The best trial once all have finished, or None where none is feasible.
        """
        value = None if best is None else best.value
        if best is None or value is None:
            return reason if self._best is None else f"{reason}; what ran on then became worse, so no trial is feasible"
        is_other = self._best is None or (best.number, value) != (self._best.number, self._best.value)
        if self._rules.target is not None and reason.startswith("the target"):
            lost = not self._reaches(value, self._rules.target)
            worse = "; training it further made it worse, the best is now"
            return f"{reason}{worse} trial {best.number}: {value:.5g}" if lost else reason
        if reason.startswith("no improvement") and is_other:
            return f"{reason}; of those that still ran, trial {best.number} reached {value:.5g}"
        return reason

    def _reaches(self, value: float, target: float) -> bool:
        return not is_better(target, value, self._history.direction)

    def _too_little(self, least: float, pending: Sequence[Configuration]) -> str:
        from hpcompss.samplers import prediction

        for promising in prediction.predict(self._history, pending, 1):
            if promising.improvement < least:
                return f"the expected improvement, {promising.improvement:.3g}, is below {least:g}"
        return ""
