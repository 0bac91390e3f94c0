"""Shapes and types of activations, worked out only when a fold depends on one, and without copying weights.

A constant (C, 1, 1) may widen what it is added to: only the shape of the other operand tells. ONNX's shape inference
serializes the model, so it is given one whose large tensors are inputs of the same type and shape.
Source: ONNX, "Broadcasting in ONNX". Test: tests/test_fold_bodies.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import onnx
from onnx import helper

from exporters.graph import attributes, is_standard, nodes_within

SMALL = 1024
"""Tensors of at most this many elements stay: a Reshape's target is one of them."""

Shape = tuple[int | None, ...]
T = TypeVar("T")


class Inferred(NamedTuple):
    """Name -> sizes (None where open) of every tensor whose rank is known, and name -> element type, a
    `TensorProto.DataType`, where that is known; names that two bodies use for different things are left out.
    """

    shapes: dict[str, Shape]
    kinds: dict[str, int]


def inferred(model: onnx.ModelProto) -> Inferred:
    """What shape inference, run once, says of the tensors of `model`."""
    tensors = _tensors(model)
    sizes: list[tuple[str, Shape]] = [
        (name, tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim))
        for name, kind in tensors
        if kind.HasField("shape")
    ]
    return Inferred(_agreed(sizes), _agreed([(name, kind.elem_type) for name, kind in tensors if kind.elem_type]))


def _tensors(model: onnx.ModelProto) -> list[tuple[str, onnx.TypeProto.Tensor]]:
    """(name, type) of every tensor, once for each graph that says or implies it."""
    try:
        known = onnx.shape_inference.infer_shapes(_without_weights(model))
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        known = model
    return [
        (value.name, value.type.tensor_type)
        for graph in _graphs(known.graph)
        for value in (*graph.input, *graph.output, *graph.value_info)
        if value.type.HasField("tensor_type")
    ]


def _agreed(found: Sequence[tuple[str, T]]) -> dict[str, T]:
    known: dict[str, T] = {}
    twice = {name for name, value in found if known.setdefault(name, value) != value}
    return {name: value for name, value in known.items() if name not in twice}


def _graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    inner = [a for node in nodes_within(graph.node) for a in node.attribute]
    return [graph, *(body for a in inner for body in ([a.g] if a.type == onnx.AttributeProto.GRAPH else a.graphs))]


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto(ir_version=max(model.ir_version, 4))
    copy.opset_import.extend(model.opset_import)
    copy.functions.extend(model.functions)
    graph, given = copy.graph, {value.name for value in model.graph.input}
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= SMALL:
            graph.initializer.add().CopyFrom(tensor)
        elif tensor.name not in given:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    for node in model.graph.node:
        value = attributes(node).get("value") if is_standard(node, "Constant") else None
        if isinstance(value, onnx.TensorProto) and math.prod(value.dims) > SMALL:
            graph.input.append(helper.make_tensor_value_info(node.output[0], value.data_type, value.dims))
        else:
            graph.node.add().CopyFrom(node)
    return copy
