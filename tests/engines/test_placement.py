from __future__ import annotations

import pytest

from hpcompss.engines.placement import Machine, size
from hpcompss.errors import InputError
from hpcompss.trial import Resources


@pytest.fixture
def machine(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return Machine(workers=None, cores=8, gpus=2, memory=8_000_000_000)


def test_cores_are_counted(machine):
    assert machine.room((3, 0), [((5, 0), ())]) == ()
    assert machine.room((4, 0), [((5, 0), ())]) is None


def test_workers_are_counted():
    machine = Machine(workers=2, cores=8, gpus=0, memory=None)
    assert machine.room((1, 0), [((1, 0), ())]) == ()
    assert machine.room((1, 0), [((1, 0), ()), ((1, 0), ())]) is None


def test_whole_gpus_are_given_once(machine):
    assert machine.room((1, 1), []) == ("0",)
    assert machine.room((1, 1), [((1, 1), ("0",))]) == ("1",)
    assert machine.room((1, 2), [((1, 1), ("0",))]) is None
    assert machine.room((1, 2), []) == ("0", "1")


def test_shares_spread_and_then_fill_up(machine):
    held = []
    for expected in ("0", "1", "0", "1", "0", "1"):
        gpus = machine.room((1, 1 / 3), held)
        assert gpus == (expected,)
        held.append(((1, 1 / 3), gpus))
    assert machine.room((1, 1 / 3), held) is None


def test_a_shared_gpu_is_not_whole(machine):
    assert machine.room((1, 1), [((1, 0.25), ("0",))]) == ("1",)
    assert machine.room((1, 2), [((1, 0.25), ("0",))]) is None


def test_a_gpu_named_twice_is_one():
    machine = Machine(workers=None, cores=8, gpus=["3", "3"], memory=None)
    assert machine.gpus == ("3",)


def test_a_number_of_gpus_is_of_those_that_are_visible(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert Machine(workers=None, cores=8, gpus=1, memory=None).gpus == ("2",)
    assert Machine(workers=None, cores=8, gpus=2, memory=None).gpus == ("2", "3")
    with pytest.raises(InputError, match=r"engine.gpus: gpus is 3, but only 2 are visible \(2, 3\)"):
        Machine(workers=None, cores=8, gpus=3, memory=None).capacity(Resources(gpu=1))


def test_capacity_is_the_least_of_all_bounds(machine):
    assert machine.capacity(Resources(cpu=2)) == 4
    assert machine.capacity(Resources(cpu=2, gpu=1)) == 2
    assert machine.capacity(Resources(cpu=2, gpu=0.5, memory=2_500_000_000)) == 3
    assert machine.capacity(Resources(gpu=1 / 3)) == 6


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (2_130_000_000, "2.13 GB")])
def test_bytes_are_said_in_units(count, text):
    assert size(count) == text
