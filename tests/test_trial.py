from __future__ import annotations

import dataclasses
import math
import os
import pickle

import numpy as np
import pytest

from hpcompss.errors import InputError
from hpcompss.tasks.evaluate import evaluate
from hpcompss.trial import Failure, FailureKind, Resources, Result, Trial, TrialState, result_of


def raised(function, *arguments):
    try:
        function(*arguments)
    except BaseException as error:
        return error
    raise AssertionError("it raises nothing")


# What a function returned


@pytest.mark.parametrize("value", [1.5, np.float32(1.5), np.array(1.5)])
def test_a_number_is_the_objective(value):
    assert result_of(value, "loss") == Result(1.5)
    assert type(result_of(value, "loss").value) is float


def test_metrics_hold_the_objective():
    assert result_of({"loss": 1, "accuracy": 0.5}, "loss") == Result(1.0, {"loss": 1.0, "accuracy": 0.5})


def test_a_lone_metric_is_the_objective_where_that_has_no_name_of_its_own():
    assert result_of({"error": 2}, "value") == Result(2.0, {"error": 2.0})
    with pytest.raises(InputError, match=r"'accuracy' is not among what was returned \('loss'\)"):
        result_of({"loss": 2}, "accuracy")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, {"loss": math.nan, "accuracy": 0.5}])
def test_an_objective_that_is_not_finite_is_a_failure(value):
    result = result_of(value, "loss")
    assert result.value is None
    assert result.failure.kind is FailureKind.NOT_FINITE
    assert result.failure.reason in ("loss is nan", "loss is inf", "loss is -inf")


def test_another_metric_need_not_be_finite():
    assert result_of({"loss": 1, "accuracy": math.inf}, "loss").value == 1.0


@pytest.mark.parametrize(
    "value", [None, "1.5", b"1", [1], 1j, {"loss": None}, 10**400], ids=lambda value: repr(value)[:9]
)
def test_what_is_no_number_is_refused(value):
    with pytest.raises(InputError, match="loss must be a number, not "):
        result_of(value, "loss")


def test_metrics_without_the_objective_are_refused():
    with pytest.raises(
        InputError,
        match=r"the objective 'los' is not among what was returned \('accuracy', 'loss'\); did you mean 'loss'\?",
    ):
        result_of({"loss": 1, "accuracy": 2}, "los")
    with pytest.raises(InputError, match="nothing was returned: return the objective 'loss'"):
        result_of({}, "loss")


# Failures


def test_the_reason_is_the_first_line_of_what_was_raised():
    assert Failure.of(ValueError("too large\nby far")).reason == "ValueError: too large"
    assert Failure.of(KeyError("lr")).reason == "KeyError: 'lr'"
    assert Failure.of(RuntimeError()).reason == "RuntimeError"


def test_the_traceback_is_the_users():
    failure = evaluate(lambda configuration: configuration["y"], {"x": 1}, "loss").failure
    assert failure.reason == "KeyError: 'y'"
    assert failure.traceback.startswith("Traceback (most recent call last)")
    assert "test_trial.py" in failure.traceback
    assert "evaluate.py" not in failure.traceback
    failure = evaluate(lambda configuration: None, {}, "loss").failure
    assert failure.reason == "loss must be a number, not None"
    assert "File" not in failure.traceback


def test_a_syntax_error_is_named():
    failure = Failure.of(raised(compile, "def f(:", "model.py", "exec"))
    assert failure.reason.startswith("SyntaxError: invalid syntax")
    assert 'File "model.py", line 1' in failure.traceback


def test_what_does_not_print_is_spelt_out():
    failure = Failure.of(FileNotFoundError(os.fsdecode(b"no file \xff")))
    assert failure.reason == "FileNotFoundError: no file \\udcff"
    assert failure.traceback == "FileNotFoundError: no file \\udcff\n"
    assert Failure(FailureKind.DIED, "\x1b[31mrød\x07\x1b").reason == "rød\\x07\\x1b"


def test_records_travel():
    result = Result(None, {"loss": 1.0}, failure=Failure(FailureKind.DIED, "gone"))
    trial = Trial(3, {"x": 1}, TrialState.FAILED, result)
    assert pickle.loads(pickle.dumps(trial)) == trial
    with pytest.raises(dataclasses.FrozenInstanceError):
        trial.number = 4


def test_the_value_of_a_trial():
    assert Trial(0, {}).value is None
    assert Trial(0, {}, TrialState.COMPLETE, Result(2.0)).value == 2.0


# Resources


@pytest.mark.parametrize(
    "asked", [{"cpu": 3}, {"gpu": 0.25}, {"gpu": 1}, {"gpu": 4.0}, {"memory": 1}, {"time_limit": 0.1}]
)
def test_what_a_trial_may_ask_for(asked):
    ((key, value),) = asked.items()
    assert getattr(Resources(**asked), key) == value


@pytest.mark.parametrize(
    "asked",
    [
        {"cpu": 0},
        {"gpu": -1},
        {"gpu": 1.5},
        {"gpu": math.nan},
        {"gpu": math.inf},
        {"memory": 0},
        {"time_limit": 0},
        {"time_limit": -1.0},
        {"time_limit": math.nan},
    ],
    ids=str,
)
def test_what_no_trial_may_ask_for(asked):
    (key,) = asked
    with pytest.raises(InputError, match=key):
        Resources(**asked)
