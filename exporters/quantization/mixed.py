"""Ranges that must not share a grid: a Concat of boxes (0..640) and scores (0..1), found from the calibrated ranges.

    boxes  0..640 --+
                    Concat --> one uint8 grid, step 2.5: every score is rounded to zero
    scores 0..1   --+

At the end of a network, where no further layer reads the numbers, int8 saves next to nothing: a Concat whose narrowest
part has a range `END_RATIO` times narrower than the widest stays float there, and so does an Add or Mul that gives its
channels such ranges (`CHANNEL_RATIO`). Inside a network the layers that read a Concat need all of it on one grid: they
and the Concat stay float when the ratio is above `INSIDE_RATIO`, which leaves the narrow part 8 of 256 steps.
Detectors with NonMaxSuppression need no ranges for that (`tail`). Test: tests/test_mixed.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from exporters.graph import Graph, label
from exporters.quantization.calibration import Calibration
from exporters.quantization.grids import COARSEST
from exporters.quantization.kernels import CARRIERS, COMPUTE, CUTTERS
from exporters.quantization.placement import Plan
from exporters.quantization.tail import behind
from runtimes.base import Array

END_RATIO, INSIDE_RATIO, CHANNEL_RATIO = COARSEST, 32.0, 32.0


def mixed(model: onnx.ModelProto, plan: Plan, seen: Calibration) -> dict[str, str]:
    """Node -> reason, for the int8 nodes of `plan` that must stay float so that ranges do not share a grid."""
    graph = Graph(model, copied=False)
    ranges = {name: seen.ranges[root] for name, root in plan.grids.items() if root in seen.ranges}
    channels = {entry.tensor: entry.channel_high - entry.channel_low for entry in seen.seen}
    ends = behind(graph, COMPUTE)
    found: dict[str, str] = {}
    for node in graph.proto.node:
        if not node.output or node.output[0] not in plan.int8:
            continue
        at_end = node.output[0] in ends
        ratio = _ratio(_widths(node, ranges)) if node.op_type == "Concat" else 1.0
        if ratio > (END_RATIO if at_end else INSIDE_RATIO):
            reason = f"one grid for ranges {ratio:.0f} times as wide as others would lose the narrow ones"
            found |= {label(other): reason for other in [node, *([] if at_end else _readers(graph, node))]}
        elif at_end and node.op_type in ("Add", "Mul", "Concat"):
            ratio = _ratio(channels.get(plan.grids.get(node.output[0], ""), np.zeros(0)))
            if ratio > CHANNEL_RATIO:
                found[label(node)] = f"one grid for channels {ratio:.0f} times as wide as others would lose these"
    return found


def _widths(node: onnx.NodeProto, ranges: Mapping[str, tuple[float, float]]) -> Array:
    """Width of the range of each operand that has a grid, with zero in it, as the grid has."""
    ends = [ranges[name] for name in node.input if name in ranges]
    return np.array([max(high, 0.0) - min(low, 0.0) for low, high in ends])


def _ratio(widths: Array) -> float:
    """The widest over the narrowest that is not dead; 1 for fewer than two."""
    live = widths[widths > 0]
    return float(live.max() / live.min()) if live.size > 1 else 1.0


def _readers(graph: Graph, node: onnx.NodeProto) -> Sequence[onnx.NodeProto]:
    """All that reads the numbers of `node` on its grid: through what only moves or cuts them, up to the layers."""
    found: list[onnx.NodeProto] = []
    waiting = list(node.output)
    while waiting:
        for reader in graph.consumers.get(waiting.pop(), []):
            if all(reader is not other for other in found):
                found.append(reader)
                if reader.op_type in CARRIERS + CUTTERS:
                    waiting += list(reader.output)
    return found
