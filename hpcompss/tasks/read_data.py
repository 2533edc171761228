"""The first task of a Keras study: read the data into the cache of this machine, and say what it is."""

from __future__ import annotations

from dataclasses import dataclass

from hpcompss.errors import HpcompssError
from hpcompss.training.data import describe, load_data_once, load_folds
from hpcompss.training.job import Job
from hpcompss.trial import Failure

__all__ = ["DataSummary", "read_data"]


@dataclass(frozen=True)
class DataSummary:
    """What a study needs to know of its data.

    Attributes:
        description: The data set in one line.
        digest: That of its content; empty for streams.
    """

    description: str
    digest: str


def read_data(job: Job) -> DataSummary | HpcompssError | Failure:
    """Returns what a study's data is; what is wrong with it comes back as data.

    Args:
        job: What the study's trials share.
    """
    try:
        data = load_data_once(job.data)
        description = describe(data)
        if job.folds is not None:
            description += f"; {len(load_folds(job.data, job.folds))} folds of train and validation"
        return DataSummary(description, data.digest)
    except HpcompssError as error:
        return error
    except Exception as error:
        return Failure.of(error)
