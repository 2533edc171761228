"""The command line with workflows of plain Python functions; those of Keras models are in tests/training."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hpcompss.journal import FolderLock
from hpcompss.main import main
from hpcompss.samplers import prediction
from hpcompss.samplers.prediction import Prediction
from hpcompss.space import Int, Space
from hpcompss.study import Study

ROOT = Path(__file__).parents[1]
FUNCTION = ROOT / "workflows" / "function.yaml"

COMMANDS = ["run", "resume", "status", "best", "export", "plan", "doctor", "graph", "resources", "submit"]
COMMANDS += ["worker", "certificates", "agent"]

MODEL = """
def square(values):
    if values["x"] == 3:
        raise ValueError("three is not allowed")
    return {"loss": (values["x"] - 5.5) ** 2, "seconds": 1.0}

def never(values):
    raise RuntimeError(f"never, not for {values['x']}")

def differs(values):
    raise [ValueError, KeyError, TypeError, OSError][values["x"] % 4]("for once")
"""

EXHAUSTED = (
    "stopped: the space is exhausted: all 10 configurations were tried, 1 failed: fix the cause, then resume with "
    "--retry-failed"
)
"""What ends the search of the workflow below: three is not allowed."""

WORKFLOW = """
function: model.py:square
objective: loss
space: {x: {type: Int, min_value: 0, max_value: 9}}
search: {sampler: grid, seed: 1}
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder of its own, with a workflow, that commands run in."""
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "workflow.yaml").write_text(WORKFLOW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


@pytest.fixture
def command(capsys):
    """Runs a command in this process; returns its exit status, its output and what it said on standard error."""

    def command(*arguments):
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code
        output = capsys.readouterr()
        return status, output.out, output.err

    return command


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a study that has run, made once."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "model.py").write_text(MODEL)
    (folder / "workflow.yaml").write_text(WORKFLOW)
    before = Path.cwd()
    try:
        os.chdir(folder)
        assert main(["run", "workflow.yaml", "--study", "study"]) == 0
    finally:
        os.chdir(before)
    return folder / "study"


@pytest.fixture
def study(finished, here):
    """A study that has run, for this test alone."""
    shutil.copytree(finished, here / "done")
    return Path("done")


@pytest.fixture
def refused(command):
    """Runs a command that must refuse its input, and returns the one sentence that says why."""

    def refused(*arguments):
        status, output, errors = command(*arguments)
        assert (status, output) == (2, "")
        assert "Traceback" not in errors
        assert errors.startswith("hpcompss: ")
        assert errors.count("\n") == 1
        return errors.removeprefix("hpcompss: ").rstrip("\n")

    return refused


def shell(line, **options):
    """Runs a line of bash in which ``hpcompss`` is the command."""
    head = f'set -o pipefail; hpcompss() {{ {sys.executable} -W error -m hpcompss "$@"; }}\n'
    return subprocess.run(["bash", "-c", head + line], capture_output=True, text=True, timeout=120, **options)


def records(folder):
    return [json.loads(line) for line in (Path(folder) / "journal.jsonl").read_text().splitlines()]


# Help


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(command, name):
    status, output, _ = command(name, "--help")
    assert status == 0
    assert output.startswith(f"usage: hpcompss {name} ")
    assert "--json" in output


def test_help_names_every_command_and_imports_nothing_heavy():
    done = shell("hpcompss --help", env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"})
    assert done.returncode == 0
    assert all(re.search(rf"^ +{name}( |$)", done.stdout, re.MULTILINE) for name in COMMANDS)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "hpcompss.main" in imported
    assert not imported & {"cloudpickle", "keras", "numpy", "pydantic", "rich", "scipy", "tensorflow", "yaml"}


def test_the_version(command):
    status, output, _ = command("--version")
    assert (status, output) == (0, "hpcompss 0.1.0\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["rnu"], "invalid choice: 'rnu'"),
        (["run"], "required: WORKFLOW"),
        (["status"], "required: DIR"),
        (["run", "a.yaml", "b.yaml"], "unrecognized arguments: b.yaml"),
        (["run", "a.yaml", "--trails", "3"], "unrecognized arguments: --trails"),
        (["resume", "x", "--trials", "0"], "must be at least 1, not 0"),
        (["resume", "x", "--trials", "many"], "argument --trials: must be a whole number, not 'many'"),
        (["resume", "x", "--workers", "many"], "argument --workers: must be a whole number, not 'many'"),
        (["export", "x", "--format", "xml"], "invalid choice: 'xml'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_line_that_is_not_understood(command, arguments, message):
    status, output, errors = command(*arguments)
    assert (status, output) == (2, "")
    assert message in errors


def test_the_master_imports_neither_tensorflow_nor_keras():
    code = f"""
    import contextlib, io, sys
    from hpcompss.main import main
    commands = ["run {FUNCTION} --trials 25 --study s", "resume s --trials 26", "status s", "best s", "export s",
                "plan {FUNCTION}", "doctor"]
    for line in commands:
        with contextlib.redirect_stdout(io.StringIO()):
            main(line.split())
    print(sorted(set(sys.modules) & {{"tensorflow", "keras", "sklearn", "PIL", "pandas"}}))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "[]\n")


# Run


