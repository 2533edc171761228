"""Reads tables: CSV and Parquet files, whose columns are features, targets and weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcompss.errors import InputError, MissingExtraError, nearest
from hpcompss.training.data.arrays import save_arrays
from hpcompss.training.data.cache import ArrayFolder, ClassNames
from hpcompss.training.data.specification import DataSpecification

__all__ = ["is_table", "read"]

READERS = {".csv": "read_csv", ".tsv": "read_csv", ".parquet": "read_parquet"}
"""What reads a file, by the end of its name; ``.gz`` and the like may follow that of a CSV file."""


def is_table(path: Path) -> bool:
    """Returns whether a file is a table, by its name."""
    return _kind(path) is not None


def _kind(path: Path) -> str | None:
    suffixes = path.name.lower().split(".")[1:]
    known = [f".{suffix}" for suffix in suffixes[-2:] if f".{suffix}" in READERS]
    return known[-1] if known else None


def read(specification: DataSpecification, target: ArrayFolder) -> ClassNames:
    """Writes the columns of a table as frames, and returns the class names where the target is text.

    Raises:
        InputError: The file is damaged, or a column is unknown, or is needed and not stated.
        MissingExtraError: pandas is not installed.
    """
    path = Path(specification.path or "")
    frame = _frame(path)
    source, columns = f"'{path}'", [str(name) for name in frame.columns]
    frame.columns = columns
    if specification.target is None:
        raise InputError(
            f"state which column of {source} is the target: it has {', '.join(columns)}", key="data.target"
        )
    target_columns = _columns(specification.target, columns, "data.target", source)
    weights = _columns(specification.weights, columns, "data.weights", source)
    by = {
        name: _columns(column, columns, f"data.validation.{name}", source)
        for name, column in specification.split_columns.items()
    }
    used = {*target_columns, *weights}
    features = [name for name in columns if name not in used | {column for each in by.values() for column in each}]
    if specification.features is not None:
        features = _columns(specification.features, columns, "data.features", source)
        if both := used & set(features):
            raise InputError(f"{min(both)!r} is the target or the weight: leave it out", key="data.features")
    if not features:
        raise InputError(f"{source} has no column for a feature", key="data.features")
    y, class_names = _targets(frame, target_columns)
    arrays: dict[str, Any] = {"x_train": frame[features], "y_train": y}
    if weights:
        arrays["sample_weight"] = _numbers(frame, weights[0], source, "data.weights")
    for name, (column,) in by.items():
        arrays[name] = frame[column]
    save_arrays(arrays, source, "data.path", target, allow_nan=specification.allow_nan)
    return class_names


def _frame(path: Path) -> Any:
    try:
        import pandas
    except ImportError as error:
        raise MissingExtraError("pandas", "tables", f"the table '{path.name}'") from error
    kind = _kind(path) or ""
    options = {"sep": "\t"} if kind == ".tsv" else {}
    try:
        frame = getattr(pandas, READERS[kind])(path, **options)
    except ImportError as error:  # what reads Parquet
        raise MissingExtraError("pyarrow", "tables", f"the table '{path.name}'") from error
    except Exception as error:
        raise InputError(f"cannot read '{path}': {error}", key="data.path") from error
    if not len(frame):
        raise InputError(f"'{path}' has no rows", key="data.path")
    return frame


def _columns(stated: str | Sequence[str] | None, columns: Sequence[str], key: str, source: str) -> list[str]:
    names = [] if stated is None else [stated] if isinstance(stated, str) else list(stated)
    for name in names:
        if name not in columns:
            raise InputError(f"{source} has no column {name!r}; {nearest(name, columns)}", key=key)
    return names


def _targets(frame: Any, names: list[str]) -> tuple[Any, ClassNames]:
    """Returns the targets; text is numbered in the order of the alphabet, and its words are the class names."""
    if len(names) > 1:
        return frame[names], ()
    column = frame[names[0]]
    if column.dtype.kind not in "OUT" and str(column.dtype) not in ("str", "string", "category"):
        return column, ()
    codes = column.astype("category").cat
    if (codes.codes < 0).any():
        count = int((codes.codes < 0).sum())
        raise InputError(f"the column {names[0]!r} is empty in {count:,} rows: fill or remove them", key="data.target")
    return codes.codes.astype("int64").rename(names[0]), tuple(map(str, codes.categories))


def _numbers(frame: Any, name: str, source: str, key: str) -> Any:
    column = frame[name]
    if column.dtype.kind not in "iufb":
        raise InputError(f"the column {name!r} of {source} holds {column.dtype}, not numbers", key=key)
    return column.to_numpy()
