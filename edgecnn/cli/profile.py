"""`edgecnn profile`: where the time of a model goes, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecnn.cli import _options as options
from edgecnn.cli import _profiled as tables
from edgecnn.cli._click import command as register
from edgecnn.cli._click import option, within
from edgecnn.cli._result import Result, Telling

if TYPE_CHECKING:
    from edgecnn.profiling.profiled import By


@register(
    "profile", opens="model", section="Measure and prove", example="edgecnn profile int8.onnx --against float.onnx"
)
@click.argument("model", metavar="MODEL", type=options.FILE)
@option("--against", type=options.FILE, metavar="MODEL", group="Rows",
        help="Another model of the same network, layer by layer, the worst loss first.")  # fmt: skip
@option("--by", type=click.Choice(("node", "module", "op")), default="node", group="Rows",
        help="A row for each node of the file, PyTorch module, or operator that ran.")  # fmt: skip
@option("--depth", type=within("depth"), group="Rows", help="Cut paths of modules to so many names.")
@options.race_threads
@options.batch
@options.input_shapes
@option("--iterations", type=within("iterations"), group="Timing",
        help="Profiled runs; default: up to 50 in up to six seconds.")  # fmt: skip
@options.seed
@option("--plot", type=options.FILE, group="Output", help="Write the roofline: .png, .svg or .pdf.")
@option("--csv", type=options.FILE, group="Output", help="Write the rows as a table.")
@options.force
def command(
    model: Path,
    against: Path | None,
    by: By,
    depth: int | None,
    threads: int,
    batch: int,
    input_shape: tuple[str, ...],
    iterations: int | None,
    seed: int,
    plot: Path | None,
    csv: Path | None,
    force: bool,
) -> Result:
    """Tell where the time goes, how near to this machine's peak, and why int8 is slow where it is.

    The kernels that ran are told by the nodes of the file. On the CPU, on seeded random inputs.
    """
    from edgecnn import api

    tell = Telling()
    report = api.profile(model, against=against, by=by, depth=depth, threads=threads, batch=batch,
                         iterations=iterations, seed=seed, input_shape=input_shape, plot=plot, csv=csv, force=force,
                         track=options.track(), tell=tell)  # fmt: skip
    written = [path for path in (plot, csv) if path is not None]
    return tell.result(report, lambda page: tables.profiled(page, report, written))
