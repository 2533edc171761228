from __future__ import annotations

from xml.etree import ElementTree

import pytest

from hpcompss.main import main
from hpcompss.report.task_graph import BEST, FAILED, SHOWN, draw_graph
from hpcompss.space import Int, Space
from hpcompss.study import Study

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def folder(tmp_path):
    with Study(Space([Int("x", 0, 999)]), seed=0, directory=tmp_path / "<a&b>") as study:
        first, second = study.ask(), study.ask()
        study.tell(second, 2.0)
        third = study.ask()
        study.tell(first, failure="no <luck>")
        study.tell(third, 1.0)
        study.ask()
    return tmp_path / "<a&b>"


def drawn(folder, output):
    return ElementTree.parse(draw_graph(Study.load(folder), output)).getroot()


def test_each_trial_is_sampled_trained_and_reduced(folder, tmp_path):
    picture = drawn(folder, tmp_path / "graph.svg")
    trials = picture.findall(f"{SVG}g")
    assert [trial.find(f"{SVG}title").text.split("\n")[0] for trial in trials] == [
        *("trial 0: failed", "trial 1: complete", "trial 2: complete", "trial 3: interrupted"),
    ]
    assert trials[0].find(f"{SVG}rect").get("fill") == FAILED
    assert "no <luck>" in trials[0].find(f"{SVG}title").text
    assert [any(shape.get("stroke") == BEST for shape in trial) for trial in trials] == [False, False, True, False]
    assert all(len(trial.findall(f"{SVG}circle")) >= 2 for trial in trials)


def test_a_suggestion_follows_from_the_newest_result_it_knew(folder):
    from hpcompss.journal import read_journal
    from hpcompss.report.task_graph import _newest_known

    known = _newest_known(list(read_journal(folder / "journal.jsonl")))
    assert known == {2: [(1, 2)], 3: [(2, 2)]}


def test_in_the_lagged_order_it_follows_from_the_one_before_and_the_record_it_may_use():
    from hpcompss.report.task_graph import _lagged

    study = Study(Space([Int("x", 0, 9)]), lag=2)
    for _ in range(4):
        study.begin()
    assert _lagged(study, 2) == {1: [(0, 0)], 2: [(1, 0), (0, 2)], 3: [(2, 0), (1, 2)]}


def test_many_trials_are_drawn_from_both_ends(tmp_path):
    with Study(Space([Int("x", 0, 999)]), seed=0, directory=tmp_path / "study") as study:
        for _ in range(SHOWN + 50):
            study.tell(study.ask(), 1.0)
    picture = drawn(tmp_path / "study", tmp_path / "graph.svg")
    assert len(picture.findall(f"{SVG}g")) == SHOWN
    assert "trials 100 to 149 are left out" in "".join(picture.itertext())


def test_the_graph_that_compss_drew_is_linked(folder, tmp_path):
    graph = tmp_path / "log" / "monitor" / "complete_graph.dot"
    graph.parent.mkdir(parents=True)
    graph.touch()
    with Study.resume(folder) as study:
        study.note("compss", logs=str(tmp_path / "log"))
        study.flush()
    link = drawn(folder, tmp_path / "graph.svg").find(f".//{SVG}a")
    assert link.get("href") == graph.as_uri()


def test_the_command_draws_into_the_studys_folder(folder, capsys):
    assert main(["graph", str(folder)]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "graph.svg")
    assert ElementTree.parse(folder / "graph.svg").getroot().tag == f"{SVG}svg"


def test_where_it_cannot_be_written_is_said(folder, capsys):
    assert main(["graph", str(folder), "--output", "/nowhere/graph.svg"]) == 2
    assert "/nowhere/graph.svg cannot be written" in capsys.readouterr().err
