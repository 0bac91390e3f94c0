"""The command line: one verb a job. `main` runs a command and turns every way to fail into one line and an exit code.

Every file in this folder whose name has no leading underscore is a command of that name; it defines `command`, a
`edgecnn.cli._click.Command` whose callback does the work and returns a `Result`. Nothing heavier than click is
imported before the chosen command runs: `edgecnn --help` stays near the cost of `import click`. The exit codes are in
runtimes/device/process.py, which the command line of a device shares.
Tests: tests/test_cli_main.py, tests/test_api.py, tests/test_architecture.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from runtimes.device import process


def main(args: Sequence[str] | None = None) -> int:
    """Run `edgecnn ARGS` (default: the process's own) and return its exit code; never raises, never prints a traceback.

    With EDGECNN_DEBUG=1 the traceback of any failure follows its one line.
    """
    given, own = list(sys.argv[1:] if args is None else args), args is None
    return process.run(lambda: _run(given, own), _explain, own)


def _explain(error: BaseException) -> tuple[int, str]:
    from edgecnn.cli._errors import explain

    return explain(error)


def _run(args: list[str], own: bool) -> int:
    import click

    from edgecnn.cli._click import Called, group

    if "_EDGECNN_COMPLETE" in os.environ:  # the shell asks for completions
        group.main(args, "edgecnn", standalone_mode=False)
    try:
        with group.make_context("edgecnn", args, obj=Called(args, own)) as context:
            group.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    return 0
