"""The nodes of a cluster: what each has, as the user states it, and what of a trial's shape fits on them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hpcompss.engines.placement import size
from hpcompss.errors import InputError, nearest
from hpcompss.trial import Resources
from hpcompss.units import parse_memory

__all__ = ["Node", "gpu_units", "impossible", "parse_node", "read_hosts", "slots"]

ROUNDING = 1e-9

GIGABYTE = 1_000_000_000


@dataclass(frozen=True)
class Node:
    """One machine.

    Attributes:
        name: Its host name.
        cpu: CPU units: cores.
        gpu: GPU units: GPUs, or shares of GPUs.
        memory: Bytes, or None where unknown, which then bounds nothing.
        user: Who logs in there by ssh, or None.
        limit: How many tasks may run there at once, or None.
    """

    name: str
    cpu: int
    gpu: int = 0
    memory: int | None = None
    user: str | None = None
    limit: int | None = None


def gpu_units(gpu: float, shares: int) -> int:
    """Returns how many GPU units a trial asks for.

    Args:
        gpu: GPUs, or a fraction of one.
        shares: How many units are one GPU.

    Raises:
        InputError: A fraction is asked for where units are whole GPUs.
    """
    if gpu % 1 and shares == 1:
        raise InputError(
            f"a trial asks for {gpu:g} GPU, but the resources file declares whole GPUs: write one with  hpcompss "
            f"resources ... --gpu-shares {int(1 / gpu)}, and state engine.gpu_shares",
            key="resources.gpu",
        )
    if gpu == 0 or gpu >= 1:
        return int(gpu) * shares
    # As many as leave no remainder that is too small for another: no trial shall have shares of two GPUs.
    return shares // _per_gpu(gpu, shares)


def _per_gpu(gpu: float, shares: int) -> int:
    """Returns how many trials that ask for a fraction share a GPU."""
    return shares // math.ceil(gpu * shares - ROUNDING)


def slots(nodes: Sequence[Node], resources: Resources, gpu_shares: int = 1) -> int:
    """Returns how many tasks of a shape run at once on the nodes; 0 when none ever can."""
    gpu_units(resources.gpu, gpu_shares)
    return sum(_slots(node, resources, gpu_shares) for node in nodes)


def _slots(node: Node, resources: Resources, gpu_shares: int) -> int:
    bounds = [node.cpu // resources.cpu]
    if resources.gpu:
        gpus = node.gpu // gpu_shares
        bounds.append(gpus // int(resources.gpu) if resources.gpu >= 1 else gpus * _per_gpu(resources.gpu, gpu_shares))
    if resources.memory and node.memory is not None:
        bounds.append(node.memory // resources.memory)
    if node.limit is not None:
        bounds.append(node.limit)
    return min(bounds)


def impossible(nodes: Sequence[Node], resources: Resources, gpu_shares: int = 1) -> InputError:
    """Returns the error for a task that no node could ever run."""
    cpu = max((node.cpu for node in nodes), default=0)
    gpu = max((node.gpu for node in nodes), default=0) / gpu_shares
    if resources.cpu > cpu:
        key, wanted, there = "cpu", f"{resources.cpu} cpus", str(cpu)
    elif resources.gpu > gpu:
        key, wanted, there = "gpu", f"{resources.gpu:g} GPU{'s' * (resources.gpu > 1)}", f"{gpu:g}"
    elif resources.memory and resources.memory > max((node.memory or 0 for node in nodes), default=0):
        key, wanted = "memory", f"{size(resources.memory)} of memory"
        there = size(max((node.memory or 0 for node in nodes), default=0))
    else:
        return InputError(
            f"no node has all that a trial asks for at once ({resources.cpu} cpus, {resources.gpu:g} GPUs"
            f"{f', {size(resources.memory)}' if resources.memory else ''}): lower resources.cpu",
            key="resources.cpu",
        )
    return InputError(
        f"a trial asks for {wanted}, the largest node has {there}: lower resources.{key}", key=f"resources.{key}"
    )


_PART = re.compile(r"(\d+)\s*(cpu|gpu)s?", re.IGNORECASE)


def parse_node(text: str) -> Node:
    """Returns the node that an argument such as ``node1:32cpu:4gpu:64GB`` states, ``user@node1`` for another user.

    Raises:
        InputError: It does not read so.
    """
    form = "write it as  node1:32cpu:4gpu:64GB  (the number of CPUs is needed)"
    name, *parts = text.split(":")
    user, _, host = name.rpartition("@")
    found: dict[str, int] = {}
    for part in parts:
        match = _PART.fullmatch(part.strip())
        if match is not None:
            key, value = match[2].lower(), int(match[1])
        else:
            try:
                key, value = "memory", parse_memory(part.strip())
            except ValueError:
                raise InputError(
                    f"{part!r} in the node {text!r} is no amount of CPUs, GPUs or memory: {form}"
                ) from None
        if key in found:
            raise InputError(f"the node {text!r} states its {key} twice: {form}")
        found[key] = value
    return _node({"name": host, "user": user or None, **found}, f"the node {text!r}", form)


def read_hosts(path: Path) -> list[Node]:
    """Returns the nodes of a YAML file: a list of ``{name: node1, cpu: 32, gpu: 4, memory: 64GB, user: me}``.

    Raises:
        InputError: It cannot be read, or a node is not stated as it must be; names file and line.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise InputError(f"the hosts cannot be read ({reason})", file=path) from None
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise InputError(f"this is not valid YAML ({problem})", file=path, line=mark and mark.line + 1) from None
    form = "each host reads  {name: node1, cpu: 32, gpu: 4, memory: 64GB}"
    if not isinstance(root, yaml.SequenceNode) or not root.value:
        raise InputError(f"the hosts must be a list: {form}", file=path, line=1)
    nodes: list[Node] = []
    for each in root.value:
        line = each.start_mark.line + 1
        try:
            settings = yaml.SafeLoader("").construct_document(each)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            raise InputError(
                f"this host cannot be read ({error.problem}): {form}", file=path, line=mark.line + 1 if mark else line
            ) from None
        except (AttributeError, LookupError, TypeError, ValueError):  # of a scalar that is not what its tag says
            raise InputError(f"this host holds a value that cannot be read: {form}", file=path, line=line) from None
        try:
            node = parse_node(settings) if isinstance(settings, str) else _node(settings, "this host", form)
            if node.name in [other.name for other in nodes]:
                raise InputError(f"the host {node.name} is listed twice: remove one")
        except InputError as error:
            raise InputError(error.message, file=path, line=line, key=error.key) from None
        nodes.append(node)
    return nodes


