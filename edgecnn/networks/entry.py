"""What a graph does first with an input: where that has its channels, and how pixels of 0..255 are brought down.

    x -> Transpose [0, 3, 1, 2] -> Conv           channels last, whatever the sizes are
    x -> Conv                                     channels first
    x -> Mul 1/255 -> Add -> Transpose -> Conv    channels last, and x are pixels of 0..255

Steps with constants, as Mul and Pad are, leave the axes where they are. Test: tests/test_entry.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import onnx

from edgecnn.networks.layout import UNKNOWN, Entry
from exporters.graph import Graph, attributes, free_inputs, is_standard
from runtimes.base import Array

Axes = tuple[int | None, ...]
"""The axis of the input that each axis of a tensor is; None for one that was put in."""

SECOND = (
    "Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "BatchNormalization", "InstanceNormalization",
    "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "SpaceToDepth",
)  # fmt: skip
"""Operators that have channels on the second axis by their definition."""
AFFINE = ("Mul", "Div", "Add", "Sub")
SAME = ("Cast", "Identity", "Pad", "Clip", "Relu", "Neg", "QuantizeLinear", "DequantizeLinear")
"""Operators that change no axis."""
MOST_STEPS = 16
LEVELS, HALF_LEVELS, NEAR = 255.0, 127.5, 0.02
"""What graphs divide pixels by, and how near a factor must be."""
LARGEST_MEAN = 5.0
"""What is subtracted from numbers of -1 to 1 is smaller."""


def entry_of(model: onnx.ModelProto, name: str | None = None) -> Entry:
    """The entry of the input `name` of `model`, by default its first that must be fed."""
    value = next((v for v in free_inputs(model) if name in (None, v.name)), None)
    if value is None:
        return UNKNOWN
    sizes = tuple(d.dim_value or None for d in value.type.tensor_type.shape.dim)
    graph = Graph(model, copied=False)
    axes = tuple(range(len(sizes)))
    if len(axes) < 3:
        return Entry(None, _levels(graph, value.name))
    found = set(_places(graph, value.name, sizes, axes, MOST_STEPS))
    last = True if found == {axes[-1]} else False if found == {1} else None
    return Entry(last, _levels(graph, value.name))


def _places(graph: Graph, name: str, sizes: Sequence[int | None], axes: Axes, left: int) -> Iterator[int]:
    """The axes of the input that layers behind tensor `name` take for channels; -1 where that cannot be."""
    for node in graph.consumers.get(name, []) if left else []:
        if node.input[0] != name and node.op_type not in AFFINE:
            continue
        if any(is_standard(node, op) for op in SECOND):
            place = axes[1] if len(axes) > 2 else None
            yield -1 if place is None else place
            continue
        moved = _moved(graph, node, name, sizes, axes)
        if moved is not None:
            yield from _places(graph, node.output[0], sizes, moved, left - 1)


def _moved(graph: Graph, node: onnx.NodeProto, name: str, sizes: Sequence[int | None], axes: Axes) -> Axes | None:
    """`axes` behind `node`; None where that is not known."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type in SAME:
        return axes
    if node.op_type in AFFINE:
        other = _other(graph, node, name)
        return axes if other is not None and other.ndim <= len(axes) else None
    if node.op_type == "Transpose":
        order = attributes(node).get("perm", range(len(axes))[::-1])
        return tuple(axes[i] for i in order)
    told = graph.constant(node.input[1]) if len(node.input) > 1 else None
    if node.op_type == "Unsqueeze":
        put = attributes(node).get("axes") if told is None else told.tolist()
        return None if put is None else _with_ones(axes, put)
    if node.op_type == "Reshape" and told is not None:
        return _reshaped(sizes, axes, told.tolist())
    return None


def _other(graph: Graph, node: onnx.NodeProto, name: str) -> Array | None:
    """The constant that an operator of two inputs has beside tensor `name`."""
    others = [given for given in node.input if given != name]
    return graph.constant(others[0]) if len(others) == 1 else None


def _with_ones(axes: Axes, put: Sequence[int]) -> Axes:
    count = len(axes) + len(put)
    ones, rest = {i % count for i in put}, iter(axes)
    return tuple(None if i in ones else next(rest) for i in range(count))


def _reshaped(sizes: Sequence[int | None], axes: Axes, target: Sequence[int]) -> Axes | None:
    """`axes` behind a Reshape that moves only axes of size 1, as of grey pictures with channels last; else None.

    >>> _reshaped((None, 32, 24, 1), (0, 1, 2, 3), (-1, 1, 32, 24))
    (0, 3, 1, 2)
    """
    have, wanted = [1 if i is None else sizes[i] for i in axes[1:]], list(target[1:])
    if have == wanted:
        return axes
    if len(have) != len(wanted) or [s for s in have if s != 1] != [s for s in wanted if s != 1]:
        return None
    ones, wide = ([i for i, s in zip(axes[1:], have, strict=True) if (s == 1) == one] for one in (True, False))
    return (axes[0], *(ones.pop() if size == 1 else wide.pop(0) for size in wanted))  # the last one is of channels


def _levels(graph: Graph, name: str) -> str:
    """What the first steps with constants behind tensor `name` do with pixels of 0..255; empty for none of that."""
    scale, shift, factors = 1.0, 0.0, []
    for _ in range(MOST_STEPS):
        node = graph.only_consumer(name)
        other = _other(graph, node, name) if node is not None and node.op_type in AFFINE else None
        if node is None or not (node.op_type in ("Cast", "Identity", "Transpose") or other is not None):
            break
        if other is not None:
            value, behind = float(other.mean()), node.input[0] == name
            if node.op_type in ("Mul", "Div"):
                if node.op_type == "Div" and (not behind or not value):
                    break
                factor = value if node.op_type == "Mul" else 1 / value
                scale, shift = scale * factor, shift * factor
                factors.append(factor)
            elif node.op_type == "Sub" and not behind:
                scale, shift = -scale, value - shift
            else:
                shift += value if node.op_type == "Add" else -value
        name = node.output[0]
    by = next((by for by in (LEVELS, HALF_LEVELS) for f in factors[:1] if math.isclose(f * by, 1, rel_tol=NEAR)), None)
    if by is not None:
        return f"divides by {by:g}"
    mean = -shift / scale if scale else 0.0
    return f"subtracts {mean:.4g}" if LARGEST_MEAN < mean <= LEVELS else ""
