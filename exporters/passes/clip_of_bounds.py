"""The larger of a tensor and a number, and the smaller of that and another, are one Clip.

    Min(Max(x, a), b)  =  Clip(x, a, b)   for a <= b        Max(x, 0)  =  Relu(x)

PyTorch writes `x.clamp(a, b)` so. ONNX Runtime has no integer kernels for Max and Min of floats, and merges a Relu or
Clip with the convolution in front of it. Exact for all numbers. Left alone: numbers that are not constant or would
enlarge the tensor, types other than float32, operator sets before 12.
Source: ONNX operator specification, Clip. Test: tests/test_clip_of_bounds.py.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from exporters.base import Change, PassResult
from exporters.graph import Graph, copy_node, is_standard, label, opset
from exporters.quantization.kernels import cut
from exporters.shape_inference import Types, shape_of, tensor_types

OLDEST_OPSET = 12
"""From which on the ends of a Clip are inputs."""


def run(model: onnx.ModelProto) -> PassResult:
    """Replace every Max and Min of a float32 tensor and one constant number; a Min behind a Max is one with it."""
    graph = Graph(model)
    names = [n.output[0] for n in graph.proto.node if any(is_standard(n, op) for op in ("Max", "Min"))]
    types = tensor_types(model) if names and opset(model) >= OLDEST_OPSET else {}
    changes: list[Change] = []
    for name in names:
        node = graph.producer[name]
        found = _bound(graph, node, types)
        if found is not None:
            what = _write(graph, node, *found)
            changes.append(Change(label(node), f"{node.op_type} with a number is {what}"))
    return PassResult(graph.model, tuple(changes))


def _bound(graph: Graph, node: onnx.NodeProto, types: Types) -> tuple[str, float] | None:
    """(the tensor, the number) of a Max or Min of these two."""
    if len(node.input) != 2:
        return None
    for side in (0, 1):
        value, name = graph.constant(node.input[side]), str(node.input[1 - side])
        kind, shape = types.get(name), shape_of(types.get(name))
        if value is None or value.size != 1 or np.isnan(value).any() or graph.constant(name) is not None:
            continue
        if kind is not None and kind.elem_type == TensorProto.FLOAT and shape is not None and value.ndim <= len(shape):
            return name, float(value.reshape(()))
    return None


def _write(graph: Graph, node: onnx.NodeProto, source: str, bound: float) -> str:
    """Put a Relu or Clip in the place of `node`; returns what it is now."""
    gone, ends = [node], (bound, np.inf) if node.op_type == "Max" else (-np.inf, bound)
    before = graph.producer.get(source)
    if node.op_type == "Min" and before is not None and graph.only_consumer(source) is node:
        low = _lower_end(graph, before)
        if low is not None and low <= bound:
            gone, source, ends = [before, node], before.input[0], (low, bound)
    behind = [name for old in gone for name in old.input if name != source]
    made = copy_node(node)
    made.op_type, made.input[:] = "Relu" if ends == (0.0, np.inf) else "Clip", [source]
    if made.op_type == "Clip":  # an end that is left out is the largest number, which is less than infinity
        made.input.extend(graph.add_constant(np.array(end, np.float32), f"{made.output[0]}_end") for end in ends)
    graph.replace(gone, [made])
    graph.drop_unread(behind)
    return str(made.op_type)


def _lower_end(graph: Graph, node: onnx.NodeProto) -> float | None:
    """The number below which `node` lets nothing through, if that is all that it does."""
    ends = cut(graph, node)
    return ends[0] if ends is not None and ends[1] == np.inf else None
