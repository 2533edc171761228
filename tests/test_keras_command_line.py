"""Keras studies from end to end, as a user runs them: workflow files, the command line, real models."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import hpcompss
from hpcompss.engines import Engine, Local
from hpcompss.errors import HpcompssError, InputError
from hpcompss.study import Study
from hpcompss.training.data import DataSpecification, load_data
from tests.keras_jobs import MODELS, keras, keras_cache

__all__ = ["keras", "keras_cache"]

ROOT = Path(__file__).resolve().parent.parent


def workflow(model: str, **sections: Any) -> dict[str, Any]:
    """The sections of a workflow: one epoch on 160 of 200 images, the others for validation."""
    return {
        "model": f"{MODELS}:{model}",
        "data": {"name": "digits", "train": 200, "validation": 40},
        "objective": "val_accuracy",
        "search": {"sampler": "random", "trials": 2, "seed": 1},
        "training": {"epochs": 1},
        **sections,
    }


class CommandLine:
    """Runs ``python -m hpcompss`` in a folder of its own."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "HPCOMPSS_CACHE": str(cache)}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "hpcompss", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, status: int = 0) -> tuple[str, str]:
        """Returns what was printed to standard output and to standard error."""
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=120)
        assert process.returncode == status, output + errors
        return output, errors

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json")[0])

    def write(self, model: str, **sections: Any) -> str:
        """Writes a workflow file and returns its name."""
        (self.folder / "workflow.yaml").write_text(yaml.safe_dump(workflow(model, **sections)))
        return "workflow.yaml"


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory, keras_cache: Path) -> CommandLine:
    return CommandLine(tmp_path_factory.mktemp("command-line"), keras_cache)


@pytest.fixture(scope="module")
def engine(keras_cache: Path) -> Iterator[Engine]:
    """Workers for the searches that run from Python, which start but once."""
    with pytest.MonkeyPatch.context() as environment, Local(workers=2, preload=["keras"]) as engine:
        environment.setenv("HPCOMPSS_CACHE", str(keras_cache))
        yield engine


