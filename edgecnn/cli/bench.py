"""`edgecnn bench`: latency of one model, or a race of several."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli import _options as options
from edgecnn.cli import _tables as tables
from edgecnn.cli._click import command as register
from edgecnn.cli._click import option
from edgecnn.cli._result import Result


@register("bench", section="Measure and prove", example="edgecnn bench model.onnx model_int8.onnx --threads 1")
@click.argument("models", metavar="MODEL...", type=options.FILE, nargs=-1, required=True)
@options.provider
@options.threads
@options.batch
@options.input_shapes
@option("--iterations", type=click.IntRange(min=2), group="Timing",
        help="Timed runs of each model; default: up to 1,000 in up to ten seconds.")  # fmt: skip
@option("--warmup", type=click.IntRange(min=0), default=10, group="Timing", help="Runs before the clock starts.")
@options.seed
def command(
    models: tuple[Path, ...],
    provider: str,
    threads: int | None,
    batch: int,
    input_shape: tuple[str, ...],
    iterations: int | None,
    warmup: int,
    seed: int,
) -> Result:
    """Measure latency, load time, memory and the kernels that really ran; several models are raced.

    The runs of a race are interleaved, so that a busy moment hits all models alike. Exit code 3 when a ratio is
    inconclusive.
    """
    from edgecnn import api

    report = api.bench(models, provider=provider, threads=threads, batch=batch, iterations=iterations, warmup=warmup,
                       seed=seed, input_shape=input_shape, track=options.track())  # fmt: skip
    return Result(report.to_dict(), lambda page: tables.benched(page, report), report.verdict, report.failure)
