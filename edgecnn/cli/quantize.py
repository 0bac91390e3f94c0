"""`edgecnn quantize`: the fastest graph within the accuracy budget, int8 where int8 wins."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli import _options as options
from edgecnn.cli import _tables as tables
from edgecnn.cli._click import command as register
from edgecnn.cli._click import option
from edgecnn.cli._result import Result, Telling


@register(
    "quantize",
    opens="model",
    section="One step of it",
    example="edgecnn quantize m.onnx -o m_int8.onnx --calib photos/",
)
@click.argument("model", type=options.FILE)
@options.output("the chosen model (.onnx), or a bundle of it (.edge)")
@options.force
@options.portable
@options.keep_float
@options.runtime
@options.pixels
@options.calib
@options.data
@options.task
@options.metric
@options.calib_limit
@options.input_shape
@options.labels
@options.preprocess
@options.calibrator
@option("--per-tensor", is_flag=True, group="Quantization", help="One weight scale a layer instead of one a channel.")
@option("--exclude", multiple=True, metavar="GLOB", group="Quantization", help="Nodes that stay float; repeatable.")
@options.target
@options.max_drop
@options.sure
@options.search_budget
@options.allow_slower
@options.all_int8
@options.race_threads
@options.skip_unreadable
@options.seed
def command(
    model: Path,
    output: Path,
    force: bool,
    portable: bool,
    keep_float: bool,
    runtime: bool,
    input: str,
    calib: str,
    data: str | None,
    task: str | None,
    metric: str | None,
    limit: int,
    input_shape: str | None,
    labels: Path | None,
    preprocess: str | None,
    calibrator: str,
    per_tensor: bool,
    exclude: tuple[str, ...],
    target: str | None,
    max_drop: float | None,
    sure: bool,
    search_budget: float,
    allow_slower: bool,
    all_int8: bool,
    threads: int,
    skip_unreadable: bool,
    seed: int,
) -> Result:
    """Quantize any ONNX model to int8, and keep it only where it is faster within the accuracy budget."""
    from edgecnn import api
    from edgecnn.choosing.targeted import TargetReport
    from edgecnn.opened import check_quantized_output

    check_quantized_output(output, force, model)
    tell = Telling()
    report = api.quantize(model, output, calib, calibrator=calibrator, per_tensor=per_tensor, exclude=exclude,
                          max_drop=max_drop, sure=sure, search_budget=search_budget, target=target, portable=portable,
                          input=input, data=data, task=task, metric=metric, limit=limit,
                          input_shape=input_shape, labels=labels, preprocess=preprocess, threads=threads,
                          seed=seed, allow_slower=allow_slower, all_int8=all_int8, keep_float=keep_float,
                          runtime=runtime, force=force,
                          skip_unreadable=skip_unreadable, track=options.track(), tell=tell)  # fmt: skip
    if isinstance(report, TargetReport):
        return tell.result(report, lambda page: tables.aimed(page, report))
    return tell.result(report, lambda page: tables.quantized(page, report))
