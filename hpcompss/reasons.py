"""Why something failed, in one line: the innermost cause of an exception, without what frameworks wrap around it."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence

from hpcompss.errors import HpcompssError

__all__ = ["one_line", "printable", "reason_of"]

REASON_LENGTH = 500
"""Characters of an error's message that go into the one-line reason."""

MAX_DEPTH = 20
"""Wrappers to look through, in case an exception is its own cause."""

MAX_LISTED = 3
"""Errors of an exception group that are listed."""

FRAMEWORKS = ("jax", "jaxlib", "keras", "optree", "tensorflow", "tf_keras", "torch")
"""Packages whose exceptions stand for the cause that they name; what others raise is the user's own sentence."""


def reason_of(error: BaseException, depth: int = 0) -> str:
    """Returns the type and message of an exception in one line.

    Exceptions of Keras and TensorFlow that wrap another one are unwrapped. One that the user's code raised from another
    one keeps its own message, with the cause in parentheses.

    >>> reason_of(ValueError("too large"))
    'ValueError: too large'
    """
    if isinstance(error, HpcompssError):
        return one_line(str(error))[:REASON_LENGTH]
    inner = _wrapped(error)
    if inner is not None and depth < MAX_DEPTH:
        return reason_of(inner, depth + 1)
    parts: Sequence[BaseException] = getattr(error, "exceptions", ())
    if isinstance(parts, tuple) and parts and depth < MAX_DEPTH:
        listed = "; ".join(reason_of(each, depth + 1) for each in parts[:MAX_LISTED])
        more = f"; and {len(parts) - MAX_LISTED} more" if len(parts) > MAX_LISTED else ""
        return f"{type(error).__name__}: {getattr(error, 'message', '')}: {listed}{more}"[:REASON_LENGTH]
    return _with_cause(error, _named(error), depth)[:REASON_LENGTH]


def one_line(text: str) -> str:
    """Returns a text in one line, without the codes that colour a terminal."""
    return " ".join(line.strip() for line in _COLOUR.sub("", text).splitlines() if line.strip())


def printable(text: str) -> str:
    """Returns a text without what upsets a terminal (control codes) or UTF-8 (file names that are no text)."""
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode()
        for each in _COLOUR.sub("", text)
    )


_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

_KERAS = (
    re.compile(
        r"Exception encountered when calling [^\n]+\.\n\n(.*?)(?:\n\nArguments received by [^\n]*:\n.*)?\Z", re.DOTALL
    ),
    re.compile(
        r"(?:Could not automatically infer the output shape|Unable to automatically build the model\."
        r"|<class '[^']*'> could not be deserialized properly\.).*(?:Exception|Error) encountered:\s*(.*)\Z",
        re.DOTALL,
    ),
)
"""What Keras makes of an exception that is raised in a layer or a model."""

_AUTOGRAPH = "in user code:"
"""What TensorFlow's message begins with where a traced function raised."""

_FRAME = re.compile(r'\s*File ".*", line \d+, in ')

_DEVICE = re.compile(r"\{\{function_node [^}]*\}\} | \[Op:\w+\]( name:)?.*$")
"""What TensorFlow adds to a message: the placement of an operation and its name."""


def _wrapped(error: BaseException) -> BaseException | None:
    """Returns the exception that a framework wrapped, or None where this one is the user's or the innermost."""
    if _is_wrapper(_message(error)) and error.__context__ is not None:
        return error.__context__  # it is raised anew "from None", which keeps the original
    if error.__cause__ is not None and not _is_of_frameworks(error.__cause__) and _raised_by_framework(error):
        return error.__cause__
    return None


def _is_wrapper(message: str) -> bool:
    return message.startswith(_AUTOGRAPH) or _inside(message) is not None


def _inside(message: str) -> str | None:
    """Returns the message that Keras put into another one, or None where it did not."""
    found = next(filter(None, (pattern.match(message) for pattern in _KERAS)), None)
    return None if found is None else found[1].strip()


def _raised_by_framework(error: BaseException) -> bool:
    frames = list(traceback.walk_tb(error.__traceback__))
    module = str(frames[-1][0].f_globals.get("__name__", "")) if frames else ""
    return module.partition(".")[0] in FRAMEWORKS


def _is_of_frameworks(error: BaseException) -> bool:
    """Returns whether an exception's class is a framework's own, as that of JAX's notes on its stack."""
    return type(error).__module__.partition(".")[0] in FRAMEWORKS


def _with_cause(error: BaseException, reason: str, depth: int) -> str:
    """Returns the reason of an exception of the user's, with the one that it was raised from."""
    cause = error.__cause__
    if cause is None and ":" not in reason and not error.__suppress_context__:
        cause = error.__context__  # an exception without a message says less than the one it replaced
    if cause is None or depth >= MAX_DEPTH or _is_of_frameworks(cause):
        return reason
    because = reason_of(cause, depth + 1)
    return reason if because.partition(": ")[2] and because.partition(": ")[2] in reason else f"{reason} ({because})"


def _message(error: BaseException) -> str:
    """Returns the message of an exception; that of a `KeyError` as it was given, where a framework made it."""
    try:
        given = error.args[0] if isinstance(error, KeyError) and error.args else None
        message = given if isinstance(given, str) and "\n\n" in given else str(error)
    except Exception:
        return ""  # an error whose __str__ fails is still an error
    return _COLOUR.sub("", message).strip()


def _named(error: BaseException) -> str:
    """Returns the name of an exception and the line of its message that tells the most."""
    name, message = type(error).__name__, _message(error)
    while (inside := _inside(message)) is not None:
        message = inside
    if message.startswith(_AUTOGRAPH):
        lines = message.splitlines()
        last = max((place for place, line in enumerate(lines) if _FRAME.match(line)), default=0)
        return _telling("\n".join(lines[last + 2 :])) or name  # behind the frame and its code: type and message
    line = _telling(message)
    return f"{name}: {line}" if line else name


def _telling(message: str) -> str:
    """Returns the line of a message that tells the most: the first one, unless it is only a heading."""
    lines = [line.strip() for line in message.splitlines()]
    lines = [line for line in lines if any(each.isalnum() for each in line)]
    if not lines:
        return message.strip().splitlines()[0].strip() if message.strip() else ""
    if lines[0].endswith("execution error:"):
        # TensorFlow lists where the operation was defined; the message comes last.
        told = [line for line in lines[1:] if not line.startswith(("[[", "File "))]
        return _DEVICE.sub("", told[-1] if told else lines[0]).strip()
    heading = lines[0].endswith(":") and len(lines) > 1
    return _DEVICE.sub("", f"{lines[0]} {lines[1]}" if heading else lines[0]).strip()
