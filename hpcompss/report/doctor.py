"""What this machine has, what is missing, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from hpcompss import __version__
from hpcompss.engines.machine import available_cores, available_gpus, available_memory

__all__ = ["Finding", "examine", "show_findings"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What.
        fine: Whether it is there and as it should be.
        detail: What was found.
        remedy: What to do where it is not fine.
        optional: Whether hpcompss works without it.
    """

    name: str
    fine: bool
    detail: str
    remedy: str = ""
    optional: bool = False

    def to_plain(self) -> dict[str, Any]:
        """Returns the finding as plain data."""
        return asdict(self)


_PACKAGES = (
    ("numpy", "numpy", "", False),
    ("scipy", "scipy", "", False),
    ("hyperopt", "hyperopt", "", False),
    ("keras", "keras", "tensorflow", True),
    ("tensorflow", "tensorflow", "tensorflow", True),
    ("scikit-learn", "sklearn", "tensorflow", True),
    ("pillow", "PIL", "tensorflow", True),
)
"""Distribution, module, the extra that brings it (none: hpcompss itself does), whether hpcompss works without it."""


def examine() -> list[Finding]:
    """Returns what was found on this machine; imports nothing heavy."""
    gpus = available_gpus()
    return [*_machine(gpus), *_packages(gpus), *_engines()]


def _machine(gpus: Sequence[str]) -> Iterator[Finding]:
    version = platform.python_version()
    supported = (3, 10) <= sys.version_info[:2] <= (3, 13)
    yield Finding("hpcompss", True, f"{__version__} in {os.path.dirname(os.path.dirname(__file__))}")
    yield Finding("Python", supported, f"{version} ({sys.executable})", "use Python 3.10 to 3.13")
    cores, present = available_cores(), os.cpu_count() or 1
    fewer = f" of {present} (limited by affinity or a quota)" if cores < present else ""
    yield Finding("cores", True, f"{cores}{fewer}")
    memory = available_memory()
    yield Finding("memory", memory > 2e9, f"{memory / 1e9:.1f} GB", "training needs about 1 GB a worker: run fewer")
    found = ", ".join(gpus) if gpus else "none found"
    remedy = "for NVIDIA GPUs install the driver (nvidia-smi must list them); trials run on the CPU meanwhile"
    yield Finding("GPUs", bool(gpus), found, remedy, optional=True)
    free = shutil.disk_usage(os.getcwd()).free
    yield Finding("disk", free > 1e9, f"{free / 1e9:.1f} GB free here", "free some space, or work in another folder")


def _packages(gpus: Sequence[str]) -> Iterator[Finding]:
    for name, module, extra, optional in _PACKAGES:
        if importlib.util.find_spec(module) is None:
            install = f"'hpcompss[{extra}]'" if extra else "--upgrade hpcompss"
            yield Finding(name, False, "not installed", f"pip install {install}", optional)
        elif gpus and name == "tensorflow" and not _version(name) and (version := _version("tensorflow-cpu")):
            remedy = f"pip install 'hpcompss[{extra}]' in an environment of its own"
            yield Finding(name, False, f"{version} (tensorflow-cpu), which cannot use the GPUs", remedy, optional)
        else:
            yield Finding(name, True, _version(name) or _version(f"{name}-cpu") or "installed", optional=optional)


def _version(distribution: str) -> str:
    """Returns the version of a distribution, empty where it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _engines() -> Iterator[Finding]:
    yield Finding("engine local", True, "ready")
    runcompss = shutil.which("runcompss")
    if runcompss is None:
        remedy = "install COMPSs from its own site or use its container image; the local engine works without it"
        yield Finding("COMPSs", False, "runcompss is not on PATH", remedy, optional=True)
    else:
        yield Finding("COMPSs", True, runcompss, optional=True)


def show_findings(findings: list[Finding], console: Console) -> None:
    """Prints findings, each with its remedy where it is not fine."""
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        mark = "ok" if finding.fine else "--" if finding.optional else "!!"
        console.print(
            f"{mark}  {finding.name:<{width}}  {finding.detail}", markup=False, highlight=False, soft_wrap=True
        )
        if not finding.fine and finding.remedy:
            console.print(f"    {'':<{width}}  {finding.remedy}", markup=False, highlight=False, soft_wrap=True)
