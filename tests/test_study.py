from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hpcompss
from hpcompss.errors import InputError
from hpcompss.journal import FolderLock, JournalError
from hpcompss.samplers import SAMPLERS, SpaceExhausted
from hpcompss.samplers.random import Random
from hpcompss.space import Boolean, Choice, Float, Int, Space
from hpcompss.study import Study
from hpcompss.trial import Failure, FailureKind, Result, TrialState

ROOT = Path(__file__).parents[1]


@pytest.fixture
def space():
    """The space of the issue's example."""
    return Space(
        [
            Choice("booster", ["tree", "linear"]),
            Float("eta", 1e-4, 1.0, sampling="log", parent_name="booster", parent_values=["tree"]),
            Int("depth", 1, 15),
        ]
    )


@pytest.fixture
def six():
    """A space of six configurations."""
    return Space([Boolean("a"), Int("b", 1, 3)])


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "study"


def kill(study):
    """Leaves a study as a killed master does, but for its lock, which this process would still hold."""
    study._journal.close()
    study._lock.release()


def journal_of(folder):
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


# Ask and tell


def test_the_example_of_the_documentation():
    space = hpcompss.Space(
        [
            hpcompss.Choice("booster", ["tree", "linear"]),
            hpcompss.Float("eta", 1e-4, 1.0, sampling="log", parent_name="booster", parent_values=["tree"]),
            hpcompss.Int("depth", 1, 15),
        ]
    )
    study = hpcompss.Study(space, sampler="random", direction="minimize", seed=0)
    for _ in range(20):
        trial = study.ask()
        assert ("eta" in trial.configuration) == (trial.configuration["booster"] == "tree")
        study.tell(trial, trial.configuration["depth"])
    assert study.best.value == min(trial.configuration["depth"] for trial in study.trials)
    assert study.best.configuration["depth"] == study.best.value
    assert [trial.number for trial in study.trials] == list(range(20))


def test_a_list_of_parameters_is_a_space():
    study = Study([Int("x", 1, 3)])
    assert study.ask().configuration["x"] in (1, 2, 3)


def test_a_trial_before_and_after(six):
    study = Study(six)
    trial = study.ask()
    assert (trial.state, trial.value, trial.result) == (TrialState.RUNNING, None, None)
    assert (study.started, study.finished) == (1, 0)
    told = study.tell(trial, 0.5)
    assert (told.state, told.value, told.configuration) == (TrialState.COMPLETE, 0.5, trial.configuration)
    assert study.trials == (told,)
    assert (study.started, study.finished, study.completed, study.failed) == (1, 1, 1, 0)


def test_a_trial_is_told_by_its_number(six):
    study = Study(six)
    study.ask()
    assert study.tell(0, 2).value == 2.0


def test_metrics_are_told(six):
    study = Study(six, metric="loss")
    trial = study.tell(study.ask(), {"loss": 0.5, "accuracy": 0.9})
    assert trial.value == 0.5
    assert trial.result.metrics == {"loss": 0.5, "accuracy": 0.9}


@pytest.mark.parametrize("value", [math.nan, math.inf, {"value": math.nan}])
def test_what_is_not_finite_is_a_failed_trial(six, value):
    study = Study(six)
    trial = study.tell(study.ask(), value)
    assert trial.state is TrialState.FAILED
    assert trial.result.failure.kind is FailureKind.NOT_FINITE
    assert (study.completed, study.failed) == (0, 1)


def test_a_failure_is_told(six):
    study = Study(six)
    trial = study.tell(study.ask(), failure="the machine was switched off")
    assert trial.state is TrialState.FAILED
    assert trial.result.failure.reason == "the machine was switched off"


def test_a_trial_is_told_once(six):
    study = Study(six)
    trial = study.ask()
    study.tell(trial, 1.0)
    with pytest.raises(InputError, match="trial 0 is not running: tell takes each trial once, after ask"):
        study.tell(trial, 2.0)
    assert study.best.value == 1.0


@pytest.mark.parametrize("number", [0, 3, -1])
def test_a_trial_is_told_after_it_was_asked_for(six, number):
    with pytest.raises(InputError, match=f"trial {number} is not running"):
        Study(six).tell(number, 1.0)


