"""Take a node that hands a tensor on out of a graph, so that its readers read that tensor.

    a -> NODE -> b     every reader of b reads a; when b is an output of the model, a's producer writes b instead

A copy from an input of the model straight to an output stays: it is the only way ONNX has to say that.
Test: tests/test_drop_noops.py, tests/test_merge_transposes.py.
"""

from __future__ import annotations

import onnx

from exporters.graph import Graph


def bypass(graph: Graph, node: onnx.NodeProto, source: str) -> str:
    """Take `node` out, whose first output equals tensor `source`; returns why that cannot be (nothing was changed)."""
    target, behind = node.output[0], list(node.input)
    if target in graph.captured:
        return "its output is read inside a body (If, Loop or Scan)"
    if target not in graph.outputs:
        graph.redirect(target, source)
        graph.replace([graph.producer[target]], [])
        graph.forget(target)
        graph.drop_unread(behind)
        return ""
    if graph.producer.get(source) is None:
        return "it hands an input or a constant of the model to an output"
    if source in graph.outputs or source in graph.captured:
        return "what it copies is itself an output, or read inside a body"
    graph.replace([node], [])
    graph.redirect(source, target)
    maker = graph.producer[source]
    maker.output[list(maker.output).index(source)] = target
    graph.forget(source)
    graph.reindex()
    graph.drop_unread([name for name in behind if name != source])
    return ""
