"""Reshape, Flatten, Squeeze and Unsqueeze in a row are one Reshape, or nothing.

    x (N, 64, 1, 1) -> Squeeze -> (N, 64) -> Reshape -> (N, 8, 8)   =   x -> Reshape to (-1, 8, 8)

All of them leave the numbers in order, so only the last shape counts. It must be known up to one open size (the batch),
which is then -1; a shape of none elements would make that ambiguous, and stays. Exact: no number is touched.
Source: ONNX operator specification, Reshape. Test: tests/test_merge_reshapes.py.
"""

from __future__ import annotations

import numpy as np
import onnx

from exporters.base import Change, Kept, PassResult
from exporters.bypass import bypass
from exporters.graph import Graph, is_standard, label, opset
from exporters.shape_inference import Shape, Types, shape_of, tensor_types

IN_ORDER = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def run(model: onnx.ModelProto) -> PassResult:
    """Merge every chain whose inner tensors nobody else reads; what has to stay is in `kept` with the reason."""
    graph = Graph(model)
    outputs = [node.output[0] for node in graph.proto.node if _in_order(node)]
    if len(outputs) < 2 or opset(model) < 5:  # before, the shape was an attribute
        return PassResult(graph.model)
    types = tensor_types(model)
    changes: list[Change] = []
    kept: list[Kept] = []
    for output in outputs:
        node = graph.producer.get(output)
        first = graph.producer.get(node.input[0]) if node is not None else None
        if node is None or first is None or not _in_order(first):
            continue
        name, reason = label(first), _merge(graph, first, node, types)
        if reason:
            kept.append(Kept(label(node), reason))
        else:
            changes.append(Change(label(node), f"merged with {first.op_type} {name}"))
    return PassResult(graph.model, tuple(changes), tuple(kept))


def target(shape: Shape | None) -> list[int] | None:
    """What a Reshape to `shape` must be told; None where that cannot be said without knowing more.

    >>> target((None, 8, 8)), target((2, 3)), target((None, None)), target((None, 0))
    ([-1, 8, 8], [2, 3], None, None)
    """
    if shape is None or shape.count(None) > 1 or 0 in shape:
        return None
    return [-1 if size is None else size for size in shape]


def _in_order(node: onnx.NodeProto) -> bool:
    return any(is_standard(node, op) for op in IN_ORDER)


def _merge(graph: Graph, first: onnx.NodeProto, node: onnx.NodeProto, types: Types) -> str:
    """Make `node` do the work of both; returns why that cannot be, and then nothing was changed."""
    if graph.only_consumer(node.input[0]) is not node:
        return f"the output of {first.op_type} {label(first)} {graph.why_not_only(node.input[0])}"
    if any(graph.constant(name) is None for n in (first, node) for name in n.input[1:] if name):
        return "the shape is computed"
    sizes = target(shape_of(types.get(node.output[0])))
    if sizes is None:
        return "more than one size of the result is open"
    source, old = first.input[0], [*first.input[1:], *node.input[1:]]
    before = shape_of(types.get(source))
    if before is not None and target(before) == sizes and not bypass(graph, node, source):
        graph.replace([graph.producer[first.output[0]]], [])
        graph.drop_unread(old)
        return ""
    _write(graph, first, node, sizes)
    graph.drop_unread(old)
    return ""


def _write(graph: Graph, first: onnx.NodeProto, node: onnx.NodeProto, sizes: list[int]) -> None:
    node.op_type = "Reshape"
    del node.attribute[:]
    del node.input[:]
    node.input.extend([first.input[0], graph.add_constant(np.array(sizes, np.int64), f"{node.output[0]}.shape")])
    graph.forget(first.output[0])
    graph.replace([first], [])
