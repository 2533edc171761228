"""What is found in the user's modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpcompss.loading import load_attribute
from hpcompss.training.hypermodel import as_hypermodel
from hpcompss.training.user_objects import user_objects


def objects_of(folder: Path, name: str, **files: str) -> dict[str, Any]:
    for stem, text in files.items():
        (folder / f"{stem}.py").write_text(text)
    reference = f"{folder / 'model.py'}:{name}"
    return user_objects(as_hypermodel(load_attribute(reference), reference))


def test_objects_of_the_module_and_of_its_neighbours(tmp_path: Path) -> None:
    neighbour = "class Gate: ...\nclass Hidden: ...\ndef loss(a, b): ...\n"
    model = (
        "import math, json\nimport neighbour_of_model\nfrom neighbour_of_model import Gate\n"
        "def loss(a, b): ...\ndef build(hp): ...\n"
    )
    found = objects_of(tmp_path, "build", model=model, neighbour_of_model=neighbour)
    assert set(found) == {"Gate", "Hidden", "loss", "build"}
    assert found["loss"].__module__.startswith("model_"), "the module of the model comes first"


def test_objects_that_refer_to_themselves(tmp_path: Path) -> None:
    model = (
        "class Base:\n    def __init__(self): super().__init__()\n"
        "class Family(Base):\n    def __init__(self): super().__init__()\n"
        "    def build(self, hp): ...\n    def fit(self, hp, model): ...\n"
        "def maker():\n    class Inner:\n        def again(self): return maker, Inner\n"
        "    def build(hp): return Inner\n    return build\nmade = maker()\n"
    )
    assert set(objects_of(tmp_path, "Family", model=model)) == {"Base", "Family", "maker", "build", "Inner"}
    assert "Inner" in objects_of(tmp_path, "made", model=model)
