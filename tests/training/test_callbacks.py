"""The user's callbacks: made for each trial, and where they write."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import pytest

from hpcompss.errors import InputError
from hpcompss.space.tracing import HyperParameters
from hpcompss.tasks.train import train
from hpcompss.training.callbacks import CurrentTrial, check_callbacks, made_callbacks, place_callback
from tests.keras_jobs import make_job

MODELS = Path(__file__).parents[1] / "fit_models.py"


def trial_of(folder: Path, number: int = 3, part: str = "") -> CurrentTrial:
    return CurrentTrial.of(folder, number, {"units": 4}, part)


def made(given: Any, folder: Path, hp: HyperParameters | None = None) -> list[Any]:
    return made_callbacks([given], hp or HyperParameters(), trial_of(folder))


# Making them


def test_a_callback_is_copied_for_each_trial(keras: Any, tmp_path: Path) -> None:
    given = keras.callbacks.EarlyStopping("loss", patience=2)
    (copy,) = made(given, tmp_path)
    assert type(copy) is type(given) and copy is not given and copy.patience == 2


def test_a_function_may_take_the_hyper_parameters_and_the_trial(keras: Any, tmp_path: Path) -> None:
    stopping = keras.callbacks.EarlyStopping
    hp = HyperParameters()
    assert made(stopping, tmp_path)[0].patience == 0
    assert made(lambda: [stopping(), stopping()], tmp_path)[1].patience == 0
    assert made(lambda hp: stopping(patience=hp.Int("patience", 2, 5)), tmp_path, hp)[0].patience == 2
    assert made(lambda trial, hp: stopping(patience=trial.number), tmp_path)[0].patience == 3
    assert [each.name for each in hp.space] == ["patience"] and not (tmp_path / "trials").exists()


def test_the_folder_of_a_trial_is_made_when_it_is_used(tmp_path: Path) -> None:
    assert trial_of(tmp_path).folder == tmp_path / "trials" / "3"
    assert trial_of(tmp_path, part="fold-2").folder == tmp_path / "trials" / "3" / "fold-2"
    assert (tmp_path / "trials" / "3" / "fold-2").is_dir()


def test_a_callback_that_cannot_be_copied_is_refused_by_name(keras: Any) -> None:
    class Progress(keras.callbacks.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()

    with pytest.raises(InputError) as caught:
        check_callbacks([Progress()])
    assert caught.value.key == "training.callbacks"
    assert caught.value.message == (
        "the callback Progress cannot be copied for each trial (cannot pickle '_thread.lock' object): give a function "
        "that makes it, such as  lambda: Progress(...)"
    )
    check_callbacks([Progress, lambda: Progress()])


def test_what_makes_no_callback_is_refused(keras: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs 'model': a function that makes callbacks takes hp, trial, both"):
        check_callbacks([lambda model: None])
    with pytest.raises(
        InputError, match=r"must be Keras callbacks, functions that make them, or file\.py:function, not 3"
    ):
        check_callbacks([3])
    with pytest.raises(InputError, match="must give Keras callbacks, a list of them or one, not None"):
        made(lambda: None, tmp_path)


# Where they write


def test_paths_get_the_number_of_the_trial_once(keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    callbacks = keras.callbacks
    board, log = callbacks.TensorBoard("logs"), callbacks.CSVLogger("csv/log.csv")
    best, backup = callbacks.ModelCheckpoint("{epoch}.keras"), callbacks.BackupAndRestore("backup")
    for trial in (trial_of(tmp_path), trial_of(tmp_path), trial_of(tmp_path, 4, "fold-1")):
        for each in (board, log, best, backup):
            place_callback(keras, each, trial)
        assert board.log_dir == f"logs/{trial.name}"
        assert log.filename == f"csv/{trial.name}/log.csv" and Path(log.filename).parent.is_dir()
        assert best.filepath == f"{trial.name}/{{epoch}}.keras"
        assert backup.backup_dir == f"backup/{trial.name}"
        assert backup._weights_path == f"backup/{trial.name}/latest.weights.h5"
    assert trial.name == "trial-4/fold-1"


def test_a_path_in_the_folder_of_the_trial_stays(keras: Any, tmp_path: Path) -> None:
    trial = trial_of(tmp_path)
    board = keras.callbacks.TensorBoard(trial.folder / "logs")
    place_callback(keras, board, trial)
    assert board.log_dir == str(tmp_path / "trials" / "3" / "logs")


def test_callbacks_of_a_workflow_are_used_in_a_trial(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = make_job(epochs=2, callbacks=(f"{MODELS}:callbacks",))
    result = train(job, 3, {"units": 4, "rate": 0.01, "plateau": 2}, tmp_path / "study", None)
    assert result.failure is None and result.warnings == () and "learning_rate" in result.metrics
    assert (tmp_path / "study/trials/3/note.txt").read_text() == "3 4 "
    assert len((tmp_path / "study/trials/3/own.csv").read_text().splitlines()) == 3
    assert len((tmp_path / "logs/trial-3/log.csv").read_text().splitlines()) == 3


def test_a_fit_finds_what_its_callback_has_written(keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "best.weights.h5").write_text("of another program")
    job = dataclasses.replace(make_job(fold=1, repeats=2), model=f"{MODELS}:Loads")
    result = train(job, 3, {"units": 4}, None, None)
    assert result.failure is None, result.failure.traceback
    assert (tmp_path / "models" / "trial-3" / "repeat-2" / "best.weights.h5").exists()
