"""`edgecnn evaluate`: how good a model is, and whether another one is worse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecnn.cli import _options as options
from edgecnn.cli import _tables as tables
from edgecnn.cli._click import command as register
from edgecnn.cli._click import option, within
from edgecnn.cli._result import Result, Telling

if TYPE_CHECKING:
    from edgecnn.evaluation.evaluate import EvaluateReport
    from runtimes.device.page import Page


@register(
    "evaluate",
    opens="model other",
    section="Measure and prove",
    example="edgecnn evaluate m.onnx m_int8.onnx --data photos/ --max-drop 0.01",
)
@click.argument("model", metavar="MODEL")
@click.argument("other", metavar="[MODEL2]", required=False)
@option("--data", required=True, metavar="DATA", group="Data",
        help="Images with what is right for each; of what it was trained on, the part held out.")  # fmt: skip
@options.task
@options.metric
@options.limit
@option("--max-drop", type=within("max_drop"), group="Limits",
        help="Metric that MODEL2 may lose against MODEL, a share (0.01: one point), or in its unit.")  # fmt: skip
@option("--sure", is_flag=True, group="Limits",
        help="Limits hold the whole 95 % interval; exit 3 where only a part is within.")  # fmt: skip
@option("--min-metric", type=float, group="Limits",
        help="Smallest metric of the model (of two: MODEL2), a share, or in its unit.")  # fmt: skip
@option("--batch", type=within("batch"), group="Input", help="Images at once; default: 32.")
@options.weights
@options.labels
@options.preprocess
@options.decode
@options.answer
@options.input_shapes
@options.threads
@options.skip_unreadable
@options.seed
def command(
    model: str,
    other: str | None,
    data: str,
    task: str | None,
    metric: str | None,
    limit: int | None,
    max_drop: float | None,
    sure: bool,
    min_metric: float | None,
    batch: int | None,
    weights: Path | None,
    labels: Path | None,
    preprocess: str | None,
    decode: str | None,
    answer: str | None,
    input_shape: tuple[str, ...],
    threads: int | None,
    skip_unreadable: bool,
    seed: int,
) -> Result:
    """Score models on labelled images: top-1, mIoU, mAP, R^2 or SSIM; of two also the difference.

    Exit code 1: --max-drop or --min-metric does not hold. The measured value decides, as in quantize, and not an end of
    its interval: with few images the interval is wide. With --sure the far end does: 3 where the interval has the limit
    in it or there is none, 1 where all of it is beyond. Without a limit, always 0.
    """
    from edgecnn import api

    tell = Telling()
    report = api.evaluate(model, other, data=data, task=task, metric=metric, weights=weights, limit=limit,
                          labels=labels, preprocess=preprocess, decode=decode, answer=answer,
                          max_drop=max_drop, min_metric=min_metric, sure=sure, batch=batch, input_shape=input_shape,
                          threads=threads, seed=seed, skip_unreadable=skip_unreadable, track=options.track(),
                          tell=tell)  # fmt: skip
    return tell.result(report, lambda page: _draw(page, report))


def _draw(page: Page, report: EvaluateReport) -> None:
    tables.scored(page, report)
    for sentence in report.broken:
        page.note(sentence)
    for name in report.seeded:
        page.note(f"{name}: no --weights, so its weights are random (seed 0) unless its own code loads some")
