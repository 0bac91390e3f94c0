"""Writing into a slice of a tensor is a Concat of what is left of it, what is written, and what is right of it.

    y = x;  y[:, a:b] = u        Scatter(x, rows a..b, u)  =  Concat(x[:, :a], u, x[:, b:])
    all rows                     Scatter(x, rows 0..n, u)  =  u
    x's own slice                Scatter(x, rows a..b, x[:, a:b])  =  x

PyTorch writes assignments and `+=` on slices so: one ScatterND for each axis of the index, each between two Transposes,
those of whole axes too. None of them has an integer kernel, and `y[:, a:b] += u` alone is four. Exact: numbers are only
moved. Left alone: steps other than 1, rows or sizes that are not known, reductions.
Source: ONNX operator specification, ScatterND. Test: tests/test_scatter_to_concat.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from exporters.base import Change, PassResult
from exporters.bypass import bypass
from exporters.graph import Graph, attributes, is_standard, label
from exporters.searching.blocks import Chain
from exporters.shape_inference import Shape, shape_of, tensor_types

END = 2**63 - 1
ALL = "all rows are written: the tensor that is written"
OWN = "the rows are its own: the tensor as it was"
JOINED = "the rows are joined with those beside them"


@dataclass(frozen=True)
class Write:
    """`updates` become the indices `start` to `stop` (of `size`; None where it is open) of `axis` of tensor `data`.

    `perm` is the order of the axes in which the Scatter sees both.
    """

    data: str
    updates: str
    axis: int
    start: int
    stop: int
    size: int | None
    perm: tuple[int, ...]


def run(model: onnx.ModelProto) -> PassResult:
    """Replace every ScatterND that writes neighbouring rows."""
    graph = Graph(model)
    names = [node.output[0] for node in graph.proto.node if is_standard(node, "ScatterND")]
    shapes = {name: shape_of(kind) for name, kind in tensor_types(model, data_prop=True).items()} if names else {}
    changes: list[Change] = []
    for name in names:
        node = graph.producer[name]
        what = _rewrite(graph, node, shapes)
        if what:
            changes.append(Change(label(node), what))
    if changes:
        graph.prune()
    return PassResult(graph.model, tuple(changes))


def _rewrite(graph: Graph, node: onnx.NodeProto, shapes: dict[str, Shape | None]) -> str:
    """What was done; empty where `node` stays."""
    shape = shapes.get(node.input[0])
    if not shape or attributes(node).get("reduction", b"none") != b"none":
        return ""
    if _is_every_row(graph, node.input[1], node.input[0], shape[0]):
        return "" if bypass(graph, node, node.input[2]) else ALL
    rows = _rows(graph, node.input[1])
    if rows is None or shape[0] is None or rows[1] > shape[0]:
        return ""
    write = _write(graph, node, shape, rows)
    if _is_own(graph, write, len(shape)):
        return "" if bypass(graph, node, node.input[0]) else OWN
    _join(graph, node, write)
    return JOINED


def _is_every_row(graph: Graph, indices: str, data: str, size: int | None) -> bool:
    """Whether `indices` (n, 1) are 0, 1 ... to the end of the first axis of `data`, constant or from its shape."""
    if size is not None and _rows(graph, indices) == (0, size):
        return True
    column = graph.producer.get(indices)
    axes = graph.constant(column.input[1]) if column is not None and len(column.input) == 2 else None
    if column is None or not is_standard(column, "Unsqueeze") or axes is None or axes.tolist() not in ([-1], [1]):
        return False
    counted = graph.producer.get(column.input[0])
    if counted is None or not is_standard(counted, "Range"):
        return False
    first, step = graph.constant(counted.input[0]), graph.constant(counted.input[2])
    counts = first is not None and step is not None and bool(first == 0) and bool(step == 1)
    return counts and _is_length(graph, counted.input[1], data)


def _is_length(graph: Graph, name: str, data: str) -> bool:
    """Whether the scalar `name` is the size of the first axis of `data`."""
    taken = graph.producer.get(name)
    if taken is None or not is_standard(taken, "Gather") or attributes(taken).get("axis", 0) != 0:
        return False
    index, measured = graph.constant(taken.input[1]), graph.producer.get(taken.input[0])
    if index is None or index.ndim or index != 0 or measured is None or not is_standard(measured, "Shape"):
        return False
    return bool(measured.input[0] == data and attributes(measured).get("start", 0) == 0)


def _rows(graph: Graph, indices: str) -> tuple[int, int] | None:
    """(first, one behind the last) of constant `indices` (n, 1) that are neighbours in their order."""
    found = graph.constant(indices)
    if found is None or found.ndim != 2 or found.shape[1] != 1 or not found.size or found[0, 0] < 0:
        return None
    start, stop = int(found[0, 0]), int(found[-1, 0]) + 1
    return (start, stop) if np.array_equal(found[:, 0], np.arange(start, stop)) else None


def _write(graph: Graph, node: onnx.NodeProto, shape: Shape, rows: tuple[int, int]) -> Write:
    """What `node` writes where, seen from in front of the Transpose that brings the axis to the first place."""
    perm, data = _turned(graph, node.input[0], len(shape))
    other, updates = _turned(graph, node.input[2], len(shape))
    if other != perm:
        perm, data, updates = tuple(range(len(shape))), node.input[0], node.input[2]
    return Write(data, updates, perm[0], *rows, shape[0], perm)


def _turned(graph: Graph, name: str, rank: int) -> tuple[tuple[int, ...], str]:
    """(permutation, what it turns) where a Transpose makes `name`, else nothing is turned."""
    node = graph.producer.get(name)
    perm = attributes(node).get("perm") if node is not None and is_standard(node, "Transpose") else None
    return (tuple(perm), node.input[0]) if node is not None and perm is not None else (tuple(range(rank)), name)


def _is_own(graph: Graph, write: Write, rank: int) -> bool:
    """Whether the updates are the very rows of the data that they replace."""
    node = graph.producer.get(write.updates)
    if node is None or not is_standard(node, "Slice") or node.input[0] != write.data or len(node.input) < 4:
        return False
    given = [graph.constant(name) for name in node.input[1:]]
    if any(value is None for value in given):
        return False
    starts, stops, axes, *rest = [value.tolist() for value in given if value is not None]
    steps = rest[0] if rest else [1] * len(axes)
    cut = {axis % rank: (a, b) for axis, a, b in zip(axes, starts, stops, strict=True)}
    start, stop = cut.pop(write.axis, (None, None))
    whole = all(a == 0 and b >= 2**31 - 1 for a, b in cut.values())
    return set(steps) == {1} and whole and (start, stop) == (write.start, write.stop)


def _join(graph: Graph, node: onnx.NodeProto, write: Write) -> None:
    """Slice, Slice, Concat in the place of `node`, and the Transpose that gives its own order of axes."""
    chain = Chain(graph, node)
    turned = write.perm != tuple(sorted(write.perm))

    def rows(start: int, stop: int) -> str:
        places = {"start": start, "stop": stop, "axis": write.axis}
        bounds = [chain.constant(np.asarray([place], np.int64), name) for name, place in places.items()]
        return chain.node("Slice", [write.data, *bounds])

    parts = [rows(0, write.start)] if write.start else []
    parts.append(write.updates)
    if write.stop != write.size:
        parts.append(rows(write.stop, END))
    joined = chain.node("Concat", parts, "" if turned else node.output[0], axis=write.axis)
    if turned:
        chain.node("Transpose", [joined], node.output[0], perm=list(write.perm))
    chain.write([node])
