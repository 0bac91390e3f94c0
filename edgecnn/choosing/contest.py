"""Find the integer graph that deserves to race against float: searched for speed, calibrated on all images, judged.

    equalize -> search -> fastest design -> calibrate on all images, correct biases -> within the budget? -> race
                                                                                       no: better rounding; then layers
                                                                                       back to float, sensitive first

Equalization is exact in float and comes before the rewrites, which would hide its pairs of layers; biases are corrected
for the very layers that are int8 in the end. Each is used only where it gains on images that it has not seen.
Used by `quantize` and `build`; imports no torch. Test: tests/test_contest.py.
"""

from __future__ import annotations

import glob
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import onnx

from edgecnn.choosing import choose
from edgecnn.choosing.choose import FLOAT, INT8, MIXED, Decision, Entry
from edgecnn.choosing.keeper import Aimed, Keeper, Kept
from edgecnn.choosing.layer_choices import LayerChoice, explained, layer_choices
from edgecnn.choosing.names import AGAIN, EXACT, PLAIN, PORTABLE
from edgecnn.choosing.trial import Trial
from edgecnn.data.material import Material
from exporters.quantization.improve import Effect
from exporters.quantization.mixed import mixed
from exporters.quantization.quantize import Quantized, QuantRecipe, prepare, quantize_model
from exporters.quantization.work import start
from exporters.searching.search import Design, Found, search
from exporters.searching.workshop import Workshop
from exporters.targets.cpu_target import REWRITES_HELP
from runtimes.base import BadInput, Track, silent

COMPARED = "only for comparison: without rewrites, on the ranges of one image"
ONLY_REWRITTEN = "without rewrites no layer of this network can be int8"
SEARCH_SECONDS = 30.0
"""Default of `--search-budget`: most networks are done earlier."""
GUARD_IMAGES = 4
"""Ranges that differ by orders of magnitude do so on any image."""
NOTHING = Found(Design(), (), True)


@dataclass(frozen=True)
class Contest:
    """What was tried and what came of it. `quantized` is the integer graph that the search led to, on all images.

    `portable`: the same without rewrites, for other runtimes, where it was asked for and holds the budget.
    """

    decision: Decision
    quantized: Quantized
    found: Found
    layers: tuple[LayerChoice, ...]
    effects: tuple[Effect, ...]
    seconds: float
    aimed: Aimed
    portable: Quantized | None = None
    unportable: str = ""
    """Why `portable` was asked for and could not be made."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Rewrites that would have acted and were not used, with the reason."""

    def to_dict(self) -> dict[str, Any]:
        """The timing table that the artifact keeps, and what was done for the accuracy."""
        layers = [layer.to_dict() for layer in self.layers]
        effects = [effect.to_dict() for effect in self.effects]
        numbers = {"seconds": round(self.seconds, 2), "layers": layers, "accuracy": effects}
        return {**self.found.to_dict(), **numbers, "refused": dict(self.refused)}


def compete(
    float_model: onnx.ModelProto,
    recipe: QuantRecipe,
    material: Material,
    trial: Trial,
    search_seconds: float = SEARCH_SECONDS,
    portable: bool = False,
    track: Track = silent,
) -> Contest:
    """Search, calibrate, judge and race. `search_seconds` bounds the search, and again the way back to the budget.

    With 0 seconds two designs are compared, and where the budget is missed the weights of a large network become
    exact or its layers float, no more.
    Where `recipe.target` is another CPU than this one nothing is raced: the rewrites that help there are taken.
    """
    recipe = replace(recipe, data=material.calibration.recorded, images=len(material.calibration))
    recipe, apart = guarded(float_model, recipe, material)
    keeper = Keeper(float_model, recipe, material, trial, search_seconds, track)
    entered = _field(float_model, apart, keeper, search_seconds, portable, track)
    decision = decided(entered.entries, keeper, track)
    plain = entered.made.get(PORTABLE)
    judged_as = PORTABLE if PORTABLE in entered.entries else entered.name
    if any(c.name == judged_as and c.refused for c in decision.candidates):
        plain = None
    quantized = counted_in(keeper.model, entered.made.get(decision.winner, entered.made[entered.name]))
    aimed = keeper.aims.get(quantized.recipe.weight_forms, entered.aimed)
    why = ONLY_REWRITTEN if portable and not entered.found.design.is_plain and PORTABLE not in entered.made else ""
    return Contest(
        decision, quantized, entered.found, entered.layers, tuple(keeper.effects), entered.seconds, aimed, plain, why,
        keeper.refused,
    )  # fmt: skip


def counted_in(model: onnx.ModelProto, quantized: Quantized) -> Quantized:
    """`quantized`, its dead channels counted among those of the network `model`, not among those of a rewrite."""
    if quantized.calibration is None:
        return quantized
    tensors = {name for node in model.graph.node for name in (*node.input, *node.output)}
    return replace(quantized, calibration=quantized.calibration.of_network(tensors))


@dataclass(frozen=True)
class _Field:
    """Who races. `made`: the integer graphs that may win; `name`: the one to which the search led."""

    entries: dict[str, Entry]
    made: dict[str, Quantized]
    name: str
    aimed: Aimed
    found: Found = NOTHING
    seconds: float = 0.0
    layers: tuple[LayerChoice, ...] = ()


