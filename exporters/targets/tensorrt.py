"""An int8 graph as TensorRT's provider in ONNX Runtime reads it (what holds for one: tensorrt_check.py).

    x --Q--DQ--> Conv(., DQ(int8 weights), bias f32) -> Relu -> ... -> Add(., DQ(Q(shortcut)))

    q = saturate(round(x / s)) in int8, zero point 0        s = max |x| / 127, one for a tensor; weights: one a channel

TensorRT places its own integer kernels around the pairs that it finds. It takes symmetric int8 only, wants biases in
float (it scales them itself), and fuses a sum into the convolution before it when the other operand comes through a
pair. Pairs stand in front of what they are for: nothing but a DequantizeLinear may read integers.
Source: NVIDIA TensorRT documentation, "Working with Quantized Types"; ONNX Runtime, TensorRT execution provider.
Test: tests/test_tensorrt.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper

from exporters.artifact import RECIPE_KEY
from exporters.graph import Graph, copy_node, label, set_meta
from exporters.layerwise.patterns import Excluding
from exporters.quantization.affine import EIGHT_BITS, Grid, weight_grid
from exporters.quantization.calibration import observe
from exporters.quantization.kernels import COMPUTE, channel_axis, is_float_node, why_not_compute
from exporters.quantization.quantize import Quantized, QuantRecipe, check_patterns, prepare
from runtimes.base import Tensors, Track, silent

PAIR = ("QuantizeLinear", "DequantizeLinear")
FOREIGN = (
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "DynamicQuantizeLinear",
    "QLinearAdd",
    "QGemm",
)
LAYOUT = {"activations": "int8 symmetric", "bias": "float32", "target": "tensorrt", "forms": []}
OTHER = "TensorRT decides: no pair stands in front of it"


def quantize_tensorrt(
    model: onnx.ModelProto,
    feeds: Sequence[Tensors],
    recipe: QuantRecipe,
    *,
    ids: Sequence[str] = (),
    threads: int | None = None,
    track: Track = silent,
) -> Quantized:
    """Quantize the float32 `model` on `feeds` for TensorRT; arguments and errors as `quantize.quantize_model`."""
    model = prepare(model)
    check_patterns(model, recipe.exclude)
    graph = Graph(model)
    compute, kept = _chosen(graph, recipe.exclude)
    if not compute:
        return Quantized(model, recipe, {}, 0, kept)
    watched = _watched(graph, compute)
    seen = observe(
        model, sorted(set(watched.values())), feeds, recipe.calibrator, ids=ids, threads=threads, track=track
    )
    writer = _Writer(graph, watched, seen.ranges, recipe.per_channel, compute)
    nodes = [new for node in list(graph.proto.node) for new in writer.write(copy_node(node))]
    graph.set_nodes(nodes)
    graph.prune()
    described = recipe.to_dict() | {
        "activations": "int8 symmetric",
        "bias": "float32",
        "target": "tensorrt",
        "forms": [],
    }
    set_meta(graph.model, {RECIPE_KEY: json.dumps(described, sort_keys=True)})
    return Quantized(graph.model, recipe, seen.ranges, len(compute), kept, seen)


def _chosen(graph: Graph, exclude: Sequence[str]) -> tuple[frozenset[str], tuple[tuple[str, str], ...]]:
    """(first outputs of the nodes whose weights and inputs become int8, (node, reason) of all other float nodes)."""
    chosen, kept, excluding = set(), [], Excluding(exclude)
    for node in graph.proto.node:
        if node.op_type in COMPUTE:
            pattern = excluding(node)
            reason = f"excluded by {pattern}" if pattern else why_not_compute(graph, node)
            if reason is None:
                chosen.add(node.output[0])
            else:
                kept.append((label(node), reason))
        elif is_float_node(graph, node) and node.op_type not in ("Constant", "Identity"):
            kept.append((label(node), OTHER))
    return frozenset(chosen), tuple(kept)


def _watched(graph: Graph, compute: frozenset[str]) -> dict[str, str]:
    """ "node output/place" of every operand that gets a pair -> the tensor it reads."""
    found = {f"{name}/0": graph.producer[name].input[0] for name in graph.producer if name in compute}
    for node in graph.proto.node:
        if node.op_type == "Add" and len(node.input) == 2:
            makers = [graph.producer.get(name) for name in node.input]
            made = [maker is not None and maker.output[0] in compute for maker in makers]
            for i in (0, 1):
                if made[1 - i] and graph.constant(node.input[i]) is None and not all(made):
                    found[f"{node.output[0]}/{i}"] = node.input[i]
    return found


@dataclass
class _Writer:
    graph: Graph
    watched: Mapping[str, str]
    ranges: Mapping[str, tuple[float, float]]
    per_channel: bool
    compute: frozenset[str]
    pairs: dict[str, str] = field(default_factory=dict)
    weights: dict[tuple[str, int | None], str] = field(default_factory=dict)

    def write(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """`node` (a copy, to be edited) behind the pairs that it reads through."""
        before: list[onnx.NodeProto] = []
        for i, name in enumerate(node.input):
            if node.output and self.watched.get(f"{node.output[0]}/{i}") == name:
                node.input[i] = self.pair(name, before)
        if node.output and node.output[0] in self.compute:
            node.input[1] = self.weight(node, before)
        return [*before, node]

    def pair(self, name: str, before: list[onnx.NodeProto]) -> str:
        if name not in self.pairs:
            low, high = self.ranges[name]
            scale, zero = self.grid(symmetric(low, high), name)
            integers, out = self.graph.fresh(f"{name}_quantized"), self.graph.fresh(f"{name}_dequantized")
            before.append(helper.make_node(PAIR[0], [name, scale, zero], [integers], name=f"{name}/{PAIR[0]}"))
            before.append(helper.make_node(PAIR[1], [integers, scale, zero], [out], name=f"{name}/{PAIR[1]}"))
            self.pairs[name] = out
        return self.pairs[name]

    def weight(self, node: onnx.NodeProto, before: list[onnx.NodeProto]) -> str:
        name, axis = node.input[1], channel_axis(node) if self.per_channel else None
        if (name, axis) not in self.weights:
            value = self.graph.constant(name)
            assert value is not None
            grid = weight_grid(value, axis)
            stored = self.graph.add_constant(grid.quantize(value), f"{name}_int8")
            out = self.weights[name, axis] = self.graph.fresh(f"{name}_dequantized")
            made = helper.make_node(PAIR[1], [stored, *self.grid(grid, name)], [out], name=f"{name}/{PAIR[1]}")
            if axis is not None:
                made.attribute.append(helper.make_attribute("axis", axis))
            before.append(made)
        return self.weights[name, axis]

    def grid(self, grid: Grid, name: str) -> tuple[str, str]:
        return (
            self.graph.add_constant(grid.scale, f"{name}_scale"),
            self.graph.add_constant(grid.zero_point, f"{name}_zero_point"),
        )


def symmetric(low: float, high: float) -> Grid:
    """The int8 grid with zero point 0 that holds [low, high]; scale 1 for a tensor that is always zero.

    >>> float(symmetric(-1.27, 0.5).scale).__round__(6)
    0.01
    """
    scale = np.float32(max(abs(low), abs(high)) / EIGHT_BITS)
    scale = scale if scale >= np.finfo(np.float32).tiny else np.float32(1)
    return Grid(np.asarray(scale), np.asarray(0, np.int8))
