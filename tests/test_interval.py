"""The interval of one model's metric: by definition, by simulation, where there is none; --sure by it."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from edgecnn.evaluation.interval import interval, wilson
from edgecnn.evaluation.limits import Limits
from edgecnn.evaluation.report import EvaluateReport
from edgecnn.evaluation.scores import Score, Z, bootstrap, draws, paired
from runtimes.base import Array, CheckFailed, Inconclusive


def mean_score(values: Array, metric: str = "mean", groups: Array | None = None) -> Score:
    return Score(metric, float(values.mean()), len(values), {}, lambda w: w @ values / w.sum(1), groups=groups)


def right(values: Array, groups: Array | None = None) -> Score:
    return replace(mean_score(values.astype(float), "top-1", groups), each=values.astype(bool))


@pytest.mark.parametrize(("answered", "images"), [(9, 10), (0, 7), (30, 30), (880, 1000)])
def test_wilsons_ends_are_where_a_score_test_begins_to_reject(answered: int, images: int) -> None:
    share = answered / images
    for end, inside in zip(wilson(share, images), (share > 0, share < 1), strict=True):
        if inside:
            assert abs(share - end) / math.sqrt(end * (1 - end) / images) == pytest.approx(Z, abs=1e-9)
        else:
            assert end == share


def test_it_covers_the_truth_as_often_as_it_says() -> None:
    drawn = np.random.default_rng(0).binomial(60, 0.9, 4000) / 60
    held = [low <= 0.9 <= high for low, high in (wilson(share, 60) for share in drawn)]
    assert 0.93 <= np.mean(held) <= 0.975


def test_top1_has_wilsons_and_any_other_metric_the_bootstraps() -> None:
    values = np.arange(100) % 10 > 0
    found = interval(right(values))
    assert found is not None
    assert (found.low, found.high) == wilson(0.9, 100)
    assert "Wilson 1927" in found.method
    spread = np.random.default_rng(1).normal(0.7, 0.1, 400)
    other = interval(mean_score(spread))
    assert other is not None
    half = 1.96 * np.std(spread) / 20
    assert (other.low, other.high) == pytest.approx((spread.mean() - half, spread.mean() + half), abs=0.1 * half)
    assert "bootstrap over images, 1000 resamples, seed 0" in other.method


def test_there_is_none_where_no_draw_differs() -> None:
    assert interval(mean_score(np.full(40, 0.3))) is None
    assert interval(mean_score(np.array([0.3]))) is None
    assert interval(mean_score(np.full(9, np.nan))) is None
    some = np.random.default_rng(0).uniform(size=4)
    assert interval(mean_score(np.tile(some[:1], 30), groups=np.zeros(30, int))) is None


def test_copies_count_once() -> None:
    values = np.arange(50) % 5 > 0
    many = np.repeat(values, 8)
    groups = np.repeat(np.arange(50), 8)
    assert interval(right(many, groups)) == interval(right(values))
    numbers = np.random.default_rng(2).uniform(size=50)
    once, copied = interval(mean_score(numbers)), interval(mean_score(np.repeat(numbers, 8), groups=groups))
    assert once is not None
    assert copied is not None
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high), abs=1e-12)


def test_the_draws_of_a_difference_are_made_once() -> None:
    calls = []
    values = np.random.default_rng(3).uniform(size=(2, 60))

    def counting(own: Array) -> Score:
        score = mean_score(own)

        def resample(weights: Array) -> Array:
            calls.append(len(weights))
            return score.resample(weights)

        return replace(score, resample=resample)

    a, b = map(counting, values)
    found = bootstrap(a, b)
    assert sum(calls) == 2000
    assert (interval(a), interval(b), bootstrap(a, b)) == (interval(mean_score(values[0])),
                                                            interval(mean_score(values[1])), found)  # fmt: skip
    assert sum(calls) == 2000


def test_scores_of_many_images_are_compared_in_little_memory() -> None:
    """20,000 images: a matrix of all against all would take 3.2 GB, and a block of draws of 100,000 took 80 MB."""
    values = np.random.default_rng(0).uniform(size=(2, 20_000)) > 0.1
    tracemalloc.start()
    paired(*map(right, values))
    most = tracemalloc.get_traced_memory()[1]
    assert most < 5e6
    plain = mean_score(values[0].astype(float)[:5000])  # without `each`: an image after the other
    assert np.array_equal(plain.per_sample, values[0][:5000])
    assert tracemalloc.get_traced_memory()[1] < 40e6
    many = mean_score(np.random.default_rng(0).uniform(size=100_000))
    tracemalloc.reset_peak()
    assert len(draws((many,), 0, 100, lambda items, label: items)[0]) == 100
    assert tracemalloc.get_traced_memory()[1] < 60e6
    tracemalloc.stop()


def report(values: Array, least: float, sure: bool, own: bool = False) -> EvaluateReport:
    score = mean_score(values.astype(float)) if own else right(values)
    models = (("a", score),)
    return EvaluateReport(
        "", "photos", models, None, limits=Limits(min_metric=least, sure=sure), intervals=(interval(score),)
    )


def test_for_sure_the_near_end_must_reach_what_is_wanted() -> None:
    """90 of 100 right: 82.56 % to 94.48 %."""
    values = np.arange(100) % 10 > 0
    assert [report(values, least, False).passed for least in (0.82, 0.9, 0.91)] == [True, True, False]
    assert [report(values, least, True).passed for least in (0.82, 0.9, 0.95)] == [True, None, False]
    told = report(values, 0.9, True)
    assert isinstance(told.failure, Inconclusive)
    assert str(told.failure) == (
        "a: mean 90.00% (95 %: 82.56% to 94.48%) on 100 images of photos, --min-metric wants 90.00%: more images would "
        "tell".replace("mean", "top-1")
    )
    assert told.verdict.endswith("Too few images to tell whether within --min-metric 0.9 --sure.")
    failed = report(values, 0.95, True)
    assert isinstance(failed.failure, CheckFailed)
    assert failed.failures == (
        "a: top-1 90.00% (95 %: 82.56% to 94.48%) on 100 images of photos, --min-metric wants 95.00%",
    )


def test_for_sure_without_an_interval_nothing_is_decided() -> None:
    told = report(np.ones(50), 0.9, True, own=True)
    assert told.passed is None
    assert (
        "mean 100.00%, of which no interval is known on 50 images of photos, --min-metric wants 90.00%" in told.unsure
    )
    assert report(np.ones(50), 0.9, False, own=True).passed is True
