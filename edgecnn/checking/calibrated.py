"""Do inputs that nobody calibrated with leave the grids of an int8 layer? Then what it loses is no fault of the layer.

    right inputs of the layer ── ... ── v ── QuantizeLinear(s, z)        lost: v - clip(v, s (0 - z), s (255 - z))

Made pictures are as vivid as photographs; a network that was calibrated on digits never saw such numbers inside.
Test: tests/test_calibrated.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgecnn.checking.comparison import Comparison, Row
from edgecnn.checking.divergence import Divergence
from edgecnn.checking.meter import Meter
from edgecnn.checking.region import allowed, region
from edgecnn.checking.sides import GraphSide
from exporters.graph import constant_value, is_standard
from exporters.layerwise.partial import Parts
from exporters.quantization.input_range import Range, grid_range
from runtimes.base import Array, BadInput

LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"}
ROOM_DB = 6.0
"""A layer's own arithmetic may make what is cut off count for more: twice as much, in amplitude."""


def aligned(comparison: Comparison, point: int) -> bool:
    """Whether `point` is the result of one layer, and not of all that stands before the first tensor in common."""
    graph, which = comparison.graph
    if graph is None:
        return True
    near, (own,) = comparison.tensors(comparison.points.parents[point], which), comparison.tensors([point], which)
    return sum(node.op_type in LAYERS for node in graph.segment(own, near)) <= 1


def in_range(comparison: Comparison, first: Divergence, rows: Sequence[Row]) -> Divergence | None:
    """The first of `rows` beyond the limit of `first` whose inputs stay within its grids; None where there is none."""
    slack = region(comparison, first.point).slack_db if comparison.per_layer else 0.0
    limit = first.limit_db + slack
    for row in rows:
        if row.alone_db >= limit or row.index or beyond(comparison, row.point, limit):
            continue
        if row.alone_db < allowed(comparison, row.point, limit):
            there = region(comparison, row.point)
            named = replace(first, node=row.layer.node, op=row.layer.op, module=row.layer.module, nodes=there.nodes)
            return replace(named, snr_db=row.snr_db, alone_db=row.alone_db, point=row.point, begins=there.begins)
    return None


def beyond(comparison: Comparison, point: int, limit_db: float) -> bool:
    """Whether the candidate's layer cuts off so much of the reference's numbers that this explains `limit_db`."""
    return cut_db(comparison, point) < limit_db + ROOM_DB


def cut_db(comparison: Comparison, point: int) -> float:
    """SNR (dB) that the narrowest grid of the candidate's layer leaves of the numbers that the reference gives it."""
    side = comparison.candidate
    if not isinstance(side, GraphSide):
        return math.inf
    near = comparison.tensors(comparison.points.parents[point], 1)
    (own,) = comparison.tensors([point], 1)
    grids = _grids(side.parts, own, near)
    meters = {name: Meter() for name in grids}
    try:
        for feed, values in zip(comparison.feeds, comparison.right(point), strict=True):
            fed = comparison.as_candidate(dict(zip(near, values[:-1], strict=True)))
            made = fed | side.own(feed)
            asked = [name for name in grids if name not in made]
            if asked:
                dtypes = {name: value.dtype for name, value in fed.items() if name not in side.parts.inputs}
                made |= side.parts.open(asked, dtypes, threads=side.threads, subject=side.name)(made)
            for name, grid in grids.items():
                meters[name].add(made[name], _held(made[name], grid))
    except BadInput:  # it does not run: that is another fault
        return math.inf
    return min((meter.snr_db for meter in meters.values()), default=math.inf)


def _held(value: Array, grid: Range) -> Array:
    step = (grid[1] - grid[0]) / 255
    return np.clip(value, grid[0] - step / 2, grid[1] + step / 2)  # what only rounds is not cut off


def _grids(parts: Parts, tensor: str, near: Sequence[str]) -> dict[str, Range]:
    """What goes into a QuantizeLinear between `near` and `tensor` -> what its grid holds, where it has one scale."""
    found: dict[str, Range] = {}
    for node in parts.segment(tensor, near):
        known = [_constant(parts, name) for name in node.input[1:] if name]
        if is_standard(node, "QuantizeLinear") and all(value is not None and value.size == 1 for value in known):
            found[node.input[0]] = grid_range(*(value for value in known if value is not None))
    return found


def _constant(parts: Parts, name: str) -> Array | None:
    from onnx import numpy_helper

    if name in parts.small:
        return numpy_helper.to_array(parts.small[name])
    return constant_value(parts.nodes[parts.place[name]]) if name in parts.place else None
