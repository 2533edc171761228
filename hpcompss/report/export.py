"""A study as tables and plain data for other programs."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from hpcompss.drafts import whole
from hpcompss.graph import best_model_path
from hpcompss.journal import finite, read_journal, undone_by_retries
from hpcompss.report.edges import edges
from hpcompss.study import JOURNAL, Study
from hpcompss.tasks.finalize import ENSEMBLE
from hpcompss.tasks.train import model_path
from hpcompss.training.kept import existing
from hpcompss.trial import Trial, TrialState

__all__ = ["as_csv", "as_plain", "front_model", "trial_as_plain", "write_csv", "write_whole"]


def trial_as_plain(trial: Trial) -> dict[str, Any]:
    """Returns a trial as plain data, but for its curves; a figure that is not finite becomes None."""
    plain: dict[str, Any] = {
        "number": trial.number,
        "state": trial.state.value,
        "value": trial.value,
        "configuration": trial.configuration,
    }
    if trial.result is not None:
        plain |= {"metrics": finite(trial.result.metrics), "epoch": trial.result.epoch, "seconds": trial.result.seconds}
        if trial.result.budget is not None:
            plain["budget"] = trial.result.budget
        if trial.result.failure is not None:
            plain["failure"] = {"kind": trial.result.failure.kind.value, "reason": trial.result.failure.reason}
        if trial.result.warnings:
            plain["warnings"] = list(trial.result.warnings)
    return plain


def as_plain(study: Study, *, trials: bool = True) -> dict[str, Any]:
    """Returns a study as plain data.

    Args:
        study: The study.
        trials: Whether to list every trial, with its learning curves where a folder keeps them.
    """
    plain: dict[str, Any] = {
        "directory": None if study.directory is None else str(study.directory),
        "metric": study.metric,
        "direction": study.direction,
        "seed": study.seed,
        "sampler": study.settings["sampler"],
        "counts": {
            "completed": study.completed,
            **({"infeasible": study.completed - study.feasible} if study.constraints or study.untrained else {}),
            "failed": study.failed,
            "unfinished": study.started - study.finished,
        },
        "stopped": study.stopped,
        "best": trial_as_plain(study.best) if study.feasible else None,
        "notes": edges(study),
        "test": study.test,
        "model": _named(best_model_path(study)),
        "ensemble": _ensemble(study) if study.test and "ensemble" in study.test else None,
    }
    if study.also:
        plain["objectives"] = [vars(each) for each in study.objectives]
        plain["front"] = [trial_as_plain(trial) | {"model": front_model(study, trial)} for trial in study.front]
        plain["hypervolume"] = study.hypervolume
    if trials:
        curves = _curves(study)
        plain["trials"] = [
            trial_as_plain(trial)
            | _feasibility(study, trial)
            | ({"curves": curves[trial.number]} if trial.number in curves else {})
            for trial in study.trials
        ]
    return plain


def _feasibility(study: Study, trial: Trial) -> dict[str, bool]:
    """Returns whether a trial is feasible, where anything bounds that and it is known."""
    if trial.state is TrialState.INFEASIBLE:
        return {"feasible": False}
    return {"feasible": not study.breaches(trial)} if study.constraints and trial.value is not None else {}


def _curves(study: Study) -> dict[int, Any]:
    """Returns the learning curves of trials by number, which are in the journal alone, a part a stage."""
    curves: dict[int, dict[str, list[float | None]]] = {}
    records = [] if study.directory is None else list(read_journal(study.directory / JOURNAL))
    undone = undone_by_retries(records)
    for place, record in enumerate(records, start=1):
        if "curves" in record and place not in undone:
            before = curves.setdefault(record["number"], {})
            for name, part in record["curves"].items():
                begin = max(0, int(record.get("budget", 0)) - len(part))
                before[name] = [*before.get(name, [])[:begin], *part]
    return curves


def front_model(study: Study, trial: Trial) -> str | None:
    """Returns where the model of a trial on the front is, or None where there is none."""
    return _named(None if study.directory is None else existing(model_path(study.directory, trial.number)))


def _ensemble(study: Study) -> str | None:
    return _named(None if study.directory is None else existing(study.directory / ENSEMBLE))


def _named(path: Path | None) -> str | None:
    return None if path is None else str(path)


def as_csv(study: Study) -> str:
    """Returns a table with one line a trial; an inactive hyper-parameter's place is empty."""
    metrics = list(
        dict.fromkeys(name for trial in study.trials if trial.result is not None for name in trial.result.metrics)
    )
    columns = ["number", "state", "value", "seconds", "epoch"] + ["budget"] * (study.scheduler is not None)
    columns += [f"parameter:{name}" for name in study.space.names]
    columns += [f"metric:{name}" for name in metrics] + ["infeasible"] * bool(study.constraints)
    columns += ["front"] * bool(study.also) + ["reason"]
    front = set(study.front_numbers)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    for trial in study.trials:
        result = trial.result
        row: list[Any] = [trial.number, trial.state.value, trial.value]
        row += [None, None] if result is None else [result.seconds, result.epoch]
        row += [None if result is None else result.budget] * (study.scheduler is not None)
        row += [trial.configuration.get(name) for name in study.space.names]
        row += [None if result is None else result.metrics.get(name) for name in metrics]
        row += [study.breaches(trial) or None] * bool(study.constraints)
        row += ["yes" if trial.number in front else None] * bool(study.also)
        row.append(result.failure.reason if result is not None and result.failure is not None else None)
        table.writerow(row)
    return text.getvalue()


def write_csv(study: Study, path: Path) -> None:
    """Writes `as_csv` to a file."""
    write_whole(path, as_csv(study))


def write_whole(path: Path, text: str) -> None:
    """Writes a file that is there whole or not at all. Raises `OSError`."""
    with whole(path) as draft:
        draft.write_text(text, encoding="utf-8")