def test_a_workflow_is_run(command, here):
    status, output, errors = command("run", "workflow.yaml", "--study", "new", "--workers", 2)
    assert (status, errors) == (0, "")
    lines = output.splitlines()
    assert lines[0] == "study: new"
    assert EXHAUSTED in lines
    # Trials that finish together may share a line; the last one tells of all ten either way.
    last = lines[lines.index(EXHAUSTED) - 1]
    assert re.match(r"10 trials finished, 1 failed|trial .* 10$", last)
    best = lines[lines.index(EXHAUSTED) + 1 :]
    assert re.fullmatch(r"best: trial [56], loss 0.25", best[0])
    assert re.fullmatch(r"  x  [56]", best[1])
    assert best[2:] == ["1 trial failed: ValueError: three is not allowed", "results: new"]
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", output), "no escape codes where nobody watches"
    assert Study.load("new").completed == 9
    assert "function: " + str(here / "model.py") in Path("new/workflow.yaml").read_text()
    rows = list(csv.DictReader(io.StringIO(Path("new/trials.csv").read_text())))
    assert [row["number"] for row in rows] == [str(number) for number in range(10)]
    assert rows[3]["reason"] == "ValueError: three is not allowed"
    assert rows[3]["value"] == ""


def test_the_workflow_of_the_readme_runs_as_it_is():
    done = shell(f"hpcompss run {FUNCTION} --trials 24 --study new --workers 2; hpcompss best new")
    assert (done.returncode, done.stderr) == (0, "")
    assert "stopped: all 24 trials are done" in done.stdout
    assert Study.load("new").completed == 24
    assert Study.load("new").best.value < 3


def test_json_is_all_that_is_on_standard_output(command):
    status, output, errors = command("run", "workflow.yaml", "--study", "new", "--trials", 4, "--json")
    assert status == 0
    result = json.loads(output)
    assert result["counts"] == {"completed": 3, "failed": 1, "unfinished": 0}
    assert (result["metric"], result["direction"], result["seed"], result["sampler"]) == ("loss", "minimize", 1, "grid")
    assert result["best"]["configuration"] == {"x": 2}
    assert result["best"]["metrics"] == {"loss": 12.25, "seconds": 1.0}
    assert (result["directory"], result["model"], result["test"]) == ("new", None, None)
    assert "study: new" in errors


def test_options_stand_for_settings(command):
    options = ["--trials", "3", "--seed", "8", "--time", "1h", "--workers", "1", "--engine", "local"]
    status, _, _ = command("run", "workflow.yaml", "--study", "new", *options, "--set", "search.sampler=random")
    assert status == 0
    text = Path("new/workflow.yaml").read_text()
    assert "trials: 3" in text and "seed: 8" in text and "time: 3600.0" in text and "workers: 1" in text
    assert Study.load("new").settings["sampler"] == "random"


def test_without_a_folder_one_is_named_by_the_workflow_and_the_time(command):
    for _ in range(2):
        assert command("run", "workflow.yaml", "--trials", 1)[0] == 0
    folders = sorted(path.name for path in Path("studies").iterdir())
    assert len(folders) == 2
    assert all(re.fullmatch(r"workflow-\d{8}-\d{6}(-2)?", name) for name in folders)


def test_a_study_that_finds_nothing_ends_with_status_1(command):
    workflow = ["workflow.yaml", "--set", "function=model.py:differs", "--workers", "1"]
    status, output, _ = command("run", *workflow, "--study", "new", "--trials", 4)
    assert status == 1
    assert "no trial has completed (4 failed)" in output
    assert "1 trial failed: OSError: for once" in output
    status, output, _ = command("best", "new", "--json")
    assert status == 1
    assert json.loads(output)["best"] is None


def test_three_first_failures_alike_stop_with_the_traceback(command):
    status, output, errors = command("run", "workflow.yaml", "--set", "function=model.py:never", "--study", "new")
    assert status == 2
    assert errors.startswith("Traceback (most recent call last):\n")
    assert f'File "{Path.cwd()}/model.py", line 8, in never\n' in errors
    assert "hpcompss/tasks" not in errors and "StudyFailed" not in errors
    *_, raised, sentence = errors.splitlines()
    assert raised.startswith("RuntimeError: never, not for ")
    assert sentence.startswith("hpcompss: the first 3 trials failed in the same way (RuntimeError: never, not for ")
    assert Study.load("new").failed >= 3
    assert Path("new/trials.csv").exists()
    assert "stopped: " not in output


BROKEN_MODULES = {
    "raises": ("raise ImportError('no such thing')", ": ImportError: no such thing"),
    "no Python": ("def square(:", ": SyntaxError: invalid syntax"),
    "lacks the function": ("def sqare(values): pass", "has no 'square'; did you mean 'sqare'?"),
    "lacks a package": (
        "import no_such_package_at_all",
        ": ModuleNotFoundError: No module named 'no_such_package_at_a",
    ),
}


@pytest.mark.parametrize(("text", "message"), BROKEN_MODULES.values(), ids=BROKEN_MODULES)
def test_a_module_that_is_broken(command, here, text, message):
    (here / "model.py").write_text(text)
    status, _, errors = command("run", "workflow.yaml", "--study", "new")
    assert status == 2
    assert message in errors.splitlines()[-1]
    assert "hpcompss/loading.py" not in errors


# Bad input

