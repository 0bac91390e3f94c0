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

from exporters.base import Change, Kept
from exporters.graph import Graph, copy_node, label
from exporters.quantization import placement
from exporters.quantization.affine import Grid
from exporters.quantization.kernels import COMPUTE
from exporters.quantization.work import Outcome, Work, bias_of, grid_of, layers, set_bias
from runtimes.base import Array, Track, silent
from runtimes.session import open_session

MIN_GAIN_DB = 0.02
"""It costs nothing at run time."""
LARGE_BYTES = 16 * 2**20
"""From this size on rounded weights stay integers in the probe and are read anew for every image: as floats, a network
of fully connected layers would be there four times. Smaller ones are floats, which ONNX Runtime's fast kernels want."""
MOST_BYTES = 2**31 - 1
"""What protobuf serializes."""


def run(work: Work, *, seconds: float, threads: int | None = None, track: Track = silent) -> Outcome:
    plan = work.plan()
    shifts, kept = _shifts(work, plan, threads, track)
    if not shifts:
        return Outcome(work, (), kept)
    graph = Graph(work.model)
    nodes = [node for node in layers(graph, plan) if node.output[0] in shifts]
    before = {label(node): {2: bias_of(graph, node)} for node in nodes}
    changes = tuple(_corrected(graph, node, shifts[node.output[0]]) for node in nodes)
    return Outcome(work.moved(graph.model, before), changes, kept)


def _shifts(
    work: Work, plan: placement.Plan, threads: int | None, track: Track
) -> tuple[dict[str, Array], tuple[Kept, ...]]:
    """{layer's output: mean shift of each channel (channels,)}, and the layers that have none, with the reason."""
    probe, probed, kept = _probe(work, plan)
    if not probed:
        return {}, kept
    session = open_session(probe, threads=threads)
    del probe
    sums: dict[str, Array] = {}
    for feed in track(work.images, "measuring shifts"):
        means = session(feed)
        for name, shown in probed.items():
            value = means[shown].astype(np.float64)
            sums[name] = sums.get(name, 0.0) + value.reshape(*value.shape[:2], -1).mean(axis=(0, 2))
    return {name: total / len(work.images) for name, total in sums.items()}, kept


def _corrected(graph: Graph, node: onnx.NodeProto, shift: Array) -> Change:
    bias = bias_of(graph, node)
    set_bias(graph, node, (np.zeros(len(shift)) if bias is None else bias) - shift)
    return Change(label(node), f"bias moved by up to {float(np.abs(shift).max()):.3g}")


def _probe(work: Work, plan: placement.Plan) -> tuple[bytes, dict[str, str], tuple[Kept, ...]]:
    """A float graph, serialized, whose outputs are the mean shifts of layers; {layer's output: name of its shift}."""
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
    if graph.model.ByteSize() > MOST_BYTES:
        return b"", {}, (Kept("all layers", "the network and its rounded weights are larger than 2 GiB"),)
    return graph.model.SerializeToString(), probed, tuple(kept)


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
    twin = copy_node(node)
    twin.name = ""
    twin.input[0] = source
    twin.input[1], nodes = _rounded(graph, node, target, grid)
    twin.output[0] = graph.fresh(f"{target}_twin")
    if node.op_type == "Gemm":
        if len(twin.input) < 3:  # with one, ONNX Runtime takes no integer kernel, whose sums may saturate
            twin.input.append(graph.add_constant(np.zeros(1, np.float32), f"{target}_no_bias"))
        return [*nodes, twin, helper.make_node("Sub", [twin.output[0], node.output[0]], [target])]
    apart = graph.fresh(f"{target}_apart")
    return [
        *nodes,
        twin,
        helper.make_node("Sub", [twin.output[0], node.output[0]], [apart]),
        helper.make_node("GlobalAveragePool", [apart], [target]),
    ]


def _rounded(graph: Graph, node: onnx.NodeProto, target: str, grid: Grid) -> tuple[str, list[onnx.NodeProto]]:
    """The tensor with the rounded weights of `node`, and the node that makes it where they are large."""
    weight = graph.constant(node.input[1])
    assert weight is not None
    integers = grid.quantize(weight)
    if weight.nbytes < LARGE_BYTES:
        return graph.add_constant(grid.dequantize(integers), f"{target}_weight"), []
    parts = [(integers, "integers"), (grid.scale, "scale"), (grid.zero_point, "zero")]
    names = [graph.add_constant(value, f"{target}_{hint}") for value, hint in parts]
    made = graph.fresh(f"{target}_weight")
    return made, [helper.make_node("DequantizeLinear", names, [made], axis=grid.axis or 0)]
