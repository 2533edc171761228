"""The workflow file: YAML to a checked, frozen `Workflow`; every error names file, line and key."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from hpcompss.engines import AUTO, check_engine
from hpcompss.errors import InputError, nearest, shown
from hpcompss.fidelity import NONE, make_scheduler
from hpcompss.objectives import direction_of, parse_objectives, unknown_direction
from hpcompss.samplers import DEFAULT, check_sampler
from hpcompss.space.narrowing import KEY as NARROWED
from hpcompss.space.narrowing import Narrowing, check_entries, narrowed
from hpcompss.space.parameters import KINDS, Choice, Condition, Int, Parameter
from hpcompss.space.space import Space
from hpcompss.stopping import StopRules
from hpcompss.training.callbacks import check_callbacks
from hpcompss.training.data.specification import DataSpecification, ValidationSplit
from hpcompss.training.job import INFERENCE, PARAMETERS, EarlyStopping
from hpcompss.trial import Resources
from hpcompss.units import parse_duration, parse_memory

__all__ = ["Workflow", "engine_settings", "load_workflow", "make_workflow"]

Path_ = tuple[str | int, ...]
"""Where a setting stands in the file: its keys and list positions from the top."""


Duration = Annotated[float, BeforeValidator(parse_duration)]
Memory = Annotated[int, BeforeValidator(parse_memory)]


# The sections


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)


def _named(key: str) -> Callable[[Any], Any]:
    """Returns what lets a section be written as its one leading value: ``engine: local``."""
    return lambda value: {key: value} if isinstance(value, str) or callable(value) else value


Figure = Annotated[float, Field(allow_inf_nan=False)]


class Bounds(_Section):
    """What a metric must keep to."""

    min: Figure | None = None
    max: Figure | None = None

    @model_validator(mode="after")
    def _some_room(self) -> Bounds:
        if self.min is None and self.max is None:
            raise ValueError("a constraint needs a min, a max, or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}: swap them")
        return self


class Aim(_Section):
    """A metric, and which way it is better."""

    metric: str
    direction: Literal["minimize", "maximize"]

    @model_validator(mode="before")
    @classmethod
    def _know_direction(cls, data: Any) -> Any:
        if isinstance(data, dict) and "direction" not in data and isinstance(data.get("metric"), str):
            direction = direction_of(data["metric"])
            if direction is None:
                raise ValueError(unknown_direction(data["metric"]))
            return {**data, "direction": direction}
        return data


class Objective(Aim):
    """What is compared: one metric or more, at which epoch of a trial they are read, and within what."""

    epoch: Literal["best", "last"] = "best"
    per: Literal["second"] | None = None
    constraints: dict[str, Bounds] = {}
    also: list[Annotated[Aim, BeforeValidator(_named("metric"))]] = []

    def plain_constraints(self) -> dict[str, dict[str, float]]:
        """Returns the constraints as a study takes them."""
        return {metric: bounds.model_dump(exclude_none=True) for metric, bounds in self.constraints.items()}


def _as_folders(value: Any) -> Any:
    folders = [value] if isinstance(value, str | os.PathLike) else value
    if not isinstance(folders, list) or not all(isinstance(each, str | os.PathLike) for each in folders):
        raise ValueError(f"must be the folder of a study or a list of such folders, not {shown(value)}")
    return folders


class Search(_Section):
    """How the space is searched, from where, and until when."""

    sampler: str | dict[str, Any] = DEFAULT
    trials: Annotated[int, Field(ge=1)] | None = None
    time: Duration | None = None
    deadline: Duration | None = None
    target: Figure | None = None
    patience: Annotated[int, Field(ge=1)] | None = None
    min_improvement: Annotated[Figure, Field(ge=0)] | None = None
    space: Any = None
    initial: list[dict[str, Any]] = []
    warm_start: Annotated[list[str], BeforeValidator(_as_folders)] = []
    seed: Annotated[int, Field(ge=0)] | None = None
    allow_duplicates: bool = False
    order: Literal["eager", "lagged"] = "eager"
    lag: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _lag_of_order(self) -> Search:
        if self.lag is not None and self.order != "lagged":
            raise ValueError("lag belongs to the lagged order: add  order: lagged, or leave lag out")
        return self

    @property
    def rules(self) -> StopRules:
        """When the search ends."""
        return StopRules(**{rule: getattr(self, setting) for setting, rule in RULES.items()})


RULES = {"time" if rule == "seconds" else rule: rule for rule in StopRules.__dataclass_fields__}
"""The settings that say when a search ends, each with its name among the rules."""


class Data(_Section):
    """Where the data comes from and how it is split."""

    name: str | None = None
    path: str | None = None
    function: Any = None
    arrays: str | None = None
    train: float | int | None = None
    validation: Any = None
    test: float | int | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    image_size: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None
    target: Any = None
    features: Any = None
    weights: str | None = None
    cache: bool = False
    allow_nan: bool = False


class EarlyStoppingSection(_Section):
    """When a training that no longer gets better ends."""

    patience: Annotated[int, Field(ge=1)]
    min_delta: Annotated[Figure, Field(ge=0)] = 0.0


def _as_patience(value: Any) -> Any:
    return {"patience": value} if isinstance(value, int | float) else value


def _checked_range(value: Any, info: ValidationInfo) -> Any:
    """Checks a setting of the training that is searched: a choice or a range of whole numbers."""
    if isinstance(value, Mapping):
        _searched(str(info.field_name), value)
        return dict(value)
    return value


def _searched(name: str, stated: Mapping[str, Any]) -> Parameter:
    """Returns the parameter of a setting of the training that is searched. Raises `InputError`."""
    known = ("choice", "min_value", "max_value", "step", "sampling", "default")
    for key in stated:
        if key not in known:
            raise InputError(f"unknown key {key!r}; {nearest(str(key), known)}")
    arguments = dict(stated)
    parameter: Int | Choice
    if "choice" in arguments:
        values = arguments.pop("choice")
        if further := [key for key in arguments if key != "default"]:
            raise InputError(f"choice leaves no room for {further[0]}: state one of them")
        if not isinstance(values, list | tuple) or not values or any(type(each) is not int for each in values):
            raise InputError(f"choice must be a list of whole numbers such as [32, 64, 128], not {shown(values)}")
        parameter, least = Choice(name, values, **arguments), min(values)
    elif missing := [key for key in ("min_value", "max_value") if key not in arguments]:
        raise InputError(f"needs {' and '.join(missing)}, or choice: [32, 64, 128]")
    else:
        parameter = Int(name, **arguments)
        least = parameter.min_value
    if least < 1:
        raise InputError(f"all its values must be at least 1, not {least}")
    return parameter


Searchable = Annotated[Annotated[int, Field(ge=1)] | dict[str, Any] | None, BeforeValidator(_checked_range)]
"""A whole number, or the settings of a parameter that is searched in its place."""
INSTEAD = {
    "x": "the section data",
    "y": "the section data",
    "sample_weight": "weights in the data",
    "validation_data": "the section data",
    "validation_split": "data.validation",
    "epochs": "training.epochs",
    "batch_size": "training.batch_size",
    "callbacks": "training.callbacks",
    "initial_epoch": "the section fidelity, which trains in stages",
}
"""The arguments of Keras's ``fit`` that hpcompss sets itself, each with the setting that decides it."""


