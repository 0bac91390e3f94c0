"""What is written of a contest: the graph that won, the float graph beside it, the graph for other runtimes.

Test: tests/test_road.py, tests/test_packing.py.
"""

from __future__ import annotations

from pathlib import Path

import onnx

from edgecnn.choosing import choose
from edgecnn.choosing.choose import Decision
from edgecnn.choosing.contest import Contest
from edgecnn.opened import check_model_output
from edgecnn.runners import graph_inputs
from exporters import artifact
from exporters.artifact import Identity, Stage
from exporters.half_input import narrowed
from exporters.load import save_model
from exporters.pixel_input import with_pixel_input
from exporters.quantization.quantize import Quantized


def shipped(
    float_model: onnx.ModelProto,
    quantized: Quantized,
    decision: Decision,
    identity: Identity | None,
    done: tuple[Stage, ...],
) -> onnx.ModelProto:
    """The chosen graph, with its identity and the stages that lead to it."""
    if decision.chosen != choose.FLOAT:
        return labelled(quantized.model, identity, done)
    return labelled(float_model, identity, done[:-1])


def float_beside(
    wanted: bool, float_model: onnx.ModelProto, decision: Decision, identity: Identity, done: tuple[Stage, ...]
) -> onnx.ModelProto | None:
    """The float graph that is kept in the bundle; None where it is the chosen one, or not `wanted`."""
    return labelled(float_model, identity, done[:-1]) if wanted and decision.chosen != choose.FLOAT else None


def saved_beside(
    beside: Path | None, result: Contest, identity: Identity | None, done: tuple[Stage, ...], force: bool,
    like: onnx.ModelProto | None = None,
) -> Path | None:  # fmt: skip
    """Where the graph for other runtimes was written, its inputs as in `like`; None where there is none."""
    if beside is None or result.portable is None:
        return None
    model = labelled(result.portable.model, identity, done)
    save_model(model if like is None else narrowed(model, like), beside, force=force)
    return beside


def portable_beside(output: Path, force: bool, model: Path | None = None) -> Path:
    """Where the graph for other runtimes goes; raises `BadInput` where it cannot, or is the input `model` itself.

    >>> portable_beside(Path("net.onnx"), force=False).name
    'net.portable.onnx'
    """
    return check_model_output(output.with_name(f"{output.stem}.portable.onnx"), force, model)


def labelled(model: onnx.ModelProto, identity: Identity | None, done: tuple[Stage, ...]) -> onnx.ModelProto:
    """`model` with the stages that led to it, what is known of its input and answers, and the input that this says."""
    ready = identity.preprocess if identity is not None else None
    if ready is not None and not ready.floating and graph_inputs(model)[0].dtype != ready.dtype:
        model = with_pixel_input(model, ready)
    model = artifact.write_stages(model, done)
    if identity is not None:
        artifact.write_identity(model, identity)
    return model
