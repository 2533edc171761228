"""The files in container/: cheap looks at all of them, and, marked slow, a study on real containers."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from hpcompss.cluster.certificates import make_certificates
from hpcompss.main import main
from hpcompss.units import parse_duration

ROOT = Path(__file__).parents[1]
CONTAINER = ROOT / "container"
DOCUMENTATION = (ROOT / "docs" / "containers.rst").read_text()
FILES = sorted([*CONTAINER.glob("*.yaml"), *CONTAINER.glob("kubernetes/*.yaml")])

MASTER = ["--engine", "dask", "--workers", "0", "--scheduler-host", "0.0.0.0", "--scheduler-port", "8786"]
JOURNAL = '{"event": "study"}\n'


@pytest.fixture
def entrypoint(tmp_path, monkeypatch):
    """Runs the entry point with a program `hpcompss` that tells what it was given; returns that."""
    program = tmp_path / "bin" / "hpcompss"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setenv("HPCOMPSS_STUDIES", str(tmp_path / "studies"))
    monkeypatch.setenv("HPCOMPSS_CERTIFICATES", str(tmp_path / "certificates"))

    def entrypoint(*arguments):
        ran = subprocess.run([CONTAINER / "entrypoint", *arguments], capture_output=True, text=True, timeout=30)
        return json.loads(ran.stdout) if ran.returncode == 0 else (ran.returncode, ran.stderr)

    return entrypoint


@pytest.fixture
def certificates(tmp_path):
    folder = tmp_path / "certificates"
    folder.mkdir()
    (folder / "ca.pem").touch()
    return ["--certificates", str(folder)]


def begin(study, journal=JOURNAL):
    study.mkdir(parents=True)
    (study / "journal.jsonl").write_text(journal)


@pytest.mark.parametrize(
    "arguments", [["run", "digits.yaml", "--trials", "3"], ["doctor"], ["status", "/studies/digits"], ["--version"]]
)
def test_what_is_hpcompss_own_is_given_to_it(entrypoint, arguments):
    assert entrypoint(*arguments) == arguments


def test_nothing_shows_the_help(entrypoint):
    assert entrypoint() == ["--help"]


def test_a_master_runs_a_new_study(entrypoint, tmp_path):
    study = str(tmp_path / "studies" / "digits")
    assert entrypoint("master", "examples/digits.yaml", "--trials", "9", "--seed", "1") == [
        *("run", "examples/digits.yaml", "--study", study, "--seed", "1", *MASTER, "--trials", "9")
    ]


@pytest.mark.parametrize("named", [["--study", "{}"], ["--study={}"]])
def test_a_master_goes_on_with_its_study_and_leaves_out_what_only_a_new_one_takes(entrypoint, tmp_path, named):
    begin(tmp_path / "mine")
    study = str(tmp_path / "mine")
    once = ["--set", "training.epochs=2", "--set=search.lag=3", "--graph", "--seed", "4"]
    options = [*once, *(each.format(study) for each in named), "--trials", "9"]
    assert entrypoint("master", "digits.yaml", *options) == ["resume", study, *MASTER, "--trials", "9"]


def test_a_journal_that_was_cut_short_in_its_first_line_is_none(entrypoint, tmp_path):
    begin(tmp_path / "studies" / "digits", JOURNAL[:-5])
    assert entrypoint("master", "digits.yaml")[0] == "run"


def test_what_a_master_leaves_out_is_what_resume_does_not_know(capsys):
    known = {}
    for command in ("run", "resume"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        known[command] = set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", capsys.readouterr().out, re.MULTILINE))
    assert known["run"] - known["resume"] == {"--study", "--set", "--seed", "--graph"}


def test_with_certificates_a_master_and_its_workers_speak_tls(entrypoint, certificates):
    assert entrypoint("master", "digits.yaml")[-2:] == certificates
    assert entrypoint("worker") == ["worker", "tls://master:8786", *certificates]


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ([], ["tcp://master:8786"]),
        (["--cpu", "2"], ["tcp://master:8786", "--cpu", "2"]),
        (["node1"], ["tcp://node1:8786"]),
        (["node1:9000", "--gpu", "0"], ["tcp://node1:9000", "--gpu", "0"]),
        (["tls://node1:9000"], ["tls://node1:9000"]),
    ],
)
def test_a_worker_is_told_where_its_master_is(entrypoint, arguments, given):
    assert entrypoint("worker", *arguments) == ["worker", *given]


@pytest.mark.parametrize("arguments", [["master"], ["master", "--trials", "3"], ["healthy"], ["healthy", "engine"]])
def test_what_is_missing_is_said(entrypoint, arguments):
    status, said = entrypoint(*arguments)
    assert status == 2
    assert f"entrypoint: {arguments[0]} needs" in said


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="there is no /proc")
def test_a_worker_is_healthy_while_its_process_lives(entrypoint, tmp_path):
    program = tmp_path / "hpcompss"
    program.write_text("import time\ntime.sleep(60)\n")
    with subprocess.Popen([sys.executable, program, "worker", "tls://master:8786"]) as worker:
        assert healthy("worker")
        worker.kill()
        worker.wait()
    assert not healthy("worker")


@pytest.fixture
def listen(monkeypatch):
    """Opens a port as the master's, on which who connects gets this greeting, by this `ssl` context."""
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as connections:
        monkeypatch.setenv("HPCOMPSS_PORT", str(server.getsockname()[1]))

        def answer(greeting, security):
            with contextlib.suppress(OSError):
                connection = server.accept()[0]
                if security is not None:
                    connection = security.wrap_socket(connection, server_side=True)
                connections.enter_context(connection).sendall(greeting)

        def listen(greeting, security=None):
            threading.Thread(target=answer, args=[greeting, security], daemon=True).start()

        yield listen
        server.shutdown(socket.SHUT_RDWR)


