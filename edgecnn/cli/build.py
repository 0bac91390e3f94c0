"""`edgecnn build`: the whole road from a PyTorch network to a proven bundle."""

from __future__ import annotations

from pathlib import Path

from edgecnn.cli import _options as options
from edgecnn.cli import _tables as tables
from edgecnn.cli._click import command as register
from edgecnn.cli._result import Result, Telling


@register(
    "build",
    opens="source",
    section="The whole road",
    example="edgecnn build nets.py:Net --weights w.pt --calib photos/ -o net.edge",
)
@options.source
@options.output("the bundle (.edge)")
@options.force
@options.portable
@options.keep_float
@options.pixels
@options.weights
@options.source_shapes
@options.num_classes
@options.labels
@options.preprocess
@options.decode
@options.answer
@options.calib
@options.data
@options.task
@options.metric
@options.calib_limit
@options.calibrator
@options.target
@options.max_drop
@options.sure
@options.search_budget
@options.allow_slower
@options.all_int8
@options.provider
@options.race_threads
@options.dynamic
@options.dynamic_size
@options.runtime
@options.skip_unreadable
@options.seed
def command(
    source: str,
    output: Path,
    force: bool,
    portable: bool,
    keep_float: bool,
    input: str,
    weights: Path | None,
    input_shape: tuple[str, ...],
    num_classes: int | None,
    labels: Path | None,
    preprocess: str | None,
    decode: str | None,
    answer: str | None,
    calib: str,
    data: str | None,
    task: str | None,
    metric: str | None,
    limit: int,
    calibrator: str,
    target: str | None,
    max_drop: float | None,
    sure: bool,
    search_budget: float,
    allow_slower: bool,
    all_int8: bool,
    provider: str,
    threads: int,
    dynamic: bool,
    dynamic_size: bool,
    runtime: bool,
    skip_unreadable: bool,
    seed: int,
) -> Result:
    """Export, fold, simplify, quantize, check, race, choose and pack: one bundle that is proven to work."""
    from runtimes.execution import provider_options
    from runtimes.files import check_output

    check_output(output, force)
    provider_options.require(provider)  # before torch is imported, which takes seconds

    from edgecnn import api
    from edgecnn.choosing.device_build import DeviceBuildReport

    tell = Telling()
    report = api.build(source, output, weights=weights, calib=calib, data=data, task=task, metric=metric,
                       input_shape=input_shape or None, num_classes=num_classes, labels=labels, preprocess=preprocess,
                       decode=decode, answer=answer, calibrator=calibrator, max_drop=max_drop, sure=sure,
                       search_budget=search_budget, target=target, portable=portable, input=input, limit=limit,
                       provider=provider, threads=threads, allow_slower=allow_slower, all_int8=all_int8,
                       keep_float=keep_float, dynamic=dynamic, dynamic_size=dynamic_size, runtime=runtime, force=force,
                       seed=seed, skip_unreadable=skip_unreadable, track=options.track(), tell=tell)  # fmt: skip
    if isinstance(report, DeviceBuildReport):
        return tell.result(report, lambda page: tables.built_for_device(page, report))
    return tell.result(report, lambda page: tables.built(page, report))
