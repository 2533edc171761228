"""What a study asks for that its ``fit`` cannot do, refused before the search by what a rehearsal has shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hpcompss.errors import InputError
from hpcompss.space.tracing import HyperParameters
from hpcompss.training.data import DataSet
from hpcompss.training.data.checks import check_for_keras
from hpcompss.training.fitting import HEED
from hpcompss.training.job import Job
from hpcompss.training.rehearsal import FitCall, Rehearsal, Rehearsed

__all__ = ["check_fit", "check_settings"]


def check_settings(job: Job, data: DataSet, own_fit: bool) -> None:
    """Refuses settings of the training that do not fit the data.

    Args:
        job: What the study's trials share.
        data: The data.
        own_fit: Whether the user wrote the ``fit``, which may make its own data.

    Raises:
        InputError: A setting does not fit.
    """
    if data.train.weights is not None and "class_weight" in job.fit:
        raise InputError(
            "Keras takes either class_weight or weights of the rows, which the data has: leave one of them out",
            key="training.fit.class_weight",
        )
    if data.train.is_stream:
        if any(isinstance(level, float) for level in job.levels):
            raise InputError(
                "a stream has no share that trials could be trained on: take min_epochs in its place",
                key="fidelity.min_share",
            )
        if job.refit and not job.folds:
            data.open().training_and_validation()  # refuses streams that cannot be joined
    if not own_fit:
        check_for_keras(data)
        if getattr(data.train.x, "kind", "") == "generator" and "steps_per_epoch" not in job.fit:
            raise InputError(
                "this backend of Keras goes through a generator once, and ours goes on for ever: state how many "
                "batches an epoch has",
                key="training.fit.steps_per_epoch",
            )
    if data.validation is not None:
        return
    if job.metric.startswith("val_") and not own_fit:
        raise InputError(
            f"there is no validation data, so that no {job.metric!r} is reported: take the objective 'loss' or another "
            f"metric of the training, such as {job.metric.removeprefix('val_')!r}",
            key="objective.metric",
        )
    if job.refit and not job.folds:
        raise InputError(
            "there is no validation data, with which the winner could be trained anew: leave refit out",
            key="training.refit",
        )


def check_fit(job: Job, rehearsal: Rehearsal) -> tuple[str, ...]:
    """Refuses what a ``fit`` of the user's own cannot do, and returns what the user should know of it.

    Args:
        job: What the study's trials share.
        rehearsal: What its calls have shown.

    Raises:
        InputError: The study asks for something else; its key is the setting.
    """
    refit = ("training.folds" if job.folds else "training.refit") if job.refit else None
    if not rehearsal.signature.takes_data:
        _check_own_data(job, rehearsal.signature.text, refit)
    for shown, configuration in rehearsal.seen:
        for error in _objections(job, shown, rehearsal.stated(), refit):
            where = "" if shown is rehearsal.seen[0][0] else f" (with {_listed(configuration)})"
            raise InputError(f"{error.message}{where}", key=error.key)
    if refit is not None and not rehearsal.seen[0][0].error:
        shown = rehearsal.without_validation(HyperParameters(), refit)
        if shown.error:
            raise InputError(
                f"it trains the winner at the end without validation data, where fit raises {shown.error} "
                f"({shown.place}): let fit do without validation_data, or leave {refit.partition('.')[2]} out",
                key=refit,
            )
    return tuple(_unused(job, rehearsal.seen[0][0], rehearsal.weighted))


def _unused(job: Job, shown: Rehearsed, weighted: bool) -> Iterator[str]:
    """Yields a warning for each argument that ``fit`` may have replaced on purpose."""
    if not shown.ended:
        return
    if job.batch_size is not None and _drops(shown.calls, "batch_size"):
        yield (
            f"training.batch_size has no effect: fit does not pass batch_size={job.batch_size} on to model.fit; pass "
            "**kwargs on, or leave it out"
        )
    if weighted and _drops(shown.calls, "sample_weight"):
        yield "the weights of the rows have no effect: fit does not pass sample_weight on to model.fit"


def _drops(calls: Sequence[FitCall], name: str) -> bool:
    """Returns whether an argument arrives nowhere. Calls without ``y`` may be given data sets, which have it inside."""
    return bool(calls) and all("y" in each.named and name not in each.named for each in calls)


def _objections_to_dropping(job: Job, calls: Sequence[FitCall], epochs: int | None) -> Iterator[InputError]:
    """Yields what is stated or searched and does not reach Keras's ``fit``."""
    lengths = [each.epochs - each.initial_epoch for each in calls]
    if epochs is not None and calls and sum(lengths) != epochs and all(each.epochs != epochs for each in calls):
        yield InputError(
            f"fit trains for {' + '.join(map(str, lengths))} epochs, not for the {epochs} of the workflow: pass epochs "
            "on to model.fit, or leave it out",
            key="training.epochs",
        )
    if "batch_size" in job.searched and _drops(calls, "batch_size"):
        yield InputError(
            "batch_size is searched, but fit does not pass it on to model.fit: pass **kwargs on, or leave it out",
            key="training.batch_size",
        )


