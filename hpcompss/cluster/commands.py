"""The command lines of COMPSs's own programs: job submission and agents, with the options its manual states."""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcompss.cluster.nodes import GIGABYTE
from hpcompss.errors import HpcompssError, InputError

__all__ = [
    "COMM_PORT",
    "REST_PORT",
    "SCHEDULER",
    "Job",
    "job_number",
    "join",
    "leave",
    "main_script",
    "run_on_agent",
    "run_program",
    "start_agent",
    "submission",
]

MARGIN = 300.0
"""Seconds before the wall-clock limit in which no new trial starts, where trials have no longer time limit: for the
trials that run, the test of the best model, and COMPSs's own end."""

SCHEDULER = "es.bsc.compss.scheduler.orderstrict.fifo.FifoTS"
"""The scheduler of COMPSs that starts tasks in the order of their submission. Its default one may let an old trial wait
for newer ones: in the lagged order, 40 trials of 10 s on 4 slots took 111 s so, and 101 s with this
(benchmarks/compss.py)."""

RESERVE = 120.0
"""Seconds before the wall-clock limit at which trials that still run are ended, to be tried again in the next job."""

REST_PORT, COMM_PORT = 46101, 46102
"""The ports of an agent: for these commands, and for other agents."""


def main_script() -> Path:
    """Returns the program that COMPSs is given."""
    return Path(__file__).resolve().parents[1] / "main.py"


@dataclass(frozen=True)
class Job:
    """What a job of a supercomputer asks for.

    Attributes:
        nodes: How many nodes.
        seconds: The wall-clock limit.
        queue: The queue or partition, or None for the site's default.
        gpus_per_node: GPUs of each node, or None.
        cpus_per_node: Cores of each node, or None for what the site's configuration says.
        name: The job's name.
        options: More options of ``enqueue_compss``, as ``key=value`` or ``key``.
    """

    nodes: int
    seconds: float
    queue: str | None = None
    gpus_per_node: int | None = None
    cpus_per_node: int | None = None
    name: str = "hpcompss"
    options: Sequence[str] = ()


def submission(job: Job, arguments: Sequence[str], margin: float = MARGIN, after: str | None = None) -> list[str]:
    """Returns the ``enqueue_compss`` command line that runs this package's command line in a job.

    Args:
        job: What to ask for.
        arguments: What to run: ``run`` or ``resume`` and its arguments, but for the time.
        margin: Seconds before the wall-clock limit after which no new trial starts.
        after: The job that must have ended before, or None.

    Raises:
        InputError: The margin leaves no time for trials, or a word holds what COMPSs's scripts would change.
    """
    if margin >= job.seconds:
        raise InputError(
            f"the job's {job.seconds / 60:g} minutes leave no time for trials, as none starts in the last "
            f"{margin / 60:g}: ask for more --time, or state a shorter --margin"
        )
    stated = {
        "exec_time": math.ceil(job.seconds / 60),
        "num_nodes": job.nodes,
        "queue": job.queue,
        "cpus_per_node": job.cpus_per_node,
        "gpus_per_node": job.gpus_per_node,
        "job_name": job.name,
        "job_dependency": after,
        "job_execution_dir": os.getcwd(),
        "scheduler": None if any(option.startswith("scheduler=") for option in job.options) else SCHEDULER,
        "lang": "python",
        "python_interpreter": sys.executable,
        "pythonpath": str(main_script().parents[1]),
    }
    return _plain(
        [
            "enqueue_compss",
            *(f"--{key}={value}" for key, value in stated.items() if value is not None),
            *(f"--{option.removeprefix('--')}" for option in job.options),
            str(main_script()),
            *arguments,
            *("--time", f"{int(job.seconds - margin)}s", "--deadline", f"{int(job.seconds - min(margin, RESERVE))}s"),
        ]
    )


def _plain(command: list[str]) -> list[str]:
    """Returns a command line whose words COMPSs's scripts, which split and expand them, leave as they are."""
    for word in command:
        if shlex.quote(word) != word:
            raise InputError(
                f"{word!r} would not reach the program as it stands, for COMPSs's scripts split words at spaces and "
                "expand them: write such a setting into the workflow's file, and use paths without such characters"
            )
    return command


def job_number(output: str) -> str:
    """Returns the number of the job that ``enqueue_compss`` says it submitted. Raises `HpcompssError`."""
    found = re.findall(r"[Ss]ubmitted (?:batch )?job (\S+)|^Job <(\d+)>|^(\d+(?:\.[\w.-]+)?)$", output, re.MULTILINE)
    numbers: list[str] = [part for match in found for part in match if part]
    if not numbers:
        raise HpcompssError(
            "enqueue_compss does not say which job it submitted, so the next cannot be chained to it: submit it by "
            f"hand with --job_dependency; it printed:\n{output.strip()}"
        )
    return numbers[-1]


