"""Which GPUs of a node a task has: leases on shares of them, each a lock on a file that ends with its process.

COMPSs counts the GPU units of a node, but the units that it gives a task may lie on several GPUs where they could lie
on one. So the tasks of a node agree among themselves. COMPSs never counts more than there is, hence a task waits only
where trials of different shapes leave no GPU whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

__all__ = ["leased"]

TURN = 0.1
"""Seconds between two looks for a GPU that is free."""


@contextlib.contextmanager
def leased(
    units: int, shares: int, gpus: Sequence[str], go_on: Callable[[], bool], folder: Path | None = None
) -> Iterator[tuple[str, ...]]:
    """Gives the names of the GPUs that are this task's inside the ``with``; none where it shall not go on.

    Args:
        units: How many shares it needs: of one GPU where they are fewer than a GPU has, else of whole GPUs.
        shares: How many shares a GPU has.
        gpus: The names of the node's GPUs.
        go_on: Called while there is no room; returns whether to wait on.
        folder: Where the locks are; in the folder for temporary files by default, which the tasks of a node share.
    """
    folder = folder or Path(tempfile.gettempdir()) / f"hpcompss-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    per_gpu, count = min(units, shares), max(1, units // shares)
    while True:
        with _locked(folder / "all", wait=True):
            free = {gpu: [_lock(folder / f"{gpu}.{share}") for share in range(shares)] for gpu in gpus}
            fitting = [gpu for gpu, locks in free.items() if len(_held(locks)) >= per_gpu]
            # The least used first: two halves share a GPU only where none is free.
            chosen = sorted(fitting, key=lambda gpu: -len(_held(free[gpu])))[:count]
            enough = len(chosen) == count
            kept = [lock for gpu in chosen for lock in _held(free[gpu])[:per_gpu]] if enough else []
            for lock in {lock for locks in free.values() for lock in _held(locks)} - set(kept):
                os.close(lock)
        if enough:
            break
        if not go_on():
            yield ()
            return
        time.sleep(TURN)
    try:
        yield tuple(sorted(chosen, key=gpus.index))
    finally:
        for lock in kept:
            os.close(lock)


def _held(locks: Sequence[int | None]) -> list[int]:
    return [lock for lock in locks if lock is not None]


def _lock(path: Path, wait: bool = False) -> int | None:
    """Returns an open, locked file, or None where another process has locked it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(file)
        return None
    return file


@contextlib.contextmanager
def _locked(path: Path, wait: bool) -> Iterator[None]:
    file = _lock(path, wait)
    try:
        yield
    finally:
        if file is not None:
            os.close(file)
