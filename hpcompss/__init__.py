"""Finds the best hyper-parameters of a Keras model, or of any function, on a laptop or a COMPSs cluster.

Everything here is imported when it is first used: ``import hpcompss`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpcompss import engines
    from hpcompss.errors import HpcompssError, InputError, MissingExtraError
    from hpcompss.loop import StudyFailed
    from hpcompss.samplers import SpaceExhausted
    from hpcompss.space import Boolean, Choice, Fixed, Float, Int, Space
    from hpcompss.space.tracing import HyperParameters
    from hpcompss.study import Study
    from hpcompss.training.hypermodel import HyperModel
    from hpcompss.trial import Resources, Result, Trial, TrialState
    from hpcompss.tuning import resume, tune

__version__ = "0.1.0"

__all__ = [
    "Boolean",
    "Choice",
    "Fixed",
    "Float",
    "HpcompssError",
    "HyperModel",
    "HyperParameters",
    "InputError",
    "Int",
    "MissingExtraError",
    "Resources",
    "Result",
    "Space",
    "SpaceExhausted",
    "Study",
    "StudyFailed",
    "Trial",
    "TrialState",
    "engines",
    "resume",
    "tune",
]

_HOMES = {
    "Boolean": "hpcompss.space",
    "Choice": "hpcompss.space",
    "Fixed": "hpcompss.space",
    "Float": "hpcompss.space",
    "HpcompssError": "hpcompss.errors",
    "HyperModel": "hpcompss.training.hypermodel",
    "HyperParameters": "hpcompss.space.tracing",
    "InputError": "hpcompss.errors",
    "Int": "hpcompss.space",
    "MissingExtraError": "hpcompss.errors",
    "Resources": "hpcompss.trial",
    "Result": "hpcompss.trial",
    "Space": "hpcompss.space",
    "SpaceExhausted": "hpcompss.samplers",
    "Study": "hpcompss.study",
    "StudyFailed": "hpcompss.loop",
    "Trial": "hpcompss.trial",
    "TrialState": "hpcompss.trial",
    "resume": "hpcompss.tuning",
    "tune": "hpcompss.tuning",
}


def __getattr__(name: str) -> Any:
    if name == "engines":
        return import_module("hpcompss.engines")
    if name not in _HOMES:
        raise AttributeError(f"module 'hpcompss' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
