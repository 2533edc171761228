from __future__ import annotations

import os
import sys

import pytest

from hpcompss.errors import InputError
from hpcompss.loading import load_attribute


@pytest.fixture(autouse=True)
def same_path(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def file(tmp_path):
    """Writes a module and returns its path."""

    def write(text, name="model.py"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_a_function_of_a_module():
    assert load_attribute("os.path:join") is os.path.join


def test_a_dotted_name():
    assert load_attribute("os:path.join") is os.path.join


def test_a_function_of_a_file(file):
    assert load_attribute(f"{file('def f(): return 3')}:f")() == 3


def test_a_file_is_run_once_a_process(file):
    path = file("class Thing: pass")
    assert load_attribute(f"{path}:Thing") is load_attribute(f"{path}:Thing")


def test_two_files_of_one_name_are_two_modules(file, tmp_path):
    (tmp_path / "other").mkdir()
    first, second = file("value = 1"), file("value = 2", "other/model.py")
    assert [load_attribute(f"{path}:value") for path in (first, second)] == [1, 2]


def test_a_file_hides_no_module_of_its_name(file):
    path = file("value = 1", "json.py")
    assert load_attribute(f"{path}:value") == 1
    assert load_attribute("json:loads")("2") == 2


def test_a_file_imports_its_neighbours(file):
    file("value = 4", "neighbour_of_the_model.py")
    path = file("import neighbour_of_the_model\nvalue = neighbour_of_the_model.value")
    assert load_attribute(f"{path}:value") == 4


def test_a_file_may_hold_data_classes(file):
    text = "from __future__ import annotations\nimport dataclasses\n"
    text += "@dataclasses.dataclass\nclass Thing:\n    value: int = 5"
    assert load_attribute(f"{file(text)}:Thing")().value == 5


@pytest.mark.parametrize("reference", ["", "model", ":f", "model:", ":"])
def test_a_malformed_reference(reference):
    with pytest.raises(InputError, match=r"must read file.py:name or module:name"):
        load_attribute(reference)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=rf"there is no file {tmp_path}/none.py"):
        load_attribute(f"{tmp_path}/none.py:f")


@pytest.mark.parametrize("module", ["no_such_module_at_all", "no_such_module_at_all.inner", ".relative"])
def test_a_missing_module(module):
    with pytest.raises(InputError, match=rf"there is no module '{module}' on the Python path; for a file write"):
        load_attribute(f"{module}:f")


def test_a_missing_name(file):
    path = file("def objective(): pass")
    with pytest.raises(InputError, match=r"has no 'objectiv'; did you mean 'objective'\?"):
        load_attribute(f"{path}:objectiv")


def test_what_a_file_raises_is_raised_each_time(file):
    path = file("raise RuntimeError('broken')")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken"):
            load_attribute(f"{path}:f")


def test_a_file_with_a_syntax_error(file):
    with pytest.raises(SyntaxError):
        load_attribute(f"{file('def f(:')}:f")


# Modules that search or train when they are imported

SEARCHES = {
    "tune": "import hpcompss\n\nhpcompss.tune(model=print)",
    "resume": "import hpcompss\n\nhpcompss.resume('nowhere')",
    "optimize": (
        "import hpcompss\n"
        "study = hpcompss.Study(hpcompss.Space([hpcompss.Int('x', 1, 3)]))\n"
        "study.optimize(lambda values: values['x'], trials=2)"
    ),
    "optuna": "import optuna\n\noptuna.create_study().optimize(lambda trial: 1.0, n_trials=1)",
    "in a function": "import hpcompss\ndef search(): hpcompss.tune(model=print)\nsearch()",
}


@pytest.mark.parametrize("text", SEARCHES.values(), ids=SEARCHES.keys())
def test_a_module_that_runs_a_search_is_refused(file, text):
    path = file(text + "\n\ndef f(): pass\n", "tutorial.py")
    with pytest.raises(InputError) as caught:
        load_attribute(f"{path}:f")
    message = "tutorial.py runs a search when it is imported (line 3): put it under  if __name__ == '__main__':"
    assert caught.value.message == message


def test_a_module_whose_neighbour_runs_a_search_is_refused(file):
    file("import hpcompss\nhpcompss.tune(model=print)\n", "neighbour_that_searches.py")
    path = file("import neighbour_that_searches\n")
    with pytest.raises(InputError, match=r"^model.py runs a search when it is imported \(line 1\)"):
        load_attribute(f"{path}:f")


def test_a_search_under_the_guard_is_left_alone(file):
    path = file("import hpcompss\nif __name__ == '__main__':\n    hpcompss.tune(model=print)\ndef f(): return 3\n")
    assert load_attribute(f"{path}:f")() == 3


def test_a_search_inside_a_loaded_function_is_left_alone(file):
    text = (
        "import hpcompss\n"
        "def f():\n"
        "    study = hpcompss.Study(hpcompss.Space([hpcompss.Int('x', 1, 3)]), seed=1)\n"
        "    with hpcompss.engines.Local(1) as engine:\n"
        "        return study.optimize(lambda values: values['x'], trials=2, engine=engine).finished\n"
    )
    assert load_attribute(f"{file(text)}:f")() == 2


def test_nothing_stays_patched(file):
    import optuna

    before = optuna.study.Study.optimize
    finders = list(sys.meta_path)
    path = file("import optuna\nassert hasattr(optuna.study.Study.optimize, '__wrapped__')\ndef f(): pass\n")
    load_attribute(f"{path}:f")
    assert optuna.study.Study.optimize is before
    assert sys.meta_path == finders
