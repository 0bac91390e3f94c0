"""`edgecnn demo`: the whole road on the built-in digits, in under two minutes, nothing downloaded."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli import _options as options
from edgecnn.cli import _tables as tables
from edgecnn.cli._click import command as register
from edgecnn.cli._result import Result


@register("demo", section="Start here", example="edgecnn demo")
@click.argument("directory", metavar="[DIR]", type=options.FILE, default=Path("edgecnn-demo"))
@options.force
@options.seed
def command(directory: Path, force: bool, seed: int) -> Result:
    """Train, export, quantize, prove and run a small network on handwritten digits, in under two minutes."""
    from edgecnn import api

    report = api.demo(directory, force=force, seed=seed, track=options.track())
    return Result(report.to_dict(), lambda page: tables.demonstrated(page, report), report.verdict)
