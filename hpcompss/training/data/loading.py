"""From a specification to a data set: read and decoded the first time, mapped from the cache ever after."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hpcompss.cache_folder import cache_folder, remove
from hpcompss.training.data.data_set import DataSet
from hpcompss.training.data.specification import PASSED, DataSpecification

if TYPE_CHECKING:
    from hpcompss.training.data.cache import Entry

__all__ = ["DELIVERED", "forget_run", "load_data", "load_data_once", "load_entry", "load_folds"]

DELIVERED = "HPCOMPSS_DATA"
"""The environment variable of a worker's processes that names the data which the master gave it, in the cache."""


def load_data(specification: DataSpecification, *, cache_directory: str | os.PathLike[str] | None = None) -> DataSet:
    """Returns the data that ``specification`` states.

    The first call on a node reads and decodes it into the cache, while other processes that ask for the same wait;
    later calls only map files. A function is called once for each run of a study, on each machine; with ``cache: true``
    what it returned is used again until its module's file changes.

    Args:
        specification: What the user stated.
        cache_directory: Where decoded arrays are kept; by default ``$HPCOMPSS_CACHE``, else
            ``$XDG_CACHE_HOME/hpcompss``, else ``~/.cache/hpcompss``.

    Raises:
        InputError: The data is absent, damaged, of an unknown format, without labels, or too small for what is asked;
            or the cache cannot be written.
        MissingExtraError: A package that reads this data is not installed.
    """
    # NumPy is imported only when data is really loaded: the master imports this module too, and must start at once.
    from hpcompss.training.data.function import streams_of
    from hpcompss.training.data.split import split

    entry = load_entry(specification, cache_folder() if cache_directory is None else Path(cache_directory))
    name = specification.title
    if specification.function is not None and specification.function_name != PASSED:
        name += f" (called {entry.created})"
    return streams_of(specification, name) if entry.streams else split(specification, entry, name)


def load_entry(specification: DataSpecification, directory: Path) -> Entry:
    """Returns the decoded data before it is split; raises what `load_data` raises.

    Args:
        specification: What the user stated.
        directory: The cache.
    """
    from hpcompss.training.data.cache import cached, opened, remove_unused
    from hpcompss.training.data.sources import RUN, find_source

    delivered = os.environ.get(DELIVERED, "")
    if delivered and (entry := opened(directory / delivered)) is not None:
        return entry
    if specification.arrays is not None and (entry := opened(directory / specification.arrays)) is not None:
        return entry
    source = find_source(specification)
    if source.title.startswith(RUN):
        remove_unused(directory, RUN)
    return cached(directory, source.title, source.identity, source.read, specification.source_description)


def forget_run(specification: DataSpecification) -> None:
    """Removes from this machine's cache what a function returned for one run that is over."""
    from hpcompss.training.data.cache import entry_path
    from hpcompss.training.data.sources import RUN, find_source

    if specification.function is None or specification.cache or not specification.run:
        return
    source = find_source(specification)
    if source.title.startswith(RUN):
        remove(entry_path(cache_folder(), source.title, source.identity))


@functools.lru_cache(maxsize=1)
def load_data_once(specification: DataSpecification) -> DataSet:
    """Returns `load_data` as it was first read in this process.

    The trials of a worker then see one data set throughout, and do not each look whether its files have changed, which
    takes half a second for a folder of 60,000 images.
    """
    return load_data(specification)


def load_folds(specification: DataSpecification, folds: int) -> tuple[DataSet, ...]:
    """Returns `load_data_once` as a data set for each of so many folds of its training and validation examples.

    Raises:
        InputError: There are more folds than examples of the smallest class, or see `load_data`.
    """
    from hpcompss.training.data.folds import folds_of

    return folds_of(load_data_once(specification), folds, specification)