def start_agent(
    host: str, cpu: int, gpu: int, memory: int, rest_port: int, comm_port: int, folder: Path
) -> tuple[list[str], dict[Path, str]]:
    """Returns the command line that starts an agent on this machine, and the files it needs.

    Args:
        host: The name that other agents know this machine by.
        cpu: CPU units.
        gpu: GPU units.
        memory: Bytes.
        rest_port: The port for commands.
        comm_port: The port for other agents.
        folder: Where the agent keeps its files.
    """
    units = "".join(
        f"""        <Processor Name="{kind}s">
            <ComputingUnits>{count}</ComputingUnits>
            <Type>{kind}</Type>
        </Processor>
"""
        for kind, count in (("CPU", cpu), ("GPU", gpu))
        if count
    )
    project = f"""<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<Project>
    <MasterNode>
{units}        <Memory>
            <Size>{memory / GIGABYTE:g}</Size>
        </Memory>
    </MasterNode>
</Project>
"""
    resources = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<ResourcesList/>\n'
    root = str(main_script().parents[1])
    command = [
        "compss_agent_start",
        f"--hostname={host}",
        f"--rest_port={rest_port}",
        f"--comm_port={comm_port}",
        f"--project={folder / 'project.xml'}",
        f"--resources={folder / 'resources.xml'}",
        f"--log_dir={folder / 'log'}",
        f"--scheduler={SCHEDULER}",
        f"--classpath={root}",
        f"--pythonpath={root}",
        f"--python_interpreter={sys.executable}",
    ]
    return command, {folder / "project.xml": project, folder / "resources.xml": resources}


def join(master: str, host: str, cpu: int, gpu: int, memory: int, comm_port: int) -> list[str]:
    """Returns the command line that adds this machine's agent to those of a master's agent.

    Args:
        master: ``host`` or ``host:port`` of the master's agent.
        host: The name that the master knows this machine by.
        cpu: CPU units.
        gpu: GPU units.
        memory: Bytes.
        comm_port: The port that this machine's agent listens on for others.
    """
    units = [f"--cpu={cpu}", f"--gpu={gpu}", f"--mem_size={memory / GIGABYTE:g}"]
    return ["compss_agent_add_resources", *_target(master), *units, host, f"Port={comm_port}"]


def leave(master: str, host: str, cpu: int, gpu: int, lost: bool) -> list[str]:
    """Returns the command line that takes this machine's agent from a master's, all at once where it is lost."""
    if lost:
        return ["compss_agent_lost_resources", *_target(master), host]
    return ["compss_agent_reduce_resources", *_target(master), f"--cpu={cpu}", f"--gpu={gpu}", host]


def run_on_agent(master: str, arguments: Sequence[str], stop: bool) -> list[str]:
    """Returns the command line that has a master's agent run this package's command line.

    Args:
        master: ``host`` or ``host:port`` of the agent.
        arguments: What to run.
        stop: Whether the agent ends afterwards.
    """
    host, port = _host_and_port(master)
    return [
        "compss_agent_call_operation",
        f"--master_node={host}",
        f"--master_port={port}",
        "--lang=PYTHON",
        "--method_name=main",
        *(["--stop"] if stop else []),
        "hpcompss.cluster.operation",
        " ".join(_plain(list(arguments))),
    ]


def _target(master: str) -> list[str]:
    host, port = _host_and_port(master)
    return [f"--agent_node={host}", f"--agent_port={port}"]


def _host_and_port(master: str) -> tuple[str, int]:
    host, _, port = master.partition(":")
    if not host or (port and not (port.isdecimal() and 0 < int(port) < 65536)):
        raise InputError(f"a master is given as  host  or  host:port, not {master!r}")
    return host, int(port) if port else REST_PORT


def run_program(command: Sequence[str]) -> str:
    """Runs a program of COMPSs, showing what it prints, and returns that.

    Raises:
        HpcompssError: It is not installed, or fails.
    """
    if shutil.which(command[0]) is None:
        raise HpcompssError(
            f"{command[0]} is not on PATH: run this where COMPSs is installed (hpcompss doctor --engine compss), or "
            f"print the command with --dry-run and run it there: {shlex.join(command)}"
        )
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    sys.stdout.write(done.stdout)
    sys.stdout.flush()
    if done.returncode:
        raise HpcompssError(f"{command[0]} failed with status {done.returncode}: {shlex.join(command)}")
    return done.stdout