def _check_own_data(job: Job, text: str, refit: str | None) -> None:
    if refit is not None:
        raise InputError(
            f"{text} takes no data, so it would train on the same again: take x and y, or leave "
            f"{refit.partition('.')[2]} out",
            key=refit,
        )
    if any(isinstance(each, float) for each in job.levels):
        raise InputError(f"{text} takes no data, of which a share could be trained on: take x and y", key="fidelity")


def _objections(job: Job, shown: Rehearsed, stated: Mapping[str, Any], refit: str | None) -> Iterator[InputError]:
    """Yields what a study asks for that one call of ``fit`` has shown to be out of its reach."""
    staged = bool(job.levels) and isinstance(job.levels[0], int)
    if shown.loop and staged:
        yield InputError(
            "fit has a training loop of its own, which a scheduler cannot stop and continue: leave the section "
            "fidelity out, or vary the share of the data (min_share)",
            key="fidelity",
        )
    if not shown.ended:
        return
    calls, own = shown.calls, [each for each in shown.calls if each.given]
    if shown.unjudged:
        yield InputError(
            f"fit trains without validation data, so that no {job.metric!r} is reported: pass validation_data on to "
            f"model.fit, or take a metric of the training, such as {job.metric.removeprefix('val_')!r}",
            key="objective.metric",
        )
    if staged:
        yield from _objections_of_stages(calls, stated)
    else:
        yield from _objections_to_dropping(job, calls, stated.get("epochs"))
    if calls and not any(each.heard for each in calls):
        if job.early_stopping is not None:
            yield _unheard("early stopping", "training.early_stopping")
        if job.callbacks:
            yield _unheard("training.callbacks", "training.callbacks")
    for name in job.fit:
        if calls and not any(name in each.named for each in calls):
            yield InputError(
                f"fit does not pass {name!r} on to model.fit: pass **kwargs on, or leave it out",
                key=f"training.fit.{name}",
            )
    if refit is not None and calls and not own and not shown.returned:
        yield InputError(
            "fit does not train the model that it is given, so there would be nothing to keep: train that one or "
            f"return the trained model, or leave {refit.partition('.')[2]} out",
            key=refit,
        )
    if refit is not None and len(own) > 1 and job.early_stopping is not None:
        yield InputError(
            f"fit calls model.fit {len(own)} times, and without validation data early stopping cannot end each again "
            f"where it did: leave early_stopping or {refit.partition('.')[2]} out",
            key=refit,
        )


def _objections_of_stages(calls: tuple[FitCall, ...], stated: Mapping[str, Any]) -> Iterator[InputError]:
    if len(calls) > 1:
        yield InputError(
            f"fit calls model.fit {len(calls)} times, and a scheduler can stop and continue only one training: leave "
            "the section fidelity out, or vary the share of the data (min_share)",
            key="fidelity",
        )
        return
    asked = (stated.get("initial_epoch", 0), stated["epochs"])
    for each in calls:
        if not each.given or not each.heard or (each.initial_epoch, each.epochs) != asked:
            missing = [
                name
                for name, there in (
                    ("the model it is given", each.given),
                    ("callbacks", each.heard),
                    ("epochs", each.epochs == asked[1]),
                    ("initial_epoch", each.initial_epoch == asked[0]),
                )
                if not there
            ]
            yield InputError(f"{HEED}; it does not pass on {' and '.join(missing)}", key="model")


def _unheard(what: str, key: str) -> InputError:
    return InputError(
        f"{what} has no effect, as fit does not pass its callbacks on to model.fit: pass **kwargs on, or leave it out",
        key=key,
    )


def _listed(configuration: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in configuration.items())
