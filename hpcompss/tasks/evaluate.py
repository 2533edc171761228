"""The task of one trial of a plain Python function."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpcompss.errors import HpcompssError, InputError
from hpcompss.loading import import_notes, load_attribute
from hpcompss.tasks.promote import at_place
from hpcompss.tasks.suggest import SearchState, suggestion
from hpcompss.trial import Configuration, Failure, Result, Stage, Trial, result_of

__all__ = ["check_function", "evaluate", "evaluate_promoted", "evaluate_suggested"]


def evaluate(
    function: Callable[..., float | Mapping[str, float]] | str,
    configuration: Configuration,
    metric: str,
    stage: Stage = Stage(),
) -> Result:
    """Returns what came of ``function(configuration)``; what it raises becomes a failed result.

    Args:
        function: The function, or where it is: ``module:function`` or ``file.py:function``. One that is given a part
            of the full budget is called with it: ``function(configuration, epochs=3)``, or ``share=0.1``.
        configuration: The values of the active hyper-parameters.
        metric: The objective's name among what the function returns.
        stage: The budget; the function trains from the start, or keeps for itself what it can go on from.
    """
    begun = time.perf_counter()
    try:
        called: Any = load_attribute(function) if isinstance(function, str) else function
        result = result_of(called(dict(configuration), **stage.budget), metric)
    except Exception as error:
        result = Result(None, failure=Failure.of(error))
    return dataclasses.replace(result, seconds=time.perf_counter() - begun)


def evaluate_suggested(
    function: Callable[..., float | Mapping[str, float]] | str,
    state: SearchState | Failure,
    metric: str,
    stage: Stage = Stage(),
) -> Result | Failure:
    """Does what `evaluate` does with the latest suggestion of a search, in the lagged order.

    Args:
        function: The function, or where it is.
        state: The search, or why there is no suggestion.
        metric: The objective's name among what the function returns.
        stage: The budget.
    """
    found = suggestion(state)
    return found if isinstance(found, Failure) else evaluate(function, found[0], metric, stage)


def evaluate_promoted(
    function: Callable[..., float | Mapping[str, float]] | str,
    promoted: Sequence[Trial] | Failure,
    place: int,
    known: Mapping[int, Result],
    metric: str,
    stage: Stage,
) -> Result | Failure | None:
    """Does what `evaluate` does with a trial that goes on, in the lagged order.

    Args:
        function: The function, or where it is.
        promoted: Those that go on.
        place: Which of them, from 0.
        known: What came of trials that went on before the search was resumed.
        metric: The objective's name among what the function returns.
        stage: The budget.
    """
    trial, outcome = at_place(promoted, place, known)
    return outcome if trial is None else evaluate(function, trial.configuration, metric, stage)


def check_function(function: Callable[..., Any] | str) -> HpcompssError | Failure | tuple[str, ...]:
    """Returns why a function cannot be had, as data, or what the user should know of its module.

    Args:
        function: The function, or where it is.
    """
    try:
        found = load_attribute(function) if isinstance(function, str) else function
        return import_notes(function) if callable(found) else InputError(f"{function} is no function", key="function")
    except HpcompssError as error:
        return error
    except Exception as error:
        return Failure.of(error)
