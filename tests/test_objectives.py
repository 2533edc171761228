from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import yaml

from hpcompss.constraints import constrained
from hpcompss.engines import Local
from hpcompss.errors import InputError
from hpcompss.objectives import Objective, direction_of, parse_objectives
from hpcompss.report.console import make_console, show_result, show_status
from hpcompss.report.export import as_csv, as_plain
from hpcompss.space import Float, Int, Space
from hpcompss.stopping import StopCheck, StopRules
from hpcompss.study import Study
from hpcompss.trial import Result
from hpcompss.workflow import load_workflow, make_workflow
from tests.keras_jobs import keras_cache
from tests.test_keras_command_line import CommandLine

__all__ = ["keras_cache"]

SIZE = {"metric": "size", "direction": "minimize"}


def make(**options):
    return Study([Int("x", 0, 99)], sampler="grid", metric="score", direction="maximize", also=[SIZE], **options)


def tell(study, *points):
    for score, size in points:
        study.tell(study.ask(), {"score": score, "size": size})
    return study


def test_what_is_an_objective():
    assert parse_objectives(["parameters", SIZE], "score") == (
        Objective("parameters", "minimize"),
        Objective("size", "minimize"),
    )
    assert [direction_of(each) for each in ("inference_ms", "parameters", "latency")] == ["minimize"] * 3


@pytest.mark.parametrize(
    ("stated", "key", "message"),
    [
        ("size", "objective.also", r"further objectives read \[metric, ...\], not 'size'"),
        (["glitter"], "objective.also.0", "the direction of 'glitter' is not known"),
        ([{"metric": "size", "direction": "down"}], "objective.also.0", "unknown direction 'down'"),
        ([SIZE, "score"], "objective.also.1", "'score' is an objective already"),
        ([SIZE, SIZE], "objective.also.1", "'size' is an objective already"),
        ([3], "objective.also.0", "an objective is a metric's name or"),
        ([{"metric": "size", "way": "up"}], "objective.also.0", "an objective is a metric's name or"),
    ],
)
def test_what_is_none(stated, key, message):
    with pytest.raises(InputError, match=message) as caught:
        Study([Int("x", 0, 9)], metric="score", also=stated)
    assert caught.value.key == key


def test_a_trial_that_lacks_one_has_failed():
    also = parse_objectives([SIZE], "score")
    missing = constrained(Result(1.0, {"score": 1.0, "sizes": 3}), (), also)
    assert (missing.value, missing.failure.reason) == (
        None,
        "it reports no 'size', which is an objective; did you mean 'sizes'?",
    )
    study = make()
    study.tell(study.ask(), {"score": 1.0, "size": float("inf")})
    assert (study.failed, study.front) == (1, [])
    np.testing.assert_equal(study.history.points, [[np.nan, np.nan]])


def test_the_front_is_what_no_trial_beats(tmp_path):
    with make(directory=tmp_path / "s", constraints={"size": {"max": 100}}) as study:
        tell(study, (0.5, 10), (0.4, 20), (0.9, 50), (0.5, 10), (0.2, 1), (0.95, 200))
    for each in (study, Study.load(tmp_path / "s")):
        assert [trial.number for trial in each.front] == [2, 0, 4]
        assert each.best.number == 2
        assert each.objectives == (Objective("score", "maximize"), Objective("size", "minimize"))
        assert sorted(each.history.front) == each.front_points == [(-0.9, 50.0), (-0.5, 10.0), (-0.2, 1.0)]
        # Of a box of 0.7 by 49 in which the worst are at 0.2 and at 50.
        assert each.hypervolume == pytest.approx(0.3 * 40 / (0.7 * 49))


def test_of_equals_in_the_first_objective_the_best_is_on_the_front():
    study = tell(make(), (0.5, 10), (0.5, 5), (0.5, 7))
    assert (study.best.number, [trial.number for trial in study.front]) == (1, [1])


def test_one_objective_has_a_front_of_one():
    study = Study([Int("x", 0, 9)])
    assert (study.front, study.front_size, study.hypervolume, study.front_points) == ([], 0, None, [])
    study.tell(study.ask(), 1.0)
    assert ([trial.number for trial in study.front], study.front_size) == ([0], 1)


