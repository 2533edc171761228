"""The command line, and what ``runcompss`` starts."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder comes first on the path, where this package's modules would hide others of their names. Not
    # __file__: runcompss runs this text inside a file of its own.
    _here = Path(sys.argv[0]).resolve().parent
    sys.path[:] = [str(_here.parent), *(entry for entry in sys.path if Path(entry or ".").resolve() != _here)]

import argparse
import json
import math
import os
import shutil
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from hpcompss import __version__
from hpcompss.engines import mpi_rank
from hpcompss.errors import HpcompssError, InputError
from hpcompss.units import parse_duration, parse_memory

if TYPE_CHECKING:
    from hpcompss.study import Study

__all__ = ["main"]

BROKEN_PIPE = 141
"""The exit status of a program whose output nobody reads any more, by the shell's convention."""

PRECEDENCE = 2.0
"""Seconds that other ranks of MPI leave the first one to say what is wrong with all, which ends them."""

INTERRUPTED = 130
"""The exit status of a program ended by Ctrl-C, by the shell's convention."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status.

    Returns:
        0 where all went well, 1 where the study found nothing, 2 for bad input, 130 after Ctrl-C, 141 where the
        output's reader has gone.
    """
    options = _parser().parse_args(arguments)
    try:
        status: int = options.command(options)
    except HpcompssError as error:
        if mpi_rank():
            time.sleep(PRECEDENCE)
        traceback = getattr(error, "traceback", "")
        if traceback:
            print(traceback.rstrip(), file=sys.stderr)
        print(f"hpcompss: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hpcompss: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has gone: nothing more can be said, and Python must not try at its end.
        sys.stdout = None
        return BROKEN_PIPE
    return status


# The commands; each imports what it needs, so that --help answers at once.


def _run(options: argparse.Namespace) -> int:
    from hpcompss.report.console import make_view
    from hpcompss.tuning import tune
    from hpcompss.workflow import load_workflow

    workflow = load_workflow(options.workflow, _assignments(options))
    folder = options.study or _default_folder(options.workflow)
    view = make_view(sys.stderr if options.json else sys.stdout)
    try:
        study = tune(workflow, study=folder, view=view)
    except KeyboardInterrupt:
        study = _as_kept(folder)
    if options.graph:
        from hpcompss.report.task_graph import GRAPH, draw_graph

        view.say(f"task graph: {draw_graph(study, folder / GRAPH)}")
    return _finish(study, options)


def _resume(options: argparse.Namespace) -> int:
    from hpcompss.report.console import make_view
    from hpcompss.tuning import resume

    view = make_view(sys.stderr if options.json else sys.stdout)
    seconds = None if options.time is None else parse_duration(options.time)
    try:
        study = resume(
            options.directory,
            trials=options.trials,
            time=seconds,
            deadline=None if options.deadline is None else parse_duration(options.deadline),
            target=options.target,
            patience=options.patience,
            min_improvement=options.min_improvement,
            engine=options.engine,
            engine_options=_engine_options(options),
            view=view,
            retry_failed=options.retry_failed,
        )
    except KeyboardInterrupt:
        study = _as_kept(options.directory)
    return _finish(study, options)


def _as_kept(folder: Path) -> Study:
    """Returns an interrupted study as its folder has it. Raises `KeyboardInterrupt` where it had not begun."""
    from hpcompss.journal import is_begun
    from hpcompss.study import JOURNAL, Study

    if not is_begun(folder / JOURNAL):
        raise KeyboardInterrupt
    return Study.load(folder)


def _finish(study: Study, options: argparse.Namespace) -> int:
    from hpcompss.loop import INTERRUPTED as SEARCH_INTERRUPTED
    from hpcompss.report.console import is_untested, make_console, refit_failure, show_result
    from hpcompss.report.export import as_plain

    if options.json:
        _print_json(as_plain(study, trials=False))
    else:
        show_result(study, make_console(sys.stdout))
    if study.stopped == SEARCH_INTERRUPTED:
        print(f"hpcompss: interrupted; go on with  hpcompss resume {study.directory}", file=sys.stderr)
        return INTERRUPTED
    return 0 if study.feasible and not is_untested(study) and not refit_failure(study) else 1


def _status(options: argparse.Namespace) -> int:
    from hpcompss.journal import FolderLock
    from hpcompss.report.console import make_console, show_status
    from hpcompss.report.export import as_plain
    from hpcompss.study import Study

    study = Study.load(options.directory)
    running = FolderLock.is_held(options.directory)
    if options.json:
        _print_json({**as_plain(study, trials=False), "running": running})
    else:
        show_status(study, running, make_console(sys.stdout))
    return 0


def _best(options: argparse.Namespace) -> int:
    from hpcompss.report.console import make_console, show_result
    from hpcompss.report.export import as_plain
    from hpcompss.study import Study

    study = Study.load(options.directory)
    if options.json:
        plain = as_plain(study, trials=False)
        wanted = (
            "metric",
            "direction",
            "best",
            "notes",
            "test",
            "model",
            "ensemble",
            "objectives",
            "front",
            "hypervolume",
        )
        _print_json({key: plain[key] for key in wanted if key in plain})
    else:
        show_result(study, make_console(sys.stdout))
    return 0 if study.feasible else 1


def _export(options: argparse.Namespace) -> int:
    from hpcompss.report.export import as_csv, as_plain
    from hpcompss.study import Study

    study = Study.load(options.directory)
    if options.format == "csv" and not options.json:
        text = as_csv(study)
    else:
        text = json.dumps(as_plain(study), indent=2, ensure_ascii=False) + "\n"
    if options.output is None:
        sys.stdout.write(text)
    else:
        try:
            Path(options.output).write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(f"{options.output} cannot be written ({error.strerror})", file="--output") from None
    return 0


def _graph(options: argparse.Namespace) -> int:
    from hpcompss.report.task_graph import GRAPH, draw_graph
    from hpcompss.study import Study

    study = Study.load(options.directory)
    _say({"graph": str(draw_graph(study, options.output or options.directory / GRAPH))}, options)
    return 0


def _say(result: dict[str, Any], options: argparse.Namespace) -> None:
    """Prints a result: as JSON where that was asked for, else its values, a line each."""
    if options.json:
        _print_json(result)
    else:
        for value in result.values():
            print(value)


def _resources(options: argparse.Namespace) -> int:
    from hpcompss.cluster.nodes import parse_node, read_hosts
    from hpcompss.cluster.resources import project_xml, resources_xml
    from hpcompss.report.export import write_whole

    nodes = []
    for stated in options.nodes:
        nodes += read_hosts(Path(stated)) if stated.endswith((".yaml", ".yml")) else [parse_node(stated)]
    names = [node.name for node in nodes]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"the node {name} is stated twice: remove one")
    files = {
        options.output / "resources.xml": resources_xml(nodes, options.gpu_shares),
        options.output / "project.xml": project_xml(nodes, options.install_dir, options.working_dir),
    }
    there = [str(path) for path in files if path.exists()]
    if there and not options.force:
        raise InputError(f"{' and '.join(there)} exist already: replace them with --force, or choose another --output")
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            write_whole(path, text)
    except OSError as error:
        raise InputError(f"{options.output} cannot be written ({error.strerror})", file="--output") from None
    _say({"resources": str(options.output / "resources.xml"), "project": str(options.output / "project.xml")}, options)
    return 0


