"""From a workflow to its best model: makes the engine, finds the space, runs the search, tests the winner."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import sys
import time as clock
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import strftime
from typing import Any

from hpcompss.constraints import parse_constraints
from hpcompss.engines import Engine, chosen_engine, follow, inside_compss, make_engine, mpi_rank
from hpcompss.engines.delivery import Luggage
from hpcompss.engines.fleet import Range
from hpcompss.engines.placement import size
from hpcompss.errors import HpcompssError, InputError
from hpcompss.fidelity import make_scheduler
from hpcompss.graph import (
    FunctionGraph,
    KerasGraph,
    TrialGraph,
    best_trials,
    keep_best_models,
    submit_with_files,
    unlimited,
)
from hpcompss.importing import refuse_search
from hpcompss.journal import is_begun
from hpcompss.loop import INTERRUPTED, Loop, View
from hpcompss.objectives import Objective
from hpcompss.report.export import write_csv, write_whole
from hpcompss.sources import changed_files, code_digests, digest_of, folder_of, named_from
from hpcompss.space.space import Space
from hpcompss.space.tracing import Killed
from hpcompss.stopping import StopRules
from hpcompss.study import JOURNAL, LOGS, OF_THE_CODE, WORKFLOW, Study
from hpcompss.tasks.apart import HERE, write_files
from hpcompss.tasks.evaluate import check_function
from hpcompss.tasks.finalize import finalize
from hpcompss.tasks.inspect_model import Inspection, inspect_model
from hpcompss.tasks.read_data import DataSummary, read_data
from hpcompss.tasks.train import model_path
from hpcompss.training.backends import chosen_backend, stated_backend, using_backend
from hpcompss.training.data.loading import forget_run
from hpcompss.training.data.passed import data_section
from hpcompss.training.data.specification import PickledFunction
from hpcompss.training.job import Job
from hpcompss.training.kept import existing, read_about, sibling
from hpcompss.trial import Failure, FailureKind, Resources, Trial
from hpcompss.workflow import RULES, WorkerRange, Workflow, engine_settings, load_workflow, make_workflow

__all__ = [
    "UserCodeError",
    "find_space",
    "forgetting",
    "locating",
    "new_folder",
    "open_engine",
    "read_data_once",
    "resume",
    "study_of",
    "tune",
    "with_limits",
]


LAGS_A_SLOT = 4
"""The lag for each slot where the workflow states none. With trials of lognormal duration (sigma 0.5) 1,920 slots were
busy for two thirds of the time with 2, and all the time with 4 (benchmarks/scale.py)."""


REASONS_TOLD = 5
"""Failures whose reasons are named where none is the one that is asked for."""

FILES_TOLD = 3
"""Changed files that are named."""
MOST_KILLED = 10
"""How many configurations may end the process of an inspection, which takes some seconds each."""

REMOTE = ("dask", "ray")
"""The engines whose workers may be anywhere, on machines that see nothing of this one's."""


class UserCodeError(HpcompssError):
    """The user's code raised outside any trial. Its traceback is that of the user's code."""

    def __init__(self, what: str, failure: Failure) -> None:
        super().__init__(f"{what}: {failure.reason}")
        self.traceback = failure.traceback


