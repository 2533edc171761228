"""What the master knows of its COMPSs tasks: their futures, and how much room the running ones leave on the nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from hpcompss.cluster.nodes import Node, gpu_units, slots
from hpcompss.engines.future import PickledFuture
from hpcompss.trial import Resources

__all__ = ["CompssFuture", "Room", "in_order"]


class CompssFuture(PickledFuture):
    """A task of the COMPSs engine. Its attributes are the engine's to set.

    Attributes:
        owner: Identifies the engine.
        number: Its place in the order of submission.
        resources: What it asks for.
        light: Whether it is a light one.
        handle: What PyCOMPSs returned for it, or its outcome where that is known without COMPSs.
        attempt: How often it was submitted before.
        deaths: How often its process or node was lost.
        unstarted: How often it did not start although nothing else ran.
        held: Whether it waits in the master for one that runs to end.
        told: Whether the task has told that its result is there; it is fetched when somebody waits for it.
        successors: How many tasks that take its result are not over.
        submitted: When it was last submitted (`time.monotonic` seconds).
        startable: Since when there has been room for it, or None.
        patience: Seconds for it to start in where a process is known to have died; longer after each try.
        heard: When it was last heard of since it started.
        gone: When its line to the master broke, if nothing was heard since.
        node: The name of the node it runs on.
    """

    def __init__(
        self,
        owner: object,
        number: int,
        resources: Resources,
        light: bool,
        task: bytes,
        dependencies: Sequence[CompssFuture],
    ) -> None:
        super().__init__()
        self.owner = owner
        self.number = number
        self.resources = resources
        self.light = light
        self.handle: Any = None
        self.attempt = 0
        self.deaths = 0
        self.unstarted = 0
        self.held = False
        self.told = False
        self.successors = 0
        self.submitted = 0.0
        self.startable: float | None = None
        self.patience = 0.0
        self.heard = 0.0
        self.gone: float | None = None
        self.node = ""
        self.task = task
        self.dependencies = dependencies
        self.handles: list[Any] = []

    @property
    def over(self) -> bool:
        """Whether it needs nothing more of the engine: its result is known, or surely there."""
        return self.done or self.told

    def settle(self, pickled: bytes) -> None:
        """Takes the pickled result."""
        self._pickled = pickled
        self.done = True
        self.forget()

    def forget(self) -> None:
        """Lets go of what only another attempt would need."""
        self.task = b""
        self.dependencies = ()
        self.handles = []


def in_order(futures: Iterable[CompssFuture]) -> list[CompssFuture]:
    """Returns futures in the order of their submission."""
    return sorted(futures, key=lambda future: future.number)


class Room:
    """How much is left on the nodes beside the tasks that run.

    Args:
        nodes: The nodes, or None where they are not known.
        running: The tasks that run.
        gpu_shares: How many units are one GPU.
        slots: How many tasks run at once where the nodes are not known.
    """

    def __init__(
        self, nodes: Sequence[Node] | None, running: Sequence[CompssFuture], gpu_shares: int, slots: int
    ) -> None:
        self._slots = slots - len(running)
        self._gpu_shares = gpu_shares
        self._nodes = None if nodes is None else list(nodes)
        for future in running if nodes is not None else ():
            self._hold(future.resources, future.node)

    def _hold(self, resources: Resources, name: str) -> None:
        """Takes a task's share of its node; of each node where it is on one of another name."""
        nodes = self._nodes or []
        known = any(node.name == name for node in nodes)
        self._nodes = [self._less(node, resources) if node.name == name or not known else node for node in nodes]

    def _less(self, node: Node, resources: Resources) -> Node:
        return replace(
            node,
            cpu=node.cpu - resources.cpu,
            gpu=node.gpu - gpu_units(resources.gpu, self._gpu_shares),
            memory=None if node.memory is None else node.memory - (resources.memory or 0),
            limit=None if node.limit is None else node.limit - 1,
        )

    def claim(self, resources: Resources) -> bool:
        """Takes the room for one task more, and returns whether there was any."""
        if self._nodes is None:
            self._slots -= 1
            return self._slots >= 0
        for index, node in enumerate(self._nodes):
            if slots([node], resources, self._gpu_shares) > 0:
                self._nodes[index] = self._less(node, resources)
                return True
        return False
