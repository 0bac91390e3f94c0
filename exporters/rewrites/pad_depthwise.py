"""Depthwise convolutions get channels in sixteens: zero channels made in front of them and ignored behind them.

    Conv (C outputs) -> act -> depthwise (C) -> act [x gate (C)] -> Conv (C inputs)     C = 72 -> 80
         + zero filters        + zero filters                            + zero weights

ONNX Runtime's integer depthwise kernel wants C % 16 == 0 and runs at a quarter of its speed otherwise. From each such
convolution the region of tensors that must grow with it is followed both ways, through activations, pools, products of
two tensors and scalars, up to the ungrouped convolutions that make its channels (zero filters, zero bias) and to those
that read them (zero weights). What a zero channel becomes on the way is finite, and is multiplied by zero in the end.
Refused: a region that reaches an input or output of the model or an operator that does not keep channels apart. Bound:
the sums have more zeros in them, which may change their order. Test: tests/test_pad_depthwise.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, is_standard, label
from exporters.searching.blocks import ACTIVATIONS, convolutions, read_conv
from runtimes.base import Array

MULTIPLE = 16
UNARY = (*ACTIVATIONS, "GlobalAveragePool", "AveragePool", "MaxPool", "Softplus", "Identity")
WITH_SCALAR = ("Add", "Sub", "Mul", "Div")


@dataclass
class Region:
    """Tensors that get more channels, and the nodes whose parameters grow: `makers`, `readers` (dense), `depthwise`."""

    tensors: set[str] = field(default_factory=set)
    makers: set[str] = field(default_factory=set)
    readers: set[str] = field(default_factory=set)
    depthwise: set[str] = field(default_factory=set)


def grown(value: Array, axis: int, size: int) -> Array:
    """`value` with zeros behind it on `axis`, up to `size`."""
    widths = [(0, size - value.shape[axis] if i == axis else 0) for i in range(value.ndim)]
    return np.pad(value, widths)


def run(model: onnx.ModelProto) -> PassResult:
    """Pad every depthwise convolution whose channels do not come in sixteens; the others are in `kept`."""
    graph = Graph(model)
    changes: list[Change] = []
    kept: list[Kept] = []
    wider: set[str] = set()
    for node, conv in convolutions(graph):
        if isinstance(conv, str) or not conv.depthwise or conv.outputs % MULTIPLE == 0:
            continue
        region = _follow(graph, node.output[0])
        if isinstance(region, str):
            kept.append(Kept(label(node), region))
            continue
        size = -(-conv.outputs // MULTIPLE) * MULTIPLE
        _grow(graph, region, size)
        wider |= region.tensors
        changes.append(Change(label(node), f"{conv.outputs} channels are {size}", conv.bound))
    _rename(graph, wider)
    return PassResult(graph.model, tuple(changes), tuple(kept))


def _rename(graph: Graph, tensors: set[str]) -> None:
    """Give `tensors` new names: a tensor that keeps its name keeps its value."""
    names = {name: graph.fresh(f"{name}.padded") for name in sorted(tensors)}
    for node in graph.proto.node:
        for ends in (node.input, node.output):
            for i, name in enumerate(ends):
                ends[i] = names.get(name, name)
    graph.reindex()


def _follow(graph: Graph, name: str) -> Region | str:
    """The region around the output `name` of a depthwise convolution, or why there is none."""
    region, todo = Region(), [name]
    while todo:
        tensor = todo.pop()
        if tensor in region.tensors:
            continue
        if tensor in graph.outputs or tensor in graph.captured or tensor not in graph.producer:
            return f"its channels reach {tensor}, which is an input or output of the model or read inside a body"
        region.tensors.add(tensor)
        for node in (graph.producer[tensor], *graph.consumers[tensor]):
            more = _neighbours(graph, node, tensor, region)
            if isinstance(more, str):
                return more
            todo += more
    return region


def _neighbours(graph: Graph, node: onnx.NodeProto, tensor: str, region: Region) -> list[str] | str:
    """Tensors that must grow because `tensor`, which `node` makes or reads, does; or the reason why they cannot."""
    if is_standard(node, "Conv"):
        return _at_conv(graph, node, tensor, region)
    if any(is_standard(node, op) for op in UNARY) and len(node.output) == 1:
        return [node.input[0], node.output[0]]
    if any(is_standard(node, op) for op in WITH_SCALAR):
        values = [graph.constant(n) for n in node.input]
        moving = [n for n, v in zip(node.input, values, strict=True) if v is None]
        scalar = all(v is None or v.size == 1 for v in values)
        if scalar and (len(moving) == 1 or node.op_type == "Mul"):
            return [*moving, node.output[0]]
    return f"its channels reach {label(node)}, a {node.op_type} that does not keep them apart"


def _at_conv(graph: Graph, node: onnx.NodeProto, tensor: str, region: Region) -> list[str] | str:
    conv = read_conv(graph, node)
    if isinstance(conv, str):
        return f"its channels reach {label(node)}: {conv}"
    if conv.depthwise:
        region.depthwise.add(node.output[0])
        return [node.input[0], node.output[0]]
    if conv.group != 1:
        return f"its channels reach {label(node)}, a Conv of {conv.group} groups"
    (region.makers if tensor == node.output[0] else region.readers).add(node.output[0])
    return []


def _grow(graph: Graph, region: Region, size: int) -> None:
    for name in sorted(region.makers | region.depthwise):
        _set(graph, name, 1, 0, size)
        _set(graph, name, 2, 0, size)
    for name in sorted(region.depthwise):
        group = next(a for a in graph.producer[name].attribute if a.name == "group")
        group.i = size
    for name in sorted(region.readers):
        _set(graph, name, 1, 1, size)
    for name in region.tensors:
        graph.forget(name)


def _set(graph: Graph, name: str, index: int, axis: int, size: int) -> None:
    """Input `index` of the node that makes `name`, grown on `axis`; a bias that is not there stays away."""
    node = graph.producer[name]
    if index < len(node.input) and node.input[index]:
        value = graph.constant(node.input[index])
        assert value is not None
        graph.set_constant(node, index, grown(value, axis, size), f"{name}.padded")