def tune(
    workflow: str | os.PathLike[str] | Workflow | None = None,
    *,
    settings: Sequence[str] = (),
    study: str | os.PathLike[str] | None = None,
    engine: Engine | str | Mapping[str, Any] | None = None,
    view: View | None = None,
    validation_data: Any = None,
    test_data: Any = None,
    callbacks: Sequence[Any] = (),
    **sections: Any,
) -> Study:
    """Runs a workflow and returns its study.

    Args:
        workflow: A workflow file; or None, and its sections as arguments: ``tune(model=build, data={"name": "digits"},
            objective="val_accuracy", search={"trials": 20})``.
        settings: ``key=value`` settings that override a workflow file's, such as ``"search.trials=20"``.
        study: The folder to keep the study in, new or empty. By default a new one in ``studies/``.
        engine: Where to run: an engine, which stays open, or the workflow's section ``engine``, such as ``"local"`` or
            ``{"name": "local", "workers": 2}``, whose settings override a workflow file's.
        view: Watches the search; by default what happens is printed. `View` itself shows nothing.
        validation_data: What Keras takes under this name, beside ``data``.
        test_data: The same for the test of the winner.
        callbacks: What ``training.callbacks`` is: Keras callbacks, copied for each trial, and functions that make them.
        **sections: The sections of a workflow. ``data`` may also be the data itself, in any form that Keras takes:
            ``(x, y)``, ``(x, y, weights)``, arrays by name (``x_train``, ``y_train``, ...), or a function that returns
            data. Arrays are written once to the cache, which all workers of a machine map into memory.

    Raises:
        InputError: Something the user stated is wrong.
        UserCodeError: The user's module or ``build`` raises.
        StudyFailed: The first three trials failed alike.
        JournalError: The journal cannot be written.
        KeyboardInterrupt: After Ctrl-C, once what ran has finished (at once after a second one); all is kept.
    """
    refuse_search()
    begun = clock.monotonic()
    given = engine if isinstance(engine, Engine) else None
    stated = {} if engine is None or given is not None else engine_settings(engine)
    if workflow is None:
        if any(each is not None for each in (sections.get("data"), validation_data, test_data)):
            sections["data"] = data_section(sections.get("data"), validation_data, test_data)
        if callbacks:
            sections["training"] = _with_callbacks(sections.get("training"), callbacks)
        checked = make_workflow({**sections, "engine": stated or None})
    elif sections or callbacks or validation_data is not None or test_data is not None:
        raise InputError("tune takes either a workflow file or its sections as arguments: override a file by settings=")
    else:
        checked = workflow if isinstance(workflow, Workflow) else load_workflow(os.fspath(workflow), settings)
        checked = _on_engine(checked, stated)
    if given is None:
        follow(checked.engine.name)
    view = view or _printing()
    folder = Path(study) if study is not None else new_folder(_title(checked, workflow))
    made_here = not folder.exists()
    check_sources(checked)
    _check_folder(folder, checked)
    with (
        _removing_unused(folder, made_here),
        locating(checked),
        forgetting(checked),
        open_engine(checked, given, folder, view) as where,
    ):
        digest = read_data_once(checked, where, view)
        with _new_study(checked, find_space(checked, where, view), folder, where) as made:
            return _begin(checked, made, where, view, folder, digest, begun)


def _with_callbacks(training: Any, callbacks: Sequence[Any]) -> Any:
    """Returns the section ``training`` with callbacks. Raises `InputError` where it has some already."""
    if training is not None and not isinstance(training, Mapping):
        return training  # which is refused as what it is
    if training and training.get("callbacks"):
        raise InputError(
            "callbacks are given both in training and as the argument callbacks: leave one out",
            key="training.callbacks",
        )
    return {**(training or {}), "callbacks": callbacks}


def _begin(
    workflow: Workflow, study: Study, engine: Engine, view: View, folder: Path, digest: str, begun: float
) -> Study:
    """Runs a study that is new and returns it."""
    view.say(f"study: {folder}")
    for source in study.sources:
        view.say(f"warm start: {source}")
    if study.choice is not None:
        view.say(f"sampler: {study.choice[0]} ({study.choice[1]})")
    if digest:
        study.note("data", digest=digest)
    study.model = None if isinstance(workflow.model, str) else workflow.model
    _search(workflow, study, engine, view, begun)
    return study


def resume(
    directory: str | os.PathLike[str],
    *,
    trials: int | None = None,
    time: float | None = None,
    deadline: float | None = None,
    target: float | None = None,
    patience: int | None = None,
    min_improvement: float | None = None,
    engine: Engine | str | Mapping[str, Any] | None = None,
    engine_options: Mapping[str, Any] | None = None,
    view: View | None = None,
    model: Any = None,
    function: Any = None,
    data_function: Any = None,
    data: Any = None,
    validation_data: Any = None,
    test_data: Any = None,
    retry_failed: bool | str = False,
    callbacks: Sequence[Any] = (),
) -> Study:
    """Goes on with a study after whatever ended it, its interrupted trials first, and returns it.

    Args:
        directory: The study's folder.
        trials: How many trials the study shall have in all, in place of what its workflow says.
        time: Seconds from the start of the first trial of this run after which no new one starts, in place of what its
            workflow says.
        deadline: Seconds from now after which running trials are ended, too, in place of what its workflow says.
        target: The value that is good enough, in place of what its workflow says.
        patience: How many finished trials in a row may bring no better value, in place of what its workflow says.
        min_improvement: The expected improvement below which a further trial is not worth it, in place of what its
            workflow says.
        engine: Where to run, in place of what the workflow says: an engine, which stays open, or its name, or settings
            of the section ``engine``.
        engine_options: Settings of the section ``engine``, such as ``{"workers": 4}``, in place of the workflow's.
        view: Watches the search; by default what happens is printed.
        model: The Python object, where the study was begun with one.
        function: The Python object, where the study was begun with one.
        data_function: The Python function that returns the data, where the study was begun with one.
        data: The data, where the study was begun with arrays that are not in the cache any more.
        validation_data: As for `tune`.
        test_data: As for `tune`.
        retry_failed: Whether to try failed trials again; a text for those whose reason contains it. Where the user's
            code has changed, those that raised or died are tried again without it, and all while none has completed.
        callbacks: The callbacks, where the study was begun with Python objects.

    Raises:
        InputError: The folder holds no study, another hpcompss has it, or its workflow was changed.
        StudyFailed: The first three trials failed alike.
        JournalError: The journal cannot be written.
        KeyboardInterrupt: After Ctrl-C, once what ran has finished (at once after a second one); all is kept.
    """
    refuse_search()
    begun = clock.monotonic()
    folder = Path(directory)
    given = engine if isinstance(engine, Engine) else None
    stated_engine = {} if engine is None or given is not None else engine_settings(engine)
    if engine_options and engine is not None and not isinstance(engine, str):
        raise InputError("engine_options go with the name of an engine: state them in engine, and leave them out")
    stated_engine |= engine_options or {}
    if mpi_rank() and given is None:
        follow(stated_engine.get("name") or load_workflow(folder / WORKFLOW).engine.name)
    view = view or _printing()
    with Study.resume(folder) as study:
        section = data_section(data, validation_data, test_data)
        if data_function is not None and section is not None:
            raise InputError("data and data_function both state the data: leave data_function out")
        data_function = data_function or _section_function(section)
        workflow = _workflow_of(folder, study, model, function, data_function, callbacks)
        backend = _backend_of(study)
        _check_arrays(workflow, section, folder)
        stated = StopRules(trials, time, None, target, patience, min_improvement)
        stated.check_objectives(len(study.objectives))
        if limits := {rule: value for rule, value in vars(stated).items() if value is not None}:
            study.note("limits", **limits)
        workflow = _updated(with_limits(workflow, study), "search", deadline=deadline)
        workflow = _on_engine(workflow, stated_engine)
        if study.settings.get("about", {}).get("module") != _module_digest(workflow):
            view.say("warning: the model's file was changed since this study began; its space is kept as it was")
        _check_reason(study, retry_failed)
        keep_best_models(study, workflow.training.ensemble or 1)
        for draft in (folder / "models").glob("*.draft.*"):
            draft.unlink(missing_ok=True)
        with locating(workflow), forgetting(workflow), open_engine(workflow, given, folder, view, backend) as where:
            _compare_data(study, read_data_once(workflow, where, view), view)
            _try_failed_again(study, workflow, retry_failed, view)
            study.model = model
            _search(workflow, study, where, view, begun)
        return study


