"""The tail of a detector: what turns the numbers of its last layers into boxes and scores, and has to stay float.

    image -> Conv -> ... -> Conv -> Reshape, Concat, Add, Mul ... -> NonMaxSuppression -> boxes
             body: 8 bits           tail: float

256 steps for coordinates from 0 to 600 are 2.4 pixels each, and one grid for a Concat of boxes (0..600) and scores
(0..1) rounds every score to zero. A node belongs to the tail when none of its values reaches another convolution or
matrix product. Coordinates do not count as values: of RoiAlign(features, boxes) and Gather(data, indices) the first
input goes on into the body, the second comes from a tail in the middle of the graph (a region proposal network's).
Graphs without NonMaxSuppression have no tail. Test: tests/test_tail.py.
"""

from __future__ import annotations

import onnx

from exporters.graph import Graph

REASON = "boxes and scores are decoded in float: 256 steps are too few for coordinates"
ENDS = frozenset(["NonMaxSuppression", "NonZero", "TopK", "ArgMax", "ArgMin", "Shape", "Size"])
"""What these give is places or sizes, not values."""
FIRST_ONLY = frozenset([
    "RoiAlign", "MaxRoiPool", "Gather", "GatherElements", "GatherND", "Reshape", "Slice", "Resize", "Expand", "Tile",
    "Unsqueeze", "Squeeze", "Pad", "Split",
])  # fmt: skip


def tail_of(graph: Graph, compute: tuple[str, ...]) -> frozenset[str]:
    """What is `behind` the nodes of the kinds `compute` in a detector; nothing in other networks."""
    detects = any(node.op_type == "NonMaxSuppression" for node in graph.proto.node)
    return behind(graph, compute) if detects else frozenset()


def behind(graph: Graph, compute: tuple[str, ...]) -> frozenset[str]:
    """First outputs of the nodes from which no value reaches a node of the kinds `compute`."""
    nodes = [node for node in graph.proto.node if node.output]
    body: set[str] = set()
    waiting = [node for node in nodes if node.op_type in compute]
    while waiting:
        node = waiting.pop()
        if node.output[0] in body:
            continue
        body.add(node.output[0])
        makers = (graph.producer.get(name) for name in _values(node) if name)
        waiting += [maker for maker in makers if maker is not None and maker.op_type not in ENDS]
    return frozenset(node.output[0] for node in nodes if node.output[0] not in body)


def _values(node: onnx.NodeProto) -> list[str]:
    return list(node.input[:1] if node.op_type in FIRST_ONLY else node.input)
