"""Which tensors of a graph are the results of which PyTorch module, also where a rewrite put one module inside another.

    Conv, module 0 ── Relu, module 1 ── Transpose of module 0 ── r        a layout that goes back: r is 1's

Test: tests/test_diff_suspects.py.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from exporters.layerwise.correspond import Unit
from exporters.layerwise.partial import CARRIERS, Parts, is_layout

GRID = ("QuantizeLinear", "DequantizeLinear")


def owned_by(layers: Sequence[Unit], parts: Parts, order: Mapping[str, int]) -> dict[str, list[str]]:
    """Module -> what it made, in the graph's order. `order`: when each module was called first.

    What only moves the result of a module that was called later is that result, laid out as in the network again.
    """
    computing = {unit.module for unit in layers if unit.op not in CARRIERS}
    made: dict[str, tuple[str, int]] = {}
    found: dict[str, list[str]] = {}
    for unit in layers:
        before = made.get(_source(parts, unit, made))
        later = before is not None and order.get(before[0], -math.inf) > order.get(unit.module, math.inf)
        moves = unit.op in GRID or (unit.op in CARRIERS and unit.module in computing and later)
        if before is not None and moves:
            module, place = before
            found[module][place] = unit.output
        else:
            module, place = unit.module, len(found.setdefault(unit.module, []))
            found[module].append(unit.output)
        made[unit.output] = module, place
    return found


def _source(parts: Parts, unit: Unit, made: Collection[str]) -> str:
    """The one of `made` that `unit` reads, behind the steps of a grid; else what its first node reads."""
    name, inside = unit.output, True
    while name in parts.place and name not in made:
        node = parts.nodes[parts.place[name]]
        if not node.input or not (inside or node.op_type in GRID or is_layout(node)):
            break
        inside, name = inside and node.name != unit.node, node.input[0]
    return name