def _with_whole_keys(value: Any) -> Any:
    """Returns weights of classes with the classes as whole numbers, as which JSON and ``--set`` cannot give keys."""
    if not isinstance(value, dict):
        return value
    keys = {key: int(key) if isinstance(key, str) and key.isdecimal() else key for key in value}
    for key in keys.values():
        if type(key) is not int or key < 0:
            raise ValueError(f"class_weight maps numbers of classes, as in {{0: 1.0, 1: 5.0}}, not {key!r}")
    return {keys[key]: weight for key, weight in value.items()}


Steps = Annotated[int, Field(ge=1)]


class FitSection(_Section):
    """Further arguments of Keras's ``fit``."""

    class_weight: Annotated[dict[int, Figure] | None, BeforeValidator(_with_whole_keys)] = None
    shuffle: bool | None = None
    steps_per_epoch: Steps | None = None
    validation_steps: Steps | None = None
    validation_batch_size: Steps | None = None
    validation_freq: Steps | None = None
    verbose: Annotated[int, Field(ge=0, le=2)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _others_decide(cls, stated: Any) -> Any:
        if isinstance(stated, dict):
            for name in stated:
                if name in INSTEAD:
                    raise ValueError(f"{name!r} is decided by {INSTEAD[name]}: leave it out here")
        return stated


def _as_callbacks(value: Any) -> Any:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


class Training(_Section):
    """How one model is trained."""

    epochs: Searchable = None
    batch_size: Searchable = None
    early_stopping: Annotated[EarlyStoppingSection | None, BeforeValidator(_as_patience)] = None
    refit: bool = False
    folds: Annotated[int, Field(ge=2)] | None = None
    repeats: Annotated[int, Field(ge=2)] | None = None
    fold_stopping: bool = True
    ensemble: Annotated[int, Field(ge=2)] | None = None
    fit: FitSection = FitSection()
    callbacks: Annotated[list[Any], BeforeValidator(_as_callbacks)] = []

    @model_validator(mode="after")
    def _folds_or_repeats(self) -> Training:
        if self.folds is not None and self.repeats is not None:
            raise ValueError("a trial has either folds or repeats: leave one of them out")
        if not self.fold_stopping and self.folds is None and self.repeats is None:
            raise ValueError("fold_stopping belongs to folds and repeats: add one of them, or leave it out")
        return self

    @property
    def searched(self) -> dict[str, Parameter]:
        """The settings that each configuration decides, as parameters of the space."""
        stated = {"batch_size": self.batch_size, "epochs": self.epochs}
        return {name: _searched(name, each) for name, each in stated.items() if isinstance(each, dict)}

    @property
    def stated(self) -> dict[str, int | None]:
        """Epochs and batch size; where they are searched, their defaults."""
        searched = self.searched
        return {
            name: int(searched[name].default) if name in searched else getattr(self, name)
            for name in ("epochs", "batch_size")
        }

    @property
    def fit_arguments(self) -> dict[str, Any]:
        """Further arguments of ``fit``, by name."""
        return self.fit.model_dump(exclude_none=True)

    @property
    def stops_early(self) -> EarlyStopping | None:
        """When a trial's training ends early."""
        return None if self.early_stopping is None else EarlyStopping(**self.early_stopping.model_dump())


class Fidelity(_Section):
    """Who is trained how long: the scheduler, its budgets and its options."""

    scheduler: str
    min_epochs: int | None = None
    max_epochs: int | None = None
    min_share: float | None = None
    eta: float | None = None
    form: str | None = None
    interval: int | None = None
    startup_trials: int | None = None
    probability: float | None = None
    checkpoints: Memory | None = None


def _as_whole(value: Any) -> Any:
    """Returns a float such as 5e6 as the whole number that it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class ResourcesSection(_Section):
    """What one trial asks for."""

    cpu: Annotated[int, Field(ge=1)] = 1
    gpu: Annotated[float, Field(ge=0)] = 0
    memory: Memory | None = None
    time_limit: Duration | None = None
    parameters: Annotated[int, Field(ge=1), BeforeValidator(_as_whole)] | None = None

    @model_validator(mode="after")
    def _whole_gpus(self) -> ResourcesSection:
        Resources(gpu=self.gpu)
        return self


def engine_settings(engine: object) -> dict[str, Any]:
    """Returns the settings of the section ``engine`` that a name or a mapping stands for.

    Raises:
        InputError: It is neither, or has a key or a kind of value that the section does not have.
    """
    if isinstance(engine, str):
        return {"name": engine}
    if not isinstance(engine, Mapping):
        what = f"the class {engine.__name__}: call it" if isinstance(engine, type) else f"{_kind(engine)}"
        raise InputError(f"must be a name, a mapping of settings, or an engine, not {what}", key="engine")
    known = list(EngineSection.model_fields)
    for key, value in engine.items():
        if key not in known:
            shown = f"{key!r}; {nearest(key, known)}" if isinstance(key, str) else _kind(key)
            raise InputError(f"unknown key {shown}", key="engine")
        if key == "name" and not isinstance(value, str):
            raise InputError(f"must be text, not {_kind(value)}", key="engine.name")
        if not isinstance(value, str | int | float | Mapping | None):
            raise InputError(f"must be text, a number or a mapping, not {_kind(value)}", key=f"engine.{key}")
    return dict(engine)


def _kind(value: object) -> str:
    """Returns what something is, without what it holds: ``a list``, ``an Engine``."""
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


ENGINE_OPTIONS = {
    "local": ("gpus",),
    "compss": ("resources", "gpu_shares", "address", "port", "shared"),
    "dask": (
        *("address", "host", "port", "dashboard", "certificates", "start", "jobqueue"),
        *("shared", "wait_for_workers", "grace"),
    ),
    "ray": ("address", "shared", "wait_for_workers", "grace"),
    "mpi": ("grace", "shared"),
    "joblib": ("grace", "shared"),
}
"""The settings that each engine has, beside those of all."""


class WorkerRange(_Section):
    """Between which bounds an engine starts and ends workers by itself."""

    min: Annotated[int, Field(ge=0)] = 0
    max: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _in_order(self) -> WorkerRange:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}: swap them")
        return self


class EngineSection(_Section):
    """Where the trials run."""

    name: str = AUTO
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] | WorkerRange = "auto"
    gpus: Annotated[int, Field(ge=0)] | None = None
    resources: str | None = None
    gpu_shares: Annotated[int, Field(ge=1)] | None = None
    address: str | None = None
    port: Annotated[int, Field(ge=0, le=65535)] | None = None
    shared: bool | None = None
    host: str | None = None
    dashboard: Annotated[int, Field(ge=0, le=65535)] | None = None
    certificates: str | None = None
    start: str | None = None
    jobqueue: dict[str, Any] | None = None
    wait_for_workers: bool | None = None
    grace: Duration | None = None

    @field_validator("workers")
    @classmethod
    def _workers_of_engine(cls, workers: Any, info: ValidationInfo) -> Any:
        if info.data.get("name") != "dask":
            if isinstance(workers, WorkerRange):
                raise ValueError("bounds belong to the engine dask: state a number, or auto")
            if workers == 0:
                raise ValueError("must be at least 1, not 0")
        return workers

    @model_validator(mode="after")
    def _options_of_engine(self) -> EngineSection:
        own = ENGINE_OPTIONS.get(self.name, ())
        for option in {option for options in ENGINE_OPTIONS.values() for option in options} - set(own):
            if self.name != AUTO and getattr(self, option) is not None:
                engines = [engine for engine, options in ENGINE_OPTIONS.items() if option in options]
                of = f"the engine {engines[0]}" if len(engines) == 1 else f"the engines {' and '.join(engines)}"
                raise ValueError(f"{option} belongs to {of}: leave it out")
        return self

    def on(self, engine: str, settings: Mapping[str, Any] | None = None) -> EngineSection:
        """Returns this section for one engine, with those settings that it has, and others in place of some.

        Raises:
            InputError: There is no such engine, or a setting is not one of its.
        """
        check_engine(engine)
        known = ENGINE_OPTIONS.get(engine, {option for options in ENGINE_OPTIONS.values() for option in options})
        stated = {option: getattr(self, option) for option in known}
        bounded = isinstance(self.workers, WorkerRange) or self.workers == 0
        workers = "auto" if bounded and engine != "dask" else self.workers
        try:
            return EngineSection(**{"name": engine, "workers": workers, **stated, **(settings or {})})
        except ValidationError as error:
            raise _first_error(error, _Source(None), ("engine",)) from None

    def options(self) -> dict[str, Any]:
        """Returns what is stated for this engine alone."""
        stated = {option: getattr(self, option) for option in ENGINE_OPTIONS.get(self.name, ())}
        return {option: value for option, value in stated.items() if value is not None}


class Workflow(_Section):
    """A checked workflow. Either ``model`` (Keras) or ``function`` with ``space`` is given, never both."""

    model: Any = None
    function: Any = None
    space: Any = None
    data: Annotated[Data, BeforeValidator(_named("name"))] | None = None
    objective: Annotated[Objective, BeforeValidator(_named("metric"))]
    search: Search = Search()
    training: Training = Training()
    fidelity: Annotated[Fidelity, BeforeValidator(_named("scheduler"))] | None = None
    resources: ResourcesSection = ResourcesSection()
    engine: Annotated[EngineSection, BeforeValidator(_named("name"))] = EngineSection()
    _source: Any = PrivateAttr(None)
    _run: str = PrivateAttr(default_factory=lambda: uuid.uuid4().hex)

    @model_validator(mode="after")
    def _has_subject(self) -> Workflow:
        if (self.model is None) == (self.function is None):
            raise ValueError("give either model (file.py:build) or function (file.py:function), one of the two")
        if self.function is not None and not self.space:
            raise ValueError("a function needs its space: add the section space with its parameters")
        if self.model is not None and self.space is not None:
            raise ValueError("a Keras model declares its space in build(hp): leave out the section space")
        if self.model is not None and self.data is None:
            raise ValueError("a Keras model needs data: add  data: {name: digits}  or a path")
        if self.function is not None and self.data is not None:
            raise ValueError("a function gets its own data: leave out the section data")
        of_models = [
            key for key in ("early_stopping", "folds", "repeats", "ensemble") if getattr(self.training, key) is not None
        ]
        of_models += [key for key in ("fit", "callbacks") if key in self.training.model_fields_set]
        if self.function is not None and of_models:
            raise ValueError(
                f"a function trains by itself: leave {' and '.join(of_models)} out of the section training"
            )
        return self

    def located(self, error: InputError) -> InputError:
        """Returns an error that was found later, about one of this workflow's settings, with the setting's place."""
        if error.key is None or error.file is not None or self._source is None:
            return error
        path = _longest(tuple(error.key.split(".")), self._source)
        place: InputError = self._source.error(error.message, path)
        return InputError(error.message, file=place.file, line=place.line, column=place.column, key=error.key)

    @property
    def trial_resources(self) -> Resources:
        """What one trial asks for."""
        return Resources(**self.resources.model_dump(exclude={"parameters"}))

    def parameters(self) -> Space:
        """Returns the space of a function's workflow. Raises `InputError`, its key being the parameter's."""
        space = self.space or {}
        if isinstance(space, dict):
            return Space(_parameter(("space", name), name, settings) for name, settings in space.items())
        if not isinstance(space, list):
            raise InputError(f"must be a mapping of parameters, not {shown(space)}", key="space")
        return Space(_listed_parameter(("space", number), settings) for number, settings in enumerate(space))

    def scheduling(self) -> dict[str, Any] | None:
        """Returns what a study takes for its fidelity; None where every trial is trained to the end.

        Raises:
            InputError: The greatest number of epochs is stated twice, and differently, or is below the least.
        """
        if self.fidelity is None or self.fidelity.scheduler == NONE:
            return None
        stated = self.fidelity.model_dump(exclude_none=True, exclude={"checkpoints"})
        epochs = self.training.epochs
        if "min_share" in stated or epochs is None:
            return stated
        if not isinstance(epochs, int):
            raise InputError(
                "the scheduler decides how many epochs a trial is trained for, so they cannot be searched: state a "
                "number, or leave out the section fidelity",
                key="training.epochs",
            )
        if "max_epochs" not in stated and stated.get("min_epochs", 1) > epochs:
            raise InputError(
                f"min_epochs ({stated['min_epochs']}) is above training.epochs ({epochs}), which trials are trained in "
                "all: lower it or raise that",
                key="fidelity.min_epochs",
            )
        if stated.setdefault("max_epochs", epochs) != epochs:
            raise InputError(
                f"max_epochs ({stated['max_epochs']}) is not what training.epochs says ({epochs}): leave one out",
                key="fidelity.max_epochs",
            )
        return stated

    def searched_space(self, declared: Space) -> Narrowing:
        """Returns what a study of a Keras model searches: the declared space with what the workflow adds and narrows.

        Args:
            declared: What ``build`` and ``fit`` declare.

        Raises:
            InputError: The workflow and the model both declare a parameter, or an entry of ``search.space`` does not
                fit; its key is the setting.
        """
        searched = self.training.searched
        for name in searched:
            if name in declared.names:
                raise InputError(
                    f"the model declares the hyper-parameter {name!r} in build or fit: drop training.{name} from the "
                    "workflow, or that call of hp from the model",
                    key=f"training.{name}",
                )
        space = Space([*declared.parameters, *searched.values()]) if searched else declared
        return narrowed(space, self.search.space) if self.search.space else Narrowing(space)

    def data_specification(self) -> DataSpecification | None:
        """Returns where a Keras model's data comes from. Raises `InputError`, its key being the setting."""
        if self.data is None:
            return None
        settings: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in vars(self.data).items()
        }
        if isinstance(settings["validation"], dict):
            settings["validation"] = _validation_split(settings["validation"])
        return DataSpecification(**settings, run=self._run if self.data.function is not None else "")

    def to_plain(self) -> dict[str, Any]:
        """Returns the settings as plain data, without those at their defaults; a Python object by its name."""
        plain = self.model_dump(exclude_defaults=True)
        # Objects that are dataclasses would be dumped as what they hold.
        plain |= {key: value for key in ("model", "function") if (value := getattr(self, key)) is not None}
        if self.data is not None and self.data.function is not None:
            plain["data"]["function"] = self.data.function
        return {key: _plain(value) for key, value in plain.items()}

    def to_yaml(self) -> str:
        """Returns the workflow as a file that `load_workflow` reads."""
        return str(yaml.dump(self.to_plain(), Dumper=_Dumper, sort_keys=False, allow_unicode=True))

    @property
    def digest(self) -> str:
        """What tells two workflows apart: all but how long to search and where to run."""
        plain = self._unmoved()
        plain.pop("engine", None)
        if self.space is not None:
            plain["space"] = self.parameters().to_json()
        search = {key: value for key, value in plain.get("search", {}).items() if key not in RULES}
        search |= {"warm_start": [Path(each).name for each in self.search.warm_start]} if self.search.warm_start else {}
        plain["search"] = search
        return _digest(plain)

    @property
    def task(self) -> str:
        """What decides, beside the configuration and the code, which value a trial has."""
        plain = self._unmoved()
        left_out = ("also", "constraints", "per")
        objective = {key: value for key, value in plain["objective"].items() if key not in left_out}
        parts = {key: plain.get(key) for key in ("model", "function", "data", "training")}
        parts |= {"fidelity": plain["fidelity"]} if "fidelity" in plain else {}
        return _digest({**parts, "objective": objective})

    def _unmoved(self) -> dict[str, Any]:
        """Returns the settings without the folder of the project: one that was moved is the same."""
        plain = self.to_plain()
        for section, key in ((plain, "model"), (plain, "function"), (plain.get("data", {}), "path")):
            if key in section:
                section[key] = Path(section[key]).name
        return plain


