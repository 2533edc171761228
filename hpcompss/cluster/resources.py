"""COMPSs's two files: ``resources.xml`` (what each node has) and ``project.xml`` (which nodes a run uses, and how)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from hpcompss.cluster.nodes import GIGABYTE, Node
from hpcompss.errors import InputError, nearest

__all__ = ["project_xml", "read_project", "read_resources", "resources_xml"]

NIO = "es.bsc.compss.nio.master.NIOAdaptor"
"""The adaptor through which COMPSs reaches its workers."""

PORTS = (43001, 43101)
"""The ports between which a worker listens."""


# Writing


def resources_xml(nodes: Sequence[Node], gpu_shares: int = 1) -> str:
    """Returns ``resources.xml`` for nodes.

    Args:
        nodes: The nodes.
        gpu_shares: How many units each GPU is, so that a trial may ask for a fraction of one.
    """
    return "".join(
        [_HEAD, "<ResourcesList>\n", *(_resources_of(node, gpu_shares) for node in nodes), "</ResourcesList>\n"]
    )


_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'


def _resources_of(node: Node, gpu_shares: int) -> str:
    gpus = ""
    if node.gpu:
        gpus = f"""        <Processor Name="GPUs">
            <ComputingUnits>{node.gpu * gpu_shares}</ComputingUnits>
            <Type>GPU</Type>
        </Processor>
"""
    memory = ""
    if node.memory is not None:
        memory = f"        <Memory>\n            <Size>{node.memory / GIGABYTE:g}</Size>\n        </Memory>\n"
    return f"""    <ComputeNode Name={quoteattr(node.name)}>
        <Processor Name="CPUs">
            <ComputingUnits>{node.cpu}</ComputingUnits>
            <Type>CPU</Type>
        </Processor>
{gpus}{memory}        <Adaptors>
            <Adaptor Name="{NIO}">
                <SubmissionSystem>
                    <Interactive/>
                </SubmissionSystem>
                <Ports>
                    <MinPort>{PORTS[0]}</MinPort>
                    <MaxPort>{PORTS[1]}</MaxPort>
                </Ports>
            </Adaptor>
        </Adaptors>
    </ComputeNode>
"""


def project_xml(nodes: Sequence[Node], install_dir: str, working_dir: str) -> str:
    """Returns ``project.xml`` for nodes.

    Args:
        nodes: The nodes.
        install_dir: Where COMPSs is installed on them.
        working_dir: Where its workers keep their files.
    """
    return "".join(
        [
            _HEAD,
            "<Project>\n    <MasterNode/>\n",
            *(_project_of(node, install_dir, working_dir) for node in nodes),
            "</Project>\n",
        ]
    )


def _project_of(node: Node, install_dir: str, working_dir: str) -> str:
    user = f"        <User>{escape(node.user)}</User>\n" if node.user else ""
    return f"""    <ComputeNode Name={quoteattr(node.name)}>
        <InstallDir>{escape(install_dir)}</InstallDir>
        <WorkingDir>{escape(working_dir)}</WorkingDir>
{user}    </ComputeNode>
"""


# Reading


@dataclass
class _Element:
    name: str
    attributes: dict[str, str]
    line: int
    children: list[_Element] = field(default_factory=list)
    text: str = ""

    def all(self, name: str) -> list[_Element]:
        return [child for child in self.children if child.name == name]

    def value(self, name: str) -> str | None:
        found = self.all(name)
        return found[0].text.strip() if found else None


@dataclass(frozen=True)
class _Rule:
    """What an element of COMPSs's schema may hold: names of children, a ``!`` after those it needs."""

    children: str = ""
    several: str = ""
    kind: type = str
    named: bool = False

    @property
    def known(self) -> list[str]:
        return [name.rstrip("!") for name in self.children.split()]


_PROCESSOR = _Rule(
    "ComputingUnits! Architecture Speed Type InternalMemorySize ProcessorProperty", several="Architecture", named=True
)
_ADAPTORS = {
    "Adaptors": _Rule("Adaptor!", several="Adaptor"),
    "Adaptor": _Rule("SubmissionSystem! Ports BrokerAdaptor User Properties", named=True),
    "SubmissionSystem": _Rule("Batch Interactive"),
    "Ports": _Rule("MinPort! MaxPort! SpawnerPort RemoteExecutionCommand"),
    "MinPort": _Rule(kind=int),
    "MaxPort": _Rule(kind=int),
}
_COMMON = {
    **_ADAPTORS,
    "Processor": _PROCESSOR,
    "ComputingUnits": _Rule(kind=int),
    "Speed": _Rule(kind=float),
    "Memory": _Rule("Size! Type"),
    "Size": _Rule(kind=float),
}
_RESOURCES = {
    **_COMMON,
    "ResourcesList": _Rule(
        "SharedDisk DataNode ComputeNode Service CloudProvider Http ComputingCluster",
        several="SharedDisk DataNode ComputeNode Service CloudProvider Http ComputingCluster",
    ),
    "ComputeNode": _Rule(
        "Processor! Adaptors! Memory Storage OperatingSystem Software SharedDisks Price",
        several="Processor",
        named=True,
    ),
}
_PROJECT = {
    **_COMMON,
    "Project": _Rule(
        "MasterNode! ComputeNode DataNode Service Http Cloud ComputingCluster",
        several="ComputeNode DataNode Service Http ComputingCluster",
    ),
    "ComputeNode": _Rule("InstallDir! WorkingDir! User Application LimitOfTasks Adaptors", named=True),
    "LimitOfTasks": _Rule(kind=int),
}