def _field(
    float_model: onnx.ModelProto,
    apart: Mapping[str, str],
    keeper: Keeper,
    search_seconds: float,
    portable: bool,
    track: Track,
) -> _Field:
    """Search, calibrate and judge. The workshop, which holds weights in many forms, is gone when the race begins."""
    recipe = keeper.recipe
    shop = keeper.workshop(equalize=search_seconds > 0)
    entries = {FLOAT: Entry(float_model, FLOAT)}
    if not can_be_int8(shop, keeper):
        nothing = quantize_model(float_model, shop.feeds[:1], recipe)
        return _Field(entries, {INT8: nothing}, INT8, Aimed(recipe.target, keeper.here))
    found, seconds = searched(shop, keeper, track)
    layers = layer_choices(shop, found) if keeper.here else ()
    shop.rest()
    kept = keeper.within_budget(shop, found.design)
    plain = portable_of(kept, shop, found.design, keeper) if portable else None
    if not found.design.is_plain:
        entries |= compared(shop, plain, keeper)
    reasons = {**apart, **kept.returned}
    quantized = explained(kept.work.quantized(), layers, reasons)
    if kept.missed is not None:
        name, model = kept.missed
        entries[name] = Entry(model, name)
    kind = MIXED if kept.work.recipe.exclude != recipe.exclude else INT8
    name = kind if kind not in entries else AGAIN
    entries[name] = Entry(quantized.model, kind)
    others = without_slow(kept, keeper, layers, reasons)
    entries |= {key: Entry(made.model, MIXED) for key, made in others.items()}
    made = {name: quantized, **others} | ({} if plain is None else {PORTABLE: plain})
    return _Field(entries, made, name, kept.aimed, found, seconds, layers)


def guarded(model: onnx.ModelProto, recipe: QuantRecipe, material: Material) -> tuple[QuantRecipe, dict[str, str]]:
    """`recipe` without the nodes that would put ranges on one grid that must not share it; and these, with reasons."""
    few = material.calibration_feeds[:GUARD_IMAGES]
    if all(value.min() == value.max() for feed in few for value in feed.values()):
        raise BadInput(f"{material.calibration.name}: every image is of one value; give images that are typical")
    work = start(prepare(model), recipe, few)
    apart = mixed(work.model, work.plan(), work.calibration)
    patterns = tuple(glob.escape(name) for name in apart)
    return replace(recipe, exclude=(*recipe.exclude, *patterns)), apart


def rewritten_there(keeper: Keeper) -> bool:
    """Whether rewrites are used for the CPU that `keeper` aims at."""
    return keeper.here or keeper.recipe.target in REWRITES_HELP


def can_be_int8(shop: Workshop, keeper: Keeper) -> bool:
    """Whether a layer can be int8: in the network as it is, or, as transposed convolutions, once it is rewritten."""
    if shop.identity(Design()) is not None:
        return True
    return rewritten_there(keeper) and shop.identity(Design(tuple(shop.rewrites()[0]))) is not None


def searched(shop: Workshop, keeper: Keeper, track: Track) -> tuple[Found, float]:
    """(the fastest design, seconds that it took to find it); for another CPU, the design that rules give it."""
    if not keeper.here:
        together = shop.rewrites()[0] if rewritten_there(keeper) else ()
        return Found(Design(tuple(together)), (), True), 0.0
    started = time.perf_counter()
    for _ in track((None,), "searching"):
        found = search(shop, lambda: keeper.seconds - (time.perf_counter() - started), keeper.trial.all_int8)
    return found, time.perf_counter() - started


def portable_of(kept: Kept, shop: Workshop, design: Design, keeper: Keeper) -> Quantized | None:
    """The integer graph without rewrites, calibrated on all images and in the budget; None where it has no int8."""
    if design.is_plain:
        return kept.work.quantized()
    if shop.built(Design()) is None:
        return None
    return keeper.within_budget(shop, Design()).work.quantized()


def without_slow(
    kept: Kept, keeper: Keeper, layers: Sequence[LayerChoice], reasons: Mapping[str, str]
) -> dict[str, Quantized]:
    """Where layers had to take unsigned weights, which are slow: the graph in which they are in float."""
    if not keeper.here or not kept.aimed.slow or keeper.trial.all_int8:
        return {}
    why = dict.fromkeys(kept.aimed.slow, "signed weights saturate here, and float was raced against unsigned ones")
    return {EXACT: explained(keeper.floated(kept.work, kept.aimed.slow).quantized(), layers, {**reasons, **why})}


def compared(shop: Workshop, plain: Quantized | None, keeper: Keeper) -> dict[str, Entry]:
    """The graph without rewrites as a further candidate: a portable one may win, one on the ranges of one image not."""
    if plain is not None:
        kind = MIXED if plain.recipe.exclude != keeper.recipe.exclude else INT8
        return {PORTABLE: Entry(plain.model, kind)}
    built = shop.built(Design()) if keeper.here else None
    return {} if built is None else {PLAIN: Entry(built.quantized.model, INT8, COMPARED)}


def decided(entries: dict[str, Entry], keeper: Keeper, track: Track) -> Decision:
    """Raced where the target is this CPU, else only judged."""
    if keeper.here:
        return choose.decide(entries, keeper.trial, keeper.judge, track)
    return choose.foretell(entries, keeper.judge, keeper.recipe.target)
