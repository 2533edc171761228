"""Search algorithms, by name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from hpcompss.errors import InputError, nearest, shown
from hpcompss.samplers.base import Sampler, SpaceExhausted
from hpcompss.samplers.history import History
from hpcompss.space.space import Space

__all__ = ["DEFAULT", "SAMPLERS", "History", "Sampler", "SpaceExhausted", "check_sampler", "make_sampler"]

SAMPLERS: dict[str, str] = {
    "auto": "hpcompss.samplers.auto:Auto",
    "grid": "hpcompss.samplers.grid:Grid",
    "random": "hpcompss.samplers.random:Random",
    "quasirandom": "hpcompss.samplers.quasirandom:Quasirandom",
    "hyperopt": "hpcompss.samplers.hyperopt:Hyperopt",
    "tpe": "hpcompss.samplers.tpe:TreeParzen",
    "gp": "hpcompss.samplers.gaussian_process:GaussianProcess",
}
"""The samplers' classes as ``module:class``, imported when asked for."""

DEFAULT = "auto"
"""The sampler of a search that states none."""

GIVEN = ("space", "seed", "allow_duplicates", "trials", "per_second")
"""The arguments of samplers that are no options."""

KEY = "search.sampler"
PER = "objective.per"


def make_sampler(
    sampler: str | Mapping[str, Any] | Sampler,
    space: Space,
    *,
    seed: int,
    allow_duplicates: bool = False,
    trials: int | None = None,
    per_second: bool = False,
    **options: Any,
) -> Sampler:
    """Returns the sampler of a name; one that was made elsewhere is returned as it is.

    Args:
        sampler: A name of `SAMPLERS`, or a mapping of that ``name`` and options, such as
            ``{"name": "grid", "order": "shuffled"}``.
        space: What may vary.
        seed: Makes its choices repeatable.
        allow_duplicates: Whether a configuration may be suggested again.
        trials: How many trials are planned, for a sampler that goes by it; None where that is not known.
        per_second: Whether progress per second counts, and not that per trial.
        **options: More of the sampler's own arguments.

    Raises:
        InputError: The sampler or an option is unknown, or the sampler cannot use its value or the space.
    """
    if isinstance(sampler, Sampler):
        return sampler
    cls, arguments = _class_and_options(sampler, options)
    if per_second:
        _check_per_second(sampler, cls)
        arguments["per_second"] = True
    if "trials" in inspect.signature(cls).parameters:
        arguments["trials"] = trials
    try:
        return cls(space, seed=seed, allow_duplicates=allow_duplicates, **arguments)
    except InputError as error:
        raise InputError(error.message, key=KEY) from None


def check_sampler(sampler: str | Mapping[str, Any], *, per_second: bool = False) -> None:
    """Raises `InputError` where the sampler or one of its options is unknown, or it cannot heed progress per second.

    For use before the space is known.
    """
    cls, _ = _class_and_options(sampler, {})
    if per_second:
        _check_per_second(sampler, cls)


def _check_per_second(sampler: str | Mapping[str, Any], cls: type[Sampler]) -> None:
    if "per_second" not in inspect.signature(cls).parameters:
        name = sampler["name"] if isinstance(sampler, Mapping) else sampler
        raise InputError(
            f"the sampler {name} does not choose by what trials cost, so per: second would change nothing: take gp, "
            "tpe or auto, or leave per out",
            key=PER,
        )


def _class_and_options(
    sampler: str | Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[type[Sampler], dict[str, Any]]:
    stated = dict(sampler) if isinstance(sampler, Mapping) else {"name": sampler}
    name = stated.pop("name", None)
    if not isinstance(name, str):
        raise InputError(f"a sampler is given by its name ({', '.join(SAMPLERS)}), not as {shown(sampler)}", key=KEY)
    if name not in SAMPLERS:
        raise InputError(f"unknown sampler {name!r}; {nearest(name, SAMPLERS)}", key=KEY)
    module, _, attribute = SAMPLERS[name].partition(":")
    cls: type[Sampler] = getattr(importlib.import_module(module), attribute)
    known = [each for each in inspect.signature(cls).parameters if each not in GIVEN]
    for option in (*stated, *options):
        if option not in known:
            hint = nearest(str(option), known) if known else "it has none"
            raise InputError(f"the {name} sampler has no option {option!r}; {hint}", key=KEY)
    return cls, {**stated, **options}
