"""Find the integer graph that deserves to race against float: searched for speed, calibrated on all images, judged.

    equalize -> search -> fastest design -> calibrate on all images, correct biases -> within the budget? -> race
                                                                                       no: better rounding; then layers
                                                                                       back to float, sensitive first

Equalization is exact in float and comes before the rewrites, which would hide its pairs of layers; biases are corrected
for the very layers that are int8 in the end. Each is used only where it gains on images that it has not seen.
Used by `quantize` and `build`; imports no torch. Test: tests/test_contest.py.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx

from edgecnn import choose
from edgecnn.choose import FLOAT, INT8, MIXED, Decision, Entry
from edgecnn.judge import Judge, Trial
from edgecnn.material import Material
from exporters.accuracy._work import Work, start
from exporters.improve import Effect, improve
from exporters.layer_times import LayerTimes
from exporters.quantize import Quantized, QuantRecipe, prepare, quantize_model
from exporters.search import Design, Found, search
from exporters.sensitivity import Sensitivity, excluding, fewest, rank
from exporters.workshop import Workshop
from runtimes.base import Track, silent
from runtimes.session import open_session

PLAIN, AGAIN = "plain int8", "mixed, more float"
SEARCH_SECONDS = 30.0
"""Default of `--search-budget`: most networks are done earlier."""
NOTHING = Found(Design(), (), True)
EXACT, FAST = ("equalize",), ("bias_correction",)
"""Accuracy passes that cost no speed and few seconds, before and after the rewrites."""
SLOW = ("rounding", "bias_correction", "float_last")
"""Those that need a reason: a minute of time, or a layer in float."""
NEEDS_TORCH = "rounding"
MOST_SECONDS = 30.0
"""For each further step on the way back to the budget."""
SENSITIVITY_IMAGES = 4


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
    effects: tuple[Effect, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The timing table that the artifact keeps, and what was done for the accuracy."""
        layers = [layer.to_dict() for layer in self.layers]
        effects = [effect.to_dict() for effect in self.effects]
        return {**self.found.to_dict(), "seconds": round(self.seconds, 2), "layers": layers, "accuracy": effects}


def compete(
    float_model: onnx.ModelProto,
    recipe: QuantRecipe,
    material: Material,
    trial: Trial,
    search_seconds: float = SEARCH_SECONDS,
    track: Track = silent,
) -> Contest:
    """Search, calibrate, judge and race. `search_seconds` bounds the search, and again the way back to the budget.

    With 0 seconds two designs are compared, and nothing is tried to raise the accuracy unless the budget is missed.
    """
    recipe = replace(recipe, data=material.calibration.name, images=len(material.calibration))
    entries = {FLOAT: Entry(float_model, FLOAT)}
    keeper = Keeper(float_model, recipe, material, trial, search_seconds, track)
    shop = keeper.workshop(equalize=search_seconds > 0)
    if shop.identity(Design()) is None:
        nothing = quantize_model(float_model, shop.feeds[:1], recipe)
        return Contest(choose.decide(entries, trial, track), nothing, NOTHING, (), (), 0.0)
    started = time.perf_counter()
    for _ in track((None,), "searching"):
        found = search(shop, lambda: search_seconds - (time.perf_counter() - started))
    seconds = time.perf_counter() - started
    layers = layer_choices(shop, found.design)
    work = keeper.within_budget(shop, found.design)
    if not found.design.is_plain:
        plain = shop.built(Design())
        assert plain is not None
        entries[PLAIN] = Entry(plain.quantized.model, INT8, "only for comparison")
    quantized = explained(work.quantized(), layers, keeper.returned)
    if keeper.missed is not None:
        name, model = keeper.missed
        entries[name] = Entry(model, name)
    kind = MIXED if work.recipe.exclude != recipe.exclude else INT8
    entries[kind if kind not in entries else AGAIN] = Entry(quantized.model, kind)
    decision = choose.decide(entries, trial, track)
    return Contest(decision, quantized, found, layers, tuple(keeper.effects), seconds)


