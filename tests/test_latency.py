"""Races on invented clocks: what is faster is known beforehand, so the verdict can be wrong. No test here waits."""

import gc
import math

import numpy as np
import pytest

from runtimes import latency
from runtimes.base import BadInput, Inconclusive
from runtimes.latency import LatencyReport, Race, Watch, measure, paired_ratio, race, verdict


class Clock:
    """Time that passes only when a call says so: `cost` seconds of wall time, `cores` x cost of CPU time."""

    def __init__(self) -> None:
        self.wall = self.cpu = 100.0

    def call(self, cost, cores: float = 1.0):
        def run() -> None:
            seconds = cost() if callable(cost) else cost
            self.wall += seconds
            self.cpu += seconds * cores

        return run

    @property
    def watch(self) -> Watch:
        return Watch(lambda: self.wall, lambda: self.cpu)


def report(*samples: float) -> LatencyReport:
    return LatencyReport(samples, samples)


def test_measure_keeps_every_sample_in_order() -> None:
    clock = Clock()
    costs = iter([9.0, 9.0, 0.001, 0.002, 0.003])
    got = measure(clock.call(lambda: next(costs)), iterations=3, warmup=2, watch=clock.watch)
    assert got.samples_ms == pytest.approx((1.0, 2.0, 3.0), abs=1e-9)  # float64 of a clock at 100 s: 1e-14 s
    assert got.cpu_ms == pytest.approx(got.samples_ms, abs=1e-9)


@pytest.mark.parametrize(
    ("count", "p90", "p99"),
    [(1, False, False), (99, False, False), (100, True, False), (999, True, False), (1000, True, True)],
)
def test_a_percentile_needs_ten_samples_beyond_it(count: int, p90: bool, p99: bool) -> None:
    samples = tuple(float(n) for n in range(count))
    got = LatencyReport(samples, samples)
    assert got.p50_ms == np.median(samples)
    assert (got.p90_ms is not None, got.p99_ms is not None) == (p90, p99)
    if p99:
        assert got.p99_ms == pytest.approx(np.percentile(samples, 99), abs=1e-12)
    if p90:
        assert got.p90_ms == pytest.approx(np.percentile(samples, 90), abs=1e-12)


def test_throughput_counts_images_by_the_mean() -> None:
    got = report(1.0, 1.0, 4.0)  # 3 batches in 6 ms
    assert got.images_per_s(8) == pytest.approx(3 * 8 / 6e-3)
    assert got.to_dict(8) == {
        "p50_ms": 1.0,
        "p90_ms": None,
        "p99_ms": None,
        "mean_ms": 2.0,
        "images_per_s": pytest.approx(4000.0),
        "samples": 3,
    }


def test_every_runner_runs_once_a_round_in_an_order_shuffled_anew() -> None:
    clock, ran = Clock(), []
    calls = {name: (lambda name=name: (ran.append(name), clock.call(1e-3)())) for name in "abc"}
    got = race(calls, rounds=40, warmup=2, seed=3, watch=clock.watch)
    assert ran[:6] == list("aabbcc"), "warm-ups"
    rounds = ["".join(ran[i : i + 3]) for i in range(6, len(ran), 3)]
    assert len(rounds) == got.rounds == 40
    assert all(sorted(r) == list("abc") for r in rounds)
    assert len(set(rounds)) == 6, "40 rounds see all 6 orders"
    again: list[str] = []
    race(
        {name: (lambda name=name: (again.append(name), clock.call(1e-3)())) for name in "abc"},
        40,
        2,
        3,
        watch=clock.watch,
    )
    assert again == ran, "the seed decides"


def test_drift_does_not_decide_a_race() -> None:
    """The machine gets 5x slower during the race; b is always 1.5x slower than a: the ratio must be exactly that."""
    clock, rng = Clock(), np.random.default_rng(0)
    steps = iter(np.linspace(1, 5, 200).repeat(2))
    noise = lambda: next(steps) * 1e-3 * math.exp(0.01 * rng.standard_normal())  # noqa: E731
    got = race(
        {"a": clock.call(noise), "b": clock.call(lambda: 1.5 * noise())}, rounds=200, warmup=0, watch=clock.watch
    )
    ratio = got.ratio("a", "b")
    assert ratio.ratio == pytest.approx(1.5, rel=0.005)  # 1 % noise, median of 200: standard error 0.13 %
    assert ratio.low < 1.5 < ratio.high
    assert ratio.verdict == "faster"