@pytest.mark.parametrize("told", [{}, {"value": 1.0, "failure": "both"}])
def test_tell_takes_a_value_or_a_failure(six, told):
    study = Study(six)
    trial = study.ask()
    with pytest.raises(InputError, match="tell takes either a value or failure"):
        study.tell(trial, **told)
    study.tell(trial, 1.0)


@pytest.mark.parametrize("value", ["0.5", [1], {"other": 1, "more": 2}])
def test_a_value_that_is_none_leaves_the_trial_running(six, value):
    study = Study(six)
    trial = study.ask()
    with pytest.raises(InputError):
        study.tell(trial, value)
    study.tell(trial, 0.5)


def test_several_trials_at_once_are_told_in_any_order(six):
    study = Study(six, sampler="grid")
    trials = [study.ask() for _ in range(3)]
    for value, trial in enumerate(reversed(trials)):
        study.tell(trial, value)
    assert [trial.value for trial in study.trials] == [2, 1, 0]


# The best


def told(direction, *values, **options):
    study = Study(Space([Int("x", 1, 99)]), direction=direction, **options)
    for value in values:
        study.tell(study.ask(), value)
    return study


@pytest.mark.parametrize(("direction", "best"), [("minimize", 2), ("maximize", 1)])
def test_the_best_is_that_of_the_direction(direction, best):
    assert told(direction, 2.0, 3.0, 1.0, math.nan).best.number == best


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_best_of_equals_is_the_earlier(direction):
    assert told(direction, 1.0, 1.0).best.number == 0


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_best_of_equals_is_the_earlier_whichever_finished_first(direction, space, folder):
    study = Study(space, direction=direction, directory=folder)
    trials = [study.ask() for _ in range(3)]
    for trial in reversed(trials):
        study.tell(trial, 1.0)
    assert study.best.number == 0
    study.close()
    assert Study.load(folder).best.number == 0


def test_there_is_no_best_before_a_trial_has_completed():
    with pytest.raises(LookupError, match="no trial has completed yet"):
        _ = told("minimize", math.nan).best


@settings(deadline=None, max_examples=50)
@given(values=st.lists(st.floats(-10, 10) | st.just(math.nan), max_size=20), maximize=st.booleans())
def test_the_best_is_the_first_extreme(values, maximize):
    study = told("maximize" if maximize else "minimize", *values)
    finite = [value for value in values if math.isfinite(value)]
    assert study.completed == len(finite)
    if finite:
        extreme = max(finite) if maximize else min(finite)
        assert (study.best.value, study.best.number) == (extreme, values.index(extreme))


# Suggestions


def asked(study, count):
    return [study.ask().configuration for _ in range(count)]


@pytest.mark.parametrize("sampler", [*SAMPLERS, {"name": "grid", "order": "shuffled"}])
def test_a_seed_repeats_the_suggestions(six, sampler):
    assert asked(Study(six, sampler=sampler, seed=5), 4) == asked(Study(six, sampler=sampler, seed=5), 4)


def test_other_seeds_suggest_otherwise(space):
    assert asked(Study(space, seed=1), 4) != asked(Study(space, seed=2), 4)


def test_a_seed_that_is_drawn_repeats_them_too(space):
    study = Study(space)
    assert asked(Study(space, seed=study.seed), 4) == asked(study, 4)
    assert study.seed != Study(space).seed


@pytest.mark.parametrize(
    "sampler", [*SAMPLERS, *({"name": name, "startup_trials": 2} for name in ("hyperopt", "tpe", "gp"))]
)
def test_every_configuration_of_a_finite_space_is_tried_once(six, sampler):
    study = Study(six, sampler=sampler, seed=3)
    tried = []
    for number in range(6):
        trial = study.ask()
        tried.append(six.key(trial.configuration))
        if number % 2:
            study.tell(trial, number)
    assert len(set(tried)) == 6
    with pytest.raises(SpaceExhausted):
        study.ask()
    assert study.started == 6


def test_a_configuration_is_tried_again_where_that_is_asked_for(six):
    study = Study(six, allow_duplicates=True)
    assert len(asked(study, 20)) == 20


