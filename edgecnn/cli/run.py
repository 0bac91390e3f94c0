"""`edgecnn run`: predictions of a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli import _options as options
from edgecnn.cli._click import command as register
from edgecnn.cli._click import option
from edgecnn.cli._result import Result


@register("run", section="Use a bundle", example="edgecnn run net.edge photo.jpg images.npy")
@click.argument("bundle", type=options.FILE)
@click.argument("inputs", metavar="IMAGE...", type=options.FILE, nargs=-1, required=True)
@option("--top", type=click.IntRange(min=1), default=5, group="Output", help="How many answers for each image.")
@options.provider
@options.threads
def command(bundle: Path, inputs: tuple[Path, ...], top: int, provider: str, threads: int | None) -> Result:
    """Predict images (files, or arrays in .npy and .npz) with a bundle."""
    from edgecnn import api

    report = api.run(bundle, inputs, provider=provider, threads=threads, top=top)
    rows = [(p.input, p.label, f"{p.score:.2%}", ", ".join(f"{a.label} {a.score:.1%}" for a in p.top[1:])) for p in
            report.predictions]  # fmt: skip
    return Result(
        report.to_dict(),
        lambda page: page.table(("input", "label", ">score", "then"), rows),
        f"{len(rows)} image{'s' if len(rows) != 1 else ''} through {bundle} on {provider}.",
    )
