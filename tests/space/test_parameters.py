from __future__ import annotations

import json
import math
import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hpcompss import errors
from hpcompss.space.parameters import (
    Boolean,
    Choice,
    Condition,
    Fixed,
    Float,
    Int,
    Parameter,
    parameter_from_json,
)

UNITS = [0.0, 1e-300, 1e-9, 0.1, 0.25, 1 / 3, 0.5, 0.7, 0.999999999, math.nextafter(1, 0), 1.0]
SAMPLINGS = st.sampled_from(["linear", "log", "reverse_log"])

COUNTABLE = [
    Int("x", 0, 0),
    Int("x", -3, 12),
    Int("x", 6, 13, step=3),
    Int("x", 2, 32, step=2, sampling="log"),
    Int("x", 1, 1000, step=10, sampling="log"),
    Int("x", 1, 300, sampling="log"),
    Int("x", 7, 300, sampling="reverse_log"),
    Int("x", 1, 50, step=3, sampling="reverse_log"),
    Int("x", 10**15, 10**15 + 40),
    Int("x", 10**18, 10**18 + 400, step=100),
    Int("x", 1, 2**60, step=2, sampling="log"),
    Int("x", 10**17, 10**17, sampling="log"),
    Float("x", 2.5, 2.5),
    Float("x", 0, 0.3, step=0.1),
    Float("x", 0, 1, step=0.2),
    Float("x", -1.05, 1.1, step=0.05),
    Float("x", 0.001, 10, step=10, sampling="log"),
    Float("x", 1e-300, 1e-200, step=10, sampling="log"),
    Float("x", 1, 50, step=10, sampling="reverse_log"),
    Float("x", 1e6, 1e6 + 1, step=0.1),
    Float("x", -1e300, 1e300, step=1e299),
    Float("x", 0.12345678901234566, 0.9, step=0.1),
    Choice("x", ["adam", "sgd", "rmsprop"]),
    Choice("x", [16, 32, 128]),
    Choice("x", [0.5, 0.25, 1e-7], ordered=False),
    Choice("x", [True, False]),
    Boolean("x"),
    Fixed("x", "constant"),
    Fixed("x", 0.0),
]


def number(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, allow_infinity=False)


