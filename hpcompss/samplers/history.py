"""What a sampler learns from: the finished trials as compact arrays, appended to and never rebuilt."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from hpcompss.space.space import Key, Space
from hpcompss.trial import Trial, TrialState

__all__ = ["History"]


class History:
    """The finished trials of a study, in the order in which they became known.

    Args:
        space: Their space.
        direction: ``"minimize"`` or ``"maximize"``.
    """

    def __init__(self, space: Space, direction: str) -> None:
        self.space = space
        self._direction = direction
        self._sign = -1.0 if direction == "maximize" else 1.0
        self._units: NDArray[np.float64] = np.empty((16, len(space)))
        self._losses: NDArray[np.float64] = np.empty(16)
        self._count = 0
        self.keys: set[Key] = set()

    def __len__(self) -> int:
        return self._count

    @property
    def units(self) -> NDArray[np.float64]:
        """The configurations in the unit cube: shape (trials, parameters), NaN where inactive."""
        return self._units[: self._count]

    @property
    def losses(self) -> NDArray[np.float64]:
        """What is to be minimised, negated where it is maximised: shape (trials,), NaN for a failed trial."""
        return self._losses[: self._count]

    @property
    def best(self) -> float | None:
        """The best value, or None while no trial has completed."""
        losses = self.losses[~np.isnan(self.losses)]
        return float(self._sign * losses.min()) if len(losses) else None

    def append(self, trial: Trial) -> None:
        """Adds a finished trial."""
        if self._count == len(self._losses):
            self._units = np.concatenate([self._units, np.empty_like(self._units)])
            self._losses = np.concatenate([self._losses, np.empty_like(self._losses)])
        self._units[self._count] = self.space.encode(trial.configuration)
        succeeded = trial.state is TrialState.COMPLETE and trial.value is not None
        self._losses[self._count] = self._sign * trial.value if succeeded and trial.value is not None else np.nan
        self._count += 1
        self.keys.add(self.space.key(trial.configuration))

    def copy(self) -> History:
        """Returns a history of the same trials that may be appended to without changing this one."""
        copied = History(self.space, self._direction)
        copied._units, copied._losses = self._units.copy(), self._losses.copy()
        copied._count, copied.keys = self._count, set(self.keys)
        return copied

    def extend(self, trials: Iterable[Trial]) -> None:
        """Adds finished trials in order."""
        for trial in trials:
            self.append(trial)
