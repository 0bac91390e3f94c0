"""A float16 input that is cast to float32 at once is float32 while the model is worked on, and float16 in the result.

    x float16 -> Cast to float32 -> network     widened:   x float32 -> Cast to float16 -> Cast to float32 -> network
                                                narrowed:  x float16 -> Cast to float32 -> network

Both give the same bits for numbers that float16 holds. Test: tests/test_half_input.py.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from exporters.graph import Graph, attributes, free_inputs, is_standard


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` with float32 for every float16 input that only casts to float32 read; itself without any."""
    graph = Graph(model, copied=False)
    names = [value.name for value in _of_half(model) if _only_cast(graph, value.name)]
    return _taking(model, names, TensorProto.FLOAT, TensorProto.FLOAT16) if names else model


def narrowed(model: onnx.ModelProto, like: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` with float16 for the inputs that have it in `like`; itself where it has all of them."""
    half = {value.name for value in _of_half(like)}
    names = [value.name for value in free_inputs(model) if value.name in half and _type(value) == TensorProto.FLOAT]
    return _taking(model, names, TensorProto.FLOAT16, TensorProto.FLOAT) if names else model


def _taking(model: onnx.ModelProto, names: list[str], given: int, read: int) -> onnx.ModelProto:
    """A copy of `model` whose inputs `names` are `given` in one type, and cast to the one in which they were `read`."""
    graph = Graph(model)
    casts = [_cast(graph, name, read) for name in names]
    _set_type(graph, names, given)
    graph.set_nodes([*casts, *graph.proto.node])
    return graph.model


def _of_half(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    return [value for value in free_inputs(model) if _type(value) == TensorProto.FLOAT16]


def _type(value: onnx.ValueInfoProto) -> int:
    return int(value.type.tensor_type.elem_type)


def _only_cast(graph: Graph, name: str) -> bool:
    """Whether nothing reads the input `name` but casts to float32."""
    readers = graph.consumers.get(name, [])
    casts = [is_standard(node, "Cast") and attributes(node).get("to") == TensorProto.FLOAT for node in readers]
    return bool(casts) and all(casts) and name not in graph.captured and name not in graph.outputs


def _cast(graph: Graph, name: str, to: int) -> onnx.NodeProto:
    """A Cast of the input `name`, which everything that read the input reads."""
    made = graph.fresh(f"{name}_{helper.tensor_dtype_to_np_dtype(to).name}")
    graph.redirect(name, made)
    return helper.make_node("Cast", [name], [made], name=made, to=to)


def _set_type(graph: Graph, names: list[str], to: int) -> None:
    for value in graph.proto.input:
        if value.name in names:
            value.type.tensor_type.elem_type = to
