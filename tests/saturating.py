"""The products of an x86 CPU without VNNI, as `exporters.targets.saturation` says they are."""

from __future__ import annotations

import numpy as np

from exporters.targets.saturation import excess
from runtimes.base import Array


def saturating_dot(x: Array, w: Array) -> Array:
    """int64 (P, O): x uint8 (P, K) times w int8 (O, K), as the instruction computes it."""
    exact = x.astype(np.float64) @ w.astype(np.float64).T  # integers below 2**53: exact, and a fast product
    return np.rint(exact).astype(np.int64) + excess(x, w)
