"""Numbers of several kinds in one output, boxes in pixels beside scores: each kind is compared by itself.

    rms(c)      =  sqrt(mean of ref^2 over slice c)           slices along the second or the third of three axes
    kinds       =  slices in the order of their rms, parted where one is more than `GAP` times the one before
    snr(kind)   =  10 log10( sum ref^2 / sum (ref - cand)^2 )       over its slices

Of a detector's (N, 4 + classes, boxes) the squares of the pixels are all that a sum over everything sees: scores that
are noise do not show. Slices that are all zero belong to the smallest kind. Test: tests/test_kinds.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from runtimes.base import Array

GAP = 10.0
"""20 dB: what one kind contributes to the signal of both is 1 %."""
MOST_SLICES = 1024
"""More are places (anchors), not kinds."""


@dataclass(frozen=True)
class Kind:
    """Slices `places` along `axis` of an output; `signal` and `noise` are sums of squares over them."""

    axis: int
    places: tuple[int, ...]
    signal: float
    noise: float

    @property
    def snr_db(self) -> float:
        return snr_db(self.signal, self.noise)

    @property
    def words(self) -> str:
        """
        >>> Kind(1, (4, 5, 6), 1.0, 0.1).words, Kind(2, (0, 2), 1.0, 0.1).words
        ('channels 4 to 6', '2 channels from 0 to 2')
        """
        first, last, count = self.places[0], self.places[-1], len(self.places)
        if count == 1:
            return f"channel {first}"
        return (
            f"channels {first} to {last}" if last - first + 1 == count else f"{count} channels from {first} to {last}"
        )

    def to_dict(self) -> dict[str, Any]:
        return {"axis": self.axis, "first": self.places[0], "last": self.places[-1], "slices": len(self.places)}


@dataclass
class KindSums:
    """Running sums of squares of each slice of an output of three axes, (2, slices): of the reference, of the noise."""

    sums: dict[int, Array | None] = field(default_factory=dict)
    count: int = 0

    def add(self, ref: Array, apart: Array) -> None:
        if ref.ndim != 3:
            self.sums = dict.fromkeys(self.sums)  # of another shape than before
            return
        self.count += ref.size
        for axis in (1, 2):
            size = ref.shape[axis]
            known = self.sums.get(axis, np.zeros((2, size)))
            if known is None or known.shape[1] != size or not 2 <= size <= MOST_SLICES:
                self.sums[axis] = None
                continue
            others = (0, 3 - axis)
            with np.errstate(over="ignore"):
                squares = [np.square(value.astype(np.float64)).sum(axis=others) for value in (ref, apart)]
            self.sums[axis] = known + np.stack(squares)

    def kinds(self) -> tuple[Kind, ...]:
        """The kinds along the axis that has more than one; empty where all numbers are of one kind."""
        for axis, sums in self.sums.items():
            found = parted(axis, sums, self.count // sums.shape[1]) if sums is not None and self.count else ()
            if len(found) > 1:
                return found
        return ()


def parted(axis: int, sums: Array, count: int) -> tuple[Kind, ...]:
    """The kinds among slices whose sums of squares (2, slices) are over `count` numbers each."""
    rms = np.sqrt(sums[0] / count)
    if not np.isfinite(rms).all():
        return ()
    order = np.argsort(rms, kind="stable")
    order = order[np.count_nonzero(rms == 0) :]
    if not len(order):
        return ()
    cuts = np.flatnonzero(rms[order[1:]] > GAP * rms[order[:-1]]) + 1
    groups = np.split(order, cuts)
    groups[0] = np.concatenate([groups[0], np.flatnonzero(rms == 0)])
    return tuple(_kind(axis, np.sort(group), sums) for group in groups)


def _kind(axis: int, places: Sequence[int] | Array, sums: Array) -> Kind:
    signal, noise = (float(row[places].sum()) for row in sums)
    return Kind(axis, tuple(int(place) for place in places), signal, noise)


def snr_db(signal: float, noise: float) -> float:
    """10 log10(signal / noise) from two sums of squares; inf without noise, -inf without signal or with NaN or Inf.

    >>> snr_db(100.0, 1.0), snr_db(0.0, 0.0), snr_db(0.0, 1.0)
    (20.0, inf, -inf)
    """
    if not (math.isfinite(signal) and math.isfinite(noise)):
        return -math.inf
    if noise == 0:
        return math.inf
    return 10 * (math.log10(signal) - math.log10(noise)) if signal > 0 else -math.inf
