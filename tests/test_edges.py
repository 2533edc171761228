"""A best value at the edge of its range is pointed out."""

from __future__ import annotations

import io

import pytest

from hpcompss.report.console import make_console, show_result
from hpcompss.report.edges import edges
from hpcompss.report.export import as_plain
from hpcompss.space import Boolean, Choice, Float, Int
from hpcompss.study import Study


def finished(parameter, *values, **options):
    """Returns a study whose trials tried values of a parameter, the first one being the best."""
    study = Study([parameter], initial=[{parameter.name: value} for value in values], **options)
    for loss in range(len(values)):
        study.tell(study.ask(), {"loss": float(loss), "other": 0.0})
    return study


LARGEST, SMALLEST = (
    "is the largest allowed: the best may lie beyond",
    "is the smallest allowed: the best may lie beyond",
)


@pytest.mark.parametrize(
    ("parameter", "best", "sentence"),
    [
        (Int("x", 8, 64, step=8), 64, f"x 64 {LARGEST}"),
        (Int("x", 8, 64, step=8), 8, f"x 8 {SMALLEST}"),
        (Int("x", 8, 64, step=8), 56, None),
        (Int("x", 8, 63, step=8), 56, f"x 56 {LARGEST}"),
        (Int("x", 8, 14, step=2), 14, f"x 14 {LARGEST}"),
        (Int("x", 1, 9), 1, None),
        (Int("x", 0, 9), 0, None),
        (Int("x", -3, 9), -3, f"x -3 {SMALLEST}"),
        (Int("x", 4, 5), 5, None),
        (Int("x", 8, 512, sampling="log"), 512, f"x 512 {LARGEST}"),
        (Int("x", 8, 512, sampling="log"), 480, "x 480 is close to the largest allowed, 512: the best may lie beyond"),
        (Float("x", 0.0, 0.5), 0.0, None),
        (Float("x", 0.0, 0.5), 0.5, f"x 0.5 {LARGEST}"),
        (Float("x", 0.0, 0.5), 0.49, "x 0.49 is close to the largest allowed, 0.5: the best may lie beyond"),
        (Float("x", 0.0, 0.5), 0.4, None),
        (Float("x", 0.5, 1.0), 1.0, None),
        (Float("x", 1e-4, 1e-1, sampling="log"), 1e-4, f"x 0.0001 {SMALLEST}"),
        (
            Float("x", 1e-4, 1e-1, sampling="log"),
            1.1e-4,
            "x 0.00011 is close to the smallest allowed, 0.0001: the best may lie beyond",
        ),
        (Float("x", 1e-4, 1e-1, sampling="log"), 0.05, None),
        (Float("x", 0.1, 0.9, sampling="reverse_log"), 0.9, f"x 0.9 {LARGEST}"),
        (Float("x", 0.1, 0.9, sampling="reverse_log"), 0.5, None),
        (Float("x", 0.1, 0.6, step=0.2), 0.5, f"x 0.5 {LARGEST}"),
        (Choice("x", [1, 2, 3]), 3, f"x 3 {LARGEST}"),
        (Choice("x", [1, 2, 3]), 1, None),
        (Choice("x", [128, 32, 64]), 32, f"x 32 {SMALLEST}"),
        (Choice("x", [0.1, 0.2, 0.5]), 0.1, f"x 0.1 {SMALLEST}"),
        (Choice("x", [0.0, 0.5, 1.0]), 1.0, None),
        (Choice("x", [32, 64]), 64, None),
        (Choice("x", [32, 64, 128], ordered=False), 128, None),
        (Choice("x", ["a", "b", "c"]), "c", None),
        (Boolean("x"), True, None),
    ],
)
def test_a_value_at_the_edge(parameter, best, sentence):
    middle = parameter.decode(0.55)
    assert edges(finished(parameter, best, middle, metric="loss")) == ([sentence] if sentence else [])


def test_one_value_that_was_tried_says_nothing():
    assert edges(Study([Int("x", 2, 9)])) == []
    assert edges(finished(Int("x", 2, 9), 9, metric="loss")) == []


def test_the_ends_of_a_front_say_nothing():
    also = [{"metric": "other", "direction": "minimize"}]
    assert edges(finished(Int("x", 2, 9), 9, 5, metric="loss", also=also)) == []


def test_it_is_shown_with_the_result():
    study = finished(Int("units", 8, 64), 64, 32, metric="loss")
    text = io.StringIO()
    show_result(study, make_console(text))
    assert f"\n  units  64\nnote: units 64 {LARGEST}\n" in text.getvalue()
    assert as_plain(study)["notes"] == [f"units 64 {LARGEST}"]