@st.composite
def integers(draw: st.DrawFn) -> Int:
    sampling = draw(SAMPLINGS)
    if sampling == "linear":
        low = draw(st.integers(-(10**300), 10**300))
        high = low + draw(st.integers(0, 2**50))
        assume(high <= 10**300)
        step = draw(st.none() | st.integers(1, max(1, high - low)))
    else:
        low = draw(st.integers(1, 10**12))
        high = draw(st.integers(low, 10**12))
        step = draw(st.none() | st.integers(2, max(2, high // low)))
        assume(step is None or low == high or step * low <= high)
    return Int("x", low, high, step, sampling)


@st.composite
def continuous(draw: st.DrawFn) -> Float:
    sampling = draw(SAMPLINGS)
    low, high = sorted([draw(number(-1e300, 1e300)), draw(number(-1e300, 1e300))])
    if sampling != "linear":
        low, high = sorted([abs(low), abs(high)])
        assume(low > 0 and high / low <= 1e300)
    assume(low < high)
    return Float("x", low, high, sampling=sampling)


@st.composite
def stepped(draw: st.DrawFn) -> Float:
    sampling = draw(SAMPLINGS)
    if sampling == "linear":
        low, step = draw(number(-1e6, 1e6)), draw(number(1e-3, 1e3))
        high = low + step * draw(st.integers(1, 10**6)) + step * draw(number(0, 1))
    else:
        low, step = draw(number(1e-9, 1e9)), draw(number(1.01, 10))
        high = low * step ** draw(st.integers(1, 8))
        assume(high > low)
    return Float("x", low, high, step, sampling)


# Values, and the way to the unit interval and back


@pytest.mark.parametrize("parameter", COUNTABLE, ids=repr)
def test_every_value_has_its_number_and_its_place(parameter: Parameter) -> None:
    count = int(parameter.count)
    values = [parameter.value(index) for index in range(count)]
    assert len(set(values)) == count
    assert [parameter.index(value) for value in values] == list(range(count))
    assert [parameter.check(value) for value in values] == values
    places = [parameter.encode(value) for value in values]
    assert places == sorted(places)
    assert places[0] > 0 and places[-1] < 1
    decoded = [parameter.decode(place) for place in places]
    assert decoded == values
    assert [type(value) for value in decoded] == [type(value) for value in values]
    assert parameter.default in values


@pytest.mark.parametrize("parameter", [each for each in COUNTABLE if not isinstance(each, Choice)], ids=repr)
def test_values_ascend_from_the_lowest(parameter: Parameter) -> None:
    values = [parameter.value(index) for index in range(int(parameter.count))]
    assert values == sorted(values)


@pytest.mark.parametrize("parameter", [*COUNTABLE, Float("x", -1, 1), Float("x", 1e-9, 1, sampling="log")], ids=repr)
def test_every_place_decodes_to_a_value(parameter: Parameter) -> None:
    for unit in UNITS:
        value = parameter.decode(unit)
        assert parameter.check(value) == value


@given(integers(), st.data())
def test_integers_come_back(parameter: Int, data: st.DataObject) -> None:
    value = parameter.value(data.draw(st.integers(0, parameter.count - 1)))
    assert isinstance(value, int) and not isinstance(value, bool)
    assert parameter.min_value <= value <= parameter.max_value
    assert parameter.check(value) == value
    assert parameter.decode(parameter.encode(value)) == value


@given(integers(), number(0, 1))
def test_places_decode_to_integers_in_range(parameter: Int, unit: float) -> None:
    value = parameter.decode(unit)
    assert isinstance(value, int)
    assert parameter.check(value) == value


@given(continuous(), number(0, 1))
def test_places_decode_to_numbers_in_range(parameter: Float, unit: float) -> None:
    assert parameter.min_value <= parameter.decode(unit) <= parameter.max_value
    assert parameter.decode(0.0) == pytest.approx(parameter.min_value, rel=1e-9, abs=1e-9 * abs(parameter.max_value))
    assert parameter.decode(1.0) == pytest.approx(parameter.max_value, rel=1e-9, abs=1e-9 * abs(parameter.min_value))


@given(continuous(), number(0, 1))
def test_numbers_come_back(parameter: Float, unit: float) -> None:
    value = parameter.decode(unit)
    place = parameter.encode(value)
    assert -1e-12 <= place <= 1 + 1e-12
    size = max(abs(parameter.min_value), abs(parameter.max_value))
    tolerance = abs(value) if parameter.sampling == "log" else size
    assert abs(parameter.decode(place) - value) <= 1e-9 * tolerance


@given(stepped(), st.data())
def test_stepped_numbers_come_back(parameter: Float, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, int(parameter.count) - 1))
    value = parameter.value(index)
    assert parameter.min_value <= value <= parameter.max_value
    assert parameter.index(value) == index
    assert parameter.check(value) == value
    assert parameter.decode(parameter.encode(value)) == value


@given(stepped(), number(0, 1))
def test_places_decode_to_steps(parameter: Float, unit: float) -> None:
    value = parameter.decode(unit)
    assert parameter.check(value) == value


def test_huge_ranges_of_integers_stay_in_range() -> None:
    for parameter in (Int("x", -(10**300), 10**300), Int("x", 1, 10**300, sampling="log"), Int("x", 0, 2**63)):
        assert parameter.count == parameter.max_value - parameter.min_value + 1
        for unit in UNITS:
            assert parameter.min_value <= parameter.decode(unit) <= parameter.max_value


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.0, 5e-324), (1.0, math.nextafter(1, 2)), (1e300, math.nextafter(1e300, 0)), (-1e300, 1e300), (1e-300, 1.0)],
)
@pytest.mark.parametrize("sampling", ["linear", "log", "reverse_log"])
def test_extreme_ranges_have_both_ends(low: float, high: float, sampling: str) -> None:
    low, high = sorted([low, high])
    if sampling != "linear" and low <= 0:
        return
    parameter = Float("x", low, high, sampling=sampling)
    assert (parameter.encode(low), parameter.encode(high)) == pytest.approx((0, 1), abs=1e-12)
    assert (parameter.decode(0.0), parameter.decode(1.0)) == pytest.approx((low, high), rel=1e-12)


