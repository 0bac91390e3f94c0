"""A static check of any QDQ graph: what TensorRT's provider in ONNX Runtime would refuse, or leave out of int8.

    int8, zero point 0 | one scale an activation | scales along output channels | float biases | integers go to DQ only

Source: NVIDIA TensorRT documentation, "Working with Quantized Types"; ONNX Runtime, TensorRT execution provider.
Test: tests/test_tensorrt.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx

from exporters.graph import Graph, attributes, label, nodes_within, opset
from exporters.quantization.kernels import COMPUTE, channel_axis

PAIR = ("QuantizeLinear", "DequantizeLinear")
FOREIGN = (
    "QLinearConv", "QLinearMatMul", "QLinearAdd", "QGemm", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing that TensorRT's provider would refuse or not run in int8."""

    node: str
    problem: str

    def __str__(self) -> str:
        return f"{self.node}: {self.problem}"


def check_tensorrt(model: onnx.ModelProto) -> list[Finding]:
    """What in `model` TensorRT's provider would refuse or leave out of int8; empty when nothing is."""
    graph = Graph(model)
    found = list(_body_findings(graph))
    for node in graph.proto.node:
        if node.op_type in PAIR:
            found += [Finding(label(node), problem) for problem in _pair_problems(graph, node, opset(model))]
        elif node.op_type in FOREIGN:
            found.append(Finding(label(node), f"{node.op_type} is an integer operator of another runtime; use pairs"))
        elif node.op_type in COMPUTE:
            found += [Finding(label(node), problem) for problem in _compute_problems(graph, node)]
    return found


def _body_findings(graph: Graph) -> Iterator[Finding]:
    top = {id(node) for node in graph.proto.node}
    for node in nodes_within(graph.proto.node):
        if id(node) not in top and node.op_type in PAIR:
            yield Finding(label(node), "is inside a body; pairs are looked for in the main graph")


def _pair_problems(graph: Graph, node: onnx.NodeProto, version: int) -> Iterator[str]:
    scale, zero = (graph.constant(name) if name else None for name in [*node.input, ""][1:3])
    if scale is None:
        yield "its scale is not a constant"
        return
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        yield "its scale is not a positive number"
    weights = node.op_type == PAIR[1] and graph.constant(node.input[0]) is not None
    if zero is None or not len(node.input) > 2:
        yield "it has no zero point, which stands for uint8; give an int8 zero"
    elif zero.dtype == np.int32:
        yield "it dequantizes int32, a bias; biases stay float"
    elif zero.dtype != np.int8:
        yield f"its integers are {zero.dtype}; only int8 is taken"
    elif zero.any():
        yield f"its zero point is {int(zero.ravel()[np.flatnonzero(zero)[0]])}; only 0 is taken"
    if scale.size > 1 and not weights:
        yield f"an activation has {scale.size} scales; only one is taken"
    if scale.size > 1 and version < 13:
        yield f"scales per channel need operator set 13, and this is {version}"
    if node.op_type == PAIR[0]:
        yield from _reader_problems(graph, node)


def _reader_problems(graph: Graph, node: onnx.NodeProto) -> Iterator[str]:
    """The integers of a QuantizeLinear go to DequantizeLinears of the same grid, and nowhere else."""
    if node.output[0] in graph.outputs:
        yield "its integers are an output of the model"
    for reader in graph.consumers.get(node.output[0], []):
        if reader.op_type != PAIR[1]:
            yield f"{reader.op_type} {label(reader)} reads its integers; only DequantizeLinear may"
        elif not all(_same(graph, a, b) for a, b in zip(node.input[1:], reader.input[1:], strict=False)):
            yield f"{label(reader)} reads its integers on another grid"


def _same(graph: Graph, one: str, other: str) -> bool:
    a, b = graph.constant(one), graph.constant(other)
    return one == other or (a is not None and b is not None and np.array_equal(a, b))


def _compute_problems(graph: Graph, node: onnx.NodeProto) -> Iterator[str]:
    makers = [graph.producer.get(name) for name in node.input]
    pairs = [maker is not None and maker.op_type == PAIR[1] for maker in makers]
    if len(pairs) > 1 and pairs[0] != pairs[1]:
        yield f"its {'input' if pairs[0] else 'weights'} alone {'is' if pairs[0] else 'are'} quantized; both or neither"
    if len(pairs) > 2 and pairs[2]:
        yield "its bias is quantized; biases stay float"
    weight = makers[1] if len(pairs) > 1 and pairs[1] else None
    if weight is not None and (scale := graph.constant(weight.input[1])) is not None and scale.size > 1:
        axis = attributes(weight).get("axis", 1)
        if axis != channel_axis(node):
            yield f"its weights are scaled along axis {axis}, not along its output channels ({channel_axis(node)})"
