"""COMPSs's two files: ``resources.xml`` (what each node has) and ``project.xml`` (which nodes a run uses, and how)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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
    """What COMPSs's schema has an element hold.

    Attributes:
        children: Elements: each at most once, with ``!`` once, with ``+`` once or more, with ``*`` any number of times.
        ordered: Whether they must stand in this order.
        attributes: Attributes, with ``!`` those that it needs.
        text: The pattern of its text, or None where it holds elements only.
        form: What the pattern stands for.
        bounds: The smallest and the largest number it may hold, or None.
    """

    children: str = ""
    ordered: bool = False
    attributes: str = ""
    text: str | None = None
    form: str = ""
    bounds: tuple[int, int] | None = None


_DECIMAL = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"

_TEXT = _Rule(text=r"(?s:.*)")
_INTEGER = _Rule(text=r"\s*[+-]?[0-9]+\s*", form="a whole number", bounds=(-(2**31), 2**31 - 1))
_COUNT = replace(_INTEGER, bounds=(0, 2**31 - 1))
_NUMBER = _Rule(text=rf"\s*({_DECIMAL}|-?INF|NaN)\s*", form="a number")
_AMOUNT = replace(_NUMBER, text=rf"\s*{_DECIMAL}\s*", bounds=(0, 10**15))

# Where the schema lets an element's content be left out or repeated, but COMPSs then stops, this is stricter:
# for compute nodes, processors, memories and adaptors. None: the inside is not checked.
_COMMON: dict[str, _Rule | None] = {
    "Processor": _Rule(
        "ComputingUnits! Architecture* Speed Type InternalMemorySize ProcessorProperty", attributes="Name!"
    ),
    "ComputingUnits": _COUNT,
    "Speed": _AMOUNT,
    "InternalMemorySize": _NUMBER,
    "ProcessorProperty": _Rule("Key! Value!", ordered=True),
    "Memory": _Rule("Size! Type"),
    "Memory/Size": _AMOUNT,
    "Storage": _Rule("Size* Type* Bandwidth*"),
    "Storage/Size": _NUMBER,
    "Bandwidth": _INTEGER,
    "OperatingSystem": _Rule("Type* Distribution* Version*"),
    "OperatingSystem/Type": _Rule(
        text="Linux|Windows|MacOS|FreeBSD|SunOS", form="Linux, Windows, MacOS, FreeBSD or SunOS"
    ),
    "Software": _Rule("Application+"),
    "SharedDisks": _Rule("AttachedDisk+"),
    "AttachedDisk": _Rule("MountPoint!", attributes="Name!"),
    "Price": _Rule("TimeUnit! PricePerUnit!"),
    "TimeUnit": _INTEGER,
    "PricePerUnit": _NUMBER,
    "Adaptors": _Rule("Adaptor+"),
    "SubmissionSystem": _Rule("Batch Interactive"),
    "Interactive": _Rule(),
    "MinPort": _COUNT,
    "MaxPort": _COUNT,
    "Properties": _Rule("Property*"),
    "Property": _Rule("Name! Value!", ordered=True),
    "Service": None,
    "Http": None,
}
_RESOURCES = {
    **_COMMON,
    "ResourcesList": _Rule("SharedDisk* DataNode* ComputeNode* Service* CloudProvider* Http* ComputingCluster*"),
    "SharedDisk": _Rule("Storage", attributes="Name!"),
    "DataNode": _Rule("Host* Path* Adaptors* Storage* SharedDisks*", attributes="Name!"),
    "ComputeNode": _Rule(
        "Processor+ Adaptors! Memory Storage OperatingSystem Software SharedDisks Price", attributes="Name!"
    ),
    "ComputingCluster": _Rule(
        "Adaptors! OperatingSystem Software SharedDisks ClusterNode+", ordered=True, attributes="Name!"
    ),
    "ClusterNode": _Rule("MaxNumNodes! Processor+ Price Memory Storage", ordered=True, attributes="Name!"),
    "MaxNumNodes": _INTEGER,
    "Adaptor": _Rule("SubmissionSystem! Ports BrokerAdaptor User Properties", attributes="Name!"),
    "Batch": _Rule("Queue+"),
    "Ports": _Rule("MinPort! MaxPort! SpawnerPort RemoteExecutionCommand", ordered=True),
    "SpawnerPort": _INTEGER,
    "CloudProvider": None,
}
_PROJECT = {
    **_COMMON,
    "Project": _Rule("MasterNode! ComputeNode* DataNode* Service* Http* Cloud ComputingCluster*"),
    "MasterNode": _Rule("Processor* Memory* Storage* OperatingSystem* Software* SharedDisks* Price*"),
    "DataNode": _Rule("Adaptors*", attributes="Name!"),
    "ComputeNode": _Rule("InstallDir! WorkingDir! User Application LimitOfTasks Adaptors", attributes="Name!"),
    "ComputeNode/LimitOfTasks": _COUNT,
    "Application": _Rule("AppDir LibraryPath Classpath Pythonpath EnvironmentScript PythonInterpreter"),
    "Software/Application": _TEXT,
    "ComputingCluster": _Rule(
        "LimitOfTasks* InstallDir* WorkingDir* ClusterNode* Software* User* Application* Adaptors*", attributes="Name!"
    ),
    "LimitOfTasks": _INTEGER,
    "ClusterNode": _Rule("NumberOfNodes!", attributes="Name"),
    "NumberOfNodes": _INTEGER,
    "Adaptor": _Rule(
        "SubmissionSystem! Ports BrokerAdaptor User KnownHostsPath IdentityPath* Properties", attributes="Name!"
    ),
    "Batch": _Rule("Queue+ BatchProperties", ordered=True),
    "BatchProperties": _Rule("Port MaxExecTime Reservation QOS FileCFG", ordered=True),
    "Port": _INTEGER,
    "MaxExecTime": replace(_INTEGER, bounds=(-(2**63), 2**63 - 1)),
    "Ports": _Rule("MinPort! MaxPort!", ordered=True),
    "Cloud": None,
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


def _checked(path: Path, root_name: str, rules: Mapping[str, _Rule | None]) -> _Element:
    root = _parsed(path)
    if root.name != root_name:
        raise InputError(f"its first element is {root.name}, not {root_name}", file=path, line=root.line)
    try:
        _check(root, "", rules)
    except InputError as error:
        raise InputError(error.message, file=path, line=error.line) from None
    return root


def _check(element: _Element, parent: str, rules: Mapping[str, _Rule | None]) -> None:
    """Refuses what COMPSs's schema would; a rule for an element in its parent goes before one for it anywhere."""
    rule = rules.get(f"{parent}/{element.name}", rules.get(element.name, _TEXT))
    if rule is None:
        return
    _check_attributes(element, rule)
    _check_text(element, rule)
    _check_children(element, rule)
    for child in element.children:
        _check(child, element.name, rules)


