"""A ReLU or Clip behind a MaxPool goes in front of it, where the grid of the layer before it does its work for nothing.

    relu(max(a, b, ...))  =  max(relu(a), relu(b), ...)          any function that never falls commutes with max

Behind the pool it stays a float operator between two grids; in front it costs no operator, and the grid does not spend
steps on values below zero. Bit-exact. Acts when the pool reads a convolution or a sum (Add), through nothing else.
Refused: a pool that returns indices, that others read, or whose windows may lie in the padding (ceil_mode), where the
maximum of nothing is not the ReLU of it. Test: tests/test_relu_before_pool.py.
"""

from __future__ import annotations

import onnx

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, attributes, label
from exporters.searching.blocks import activation_behind, nodes_of

RISING = ("Relu", "Clip")


def run(model: onnx.ModelProto) -> PassResult:
    """Swap every MaxPool behind a convolution or a sum with the ReLU or Clip that follows; refusals are in `kept`."""
    graph = Graph(model)
    changes: list[Change] = []
    kept: list[Kept] = []
    for name in nodes_of(graph, "MaxPool"):
        pool = graph.producer[name]
        maker = graph.producer.get(pool.input[0])
        after = activation_behind(graph, name)
        if maker is None or maker.op_type not in ("Conv", "Add") or after is None or after.op_type not in RISING:
            continue
        reason = _why_not(graph, pool)
        if reason:
            kept.append(Kept(label(after), reason))
        else:
            graph.swap(pool, after, f"{after.output[0]}.before")
            changes.append(Change(label(after), f"in front of {label(pool)}"))
    return PassResult(graph.model, tuple(changes), tuple(kept))


def _why_not(graph: Graph, pool: onnx.NodeProto) -> str:
    if len(pool.output) > 1 and any(pool.output[1:]):
        return "the pool returns indices"
    if graph.only_consumer(pool.input[0]) is None:
        return f"what the pool reads {graph.why_not_only(pool.input[0])}"
    return "the pool may have windows of padding alone" if attributes(pool).get("ceil_mode", 0) else ""
