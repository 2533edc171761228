"""What this machine has, what is missing, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from hpcompss import __version__
from hpcompss.cluster.nodes import Node
from hpcompss.cluster.resources import read_project, read_resources
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
    ("jax", "jax", "jax", True),
    ("torch", "torch", "torch", True),
    ("scikit-learn", "sklearn", "tensorflow", True),
    ("pillow", "PIL", "tensorflow", True),
)
"""Distribution, module, the extra that brings it (none: hpcompss itself does), whether hpcompss works without it."""


_FRAMEWORKS = (("Dask", "distributed", "dask"), ("Ray", "ray", "ray"), ("mpi4py", "mpi4py", "mpi"))
"""What engines run on, each with its distribution and the extra that brings it; joblib comes with scikit-learn."""


def examine(engine: str = "local", resources: Path | None = None, project: Path | None = None) -> list[Finding]:
    """Returns what was found on this machine; imports nothing heavy.

    Args:
        engine: ``"compss"`` looks into what that engine needs as well, on every node of the project file.
        resources: COMPSs's resources file, ``resources.xml`` in this folder by default.
        project: COMPSs's project file, ``project.xml`` in this folder by default.

    Raises:
        InputError: One of these files is not as it must be.
    """
    gpus = available_gpus()
    found = [*_machine(gpus), *_packages(gpus), *_engines()]
    if engine == "compss":
        found = [each for each in found if each.name != "COMPSs"]
        found += [*_compss(), *_nodes(resources or Path("resources.xml"), project or Path("project.xml"))]
    return found


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
    for name, distribution, extra in _FRAMEWORKS:
        version = _version(distribution)
        yield Finding(name, bool(version), version or "not installed", f"pip install 'hpcompss[{extra}]'", True)
    if _version("mpi4py"):
        mpiexec = shutil.which("mpiexec")
        yield Finding("mpiexec", mpiexec is not None, mpiexec or "not on PATH", "install an MPI", True)


def _compss() -> Iterator[Finding]:
    home = os.environ.get("JAVA_HOME", "")
    java = bool(home) and os.access(Path(home) / "bin" / "java", os.X_OK)
    detail = home if java else f"{home} has no bin/java" if home else "not set"
    yield Finding("JAVA_HOME", java, detail, "install a JDK (8 or newer) and export JAVA_HOME=its folder")
    for program, remedy in (
        ("runcompss", "install COMPSs and put its Runtime/scripts/user on PATH"),
        ("ssh", "install an ssh client: the master starts its workers by ssh"),
    ):
        path = shutil.which(program)
        yield Finding(program, path is not None, path or "not on PATH", remedy)
    if importlib.util.find_spec("pycompss") is None:
        remedy = "install COMPSs's Python binding for this Python; runcompss adds it to PYTHONPATH by itself"
        yield Finding("pycompss", False, "not importable here", remedy, optional=shutil.which("runcompss") is not None)
    else:
        yield Finding("pycompss", True, "importable")


def _nodes(resources: Path, project: Path) -> Iterator[Finding]:
    missing = [str(path) for path in (resources, project) if not path.exists()]
    if missing:
        remedy = "write them with  hpcompss resources NODE ..., or name them by --resources and --project"
        yield Finding("nodes", False, f"no {' and no '.join(missing)}", remedy)
        return
    nodes = read_project(project, read_resources(resources))
    if nodes is None:
        yield Finding("nodes", True, "taken by COMPSs as it needs them: not looked into", optional=True)
    for node in nodes or ():
        yield _node(node)


def _node(node: Node) -> Finding:
    """Logs in to a node as COMPSs does, and asks for its Python and cores."""
    name = f"node {node.name}"
    code = "import hpcompss, os; print(len(os.sched_getaffinity(0)), hpcompss.__version__)"
    there = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}"
    target = f"{node.user}@{node.name}" if node.user else node.name
    options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]
    try:
        done = subprocess.run(
            ["ssh", *options, target, there], capture_output=True, text=True, errors="replace", timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return Finding(name, False, "no answer by ssh", f"make  ssh {target}  work")
    last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    if done.returncode == 255:
        return Finding(name, False, last, f"make  ssh {target}  work without a password (ssh-copy-id {target})")
    if done.returncode:
        remedy = f"install this Python and hpcompss there, at the same path ({sys.executable})"
        return Finding(name, False, last, remedy)
    answer = (done.stdout.strip().splitlines() or [""])[-1]  # a greeting of the shell may stand before it
    match = re.fullmatch(r"(\d{1,9}) (\S+)", answer)
    if match is None:
        remedy = f"have the shell there print nothing after a command: compare  ssh {target} echo done"
        return Finding(name, False, f"it answers {answer!r}, not with its cores and hpcompss's version", remedy)
    cores, version = int(match[1]), match[2]
    if node.cpu > cores:
        remedy = f"declare at most {cores} CPU units there, or tasks die where COMPSs binds them to cores"
        return Finding(name, False, f"{node.cpu} CPU units are declared, it has {cores} cores", remedy)
    if version != __version__:
        return Finding(name, False, f"it has hpcompss {version}", f"install {__version__} there, as here")
    return Finding(name, True, f"{cores} cores, {node.cpu} CPU units, {node.gpu} GPU units")


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
