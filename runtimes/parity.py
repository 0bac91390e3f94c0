"""Do two runners compute the same function? Streams over batches, sums in float64, holds one batch at a time.

    max_abs = max |ref - cand|     snr_db = 10 log10( sum ref^2 / sum (ref - cand)^2 )     top1 = share of equal argmax

NaN and Inf, on either side, are counted and never pass: not even when both sides have them in the same place. A wrong
shape or a missing output never passes either. Detections (boxes, scores, labels, image) are compared with their
counterparts, wherever these stand in the list; one without a counterpart is compared with zeros. An output of several
kinds of numbers (boxes beside scores) is also told kind by kind (runtimes/comparing/kinds.py), and each kind is held
to a limit on SNR.
SNR as in ONNX Runtime's quantization debugging (`compute_signal_to_quantization_noice_ratio`).
Test: tests/test_parity.py, tests/test_matching.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from runtimes import plugins
from runtimes.base import Array, BadInput, CheckFailed, Inconclusive, Runner, Tensors, Track, silent
from runtimes.comparing import listed, matching
from runtimes.comparing.distance import difference as difference
from runtimes.comparing.distance import json_number as json_number
from runtimes.comparing.kinds import Kind, KindSums, snr_db
from runtimes.comparing.row_noise import RowNoise

NEAR_TIE = 1e-4
"""Two detections whose scores differ by less than float32 noise may change places at the end of a list."""

JSON_SNR_LIMIT = 999.0
"""JSON has no infinity: +999 dB in a document stands for "equal", -999 dB for "cannot be compared"."""

Limit = float | Mapping[str, float] | None


@dataclass(frozen=True)
class OutputParity:
    """One output over all batches. `snr_db` is inf when equal and -inf when `nonfinite` or not `shape_ok`.

    `top1` is None unless the output has rank 2 and at least 2 columns; `nonfinite` counts values that are NaN or Inf
    on either side; `same` is the share of equal values of an output of integers, None for one of floats. `kinds`: of
    the numbers in it, where they are of more than one. `lost`: the share of what rows of numbers vary by over the
    images that is noise (runtimes/comparing/row_noise.py), None where that is not known.
    """

    name: str
    max_abs: float
    snr_db: float
    top1: float | None
    nonfinite: int
    shape_ok: bool = True
    mean_abs: float = field(default=math.nan, compare=False)
    cosine: float = field(default=math.nan, compare=False)
    same: float | None = field(default=None, compare=False)
    kinds: tuple[Kind, ...] = field(default=(), compare=False)
    lost: float | None = field(default=None, compare=False)

    @property
    def worst_kind(self) -> Kind | None:
        """The kind that is farthest from the reference, where there are several."""
        return min(self.kinds, key=lambda kind: kind.snr_db, default=None)

    @property
    def worst_db(self) -> float:
        """SNR of the worst kind, which is never above that of the whole; of the whole where it is one."""
        return min((kind.snr_db for kind in self.kinds), default=self.snr_db)

    @property
    def noise(self) -> float:
        """The share of noise, 0 to 1: in the power of the worst kind, or in what rows vary by where that is more."""
        power: float = 10.0 ** (-self.worst_db / 10.0)
        return max(min(1.0, power), self.lost or 0.0)

    @property
    def comparable(self) -> bool:
        return self.shape_ok and self.nonfinite == 0

    def to_dict(self) -> dict[str, Any]:
        kinds = [{**k.to_dict(), "snr_db": json_number(k.snr_db, JSON_SNR_LIMIT)} for k in self.kinds]
        return ({"kinds": kinds} if kinds else {}) | {
            "name": self.name,
            "max_abs": json_number(self.max_abs),
            "snr_db": json_number(self.snr_db, JSON_SNR_LIMIT),
            "top1": self.top1,
            "nonfinite": self.nonfinite,
            "mean_abs": None if math.isnan(self.mean_abs) else json_number(self.mean_abs),
            "cosine": None if math.isnan(self.cosine) else self.cosine,
            "same": self.same,
        }


@dataclass(frozen=True)
class ParityReport:
    """What `compare` saw. `images` counts rows of the first feed; every number is the worst over the outputs.

    `matching`: for detections, how many have a counterpart; None for other outputs.
    """

    images: int
    outputs: tuple[OutputParity, ...]
    matching: matching.Matching | None = None

    @property
    def max_abs(self) -> float:
        return max(out.max_abs for out in self.outputs)

    @property
    def snr_db(self) -> float:
        return min(out.snr_db for out in self.outputs)

    @property
    def worst(self) -> OutputParity:
        """The output whose worst kind of numbers is farthest from the reference's."""
        return min(self.outputs, key=lambda out: out.worst_db)

    @property
    def worst_db(self) -> float:
        return self.worst.worst_db

    @property
    def noisiest(self) -> OutputParity:
        """The output with the largest share of noise."""
        return max(self.outputs, key=lambda out: out.noise)

    @property
    def top1(self) -> float | None:
        return min((out.top1 for out in self.outputs if out.top1 is not None), default=None)

    @property
    def nonfinite(self) -> int:
        return sum(out.nonfinite for out in self.outputs)

    def failures(self, *, snr_db: Limit = None, max_abs: Limit = None, top1: Limit = None) -> tuple[str, ...]:
        """One line for each output and limit that does not hold; a limit is one number, or numbers by output name.

        Raises `BadInput` for a limit on an output that does not exist, and for `top1` where no output has classes.
        """
        if top1 is not None and self.top1 is None and all(out.comparable for out in self.outputs):
            raise BadInput("top1: no output has rank 2 with at least 2 columns; use snr_db or max_abs")
        for limit in (snr_db, max_abs, top1):
            self._check_names(limit)
        return tuple(line for out in self.outputs for line in _failures(out, snr_db, max_abs, top1))

    def require(self, *, snr_db: Limit = None, max_abs: Limit = None, top1: Limit = None) -> ParityReport:
        """This report, when every limit holds; raises `CheckFailed` naming the first output, value and limit."""
        lines = self.failures(snr_db=snr_db, max_abs=max_abs, top1=top1)
        if lines:
            more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
            raise CheckFailed(lines[0] + more)
        return self

    def to_dict(self) -> dict[str, Any]:
        """The document of `edgecnn check`, without its verdict."""
        document: dict[str, Any] = {"images": self.images, "outputs": [out.to_dict() for out in self.outputs]}
        return document | ({"matching": vars(self.matching)} if self.matching else {})

    def _check_names(self, limit: Limit) -> None:
        known = [out.name for out in self.outputs]
        for name in limit if isinstance(limit, Mapping) else ():
            if name not in known:
                raise BadInput(plugins.unknown(name, known, "output"))


