"""How long does it take: samples, not averages, and a race that drift cannot decide.

    round 1: a c b    round 2: b c a    round 3: c a b    round 4: b a c ...    shuffled, and the same backwards

Two blocks timed one after the other differ by 12-17 % on the same model, because the machine drifts; the ratio of runs
that stand next to each other differs by 1.5 %, and by 0.5 % in CPU time (runtimes/timing/ratios.py: ratio, interval).
A percentile is reported only when at least 10 samples lie beyond it: p90 needs 100 samples, p99 needs 1,000 (the median
stands for itself). Test: tests/test_latency.py.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from runtimes import plugins
from runtimes.base import BadInput, Track, silent
from runtimes.timing.ratios import MIN_ROUNDS, Ratio, Verdict, compare, interval, itself, verdict

__all__ = ["LatencyReport", "Race", "Ratio", "Verdict", "Watch", "measure", "race", "verdict"]

SAMPLES_BEYOND = 10
DECIDING_ROUNDS, DECIDING_SECONDS = 300, 5.0
"""At most, for a race that decides which graph is used; networks of a few milliseconds have run all rounds before."""
LONGER = 3
"""Beside busy neighbours a race may not tell. It is run once more then, so many times as long; only that one counts."""
ClockName = Literal["cpu", "wall"]
Call = Callable[[], object]


@dataclass(frozen=True)
class Watch:
    """Two clocks in seconds; a test passes its own."""

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.process_time


REAL = Watch()


@dataclass(frozen=True)
class LatencyReport:
    """Every sample of one runner: wall time and CPU time of the whole process, in milliseconds, in the order taken."""

    samples_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]

    def __repr__(self) -> str:
        """Without the samples: a record that holds many of these is to be read by people."""
        return f"LatencyReport(p50_ms={self.p50_ms:.4g}, samples={len(self.samples_ms)})"

    def percentile_ms(self, percent: float) -> float | None:
        """Linear-interpolated percentile of the wall time; None when fewer than 10 samples lie beyond it."""
        beyond = len(self.samples_ms) * (1 - percent / 100)
        return float(np.percentile(self.samples_ms, percent)) if beyond > SAMPLES_BEYOND - 1e-9 else None

    @property
    def p50_ms(self) -> float:
        return float(np.median(self.samples_ms))

    @property
    def p90_ms(self) -> float | None:
        return self.percentile_ms(90)

    @property
    def p99_ms(self) -> float | None:
        return self.percentile_ms(99)

    @property
    def mean_ms(self) -> float:
        return float(np.mean(self.samples_ms))

    @property
    def p50_interval_ms(self) -> tuple[float, float]:
        """95 % interval of the median: neighbours are drawn together (runtimes/timing/ratios.py)."""
        return interval(self.samples_ms, 50)

    def interval_ms(self, what: str) -> tuple[float, float, float] | None:
        """(value, low, high) of "p50", "p90", "p99" or "mean"; None where the samples are too few for it."""
        value: float | None = getattr(self, f"{what}_ms")
        percent = None if what == "mean" else float(what.removeprefix("p"))
        return None if value is None else (value, *interval(self.samples_ms, percent))

    def images_per_s(self, batch: int = 1) -> float:
        """Images through the runner in a second of wall time, one call after the other."""
        return batch * 1000 / self.mean_ms

    def to_dict(self, batch: int = 1) -> dict[str, Any]:
        """The latency fields of `edgecnn bench`; `samples` is how many there are."""
        times = {"p50_ms": self.p50_ms, "p90_ms": self.p90_ms, "p99_ms": self.p99_ms, "mean_ms": self.mean_ms}
        return {**times, "images_per_s": self.images_per_s(batch), "samples": len(self.samples_ms)}


@dataclass(frozen=True)
class Race:
    """Paired samples: index r of every runner was taken in round r. `clock` says which times the ratios are made of."""

    reports: Mapping[str, LatencyReport]
    clock: ClockName
    seed: int = 0

    @property
    def rounds(self) -> int:
        return len(next(iter(self.reports.values())).samples_ms)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.reports)

    def times_ms(self, name: str) -> tuple[float, ...]:
        """The samples of `name` on the clock of this race; raises `BadInput` for a runner that did not run."""
        if name not in self.reports:
            raise BadInput(plugins.unknown(name, self.reports, "runner in this race"))
        report = self.reports[name]
        return report.cpu_ms if self.clock == "cpu" else report.samples_ms

    def median_ms(self, name: str) -> float:
        """Median of `name` on the clock of this race: beside busy neighbours wall times would belie the ratios."""
        return float(np.median(self.times_ms(name)))

    def ratio(self, a: str, b: str) -> Ratio:
        """How many times faster a is than b, with its interval and the verdict on a."""
        return compare(a, b, self.times_ms(a), self.times_ms(b), self.seed)

    def itself(self, name: str) -> Ratio:
        """A/A: half of the rounds of `name` against the other half. The truth is 1, the rest is noise."""
        return itself(name, self.times_ms(name), self.seed)

    def ratios(self) -> tuple[Ratio, ...]:
        """Every pair once, in the order given."""
        return tuple(self.ratio(a, b) for a, b in itertools.combinations(self.names, 2))


def measure(
    call: Call, iterations: int = 100, warmup: int = 5, seconds: float | None = None, *, watch: Watch = REAL
) -> LatencyReport:
    """Time `call` alone, `iterations` times after `warmup` unmeasured runs; stops early after `seconds`."""
    result = race({"it": call}, iterations, warmup, seconds=seconds, watch=watch)
    return result.reports["it"]


def race(
    calls: Mapping[str, Call],
    rounds: int = 100,
    warmup: int = 5,
    seed: int = 0,
    seconds: float | None = None,
    track: Track = silent,
    *,
    threads: int = 1,
    clock: ClockName | None = None,
    watch: Watch = REAL,
) -> Race:
    """Time all `calls` once a round, in shuffled order; stops early after `seconds` of wall time.

    Every second round takes the order of the one before it backwards, so that each runner stands before and behind
    each other one equally often: a run is mostly faster than its forerunner (caches warm up slowly and cool at once).

    `clock`: None takes CPU time for one thread (it does not see the neighbours) and wall time for more; pass "wall" for
    an accelerator, whose work the CPU does not do. `threads` is what the runners were opened with.
    """
    if not calls or rounds < 1 or warmup < 0:
        raise BadInput(f"race: {len(calls)} runners, {rounds} rounds, {warmup} warm-ups; at least 1, 1, 0 are needed")
    order, turn = np.random.default_rng(seed), np.arange(0)
    names = list(calls)
    wall: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    for call in calls.values():
        for _ in range(warmup):
            call()
    with _no_garbage_collection():
        begin = watch.wall()
        for done, _ in enumerate(track(range(rounds), "racing" if len(names) > 1 else "measuring")):
            if seconds is not None and done >= MIN_ROUNDS and watch.wall() - begin > seconds:
                break
            turn = order.permutation(len(names)) if done % 2 == 0 else turn[::-1]
            for index in turn:
                _time_once(calls[names[index]], wall[names[index]], cpu[names[index]], watch)
    reports = {name: LatencyReport(tuple(wall[name]), tuple(cpu[name])) for name in names}
    return Race(reports, clock or _choose_clock(reports, threads), seed)


def _time_once(call: Call, wall: list[float], cpu: list[float], watch: Watch) -> None:
    cpu_begin, wall_begin = watch.cpu(), watch.wall()
    call()
    wall_end, cpu_end = watch.wall(), watch.cpu()
    wall.append((wall_end - wall_begin) * 1000)
    cpu.append((cpu_end - cpu_begin) * 1000)


def _choose_clock(reports: Mapping[str, LatencyReport], threads: int) -> ClockName:
    """CPU time for one thread, unless it is more than the wall time (then there were more) or too coarse (Windows)."""
    coarse = any(min(r.cpu_ms) <= 0 for r in reports.values())
    parallel = any(sum(r.cpu_ms) > 1.1 * sum(r.samples_ms) for r in reports.values())
    return "wall" if threads > 1 or coarse or parallel else "cpu"


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.collect(1)  # what died since the last race; all of a process with torch in it takes longer than a race
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