def read_resources(path: Path) -> list[Node]:
    """Returns the compute nodes of a resources file.

    Raises:
        InputError: It cannot be read, or COMPSs's schema rejects it; names file, line and element.
    """
    root = _checked(path, "ResourcesList", _RESOURCES)
    return [_node_of(element) for element in root.all("ComputeNode")]


def read_project(path: Path, nodes: Sequence[Node]) -> list[Node] | None:
    """Returns those nodes that a project file uses, with the user and the limit it states.

    Returns None where it uses a cloud or a cluster's queue as well, of which COMPSs takes nodes as it needs them.

    Raises:
        InputError: It cannot be read, COMPSs's schema rejects it, or it names a node that is not among ``nodes``.
    """
    root = _checked(path, "Project", _PROJECT)
    known = {node.name: node for node in nodes}
    used = []
    for element in root.all("ComputeNode"):
        name = element.attributes["Name"]
        if name not in known:
            raise InputError(
                f"the node {name!r} is not in the resources file; {nearest(name, known)}", file=path, line=element.line
            )
        limit = element.value("LimitOfTasks")
        used.append(replace(known[name], user=element.value("User"), limit=int(limit) if limit else None))
    return None if root.all("Cloud") or root.all("ComputingCluster") else used


def _node_of(element: _Element) -> Node:
    units = {"CPU": 0, "GPU": 0}
    for processor in element.all("Processor"):
        kind = (processor.value("Type") or "CPU").upper()
        units[kind] = units.get(kind, 0) + int(processor.value("ComputingUnits") or 0)
    memories = [memory.value("Size") for memory in element.all("Memory")]
    memory = round(float(memories[0]) * GIGABYTE) if memories and memories[0] else None
    return Node(element.attributes["Name"], units["CPU"], units["GPU"], memory)


def _checked(path: Path, root_name: str, rules: dict[str, _Rule]) -> _Element:
    root = _parsed(path)
    if root.name != root_name:
        raise InputError(f"its first element is {root.name}, not {root_name}", file=path, line=root.line)
    _check(path, root, rules)
    return root


def _check(path: Path, element: _Element, rules: dict[str, _Rule]) -> None:
    """Refuses what COMPSs's schema would, in what this package reads or writes."""
    rule = rules.get(element.name)
    if rule is None:
        return
    name = f"element {element.name}"
    if rule.named and not element.attributes.get("Name"):
        raise InputError(f"the {name} needs the attribute Name", file=path, line=element.line)
    if rule.kind is not str:
        try:
            number = rule.kind(element.text.strip())
        except ValueError:
            kind = "a whole number" if rule.kind is int else "a number"
            raise InputError(
                f"the {name} must hold {kind}, not {element.text.strip()!r}", file=path, line=element.line
            ) from None
        if number < 0:
            raise InputError(f"the {name} must not be below 0", file=path, line=element.line)
    seen: set[str] = set()
    for child in element.children:
        if child.name not in rule.known:
            hint = nearest(child.name, rule.known) if rule.known else "it takes none"
            raise InputError(f"the {name} cannot hold an element {child.name}; {hint}", file=path, line=child.line)
        if child.name in seen and child.name not in rule.several.split():
            raise InputError(f"the {name} holds a second element {child.name}: remove one", file=path, line=child.line)
        seen.add(child.name)
        _check(path, child, rules)
    for needed in (each.rstrip("!") for each in rule.children.split() if each.endswith("!")):
        if needed not in seen:
            raise InputError(f"the {name} lacks the element {needed}", file=path, line=element.line)


def _parsed(path: Path) -> _Element:
    root = _Element("", {}, 0)
    stack = [root]
    parser = expat.ParserCreate()

    def start(name: str, attributes: dict[str, str]) -> None:
        element = _Element(name, attributes, parser.CurrentLineNumber)
        stack[-1].children.append(element)
        stack.append(element)

    def add(text: str) -> None:
        stack[-1].text += text

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda name: stack.pop()
    parser.CharacterDataHandler = add
    try:
        parser.Parse(path.read_bytes(), True)
    except OSError as error:
        raise InputError(f"it cannot be read ({error.strerror})", file=path) from None
    except expat.ExpatError as error:
        raise InputError(
            f"this is not valid XML ({expat.ErrorString(error.code)})", file=path, line=error.lineno
        ) from None
    return root.children[0]
