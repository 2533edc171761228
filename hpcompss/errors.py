"""The errors a user can cause and mend: each is one clear sentence that says what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["HpcompssError", "InputError", "MissingExtraError", "cause_of", "nearest", "shown"]


class HpcompssError(Exception):
    """Base of every error that the command line shows as one sentence, with exit status 2."""


class InputError(HpcompssError, ValueError):
    """Something the user wrote is wrong.

    Args:
        message: What is wrong and what to do about it.
        file: The file it stands in.
        line: Its line there, counted from 1.
        column: Its column there, counted from 1.
        key: The dotted path of the setting, such as ``search.trials``.
    """

    def __init__(
        self,
        message: str,
        *,
        file: Path | str | None = None,
        line: int | None = None,
        column: int | None = None,
        key: str | None = None,
    ) -> None:
        self.message = message
        self.file = file
        self.line = line
        self.column = column
        self.key = key
        super().__init__(message)

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return ": ".join(part for part in (place, self.key, self.message) if part)

    def __reduce__(self) -> tuple[object, ...]:
        return (_restore, (type(self), self.message, self.file, self.line, self.column, self.key))


def _restore(
    cls: type[InputError], message: str, file: str | None, line: int | None, column: int | None, key: str | None
) -> InputError:
    return cls(message, file=file, line=line, column=column, key=key)


class MissingExtraError(HpcompssError, ImportError):
    """An optional dependency is not installed.

    Args:
        package: What could not be imported.
        extra: The extra of hpcompss that brings it.
        purpose: What it is needed for.
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        self.package = package
        self.extra = extra
        self.purpose = purpose
        super().__init__(f"{purpose} needs {package}: install it with  pip install 'hpcompss[{extra}]'")

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.package, self.extra, self.purpose))


def cause_of(error: BaseException) -> str:
    """Returns in a line what was at the bottom of another library's error.

    >>> cause_of(OSError("the first line\\nthe second"))
    'the first line'
    """
    while error.__cause__ is not None or (error.__context__ is not None and not str(error)):
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return str(error).strip().partition("\n")[0] or type(error).__name__


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns a sentence that names the nearest known word, or all of them when none is near.

    >>> nearest("trails", ["trials", "seed"])
    "did you mean 'trials'?"
    """
    names = sorted(known)
    match = difflib.get_close_matches(word, names, n=1)
    if match:
        return f"did you mean {match[0]!r}?"
    return "known: " + ", ".join(names)


class _Short(reprlib.Repr):
    """Names arrays and frames by their shape."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = SHOWN_CHARACTERS

    def repr1(self, x: Any, level: int) -> str:
        if shape := getattr(x, "shape", None):
            what = "an array" if hasattr(x, "dtype") else f"a {type(x).__name__}"
            return f"{what} of shape {tuple(shape)}"
        return super().repr1(x, level)


SHOWN_CHARACTERS = 80


def shown(value: object) -> str:
    """Returns a value as a message shows it: in a few words, whatever it holds.

    >>> shown("text"), shown(list(range(100)))
    ("'text'", '[0, 1, 2, 3, 4, 5, ...]')
    """
    text = _Short().repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."
