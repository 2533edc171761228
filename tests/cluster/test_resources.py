from __future__ import annotations

import os
import shutil
import subprocess
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
        (
            "<ComputingUnits>32",
            "<ComputingUnits>-1",
            r":5: the element ComputingUnits must be from 0 to 2147483647, not -1",
        ),
        ("<Size>64", "<Size>NaN", r"the element Size must hold a number, not 'NaN'"),
        ("<Size>64", "<Size>1e99", r"the element Size must be from 0 to"),
        ('encoding="UTF-8"', 'encoding="big5"', r":1: its encoding is not known here: write it in UTF-8"),
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


# The schemas of COMPSs: what stands for what in which file, and what is said of it, or None where it is valid.

SCHEMAS = Path(os.environ.get("COMPSS_HOME", "/opt/COMPSs"), "Runtime/configuration/xml")

CLUSTER = """<ComputingCluster Name="c"><Adaptors><Adaptor Name="a"><SubmissionSystem><Batch><Queue>q</Queue></Batch>
</SubmissionSystem></Adaptor></Adaptors>{}</ComputingCluster></ResourcesList>"""
CLUSTER_NODE = """<ClusterNode Name="n"><MaxNumNodes>4</MaxNumNodes>
<Processor Name="p"><ComputingUnits>8</ComputingUnits></Processor>{}</ClusterNode>"""
PRICE = "<Price><PricePerUnit>0.5</PricePerUnit><TimeUnit>60</TimeUnit></Price>"
DISKS = '<SharedDisks><AttachedDisk Name="d"><MountPoint>/d</MountPoint></AttachedDisk></SharedDisks>'


def in_node(xml, message=None):
    return "resources", "<Adaptors>", f"{xml}<Adaptors>", message


def in_resources(xml, message=None):
    return "resources", "</ResourcesList>", f"{xml}</ResourcesList>", message


def in_cluster(xml, message=None):
    return "resources", "</ResourcesList>", CLUSTER.format(xml), message


def in_adaptor(xml, message=None):
    return "resources", "<Ports>", f"{xml}<Ports>", message


def in_system(xml, message=None):
    return "resources", "<Interactive/>", xml, message


def in_master(xml, message=None):
    return "project", "<MasterNode/>", f"<MasterNode>{xml}</MasterNode>", message


def in_project(xml, message=None):
    return "project", "</Project>", f"{xml}</Project>", message


def in_worker(xml, message=None):
    return "project", "<InstallDir>", f"{xml}<InstallDir>", message