def compare(
    reference: Runner,
    candidate: Runner,
    batches: Iterable[Tensors],
    track: Track = silent,
    edges: matching.Edges | None = None,
) -> ParityReport:
    """Run both on every batch and compare output by output: by name, or by position when the names differ.

    Of detectors, boxes at one of the `edges` that only one side keeps are near ties, and no difference.

    Raises `BadInput` for no batches and for outputs that are not numbers, `Inconclusive` where there was no number to
    compare; lists that are empty on both sides are equal.
    """
    sums: dict[str, _Sums] = {}
    images, matched, lists = 0, None, False
    for feeds in track(batches, "comparing") if isinstance(batches, Sequence) else batches:
        ours, theirs = reference(feeds), candidate(feeds)
        boxes = listed.both(ours, theirs)
        if boxes is not None:
            ours, theirs, found = matching.align(boxes[0], boxes[1], NEAR_TIE, edges=edges)
            matched = found if matched is None else matched + found
        for name, ref, cand in _pairs(ours, theirs):
            if ref is not None and cand is not None and listed.is_rows(ref, cand, _rows(feeds)):
                ref, cand = listed.align_rows(ref, cand)
                lists = True
            sums.setdefault(name, _Sums(classes=matched is None)).add(name, ref, cand, _rows(feeds))
        images += _rows(feeds)
    if not sums:
        raise BadInput("compare: no batches, so nothing was compared; give some data")
    if all(entry.empty for entry in sums.values()) and not (images and (lists or matched)):
        raise Inconclusive("compare: no output holds a number, so nothing was compared; give other data")
    return ParityReport(images, tuple(entry.result(name) for name, entry in sums.items()), matched)


