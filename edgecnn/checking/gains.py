"""Per-channel powers of two that a rewrite of an int8 graph put into one layer and takes back in a later one.

    candidate's tensor ~ reference's tensor x 2^k        k one whole number a channel (cross-layer equalization)

That alone is no evidence: a layer that really is wrong by a factor of two makes the same tensor. What tells is what the
candidate makes of it: the next layer is run on the reference's values with the factors and without. With them it is
right: it takes them back. Without them it is right: the factors are a fault. Where it is wrong both ways, factors of
several sizes are taken for a rewrite's: faults make no such pattern, and the layer that is wrong is the next. Layers
whose results have factors, too, pass the question on; an output has none. So the answer is worked out from the outputs
backwards.
Source of the rewrite: exporters/accuracy/equalize.py. Test: tests/test_gains.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgecnn.checking.comparison import Comparison
from edgecnn.checking.meter import Meter, per_channel
from runtimes.base import Array, BadInput, Track, silent

NEAR_POWER = 0.15
"""How far a channel's log2 of its factor may lie from a whole number: what eight bits round of a channel moves it."""
BEFORE, SIGNAL = 0.25, 0.1
"""With its factor undone a channel must be off by less than these shares of what it was off by, and of its energy; the
whole tensor by the first: a quiet channel is near a power of two by chance."""
PATTERN = 3
"""So many different factors in one tensor, 1 among them, come from no fault."""
CLEARLY_DB = 3.0
"""So much nearer must a layer be with the factors than without."""


def powers_of_two(ours: Sequence[Array], theirs: Sequence[Array]) -> Array | None:
    """float32 (C,): the factors of `theirs` over `ours`, arrays (N, C, ...) by sample; None where all are 1.

    >>> powers_of_two([np.float32([[1, 2, 3]])], [np.float32([[4, 1, 3]])])
    array([4. , 0.5, 1. ], dtype=float32)
    """
    if any(a.shape != b.shape or a.ndim < 2 or a.dtype.kind != "f" for a, b in zip(ours, theirs, strict=True)):
        return None
    sums = sum(_sums(a, b) for a, b in zip(ours, theirs, strict=True))
    assert not isinstance(sums, int)
    own, both, other = sums
    if not np.isfinite(sums).all():
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        power = np.log2(np.where(both > 0, both, 1) / np.where(own > 0, own, 1))
    whole = np.rint(power)
    gain = 2.0**whole
    before, after = own - 2 * both + other, own - 2 * both / gain + other / gain**2
    near = (both > 0) & (whole != 0) & (np.abs(power - whole) <= NEAR_POWER)
    fits = near & (after < BEFORE * before) & (after < SIGNAL * own)
    left = np.where(fits, after, before).sum()
    return np.where(fits, gain, 1).astype(np.float32) if left < BEFORE * before.sum() else None


def _sums(ours: Array, theirs: Array) -> Array:
    """float64 (3, C): sums of ours^2, ours theirs, theirs^2 over all but the channels."""
    a, b = (np.moveaxis(value, 1, 0).reshape(value.shape[1], -1).astype(np.float64) for value in (ours, theirs))
    with np.errstate(over="ignore", invalid="ignore"):
        return np.stack([(a * a).sum(1), (a * b).sum(1), (b * b).sum(1)])


@dataclass(frozen=True)
class Evidence:
    """SNR (dB) of one layer alone, with the factors of its inputs and without; `own`: with its own factors undone."""

    given: float
    plain: float
    given_own: float
    plain_own: float

    def vote(self, own: bool) -> float:
        """How much nearer (dB) the layer is with the factors of its inputs."""
        pair = (self.given_own, self.plain_own) if own else (self.given, self.plain)
        held = [min(max(value, -200.0), 200.0) for value in pair]
        return held[0] - held[1]


def learned(comparison: Comparison, track: Track = silent) -> dict[str, Array]:
    """Candidate's tensor -> its factors, of those that a later layer takes back; one pass over all layers."""
    found: dict[int, Array] = {}
    seen: dict[int, Evidence] = {}
    ends = set(comparison.ends)
    for i, near, ours, theirs in comparison.walk(track):
        gain = None if i in ends or theirs is None else powers_of_two(ours, theirs)
        found |= {} if gain is None else {i: gain}
        if any(p in found for p in comparison.points.parents[i]):
            seen[i] = _evidence(comparison, i, near, ours, found)
    names = comparison.tensors(range(len(comparison.points.names)), 1)
    sizes = {i: len(np.unique(gain)) for i, gain in found.items()}
    return {names[i]: found[i] for i in taken_back(sizes, seen, comparison.points.parents)}


def taken_back(sizes: Mapping[int, int], seen: Mapping[int, Evidence], parents: Sequence[Sequence[int]]) -> list[int]:
    """Those of the points whose factors the clearest of their readers wants, from the outputs backwards.

    `sizes`: how many different factors a point has.
    """
    kept: list[int] = []
    for i in sorted(sizes, reverse=True):
        votes = [seen[c].vote(own=c in kept) for c, near in enumerate(parents) if i in near and c in seen]
        clearest = max(votes, key=abs, default=0.0)
        if clearest >= CLEARLY_DB or (abs(clearest) < CLEARLY_DB and sizes[i] >= PATTERN):
            kept.append(i)
    return sorted(kept)


def suspicious(comparison: Comparison, points: Sequence[int]) -> bool:
    """Whether any of the candidate's tensors at `points` is the reference's times powers of two."""
    chosen = [i for i in points if i not in comparison.ends]
    ours, theirs = (comparison.tensors(chosen, side) for side in (0, 1))
    try:
        made = [(comparison.reference.open(ours)(f), comparison.candidate.open(theirs)(f)) for f in comparison.feeds]
    except BadInput:
        return False
    return any(
        powers_of_two([one[a] for one, _ in made], [other[b] for _, other in made]) is not None
        for a, b in zip(ours, theirs, strict=True)
    )


def _evidence(
    comparison: Comparison,
    point: int,
    near: Sequence[Sequence[Array]],
    ours: Sequence[Array],
    found: Mapping[int, Array],
) -> Evidence:
    parents = comparison.points.parents[point]
    names, (own,) = comparison.tensors(parents, 1), comparison.tensors([point], 1)
    snr: list[float] = []
    for gained in (True, False):
        plain, undone, runner = Meter(), Meter(), None
        try:
            for k, feed in enumerate(comparison.feeds):
                fed = {
                    name: value[k] * per_channel(found[p], value[k].ndim) if gained and p in found else value[k]
                    for name, p, value in zip(names, parents, near, strict=True)
                }
                runner = runner or comparison.candidate.alone(own, fed)
                made = runner({**feed, **fed})[own]
                plain.add(ours[k], made)
                undone.add(ours[k], made, found.get(point))
        except BadInput:
            return Evidence(*[-math.inf] * 4)
        snr += [plain.snr_db, undone.snr_db]
    return Evidence(snr[0], snr[2], snr[1], snr[3])
