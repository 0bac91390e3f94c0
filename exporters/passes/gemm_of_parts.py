"""A MatMul of a matrix with constant weights and the Add of its bias become one Gemm.

    x (M, K) ── MatMul w (K, N) ── Add b (N,)        becomes        x ── Gemm (x, w, b)

ONNX Runtime fuses the two itself in float, so that nothing changes there. In an int8 graph it can only before the grids
are in the way: the last layer then dequantizes its weights at every run and multiplies in float. A Gemm keeps its
int32 bias in the integer kernel (QGemm).
Acts on float32 where x is known to have two dimensions, w and b are constant, and the Add alone reads the product.
Refused: x of another or unknown rank (of three dimensions a Gemm needs two Reshapes), a bias that is not one number or
one for each output.
Bound: the same n = K + 1 terms added up in another order, 2 (n - 1) u of their mean magnitude (Higham 2002, section
4.2). Source: ONNX operator specification, Gemm-7. Test: tests/test_gemm_of_parts.py.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, copy_node, is_standard, label, opset
from exporters.shape_inference import Types, shape_of, tensor_types
from runtimes.base import Array

OLDEST_OPSET = 7
"""From which on a Gemm's bias is broadcast without being told, and an Add's too."""


def run(model: onnx.ModelProto) -> PassResult:
    """Replace every MatMul and Add that are a Gemm; products that only look like one are in `kept` with the reason."""
    graph = Graph(model)
    names = [node.output[0] for node in graph.proto.node if is_standard(node, "MatMul")]
    types = tensor_types(model) if names and opset(model) >= OLDEST_OPSET else {}
    changes: list[Change] = []
    kept: list[Kept] = []
    for name in names if types else ():
        product = graph.producer[name]
        weight = graph.constant(product.input[1])
        adders = [node for node in graph.consumers[name] if is_standard(node, "Add")]
        bias = _bias(graph, adders[0], name) if len(adders) == 1 else None
        if weight is None or bias is None:
            continue
        reason = _why_not(graph, product, weight, bias, types)
        if reason:
            kept.append(Kept(label(product), reason))
        else:
            _write(graph, product, adders[0], weight.shape[1])
            bound = float(weight.shape[0] * np.finfo(np.float32).eps)
            changes.append(Change(label(product), f"one Gemm with {label(adders[0])}", bound))
    return PassResult(graph.model, tuple(changes), tuple(kept))


def _bias(graph: Graph, adder: onnx.NodeProto, product: str) -> Array | None:
    """What `adder` adds to `product`, where it is constant."""
    other = [name for name in adder.input if name != product]
    return graph.constant(other[0]) if len(other) == 1 else None


def _why_not(graph: Graph, product: onnx.NodeProto, weight: Array, bias: Array, types: Types) -> str:
    if graph.only_consumer(product.output[0]) is None:
        return graph.why_not_only(product.output[0])
    kind = types.get(product.input[0])
    shape = shape_of(kind)
    if shape is None or len(shape) != 2 or weight.ndim != 2 or not weight.size:
        known = "of unknown rank" if shape is None else f"of rank {len(shape)}"
        return f"a Gemm takes matrices, its input is {known}, its weight of rank {weight.ndim}"
    if weight.dtype != np.float32 or bias.dtype != np.float32 or kind is None or kind.elem_type != TensorProto.FLOAT:
        return f"its weights are {weight.dtype}, not float32"
    if bias.ndim > 2 or bias.shape[:-1] not in ((), (1,)) or bias.shape[-1:] not in ((), (1,), weight.shape[1:]):
        return f"what is added has the shape {bias.shape}, not one number for each of {weight.shape[1]} outputs"
    return ""


def _write(graph: Graph, product: onnx.NodeProto, adder: onnx.NodeProto, outputs: int) -> None:
    """Put a Gemm in the place of both, called as the product was; its bias is (`outputs`,)."""
    name = next(tensor for tensor in adder.input if tensor != product.output[0])
    bias = graph.constant(name)
    assert bias is not None
    wide = np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), (outputs,)))
    made = copy_node(product)
    made.op_type, made.output[0] = "Gemm", adder.output[0]
    made.input.append(name if bias.shape == wide.shape else graph.add_constant(wide, f"{name}_{outputs}"))
    graph.forget(product.output[0])
    graph.replace([product, adder], [made])
    graph.drop_unread([name])
