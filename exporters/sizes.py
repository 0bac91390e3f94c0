"""The sizes of a graph's tensors that do not depend on the batch, as far as shape inference can tell them.

    sizes with batch 2 and with batch 3, equal in both -> a fixed size; anything else -> None

Trying two batches tells a size that follows the batch from one that is fixed, also where the batch was merged into
another axis. Weights are left out of the copy that is inferred, so that a large network costs no memory.
Test: tests/test_sizes.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from exporters.external import copy_fields
from exporters.shape_inference import infer

Sizes = tuple[int | None, ...]
MOST_NUMBERS = 1024
"""Initializers up to this many elements may be shapes and stay; of larger ones shape inference needs the sizes only."""


def fixed_sizes(model: onnx.ModelProto) -> dict[str, Sizes]:
    """Tensor name -> its sizes, None where a size is open or follows the batch; tensors of unknown rank are left out.

    The first axis of a graph input with an open size is taken for the batch.
    """
    skeleton = _skeleton(model)
    seen = [_inferred(skeleton, batch) for batch in (2, 3)]
    found: dict[str, Sizes] = {}
    for name, first in seen[0].items():
        second = seen[1].get(name, ())
        if len(first) == len(second):
            found[name] = tuple(a if a == b else None for a, b in zip(first, second, strict=True))
    return found


def _skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` without recorded shapes and without the values of large initializers."""
    copy = onnx.ModelProto()
    copy_fields(model, copy, skip=("graph",))
    copy_fields(model.graph, copy.graph, skip=("initializer", "value_info"))
    for tensor in model.graph.initializer:
        size = 1
        for d in tensor.dims:
            size *= d
        if size <= MOST_NUMBERS:
            copy.graph.initializer.add().CopyFrom(tensor)
        else:
            copy.graph.initializer.add(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
    for value in copy.graph.output:  # a symbol written there would hide the number that is inferred
        value.type.tensor_type.ClearField("shape")
    return copy


def _inferred(model: onnx.ModelProto, batch: int) -> Mapping[str, Sizes]:
    given = {tensor.name for tensor in model.graph.initializer}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in copy.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in given and len(dims) and not dims[0].HasField("dim_value"):
            dims[0].dim_value = batch
    graph = infer(copy).graph
    values = [v for v in [*graph.input, *graph.value_info, *graph.output] if v.type.tensor_type.HasField("shape")]
    found = {v.name: tuple(_size(d) for d in v.type.tensor_type.shape.dim) for v in values}
    found.update({tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer})
    return found


def _size(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    return int(dim.dim_value) if dim.HasField("dim_value") else None
