"""What onnx's checker refuses and every runtime reads: mended when a file is read, for nothing of the function changes.

    nodes out of order                       sorted, each behind what it reads; those that go round stay where they are
    IR version 3, weights that are no inputs as of version 4 (exporters/frozen.py)
    an output without a shape                the shape that is inferred
    sizes told of tensors that are others    dropped, and inferred again

Converters leave these behind: float16 converters put Casts last, editors cut a graph and keep what was told of its
tensors. What else the checker finds stays an error. Test: tests/test_mending.py.
"""

from __future__ import annotations

import graphlib

import onnx
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]

from exporters.graph import nodes_within


def put_in_order(model: onnx.ModelProto) -> None:
    """Sort the nodes of `model` (edited), each behind those that make what it or a body in it reads.

    Nothing moves where they are in order, where they go round, or where one tensor is made twice.
    """
    nodes = model.graph.node
    made_by: dict[str, int] = {}
    for i, node in enumerate(nodes):
        for output in filter(None, node.output):
            if output in made_by:
                return
            made_by[output] = i
    before = [{made_by[name] for name in _read(node) if name in made_by} for node in nodes]
    if all(j < i for i, needed in enumerate(before) for j in needed):
        return
    try:
        order = list(graphlib.TopologicalSorter(dict(enumerate(before))).static_order())
    except graphlib.CycleError:
        return
    ordered = [onnx.NodeProto.FromString(nodes[i].SerializeToString()) for i in order]
    del nodes[:]
    nodes.extend(ordered)


def _read(node: onnx.NodeProto) -> set[str]:
    """All names that `node` reads, and those that its bodies do; they may be the bodies' own."""
    found = set[str]()
    for one in nodes_within([node]):
        found |= set(filter(None, one.input))
        bodies = [body for attribute in one.attribute for body in (attribute.g, *attribute.graphs)]
        found |= {value.name for body in bodies for value in body.output}
    return found


def infer_again(model: onnx.ModelProto) -> bool:
    """Forget what `model` (edited) tells of its tensors and outputs but for their types, and infer it.

    False, and nothing changes, where an output would be left without a shape.
    """
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    for value in bare.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        found = {value.name: value for value in onnx.shape_inference.infer_shapes(bare).graph.output}
    except (onnx.shape_inference.InferenceError, EncodeError, ValueError, RuntimeError, MemoryError):
        return False
    if not all(value.type.tensor_type.HasField("shape") for value in found.values()):
        return False
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.CopyFrom(found[value.name])
    return True