def test_steps_are_the_decimal_numbers_a_user_writes() -> None:
    values = [Float("x", 0, 0.3, step=0.1), Float("x", 0.1, 0.7, step=0.2)]
    assert [[each.value(index) for index in range(int(each.count))] for each in values] == [
        [0.0, 0.1, 0.2, 0.3],
        [0.1, 0.3, 0.5, 0.7],
    ]
    assert Float("x", 1e7, 1e7 + 0.7, step=0.1).count == 8


def test_a_value_that_misses_its_step_by_rounding_is_that_step() -> None:
    assert Float("x", 0, 1, step=0.1).check(0.1 + 0.2) == 0.3
    assert Choice("x", [1.0, 2.0]).check(1) == 1.0
    assert Int("x", 0, 9).check(3.0) == 3


def test_a_number_of_numpy_becomes_pythons() -> None:
    assert type(Int("x", 0, 9).check(np.int64(3))) is int
    assert type(Int("x", 0, 9).check(np.float32(3))) is int
    assert type(Float("x", 0, 9).check(np.float32(0.5))) is float
    assert type(Boolean("x").check(np.bool_(True))) is bool
    assert Choice("x", np.array([1, 2])).values == (1, 2)  # type: ignore[arg-type]
    assert type(Choice("x", ["a"]).check(np.str_("a"))) is str
    assert type(Fixed("x", np.float64(1)).default) is float


def test_a_uniform_draw_gives_each_value_its_share() -> None:
    units = (np.arange(6000) + 0.5) / 6000
    assert Counter(map(Int("x", 1, 6).decode, units)) == dict.fromkeys(range(1, 7), 1000)
    assert Counter(map(Int("x", 2, 32, step=2, sampling="log").decode, units)) == dict.fromkeys([2, 4, 8, 16, 32], 1200)
    shares = Counter(map(Int("x", 1, 3, sampling="log").decode, units))
    assert [shares[value] / 6000 for value in (1, 2, 3)] == pytest.approx([0.5, 0.2925, 0.2075], abs=1e-3)


def test_defaults() -> None:
    assert Int("x", 3, 9).default == 3
    assert Int("x", 3, 9, default=5).default == 5
    assert Float("x", 0.5, 1).default == 0.5
    assert Float("x", 1, 50, step=10, sampling="reverse_log").default == 41.0
    assert Float("x", 0, 1, step=0.25, default=0.3).default == 0.25
    assert Float("x", 1e-4, 1e-1, step=10, sampling="log", default=0.002).default == 0.001
    assert Int("x", 32, 512, step=32, default=127).default == 128
    assert Choice("x", ["a", "b"]).default == "a"
    assert Choice("x", ["a", "b"], default="b").default == "b"
    assert Boolean("x").default is False
    assert Boolean("x", default=True).default is True
    assert Fixed("x", 3).default == 3


def test_numbers_are_ordered_and_words_are_not() -> None:
    assert Choice("x", [1, 2]).ordered
    assert not Choice("x", [1, 2], ordered=False).ordered
    assert not Choice("x", ["1", "2"]).ordered
    assert not Choice("x", [True, False]).ordered
    assert Choice("x", [1, 2.5]).values == (1.0, 2.5)


def test_sampling_may_be_none_or_written_large() -> None:
    assert Int("x", 1, 9, sampling=None) == Int("x", 1, 9)
    assert Int("x", 1, 9, sampling="LOG") == Int("x", 1, 9, sampling="log")