def _validation_split(stated: dict[Any, Any]) -> ValidationSplit:
    known = [each.name for each in dataclasses.fields(ValidationSplit)]
    for key in stated:
        if key not in known:
            raise InputError(f"unknown key {key!r}; {nearest(str(key), known)}", key=f"data.validation.{key}")
    return ValidationSplit(**stated)


def _digest(plain: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "item"):
        return value.item()
    if value is None or isinstance(value, str | int | float):
        return value
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"<python>:{named.__module__}.{named.__qualname__}"


def _plain_space(space: Any) -> Any:
    """Returns a space of Python objects as the section that states it, anything else as it is."""
    if isinstance(space, list | tuple) and any(isinstance(each, Parameter) for each in space):
        space = Space(space)
    if not isinstance(space, Space):
        return space
    # A list, for a name may stand in a space more than once.
    return [{"name": each.pop("name"), "type": each.pop("kind"), **each} for each in space.to_json()]


def _listed_parameter(path: Path_, settings: Any) -> Parameter:
    rest = dict(settings) if isinstance(settings, dict) else settings
    if isinstance(rest, dict) and "name" not in rest:
        raise InputError("a parameter in a list needs its name", key=_dotted(path))
    return _parameter(path, rest.pop("name") if isinstance(rest, dict) else None, rest)


