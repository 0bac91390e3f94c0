"""A PRelu that is written as two ReLUs becomes one PRelu.

    max(x, 0) - s max(-x, 0)   =   PRelu (x, s)                     x > 0: x        x <= 0: - s (-x) = s x

tf2onnx writes Keras' PReLU in these five nodes, with a product of -s and a sum, or of s and a difference. What follows,
`products_of_prelu`, needs three and is known to the int8 form `max_of_prelu`.
Acts on constant slopes that `products_of_prelu` takes, from operator set 7 on. Refused: parts that others read, slopes
that differ from pixel to pixel, for which ONNX Runtime's PRelu is slower than the parts are.
Exact: s (-x) and (-s) x are rounded alike. Source: He et al. 2015, "Delving deep into rectifiers".
Test: tests/test_prelu_of_parts.py.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, is_standard, label, opset
from exporters.noops import fits_into
from exporters.passes.products_of_prelu import slopes_of
from exporters.searching.blocks import Chain, nodes_of
from exporters.shape_inference import Types, shape_of, tensor_types
from runtimes.base import Array

OLDEST_OPSET = 7
"""From which on the slopes of a PRelu are broadcast."""


class Parts(NamedTuple):
    """max(x, 0) and slopes times max(-x, 0), or that of their negative, as nodes before the sum; the slopes' sign."""

    x: str
    inner: tuple[onnx.NodeProto, ...]
    factors: Array
    sign: int


def run(model: onnx.ModelProto) -> PassResult:
    """Replace every sum and difference of that kind; those that stay are in `kept` with the reason."""
    graph = Graph(model)
    names = nodes_of(graph, "Add", "Sub") if nodes_of(graph, "Relu") and opset(model) >= OLDEST_OPSET else []
    found = [(name, _parts(graph, graph.producer[name])) for name in names]
    types = tensor_types(model) if any(parts for _, parts in found) else {}
    changes: list[Change] = []
    kept: list[Kept] = []
    for name, parts in found:
        if parts is None:
            continue
        node = graph.producer[name]
        reason = _why_not(graph, parts, types)
        if reason:
            kept.append(Kept(label(node), reason))
            continue
        chain = Chain(graph, node)
        chain.node("PRelu", [parts.x, chain.constant(parts.sign * parts.factors, "slopes")], name)
        behind = [tensor for inner in parts.inner for tensor in inner.input]
        chain.write([*(graph.producer[inner.output[0]] for inner in parts.inner), node])
        graph.drop_unread(behind)
        changes.append(Change(label(node), "five nodes are one PRelu"))
    return PassResult(graph.model, tuple(changes), tuple(kept))


def _parts(graph: Graph, node: onnx.NodeProto) -> Parts | None:
    """What `node` adds up or subtracts, where that is a PRelu."""
    makers = [graph.producer.get(name) for name in node.input]
    for above, product in (makers, makers[::-1]) if node.op_type == "Add" else (makers,):
        if above is None or product is None or not is_standard(above, "Relu") or not is_standard(product, "Mul"):
            continue
        for side in (0, 1):
            factors, below = graph.constant(product.input[side]), graph.producer.get(product.input[1 - side])
            if factors is None or below is None or not is_standard(below, "Relu"):
                continue
            negative = graph.producer.get(below.input[0])
            if negative is not None and _negated(graph, negative) == above.input[0]:
                inner = (above, negative, below, product)
                return Parts(str(above.input[0]), inner, factors, -1 if node.op_type == "Add" else 1)
    return None


def _negated(graph: Graph, node: onnx.NodeProto) -> str:
    """The tensor whose negative `node` makes; "" when it makes something else."""
    if is_standard(node, "Neg"):
        return str(node.input[0])
    sides = (0, 1) if is_standard(node, "Mul") else ()
    minus = [side for side in sides if (value := graph.constant(node.input[side])) is not None and _is_minus_one(value)]
    return str(node.input[1 - minus[0]]) if minus else ""


def _is_minus_one(value: Array) -> bool:
    return value.size == 1 and value.ndim == 0 and bool(value == -1)


def _why_not(graph: Graph, parts: Parts, types: Types) -> str:
    slopes = slopes_of(parts.factors)
    if isinstance(slopes, str):
        return slopes
    shape = shape_of(types.get(parts.x))
    if shape is None or not fits_into(np.shape(slopes), shape):
        return "its slopes may enlarge the tensor"
    shared = [node.output[0] for node in parts.inner if graph.only_consumer(node.output[0]) is None]
    return f"what {label(graph.producer[shared[0]])} makes {graph.why_not_only(shared[0])}" if shared else ""