def _submit(options: argparse.Namespace) -> int:
    import shlex

    from hpcompss.cluster.commands import MARGIN, Job, job_number, run_program, submission
    from hpcompss.workflow import load_workflow

    settings = ["engine.name=compss", *options.set]
    workflow = load_workflow(options.workflow, settings)
    folder = (options.study or _default_folder(options.workflow)).absolute()
    limit = workflow.trial_resources.time_limit or 0.0
    margin = max(MARGIN, limit + 60) if options.margin is None else parse_duration(options.margin)
    job = Job(
        nodes=options.nodes,
        seconds=parse_duration(options.time),
        queue=options.queue,
        gpus_per_node=options.gpus_per_node,
        cpus_per_node=options.cpus_per_node,
        name=f"hpcompss-{Path(options.workflow).stem}",
        options=options.option,
    )
    assignments = [part for each in options.set for part in ("--set", each)]
    first = ["run", str(Path(options.workflow).absolute()), "--engine", "compss", "--study", str(folder), *assignments]
    runs = [first, *[["resume", str(folder)]] * options.resubmit]
    commands, after = [], None
    for arguments in runs:
        command = submission(job, arguments, margin, after)
        commands.append(shlex.join(command))
        if options.run:
            output = run_program(command)
            after = job_number(output) if len(commands) < len(runs) else None
        else:
            after = "THE_JOB_BEFORE"
    _say({"commands": commands} if options.json else dict(enumerate(commands)), options)  # type: ignore[arg-type]
    if not options.json:
        print(f"hpcompss: the study will be in {folder}", file=sys.stderr)
    return 0