def _conditions(stated: Any) -> list[Condition]:
    form = {"parent", "values"}
    if not isinstance(stated, list) or not all(isinstance(each, dict) and set(each) == form for each in stated):
        message = "conditions must read [{parent: a name, values: [a value, ...]}, ...]"
        raise InputError(message, key="conditions")
    return [Condition(**each) for each in stated]


def _parameter(path: Path_, name: Any, settings: Any) -> Parameter:
    if not isinstance(settings, Mapping):
        raise InputError(f"must be a mapping of settings, not {shown(settings)}", key=_dotted(path))
    arguments = dict(settings)
    kind = arguments.pop("type", None)
    known = {"Int": "min_value max_value step sampling default", "Float": "min_value max_value step sampling default",
             "Choice": "values ordered default", "Boolean": "default", "Fixed": "value"}  # fmt: skip
    try:
        if not isinstance(kind, str) or kind not in KINDS:
            raise InputError(f"its type must be one of {', '.join(KINDS)}, not {shown(kind)}", key="type")
        allowed = [*known[kind].split(), "parent_name", "parent_values", "conditions"]
        for key in arguments:
            if key not in allowed:
                raise InputError(f"unknown key {key!r}; {nearest(str(key), allowed)}", key=str(key))
        if "conditions" in arguments:
            arguments["conditions"] = _conditions(arguments["conditions"])
        return KINDS[kind](name, **arguments)
    except InputError as error:
        raise InputError(error.message, key=".".join(filter(None, [_dotted(path), error.key]))) from None
    except TypeError as error:
        missing = re.findall(r"'(\w+)'", str(error))
        raise InputError(f"a parameter of type {kind} needs {' and '.join(missing)}", key=_dotted(path)) from None


