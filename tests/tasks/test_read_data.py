from __future__ import annotations

import dataclasses
from typing import Any

from hpcompss.errors import InputError
from hpcompss.tasks.read_data import DataSummary, read_data
from tests.keras_jobs import make_job


def test_the_data_is_described_with_its_folds(keras: Any) -> None:
    found = read_data(make_job(folds=4))
    assert isinstance(found, DataSummary) and len(found.digest) == 32
    text = "digits: 80 train, 40 validation, 360 test; 8 x 8 x 1 float32; 10 classes; 4 folds of train and validation"
    assert found.description == text


def test_what_is_wrong_with_the_data_comes_back(keras: Any) -> None:
    job = make_job()
    found = read_data(dataclasses.replace(job, data=dataclasses.replace(job.data, train=9999)))
    assert isinstance(found, InputError) and found.key == "data.train"
