"""How far from the original's answers a model in a bundle may be, by how far it was measured to be where it was made.

    largest |difference|     twice as far, and what float32 leaves of the largest number
    relative L2              twice as far, at most half of the way to zeros or the nearest constant, and float32's share
    disagreement of boxes    twice as far, at most half of the way to 1, and a little

What the measures are, and the check: runtimes/proof/golden.py. Test: tests/test_parts.py, tests/test_golden.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runtimes.base import Array
from runtimes.proof.golden import DISAGREEMENT, KIND_LIMITS
from runtimes.proof.parts import Apart

SLACK = 2.0
"""Another CPU sums in another order, and without VNNI may saturate: it may differ twice as much as this one does."""
FLOAT_SHARE, LEAST_SCALE = 1e-5, 1e-3
"""float32 leaves 1e-6 of the largest output."""
FLOAT_DISAGREEMENT = 1e-4
FLOAT_RELATIVE = 1e-4
"""80 dB: what float32 sums leave in a deep network, in another order."""
LEAST_ROOM = 1.5
"""A constant that is nearer than so many times what was measured is not told from the model: another CPU needs room."""


def limit_of(measured: float, measure: str, outputs: Sequence[Array]) -> float:
    """The limit for a model that was `measured` here to be so far from the golden `outputs`.

    Twice as far; of a disagreement at most half of the way to 1, which is no agreement at all.
    """
    if measure == DISAGREEMENT:
        return _below(measured) + FLOAT_DISAGREEMENT
    return _absolute(measured, max(float(abs(array).max(initial=0.0)) for array in outputs))


def limits_of(found: Apart) -> dict[str, Any]:
    """The manifest's entry for a part in which the model was `found` here to be so far from the original."""
    return {**found.part.to_dict(), KIND_LIMITS[0]: _absolute(found.max_abs, found.scale), **relative_limit(found)}


def relative_limit(found: Apart) -> dict[str, float]:
    """Twice as far, and at most half of the way to 1, as far as zeros are, or to the nearest constant; none for a part
    that is all zero.
    """
    return {KIND_LIMITS[1]: _relative(found)} if found.scale else {}


def _absolute(measured: float, scale: float) -> float:
    return SLACK * measured + FLOAT_SHARE * max(scale, LEAST_SCALE)


def _relative(found: Apart) -> float:
    """What float32 leaves beside the largest number is much of a part where that stands alone."""
    floor = max(FLOAT_RELATIVE, FLOAT_SHARE * found.scale / found.rms if found.rms else 0.0)
    constant = found.std / found.rms if found.rms else 1.0
    apart = constant > LEAST_ROOM * found.relative_l2 + SLACK * floor
    return _below(found.relative_l2, constant if apart else 1.0) + floor


def _below(measured: float, end: float = 1.0) -> float:
    return measured + min((SLACK - 1) * measured, abs(end - measured) / 2)