# Reading


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but for numbers such as 1e-4, which it takes for text."""


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads: a text such as 1e-4 in quotation marks."""


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
        list("-+0123456789."),
    )
    # Last, for it matches whole numbers too.
    _class.yaml_implicit_resolvers = {
        first: sorted(resolvers, key=lambda pair: pair[0] == "tag:yaml.org,2002:float")
        for first, resolvers in _class.yaml_implicit_resolvers.items()
    }


class _Source:
    """The settings of a file with the place of each, and what overrides them."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.places: dict[Path_, tuple[str | Path | None, int | None, int | None]] = {}
        self._checked: list[yaml.Node] = []

    def read(self, text: str) -> dict[str, Any]:
        try:
            loader = _Loader(text)
            try:
                node = loader.get_single_node()
                data = None if node is None else self._plain(loader, node, ())
            finally:
                loader.dispose()
        except yaml.MarkedYAMLError as error:
            raise self._invalid(", ".join(filter(None, (error.context, error.problem))), error.problem_mark) from None
        except yaml.reader.ReaderError as error:
            before = text[: error.position].split("\n")
            mark = yaml.Mark("", 0, len(before) - 1, len(before[-1]), None, 0)
            raise self._invalid(f"the character {chr(error.character)!r} has no place in it", mark) from None
        except RecursionError:
            raise self._invalid("it is nested too deeply", None) from None
        if data is None:
            raise InputError("the workflow is empty: give it at least model, data and objective", file=self.file)
        if not isinstance(data, dict):
            raise InputError("a workflow is a mapping of sections (model:, data:, ...)", file=self.file, line=1)
        return data

    def _invalid(self, problem: str, mark: yaml.Mark | None) -> InputError:
        return self._at(mark, f"this is not valid YAML ({problem})")

    def _at(self, mark: yaml.Mark | None, message: str, path: Path_ = ()) -> InputError:
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        return InputError(message, file=self.file, line=line, column=column, key=_dotted(path) or None)

    def _plain(self, loader: _Loader, node: yaml.Node, path: Path_, outer: tuple[yaml.Node, ...] = ()) -> Any:
        """Returns a node's plain value, noting where each part stands."""
        if node in outer:
            raise self._at(node.start_mark, "this contains itself", path)
        outer = (*outer, node)
        self.places.setdefault(path, (self.file, node.start_mark.line + 1, node.start_mark.column + 1))
        if isinstance(node, yaml.MappingNode):
            self._refuse_twins(loader, node, path)
            loader.flatten_mapping(node)
            result: dict[Any, Any] = {}
            for key_node, value_node in node.value:
                inside = (*path, self._scalar(loader, key_node, path))
                self.places[inside] = (self.file, key_node.start_mark.line + 1, key_node.start_mark.column + 1)
                result[inside[-1]] = self._plain(loader, value_node, inside, outer)
            return result
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(loader, each, (*path, number), outer) for number, each in enumerate(node.value)]
        return self._scalar(loader, node, path)

    def _refuse_twins(self, loader: _Loader, node: yaml.MappingNode, path: Path_) -> None:
        """Refuses a key given twice, but for those that come from a merge, which are there to be replaced."""
        if node in self._checked:
            return
        self._checked.append(node)
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self._scalar(loader, key_node, path)
            if key in lines:
                message = f"{key!r} is given twice, first in line {lines[key]}: remove one"
                raise self._at(key_node.start_mark, message, (*path, key))
            lines[key] = key_node.start_mark.line + 1

    def _scalar(self, loader: _Loader, node: yaml.Node, path: Path_) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            raise self._at(node.start_mark, "a key must be a word, not a list or a mapping", path)
        try:
            return loader.construct_object(node)
        except (AttributeError, LookupError, ValueError):
            message = f"{node.value!r} is no valid {node.tag.rpartition(':')[2]}: put text in quotation marks"
            raise self._at(node.start_mark, message, path) from None

    def override(self, data: dict[str, Any], assignment: str) -> None:
        """Applies ``key=value`` of the command line, the value being YAML."""
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise InputError(f"--set takes key=value, such as search.trials=20, not {assignment!r}")
        option = f"--set {assignment}"
        path = tuple(key.split("."))
        inner = data
        for depth, part in enumerate(path[:-1]):
            value = inner.get(part)
            if isinstance(value, str) and depth == 0 and part in _SHORT:
                # A section in its short form, such as  engine: local.
                self.places[(part, _SHORT[part])] = self._place((part,))
                value = {_SHORT[part]: value}
            if value is not None and not isinstance(value, dict):
                raise InputError(f"{'.'.join(path[: depth + 1])} is no section", file=option)
            inner[part] = dict(value or {})
            inner = inner[part]
        try:
            inner[path[-1]] = yaml.load(text, _Loader)
        except (yaml.YAMLError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
            raise InputError(f"{text!r} is not a valid value", file=option, key=key) from None
        self.places = {at: place for at, place in self.places.items() if at[: len(path)] != path}
        for depth in range(len(path), 0, -1):
            if depth == len(path) or path[0] in _JUDGED_WHOLE or path[:depth] not in self.places:
                self.places[path[:depth]] = (option, None, None)

    def error(self, message: str, path: Path_) -> InputError:
        """Returns an error at a setting, or at the nearest section above it that the file has."""
        file, line, column = self._place(path)
        return InputError(message, file=file, line=line, column=column, key=_dotted(path) or None)

    def base(self, path: Path_) -> Path:
        """Returns the folder that a relative path in this setting starts from."""
        file = self._place(path)[0]
        return file.parent if isinstance(file, Path) else Path.cwd()

    def _place(self, path: Path_) -> tuple[str | Path | None, int | None, int | None]:
        """Returns the place of a setting, or of the nearest section above it that has one."""
        known = next((path[:depth] for depth in range(len(path), -1, -1) if path[:depth] in self.places), ())
        return self.places.get(known, (self.file, None, None))


_SHORT = {"data": "name", "engine": "name", "objective": "metric"}
_JUDGED_WHOLE = ("objective", "resources", "space")
"""The sections whose settings must fit each other: what is wrong with all of them most likely came with the last."""


def load_workflow(file: str | Path, assignments: Sequence[str] = ()) -> Workflow:
    """Returns the workflow of a file, references and paths made absolute.

    Args:
        file: The YAML file; relative paths in it start from its folder.
        assignments: ``key=value`` settings that override it; relative paths in them start from the current folder.

    Raises:
        InputError: The file cannot be read or a setting is wrong; names file, line and key.
    """
    path = Path(file)
    source = _Source(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError("this is not a text file in UTF-8", file=path, line=line) from None
    except OSError as error:
        raise InputError(f"the workflow cannot be read ({error.strerror})", file=path) from None
    data = source.read(text)
    for assignment in assignments:
        source.override(data, assignment)
    return _checked(data, source)


def make_workflow(sections: Mapping[str, Any]) -> Workflow:
    """Returns the workflow of sections given in Python.

    ``model``, ``function`` and the function in ``data`` may be Python objects, ``space`` a `Space` or its parameters.

    Raises:
        InputError: A setting is wrong; names the key.
    """
    return _checked(dict(sections), _Source(None))


def _checked(data: dict[str, Any], source: _Source) -> Workflow:
    try:
        workflow = Workflow.model_validate(_resolved(data, source))
    except ValidationError as error:
        raise _first_error(error, source) from None
    try:
        if workflow.space is not None:
            workflow.parameters()
        workflow.data_specification()
        check_sampler(workflow.search.sampler, per_second=workflow.objective.per == "second")
        make_scheduler(workflow.scheduling(), workflow.search.trials)
        _check_keras_settings(workflow)
        check_callbacks(workflow.training.callbacks)
        check_engine(workflow.engine.name)
        _check_objectives(workflow)
    except InputError as error:
        path = tuple((error.key or "space").split("."))
        raise source.error(error.message, _longest(path, source)) from None
    workflow._source = source
    return workflow


def _check_keras_settings(workflow: Workflow) -> None:
    """Refuses what belongs to a Keras model where a function is tuned, and entries that fit no space."""
    if workflow.function is not None:
        if workflow.search.space is not None:
            raise InputError("a function's parameters are those of the section space: edit that", key=NARROWED)
        for name in workflow.training.searched:
            raise InputError(
                f"a function has its own parameters: add {name} to the section space", key=f"training.{name}"
            )
        if workflow.resources.parameters is not None:
            raise InputError(
                "counts the parameters of a Keras model, which a function has not: leave it out",
                key="resources.parameters",
            )
    elif workflow.search.space is not None:
        check_entries(workflow.search.space)


def _check_objectives(workflow: Workflow) -> None:
    """Refuses a metric that is an objective twice, and to go by epochs with a figure that no epoch has."""
    objective = workflow.objective
    parse_objectives([each.model_dump() for each in objective.also], objective.metric)
    workflow.search.rules.check_objectives(1 + len(objective.also))
    if workflow.model is not None and objective.metric in (PARAMETERS, INFERENCE):
        raise InputError(
            f"{objective.metric!r} is a figure of a whole model: put a metric of the training first, which says what "
            f"epoch counts, such as [val_accuracy, {objective.metric}]",
            key="objective.metric",
        )


def _objectives(stated: list[Any], source: _Source) -> Any:
    """Returns the section that a list of objectives stands for, with the places of its parts."""
    if not stated:
        return stated
    for path, place in list(source.places.items()):
        if path[0:1] == ("objective",) and len(path) > 1 and isinstance(path[1], int):
            inside = path[2:] if path[1] == 0 else ("also", path[1] - 1, *path[2:])
            source.places.setdefault(("objective", *(inside or ("metric",))), place)
    first = stated[0] if isinstance(stated[0], dict) else {"metric": stated[0]}
    return {**first, "also": stated[1:]}


def _resolved(data: dict[str, Any], source: _Source) -> dict[str, Any]:
    """Returns the settings with paths made absolute, without sections that are there but empty."""
    resolved = {key: value for key, value in data.items() if value is not None}
    if isinstance(resolved.get("objective"), list | tuple):
        resolved["objective"] = _objectives(list(resolved["objective"]), source)
    try:
        resolved |= {"space": _plain_space(resolved["space"])} if "space" in resolved else {}
    except InputError as error:
        raise source.error(error.message, ("space",)) from None
    for section, key in (
        ("", "model"),
        ("", "function"),
        ("data", "function"),
        ("data", "path"),
        ("training", "callbacks"),
        ("search", "warm_start"),
        ("engine", "resources"),
        ("engine", "certificates"),
    ):
        inside = resolved.get(section) if section else resolved
        if not isinstance(inside, dict) or inside.get(key) is None:
            continue
        value = _absolute(inside[key], (section, key) if section else (key,), source)
        if section:
            resolved[section] = {**inside, key: value}
        else:
            resolved[key] = value
    return resolved


def _absolute(value: Any, path: Path_, source: _Source) -> Any:
    """Returns a path, or a reference to Python code, with its file's path made absolute; a Python object as it is."""
    if isinstance(value, list):
        return [_absolute(each, path, source) for each in value]
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    if path[-1] in ("path", "resources", "certificates", "warm_start"):
        return str((source.base(path) / os.path.expanduser(value)).resolve()) if isinstance(value, str) else value
    if not isinstance(value, str):
        if source.file is None:
            return value
        raise source.error(f"must read file.py:name or module:name, not {shown(value)}", path)
    place, colon, name = value.rpartition(":")
    if not (place and colon and name):
        raise source.error(f"must read file.py:name or module:name, not {shown(value)}", path)
    if not place.endswith(".py"):
        return value
    file = (source.base(path) / os.path.expanduser(place)).resolve()
    if not file.is_file():
        raise source.error(f"there is no file {file}", path)
    return f"{file}:{name}"


def _longest(path: Path_, source: _Source) -> Path_:
    """Returns the path whose parts may themselves have had dots: the longest one that the file has."""
    matches = [each for each in source.places if each and f"{_dotted(path)}.".startswith(f"{_dotted(each)}.")]
    return max(matches, key=lambda each: len(_dotted(each)), default=path)


def _dotted(path: Path_) -> str:
    return ".".join(str(part) for part in path)


_PHRASES = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "dict_type": "must be a mapping of settings",
    "model_type": "must be a mapping of settings",
    "model_attributes_type": "must be a mapping of settings",
    "list_type": "must be a list",
    "too_short": "must be [height, width]",
    "too_long": "must be [height, width]",
}


def _first_error(error: ValidationError, source: _Source, section: Path_ = ()) -> InputError:
    """Returns the first of pydantic's errors, by its place in the file, as one sentence; of a section or of all."""
    errors = [(_setting((*section, *each["loc"])), each) for each in error.errors(include_url=False)]

    def rank(entry: tuple[Path_, Any]) -> tuple[bool, int, int]:
        # What is missing comes last: it may only seem so for the fault of another.
        return (entry[1]["type"] == "missing", source.error("", entry[0]).line or 0, -len(entry[0]))

    path, first = min(errors, key=rank)
    kind, value, context = first["type"], first.get("input"), first.get("ctx", {})
    if kind == "extra_forbidden":
        known = [name for name in _section(path[:-1]).model_fields]
        return source.error(f"unknown key {path[-1]!r}; {nearest(str(path[-1]), known)}", path)
    if kind == "missing":
        return source.error(f"the key {path[-1]!r} is missing", path)
    if kind == "value_error":
        return source.error(str(context["error"]), path)
    if kind == "literal_error":
        alternatives = [sub for at, sub in errors if at == path and sub["type"] != "literal_error"]
        expected = context["expected"].replace(" or ", ", ") if alternatives else context["expected"]
        also = " or a whole number of at least 1" if alternatives else ""
        return source.error(f"must be {expected}{also}, not {shown(value)}", path)
    if kind.startswith(("greater", "less")):
        bound = next(iter(context.values()))
        return source.error(f"must be at least {bound:g}, not {shown(value)}", path)
    phrase = _PHRASES.get(kind, first["msg"][:1].lower() + first["msg"][1:])
    if any(at == path and sub["type"] == "literal_error" for at, sub in errors):
        phrase += ", auto, or bounds such as {min: 1, max: 16}"
    return source.error(f"{phrase}, not {shown(value)}", path)


def _setting(location: Sequence[str | int]) -> Path_:
    """Returns the setting of one of pydantic's locations, which also name the branches of unions."""
    named = 2 if location and location[0] in (*_SECTIONS, "space") else 1
    named = 4 if location[:2] in (("objective", "constraints"), ("objective", "also")) else named
    named = 3 if location[:2] in (("training", "early_stopping"), ("training", "fit")) else named
    return tuple(part for depth, part in enumerate(location) if depth < named or isinstance(part, int))


_SECTIONS: dict[str, type[BaseModel]] = {
    "data": Data,
    "objective": Objective,
    "search": Search,
    "training": Training,
    "fidelity": Fidelity,
    "resources": ResourcesSection,
    "engine": EngineSection,
}


def _section(path: Path_) -> type[BaseModel]:
    if path[:2] == ("objective", "constraints"):
        return Bounds
    if path == ("training", "early_stopping"):
        return EarlyStoppingSection
    if path == ("training", "fit"):
        return FitSection
    if path[:2] == ("objective", "also"):
        return Aim
    return _SECTIONS[str(path[0])] if path else Workflow