def _node(settings: Any, what: str, form: str) -> Node:
    if not isinstance(settings, Mapping):
        raise InputError(f"{what} is no mapping: {form}")
    known = ("name", "cpu", "gpu", "memory", "user")
    for key in settings:
        if key not in known:
            raise InputError(f"{what} has the unknown key {key!r}; {nearest(str(key), known)}", key=str(key))
    name = settings.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name):
        raise InputError(f"{what} needs a host name: {form}", key="name")
    if settings.get("cpu") is None:
        raise InputError(f"{what} states no CPUs: {form}", key="cpu")
    counts = {"cpu": settings["cpu"], "gpu": 0 if settings.get("gpu") is None else settings["gpu"]}
    for key, least in (("cpu", 1), ("gpu", 0)):
        count = counts[key]
        if isinstance(count, bool) or not isinstance(count, int) or count < least:
            raise InputError(f"{what} needs its {key}, a whole number of at least {least}, not {count!r}", key=key)
    try:
        memory = None if settings.get("memory") is None else parse_memory(settings["memory"])
    except ValueError as error:
        raise InputError(f"the memory of {what} is not right ({error})", key="memory") from None
    user = settings.get("user")
    if user is not None and not (isinstance(user, str) and re.fullmatch(r"\w[\w.@+$\\-]*", user)):
        raise InputError(f"{what} needs the name of a user who logs in there, not {user!r}", key="user")
    return Node(name, counts["cpu"], counts["gpu"], memory, user)
