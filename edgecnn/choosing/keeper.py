"""Bring an integer graph within the accuracy budget, as cheaply as it can be done, on the CPU at which it is aimed.

    design -> forms of weights that the CPU computes rightly -> biases corrected       within the budget? done
           -> the exact forms, which are slower -> equalized -> better rounding, last layer in float
           -> layers back to float, the sensitive ones first

Each step is taken only where the one before it did not suffice; with 0 seconds, large networks are spared what begins
with equalizing in that line. Where the CPU is not the one at hand, answers are those of a twin that computes what it
does, and nothing is raced. Test: tests/test_keeper.py, tests/test_contest.py.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import onnx

from edgecnn.choosing.choose import INT8, MIXED
from edgecnn.choosing.judge import Judge
from edgecnn.choosing.trial import Trial
from edgecnn.data.material import Material
from exporters.quantization.improve import Effect, Score, improve, split, sqnr_against
from exporters.quantization.quantize import QuantRecipe, prepare
from exporters.quantization.sensitivity import Sensitivity, fewest, rank
from exporters.quantization.work import Work, start
from exporters.searching.search import Design
from exporters.searching.workshop import Workshop
from exporters.targets import weight_forms
from exporters.targets.cpu_target import SATURATING, LayerRisk, finer, this_cpu
from runtimes.base import Tensors, Track
from runtimes.parity import compare
from runtimes.session import Session, open_session

EXACT, FAST = ("equalize",), ("bias_correction",)
"""Accuracy passes that cost no speed and few seconds, before and after the rewrites."""
SLOW = ("rounding", "bias_correction", "float_last")
"""Those that need a reason: a minute of time, or a layer in float."""
NEEDS_TORCH = "rounding"
MOST_SECONDS, QUICK_SECONDS = 30.0, 6.0
"""For each further step on the way back to the budget, and where no search is wanted."""
QUICK_STEP = 1.0
"""Where no search is wanted, they are taken if the first, which calibrates, took less: they take several times that."""
SENSITIVITY_IMAGES = 4
Z_95 = 1.96
"""From a standard error to the end of a 95 % interval."""
MEASURED_IMAGES = 8
"""On which weights in other forms must help; of those that set no range, where there are any."""
MEASURED_ON = ", on a few calibration images (the SNR of the race is on all that were judged)"
FORMS_IN_WORDS = {"s8": "layers as they are", "s7": "with weights on 7 bits", "u8": "with unsigned weights"}


@dataclass(frozen=True)
class Aimed:
    """What the CPU `target` makes of the integer graph. `here`: it is the CPU at hand.

    `layers`: those in which sums of two products may saturate, with the form of weights that was chosen; `measured_db`:
    SQNR (before, after) of the whole graph on a few calibration images, where it could be measured here.
    """

    target: str
    here: bool
    layers: tuple[LayerRisk, ...] = ()
    measured_db: tuple[float, float] | None = None

    @property
    def changed(self) -> tuple[LayerRisk, ...]:
        return tuple(layer for layer in self.layers if layer.choice != "s8")

    @property
    def slow(self) -> tuple[str, ...]:
        """Layers whose weights had to become unsigned, which may be slower than float."""
        return tuple(risk.node for risk in self.changed if risk.choice == "u8" and not risk.few_rows)

    @property
    def words(self) -> str:
        """One sentence for people."""
        name = f"target {self.target or 'any CPU'}{' (this CPU)' if self.here and self.target else ''}"
        if self.target not in SATURATING:
            return f"{name}: sums of 8-bit products stay exact"
        end = "predicted, not measured"
        if self.measured_db is not None:
            end = "measured: SQNR {:.1f} dB before, {:.1f} dB with them".format(*self.measured_db) + MEASURED_ON
        if not self.changed:
            tried = "" if self.measured_db is None else f"; other forms of weights did not help; {end}"
            return f"{name}: sums of two 8-bit products may saturate, no layer needs other weights{tried}"
        counts = [(sum(r.choice == form for r in self.layers), words) for form, words in FORMS_IN_WORDS.items()]
        forms = ", ".join(f"{count} {words}" for count, words in counts if count)
        return f"{name}: sums of two 8-bit products saturate: {forms}; {end}"

    def to_dict(self) -> dict[str, Any]:
        layers = [layer.to_dict() for layer in self.layers]
        measured = self.measured_db and [round(value, 3) for value in self.measured_db]
        return {"name": self.target, "this_cpu": self.here, "measured_db": measured, "layers": layers}


@dataclass(frozen=True)
class Kept:
    """An integer graph as near to the budget as it could be brought, and what that took.

    `returned`: layers that went back to float, with the reason. `missed`: the name and graph that would have been
    faster, but for the budget.
    """

    work: Work
    aimed: Aimed
    returned: Mapping[str, str] = field(default_factory=dict)
    missed: tuple[str, onnx.ModelProto] | None = None


class Keeper:
    """Brings integer graphs of one float model within the accuracy budget.

    Nothing here is timed, so that all processors work on it; only what races runs on the threads of the trial.
    """

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
        self.judge = Judge(open_session(self.model), trial, answers_of=self.session)
        self.effects: list[Effect] = []
        self.equalized = False
        self.refused: dict[str, str] = {}
        self.here = recipe.target in ("", this_cpu())
        self.aims: dict[tuple[tuple[str, str], ...], Aimed] = {}
        self.looked: tuple[Work, tuple[LayerRisk, ...]] | None = None

    def workshop(self, equalize: bool) -> Workshop:
        """A workshop for the network, equalized before if that is wanted and helps."""
        model = self.model
        if equalize and len(self.images) > 1 and EXACT:
            work = start(model, self.recipe, split(self.images)[0], track=self.track)
            model = self._improved(work, EXACT).model
        self.equalized = equalize
        return Workshop(model, self.images[:2], self.recipe, self.trial.threads, self.trial.seed, refused=self.refused)

    def within_budget(self, shop: Workshop, design: Design) -> Kept:
        """The cheapest form of `design` that holds the budget; when none does, the one that came nearest."""
        fast = FAST if self.seconds else ()
        began = time.monotonic()
        work, fine = self.made(shop, design, fast), False
        patient = bool(self.seconds) or time.monotonic() - began <= QUICK_STEP
        best = (self.drop(work), work)
        if best[0] > self.trial.max_drop and self.could_be_finer(work):
            best = self.better(best, self.made(shop, design, fast, fine=True))
            fine = best[1] is not work
        if best[0] > self.trial.max_drop and not self.equalized and patient:
            shop = self.workshop(equalize=True)
            best = self.better(best, self.made(shop, design, FAST, fine))
        if best[0] > self.trial.max_drop and patient:
            passes = SLOW if importlib.util.find_spec("torch") else tuple(p for p in SLOW if p != NEEDS_TORCH)
            best = self.better(best, self.made(shop, design, passes, fine))
        kept = Kept(best[1], self.aims[best[1].recipe.weight_forms])
        return kept if best[0] <= self.trial.max_drop else self.with_layers_in_float(kept)

    @property
    def step_seconds(self) -> float:
        return max(self.seconds, MOST_SECONDS) if self.seconds else QUICK_SECONDS

    def could_be_finer(self, work: Work) -> bool:
        """Whether some layers of `work` would be exact with weights that are slower."""
        risks = self.aims[work.recipe.weight_forms].layers
        return finer(risks) != risks

    def better(self, best: tuple[float, Work], work: Work) -> tuple[float, Work]:
        """(drop, work) with the smaller drop; the first at a draw."""
        drop = self.drop(work)
        return (drop, work) if drop < best[0] else best

    def made(self, shop: Workshop, design: Design, passes: Sequence[str], fine: bool = False) -> Work:
        """`design` calibrated on all images, with those of `passes` that measurably help; `fine` as of `aim`."""
        improving = bool(passes) and len(self.images) > 1
        fit, held = split(self.images) if improving else (self.images, self.images)
        work = shop.calibrated(design, fit, self.track)
        work = self.aim(work, held[:MEASURED_IMAGES], fine)
        return self._improved(work, passes) if improving else work

    def aim(self, work: Work, images: Sequence[Tensors], fine: bool = False) -> Work:
        """`work` with the weights of each layer in the form that its CPU computes best, at no cost in time.

        `fine`: exact forms, which cost time, where the fast ones lose much. On the CPU at hand the forms must help, on
        `images`; elsewhere they are predicted.
        """
        aimed = Aimed(work.recipe.target, self.here)
        if aimed.target in SATURATING:
            risks = finer(self._risks(work)) if fine else self._risks(work)
            adapted = weight_forms.adapt(work, risks)
            measured = self._measured(work, adapted, images) if self.here and adapted.recipe != work.recipe else None
            if measured and measured[1] < measured[0]:
                adapted, risks = work, tuple(replace(risk, choice="s8") for risk in risks)
            aimed, work = Aimed(aimed.target, self.here, risks, measured), adapted
        self.aims[work.recipe.weight_forms] = aimed
        return work

    def _risks(self, work: Work) -> tuple[LayerRisk, ...]:
        """What saturation does to the layers of `work`; the one looked at last is remembered."""
        if self.looked is None or self.looked[0] is not work:
            self.looked = work, weight_forms.look(work)
        return self.looked[1]

    def _measured(self, work: Work, adapted: Work, images: Sequence[Tensors]) -> tuple[float, float]:
        """SQNR (dB) of both on this CPU."""
        score = sqnr_against(self.judge.base, images)
        return score(work.quantized()), score(adapted.quantized())

    def _improved(self, work: Work, passes: Sequence[str]) -> Work:
        """`work`, calibrated on the images to learn from, with those of `passes` that help; then on all images."""
        found = improve(
            work.model, self.images, work.recipe, seconds=self.step_seconds, passes=passes,
            score=self._score(), begun=work, track=self.track,
        )  # fmt: skip
        self.effects += found.effects
        return found.work

    def _score(self) -> Score:
        """SQNR (dB) of an integer graph's answers on the target, against the float network's, on held-out images."""
        held = split(self.images)[1]
        return lambda quantized: compare(self.judge.base, self.session(quantized.model), held).worst_db

    @property
    def elsewhere(self) -> bool:
        """Whether this CPU saturates and the target does not."""
        return not self.here and this_cpu() in SATURATING and self.recipe.target not in SATURATING

    def session(self, model: onnx.ModelProto) -> Session:
        """A session that answers as the integer graph `model` does on the target, as far as that can be computed."""
        return open_session(weight_forms.exact(model) if self.elsewhere else model)

    def drop(self, work: Work) -> float:
        """What the integer graph of `work` costs, as the budget counts it."""
        return self.judge.of(work.quantized().model).held

    def spare(self, work: Work) -> float:
        """By labels the standard error of that cost: of many graphs near the budget the one that holds it is the
        luckiest, and loses more on other images.
        """
        found = self.judge.of(work.quantized().model)
        if found.accuracy is None or found.drop_high is None or found.sure:
            return 0.0
        return max(0.0, found.drop_high - found.drop) / Z_95

    def floated(self, work: Work, nodes: Sequence[str]) -> Work:
        """`work` with `nodes` in float too."""
        lighter = work.floated(nodes)
        return lighter.under((lighter.recipe,), track=self.track)

    def with_layers_in_float(self, kept: Kept) -> Kept:
        """`kept` with the fewest of its most sensitive layers in float that hold the budget; itself if none do."""
        deadline = time.monotonic() + self.step_seconds
        images = self.images[:SENSITIVITY_IMAGES]
        ranked, work = rank(kept.work, self.judge.base, images, lambda: deadline - time.monotonic(), track=self.track)

        def returned(k: int) -> Work:
            return self.floated(work, [layer.node for layer in ranked[:k]])

        most = len(ranked) - 1
        count = fewest(most, lambda k: self.drop(one := returned(k)) + self.spare(one) <= self.trial.max_drop)
        if count is None:
            count = fewest(most, lambda k: self.drop(returned(k)) <= self.trial.max_drop)
        if count is None:
            return kept
        reasons = {layer.node: _sensitive(layer) for layer in ranked[:count]}
        kind = MIXED if work.recipe.exclude != self.recipe.exclude else INT8
        return replace(kept, work=returned(count), returned=reasons, missed=(kind, work.quantized().model))


def _sensitive(layer: Sensitivity) -> str:
    alone = "" if layer.snr_db is None else f": alone in int8 it leaves {layer.snr_db:.1f} dB"
    return f"in float for the accuracy budget{alone}"
