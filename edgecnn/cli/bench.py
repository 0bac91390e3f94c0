"""`edgecnn bench`: latency of one model, or a race of several, in one or several combinations."""

from __future__ import annotations

from typing import Any

import click

from edgecnn.cli import _options as options
from edgecnn.cli._click import command as register
from edgecnn.cli._click import option, within
from edgecnn.cli._result import Result, Telling
from runtimes.device import tables


@register("bench", opens="models", section="Measure and prove",
          example='edgecnn bench float.onnx int8.onnx --threads 1 --gate "int8 >= 2x float"')  # fmt: skip
@click.argument("models", metavar="MODEL...", type=click.Path(), nargs=-1, required=True)
@options.weights
@options.providers
@options.thread_counts
@options.batches
@options.input_shapes
@option("--iterations", type=within("iterations", "bench"), group="Timing",
        help="Timed runs of each model; default: up to 1,000 in up to ten seconds.")  # fmt: skip
@option("--warmup", type=within("warmup"), default=10, group="Timing", help="Runs before the clock starts.")
@option("--gate", multiple=True, metavar="LIMIT", group="Limits",
        help="'A >= 2.5x B' (speed) or 'p90 of A <= 3 ms' (p50, p90, p99, mean); repeatable. "
             "A and B are paths, stems, or #1, #2 ... by place.")  # fmt: skip
@option("--baseline", type=options.FILE, group="Limits",
        help="What an earlier bench printed with --json: no model may be slower than then.")  # fmt: skip
@option("--tolerance", type=within("tolerance"), default=0.05, group="Limits",
        help="How much slower than the baseline is still the same.")  # fmt: skip
@option("--csv", type=options.FILE, group="Output", help="Write every sample, one a line.")
@option("--plot", type=options.FILE, group="Output", help="Draw the distributions: .png, .svg or .pdf.")
@options.force
@options.seed
def command(models: tuple[str, ...], **chosen: Any) -> Result:
    """Measure latency, load time, memory and the kernels that really ran; several models are raced.

    MODEL is an .onnx file, a bundle, torch:SOURCE (the PyTorch network itself) or compile:SOURCE (torch.compile). The
    runs of a race are interleaved, so that a busy moment hits all models alike. Lists such as --batch 1,4 give one
    race for each combination.

    Percentiles are printed only where 10 samples lie beyond them: p90 needs 100 runs, p99 needs 1,000. A model is
    faster or slower where the ratio's 99 % interval lies beyond 2 %, the same where it lies within, else inconclusive.

    Exit code 1: a --gate or the --baseline is missed. 3: an interval straddles one. Without them, always 0.
    """
    from edgecnn import api

    tell = Telling()
    report = api.bench(models, **chosen, track=options.track(), tell=tell)
    return tell.result(report, lambda page: tables.benched(page, report))