BAD_WORKFLOWS = {
    "malformed": ("search: {trials: 3", [], "workflow.yaml:7:1: this is not valid YAML (while parsing a flow mapping"),
    "an unknown key": (
        "training: {epoch: 3}",
        [],
        "workflow.yaml:6:12: training.epoch: unknown key 'epoch'; did you me",
    ),
    "a wrong type": (
        "training: {epochs: x}",
        [],
        "workflow.yaml:6:12: training.epochs: must be a whole number, not 'x'",
    ),
    "reversed bounds": (
        "",
        ["space.x.min_value=99"],
        "--set space.x.min_value=99: space.x: Int 'x': min_value 99 is above",
    ),
    "an infinite bound": (
        "",
        ["space.x.max_value=.inf"],
        "--set space.x.max_value=.inf: space.x: Int 'x': max_value must be a whol",
    ),
    "a log range reaching 0": (
        "",
        ["space.x.sampling=log"],
        "--set space.x.sampling=log: space.x: Int 'x': sampling='log' needs",
    ),
    "a parameter twice": ("space: {x: {type: Boolean}}", [], "workflow.yaml:6:1: space: 'space' is given twice, first"),
    "no choice": (
        "",
        ["space.x={type: Choice, values: []}"],
        "--set space.x={type: Choice, values: []}: space.x: Choice",
    ),
    "a step too large": (
        "",
        ["space.x.step=20"],
        "--set space.x.step=20: space.x: Int 'x': step 20 is larger than the range",
    ),
    "an unknown sampler": (
        "",
        ["search.sampler=gird"],
        "--set search.sampler=gird: search.sampler: unknown sampler 'gird",
    ),
    "an unknown engine": (
        "engine: lokal",
        [],
        "workflow.yaml:6:1: engine: unknown engine 'lokal'; did you mean 'local'?",
    ),
    "an unknown direction": (
        "",
        ["objective=beauty"],
        "--set objective=beauty: objective: the direction of 'beauty' is",
    ),
    "more cpus than there are": (
        "",
        ["resources.cpu=4096"],
        "--set resources.cpu=4096: resources.cpu: a trial asks for",
    ),
    "more gpus than there are": (
        "",
        ["resources.gpu=99"],
        "--set resources.gpu=99: resources.gpu: a trial asks for 99 G",
    ),
    "more memory than there is": (
        "resources: {memory: 99TB}",
        [],
        "workflow.yaml:6:13: resources.memory: a trial asks for ",
    ),
    "a grid without steps": (
        "",
        ["space.x={type: Float, min_value: 0, max_value: 1}", "search.trials=3"],
        "workflow.yaml:5:10: search.sampler: a grid needs a step for 'x' (0.5 gives 3 points, 0.2 gives 6, ",
    ),
    "no end": (
        "",
        ["space.x={type: Float, min_value: 0, max_value: 1}", "search.sampler=random"],
        "workflow.yaml:5:1: search: a search of an infinite space needs a limit",
    ),
    "a start outside the space": (
        "",
        ["search.initial=[{x: 3}, {x: 10}]"],
        "--set search.initial=[{x: 3}, {x: 10}]: search.initial.1: Int 'x': 10 is outside 0 to 9",
    ),
    "a warm start from nowhere": (
        "",
        ["search.warm_start=nothing"],
        "--set search.warm_start=nothing: search.warm_start: HERE/nothing holds no study: name the folder of one",
    ),
    "a missing module": ("", ["function=none.py:f"], "--set function=none.py:f: function: there is no file "),
}


@pytest.mark.parametrize(("text", "assignments", "message"), BAD_WORKFLOWS.values(), ids=BAD_WORKFLOWS)
def test_a_bad_workflow(refused, here, text, assignments, message):
    with (here / "workflow.yaml").open("a") as file:
        file.write(text + "\n")
    options = [part for assignment in assignments for part in ("--set", assignment)]
    assert refused("run", "workflow.yaml", "--study", "new", *options).startswith(message.replace("HERE", str(here)))
    assert not Path("new").exists(), "nothing is left behind"


def test_a_bad_option(refused):
    message = refused("run", "workflow.yaml", "--set", "search.trials=some")
    assert "search.trials: must be a whole number, not 'some'" in message
    assert not Path("studies").exists()


def test_a_bad_number_of_trials(command):
    status, _, errors = command("run", "workflow.yaml", "--trials", "some")
    assert status == 2
    assert errors.endswith("argument --trials: must be a whole number, not 'some'\n")


def test_a_missing_workflow(refused):
    assert refused("run", "none.yaml") == "none.yaml: the workflow cannot be read (No such file or directory)"
    assert refused("plan", "model.py").startswith("model.py:")


def test_a_folder_with_this_workflows_study(refused, study):
    before = (study / "journal.jsonl").read_bytes()
    workflow = study / "workflow.yaml"
    message = refused("run", workflow, "--study", study)
    assert message == "done holds this workflow's study already: go on with  hpcompss resume done"
    assert (study / "journal.jsonl").read_bytes() == before


def test_a_folder_with_another_workflows_study(refused, study):
    before = (study / "journal.jsonl").read_bytes()
    message = refused("run", "workflow.yaml", "--study", study, "--seed", "99")
    assert message == "done holds the study of another workflow: choose another folder with --study"
    assert (study / "journal.jsonl").read_bytes() == before


def test_a_folder_with_other_files(refused, here):
    assert refused("run", "workflow.yaml", "--study", here) == (
        f"the study folder {here} is not empty (it has 'model.py'): choose another"
    )
    assert sorted(path.name for path in here.iterdir()) == ["model.py", "workflow.yaml"]


@pytest.mark.parametrize("folder", ["model.py", "model.py/study", "/proc/self/study"])
def test_a_folder_that_cannot_be_made(refused, folder):
    message = refused("run", "workflow.yaml", "--study", folder)
    assert message.startswith(f"the study folder {folder} cannot be made (")
    assert message.endswith("): choose another")


@pytest.mark.parametrize("name", ["resume", "status", "best", "export"])
def test_a_folder_without_a_study(refused, here, name):
    for folder in (".", "none", "model.py"):
        assert "holds no study" in refused(name, folder)
    assert sorted(path.name for path in here.iterdir()) == ["model.py", "workflow.yaml"]


@pytest.mark.parametrize("name", ["resume", "status", "best", "export"])
def test_a_journal_of_an_unknown_format(refused, study, name):
    journal = study / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"format": 1', '"format": 2', 1))
    before = journal.read_bytes()
    message = refused(name, study)
    assert message.startswith(
        "done/journal.jsonl:1: the journal has format 2 (written by hpcompss 0.1.0), this hpcompss"
    )
    assert journal.read_bytes() == before