def _agent(options: argparse.Namespace) -> int:
    import shlex
    import socket

    from hpcompss.cluster import commands
    from hpcompss.workflow import load_workflow

    files: dict[Path, str] = {}
    if options.action == "run":
        load_workflow(options.workflow, ["engine.name=compss", *options.set])
        folder = (options.study or _default_folder(options.workflow)).absolute()
        arguments = ["run", str(Path(options.workflow).absolute()), "--engine", "compss", "--study", str(folder)]
        arguments += [part for each in options.set for part in ("--set", each)]
        command = commands.run_on_agent(options.master, arguments, options.stop)
    else:
        host = options.hostname or socket.gethostname()
        cpu, gpu, memory = _offered(options)
        if options.action == "start":
            folder = options.folder or Path.home() / ".hpcompss" / f"agent-{options.port}"
            command, files = commands.start_agent(host, cpu, gpu, memory, options.port, options.comm_port, folder)
        elif options.action == "join":
            command = commands.join(options.master, host, cpu, gpu, memory, options.comm_port)
        else:
            command = commands.leave(options.master, host, cpu, gpu, options.lost)
    if options.dry_run:
        _say({"command": shlex.join(command)}, options)
        return 0
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    except OSError as error:
        raise InputError(f"{path.parent} cannot be written ({error.strerror})", file="--folder") from None
    if options.action == "start" and shutil.which(command[0]):
        os.execvp(command[0], command)  # the agent takes this process's place: it serves until it is stopped
    commands.run_program(command)
    return 0


def _offered(options: argparse.Namespace) -> tuple[int, Any, int]:
    """Returns the cores, GPUs and bytes of memory of this machine that others may use."""
    from hpcompss.engines.machine import available_cores, available_gpus, available_memory

    gpu = len(available_gpus()) if options.gpu is None else options.gpu
    return options.cpu or available_cores(), gpu, available_memory() if options.memory is None else options.memory


def _worker(options: argparse.Namespace) -> int:
    from hpcompss.engines.dask_worker import serve

    def say(sentence: str) -> None:
        if not options.quiet:
            print(sentence, flush=True)

    cpu, gpu, memory = _offered(options)
    if options.engine == "ray":
        from hpcompss.engines.ray import node_command

        command = node_command(options.master, cpu, gpu, memory)
        os.execvp(command[0], command)  # Ray's own program takes this process's place, and serves until it is stopped
    serve(
        options.master,
        cpu,
        gpu,
        memory,
        name=options.name,
        certificates=options.certificates,
        finish=options.finish,
        patience=options.patience,
        fetch=not options.no_fetch,
        say=say,
    )
    return 0


