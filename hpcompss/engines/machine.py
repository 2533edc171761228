"""What this machine has, as far as this process may use it: cores, GPUs, memory; and what a process holds of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

__all__ = ["available_cores", "available_gpus", "available_memory", "own_private_memory", "process_memory"]

_ROOT = Path("/")


def available_cores(root: Path = _ROOT) -> int:
    """Returns how many cores this process may keep busy: those it may run on, within the quota of its control group.

    Args:
        root: Where ``/proc`` and ``/sys`` are found.
    """
    # A quota of 1.5 cores is 1: a second thread would be halted half of the time, and the first with it.
    quotas = [max(1, int(quota)) for quota in _cpu_quotas(root)]
    return min([_cores_by_affinity(), *quotas])


def available_memory(root: Path = _ROOT) -> int:
    """Returns the bytes of memory that this machine has, within the limit of this process's control group.

    Args:
        root: Where ``/proc`` and ``/sys`` are found.
    """
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_memory_limits(root)])


def available_gpus() -> tuple[str, ...]:
    """Returns the GPUs this process may use, as ``CUDA_VISIBLE_DEVICES`` names them.

    They are those that ``CUDA_VISIBLE_DEVICES`` lists, else those that ``nvidia-smi`` reports; a GPU that is divided
    into MIG devices counts as these.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return _reported_gpus()
    found: list[str] = []
    for name in (part.strip() for part in visible.split(",")):
        # CUDA itself stops at the first name it does not know; "-1" and Slurm's "NoDevFiles" stand for none.
        if not (name.isdecimal() or name.startswith(("GPU-", "MIG-"))):
            break
        found.append(name)
    return tuple(found)


def process_memory(process: int) -> int | None:
    """Returns the bytes that a process and its descendants hold resident, or None where ``/proc`` does not tell.

    Pages of mapped files are left out: they are shared by all who map the file, and the kernel takes them back first.

    Args:
        process: Its process id.
    """
    if not Path("/proc/self/status").exists():
        return None
    return sum(_held(member) for member in _family(process))


def own_private_memory() -> int:
    """Returns the bytes this process holds resident and shares with nobody; its peak so far where there is no /proc."""
    try:
        with open("/proc/self/statm", "rb") as file:
            resident, shared = file.read().split()[1:3]
    except OSError:
        return _peak_memory()
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def _peak_memory() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if os.uname().sysname == "Darwin" else peak * 1024


def _cores_by_affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_quotas(root: Path) -> Iterator[float]:
    for folder in _control_groups(root, "cpu"):
        quota = _read(folder / "cpu.max").split() or [
            *_read(folder / "cpu.cfs_quota_us").split(),
            *_read(folder / "cpu.cfs_period_us").split(),
        ]
        # No limit is "max" in version 2 of control groups and -1 in version 1.
        if len(quota) == 2 and quota[0].isdecimal() and int(quota[1]) > 0:
            yield int(quota[0]) / int(quota[1])


def _memory_limits(root: Path) -> Iterator[int]:
    for folder in _control_groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _read(folder / name).strip()
            if limit.isdecimal():
                yield int(limit)


def _control_groups(root: Path, controller: str) -> Iterator[Path]:
    """Yields the folders of this process's control group and of the groups above it, each of which may set a limit."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            mounts = ["sys/fs/cgroup", "sys/fs/cgroup/unified"]
        elif controller in controllers.split(","):
            mounts = [f"sys/fs/cgroup/{controllers}", f"sys/fs/cgroup/{controller}"]
        else:
            continue
        group = PurePosixPath(path)
        for mount in dict.fromkeys(mounts):
            for level in (group, *group.parents):
                yield root / mount / level.relative_to("/")


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _reported_gpus() -> tuple[str, ...]:
    import shutil
    import subprocess

    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        report = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return _listed_gpus(report)


def _listed_gpus(report: str) -> tuple[str, ...]:
    """Reads what ``nvidia-smi -L`` prints: a line for each GPU, each followed by the lines of its MIG devices."""
    devices: dict[str, list[str]] = {}
    gpu = ""
    for line in report.splitlines():
        words = line.split()
        if line.startswith("GPU ") and len(words) > 1:
            gpu = words[1].rstrip(":")
            devices[gpu] = []
        elif line.lstrip().startswith("MIG ") and "(UUID: " in line:
            devices[gpu].append(line.partition("(UUID: ")[2].partition(")")[0])
    return tuple(name for gpu, parts in devices.items() for name in (parts or [gpu]))


def _held(process: int) -> int:
    fields = dict(line.partition(":")[::2] for line in _read(Path(f"/proc/{process}/status")).splitlines())
    # Some kernels (before 4.5, gVisor) tell only the sum.
    names = ("RssAnon", "RssShmem") if "RssAnon" in fields else ("VmRSS",)
    return sum(int(fields[name].split()[0]) * 1024 for name in names if name in fields)


def _family(process: int) -> Iterator[int]:
    """Yields a process, its children, theirs, and so on."""
    waiting = [process]
    while waiting:
        member = waiting.pop()
        yield member
        # Each thread lists the children that it started.
        for thread in _entries(Path(f"/proc/{member}/task")):
            waiting.extend(int(child) for child in _read(thread / "children").split())


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
