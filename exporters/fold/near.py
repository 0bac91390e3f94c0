"""A float64 array together with a bound on its distance from the exact value (running error analysis).

    fl(x op y) = (x op y) (1 + d), |d| <= v = 2^-53      so      error(x + y) = error(x) + error(y) + v |x + y|   etc.

Each operation adds what its rounding may cost to what its arguments carry. The bounds themselves are computed in
float64, SAFETY covers that, TINY covers underflow.
Source: Higham 2002, "Accuracy and Stability of Numerical Algorithms", section 3.3. Test: tests/test_fold_math.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from runtimes.base import Array

ROUNDOFF = 2.0**-53
SAFETY = 1 + 2.0**-40
TINY = 2.0**-1074


@dataclass(frozen=True)
class Near:
    """`value` is within `error` >= 0 of what exact arithmetic gives; both float64 of one shape. Inf: nothing known."""

    value: Array
    error: Array

    def __add__(self, other: Near) -> Near:
        return _rounded(self.value + other.value, self.error + other.error)

    def __sub__(self, other: Near) -> Near:
        return _rounded(self.value - other.value, self.error + other.error)

    def __neg__(self) -> Near:
        return Near(-self.value, self.error)

    def __mul__(self, other: Near) -> Near:
        x, y = np.abs(self.value), np.abs(other.value)
        inherited = x * other.error + y * self.error + self.error * other.error
        return _rounded(self.value * other.value, inherited, TINY * ((x != 0) & (y != 0)))

    def __truediv__(self, other: Near) -> Near:
        """|x/y - x*/y*| <= (|x/y| e_y + e_x) / (|y| - e_y), and nothing is known when y* may be zero."""
        quotient = self.value / other.value
        room = np.abs(other.value) - other.error
        inherited = (np.abs(quotient) * other.error + self.error) / np.where(room > 0, room, 1.0)
        return _rounded(quotient, np.where(room > 0, inherited, np.inf), TINY * (self.value != 0))

    def sqrt(self) -> Near:
        """|sqrt x - sqrt x*| = |x - x*| / (sqrt x + sqrt x*) <= e / sqrt x."""
        root = np.sqrt(self.value)
        unsure = np.where(root > 0, self.error / np.where(root > 0, root, 1.0), np.sqrt(self.error))
        return _rounded(root, unsure)

    def moved(self, move: Callable[[Array], Array]) -> Near:
        """Reshaped, transposed, broadcast ...: no arithmetic."""
        return Near(np.asarray(move(self.value)), np.asarray(move(self.error)))


def exact(value: Array | float) -> Near:
    """A value that is what it says; every float16, bfloat16, float32 and float64 is."""
    value = np.asarray(value, np.float64)
    return Near(value, np.zeros_like(value))


def _rounded(value: Array, inherited: Array, underflow: Array | float = 0.0) -> Near:
    """Sums and roots do not underflow; products and quotients of zero are exact: a shift of zero stays one."""
    return Near(np.asarray(value), np.asarray(inherited * SAFETY + ROUNDOFF * np.abs(value) + underflow))
