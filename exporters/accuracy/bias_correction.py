"""Bias correction: rounding shifts the mean of a layer's outputs; the shift is measured and taken off the bias.

    b'  =  b  -  E[ W^ * Q(x) + b  -  (W * x + b) ]        W^: weights on their grid; Q: the input's grid; * convolution

The expectation runs over the positions and images of the calibration, channel by channel, with the float network's own
x: each layer makes up for its own rounding of weights and of input, so that the next layer's input has the right mean
and errors are not counted twice. It is measured, not derived from W^ - W alone, because clipped ranges and zero padding
shift means too. Every layer's convolution runs twice in one session and only its means come out.
Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2;
Finkelstein et al. 2019, "Fighting Quantization Bias With Bias". Test: tests/test_bias_correction.py.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from exporters.accuracy._work import Outcome, Work, bias_of, grid_of, layers, set_bias
from exporters.base import Change, Kept
from exporters.graph import Graph, copy_node, label
from exporters.quantization import placement
from exporters.quantization.affine import Grid
from exporters.quantization.kernels import COMPUTE
from runtimes.base import Array, Track, silent
from runtimes.session import open_session

MIN_GAIN_DB = 0.02
"""It costs nothing at run time."""


def run(work: Work, *, seconds: float, threads: int | None = None, track: Track = silent) -> Outcome:
    plan = work.plan()
    probe, probed, kept = _probe(work, plan)
    if not probed:
        return Outcome(work, (), kept)
    session = open_session(probe.model, threads=threads)
    sums = dict.fromkeys(probed, 0.0)
    for feed in track(work.images, "measuring shifts"):
        means = session(feed)
        for name in probed:
            value = means[probed[name]].astype(np.float64)
            sums[name] = sums[name] + value.reshape(*value.shape[:2], -1).mean(axis=(0, 2))
    graph = Graph(work.model)
    changes = []
    for node in layers(graph, plan):
        if node.output[0] in probed:
            shift = np.asarray(sums[node.output[0]]) / len(work.images)
            changes.append(_corrected(graph, node, shift))
    return Outcome(work.with_model(graph.model), tuple(changes), kept)


def _corrected(graph: Graph, node: onnx.NodeProto, shift: Array) -> Change:
    bias = bias_of(graph, node)
    set_bias(graph, node, (np.zeros(len(shift)) if bias is None else bias) - shift)
    return Change(label(node), f"bias moved by up to {float(np.abs(shift).max()):.3g}")


def _probe(work: Work, plan: placement.Plan) -> tuple[Graph, dict[str, str], tuple[Kept, ...]]:
    """A float graph whose outputs are the mean shifts of each layer: {layer's output: name of its shift}."""
    graph = Graph(work.model)
    grids = work.grids(plan)
    probed: dict[str, str] = {}
    kept: list[Kept] = []
    nodes: list[onnx.NodeProto] = []
    inputs: dict[str, str] = {}
    for node in [copy_node(n) for n in graph.proto.node]:
        nodes.append(node)
        if node.op_type not in COMPUTE or node.output[0] not in plan.int8:
            continue
        if node.op_type == "MatMul":
            kept.append(Kept(label(node), "a MatMul has no bias"))
            continue
        source = node.input[0]
        if source not in inputs:
            inputs[source] = graph.fresh(f"{source}_on_grid")
            nodes += _through_grid(graph, inputs[source], source, grids[source])
        probed[node.output[0]] = graph.fresh(f"{node.output[0]}_shift")
        grid = grid_of(graph, node, grids, work.recipe)
        nodes += _twin(graph, node, inputs[source], probed[node.output[0]], grid)
    graph.set_nodes(nodes)
    del graph.proto.output[:]
    shown = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in probed.values()]
    graph.proto.output.extend(shown)
    graph.reindex()
    graph.prune()
    return graph, probed, tuple(kept)


def _through_grid(graph: Graph, target: str, source: str, grid: Grid) -> list[onnx.NodeProto]:
    scale = graph.add_constant(grid.scale, f"{target}_scale")
    zero = graph.add_constant(grid.zero_point, f"{target}_zero")
    middle = graph.fresh(f"{target}_integer")
    return [
        helper.make_node("QuantizeLinear", [source, scale, zero], [middle]),
        helper.make_node("DequantizeLinear", [middle, scale, zero], [target]),
    ]


def _twin(graph: Graph, node: onnx.NodeProto, source: str, target: str, grid: Grid) -> list[onnx.NodeProto]:
    """The same layer on rounded weights and rounded input, minus the layer itself, averaged over positions."""
    weight = graph.constant(node.input[1])
    assert weight is not None
    twin = copy_node(node)
    twin.name = ""
    twin.input[0] = source
    twin.input[1] = graph.add_constant(grid.dequantize(grid.quantize(weight)), f"{target}_weight")
    twin.output[0] = graph.fresh(f"{target}_twin")
    if node.op_type == "Gemm":
        return [twin, helper.make_node("Sub", [twin.output[0], node.output[0]], [target])]
    apart = graph.fresh(f"{target}_apart")
    return [
        twin,
        helper.make_node("Sub", [twin.output[0], node.output[0]], [apart]),
        helper.make_node("GlobalAveragePool", [apart], [target]),
    ]
