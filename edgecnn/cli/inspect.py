"""`edgecnn inspect`: what is in a model, in numbers."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli import _options as options
from edgecnn.cli import _tables as tables
from edgecnn.cli._click import command as register
from edgecnn.cli._click import option
from edgecnn.cli._result import Result


@register("inspect", opens="model", section="Measure and prove", example="edgecnn inspect model.onnx --layers")
@click.argument("model")
@options.weights
@options.answer
@options.input_shapes
@option("--layers", is_flag=True, group="Output", help="Show a row for every layer.")
def command(model: str, weights: Path | None, answer: str | None, input_shape: tuple[str, ...], layers: bool) -> Result:
    """Count parameters, multiply-adds, memory and operators of a model or network."""
    from edgecnn import api

    found = api.inspect(model, weights=weights, input_shape=input_shape, answer=answer)
    return Result(
        found.to_dict(), lambda page: tables.inspected(page, found, layers), found.verdict, warnings=found.warnings
    )
