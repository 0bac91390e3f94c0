"""What 8 bits alone cost: the float graph with every tensor that int8 puts on a grid rounded to a grid of its own."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import helper

from exporters.graph import Graph, copy_node
from exporters.quantization import placement
from exporters.quantization.affine import Grid, activation_grid, weight_grid
from exporters.quantization.calibration import observe
from exporters.quantization.kernels import COMPUTE, channel_axis
from runtimes.base import Tensors


def rounded(model: onnx.ModelProto, feeds: Sequence[Tensors], forms: Sequence[str] = ()) -> onnx.ModelProto:
    """`model`, whose input is `x`, with a uint8 pair behind all that its plan puts on grids, and int8 weights."""
    plan, graph = placement.plan(model, (), forms), Graph(model)
    ranges = observe(model, [*plan.grids], feeds).ranges
    nodes: list[onnx.NodeProto] = []

    def pair(source: str, target: str, grid: Grid) -> None:
        numbers = [graph.add_constant(value, f"{target}_grid") for value in (grid.scale, grid.zero_point)]
        nodes.append(helper.make_node("QuantizeLinear", [source, *numbers], [f"{target}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{target}_q", *numbers], [target]))

    if "x" in plan.grids:
        pair("x", "x_rounded", activation_grid(*ranges["x"]))
    for node in map(copy_node, graph.proto.node):
        node.input[:] = ["x_rounded" if name == "x" and "x" in plan.grids else name for name in node.input]
        if node.op_type in COMPUTE and node.output[0] in plan.int8:
            weight = graph.constant(node.input[1])
            grid = weight_grid(weight, channel_axis(node))
            node.input[1] = graph.add_constant(grid.dequantize(grid.quantize(weight)), f"{node.output[0]}_weight")
        nodes.append(node)
        for i, name in enumerate(node.output):
            if name in plan.grids:
                node.output[i] = f"{name}_float"
                pair(node.output[i], name, activation_grid(*ranges[name]))
    graph.set_nodes(nodes)
    return graph.model
