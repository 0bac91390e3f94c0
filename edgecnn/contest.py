"""Find the integer graph that deserves to race against float: searched for speed, calibrated on all images, judged.

    workshop + search -> fastest design -> calibrate it on all images -> within the budget? -> race with float
                                                                     no: layers go back to float, the most sensitive
                                                                         ones first, until the budget holds

Used by `quantize` and `build`; imports no torch. Test: tests/test_contest.py.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx

from edgecnn import choose
from edgecnn.choose import FLOAT, INT8, MIXED, Decision, Entry, Trial
from edgecnn.material import Material
from exporters.layer_times import LayerTimes
from exporters.quantize import Quantized, QuantRecipe, quantize_model
from exporters.search import Design, Found, search
from exporters.workshop import Workshop
from runtimes.base import Track, silent

PLAIN = "plain int8"
SEARCH_SECONDS = 30.0
"""Default of `--search-budget`: most networks are done earlier."""
NOTHING = Found(Design(), (), True)


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
class Contest:
    """What was tried and what came of it. `quantized` is the integer graph that the search led to, on all images."""

    decision: Decision
    quantized: Quantized
    found: Found
    layers: tuple[LayerChoice, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The timing table that the artifact keeps."""
        refused = {"seconds": round(self.seconds, 2), "layers": [layer.to_dict() for layer in self.layers]}
        return {**self.found.to_dict(), **refused}


def compete(
    float_model: onnx.ModelProto,
    recipe: QuantRecipe,
    material: Material,
    trial: Trial,
    search_seconds: float = SEARCH_SECONDS,
    track: Track = silent,
) -> Contest:
    """Search, calibrate, judge and race; `search_seconds` bounds the search alone (0: two designs are compared)."""
    feeds = material.calibration_feeds
    shop = Workshop(float_model, feeds[:2], recipe, trial.threads, trial.seed)
    if shop.identity(Design()) is None:
        nothing = quantize_model(float_model, feeds[:1], recipe)
        return Contest(choose.decide({FLOAT: Entry(float_model, FLOAT)}, trial, track), nothing, NOTHING, (), 0.0)
    started = time.perf_counter()
    for _ in track((None,), "searching"):
        found = search(shop, lambda: search_seconds - (time.perf_counter() - started))
    seconds = time.perf_counter() - started
    layers = layer_choices(shop, found.design)
    quantized = on_all_images(shop, found.design, material, track)
    entries = {FLOAT: Entry(float_model, FLOAT)}
    if not found.design.is_plain:
        plain = shop.built(Design())
        assert plain is not None
        entries[PLAIN] = Entry(plain.quantized.model, INT8, "only for comparison")
    kind = MIXED if found.design.kept_float else INT8
    entries[kind] = Entry(quantized.model, kind)
    decision = choose.decide(entries, trial, track)
    return Contest(decision, explained(quantized, layers), found, layers, seconds)


def on_all_images(shop: Workshop, design: Design, material: Material, track: Track) -> Quantized:
    """The integer graph of `design` on the ranges of all calibration images."""
    source, recipe = shop.source(design.rewrites), shop.recipe_of(design)
    recipe = replace(recipe, data=material.calibration.name, images=len(material.calibration))
    return quantize_model(source, material.calibration_feeds, recipe, ids=material.calibration.ids, track=track)


# ---------------------------------------------------------------------------------------------------- layer by layer
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


def explained(quantized: Quantized, layers: Sequence[LayerChoice]) -> Quantized:
    """`quantized` with measured reasons in the place of "excluded by" for what the search kept in float."""
    why = {layer.node: layer.why for layer in layers if layer.kind == FLOAT}
    floats = tuple((node, why.get(node, reason)) for node, reason in quantized.float_nodes)
    return replace(quantized, float_nodes=floats)