def _on_engine(workflow: Workflow, settings: Mapping[str, Any]) -> Workflow:
    """Returns a workflow with other settings of its engine. Raises `InputError` where they do not fit each other."""
    if not settings:
        return workflow
    others = {key: value for key, value in settings.items() if key != "name"}
    name = settings.get("name") or workflow.engine.name
    return workflow.model_copy(update={"engine": workflow.engine.on(name, others)})


def _check_reason(study: Study, wanted: bool | str) -> None:
    """Refuses to try those trials again that failed for a reason for which none did."""
    if not isinstance(wanted, bool | str):
        raise InputError("retry_failed is true, false, or a part of the reason for which trials failed")
    reasons = list(dict.fromkeys(failure.reason for failure in study.failures.values()))
    if isinstance(wanted, str) and reasons and not any(wanted.casefold() in each.casefold() for each in reasons):
        told = "; ".join(reasons[:REASONS_TOLD])
        raise InputError(f"no trial failed with a reason that contains {wanted!r}: there is {told}")


def _try_failed_again(study: Study, workflow: Workflow, wanted: bool | str, view: View) -> None:
    """Makes failed trials wait to be tried again: those that are asked for, or those that changed code may have mended.

    Args:
        study: The study.
        workflow: Its workflow.
        wanted: See `resume`.
        view: Told which are tried again, and why.
    """
    last, failed = study.started - 1, len(study.failures)
    digests = _code_now(workflow)
    changed = changed_files(_code_before(study, workflow), digests)
    if wanted is not False:
        retried = study.retry_failed("" if wanted is True else wanted)
        view.say(_trying(len(retried), failed) if retried else "no trial has failed, so none is tried again")
    elif changed and failed:
        retried = study.retry_failed(kinds=OF_THE_CODE if study.completed else None)
        if retried:
            view.say(f"{_listed(changed)} changed since trial {last}: {_trying(len(retried), failed)}")
        if len(retried) < failed:
            view.say(
                "note: trials that exceeded a limit or had no finite value are not tried again for changed code: "
                "resume with --retry-failed for that"
            )
    elif failed:
        count = f"{failed} trials have" if failed > 1 else "1 trial has"
        view.say(f"note: {count} failed; resume with --retry-failed to try again")
    if digests != study.code:
        study.note("code", files=digests)
    study.flush()


def _trying(retried: int, failed: int) -> str:
    if retried < failed:
        return f"trying {retried} of the {failed} failed trials again"
    return f"trying the {failed} failed trials again" if failed > 1 else "trying the failed trial again"


