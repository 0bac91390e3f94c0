"""`edgecnn diff`: the first layer at which two models part."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecnn.cli import _options as options
from edgecnn.cli._click import command as register
from edgecnn.cli._click import option, within
from edgecnn.cli._result import Result, Telling
from edgecnn.words import decibel

if TYPE_CHECKING:
    from edgecnn.checking.divergence import DiffReport
    from runtimes.device.page import Page


@register(
    "diff",
    opens="reference candidate",
    section="Measure and prove",
    example="edgecnn diff m.onnx m_int8.onnx --layers --plot sqnr.png",
)
@click.argument("reference", metavar="REF")
@click.argument("candidate", metavar="CANDIDATE")
@option("--snr-db", type=float, group="Limits", help="Diverged is what falls below; else the reference's own noise.")
@option(
    "--data", metavar="DATA", group="Data", help="Images to compare on; else what int8 was made with, or made inputs."
)
@option("--samples", type=within("samples"), default=3, group="Data",
        help="How many images, drawn from all by --seed, or seeded inputs.")  # fmt: skip
@options.weights
@options.preprocess
@options.decode
@options.answer
@options.input_shapes
@option("--layers", is_flag=True, group="Output", help="Look at every layer: SQNR up to it, and of it alone.")
@option("--plot", type=options.FILE, group="Output", help="Draw that: .png, .svg or .pdf.")
@option("-o", "--reproducer", type=options.FILE, metavar="DIR", group="Output",
        help="Folder to make: the layer alone as two models, its inputs, and a test.")  # fmt: skip
@options.force
@options.threads
@options.skip_unreadable
@options.seed
def command(
    reference: str,
    candidate: str,
    snr_db: float | None,
    data: str | None,
    samples: int,
    weights: Path | None,
    preprocess: str | None,
    decode: str | None,
    answer: str | None,
    input_shape: tuple[str, ...],
    layers: bool,
    plot: Path | None,
    reproducer: Path | None,
    force: bool,
    threads: int | None,
    skip_unreadable: bool,
    seed: int,
) -> Result:
    """Find the first layer at which two models part: PyTorch networks, .onnx files or bundles.

    Named by node and PyTorch module, also through folds, rewrites and int8; proven by running that layer alone.

    Layers run without ONNX Runtime's optimizer. An int8 candidate is also run with it, as it is deployed: where its
    kernels lose more than 3 dB (sums that saturate), the layers are named.
    """
    from edgecnn import api

    tell = Telling()
    report = api.diff(reference, candidate, snr_db=snr_db, data=data, samples=samples, weights=weights,
                      input_shape=input_shape, preprocess=preprocess, decode=decode, answer=answer, layers=layers,
                      plot=plot, reproducer=reproducer, force=force, threads=threads, seed=seed,
                      skip_unreadable=skip_unreadable, track=options.track(), tell=tell)  # fmt: skip
    return tell.result(report, lambda page: _draw(page, report, layers))


def _draw(page: Page, report: DiffReport, layers: bool) -> None:
    if layers:
        columns = ("layer", "operator", "module", ">up to it", ">alone", "")
        rows = [
            (r.layer.node, r.layer.op, r.layer.module, decibel(r.snr_db), decibel(r.alone_db),
             "< first" if report.first is not None and r.point == report.first.point else "")
            for r in report.layers
            if not r.index
        ]  # fmt: skip
        page.table(columns, rows)
    elif report.first is not None:
        page.pairs(_facts(report))
    for note in report.notes:
        page.note(note)
    if report.plot is not None:
        page.note(f"drawn in {report.plot}")
    if report.reproducer is not None:
        page.note(f"the layer alone: pytest {report.reproducer}")


def _facts(report: DiffReport) -> list[tuple[str, object]]:
    first = report.first
    assert first is not None
    return [
        ("node", f"{first.node}  ({first.op})"),
        *([("region", f"{first.nodes} nodes, from {first.begins} on")] if first.nodes > 1 else []),
        ("module", first.module or "-"),
        ("up to it", f"{decibel(first.snr_db)}, limit {decibel(first.limit_db)}"),
        ("alone", decibel(first.alone_db)),
        ("outputs", decibel(report.output_db)),
    ]