def test_what_is_shown_and_exported(tmp_path):
    study = tell(make(), (0.5, 10), (0.4, 20), (0.9, 123456.0))
    text = io.StringIO()
    show_result(study, make_console(text))
    lines = text.getvalue().splitlines()
    assert lines[0] == "best by score: trial 2, score 0.9, size 123456"
    assert lines[2] == "front: 2 trials that no other one beats, hypervolume 0.2"
    assert [line.split() for line in lines[3:6]] == [
        ["trial", "score", "size", "configuration"],
        ["2", "0.9", "123456", "x=2"],
        ["0", "0.5", "10", "x=0"],
    ]
    plain = as_plain(study)
    assert [each["number"] for each in plain["front"]] == [2, 0]
    assert plain["objectives"][1] == SIZE
    rows = list(csv.DictReader(io.StringIO(as_csv(study))))
    assert [row["front"] for row in rows] == ["yes", "", "yes"]
    assert "front" not in as_plain(Study([Int("x", 0, 9)]))
    status = io.StringIO()
    show_status(study, False, make_console(status))
    assert "front: 2 trials" in status.getvalue()
    many = tell(make(), *((n, n) for n in range(50)))
    text = io.StringIO()
    show_result(many, make_console(text))
    assert "; 20 of them, export has all" in text.getvalue()


@pytest.mark.parametrize("workers", [1, 3])
def test_the_lagged_order_is_the_same_with_any_number_of_workers(workers):
    def function(values):
        return {"score": values["x"], "size": values["x"] ** 2 + values["y"]}

    space = Space([Float("x", 0, 1), Float("y", 0, 1)])
    study = Study(space, sampler="tpe", metric="score", direction="maximize", also=[SIZE], seed=1, lag=4)
    with Local(workers=workers, cores=workers) as engine:
        study.optimize(function, trials=20, engine=engine)
    EXPECTED.setdefault("lagged", [trial.configuration for trial in study.trials])
    assert [trial.configuration for trial in study.trials] == EXPECTED["lagged"]
    assert study.front_size > 2


EXPECTED: dict[str, list[object]] = {}


def test_patience_waits_for_the_front_and_the_target_for_the_first():
    study = make()
    check = StopCheck(StopRules(patience=2, target=0.95), study.prior)
    for point, reason in (
        ((0.5, 10), ""),
        ((0.4, 5), ""),
        ((0.4, 6), ""),
        ((0.3, 4), ""),
        ((0.5, 10), ""),
        ((0.1, 9), "none of the last 2 trials joined the front, which has 3"),
        ((0.96, 9), "the target 0.95 is reached (trial 6: 0.96)"),
    ):
        tell(study, point)
        check.add(study.trials[-1])
        assert check.reason() == reason


def test_an_expected_improvement_needs_one_objective():
    message = "min_improvement is for a search with one objective, this one has 2"
    with pytest.raises(InputError, match=message), Local(workers=1, cores=1) as engine:
        make().optimize(lambda values: 1.0, min_improvement=0.1, trials=3, engine=engine)
    with pytest.raises(InputError, match=message) as caught:
        make_workflow({**SECTIONS, "search": {"trials": 3, "min_improvement": 0.1}})
    assert caught.value.key == "search.min_improvement"


def test_a_warm_start_takes_the_trials_that_have_all_objectives(tmp_path):
    with Study([Int("x", 0, 99)], metric="score", direction="maximize", directory=tmp_path / "s", seed=0) as other:
        other.tell(other.ask(), {"score": 1.0, "size": 10})
        other.tell(other.ask(), {"score": 2.0})
    study = make(warm_start=tmp_path / "s")
    (source,) = study.sources
    assert source.left_out == {"it reports no 'size', which is an objective; known: score": 1}
    assert study.history.points.tolist() == [[-1.0, 10.0]]
    assert study.front == study.history.front == []


def test_values_from_elsewhere_are_shifted_in_every_objective(tmp_path):
    about = {"about": {"task": "another"}}
    with make(directory=tmp_path / "s", **about) as other:
        tell(other, (1.0, 10), (2.0, 20))
    study = tell(make(warm_start=tmp_path / "s"), (1.5, 40))
    np.testing.assert_allclose(study.history.points, [[-1.5, 40], [-2.5, 50], [-1.5, 40]])


# The workflow

SECTIONS = {
    "function": "package.module:function",
    "space": {"x": {"type": "Int", "min_value": 1, "max_value": 3}},
    "objective": ["val_accuracy", "parameters"],
}