def _listed(names: Sequence[str]) -> str:
    """Returns a few names as words."""
    shown = list(names[:FILES_TOLD])
    more = [f"{len(names) - len(shown)} more files"] if len(names) > len(shown) else []
    *most, last = [*shown, *more]
    return f"{', '.join(most)} and {last}" if most else last


def _code_before(study: Study, workflow: Workflow) -> dict[str, str]:
    """Returns the digests of the user's files when the study was begun or resumed last."""
    about, main = study.settings.get("about", {}), workflow.model or workflow.function
    folder = folder_of(main)
    if study.code is not None:
        return named_from(folder, study.code)  # earlier versions noted absolute paths
    # Studies of still earlier versions know the file of the model or function alone.
    now = code_digests(_references(workflow))
    if isinstance(main, str) and about.get("module") and (place := main.rpartition(":")[0]) in now:
        now[place] = about["module"]
    return named_from(folder, now)


def _code_now(workflow: Workflow) -> dict[str, str]:
    """Returns the digests of the user's files, those beside the model or function by their names alone."""
    return named_from(folder_of(workflow.model or workflow.function), code_digests(_references(workflow)))


def _references(workflow: Workflow) -> list[Any]:
    """Returns what a workflow names of the user's code."""
    data = workflow.data
    return [workflow.model, workflow.function, data and data.function, *workflow.training.callbacks]


def _printing() -> View:
    from hpcompss.report.console import make_view

    return make_view(sys.stdout)


def read_data_once(workflow: Workflow, engine: Engine, view: View) -> str:
    """Reads a Keras study's data into the cache, says what it is, and returns the digest of its content.

    Returns:
        The digest; empty for streams, or where there is no data.

    Raises:
        InputError: The data is not as it must be.
        UserCodeError: The user's function raises.
    """
    if workflow.model is None:
        return ""
    resources = workflow.trial_resources
    _check_capacity(workflow, engine, resources)
    # Trials map what was read, so reading may take more memory than they have, if they do not inherit it.
    reading = replace(unlimited(resources), single_use=resources.memory is not None)
    with view.working("reading the data"):
        future = engine.submit(read_data, _job(workflow, 0), resources=reading)
        engine.wait([future])
    found = future.result()
    if isinstance(found, HpcompssError):
        raise found
    if not isinstance(found, DataSummary):
        raise UserCodeError("the data cannot be read", found)
    view.say(f"data: {found.description}")
    return found.digest


def _compare_data(study: Study, digest: str, view: View) -> None:
    """Says that the data is not what it was, and notes what it is now."""
    if not digest or digest == study.data_digest:
        return
    if study.data_digest:
        view.say("warning: the data has changed since this study began: values before and after may not compare")
    study.note("data", digest=digest)


def _section_function(section: Any) -> Any:
    return section.get("function") if isinstance(section, Mapping) else None


def _check_arrays(workflow: Workflow, section: Any, folder: Path) -> None:
    """Refuses data passed on resume that is not the study's."""
    stated = workflow.data and workflow.data.arrays
    given = section.get("arrays") if isinstance(section, Mapping) else None
    if given is not None and given != stated:
        raise InputError(f"the data passed is not that of the study in {folder}: pass the same, or begin a new study")


@contextlib.contextmanager
def forgetting(workflow: Workflow) -> Iterator[None]:
    """Removes from the cache, at the end, what a function returned for this run alone."""
    try:
        yield
    finally:
        specification = workflow.data_specification()
        if specification is not None:
            with contextlib.suppress(OSError, HpcompssError):
                forget_run(specification)


def find_space(workflow: Workflow, engine: Engine, view: View | None = None) -> Space:
    """Returns what may vary: a function's space as the workflow states it, a Keras model's by calling its code.

    Raises:
        InputError: The model, its data or the objective is not as it must be.
        UserCodeError: The user's module or ``build`` raises.
    """
    view = view or View()
    resources = workflow.trial_resources
    _check_capacity(workflow, engine, resources)
    if workflow.function is not None:
        for warning in _check_function(workflow, engine):
            view.say(f"warning: {warning}")
        return workflow.parameters()
    with view.working("finding the space of the model"):
        found = _inspect(workflow, engine, resources)
    if isinstance(found, Inspection):
        for warning in found.warnings:
            view.say(f"warning: {warning}")
        narrowing = workflow.searched_space(found.space)
        for note in narrowing.notes:
            view.say(f"note: {note}")
        if not len(narrowing.space):
            raise InputError("build(hp) declares no hyper-parameter, so there is nothing to tune", key="model")
        return narrowing.space
    if isinstance(found, HpcompssError):
        raise found
    raise UserCodeError(f"the model {_reference(workflow.model)} does not load or build", found)


