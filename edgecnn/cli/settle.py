"""`edgecnn settle`: choose between the two graphs of a bundle on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli import _options as options
from edgecnn.cli._click import command as register
from edgecnn.cli._result import Result
from runtimes.device import tables


@register("settle", opens="bundle", section="Use a bundle", example="edgecnn settle net.edge -o here.edge")
@click.argument("bundle", type=options.FILE)
@options.output("the bundle with one graph (.edge)")
@options.force
@options.provider
@options.race_threads
@options.seed
def command(bundle: Path, output: Path, force: bool, provider: str, threads: int, seed: int) -> Result:
    """Race the two graphs of a bundle built with --keep-float here, and write one with the faster."""
    from edgecnn import api
    from edgecnn.prediction.predict import foreign_code

    report = api.settle(bundle, output, provider=provider, threads=threads, force=force, seed=seed,
                        track=options.track())  # fmt: skip
    doubts = tuple(filter(None, [foreign_code(bundle)]))
    return Result(report.to_dict(), lambda page: tables.settled(page, report), report.verdict, warnings=doubts)
