"""`edgecnn export`: a PyTorch network as ONNX, each stage checked against the module."""

from __future__ import annotations

from pathlib import Path

from edgecnn.cli import _options as options
from edgecnn.cli import _tables as tables
from edgecnn.cli._click import command as register
from edgecnn.cli._click import option
from edgecnn.cli._result import Result, Telling


@register("export", opens="source", section="One step of it", example="edgecnn export resnet18 -o resnet18.onnx")
@options.source
@options.output("the ONNX model")
@options.force
@options.weights
@options.source_shapes
@options.num_classes
@options.labels
@options.preprocess
@options.decode
@options.answer
@options.task
@option("--opset", type=int, default=20, group="Graph", help="Operator set of the model.")
@options.dynamic
@options.dynamic_size
@option("--fold/--no-fold", default=True, group="Graph", help="Fold BatchNorm into the layer before it.")
@option("--simplify/--no-simplify", default=True, group="Graph", help="Simplify with onnxsim.")
@option("--fp16", is_flag=True, group="Precision", help="float16 where it is enough, raced on --provider.")
@options.provider
@option("--allow-slower", is_flag=True, group="Precision", help="Write float16 even where it is not faster here.")
@options.seed
def command(
    source: str,
    output: Path,
    force: bool,
    weights: Path | None,
    input_shape: tuple[str, ...],
    num_classes: int | None,
    labels: Path | None,
    preprocess: str | None,
    decode: str | None,
    answer: str | None,
    task: str | None,
    opset: int,
    dynamic: bool,
    dynamic_size: bool,
    fold: bool,
    simplify: bool,
    fp16: bool,
    provider: str,
    allow_slower: bool,
    seed: int,
) -> Result:
    """Export a PyTorch network to ONNX and prove that it still gives the same outputs."""
    from edgecnn.opened import check_model_output
    from runtimes.execution import provider_options

    check_model_output(output, force)
    provider_options.require(provider)  # before torch is imported, which takes seconds

    from edgecnn import api

    tell = Telling()
    report = api.export(source, output, weights=weights, input_shape=input_shape or None, num_classes=num_classes,
                        labels=labels, preprocess=preprocess, decode=decode, answer=answer, task=task,
                        opset=opset, dynamic=dynamic, dynamic_size=dynamic_size, fold=fold,
                        simplify=simplify, fp16=fp16, provider=provider,
                        allow_slower=allow_slower, force=force, seed=seed, track=options.track(),
                        tell=tell)  # fmt: skip
    return tell.result(report, lambda page: tables.exported(page, report))