def _inspect(workflow: Workflow, engine: Engine, resources: Resources) -> Inspection | HpcompssError | Failure:
    """Inspects the model in processes of their own, under a trial's limits.

    Where a configuration ends such a process, inspection begins again without it. The time limit holds for each call
    of the user's code.
    """
    job = _job(workflow, 0)
    limited = replace(resources, time_limit=None, single_use=True)
    killed: list[Killed] = []
    for attempt in itertools.count():
        future = engine.submit(inspect_model, job, tuple(killed), resources.time_limit, resources=limited)
        for _ in range(0 if attempt else min(workflow.search.trials or 1000, engine.capacity(limited)) - 1):
            engine.submit(_nothing, resources=unlimited(resources))  # starts the other workers meanwhile
        engine.wait([future])
        found: Inspection | HpcompssError | Failure = future.result()
        step = future.progress
        if not isinstance(found, Failure) or found.kind not in (FailureKind.MEMORY, FailureKind.DIED):
            break
        call = int(step.get("call", 0))
        if not call or call in {each.call for each in killed}:
            break
        killed.append(Killed(call, int(step.get("declared", 0)), _why_killed(found, resources)))
        if len(killed) > MOST_KILLED:
            raise InputError(
                f"more than {MOST_KILLED} configurations of build(hp) could not be built, the last of which "
                f"{killed[-1].reason}: give build(hp) narrower ranges, or raise the limits of trials",
                key="resources",
            )
    return found


def _why_killed(failure: Failure, resources: Resources) -> str:
    """Returns what happened to a configuration that ended the process of its inspection."""
    if failure.kind is FailureKind.MEMORY:
        return f"is too large to build within resources.memory ({size(resources.memory or 0)})"
    if resources.time_limit is not None and f"signal {int(signal.SIGALRM)} " in failure.reason:
        return f"takes longer to build than resources.time_limit ({resources.time_limit:g} s)"
    return f"cannot be built ({failure.reason})"


def _search(workflow: Workflow, study: Study, engine: Engine, view: View, begun: float) -> None:
    """Runs the trials that remain, then tests the winner; what there is to see is on disk however this ends.

    Args:
        begun: When the deadline began to count (`time.monotonic` seconds).
    """
    resources = workflow.trial_resources
    _check_capacity(workflow, engine, resources)
    if engine.about is not None:
        study.note(**engine.about)
    if workflow.engine.name == "local" and inside_compss():
        view.say("warning: the engine local uses this machine alone; for all nodes of COMPSs take  --engine compss")
    if study.lag is not None and engine.advice:
        view.say(f"note: {engine.advice}")
    slots = engine.capacity(resources)
    view.say(f"{slots} trial{'s' if slots > 1 else ''} at once, {resources.cpu} cpu and {resources.gpu:g} gpu each")
    try:
        try:
            reason = Loop(
                study,
                engine,
                _graph(workflow, study),
                workflow.search.rules,
                begun=begun,
                resources=resources,
                watch=view.update,
            ).run()
        finally:
            view.closing()
        view.say(f"stopped: {reason}")
        if reason == INTERRUPTED:
            raise KeyboardInterrupt
        deadline = workflow.search.deadline
        if workflow.model is None or not study.feasible:
            return
        if deadline is not None and clock.monotonic() - begun >= deadline:
            view.say("the best model is not tested, as the deadline has come: resume does it")
        else:
            _finalize(workflow, study, engine, view)
    except KeyboardInterrupt:
        if study.stopped != INTERRUPTED:
            study.note("stop", reason=INTERRUPTED)
        raise
    finally:
        if study.directory is not None and study.finished:
            try:
                write_csv(study, study.directory / "trials.csv")
            except OSError as error:
                view.say(f"warning: trials.csv cannot be written ({error.strerror})")


def _finalize(workflow: Workflow, study: Study, engine: Engine, view: View) -> None:
    """Scores the winner on the test set, once for each winner, and the ensemble, once for each set of members."""
    best, folder, training = study.best, study.directory, workflow.training
    members = best_trials(study, training.ensemble) if training.ensemble else []
    if folder is None or best.result is None or _is_scored(study, best, members):
        return
    refit = training.refit or training.folds is not None
    if not refit and not members and (nothing := _nothing_to_test(folder, best)) is not None:
        study.note("test", **nothing)
        study.flush()
        return
    with view.working("training the best model on all data" if refit else "testing the best model"):
        numbers = {best.number, *(each.number for each in members)}
        future = submit_with_files(
            *(engine, study, finalize, _job(workflow, study.seed), best.number, best.configuration, best.result.epoch),
            *(HERE, refit, members),
            reads=[each for number in sorted(numbers) for each in _model_files(folder, number)],
            resources=_for_models(workflow, engine, max(1 + refit, len(members))),
        )
        engine.wait([future])
    scores = future.result()
    if isinstance(scores, Failure):
        view.say(scores.traceback)
        view.say(f"warning: the best model could not be tested, resume tries again: {scores.reason}")
        return
    try:
        write_files(folder, scores.files)
    except OSError as error:
        view.say(f"warning: models that were made at the end cannot be put into {folder} ({error.strerror})")
    keep_best_models(study, training.ensemble or 1)
    for warning in scores.warnings:
        view.say(f"warning: {warning}")
    told: dict[str, Any] = {"number": best.number, "metrics": scores.metrics, "refit": refit}
    if scores.refit_failure is not None:
        view.say(scores.refit_failure.traceback)
        told |= {"refit": False, "refit_failed": scores.refit_failure.reason}
    if scores.reason:
        told["reason"] = scores.reason
    if scores.before_refit is not None:
        told["before_refit"] = scores.before_refit
    if members:
        told["candidates"] = [trial.number for trial in members]
    if scores.ensemble is not None:
        told["ensemble"] = {"members": scores.members, "metrics": scores.ensemble}
    study.note("test", **told)
    study.flush()