def test_a_list_is_the_first_objective_and_the_others():
    stated = make_workflow(SECTIONS)
    whole = make_workflow({**SECTIONS, "objective": {"metric": "val_accuracy", "also": ["parameters"]}})
    assert stated.to_plain() == whole.to_plain()
    assert stated.objective.also[0].direction == "minimize"
    lone = make_workflow({**SECTIONS, "objective": "val_accuracy"})
    assert make_workflow({**SECTIONS, "objective": ["val_accuracy"]}).digest == lone.digest != stated.digest
    assert lone.task == stated.task


def test_it_is_read_again_as_it_was(tmp_path):
    (tmp_path / "model.py").write_text("")
    file = tmp_path / "w.yaml"
    sections = {**SECTIONS, "objective": ["val_accuracy", {"metric": "glow", "direction": "maximize"}]}
    file.write_text(yaml.safe_dump(sections))
    workflow = load_workflow(file)
    (tmp_path / "again.yaml").write_text(workflow.to_yaml())
    assert load_workflow(tmp_path / "again.yaml").digest == workflow.digest


LISTS = {
    "an unknown direction": ("- loss\n  - glow\n", 5, "objective.also.0", "the direction of 'glow' is not known"),
    "the first unknown": ("- glow\n  - loss\n", 4, "objective", "the direction of 'glow' is not known"),
    "a typing error": ("- loss\n  - {metric: a, directoin: minimize}\n", 5, "objective.also.0", "unknown|direction"),
    "twice": ("- loss\n  - loss\n", 5, "objective.also.0", "'loss' is an objective already"),
    "a number": ("- loss\n  - 3\n", 5, "objective.also.0", "must be a mapping of settings, not 3"),
}


@pytest.mark.parametrize(("text", "line", "key", "message"), LISTS.values(), ids=LISTS)
def test_what_is_wrong_in_a_list_is_told_with_its_place(tmp_path: Path, text, line, key, message):
    file = tmp_path / "w.yaml"
    file.write_text(f"function: package.module:function\nspace: {{x: {{type: Boolean}}}}\nobjective:\n  {text}")
    with pytest.raises(InputError, match=message) as caught:
        load_workflow(file)
    assert caught.value.line in (line, line - 1)
    assert str(caught.value.key).startswith(key)


# The command line


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory, keras_cache: Path) -> CommandLine:
    return CommandLine(tmp_path_factory.mktemp("objectives"), keras_cache)


OBJECTIVES = ["val_accuracy", "parameters", "inference_ms"]


def test_a_keras_study_keeps_the_models_of_the_front(cli: CommandLine):
    file = cli.write("build", objective=OBJECTIVES, search={"sampler": "random", "trials": 5, "seed": 1})
    output, _ = cli("run", file, "--study", "several")
    assert "front: " in output and "models/trial-" in output
    found = cli.json("best", "several")
    models = {path.name for path in (cli.folder / "several" / "models").iterdir()}
    assert models == {f"trial-{each['number']}.keras" for each in found["front"]}
    assert all(Path(cli.folder, each["model"]).exists() for each in found["front"])
    assert all(0 < each["metrics"]["inference_ms"] < 1000 for each in found["front"])
    best = cli.folder / "several" / "models" / f"trial-{found['best']['number']}.keras"
    assert best.samefile(cli.folder / "several" / "best.keras")
    plan, _ = cli("plan", "several")
    assert "by val_accuracy alone" in plan
    _, errors = cli("resume", "several", "--min-improvement", "0.1", status=2)
    assert "this one has 3" in errors
    cli("resume", "several", "--trials", "6")


def test_a_metric_that_the_model_does_not_report_is_refused_before_any_trial(cli: CommandLine):
    wrong = {"metric": "val_acuracy", "direction": "maximize"}
    file = cli.write("build", objective=["val_accuracy", wrong])
    _, errors = cli("run", file, "--study", "refused", status=2)
    message = "the training reports no number 'val_acuracy'; did you mean 'val_accuracy'?"
    assert message in errors and "workflow.yaml:" in errors
    assert not (cli.folder / "refused").exists()


def test_what_no_epoch_has_does_not_come_first():
    sections = {"model": "package.module:build", "data": "digits", "objective": ["parameters", "val_accuracy"]}
    with pytest.raises(InputError, match="put a metric of the training first"):
        make_workflow(sections)
