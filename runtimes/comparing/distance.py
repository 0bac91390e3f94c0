"""How far two arrays are apart, number by number, and what JSON has for numbers that it does not know.

All that the proof in a bundle takes of parity, so that a device is not given the rest. Test: tests/test_parity.py.
"""

from __future__ import annotations

import math
import sys

import numpy as np

from runtimes.base import Array


def difference(ref: Array, cand: Array) -> Array:
    """|ref - cand| in float64 for arrays of one shape; exact for integers of one type, where float64 is not."""
    if ref.dtype.kind in "iu" and ref.dtype == cand.dtype:
        high, low = np.maximum(ref, cand), np.minimum(ref, cand)
        return (high.astype(np.uint64) - low.astype(np.uint64)).astype(np.float64)  # exact modulo 2**64
    with np.errstate(invalid="ignore", over="ignore"):
        return np.abs(ref.astype(np.float64) - cand.astype(np.float64))


def json_number(value: float, limit: float = sys.float_info.max) -> float:
    """`value` within [-limit, limit], because JSON has no infinity; NaN becomes -limit (it never passes).

    >>> json_number(float("inf"), 999.0), json_number(1.5)
    (999.0, 1.5)
    """
    return -limit if math.isnan(value) else max(-limit, min(limit, value))
