"""Beginnings of a network that could stay float: the first operators, cut where one tensor goes on.

    image -> [Conv -> HardSwish -> ... ] -> Q -> Conv ...          one boundary, whatever the length

The first layers have few channels and many pixels, where integer kernels gain least. How long the float beginning
should be is measured, not ruled: MobileNetV3 gained 9 % with its first block in float and lost with more. A cut is a
tensor behind which nothing of the beginning is read again, so that exactly one tensor is quantized.
Test: tests/test_prefixes.py.
"""

from __future__ import annotations

import glob

import onnx

from exporters.graph import Graph
from exporters.quantization.kernels import COMPUTE, is_float_node
from exporters.searching.blocks import activation_behind

MOST_COMPUTE = 8


def prefixes(model: onnx.ModelProto, most: int = MOST_COMPUTE) -> tuple[tuple[str, ...], ...]:
    """Patterns for `QuantRecipe.exclude`, shortest beginning first: all nodes of each, at most `most` compute nodes.

    A beginning without a compute node is none, nor is the whole network; each is longer by at least one compute node.
    Empty when the network's nodes have no names, or it has no such cut.
    """
    graph = Graph(model)
    nodes = [node for node in graph.proto.node if node.output and is_float_node(graph, node)]
    if any(not node.name for node in nodes) or not any(node.op_type in COMPUTE for node in nodes):
        return ()
    found: dict[int, tuple[str, ...]] = {}
    for length in range(1, len(nodes)):
        count = sum(node.op_type in COMPUTE for node in nodes[:length])
        if count > most or not any(node.op_type in COMPUTE for node in nodes[length:]):
            break
        if count and _cut(graph, nodes[:length]):  # the longest of its count: behind the pool, the sum, the activation
            found[count] = tuple(glob.escape(node.name) for node in nodes[:length])
    return tuple(found.values())


def _cut(graph: Graph, begin: list[onnx.NodeProto]) -> bool:
    """Whether exactly one tensor of `begin` is read behind it, none is an output, and no activation is cut off."""
    inside = {id(node) for node in begin}
    made = [name for node in begin for name in node.output if name]
    if any(name in graph.outputs or name in graph.captured for name in made):
        return False
    crossing = [name for name in made if any(id(reader) not in inside for reader in graph.consumers[name])]
    inputs_again = any(
        id(reader) not in inside for name in graph.inputs for reader in graph.consumers[name] if name not in made
    )
    return len(crossing) == 1 and not inputs_again and activation_behind(graph, crossing[0]) is None
