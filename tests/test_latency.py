"""Races on invented clocks: what is faster is known beforehand, so the verdict can be wrong. No test here waits."""

import gc
import math

import numpy as np
import pytest

from runtimes.base import BadInput, Inconclusive
from runtimes.latency import LatencyReport, Race, Watch, measure, race
from runtimes.timing.ratios import MIN_ROUNDS


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
    assert all(back == forth[::-1] for forth, back in zip(rounds[::2], rounds[1::2], strict=True))
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
    assert race(calls, rounds=1000, warmup=0, seconds=0, watch=clock.watch).rounds == MIN_ROUNDS
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


@pytest.mark.parametrize(("clock", "median"), [("cpu", 2.0), ("wall", 30.0)])
def test_the_median_is_on_the_clock_of_the_race(clock: str, median: float) -> None:
    contest = Race({"a": LatencyReport((30.0, 10.0, 50.0), (2.0, 1.0, 3.0))}, clock)  # type: ignore[arg-type]
    assert contest.median_ms("a") == median


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


def test_who_runs_first_has_no_advantage() -> None:
    """Each round's first run is 40 % slower (it warms the caches); there are as many first places for both."""
    clock, place = Clock(), iter([1.4e-3, 1e-3] * 100)
    same = lambda: next(place)  # noqa: E731
    got = race({"a": clock.call(same), "b": clock.call(same)}, rounds=100, warmup=0, seed=1, watch=clock.watch)
    firsts = sum(a > b for a, b in zip(got.times_ms("a"), got.times_ms("b"), strict=True))
    assert firsts == 50
    assert got.ratio("a", "b").ratio == pytest.approx(1.0, abs=1e-9)


def test_a_runner_against_itself() -> None:
    contest = Race({"a": report(*[1.0, 2.0, 2.0, 1.0] * 10), "b": report(*[1.0, 1.0] * 20)}, "wall")
    assert (contest.itself("a").ratio, contest.itself("b").ratio) == (2.0, 1.0)
    assert contest.ratio("a", "b").verdict == "inconclusive", "twice as noisy as any difference"


def test_every_number_has_an_interval_where_it_has_a_value() -> None:
    got = report(*np.random.default_rng(0).normal(5.0, 0.5, 150))
    value, low, high = got.interval_ms("mean") or (0, 0, 0)
    assert (value, low < value < high) == (got.mean_ms, True)
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / 150**0.5, rel=0.3)
    assert got.interval_ms("p50") == (got.p50_ms, *got.p50_interval_ms)
    assert (got.interval_ms("p90") or (0,))[0] == got.p90_ms
    assert got.interval_ms("p99") is None


def test_a_record_is_shown_without_its_samples() -> None:
    report = LatencyReport(tuple(range(1000)), tuple(range(1000)))
    assert repr(report) == "LatencyReport(p50_ms=499.5, samples=1000)"
    assert len(repr(Race({"a": report, "b": report}, "cpu"))) < 200


def test_the_real_clocks_tick() -> None:
    got = measure(lambda: sum(range(20000)), iterations=7, warmup=1)
    assert len(got.samples_ms) == 7
    assert min(got.samples_ms) > 0