def _for_models(workflow: Workflow, engine: Engine, models: int) -> Resources:
    """Returns what the final task may use, which holds several models at once: as much memory as so many trials.

    It runs alone, so what all trials together had is free; it is a single trial's where no worker has more.
    """
    resources = replace(workflow.trial_resources, time_limit=None)
    if resources.memory is None:
        return resources
    shares = (replace(resources, memory=count * resources.memory) for count in range(models, 1, -1))
    return next((each for each in shares if engine.capacity(each)), resources)


def _nothing_to_test(folder: Path, best: Trial) -> dict[str, Any] | None:
    """Returns what the journal says where there is no model or no test set to score it on, else None."""
    told: dict[str, Any] = {"number": best.number, "metrics": {}, "refit": False}
    kept = existing(model_path(folder, best.number))
    if kept is None:
        return {**told, "reason": f"the model of trial {best.number} was not kept"}
    return None if read_about(kept).has_test else told


def _model_files(folder: Path, number: int) -> tuple[Path, Path]:
    """Returns where the model of a trial may be: whole, or its weights."""
    path = model_path(folder, number)
    return path, sibling(path)


def _is_scored(study: Study, best: Trial, members: Sequence[Trial]) -> bool:
    """Returns whether just these models were scored on the test set before; a refit that failed is tried again."""
    if not study.test or study.test["number"] != best.number:
        return False
    if "refit_failed" in study.test:
        return False
    return not members or study.test.get("candidates") == [trial.number for trial in members]


def _job(workflow: Workflow, seed: int) -> Job:
    data = workflow.data_specification()
    if data is None:
        raise InputError("a Keras model needs data", key="data")
    scheduler = make_scheduler(workflow.scheduling(), workflow.search.trials)
    return Job(
        model=workflow.model,
        data=data,
        metric=workflow.objective.metric,
        direction=workflow.objective.direction,
        epoch=workflow.objective.epoch,
        **workflow.training.stated,
        searched=tuple(workflow.training.searched),
        max_parameters=workflow.resources.parameters,
        seed=seed,
        early_stopping=workflow.training.stops_early,
        constraints=parse_constraints(workflow.objective.plain_constraints()),
        also=tuple(Objective(**each.model_dump()) for each in workflow.objective.also),
        folds=workflow.training.folds,
        repeats=workflow.training.repeats,
        fold_stopping=workflow.training.fold_stopping,
        kept=workflow.training.ensemble or 1,
        backend=chosen_backend(),
        fit=workflow.training.fit_arguments,
        callbacks=tuple(workflow.training.callbacks),
        refit=workflow.training.refit or workflow.training.folds is not None,
        levels=() if scheduler is None else scheduler.levels,
    )


def _graph(workflow: Workflow, study: Study) -> TrialGraph:
    if workflow.function is not None:
        return FunctionGraph(workflow.function, workflow.objective.metric)
    room = None if workflow.fidelity is None else workflow.fidelity.checkpoints
    return KerasGraph(_job(workflow, study.seed), **({} if room is None else {"room": room}))


@contextlib.contextmanager
def open_engine(
    workflow: Workflow,
    given: Engine | None = None,
    folder: Path | None = None,
    view: View | None = None,
    backend: str | None = None,
) -> Iterator[Engine]:
    """Gives the engine that a workflow asks for, closed at the end; one that is given instead stays open.

    Args:
        workflow: The workflow.
        given: An engine to use instead.
        folder: The study's, where the workers' output is kept.
        view: Shows what the engine tells of its workers.
        backend: The backend of Keras that workers use; None for this process's.
    """
    with contextlib.nullcontext() if workflow.model is None else using_backend(backend or chosen_backend()):
        if given is not None:
            yield given
            return
        with _made_engine(workflow, folder, view) as made:
            yield made