VARIANTS = [
    in_node("<Storage><Size>1e3</Size><Bandwidth>-5</Bandwidth><Type>x</Type><Size>INF</Size></Storage>"),
    in_node("<Storage/>"),
    in_node("<Storage>large</Storage>", "Storage cannot hold the text 'large'"),
    in_node("<Storage><Size>1_000</Size></Storage>", "Size must hold a number, not '1_000'"),
    in_node("<Storage><Bandwidth>1.5</Bandwidth></Storage>", "Bandwidth must hold a whole number, not '1.5'"),
    in_node("<Storage><Bandwidth>3000000000</Bandwidth></Storage>", "Bandwidth must be from -2147483648 to"),
    in_node("<OperatingSystem><Version>1</Version></OperatingSystem>"),
    in_node("<OperatingSystem><Type>SunOS</Type></OperatingSystem>"),
    in_node("<OperatingSystem><Type>linux</Type></OperatingSystem>", "Type must hold Linux, Windows, .*, not 'linux'"),
    in_node("<Software><Application>x</Application><Application/></Software>"),
    in_node("<Software/>", "Software lacks the element Application"),
    in_node("<Software><Application><AppDir/></Application></Software>", "Application cannot hold an element AppDir"),
    in_node(DISKS),
    in_node(DISKS.replace(' Name="d"', ""), "AttachedDisk needs the attribute Name"),
    in_node(DISKS.replace(' Name="d"', ' Name="d" Size="1"'), "AttachedDisk has no attribute Size"),
    in_node("<SharedDisks/>", "SharedDisks lacks the element AttachedDisk"),
    in_node(PRICE),
    in_node("<Price><TimeUnit>1</TimeUnit></Price>", "Price lacks the element PricePerUnit"),
    in_node("<Price><PricePerUnit>1</PricePerUnit></Price>", "Price lacks the element TimeUnit"),
    ("resources", "<Type>CPU</Type>", "<InternalMemorySize>x</InternalMemorySize>", "must hold a number, not 'x'"),
    in_adaptor("<Properties><Property><Name>a</Name><Value>b</Value></Property></Properties>"),
    in_adaptor("<Properties/>"),
    in_adaptor("<Properties><Property><Value>b</Value></Property></Properties>", "Property lacks the element Name"),
    in_adaptor(
        "<Properties><Property><Value>b</Value><Name>a</Name></Property></Properties>",
        "Property must hold Name before Value",
    ),
    in_system("<Batch><Queue>a</Queue><Queue>b</Queue></Batch>"),
    in_system("<Batch/>", "Batch lacks the element Queue"),
    in_system("<Interactive><Queue/></Interactive>", "Interactive cannot hold an element Queue; it takes none"),
    in_resources('<SharedDisk Name="d"/><SharedDisk Name="e"><Storage><Size>2</Size></Storage></SharedDisk>'),
    in_resources("<SharedDisk/>", "SharedDisk needs the attribute Name"),
    in_resources('<SharedDisk Name="d"><Storage/><Storage/></SharedDisk>', "holds a second element Storage"),
    in_resources(f'<DataNode Name="d"><Host>h</Host><Path>/p</Path>{DISKS}</DataNode>'),
    in_resources('<DataNode Name="d"><Hosts>h</Hosts></DataNode>', "cannot hold an element Hosts; did you mean 'Host'"),
    in_cluster(DISKS + CLUSTER_NODE.format(PRICE) + CLUSTER_NODE.format("<Memory><Size>4</Size></Memory>")),
    in_cluster(CLUSTER_NODE.format("") + DISKS, "ComputingCluster must hold SharedDisks before ClusterNode"),
    in_cluster("", "ComputingCluster lacks the element ClusterNode"),
    in_cluster('<ClusterNode Name="n"><MaxNumNodes>4</MaxNumNodes></ClusterNode>', "lacks the element Processor"),
    in_cluster(CLUSTER_NODE.format("").replace(">4<", ">four<"), "MaxNumNodes must hold a whole number, not 'four'"),
    in_master(f"<Storage/><Storage/><OperatingSystem/>{DISKS}{PRICE}"),
    in_master("<Adaptors/>", "MasterNode cannot hold an element Adaptors"),
    in_master("<Price/>", "Price lacks the element TimeUnit"),
    in_worker("<Application><Pythonpath>/p</Pythonpath><AppDir>/a</AppDir></Application>"),
    in_worker("<Application><PythonPath>/p</PythonPath></Application>", "Application cannot hold an .*; did you mean"),
    in_worker("<Application><AppDir/><AppDir/></Application>", "Application holds a second element AppDir"),
    in_worker("<LimitOfTasks>many</LimitOfTasks>", "LimitOfTasks must hold a whole number, not 'many'"),
    in_project('<DataNode Name="d"/>'),
    in_project('<DataNode Name="d"><Host>h</Host></DataNode>', "DataNode cannot hold an element Host"),
    in_project('<SharedDisk Name="d"/>', "Project cannot hold an element SharedDisk"),
    in_project(
        '<ComputingCluster Name="c"><User>u</User><ClusterNode><NumberOfNodes>4</NumberOfNodes></ClusterNode>'
        "<LimitOfTasks>-1</LimitOfTasks><WorkingDir/></ComputingCluster>"
    ),
    in_project('<ComputingCluster Name="c"/>'),
    in_project('<ComputingCluster Name="c"><ClusterNode/></ComputingCluster>', "lacks the element NumberOfNodes"),
    in_project(
        '<ComputingCluster Name="c"><Price/></ComputingCluster>', "ComputingCluster cannot hold an element Price"
    ),
]


def write_variant(files, which, old, new):
    file = files[which == "project"]
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    return file


@pytest.mark.parametrize(("which", "old", "new", "message"), VARIANTS)
def test_all_parts_of_a_file_are_checked(files, which, old, new, message):
    nodes = read_resources(files[0])
    file = write_variant(files, which, old, new)

    def read():
        return read_resources(file) if which == "resources" else read_project(file, nodes)

    if message is None:
        assert read() in (nodes, NODES, None)
    else:
        with pytest.raises(InputError, match=rf"{which}.xml:\d+: the element .*{message}"):
            read()


def test_what_compss_refuses_although_its_schema_does_not_is_refused(files):
    first, _, rest = files[0].read_text().partition("        <Adaptors>")
    files[0].write_text(first + rest.partition("</Adaptors>\n")[2])
    with pytest.raises(InputError, match=":3: the element ComputeNode lacks the element Adaptors"):
        read_resources(files[0])
    files[0].write_text(
        '<ResourcesList>\n<ComputeNode Name="a"><Memory><Size>4</Size></Memory></ComputeNode></ResourcesList>'
    )
    with pytest.raises(InputError, match=":2: the element ComputeNode lacks the element Processor"):
        read_resources(files[0])


@pytest.mark.skipif(not SCHEMAS.is_dir(), reason="needs COMPSs's schemas, at COMPSS_HOME or /opt/COMPSs")
@pytest.mark.skipif(shutil.which("xmllint") is None, reason="needs xmllint")
@pytest.mark.parametrize(("which", "old", "new", "message"), VARIANTS)
def test_the_schemas_of_compss_agree(files, which, old, new, message):
    file = write_variant(files, which, old, new)
    schema = {"resources": "resources/resources_schema.xsd", "project": "projects/project_schema.xsd"}[which]
    command = ["xmllint", "--noout", "--nonet", "--schema", str(SCHEMAS / schema), str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode == 0) == (message is None), done.stderr
