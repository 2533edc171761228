"""The joblib engine: trials on the backend that the user has set up with ``joblib.parallel_config``.

It uses the interface that joblib documents for backends (`joblib.ParallelBackendBase`), which takes one task after
another; `joblib.Parallel` itself takes a list of tasks that is known before the first one starts.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hpcompss.engines import remote_worker
from hpcompss.engines.hosts import Host
from hpcompss.engines.placed import GRACE, Parcel, PlacedFuture
from hpcompss.engines.placed_by_desk import PlacedByDesk, obstacle
from hpcompss.engines.remote_worker import Facts
from hpcompss.errors import InputError, MissingExtraError, cause_of
from hpcompss.trial import Resources

__all__ = ["Joblib"]

HERE = ("LokyBackend", "MultiprocessingBackend", "ThreadingBackend", "SequentialBackend")
"""joblib's own backends: they work on this machine."""

PROBES = 128
"""How many tasks look where the workers of another backend are, at most."""

MEETING = 0.2
"""Seconds that a task which each worker shall have once takes there, so that no worker has two of them."""

PATIENCE = 30.0
"""Seconds for such tasks to be done."""

CLOSING = 10.0
"""Seconds for tasks to end when the engine is closed."""


def _imported() -> Any:
    try:
        import joblib
        import joblib.parallel
    except ImportError:
        raise MissingExtraError("joblib", "joblib", "the engine joblib") from None
    return joblib


