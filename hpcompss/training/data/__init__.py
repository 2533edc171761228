"""Data sets for training: read from anywhere, decoded once a node, shared by its processes as memory-mapped arrays."""

from __future__ import annotations

from hpcompss.training.data.data_set import DataSet, describe
from hpcompss.training.data.examples import Examples
from hpcompss.training.data.loading import load_data, load_data_once, load_folds
from hpcompss.training.data.specification import DataSpecification

__all__ = ["DataSet", "DataSpecification", "Examples", "describe", "load_data", "load_data_once", "load_folds"]
