"""Least-squares calibration: the range whose grid makes the smallest mean squared error on the values seen.

    error(l, h) = sum_{x > h} (x - h)^2 + sum_{x < l} (l - x)^2 + n_inside D^2 / 12        D = (h - l) / 255

What lies outside is clipped to the end; what lies inside is off by a rounding error, uniform in +-D/2. Exact zeros
(half of what a ReLU makes) are on every grid and cost nothing. l and h are searched on 128 shares of the extremes each.
Source: Sung et al. 2015, "Resiliency of Deep Neural Networks under Quantization", section 3 (L2 error minimization);
Banner et al. 2019, "Post training 4-bit quantization of convolutional networks", equation 4.
Test: tests/test_calibrators.py (oracle: the error of every candidate grid, measured on the values themselves).
"""

from __future__ import annotations

import numpy as np

from exporters.quantization.histogram import Histogram
from runtimes.base import Array

LEVELS = 255
CANDIDATES = 128


class Calibrator:
    """Watches one tensor; see the folder's contract."""

    def __init__(self) -> None:
        self.histogram = Histogram()

    def observe(self, values: Array) -> None:
        self.histogram.add(values)

    def range(self) -> tuple[float, float]:
        edges, counts = self.histogram.filled()
        return best_range(edges, counts, self.histogram.zeros, self.histogram.low, self.histogram.high)


def best_range(edges: Array, counts: Array, zeros: int, low: float, high: float) -> tuple[float, float]:
    """(l, h) of the smallest error for `counts` (n,) between `edges` (n + 1,), `zeros` of which are exact zeros."""
    centers = np.clip((edges[:-1] + edges[1:]) / 2, low, high)
    shares = np.arange(1, CANDIDATES + 1) / CANDIDATES
    lows = shares * low if low < 0 else np.zeros(1)
    highs = shares * high if high > 0 else np.zeros(1)
    weights = counts.astype(np.float64)
    over = np.maximum(centers - highs[:, None], 0.0)
    under = np.maximum(lows[:, None] - centers, 0.0)
    clipped = ((under**2) @ weights)[:, None] + ((over**2) @ weights)[None, :]
    outside = ((under > 0) @ weights)[:, None] + ((over > 0) @ weights)[None, :]
    step = (highs[None, :] - lows[:, None]) / LEVELS
    error = clipped + (weights.sum() - zeros - outside) * step**2 / 12
    at_low, at_high = np.unravel_index(np.argmin(error), error.shape)
    return (float(lows[at_low]) if low < 0 else low), (float(highs[at_high]) if high > 0 else high)
