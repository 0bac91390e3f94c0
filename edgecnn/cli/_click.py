"""click as this project wants it: commands found by file name, options in groups, an example in every help.

    group ──get_command("bench")──> edgecnn/cli/bench.py: command ──callback──> Result ──> stdout (text or JSON)

Test: tests/test_cli_main.py.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from click.core import ParameterSource

import edgecnn
from edgecnn import cli
from edgecnn.arguments import Range, range_of
from edgecnn.cli._errors import explain
from edgecnn.cli._result import Result, show
from runtimes.device.process import carried_out, outcome
from runtimes.execution.watch import watched

SECTIONS = ("Start here", "The whole road", "One step of it", "Measure and prove", "Use a bundle")
"""Order of the help's sections; a command names its own."""
JSON_KEY = "edgecnn.json"
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Called:
    """The words after `edgecnn`, and whether the process is ours: then a command may be watched."""

    args: list[str]
    own: bool


class Option(click.Option):
    """A click option that is shown under the heading `group` of its command's help."""

    def __init__(self, *args: Any, group: str = "Options", **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.group = group

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """As click's; NaN, which passes every limit, and inf are refused too."""
        found = super().type_cast_value(ctx, value)
        if isinstance(found, float) and not math.isfinite(found):
            raise click.BadParameter(f"{found} is not a finite number", ctx, self)
        return found


def _note_json(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.meta[JSON_KEY] = value


class Command(click.Command):
    """A command whose callback returns a `Result`; everything else that is printed meanwhile goes to stderr.

    `opens` names the parameters with models, separated by spaces: a command that opens some is watched
    (runtimes/execution/watch.py).
    """

    def __init__(self, *args: Any, section: str, example: str, opens: str = "", **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.section, self.example, self.opens = section, example, opens
        self.params.append(
            Option(["--json"], is_flag=True, expose_value=False, callback=_note_json, group="General",
                   help="Print one JSON document instead of tables.")
        )  # fmt: skip

    def invoke(self, ctx: click.Context) -> int:
        from edgecnn.idle import refuse_idle  # which `--help` does without

        written = (name for name in ctx.params if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT)
        refuse_idle(str(self.name), written, ctx.params)
        called = ctx.obj or Called([], own=False)
        if not (self.opens and called.own):
            return self._show(ctx, called.args)
        given = [ctx.params[name] for name in self.opens.split()]
        subjects = [each for one in given for each in (one if isinstance(one, tuple) else (one,)) if each is not None]
        name = ", ".join(dict.fromkeys(map(str, subjects)))
        ctx.exit(watched(name, lambda: outcome(lambda: self._show(ctx, called.args), explain)))

    def _show(self, ctx: click.Context, args: list[str]) -> int:
        as_json = ctx.meta[JSON_KEY]
        show(carried_out(lambda: super(Command, self).invoke(ctx), as_json), as_json, args=args)
        return 0

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                groups.setdefault(getattr(param, "group", "General"), []).append(record)
        general = groups.pop("General", [])
        for title, records in [*groups.items(), ("General", general)]:
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write_text(line)


class Group(click.Group):
    """The commands are the files of this folder; a command's file is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(m.name for m in pkgutil.iter_modules(cli.__path__) if not m.name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"{cli.__name__}.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None:
            from runtimes.plugins import unknown

            raise click.UsageError(unknown(name, self.list_commands(ctx), "command"), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        for section in SECTIONS:
            rows = [
                (n, c.get_short_help_str(100)) for n, c in commands if isinstance(c, Command) and c.section == section
            ]
            with formatter.section(section):
                formatter.write_dl(rows)


def command(name: str, *, section: str, example: str, opens: str = "") -> Callable[[Callable[..., Result]], Command]:
    """Decorator: the function below becomes the command `name`; its docstring's first sentence is the help."""
    return click.command(name, cls=Command, section=section, example=example, opens=opens)


def option(*names: str, group: str = "Options", **attributes: Any) -> Callable[[F], F]:
    """Decorator for an option under the heading `group`; defaults are shown."""
    attributes.setdefault("show_default", True)
    return click.option(*names, cls=Option, group=group, **attributes)


def within(name: str, call: str = "") -> Any:
    """The type of an option whose numbers are those of the argument `name` of the Python call `call`."""
    allowed = range_of(name, call) or Range()
    kind: Any = click.IntRange if allowed.whole else click.FloatRange
    return kind(allowed.low, allowed.high, min_open=allowed.above, max_open=allowed.below)


@click.group(
    cls=Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 done and verified, 1 a check fails, 2 bad input, 3 inconclusive, 4 missing part, 5 bug.",
)
@click.version_option(edgecnn.__version__, message="edgecnn %(version)s")
@click.pass_context
def group(context: click.Context) -> None:
    """From a PyTorch CNN to a small, fast, proven ONNX deployment. Begin with `edgecnn demo`."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
