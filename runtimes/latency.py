"""How long does it take, and which is faster: samples, not averages, and a race that drift cannot decide.

    round r:   t_b(r), t_a(r)  in an order shuffled anew      ratio = exp( median_r log( t_b(r) / t_a(r) ) )

Two blocks timed one after the other differ by 12-17 % on the same model, because the machine drifts; the ratio of runs
that stand next to each other differs by 1.5 %, and by 0.5 % in CPU time. The 95 % interval is a percentile bootstrap of
the rounds (Efron & Tibshirani 1993, ch. 13). A percentile is reported only when at least 10 samples lie beyond it:
p90 needs 100 samples, p99 needs 1,000 (the median stands for itself). Test: tests/test_latency.py.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from runtimes import plugins
from runtimes.base import Array, BadInput, Inconclusive, Track, silent

SAMPLES_BEYOND = 10
SAME_WITHIN = 0.02
MIN_ROUNDS = 6
"""With fewer pairs no 95 % interval of a median exists: all of n on one side happens by chance with 2 / 2**n."""
RESAMPLES = 2000
_CHUNK = 4_000_000

Verdict = Literal["faster", "slower", "same", "inconclusive"]
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

    def images_per_s(self, batch: int = 1) -> float:
        """Images through the runner in a second of wall time, one call after the other."""
        return batch * 1000 / self.mean_ms

    def to_dict(self, batch: int = 1) -> dict[str, Any]:
        """The latency fields of `edgecnn bench`; `samples` is how many there are."""
        times = {"p50_ms": self.p50_ms, "p90_ms": self.p90_ms, "p99_ms": self.p99_ms, "mean_ms": self.mean_ms}
        return {**times, "images_per_s": self.images_per_s(batch), "samples": len(self.samples_ms)}


@dataclass(frozen=True)
class Ratio:
    """`ratio` = time of b / time of a: above 1, a is that many times faster than b. `low`, `high`: 95 % interval."""

    a: str
    b: str
    ratio: float
    low: float
    high: float
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("a", "b", "ratio", "low", "high", "verdict")}

    def __str__(self) -> str:
        """`int8 is 2.70x faster than float (95 %: 2.66 to 2.74)` or what else the verdict says."""
        interval = f"(95 %: {self.low:.2f} to {self.high:.2f})"
        words = {
            "faster": f"{self.a} is {self.ratio:.2f}x faster than {self.b}",
            "slower": f"{self.a} is {1 / self.ratio:.2f}x slower than {self.b}",
            "same": f"{self.a} is as fast as {self.b} within {SAME_WITHIN:.0%}",
            "inconclusive": f"{self.a} against {self.b} is inconclusive",
        }
        if self.verdict == "slower":
            interval = f"(95 %: {1 / self.high:.2f} to {1 / self.low:.2f})"
        return f"{words[self.verdict]} {interval}"


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

    def ratio(self, a: str, b: str) -> Ratio:
        """How many times faster a is than b, with its interval and the verdict on a."""
        ratio, low, high = paired_ratio(self.times_ms(b), self.times_ms(a), self.seed)
        return Ratio(a, b, ratio, low, high, verdict(low, high, self.rounds))

    def ratios(self) -> tuple[Ratio, ...]:
        """Every pair once, in the order given."""
        return tuple(self.ratio(a, b) for a, b in itertools.combinations(self.names, 2))


def paired_ratio(over: tuple[float, ...], under: tuple[float, ...], seed: int = 0) -> tuple[float, float, float]:
    """(ratio, low, high): median of the per-round ratios `over[r] / under[r]` and its 95 % bootstrap interval.

    Raises `Inconclusive` when a time is zero: the clock is too coarse for this runner.
    """
    if min(*over, *under) <= 0:
        raise Inconclusive("race: a run took no time on this clock; use a larger batch")
    logs = np.log(np.asarray(over, np.float64)) - np.log(np.asarray(under, np.float64))
    low, high = np.quantile(_bootstrap_medians(logs, seed), [0.025, 0.975])
    return math.exp(float(np.median(logs))), math.exp(low), math.exp(high)


def verdict(low: float, high: float, rounds: int) -> Verdict:
    """The word for a 95 % interval of "how many times faster".

    >>> verdict(1.3, 1.4, 50), verdict(0.99, 1.01, 50), verdict(0.9, 1.2, 50), verdict(1.3, 1.4, 5)
    ('faster', 'same', 'inconclusive', 'inconclusive')
    """
    if rounds < MIN_ROUNDS:
        return "inconclusive"
    if low >= 1 / (1 + SAME_WITHIN) and high <= 1 + SAME_WITHIN:
        return "same"
    return "faster" if low > 1 else "slower" if high < 1 else "inconclusive"


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
    """Time all `calls` once a round, in an order shuffled anew each round; stops early after `seconds` of wall time.

    `clock`: None takes CPU time for one thread (it does not see the neighbours) and wall time for more; pass "wall" for
    an accelerator, whose work the CPU does not do. `threads` is what the runners were opened with.
    """
    if not calls or rounds < 1 or warmup < 0:
        raise BadInput(f"race: {len(calls)} runners, {rounds} rounds, {warmup} warm-ups; at least 1, 1, 0 are needed")
    order = np.random.default_rng(seed)
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
            for index in order.permutation(len(names)):
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


def _bootstrap_medians(values: Array, seed: int) -> Array:
    """Medians of RESAMPLES resamples of `values` (n,), in pieces that keep the index array small."""
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // len(values))
    pieces = [min(rows, RESAMPLES - start) for start in range(0, RESAMPLES, rows)]
    return np.concatenate([np.median(values[rng.integers(len(values), size=(n, len(values)))], axis=1) for n in pieces])


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
