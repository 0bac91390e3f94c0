"""What stays float in an int8 graph really runs in float: a no-op behind a layer keeps ONNX Runtime from quantizing it.

    --DQ--> Conv --> Relu --Q-->                    ONNX Runtime puts the float weights on an int8 grid of its own, one
                                                    for all channels (WeightBiasQuantization), and runs QLinearConv:
                                                    inexact where accuracy was asked for, slow where float was faster
    --DQ--> Conv --> LeakyRelu(1) --> Relu --Q-->   x < 0 ? 1 x : x = x: the pattern is gone, the kernel fuses the
                                                    activation, and every runtime computes the same

Only a Conv, ConvTranspose or Gemm that reads integers and is read by one Quantize alone, perhaps through a ReLU or Clip
that the grid makes superfluous, is in danger. Test: tests/test_stay_float.py (oracle: the kernels that ran).
"""

from __future__ import annotations

import onnx
from onnx import helper

from exporters.graph import Graph, is_standard, keep_module, label

IN_DANGER = ("Conv", "ConvTranspose", "Gemm")
SWALLOWED = ("Relu", "Clip", "Identity")
"""What ONNX Runtime takes out or for the grid's work."""


def stay_float(graph: Graph) -> int:
    """Put the no-op behind every float layer of `graph` that needs it; how many these were."""
    nodes: list[onnx.NodeProto] = []
    for node in graph.proto.node:
        nodes.append(node)
        if in_danger(graph, node):
            nodes.append(_guard(graph, node))
    added = len(nodes) - len(graph.proto.node)
    if added:
        graph.set_nodes(nodes)
    return added


def in_danger(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether ONNX Runtime would quantize the float layer `node` by itself."""
    if not any(is_standard(node, op) for op in IN_DANGER) or not _from_integers(graph, node.input[0]):
        return False
    if _from_integers(graph, node.input[1]):
        return False
    reader = graph.only_consumer(node.output[0])
    while reader is not None and reader.op_type in SWALLOWED:
        reader = graph.only_consumer(reader.output[0])
    return reader is not None and reader.op_type == "QuantizeLinear"


def _from_integers(graph: Graph, name: str) -> bool:
    producer = graph.producer.get(name)
    return producer is not None and producer.op_type == "DequantizeLinear"


def _guard(graph: Graph, node: onnx.NodeProto) -> onnx.NodeProto:
    """A LeakyRelu of slope 1 that makes what `node` made; `node` gets another output."""
    name = node.output[0]
    node.output[0] = graph.fresh(f"{name}_before")
    guard = helper.make_node("LeakyRelu", [node.output[0]], [name], f"{label(node)}/stays_float", alpha=1.0)
    keep_module(guard, node)
    return guard
