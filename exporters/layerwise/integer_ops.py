"""A graph of integer operators, with the float tensor that each of them stands for put behind it.

    QLinearConv ── q ── MaxPool          becomes          QLinearConv ── q ── DQ ── f ── Q ── q' ── MaxPool
    Relu ── r_float ── Q ── q ── MaxPool ── DQ ── p       Relu ── r_float ── Q ── q ── DQ ── r ── Q ── q' ── MaxPool ...

q' is q: what is rounded to a grid lies on it. So the graph gives what it gave, and f can be held against the float
graph, or be fed in its place. An operator's grid is among its own inputs; a pool's is that of what it reads. Where the
nodes around integers say several grids, see `agreed_grids`.
Source: ONNX Runtime, docs/ContribOperators.md. Test: tests/test_integer_ops.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import helper

from exporters.graph import Graph, is_standard, keep_module
from exporters.layerwise.agreed_grids import Grid, agreed, moves
from exporters.layerwise.partial import CARRIERS as MOVES
from exporters.quantization.kernels import CARRIERS, CUTTERS, carried_outputs

GRID_INPUTS = {
    "QLinearConv": 6, "QLinearMatMul": 6, "QLinearAdd": 6, "QLinearMul": 6, "QGemm": 7, "QLinearConcat": 0,
    "QLinearAveragePool": 3, "QLinearGlobalAveragePool": 3, "QLinearSigmoid": 3, "QLinearLeakyRelu": 3,
    "QLinearSoftmax": 3, "QLinearReduceMean": 3,
}  # fmt: skip
"""Operators that make integers: which input is the scale of what they make; the next one is its zero point."""


def float_op(op_type: str) -> str:
    """The float operator that an integer one stands for.

    >>> float_op("QLinearConv"), float_op("QGemm"), float_op("Conv")
    ('Conv', 'Gemm', 'Conv')
    """
    return op_type.removeprefix("QLinear").removeprefix("Q") if op_type in GRID_INPUTS else op_type


def with_floats(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` with the floats between its integer operators; `model` itself where it has none of them."""
    found = Graph(model, copied=False)
    if not has_integer_ops(model) and not any(_is_moved(found, node) for node in model.graph.node):
        return model
    graph = Graph(model)
    better = agreed(graph)
    grids: dict[str, Grid] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.proto.node:
        nodes.append(node)
        grid = _grid(node, grids)
        if grid is None:
            continue
        for name in carried_outputs(node):
            grids[name] = grid
            real = better.get(name, grid)
            behind = node.op_type not in MOVES or _is_moved(graph, node)
            if behind and real is not None and not _is_final(graph, name):
                nodes += _there_and_back(graph, node, name, real)
                grids[nodes[-1].output[0]] = real
    del graph.proto.node[:]
    graph.proto.node.extend(nodes)
    return graph.model


def has_integer_ops(model: onnx.ModelProto) -> bool:
    return any(node.op_type in GRID_INPUTS for node in model.graph.node)


def _is_moved(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether `node` rounds to integers that others move.

    Not what a ReLU or Clip cuts: that is on the grid of what these make.
    """
    if not is_standard(node, "QuantizeLinear") or graph.constant(node.input[0]) is not None:
        return False
    readers = graph.consumers[node.output[0]]
    return any(map(moves, readers)) and all(moves(r) or is_standard(r, "DequantizeLinear") for r in readers)


def _grid(node: onnx.NodeProto, known: Mapping[str, Grid]) -> Grid | None:
    """Names of (scale, zero point) of what `node` makes; None where it makes no integers of a known grid."""
    first = 1 if is_standard(node, "QuantizeLinear") else GRID_INPUTS.get(node.op_type)
    if first is not None:
        names = node.input[first : first + 2]
        return (names[0], names[1]) if len(names) == 2 and all(names) else None
    carried = node.op_type in CARRIERS + CUTTERS or is_standard(node, "Concat")
    return known.get(node.input[0]) if carried and node.input else None


def _is_final(graph: Graph, name: str) -> bool:
    """Whether all that read `name` read it as float."""
    return all(is_standard(reader, "DequantizeLinear") for reader in graph.consumers[name])


def _there_and_back(graph: Graph, node: onnx.NodeProto, name: str, grid: Grid) -> list[onnx.NodeProto]:
    """The two nodes behind `name`; all that read it read what they make."""
    real, again = graph.fresh(_real_name(graph, node, name)), graph.fresh(f"{name}_again")
    for reader in graph.consumers[name]:
        for i, read in enumerate(reader.input):
            reader.input[i] = again if read == name else read
    made = [
        helper.make_node("DequantizeLinear", [name, *grid], [real], name=f"{node.name}_float"),
        helper.make_node("QuantizeLinear", [real, *grid], [again], name=f"{node.name}_again"),
    ]
    for each in made:
        keep_module(each, node)
    return made


def _real_name(graph: Graph, node: onnx.NodeProto, name: str) -> str:
    """What the float behind `name` is called: as in the float graph, where `node` rounds what our quantizer hid."""
    hidden = node.input[0].removesuffix("_float") if is_standard(node, "QuantizeLinear") else ""
    return hidden if hidden and hidden != node.input[0] and not graph.taken(hidden) else f"{name}_float"