def _certificates(options: argparse.Namespace) -> int:
    from hpcompss.cluster.certificates import make_certificates

    made = make_certificates(options.directory)
    if options.json:
        _print_json({key: str(path) for key, path in vars(made).items()})
    else:
        print(f"{options.directory}: copy it, by a safe way, to each machine that shall work for the same master")
    return 0


def _plan(options: argparse.Namespace) -> int:
    from hpcompss.report.console import make_console, make_view
    from hpcompss.report.plan import make_plan, show_plan
    from hpcompss.study import WORKFLOW
    from hpcompss.workflow import load_workflow

    file, folder = Path(options.workflow), options.study
    if file.is_dir():
        if folder is not None:
            raise InputError(f"{file} is a study's folder itself: leave --study out")
        file, folder = file / WORKFLOW, file
        if not file.exists():
            raise InputError(f"{folder} holds no study: name a workflow's file or the folder of a study")
    workflow = load_workflow(file, _assignments(options))
    plan = make_plan(workflow, folder=folder, first=options.first, view=make_view(sys.stderr))
    if options.json:
        _print_json(plan.to_plain())
    else:
        show_plan(plan, make_console(sys.stdout))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from hpcompss.report.console import make_console
    from hpcompss.report.doctor import examine, show_findings

    findings = examine(options.engine, options.resources, options.project)
    if options.json:
        _print_json([finding.to_plain() for finding in findings])
    else:
        show_findings(findings, make_console(sys.stdout))
    return 0 if all(finding.fine or finding.optional for finding in findings) else 1


def _cache(options: argparse.Namespace) -> int:
    from hpcompss.cache_folder import cache_folder
    from hpcompss.report.cache import chosen, clear, show_contents, to_plain
    from hpcompss.report.console import make_console

    folder, removing = cache_folder(), options.clear is not None
    entries = chosen(folder, options.clear or (), options.unused)
    if removing:
        clear(entries)
    if options.json:
        _print_json(to_plain(folder, entries, removing))
    else:
        show_contents(folder, entries, removing, make_console(sys.stdout))
    return 0


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False))


def _default_folder(workflow: str) -> Path:
    from hpcompss.tuning import new_folder

    return new_folder(Path(workflow).stem)


