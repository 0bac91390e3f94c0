"""Turn a ReduceMean over all positions into the GlobalAveragePool that it is.

    mean over axes 2 .. r-1 of (N, C, d2, ...)   =   GlobalAveragePool            keepdims=1
                                                 =   Flatten(GlobalAveragePool)   keepdims=0

torch writes AdaptiveAvgPool2d(1) and x.mean((2, 3)) as ReduceMean, for which ONNX Runtime has no int8 kernel in the
middle of a quantized network; it has QLinearGlobalAveragePool. Both add up the same n numbers in another order, so the
outputs differ by at most 2 (n - 1) u of the mean magnitude (Higham 2002, "Accuracy and Stability of Numerical
Algorithms", section 4.2). Test: tests/test_global_pool.py.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto, helper

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, attributes, copy_node, is_standard, label
from exporters.shape_inference import Shape, shape_of, tensor_types


def run(model: onnx.ModelProto) -> PassResult:
    """Replace every float32 ReduceMean over exactly all positions; the others are in `kept` with the reason."""
    graph = Graph(model)
    means = [node.output[0] for node in graph.proto.node if is_standard(node, "ReduceMean")]
    types = tensor_types(model) if means else {}
    changes: list[Change] = []
    kept: list[Kept] = []
    for output in means:
        node = graph.producer[output]
        reason, shape = _why_not(graph, node, types.get(node.input[0]))
        if reason:
            kept.append(Kept(label(node), reason))
        else:
            _write(graph, node)
            changes.append(Change(label(node), "ReduceMean is a GlobalAveragePool", _bound(shape)))
    return PassResult(graph.model, tuple(changes), tuple(kept))


def _why_not(graph: Graph, node: onnx.NodeProto, kind: onnx.TypeProto.Tensor | None) -> tuple[str, Shape]:
    """The reason to leave `node` alone (empty when there is none), and the shape of what it reads."""
    shape = shape_of(kind)
    if kind is None or shape is None:
        return "the rank of what it reads is unknown", ()
    if kind.elem_type != TensorProto.FLOAT:
        return f"it reads {TensorProto.DataType.Name(kind.elem_type).lower()}, not float32", shape
    axes = _axes(graph, node)
    if axes is None:
        return "its axes are not constant, or it reduces all of them", shape
    if len(shape) < 3 or sorted(axis % len(shape) for axis in axes) != list(range(2, len(shape))):
        return f"it reduces axes {axes} of {len(shape)}, not all positions and nothing else", shape
    return "", shape


def _axes(graph: Graph, node: onnx.NodeProto) -> list[int] | None:
    """The axes: an attribute before opset 18, an input from then on; None when they are unknown or left out."""
    if len(node.input) > 1 and node.input[1]:
        value = graph.constant(node.input[1])
        return None if value is None or value.size == 0 else [int(axis) for axis in value.ravel()]
    return [int(axis) for axis in attributes(node).get("axes", [])] or None


def _write(graph: Graph, node: onnx.NodeProto) -> None:
    """The pool keeps the node's name and metadata; without keepdims a Flatten after it makes the output."""
    keep = bool(attributes(node).get("keepdims", 1))
    pool = copy_node(node)
    pool.op_type = "GlobalAveragePool"
    del pool.attribute[:]
    del pool.input[1:]
    new = [pool]
    if not keep:
        pool.output[0] = graph.fresh(f"{node.output[0]}.pooled")
        flatten = helper.make_node("Flatten", [pool.output[0]], [node.output[0]], f"{label(node)}/Flatten", axis=1)
        flatten.metadata_props.extend(node.metadata_props)
        new.append(flatten)
    axes = list(node.input[1:])
    graph.replace([node], new)
    graph.drop_unread(axes)


def _bound(shape: Shape) -> float:
    """2 (n - 1) u for n positions; infinite when their number is not known."""
    if any(d is None for d in shape[2:]):
        return math.inf
    count = math.prod(d for d in shape[2:] if d is not None)
    return (count - 1) * float(np.finfo(np.float32).eps)
