from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import hpcompss
from hpcompss.engines import Local
from hpcompss.errors import InputError
from hpcompss.space.tracing import HyperParameters, discover
from hpcompss.tasks.inspect_model import inspect_model
from hpcompss.training.hypermodel import HyperModel, as_hypermodel, overrides_fit
from tests.keras_jobs import make_job

# What may be a model


def test_a_function_a_class_and_an_object_can_be_named() -> None:
    class Mine(HyperModel):
        def build(self, hp: Any) -> Any:
            return "built"

    for found in (lambda hp: "built", Mine, Mine()):
        assert as_hypermodel(found, "file.py:name").build(HyperParameters()) == "built"


def test_something_else_is_refused() -> None:
    with pytest.raises(InputError, match=r"file\.py:name is neither a function build\(hp\) nor a HyperModel"):
        as_hypermodel(3, "file.py:name")


def test_a_class_that_needs_arguments_is_refused() -> None:
    class Mine(HyperModel):
        def __init__(self, classes: int) -> None:
            super().__init__()

    with pytest.raises(InputError, match=r"cannot be made without arguments \(.*'classes'\): name one made"):
        as_hypermodel(Mine, "file.py:Mine")


def test_a_keras_model_is_refused(keras: Any) -> None:
    for found in (keras.Model, keras.Sequential()):
        with pytest.raises(InputError, match=r"file\.py:model is a Keras model: name a function build\(hp\)"):
            as_hypermodel(found, "file.py:model")


def test_a_hypermodel_without_build_says_so() -> None:
    class Mine(HyperModel):
        pass

    with pytest.raises(NotImplementedError, match=r"Mine must override build\(hp\)"):
        Mine().build(HyperParameters())


def test_knows_who_wrote_fit(keras: Any) -> None:
    import keras_tuner

    class Mine(HyperModel):
        pass

    class Kept(keras_tuner.HyperModel):
        pass

    class Own(keras_tuner.HyperModel):
        def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
            """Trains."""

    Own.__qualname__ = "HyperModel"
    Own.fit.__qualname__ = "HyperModel.fit"
    assert not overrides_fit(Mine()) and not overrides_fit(Kept())
    assert not overrides_fit(as_hypermodel(lambda hp: None, "build"))
    assert overrides_fit(Own())


def test_what_is_not_tunable_keeps_its_defaults() -> None:
    class Mine(HyperModel):
        def build(self, hp: Any) -> Any:
            return hp.Int("units", 4, 8)

    hypermodel = Mine(tunable=False)
    assert len(discover(hypermodel.build).space) == 0
    hp = HyperParameters({"other": 3})
    assert hypermodel.build(hp) == 4 and hp.warnings == [] and hp.values == {}
    assert [each.name for each in discover(Mine().build).space.parameters] == ["units"]


# The hp object, against KerasTuner's own


def scopes_without_ifs(hp: Any) -> None:
    hp.Choice("kind", ["mlp", "cnn"])
    with hp.conditional_scope("kind", ["cnn"]):
        hp.Int("filters", 16, 64, step=16)
        hp.Choice("pooling", ["max", "mean"])
        with hp.conditional_scope("pooling", ["max"]):
            hp.Int("window", 2, 4)
    with hp.conditional_scope("kind", ["mlp"]):
        hp.Int("units", 32, 512, 32, "linear", 64)


def every_kind_by_position(hp: Any) -> None:
    hp.Int("a", 1, 7)
    hp.Int("b", 1, 7, 2)
    hp.Int("c", 2, 32, 2, "log")
    hp.Int("d", 1, 20, 3, "reverse_log", 20)
    hp.Float("e", 0, 1, 0.25)  # KerasTuner loses the last of five steps of 0.2
    hp.Float("f", 0.001, 10, 10, "log", 0.1)
    hp.Choice("g", [3, 1, 2], False, 1)
    hp.Boolean("h", True)
    hp.Fixed("i", "constant")
    hp.Choice("j", ["x", "y"], None, "y", "h", [True])


def every_kind_by_keyword(hp: Any) -> None:
    hp.Int(name="a", min_value=1, max_value=7, step=3, sampling=None, default=4)
    hp.Int(name="b", min_value=10, max_value=100, sampling="LOG")
    hp.Float(name="c", min_value=0.5, max_value=1.0, step=0.125, sampling="Linear")
    hp.Float(name="d", min_value=1, max_value=100, step=10, sampling="reverse_log")
    hp.Choice(name="e", values=[0.5, 0.25], ordered=True, default=0.25)
    hp.Boolean(name="f", default=True)
    hp.Boolean(name="g", parent_name="f", parent_values=[True])
    with hp.conditional_scope("f", [True]):
        hp.Fixed(name="h", value=3, parent_name="g", parent_values=[False])


def names_in_scopes(hp: Any) -> None:
    for name in ("encoder", "decoder"):
        with hp.name_scope(name):
            hp.Int("layers", 1, 3)
            assert hp.get("layers") == hp["layers"] and "layers" in hp and "width" not in hp
            with hp.conditional_scope("layers", [1, 2]):
                hp.Boolean("norm")
                hp.Int("units", 1, 4, parent_name="norm", parent_values=[True])


