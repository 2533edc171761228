"""From a specification to a data set: read and decoded the first time, mapped from the cache ever after."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hpcompss.cache_folder import cache_folder
from hpcompss.training.data.data_set import DataSet
from hpcompss.training.data.specification import DataSpecification

if TYPE_CHECKING:
    from hpcompss.training.data.cache import Entry

__all__ = ["DELIVERED", "load_data", "load_data_once", "load_entry", "load_folds"]

DELIVERED = "HPCOMPSS_DATA"
"""The environment variable of a worker's processes that names the data which the master gave it, in the cache."""


def load_data(specification: DataSpecification, *, cache_directory: str | os.PathLike[str] | None = None) -> DataSet:
    """Returns the data that ``specification`` states.

    The first call on a node reads and decodes it into the cache, while other processes that ask for the same wait;
    later calls only map files. What a function returns is kept until its module's file changes: to have it called again
    because what it reads has changed, delete its folder in the cache.

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
    from hpcompss.training.data.split import split

    entry = load_entry(specification, cache_folder() if cache_directory is None else Path(cache_directory))
    name = specification.title
    if specification.function is not None:
        name += f" (called {entry.created})"
    return split(specification, entry, name)


def load_entry(specification: DataSpecification, directory: Path) -> Entry:
    """Returns the decoded data before it is split; raises what `load_data` raises.

    Args:
        specification: What the user stated.
        directory: The cache.
    """
    from hpcompss.training.data.cache import cached, opened
    from hpcompss.training.data.sources import find_source

    delivered = os.environ.get(DELIVERED, "")
    if delivered and (entry := opened(directory / delivered)) is not None:
        return entry
    source = find_source(specification)
    return cached(directory, source.title, source.identity, source.read)


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

    return folds_of(load_data_once(specification), folds, specification.seed)
