"""The command line: one verb a job. `main` runs a command and turns every way to fail into one line and an exit code.

    0    done and verified                      4    a provider or package that was asked for is missing
    1    a check that was asked for fails       5    a bug in edgecnn
    2    bad usage or bad input                 130  Ctrl-C    141  the reader of our output went away
    3    inconclusive                           143  SIGTERM

Every file in this folder whose name has no leading underscore is a command of that name; it defines `command`, a
`edgecnn.cli._click.Command` whose callback does the work and returns a `Result`. Nothing heavier than click is
imported before the chosen command runs: `edgecnn --help` stays near the cost of `import click`.
Tests: tests/test_cli_main.py, tests/test_api.py, tests/test_architecture.py.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType

DEBUG_VARIABLE = "EDGECNN_DEBUG"


class _Terminated(BaseException):
    """SIGTERM arrived. Not an Exception: nothing between here and `main` may swallow it, every `finally` runs."""


def main(args: Sequence[str] | None = None) -> int:
    """Run `edgecnn ARGS` (default: the process's own) and return its exit code; never raises, never prints a traceback.

    With EDGECNN_DEBUG=1 the traceback of any failure follows its one line.
    """
    _open_closed_streams()
    try:
        with _terminate_by_exception(), _own_process_settings(own=args is None):
            code = _run(list(sys.argv[1:] if args is None else args))
            sys.stdout.flush()
            return code
    except BaseException as error:
        code = _explain(error)
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        return code


def _run(args: list[str]) -> int:
    import click

    from edgecnn.cli._click import group

    if "_EDGECNN_COMPLETE" in os.environ:  # the shell asks for completions
        group.main(args, "edgecnn", standalone_mode=False)
    try:
        with group.make_context("edgecnn", args, obj=args) as context:
            group.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    return 0


def _explain(error: BaseException) -> int:
    """Print the one line for `error` and return the exit code."""
    from edgecnn.cli._errors import explain

    code, line = explain(error)
    if isinstance(error, OSError):
        _drop_stdout()
    with contextlib.suppress(OSError, ValueError, AttributeError):  # stderr may be closed, or nobody's
        if line:
            print(f"error: {line}", file=sys.stderr)
        if os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0"):
            import traceback

            traceback.print_exception(error)
    return code


def _drop_stdout() -> None:
    """Point stdout at nothing: what it still holds would fail again when the interpreter closes it, with noise."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


def _open_closed_streams() -> None:
    """Put the null device where the caller closed stdout or stderr (`>&-`).

    The next file that is opened would get that number, and with it whatever C++ code prints there.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  (until the process ends)


@contextlib.contextmanager
def _terminate_by_exception() -> Iterator[None]:
    def on_terminate(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    try:
        before = signal.signal(signal.SIGTERM, on_terminate)
    except ValueError:  # not the main thread: whoever runs us there owns the signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _own_process_settings(own: bool) -> Iterator[None]:
    """What only the real command may set: no foreign warnings among the lines, and stdout that can print any name."""
    if own:
        import warnings

        # Without it `import onnxruntime` writes an identifier and a database of events into HOME.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        for stream in (sys.stdout, sys.stderr):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                reconfigure(errors="backslashreplace")
    yield
