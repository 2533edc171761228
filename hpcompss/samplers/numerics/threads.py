"""How many threads the linear algebra of a suggestion takes."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any

__all__ = ["one_thread"]


def one_thread() -> AbstractContextManager[Any]:
    """Returns a context in which BLAS runs in one thread.

    A suggestion's matrices are too small to gain from more. On a machine whose cores are busy with trials, BLAS threads
    that wait for one another made a suggestion ten times slower.
    """
    return _controller().limit(limits=1, user_api="blas")  # type: ignore[no-any-return]


@functools.cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
