from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest

from hpcompss.engines.gpu_leases import leased

GPUS = ("0", "1")


@pytest.fixture
def take(tmp_path):
    """Returns a function that takes a lease, kept until the test ends, of GPUs of four shares."""
    with contextlib.ExitStack() as stack:
        yield lambda units: stack.enter_context(leased(units, 4, GPUS, lambda: False, tmp_path / "locks"))


def test_shares_of_a_gpu_go_to_the_one_that_is_least_used(take):
    assert [take(2) for _ in range(5)] == [("0",), ("1",), ("0",), ("1",), ()]


def test_no_trial_has_shares_of_two_gpus(take):
    assert [take(3), take(3), take(2)] == [("0",), ("1",), ()]
    assert take(1) == ("0",)


def test_a_whole_gpu_is_one_that_nobody_shares(take):
    assert take(1) == ("0",)
    assert take(4) == ("1",)
    assert take(4) == ()


def test_several_gpus_are_all_whole(take):
    assert take(8) == GPUS
    assert take(1) == ()


def test_a_lease_ends_with_its_block(tmp_path):
    for _ in range(3):
        with leased(8, 4, GPUS, lambda: False, tmp_path) as gpus:
            assert gpus == GPUS


def test_a_lease_ends_with_its_process(tmp_path):
    code = (
        "import os, signal\nfrom pathlib import Path\nfrom hpcompss.engines.gpu_leases import leased\n"
        f"with leased(8, 4, {GPUS}, lambda: False, Path({str(tmp_path)!r})):\n"
        "    print('taken', flush=True)\n    signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "taken\n"
        with leased(1, 4, GPUS, lambda: False, tmp_path) as gpus:
            assert gpus == ()
        process.kill()
        process.wait()
    with leased(8, 4, GPUS, lambda: False, tmp_path) as gpus:
        assert gpus == GPUS


def test_who_finds_no_room_waits_as_long_as_it_shall(take, tmp_path):
    take(8)
    turns = iter([True, True, False])
    with leased(1, 4, GPUS, lambda: next(turns), tmp_path / "locks") as gpus:
        assert gpus == ()
    assert next(turns, None) is None