def test_a_ratio_turned_round_is_its_inverse() -> None:
    rng = np.random.default_rng(1)
    a, b = (tuple(np.exp(rng.normal(m, 0.1, 60))) for m in (0.0, 0.4))
    contest = Race({"a": report(*a), "b": report(*b)}, "wall", seed=7)
    forth, back = contest.ratio("a", "b"), contest.ratio("b", "a")
    assert forth.ratio == pytest.approx(1 / back.ratio, rel=1e-12)
    assert forth.low == pytest.approx(1 / back.high, rel=0.01)  # quantiles interpolate on the other side
    assert (forth.verdict, back.verdict) == ("faster", "slower")


def test_the_ratio_is_of_paired_rounds_not_of_medians() -> None:
    """By hand: b/a is 2, 2, 2, 1/2, 2, 2, 2 though both have the same median time (the pairing is what counts)."""
    a = (1.0, 2.0, 4.0, 8.0, 16.0, 1.0, 1.0)
    b = (2.0, 4.0, 8.0, 4.0, 32.0, 2.0, 2.0)
    assert paired_ratio(b, a)[0] == pytest.approx(2.0, rel=1e-12)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """300 synthetic races with a true ratio of 1.1: a 95 % interval should hold it in 285; 270 is 4 sigma below."""
    rng = np.random.default_rng(2)
    held = 0
    for seed in range(300):
        logs = rng.standard_t(3, 50) * 0.05 + math.log(1.1)  # heavy tails, as latencies have
        _, low, high = paired_ratio(tuple(np.exp(logs)), (1.0,) * 50, seed)
        held += low <= 1.1 <= high
    assert held >= 270


def test_the_interval_shrinks_with_the_rounds() -> None:
    logs = np.random.default_rng(3).normal(0, 0.1, 1600)
    widths = [high - low for n in (100, 1600) for _, low, high in [paired_ratio(tuple(np.exp(logs[:n])), (1.0,) * n)]]
    assert widths[1] < widths[0] / 2.5  # expected: a quarter


def test_a_large_race_is_resampled_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    values = tuple(np.exp(np.random.default_rng(4).normal(0, 0.1, 50)))
    whole = paired_ratio(values, (1.0,) * 50, 5)
    monkeypatch.setattr(latency, "_CHUNK", 50 * 300)
    assert paired_ratio(values, (1.0,) * 50, 5) == whole


@pytest.mark.parametrize(
    ("low", "high", "rounds", "word"),
    [
        (1.001, 1.5, 50, "faster"),
        (0.5, 0.999, 50, "slower"),
        (0.99, 1.01, 50, "same"),
        (1.005, 1.015, 50, "same"),  # surely faster, by less than anyone notices
        (1 / 1.02, 1.02, 50, "same"),
        (0.97, 1.01, 50, "inconclusive"),
        (0.99, 1.03, 50, "inconclusive"),
        (1.0, 1.5, 50, "inconclusive"),
        (2.0, 2.1, 5, "inconclusive"),
        (2.0, 2.1, 6, "faster"),
    ],
)
def test_the_verdict_words(low: float, high: float, rounds: int, word: str) -> None:
    assert verdict(low, high, rounds) == word


@pytest.mark.parametrize("cores", [1.0, 0.4])
def test_one_thread_is_timed_by_its_cpu_time(cores: float) -> None:
    """0.4: the neighbours had the core most of the time, which wall time sees and CPU time does not."""
    clock = Clock()
    got = race({"a": clock.call(1e-3, cores), "b": clock.call(2e-3, cores)}, rounds=10, watch=clock.watch)
    assert got.clock == "cpu"
    assert got.times_ms("a") == pytest.approx((cores,) * 10, abs=1e-6)
    assert got.ratio("a", "b").ratio == pytest.approx(2.0, rel=1e-6)


