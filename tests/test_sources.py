"""Which of the user's files a study runs, and whether they have changed."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys

import pytest

from hpcompss.sources import changed_files, code_digests, digest_of, folder_of, named_from
from hpcompss.training.data.specification import PickledFunction


@pytest.fixture
def project(tmp_path):
    """A model that imports a helper, which imports a package; and files that nobody imports."""
    files = {
        "model.py": "import json\nimport helper\nfrom keras import layers\n",
        "helper.py": "from parts.blocks import dense\n",
        "parts/__init__.py": "",
        "parts/blocks.py": "import helper\nfrom . import sizes\ndense = 1\n",
        "parts/sizes.py": "",
        "plain/load.py": "",
        "search.py": "import hpcompss\n",
        "json.py": "",
        "notes.txt": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def names(project, *references):
    return {path.removeprefix(f"{project}/") for path in code_digests(references)}


IMPORTED = {"model.py", "helper.py", "json.py", "parts/__init__.py", "parts/blocks.py", "parts/sizes.py"}


def test_a_file_counts_with_what_it_imports_from_beside_it(project):
    assert names(project, f"{project}/model.py:build", None) == IMPORTED
    assert names(project, f"{project}/search.py:go", f"{project}/model.py:build") == {*IMPORTED, "search.py"}
    assert code_digests([f"{project}/search.py:go"]) == {f"{project}/search.py": digest_of(b"import hpcompss\n")}


def test_a_folder_that_is_no_package_is_imported_too(project):
    (project / "search.py").write_text("def go():\n    import plain.load\n")
    assert names(project, f"{project}/search.py:go") == {"search.py", "plain/load.py"}


@pytest.mark.parametrize(
    "line", ["import importlib.util", "from runpy import run_path", "__import__(name)", "exec(open(name).read())"]
)
def test_a_file_that_imports_by_a_computed_name_counts_with_its_whole_folder(project, line):
    (project / "search.py").write_text(line)
    assert names(project, f"{project}/search.py:go") == {*IMPORTED, "search.py"}


def test_a_file_that_is_no_python_counts_itself(project):
    (project / "helper.py").write_text("def (:")
    assert names(project, f"{project}/model.py:build") == {"model.py", "helper.py", "json.py"}


def test_a_file_that_is_gone(project):
    assert code_digests([f"{project}/none.py:build"]) == {}


def test_a_module_by_its_name(project, monkeypatch):
    monkeypatch.syspath_prepend(str(project))
    assert names(project, "parts.blocks:dense") == IMPORTED - {"model.py", "json.py"}
    assert names(project, "search:go") == {"search.py"}
    assert "parts.blocks" not in sys.modules


@pytest.mark.parametrize("reference", ["numpy.linalg:norm", "json:loads", "hpcompss.study:Study", "no_such:thing"])
def test_what_is_installed_does_not_count(reference):
    assert code_digests([reference]) == {}


@pytest.mark.parametrize(
    "reference", [pytest.approx, pytest.approx(1.0), functools.partial(json.dumps), PickledFunction("", "passed", b"")]
)
def test_an_object_that_is_installed_does_not_count(reference):
    assert code_digests([reference]) == {}


def test_a_project_that_was_moved_has_not_changed(project, tmp_path_factory):
    moved = tmp_path_factory.mktemp("moved") / "project"
    shutil.copytree(project, moved)
    before, now = (
        named_from(
            folder_of(f"{each}/model.py:build"), code_digests([f"{each}/model.py:build", f"{each}/search.py:go"])
        )
        for each in (project, moved)
    )
    assert set(now) == {*IMPORTED, "search.py"}
    assert changed_files(before, now) == []
    absolute = code_digests([f"{moved}/model.py:build", f"{project}/search.py:go"])
    assert f"{project}/search.py" in named_from(moved, absolute)


def test_the_folder_that_something_is_imported_from(project, monkeypatch):
    monkeypatch.syspath_prepend(str(project))
    assert folder_of("parts.blocks:dense") == folder_of("search:go") == project
    assert str(folder_of(Model)) == os.path.dirname(__file__)
    assert folder_of(None) is folder_of("no_such:thing") is None


class Model:
    def build(self):
        """A method of the user's."""


@pytest.mark.parametrize(
    "reference", [Model, Model(), Model().build, functools.partial(Model.build, None), lambda values: 1.0]
)
def test_an_object_counts_with_its_file(reference):
    assert __file__ in code_digests([reference])


def test_an_object_without_a_file():
    """As in a notebook, whose cells are known to inspect."""
    import linecache

    def define(text):
        linecache.cache["<cell>"] = (len(text), None, text.splitlines(True), "<cell>")
        space = {}
        exec(compile(text, "<cell>", "exec"), space)
        return space["build"]

    before = code_digests([define("def build(hp):\n    return 1\n")])
    assert list(before) == ["<python>:build"]
    after = code_digests([define("def build(hp):\n    return 2\n")])
    assert changed_files(before, after) == ["build"]
    assert code_digests([len, 3]) == {}


def test_what_changed_is_named_once():
    before = {"/a/model.py": "1", "/a/helper.py": "2", "/a/gone.py": "3"}
    assert changed_files(before, before) == []
    assert changed_files(before, {"/a/model.py": "1", "/a/helper.py": "4", "/b/helper.py": "5"}) == ["helper.py"]
