"""What travels between master and workers as bytes: cloudpickle, with the file names of code kept."""

from __future__ import annotations

import io
import types
from collections import ChainMap
from typing import IO, Any, ClassVar

import cloudpickle

__all__ = ["dump", "dumps"]


def _code_with_its_file(code: types.CodeType) -> tuple[Any, ...]:
    """Reduces a code object as cloudpickle does, which since 3.1.3 forgets the file: a traceback would show no line."""
    constructor, arguments = cloudpickle.Pickler.dispatch_table[types.CodeType](code)
    kept = (code.co_filename if argument == "<dynamic-code>" else argument for argument in arguments)
    return constructor, tuple(kept)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    dispatch_table: ClassVar[ChainMap[Any, Any]] = ChainMap(
        {types.CodeType: _code_with_its_file}, cloudpickle.Pickler.dispatch_table
    )


def dump(value: Any, file: IO[bytes]) -> None:
    """Writes a value to a file; what `pickle.loads` reads. Raises whatever keeps it from being pickled."""
    _Pickler(file).dump(value)


def dumps(value: Any) -> bytes:
    """Returns a value as bytes, as `dump` writes it."""
    with io.BytesIO() as file:
        dump(value, file)
        return file.getvalue()
