"""The growing histogram is numpy's, bin by bin, whatever came in whatever order."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from exporters.quantization.histogram import BINS, Histogram, exponent_for

MAGNITUDES = st.floats(2.0**-20, 2.0**100, width=32)
VALUES = arrays.arrays(
    np.float32, st.integers(1, 50), elements=st.one_of(st.just(0.0), MAGNITUDES, MAGNITUDES.map(lambda x: -x))
)
"""A value 2^126 times smaller than the largest is a zero to float32 once it is scaled: off by one bin when negative."""


def filled(batches: list[np.ndarray]) -> Histogram:
    histogram = Histogram()
    for batch in batches:
        histogram.add(batch)
    return histogram


@given(st.lists(VALUES, min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_the_counts_are_those_of_numpy_on_the_final_edges(batches: list[np.ndarray]) -> None:
    histogram = filled(batches)
    values = np.concatenate(batches).astype(np.float64)
    edges, counts = histogram.filled()
    expected, _ = np.histogram(values, np.append(edges, np.inf))  # numpy alone closes the last bin on the right
    assert expected[-1] == 0
    np.testing.assert_array_equal(counts, expected[:-1])
    assert counts.sum() == histogram.total == values.size
    assert histogram.zeros == np.count_nonzero(values == 0)
    assert (histogram.low, histogram.high) == (values.min(), values.max())


@given(st.lists(VALUES, min_size=1, max_size=6), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_leaves_no_trace(batches: list[np.ndarray], random: object) -> None:
    shuffled = list(batches)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    a, b = filled(batches), filled(shuffled)
    assert a.exponent == b.exponent
    np.testing.assert_array_equal(a.counts, b.counts)


@given(st.floats(1e-30, 1e30))
def test_the_bins_are_as_fine_as_a_power_of_two_allows(peak: float) -> None:
    exponent = exponent_for(peak)
    assert BINS / 2 <= peak / 2.0**exponent < BINS


@pytest.mark.parametrize("kind", ["relu", "normal", "negative", "outliers"])
def test_many_values_in_chunks(kind: str) -> None:
    """Longer than some chunks of 16,384; growing from batch to batch."""
    rng = np.random.default_rng(0)
    batches = [(10.0**i * rng.standard_normal((3, 30_000))).astype(np.float32) for i in range(3)]
    if kind == "relu":
        batches = [np.maximum(b, 0) for b in batches]
    elif kind == "negative":
        batches = [-np.abs(b) for b in batches]
    elif kind == "outliers":
        batches[1][0, 0] = 1e6
    histogram = filled(batches)
    edges, counts = histogram.filled()
    expected, _ = np.histogram(np.concatenate([b.ravel() for b in batches]).astype(np.float64), edges)
    np.testing.assert_array_equal(counts, expected)


def test_quantiles_are_numpys_within_one_bin() -> None:
    """In the tails neighbouring values lie further apart than a bin: the quantile is anywhere between two of them."""
    values = np.random.default_rng(0).standard_normal(100_050).astype(np.float32)
    histogram = filled([values[:30_000], values[30_000:]])
    for share in (0.0, 1e-5, 0.01, 0.5, 0.99, 0.99999, 1.0):
        below, above = (np.quantile(values, share, method=side) for side in ("lower", "higher"))
        assert below - histogram.width <= histogram.quantile(share) <= above + histogram.width, share


def test_a_value_too_small_for_the_finest_bin_still_counts() -> None:
    histogram = filled([np.array([1e-40, -1e-40, 0.0], np.float32)])
    assert histogram.total == 3
    assert histogram.zeros == 1
    assert math.isfinite(histogram.quantile(0.5))


def test_nothing_observed_is_an_error() -> None:
    with pytest.raises(ValueError, match="no value was observed"):
        filled([np.zeros((0, 3), np.float32)]).filled()


def test_the_largest_float_fits() -> None:
    peak = float(np.finfo(np.float32).max)
    histogram = filled([np.array([peak, -peak], np.float32)])
    assert histogram.total == 2
    assert histogram.quantile(1.0) == peak