@pytest.mark.parametrize("name", ["resume", "status", "best", "export"])
def test_a_journal_with_a_damaged_line(refused, study, name):
    journal = study / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4][:20] + b"\n"
    journal.write_bytes(b"".join(lines))
    assert refused(name, study).startswith("done/journal.jsonl:5: this line is damaged (")
    assert journal.read_bytes() == b"".join(lines)
    assert not FolderLock.is_held(study)


def test_a_study_that_runs_is_not_resumed(refused, command, study):
    before = (study / "journal.jsonl").read_bytes()
    lock = FolderLock(study)
    assert refused("resume", study).startswith("done is in use by this very process: ")
    assert command("status", study)[1].startswith("done: running; 9 completed, 1 failed\n")
    lock.release()
    assert (study / "journal.jsonl").read_bytes() == before


def test_a_study_of_the_python_interface_is_not_resumed_here(refused, here):
    with Study(Space([Int("x", 0, 9)]), directory=here / "new") as study:
        study.tell(study.ask(), 1.0)
    assert "a study made in Python with hpcompss.Study goes on there, with Study.resume" in refused("resume", "new")
    assert not FolderLock.is_held(here / "new")


# Resume


def test_a_study_goes_on_with_another_engine(refused, command, study):
    assert "PyCOMPSs is not installed" in refused("resume", study, "--trials", "30", "--engine", "compss")
    assert "unknown engine 'locl'; did you mean 'local'" in refused(
        "resume", study, "--trials", "30", "--engine", "locl"
    )
    assert command("resume", study, "--trials", "30", "--engine", "local")[0] == 0


def test_a_study_is_resumed_with_more_trials(command):
    assert command("run", "workflow.yaml", "--study", "new", "--trials", 3)[0] == 0
    before = Path("new/journal.jsonl").read_bytes()
    status, output, errors = command("resume", "new", "--trials", 6, "--time", "90", "--workers", "auto")
    assert (status, errors) == (0, "")
    assert "stopped: all 6 trials are done" in output
    assert Study.load("new").started == 6
    assert Path("new/journal.jsonl").read_bytes().startswith(before)
    assert len(Path("new/trials.csv").read_text().splitlines()) == 7


def test_a_study_that_is_done_is_done(command, study):
    before = len(records(study))
    status, output, _ = command("resume", study, "--json")
    assert (status, json.loads(output)["counts"]["completed"]) == (0, 9)
    assert [record["event"] for record in records(study)[before:]] == ["resume", "stop"]


def test_a_bad_duration(command, study):
    status, _, errors = command("resume", study, "--time", "soon")
    assert status == 2
    assert errors.endswith("argument --time: must be a duration such as 90s, 10m or 1h30m, not 'soon'\n")


def test_a_module_that_was_changed_is_told_of(command, study):
    workflow = (study / "workflow.yaml").read_text()
    (study / "workflow.yaml").write_text(re.sub("function: .*", f"function: {Path.cwd()}/model.py:square", workflow))
    status, output, _ = command("resume", study)
    assert (status, "warning" in output) == (0, False)
    Path("model.py").write_text(MODEL + "\n# changed\n")
    status, output, _ = command("resume", study)
    assert status == 0
    assert "warning: the model's file was changed since this study began" in output


# Failed trials that are tried again


HELPED = """
import helper

def square(values):
    helper.check(values["x"])
    return {"loss": (values["x"] - 5.5) ** 2}

def restless(values):
    if values["x"] > 1:
        return float("nan")
    return square(values)
"""


@pytest.fixture
def mistaken(here):
    """A study of four configurations whose first three trials failed by a mistake in a file beside the model's."""
    (here / "model.py").write_text(HELPED)
    (here / "helper.py").write_text("def check(x):\n    raise KeyError('labels')\n")
    return ["workflow.yaml", "--set", "space.x.max_value=3", "--study", "new", "--workers", 1]


def mend(here):
    (here / "helper.py").write_text("def check(x):\n    pass\n")


def test_a_mistake_is_fixed_and_the_study_resumed(command, mistaken, here):
    status, _, errors = command("run", *mistaken)
    assert errors.endswith(
        "hpcompss: the first 3 trials failed in the same way (KeyError: 'labels'), so the study stopped: fix the "
        "cause, then run  hpcompss resume new --retry-failed\n"
    )
    mend(here)
    status, output, errors = command("resume", "new")
    assert (status, errors) == (0, "")
    # Where trials are short, one more may have failed by then.
    assert re.match(r"helper.py changed since trial [23]: trying the [34] failed trials again\n", output)
    assert "stopped: the space is exhausted: all 4 configurations were tried\n" in output
    loaded = Study.load("new")
    assert (loaded.completed, loaded.failed) == (4, 0)
    status, output, _ = command("resume", "new")
    assert status == 0 and "changed since" not in output and "failed" not in output