def _engine_options(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the options that say how the engine finds its workers, by the keys of the workflow's section."""
    stated = {
        "workers": options.workers,
        "address": options.address,
        "host": options.scheduler_host,
        "port": options.scheduler_port,
        "certificates": options.certificates,
    }
    return {key: value for key, value in stated.items() if value is not None}


def _assignments(options: argparse.Namespace) -> list[str]:
    """Returns the options that stand for settings of the workflow, as assignments; --set comes first."""
    named = {
        "search.trials": options.trials,
        "search.time": options.time,
        "search.deadline": options.deadline,
        "search.target": options.target,
        "search.patience": options.patience,
        "search.min_improvement": options.min_improvement,
        "search.seed": options.seed,
        "engine.name": options.engine,
        **{f"engine.{key}": value for key, value in _engine_options(options).items()},
    }
    return [*options.set, *(f"{key}={value}" for key, value in named.items() if value is not None)]


# The parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        from hpcompss.engines import inside_compss

        if inside_compss():
            message += "; runcompss splits arguments at spaces: write what has some into the workflow's file"
        super().error(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="hpcompss", description="Finds the best hyper-parameters of a Keras model, or of any Python function."
    )
    parser.add_argument("--version", action="version", version=f"hpcompss {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, function: Any, summary: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        added.set_defaults(command=function)
        added.add_argument("--json", action="store_true", help="print the result as JSON")
        return added

    run = command("run", _run, "run a workflow and keep its study")
    run.add_argument("workflow", metavar="WORKFLOW", help="the workflow's YAML file")
    run.add_argument("--study", metavar="DIR", type=Path, help="the study's folder (default: a new one in studies/)")
    run.add_argument("--graph", action="store_true", help="draw the task graph into the study's folder at the end")
    _add_settings(run)

    resume = command("resume", _resume, "go on with a study, its interrupted trials first")
    _add_directory(resume)
    _add_rules(resume)
    resume.add_argument(
        "--retry-failed",
        metavar="REASON",
        nargs="?",
        const=True,
        default=False,
        help="try failed trials again; with REASON those whose reason contains this text",
    )
    _add_engine(resume)

    _add_directory(command("status", _status, "show how a study stands"))
    _add_directory(command("best", _best, "show the best configuration of a study and where its model is"))

    export = command("export", _export, "write all trials of a study as a table or as JSON")
    _add_directory(export)
    export.add_argument("--format", choices=("csv", "json"), default="csv", help="the format (default: csv)")
    export.add_argument("--output", metavar="FILE", help="the file to write (default: standard output)")

    plan = command("plan", _plan, "show what a workflow would search, and train nothing")
    plan.add_argument("workflow", metavar="WORKFLOW", help="the workflow's YAML file, or the folder of its study")
    plan.add_argument("--study", metavar="DIR", type=Path, help="its study, to predict what is most promising now")
    plan.add_argument(
        "--first",
        metavar="N",
        type=_positive,
        help="how many configurations to show (default: 5 first ones, or 10 promising ones once the study has begun)",
    )
    _add_settings(plan)

    doctor = command("doctor", _doctor, "show what this machine has, what is missing, and what to do about it")
    doctor.add_argument("--engine", choices=("local", "compss"), default="local", help="what to look into as well")
    doctor.add_argument("--resources", metavar="FILE", type=Path, help="COMPSs's resources file")
    doctor.add_argument("--project", metavar="FILE", type=Path, help="COMPSs's project file")

    graph = command("graph", _graph, "draw the task graph of a study as SVG")
    _add_directory(graph)
    graph.add_argument("--output", metavar="FILE", type=Path, help="the file to write (default: graph.svg in DIR)")

    resources = command("resources", _resources, "write COMPSs's resources.xml and project.xml for your machines")
    resources.add_argument(
        "nodes", metavar="NODE", nargs="+", help="node1:32cpu:4gpu:64GB, or a YAML file with a list of hosts"
    )
    resources.add_argument("--output", metavar="DIR", type=Path, default=Path(), help="where to write (default: here)")
    resources.add_argument(
        "--gpu-shares", metavar="N", type=_positive, default=1, help="units a GPU, for trials that ask for a fraction"
    )
    resources.add_argument("--install-dir", metavar="DIR", default="/opt/COMPSs", help="where COMPSs is on the nodes")
    resources.add_argument("--working-dir", metavar="DIR", default="/tmp/COMPSsWorker", help="where workers keep files")
    resources.add_argument("--force", action="store_true", help="replace files that are there")

    submit = command("submit", _submit, "print or run the enqueue_compss command of a job on a supercomputer")
    submit.add_argument("workflow", metavar="WORKFLOW", help="the workflow's YAML file")
    submit.add_argument("--nodes", metavar="N", type=_positive, required=True, help="how many nodes")
    submit.add_argument(
        "--time", metavar="TIME", type=_duration, required=True, help="the wall-clock limit, such as 2h"
    )
    submit.add_argument("--queue", metavar="NAME", help="the queue or partition")
    submit.add_argument("--gpus-per-node", metavar="N", type=_positive, help="GPUs of each node")
    submit.add_argument("--cpus-per-node", metavar="N", type=_positive, help="cores of each node")
    submit.add_argument("--study", metavar="DIR", type=Path, help="the study's folder, on a shared file system")
    submit.add_argument(
        "--margin",
        metavar="TIME",
        type=_duration,
        help="no trial starts so long before the limit (default: 5m or more)",
    )
    submit.add_argument("--resubmit", metavar="K", type=_natural, default=0, help="K more jobs that resume, in a chain")
    submit.add_argument(
        "--option",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="an option of enqueue_compss, such as qos=debug",
    )
    submit.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="a setting of the workflow")
    submit.add_argument("--run", action="store_true", help="submit, do not only print")

    worker = command("worker", _worker, "work for a study that runs on another machine, until told to stop")
    worker.add_argument(
        "master", metavar="MASTER", help="the address of its Dask scheduler: tcp://host:8786, tls://..."
    )
    worker.add_argument(
        "--engine", choices=("dask", "ray"), default="dask", help="what the master runs on (default: dask)"
    )
    worker.add_argument("--cpu", metavar="N", type=_positive, help="how many cores (default: those of this machine)")
    worker.add_argument("--gpu", metavar="N", type=_amount, help="how many GPUs (default: those of this machine)")
    worker.add_argument(
        "--memory", metavar="SIZE", type=_memory, help="such as 64GB (default: the memory of this machine)"
    )
    worker.add_argument("--name", metavar="NAME", help="what the master calls it (default: its host and process)")
    worker.add_argument("--certificates", metavar="DIR", type=Path, help="the folder of certificates of the master")
    worker.add_argument(
        "--finish",
        metavar="TIME",
        type=_span,
        default=0.0,
        help="how long running trials may go on when it is told to stop; after that they are handed back (default: 0)",
    )
    worker.add_argument(
        "--patience", metavar="TIME", type=_span, help="how long to try to reach the master (default: for ever)"
    )
    worker.add_argument("--no-fetch", action="store_true", help="never copy a study's data here from the master")
    worker.add_argument("--quiet", action="store_true", help="say nothing but what is wrong")

    cache = command("cache", _cache, "show or clear what is kept of data, so that it need not be read again")
    cache.add_argument(
        "--clear", metavar="NAME", nargs="*", help="remove the entries of these names (default: all), without asking"
    )
    cache.add_argument("--unused", metavar="TIME", type=_span, help="only entries that nobody used for so long: 30d")

    certificates = command("certificates", _certificates, "make the certificates that a master and its workers share")
    certificates.add_argument("directory", metavar="DIR", type=Path, help="the folder to make")

    _add_agent(
        command("agent", _agent, "start a COMPSs agent here, have it join or leave a master, run a study on one")
    )
    return parser


def _add_agent(agent: argparse.ArgumentParser) -> None:
    actions = agent.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, summary: str) -> argparse.ArgumentParser:
        added = actions.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        added.add_argument("--dry-run", action="store_true", help="print the command, run nothing")
        return added

    def add_machine(to: argparse.ArgumentParser) -> None:
        to.add_argument("--hostname", metavar="NAME", help="what others know this machine by (default: its host name)")
        to.add_argument("--cpu", metavar="N", type=_positive, help="CPU units (default: the cores of this machine)")
        to.add_argument("--gpu", metavar="N", type=_natural, help="GPU units (default: the GPUs of this machine)")
        to.add_argument(
            "--memory", metavar="SIZE", type=_memory, help="such as 64GB (default: the memory of this machine)"
        )

    start = action("start", "start an agent on this machine")
    add_machine(start)
    start.add_argument("--port", metavar="P", type=_port, default=46101, help="for commands (default: 46101)")
    start.add_argument("--comm-port", metavar="P", type=_port, default=46102, help="for agents (default: 46102)")
    start.add_argument("--folder", metavar="DIR", type=Path, help="its files (default: ~/.hpcompss/agent-PORT)")
    join = action("join", "add this machine's agent to a master's")
    join.add_argument("master", metavar="MASTER", help="host or host:port of the master's agent")
    add_machine(join)
    join.add_argument("--comm-port", metavar="P", type=_port, default=46102, help="of this machine's agent")
    leave = action("leave", "take this machine's agent from a master's")
    leave.add_argument("master", metavar="MASTER", help="host or host:port of the master's agent")
    add_machine(leave)
    leave.add_argument("--lost", action="store_true", help="it is gone already: what ran there is run elsewhere")
    run = action("run", "run a study on a master's agent, with all that joined it")
    run.add_argument("workflow", metavar="WORKFLOW", help="the workflow's YAML file")
    run.add_argument("--master", metavar="MASTER", required=True, help="host or host:port of the agent that runs it")
    run.add_argument("--stop", action="store_true", help="end the agent afterwards")
    run.add_argument("--study", metavar="DIR", type=Path, help="the study's folder, which all nodes see")
    run.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="a setting of the workflow")


