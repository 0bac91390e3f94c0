"""The uint8 grid of every planned tensor, from the ranges that calibration saw.

    plain       [low, high]                                        scale (high - low) / 255
    joined      one grid for all that a Concat brings together     [min low, max high]
    hard        what HardSwish reads, [-3, high]                   scale 3 / z, zero point z = floor(255 3 / (high + 3))
    gate        what HardSigmoid makes                             the same integers on scale 3 / z / 6, zero point 0
    maximum     x of max(x, s x), s <= 1                           one grid for x, s x and the maximum
    cut         what a ReLU or Clip of nobody's leaves             the grid of what it reads, or else a plain one

On the hard grid the integer q stands for x = (q - z) 3 / z, so that x + 3 = q 3 / z: clip(x + 3, 0, 6) / 6 is the same
tensor, cut off at q = 2 z and read with another scale. HardSwish is then a product of two readings, HardSigmoid none.
Below -3 both are zero, which is where the grid saturates. Joined grids cost resolution: where a member's own grid would
be `COARSEST` times finer, the set keeps its own grids. A cut has a grid of its own for the same reason, and where what
it leaves is not on the grid of what it reads: clip(x, 2, 6) of x <= 1 is 2. Test: tests/test_grids.py.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np

from exporters.quantization.affine import Grid, activation_grid
from exporters.quantization.placement import Plan, meeting

Ranges = Mapping[str, tuple[float, float]]
COARSEST = 4.0
"""Two bits: what a member of a joined set, or what a ReLU or Clip leaves, may lose."""
GATE = (0.0, 1.0)
"""What HardSigmoid makes; max(x, s x) of it is x."""
HARD_HIGH = 0.1
"""HardSwish reaches at least this far, so that its zero point fits into 8 bits."""


def grids_of(plan: Plan, ranges: Ranges) -> dict[str, Grid]:
    """Tensor name -> grid, for all tensors of `plan.grids`."""
    cuts = cuts_apart(plan, ranges)
    ranges = {**ranges, **cuts}
    roots = {name: _root(plan, name, cuts) for name in plan.grids}
    own = {root: activation_grid(*ranges[root]) for root in [*plan.observed, *cuts]}
    maxima = {name: roots[name] for name in plan.maxima if roots[name] not in plan.gates}
    for root in set(maxima.values()):
        met = [ranges[root], *(ranges[name] for name, at in maxima.items() if at == root)]
        own[root] = activation_grid(min(low for low, _ in met), max(high for _, high in met))
    fixed = frozenset({*plan.hard_inputs, *plan.gates, *maxima.values()})
    for group in meeting(frozenset(roots.get(name, name) for name in names) for names in plan.joined):
        own |= join(group, ranges, fixed)
    for root in plan.hard_inputs:
        own[root] = hard_grid(3.0 if root in plan.gates.values() else ranges[root][1])
    for gate, source in plan.gates.items():
        own[gate] = gate_grid(own[source])
    return {name: own[root] for name, root in roots.items()}


def cuts_apart(plan: Plan, ranges: Ranges) -> dict[str, tuple[float, float]]:
    """The cuts of `plan` that need a grid of their own -> the range of what they leave."""
    left: dict[str, tuple[float, float]] = {}
    apart: dict[str, tuple[float, float]] = {}
    for name, (source, least, most) in plan.cuts.items():
        on = _root(plan, source, apart)
        whole = GATE if on in plan.gates else apart.get(on) or ranges[on]
        low, high = left.get(plan.behind.get(source, ""), whole)
        left[name] = min(max(low, least), most), min(max(high, least), most)
        if not holds(whole, left[name]):
            apart[name] = left[name]
    return apart


def _root(plan: Plan, name: str, apart: Collection[str]) -> str:
    """The tensor whose grid `name` is on, where the cuts `apart` have grids of their own."""
    at = plan.behind.get(name, "")
    while at and at not in apart:
        at = plan.behind.get(plan.cuts[at][0], "")
    return at or plan.grids[name]


def holds(whole: tuple[float, float], part: tuple[float, float]) -> bool:
    """Whether the grid of the range `whole` reaches as far as `part`, and is not `COARSEST` times coarser than its own.

    >>> holds((-1, 1), (0, 1)), holds((-1, 1), (0.0, 0.1)), holds((-1, 1), (2, 2)), holds((-1, 1), (0, 0))
    (True, False, False, True)
    """
    low, high = min(whole[0], 0.0), max(whole[1], 0.0)
    least, most = min(part[0], 0.0), max(part[1], 0.0)
    return low <= least and most <= high and (most == least or high - low <= COARSEST * (most - least))


def join(group: frozenset[str], ranges: Ranges, fixed: frozenset[str] = frozenset()) -> dict[str, Grid]:
    """One grid for all of `group`; empty when that would be too coarse for one of them, or one is `fixed`."""
    if group & fixed:
        return {}
    ends = [(min(ranges[name][0], 0.0), max(ranges[name][1], 0.0)) for name in sorted(group)]
    low, high = min(e[0] for e in ends), max(e[1] for e in ends)
    if any(high - low > COARSEST * (b - a) for a, b in ends):
        return {}
    grid = activation_grid(low, high)
    return dict.fromkeys(group, grid)


def hard_grid(high: float) -> Grid:
    """The grid on [-3, `high` or a little more] whose scale is 3 / zero point; it ends at 762 whatever `high` is."""
    zero = max(1, math.floor(3 * 255 / (max(high, HARD_HIGH) + 3)))
    return Grid(np.asarray(np.float32(3 / zero)), np.asarray(zero, np.uint8))


def gate_grid(source: Grid) -> Grid:
    """The grid on which the integers of a hard grid are clip(x + 3, 0, 6) / 6."""
    return Grid(np.asarray(np.float32(source.scale / 6)), np.asarray(0, np.uint8))


def on_grid(value: float, grid: Grid) -> int:
    """The integer nearest to `value`, which may be infinite."""
    return int(grid.quantize(np.asarray(value, np.float32)))
