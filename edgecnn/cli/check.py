"""`edgecnn check`: do two models give the same outputs?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecnn.cli import _options as options
from edgecnn.cli._click import command as register
from edgecnn.cli._click import option, within
from edgecnn.cli._result import Result, Telling
from edgecnn.words import decibel

if TYPE_CHECKING:
    from edgecnn.checking.check_report import CheckReport
    from runtimes.device.page import Page
    from runtimes.parity import OutputParity


@register(
    "check",
    opens="reference candidate",
    section="Measure and prove",
    example="edgecnn check m.onnx m_int8.onnx --data photos/ --top1 0.99",
)
@click.argument("reference", metavar="REF")
@click.argument("candidate", metavar="CANDIDATE")
@option("--atol", multiple=True, metavar="[OUT:]X", group="Limits", help="Largest absolute difference; repeatable.")
@option("--snr-db", multiple=True, metavar="[OUT:]X", group="Limits",
        help="Smallest signal-to-noise ratio in decibels; repeatable.")  # fmt: skip
@option("--top1", type=within("top1"), group="Limits", help="Smallest share of images with the same first answer.")
@option(
    "--data", metavar="DATA", group="Data", help="Images to compare on; else what int8 was made with, or made inputs."
)
@options.limit
@options.batch
@options.weights
@options.preprocess
@options.decode
@options.answer
@options.input_shapes
@options.provider
@options.threads
@options.require_all
@options.skip_unreadable
@options.seed
def command(
    reference: str,
    candidate: str,
    atol: tuple[str, ...],
    snr_db: tuple[str, ...],
    top1: float | None,
    data: str | None,
    limit: int | None,
    batch: int,
    weights: Path | None,
    preprocess: str | None,
    decode: str | None,
    answer: str | None,
    input_shape: tuple[str, ...],
    provider: str,
    threads: int | None,
    require_all: bool,
    skip_unreadable: bool,
    seed: int,
) -> Result:
    """Compare the outputs of two models: PyTorch networks, .onnx files or bundles.

    Without a limit, float models must agree up to the reference's own float noise, int8 models to 10 dB. With
    --provider the candidate runs there and the reference on the CPU, and the limit is that of the arithmetic: 80 dB in
    float32, 40 dB in TF32 and float16.
    """
    from edgecnn import api

    tell = Telling()
    report = api.check(reference, candidate, data=data, limit=limit, atol=atol, snr_db=snr_db, top1=top1, seed=seed,
                       input_shape=input_shape, weights=weights, batch=batch, threads=threads, preprocess=preprocess,
                       decode=decode, answer=answer, provider=provider, require_all=require_all,
                       skip_unreadable=skip_unreadable, track=options.track(), tell=tell)  # fmt: skip
    return tell.result(report, lambda page: _draw(page, report))


def _draw(page: Page, report: CheckReport) -> None:
    top1 = (">same top-1",) if report.classes or report.top1 is not None else ()
    columns = ("output", ">SNR", ">limit", ">largest difference", ">mean", ">cosine", *top1, ">NaN or Inf")
    page.table(columns, [_row(out, report, bool(top1)) for out in report.parity.outputs])
    if report.residence is not None:
        page.note(report.residence.words)
    if report.parity.matching is not None:
        page.note("detections: " + ", ".join(f"{n} {word.replace('_', ' ')}" for word, n in
                                             vars(report.parity.matching).items()))  # fmt: skip
    if len(report.sizes) > 1:
        page.note("sizes: " + ", ".join("x".join(map(str, shape)) for shape in report.sizes))
    for name in report.seeded:
        page.note(f"{name}: no --weights, so its weights are random (seed 0) unless its own code loads some")
    for line in report.failures:
        page.note(line)
    if not report.passed:
        page.go_on((report.next_command,))


def _row(out: OutputParity, report: CheckReport, classes: bool) -> tuple[object, ...]:
    limit = report.snr_db.get(out.name)
    kind = out.worst_kind
    snr, least = decibel(out.worst_db) + (f" in {kind.words}" if kind else ""), "-" if limit is None else decibel(limit)
    if out.same is not None:
        snr = f"{out.same:.2%} equal"
        least = f"{report.same[out.name]:.2%}" if out.name in report.same else least
    cosine = "-" if math.isnan(out.cosine) else f"{out.cosine:.6f}"
    top1 = ("-" if out.top1 is None else f"{out.top1:.2%}",) if classes else ()
    mean = "-" if math.isnan(out.mean_abs) else out.mean_abs
    return (out.name, snr, least, out.max_abs, mean, cosine, *top1, out.nonfinite)
