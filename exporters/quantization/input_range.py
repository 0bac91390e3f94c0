"""The range that a quantized model can see of each input: that of the grid onto which it is rounded first.

    x ── Pad, Transpose ... ── QuantizeLinear(scale s, zero point z)        s (0 - z) <= x <= s (255 - z)     (uint8)

What leaves it is clipped, so that inputs from outside say nothing about the model's layers. Test: tests/test_seeded.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from exporters.graph import constant_value, free_inputs
from runtimes.base import Array

MOVES = {"Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Pad", "Slice", "SpaceToDepth"}
"""Operators that move numbers and leave them as they are."""
Range = tuple[float, float]


def input_ranges(model: onnx.ModelProto) -> dict[str, Range]:
    """(lowest, highest) by input, for those that are rounded to a grid of one known scale; `model` is not copied."""
    known = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer
             if not tensor.external_data and np.prod(tensor.dims, dtype=int) == 1}  # fmt: skip
    for node in model.graph.node:
        value = constant_value(node) if node.op_type == "Constant" else None
        if value is not None and value.size == 1:
            known[node.output[0]] = value
    found = {value.name: list(_ranges(model, value.name, known)) for value in free_inputs(model)}
    return {name: (max(r[0] for r in ranges), min(r[1] for r in ranges)) for name, ranges in found.items() if ranges}


def _ranges(model: onnx.ModelProto, tensor: str, known: dict[str, Array]) -> Iterator[Range]:
    for node in model.graph.node:
        if not node.input or node.input[0] != tensor:
            continue
        if node.op_type == "QuantizeLinear" and all(name in known for name in node.input[1:] if name):
            yield grid_range(*(known[name] for name in node.input[1:] if name))
        elif node.op_type in MOVES:
            yield from _ranges(model, node.output[0], known)


def grid_range(scale: Array, zero: Array | None = None) -> Range:
    """What a grid can hold; without a zero point it is uint8 around 0.

    >>> low, high = grid_range(np.float32(0.5), np.int8(-128))
    >>> float(low), float(high)
    (0.0, 127.5)
    """
    point = np.zeros((), np.uint8) if zero is None else np.asarray(zero)
    if point.dtype.kind not in "iu":
        return -np.inf, np.inf
    limits = np.iinfo(point.dtype)
    step, offset = float(np.asarray(scale).item()), int(point.item())
    return step * (limits.min - offset), step * (limits.max - offset)
