"""`edgecnn fold`: BatchNorm folding on any ONNX file."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli import _options as options
from edgecnn.cli._click import command as register
from edgecnn.cli._result import Result


@register("fold", opens="model", section="One step of it", example="edgecnn fold model.onnx -o folded.onnx")
@click.argument("model", type=options.FILE)
@options.output("the folded model")
@options.force
@options.input_shapes
@options.seed
def command(model: Path, output: Path, force: bool, input_shape: tuple[str, ...], seed: int) -> Result:
    """Fold BatchNorms and constants into the layers beside them, in any ONNX file; says what stays."""
    from edgecnn import api
    from edgecnn.opened import check_model_output

    check_model_output(output, force, model)
    report = api.fold(model, output, force=force, input_shape=input_shape, seed=seed)
    proven = f"; a fold moves its layer's output by at most {report.bound:.1g} of it" if report.changes else ""
    kept = [(entry.node, entry.reason) for entry in report.kept]
    return Result(
        report.to_dict(),
        lambda page: page.table(("kept", "because"), kept) if kept else None,
        f"{output}: {report.folded} folded, {len(kept)} kept; outputs differ by at most {report.max_abs:.3g} "
        f"on {report.images} seeded inputs{proven}.",
    )