def test_a_failed_configuration_is_not_tried_again(six):
    study = Study(six)
    for _ in range(6):
        study.tell(study.ask(), math.nan)
    with pytest.raises(SpaceExhausted):
        study.ask()


# Bad arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"direction": "minimise"}, "direction: unknown direction 'minimise'; did you mean 'minimize'?"),
        ({"seed": -1}, "seed: the seed is a whole number of at least 0, not -1"),
        ({"seed": 1.5}, "seed: the seed is a whole number of at least 0, not 1.5"),
        ({"seed": True}, "seed: the seed is a whole number"),
        ({"sampler": "rndom"}, "search.sampler: unknown sampler 'rndom'; did you mean 'random'?"),
        ({"sampler": {"name": "grid", "ordr": "x"}}, "search.sampler: the grid sampler has no option 'ordr'"),
        ({"sampler": 3}, "sampler: a study's sampler is a name or a mapping of name and options"),
    ],
)
def test_a_bad_argument(six, folder, arguments, message):
    with pytest.raises(InputError) as caught:
        Study(six, directory=folder, **arguments)
    assert str(caught.value).startswith(message)
    assert not folder.exists()


def test_a_grid_of_a_continuous_space(space):
    with pytest.raises(InputError, match="a grid needs a step for 'eta' "):
        Study(space, sampler="grid")


def test_a_space_of_something_else():
    with pytest.raises(InputError, match="a space is made of parameters"):
        Study(["x"])


# On disk


def test_a_study_is_read_from_its_folder(space, folder):
    with Study(space, direction="maximize", seed=7, metric="f1", directory=folder, about={"who": "me"}) as study:
        for value in (0.5, math.nan, {"f1": 0.75, "loss": math.inf}):
            study.tell(study.ask(), value)
        study.ask()
        study.note("test", number=2, metrics={"f1": 0.7, "loss": math.nan}, refit=False)
        study.note("stop", reason="the time is up")
    loaded = Study.load(folder)
    assert loaded.settings == study.settings
    assert loaded.settings["about"] == {"who": "me"}
    assert (loaded.space, loaded.direction, loaded.seed, loaded.metric) == (space, "maximize", 7, "f1")
    assert repr(loaded.trials).replace("INTERRUPTED: 'interrupted'", "RUNNING: 'running'") == repr(study.trials)
    assert loaded.best.number == study.best.number == 2
    assert loaded.test == study.test == {"number": 2, "metrics": {"f1": 0.7, "loss": None}, "refit": False}
    assert loaded.stopped == "the time is up"
    assert (loaded.completed, loaded.failed, loaded.interrupted) == (2, 1, 1)


def test_curves_and_tracebacks_are_kept_on_disk_alone(six, folder):
    with Study(six, directory=folder) as study:
        result = Result(None, failure=Failure(FailureKind.EXCEPTION, "why", "where"), curves={"loss": [1.0, 2.0]})
        trial = study.record(study.ask().number, result)
    assert (trial.result.curves, trial.result.failure.traceback) == ({}, "")
    assert journal_of(folder)[-1]["curves"] == {"loss": [1.0, 2.0]}
    assert journal_of(folder)[-1]["failure"]["traceback"] == "where"


def test_a_trial_is_on_disk_when_ask_returns_and_its_value_when_tell_returns(six, folder):
    study = Study(six, directory=folder)
    trial = study.ask()
    last = journal_of(folder)[-1]
    assert (last["event"], last["number"], last["configuration"]) == ("ask", 0, trial.configuration)
    study.tell(trial, 1.5)
    last = journal_of(folder)[-1]
    assert (last["event"], last["number"], last["value"]) == ("tell", 0, 1.5)
    study.close()


def test_a_batch_is_written_at_once(six, folder):
    study = Study(six, sampler="random", directory=folder)
    trials = [study.suggest() for _ in range(3)]
    for trial in trials:
        study.record(trial.number, Result(1.0))
    assert len(journal_of(folder)) == 1
    study.flush()
    assert [record["event"] for record in journal_of(folder)[1:]] == ["ask"] * 3 + ["tell"] * 3
    study.close()