def _add_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", type=Path, help="the study's folder")


def _add_settings(parser: argparse.ArgumentParser) -> None:
    _add_engine(parser)
    _add_rules(parser)
    parser.add_argument("--seed", metavar="S", type=_natural, help="makes the search repeatable")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="another setting, such as training.epochs=5"
    )


def _add_engine(parser: argparse.ArgumentParser) -> None:
    from hpcompss.engines import AUTO, ENGINES

    parser.add_argument("--engine", metavar="NAME", help=f"where the trials run ({', '.join([AUTO, *ENGINES])})")
    parser.add_argument(
        "--workers", metavar="N", type=_workers, help="how many trials run at once, or auto; for dask also MIN-MAX"
    )
    parser.add_argument("--address", metavar="ADDRESS", help="of the cluster that is there (dask, ray)")
    parser.add_argument("--scheduler-port", metavar="P", type=_port, help="where a Dask scheduler here is to listen")
    parser.add_argument(
        "--scheduler-host", metavar="HOST", help="on which address of this machine (default: 127.0.0.1; 0.0.0.0: all)"
    )
    parser.add_argument("--certificates", metavar="DIR", help="for encryption: a folder of  hpcompss certificates")


def _add_rules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trials", metavar="N", type=_positive, help="how many trials the study shall have in all")
    parser.add_argument(
        "--time",
        metavar="TIME",
        type=_duration,
        help="start no new trial after this time from the first one's start (such as 10m)",
    )
    parser.add_argument(
        "--deadline", metavar="TIME", type=_duration, help="end running trials, too, after this time from now"
    )
    parser.add_argument("--target", metavar="VALUE", type=_figure, help="stop when the objective reaches this value")
    parser.add_argument(
        "--patience", metavar="K", type=_positive, help="stop when the last K trials brought no better value"
    )
    parser.add_argument(
        "--min-improvement", metavar="VALUE", type=_figure, help="stop when less improvement is expected of a trial"
    )


def _workers(text: str) -> Any:
    if text == "auto":
        return text
    least, dash, most = text.partition("-")
    if not dash or not least:
        return _natural(text)
    bounds = {"min": _natural(least), "max": _positive(most)}
    if bounds["min"] > bounds["max"]:
        raise argparse.ArgumentTypeError(f"the lower bound comes first: {most}-{least}, not {text}")
    return bounds


def _natural(text: str, least: int = 0) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None
    if number < least:
        raise argparse.ArgumentTypeError(f"must be at least {least}, not {number}")
    return number


def _figure(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}") from None
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"must be a finite number, not {text}")
    return number


def _amount(text: str) -> float:
    number = _figure(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, not {text}")
    return number


def _positive(text: str) -> int:
    return _natural(text, least=1)


def _duration(text: str) -> str:
    try:
        parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _span(text: str) -> float:
    """Returns the seconds of a duration that may be 0."""
    return 0.0 if text == "0" else parse_duration(_duration(text))


def _memory(text: str) -> int:
    try:
        return parse_memory(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _port(text: str) -> int:
    number = _positive(text)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"must be at most 65535, not {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())
