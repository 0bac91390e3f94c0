"""`edgecnn run`: predictions of a bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgecnn.cli import _options as options
from edgecnn.cli._click import JSON_KEY, option, within
from edgecnn.cli._click import command as register
from edgecnn.cli._result import Result
from runtimes.device import process, tables


@register("run", opens="bundle", section="Use a bundle", example="edgecnn run net.edge photo.jpg images.npy")
@click.argument("bundle", type=options.FILE)
@click.argument("inputs", metavar="IMAGE...", nargs=-1, required=True)
@option("--top", type=within("top"), group="Output", help="How many classes for each image; default: 5.")
@options.provider
@options.threads
@options.require_all
@option("--min-score", type=within("min_score"), group="Output", help="Of boxes that are shown; default: 0.3.")
@option("--input-shape", metavar="SHAPE", group="Input",
        help="Height and width to work at, as in 3,480,640; for a bundle of open size.")  # fmt: skip
@option("--save", type=options.FILE, metavar="DIR", group="Output",
        help="Folder for pictures: answers, masks, and images with masks, boxes or points.")  # fmt: skip
@options.force
@option("--jsonl", is_flag=True, group="Output", callback=lambda *given: process.line_by_line() if given[-1] else None,
        help="Print a line of JSON for each image as it is answered.")  # fmt: skip
def command(
    bundle: Path,
    inputs: tuple[str, ...],
    top: int | None,
    provider: str,
    threads: int | None,
    require_all: bool,
    min_score: float | None,
    input_shape: str | None,
    save: Path | None,
    force: bool,
    jsonl: Callable[[Any], None] | None,
) -> Result:
    """Predict images (files or arrays) with a bundle: classes, masks, boxes, points or pictures.

    `-` is one picture or array from standard input. A network of several inputs takes an .npz with an array for each.
    """
    from edgecnn.foreign import refuse_foreign
    from edgecnn.prediction.predict import answered
    from runtimes.proof.prediction import How, opened_to_run, slim

    process.one_or_the_other(click.get_current_context().meta[JSON_KEY], jsonl)
    refuse_foreign(bundle)
    how = How(provider, threads, require_all, top, min_score, save, force, jsonl or slim)
    report = answered(opened_to_run(bundle, input_shape), str(bundle), inputs, how, options.track())
    return Result(
        report.to_dict(), lambda page: tables.predicted(page, report), "" if jsonl else report.verdict, None,
        report.warnings, report.failures,
    )  # fmt: skip