def test_a_killed_study_goes_on_with_its_interrupted_trials(space, folder):
    study = Study(space, seed=1, directory=folder)
    trials = [study.ask() for _ in range(5)]
    study.tell(trials[3], 1.0)
    study.tell(trials[0], 2.0)
    kill(study)
    with Study.resume(folder) as study:
        assert study.interrupted == 3
        again = [study.ask() for _ in range(3)]
        assert again == [trials[1], trials[2], trials[4]]
        assert study.interrupted == 0
        assert study.ask().number == 5
        assert study.best.number == 3
        for trial in again:
            study.tell(trial, 0.0)
        assert study.best.number == 1


def test_what_the_sampler_suggests_does_not_depend_on_interruptions(space, folder):
    """A study that is killed after every ask and every tell tries what one that runs through tries."""
    through = Study(space, sampler={"name": "hyperopt", "startup_trials": 3}, seed=2)
    study = Study(space, sampler={"name": "hyperopt", "startup_trials": 3}, seed=2, directory=folder)
    for number in range(8):
        value = number % 3 / 7
        through.tell(through.ask(), value)
        study.ask()
        kill(study)
        study = Study.resume(folder)
        study.tell(study.ask(), value)
        kill(study)
        study = Study.resume(folder)
    study.close()
    assert [(trial.configuration, trial.value) for trial in study.trials] == [
        (trial.configuration, trial.value) for trial in through.trials
    ]


def test_a_finite_space_loses_nothing_to_interruptions(six, folder):
    study = Study(six, directory=folder, seed=4)
    study.tell(study.ask(), 1.0)
    study.ask()
    for _ in range(3):
        kill(study)
        study = Study.resume(folder)
    keys = set()
    with pytest.raises(SpaceExhausted):
        while True:
            keys.add(six.key(study.ask().configuration))
    assert len(keys) == 5
    study.close()
    assert Study.load(folder).started == 6


