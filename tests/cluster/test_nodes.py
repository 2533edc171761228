from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcompss.cluster.nodes import Node, gpu_units, impossible, parse_node, read_hosts, slots
from hpcompss.errors import InputError
from hpcompss.trial import Resources


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("node1:32cpu:4gpu:64GB", Node("node1", 32, 4, 64_000_000_000)),
        ("me@node1.site:8cpus", Node("node1.site", 8, user="me")),
        ("n:1gpu:2cpu", Node("n", 2, 1)),
    ],
)
def test_a_node_reads_as_it_is_stated(text, node):
    assert parse_node(text) == node


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("node1", "the node 'node1' states no CPUs: write it as  node1:32cpu:4gpu:64GB"),
        ("a b@node1:4cpu", "needs the name of a user who logs in there, not 'a b'"),
        ("-v@node1:4cpu", "needs the name of a user who logs in there, not '-v'"),
        ("node1:0cpu", "at least 1, not 0"),
        ("node1:4cores", "'4cores' .* is no amount of CPUs, GPUs or memory"),
        ("node1:4cpu:8cpu", "states its cpu twice"),
        (":4cpu", "needs a host name"),
        ("a b:4cpu", "needs a host name"),
    ],
)
def test_a_node_that_does_not_read_so_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse_node(text)


def test_hosts_are_read_from_a_file(tmp_path):
    file = tmp_path / "hosts.yaml"
    file.write_text("- {name: node1, cpu: 32, gpu: 4, memory: 64GB, user: me}\n- node2:8cpu\n")
    assert read_hosts(file) == [Node("node1", 32, 4, 64_000_000_000, "me"), Node("node2", 8)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r":1: the hosts must be a list"),
        ("name: node1", r":1: the hosts must be a list"),
        ("- {name: a, cpu: 1}\n- {name: b}", r":2: cpu: this host states no CPUs: each host reads  {name: "),
        ("- {name: a, cpu: 1}\n- {name: b, cpu: 1, user: 5}", r":2: user: .*the name of a user .*, not 5"),
        ("- {name: a, cpu: 1, gpu: few}", r":1: gpu: this host needs its gpu, a whole number of at least 0, not 'few'"),
        ("- a:1cpu\n- name: b\n  cpu: !!python/object:os.system {}", r":3: this host cannot be read .*python/object"),
        ("- a:1cpu\n- {[b]: 1}", r":2: this host cannot be read \(found unhashable key\)"),
        ("- {name: a, cpu: !!int many}", r":1: this host holds a value that cannot be read"),
        ("- {name: a, cpu: !!timestamp now}", r":1: this host holds a value that cannot be read"),
        ("- " + "[" * 5000, r"this is not valid YAML"),
        ("- {name: a, cpu: 1}\n- {name: a, cpu: 1}", r":2: the host a is listed twice"),
        ("- {name: a, cpu: 1, gpus: 2}", r":1: gpus: .*unknown key 'gpus'; did you mean 'gpu'"),
        ("- {name: a, cpu: 1, memory: much}", r":1: memory: the memory of this host"),
        ("- [", r"not valid YAML"),
        ("- 7", r":1: this host is no mapping"),
    ],
)
def test_hosts_that_are_wrong_are_refused_with_their_line(tmp_path, text, message):
    file = tmp_path / "hosts.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        read_hosts(file)


def test_what_a_host_has_none_of_may_be_null(tmp_path):
    file = tmp_path / "hosts.yaml"
    file.write_text("- {name: a, cpu: 1, gpu: null, memory: null, user: null}\n")
    assert read_hosts(file) == [Node("a", 1)]


def test_hosts_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(InputError, match="the hosts cannot be read"):
        read_hosts(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("gpu", "shares", "units"),
    [(0, 1, 0), (1, 1, 1), (3, 1, 3), (0.25, 4, 1), (0.5, 4, 2), (1, 4, 4), (0.6, 4, 4), (0.3, 4, 2), (1 / 3, 3, 1)],
)
def test_gpus_are_counted_in_units(gpu, shares, units):
    assert gpu_units(gpu, shares) == units


def test_a_fraction_needs_shares():
    with pytest.raises(InputError, match=r"--gpu-shares 4, and state engine.gpu_shares") as caught:
        gpu_units(0.25, 1)
    assert caught.value.key == "resources.gpu"


NODES = [Node("a", 8, 4, 32_000_000_000), Node("b", 4), Node("c", 16, 0, 8_000_000_000, limit=3)]


@pytest.mark.parametrize(
    ("resources", "count"),
    [
        (Resources(1), 8 + 4 + 3),
        (Resources(4), 2 + 1 + 3),
        (Resources(1, gpu=1), 4),
        (Resources(1, memory=16_000_000_000), 2 + 4 + 0),
        (Resources(17), 0),
        (Resources(1, gpu=5), 0),
    ],
)
def test_slots_are_what_fits_on_each_node(resources, count):
    assert slots(NODES, resources) == count


@given(st.integers(1, 64), st.integers(0, 8), st.integers(1, 16))
def test_slots_never_promise_more_than_a_node_has(cpu, gpu, asked):
    count = slots([Node("a", cpu, gpu)], Resources(asked, gpu=min(gpu, 1)))
    assert count * asked <= cpu
    assert count * min(gpu, 1) <= gpu


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (Resources(64), "64 cpus, the largest node has 16: lower resources.cpu"),
        (Resources(1, gpu=8), "8 GPUs, the largest node has 4: lower resources.gpu"),
        (Resources(1, memory=10**12), "1 TB of memory, the largest node has 32 GB: lower resources.memory"),
        (Resources(16, gpu=1), "no node has all that a trial asks for at once"),
    ],
)
def test_what_is_impossible_is_said(resources, message):
    assert message in str(impossible(NODES, resources))