# Identity and plain data


@pytest.mark.parametrize("parameter", [*COUNTABLE, Float("x", 0, 1), Int("x", 1, 9, default=4)], ids=repr)
def test_a_parameter_survives_json_and_pickle(parameter: Parameter) -> None:
    read = parameter_from_json(json.loads(json.dumps(parameter.to_json())))
    assert read == parameter
    assert hash(read) == hash(parameter)
    assert repr(read) == repr(parameter)
    assert pickle.loads(pickle.dumps(parameter)) == parameter


def test_conditions_survive_json() -> None:
    parameter = Int("x", 0, 9, conditions=[Condition("a", (1, 2)), Condition("b", (True,))])
    assert parameter_from_json(json.loads(json.dumps(parameter.to_json()))) == parameter


def test_what_differs_is_not_equal() -> None:
    different = [
        Int("x", 0, 1),
        Int("y", 0, 1),
        Int("x", 0, 2),
        Float("x", 0, 1),
        Boolean("x"),
        Choice("x", [0, 1]),
        Choice("x", [0.0, 1.0]),
        Choice("x", [False, True]),
        Choice("x", [0, 1], ordered=False),
        Fixed("x", 1),
        Fixed("x", 1.0),
        Fixed("x", True),
        Int("x", 0, 1, parent_name="a", parent_values=[1]),
        Int("x", 0, 1, parent_name="a", parent_values=[2]),
    ]
    assert len(set(different)) == len(different)


# Conditions


@pytest.mark.parametrize("values", [3, [3], (3,), {3}, range(3, 4), np.array([3]), np.int64(3), [3, np.int64(3)]])
def test_parent_values_are_one_or_several(values: Any) -> None:
    assert Int("x", 0, 9, parent_name="a", parent_values=values).conditions == (Condition("a", (3,)),)


def test_a_word_is_one_parent_value() -> None:
    assert Int("x", 0, 9, parent_name="a", parent_values="adam").conditions == (Condition("a", ("adam",)),)


def test_a_condition_holds_where_the_parent_is_active_with_such_a_value() -> None:
    condition = Condition("a", (1, 2))
    assert condition.holds({"a": 2})
    assert not condition.holds({"a": 3})
    assert not condition.holds({})


# Bad input, each with its sentence

