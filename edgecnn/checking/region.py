"""What lies between a point and the nearest points it is made from: one layer, or several that nothing tells apart.

    x ──> conv ──> mul ──> conv ──> y        x and y have counterparts, what is between has none: 3 nodes, 3 roundings

Roundings add up: where one layer may leave the noise N, a region of n roundings may leave n N, 10 log10 n (dB) more.
Test: tests/test_region.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgecnn.checking.comparison import Comparison
from exporters.graph import is_standard, label
from exporters.layerwise.partial import computes


@dataclass(frozen=True)
class Region:
    """How many nodes compute between a point and its parents, which is the first, and how many results are rounded."""

    nodes: int = 1
    begins: str = ""
    roundings: int = 1

    @property
    def slack_db(self) -> float:
        """How much more noise it may leave than one layer.

        >>> Region(nodes=24, roundings=10).slack_db
        10.0
        """
        return 10 * math.log10(max(1, self.roundings))


def region(comparison: Comparison, point: int) -> Region:
    """The region of `point` in the side that is bisected."""
    side, which = comparison.graph
    if side is None:
        return Region()
    near, (own,) = comparison.tensors(comparison.points.parents[point], which), comparison.tensors([point], which)
    nodes = side.segment(own, near)
    computing = [node for node in nodes if computes(node)]
    made = {name for node in computing for name in node.output}
    rounded = sum(is_standard(node, "QuantizeLinear") and node.input[0] in made for node in nodes)
    return Region(max(1, len(computing)), label(computing[0]) if computing else "", max(1, rounded))


def allowed(comparison: Comparison, point: int, limit_db: float) -> float:
    """`limit_db`, less what the region of `point` may leave beside a layer where the limit is that of one layer."""
    return limit_db - region(comparison, point).slack_db if comparison.per_layer else limit_db
