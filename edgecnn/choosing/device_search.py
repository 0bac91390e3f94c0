"""Which arithmetic and which settings of a GPU are the fastest that are near enough: races, one decision at a time.

    float32 --+ CUDA graph?--> TF32 | float16 | float16 + NHWC? --+ NHWC? + fused bias? + heuristic B?--> another form?

The recording comes first: where launches take the time, as for one image, all arithmetic seems equally fast without it.
float16 is raced in both layouts, because tensor cores want the other one. They read channels in eights, too, and an
image has three: `FORMS` are exact rewrites of the first convolution, and one of sums, each of which is a pass over
memory that no kernel of ONNX Runtime joins with another.

A setting is kept when it wins its race beyond the noise; whoever is not near enough, or cannot be opened, takes part in
none and says why. int8 is not among them: the CUDA provider has no integer convolution and would compute it
dequantized, in float, with more work than float itself. Opening, judging and racing are the caller's (`Device` does
them on the real machine), so that the decisions can be tested without one. Test: tests/test_device_search.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import onnx

from edgecnn.choosing.judge import Judge, Judgement
from edgecnn.choosing.trial import Trial
from runtimes.base import BadInput, Tensors, Unavailable
from runtimes.comparing.precision import LIMITS, coarse_limit_db, precision_of
from runtimes.execution.provider_options import Asked
from runtimes.latency import Race, Ratio, race
from runtimes.parity import JSON_SNR_LIMIT, json_number
from runtimes.session import Session, open_session

FLOAT, HALF = "float", "fp16"
INT8_WORDS = "int8 was not tried: the CUDA provider has no integer convolution and computes it dequantized, in float"
SETTINGS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("NHWC", {"prefer_nhwc": True}),
    ("fused bias", {"fuse_conv_bias": True, "prefer_nhwc": True}),
    ("heuristic B", {"cudnn_conv_algo_search": "EXHAUSTIVE"}),
)
"""In this order: layout first, because the others depend on it."""
RECORDED: tuple[str, Mapping[str, Any]] = ("CUDA graph", {"enable_cuda_graph": True})
FORMS = {
    "space_to_depth": "first convolution on blocks",
    "pad_inputs": "4 input channels",
    "merge_add": "sums in convolutions",
}
"""Rewrites (exporters/rewrites) whose graphs are raced last, and what they are called."""


@dataclass(frozen=True)
class Variant:
    """A graph (`model`: `float`, `fp16`, or `fp16+REWRITE`) on a provider with options; `name` is for people."""

    name: str
    model: str
    asked: Asked

    @property
    def precision(self) -> str:
        return precision_of(self.asked.text, self.arithmetic == HALF)

    @property
    def arithmetic(self) -> str:
        """`float` or `fp16`, whatever the graph's form."""
        return self.model.partition("+")[0]

    def plus(self, name: str, changes: Mapping[str, Any]) -> Variant:
        return Variant(f"{self.name} + {name}", self.model, self.asked.but(**changes))

    def has(self, changes: Mapping[str, Any]) -> bool:
        return all(getattr(self.asked.options, key) == value for key, value in changes.items())


@dataclass(frozen=True)
class Tried:
    """One variant: the race against the best before it, or why it took part in none."""

    variant: Variant
    against: str
    ratio: Ratio | None
    adopted: bool
    refused: str = ""
    p50_ms: float | None = None
    judged: Judgement | None = None

    def to_dict(self) -> dict[str, Any]:
        snr = self.judged.snr_db if self.judged else None
        return {
            "name": self.variant.name,
            "model": self.variant.model,
            "provider": self.variant.asked.text,
            "precision": self.variant.precision,
            "against": self.against,
            "p50_ms": self.p50_ms,
            "speedup": self.ratio.to_dict() if self.ratio else None,
            "adopted": self.adopted,
            "refused": self.refused,
            "snr_db": None if snr is None else json_number(snr, JSON_SNR_LIMIT),
            "agreement": self.judged.agreement if self.judged else None,
            "accuracy": self.judged.accuracy if self.judged else None,
        }


@dataclass(frozen=True)
class Picked:
    """The outcome: the fastest `variant`, its final `speedup` over plain float32 (None: it is that), and all races."""

    variant: Variant
    speedup: Ratio | None
    tried: tuple[Tried, ...]
    base_ms: float
    final: Race

    @property
    def verdict(self) -> str:
        if self.speedup is None:
            return f"float32 is {self.base_ms:.3g} ms and nothing near enough was faster: chose float32; {INT8_WORDS}"
        return f"{self.variant.name}: {self.speedup} ({self.base_ms:.3g} ms); {INT8_WORDS}"


