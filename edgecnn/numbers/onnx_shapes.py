"""The shape of every tensor of an ONNX graph for one size of input, without running it.

    open batch -> 1 (or as given) -> shape inference -> sizes computed in the graph -> shape inference -> ...

onnx's own inference stops at a Reshape whose target is computed (Shape, Gather, Concat), which is how every exporter
writes a Flatten with a free batch. With the input sizes known, those few integers are computed here and put in as
constants, until nothing new comes out. Only the first dimension of an input can be a batch: any other open size stays
open, and with it every shape that follows from it. Test: tests/test_inspect.py.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgecnn.numbers.inspection import Sizes
from edgecnn.numbers.integer_shapes import with_standard_operators
from exporters.shape_inference import infer
from runtimes.base import Array

SIZE_OPS = {
    "Add", "Cast", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand", "Gather", "Identity", "Mod",
    "Mul", "Range", "ReduceProd", "Reshape", "Shape", "Size", "Slice", "Squeeze", "Sub", "Unsqueeze", "Where",
}  # fmt: skip
MOST_SIZES = 64
"""Elements of a tensor that can be a list of sizes; larger ones are data."""
MOST_ROUNDS = 200


def shapes_of(model: onnx.ModelProto, given: Mapping[str, Sizes]) -> dict[str, tuple[Sizes, int]]:
    """Tensor name -> (sizes, element type) of every tensor whose shape follows from the inputs' sizes."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    with_standard_operators(copy)
    constants = {tensor.name for tensor in copy.graph.initializer}
    for value in copy.graph.input:
        if value.name not in constants:
            _fix(value, given.get(value.name))
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")  # a symbol written there would hide the number that is inferred
    found = _inferred(copy)
    for _ in range(MOST_ROUNDS):
        if not _compute_sizes(copy, found):
            break
        found = found | _inferred(copy)
    return found


def _fix(value: onnx.ValueInfoProto, sizes: Sizes | None) -> None:
    for i, dim in enumerate(value.type.tensor_type.shape.dim):
        if sizes is not None and i < len(sizes):
            dim.dim_value = sizes[i]
        elif i == 0 and not dim.HasField("dim_value"):
            dim.dim_value = 1


def _inferred(model: onnx.ModelProto) -> dict[str, tuple[Sizes, int]]:
    graph = infer(model).graph
    found = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            found[value.name] = (tuple(dim.dim_value for dim in tensor.shape.dim), tensor.elem_type)
    return found | {t.name: (tuple(t.dims), t.data_type) for t in graph.initializer}


def _compute_sizes(model: onnx.ModelProto, shapes: Mapping[str, tuple[Sizes, int]]) -> bool:
    """Replace each node of `model` that only computes sizes, all of them known, by its value; False if none was."""
    known = {t.name: t for t in model.graph.initializer if math.prod(t.dims) <= MOST_SIZES}
    done = []
    for node in model.graph.node:
        value = _value(node, model, known, shapes)
        if value is not None and value.size <= MOST_SIZES:
            model.graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
            known[node.output[0]] = model.graph.initializer[-1]
            done.append(node)
    for node in done:
        model.graph.node.remove(node)
    return bool(done)


def _value(
    node: onnx.NodeProto,
    model: onnx.ModelProto,
    known: Mapping[str, onnx.TensorProto],
    shapes: Mapping[str, tuple[Sizes, int]],
) -> Array | None:
    if node.op_type not in SIZE_OPS or node.domain not in ("", "ai.onnx") or len(node.output) != 1:
        return None
    if node.op_type in ("Shape", "Size") and node.input[0] in shapes:  # the shape is enough: no memory for the tensor
        feeds: dict[str, Array] = {node.input[0]: np.broadcast_to(np.float32(0), shapes[node.input[0]][0])}
    elif all(name in known for name in node.input if name):
        feeds = {name: numpy_helper.to_array(known[name]) for name in node.input if name}
    else:
        return None
    return _run(node, feeds, model)


def _run(node: onnx.NodeProto, feeds: Mapping[str, Array], model: onnx.ModelProto) -> Array | None:
    """The output of one small node by onnx's reference; None for what that cannot do (the shape stays open)."""
    from onnx.reference import ReferenceEvaluator

    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feeds.items()
    ]
    graph = helper.make_graph([node], "sizes", inputs, [onnx.ValueInfoProto(name=node.output[0])])
    with contextlib.suppress(Exception):
        alone = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
        (value,) = ReferenceEvaluator(alone).run(None, dict(feeds))
        return np.asarray(value)
    return None
