"""Which of two is faster: the ratio of paired rounds, an interval that knows about neighbours, and one word for it.

    ratio = exp( median_r log( t_b(r) / t_a(r) ) )                            r = rounds, both times taken side by side
    interval = 2.5 % to 97.5 % of that over 2,000 resamples of *blocks* of L neighbouring rounds, widened by the floor;
               of fewer than 100 rounds it reaches at least from the k-th least to the k-th largest quotient, which
               hold the median in 95 % of races whatever the times look like: P(X < k; n, 1/2) <= 2.5 %, X binomial
    L = n^(1/3) max(1, (2 p / (1 - p^2))^(2/3))                                   p = correlation of neighbouring rounds
    floor = how far the interval of A/A, a model's rounds 1 4 5 8 9 ... over its own 2 3 6 7 10 ..., lies beside 1

           slower         |      same      |         faster            the whole 99 % interval lies in one of the three,
    ──────────────────── 1/1.02 ── 1 ── 1.02 ─────────────────> ratio  or the race is inconclusive

A busy spell lasts for many rounds, so rounds are not independent and single ones must not be resampled alone. The
margin of 2 % is what two sessions of one file can differ by for good (where their weights happen to lie in memory): no
number of rounds averages that away. The number of rounds is set beforehand, by count or by time, never by the outcome.
Sources: Künsch 1989 and Politis & Romano 1992 (circular block bootstrap), Carlstein 1986 (L for an autocorrelation p),
Schuirmann 1987 (equivalence by an interval inside a margin), Thompson 1936 (order statistics about the median).
Test: tests/test_ratios.py.
"""

from __future__ import annotations

import functools
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from runtimes.base import Array, Inconclusive

SAME_WITHIN = 0.02
MIN_ROUNDS = 8
"""With fewer pairs no 99 % interval of a median exists: all of n on one side happens by chance with 2 / 2**n."""
FEW = 100
"""Fewer pairs are too few to resample alone: the interval would hold the truth in 87 to 93 of 100 races."""
RESAMPLES = 2000
SHOWN, SURE = (0.025, 0.975), (0.005, 0.995)
"""The 95 % interval that is reported, and the 99 % one that a verdict needs: a hundred races should not cry wolf."""
_CHUNK = 4_000_000

Verdict = Literal["faster", "slower", "same", "inconclusive"]


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
        return asdict(self)

    @property
    def looks_faster(self) -> bool:
        """Whether the race points to more than a draw, but cannot tell: a longer one may."""
        return self.verdict == "inconclusive" and self.ratio > 1 + SAME_WITHIN

    @property
    def doubt(self) -> str:
        """What keeps a race that is neither won nor lost from deciding."""
        return "too uncertain to count on" if self.looks_faster else "no gain beyond the noise"

    @property
    def looks_slower(self) -> bool:
        """Whether it is not faster and more than a draw below, whatever the interval says."""
        return self.ratio < 1 / (1 + SAME_WITHIN)

    def speed(self, where: str) -> str:
        """`int8 is 2.70x of float's speed on this CPU (95 %: 2.66 to 2.74)`, whatever the verdict; `where` it ran."""
        interval = f"(95 %: {self.low:.2f} to {self.high:.2f})"
        return f"{self.a} is {self.ratio:.2f}x of {self.b}'s speed on {where} {interval}"

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


def verdict(low: float, high: float, rounds: int) -> Verdict:
    """The word for an interval of "how many times faster".

    >>> verdict(1.3, 1.4, 50), verdict(0.99, 1.01, 50), verdict(1.01, 1.2, 50), verdict(1.3, 1.4, 5)
    ('faster', 'same', 'inconclusive', 'inconclusive')
    """
    least, most = 1 / (1 + SAME_WITHIN), 1 + SAME_WITHIN
    if rounds < MIN_ROUNDS:
        return "inconclusive"
    if low >= least and high <= most:
        return "same"
    return "faster" if low > most else "slower" if high < least else "inconclusive"


def compare(a: str, b: str, times_a: tuple[float, ...], times_b: tuple[float, ...], seed: int = 0) -> Ratio:
    """How many times faster a is than b, by the times that both took in the same rounds, and the verdict on a.

    Raises `Inconclusive` when a time is zero: the clock is too coarse for this runner.
    """
    logs = _logs(times_b) - _logs(times_a)
    wide = floor(times_a, times_b)
    least, low, high, most = np.exp(_ends(logs, 50, seed, (SURE[0], *SHOWN, SURE[1])))
    word = verdict(least / wide, most * wide, len(times_a))
    return Ratio(a, b, math.exp(float(np.median(logs))), float(low / wide), float(high * wide), word)