def events(folder: Path, event: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    return [record for record in records if record["event"] == event]


# A search that goes well


@pytest.fixture(scope="module")
def finished(cli: CommandLine) -> tuple[Path, str, str]:
    """A study's folder, and what its run printed."""
    file = cli.write("build", search={"sampler": "random", "trials": 3, "seed": 1}, training={"epochs": 2})
    output, errors = cli("run", file, "--study", "finished")
    return cli.folder / "finished", output, errors


def test_prints_one_line_a_trial_and_nothing_of_keras(finished: tuple[Path, str, str]) -> None:
    folder, output, errors = finished
    assert errors == ""
    lines = output.splitlines()
    assert lines[:3] == [
        "reading the data ...",
        "data: digits: 160 train, 40 validation, 360 test; 8 x 8 x 1 float32; 10 classes",
        "finding the space of the model ...",
    ]
    best = Study.load(folder).best
    trials = [line for line in lines if line.startswith("trial ")]
    assert len(trials) == 3 and all(re.search(r"val_accuracy [\d.]+ at epoch [12]  [\d.]+ s  best ", t) for t in trials)
    rest = lines[lines.index(trials[-1]) + 1 :]
    assert rest[:2] == ["stopped: all 3 trials are done", "testing the best model ..."]
    assert rest[2].startswith(f"best: trial {best.number}, val_accuracy ")
    assert rest[-3].startswith("on the test set: accuracy ")
    assert rest[-2:] == ["best model: finished/best.keras", "results: finished"]


def test_the_best_model_gives_its_value_again_in_plain_keras(keras: Any, finished: tuple[Path, str, str]) -> None:
    folder, _, _ = finished
    study = Study.load(folder)
    data = load_data(DataSpecification(name="digits", train=200, validation=40))
    model = keras.models.load_model(folder / "best.keras")
    validation = model.evaluate(data.validation.x, data.validation.y, verbose=0, return_dict=True)
    assert study.best.value == pytest.approx(validation["accuracy"], rel=1e-6)
    assert study.best.result is not None
    assert study.best.result.metrics["val_loss"] == pytest.approx(validation["loss"], rel=1e-5)
    test = model.evaluate(data.test.x, data.test.y, verbose=0, return_dict=True)
    assert study.test is not None and not study.test["refit"]
    assert study.test["metrics"] == {name: pytest.approx(value, rel=1e-5) for name, value in test.items()}


def test_the_test_set_is_evaluated_once(finished: tuple[Path, str, str]) -> None:
    folder, _, _ = finished
    (test,) = events(folder, "test")
    assert test["number"] == Study.load(folder).best.number
    assert not any("test" in name for tell in events(folder, "tell") for name in tell["metrics"])


def test_the_journal_keeps_the_curves(finished: tuple[Path, str, str]) -> None:
    for tell in events(finished[0], "tell"):
        assert {name: len(curve) for name, curve in tell["curves"].items()} == dict.fromkeys(
            ["accuracy", "loss", "val_accuracy", "val_loss"], 2
        )
        assert tell["value"] == tell["curves"]["val_accuracy"][tell["epoch"] - 1] == max(tell["curves"]["val_accuracy"])


def test_only_the_best_model_is_left(finished: tuple[Path, str, str]) -> None:
    folder, _, _ = finished
    best = Study.load(folder).best.number
    assert os.listdir(folder / "models") == [f"trial-{best}.keras"]
    assert (folder / "models" / f"trial-{best}.keras").read_bytes() == (folder / "best.keras").read_bytes()


def test_the_table_has_every_trial(finished: tuple[Path, str, str]) -> None:
    folder, _, _ = finished
    with open(folder / "trials.csv") as file:
        rows = list(csv.DictReader(file))
    for row, trial in zip(rows, Study.load(folder).trials, strict=True):
        assert trial.result is not None
        assert (int(row["number"]), row["state"], float(row["value"])) == (trial.number, "complete", trial.value)
        assert {name: float(row[f"parameter:{name}"]) for name in ("units", "rate")} == trial.configuration
        assert int(row["epoch"]) == trial.result.epoch and float(row["metric:val_accuracy"]) == trial.value
        assert row["reason"] == ""


def test_all_commands_say_the_same(cli: CommandLine, finished: tuple[Path, str, str]) -> None:
    study = Study.load(finished[0])
    best, status = cli.json("best", "finished"), cli.json("status", "finished")
    exported = json.loads(cli("export", "finished", "--format", "json")[0])
    for said in (best, status, exported):
        assert said["best"]["number"] == study.best.number and said["best"]["value"] == study.best.value
        assert said["best"]["configuration"] == study.best.configuration
        assert said["test"] == study.test and said["model"] == "finished/best.keras"
    assert status["counts"] == {"completed": 3, "failed": 0, "unfinished": 0} and status["running"] is False
    assert [trial["value"] for trial in exported["trials"]] == [trial.value for trial in study.trials]
    assert cli("export", "finished")[0] == (finished[0] / "trials.csv").read_text()
    assert finished[1].endswith(cli("best", "finished")[0])


def test_the_plan_is_what_is_run(cli: CommandLine, finished: tuple[Path, str, str]) -> None:
    file = cli.write("build", search={"sampler": "random", "trials": 3, "seed": 1}, training={"epochs": 2})
    plan = cli.json("plan", file, "--first", "3")
    assert plan["first"] == [trial.configuration for trial in Study.load(finished[0]).trials]


# What the workflow says of the space


def test_a_space_that_the_workflow_narrows_and_adds_to(cli: CommandLine) -> None:
    file = cli.write(
        "build",
        search={
            "sampler": "grid",
            "space": {"units": {"values": [4, 16]}, "rate": {"fixed": 0.01}, "batch_size": {"max_value": 20}},
        },
        training={"epochs": {"choice": [1, 2]}, "batch_size": {"choice": [20, 40]}, "refit": True},
        resources={"parameters": 1e3},
    )
    plan = cli.json("plan", file, "--first", "9")
    assert [(each["name"], each["kind"]) for each in plan["space"]] == [
        *(("units", "Choice"), ("rate", "Fixed"), ("batch_size", "Fixed"), ("epochs", "Choice")),
    ]
    assert plan["resources"]["parameters"] == 1000
    output, errors = cli("run", file, "--study", "narrowed")
    assert errors == ""
    study = Study.load(cli.folder / "narrowed")
    assert study.space.to_json() == plan["space"]
    assert [trial.configuration for trial in study.trials] == plan["first"] and len(plan["first"]) == 4
    reason = "infeasible: 1,210 parameters, at most 1,000 (resources.parameters)"
    tells = {each["number"]: each for each in events(cli.folder / "narrowed", "tell")}
    for trial, told in ((each, tells[each.number]) for each in study.trials):
        assert trial.result is not None and trial.configuration["rate"] == 0.01
        if trial.configuration["units"] == 16:
            assert trial.state.value == "infeasible" and told["failure"]["reason"] == reason
            assert f"trial {trial.number:>4}  {reason}" in output
        else:
            assert trial.result.metrics["parameters"] == 310
            assert len(told["curves"]["loss"]) == trial.configuration["epochs"]
    assert (study.completed, study.feasible, study.failed) == (4, 2, 0)
    assert study.test is not None and study.test["refit"] and study.test["metrics"]
    assert f"2 trials {reason}" in cli("status", "narrowed")[0]
    resumed, _ = cli("resume", "narrowed")
    assert "the space is exhausted: all 4 configurations were tried" in resumed
    assert len(events(cli.folder / "narrowed", "ask")) == 4


def test_a_space_that_the_workflow_gets_wrong(cli: CommandLine) -> None:
    file = cli.write(
        "Tuned", search={"trials": 1, "space": {"optimizer": {"fixed": "adam"}}}, resources={"parameters": 2000}
    )
    plan = cli("plan", file)
    assert "note: left out of the space: 'momentum' is never active as search.space narrows 'optimizer'" in plan[1]
    assert "momentum" not in plan[0] and "models of more than 2,000 parameters are skipped" in plan[0]
    for setting, said in {
        "search.space.unit.fixed=4": "search.space.unit: the space has no parameter 'unit'; did you mean 'units'?",
        "search.space.units.max_value=20": "search.space.units.max_value: 20 is outside the declared range",
        "training.batch_size={choice: [1, 2]}": "training.batch_size: fit(hp, model, *args, **kwargs) passes",
    }.items():
        _, errors = cli("run", file, "--study", "wrong", "--set", setting, status=2)
        assert f"hpcompss: --set {setting}: {said}" in errors
        assert not (cli.folder / "wrong").exists()


# Faults of single configurations


def test_a_bad_configuration_ends_no_study(cli: CommandLine) -> None:
    file = cli.write(
        "Faulty",
        search={"sampler": "grid"},
        resources={"memory": "1500MB", "time_limit": "12s"},
        engine={"name": "local", "workers": 2},
    )
    output, errors = cli("run", file, "--study", "faulty")
    assert errors == ""
    reasons = {}
    for trial in json.loads(cli("export", "faulty", "--format", "json")[0])["trials"]:
        failure = trial.get("failure", {"kind": trial["state"], "reason": ""})
        reasons[trial["configuration"]["fault"]] = (failure["kind"], failure["reason"])
    memory = reasons.pop("grows")
    assert memory[0] == "memory" and re.fullmatch(r"used 1\.\d+ GB of the 1\.5 GB it asked for", memory[1])
    assert reasons == {
        "none": ("complete", ""),
        "raises": ("exception", "ZeroDivisionError: this configuration's mistake"),
        "diverges": ("not_finite", "val_accuracy is nan after training"),
        "crashes": ("died", "its process was killed by signal 11 (segmentation fault)"),
        "hangs": ("time_limit", "ran past its limit of 12 s"),
    }
    assert "stopped: the space is exhausted" in output
    assert "1 trial failed: ran past its limit of 12 s" in output
    assert (cli.folder / "faulty" / "best.keras").exists()


def test_the_first_three_trials_that_fail_alike_end_the_study(cli: CommandLine) -> None:
    _, errors = cli("run", cli.write("Alike", search={"trials": 9, "seed": 1}), "--study", "alike", status=2)
    lines = errors.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].startswith(f'  File "{MODELS}", line ')
    assert lines[-2].startswith("ZeroDivisionError: every training's mistake, with ")
    assert lines[-1].startswith("hpcompss: the first 3 trials failed in the same way (ZeroDivisionError: every")
    assert len(events(cli.folder / "alike", "tell")) == 3
    assert not (cli.folder / "alike" / "best.keras").exists()