@contextlib.contextmanager
def _made_engine(workflow: Workflow, folder: Path | None, view: View | None) -> Iterator[Engine]:
    section = workflow.engine.on(chosen_engine(workflow.engine.name))
    workers: Any = None if section.workers == "auto" else section.workers
    if isinstance(workers, WorkerRange):
        workers = Range(workers.min, workers.max)
    preload = ("keras",) if workflow.model is not None else ()
    logs = None if folder is None else folder / LOGS
    options = section.options()
    if section.name in REMOTE:
        options |= {"trial": workflow.trial_resources, "luggage": lambda: _luggage(workflow)}
    with make_engine(section.name, workers=workers, preload=preload, log_directory=logs, **options) as made:
        if view is not None:
            made.tell = view.say  # type: ignore[method-assign]
            for sentence in made.introduction:
                view.say(sentence)
        made.await_workers()
        yield made


def _luggage(workflow: Workflow) -> Luggage:
    """Returns what workers need that do not see this machine's files."""
    places = [str(each).rpartition(":")[0] for each in _references(workflow) if isinstance(each, str)]
    modules = [Path(place).resolve() for place in places if place.endswith(".py") and Path(place).is_file()]
    return Luggage(modules, workflow.data_specification())


@contextlib.contextmanager
def locating(workflow: Workflow) -> Iterator[None]:
    """Adds file and line to an error that names one of the workflow's settings."""
    try:
        yield
    except InputError as error:
        raise workflow.located(error) from None


@contextlib.contextmanager
def _removing_unused(folder: Path, made_here: bool) -> Iterator[None]:
    """Removes what was put into a study's folder where the study never began, and the folder if it was made here."""
    try:
        yield
    except BaseException:
        if not (folder / JOURNAL).exists():
            shutil.rmtree(folder / LOGS, ignore_errors=True)
            (folder / WORKFLOW).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                if made_here:
                    folder.rmdir()
        raise


def _check_capacity(workflow: Workflow, engine: Engine, resources: Resources) -> None:
    """Refuses at once what the engine would refuse at the first trial."""
    if engine.capacity(resources) < 1:
        # The engine knows which resource is missing, and says so.
        engine.submit(_nothing, resources=resources)
        raise InputError("no worker can run such a trial: lower what it asks for", key="resources")


def _check_function(workflow: Workflow, engine: Engine) -> Sequence[str]:
    """Refuses a function whose module does not import; returns what the user should know of it."""
    resources = replace(workflow.trial_resources, time_limit=None)
    future = engine.submit(check_function, workflow.function, resources=resources)
    engine.wait([future])
    found: HpcompssError | Failure | Sequence[str] = future.result()
    if isinstance(found, HpcompssError):
        raise found
    if isinstance(found, Failure):
        raise UserCodeError(f"the function {_reference(workflow.function)} cannot be imported", found)
    return found


def _nothing() -> None:
    """Does nothing."""


def _new_study(workflow: Workflow, space: Space, folder: Path, engine: Engine) -> Study:
    # Before the journal begins: a study that has one can always be resumed.
    try:
        write_whole(folder / WORKFLOW, workflow.to_yaml())
    except OSError as error:
        raise InputError(f"the study folder {folder} cannot be written ({error.strerror}): choose another") from None
    slots = engine.capacity(workflow.trial_resources)
    return study_of(workflow, space, folder, lag=LAGS_A_SLOT * slots)


def study_of(workflow: Workflow, space: Space, folder: Path | None = None, lag: int = 1) -> Study:
    """Returns a new study of a workflow, kept in ``folder`` or in memory alone.

    Args:
        workflow: The workflow.
        space: What may vary.
        folder: Where to keep it, or None.
        lag: That of the lagged order, where the workflow states none.

    Raises:
        InputError: No rule is sure to end the search, a starting point does not fit the space, or the folder cannot
            have the study.
    """
    search = workflow.search
    search.rules.check_end(space, search.allow_duplicates)
    search.rules.check_objectives(1 + len(workflow.objective.also))
    return Study(
        space,
        sampler=search.sampler,
        direction=workflow.objective.direction,
        seed=search.seed,
        metric=workflow.objective.metric,
        directory=folder,
        allow_duplicates=search.allow_duplicates,
        lag=None if search.order == "eager" else search.lag or lag,
        initial=search.initial,
        warm_start=search.warm_start,
        constraints=workflow.objective.plain_constraints(),
        also=[each.model_dump() for each in workflow.objective.also],
        budget=search.trials,
        fidelity=workflow.scheduling(),
        per=workflow.objective.per,
        about={
            "workflow": workflow.digest,
            "task": workflow.task,
            "module": _module_digest(workflow),
            "code": _code_now(workflow),
            **({} if workflow.model is None else {"backend": chosen_backend()}),
        },
    )


def _backend_of(study: Study) -> str | None:
    """Returns the backend of Keras that a study was begun with, None where it names none.

    Raises:
        InputError: This process was told to use another one.
    """
    begun: str | None = study.settings.get("about", {}).get("backend")
    stated = stated_backend()
    if begun is not None and stated not in (None, begun):
        raise InputError(
            f"the study was begun with KERAS_BACKEND={begun}, not {stated}: go on with that one, or run its workflow "
            "as a new study"
        )
    return begun