class Keeper:
    """Brings an integer graph within the accuracy budget, as cheaply as it can."""

    def __init__(
        self,
        model: onnx.ModelProto,
        recipe: QuantRecipe,
        material: Material,
        trial: Trial,
        seconds: float,
        track: Track,
    ) -> None:
        self.model, self.recipe = prepare(model), recipe
        self.trial, self.seconds, self.track = trial, seconds, track
        self.images = material.calibration_feeds
        self.judge = Judge(open_session(self.model, threads=trial.threads), trial)
        self.effects: list[Effect] = []
        self.equalized = False
        self.returned: dict[str, str] = {}
        """Layers that went back to float for accuracy, with the reason."""
        self.missed: tuple[str, onnx.ModelProto] | None = None
        """(kind, graph) that would have been faster, but for the budget."""

    def workshop(self, equalize: bool) -> Workshop:
        """A workshop for the network, equalized before if that is wanted and helps."""
        model = self.model
        if equalize and len(self.images) > 1 and EXACT:
            model = self._improved(model, self.recipe, EXACT).model
        self.equalized = equalize
        return Workshop(model, self.images[:2], self.recipe, self.trial.threads, self.trial.seed)

    def within_budget(self, shop: Workshop, design: Design) -> Work:
        """The cheapest form of `design` that holds the budget; when none does, the one that came nearest."""
        work = self.made(shop, design, FAST if self.seconds else ())
        best = (self.drop(work), work)
        if best[0] > self.trial.max_drop and not self.equalized:
            shop = self.workshop(equalize=True)
            best = self.better(best, self.made(shop, design, FAST))
        if best[0] > self.trial.max_drop:
            passes = SLOW if importlib.util.find_spec("torch") else tuple(p for p in SLOW if p != NEEDS_TORCH)
            best = self.better(best, self.made(shop, design, passes))
        return best[1] if best[0] <= self.trial.max_drop else self.with_layers_in_float(best[1])

    def better(self, best: tuple[float, Work], work: Work) -> tuple[float, Work]:
        """(drop, work) with the smaller drop; the first at a draw."""
        drop = self.drop(work)
        return (drop, work) if drop < best[0] else best

    def made(self, shop: Workshop, design: Design, passes: Sequence[str]) -> Work:
        """`design` calibrated on all images, with those of `passes` that measurably help."""
        source, recipe = shop.source(design.rewrites), shop.recipe_of(design)
        if not passes or len(self.images) < 2:
            return start(source, recipe, self.images, threads=self.trial.threads, track=self.track)
        return self._improved(source, recipe, passes)

    def _improved(self, model: onnx.ModelProto, recipe: QuantRecipe, passes: Sequence[str]) -> Work:
        found = improve(
            model, self.images, recipe, seconds=max(self.seconds, MOST_SECONDS), passes=passes,
            threads=self.trial.threads, track=self.track,
        )  # fmt: skip
        self.effects += found.effects
        return found.work

    def drop(self, work: Work) -> float:
        """What the integer graph of `work` costs, on the clock of the budget."""
        return self.judge(open_session(work.quantized().model, threads=self.trial.threads)).drop

    def with_layers_in_float(self, work: Work) -> Work:
        """`work` with the fewest of its most sensitive layers in float that hold the budget; itself if none do."""
        deadline = time.monotonic() + max(self.seconds, MOST_SECONDS)
        images, threads = self.images[:SENSITIVITY_IMAGES], self.trial.threads
        ranked = rank(work, self.judge.base, images, lambda: deadline - time.monotonic(), threads, self.track)

        def returned(k: int) -> Work:
            recipe = excluding(work.recipe, [layer.node for layer in ranked[:k]])
            return replace(work.under((recipe,), threads, self.track), recipe=recipe)

        count = fewest(len(ranked) - 1, lambda k: self.drop(returned(k)) <= self.trial.max_drop)
        if count is None:
            return work
        self.returned = {layer.node: _sensitive(layer) for layer in ranked[:count]}
        kind = MIXED if work.recipe.exclude != self.recipe.exclude else INT8
        self.missed = (kind, work.quantized().model)
        return returned(count)


def _sensitive(layer: Sensitivity) -> str:
    alone = "" if layer.snr_db is None else f": alone in int8 it leaves {layer.snr_db:.1f} dB"
    return f"in float for the accuracy budget{alone}"


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


def explained(quantized: Quantized, layers: Sequence[LayerChoice], returned: Mapping[str, str]) -> Quantized:
    """`quantized` with measured reasons in the place of "excluded by" for what is float for speed or accuracy."""
    why = {**{layer.node: layer.why for layer in layers if layer.kind == FLOAT}, **returned}
    floats = tuple((node, why.get(node, reason)) for node, reason in quantized.float_nodes)
    return replace(quantized, float_nodes=floats)
