"""What the engines share whose framework carries tasks and outcomes but no news: those come to a desk in the master."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from hpcompss.engines.messages import Desk, Line, Message, Office, local_address
from hpcompss.engines.placed import Parcel, Placed
from hpcompss.engines.remote_worker import DeskChannel
from hpcompss.errors import InputError

__all__ = ["PlacedByDesk", "obstacle"]

NOBODY = -1
"""Stands for a task where the way to the master is only tried."""


class PlacedByDesk(Placed):
    """An engine whose tasks reach the master by its desk. A subclass opens that, and closes it at the end."""

    _desk: Desk | None = None

    def _open_desk(self, others: Iterable[str]) -> Office:
        """Opens the desk, on the loopback's address where all workers are on this machine.

        Args:
            others: The host names of other machines that workers are on.

        Raises:
            InputError: It cannot listen there.
        """
        address, secret = local_address(others), secrets.token_bytes(32)
        try:
            self._desk = Desk(address, 0, secret, self._heard)
        except OSError as error:
            raise InputError(
                f"the master cannot listen on {address} ({error.strerror or error}), the address that workers would "
                "reach it by: does this machine's host name stand for another machine?",
                key="engine",
            ) from None
        office = Office(self._desk.address, self._desk.port, None, secret)
        self._open(DeskChannel(office))
        return office

    def _close_desk(self) -> None:
        if self._desk is not None:
            self._desk.close()

    def _heard(self, message: Message) -> Message | None:
        """Takes a message, in the desk's thread."""
        number, attempt, event = message["task"], message["attempt"], message["event"]
        if event == "gone":
            return None
        self._news(number, attempt, message.get("values"))
        future = self._running.get(number)
        unwanted = future is None or future.attempt != attempt
        return {"cancel": unwanted} if unwanted or event == "start" else None

    def _recall(self, parcel: Parcel) -> None:
        if self._desk is not None:
            for number, attempt in parcel.names:
                self._desk.tell(number, attempt, {"cancel": True})


def obstacle(office: Office) -> str:
    """Returns why the master's desk cannot be reached from here, or nothing."""
    with Line(office, NOBODY, 0) as line:
        return "" if line.found and line.start() else line.problem or "it does not answer"
