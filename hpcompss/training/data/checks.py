"""What Keras's own ``fit`` cannot take, told by name before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hpcompss.errors import InputError
from hpcompss.training.data.data_set import DataSet
from hpcompss.training.data.trees import is_frame, is_text, kind_of, leaves

__all__ = ["check_for_keras"]

SHOWN = 5
"""How many columns or classes a message names."""


def check_for_keras(data: DataSet) -> None:
    """Refuses frames whose columns make no array, and targets that are words.

    To be called where data goes to Keras as it is. A ``fit`` of the user's own may take both.

    Raises:
        InputError: Names the columns, or the words.
    """
    if data.train.is_stream:
        return
    for part, tree in (("features", data.train.x), ("targets", data.train.y)):
        for name, leaf in leaves(tree) if tree is not None else ():
            where = f"{part}{name}"
            if is_frame(leaf):
                _check_columns(leaf, where)
            elif part == "targets" and (words := _words(leaf)):
                raise InputError(
                    f"the {where} are words ({words}), and Keras takes numbers: encode them where the data is made, or "
                    "in HyperModel.fit",
                    key="data",
                )
            elif part == "features" and kind_of(leaf) == "array" and leaf.dtype.kind == "O" and not is_text(leaf):
                raise InputError(
                    f"the {where} are an array of objects ({_kind_of_object(leaf)}), which Keras does not take: make "
                    "rows of one length, or convert them in HyperModel.fit",
                    key="data",
                )


def _check_columns(frame: Any, where: str) -> None:
    """Refuses a frame of numbers and other columns: as one array it would be an array of objects."""
    kinds = dict(_column_kinds(frame))
    if len(set(kinds.values())) <= 1 and "other" not in kinds.values():
        return
    odd = {kind: [name for name, each in kinds.items() if each == kind] for kind in ("text", "truth", "other")}
    for kind, what, remedy in (
        ("text", "text", "encode them"),
        ("truth", "truth values beside numbers", "convert the frame with .astype(float)"),
        ("other", "neither numbers nor text", "convert them"),
    ):
        if columns := odd[kind]:
            raise InputError(
                f"the {where} have columns that are {what}: {_shown(columns)}; leave them out, or {remedy} where the "
                "data is made or in HyperModel.fit",
                key="data",
            )


def _column_kinds(frame: Any) -> Iterator[tuple[str, str]]:
    for name, kind in zip(frame.columns, frame.dtypes, strict=True):
        # pandas writes its nullable types large, which become objects in an array; polars writes all types so.
        text = str(kind) if kind_of(frame) == "pandas" else str(kind).lower()
        if text.startswith(("int", "uint", "float")):
            yield str(name), "number"
        elif text.startswith("bool"):
            yield str(name), "truth"
        elif text.startswith(("object", "str", "utf8")):
            yield str(name), "text"
        else:
            yield str(name), "other"


def _words(leaf: Any) -> str:
    """Returns some of the words in a column of text, or nothing for other data."""
    import numpy as np

    if str(getattr(leaf, "dtype", "")).lower().startswith(("int", "uint", "float", "bool")):
        return ""
    if not hasattr(leaf, "__array__"):
        return ""
    array = np.asarray(leaf[:1000])
    if array.dtype.kind not in "USO" or not isinstance(array.flat[0], str | bytes):
        return ""
    return _shown(sorted({str(each) for each in array.ravel().tolist()}))


def _kind_of_object(leaf: Any) -> str:
    return type(leaf.flat[0]).__name__


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
