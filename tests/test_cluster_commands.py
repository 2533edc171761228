from __future__ import annotations

import importlib
import json
import os
import shlex
import stat
import sys
from pathlib import Path

import pytest

from hpcompss.cluster.commands import job_number
from hpcompss.errors import HpcompssError
from hpcompss.main import main
from tests.engines import standin

WORKFLOW = """
function: mine.py:score
space: {x: {type: Int, min_value: 0, max_value: 9}}
objective: loss
search: {trials: 5}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(WORKFLOW)
    (tmp_path / "mine.py").write_text("def score(values):\n    return values['x']\n")
    return tmp_path


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts programs on PATH that note how they were called and print what they are told to."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)

    def program(name, prints="", status=0):
        file = programs / name
        calls = tmp_path / f"{name}.calls"
        code = (
            f"#!{sys.executable}\nimport json, sys\n"
            f"print(json.dumps(sys.argv[1:]), file=open({str(calls)!r}, 'a'))\n"
            f"print({prints!r} % sum(1 for _ in open({str(calls)!r})) if '%' in {prints!r} else {prints!r})\n"
            f"sys.exit({status})\n"
        )
        file.write_text(code)
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        return lambda: [json.loads(line) for line in calls.read_text().splitlines()]

    return program


def refused(capsys, *arguments):
    assert main(list(arguments)) == 2
    return capsys.readouterr().err


# resources


def test_both_files_are_written(capsys, folder):
    assert main(["resources", "node1:4cpu:1gpu", "node2:2cpu", "--output", "cluster", "--gpu-shares", "2"]) == 0
    assert capsys.readouterr().out.split() == ["cluster/resources.xml", "cluster/project.xml"]
    assert "<ComputingUnits>2</ComputingUnits>\n            <Type>GPU" in (folder / "cluster/resources.xml").read_text()


def test_files_that_are_there_are_not_replaced_unasked(capsys):
    assert main(["resources", "node1:4cpu"]) == 0
    assert "exist already: replace them with --force" in refused(capsys, "resources", "node1:8cpu")
    assert main(["resources", "node1:8cpu", "--force"]) == 0


def test_a_node_without_cpus_is_refused_with_how_to_write_it(capsys):
    message = refused(capsys, "resources", "node1")
    assert "the node 'node1' states no CPUs: write it as  node1:32cpu:4gpu:64GB" in message
    assert "None" not in message


def test_a_node_stated_twice_is_refused(capsys):
    assert "the node a is stated twice" in refused(capsys, "resources", "a:1cpu", "a:2cpu")


# submit


SUBMIT = ["submit", "mine.yaml", "--nodes", "4", "--time", "2h", "--queue", "gpu", "--study", "found"]


def options_of(command):
    return dict(part[2:].split("=", 1) for part in shlex.split(command) if part.startswith("--") and "=" in part)


def test_the_command_line_of_a_job_is_printed(capsys, folder):
    assert main([*SUBMIT, "--gpus-per-node", "4", "--option", "qos=debug", "--set", "search.trials=7"]) == 0
    (command,) = capsys.readouterr().out.splitlines()
    words = shlex.split(command)
    assert words[0] == "enqueue_compss"
    stated = options_of(command)
    expected = {"exec_time": "120", "num_nodes": "4", "queue": "gpu", "gpus_per_node": "4", "qos": "debug"}
    assert {**stated, **expected} == stated
    assert stated["lang"] == "python"
    script = next(index for index, word in enumerate(words) if word.endswith("hpcompss/main.py"))
    assert words[script + 1 :] == [
        *("run", str(folder / "mine.yaml"), "--engine", "compss", "--study", str(folder / "found")),
        *("--set", "search.trials=7", "--time", "6900s", "--deadline", "7080s"),
    ]


def test_no_trial_starts_that_could_not_end_in_time(capsys):
    assert main([*SUBMIT, "--set", "resources.time_limit=30m"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("--time 5340s --deadline 7080s")
    message = refused(capsys, *SUBMIT, "--set", "resources.time_limit=3h")
    assert "leave no time for trials, as none starts in the last 181" in message


@pytest.mark.parametrize("setting", ["search={trials: 3}", "search.seed= 3"])
def test_what_compss_scripts_would_change_is_refused(capsys, setting):
    message = refused(capsys, *SUBMIT, "--set", setting)
    assert f"{setting!r} would not reach the program as it stands" in message
    assert "write such a setting into the workflow's file" in message


def test_jobs_are_chained_to_resume_what_the_first_began(capsys, program, folder):
    calls = program("enqueue_compss", prints="Submitted batch job 10%d")
    assert main([*SUBMIT, "--resubmit", "2", "--run"]) == 0
    first, second, third = calls()
    assert "--job_dependency" not in " ".join(first)
    assert "--job_dependency=101" in second
    assert "--job_dependency=102" in third
    resumed = ["resume", str(folder / "found"), "--time", "6900s", "--deadline", "7080s"]
    assert second[-6:] == third[-6:] == resumed


def test_a_job_without_a_number_ends_the_chain_with_what_to_do(capsys, program):
    program("enqueue_compss", prints="thank you")
    assert "submit it by hand with --job_dependency" in refused(capsys, *SUBMIT, "--resubmit", "1", "--run")


@pytest.mark.parametrize(
    ("output", "number"),
    [("Submitted batch job 77", "77"), ("a\nJob <5> is submitted", "5"), ("123.head\n", "123.head")],
)
def test_the_queue_systems_job_numbers_are_read(output, number):
    assert job_number(output) == number


def test_a_program_that_fails_is_said_to_have(program):
    program("enqueue_compss", status=3)
    with pytest.raises(HpcompssError, match="failed with status 3"):
        from hpcompss.cluster.commands import run_program

        run_program(["enqueue_compss"])


def test_without_compss_the_command_cannot_run(capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert "enqueue_compss is not on PATH" in refused(capsys, *SUBMIT, "--run")


def test_a_workflow_that_is_wrong_is_not_submitted(capsys):
    assert "search.trials" in refused(capsys, *SUBMIT, "--set", "search.trials=none")


# agent


def test_an_agent_is_started_with_what_this_machine_has(capsys, folder):
    words = ["agent", "start", "--cpu", "8", "--gpu", "2", "--memory", "16GB", "--hostname", "n1", "--folder", "a"]
    assert main([*words, "--dry-run"]) == 0
    stated = options_of(capsys.readouterr().out)
    assert (stated["hostname"], stated["rest_port"], stated["comm_port"]) == ("n1", "46101", "46102")
    assert stated["python_interpreter"] == sys.executable
    assert Path(stated["pythonpath"], "hpcompss", "main.py").exists()
    assert not (folder / "a").exists()


def test_an_agent_joins_and_leaves_a_master(capsys, program):
    added, reduced = program("compss_agent_add_resources"), program("compss_agent_reduce_resources")
    lost = program("compss_agent_lost_resources")
    machine = ["--hostname", "n2", "--cpu", "4", "--gpu", "1", "--memory", "8GB"]
    assert main(["agent", "join", "n1", *machine]) == 0
    assert main(["agent", "leave", "n1:5000", *machine]) == 0
    assert main(["agent", "leave", "n1", "--lost", *machine]) == 0
    master = ["--agent_node=n1", "--agent_port=46101"]
    assert added() == [[*master, "--cpu=4", "--gpu=1", "--mem_size=8", "n2", "Port=46102"]]
    assert reduced() == [["--agent_node=n1", "--agent_port=5000", "--cpu=4", "--gpu=1", "n2"]]
    assert lost() == [[*master, "n2"]]


def test_a_study_is_run_on_an_agent(capsys, program, folder):
    calls = program("compss_agent_call_operation")
    assert main(["agent", "run", "mine.yaml", "--master", "n1", "--study", "s", "--set", "search.trials=3"]) == 0
    (words,) = calls()
    assert words[words.index("hpcompss.cluster.operation") + 1 :] == [
        f"run {folder / 'mine.yaml'} --engine compss --study {folder / 's'} --set search.trials=3"
    ]


def test_a_workflow_that_is_wrong_is_not_given_to_an_agent(capsys, program):
    calls = program("compss_agent_call_operation")
    assert "none.yaml" in refused(capsys, "agent", "run", "none.yaml", "--master", "n1", "--dry-run")
    message = refused(capsys, "agent", "run", "mine.yaml", "--master", "n1", "--set", "search.trials=none")
    assert "search.trials" in message
    with pytest.raises(FileNotFoundError):
        calls()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--memory", "foo", "argument --memory: must be an amount of memory such as 2GB or 512MiB, not 'foo'"),
        ("--port", "99999", "argument --port: must be at most 65535, not 99999"),
        ("--port", "0", "argument --port: must be at least 1, not 0"),
        ("--comm-port", "65536", "argument --comm-port: must be at most 65535, not 65536"),
    ],
)
def test_an_agent_is_not_started_with_what_cannot_be(capsys, option, value, message):
    with pytest.raises(SystemExit) as caught:
        main(["agent", "start", option, value, "--dry-run"])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_an_agent_does_not_join_at_a_port_that_cannot_be(capsys):
    with pytest.raises(SystemExit):
        main(["agent", "join", "n1", "--comm-port", "99999", "--dry-run"])
    assert "argument --comm-port: must be at most 65535, not 99999" in capsys.readouterr().err


def test_an_agent_whose_files_cannot_be_written_is_not_started(capsys, program, folder):
    (folder / "file").touch()
    message = refused(capsys, "agent", "start", "--folder", "file/agent")
    assert message == "hpcompss: --folder: file/agent cannot be written (Not a directory)\n"


@pytest.mark.parametrize(("words", "status"), [("--version", 0), ("run", 2), ("status nowhere", 2)])
def test_what_an_agent_runs_never_raises_for_compss_would_run_it_again(capsys, monkeypatch, words, status):
    monkeypatch.syspath_prepend(standin.FOLDER)
    try:
        importlib.import_module("hpcompss.cluster.operation").main(words)
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "pycompss"]:
            del sys.modules[name]
        sys.modules.pop("hpcompss.cluster.operation", None)
    assert capsys.readouterr().err.endswith(f"hpcompss ended with status {status}\n")


@pytest.mark.parametrize("master", ["n1:x", ":1", "n1:70000"])
def test_a_master_that_is_no_address_is_refused(capsys, master):
    assert "a master is given as  host  or  host:port" in refused(capsys, "agent", "leave", master)


# doctor


def test_the_doctor_looks_into_what_compss_needs(capsys, program, monkeypatch, folder):
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    program("ssh", prints="2 0.0.1")
    assert main(["resources", "node1:64cpu", "node2:2cpu"]) == 0
    capsys.readouterr()
    assert main(["doctor", "--engine", "compss", "--json"]) == 1
    found = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert found["JAVA_HOME"]["detail"] == "/nowhere has no bin/java"
    assert "declare at most 2 CPU units there" in found["node node1"]["remedy"]
    assert found["node node2"]["detail"] == "it has hpcompss 0.0.1"
    assert not found["pycompss"]["fine"]


def test_the_doctor_says_which_login_does_not_work(capsys, program):
    program("ssh", status=255)
    assert main(["resources", "me@node1:2cpu"]) == 0
    capsys.readouterr()
    main(["doctor", "--engine", "compss"])
    assert "make  ssh me@node1  work without a password (ssh-copy-id me@node1)" in capsys.readouterr().out


@pytest.mark.parametrize("prints", ["Welcome!\nYou have mail.\n2 0.0.1", "\n2 0.0.1\n"])
def test_the_doctor_reads_past_a_greeting(capsys, program, prints):
    program("ssh", prints=prints)
    assert main(["resources", "node1:2cpu"]) == 0
    assert main(["doctor", "--engine", "compss"]) == 1
    assert "it has hpcompss 0.0.1" in capsys.readouterr().out


@pytest.mark.parametrize(("prints", "answer"), [("2 0.0.1\nGood bye!", "Good bye!"), ("", "")])
def test_the_doctor_does_not_take_a_shells_words_for_an_answer(capsys, program, prints, answer):
    program("ssh", prints=prints)
    assert main(["resources", "me@node1:2cpu"]) == 0
    assert main(["doctor", "--engine", "compss"]) == 1
    said = capsys.readouterr().out
    assert f"it answers {answer!r}, not with its cores and hpcompss's version" in said
    assert "have the shell there print nothing after a command: compare  ssh me@node1 echo done" in said


def test_the_doctor_misses_the_files(capsys):
    assert main(["doctor", "--engine", "compss"]) == 1
    assert "no resources.xml and no project.xml" in capsys.readouterr().out
