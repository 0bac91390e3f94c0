"""The rules that turn a histogram into a range, against their definitions and ONNX Runtime's calibrators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime.quantization.calibrate import HistogramCollector

from exporters.calibrators import entropy, mse, percentile
from exporters.quantization.affine import activation_grid
from exporters.quantization.histogram import Histogram

Kind = Callable[[], Any]


def ranged(kind: Kind, *batches: np.ndarray) -> tuple[float, float]:
    watcher = kind()
    for batch in batches:
        watcher.observe(batch)
    return watcher.range()


def noise(values: np.ndarray, low: float, high: float) -> float:
    """Mean squared error of `values` on the real grid of this range."""
    grid = activation_grid(low, high)
    return float(np.mean((values - grid.dequantize(grid.quantize(values))).astype(np.float64) ** 2))


def heavy(seed: int, size: int = 180_500) -> np.ndarray:
    """Student's t; the size puts no percentile between two values, where any answer is right."""
    return np.random.default_rng(seed).standard_t(3, size).astype(np.float32)


DATA = {
    "normal": np.random.default_rng(1).standard_normal(180_500).astype(np.float32),
    "heavy tails": heavy(2),
    "relu of heavy tails": np.maximum(heavy(3), 0),
    "one outlier": np.append(np.random.default_rng(4).random(100_000, np.float32), np.float32(40.0)),
    "skewed": np.random.default_rng(5).gumbel(size=100_000).astype(np.float32),
}


# ------------------------------------------------------------------------------------------------------------------ mse
@pytest.mark.parametrize("name", DATA)
def test_mse_is_within_two_percent_of_the_best_of_all_candidate_grids(name: str) -> None:
    values = DATA[name][::7]
    low, high = float(values.min()), float(values.max())
    lows = [low * share for share in np.linspace(0.05, 1, 20)] if low < 0 else [low]
    best = min(noise(values, a, high * share) for a in lows for share in np.linspace(0.05, 1, 20))
    assert noise(values, *ranged(mse.Calibrator, values)) <= 1.02 * best


def test_mse_knows_what_its_grids_cost() -> None:
    """Banner et al.'s optima for 8 bits: 3.92 standard deviations of a normal, 9.89 scales of a Laplace."""
    rng = np.random.default_rng(0)
    low, high = ranged(mse.Calibrator, rng.standard_normal(3_000_000, np.float32))
    assert (-low, high) == pytest.approx((3.92, 3.92), rel=0.03)  # a 128th of the largest value, 5.2, is 1 %
    low, high = ranged(mse.Calibrator, rng.laplace(size=3_000_000).astype(np.float32))
    assert (-low, high) == pytest.approx((9.89, 9.89), rel=0.05)  # few of 3 million values decide
    even = np.linspace(-1, 1, 10_001, dtype=np.float32)
    low, high = ranged(mse.Calibrator, even)
    assert (low, high) == (-high, high)
    assert high >= 0.98  # one or two of 128 shares are a matter of rounding


def test_zeros_of_a_relu_cost_nothing_in_least_squares() -> None:
    """Were they thought to be off by a rounding error each, a finer step would pay for more clipping."""
    values = np.abs(DATA["heavy tails"])
    padded = np.concatenate([values, np.zeros(3_000_000, np.float32)])
    assert ranged(mse.Calibrator, padded)[1] == ranged(mse.Calibrator, values)[1]


# ----------------------------------------------------------------------------------------------------------- percentile
def theirs(method: str, batches: list[np.ndarray], bins: int, levels: int = 128) -> tuple[float, float]:
    """What ONNX Runtime's collector makes of the same values."""
    collector = HistogramCollector(method, False, bins, levels, percentile.PERCENTILE, "same")
    for batch in batches:
        collector.collect({"t": batch})
    low, high, *_ = collector.compute_collection_result()["t"]
    return float(low), float(high)


@pytest.mark.parametrize("name", DATA)
def test_percentile_is_onnx_runtimes_within_one_bin_of_either(name: str) -> None:
    """Theirs answers with a bin's edge, ours is interpolated within the bin; the slack is the width of both."""
    values = DATA[name]
    batches = [values[:50_000], values[50_000:]]
    low, high = ranged(percentile.Calibrator, *batches)
    their_low, their_high = theirs("percentile", batches, 2048)
    histogram = Histogram()
    histogram.add(values)
    slack = histogram.width + 2 * float(np.abs(values[:50_000]).max()) / 2048
    assert abs(high - their_high) <= slack
    assert abs(low - their_low) <= slack


