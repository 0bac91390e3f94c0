"""Type and shape of every tensor of a model, from its graph and its small constants alone.

Shape inference serializes what it gets; it needs the values of shapes and axes, never those of weights, so large
tensors are shown to it as inputs, and a network of 500 MB is not copied to learn its shapes. Source:
onnx.shape_inference. Test: tests/test_shape_inference.py.
"""

from __future__ import annotations

import onnx
from onnx import helper

from exporters.external import copy_fields
from runtimes.base import BadInput

LEAST_BYTES = 16384
"""No shape, list of axes or list of pads is as large as this."""
LONGEST = 1 << 16
"""No input that holds sizes has as many: onnx keeps a record of each of its numbers where it follows values."""

Shape = tuple[int | None, ...]
Types = dict[str, onnx.TypeProto.Tensor]


def tensor_types(model: onnx.ModelProto, *, data_prop: bool = False) -> Types:
    """Element type and shape of every tensor of the main graph that can be told; `model` is not edited.

    With `data_prop`, shapes that are computed from shapes are followed, too. Raises `BadInput` when onnx cannot infer.
    """
    try:
        inferred = infer(_without_weights(model), data_prop)
    except Exception as error:  # larger than protobuf's limit, or not a valid model
        raise BadInput(f"model: its shapes cannot be inferred ({error}); check it first") from error
    values = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    known = {value.name: value.type.tensor_type for value in values if value.type.HasField("tensor_type")}
    for tensor in model.graph.initializer:
        if tensor.name not in known:
            known[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims).tensor_type
    return known


def infer(model: onnx.ModelProto, data_prop: bool = True) -> onnx.ModelProto:
    """`onnx.shape_inference.infer_shapes` with `data_prop`, but where that takes memory for each number of a row."""
    rows = (value.type.tensor_type.shape.dim for value in model.graph.input)
    long = any(len(dims) == 1 and dims[0].dim_value > LONGEST for dims in rows)
    return onnx.shape_inference.infer_shapes(model, data_prop=data_prop and not long)


def shape_of(kind: onnx.TypeProto.Tensor | None) -> Shape | None:
    """The sizes, None for an open one; None when not even the rank is known."""
    if kind is None or not kind.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)


def static_shape(kind: onnx.TypeProto.Tensor | None) -> tuple[int, ...] | None:
    """The sizes when all of them are known numbers."""
    shape = shape_of(kind)
    return None if shape is None or None in shape else tuple(int(d) for d in shape if d is not None)


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    slim = onnx.ModelProto()
    copy_fields(model, slim, skip=("graph",))
    copy_fields(
        model.graph, slim.graph, skip=("initializer", "value_info")
    )  # what a file says of its insides may be stale
    inputs = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) < LEAST_BYTES:
            slim.graph.initializer.add().CopyFrom(tensor)
        elif tensor.name not in inputs:
            value = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            slim.graph.input.append(value)
    return slim
