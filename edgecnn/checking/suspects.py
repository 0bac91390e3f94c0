"""Does a layer that looks wrong explain the error of the outputs, or does it only hold the same numbers otherwise?

    candidate    ── p ── ... ── d            d is right as the candidate runs: whatever p is, d needs it so
    put          ── P ── ... ── d'           P, the reference's tensor, in its place: d' is wrong, so p was not

A layer at fault stays wrong until the outputs, or what follows hides it; then the right tensor does no harm there. A
tensor that is scaled, permuted or moved is what the layers behind it expect, and the reference's is not.
Test: tests/test_diff_suspects.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edgecnn.checking.bisection import Reading
from edgecnn.checking.comparison import Comparison
from edgecnn.checking.divergence import Divergence
from edgecnn.checking.meter import Meter
from exporters.layerwise.points import Points
from runtimes.base import BadInput

CLEARLY_DB = 6.0
"""So much better is a tensor than the suspect before it, or worse with the reference's in the suspect's place."""
LEVELS = 4
"""How many tensors behind a suspect are looked at, beside the outputs: a factor is mostly taken back by the next layer
or the one behind it."""
TRIED = 3


def not_comparable(comparison: Comparison, first: Divergence) -> bool:
    """Whether the candidate's tensor at `first` is what its later layers expect, and the reference's is not."""
    if first.cause or not first.at_fault or first.point in comparison.ends:
        return False
    behind = _behind(comparison.points, first.point, comparison.ends)
    readings = comparison.measure(sum(1 << i for i in behind), "suspects") if behind else {}
    better = {i: r for i, r in readings.items() if not r.bad and r.snr_db >= first.snr_db + CLEARLY_DB}
    return bool(better) and _harmful(comparison, first.point, better)


def _behind(points: Points, point: int, ends: Sequence[int]) -> list[int]:
    """The next `LEVELS` points behind `point`, and the `ends` behind it."""
    near = {point}
    for _ in range(LEVELS):
        near |= {i for i, parents in enumerate(points.parents) if near & {*parents}}
    return sorted(near - {point} | {i for i in ends if points.before[i] >> point & 1})


def _harmful(comparison: Comparison, point: int, readings: Mapping[int, Reading]) -> bool:
    """Whether the reference's tensor at `point` makes what is right in the candidate wrong, and nothing better."""
    chosen = sorted(readings)
    (theirs,) = comparison.tensors([point], 1)
    put = [comparison.as_candidate({theirs: values[-1]}) for values in comparison.right(point)]
    moved = []
    for i in dict.fromkeys([*chosen[: TRIED - 1], chosen[-1]]):
        meter, (own,) = Meter(), comparison.tensors([i], 1)
        try:
            for feed, fed in zip(comparison.feeds, put, strict=True):
                runner = comparison.candidate.alone(own, fed)
                meter.add(comparison.reference_at(i, feed), runner({**feed, **fed})[own], comparison.gains.get(own))
            reached = meter.snr_db
        except (BadInput, RuntimeError):  # another shape; the second is PyTorch's
            reached = -math.inf
        worse = reached < min(readings[i].snr_db - CLEARLY_DB, readings[i].limit_db)
        moved.append(-1 if worse else int(reached > readings[i].snr_db + CLEARLY_DB))
    return min(moved) < 0 and max(moved) <= 0
