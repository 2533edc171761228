"""The one line that says why something failed."""

from __future__ import annotations

import pickle
import sys

import pytest

from hpcompss.errors import InputError
from hpcompss.reasons import REASON_LENGTH, one_line, reason_of
from hpcompss.trial import Failure, FailureKind


def raised(function, *arguments):
    """Returns what a call raises."""
    with pytest.raises(Exception) as caught:
        function(*arguments)
    return caught.value


def chained(outer, inner, *, explicit=True):
    """Returns one exception as it is raised from, or while handling, another one."""

    def call():
        try:
            raise inner
        except Exception as error:
            if explicit:
                raise outer from error
            raise outer  # noqa: B904 - this is what is tested

    return raised(call)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("labels"), "KeyError: 'labels'"),
        (ValueError(), "ValueError"),
        (ValueError("\n\n too large\nby far"), "ValueError: too large"),
        (ValueError("=====\nthe shapes differ:\n  (3,) and (4,)"), "ValueError: the shapes differ: (3,) and (4,)"),
        (ValueError("nothing follows:"), "ValueError: nothing follows:"),
        (ValueError("!!!"), "ValueError: !!!"),
        (ValueError("\x1b[1mbold\x1b[0m"), "ValueError: bold"),
        (ValueError("Error encountered:\n\nno labels"), "ValueError: Error encountered: no labels"),
        (InputError("must be a number", key="loss"), "loss: must be a number"),
        (RuntimeError("x" * 2 * REASON_LENGTH), "RuntimeError: " + "x" * (REASON_LENGTH - 14)),
    ],
)
def test_one_exception(error, reason):
    assert reason_of(error) == reason


@pytest.mark.parametrize(
    ("outer", "inner", "explicit", "reason"),
    [
        (ValueError("no labels"), KeyError("y"), True, "ValueError: no labels (KeyError: 'y')"),
        (ValueError("no labels"), KeyError("y"), False, "ValueError: no labels"),
        (ValueError("no labels: bad"), TypeError("bad"), True, "ValueError: no labels: bad"),
        (RuntimeError(), KeyError("y"), True, "RuntimeError (KeyError: 'y')"),
        (RuntimeError(), KeyError("y"), False, "RuntimeError (KeyError: 'y')"),
        (RuntimeError(), KeyError(), True, "RuntimeError (KeyError)"),
    ],
)
def test_the_users_sentence_is_kept_with_its_cause(outer, inner, explicit, reason):
    assert reason_of(chained(outer, inner, explicit=explicit)) == reason


def test_an_exception_that_is_its_own_cause():
    error, other = ValueError("one"), KeyError("two")
    error.__cause__, other.__cause__ = other, error
    assert reason_of(error).startswith("ValueError: one (KeyError: 'two'")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_an_exception_group_lists_its_exceptions():
    group = ExceptionGroup("loading", [ValueError("a\nb"), *(KeyError(each) for each in "cdef")])  # noqa: F821
    assert reason_of(group) == "ExceptionGroup: loading: ValueError: a; KeyError: 'c'; KeyError: 'd'; and 2 more"


def test_a_reason_is_one_line_and_without_colours_whoever_states_it():
    failure = Failure(FailureKind.EXCEPTION, "first\n\n  \x1b[31msecond\x1b[0m\r\nthird", "\x1b[1mtrace\nback\x1b[0m")
    assert failure.reason == "first second third"
    assert failure.traceback == "trace\nback"
    assert one_line("") == ""


# Keras and TensorFlow


@pytest.fixture(scope="module")
def keras():
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("these are TensorFlow's messages")
    return keras


@pytest.fixture(scope="module")
def calling(keras):
    """Returns what comes out of a layer, inside another layer, whose call raises."""

    def call(function):
        class Inner(keras.layers.Layer):
            def call(self, inputs):
                return function(inputs)

        class Outer(keras.layers.Layer):
            def __init__(self):
                super().__init__()
                self.inner = Inner()

            def call(self, inputs):
                return self.inner(inputs)

        return raised(Outer(), keras.ops.ones((2, 3)))

    return call


class TwoArguments(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


@pytest.mark.parametrize(
    ("inner", "reason"),
    [
        (AttributeError("no such method"), "AttributeError: no such method"),
        (KeyError("labels"), "KeyError: 'labels'"),
        (ValueError("first\n\nsecond"), "ValueError: first"),
        (ValueError(), "ValueError"),
        (TwoArguments(1, 2), "TwoArguments: 1 and 2"),
    ],
)
def test_what_a_layer_raises_is_unwrapped(calling, inner, reason):
    def function(inputs):
        raise inner

    error = calling(function)
    assert str(error).lstrip("\"'").startswith("Exception encountered when calling Inner.call()")
    failure = Failure.of(error)
    assert failure.reason == reason
    assert "\x1b" not in failure.traceback
    assert "Exception encountered" in failure.traceback
    # Where only the text is left, as from a worker, it says the same, but for a type that Keras could not make.
    alone = pickle.loads(pickle.dumps(error))
    assert reason_of(alone).partition(": ")[2].strip("'") == reason.partition(": ")[2].strip("'")


def test_a_chain_inside_a_layer(calling):
    def function(inputs):
        raise chained(ValueError("no labels"), KeyError("y"))

    assert reason_of(calling(function)) == "ValueError: no labels (KeyError: 'y')"


def test_a_layer_that_fails_while_a_model_is_built(keras):
    class Halve(keras.layers.Layer):
        def call(self, inputs):
            return inputs.no_such_method()

    error = raised(Halve(), keras.Input((3,)))
    assert str(error).startswith("Could not automatically infer the output shape") or "Halve.call()" in str(error)
    assert reason_of(error).startswith("AttributeError: '")
    assert reason_of(error).endswith("object has no attribute 'no_such_method'")
    assert reason_of(pickle.loads(pickle.dumps(error))) == reason_of(error)


def test_a_layer_that_does_not_fit_its_inputs(keras):
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    reason = reason_of(raised(lambda: model.fit(keras.ops.ones((2, 4)), keras.ops.ones((2, 3)), verbose=0)))
    assert "expected axis -1 of input shape to have value 5" in reason
    assert "Exception encountered" not in reason


def test_a_graph_that_fails_while_it_runs(keras):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    error = raised(lambda: model.fit(keras.ops.ones((2, 4)), keras.ops.array([7, 7]), verbose=0))
    assert str(error).startswith("Graph execution error:")
    assert reason_of(error).startswith("InvalidArgumentError: Received a label value of 7 which is outside the valid")


def test_an_operation_is_told_without_its_placement(calling, keras):
    tensorflow = pytest.importorskip("tensorflow")
    reason = reason_of(calling(lambda inputs: tensorflow.linalg.matmul(inputs, tensorflow.ones((4, 2)))))
    assert reason == "InvalidArgumentError: Matrix size-incompatible: In[0]: [2,3], In[1]: [4,2]"


def test_a_traced_function_of_the_users(keras):
    tensorflow = pytest.importorskip("tensorflow")

    def look_up(inputs):
        return {}["labels"]

    def refuse(inputs):
        raise ValueError("bad shape\nof something")

    for function, reason in [(look_up, "KeyError: 'labels'"), (refuse, "ValueError: bad shape")]:
        error = raised(tensorflow.function(function), tensorflow.ones(3))
        assert str(error).startswith("in user code:")
        assert reason_of(error) == reason
        error.__context__ = None
        assert reason_of(error) == reason