def values_and_copies(hp: Any) -> None:
    hp.Int("a", 2, 5)
    twin = hp.copy()
    twin.Int("b", 1, 3)
    assert twin.get("a") == hp.values["a"] and "b" in twin and "b" not in hp
    with hp.conditional_scope("a", [4]):
        assert hp.Int("c", 1, 9) == (hp.get("c") if hp["a"] == 4 else None)


DECLARATIONS = [
    scopes_without_ifs,
    every_kind_by_position,
    every_kind_by_keyword,
    names_in_scopes,
    values_and_copies,
]


@pytest.mark.parametrize("declare", DECLARATIONS)
def test_finds_what_keras_tuner_finds(keras: Any, declare: Any) -> None:
    import keras_tuner

    theirs = keras_tuner.HyperParameters()
    declare(theirs)
    expected = {}
    for each in theirs.space:
        conditions = [(condition.name, tuple(condition.values)) for condition in each.conditions]
        expected[each.name] = (type(each).__name__, each.default, conditions, values_of(each.prob_to_value))
    found = {}
    for each in discover(declare).space.parameters:
        conditions = [(condition.parent, condition.values) for condition in each.conditions]
        found[each.name] = (each.kind, each.default, conditions, values_of(each.decode))
    assert found == expected


def values_of(value_at: Any) -> set[Any]:
    """All that a map from the unit interval gives; numbers to the digits that both compute alike."""
    values = [value_at((place + 0.5) / 5000) for place in range(5000)]
    return {float(f"{value:.9g}") if isinstance(value, float) else value for value in values}


def test_a_continuous_range_is_mapped_as_keras_tuner_maps_it(keras: Any) -> None:
    import keras_tuner

    for sampling in ("linear", "log", "reverse_log"):
        theirs, ours = keras_tuner.HyperParameters(), HyperParameters()
        for hp in (theirs, ours):
            hp.Float("rate", 0.001, 10.0, sampling=sampling)
        for place in (0.0, 0.1, 0.5, 0.9):
            assert math.isclose(ours.space[0].decode(place), theirs.space[0].prob_to_value(place), rel_tol=1e-9)


def test_the_same_errors_for_a_value_that_is_not_there(keras: Any) -> None:
    import keras_tuner

    for hp in (keras_tuner.HyperParameters(), HyperParameters()):
        hp.Boolean("a")
        hp.Int("b", 1, 2, parent_name="a", parent_values=[True])
        assert "b" not in hp and "c" not in hp
        with pytest.raises(ValueError, match="b is currently inactive"):
            hp.get("b")
        with pytest.raises(KeyError, match="c does not exist"):
            hp["c"]


# KerasTuner's HyperModel


def names_of(model: str) -> list[str]:
    found = inspect_model(make_job(model))
    return list(found.space.names)  # type: ignore[union-attr]


def test_finds_the_hyper_parameters_of_build_and_of_fit(keras: Any) -> None:
    assert names_of("tuned") == ["units", "optimizer", "momentum", "batch_size"]
    found = inspect_model(make_job("Tuned")).space  # type: ignore[union-attr]
    assert list(found.names) == ["units", "optimizer", "momentum", "batch_size"]
    assert [str(each.conditions[0].values) for each in found.parameters if each.conditions] == ["('sgd',)"]


def test_finds_the_hyper_parameters_of_a_training_loop(keras: Any) -> None:
    assert names_of("OwnLoop") == ["units", "rate"]


def test_hyper_parameters_that_are_not_tunable_stay_out(keras: Any) -> None:
    assert names_of("Untunable") == []
    assert names_of("Wrapped") == ["activation"]
    assert names_of("untunable") == ["optimizer", "momentum", "batch_size"]


def test_training_is_not_begun_to_find_hyper_parameters(keras: Any) -> None:
    assert names_of("Folds") == ["folds"]


def test_a_search_over_a_keras_tuner_object_runs_unchanged(keras: Any, tmp_path: Path) -> None:
    import keras_tuner

    class Mine(keras_tuner.HyperModel):
        def build(self, hp: Any) -> Any:
            import keras

            model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
            model.add(keras.layers.Dense(hp.Int("units", 10, 20), activation="softmax"))
            model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
            return model

        def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
            return model.fit(*args, batch_size=hp.Choice("batch_size", [20, 40]), **kwargs)

    with Local(workers=1, preload=["keras"]) as engine:
        study = hpcompss.tune(
            model=Mine,
            data={"name": "digits", "train": 120, "validation": 40},
            objective="val_accuracy",
            search={"trials": 2, "seed": 1},
            training={"epochs": 1},
            study=tmp_path / "study",
            engine=engine,
        )
    assert [trial.state.value for trial in study.trials] == ["complete", "complete"]
    assert study.space.names == ("units", "batch_size")
    assert study.test is not None and set(study.test["metrics"]) == {"loss", "accuracy"}
    assert (tmp_path / "study" / "best.keras").exists()
