"""Every way to fail as (exit code, one line): our error tree, click's usage errors, signals, the machine, and bugs.

An empty line means that nothing is printed. Test: tests/test_cli_main.py.
"""

from __future__ import annotations

import difflib
import re

import click

from runtimes.base import one_line
from runtimes.device import process


def explain(error: BaseException) -> tuple[int, str]:
    """(exit code, line without the leading `error: `) of anything that can leave a command."""
    if isinstance(error, click.ClickException):
        return 2, one_line(usage(error))
    return process.explain(KeyboardInterrupt() if isinstance(error, click.Abort) else error)


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
    if extra := re.fullmatch(r"Got unexpected extra arguments? \((.*)\)", message, re.DOTALL):
        return f"{extra[1]}: more than the command takes; {helper}"
    if odd := re.fullmatch(r"Option '(\S+)' (.*)", message, re.DOTALL):
        return f"{odd[1]}: {odd[2]}; {helper}"
    return message if "; " in message else f"{message}; {helper}"


def _name(param: click.Parameter) -> str:
    return max(param.opts, key=len) if isinstance(param, click.Option) else param.human_readable_name.rstrip(".")
