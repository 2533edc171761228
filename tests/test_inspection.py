"""The inspection of a model runs under a trial's limits, in processes of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpcompss.engines import Local
from hpcompss.errors import InputError
from hpcompss.loop import View
from hpcompss.space import Choice, Space
from hpcompss.space.tracing import Killed
from hpcompss.tasks.inspect_model import Inspection, _deadline
from hpcompss.tasks.read_data import DataSummary
from hpcompss.trial import Failure, FailureKind, Resources
from hpcompss.tuning import UserCodeError, _inspect, _why_killed, find_space, read_data_once
from hpcompss.workflow import make_workflow
from tests.keras_jobs import keras_cache

__all__ = ["keras_cache"]

MODELS = Path(__file__).with_name("deadly_models.py")


class Sayings(View):
    """What is said."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def say(self, message: str) -> None:
        self.sentences.append(message)


@pytest.fixture
def engine(keras_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Local]:
    monkeypatch.setenv("HPCOMPSS_CACHE", str(keras_cache))
    with Local(1, gpus=[]) as made:
        yield made


def workflow(**sections: Any) -> Any:
    return make_workflow(
        {"data": {"name": "digits", "train": 120, "validation": 40}, "objective": "val_accuracy", **sections}
    )


def test_what_a_trial_could_not_build_is_said_and_the_rest_is_found(engine: Local) -> None:
    view = Sayings()
    stated = workflow(model=f"{MODELS}:build", search={"trials": 2}, resources={"memory": "2GB"})
    space = find_space(stated, engine, view)
    assert space == Space([Choice("size", ["small", "huge"]), Choice("rate", [0.1, 0.01])])
    warnings = [each for each in view.sentences if each.startswith("warning")]
    assert warnings == [
        "warning: size='huge' is too large to build within resources.memory (2 GB): trials with it will fail"
    ]


def _hang() -> None:
    with _deadline(0.2):
        time.sleep(60)


def test_a_call_that_takes_longer_than_a_trial_may_ends_its_process(engine: Local) -> None:
    future = engine.submit(_hang)
    engine.wait([future], timeout=30)
    failure = future.result()
    assert failure.kind is FailureKind.DIED
    assert _why_killed(failure, Resources(time_limit=60)) == "takes longer to build than resources.time_limit (60 s)"
    assert _why_killed(failure, Resources()).startswith("cannot be built (its process was killed by signal 14")


class Scripted:
    """An engine whose tasks end as a test says; it keeps what was asked of it."""

    def __init__(self, *outcomes: Any) -> None:
        self.asked: list[tuple[str, Sequence[Any], Resources]] = []
        self._outcomes = list(outcomes)

    def submit(self, function: Any, *args: Any, resources: Resources) -> Any:
        self.asked.append((function.__name__, args, resources))
        value, step = self._outcomes.pop(0)
        return SimpleNamespace(result=lambda: value, progress=step)

    def capacity(self, resources: Resources) -> int:
        return 1

    def wait(self, futures: Any) -> None:
        pass


TOO_MUCH = Failure(FailureKind.MEMORY, "used 2.1 GB of the 2 GB it asked for")


def inspected(*outcomes: Any) -> tuple[Any, Scripted]:
    engine = Scripted(*outcomes)
    stated = workflow(model=f"{MODELS}:build", search={"trials": 2}, resources={"memory": "2GB", "time_limit": 60})
    return _inspect(stated, engine, stated.trial_resources), engine  # type: ignore[arg-type]


def test_data_are_read_without_the_limits_in_a_process_of_their_own() -> None:
    engine = Scripted((DataSummary("digits", "abc"), {}))
    stated = workflow(model=f"{MODELS}:build", search={"trials": 2}, resources={"memory": "2GB", "time_limit": 60})
    assert read_data_once(stated, engine, View()) == "abc"  # type: ignore[arg-type]
    ((name, _, asked),) = engine.asked
    assert (name, asked) == ("read_data", Resources(single_use=True))


def test_inspection_has_the_limits_of_a_trial() -> None:
    done = Inspection(Space([Choice("rate", [0.1, 0.01])]), ())
    found, engine = inspected((done, {}))
    assert found is done
    ((name, arguments, asked),) = engine.asked
    assert (name, asked) == ("inspect_model", Resources(memory=2 * 10**9, single_use=True))
    assert arguments[1:] == ((), 60)


def test_a_module_that_needs_more_memory_is_not_tried_again() -> None:
    found, engine = inspected((TOO_MUCH, {}))
    assert found is TOO_MUCH
    assert len(engine.asked) == 1


def test_a_call_that_ends_the_process_where_it_had_survived_is_not_tried_for_ever() -> None:
    step = {"call": 3, "declared": 2}
    found, engine = inspected((TOO_MUCH, step), (TOO_MUCH, step))
    assert found is TOO_MUCH
    (killed,) = engine.asked[1][1][1]
    assert killed == Killed(3, 2, "is too large to build within resources.memory (2 GB)")


def test_inspection_ends_after_many_configurations_that_cannot_be_built() -> None:
    with pytest.raises(InputError, match="more than 10 configurations of build"):
        inspected(*((TOO_MUCH, {"call": call}) for call in range(1, 20)))


def test_a_function_whose_module_needs_too_much_memory_is_refused(engine: Local, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import time\nhoard = bytearray(b'x') * 10**9\ntime.sleep(60)\n\ndef square(hp):\n    return 1.0\n"
    )
    stated = make_workflow(
        {
            "function": f"{tmp_path}/mine.py:square",
            "space": {"x": {"type": "Float", "min_value": 0.0, "max_value": 1.0}},
            "objective": {"metric": "value", "direction": "minimize"},
            "search": {"trials": 2},
            "resources": {"memory": "500MB"},
        }
    )
    with pytest.raises(UserCodeError, match=r"cannot be imported: used .* of the 500 MB it asked for"):
        find_space(stated, engine)