# Interruption


def test_a_killed_study_goes_on_where_it_was(cli: CommandLine) -> None:
    file = cli.write("Slow", search={"trials": 4, "seed": 1}, engine={"name": "local", "workers": 2})
    process = cli.start("run", file, "--study", "killed")
    folder = cli.folder / "killed"
    wait_until(lambda: (folder / "journal.jsonl").exists() and len(events(folder, "tell")) >= 2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    asked, told = events(folder, "ask"), events(folder, "tell")
    assert len(asked) > len(told), "nothing was running"
    assert cli.json("status", "killed")["counts"]["unfinished"] == len(asked) - len(told)

    output, errors = cli("resume", "killed")
    assert errors == "" and "stopped: all 4 trials are done" in output
    assert events(folder, "ask")[: len(asked)] == asked
    assert sorted(each["number"] for each in events(folder, "ask")) == [0, 1, 2, 3]
    assert events(folder, "tell")[: len(told)] == told
    assert sorted(each["number"] for each in events(folder, "tell")) == [0, 1, 2, 3]
    study = Study.load(folder)
    assert study.completed == 4 and len(events(folder, "test")) == 1
    assert os.listdir(folder / "models") == [f"trial-{study.best.number}.keras"]
    assert len((folder / "trials.csv").read_text().splitlines()) == 5


def wait_until(holds: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def test_a_refit_that_fails_leaves_the_score_and_ends_with_status_1(cli: CommandLine) -> None:
    file = cli.write("FailsOnAll", training={"epochs": 1, "refit": True}, search={"sampler": "random", "trials": 1})
    output, _ = cli("run", file, "--study", "unrefitted", status=1)
    assert "warning: the best model could not be trained anew: ValueError: too many; fix the cause" in output
    assert "on the test set: accuracy" in output and "best.keras" in output and 'raise ValueError("too many")' in output
    study = Study.load(cli.folder / "unrefitted")
    assert study.test is not None and study.test["metrics"] and study.test["refit"] is False
    cli("resume", "unrefitted", status=1)
    assert len(events(cli.folder / "unrefitted", "test")) == 2  # it was tried again


# From Python, on one engine


def test_a_minimised_objective_and_a_refit(keras: Any, engine: Engine, tmp_path: Path) -> None:
    sections = workflow("build", objective="val_loss", training={"epochs": 2, "refit": True})
    study = hpcompss.tune(**sections, study=tmp_path / "study", engine=engine)
    assert study.direction == "minimize" and study.best.value == min(trial.value for trial in study.trials)
    assert study.test is not None and study.test["refit"] is True
    (test,) = events(tmp_path / "study", "test")
    data = load_data(DataSpecification(name="digits", train=200, validation=40))
    model = keras.models.load_model(tmp_path / "study" / "best.keras")
    again = model.evaluate(data.test.x, data.test.y, verbose=0, return_dict=True)
    assert again == {name: pytest.approx(value, rel=1e-5) for name, value in test["metrics"].items()}


def test_trials_stop_early(engine: Engine, tmp_path: Path) -> None:
    """No epoch is better than the first by more than what accuracies can differ by."""
    training = {"epochs": 9, "early_stopping": {"patience": 2, "min_delta": 1.0}}
    hpcompss.tune(**workflow("build", training=training), study=tmp_path / "study", engine=engine)
    tells = events(tmp_path / "study", "tell")
    assert [(each["ended"], len(each["curves"]["loss"])) for each in tells] == [(True, 3)] * 2


def test_the_same_seed_gives_the_same_study(engine: Engine, tmp_path: Path) -> None:
    sections = workflow("build", search={"trials": 2, "seed": 5})
    one, other = (hpcompss.tune(**sections, study=tmp_path / name, engine=engine) for name in "ab")
    assert [trial.value for trial in one.trials] == [trial.value for trial in other.trials]
    assert one.test == other.test


@pytest.mark.parametrize(
    ("order", "training"),
    [
        ("eager", {}),
        ("lagged", {}),
        pytest.param("lagged", {"folds": 2}, marks=pytest.mark.slow),
    ],
)
def test_trials_go_on_from_their_checkpoints(
    keras: Any, engine: Engine, tmp_path: Path, order: str, training: dict[str, Any]
) -> None:
    fidelity = {"scheduler": "successive_halving", "min_epochs": 1, "max_epochs": 4, "eta": 2}
    search = {"sampler": "random", "trials": 4, "seed": 2, "order": order}
    sections = workflow("build", search=search, fidelity=fidelity, training=training)
    study = hpcompss.tune(**sections, study=tmp_path / "study", engine=engine)
    budgets = [trial.result.budget for trial in study.trials if trial.result]
    assert sorted(budgets) == [1, 1, 2, 4]
    told = events(tmp_path / "study", "tell")
    assert len(told) == 7
    continued = sorted(each["number"] for each in events(tmp_path / "study", "continue"))
    assert continued == sorted(each["number"] for each in told[4:])
    assert all(
        len(each["curves"]["val_accuracy"]) == (1 if each["budget"] == 1 else each["budget"] / 2) for each in told
    )
    assert not any(trial.result.warnings for trial in study.trials if trial.result)
    assert os.listdir(tmp_path / "study" / "checkpoints") == []
    assert study.test is not None and study.test["number"] == study.best.number

    whole = workflow("build", search=search, training={"epochs": 4, **training})
    other = hpcompss.tune(**whole, study=tmp_path / "whole", engine=engine)
    longest = budgets.index(4)
    assert study.trials[longest].configuration == other.trials[longest].configuration
    assert study.trials[longest].value == pytest.approx(other.trials[longest].value or 0, abs=0.2)


@pytest.mark.parametrize("training", [{}, pytest.param({"folds": 2}, marks=pytest.mark.slow)])
def test_trials_with_several_objectives_go_on(engine: Engine, tmp_path: Path, training: dict[str, Any]) -> None:
    """The smallest network is on the front whatever it learns; the large one that learns nothing is not."""
    initial = [{"units": units, "rate": rate} for units, rate in ((16, 0.001), (4, 0.001), (12, 0.03), (8, 0.03))]
    sections = workflow(
        "build",
        objective=["val_accuracy", "parameters"],
        search={"trials": 4, "seed": 2, "initial": initial},
        fidelity={"scheduler": "successive_halving", "min_epochs": 1, "max_epochs": 4, "eta": 2},
        training=training,
    )
    study = hpcompss.tune(**sections, study=tmp_path / "study", engine=engine)
    assert sorted(trial.result.budget or 0 for trial in study.trials if trial.result) == [1, 1, 2, 4]
    assert {1, study.best.number} <= set(study.front_numbers) < {0, 1, 2, 3}
    refitted = [f"trial-{study.best.number}-refit.keras"] if training else []
    assert sorted(os.listdir(tmp_path / "study" / "models")) == sorted(
        [f"trial-{number}.keras" for number in study.front_numbers] + refitted
    )
    assert study.test is not None and study.test["number"] == study.best.number


def test_a_checkpoint_that_is_gone_costs_a_warning(engine: Engine, tmp_path: Path) -> None:
    fidelity = {"scheduler": "successive_halving", "max_epochs": 2, "eta": 2, "checkpoints": "1kB"}
    initial = [{"units": 16, "rate": 0.03}, {"units": 4, "rate": 0.001}]  # the first waits until the second is known
    sections = workflow("build", fidelity=fidelity, training={}, resources={"cpu": 2})
    sections["search"] = {"sampler": "random", "trials": 2, "seed": 1, "initial": initial}
    study = hpcompss.tune(**sections, study=tmp_path / "study", engine=engine)
    (longest,) = (trial for trial in study.trials if trial.result is not None and trial.result.budget == 2)
    assert longest.result is not None and "cannot be used, so that it began anew" in longest.result.warnings[0]
    (told,) = (each for each in events(tmp_path / "study", "tell") if each["budget"] == 2)
    assert len(told["curves"]["val_accuracy"]) == 2


@pytest.mark.parametrize("order", ["eager", pytest.param("lagged", marks=pytest.mark.slow)])
def test_folds_and_an_ensemble(keras: Any, engine: Engine, tmp_path: Path, order: str) -> None:
    """The second and third trial learn nothing, and are beaten on the first fold."""
    initial = [{"units": units, "rate": rate} for units, rate in ((16, 0.03), (4, 0.001), (8, 0.001), (12, 0.03))]
    sections = workflow(
        "build",
        search={"sampler": "random", "trials": 4, "seed": 1, "order": order, "initial": initial}
        | ({"lag": 1} if order == "lagged" else {}),
        training={"epochs": 5, "folds": 3, "ensemble": 2},
        resources={"cpu": 2},
    )
    study = hpcompss.tune(**sections, study=tmp_path / "study", engine=engine)
    assert [trial.result.metrics["folds"] for trial in study.trials if trial.result] == [3, 1, 1, 3]
    assert {study.best.number} < {0, 3}
    (test,) = events(tmp_path / "study", "test")
    assert test["refit"] is True and sorted(test["ensemble"]["members"]) == [0, 3]
    assert sorted(os.listdir(tmp_path / "study" / "models")) == sorted(
        ["trial-0.keras", "trial-3.keras", f"trial-{study.best.number}-refit.keras"]
    )
    data = load_data(DataSpecification(name="digits", train=200, validation=40))
    own = f"models/trial-{study.best.number}.keras"
    for name, told in (
        ("best.keras", test["metrics"]),
        ("ensemble.keras", test["ensemble"]["metrics"]),
        (own, test["before_refit"]),
    ):
        again = keras.models.load_model(tmp_path / "study" / name).evaluate(
            data.test.x, data.test.y, verbose=0, return_dict=True
        )
        assert again == {name: pytest.approx(value, rel=1e-5) for name, value in told.items()}


@pytest.mark.parametrize("order", ["eager", pytest.param("lagged", marks=pytest.mark.slow)])
def test_the_best_model_keeps_to_the_constraints(keras: Any, engine: Engine, tmp_path: Path, order: str) -> None:
    """The widest network is the best one, and too large."""
    initial = [{"units": units, "rate": rate} for units, rate in ((16, 0.03), (4, 0.001), (8, 0.03), (12, 0.03))]
    sections = workflow(
        "build",
        objective={"metric": "val_accuracy", "constraints": {"parameters": {"max": 700}}},
        search={"trials": 4, "seed": 1, "order": order, "initial": initial},
        training={"epochs": 3},
    )
    study = hpcompss.tune(**sections, study=tmp_path / "study", engine=engine)
    assert [trial.result.metrics["parameters"] for trial in study.trials if trial.result] == [1210, 310, 610, 910]
    assert (study.completed, study.feasible) == (4, 2)
    assert study.best.number == 2 and (study.trials[0].value or 0) > (study.best.value or 0)
    assert os.listdir(tmp_path / "study" / "models") == ["trial-2.keras"]
    assert keras.models.load_model(tmp_path / "study" / "best.keras").count_params() == 610
    assert study.test is not None and study.test["number"] == 2


@pytest.mark.parametrize(
    ("model", "sections", "message"),
    [
        (
            "build",
            {"objective": {"metric": "val_accuracy", "constraints": {"latency": {"max": 3}}}},
            r"objective.constraints.latency: the training reports no number 'latency'; known: ",
        ),
        ("build", {"objective": "val_acc"}, "reports no number 'val_acc'; did you mean 'val_accuracy'?"),
        ("build", {"training": {"folds": 50}}, r"50 folds are asked for, but the class '\d' has only \d+ training"),
        ("bild", {}, "has no 'bild'; did you mean 'build'?"),
        ("build_nothing", {}, r"build\(hp\) must return a Keras model, not None"),
        ("build_uncompiled", {}, r"build\(hp\) must compile the model before it returns it"),
        ("build_without_hyper_parameters", {}, "declares no hyper-parameter, so there is nothing to tune"),
    ],
)
def test_a_bad_workflow_is_refused_before_any_trial(
    engine: Engine, tmp_path: Path, model: str, sections: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        hpcompss.tune(**workflow(model, **sections), study=tmp_path / "study", engine=engine)
    assert os.listdir(tmp_path) == []


def test_a_module_that_is_not_there_is_refused(engine: Engine, tmp_path: Path) -> None:
    sections = {**workflow("build"), "model": str(tmp_path / "absent.py:build")}
    with pytest.raises(HpcompssError, match=r"there is no file .*absent\.py"):
        hpcompss.tune(**sections, study=tmp_path / "study", engine=engine)


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        (
            "import absent_package\n",
            ["line 1, in <module>", "import absent_package", "No module named 'absent_package'"],
        ),
        ("def build(hp):\n    return 1 / hp.Int('a', 0, 3)\n", ["line 2, in build", "return 1 /", "ZeroDivisionError"]),
    ],
)
def test_an_error_in_the_module_is_shown_with_its_traceback(cli: CommandLine, code: str, lines: Sequence[str]) -> None:
    (cli.folder / "mine.py").write_text(code)
    (cli.folder / "mine.yaml").write_text(yaml.safe_dump({**workflow("build"), "model": "mine.py:build"}))
    _, errors = cli("run", "mine.yaml", status=2)
    assert "Traceback (most recent call last):" in errors and f'File "{cli.folder}/mine.py"' in errors
    assert all(line in errors for line in lines)
    assert f"{ROOT}/hpcompss/" not in errors
    assert errors.splitlines()[-1].startswith("hpcompss: the model")


def test_callbacks_of_a_workflow_have_a_folder_for_each_trial(tmp_path: Path, keras_cache: Path) -> None:
    run = CommandLine(tmp_path, keras_cache)
    file = MODELS.with_name("fit_models.py")
    training = {"epochs": 2, "callbacks": f"{file}:callbacks", "fit": {"shuffle": False}}
    sections = {**workflow("build", training=training), "model": f"{file}:build"}
    (run.folder / "workflow.yaml").write_text(yaml.safe_dump(sections))
    run("run", "workflow.yaml", "--study", "study")
    study = Study.load(run.folder / "study")
    assert set(study.space.names) == {"units", "plateau"}
    for trial in study.trials:
        note = (run.folder / "study" / "trials" / str(trial.number) / "note.txt").read_text()
        assert note == f"{trial.number} {trial.configuration['units']} "
        assert (run.folder / "logs" / f"trial-{trial.number}" / "log.csv").exists()