def test_a_space_whose_trials_failed_is_not_said_to_be_done(command, mistaken, here):
    (here / "helper.py").write_text("def check(x):\n    raise [OSError, KeyError, ValueError, None][x] or 1 / x\n")
    status, output, _ = command("run", *mistaken)
    assert status == 1
    assert "stopped: the space is exhausted: all 4 configurations were tried, 4 failed: fix the cause, then " in output
    assert "resume with --retry-failed\n" in output
    status, output, _ = command("resume", "new")
    assert "note: 4 trials have failed; resume with --retry-failed to try again\n" in output
    status, _, errors = command("resume", "new", "--retry-failed", "no such thing")
    assert status == 2
    assert errors.startswith(
        "hpcompss: no trial failed with a reason that contains 'no such thing': there is OSError; "
    )
    status, output, _ = command("resume", "new", "--retry-failed", "keyerror")
    assert "trying 1 of the 4 failed trials again\n" in output
    assert (status, Study.load("new").failed) == (1, 4)
    (here / "helper.py").write_text("def check(x):\n    if x == 2: raise ValueError('still')\n")
    status, output, _ = command("resume", "new")
    assert "helper.py changed since trial 3: trying the 4 failed trials again\n" in output
    assert (status, Study.load("new").failed) == (0, 1)
    assert "all 4 configurations were tried, 1 failed: fix the cause" in output
    mend(here)
    _, output, _ = command("resume", "new", "--retry-failed", "--json")
    assert json.loads(output)["counts"] == {"completed": 4, "failed": 0, "unfinished": 0}
    _, output, _ = command("resume", "new", "--retry-failed")
    assert "no trial has failed, so none is tried again\n" in output


def test_what_the_configuration_most_likely_caused_is_tried_again_when_asked(command, mistaken, here):
    mend(here)
    assert command("run", *mistaken, "--set", "function=model.py:restless")[0] == 0
    assert (Study.load("new").completed, Study.load("new").failed) == (2, 2)
    (here / "model.py").write_text(HELPED.replace("> 1", "> 2"))
    _, output, _ = command("resume", "new")
    assert "trying" not in output
    assert "note: trials that exceeded a limit or had no finite value are not tried again for changed code" in output
    assert Study.load("new").failed == 2
    _, output, _ = command("resume", "new", "--retry-failed", "is nan")
    assert "trying the 2 failed trials again\n" in output
    assert Study.load("new").failed == 1


def test_a_study_of_an_earlier_version_knows_its_models_file(command, mistaken, here):
    command("run", *mistaken)
    journal = here / "new" / "journal.jsonl"
    header, *rest = journal.read_text().splitlines(True)
    described = json.loads(header)
    del described["about"]["code"]
    journal.write_text("".join([json.dumps(described) + "\n", *rest]))
    mend(here)
    _, output, _ = command("resume", "new", "--trials", 3)
    assert "changed since" not in output
    (here / "model.py").write_text(HELPED + "\n# mended\n")
    _, output, _ = command("resume", "new")
    assert "model.py changed since trial " in output
    assert Study.load("new").failed == 0


def test_reasons_are_one_line_everywhere(command, mistaken, here):
    raising = "raise ValueError('\\n\\x1b[1mno labels:\\x1b[0m\\n\\n  in the table') from KeyError('y')"
    (here / "helper.py").write_text(f"def check(x):\n    if x == 1: {raising}\n")
    reason = "ValueError: no labels: in the table (KeyError: 'y')"
    _, output, _ = command("run", *mistaken)
    assert f": {reason}  best" in output
    _, output, _ = command("status", "new")
    assert f"1 trial failed: {reason}\n" in output
    _, output, _ = command("export", "new")
    assert [row["reason"] for row in csv.DictReader(io.StringIO(output))] == ["", reason, "", ""]
    _, output, _ = command("export", "new", "--json")
    assert json.loads(output)["trials"][1]["failure"] == {"kind": "exception", "reason": reason}
    journal = (here / "new" / "journal.jsonl").read_text()
    assert "\\u001b" not in journal and "helper.py" in journal


# Where a search begins and ends


def test_a_search_begins_where_it_is_told(command, here):
    _, output, _ = command("plan", "workflow.yaml", "--set", "search.initial=[{x: 7}, {}]", "--first", 4)
    assert "  trial 0: x=7\n  trial 1: x=0\n  trial 2: x=1\n  trial 3: x=2\n" in output
    assert command("run", "workflow.yaml", "--study", "new", "--set", "search.initial=[{x: 7}]", "--trials", 3)[0] == 0
    assert [trial.configuration["x"] for trial in Study.load("new").trials] == [7, 0, 1]
    assert command("resume", "new", "--trials", 10)[0] == 0
    assert [trial.configuration["x"] for trial in Study.load("new").trials] == [7, 0, 1, 2, 3, 4, 5, 6, 8, 9]


def test_a_search_learns_from_another(command, here, study):
    (here / "workflow.yaml").write_text(WORKFLOW.replace("max_value: 9", "max_value: 6") + "resources: {cpu: 1}\n")
    status, output, _ = command(
        "run", "workflow.yaml", "--study", "new", "--set", "search.warm_start=done", "--trials", 2
    )
    assert status == 0
    assert (
        f"\nwarm start: 7 trials taken over from {here}/done, 3 left out (3: a value of 'x' is outside this space)\n"
    ) in output
    shutil.rmtree(study)
    assert command("resume", "new", "--trials", 4)[0] == 0
    assert (Study.load("new").started, Study.load("new").history.transferred) == (4, 7)


def test_a_search_ends_at_its_target(command, here):
    status, output, _ = command("run", "workflow.yaml", "--study", "new", "--target", 0.25, "--workers", 1)
    assert status == 0
    assert "\nstopped: the target 0.25 is reached (trial 5: 0.25)\n" in output
    begun = Study.load("new").started
    status, output, _ = command("resume", "new")
    assert "stopped: the target 0.25 is reached (trial 5: 0.25)\n" in output
    assert Study.load("new").started == begun
    status, output, _ = command("resume", "new", "--target", 0)
    assert "stopped: the space is exhausted" in output
    assert Study.load("new").limits == {"target": 0.0}
    _, output, _ = command("status", "new", "--json")
    assert json.loads(output)["stopped"].startswith("the space is exhausted")


