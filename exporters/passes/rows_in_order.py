"""A Transpose in front of a Flatten goes into the rows of the weights behind it.

    x (N, C, H, W) ── T to (N, H, W, C) ── Flatten ── Gemm w (H W C, M)      becomes      x ── Flatten ── Gemm w'

Row h W C + w C + c of the old weights is row c H W + h W + w of the new ones. Keras flattens with its channels last, so
that the Transpose in front of its first Dense is the last that `move_transposes` leaves.
Acts where the Flatten (or Reshape) alone reads the Transpose, makes one row for each element of the batch, and
everything that reads those is a MatMul or Gemm of constant weights. Refused: open sizes other than the batch.
Bound: the same n products added up in another order, 2 (n - 1) u (Higham 2002, section 4.2).
Source: ONNX operator specification, Transpose. Test: tests/test_rows_in_order.py.
"""

from __future__ import annotations

import math

import numpy as np
import onnx

from exporters.base import Change, PassResult
from exporters.bypass import bypass
from exporters.graph import Graph, attributes, is_standard, label
from exporters.relayout.move import inverse, perm_of
from exporters.searching.blocks import nodes_of
from exporters.shape_inference import Types, shape_of, tensor_types
from runtimes.base import Array

FLATTENERS = ("Flatten", "Reshape")


def run(model: onnx.ModelProto) -> PassResult:
    """Take every Transpose of that kind into the weights behind it."""
    graph = Graph(model)
    names = nodes_of(graph, "Transpose")
    types = tensor_types(model) if names else {}
    changes: list[Change] = []
    for name in names:
        node = graph.producer[name]
        rows = _rows(graph, node, types)
        flat = str(graph.consumers[name][0].output[0]) if rows is not None else ""
        layers = _layers(graph, flat, len(rows)) if rows is not None else []
        if rows is None or not layers or bypass(graph, node, node.input[0]):
            continue
        _rename(graph, flat)
        for output in [layer.output[0] for layer in layers]:
            _reorder(graph, graph.producer[output], rows)
        bound = float((len(rows) - 1) * np.finfo(np.float32).eps)
        changes.append(Change(label(node), f"in the weights of {', '.join(map(label, layers))}", bound))
    return PassResult(graph.model, tuple(changes))


def _rename(graph: Graph, name: str) -> None:
    """Give tensor `name`, whose numbers are in another order now, another name."""
    maker = graph.producer[name]
    maker.output[0] = graph.fresh(f"{name}.rows")
    graph.redirect(name, maker.output[0])
    graph.forget(name)


def _rows(graph: Graph, node: onnx.NodeProto, types: Types) -> Array | None:
    """For each element of a row without the Transpose `node`, its place in the row with it."""
    shape = shape_of(types.get(node.input[0]))
    perm = perm_of(node, shape)
    reader = graph.only_consumer(node.output[0])
    if shape is None or perm is None or reader is None or perm[0] != 0 or None in shape[1:]:
        return None
    sizes = [shape[axis] or 0 for axis in perm[1:]]
    flat = shape_of(types.get(reader.output[0]))
    if not any(is_standard(reader, op) for op in FLATTENERS) or reader.input[0] != node.output[0]:
        return None
    if flat is None or len(flat) != 2 or flat[1] != math.prod(sizes) or flat[1] == 0:
        return None
    back = [axis - 1 for axis in inverse(perm)[1:]]
    return np.arange(flat[1]).reshape(sizes).transpose(back).ravel()


def _layers(graph: Graph, name: str, size: int) -> list[onnx.NodeProto]:
    """What reads `name`, rows of `size`, if all of it is MatMul or Gemm of constant weights; else nothing."""
    readers = graph.consumers[name]
    if name in graph.outputs or name in graph.captured:
        return []
    for reader in readers:
        product = is_standard(reader, "MatMul") or (
            is_standard(reader, "Gemm") and not attributes(reader).get("transA")
        )
        weight = graph.constant(reader.input[1]) if product and list(reader.input).count(name) == 1 else None
        if weight is None or reader.input[0] != name or weight.ndim != 2 or weight.shape[_axis(reader)] != size:
            return []
    return list(readers)


def _axis(layer: onnx.NodeProto) -> int:
    """Which axis of the weights the row is multiplied with."""
    return 1 if attributes(layer).get("transB", 0) else 0


def _reorder(graph: Graph, layer: onnx.NodeProto, rows: Array) -> None:
    weight = graph.constant(layer.input[1])
    assert weight is not None
    graph.set_constant(layer, 1, np.take(weight, rows, _axis(layer)), f"{layer.input[1]}.rows")