class Joblib(PlacedByDesk):
    """Runs tasks on the joblib backend that is active in the thread that makes this engine.

    joblib's own backends have the cores, GPUs and memory of this machine. Of another one (Dask's, Ray's) it is only
    known how many tasks it runs at once: each has one core there, and no GPU.

    Args:
        workers: How many tasks may run at once; None for as many as fit. It stands for ``n_jobs``, too, where that is
            not set.
        cores: How many cores this machine has; None for all that this process may use.
        gpus: Its GPUs, as ``CUDA_VISIBLE_DEVICES`` names them; None for all that are visible.
        shared: Whether the backend's workers see the study's folder.
        grace: Seconds that a running task may be silent before it is tried again.
        preload: Modules that the processes of trials import when they start.
        log_directory: Where they keep what tasks print, in the study's folder.

    Raises:
        InputError: The backend has no workers, or they cannot work for this master.
        MissingExtraError: joblib is not installed.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        cores: int | None = None,
        gpus: Sequence[str] | None = None,
        shared: bool = True,
        grace: float = GRACE,
        preload: Sequence[str] = (),
        log_directory: Path | None = None,
    ) -> None:
        joblib = _imported()
        super().__init__(workers, grace=grace, preload=preload, log_directory=log_directory, shared=shared)
        self._batch = joblib.parallel.BatchedCalls
        self._left = threading.Condition()
        self._open_calls: set[Any] = set()
        self._backend, n_jobs = joblib.parallel.get_active_backend()
        self._name = type(self._backend).__name__
        self._is_here = self._name in HERE
        self._alone: ThreadPoolExecutor | None = None
        self._jobs = 0
        with contextlib.ExitStack() as undo:
            undo.callback(self._stop)
            self._parallel = joblib.Parallel(n_jobs=workers if n_jobs is None else n_jobs, backend=self._backend)
            self._jobs = self._configured()
            others = [] if self._is_here else self._looked_around()
            office = self._open_desk(sorted({each.host for each in others}))
            if others:
                self._reach(office.address, self._each(functools.partial(_meet, obstacle, office)))
            undo.pop_all()
        here = remote_worker.facts()
        seen = (here.gpus if gpus is None else tuple(gpus)) if self._is_here else ()
        self._join(
            Host(
                key="joblib",
                name=here.host if self._is_here else self._name.removesuffix("Backend"),
                machine=here.machine,
                cores=(cores or here.cores) if self._is_here else self._jobs,
                gpus=seen,
                memory=here.memory if self._is_here else None,
                limit=self._jobs,
            )
        )

    @property
    def about(self) -> dict[str, Any]:
        return {"event": "joblib", "backend": self._name, "jobs": self._jobs}

    @property
    def introduction(self) -> list[str]:
        """What the user should know of the backend before it is used."""
        said = [f"joblib: {self._name}, {self._jobs} job{'s' * (self._jobs != 1)} at once"]
        if self._alone is not None:
            said.append(
                "note: joblib runs one job at a time unless told otherwise: ask for more with  "
                "joblib.parallel_config(n_jobs=...)  around the call, or with  engine.workers"
            )
        return said

    # The backend

    def _configured(self) -> int:
        """Starts the backend and returns how many tasks it runs at once."""
        from joblib.parallel import FallbackToBackend

        try:
            jobs = int(self._backend.configure(n_jobs=self._parallel.n_jobs, parallel=self._parallel))
        except FallbackToBackend:  # for one job joblib has no workers, but runs it by itself
            self._alone = ThreadPoolExecutor(1)
            return 1
        except Exception as error:
            raise InputError(f"joblib's {self._name} does not start: {cause_of(error)}", key="engine.name") from None
        if jobs < 1:
            raise InputError(f"joblib's {self._name} has no workers: start some", key="engine.name")
        self._backend.start_call()
        return jobs

    def _call(self, function: Callable[..., Any], args: tuple[Any, ...], over: Callable[[Any, str], None]) -> None:
        """Has the backend call a function; ``over`` is called once, with what it returned, or why it did not."""
        if self._alone is not None:
            self._alone.submit(function, *args).add_done_callback(lambda done: over(done.result(), ""))
            return
        call = object()
        with self._left:
            self._open_calls.add(call)

        def ended(result: Any, problem: str) -> None:
            with self._left:
                if call not in self._open_calls:
                    return
                self._open_calls.discard(call)
                self._left.notify_all()
            over(result, problem)

        def done(out: Any) -> None:
            try:
                (result,) = self._backend.retrieve_result_callback(out)
            except Exception as error:
                ended(None, cause_of(error))
            else:
                ended(result, "")

        def failed(future: Any) -> None:
            error = future.exception()
            if error is not None:
                ended(None, cause_of(error))

        batch = self._batch([(function, args, {})], self._backend.get_nested_backend())
        try:
            sent = self._submitted(batch, done)
        except Exception as error:
            ended(None, cause_of(error))
            return
        if hasattr(sent, "add_done_callback"):  # Dask's backend does not call back where a worker is lost
            sent.add_done_callback(failed)

    def _submitted(self, batch: Any, done: Callable[[Any], None]) -> Any:
        try:
            return self._backend.submit(batch, callback=done)
        except Exception:  # a process of loky's was killed, which ends all of them: others take their place
            self._backend.configure(n_jobs=self._parallel.n_jobs, parallel=self._parallel)
            return self._backend.submit(batch, callback=done)

    def _each(self, function: Callable[[], Any]) -> list[Any]:
        """Returns what a function returns on the workers, as far as they answer."""
        results: list[Any] = []
        problems: list[str] = []
        arrived = threading.Condition()

        def over(result: Any, problem: str) -> None:
            with arrived:
                (problems if problem else results).append(problem or result)
                arrived.notify()

        count = min(self._jobs, PROBES)
        for _ in range(count):
            self._call(function, (), over)
        with arrived:
            arrived.wait_for(lambda: len(results) + len(problems) >= count, PATIENCE)
        if not results:
            reason = problems[0] if problems else f"it said nothing for {PATIENCE:g} s"
            raise InputError(
                f"a first task on joblib's {self._name} failed ({reason}): is hpcompss installed there?",
                key="engine.name",
            )
        return list(results)

    # Workers elsewhere

    def _looked_around(self) -> list[Facts]:
        """Returns what workers on other machines say of themselves."""
        found: list[Facts] = self._each(functools.partial(_meet, remote_worker.facts))
        for each in found:
            if reason := self._mismatch(each):
                raise InputError(f"a worker on {each.host} cannot work: {reason}", key="engine.name")
        return [each for each in found if each.machine != remote_worker.machine()]

    def _reach(self, address: str | None, problems: Sequence[str]) -> None:
        for problem in filter(None, problems):
            raise InputError(
                f"workers do not reach the master at {address} ({problem}), where running trials tell how they stand",
                key="engine.name",
            )

    def submit(
        self, function: Callable[..., Any], *args: Any, resources: Resources = Resources(), light: bool = False
    ) -> PlacedFuture:
        if not light and not self._is_here and (resources.cpu > 1 or resources.gpu):
            key = "cpu" if resources.cpu > 1 else "gpu"
            raise InputError(
                f"joblib's {self._name} gives a trial one core and no GPU: lower resources.{key}, or take the "
                "engine dask or ray itself",
                key=f"resources.{key}",
            )
        return super().submit(function, *args, resources=resources, light=light)

    def capacity(self, resources: Resources) -> int:
        return 0 if not self._is_here and (resources.cpu > 1 or resources.gpu) else super().capacity(resources)

    # Tasks

    def _send(self, parcel: Parcel, order: bytes, results: list[list[bytes]]) -> Any:
        number, attempt = parcel.name

        def over(outcome: Any, problem: str) -> None:
            self._over(number, attempt, problem or outcome)

        self._call(remote_worker.run, (order, results), over)
        return None

    def _stop(self) -> None:
        with self._left:
            self._left.wait_for(lambda: not self._open_calls, CLOSING)
        if self._alone is not None:
            self._alone.shutdown()
            remote_worker.close_children()
        elif self._jobs:
            if self._closed:
                with contextlib.suppress(Exception):  # the workers may stay, but their children need not
                    self._each(functools.partial(_meet, remote_worker.close_children))
            with contextlib.suppress(Exception):
                self._backend.stop_call()
                self._backend.terminate()
        self._close_desk()


def _meet(function: Callable[..., Any], *args: Any) -> Any:
    """Returns what a function returns, after a while in which this worker takes nothing else."""
    result = function(*args)
    time.sleep(MEETING)
    return result
