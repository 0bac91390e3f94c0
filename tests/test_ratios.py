"""Ratios of invented times: the interval holds the truth as often as it says, also where rounds are not independent."""

from __future__ import annotations

import math

import numpy as np
import pytest

from runtimes.base import Array, Inconclusive
from runtimes.timing import ratios
from runtimes.timing.ratios import Ratio, block_length, compare, interval, itself, verdict

ONES = (1.0,) * 50


def raced(logs: Array, seed: int = 0) -> Ratio:
    """a against b, whose logarithm of the time is `logs` higher."""
    return compare("a", "b", (1.0,) * len(logs), tuple(np.exp(logs)), seed)


def spells(rng: np.random.Generator, n: int, p: float, scale: float) -> Array:
    """Autoregressive noise with standard deviation `scale`: x(r) = p x(r-1) + e(r)."""
    noise = rng.normal(0, scale * math.sqrt(1 - p * p), n)
    for r in range(1, n):
        noise[r] += p * noise[r - 1]
    return noise


def test_the_ratio_is_of_paired_rounds_not_of_medians() -> None:
    """By hand: b/a is 2, 2, 2, 1/2, 2, 2, 2 though both have nearly the same times (the pairing is what counts)."""
    a = (1.0, 2.0, 4.0, 8.0, 16.0, 1.0, 1.0)
    b = (2.0, 4.0, 8.0, 4.0, 32.0, 2.0, 2.0)
    assert compare("a", "b", a, b).ratio == pytest.approx(2.0, rel=1e-12)


def test_a_round_and_the_one_backwards_are_one() -> None:
    """Who runs first takes 30 % longer: the rounds lie in two heaps, 30 % beside the truth on either side."""
    noise = np.random.default_rng(8).normal(0, 0.01, 200)
    found = raced(math.log(1.1) + noise + np.resize([math.log(1.3), -math.log(1.3)], 200))
    assert found.ratio == pytest.approx(1.1, rel=0.01)
    assert found.high - found.low < 0.03


def test_a_ratio_turned_round_is_its_inverse() -> None:
    rng = np.random.default_rng(1)
    a, b = (tuple(np.exp(rng.normal(m, 0.1, 60))) for m in (0.0, 0.4))
    forth, back = compare("a", "b", a, b, 7), compare("b", "a", b, a, 7)
    assert forth.ratio == pytest.approx(1 / back.ratio, rel=1e-12)
    assert forth.low == pytest.approx(1 / back.high, rel=0.01)  # quantiles interpolate on the other side
    assert (forth.verdict, back.verdict) == ("faster", "slower")


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """200 races with a true ratio of 1.1: a 95 % interval should hold it in 190; 178 is 4 sigma below."""
    rng = np.random.default_rng(2)
    logs = [rng.standard_t(3, 60) * 0.05 + math.log(1.1) for _ in range(200)]  # heavy tails, as latencies have
    assert sum(r.low <= 1.1 <= r.high for r in map(raced, logs)) >= 178


