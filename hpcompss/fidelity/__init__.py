"""Who trains how long: schedulers, by name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from hpcompss.errors import InputError, nearest
from hpcompss.fidelity.base import Report, Scheduler, Waiting

__all__ = ["NONE", "SCHEDULERS", "Report", "Scheduler", "Waiting", "make_scheduler"]

SCHEDULERS: dict[str, str] = {
    "successive_halving": "hpcompss.fidelity.brackets:successive_halving",
    "hyperband": "hpcompss.fidelity.brackets:hyperband",
    "asha": "hpcompss.fidelity.asha:asha",
    "median": "hpcompss.fidelity.median:median",
    "extrapolation": "hpcompss.fidelity.extrapolation:extrapolation",
}
"""What makes each scheduler as ``module:function``, imported when asked for."""

NONE = "none"
"""The name of no scheduler: every trial is trained to the end."""

BUDGETS = ("min_epochs", "max_epochs", "min_share")
KEY = "fidelity"


def make_scheduler(settings: Mapping[str, Any] | None, trials: int | None = None) -> Scheduler | None:
    """Returns the scheduler that settings state, or None where every trial is trained to the end.

    Args:
        settings: ``scheduler``, ``min_epochs`` (1) and ``max_epochs``, or ``min_share`` in place of both, and the
            scheduler's own options.
        trials: How many trials are planned, or None where that is not known.

    Raises:
        InputError: A setting is unknown or outside its range, or the scheduler cannot work with so few trials.
    """
    if not settings or settings.get("scheduler", NONE) == NONE:
        return None
    function, options = _function_and_options(settings)
    low, high = _bounds(settings)
    try:
        scheduler: Scheduler = function(low, high, **options)
    except InputError as error:
        raise InputError(error.message, key=error.key or KEY) from None
    if trials is not None and trials < scheduler.fewest:
        raise InputError(
            f"{settings['scheduler']} needs at least {scheduler.fewest} trials to train one of them to the end, not "
            f"{trials}: give so many, or raise {'min_share' if high == 1.0 else 'min_epochs'} ({low:g})",
            key=KEY,
        )
    return scheduler


def _function_and_options(settings: Mapping[str, Any]) -> tuple[Callable[..., Scheduler], dict[str, Any]]:
    name = settings["scheduler"]
    if not isinstance(name, str) or name not in SCHEDULERS:
        raise InputError(
            f"unknown scheduler {name!r}; {nearest(str(name), [*SCHEDULERS, NONE])}", key=f"{KEY}.scheduler"
        )
    module, _, attribute = SCHEDULERS[name].partition(":")
    function: Callable[..., Scheduler] = getattr(importlib.import_module(module), attribute)
    known = [each for each in inspect.signature(function).parameters if each not in ("low", "high")]
    options = {key: value for key, value in settings.items() if key not in ("scheduler", *BUDGETS)}
    for option in options:
        if option not in known:
            hint = nearest(option, [*known, *BUDGETS])
            raise InputError(f"the {name} scheduler has no option {option!r}; {hint}", key=f"{KEY}.{option}")
    return function, options


def _bounds(settings: Mapping[str, Any]) -> tuple[float, float]:
    """Returns the least and the greatest budget: whole numbers of epochs, or shares of which the greatest is 1.0."""
    share = settings.get("min_share")
    if share is not None:
        for name in ("min_epochs", "max_epochs"):
            if settings.get(name) is not None:
                raise InputError(f"give either {name} or min_share, for one of the two varies", key=f"{KEY}.{name}")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
            raise InputError(f"the smallest share is above 0 and below 1, not {share!r}", key=f"{KEY}.min_share")
        return float(share), 1.0
    low, high = settings.get("min_epochs", 1), settings.get("max_epochs")
    if high is None:
        raise InputError("the greatest number of epochs is not known: give max_epochs", key=f"{KEY}.max_epochs")
    for name, value in (("min_epochs", low), ("max_epochs", high)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"must be a whole number of at least 1, not {value!r}", key=f"{KEY}.{name}")
    if low > high:
        raise InputError(f"min_epochs ({low}) is above max_epochs ({high}): swap them", key=f"{KEY}.min_epochs")
    if low == high:
        raise InputError(f"min_epochs and max_epochs are both {low}: nothing varies", key=f"{KEY}.min_epochs")
    return low, high