def test_a_resumed_study_is_no_longer_stopped(six, folder):
    with Study(six, directory=folder) as study:
        study.note("stop", reason="interrupted")
    assert Study.load(folder).stopped == "interrupted"
    Study.resume(folder).close()
    assert Study.load(folder).stopped == ""


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(st.sampled_from(["ask", "ask", "tell", "fail", "give back", "kill", "tear", "close"]), max_size=25)
)
def test_whatever_happens_a_folder_holds_what_was_told(steps):
    space = Space([Int("x", 1, 30)])
    told, running = {}, {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "study"
        study = Study(space, seed=0, directory=folder)
        for step in steps:
            if step == "ask" and len(told) + len(running) < 30:
                trial = study.ask()
                assert trial.number not in told
                assert running.setdefault(trial.number, trial.configuration) == trial.configuration
            elif step in ("tell", "fail", "give back") and study._running:
                number = next(iter(study._running))
                if step == "give back":
                    study.give_back(number)
                    continue
                study.tell(number, **({"value": number} if step == "tell" else {"failure": "why"}))
                told[number] = (running.pop(number), float(number) if step == "tell" else None)
            elif step in ("kill", "tear", "close"):
                study.close() if step == "close" else kill(study)
                if step == "tear":
                    with (folder / "journal.jsonl").open("a") as file:
                        file.write('{"event": "tell", "number": 0, "val')
                study = Study.resume(folder)
            loaded = Study.load(folder)
            finished = {t.number: (t.configuration, t.value) for t in loaded.trials if t.result is not None}
            assert finished == told
            assert {t.number: t.configuration for t in loaded.trials if t.result is None} == running
        study.close()


# A folder that is in use, or was


def test_a_study_that_is_loaded_cannot_be_told_anything(six, folder):
    with Study(six, directory=folder) as study:
        study.ask()
    loaded = Study.load(folder)
    for attempt in (loaded.ask, lambda: loaded.tell(0, 1.0)):
        with pytest.raises(InputError, match=r"was loaded for reading alone: go on with Study.resume\('"):
            attempt()


def test_a_closed_study_cannot_be_told_anything(six, folder):
    study = Study(six, directory=folder)
    trial = study.ask()
    study.close()
    study.close()
    with pytest.raises(InputError, match="is closed, or was loaded for reading alone"):
        study.tell(trial, 1.0)
    assert Study.load(folder).finished == 0


def test_a_study_can_be_read_while_it_runs(six, folder):
    with Study(six, directory=folder) as study:
        study.tell(study.ask(), 1.0)
        assert Study.load(folder).best == study.best
        assert FolderLock.is_held(folder)
    assert not FolderLock.is_held(folder)


def test_a_second_master_is_refused(six, folder):
    with Study(six, directory=folder) as study:
        study.ask()
        for attempt in (lambda: Study.resume(folder), lambda: Study(six, directory=folder)):
            with pytest.raises(InputError, match=r"is in use by this very process|holds a study already"):
                attempt()
        study.tell(0, 1.0)
    assert Study.load(folder).finished == 1


def test_a_master_that_came_between_the_look_and_the_lock_is_seen(six, folder, monkeypatch):
    real = FolderLock.__init__

    def come_between(self, path):
        if not (folder / "journal.jsonl").exists():
            monkeypatch.setattr(FolderLock, "__init__", real)
            Study(six, sampler="random", directory=folder, seed=9).close()
        real(self, path)

    monkeypatch.setattr(FolderLock, "__init__", come_between)
    with pytest.raises(InputError, match="holds a study already"):
        Study(six, directory=folder)
    assert len(journal_of(folder)) == 1
    assert not FolderLock.is_held(folder)


def test_a_folder_with_a_study_is_not_begun_anew(six, folder):
    Study(six, directory=folder).close()
    before = (folder / "journal.jsonl").read_bytes()
    with pytest.raises(InputError, match="holds a study already: go on with  hpcompss resume"):
        Study(six, directory=folder)
    assert (folder / "journal.jsonl").read_bytes() == before


def test_a_folder_with_other_files_is_refused(six, folder):
    folder.mkdir()
    (folder / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"is not empty \(it has 'thesis.tex'\): choose another"):
        Study(six, directory=folder)
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


def test_an_empty_folder_is_taken(six, folder):
    folder.mkdir()
    Study(six, directory=folder).close()
    assert Study.load(folder).started == 0


def test_folders_above_are_made(six, tmp_path):
    Study(six, directory=tmp_path / "a" / "b" / "c").close()


@pytest.mark.parametrize("name", ["file", "file/study"])
def test_a_folder_that_cannot_be_made(six, tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be made \((File exists|Not a directory)\): choose another"):
        Study(six, directory=tmp_path / name)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who may not write")
def test_a_folder_that_cannot_be_written():
    code = """
    import os
    from pathlib import Path
    import hpcompss
    from hpcompss.study import Study
    from hpcompss.journal import FolderLock
    space = hpcompss.Space([hpcompss.Boolean("a")])
    os.mkdir("empty")
    with Study(space, directory="begun") as study:
        study.ask()
    Study.resume("begun").close()  # imports what nobody may not be able to read
    os.setgid(65534)
    os.setuid(65534)
    for attempt in (lambda: Study(space, directory="empty"), lambda: Study(space, directory="empty/new"),
                    lambda: Study.resume("begun")):
        try:
            attempt()
        except hpcompss.InputError as error:
            print(error)
    print(Study.load("begun").started, FolderLock.is_held(Path("begun")))
    """
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", textwrap.dedent(code)]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "the study folder empty cannot be written: choose another",
        "the study folder empty/new cannot be made (Permission denied): choose another",
        "the study folder begun cannot be written (Permission denied): choose another",
        "1 False",
    ]


# A journal that is not whole


@pytest.mark.parametrize("attempt", [Study.load, Study.resume])
def test_a_folder_without_a_study(tmp_path, attempt):
    with pytest.raises(InputError, match="holds no study"):
        attempt(tmp_path)
    with pytest.raises(InputError, match="holds no study"):
        attempt(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("length", [0, 1, 50])
def test_a_folder_whose_study_was_killed_as_it_was_made_is_taken(six, folder, length):
    Study(six, directory=folder).close()
    path = folder / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:length])
    for attempt in (Study.load, Study.resume):
        with pytest.raises(InputError, match="holds no study: its journal is empty"):
            attempt(folder)
    Study(six, directory=folder).close()
    assert Study.load(folder).started == 0


