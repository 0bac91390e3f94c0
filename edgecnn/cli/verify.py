"""`edgecnn verify`: prove bundles on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecnn.cli import _options as options
from edgecnn.cli._click import command as register
from edgecnn.cli._result import Result
from runtimes.device import tables

if TYPE_CHECKING:
    from edgecnn.prediction.proofs import ProofsReport
    from runtimes.device.page import Page


@register("verify", opens="bundle", section="Use a bundle", example="edgecnn verify net.edge")
@click.argument("bundle", metavar="BUNDLE...", type=options.FILE, nargs=-1, required=True)
@options.provider
@options.threads
def command(bundle: tuple[Path, ...], provider: str, threads: int | None) -> Result:
    """Check every hash of a bundle, and its outputs here against the original network's, packed in it.

    Of several bundles each is proven by itself; the exit code is the highest of theirs.
    """
    from edgecnn import api
    from runtimes.execution import provider_options

    if len(bundle) > 1:
        provider_options.require(provider)  # else each bundle would be called unproven for it
        found = api.verify(bundle, provider=provider, threads=threads)
        return Result(found.to_dict(), lambda page: _draw(page, found), found.verdict, failures=found.failures)
    report = api.verify(bundle[0], provider=provider, threads=threads)
    return Result(report.to_dict(), lambda page: tables.verified(page, report), report.verdict, report.failure)


def _draw(page: Page, found: ProofsReport) -> None:
    for proof in found.proofs:
        if proof.report is not None:
            tables.verified(page, proof.report)
        page.note(proof.verdict)
