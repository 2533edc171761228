from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hpcompss.engines import machine
from hpcompss.engines.machine import (
    available_cores,
    available_gpus,
    available_memory,
    own_private_memory,
    process_memory,
)

MEGABYTE = 1_000_000


@pytest.fixture
def system(tmp_path):
    """Writes the files of a machine under a folder, and returns the folder."""

    def system(**files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return lambda files: system(**files)


@pytest.fixture(autouse=True)
def many_cores(monkeypatch):
    monkeypatch.setattr(machine, "_cores_by_affinity", lambda: 16)


@pytest.fixture
def nvidia(tmp_path, monkeypatch):
    """Puts a program nvidia-smi, which prints a report, in the place of any other."""

    def nvidia(script):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return nvidia


def test_cores_are_those_this_process_may_run_on(monkeypatch, system):
    monkeypatch.undo()
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert available_cores(system({})) == allowed


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 16),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/job/step\n", "sys/fs/cgroup/job/cpu.max": "300000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/not/mounted\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
        (
            {
                "proc/self/cgroup": "4:memory:/job\n2:cpu,cpuacct:/job\n",
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "2:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            16,
        ),
    ],
    ids=["unlimited", "quota", "rounded down", "at least 1", "group above", "no such folder", "v1", "v1 unlimited"],
)
def test_cores_are_within_the_quota_of_the_control_group(system, files, cores):
    assert available_cores(system(files)) == cores


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"proc/self/cgroup": "0::/job\n", "sys/fs/cgroup/job/memory.max": "1000000\n"}, 1_000_000),
        ({"proc/self/cgroup": "4:memory:/job\n", "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "5000\n"}, 5_000),
    ],
    ids=["v2", "v1"],
)
def test_memory_is_within_the_limit_of_the_control_group(system, files, limit):
    assert available_memory(system(files)) == limit


def test_memory_without_a_limit_is_that_of_the_machine(system):
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert available_memory(system({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"})) == physical


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [
        ("0,2", ("0", "2")),
        ("3", ("3",)),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("1,-1,0", ("1",)),
        ("GPU-8932f937, MIG-12", ("GPU-8932f937", "MIG-12")),
    ],
)
def test_gpus_are_those_that_are_visible(monkeypatch, visible, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert available_gpus() == gpus


def test_gpus_are_those_that_the_driver_reports(nvidia):
    nvidia('echo "GPU 0: NVIDIA A100 (UUID: GPU-1)"; echo "GPU 1: NVIDIA A100 (UUID: GPU-2)"')
    assert available_gpus() == ("0", "1")


def test_a_divided_gpu_is_its_parts(nvidia):
    nvidia("""cat <<'END'
GPU 0: NVIDIA A100 (UUID: GPU-1)
  MIG 3g.20gb     Device  0: (UUID: MIG-a)
  MIG 3g.20gb     Device  1: (UUID: MIG-b)
GPU 1: NVIDIA A100 (UUID: GPU-2)
END""")
    assert available_gpus() == ("MIG-a", "MIG-b", "1")


def test_a_driver_that_fails_has_no_gpus(nvidia):
    nvidia("echo 'NVIDIA-SMI has failed'; exit 9")
    assert available_gpus() == ()


def test_no_driver_has_no_gpus(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert available_gpus() == ()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_memory_of_a_process_has_that_of_its_children(tmp_path):
    script = tmp_path / "holder.py"
    script.write_text("""
import subprocess, sys
block = bytearray(b"x") * int(sys.argv[1])
if len(sys.argv) > 2:
    with subprocess.Popen([sys.executable, sys.argv[0], sys.argv[2]], stdin=subprocess.PIPE):
        sys.stdin.read()
else:
    print("ready", flush=True)
    sys.stdin.read()
""")
    arguments = [sys.executable, script, str(60 * MEGABYTE), str(70 * MEGABYTE)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        held = process_memory(process.pid)
    assert 130 * MEGABYTE < held < 200 * MEGABYTE


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_memory_of_a_process_that_is_gone_is_nothing():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert process_memory(process.pid) == 0


def test_private_memory_grows_with_what_is_held():
    before = own_private_memory()
    block = bytearray(b"x") * (50 * MEGABYTE)
    assert own_private_memory() >= before + 45 * MEGABYTE
    del block
