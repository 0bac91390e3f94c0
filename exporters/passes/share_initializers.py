"""Keep one of every set of initializers that are equal to the last bit; the readers of the others read that one.

    w1 == w2 (type, shape, bytes)   =>   Conv(x, w2) is Conv(x, w1), and w2 goes

Names that a caller can see stay as they are: inputs of the model (their values may be overridden) and outputs, and so
does what a body (If, Loop or Scan) reads by name. Test: tests/test_share_initializers.py.
"""

from __future__ import annotations

import collections
import hashlib

import onnx

from exporters.base import Change, PassResult
from exporters.graph import Graph

Key = tuple[int, tuple[int, ...], bytes]


def run(model: onnx.ModelProto) -> PassResult:
    """`model` with every value kept once."""
    graph = Graph(model)
    changes: list[Change] = []
    first: dict[Key, str] = {}
    for tensor in _candidates(graph):
        original = first.setdefault(_key(tensor), tensor.name)
        if original != tensor.name and tensor.name not in graph.outputs and tensor.name not in graph.captured:
            changes.append(Change(tensor.name, f"equal to tensor {original}"))
            graph.redirect(tensor.name, original)
    graph.drop_unread([change.node for change in changes])
    return PassResult(graph.model, tuple(changes))


def _candidates(graph: Graph) -> list[onnx.TensorProto]:
    """Initializers that have a double in type and shape: only their bytes are worth reading."""
    own = [tensor for tensor in graph.proto.initializer if tensor.name not in graph.inputs]
    count = collections.Counter((tensor.data_type, tuple(tensor.dims)) for tensor in own)
    return [tensor for tensor in own if count[tensor.data_type, tuple(tensor.dims)] > 1]


def _key(tensor: onnx.TensorProto) -> Key:
    data = tensor.raw_data
    if not data:  # the values are in a typed field
        plain = onnx.TensorProto()
        plain.CopyFrom(tensor)
        plain.ClearField("name")
        plain.ClearField("doc_string")
        data = plain.SerializeToString(deterministic=True)
    return tensor.data_type, tuple(tensor.dims), hashlib.sha256(data).digest()
