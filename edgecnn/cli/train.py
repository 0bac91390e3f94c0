"""`edgecnn train`: real trained weights in seconds to minutes, nothing downloaded."""

from __future__ import annotations

from pathlib import Path

from edgecnn.cli import _options as options
from edgecnn.cli._click import command as register
from edgecnn.cli._click import option, within
from edgecnn.cli._result import Result, Telling


@register(
    "train", opens="source", section="Start here", example="edgecnn train lenet5 --data digits -o lenet5.safetensors"
)
@options.source
@option("--data", default="digits", metavar="DATA", group="Data",
        help="Images with what is right for each; `digits` and `shapes` are built in.")  # fmt: skip
@options.output("the weights (.safetensors)")
@options.force
@option("--resume", is_flag=True, group="Output", help="Go on where this very command was interrupted.")
@option("--epochs", type=within("epochs"), group="Training", help="Default: what the network is known to need.")
@option("--rate", type=within("rate"), group="Training",
        help="Peak learning rate; default: what the network is known to survive.")  # fmt: skip
@option("--batch", type=within("batch"), default=16, group="Training", help="Images in one step.")
@option("--momentum", type=within("momentum"), default=0.9, group="Training", help="Of stochastic gradient descent.")
@option(
    "--weight-decay",
    type=within("weight_decay"),
    default=5e-4,
    group="Training",
    help="Of weights, not of biases and norms.",
)
@option(
    "--label-smoothing",
    type=within("label_smoothing"),
    group="Training",
    help="Share of each label given to all classes; default: 0.1.",
)
@option("--flip/--no-flip", default=None, group="Training", show_default=False,
        help="Mirror half of the images; default: where the data is known to allow it (shapes).")  # fmt: skip
@option("--augment/--no-augment", default=True, group="Training",
        help="Move images a little in training; --no-augment for pictures whose rows or columns mean something, as "
             "frequencies do.")  # fmt: skip
@option("--patience", type=within("patience"), group="Training",
        help="Stop after so many epochs without a better score on a held-back tenth; default: never.")  # fmt: skip
@option("--weights", type=options.FILE, group="Training", help="Start from these weights instead of random ones.")
@option("--qat", is_flag=True, group="Training",
        help="Then fine-tune with int8 rounding simulated; with --weights do only that.")  # fmt: skip
@options.task
@options.answer
@options.input_shape
@options.num_classes
@options.preprocess
@options.skip_unreadable
@options.seed
def command(
    source: str,
    data: str,
    output: Path,
    force: bool,
    resume: bool,
    epochs: int | None,
    rate: float | None,
    batch: int,
    momentum: float,
    weight_decay: float,
    label_smoothing: float | None,
    flip: bool | None,
    augment: bool,
    patience: int | None,
    weights: Path | None,
    qat: bool,
    task: str | None,
    answer: str | None,
    input_shape: str | None,
    num_classes: int | None,
    preprocess: str | None,
    skip_unreadable: bool,
    seed: int,
) -> Result:
    """Train a network on classes, masks, boxes, points, numbers or pictures, seeded."""
    from edgecnn import api
    from runtimes.files import check_output

    check_output(output, force)
    tell = Telling()
    report = api.train(source, data, output, epochs=epochs, seed=seed, rate=rate, batch=batch, momentum=momentum,
                       weight_decay=weight_decay, label_smoothing=label_smoothing, flip=flip, augment=augment,
                       patience=patience, input_shape=input_shape, num_classes=num_classes, preprocess=preprocess,
                       weights=weights, task=task, answer=answer, qat=qat, resume=resume, force=force,
                       skip_unreadable=skip_unreadable, track=options.track(), tell=tell)  # fmt: skip
    shown = {**report.to_dict(), "judged": report.judged and report.judged.words(report.metric)}
    return tell.result(
        report, lambda page: page.pairs((k.replace("_", " "), value) for k, value in shown.items() if _scalar(value))
    )


def _scalar(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