def test_percentile_cuts_the_same_share_on_both_sides() -> None:
    values = np.arange(-1_000_000, 1_000_001).astype(np.float32)
    low, high = ranged(percentile.Calibrator, values)
    assert high == pytest.approx(999_990, abs=512)  # the width of a bin
    assert low == pytest.approx(-999_990, abs=512)
    assert 999_900 > ranged(lambda: percentile.Calibrator(99.9), values)[1] > 998_000


# -------------------------------------------------------------------------------------------------------------- entropy
def test_the_divergence_is_its_definition() -> None:
    """Six bins, of which the last two are clipped into the fourth, poured into two steps; by hand."""
    counts = np.array([4, 0, 3, 1, 2, 1])
    p = np.array([4, 0, 3, 4]) / 11  # 1 + 2 + 1 in the last bin
    q = np.array([4, 0, 2, 2]) / 8  # steps {4, 0} and {3, 1}; the empty bin stays empty
    expected = sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a)
    assert entropy.divergence(counts, 0, 4, levels=2) == pytest.approx(expected, rel=1e-12)  # sums of six terms
    assert entropy.divergence(np.array([1, 1, 1, 1]), 0, 4, levels=2) == pytest.approx(0.0, abs=1e-15)


def test_entropy_cuts_an_outlier_and_keeps_a_flat_distribution() -> None:
    assert ranged(entropy.Calibrator, DATA["one outlier"])[1] < 20
    flat = np.random.default_rng(0).uniform(-1, 1, 300_000).astype(np.float32)
    low, high = ranged(entropy.Calibrator, flat)
    assert high > 0.95 * flat.max()
    assert low < 0.95 * flat.min()


@pytest.mark.parametrize("name", DATA)
def test_entropy_is_at_least_as_near_as_onnx_runtimes_on_the_same_histogram(name: str) -> None:
    """Theirs differs: one symmetric threshold for both ends, bin by bin; poured counts rounded to integers; the last
    step takes the bins that do not fill a whole one, and they get nothing back. Divergence is measured by ours.
    """
    values = np.concatenate([DATA[name], -DATA[name]])
    values = values[values != 0]
    counts, edges = np.histogram(values, 1022, (-np.abs(values).max(), np.abs(values).max()))
    collector = HistogramCollector("entropy", False, len(counts), 255, None, "same")
    threshold = collector.get_entropy_threshold((counts, edges, edges[0], edges[-1]), 255)
    start, stop = (int(np.searchsorted(edges, end)) for end in threshold)
    share = entropy.best_share(edges, counts)
    ours = int(np.searchsorted(edges, share * edges[0], "right")) - 1
    best = entropy.divergence(counts, ours, len(counts) - ours)
    assert best <= entropy.divergence(counts, start, stop) * 1.05 + 1e-6  # 128 shares instead of every bin


def test_zeros_of_a_relu_do_not_pull_the_entropy_range() -> None:
    values = np.abs(DATA["normal"])
    padded = np.concatenate([values, np.zeros(1_000_000, np.float32)])
    assert ranged(entropy.Calibrator, padded)[1] == ranged(entropy.Calibrator, values)[1]


# ------------------------------------------------------------------------------------------------------------------ all
@pytest.mark.parametrize("kind", [percentile.Calibrator, mse.Calibrator, entropy.Calibrator])
def test_a_tensor_far_from_zero_keeps_its_ends_within_the_data(kind: Kind) -> None:
    values = np.random.default_rng(0).uniform(5, 6, 5_000).astype(np.float32)
    for sign in (1, -1):
        low, high = ranged(kind, sign * values)
        assert (sign * values).min() <= low <= high <= (sign * values).max()


def test_every_file_of_the_folder_is_tested_here() -> None:
    import exporters.calibrators
    from runtimes import plugins

    text = Path(__file__).read_text("utf-8")
    for name in set(plugins.names(exporters.calibrators)) - {"minmax"}:  # in the contract's test
        assert f"{name}.Calibrator" in text
