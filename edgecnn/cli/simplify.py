"""`edgecnn simplify`: onnxsim on any ONNX file, in a sandbox, with the result checked."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli import _options as options
from edgecnn.cli._click import command as register
from edgecnn.cli._click import option, within
from edgecnn.cli._result import Result
from runtimes.base import counted


@register("simplify", opens="model", section="One step of it", example="edgecnn simplify model.onnx -o simple.onnx")
@click.argument("model", type=options.FILE)
@options.output("the simplified model")
@options.force
@option("--timeout", "timeout_s", type=within("timeout_s"), default=120, group="Limits", help="Seconds allowed.")
@option(
    "--input-shape",
    multiple=True,
    metavar="SHAPE",
    group="Input",
    help="Write these sizes into the file: 1,3,224,224 or x:1,3,224,224, a batch left out is 1; repeatable.",
)
@option(
    "--target",
    metavar="ort==X.Y",
    group="Output",
    help="Lower operator set and IR version to what that release of ONNX Runtime loads.",
)
@option(
    "--freeze",
    is_flag=True,
    group="Output",
    help="Make weights that are listed as inputs, which a caller may override, constants.",
)
@options.seed
def command(
    model: Path,
    output: Path,
    force: bool,
    timeout_s: float,
    input_shape: tuple[str, ...],
    target: str | None,
    freeze: bool,
    seed: int,
) -> Result:
    """Simplify any ONNX file and keep the result only when it computes the same."""
    from edgecnn import api
    from edgecnn.opened import check_model_output

    check_model_output(output, force, model)
    report = api.simplify(
        model,
        output,
        force=force,
        timeout_s=timeout_s,
        input_shape=input_shape,
        target=target,
        freeze=freeze,
        seed=seed,
    )
    kept = [(entry.node, entry.reason) for entry in report.kept]
    return Result(
        report.to_dict(),
        lambda page: page.table(("kept", "because"), kept) if kept else None,
        f"{output}: {counted(report.nodes_before, 'node')} became {report.nodes_after}; outputs differ by at most "
        f"{report.max_abs:.3g} on {counted(report.images, 'seeded input')}"
        f"{'; nothing to freeze' if freeze and not report.frozen else ''}{report.words}.",
    )
