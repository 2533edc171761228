from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcompss.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    checkpoint_path,
    checkpoints_size,
    read_checkpoint,
    remove_checkpoints,
    write_checkpoint,
)


def some() -> Checkpoint:
    checkpoint = Checkpoint(3, plain={"value": float("inf"), "names": ["a"]})
    checkpoint.put("model", [np.arange(6.0).reshape(2, 3), np.array(7, np.int64)])
    return checkpoint


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    path = checkpoint_path(tmp_path, 4, 3)
    write_checkpoint(path, some())
    again = read_checkpoint(path)
    assert (again.epoch, again.plain) == (3, some().plain)
    assert [each.tolist() for each in again.group("model")] == [[[0, 1, 2], [3, 4, 5]], 7]
    assert again.group("model")[1].dtype == np.int64 and again.group("none") == []


def test_it_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint_path(tmp_path, 4, 3)
    write_checkpoint(path, some())
    before = path.read_bytes()

    def full(file: Any, **arrays: Any) -> None:
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(path, Checkpoint(9))
    assert os.listdir(path.parent) == ["trial-4.epoch-3.npz"] and path.read_bytes() == before


def test_one_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^it is missing$"):
        read_checkpoint(checkpoint_path(tmp_path, 4, 3))


def flipped(content: bytes) -> bytes:
    """One bit of the first array's numbers is another."""
    place = content.index(np.arange(6.0).tobytes()) + 20
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGES = {
    "empty": lambda content: b"",
    "cut short": lambda content: content[: len(content) // 2],
    "garbage": lambda content: b"garbage" * 100,
    "a bit flipped": flipped,
    "a pickle": lambda content: b"\x80\x04N.",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_one_that_is_damaged(tmp_path: Path, damage: Any) -> None:
    path = checkpoint_path(tmp_path, 4, 3)
    write_checkpoint(path, some())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"^it is damaged: ."):
        read_checkpoint(path)


def test_a_file_of_other_arrays_is_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", model=np.arange(3))
    with pytest.raises(CheckpointError, match=r"^it is damaged: "):
        read_checkpoint(tmp_path / "x.npz")


def test_those_of_a_trial_are_removed_but_some(tmp_path: Path) -> None:
    paths = [checkpoint_path(tmp_path, number, epochs) for number in (1, 10) for epochs in (3, 9, 19)]
    paths += [checkpoint_path(tmp_path, 1, 9, "fold-0"), checkpoint_path(tmp_path, 1, 3, "fold-1")]
    for path in paths:
        write_checkpoint(path, some())
    (paths[0].parent / "trial-1.epoch-9.77.draft").write_text("of a worker that was killed")
    remove_checkpoints(tmp_path, 1, keep=[9])
    left = ["trial-1.epoch-9.npz", "trial-1.fold-0.epoch-9.npz"]
    left += ["trial-10.epoch-19.npz", "trial-10.epoch-3.npz", "trial-10.epoch-9.npz"]
    assert sorted(os.listdir(tmp_path / "checkpoints")) == left
    remove_checkpoints(tmp_path, 10)
    assert sorted(os.listdir(tmp_path / "checkpoints")) == left[:2]
    remove_checkpoints(tmp_path / "none", 1)


def test_their_size(tmp_path: Path) -> None:
    assert checkpoints_size(tmp_path) == 0
    for epochs in (3, 9):
        write_checkpoint(checkpoint_path(tmp_path, 1, epochs), some())
    assert checkpoints_size(tmp_path) == 2 * checkpoint_path(tmp_path, 1, 3).stat().st_size > 1000
