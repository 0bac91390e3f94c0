"""Entropy calibration: the range whose 255 steps keep most of what the distribution of the values says.

    KL(P || Q) = sum_i P_i log(P_i / Q_i)

P is the histogram with what lies outside the range piled up in the outermost bins, as clipping does. Q is what is left
of the histogram inside the range when its bins are poured into 255 equal steps and each step is spread evenly over
those of its bins that hold something. Of 128 ranges (share * low, share * high) that of the smallest divergence wins.
Exact zeros stay out of both: every grid holds zero. A divergence weighs all values alike, large ones are rare: the
range often clips what matters most to a classifier, so measure before you prefer it to minmax.
Source: Migacz 2017, "8-bit Inference with TensorRT", NVIDIA GTC (pages 19 to 26).
Test: tests/test_calibrators.py (oracle: the definition by hand on a small case, ONNX Runtime's EntropyCalibrater).
"""

from __future__ import annotations

import math

import numpy as np

from exporters.quantization.histogram import BINS, Histogram
from runtimes.base import Array

LEVELS = 255
CANDIDATES = 128
_EMPTY = 1e-4
"""Counts that a bin of Q holds where P has some and Q would have none: a divergence must not be infinite."""


class Calibrator:
    """Watches one tensor; see the folder's contract."""

    def __init__(self) -> None:
        self.histogram = Histogram()

    def observe(self, values: Array) -> None:
        self.histogram.add(values)

    def range(self) -> tuple[float, float]:
        edges, counts = self.histogram.filled()
        share = best_share(edges, self._without_zeros(edges, counts))
        low, high = self.histogram.low, self.histogram.high
        return (low * share if low < 0 else low), (high * share if high > 0 else high)

    def _without_zeros(self, edges: Array, counts: Array) -> Array:
        if not self.histogram.zeros:
            return counts
        at_zero = int(np.searchsorted(edges, 0.0))
        kept = counts.copy()
        kept[at_zero] = self.histogram.counts[BINS] - self.histogram.zeros
        return kept


def best_share(edges: Array, counts: Array) -> float:
    """The share of both ends at which cutting the histogram costs the least information (1.0: cut nothing)."""
    if len(counts) <= LEVELS or not counts.any():
        return 1.0
    low, high = min(edges[0], 0.0), max(edges[-1], 0.0)
    shares = np.arange(1, CANDIDATES + 1) / CANDIDATES
    found = []
    for share in shares:
        start = int(np.searchsorted(edges, share * low, "right")) - 1 if low < 0 else 0
        stop = int(np.searchsorted(edges, share * high, "left")) if high > 0 else len(counts)
        enough = stop - start >= LEVELS
        found.append(divergence(counts, start, stop) if enough else math.inf)
    return float(shares[int(np.argmin(found))])


def divergence(counts: Array, start: int, stop: int, levels: int = LEVELS) -> float:
    """KL divergence in nats between `counts` clipped to bins start..stop-1 and the same in `levels` equal steps."""
    inside = counts[start:stop].astype(np.float64)
    clipped = inside.copy()
    clipped[0] += counts[:start].sum()
    clipped[-1] += counts[stop:].sum()
    step = np.arange(len(inside)) * levels // len(inside)
    held = (clipped > 0).astype(np.float64)
    per_bin = np.bincount(step, inside, levels) / np.maximum(np.bincount(step, held, levels), 1.0)
    poured = np.where(held > 0, np.maximum(per_bin[step], _EMPTY), 0.0)
    if not clipped.any():
        return math.inf
    p, q = clipped / clipped.sum(), poured / poured.sum()
    filled = p > 0
    return float(np.sum(p[filled] * np.log(p[filled] / q[filled])))
