"""Layer by layer: why it is int8 or float in the integer graph, with its measured time in both forms.

    layer1.0.conv1    float    faster in float: int8 484 us, float 120 us

Test: tests/test_contest.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgecnn.choosing.choose import FLOAT, INT8
from exporters.layerwise.layer_times import LayerTimes
from exporters.quantization.quantize import Quantized
from exporters.searching.search import Design
from exporters.searching.workshop import Workshop


@dataclass(frozen=True)
class LayerChoice:
    """One layer of the integer graph: what it is, and its time in both forms (None: not measured alone)."""

    node: str
    kind: str
    int8_us: float | None
    float_us: float | None
    why: str

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def layer_choices(shop: Workshop, design: Design) -> tuple[LayerChoice, ...]:
    """Every node that takes time in `design`, with its time in int8 (as if nothing were kept in float) and in float."""
    everywhere = Design(design.rewrites)
    if shop.built(everywhere) is None:
        return ()
    int8, floats = shop.times(everywhere)
    plan = shop.built(design)
    assert plan is not None
    reasons = dict(plan.quantized.float_nodes)
    kept = set(design.kept_float)
    names = [n.name for n in shop.source(design.rewrites).graph.node]
    return tuple(_layer(n, int8, floats, kept, reasons) for n in names if n in int8.by_node or n in floats.by_node)


def _layer(node: str, int8: LayerTimes, floats: LayerTimes, kept: set[str], reasons: Mapping[str, str]) -> LayerChoice:
    a, b = int8.by_node.get(node), floats.by_node.get(node)
    times = f"int8 {a:.0f} us, float {b:.0f} us" if a is not None and b is not None else ""
    if node in kept:
        slower = a is not None and b is not None and a > b
        why = "faster in float" if slower else "in the middle of layers that are faster in float"
        return LayerChoice(node, FLOAT, a, b, f"{why}: {times}" if times else why)
    if node in reasons:
        return LayerChoice(node, FLOAT, a, b, reasons[node])
    return LayerChoice(node, INT8, a, b, times)


def explained(quantized: Quantized, layers: Sequence[LayerChoice], returned: Mapping[str, str]) -> Quantized:
    """`quantized` with measured reasons in the place of "excluded by" for what is float for speed or accuracy."""
    why = {**{layer.node: layer.why for layer in layers if layer.kind == FLOAT}, **returned}
    floats = tuple((node, why.get(node, reason)) for node, reason in quantized.float_nodes)
    return replace(quantized, float_nodes=floats)
