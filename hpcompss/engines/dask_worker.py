"""A machine as a worker of a Dask master: what ``hpcompss worker`` runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpcompss.engines import delivery, remote_worker
from hpcompss.engines.dask import LEAVING, imported, security_of
from hpcompss.engines.messages import local_address
from hpcompss.errors import HpcompssError, InputError, cause_of

__all__ = ["serve"]

PAUSE = 1.0
"""Seconds between two tries to reach the master."""

TRY = 5.0
"""Seconds that one such try may take."""

TURN = 0.1
"""Seconds between two looks whether to end."""

FETCHING = 10.0
"""Seconds for the master to fetch results before a worker that leaves is gone."""


def serve(
    master: str,
    cpu: int,
    gpu: float,
    memory: int,
    *,
    name: str | None = None,
    certificates: Path | None = None,
    finish: float = 0.0,
    patience: float | None = None,
    fetch: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Works for a master until SIGTERM or SIGINT comes.

    Args:
        master: The address of its scheduler: ``tcp://host:8786``, ``tls://host:8786``, or ``host:8786``.
        cpu: How many cores it may use.
        gpu: How many GPUs, or a share of one.
        memory: Bytes of memory.
        name: What the master knows it by; None for its address.
        certificates: The folder of certificates, which the master has, too; None for no encryption.
        finish: Seconds that running trials have to end when this worker is told to; after that they are handed back.
        patience: Seconds after which a master that cannot be reached is given up; None for never.
        fetch: Whether data that is not here may be fetched from the master.
        say: Takes what happens, in sentences.

    Raises:
        InputError: The address is wrong, the master cannot be reached, or cannot use this worker.
        MissingExtraError: Dask is not installed.
    """
    imported()
    security = security_of(certificates)
    scheme, separator, rest = master.partition("://")
    if not separator:
        scheme, rest = "tcp" if security is None else "tls", master
    host, colon, port = rest.rpartition(":")
    if scheme not in ("tcp", "tls") or not (colon and host and port.isdecimal()):
        raise InputError(f"the master's address reads  tcp://host:8786  or  tls://host:8786, not {master!r}")
    if scheme == "tls" and security is None:
        raise InputError(f"tls://{rest} needs the certificates that the master has: state --certificates DIR")
    if scheme == "tcp" and security is not None:
        raise InputError(f"tcp://{rest} is not encrypted, so that certificates are of no use: write tls://{rest}")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    delivery.allow_fetching(fetch)
    with tempfile.TemporaryDirectory(prefix="hpcompss-worker-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {
            "nthreads": max(cpu, 1),
            "resources": {"cpu": cpu, "gpu": gpu, "memory": memory},
            "name": name or f"{os.uname().nodename}-{os.getpid()}",
            "host": local_address([host.strip("[]")]),
            "security": security,
            "memory_limit": None,  # what takes memory are the children
            "local_directory": folder,
            "dashboard": False,
            "death_timeout": TRY,
        }
        asyncio.run(_Service(f"{scheme}://{rest}", options, finish, patience, say).run())
    remote_worker.close_children()


class _Service:
    def __init__(
        self, master: str, options: dict[str, Any], finish: float, patience: float | None, say: Callable[[str], None]
    ) -> None:
        self._master = master
        self._options = options
        self._finish = finish
        self._patience = patience
        self._say = say
        self._told = asyncio.Event()
        """Whether to end."""

    async def run(self) -> None:
        """Works until told to end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told.set)
        while not self._told.is_set():
            worker = await self._join()
            if worker is None:
                return
            self._say(f"joined {self._master}: {self._options['resources']['cpu']} cores")
            await self._work(worker)
            if not self._told.is_set():
                if reason := remote_worker.refusal():
                    raise InputError(f"the master {self._master} cannot use this worker: {reason}")
                remote_worker.end_all()
                if self._patience == 0:
                    return
                self._say(f"lost {self._master}: trying to reach it again")

    async def _join(self) -> Any:
        """Returns a worker that has joined the master; None where this one is told to end before."""
        begun, said = time.monotonic(), False
        while not self._told.is_set():
            worker = None
            try:
                await self._reach()
                worker = imported().Worker(self._master, **self._options)
                joining = asyncio.ensure_future(worker)
                told = asyncio.ensure_future(self._told.wait())
                await asyncio.wait((joining, told), return_when=asyncio.FIRST_COMPLETED)
                told.cancel()
                if joining.done():
                    joining.result()
                    return worker
                joining.cancel()
            except Exception as error:
                waited = time.monotonic() - begun
                cause = cause_of(error)
                if self._patience is not None and waited >= self._patience:
                    raise HpcompssError(
                        f"no master answers at {self._master}, tried for {waited:.0f} s ({cause}): is it running, and "
                        "may it be reached from here?"
                    ) from None
                if not said:
                    said = True
                    self._say(f"no master answers at {self._master} yet ({cause}): trying on")
            if worker is not None:
                with contextlib.suppress(Exception):
                    await worker.close(timeout=1, nanny=False)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._told.wait(), PAUSE)
        return None

    async def _reach(self) -> None:
        """Raises `OSError` at once where nobody listens: Dask itself would try for long, with growing pauses."""
        host, _, port = self._master.partition("://")[2].rpartition(":")
        opening = asyncio.open_connection(host.strip("[]"), int(port))
        _, writer = await asyncio.wait_for(opening, TRY)
        writer.close()

    async def _work(self, worker: Any) -> None:
        """Returns when the worker was told to end, and has, or has lost its master."""
        closed = asyncio.ensure_future(worker.finished())
        told = asyncio.ensure_future(self._told.wait())
        while not (closed.done() or told.done() or remote_worker.refusal()):
            await asyncio.wait((closed, told), timeout=TURN, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not closed.done():
            if told.done() and self._told.is_set():
                self._say("leaving: what runs here is handed back" if not self._finish else "leaving")
            worker.log_event(LEAVING, {"worker": worker.address})
            await asyncio.get_running_loop().run_in_executor(None, remote_worker.leave, self._finish)
            until = time.monotonic() + FETCHING
            while (worker.state.executing or len(worker.data)) and time.monotonic() < until:
                await asyncio.sleep(TURN)
            with contextlib.suppress(Exception):
                await worker.close(nanny=False)
        closed.cancel()