@pytest.mark.parametrize(
    ("cores", "options"),
    [(1.0, {"threads": 2}), (1.9, {}), (0.0, {}), (1.0, {"clock": "wall"})],
    ids=["two threads", "more CPU than wall time", "clock too coarse", "asked for"],
)
def test_everything_else_by_wall_time(cores: float, options: dict) -> None:
    clock = Clock()
    got = race({"a": clock.call(1e-3, cores), "b": clock.call(2e-3, cores)}, rounds=10, watch=clock.watch, **options)
    assert got.clock == "wall"
    assert got.times_ms("b") == pytest.approx((2.0,) * 10, abs=1e-6)


def test_a_race_stops_when_its_time_is_up_but_not_before_it_can_say_anything() -> None:
    clock = Clock()
    calls = {"a": clock.call(1.0), "b": clock.call(1.0)}
    assert race(calls, rounds=1000, warmup=0, seconds=20, watch=clock.watch).rounds == 11
    assert race(calls, rounds=1000, warmup=0, seconds=0, watch=clock.watch).rounds == latency.MIN_ROUNDS
    assert race(calls, rounds=3, warmup=0, seconds=1000, watch=clock.watch).rounds == 3


def test_all_pairs_once() -> None:
    contest = Race({name: report(*[1.0] * 8) for name in "abc"}, "wall")
    assert [(r.a, r.b, r.verdict) for r in contest.ratios()] == [
        ("a", "b", "same"),
        ("a", "c", "same"),
        ("b", "c", "same"),
    ]
    assert contest.ratio("a", "b").to_dict() == {
        "a": "a",
        "b": "b",
        "ratio": 1.0,
        "low": 1.0,
        "high": 1.0,
        "verdict": "same",
    }


@pytest.mark.parametrize(
    ("factor", "sentence"),
    [
        (2.0, "int8 is 2.00x faster than float (95 %: 2.00 to 2.00)"),
        (0.5, "int8 is 2.00x slower than float (95 %: 2.00 to 2.00)"),
        (1.0, "int8 is as fast as float within 2% (95 %: 1.00 to 1.00)"),
    ],
)
def test_a_ratio_reads_as_a_sentence(factor: float, sentence: str) -> None:
    contest = Race({"int8": report(*[1.0] * 8), "float": report(*[factor] * 8)}, "wall")
    assert str(contest.ratio("int8", "float")) == sentence


def test_a_runner_that_is_not_there() -> None:
    contest = Race({"float": report(1.0)}, "wall")
    with pytest.raises(BadInput, match=r"flaot: unknown runner in this race; did you mean float\?"):
        contest.ratio("flaot", "float")


def test_no_time_at_all_is_inconclusive() -> None:
    clock = Clock()
    with pytest.raises(Inconclusive, match="took no time"):
        race({"a": clock.call(0.0), "b": clock.call(0.0)}, rounds=8, watch=clock.watch).ratio("a", "b")


@pytest.mark.parametrize(("calls", "rounds", "warmup"), [({}, 1, 0), ({"a": int}, 0, 0), ({"a": int}, 1, -1)])
def test_nothing_to_race_is_bad_usage(calls: dict, rounds: int, warmup: int) -> None:
    with pytest.raises(BadInput, match="at least 1, 1, 0 are needed"):
        race(calls, rounds, warmup)


def test_the_garbage_collector_rests_and_comes_back() -> None:
    during: list[bool] = []
    assert gc.isenabled()
    measure(lambda: during.append(gc.isenabled()), iterations=2, warmup=0)
    assert during == [False, False]
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        measure(lambda: 1 / 0, iterations=1, warmup=0)
    assert gc.isenabled()


def test_progress_is_drawn() -> None:
    seen: list[str] = []

    def track(items, label):
        seen.append(f"{label} {len(items)}")
        return items

    race({"a": int, "b": int}, rounds=3, track=track)
    assert seen == ["racing 3"]


def test_the_real_clocks_tick() -> None:
    got = measure(lambda: sum(range(20000)), iterations=7, warmup=1)
    assert len(got.samples_ms) == 7
    assert min(got.samples_ms) > 0