def test_patience_on_the_command_line(command, here):
    many = ["--set", "space.x.max_value=999", "--set", "space.x.min_value=6"]
    status, output, _ = command("run", "workflow.yaml", "--study", "new", "--patience", 4, *many)
    assert status == 0
    assert "stopped: no improvement in the last 4 trials (the best is trial 0: 0.25)\n" in output
    assert command("resume", "new", "--patience", 20)[0] == 0
    assert Study.load("new").finished >= 21
    _, output, _ = command("resume", "new")
    assert "stopped: no improvement in the last 20 trials" in output


def test_bad_stop_rules(command):
    for option, message in (
        ("--target=high", "must be a number, not 'high'"),
        ("--target=nan", "must be a finite number, not nan"),
        ("--patience=0", "must be at least 1, not 0"),
    ):
        status, _, errors = command("run", "workflow.yaml", option)
        assert status == 2
        assert errors.endswith(f"argument {option.partition('=')[0]}: {message}\n")


def test_constraints_on_the_command_line(command, here):
    objective = "objective={metric: loss, constraints: {size: {max: 3}}}"
    (here / "model.py").write_text("def square(values): return {'loss': -values['x'], 'size': values['x']}\n")
    status, output, _ = command("run", "workflow.yaml", "--study", "new", "--set", objective)
    assert status == 0
    assert "best: trial 3, loss -3\n" in output
    status, output, _ = command("status", "new")
    lines = output.splitlines()
    assert lines[0] == "new: not running; 10 completed (6 infeasible), 0 failed"
    assert lines[2].split() == ["trial", "loss", "epoch", "time", "constraints", "configuration"]
    assert lines[3].split() == ["3", "-3", "-", "0.0", "s", "met", "x=3"]
    assert lines[7].split() == ["9", "-9", "-", "0.0", "s", "size", "9", "is", "above", "3", "x=9"]
    status, output, _ = command("run", "workflow.yaml", "--study", "none", "--set", objective.replace("3", "-1"))
    assert status == 1
    assert "no trial is feasible (10 completed (10 infeasible), 0 failed)\n" in output
    assert command("best", "none")[0] == 1
    (here / "model.py").write_text("def square(values): return values['x']\n")
    status, output, errors = command("run", "workflow.yaml", "--study", "bad", "--set", objective)
    assert status == 2
    assert "failed in the same way (it reports no 'size', which objective.constraints bounds; it reports one" in errors


# Looking at a study


def test_status(command, study):
    status, output, errors = command("status", study)
    assert (status, errors) == (0, "")
    lines = output.splitlines()
    assert lines[0] == "done: not running; 9 completed, 1 failed"
    assert lines[1] == EXHAUSTED
    assert lines[2].split() == ["trial", "loss", "epoch", "time", "configuration"]
    assert lines[3].split()[:2] in (["5", "0.25"], ["6", "0.25"])
    assert lines[-1] == "1 trial failed: ValueError: three is not allowed"
    status, output, _ = command("status", study, "--json")
    result = json.loads(output)
    assert (result["running"], result["counts"]) == (False, {"completed": 9, "failed": 1, "unfinished": 0})


def test_status_of_an_interrupted_study(command, here):
    with Study(Space([Int("x", 0, 9)]), directory=here / "new") as study:
        study.ask()
        _, output, _ = command("status", "new")
        assert output == "new: running; 0 completed, 0 failed, 1 running\n"
    _, output, _ = command("status", "new")
    assert output == "new: not running; 0 completed, 0 failed, 1 to be tried again on resume\n"


def test_best(command, study):
    status, output, _ = command("best", study)
    assert status == 0
    assert re.match(r"best: trial [56], loss 0.25\n  x  [56]\n", output)
    status, output, _ = command("best", study, "--json")
    result = json.loads(output)
    assert status == 0
    assert result["best"]["value"] == 0.25
    assert set(result) == {"metric", "direction", "best", "test", "model", "ensemble", "notes"}


def test_export_as_a_table(command, study):
    status, output, _ = command("export", study)
    assert status == 0
    rows = list(csv.DictReader(io.StringIO(output)))
    assert [row["parameter:x"] for row in rows] == [str(number) for number in range(10)]
    assert list(rows[0]) == [
        "number",
        "state",
        "value",
        "seconds",
        "epoch",
        "parameter:x",
        "metric:loss",
        "metric:seconds",
        "reason",
    ]
    assert output == (study / "trials.csv").read_text()


@pytest.mark.parametrize("options", [["--format", "json"], ["--json"]])
def test_export_as_json(command, study, options):
    status, output, _ = command("export", study, *options)
    result = json.loads(output)
    assert status == 0
    assert [trial["number"] for trial in result["trials"]] == list(range(10))
    assert result["trials"][3]["failure"] == {"kind": "exception", "reason": "ValueError: three is not allowed"}


def test_export_to_a_file(command, refused, study):
    assert command("export", study, "--output", "table.csv") == (0, "", "")
    assert Path("table.csv").read_text() == (study / "trials.csv").read_text()
    assert refused("export", study, "--output", "none/table.csv") == (
        "--output: none/table.csv cannot be written (No such file or directory)"
    )


def test_looking_changes_nothing(command, study):
    before = sorted((path.name, path.stat().st_mtime_ns) for path in study.iterdir())
    for name in ("status", "best", "export"):
        command(name, study)
    assert sorted((path.name, path.stat().st_mtime_ns) for path in study.iterdir()) == before