class Racers(Protocol):
    """What the search needs of a machine."""

    def judge(self, variant: Variant) -> tuple[Judgement | None, str]:
        """(what it costs, why it is out or an empty string)"""

    def race(self, variants: Sequence[Variant]) -> Race: ...


def search(asked: Asked, models: Sequence[str], racers: Racers) -> Picked:
    """The fastest variant of `models` (float first) on the provider `asked`, whose own options are where it begins."""
    base = Variant("float32", FLOAT, asked)
    _, why = racers.judge(base)
    if why:
        raise BadInput(f"{asked.text}: float32 itself is out: {why}")
    tried: list[Tried] = []
    best = base if base.has(RECORDED[1]) else _best_of(base, [base.plus(*RECORDED)], racers, tried)
    best = _best_of(best, arithmetic(best, models), racers, tried)
    for name, changes in SETTINGS:
        if not best.has(changes):
            best = _best_of(best, [best.plus(name, changes)], racers, tried)
    forms = {name: form_of(best.model, name) for name in FORMS}
    others = [Variant(f"{best.name} + {FORMS[n]}", form, best.asked) for n, form in forms.items() if form in models]
    best = _best_of(best, others, racers, tried)
    if best == base:
        final = racers.race([base])
        return Picked(base, None, tuple(tried), final.reports[base.name].p50_ms, final)
    final = racers.race([base, best])
    return Picked(best, final.ratio(best.name, base.name), tuple(tried), final.reports[base.name].p50_ms, final)


def arithmetic(base: Variant, models: Sequence[str]) -> list[Variant]:
    """`base`, which is float32, in TF32 and, where there is such a graph, in float16 in both layouts."""
    name, layout = base.name.removeprefix("float32"), SETTINGS[0]
    found = [Variant(f"TF32{name}", base.model, base.asked.but(use_tf32=True))]
    if HALF in models:
        half = Variant(f"float16{name}", HALF, base.asked.for_half)
        found += [half] if half.has(layout[1]) else [half, half.plus(*layout)]
    return found


def form_of(model: str, rewrite: str) -> str:
    return f"{model}+{rewrite}"


def _best_of(best: Variant, others: Sequence[Variant], racers: Racers, tried: list[Tried]) -> Variant:
    """The fastest of `others` that beats `best` beyond the noise, else `best`."""
    judged = {variant: racers.judge(variant) for variant in others}
    tried += [Tried(v, best.name, None, False, why, judged=found) for v, (found, why) in judged.items() if why]
    fit = [variant for variant, (_, why) in judged.items() if not why]
    if not fit:
        return best
    run = racers.race([best, *fit])
    ratios = {variant: run.ratio(variant.name, best.name) for variant in fit}
    faster = [variant for variant in fit if ratios[variant].verdict == "faster"]
    winner = max(faster, key=lambda variant: ratios[variant].ratio, default=best)
    for v in fit:
        p50 = run.reports[v.name].p50_ms
        tried.append(Tried(v, best.name, ratios[v], v == winner, p50_ms=p50, judged=judged[v][0]))
    return winner


class Device:
    """The real machine: sessions are opened once, judged on the trial's images, raced bound to the device."""

    def __init__(self, models: Mapping[str, onnx.ModelProto], trial: Trial, feed: Tensors, noise_db: float) -> None:
        self.models, self.trial, self.feed, self.noise_db = models, trial, feed, noise_db
        self.judge_on_cpu = Judge(open_session(models[FLOAT], threads=trial.threads), trial)
        self.sessions: dict[tuple[str, str], Session] = {}

    def session(self, variant: Variant) -> Session:
        key = variant.model, variant.asked.text
        if key not in self.sessions:
            self.sessions[key] = open_session(self.models[variant.model], variant.asked.text, self.trial.threads)
        return self.sessions[key]

    def judge(self, variant: Variant) -> tuple[Judgement | None, str]:
        try:
            found = self.judge_on_cpu(self.session(variant))
        except (BadInput, Unavailable) as error:
            return None, str(error)
        least = self.least_db(variant)
        if found.snr_db is None or not found.snr_db >= least:
            return found, f"{found.snr_db or 0:.1f} dB to the CPU's float32, the limit is {least:.0f}"
        if found.held > self.trial.max_drop:
            return found, found.words
        return found, ""

    def least_db(self, variant: Variant) -> float:
        """float16 and TF32 round as coarsely, and are held to as much of the network's own noise."""
        return LIMITS["fp32"].snr_db if variant.precision == "fp32" else coarse_limit_db(self.noise_db)

    def race(self, variants: Sequence[Variant]) -> Race:
        calls: dict[str, Callable[[], object]] = {v.name: self.session(v).bind(self.feed) for v in variants}
        return race(calls, self.trial.rounds, 20, self.trial.seed, self.trial.seconds, clock="wall")
