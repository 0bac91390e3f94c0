"""`edgecnn half`: float16 in any ONNX file, for GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecnn.cli import _options as options
from edgecnn.cli import _tables as tables
from edgecnn.cli._click import command as register
from edgecnn.cli._click import option, within
from edgecnn.cli._result import Result
from runtimes.base import counted

if TYPE_CHECKING:
    from edgecnn.halving import HalfReport
    from runtimes.device.page import Page


@register("half", opens="model", section="One step of it", example="edgecnn half m.onnx -o m_fp16.onnx --provider cuda")
@click.argument("model", type=options.FILE)
@options.output("the float16 model")
@options.force
@option("--calib", metavar="DATA", group="Data",
        help="Images that show typical activations; without it, seeded inputs.")  # fmt: skip
@option("--limit", type=within("limit"), group="Data",
        help="Use at most this many images, drawn from all by --seed; default: 8.")  # fmt: skip
@option("--exclude", multiple=True, metavar="GLOB", group="Precision", help="Nodes that stay float32; repeatable.")
@option("--allow-slower", is_flag=True, group="Precision", help="Write it even where it is not faster here.")
@options.input_shapes
@options.preprocess
@options.provider
@options.race_threads
@options.seed
def command(
    model: Path,
    output: Path,
    force: bool,
    calib: str | None,
    limit: int | None,
    exclude: tuple[str, ...],
    allow_slower: bool,
    input_shape: tuple[str, ...],
    preprocess: str | None,
    provider: str,
    threads: int,
    seed: int,
) -> Result:
    """Convert any ONNX file to float16 (fp16), sensitive nodes kept in float32, where that is faster.

    Inputs and outputs stay float32. On a CPU float16 is slower, and refused without --allow-slower.
    """
    from edgecnn import api
    from edgecnn.opened import check_model_output

    check_model_output(output, force, model)
    report = api.half(model, output, calib=calib, limit=limit, exclude=exclude, input_shape=input_shape,
                      preprocess=preprocess, provider=provider, allow_slower=allow_slower, threads=threads, seed=seed,
                      force=force, track=options.track())  # fmt: skip
    return Result(report.to_dict(), lambda page: _draw(page, report), report.verdict, warnings=report.warnings)


def _draw(page: Page, report: HalfReport) -> None:
    tables.kept_in_float32(page, report.halved.half.kept)
    page.note(f"measured on {counted(report.halved.parity.images, 'image')} of {report.data}")