class _Sums:
    """Running sums of one output; `classes`: whether columns of a table can be classes."""

    def __init__(self, classes: bool) -> None:
        self.classes = classes
        self.signal = self.noise = self.max_abs = 0.0
        self.other = self.product = self.total = 0.0
        self.rows = self.agree = self.nonfinite = self.count = self.equal = 0
        self.integers = True
        self.shape_ok = True
        self.kinds = KindSums()
        self.spread = RowNoise()

    @property
    def empty(self) -> bool:
        """Whether both sides always were there, alike in shape, and held nothing."""
        return self.shape_ok and not self.count and not self.nonfinite

    def add(self, name: str, ref: Array | None, cand: Array | None, images: int) -> None:
        for value in (ref, cand):
            if value is not None and value.dtype.kind not in "fiub":
                raise BadInput(f"output {name}: has type {value.dtype}; only numbers can be compared")
        if ref is None or cand is None or ref.shape != cand.shape:
            self.shape_ok = False
            return
        self.nonfinite += int(np.count_nonzero(~(np.isfinite(ref) & np.isfinite(cand))))
        if not self.nonfinite:
            apart = difference(ref, cand)
            self._add_values(ref, cand, apart)
            self.kinds.add(ref, apart)
            self.spread.add(ref, apart, images)
        if self.classes and ref.ndim == 2 and ref.shape[1] >= 2:
            self.rows += len(ref)
            self.agree += int(np.count_nonzero(ref.argmax(1) == cand.argmax(1)))

    def _add_values(self, ref: Array, cand: Array, apart: Array) -> None:
        flat, other = ref.astype(np.float64).ravel(), cand.astype(np.float64).ravel()
        self.integers &= ref.dtype.kind in "iub" and cand.dtype.kind in "iub"
        self.count += apart.size
        self.equal += int(np.count_nonzero(apart == 0))
        with np.errstate(over="ignore"):  # squares beyond 1e308 give Inf, and Inf does not pass
            self.signal += float(flat @ flat)
            self.noise += float(apart.ravel() @ apart.ravel())
            self.other += float(other @ other)
            self.product += float(flat @ other)
            self.total += float(apart.sum())
        self.max_abs = max(self.max_abs, float(apart.max(initial=0.0)))

    def result(self, name: str) -> OutputParity:
        top1 = self.agree / self.rows if self.rows else None
        if not self.shape_ok or self.nonfinite:
            return OutputParity(name, math.inf, -math.inf, top1, self.nonfinite, self.shape_ok)
        mean = self.total / self.count if self.count else 0.0
        same = self.equal / self.count if self.count and self.integers else None
        snr, kinds, lost = snr_db(self.signal, self.noise), self.kinds.kinds(), self.spread.lost()
        return OutputParity(name, self.max_abs, snr, top1, 0, True, mean, self._cosine(), same, kinds, lost)

    def _cosine(self) -> float:
        """Of the angle between the two, as vectors; NaN where one of them is zero or does not fit a float64."""
        lengths = math.sqrt(self.signal) * math.sqrt(self.other)
        fits = 0 < lengths < math.inf and math.isfinite(self.product)
        return max(-1.0, min(1.0, self.product / lengths)) if fits else math.nan


def _pairs(ref: Tensors, cand: Tensors) -> list[tuple[str, Array | None, Array | None]]:
    if ref.keys() != cand.keys() and len(ref) == len(cand):
        return [(name, a, b) for (name, a), b in zip(ref.items(), cand.values(), strict=True)]
    return [(name, ref.get(name), cand.get(name)) for name in dict.fromkeys([*ref, *cand])]


def _rows(feeds: Tensors) -> int:
    first = next(iter(feeds.values()), None)
    return len(first) if first is not None and first.ndim else 1


def _failures(out: OutputParity, snr: Limit, max_abs: Limit, top1: Limit) -> list[str]:
    if not out.shape_ok:
        return [f"output {out.name}: missing on one side, or another shape"]
    if out.nonfinite:
        return [f"output {out.name}: {out.nonfinite} values are NaN or Inf, which never passes"]
    lines = []
    lowest, highest, share = (_for_output(limit, out.name) for limit in (snr, max_abs, top1))
    if lowest is not None and not out.worst_db >= lowest:
        where = f" in {out.worst_kind.words}" if out.worst_kind and out.snr_db >= lowest else ""
        lines.append(f"output {out.name}: SNR {out.worst_db:.1f} dB{where} is below the limit of {lowest:g} dB")
    if highest is not None and not out.max_abs <= highest:
        lines.append(f"output {out.name}: max |difference| {out.max_abs:.3g} is above the limit of {highest:g}")
    if share is not None and out.top1 is not None and not out.top1 >= share:
        lines.append(f"output {out.name}: top-1 agreement {out.top1:.4f} is below the limit of {share:g}")
    return lines


def _for_output(limit: Limit, name: str) -> float | None:
    return limit.get(name) if isinstance(limit, Mapping) else limit
