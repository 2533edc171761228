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
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hpcompss import __version__
from hpcompss.errors import HpcompssError, InputError
from hpcompss.units import parse_duration

if TYPE_CHECKING:
    from hpcompss.study import Study

__all__ = ["main"]

BROKEN_PIPE = 141
"""The exit status of a program whose output nobody reads any more, by the shell's convention."""

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
    return _finish(study, options)


def _resume(options: argparse.Namespace) -> int:
    from hpcompss.report.console import make_view
    from hpcompss.tuning import resume

    view = make_view(sys.stderr if options.json else sys.stdout)
    seconds = None if options.time is None else parse_duration(options.time)
    try:
        study = resume(options.directory, trials=options.trials, time=seconds, workers=options.workers, view=view)
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
    from hpcompss.report.console import is_untested, make_console, show_result
    from hpcompss.report.export import as_plain

    if options.json:
        _print_json(as_plain(study, trials=False))
    else:
        show_result(study, make_console(sys.stdout))
    if study.stopped == SEARCH_INTERRUPTED:
        print(f"hpcompss: interrupted; go on with  hpcompss resume {study.directory}", file=sys.stderr)
        return INTERRUPTED
    return 0 if study.completed and not is_untested(study) else 1


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
        _print_json({key: plain[key] for key in ("metric", "direction", "best", "test", "model")})
    else:
        show_result(study, make_console(sys.stdout))
    return 0 if study.completed else 1


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


def _plan(options: argparse.Namespace) -> int:
    from hpcompss.report.console import make_console, make_view
    from hpcompss.report.plan import make_plan, show_plan
    from hpcompss.workflow import load_workflow

    plan = make_plan(
        load_workflow(options.workflow, _assignments(options)), first=options.first, view=make_view(sys.stderr)
    )
    if options.json:
        _print_json(plan.to_plain())
    else:
        show_plan(plan, make_console(sys.stdout))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from hpcompss.report.console import make_console
    from hpcompss.report.doctor import examine, show_findings

    findings = examine()
    if options.json:
        _print_json([finding.to_plain() for finding in findings])
    else:
        show_findings(findings, make_console(sys.stdout))
    return 0 if all(finding.fine or finding.optional for finding in findings) else 1


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False))


def _default_folder(workflow: str) -> Path:
    from hpcompss.tuning import new_folder

    return new_folder(Path(workflow).stem)


def _assignments(options: argparse.Namespace) -> list[str]:
    """Returns the options that stand for settings of the workflow, as assignments; --set comes first."""
    named = {
        "search.trials": options.trials,
        "search.time": options.time,
        "search.seed": options.seed,
        "engine.name": options.engine,
        "engine.workers": options.workers,
    }
    return [*options.set, *(f"{key}={value}" for key, value in named.items() if value is not None)]


# The parser


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
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
    _add_settings(run)

    resume = command("resume", _resume, "go on with a study, its interrupted trials first")
    _add_directory(resume)
    resume.add_argument("--trials", metavar="N", type=_positive, help="how many trials the study shall have in all")
    resume.add_argument(
        "--time", metavar="TIME", type=_duration, help="start no new trial after this time (such as 10m)"
    )
    resume.add_argument("--workers", metavar="N", type=_workers, help="how many trials run at once, or auto")

    _add_directory(command("status", _status, "show how a study stands"))
    _add_directory(command("best", _best, "show the best configuration of a study and where its model is"))

    export = command("export", _export, "write all trials of a study as a table or as JSON")
    _add_directory(export)
    export.add_argument("--format", choices=("csv", "json"), default="csv", help="the format (default: csv)")
    export.add_argument("--output", metavar="FILE", help="the file to write (default: standard output)")

    plan = command("plan", _plan, "show what a workflow would search, and train nothing")
    plan.add_argument("workflow", metavar="WORKFLOW", help="the workflow's YAML file")
    plan.add_argument(
        "--first", metavar="N", type=_positive, default=5, help="how many configurations to show (default: 5)"
    )
    _add_settings(plan)

    command("doctor", _doctor, "show what this machine has, what is missing, and what to do about it")
    return parser


def _add_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", type=Path, help="the study's folder")


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine", metavar="NAME", help="where the trials run (local)")
    parser.add_argument("--workers", metavar="N", type=_workers, help="how many trials run at once, or auto")
    parser.add_argument("--trials", metavar="N", type=_positive, help="how many trials to run")
    parser.add_argument(
        "--time", metavar="TIME", type=_duration, help="start no new trial after this time (such as 10m)"
    )
    parser.add_argument("--seed", metavar="S", type=_natural, help="makes the search repeatable")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="another setting, such as training.epochs=5"
    )


def _workers(text: str) -> int | str:
    return text if text == "auto" else _positive(text)


def _natural(text: str, least: int = 0) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None
    if number < least:
        raise argparse.ArgumentTypeError(f"must be at least {least}, not {number}")
    return number


def _positive(text: str) -> int:
    return _natural(text, least=1)


def _duration(text: str) -> str:
    try:
        parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


if __name__ == "__main__":
    sys.exit(main())
