from __future__ import annotations

from pathlib import Path

import pytest

from hpcompss.cluster.nodes import Node
from hpcompss.cluster.resources import project_xml, read_project, read_resources, resources_xml
from hpcompss.errors import InputError

NODES = [Node("node1", 32, 4, 64_000_000_000, "me"), Node("node2", 8)]


@pytest.fixture
def files(tmp_path):
    (tmp_path / "resources.xml").write_text(resources_xml(NODES))
    (tmp_path / "project.xml").write_text(project_xml(NODES, "/opt/COMPSs", "/tmp/a&b"))
    return tmp_path / "resources.xml", tmp_path / "project.xml"


def test_what_is_written_is_read(files):
    resources = read_resources(files[0])
    assert resources == [Node("node1", 32, 4, 64_000_000_000), Node("node2", 8)]
    assert read_project(files[1], resources) == NODES


def test_a_gpu_may_be_several_units(tmp_path):
    (tmp_path / "r.xml").write_text(resources_xml(NODES, gpu_shares=4))
    assert [node.gpu for node in read_resources(tmp_path / "r.xml")] == [16, 0]


def test_the_projects_own_files_are_valid():
    root = Path(__file__).parents[2]
    nodes = read_project(root / "project.xml", read_resources(root / "resources.xml"))
    assert [node.name for node in nodes] == ["localhost"]


def test_a_project_may_use_some_of_the_nodes_and_limit_their_tasks(files):
    text = files[1].read_text().split('    <ComputeNode Name="node2">')[0] + "</Project>"
    files[1].write_text(text.replace("<User>", "<LimitOfTasks>3</LimitOfTasks><User>"))
    (node,) = read_project(files[1], read_resources(files[0]))
    assert (node.name, node.limit) == ("node1", 3)


def test_the_nodes_of_a_cloud_are_not_known_beforehand(files):
    files[1].write_text(files[1].read_text().replace("</Project>", "<Cloud/></Project>"))
    assert read_project(files[1], read_resources(files[0])) is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<ComputingUnits>32", "<ComputingUnits>many", r":5: the element ComputingUnits must hold a whole number"),
        ("<ComputingUnits>32", "<ComputingUnits>-1", r":5: the element ComputingUnits must not be below 0"),
        ('<ComputeNode Name="node1">', "<ComputeNode>", r":3: the element ComputeNode needs the attribute Name"),
        ("<Memory>", "<Memories>", r"not valid XML"),
        ("<Interactive/>", "<Direct/>", r"the element SubmissionSystem cannot hold an element Direct"),
        (
            "            <Type>CPU</Type>\n",
            "<Typ>CPU</Typ>\n",
            r":6: .*cannot hold an element Typ; did you mean 'Type'",
        ),
        ("<MinPort>43001</MinPort>", "", r"the element Ports lacks the element MinPort"),
        ("<ResourcesList>", "<Resources>", r"not valid XML|its first element"),
    ],
)
def test_a_file_that_the_schema_rejects_is_refused_with_line_and_element(files, old, new, message):
    text = files[0].read_text()
    assert old in text
    files[0].write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        read_resources(files[0])


def test_a_second_element_where_one_is_allowed_is_refused(files):
    text = files[1].read_text().replace("<WorkingDir>", "<InstallDir>/x</InstallDir><WorkingDir>", 1)
    files[1].write_text(text)
    with pytest.raises(InputError, match="holds a second element InstallDir"):
        read_project(files[1], read_resources(files[0]))


def test_a_project_that_names_an_unknown_node_is_refused(files):
    files[0].write_text(resources_xml(NODES[:1]))
    with pytest.raises(InputError, match=r"project.xml:9: the node 'node2' is not in the resources file"):
        read_project(files[1], read_resources(files[0]))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="it cannot be read"):
        read_resources(tmp_path / "none.xml")
