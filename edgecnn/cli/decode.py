"""`edgecnn decode`: boxes from an ONNX detector that answers with a raw head."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli import _options as options
from edgecnn.cli._click import command as register
from edgecnn.cli._click import option, within
from edgecnn.cli._result import Result


@register(
    "decode", opens="model", section="One step of it", example="edgecnn decode yolo.onnx -o det.onnx --head yolov8"
)
@click.argument("model", type=options.FILE)
@options.output("the detector")
@options.force
@option("--head", default="yolov8", group="Detection",
        help="yolov8 (N, 4+C, places), for v9 and v11 too; yolov5 (N, places, 5+C), for v7 and YOLOX too; "
             "yolov10 (N, boxes, 6), for 26 too.")  # fmt: skip
@option("--score", type=within("score"), default=0.25, group="Detection", help="Boxes scored above it are answers.")
@option("--iou", type=within("iou"), default=0.45, group="Detection",
        help="A box goes that a better one of its class overlaps by more.")  # fmt: skip
@option("--most", type=within("most"), default=300, group="Detection", help="Boxes of an image, at most.")
@option("--best-class", is_flag=True, group="Detection", help="Of each box only the class that it scores best in.")
@options.labels
@options.preprocess
@options.input_shapes
@options.seed
def command(
    model: Path,
    output: Path,
    force: bool,
    head: str,
    score: float,
    iou: float,
    most: int,
    best_class: bool,
    labels: Path | None,
    preprocess: str | None,
    input_shape: tuple[str, ...],
    seed: int,
) -> Result:
    """Make boxes of the raw head of any ONNX detector.

    Decoding and suppression are appended in standard operators. The joined graph is proven against PyTorch's decoding
    of what the file answers.
    """
    from edgecnn.opened import check_model_output

    check_model_output(output, force, model)

    from edgecnn import api

    report = api.decode(model, output, head=head, score=score, iou=iou, most=most, best_class=best_class, labels=labels,
                        preprocess=preprocess, input_shape=input_shape, force=force, seed=seed)  # fmt: skip
    return Result(report.to_dict(), lambda page: None, report.verdict, warnings=report.warnings)
