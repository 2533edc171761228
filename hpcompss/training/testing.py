"""Scoring a model on the test set: by the user's ``evaluate``, or by Keras's where the model takes the data as is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcompss.space.tracing import HyperParameters
from hpcompss.training.data import Examples
from hpcompss.training.fitting import failure_of, fixed_batch_size, scored
from hpcompss.training.hypermodel import ModelBuilder, overrides_fit, own_evaluate
from hpcompss.training.job import Job
from hpcompss.training.kept import About, reset_metrics

__all__ = ["Untestable", "metrics_on_test"]

HOW = "define evaluate(hp, model, x, y) on the HyperModel, which then scores it"
"""What gives a model a score that it cannot have alone."""


class Untestable(Exception):
    """A model cannot be scored on the test set, whose score is then left out."""


def metrics_on_test(
    keras: Any,
    job: Job,
    hypermodel: ModelBuilder,
    hp: HyperParameters,
    model: Any,
    test: Examples,
    about: About,
) -> tuple[dict[str, float], str]:
    """Returns the metrics of a model on the test set, and what the user should know of them.

    Args:
        keras: The module.
        job: What the study's trials share.
        hypermodel: The user's model family, whose ``evaluate`` is called where it has one.
        hp: Hands out the configuration.
        model: The model.
        test: The test set.
        about: What is known of the model's training.

    Raises:
        Untestable: There is no score, with the reason.
    """
    evaluate = own_evaluate(hypermodel)
    try:
        if evaluate is not None:
            reset_metrics(keras, model)
            return _figures_of(keras, job, model, evaluate(hp, model, *test.arguments, **test.options)), ""
        if about.prepared:
            raise Untestable(f"fit(hp, model, ...) prepares the data, which the model alone does not: {HOW}")
        if not model.compiled:
            raise Untestable(f"build(hp) does not compile the model, so no metrics are known to test it by: {HOW}")
        test, note = _whole_batches(model, test)
        return scored(keras, model, test, job.batch_size), note
    except Untestable:
        raise
    except Exception as error:
        reason = failure_of(error).reason
        if evaluate is not None:
            raise Untestable(f"evaluate(hp, model, ...) raised {reason}") from error
        alone = " alone" if overrides_fit(hypermodel) else ""
        raise Untestable(f"the model{alone} cannot be scored on it ({reason}): {HOW}") from error


def _whole_batches(model: Any, test: Examples) -> tuple[Examples, str]:
    """Returns the rows that fill batches of the one size that a model takes, and how many are left out."""
    size, rows = fixed_batch_size(model), None if test.is_stream else test.rows
    if size is None or rows is None or rows % size == 0:
        return test, ""
    if rows < size:
        raise Untestable(f"it has {rows} rows, and the model takes batches of {size} alone")
    left = rows % size
    note = f"the test scores leave out the last {left} of {rows:,} rows, since the model takes batches of {size} alone"
    return test.take(slice(0, rows - left)), note


def _figures_of(keras: Any, job: Job, model: Any, outcome: Any) -> dict[str, float]:
    """Returns what the user's ``evaluate`` returned as metrics by name."""
    if isinstance(outcome, Mapping):
        figures = _numbers(outcome)
    elif isinstance(outcome, list | tuple):
        named = _numbers(model.get_metrics_result())
        figures = dict(zip(named, _numbers(dict(enumerate(outcome))).values(), strict=False))
        if len(named) != len(outcome):
            raise Untestable(
                "evaluate(hp, model, ...) must return metrics by name, as model.evaluate(..., return_dict=True) does"
            )
    else:
        figures = _numbers({job.metric.removeprefix("val_"): outcome})
    if not figures:
        raise Untestable(
            f"evaluate(hp, model, ...) must return metrics by name, or the objective as a number, not {type(outcome)}"
        )
    return figures


def _numbers(figures: Mapping[Any, Any]) -> dict[str, float]:
    """Returns those figures that are numbers."""
    numbers: dict[str, float] = {}
    for name, value in figures.items():
        try:
            numbers[str(name)] = float(value)
        except (TypeError, ValueError):
            continue
    return numbers