def _check_attributes(element: _Element, rule: _Rule) -> None:
    known = rule.attributes.split()
    for needed in (name.rstrip("!") for name in known if name.endswith("!")):
        if not element.attributes.get(needed):
            raise InputError(f"the element {element.name} needs the attribute {needed}", line=element.line)
    for name in element.attributes:
        if f"{name}!" not in known and name not in known and not name.startswith(("xmlns", "xsi:")):
            raise InputError(f"the element {element.name} has no attribute {name}: remove it", line=element.line)


def _check_text(element: _Element, rule: _Rule) -> None:
    what, text = f"the element {element.name}", element.text.strip()
    if rule.text is None:
        if text:
            raise InputError(f"{what} cannot hold the text {text!r}: remove it", line=element.line)
        return
    if not re.fullmatch(rule.text, element.text, re.ASCII):
        raise InputError(f"{what} must hold {rule.form}, not {text!r}", line=element.line)
    if rule.bounds and not rule.bounds[0] <= float(text) <= rule.bounds[1]:
        raise InputError(f"{what} must be from {rule.bounds[0]} to {rule.bounds[1]}, not {text}", line=element.line)


def _check_children(element: _Element, rule: _Rule) -> None:
    what, seen = f"the element {element.name}", [""]
    known = {name.rstrip("!+*"): name[-1] for name in rule.children.split()}
    order = ["", *known]
    for child in element.children:
        if child.name not in known:
            hint = nearest(child.name, known) if known else "it takes none"
            raise InputError(f"{what} cannot hold an element {child.name}; {hint}", line=child.line)
        if child.name in seen and known[child.name] not in "+*":
            raise InputError(f"{what} holds a second element {child.name}: remove one", line=child.line)
        if rule.ordered and order.index(child.name) < order.index(seen[-1]):
            raise InputError(f"{what} must hold {child.name} before {seen[-1]}", line=child.line)
        seen.append(child.name)
    for name, mark in known.items():
        if mark in "!+" and name not in seen:
            raise InputError(f"{what} lacks the element {name}", line=element.line)


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
    except (LookupError, ValueError):
        raise InputError("its encoding is not known here: write it in UTF-8", file=path, line=1) from None
    return root.children[0]
