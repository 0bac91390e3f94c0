"""Try the accuracy passes one after the other, measure each on images it did not learn from, keep what helps.

    images -> every 4th held out, the rest to learn from
    for each pass in ORDER:   changed = pass(best)      keep it if SQNR(changed) - SQNR(best) >= its MIN_GAIN_DB

SQNR is that of the quantized graph's outputs against the float model's, on the held-out images. Ranges come from the
other images too while passes are judged: with ranges that have seen the judges nothing would ever be clipped, and
equalization, which brings every channel near the end of its grid, would look better than it is. At the end the ranges
of the best are taken from all images. The order has meaning: equalization moves ranges, rounding moves weights, bias
correction makes up for what is left, and float layers, which cost speed, come last. Nothing is random: with time enough
for all, the same images give the same bytes.
Test: tests/test_improve.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import onnx

from exporters import accuracy
from exporters.base import Change
from exporters.quantization.quantize import Quantized, QuantRecipe, check_patterns, prepare
from exporters.quantization.work import Outcome, Work, start
from runtimes import plugins
from runtimes.base import Runner, Tensors, Track, counted, silent
from runtimes.parity import JSON_SNR_LIMIT, compare, json_number
from runtimes.session import open_session

ORDER = ("equalize", "rounding", "bias_correction", "float_last")
HELD_OUT_EVERY = 4
MOST_HELD_OUT = 32
ROUNDING_SHARE = 0.6
"""Of the time left, so that the passes after it have some."""

Score = Callable[[Quantized], float]


@dataclass(frozen=True)
class Effect:
    """One row of the table: SQNR in dB before and after, on held-out images, and whether the pass was kept."""

    name: str
    before_db: float
    after_db: float
    kept: bool
    seconds: float
    note: str
    changes: tuple[Change, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        db = {name: round(json_number(getattr(self, name), JSON_SNR_LIMIT), 3) for name in ("before_db", "after_db")}
        return {"name": self.name, **db, "seconds": round(self.seconds, 3), "kept": self.kept, "note": self.note}


@dataclass(frozen=True)
class Improved:
    """The best integer graph found, its ranges from all images. `effects` is the table.

    `plain_db` and `snr_db` are the SQNR without and with the passes, on held-out images that set no range.
    """

    quantized: Quantized
    work: Work
    plain_db: float
    snr_db: float
    effects: tuple[Effect, ...]

    @property
    def used(self) -> tuple[str, ...]:
        return tuple(effect.name for effect in self.effects if effect.kept)


def improve(
    model: onnx.ModelProto,
    images: Sequence[Tensors],
    recipe: QuantRecipe,
    *,
    seconds: float = 60.0,
    passes: Sequence[str] = ORDER,
    score: Score | None = None,
    begun: Work | None = None,
    threads: int | None = None,
    track: Track = silent,
) -> Improved:
    """Quantize the float `model` on the batches `images` and raise its accuracy within about `seconds`.

    `score` (higher is better, dB) replaces the SQNR on held-out images. `begun` is the same work where the images to
    learn from (`split`) have been seen already. Raises `BadInput` as `quantize_model` does.
    """
    deadline = time.monotonic() + seconds
    model = prepare(model)
    check_patterns(model, recipe.exclude)
    fit, held = split(images)
    best = begun or start(model, recipe, fit, threads=threads, track=track)
    judge = score or sqnr_against(open_session(model, threads=threads), held, threads)
    quantized = best.quantized()
    plain = best_db = judge(quantized)
    effects = []
    for name in passes if quantized.int8_nodes else ():
        began = time.monotonic()
        outcome, note = _attempt(name, best, deadline - began, threads, track)
        candidate = outcome.work.quantized() if outcome.changes else quantized
        after = judge(candidate) if outcome.changes else best_db
        kept = bool(outcome.changes) and after - best_db >= _module(name).MIN_GAIN_DB
        effects.append(Effect(name, best_db, after, kept, time.monotonic() - began, note, outcome.changes))
        if kept:
            best, best_db, quantized = outcome.work, after, candidate
    best = replace(best, images=images).calibrated_again(best.model, threads, track)
    return Improved(best.quantized(), best, plain, best_db, tuple(effects))


def _module(name: str) -> Any:
    return plugins.load(accuracy, name, "accuracy pass")


def _attempt(name: str, work: Work, left: float, threads: int | None, track: Track) -> tuple[Outcome, str]:
    """The pass's outcome and what to say of it; nothing is begun when no time is left."""
    if left <= 0:
        return Outcome(work), "not tried: no time was left"
    share = ROUNDING_SHARE if name == "rounding" else 1.0
    outcome: Outcome = _module(name).run(work, seconds=share * left, threads=threads, track=track)
    if outcome.changes:
        return outcome, f"{counted(len(outcome.changes), 'layer')} changed"
    return outcome, outcome.kept[0].reason if outcome.kept else "nothing to do"


def split(images: Sequence[Tensors]) -> tuple[list[Tensors] | Lazy, list[Tensors] | Lazy]:
    """(to learn from, held out): every 4th image is held out, at most 32; a lone image is both."""
    held = list(range(HELD_OUT_EVERY - 1, len(images), HELD_OUT_EVERY))[:MOST_HELD_OUT] or [len(images) - 1]
    fit = [i for i in range(len(images)) if i not in set(held)] or held
    return Lazy(images, fit), Lazy(images, held)


class Lazy(Sequence[Tensors]):
    """Some of `images`, fetched when they are asked for."""

    def __init__(self, images: Sequence[Tensors], indices: Sequence[int]) -> None:
        self.images, self.indices = images, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Lazy(self.images, self.indices[index])
        return self.images[self.indices[index]]


def sqnr_against(reference: Runner, held: Sequence[Tensors], threads: int | None = None) -> Score:
    """SQNR in dB of a quantized graph's outputs against the `reference`'s on `held`; the worst output, and the worst
    kind of numbers in it, count.
    """
    return lambda quantized: compare(reference, open_session(quantized.model, threads=threads), held).worst_db
