"""A per-channel affine y = a x + b: BatchNormalization at rest is one, and two in a row are one.

    BN(x)                = g x + (shift - g mean)          with  g = scale / sqrt(variance + epsilon)
    a2 (a1 x + b1) + b2  = (a2 a1) x + (a2 b1 + b2)

`parts` remembers how large the numbers are that are added up to make b. The graph before a fold rounds numbers of that
size, so it is the measure of what a fold may cost.
Source: Ioffe and Szegedy 2015, "Batch Normalization", section 3.1; ONNX, BatchNormalization-15.
Test: tests/test_fold_math.py.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from exporters.fold.near import Near, exact
from runtimes.base import Array


@dataclass(frozen=True)
class Affine:
    """y = slope x + shift, each (C,) or (1,); `parts` >= |shift| is the size of shift's summands."""

    slope: Near
    shift: Near
    parts: Array

    @property
    def channels(self) -> int:
        """C, or 1 when every channel has the same."""
        return max(self.slope.value.size, self.shift.value.size)

    @property
    def moves_zero(self) -> bool:
        """Whether a zero comes out as something else: zeros padded around x are not zeros around y."""
        return bool(np.any(self.shift.value != 0) or np.any(self.shift.error != 0))

    def then(self, after: Affine) -> Affine:
        """This one first, `after` second."""
        shift = after.shift if not self.moves_zero else after.slope * self.shift + after.shift
        return Affine(after.slope * self.slope, shift, np.abs(after.slope.value) * self.parts + after.parts)

    def over(self, channels: int) -> Affine:
        """The same with every array (channels,)."""
        spread = functools.partial(np.broadcast_to, shape=(channels,))
        return Affine(self.slope.moved(spread), self.shift.moved(spread), spread(self.parts))


IDENTITY = Affine(exact(np.ones(1)), exact(np.zeros(1)), np.zeros(1))


def scaling(slope: Near) -> Affine:
    """y = slope x."""
    return Affine(slope, IDENTITY.shift, IDENTITY.parts)


def shifting(shift: Near) -> Affine:
    """y = x + shift."""
    return Affine(IDENTITY.slope, shift, np.abs(shift.value))


def compose(affines: Iterable[Affine]) -> Affine:
    """All of them, the first one first."""
    return functools.reduce(Affine.then, affines, IDENTITY)


def batchnorm(scale: Array, shift: Array, mean: Array, variance: Array, epsilon: float) -> Affine:
    """BatchNormalization at rest with four parameters (C,); variance + epsilon must be positive."""
    gain = exact(scale) / (exact(variance) + exact(epsilon)).sqrt()
    centre = gain * exact(mean)
    return Affine(gain, exact(shift) - centre, np.abs(centre.value) + np.abs(exact(shift).value))