BAD: dict[str, tuple[Callable[[], object], str]] = {
    "no name": (lambda: Int("", 0, 1), "a parameter's name is a non-empty string, not ''"),
    "name no string": (lambda: Int(3, 0, 1), "a parameter's name is a non-empty string, not 3"),  # type: ignore[arg-type]
    "reversed": (lambda: Int("x", 5, 2), "Int 'x': min_value 5 is above max_value 2: swap them"),
    "reversed floats": (lambda: Float("x", 0.5, 0.2), "Float 'x': min_value 0.5 is above max_value 0.2: swap them"),
    "infinite": (
        lambda: Float("x", 0, math.inf),
        "Float 'x': its bounds must be finite (at most 1e+300), not 0.0 and inf",
    ),
    "not a number": (
        lambda: Float("x", math.nan, 1),
        "Float 'x': its bounds must be finite (at most 1e+300), not nan and 1.0",
    ),
    "infinite integer": (lambda: Int("x", 0, math.inf), "Int 'x': max_value must be a whole number, not inf"),  # type: ignore[arg-type]
    "too large": (lambda: Float("x", 0, 1.7e308), "its bounds must be finite (at most 1e+300), not 0.0 and 1.7e+308"),
    "integer too large": (
        lambda: Int("x", 0, 10**301),
        "Int 'x': its bounds must be finite (at most 1e+300), not 0 and 1",
    ),
    "no float": (lambda: Float("x", 0, 10**400), "Float 'x': max_value must be a number, not 1000"),
    "log from 0": (lambda: Int("x", 0, 5, sampling="log"), "Int 'x': sampling='log' needs min_value above 0, not 0"),
    "reverse log from 0": (
        lambda: Float("x", 0, 5, sampling="reverse_log"),
        "Float 'x': sampling='reverse_log' needs min_value above 0, not 0.0",
    ),
    "log too wide": (
        lambda: Float("x", 1e-200, 1e200, sampling="log"),
        "Float 'x': a log scale spans at most a factor of 1e+300, not 1e-200 to 1e+200",
    ),
    "unknown sampling": (
        lambda: Int("x", 1, 5, sampling="lgo"),
        "Int 'x': unknown sampling 'lgo'; did you mean 'log'?",
    ),
    "sampling no string": (lambda: Int("x", 1, 5, sampling=3), "Int 'x': unknown sampling 3; known:"),  # type: ignore[arg-type]
    "step 0": (lambda: Int("x", 1, 5, step=0), "Int 'x': step must be above 0, not 0"),
    "step below 0": (lambda: Float("x", 0, 1, step=-0.1), "Float 'x': step must be above 0, not -0.1"),
    "step nan": (lambda: Float("x", 0, 1, step=math.nan), "Float 'x': step must be above 0, not nan"),
    "step too large": (
        lambda: Int("x", 1, 5, step=9),
        "Int 'x': step 9 is larger than the range from 1 to 5: only one value would remain",
    ),
    "float step too large": (
        lambda: Float("x", 0, 0.5, step=0.6),
        "Float 'x': step 0.6 is larger than the range from 0.0 to 0.5: only one value would remain",
    ),
    "log step too large": (
        lambda: Int("x", 2, 6, step=4, sampling="log"),
        "Int 'x': step 4 is larger than the range from 2 to 6: only one value would remain",
    ),
    "log step 1": (
        lambda: Int("x", 1, 8, step=1, sampling="log"),
        "Int 'x': with sampling='log' the step multiplies, so it must be above 1, not 1",
    ),
    "log step below 1": (
        lambda: Float("x", 1, 8, step=0.5, sampling="reverse_log"),
        "Float 'x': with sampling='reverse_log' the step multiplies, so it must be above 1, not 0.5",
    ),
    "step too small": (
        lambda: Float("x", 0, 1, step=1e-16),
        "Float 'x': step 1e-16 is too small: values next to each other would be the same number",
    ),
    "reverse log step too small": (
        lambda: Float("x", 1e-10, 1e10, step=10, sampling="reverse_log"),
        "Float 'x': step 10.0 is too small: values next to each other would be the same number",
    ),
    "fraction": (lambda: Int("x", 0, 2.5), "Int 'x': max_value must be a whole number, not 2.5"),  # type: ignore[arg-type]
    "word for integer": (lambda: Int("x", "0", 2), "Int 'x': min_value must be a whole number, not '0'"),  # type: ignore[arg-type]
    "boolean for integer": (lambda: Int("x", False, 2), "Int 'x': min_value must be a whole number, not False"),
    "fraction as step": (lambda: Int("x", 0, 2, step=0.5), "Int 'x': step must be a whole number, not 0.5"),  # type: ignore[arg-type]
    "word for float": (lambda: Float("x", 0, "1"), "Float 'x': max_value must be a number, not '1'"),  # type: ignore[arg-type]
    "boolean for float": (lambda: Float("x", 0, True), "Float 'x': max_value must be a number, not True"),
    "default outside": (
        lambda: Int("x", 0, 5, default=7),
        "Int 'x': its default is not one of its values (Int 'x': 7 is outside 0 to 5)",
    ),
    "empty choice": (lambda: Choice("x", []), "Choice 'x': values is empty: give at least one"),
    "choice of a word": (lambda: Choice("x", "abc"), "Choice 'x': values must be a list, not 'abc'"),
    "choice of a number": (lambda: Choice("x", 3), "Choice 'x': values must be a list, not 3"),  # type: ignore[arg-type]
    "mixed types": (
        lambda: Choice("x", [1, "a"]),
        "Choice 'x': its values must be all int, all float, all str or all bool, not [1, 'a']",
    ),
    "boolean among integers": (
        lambda: Choice("x", [1, True]),
        "Choice 'x': its values must be all int, all float, all str or all bool, not [1, True]",
    ),
    "lists as values": (
        lambda: Choice("x", [[1], [2]]),  # type: ignore[list-item]
        "Choice 'x': its values must be all int, all float, all str or all bool, not [[1], [2]]",
    ),
    "value twice": (lambda: Choice("x", ["a", "b", "a"]), "Choice 'x': 'a' is in its values twice"),
    "value twice as float": (lambda: Choice("x", [1, 1.0, 2]), "Choice 'x': 1.0 is in its values twice"),
    "infinite choice": (lambda: Choice("x", [1.0, math.inf]), "Choice 'x': its values must be finite"),
    "huge among floats": (lambda: Choice("x", [1.0, 10**400]), "Choice 'x': its values must be finite"),
    "ordered words": (lambda: Choice("x", ["a", "b"], ordered=True), "Choice 'x': only numbers can be ordered=True"),
    "default no choice": (lambda: Choice("x", ["a"], default="b"), "Choice 'x': 'b' is not one of ['a']"),
    "default of a boolean": (lambda: Boolean("x", default=1), "Boolean 'x': 1 is neither true nor false"),  # type: ignore[arg-type]
    "fixed list": (
        lambda: Fixed("x", [1]),  # type: ignore[arg-type]
        "Fixed 'x': its value must be a finite number, a string or a boolean, not [1]",
    ),
    "fixed nan": (
        lambda: Fixed("x", math.nan),
        "Fixed 'x': its value must be a finite number, a string or a boolean, not nan",
    ),
    "values without parent": (
        lambda: Int("x", 0, 1, parent_values=[1]),
        "Int 'x': parent_name and parent_values go together",
    ),
    "parent without values": (
        lambda: Int("x", 0, 1, parent_name="a"),
        "Int 'x': parent_name and parent_values go together",
    ),
    "no parent values": (
        lambda: Int("x", 0, 1, parent_name="a", parent_values=[]),
        "parent_values of 'a' is empty, so the condition could never hold",
    ),
    "parent no name": (
        lambda: Int("x", 0, 1, parent_name=Int("a", 0, 1), parent_values=[1]),  # type: ignore[arg-type]
        "a parent is given by its name, not as Int('a', min_value=0, max_value=1)",
    ),
    "no condition": (
        lambda: Int("x", 0, 1, conditions=["a"]),  # type: ignore[list-item]
        "Int 'x': its conditions must be Condition(parent, values), not 'a'",
    ),
    "outside": (lambda: Int("x", 0, 5).check(6), "Int 'x': 6 is outside 0 to 5"),
    "float outside": (lambda: Float("x", 0, 5).check(-0.1), "Float 'x': -0.1 is outside 0.0 to 5.0"),
    "nan as value": (lambda: Float("x", 0, 5).check(math.nan), "Float 'x': nan is outside 0.0 to 5.0"),
    "off its step": (lambda: Int("x", 0, 9, step=2).check(3), "Int 'x': 3 is not one of its steps (from 0, step 2)"),
    "off its log step": (
        lambda: Int("x", 1, 64, step=2, sampling="log").check(3),
        "Int 'x': 3 is not one of its steps (from 1, step 2)",
    ),
    "float off its step": (
        lambda: Float("x", 0, 1, step=0.1).check(0.15),
        "Float 'x': 0.15 is not one of its steps (from 0.0, step 0.1)",
    ),
    "boolean as integer value": (
        lambda: Int("x", 0, 5).check(True),
        "Int 'x': a value must be a whole number, not True",
    ),
    "word as float value": (lambda: Float("x", 0, 5).check("1"), "Float 'x': a value must be a number, not '1'"),
    "unknown choice": (lambda: Choice("x", ["a", "b"]).check("c"), "Choice 'x': 'c' is not one of ['a', 'b']"),
    "boolean as choice": (lambda: Choice("x", [0, 1]).check(True), "Choice 'x': True is not one of [0, 1]"),
    "list as choice": (lambda: Choice("x", [0, 1]).check([0]), "Choice 'x': [0] is not one of [0, 1]"),
    "number as boolean": (lambda: Boolean("x").check(1), "Boolean 'x': 1 is neither true nor false"),
    "not the fixed value": (lambda: Fixed("x", 3).check(4), "Fixed 'x': it is fixed to 3, not 4"),
    "not the fixed type": (lambda: Fixed("x", 1).check(True), "Fixed 'x': it is fixed to 1, not True"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_in_a_sentence(case: str) -> None:
    act, sentence = BAD[case]
    with pytest.raises(errors.InputError) as caught:
        act()
    assert sentence in str(caught.value)


# KerasTuner's meaning


def ours_of(kind: str) -> Any:
    return {"Int": Int, "Float": Float, "Choice": Choice}[kind]


AGREED: list[tuple[str, tuple[Any, ...]]] = [
    ("Int", (6, 12)),
    ("Int", (6, 13, 3)),
    ("Int", (-5, 5, 2)),
    ("Int", (4, 4)),
    ("Int", (2, 32, 2, "log")),
    ("Int", (3, 1000, 3, "log")),
    ("Int", (1, 1024, 4, "reverse_log")),
    ("Int", (10, 90, 3, "reverse_log")),
    ("Float", (0, 1, 0.25)),
    ("Float", (0, 1, 0.2)),
    ("Float", (0, 0.5, 0.05)),
    ("Float", (0, 0.3, 0.1)),
    ("Float", (0.001, 10, 10, "log")),
    ("Float", (1e-4, 0.5, 3, "log")),
    ("Float", (1, 50, 2, "reverse_log")),
    ("Choice", (["a", "b", "c"],)),
    ("Choice", ([1, 2, 3],)),
    ("Choice", ([0.5, 0.25],)),
]

KERAS_TUNER_LOSES_THE_LAST = [(0, 0.3, 0.1), (0, 1, 0.2), (0, 0.5, 0.05)]
"""It counts with //, and 1 // 0.2 is 4.0; its documentation lists the last value all the same."""


@pytest.mark.parametrize(("kind", "arguments"), AGREED, ids=str)
def test_keras_tuner_enumerates_the_same_values(kind: str, arguments: tuple[Any, ...]) -> None:
    keras_tuner = pytest.importorskip("keras_tuner")
    theirs = getattr(keras_tuner.engine.hyperparameters, kind)("x", *arguments)
    ours = ours_of(kind)("x", *arguments)
    values = [ours.value(index) for index in range(int(ours.count))]
    expected = sorted(theirs.values)
    if arguments in KERAS_TUNER_LOSES_THE_LAST:
        expected.append(arguments[1])
    assert sorted(values) == (expected if kind == "Choice" else pytest.approx(expected, rel=1e-9))


@pytest.mark.parametrize("sampling", ["linear", "log", "reverse_log"])
@pytest.mark.parametrize(("kind", "bounds"), [("Int", (3, 500)), ("Float", (1e-3, 2.0))])
def test_keras_tuner_draws_from_the_same_prior(kind: str, bounds: tuple[float, float], sampling: str) -> None:
    keras_tuner = pytest.importorskip("keras_tuner")
    theirs = getattr(keras_tuner.engine.hyperparameters, kind)("x", *bounds, sampling=sampling)
    ours = ours_of(kind)("x", *bounds, sampling=sampling)
    units = np.random.default_rng(0).random(500)
    assert [ours.decode(unit) for unit in units] == pytest.approx(
        [theirs.prob_to_value(unit) for unit in units], rel=1e-9
    )
    for value in (ours.decode(unit) for unit in units):
        assert ours.encode(value) == pytest.approx(theirs.value_to_prob(value), abs=1e-9)
