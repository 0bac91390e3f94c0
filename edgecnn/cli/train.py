"""`edgecnn train`: real trained weights in seconds, nothing downloaded."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli import _options as options
from edgecnn.cli._click import command as register
from edgecnn.cli._click import option
from edgecnn.cli._result import Result


@register("train", section="Start here", example="edgecnn train lenet5 --data digits -o lenet5.safetensors")
@click.argument("name", metavar="SOURCE")
@option("--data", default="digits", metavar="DATA", group="Data", help="Labelled images; `digits` is built in.")
@options.output("the weights (.safetensors)")
@options.force
@option("--epochs", type=click.IntRange(min=1), group="Training", help="Default: what the network is known to need.")
@option("--rate", type=click.FloatRange(min=0, min_open=True), group="Training",
        help="Peak learning rate; default: what the network is known to survive.")  # fmt: skip
@options.input_shape
@options.num_classes
@options.seed
def command(
    name: str,
    data: str,
    output: Path,
    force: bool,
    epochs: int | None,
    rate: float | None,
    input_shape: str | None,
    num_classes: int | None,
    seed: int,
) -> Result:
    """Train a small classifier, seeded, and write its weights."""
    from edgecnn import api
    from runtimes.files import check_output

    check_output(output, force)
    report = api.train(name, data, output, epochs=epochs, seed=seed, rate=rate, input_shape=input_shape,
                       num_classes=num_classes, force=force, track=options.track())  # fmt: skip
    document = report.to_dict()
    return Result(
        document,
        lambda page: page.pairs((key.replace("_", " "), value) for key, value in document.items() if _scalar(value)),
        f"{output}: {name} answers {report.test_accuracy:.2%} of the held-out images right.",
    )


def _scalar(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