def test_what_the_user_writes_is_no_markup(command, here):
    (here / "model.py").write_text("def f(values): return {'[/b]oss': 1.0, 'more': 2.0}\n")
    (here / "workflow.yaml").write_text(
        "function: model.py:f\nobjective: {metric: '[/b]oss', direction: minimize}\n"
        "space: {'[red]x': {type: Choice, values: ['[/a]', ':smile:']}}\n"
    )
    for arguments in (["plan", "workflow.yaml"], ["run", "workflow.yaml", "--study", "new"], ["status", "new"]):
        status, output, _ = command(*arguments)
        assert status == 0
        assert all(word in output for word in ("[red]x", "[/a]" if arguments[0] != "run" else "[/b]oss"))
    assert ":smile:" in output


# Plan and doctor


def test_plan(command, here):
    status, output, errors = command("plan", "workflow.yaml", "--first", 2, "--set", "resources.time_limit=10m")
    assert (status, errors) == (0, "")
    assert "combinations: 10\n" in output
    assert "search: grid, seed 1, all\n  trial 0: x=0\n  trial 1: x=1\n\n" in output
    assert "one trial asks for 1 cpu, 0 gpu, at most 10 min 0 s\n" in output
    assert re.search(r"^at once on this machine: \d+\n", output, re.MULTILINE)
    assert sorted(path.name for path in here.iterdir()) == ["model.py", "workflow.yaml"]


def test_a_plan_tells_the_stages(command, here):
    (here / "staged.py").write_text("def objective(values, epochs): return values['x'] / epochs")
    (here / "staged.yaml").write_text(
        "function: staged.py:objective\nspace: {x: {type: Float, min_value: 0.0, max_value: 1.0}}\n"
        "objective: {metric: loss}\nsearch: {trials: 9, seed: 1}\nfidelity: {scheduler: asha, max_epochs: 9}\n"
    )
    assert "stages: 1, 3, 9 epochs (asha)" in command("plan", "staged.yaml")[1]


def test_plan_as_json(command):
    status, output, _ = command("plan", FUNCTION, "--json")
    plan = json.loads(output)
    assert status == 0
    assert (plan["combinations"], plan["sampler"], plan["seed"], plan["trials"]) == (None, "auto", 7, 100)
    assert [each["name"] for each in plan["space"]] == ["kernel", "length_scale", "degree", "penalty"]
    assert len(plan["first"]) == 5
    assert plan["resources"] == {"cpu": 1, "gpu": 0, "time_limit": 60}
    assert plan["at_once"] >= 1


@pytest.mark.parametrize("order", ["eager", "lagged"])
def test_a_plan_tells_what_run_will_do(command, order):
    options = ["--set", f"search.order={order}"]
    plan = json.loads(command("plan", FUNCTION, "--json", "--first", "3", *options)[1])
    assert command("run", FUNCTION, "--study", "new", "--trials", 3, *options)[0] == 0
    assert [trial.configuration for trial in Study.load("new").trials] == plan["first"]


@pytest.fixture
def promising(monkeypatch):
    """Three predictions, in place of a model's."""
    found = [
        Prediction({"x": 5}, 0.25, 0.125, 0.5),
        Prediction({"x": 6}, 1.0, 0.5, 0.0625),
        Prediction({"x": 7}, 3.0, 0.5, 1e-19),
    ]
    monkeypatch.setattr(prediction, "predict", lambda history, pending, count: found[:count] if len(history) else [])
    return found


def test_a_plan_of_a_study(command, study, promising):
    for arguments in (["plan", study], ["plan", "workflow.yaml", "--study", study]):
        status, output, errors = command(*arguments)
        assert (status, errors) == (0, "predicting ...\n")
        assert "combinations: 10\n" in output
        assert "known: 10 trials have finished, the best 0.25\n" in output
        assert "trial 0:" not in output
        table = output[output.index("expected loss") :].splitlines()
        assert [line.split() for line in table[1:4]] == [
            ["0.25", "±", "0.12", "0.5", "x=5"],
            ["1", "±", "0.5", "0.0625", "x=6"],
            ["3", "±", "0.5", "0", "x=7"],
        ]
    plan = json.loads(command("plan", study, "--json")[1])
    assert (plan["finished"], plan["combinations"]) == (10, 10)
    assert plan["predicted"][0] == {"configuration": {"x": 5}, "value": 0.25, "deviation": 0.125, "improvement": 0.5}


def test_a_plan_of_a_study_of_long_trials_tells_how_long_they_take(command, here):
    (here / "model.py").write_text(
        "import time\ndef waits(values):\n    time.sleep(0.2 * values['x'])\n    return (values['x'] - 2.2) ** 2\n"
    )
    (here / "waits.yaml").write_text(
        "function: model.py:waits\nobjective: {metric: loss, per: second, direction: minimize}\n"
        "space: {x: {type: Float, min_value: 1, max_value: 2}}\n"
        "search: {sampler: tpe, trials: 6, seed: 1}\nengine: {name: local, workers: 2}\n"
    )
    assert command("run", "waits.yaml", "--study", "new", "--trials", 5)[0] == 0
    assert Study.load("new").settings["per"] == "second"
    output = command("plan", "new")[1]
    assert "expected time" in output
    found = re.search(r"\n.*?(\d\.\d) s  x=(.*)\n", output)
    assert 0.15 <= float(found[1]) <= 0.6
    plan = json.loads(command("plan", "new", "--json")[1])
    assert len(plan["predicted_seconds"]) == len(plan["predicted"])
    assert plan["time_left"] is None
    status, output, _ = command("resume", "new", "--trials", 7, "--json")
    assert status == 0
    assert Study.load("new").sampler.learns


WIDE = """
function: model.py:hill
objective: {metric: height, direction: maximize}
space:
  x: {type: Int, min_value: 0, max_value: 99}
  y: {type: Float, min_value: 0, max_value: 1}
search: {sampler: random, trials: 25, seed: 1}
"""


