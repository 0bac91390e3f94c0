"""Find the first point that is wrong with few measurements, each of which looks at a front of points.

    suspects   . . . . . . . . . . . .        all of them lie behind a point that is wrong
    measured             ^ ^                  wrong: what lies behind the first wrong one stays suspect
                                              right: it, and all that lies behind it, is cleared

Each measurement leaves at most half of the suspects, so that n points take 1 + ceil(log2 n): the first looks at the
outputs. It is right when what is wrong stays wrong until the outputs; `diff` proves its answer and else looks at
every point. Source: binary search; `git bisect` on a history with branches. Test: tests/test_bisection.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from exporters.layerwise.points import Points, members


@dataclass(frozen=True)
class Reading:
    """SNR (dB) of the candidate at one point, the limit there, and the cause where it could not be run.

    `odd`: the reference holds NaN or infinity there.
    """

    snr_db: float
    limit_db: float
    cause: str = ""
    odd: bool = False

    @property
    def bad(self) -> bool:
        return bool(self.cause) or not self.snr_db >= self.limit_db


Measure = Callable[[int], Mapping[int, Reading]]
"""Takes a set of points, gives the reading of each."""
Judge = Callable[[Mapping[int, Reading]], int]
"""Takes readings, gives the set of points that are wrong."""


@dataclass(frozen=True)
class Found:
    """The first wrong point (None: the outputs are right), and all readings that were taken."""

    point: int | None
    readings: Mapping[int, Reading]
    runs: int


def by_limit(readings: Mapping[int, Reading]) -> int:
    """The points whose SNR is below their limit."""
    return sum(1 << i for i, reading in readings.items() if reading.bad)


def by_cause(readings: Mapping[int, Reading]) -> int:
    """The points up to which the candidate does not run."""
    return sum(1 << i for i, reading in readings.items() if reading.cause)


def by_odd(readings: Mapping[int, Reading]) -> int:
    """The points where the reference itself holds NaN or infinity."""
    return sum(1 << i for i, reading in readings.items() if reading.odd)


@dataclass
class ByDrop:
    """For errors that grow with every layer: wrong is what lies in the lower half between the ends (dB) so far."""

    high_db: float
    low_db: float | None = None

    def __call__(self, readings: Mapping[int, Reading]) -> int:
        worst = min((min(r.snr_db, self.high_db) for r in readings.values()), default=self.high_db)
        if self.low_db is None:
            self.low_db = worst
            return sum(1 << i for i, r in readings.items() if r.snr_db <= worst)
        middle = (max(self.high_db, 0) + max(self.low_db, 0)) / 2
        bad = sum(1 << i for i, r in readings.items() if r.snr_db <= middle)
        if bad:
            self.low_db = worst
        else:
            self.high_db = worst
        return bad


def search(points: Points, measure: Measure, judge: Judge = by_limit) -> Found:
    """The first wrong point of `points`."""
    readings: dict[int, Reading] = {}
    suspects, runs, begun, first = points.all, 0, False, 0
    while suspects.bit_count() > 1 or not begun:
        half = _first_half(suspects) if begun else suspects
        seen = measure(points.front(half))
        readings, runs = {**readings, **seen}, runs + 1
        bad = judge(seen)
        if not bad and not begun:
            return Found(None, readings, runs)
        begun = True
        cleared = _behind(points, sum(1 << i for i in seen) & ~bad)
        if bad:
            first = next(members(bad))
            suspects &= half & (points.before[first] | 1 << first)
            suspects &= ~cleared | 1 << first
        else:
            suspects &= ~half & ~cleared
    return Found(suspects.bit_length() - 1 if suspects else first, readings, runs)  # none left: an error that vanishes


def _first_half(points: int) -> int:
    kept = list(members(points))[: points.bit_count() // 2]
    return sum(1 << i for i in kept)


def _behind(points: Points, cleared: int) -> int:
    for i in members(cleared):
        cleared |= points.before[i]
    return cleared
