"""What an agent of COMPSs is asked to run: this package's command line, as an operation that has tasks of its own."""

from __future__ import annotations

import sys

from pycompss.api.task import task

from hpcompss.main import main as command_line

__all__ = ["main"]


@task()  # type: ignore[untyped-decorator, unused-ignore]
def main(words):  # type: ignore[no-untyped-def]  # PyCOMPSs reads the signature
    """Runs the command line whose words stand in one text, for COMPSs gives each argument as a parameter."""
    status: object
    try:
        status = command_line(words.split())
    except SystemExit as ending:
        status = ending.code
    # Not raised: COMPSs would run the operation again.
    print(f"hpcompss ended with status {status}", file=sys.stderr, flush=True)
