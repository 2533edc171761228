from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from hpcompss.cache_folder import cache_folder
from hpcompss.errors import InputError
from hpcompss.training.data.cache import cached

IDENTITY = ("a source", 1)


def build(folder):
    folder.save("x_train", np.arange(6.0).reshape(3, 2))
    return ("a", "b")


def no_build(folder):
    raise AssertionError("built although it is in the cache")


def run(code, *arguments):
    """Starts a process that runs ``code``, which sees the arguments and speaks through pipes."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    root = Path(__file__).parents[3]
    return subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_an_entry_is_built_once_and_mapped(cache):
    cached(cache, "numbers", IDENTITY, build)
    entry = cached(cache, "numbers", IDENTITY, no_build)
    assert entry.class_names == ("a", "b")
    assert entry.files == ("x_train.npy",)
    array = entry.tree("x_train")
    assert isinstance(array, np.memmap) and not array.flags.writeable
    np.testing.assert_array_equal(array, np.arange(6.0).reshape(3, 2))


def test_another_identity_is_another_entry(cache):
    first = cached(cache, "numbers", IDENTITY, build)
    assert cached(cache, "numbers", ("a source", 2), build).path != first.path


def test_the_title_may_hold_any_character(cache):
    assert cached(cache, "../a b:c/é" * 20, IDENTITY, build).path.parent == cache


def test_rows_are_appended_without_knowing_how_many(cache):
    def grow(folder):
        file = folder.open("x", (2,), np.int16)
        for number in range(1234):
            file.append(np.full((1, 2), number))
        return ()

    array = cached(cache, "grown", IDENTITY, grow).tree("x")
    assert array.dtype == np.int16
    np.testing.assert_array_equal(array[:, 1], np.arange(1234))


def damage_file(path):
    path.joinpath("x_train.npy").write_bytes(b"short")


def remove_file(path):
    path.joinpath("x_train.npy").unlink()


def damage_description(path):
    path.joinpath("description.json").write_text("{")


@pytest.mark.parametrize("damage", [damage_file, remove_file, damage_description])
def test_a_damaged_entry_is_built_again_with_a_warning(cache, damage):
    damage(cached(cache, "numbers", IDENTITY, build).path)
    with pytest.warns(UserWarning, match=r"the cached data in '.*' is damaged"):
        entry = cached(cache, "numbers", IDENTITY, build)
    assert entry.tree("x_train").shape == (3, 2)


def test_a_failed_build_leaves_nothing(cache):
    def fail(folder):
        build(folder)
        raise InputError("no labels")

    with pytest.raises(InputError, match="no labels"):
        cached(cache, "numbers", IDENTITY, fail)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_a_killed_builder_leaves_no_entry_and_its_remains_are_cleared(cache):
    process = run(
        """
        import sys, time, numpy
        from pathlib import Path
        from hpcompss.training.data.cache import cached
        def build(folder):
            folder.save("x_train", numpy.zeros(100_000))
            print("half", flush=True)
            time.sleep(60)
        cached(Path(sys.argv[1]), "numbers", ("a source", 1), build)
        """,
        cache,
    )
    with process:
        assert process.stdout.readline() == "half\n"
        os.kill(process.pid, signal.SIGKILL)
    assert list(cache.glob("*.partial"))
    assert cached(cache, "numbers", IDENTITY, build).tree("x_train").shape == (3, 2)
    assert not list(cache.glob("*.partial"))


def test_of_two_processes_one_builds_and_the_other_waits(cache, tmp_path):
    code = """
        import os, sys, time, numpy
        from pathlib import Path
        from hpcompss.training.data.cache import cached
        def build(folder):
            with open(sys.argv[2], "a") as file:
                print(os.getpid(), file=file)
            time.sleep(1)
            folder.save("x_train", numpy.arange(5))
            return ()
        print("ready", flush=True)
        sys.stdin.read()
        print(cached(Path(sys.argv[1]), "numbers", ("two",), build).tree("x_train").sum())
        """
    processes = [run(code, cache, tmp_path / "builders") for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.close()
    for process in processes:
        with process:
            assert process.stdout.read() == "10\n"
    assert len((tmp_path / "builders").read_text().splitlines()) == 1


def test_without_locks_the_first_to_finish_wins(cache, monkeypatch):
    def no_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    paths = []

    def build_while_another_does(folder):
        paths.append(cached(cache, "numbers", IDENTITY, build).path)
        folder.save("x_train", np.zeros(1))
        return ()

    entry = cached(cache, "numbers", IDENTITY, build_while_another_does)
    assert paths == [entry.path]
    assert entry.tree("x_train").shape == (3, 2)
    assert not list(cache.glob("*.partial"))


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write decoded data to '.*file/cache' .* HPCOMPSS_CACHE"):
        cached(tmp_path / "file" / "cache", "numbers", IDENTITY, build)


def test_a_full_disk_leaves_nothing(cache):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(InputError, match="cannot write decoded data"):
            cached(cache, "large", IDENTITY, lambda folder: folder.save("x_train", np.zeros(100_000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HPCOMPSS_CACHE", "/scratch/cache")
    assert cache_folder() == Path("/scratch/cache")
    monkeypatch.delenv("HPCOMPSS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch")
    assert cache_folder() == Path("/scratch/hpcompss")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path("/home/me/.cache/hpcompss")
