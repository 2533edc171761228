"""The lagged order with one seed tries the same configurations on every engine that is installed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hpcompss.cluster.nodes import parse_node
from hpcompss.cluster.resources import project_xml, resources_xml
from tests.engines.test_mpi import MPIEXEC, environment

ROOT = Path(__file__).parents[1]
PATIENCE = 240
RUNCOMPSS = ROOT / "tests" / "engines" / "standin" / "runcompss.py"

MODEL = """
import time

def bowl(values):
    time.sleep(0.01 + 0.03 * (values["n"] % 3))  # they do not finish in the order in which they begin
    return (values["x"] - 0.3) ** 2 + values["n"] / 10 + (0.1 if values["kind"] == "a" else 0.0)
"""

WORKFLOW = """
function: model.py:bowl
objective: loss
space:
  x: {type: Float, min_value: 0, max_value: 1}
  n: {type: Int, min_value: 1, max_value: 9}
  kind: {type: Choice, values: [a, b]}
search: {sampler: tpe, seed: 11, trials: 24, order: lagged, lag: 6}
"""


def configurations(folder, command, engine, workers):
    study = folder / f"study-{engine}"
    words = ["run", "workflow.yaml", "--study", study.name, "--engine", engine, "--workers", str(workers)]
    done = subprocess.run(
        [*map(str, command), *words], cwd=folder, env=environment(), capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    records = map(json.loads, (study / "journal.jsonl").read_text().splitlines())
    return {record["number"]: record["configuration"] for record in records if record["event"] == "tell"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("same")
    (folder / "model.py").write_text(MODEL)
    (folder / "workflow.yaml").write_text(WORKFLOW)
    return folder


@pytest.fixture(scope="module")
def expected(folder):
    found = configurations(folder, [sys.executable, "-m", "hpcompss"], "local", 1)
    assert len(found) == 24
    return found


def compss(folder):
    nodes = [parse_node("node1:1cpu"), parse_node("node2:1cpu")]
    (folder / "resources.xml").write_text(resources_xml(nodes))
    (folder / "project.xml").write_text(project_xml(nodes, "/opt/COMPSs", "/tmp/worker"))
    files = (f"--resources={folder / 'resources.xml'}", f"--project={folder / 'project.xml'}")
    return [sys.executable, RUNCOMPSS, *files, ROOT / "hpcompss" / "main.py"]


@pytest.mark.parametrize(
    ("engine", "module"),
    [
        ("local", "hpcompss"),
        ("dask", "distributed"),
        ("ray", "ray"),
        ("mpi", "mpi4py"),
        ("joblib", "joblib"),
        ("compss", "hpcompss"),
    ],
)
def test_configurations_are_the_same(folder, expected, engine, module):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    if engine == "mpi" and MPIEXEC is None:
        pytest.skip("there is no mpiexec here")
    command = [sys.executable, "-m", "hpcompss"]
    if engine == "mpi":
        command = [MPIEXEC, "-n", "3", *command]
    if engine == "compss":
        command = compss(folder)
    again = "local-again" if engine == "local" else engine
    if engine == "local":
        (folder / "study-local").rename(folder / f"study-{again}")
    assert configurations(folder, command, engine, 2) == expected
