"""`edgecnn verify`: prove a bundle on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli import _options as options
from edgecnn.cli._click import command as register
from edgecnn.cli._result import Result
from runtimes.device import tables


@register("verify", opens="bundle", section="Use a bundle", example="edgecnn verify net.edge")
@click.argument("bundle", type=options.FILE)
@options.provider
@options.threads
def command(bundle: Path, provider: str, threads: int | None) -> Result:
    """Check every hash of a bundle, and its outputs here against the original network's, packed in it."""
    from edgecnn import api

    report = api.verify(bundle, provider=provider, threads=threads)
    return Result(report.to_dict(), lambda page: tables.verified(page, report), report.verdict, report.failure)