def test_a_master_is_healthy_when_its_port_answers(entrypoint, listen):
    listen(b"dask")
    assert healthy("master")


def test_a_master_with_certificates_is_asked_with_them(entrypoint, listen, tmp_path):
    made = make_certificates(tmp_path / "certificates")
    security = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=made.authority)
    security.verify_mode = ssl.CERT_REQUIRED
    security.load_cert_chain(made.certificate, made.key)
    listen(b"dask", security)
    assert healthy("master")


def test_a_master_whose_port_is_open_but_silent_is_not_healthy(entrypoint, listen):
    listen(b"")
    assert not healthy("master")


def test_a_master_without_a_port_is_not_healthy(entrypoint, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HPCOMPSS_PORT", str(server.getsockname()[1]))
    assert not healthy("master")


def healthy(role):
    return subprocess.run([CONTAINER / "entrypoint", "healthy", role], capture_output=True, timeout=30).returncode == 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_descriptions_can_be_read(path):
    assert list(yaml.safe_load_all(path.read_text()))


def sources():
    """Yields what the Dockerfile copies from the project."""
    for line in (CONTAINER / "Dockerfile").read_text().splitlines():
        instruction, *words = line.split() or [""]
        if instruction == "COPY" and not words[0].startswith("--from"):
            yield from words[:-1]


def test_the_image_is_built_of_what_exists_and_is_not_ignored():
    patterns = (CONTAINER / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    assert set(sources()) == {*allowed, "hpcompss/__init__.py"}
    assert all((ROOT / source).exists() for source in sources())


def test_the_image_runs_as_a_user_that_is_not_root_and_ends_by_sigterm():
    final = (CONTAINER / "Dockerfile").read_text().split("\nFROM ")[-1]
    assert "USER ${UID}" in final
    assert "ARG UID=1000" in final
    assert "STOPSIGNAL SIGTERM" in final
    assert os.access(CONTAINER / "entrypoint", os.X_OK)


def compose():
    return yaml.safe_load((CONTAINER / "compose.yaml").read_text())


def test_compose_has_the_services_volumes_and_variables_that_the_documentation_names():
    text = (CONTAINER / "compose.yaml").read_text() + (CONTAINER / "compose.gpu.yaml").read_text()
    assert set(compose()["services"]) == {"certificates", "master", "worker"}
    assert set(compose()["volumes"]) == {"certificates", "studies"}
    named = {*compose()["services"], *compose()["volumes"], *re.findall(r"\$\{(\w+)", text)}
    assert sorted(name for name in named if f"``{name}``" not in DOCUMENTATION) == []


def test_composes_masters_and_workers_are_watched_and_see_the_certificates():
    for name in ("master", "worker"):
        service = compose()["services"][name]
        assert service["command"].split()[0] == name
        assert service["healthcheck"]["test"] == ["CMD", "entrypoint", "healthy", name]
        assert "certificates:/certificates:ro" in service["volumes"]
        assert service["restart"] == "on-failure"
    assert (CONTAINER / compose()["services"]["master"]["build"]["context"] / "setup.py").exists()


def test_the_gpu_variant_changes_services_that_exist():
    variant = yaml.safe_load((CONTAINER / "compose.gpu.yaml").read_text())
    assert set(variant["services"]) <= set(compose()["services"])


def kubernetes():
    folder = CONTAINER / "kubernetes"
    names = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert sorted([*names, "kustomization.yaml"]) == sorted(path.name for path in folder.iterdir())
    return {each["kind"]: each for name in names for each in yaml.safe_load_all((folder / name).read_text())}


def test_kubernetes_parts_find_each_other():
    parts = kubernetes()
    master, worker = parts["Job"]["spec"]["template"], parts["Deployment"]["spec"]["template"]
    assert parts["Service"]["spec"]["selector"] == master["metadata"]["labels"]
    assert parts["Deployment"]["spec"]["selector"]["matchLabels"] == worker["metadata"]["labels"]
    assert worker["spec"]["containers"][0]["args"][:2] == ["worker", parts["Service"]["metadata"]["name"]]
    claim = next(each for each in master["spec"]["volumes"] if each["name"] == "studies")["persistentVolumeClaim"]
    assert claim["claimName"] == parts["PersistentVolumeClaim"]["metadata"]["name"]
    for pod in (master, worker):
        mounted = {each["name"] for each in pod["spec"]["containers"][0]["volumeMounts"]}
        assert mounted == {each["name"] for each in pod["spec"]["volumes"]}


def test_kubernetes_lets_a_worker_finish():
    pod = kubernetes()["Deployment"]["spec"]["template"]["spec"]
    arguments = pod["containers"][0]["args"]
    assert pod["terminationGracePeriodSeconds"] > parse_duration(arguments[arguments.index("--finish") + 1])


def test_what_has_to_exist_in_kubernetes_before_is_documented():
    text = "".join(path.read_text() for path in (CONTAINER / "kubernetes").iterdir())
    for name in re.findall(r"(?:secretName|configMap: \{name): ([\w-]+)", text):
        assert f" {name} " in DOCUMENTATION


def test_apptainer_copies_what_exists():
    definition = (CONTAINER / "hpcompss.def").read_text()
    files = re.search(r"^%files\n((?:    .*\n)+)", definition, re.MULTILINE)[1]
    assert all((ROOT / line.split()[0]).exists() for line in files.splitlines())


@pytest.mark.slow
def test_a_study_on_containers_outlives_the_death_of_a_worker():
    # The image takes longer to build than a test may take otherwise.
    faulthandler.cancel_dump_traceback_later()
    install = ["--install"] if os.environ.get("CI") else []
    ran = subprocess.run([CONTAINER / "try", *install], capture_output=True, text=True, timeout=2400)
    if ran.returncode == 77:
        pytest.skip(ran.stdout.strip())
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "each finished exactly once" in ran.stdout