@pytest.mark.parametrize("rounds", [8, 12, 16, 30])
def test_of_few_rounds_it_does_so_too(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 races of a model against itself; 460 is 3 sigma below 475. Resamples alone hold the truth in about 440."""
    monkeypatch.setattr(ratios, "RESAMPLES", 300)
    rng = np.random.default_rng(rounds)
    found = [raced(rng.normal(0, 0.1, rounds)) for _ in range(500)]
    assert sum(r.low <= 1 <= r.high for r in found) >= 460
    assert sum(r.verdict in ("faster", "slower") for r in found) <= 5


def test_of_few_rounds_order_statistics_are_the_ends() -> None:
    """Of 12 the third and the tenth: P(X <= 2; 12, 1/2) = 79 / 4096 = 1.9 %, and with 3 it is 7.3 %."""
    quotients = np.array([0.2, 0.3, 0.4] + [1.0] * 6 + [2.0, 3.0, 9.0])
    found = raced(np.log(np.random.default_rng(0).permutation(quotients)))
    assert (found.low, found.high) == pytest.approx((0.4, 2.0))


def test_it_does_so_in_busy_spells_too() -> None:
    """Neighbouring rounds with correlation 0.9. Rounds drawn singly (L = 1) hold the truth in half of the races."""
    rng = np.random.default_rng(3)
    series = [spells(rng, 400, 0.9, 0.05) for _ in range(40)]
    held = [abs(math.log(r.ratio)) <= abs(math.log(r.high / r.ratio)) for r in map(raced, series)]
    assert sum(held) >= 34
    alone = [np.quantile(np.median(rng.choice(s, (300, len(s))), axis=1), [0.025, 0.975]) for s in series]
    assert sum(low <= 0 <= high for low, high in alone) <= 26


def test_a_hundred_races_of_a_graph_against_itself_rarely_cry_wolf() -> None:
    """10 % noise in spells of ten rounds: wide intervals, every false verdict comes from chance; 5 are allowed."""
    rng = np.random.default_rng(4)
    words = [raced(spells(rng, 200, 0.8, 0.1)).verdict for _ in range(100)]
    assert sum(word in ("faster", "slower") for word in words) <= 3


def test_a_tenth_slower_is_found_in_the_same_noise() -> None:
    rng = np.random.default_rng(5)
    assert {raced(spells(rng, 1000, 0.5, 0.05) + math.log(1.1)).verdict for _ in range(20)} == {"faster"}


def test_the_interval_shrinks_with_the_rounds() -> None:
    logs = np.random.default_rng(3).normal(0, 0.1, 1600)
    short, long = raced(logs[:100]), raced(logs)
    assert long.high - long.low < (short.high - short.low) / 2.5  # expected: a quarter


def test_blocks_grow_with_the_correlation_() -> None:
    rng = np.random.default_rng(6)
    lengths = [block_length(spells(rng, 1000, p, 1.0)) for p in (0.0, 0.6, 0.95)]
    assert lengths == sorted(lengths)
    assert (10 <= lengths[0] <= 12, lengths[1] >= 14, lengths[2] >= 40) == (True, True, True)
    assert all(length % 2 == 0 for length in lengths)
    assert [block_length(rng.normal(size=n)) for n in (6, 11, 12)] == [1, 1, 2]
    assert block_length(np.zeros(50)) == 4, "no spread, no correlation"


def test_a_large_race_is_resampled_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece draws as many numbers as the whole would: the same resamples."""
    values = tuple(np.exp(np.random.default_rng(4).normal(0, 0.1, 50)))
    whole = compare("a", "b", ONES, values, 5)
    monkeypatch.setattr(ratios, "_CHUNK", 50 * 300)
    assert compare("a", "b", ONES, values, 5) == whole


def test_what_a_runner_differs_from_itself_by_widens_its_ratios() -> None:
    """a b b a: the rounds of one half are 5 % slower for ever, in both runners; the ratio is 1 and the noise 1.05."""
    noisy = tuple([1.05, 1.0, 1.0, 1.05] * 50)
    found = compare("a", "b", noisy, noisy)
    assert itself("a", noisy).ratio == pytest.approx(1 / 1.05)
    assert (found.low, found.ratio, found.high) == pytest.approx((1 / 1.05, 1.0, 1.05))
    assert found.verdict == "inconclusive"
    calm = compare("a", "b", (1.0,) * 200, (1.0,) * 200)
    assert (calm.low, calm.high, calm.verdict) == (1.0, 1.0, "same")


def test_a_runner_of_few_rounds_is_no_measure_of_noise() -> None:
    """Half of 15 rounds are too few for an interval: the noise of the others stands, and of one alone nothing."""
    noisy = (1.05, 1.0, 1.0, 1.05)
    assert ratios.floor((noisy * 4)[:15]) == 1.0
    assert ratios.floor((1.0,), noisy * 4) == pytest.approx(1.05)


def test_slow_sinking_is_no_difference_of_a_runner_from_itself() -> None:
    """Times jump up by 30 % every tenth round and sink by 3 % a round: the later of two neighbours is mostly faster."""
    times = tuple(1.3 * 0.97 ** (r % 9) for r in range(360))
    later_over_earlier = np.median(np.diff(np.log(times)))
    assert later_over_earlier == pytest.approx(math.log(0.97))
    assert itself("a", times).ratio == pytest.approx(1.0, abs=0.005)


def test_intervals_of_percentiles_and_of_the_mean() -> None:
    values = tuple(np.random.default_rng(7).normal(10.0, 1.0, 2000))
    for percent, center in ((50, np.median(values)), (90, np.percentile(values, 90)), (None, np.mean(values))):
        low, high = interval(values, percent)
        assert low < center < high
        assert 0.05 < high - low < 0.25  # 2 x 1.96 x (1.25, 1.7 or 1) / sqrt(2000) = 0.11, 0.15, 0.09


@pytest.mark.parametrize(
    ("low", "high", "rounds", "word"),
    [
        (1.021, 1.5, 50, "faster"),
        (0.5, 0.979, 50, "slower"),
        (0.99, 1.01, 50, "same"),
        (1.005, 1.015, 50, "same"),  # surely faster, by less than anyone notices
        (1 / 1.02, 1.02, 50, "same"),
        (1.01, 1.5, 50, "inconclusive"),  # surely faster, but perhaps by less than two sessions of one file differ
        (0.97, 1.01, 50, "inconclusive"),
        (0.99, 1.03, 50, "inconclusive"),
        (1.02, 1.5, 50, "inconclusive"),
        (2.0, 2.1, 7, "inconclusive"),
        (2.0, 2.1, 8, "faster"),
    ],
)
def test_the_verdict_words(low: float, high: float, rounds: int, word: str) -> None:
    assert verdict(low, high, rounds) == word


def test_no_time_at_all_is_inconclusive() -> None:
    with pytest.raises(Inconclusive, match="took no time"):
        compare("a", "b", ONES, (0.0,) * 50)
