"""The user's Python files that a study runs, and digests of them, which tell whether they have changed."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import inspect
import os
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["changed_files", "code_digests", "digest_of", "folder_of", "named_from", "python_files"]

DYNAMIC_MODULES = {"imp", "importlib", "pkgutil", "runpy"}
DYNAMIC_FUNCTIONS = {"__import__", "exec"}
"""What a module uses that imports others by names which cannot be read from its text."""

INSTALLED = {"site-packages", "dist-packages"}
"""The names of folders that hold installed packages: those of a user and of a system, too."""

OWN_FOLDER = Path(__file__).resolve().parent


def python_files(folder: Path) -> list[Path]:
    """Returns the Python files in a folder, those of its packages included."""
    files = sorted(folder.glob("*.py"))
    for package in sorted(folder.glob("*/__init__.py")):
        files += sorted(package.parent.rglob("*.py"))
    return files


def digest_of(content: bytes) -> str:
    """Returns a short digest."""
    return hashlib.sha256(content).hexdigest()[:16]


def code_digests(references: Iterable[Any]) -> dict[str, str]:
    """Returns digests of the files that define what a study runs, and of those beside them that they import.

    A module that imports by a name that is computed counts with all Python files of its folder. Installed packages do
    not count.

    Args:
        references: ``file.py:name``, ``module:name``, or Python objects; None is left out.

    Returns:
        The digests by path; those of an object without a file by ``<python>:name``.
    """
    digests: dict[str, str] = {}
    for reference in references:
        if reference is None:
            continue
        for file in sorted({each for each in _files_of(reference) if not _is_installed(each)}):
            try:
                digests[str(file)] = digest_of(file.read_bytes())
            except OSError:
                continue  # whoever needs it says so
        if not isinstance(reference, str) and _file_of(reference) is None:
            target = _definition(reference)
            try:
                text = inspect.getsource(target)
            except (OSError, TypeError):
                continue
            digests[f"<python>:{getattr(target, '__name__', 'object')}"] = digest_of(text.encode())
    return digests


def changed_files(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Returns the names of the files whose digests are new or not what they were."""
    names = [path.rpartition(":")[2] if path.startswith("<") else Path(path).name for path in now]
    return list(dict.fromkeys(name for name, path in zip(names, now, strict=True) if before.get(path) != now[path]))


def folder_of(reference: Any) -> Path | None:
    """Returns the folder from which a reference's file is imported; None where it has no file."""
    if not isinstance(reference, str):
        file = _file_of(reference)
        return file and file.parent
    place = reference.rpartition(":")[0]
    if place.endswith(".py"):
        return Path(place).parent
    files = sorted(_files_of_module(place))
    return files[0].parents[1 if files[0].parent.name == place.partition(".")[0] else 0] if files else None


def named_from(folder: Path | None, digests: Mapping[str, str]) -> dict[str, str]:
    """Returns digests with the files in a folder named relative to it, so that a folder may move."""
    if folder is None:
        return dict(digests)
    return {
        os.path.relpath(path, folder) if Path(path).is_relative_to(folder) else path: digest
        for path, digest in digests.items()
    }


def _file_of(reference: Any) -> Path | None:
    """Returns the file that a Python object is defined in."""
    try:
        source = inspect.getsourcefile(_definition(reference))
    except TypeError:
        return None
    return Path(source).resolve() if source is not None and Path(source).is_file() else None


def _files_of(reference: Any) -> Iterator[Path]:
    if not isinstance(reference, str):
        source = _file_of(reference)
        if source is not None and not _is_installed(source):
            yield from _with_imports([source], source.parent)
        return
    place = reference.rpartition(":")[0]
    if place.endswith(".py"):
        file = Path(place)
        if file.is_file():
            yield from _with_imports([file], file.parent)
        return
    yield from _files_of_module(place)


def _files_of_module(name: str) -> Iterator[Path]:
    """Yields the files of a module by its name; none of an installed one."""
    package = name.partition(".")[0]
    try:
        found = importlib.util.find_spec(package) if package else None
    except (ImportError, ValueError):
        found = None
    if found is None or package == __name__.partition(".")[0]:
        return
    folders = [Path(each).resolve() for each in found.submodule_search_locations or ()]
    files = [Path(found.origin).resolve()] if found.origin and found.origin.endswith(".py") else []
    if any(_is_installed(each) for each in (*folders, *files)):
        return
    for folder in folders:
        yield from _with_imports(sorted(folder.rglob("*.py")), folder.parent)
    if not folders:
        yield from _with_imports(files, files[0].parent if files else Path())


def _is_installed(path: Path) -> bool:
    """Returns whether a file is one of Python, of an installed package, or of hpcompss."""
    if path.is_relative_to(OWN_FOLDER) or not INSTALLED.isdisjoint(path.parts):
        return True
    return any(path.is_relative_to(sysconfig.get_path(kind)) for kind in ("stdlib", "purelib", "platlib"))


def _definition(reference: Any) -> Any:
    """Returns the function or class that an object comes from."""
    while isinstance(reference, functools.partial):
        reference = reference.func
    reference = inspect.unwrap(reference)
    return reference if inspect.isroutine(reference) or inspect.isclass(reference) else type(reference)


def _with_imports(files: Iterable[Path], folder: Path) -> set[Path]:
    """Returns files of a folder, and those in it that they import, directly or not."""
    found: set[Path] = set()
    left = list(files)
    while left:
        file = left.pop()
        if file in found:
            continue
        found.add(file)
        names, is_dynamic = _imports(file)
        if is_dynamic:
            left += python_files(folder)
        for name in names:
            module = folder / f"{name}.py"
            if module.is_file():
                left.append(module)
            elif (folder / name).is_dir():
                left += sorted((folder / name).rglob("*.py"))
    return found


def _imports(file: Path) -> tuple[set[str], bool]:
    """Returns the first parts of the names that a module imports, and whether it imports others in ways not seen."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return set(), False
    names: set[str] = set()
    is_dynamic = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(each.name.partition(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(str(node.module).partition(".")[0])  # a relative one is of a package, all files of which count
        elif isinstance(node, ast.Name):
            is_dynamic = is_dynamic or node.id in DYNAMIC_FUNCTIONS
    return names, is_dynamic or bool(names & DYNAMIC_MODULES)