def _workflow_of(
    folder: Path, study: Study, model: Any, function: Any, data_function: Any, callbacks: Sequence[Any] = ()
) -> Workflow:
    """Returns the workflow of a study's folder, with the Python objects that a file cannot hold."""
    if not (folder / WORKFLOW).exists():
        raise InputError(
            f"{folder} has no {WORKFLOW}: a study made in Python with hpcompss.Study goes on there, with Study.resume"
        )
    workflow = load_workflow(folder / WORKFLOW)
    if study.settings.get("about", {}).get("workflow") != workflow.digest:
        raise InputError(
            "it was changed since the study began: undo that, or run it as a new study (when to stop is told to "
            "resume: --trials, --time, --target, ...)",
            file=folder / WORKFLOW,
        )
    stated = {"model": workflow.model, "function": workflow.function}
    stated["data_function"] = workflow.data and workflow.data.function
    named = workflow.training.callbacks
    stated["callbacks"] = next((each for each in named if each.startswith("<python>")), named[0] if named else None)
    given = {"model": model, "function": function, "data_function": data_function, "callbacks": callbacks or None}
    for key, reference in stated.items():
        in_python = isinstance(reference, str) and reference.startswith("<python>")
        if in_python and given[key] is None:
            streams = reference.rpartition(".")[2] == PickledFunction.__name__
            what, argument = ("streams", "data") if streams else (reference.partition(":")[2], key)
            raise InputError(
                f"the study was begun in Python with {what}: go on there with "
                f"hpcompss.resume({str(folder)!r}, {argument}=...)"
            )
        if given[key] is not None and not in_python:
            begun = f"with {_reference(reference)}" if reference else "without"
            raise InputError(
                f"{key} replaces a Python object that the study was begun with, and it was begun {begun}: leave it out"
            )
    workflow = _updated(workflow, "data", function=data_function) if data_function is not None else workflow
    workflow = _updated(workflow, "training", callbacks=list(callbacks) or None)
    return workflow.model_copy(update={key: given[key] for key in ("model", "function") if given[key] is not None})


def with_limits(workflow: Workflow, study: Study) -> Workflow:
    """Returns a study's workflow with the stop rules that were stated on resume."""
    return _updated(workflow, "search", **{setting: study.limits.get(rule) for setting, rule in RULES.items()})


def _updated(workflow: Workflow, section: str, **settings: Any) -> Workflow:
    """Returns the workflow with those settings of a section that are not None."""
    stated = {key: value for key, value in settings.items() if value is not None}
    return workflow.model_copy(update={section: getattr(workflow, section).model_copy(update=stated)})


def _check_folder(folder: Path, workflow: Workflow) -> None:
    """Refuses a folder that holds something, before any work is done."""
    if is_begun(folder / JOURNAL):
        about = Study.load(folder).settings.get("about", {})
        if about.get("workflow") == workflow.digest:
            raise InputError(f"{folder} holds this workflow's study already: go on with  hpcompss resume {folder}")
        raise InputError(f"{folder} holds the study of another workflow: choose another folder with --study")
    Study.check_folder(folder)


def check_sources(workflow: Workflow) -> None:
    """Refuses a warm start from a folder that holds no study, before any work is done."""
    for each in workflow.search.warm_start:
        if not is_begun(Path(each) / JOURNAL):
            error = InputError(f"{each} holds no study: name the folder of one", key="search.warm_start")
            raise workflow.located(error)


def new_folder(title: str) -> Path:
    """Returns a folder in ``studies/`` that does not exist yet, named by the title and the time."""
    base = Path("studies") / f"{title}-{strftime('%Y%m%d-%H%M%S')}"
    number, folder = 1, base
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder


def _title(workflow: Workflow, given: object) -> str:
    return Path(given).stem if isinstance(given, str | os.PathLike) else _name(workflow.model or workflow.function)


def _name(reference: Any) -> str:
    if isinstance(reference, str):
        return reference.rpartition(":")[2] if "/" not in reference else Path(reference.rpartition(":")[0]).stem
    return str(getattr(reference, "__name__", type(reference).__name__))


def _reference(reference: Any) -> str:
    """Returns what the user named, for messages: ``digits.py:build``."""
    return Path(reference).name if isinstance(reference, str) else _name(reference)


def _module_digest(workflow: Workflow) -> str | None:
    """Returns a digest of the file that the model or function stands in, or None where it is not a file."""
    reference = workflow.model or workflow.function
    if isinstance(reference, str):
        file = Path(reference.rpartition(":")[0])
        if file.suffix == ".py" and file.is_file():
            return digest_of(file.read_bytes())
    return None
