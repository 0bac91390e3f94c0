"""A histogram that grows with its data and stays exact: bins [k 2^e, (k + 1) 2^e), k = -BINS .. BINS - 1.

    floor(floor(x / 2^e) / 2^d) = floor(x / 2^(e + d))

When a value does not fit, e grows by d and 2^d neighbours become one bin. Because every edge of the coarse grid is one
of the fine grid and a multiplication by 2^-e is exact in floating point (but for underflow, 2^126 below the largest),
the counts are those that `numpy.histogram` gives for all values at once on the final edges, and the order in which they
came leaves no trace. The bins are as fine as a power of two allows: the largest magnitude lies in the upper half.
Test: tests/test_histogram.py.
"""

from __future__ import annotations

import math

import numpy as np

from runtimes.base import Array

BINS = 2048
"""On each side of zero; at least half of them reach the largest magnitude: 1,024 bins for the 255 steps of a grid."""
_SIDE_BITS = 11
_FINEST = -120
"""2^120 is still a float32; what is smaller than 2^-120 shares a bin with zero."""
_CHUNK = 1 << 16
"""Values counted at once: their indices (512 KiB) stay in the second-level cache."""


class Histogram:
    """Counts of everything given to `add`. `counts[k + BINS]` belongs to bin k; `zeros` counts exact zeros."""

    def __init__(self) -> None:
        self.counts: Array = np.zeros(2 * BINS, np.int64)
        self.exponent = _FINEST
        self.low, self.high = math.inf, -math.inf
        self.zeros = 0

    def add(self, values: Array) -> None:
        """Count `values` (float, any shape, finite)."""
        if not values.size:
            return
        flat = np.asarray(values, np.float32).reshape(-1)
        low, high = float(flat.min()), float(flat.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._coarsen(exponent_for(max(-low, high)))
        self.zeros += flat.size - int(np.count_nonzero(flat != 0))  # three times as fast as on floats
        for first in range(0, flat.size, _CHUNK):
            self._count(flat[first : first + _CHUNK], low < 0)

    def _count(self, chunk: Array, signed: bool) -> None:
        scaled = chunk * np.float32(2.0**-self.exponent)
        if signed:  # truncation is the floor of what is not negative
            np.floor(scaled, out=scaled)
            self.counts += np.bincount(scaled.astype(np.intp) + BINS, minlength=2 * BINS)
        else:
            self.counts[BINS:] += np.bincount(scaled.astype(np.intp), minlength=BINS)

    def _coarsen(self, exponent: int) -> None:
        shift = exponent - self.exponent
        if shift <= 0:
            return
        places = (np.arange(-BINS, BINS) >> min(shift, 62)) + BINS
        merged = np.zeros_like(self.counts)
        np.add.at(merged, places, self.counts)
        self.counts, self.exponent = merged, exponent

    @property
    def total(self) -> int:
        """Number of values counted."""
        return int(self.counts.sum())

    @property
    def width(self) -> float:
        """Width of a bin."""
        return float(2.0**self.exponent)

    def filled(self) -> tuple[Array, Array]:
        """(edges (n + 1,), counts (n,)) from the first to the last bin that holds something, float64 and int64."""
        if math.isinf(self.low):
            raise ValueError("no value was observed")
        first, last = (math.floor(value / self.width) for value in (self.low, self.high))
        return np.arange(first, last + 2) * self.width, self.counts[first + BINS : last + 1 + BINS]

    def quantile(self, share: float) -> float:
        """The value below which `share` (0..1) of the values lie, taken as spread evenly within their bin."""
        edges, counts = self.filled()
        below = np.concatenate([[0], np.cumsum(counts)])
        value = float(np.interp(share * below[-1], below, edges))
        return min(max(value, self.low), self.high)


def exponent_for(peak: float) -> int:
    """The smallest e for which values up to `peak` in magnitude fit into BINS bins of 2^e on each side of zero.

    >>> exponent_for(1.0), exponent_for(1.0 - 2**-24)
    (-10, -11)
    """
    return max(math.frexp(peak)[1] - _SIDE_BITS, _FINEST) if peak > 0 else _FINEST