@pytest.fixture
def hill(here):
    """The file of a workflow that is best, with 700, at x = 60 and y = 0.5."""
    (here / "model.py").write_text(
        "def hill(values): return {'height': 700 - (values['x'] - 60) ** 2 / 4 - 400 * (values['y'] - 0.5) ** 2}\n"
    )
    (here / "hill.yaml").write_text(WIDE)
    return here / "hill.yaml"


def test_what_is_promising_is_predicted_from_the_results(command, hill):
    assert command("run", hill, "--study", "new")[0] == 0
    status, output, _ = command("plan", "new")
    assert status == 0
    assert "expected height" in output
    predicted = json.loads(command("plan", "new", "--json")[1])["predicted"]
    assert len(predicted) == 10
    assert len(json.loads(command("plan", "new", "--json", "--first", 3)[1])["predicted"]) == 3
    best = predicted[0]
    assert best["configuration"]["x"] == pytest.approx(60, abs=5)
    assert best["configuration"]["y"] == pytest.approx(0.5, abs=0.1)
    assert best["value"] == pytest.approx(700, abs=15)
    assert 0 < best["improvement"] < 60


@pytest.mark.parametrize("order", ["eager", "lagged"])
def test_a_search_ends_where_little_is_expected(command, hill, order):
    sampler = ["--set", "search.sampler=gp", "--set", f"search.order={order}", "--workers", 1]
    limits = ["--trials", 60, "--set", "search.min_improvement=0.5"]
    status, output, _ = command("run", hill, "--study", "new", *sampler, *limits)
    assert status == 0
    assert re.search(r"\nstopped: the expected improvement, [\d.e-]+, is below 0.5\n", output)
    study = Study.load("new")
    assert 20 <= study.finished < 60
    assert study.best.value > 699


def test_what_the_default_sampler_chose_is_told(command, hill):
    hill.write_text(WIDE.replace("sampler: random, ", ""))
    _, output, _ = command("plan", hill, "--min-improvement", 0.5)
    assert "25 trials or an expected improvement below 0.5\n" in output
    _, output, _ = command("plan", hill)
    assert "search: auto (gp: 25 trials are few enough for a model of all of them), seed 1, 25 trials\n" in output
    status, output, _ = command("run", hill, "--study", "new", "--trials", 12)
    assert status == 0
    assert "sampler: gp (12 trials are few enough for a model of all of them)\n" in output
    record = json.loads((hill.parent / "new" / "journal.jsonl").read_text().splitlines()[1])
    assert (record["event"], record["name"]) == ("sampler", "gp")


def test_a_plan_of_a_study_without_results(command, promising, here):
    assert command("run", "workflow.yaml", "--study", "new", "--trials", 3)[0] == 0
    lines = (here / "new" / "journal.jsonl").read_text().splitlines(keepends=True)
    (here / "new" / "journal.jsonl").write_text(lines[0])
    _, output, _ = command("plan", "new")
    assert "known: 0 trials have finished\nnothing can be predicted: no trial is feasible and has a value\n" in output


def test_a_plan_of_another_study(refused, study):
    assert refused("plan", "workflow.yaml", "--set", "search.seed=2", "--study", study) == (
        "done holds the study of another workflow or of other settings: plan it as it is, with no option that changes "
        "one, by  hpcompss plan done"
    )
    assert refused("plan", study, "--study", study) == "done is a study's folder itself: leave --study out"
    assert refused("plan", "workflow.yaml", "--study", "nothing").startswith("nothing holds no study")


def test_a_plan_of_a_bad_workflow(refused):
    assert refused("plan", "workflow.yaml", "--set", "space.x.step=0").endswith("step must be above 0, not 0")
    assert "a trial asks for 4096 cpus" in refused("plan", "workflow.yaml", "--set", "resources.cpu=4096")
    assert "needs a step for 'x'" in refused("plan", "workflow.yaml", "--set", "space.x.type=Float", "--trials", "5")


def test_doctor(command):
    status, output, _ = command("doctor")
    assert status in (0, 1)
    assert re.search(r"^ok  Python ", output, re.MULTILINE)
    assert re.search(r"^ok  engine local +ready", output, re.MULTILINE)
    status, output, _ = command("doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(output)}
    assert findings["cores"]["fine"]
    assert all(finding["fine"] or finding["remedy"] for finding in findings.values())


# Terminals and pipes


def test_a_terminal_gets_a_live_table():
    master, terminal = pty.openpty()
    command = [sys.executable, "-W", "error", "-m", "hpcompss", "run", "workflow.yaml", "--study", "new"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment) as process:
        os.close(terminal)
        output = b""
        with contextlib.suppress(OSError):  # the end of a terminal is an error
            while part := os.read(master, 4096):
                output += part
    os.close(master)
    text = output.decode()
    assert process.returncode == 0
    assert "trial 3 failed: ValueError: three is not allowed" in text
    assert "10 done" in text and "\x1b[?25l" in text, "a table that is drawn in place"
    assert "best: trial" in text


def test_a_reader_that_leaves_is_no_traceback(study):
    many = "--set space.x.max_value=99999 --set search.trials=2000"
    done = shell(f"for name in status best export; do hpcompss $name {study} | true; done")
    assert done.stderr == ""
    done = shell(f"hpcompss run workflow.yaml --study new {many} | head -1")
    assert (done.stdout, done.stderr) == ("study: new\n", "")
    assert not FolderLock.is_held(Path("new"))
    done = shell("hpcompss resume new --trials 30 --json 2>/dev/null")
    counts = json.loads(done.stdout)["counts"]
    assert counts["completed"] + counts["failed"] >= 30
    assert counts["unfinished"] == 0
