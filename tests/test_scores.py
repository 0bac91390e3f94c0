"""Intervals hold what they promise: by brute force, by simulation, and at the ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.evaluation.scores import Difference, Score, answers, bootstrap, paired_shares, rows, score_statistic
from runtimes.base import Array, BadInput


def likeliest_by_grid(b: int, c: int, n: int, guess: float) -> float:
    """The share q of `only the candidate is right` that makes (b, c) likeliest when the other share is q + guess."""
    low, high = max(0.0, -guess), (1 - guess) / 2
    q = np.linspace(low, high, 200_001)[1:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [k * np.log(p) if k else 0 * p for k, p in ((b, q + guess), (c, q), (n - b - c, 1 - 2 * q - guess))]
    return float(q[np.argmax(sum(parts))])


@pytest.mark.parametrize(
    ("b", "c", "n", "guess"), [(9, 3, 40, 0.1), (5, 1, 20, -0.2), (0, 4, 30, -0.3), (7, 7, 15, 0.4)]
)
def test_the_nuisance_share_is_the_likeliest_one(b: int, c: int, n: int, guess: float) -> None:
    q = likeliest_by_grid(b, c, n, guess)
    wanted = (b - c - n * guess) / math.sqrt(n * (2 * q + guess * (1 - guess)))
    assert score_statistic(b, c, n, guess) == pytest.approx(wanted, rel=1e-3)  # the grid's step is 4e-6 of q


def test_at_no_difference_it_is_mcnemars_statistic() -> None:
    assert score_statistic(12, 2, 50, 0.0) == pytest.approx((12 - 2) / math.sqrt(12 + 2), abs=1e-12)  # rounding


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 200), st.data())
def test_the_interval_holds_its_value_and_turns_with_the_sides(n: int, data: st.DataObject) -> None:
    b = data.draw(st.integers(0, n))
    c = data.draw(st.integers(0, n - b))
    found, turned = paired_shares(b, c, n), paired_shares(c, b, n)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high
    # 60 halvings of an interval of length 2
    assert (turned.low, turned.high) == (pytest.approx(-found.high, abs=1e-9), pytest.approx(-found.low, abs=1e-9))


def test_the_ends_are_where_the_test_begins_to_reject() -> None:
    found = paired_shares(8, 3, 60)
    assert score_statistic(8, 3, 60, found.low) == pytest.approx(1.959964, abs=1e-5)
    assert score_statistic(8, 3, 60, found.high) == pytest.approx(-1.959964, abs=1e-5)


def test_every_image_on_one_side_reaches_the_end() -> None:
    assert paired_shares(10, 0, 10).high == 1.0
    assert paired_shares(0, 10, 10).low == -1.0
    assert paired_shares(10, 0, 10).low < 0.75


def test_it_covers_the_truth_as_often_as_it_says() -> None:
    """3,000 drawn experiments of 80 images; 95 % with a standard error of 0.4 points, and the method's own 1 point."""
    order = np.random.default_rng(0)
    drawn = order.multinomial(80, [0.08, 0.03, 0.89], 3000)
    held = [paired_shares(int(b), int(c), 80) for b, c, _ in drawn]
    share = np.mean([d.low <= 0.05 <= d.high for d in held])
    assert 0.93 <= share <= 0.975


# ------------------------------------------------------------------------------------------------------------ bootstrap
def mean_score(values: Array, metric: str = "mean") -> Score:
    return Score(metric, float(values.mean()), len(values), {}, lambda w: w @ values / w.sum(1))


def test_the_bootstrap_of_a_mean_is_the_normal_interval() -> None:
    """For the mean of 400 differences the percentile interval is value +- 1.96 s / sqrt(N) up to a few per cent."""
    order = np.random.default_rng(1)
    a, b = order.normal(0.7, 0.1, 400), order.normal(0.6, 0.1, 400)
    found = bootstrap(mean_score(a), mean_score(b), resamples=4000)
    half = 1.96 * np.std(a - b) / math.sqrt(400)
    assert found.value == pytest.approx(float((a - b).mean()), abs=1e-12)
    assert found.low == pytest.approx(found.value - half, abs=0.06 * half)
    assert found.high == pytest.approx(found.value + half, abs=0.06 * half)
    assert "bootstrap over images, 4000 resamples, seed 0" in found.method


def test_it_is_paired_so_that_hard_images_cancel() -> None:
    hard = np.random.default_rng(2).uniform(0, 1, 50)
    found = bootstrap(mean_score(hard + 0.01), mean_score(hard))
    assert (found.low, found.high) == (pytest.approx(0.01, abs=1e-9), pytest.approx(0.01, abs=1e-9))


def test_where_no_draw_shows_a_difference_the_images_set_the_bound() -> None:
    """Of 45 images not one differs: with the bound as the share of those that do, that happens to 5 % of such sets."""
    same = mean_score(np.random.default_rng(2).uniform(0, 1, 45))
    found = bootstrap(same, same)
    assert (found.low, found.high, found.images) == (0.0, 0.0, 45)
    assert found.others is not None
    assert (1 - found.others) ** 45 == pytest.approx(0.05)
    assert (-found).to_dict()["others_at_most"] == found.others
    alone = bootstrap(mean_score(np.ones(1)), mean_score(np.zeros(1)))
    assert (alone.value, alone.images, alone.others) == (1.0, 1, 1.0), "of one image all draws are the same"
    apart = bootstrap(same, mean_score(np.append(same.per_sample[:-1], 0.0)))
    assert (apart.images, apart.others) == (None, None)
    assert "others_at_most" not in apart.to_dict()


def test_the_same_seed_gives_the_same_interval() -> None:
    a, b = (mean_score(np.random.default_rng(i).uniform(0, 1, 30)) for i in (3, 4))
    assert bootstrap(a, b, seed=5) == bootstrap(a, b, seed=5)
    assert bootstrap(a, b, seed=5) != bootstrap(a, b, seed=6)


def test_different_images_or_metrics_are_not_compared() -> None:
    with pytest.raises(BadInput, match=r"mean of 3 images against mean of 4 images; both must be measured on the same"):
        bootstrap(mean_score(np.ones(3)), mean_score(np.ones(4)))
    with pytest.raises(BadInput, match="mean of 3 images against other of 3 images"):
        bootstrap(mean_score(np.ones(3)), mean_score(np.ones(3), "other"))


def test_each_image_alone() -> None:
    values = np.random.default_rng(0).uniform(0, 1, 123)
    assert np.array_equal(mean_score(values).per_sample, values)


def test_a_difference_turned_round() -> None:
    assert str((-Difference(0.0, 0.0, 0.0, "m")).value) == "0.0"
    assert -Difference(0.1, -0.2, 0.3, "m") == Difference(-0.1, -0.3, 0.2, "m")
    assert Difference(0.1, -0.2, 0.3, "m").to_dict() == {"value": 0.1, "low": -0.2, "high": 0.3, "method": "m"}


# -------------------------------------------------------------------------------------------------------------- answers
def test_outputs_are_found_by_name_else_by_place() -> None:
    a, b = np.zeros(2), np.ones(2)
    feeds = [{"x": np.zeros((2, 1))}]
    assert list(answers(lambda f: {"q": b, "p": a}, feeds, ("p", "q"))) == [(a, b)]
    assert list(answers(lambda f: {"output_0": a, "output_1": b, "more": b}, feeds, ("p", "q"))) == [(a, b)]
    with pytest.raises(BadInput, match="has 1 output, p, q are needed"):
        list(answers(lambda f: {"z": a}, feeds, ("p", "q")))
    assert rows(feeds[0]) == 2
