"""The element type of every tensor, of those too that onnx has no rule for: ONNX Runtime's own operators, ai.onnx.ml.

onnx infers nothing behind such an operator; ONNX Runtime knows, and says so of whatever is an output of the graph.
Test: tests/test_half.py.
"""

from __future__ import annotations

import re

import onnx
from onnx import TensorProto, helper

from exporters.graph import copy_model
from exporters.shape_inference import Types, tensor_types
from runtimes.base import EdgeError
from runtimes.session import open_session

_ELEMENT = re.compile(r"tensor\((\w+)\)")
_KINDS = {"float": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "double": TensorProto.DOUBLE}
"""What a float can be; of all else it is enough that it is none."""


def element_types(model: onnx.ModelProto) -> Types:
    """`tensor_types`, and where these end what ONNX Runtime says; a tensor that neither knows is left out."""
    types = {name: kind for name, kind in tensor_types(model).items() if kind.elem_type}
    missing = [name for node in model.graph.node for name in node.output if name and name not in types]
    if not missing:
        return types
    asked = copy_model(model)
    outputs = {value.name for value in asked.graph.output}
    asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in missing if name not in outputs)
    try:
        values = open_session(asked, threads=1, optimize=False).raw.get_outputs()
    except EdgeError:
        return types
    for value in values:
        found = _ELEMENT.fullmatch(value.type)
        if value.name not in types and found is not None:
            kind = _KINDS.get(found[1], TensorProto.INT64)
            types[value.name] = helper.make_tensor_type_proto(kind, None).tensor_type
    return types
