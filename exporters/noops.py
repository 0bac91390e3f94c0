"""Which nodes hand a tensor on as it is? One rule an operator; each returns the tensor that comes out, or "".

    Cast to the type it has, Concat of one, Slice of everything or of one part of a Concat, + 0, x 1, Pad by 0,
    Resize by 1, Transpose in order, Reshape, Flatten and Expand to the shape it has, Tile once, pooling of single
    elements

Equal means equal as numbers: x + 0 turns -0 into 0 and is a no-op here. Source: ONNX operator specification.
Test: tests/test_drop_noops.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from exporters.graph import Graph, attributes, is_standard
from exporters.shape_inference import Types, shape_of, static_shape
from runtimes.base import Array

Rule = Callable[[Graph, onnx.NodeProto, Types], str]
END = 2**31 - 1
"""Exporters write this, or more, for "to the end"."""


def copied(graph: Graph, node: onnx.NodeProto, types: Types) -> str:
    """The tensor that `node` hands on unchanged as its only output; "" when it computes something."""
    rule = RULES.get(node.op_type)
    single = len(node.output) == 1 and len(node.input) > 0
    return rule(graph, node, types) if rule and single and is_standard(node, node.op_type) else ""


def parameter(graph: Graph, node: onnx.NodeProto, name: str, index: int) -> Array | None:
    """A constant that is attribute `name` in older operator sets and input `index` in newer ones."""
    if len(node.input) > index and node.input[index]:
        return graph.constant(node.input[index])
    value = attributes(node).get(name)
    return None if value is None else np.asarray(value)


def _cast(graph: Graph, node: onnx.NodeProto, types: Types) -> str:
    kind = types.get(node.input[0])
    if kind is None or kind.elem_type != attributes(node).get("to", 0):
        return ""
    return str(node.input[0])


def _only_input(graph: Graph, node: onnx.NodeProto, types: Types) -> str:
    return node.input[0] if len(node.input) == 1 else ""


def _slice(graph: Graph, node: onnx.NodeProto, types: Types) -> str:
    """Everything, or exactly one of the tensors that a Concat joined."""
    shape = shape_of(types.get(node.input[0]))
    starts, ends = parameter(graph, node, "starts", 1), parameter(graph, node, "ends", 2)
    if shape is None or starts is None or ends is None:
        return ""
    axes = parameter(graph, node, "axes", 3)
    steps = parameter(graph, node, "steps", 4)
    if (axes is None and len(node.input) > 3 and node.input[3]) or (len(node.input) > 4 and steps is None):
        return ""
    if steps is not None and not (steps == 1).all():
        return ""
    where = range(len(starts)) if axes is None else [int(axis) % len(shape) for axis in axes]
    cuts = {
        axis: (int(start), int(end))
        for axis, start, end in zip(where, starts, ends, strict=True)
        if start or not (end >= END or _at_least(end, shape[axis]))
    }
    if not cuts:
        return str(node.input[0])
    return _part(graph, node.input[0], *cuts.popitem(), types) if len(cuts) == 1 else ""


def _at_least(end: int, size: int | None) -> bool:
    return size is not None and end >= size


def _part(graph: Graph, name: str, axis: int, cut: tuple[int, int], types: Types) -> str:
    """The tensor that lies from `cut[0]` to `cut[1]` on the `axis` on which a Concat made `name`."""
    joined = graph.producer.get(name)
    shapes = [shape_of(types.get(part)) for part in joined.input] if joined and is_standard(joined, "Concat") else []
    if joined is None or any(shape is None for shape in shapes) or not shapes:
        return ""
    if attributes(joined)["axis"] % len(shapes[0] or ()) != axis:
        return ""
    place = 0
    for i, (part, shape) in enumerate(zip(joined.input, shapes, strict=True)):
        size = shape[axis] if shape else None
        if size is None:
            return ""
        last = i == len(shapes) - 1 and cut[1] >= place + size
        if cut[0] == place and size and (cut[1] == place + size or last):
            return str(part)
        place += size
    return ""


def _neutral(value: float, sides: tuple[int, ...]) -> Rule:
    """A constant `value` on one of the other `sides`, that does not enlarge the tensor."""

    def rule(graph: Graph, node: onnx.NodeProto, types: Types) -> str:
        for side in sides:
            constant, name = graph.constant(node.input[side]), str(node.input[1 - side])
            if constant is None or constant.dtype.kind not in "fiu" or not (constant == value).all():
                continue
            shape = shape_of(types.get(name))
            if shape is not None and fits_into(constant.shape, shape):
                return name
        return ""

    return rule


def fits_into(small: tuple[int, ...], shape: tuple[int | None, ...]) -> bool:
    """Whether broadcasting `small` with `shape` gives `shape`, whatever its open sizes are."""
    return len(small) <= len(shape) and all(
        s == 1 or s == d for s, d in zip(reversed(small), reversed(shape), strict=False)
    )


def _pad(graph: Graph, node: onnx.NodeProto, types: Types) -> str:
    pads = parameter(graph, node, "pads", 1)
    return node.input[0] if pads is not None and not pads.any() else ""


def _resize(graph: Graph, node: onnx.NodeProto, types: Types) -> str:
    attrs = attributes(node)
    if attrs.get("coordinate_transformation_mode") == b"tf_crop_and_resize" or attrs.get("antialias", 0):
        return ""
    if attrs.get("mode", b"nearest") not in (b"nearest", b"linear"):
        return ""
    if len(node.input) > 3 and node.input[3]:
        before, after = (static_shape(types.get(name)) for name in (node.input[0], node.output[0]))
        return node.input[0] if before is not None and before == after else ""
    scales = parameter(graph, node, "scales", 2 if len(node.input) > 2 else 1)
    return node.input[0] if scales is not None and scales.size and bool((scales == 1).all()) else ""


def _transpose(graph: Graph, node: onnx.NodeProto, types: Types) -> str:
    perm = attributes(node).get("perm")
    return node.input[0] if perm is not None and list(perm) == sorted(perm) else ""


def _same_shape(graph: Graph, node: onnx.NodeProto, types: Types) -> str:
    """The same order of numbers in the same shape; one open size is settled by the number of elements."""
    before, after = shape_of(types.get(node.input[0])), shape_of(types.get(node.output[0]))
    known = before is not None and before == after and 0 not in before and before.count(None) <= 1
    return node.input[0] if known else ""


def _expand(graph: Graph, node: onnx.NodeProto, types: Types) -> str:
    wanted, shape = graph.constant(node.input[1]), shape_of(types.get(node.input[0]))
    if wanted is not None and shape is not None:
        return node.input[0] if fits_into(tuple(int(size) for size in wanted), shape) else ""
    before, after = (static_shape(types.get(name)) for name in (node.input[0], node.output[0]))
    return node.input[0] if before is not None and before == after else ""


def _tile(graph: Graph, node: onnx.NodeProto, types: Types) -> str:
    repeats = graph.constant(node.input[1]) if len(node.input) == 2 else None
    return node.input[0] if repeats is not None and bool((repeats == 1).all()) else ""


def _pool(graph: Graph, node: onnx.NodeProto, types: Types) -> str:
    """Windows of one element, one after the other: torch writes AdaptiveAvgPool2d to the size that is there so."""
    attrs = attributes(node)
    window = attrs.get("kernel_shape", ())
    moves = set(attrs.get("strides", (1,))) != {1} or any(attrs.get("pads", ()))
    return node.input[0] if window and set(window) == {1} and not moves else ""


RULES: dict[str, Rule] = {
    "Add": _neutral(0, (0, 1)),
    "AveragePool": _pool,
    "Cast": _cast,
    "Concat": _only_input,
    "Div": _neutral(1, (1,)),
    "Expand": _expand,
    "Flatten": _same_shape,
    "Max": _only_input,
    "MaxPool": _pool,
    "Min": _only_input,
    "Mul": _neutral(1, (0, 1)),
    "Pad": _pad,
    "Reshape": _same_shape,
    "Resize": _resize,
    "Slice": _slice,
    "Sub": _neutral(0, (1,)),
    "Sum": _only_input,
    "Tile": _tile,
    "Transpose": _transpose,
    "Upsample": _resize,
}
