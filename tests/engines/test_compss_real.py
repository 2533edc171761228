"""The COMPSs engine under the real ``runcompss``, where it is on PATH: ``make test-compss``."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hpcompss.cluster.commands import SCHEDULER
from hpcompss.cluster.nodes import parse_node
from hpcompss.cluster.resources import project_xml, resources_xml
from hpcompss.study import Study

ROOT = Path(__file__).parents[2]
INSTALLED = os.environ.get("COMPSS_HOME", "/opt/COMPSs")
PATIENCE = 280

pytestmark = [
    pytest.mark.compss,
    pytest.mark.skipif(
        shutil.which("runcompss") is None, reason="runcompss is not on PATH: COMPSs is not installed here"
    ),
]


def runcompss(folder, nodes, program, *arguments):
    (folder / "resources.xml").write_text(resources_xml(nodes, gpu_shares=4))
    (folder / "project.xml").write_text(project_xml(nodes, INSTALLED, str(folder / "worker")))
    command = [
        *("runcompss", "--lang=python", f"--python_interpreter={sys.executable}", f"--pythonpath={ROOT}"),
        *(f"--resources={folder / 'resources.xml'}", f"--project={folder / 'project.xml'}"),
        *("--cpu_affinity=disabled", "--gpu_affinity=disabled", f"--scheduler={SCHEDULER}"),
        *(str(program), *map(str, arguments)),
    ]
    # Into files: what COMPSs leaves behind after a failure would keep a pipe open.
    with (folder / "out").open("w+") as out, (folder / "err").open("w+") as err:
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=PATIENCE)
    done.stdout, done.stderr = (folder / "out").read_text(), (folder / "err").read_text()
    return done


def test_the_conformance_suite_passes(tmp_path):
    """The suite runs inside the master of COMPSs, so it is started as a program of its own."""
    done = runcompss(tmp_path, [parse_node("localhost:4cpu:2gpu:8GB")], ROOT / "tests" / "engines" / "compss_suite.py")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]


@pytest.mark.parametrize("order", ["eager", "lagged"])
def test_digits_are_tuned_on_two_workers(tmp_path, order):
    nodes = [parse_node("localhost:1cpu"), parse_node(f"{socket.gethostname()}:1cpu")]
    done = runcompss(
        tmp_path,
        nodes,
        ROOT / "hpcompss" / "main.py",
        *("run", ROOT / "workflows" / "digits.yaml", "--study", tmp_path / "study", "--json"),
        *("--trials", "4", "--seed", "1", "--set", "training.epochs=1", "--set", f"search.order={order}"),
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    study = Study.load(tmp_path / "study")
    assert study.completed == 4
    assert (tmp_path / "study" / "best.keras").exists()
    assert json.loads((tmp_path / "study" / "journal.jsonl").read_text().splitlines()[0])["event"] == "study"
