"""The form of each layer's weights for the CPU at which an integer graph is aimed, and a graph that no CPU saturates.

    ranges, images -> inputs of the layers on their grids -> risk of each (`cpu_target`) -> weight_forms of the recipe

Only layers that lose are changed, each to what costs it least. Weights stored as uint8 with zero point 128 are the same
numbers on another kernel, exact on every CPU: a graph with all of them in that form answers here as the graph itself
does on a CPU with VNNI. Test: tests/test_weight_forms.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import numpy_helper

from exporters.graph import Graph
from exporters.quantization.affine import Grid
from exporters.quantization.calibration import exposing
from exporters.quantization.work import Work, layers
from exporters.targets.cpu_target import SATURATING, LayerRisk, predict
from runtimes.base import Array

IMAGES = 4
"""On which the layers are looked at: with 128 positions of each layer, more would not change a choice."""

STORED = {"DequantizeLinear": (0, 2), "QLinearConv": (3, 5), "QLinearMatMul": (3, 5), "QGemm": (3, 5)}
"""Where an operator reads int8 weights and their zero point."""


def look(work: Work, threads: int | None = None) -> tuple[LayerRisk, ...]:
    """What saturation would do to each layer of `work`, on the first of its images; empty where nothing saturates."""
    if work.recipe.target not in SATURATING:
        return ()
    plan = work.plan()
    grids = work.grids(plan)
    names = sorted({node.input[0] for node in layers(Graph(work.model, copied=False), plan)})
    return predict(work.model, plan.int8, grids, _met(work, grids, names, threads), work.recipe.per_channel)


def _met(work: Work, grids: Mapping[str, Grid], names: Sequence[str], threads: int | None) -> dict[str, Array]:
    """The tensors `names` of the first images, as integers on their grids; none without rows (no proposal)."""
    session = exposing(work.model, names, threads)
    seen: dict[str, list[Array]] = {name: [] for name in names}
    for feed in work.images[:IMAGES]:
        values = {**feed, **session(feed)}
        for name in names:
            seen[name].append(grids[name].quantize(values[name]))
    return {name: joined for name, values in seen.items() if (joined := _joined(values)).size}


def adapt(work: Work, risks: Sequence[LayerRisk]) -> Work:
    """`work` with the forms of weights that `risks` chose."""
    forms = tuple((risk.node, risk.choice) for risk in risks if risk.choice != "s8")
    return replace(work, recipe=replace(work.recipe, weight_forms=forms))


def exact(model: onnx.ModelProto, signed: Collection[str] = ()) -> onnx.ModelProto:
    """A copy of the integer graph `model` that computes on every CPU what VNNI computes: all int8 weights unsigned.

    Weights whose names (behind a DequantizeLinear: the dequantized ones) are in `signed` stay as they are.
    """
    twin = Graph(model)
    stored = dict(twin.initializers)
    made: dict[str, onnx.TensorProto] = {}
    for node in twin.proto.node:
        places = STORED.get(node.op_type, ())
        if not places or weights_name(node) in signed or len(node.input) <= places[1]:
            continue
        if not all(_is_int8(stored.get(node.input[i])) for i in places) or _reads_signed(node, stored):
            continue
        for place in places:  # layers may share a zero point
            name = f"{node.input[place]}_unsigned"
            made[name] = made.get(name) or _unsigned(stored[node.input[place]], name)
            node.input[place] = name
    twin.proto.initializer.extend(made.values())
    twin.reindex()
    twin.prune()
    return twin.model


def _reads_signed(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether an integer operator reads signed activations, which ONNX Runtime takes with signed weights only."""
    return node.op_type != "DequantizeLinear" and _is_int8(stored.get(node.input[2]))


def weights_name(node: onnx.NodeProto) -> str:
    """What the weights that `node` stores are called among those that stay `signed`."""
    return str(node.output[0] if node.op_type == "DequantizeLinear" else node.input[STORED[node.op_type][0]])


def _is_int8(tensor: onnx.TensorProto | None) -> bool:
    return tensor is not None and tensor.data_type == onnx.TensorProto.INT8


def _unsigned(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    return numpy_helper.from_array((numpy_helper.to_array(tensor).astype(np.int16) + 128).astype(np.uint8), name)


def _joined(values: Sequence[Array]) -> Array:
    """One behind the other; those of another size than the first are left out."""
    return np.concatenate([value for value in values if value.shape[1:] == values[0].shape[1:]])