@pytest.fixture
def lines(six, folder):
    """The lines of a journal of three trials, the second of which is running."""
    with Study(six, sampler="random", directory=folder) as study:
        for _ in range(3):
            study.ask()
        study.tell(0, 1.0)
        study.tell(2, 2.0)
    return (folder / "journal.jsonl").read_text().splitlines(keepends=True)


def rewrite(folder, lines):
    (folder / "journal.jsonl").write_text("".join(lines))


@pytest.mark.parametrize(
    ("missing", "line", "message"),
    [
        (1, 2, "trial 1 begins where trial 0 should"),
        (2, 3, "trial 2 begins where trial 1 should"),
        (3, 5, "trial 2 ends, but is not running"),
    ],
)
def test_the_loss_of_a_trials_beginning_is_seen(folder, lines, missing, line, message):
    rewrite(folder, lines[:missing] + lines[missing + 1 :])
    for attempt in (Study.load, Study.resume):
        with pytest.raises(InputError) as caught:
            attempt(folder)
        assert str(caught.value).startswith(f"{folder}/journal.jsonl:{line}: this line does not fit those before it")
        assert message in str(caught.value)
    assert not FolderLock.is_held(folder)
    rewrite(folder, lines[:missing])  # as the message says
    Study.resume(folder).close()


def test_the_loss_of_a_trials_end_has_it_tried_again(folder, lines):
    rewrite(folder, lines[:4] + lines[5:])
    with Study.resume(folder) as study:
        assert study.interrupted == 2
        assert study.ask().number == 0


def test_a_trial_that_ends_twice_is_seen(folder, lines):
    rewrite(folder, [*lines, lines[-1]])
    with pytest.raises(InputError, match="trial 2 ends, but is not running"):
        Study.load(folder)


@pytest.mark.parametrize(
    "event", ['{"event": "ask"}', '{"event": "tell", "number": 1}', '{"event": "tell", "number": []}']
)
def test_a_record_that_lacks_something_is_seen(folder, lines, event):
    rewrite(folder, [*lines, event + "\n"])
    with pytest.raises(InputError, match=r"journal.jsonl:7: this line does not fit those before it"):
        Study.load(folder)


def test_an_event_of_another_version_is_passed_over(folder, lines):
    rewrite(folder, [*lines, '{"event": "applause"}\n'])
    assert Study.load(folder).started == 3


@pytest.mark.parametrize("lost", ["space", "seed", "sampler", "allow_duplicates"])
def test_a_description_that_lacks_something_is_seen(folder, lines, lost):
    header = json.loads(lines[0])
    del header[lost]
    rewrite(folder, [json.dumps(header) + "\n", *lines[1:]])
    with pytest.raises(InputError, match=rf"journal.jsonl:1: the study's description is damaged \('{lost}'\)"):
        Study.load(folder)


def test_a_description_of_a_parameter_that_is_not_known(folder, lines):
    rewrite(folder, [lines[0].replace('"Boolean"', '"Quaternion"'), *lines[1:]])
    with pytest.raises(InputError, match="the study's description is damaged"):
        Study.load(folder)


def test_a_format_of_another_version_is_refused(folder, lines):
    rewrite(folder, [lines[0].replace('"format": 1', '"format": 99'), *lines[1:]])
    for attempt in (Study.load, Study.resume):
        with pytest.raises(InputError, match=r"journal.jsonl:1: the journal has format 99"):
            attempt(folder)
    assert not FolderLock.is_held(folder)


def test_a_last_line_cut_short_is_tried_again(folder, lines):
    rewrite(folder, [*lines[:5], lines[5][:20]])
    with Study.resume(folder) as study:
        assert [study.ask().number, study.ask().number] == [1, 2]
        study.tell(2, 3.0)
    assert Study.load(folder).trials[2].value == 3.0


# A disk that is full


