"""Layer by layer: why it is int8 or float in the integer graph, with its measured time in both forms.

    layer1.0.conv1    float    faster in float: int8 484 us, float 120 us
    layer1.0.relu     float    its region of 3 layers won in float, graph at 1.08x; alone int8 23 us, float 27 us

A layer's own time leaves out what it costs to go from float to int8 and back at its ends: the region's race counts.
Test: tests/test_layer_choices.py, tests/test_contest.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgecnn.choosing.choose import FLOAT, INT8
from exporters.layerwise.layer_times import LayerTimes
from exporters.quantization.quantize import Quantized
from exporters.quantization.why_float import FORM, LEFT_OUT, OUTRACED
from exporters.searching.search import Design, Found, Step
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


@dataclass(frozen=True)
class Returned:
    """What went back to float in one step of the search: how many layers, and how much faster the graph became."""

    layers: int
    ratio: float

    def __str__(self) -> str:
        what = (
            f"its region of {self.layers} layers won in float" if self.layers > 1 else "won in float, its ends counted"
        )
        return f"{what}, graph at {self.ratio:.2f}x"


def returned_by(steps: Sequence[Step]) -> dict[str, Returned]:
    """The adopted step that took each layer back to float; the last one where there were several."""
    found: dict[str, Returned] = {}
    before: set[str] = set()
    for step in steps:
        if not step.adopted:
            continue
        kept = set(step.design.kept_float)
        found |= dict.fromkeys(kept - before, Returned(len(kept - before), step.ratio))
        before = kept
    return found


def layer_choices(shop: Workshop, found: Found) -> tuple[LayerChoice, ...]:
    """Every node that takes time in the design that was `found`, with its time in int8 (as if nothing were kept in
    float) and in float.
    """
    design, steps = found.design, returned_by([step for step in found.steps if not found.left(step)])
    everywhere = Design(design.rewrites)
    if shop.built(everywhere) is None:
        return ()
    int8, floats = shop.times(everywhere)
    plan = shop.built(design)
    assert plan is not None
    raced = any(FORM in step.design.rewrites for step in found.steps)
    reasons = {node: OUTRACED if raced and why == LEFT_OUT else why for node, why in plan.quantized.float_nodes}
    kept = {name: steps.get(name) for name in design.kept_float}
    names = [n.name for n in shop.source(design.rewrites).graph.node]
    return tuple(_layer(n, int8, floats, kept, reasons) for n in names if n in int8.by_node or n in floats.by_node)


def _layer(
    node: str,
    int8: LayerTimes,
    floats: LayerTimes,
    kept: Mapping[str, Returned | None],
    reasons: Mapping[str, str],
) -> LayerChoice:
    a, b = int8.by_node.get(node), floats.by_node.get(node)
    times = f"int8 {a:.0f} us, float {b:.0f} us" if a is not None and b is not None else ""
    if node in kept:
        slower = a is not None and b is not None and a > b
        region = str(kept[node] or "its region won in float")
        why = f"faster in float: {times}" if slower else f"{region}; alone {times}" if times else region
        return LayerChoice(node, FLOAT, a, b, why)
    if node in reasons:
        return LayerChoice(node, FLOAT, a, b, reasons[node])
    return LayerChoice(node, INT8, a, b, times)


def explained(quantized: Quantized, layers: Sequence[LayerChoice], returned: Mapping[str, str]) -> Quantized:
    """`quantized` with measured reasons in the place of "excluded by" for what is float for speed or accuracy."""
    why = {**{layer.node: layer.why for layer in layers if layer.kind == FLOAT}, **returned}
    floats = tuple((node, why.get(node, reason)) for node, reason in quantized.float_nodes)
    return replace(quantized, float_nodes=floats)
