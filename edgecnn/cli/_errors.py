"""Every way to fail as (exit code, one line): our error tree, click's usage errors, signals, the machine, and bugs.

An empty line means that nothing is printed. Test: tests/test_cli_main.py.
"""

from __future__ import annotations

import difflib
import os
import re

import click

from runtimes.base import EdgeError, one_line


def explain(error: BaseException) -> tuple[int, str]:
    """(exit code, line without the leading `error: `) of anything that can leave a command."""
    code, text = _explain(error)
    return code, one_line(text)


def _explain(error: BaseException) -> tuple[int, str]:
    # Matched by name: `_Terminated` lives in the package that imports this module.
    if type(error).__name__ == "_Terminated":
        return 143, f"terminated; {_left(error)}"
    match error:
        case EdgeError():
            return error.exit_code, str(error)
        case click.ClickException():
            return 2, usage(error)
        case KeyboardInterrupt() | click.Abort():
            return 130, f"interrupted; {_left(error)}"
        case BrokenPipeError():
            return 141, ""
        case SystemExit():
            return (error.code, "") if isinstance(error.code, int) else (5, str(error.code or ""))
        case MemoryError():
            return 2, "out of memory; use a smaller batch, fewer images or a smaller input"
        case OSError():
            return 2, f"{_subject(error)}: {error.strerror or error}; free the place or choose another"
    return 5, f"bug in edgecnn: {type(error).__name__}: {error}; set EDGECNN_DEBUG=1 for the traceback"


def _left(error: BaseException) -> str:
    """What an interruption left: nothing, unless a note says otherwise."""
    return "; ".join(getattr(error, "__notes__", ())) or "nothing half-written was left behind"


def usage(error: click.ClickException) -> str:
    """A usage error of click as `SUBJECT: what is wrong; what to do`."""
    context = getattr(error, "ctx", None)
    helper = f"see `{context.command_path} --help`" if context is not None else "see `edgecnn --help`"
    if isinstance(error, click.NoSuchOption):
        known = [name for param in context.command.params for name in param.opts] if context is not None else []
        near = difflib.get_close_matches(error.option_name, [*known, "--help"], n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        return f"{error.option_name}: unknown option; {hint}{helper}"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        return f"{_name(error.param)}: is missing; {helper}"
    if isinstance(error, click.BadParameter) and error.param is not None:
        unreadable = re.fullmatch(r"Path (['\"])(.*)\1 is not readable\.?", error.message, re.DOTALL)
        if unreadable:  # as runtimes/files.py says it
            return f"{unreadable[2]}: no permission to read it; change its mode or owner"
        return f"{_name(error.param)}: {error.message.rstrip('.')}; {helper}"
    message = error.format_message().rstrip(".")
    return message if "; " in message else f"{message}; {helper}"


def _name(param: click.Parameter) -> str:
    return max(param.opts, key=len) if isinstance(param, click.Option) else param.human_readable_name.rstrip(".")


def _subject(error: OSError) -> str:
    name = error.filename
    return os.fsdecode(name) if isinstance(name, str | bytes) else "input or output"