def test_a_study_whose_disk_was_full_for_a_while_loses_nothing(six, folder, monkeypatch):
    def no_room(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with Study(six, directory=folder) as study:
        first = study.ask()
        with monkeypatch.context() as full:
            full.setattr(os, "pwrite", no_room)
            with pytest.raises(JournalError, match=r"No space left on device.*run  hpcompss resume"):
                study.tell(first, 1.0)
            with pytest.raises(JournalError):
                study.ask()
        study.tell(study.ask(), 2.0)
        assert repr(Study.load(folder).trials) == repr(study.trials)
    assert [trial.value for trial in Study.load(folder).trials] == [1.0, 2.0]


def test_a_folder_whose_disk_was_full_from_the_beginning_is_taken(six, folder, monkeypatch):
    def little_room(number, data, place, real=os.pwrite, room=[5]):  # noqa: B006
        if room:
            return real(number, data[: room.pop()], place)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", little_room)
        with pytest.raises(JournalError, match=r"No space left on device.*mend that, then begin anew"):
            Study(six, directory=folder)
    assert not FolderLock.is_held(folder)
    Study(six, directory=folder).close()


# A sampler that chooses


class Chosen(Random):
    """Goes by the number of trials, as `auto` does."""

    def __init__(self, space, *, seed, trials=None, allow_duplicates=False):
        super().__init__(space, seed=seed, allow_duplicates=allow_duplicates)
        self.choice = ("grid", f"{trials} trials are enough") if trials == 6 else ("random", "they are not")


@pytest.fixture
def chosen(monkeypatch):
    monkeypatch.setitem(SAMPLERS, "chosen", f"{__name__}:Chosen")


def test_a_choice_of_the_sampler_is_noted_once(six, folder, chosen):
    with Study(six, sampler="chosen", budget=6, directory=folder) as study:
        assert study.choice == ("grid", "6 trials are enough")
        study.tell(study.ask(), 1.0)
    with Study.resume(folder) as resumed:
        assert resumed.choice == study.choice
    header, first, *rest = journal_of(folder)
    assert header["budget"] == 6
    assert (first["event"], first["name"], first["reason"]) == ("sampler", "grid", "6 trials are enough")
    assert "sampler" not in [record["event"] for record in rest]
    assert Study(six, sampler="random").choice is None


def test_a_workflow_tells_the_sampler_how_many_trials_there_will_be(chosen, tmp_path, capsys):
    sections = {"function": lambda values: 1.0, "space": [Int("x", 0, 9)], "objective": "loss"}
    with hpcompss.engines.Local(workers=1, cores=1) as engine:
        search = {"sampler": "chosen", "trials": 6}
        study = hpcompss.tune(**sections, search=search, study=tmp_path / "s", engine=engine)
        assert "\nsampler: grid (6 trials are enough)\n" in capsys.readouterr().out
        resumed = hpcompss.resume(tmp_path / "s", trials=7, function=lambda values: 1.0, engine=engine)
    assert resumed.choice == study.choice == ("grid", "6 trials are enough")


def test_progress_per_second_is_resumed(tmp_path):
    space = Space([Float("x", 0, 1)])
    with Study(space, sampler="gp", per="second", seed=0, directory=tmp_path / "s") as study:
        for number in range(8):
            study.tell(study.ask(), number % 3, seconds=1.5 + number)
        following = study.sampler.ask(study.history, [], 8)
    assert study.history.seconds.tolist() == [1.5 + number for number in range(8)]
    with Study.resume(tmp_path / "s") as resumed:
        assert resumed.settings["per"] == "second"
        assert resumed.ask().configuration == following


@pytest.mark.parametrize("per", ["hour", "seconds", 1])
def test_progress_is_counted_per_second_alone(per):
    with pytest.raises(InputError, match=r"objective\.per: progress is counted per 'second'"):
        Study(Space([Float("x", 0, 1)]), per=per)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_seconds_are_a_number_from_0(seconds):
    study = Study(Space([Float("x", 0, 1)]), seed=0)
    with pytest.raises(InputError, match="a trial runs for a number of seconds, at least 0"):
        study.tell(study.ask(), 1.0, seconds=seconds)
