"""The models that a study leaves, loaded with the user's code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcompss.errors import InputError
from hpcompss.graph import best_model_path
from hpcompss.study import WORKFLOW
from hpcompss.tasks.finalize import ENSEMBLE
from hpcompss.tasks.train import model_path
from hpcompss.training.ensemble import average
from hpcompss.training.fitting import hypermodel_of
from hpcompss.training.kept import existing, load_model, read_about
from hpcompss.training.user_objects import user_objects
from hpcompss.workflow import load_workflow

if TYPE_CHECKING:
    from hpcompss.study import Study
    from hpcompss.training.hypermodel import ModelBuilder

__all__ = ["best_model", "ensemble_model"]

PYTHON = "<python>:"
"""What a workflow's file has in place of a Python object, before the name of that."""


def best_model(study: Study, model: Any = None) -> Any:
    """Does what `Study.best_model` says."""
    path = best_model_path(study)
    if path is None or not study.feasible:
        raise InputError(f"{study.directory or 'this study'} has no best model: {_why(study)}")
    keras, hypermodel = _user_code(study, model)
    return load_model(keras, hypermodel, path, study.best.configuration)


def ensemble_model(study: Study, model: Any = None) -> Any:
    """Does what `Study.ensemble_model` says."""
    ensemble = (study.test or {}).get("ensemble")
    if study.directory is None or ensemble is None:
        raise InputError(f"{study.directory or 'this study'} has no ensemble: training.ensemble asks for one")
    keras, hypermodel = _user_code(study, model)
    path = study.directory / ENSEMBLE
    if path.exists():
        return load_model(keras, hypermodel, path, None)
    members: list[int] = ensemble["members"]
    paths = [existing(model_path(study.directory, number)) for number in members]
    models = []
    for number, each in zip(members, paths, strict=True):
        if each is None:
            raise InputError(f"the ensemble's model of trial {number} is gone from {study.directory / 'models'}")
        models.append(load_model(keras, hypermodel, each, study.trials[number].configuration))
    names = [f"trial_{number}" for number in members]
    inputs = None if paths[0] is None else read_about(paths[0]).inputs
    return average(keras, models, names, user_objects(hypermodel), inputs)


def _why(study: Study) -> str:
    if not study.feasible:
        return "no trial has completed"
    warnings = study.best.result.warnings if study.best.result is not None else ()
    return "; ".join(warnings) or "it was not kept"


def _user_code(study: Study, model: Any) -> tuple[Any, ModelBuilder]:
    """Returns Keras, and the user's model family: the one that is given, or that the study's workflow names."""
    model = study.model if model is None else model
    if model is None:
        folder = study.directory or Path()
        if not (folder / WORKFLOW).exists():
            raise InputError(f"{folder} has no {WORKFLOW}, which says what builds the model: pass model=build")
        model = load_workflow(folder / WORKFLOW).model
        if isinstance(model, str) and model.startswith(PYTHON):
            name = model.removeprefix(PYTHON)
            raise InputError(f"the study was begun in Python with {name}: pass it, as in best_model(model={name})")
    hypermodel = hypermodel_of(model)
    import keras

    return keras, hypermodel
