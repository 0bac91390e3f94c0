"""`edgecnn check`: do two models give the same outputs?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecnn.cli import _options as options
from edgecnn.cli import _tables as tables
from edgecnn.cli._click import command as register
from edgecnn.cli._click import option
from edgecnn.cli._result import Result

if TYPE_CHECKING:
    from edgecnn.compare import CheckReport
    from edgecnn.report import Page


@register("check", section="Measure and prove", example="edgecnn check m.onnx m_int8.onnx --data photos/ --top1 0.99")
@click.argument("reference", metavar="REF")
@click.argument("candidate", metavar="CANDIDATE")
@option("--atol", multiple=True, metavar="[OUT:]X", group="Limits", help="Largest absolute difference; repeatable.")
@option("--snr-db", type=float, group="Limits", help="Smallest signal-to-noise ratio of every output, in decibels.")
@option(
    "--top1", type=click.FloatRange(0, 1), group="Limits", help="Smallest share of images with the same first answer."
)
@option("--data", metavar="DATA", group="Data", help="Images to compare on; without it, seeded random inputs.")
@options.limit
@options.batch
@options.weights
@options.input_shapes
@options.provider
@options.threads
@options.require_all
@options.seed
def command(
    reference: str,
    candidate: str,
    atol: tuple[str, ...],
    snr_db: float | None,
    top1: float | None,
    data: str | None,
    limit: int | None,
    batch: int,
    weights: Path | None,
    input_shape: tuple[str, ...],
    provider: str,
    threads: int | None,
    require_all: bool,
    seed: int,
) -> Result:
    """Compare the outputs of two models: PyTorch networks, .onnx files or bundles.

    Without a limit, float models must agree to 40 dB and int8 models to 10 dB. With --provider the candidate runs
    there and the reference on the CPU, and the limit is that of the arithmetic: 80 dB in float32, 40 dB in TF32 and
    float16.
    """
    from edgecnn import api

    report = api.check(reference, candidate, data=data, limit=limit, atol=atol, snr_db=snr_db, top1=top1, seed=seed,
                       input_shape=input_shape, weights=weights, batch=batch, threads=threads,
                       provider=provider, require_all=require_all, track=options.track())  # fmt: skip
    rows = [
        (o.name, o.max_abs, tables.decibel(o.snr_db), None if o.top1 is None else f"{o.top1:.2%}", o.nonfinite)
        for o in report.parity.outputs
    ]
    return Result(report.to_dict(), lambda page: _draw(page, rows, report), report.verdict, report.failure)


def _draw(page: Page, rows: Iterable[Sequence[object]], report: CheckReport) -> None:
    page.table(("output", ">largest difference", ">SNR", ">same top-1", ">NaN or Inf"), rows)
    if report.residence is not None:
        page.note(report.residence.words)
    for name in report.seeded:
        page.note(f"{name}: no --weights, so its weights are random (seed 0) unless its own code loads some")
