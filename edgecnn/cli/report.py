"""`edgecnn report`: one self-contained page about a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli import _options as options
from edgecnn.cli._click import command as register
from edgecnn.cli._click import option
from edgecnn.cli._result import Result
from edgecnn.words import size


@register("report", opens="bundle", section="Use a bundle", example="edgecnn report net.edge -o report.html --verify")
@click.argument("bundle", type=options.FILE)
@options.output("the page (.html)")
@options.force
@option("--verify", is_flag=True, group="Proof", help="Prove it on this machine first, and say so in the page.")
@options.provider
@options.threads
def command(bundle: Path, output: Path, force: bool, verify: bool, provider: str, threads: int | None) -> Result:
    """Write one HTML page about a bundle: what was chosen and why, times, layers, samples; for reviewers.

    It needs no network and no scripts, in light and dark, on a screen and on paper.
    """
    from edgecnn import api

    report = api.report(bundle, output, verify=verify, provider=provider, threads=threads, force=force)
    rows = [("page", str(report.output)), ("size", size(report.size_bytes)), ("sections", ", ".join(report.sections))]
    return Result(report.to_dict(), lambda page: page.pairs(rows), report.verdict, report.failure)