def floor(*runners: tuple[float, ...]) -> float:
    """How many times an A/A interval of these runners' times lies beside 1; at least 1, which is no noise.

    A runner without enough rounds for an interval does not count.
    """
    found = [itself("", times) for times in runners if len(times) >= 2 * MIN_ROUNDS]
    return max(1.0, *(beside for half in found for beside in (half.low, 1 / half.high)), 1.0)


@functools.lru_cache(maxsize=64)
def itself(name: str, times: tuple[float, ...], seed: int = 0) -> Ratio:
    """A/A: a runner's rounds a over its rounds b in the order a b b a a b b a ... The truth is 1, the rest is noise.

    Not a b a b: times jump up at once (a cache is lost) and sink slowly, so that a later neighbour is mostly faster.
    """
    logs = _logs(times[1::2]) - _logs(times[: len(times) // 2 * 2 : 2])
    logs[1::2] *= -1
    low, high = np.exp(_ends(logs, 50, seed))
    word = verdict(float(low), float(high), len(logs))
    return Ratio(name, name, math.exp(float(np.median(logs))), float(low), float(high), word)


@functools.lru_cache(maxsize=64)
def interval(times: tuple[float, ...], percent: float | None, seed: int = 0) -> tuple[float, float]:
    """95 % interval of a percentile (None: of the mean) of `times` in the order taken: circular block bootstrap."""
    low, high = _ends(np.asarray(times, np.float64), percent, seed)
    return float(low), float(high)


def block_length(values: Array) -> int:
    """Neighbours that are drawn together: Carlstein's rule, the correlation taken from signs; at most a sixth.

    An even number where it can be: a round and the next, which ran backwards, stay together (runtimes/latency.py).

    >>> block_length(np.arange(8.0)), block_length(np.resize([0.0, 1.0], 1000)), block_length(np.arange(1000.0))
    (1, 10, 166)
    """
    n = len(values)
    signs = np.sign(values - np.median(values))
    spread = float(signs @ signs)
    alike = float(signs[1:] @ signs[:-1]) / spread if spread else 0.0
    p = min(max(math.sin(math.pi / 2 * alike), 0.0), 0.99)  # of normal values whose signs are so much alike
    stretch = max(1.0, (2 * p / (1 - p * p)) ** (2 / 3))
    length = int(min(math.ceil(n ** (1 / 3) * stretch), n // 6))
    return length - length % 2 if length > 1 else 1


def _logs(times: tuple[float, ...]) -> Array:
    values = np.asarray(times, np.float64)
    if values.min() <= 0:
        raise Inconclusive("race: a run took no time on this clock; use a larger batch")
    return np.log(values)


def _ends(values: Array, percent: float | None, seed: int, at: tuple[float, ...] = SHOWN) -> Array:
    """Quantiles `at` of what that percentile (None: the mean) of `values` (n,) may be.

    >>> _ends(np.arange(12.0), 50, 0).tolist(), _ends(np.arange(8.0), 50, 0, SURE).tolist()
    ([2.0, 9.0], [0.0, 7.0])
    """
    n, found = len(values), np.quantile(_bootstrap(values, percent, seed), at)
    if percent == 50 and n < FEW:
        ordered, below = np.sort(values), np.cumsum([math.comb(n, i) / 2**n for i in range(n)])
        for i, q in enumerate(at):
            k = max(int((below <= min(q, 1 - q)).sum()), 1)
            found[i] = min(found[i], ordered[k - 1]) if q < 0.5 else max(found[i], ordered[-k])
    return np.asarray(found)


def _bootstrap(values: Array, percent: float | None, seed: int) -> Array:
    """That percentile (None: the mean) of RESAMPLES resamples of `values` (n,); in pieces, to keep `index` small."""
    rng = np.random.default_rng(seed)
    n, length = len(values), block_length(values)
    rows = max(1, _CHUNK // n)
    pieces = []
    for start in range(0, RESAMPLES, rows):
        begins = rng.integers(n, size=(min(rows, RESAMPLES - start), -(-n // length)))
        index = (begins[:, :, None] + np.arange(length)) % n  # (resamples, blocks, L)
        pieces.append(_percentile(values[index.reshape(len(begins), -1)[:, :n]], percent))
    return np.concatenate(pieces)


def _percentile(values: Array, percent: float | None) -> Array:
    if percent is None:
        return np.asarray(np.mean(values, axis=1))
    return np.asarray(np.percentile(values, percent, axis=1))
