"""The table of limits against the arithmetic itself: float32, TF32 and float16 rounding done in numpy, 20 layers."""

from __future__ import annotations

import numpy as np
import pytest

from runtimes.comparing.precision import LIMITS, limit_of, precision_of
from runtimes.parity import OutputParity, ParityReport


def tf32(x: np.ndarray) -> np.ndarray:
    """`x` with 10 bits of mantissa, rounded to nearest even."""
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & 0xFFFFE000).astype(np.uint32).view(np.float32)


def half(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float16).astype(np.float32)


def exact(x: np.ndarray) -> np.ndarray:
    return x


ROUND = {  # what is rounded: the factors of each product; what is stored between layers
    "fp32": (exact, exact),
    "tf32": (tf32, exact),
    "fp16": (half, half),
}


def relative_error(precision: str, layers: int = 20, width: int = 256) -> float:
    """Relative L2 of `layers` random layers with ReLU in that arithmetic against float64."""
    factor, stored = ROUND[precision]
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((width, width)) * np.sqrt(2 / width) for _ in range(layers)]
    ours = theirs = rng.standard_normal((64, width))
    for weight in weights:
        theirs = np.maximum(theirs @ weight, 0)
        product = factor(ours.astype(np.float32)) @ factor(weight.astype(np.float32))
        ours = stored(np.maximum(product, 0))
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


@pytest.mark.parametrize("precision", LIMITS)
def test_the_arithmetic_holds_its_limit_with_room(precision: str) -> None:
    error = relative_error(precision)
    assert error < LIMITS[precision].relative_l2 / 3
    assert error > LIMITS[precision].relative_l2 / 1000, "a limit that far away says nothing"


def test_a_precision_is_told_from_the_next_lower_one() -> None:
    assert relative_error("tf32") > LIMITS["fp32"].relative_l2
    assert relative_error("fp16") > LIMITS["fp32"].relative_l2


def report(snr_db: float, top1: float | None, images: int) -> ParityReport:
    return ParityReport(images, (OutputParity("y", 0.1, snr_db, top1, 0),))


def test_both_parts_of_a_limit_can_fail() -> None:
    limit = LIMITS["fp16"]
    assert [LIMITS[name].snr_db for name in ("fp32", "tf32", "fp16")] == pytest.approx([80, 40, 40])
    assert limit.failures(report(41, 1.0, 200)) == ()
    assert "SNR 39.0 dB is below" in limit.failures(report(39, 1.0, 200))[0]
    assert "top-1 agreement 0.9800" in limit.failures(report(41, 0.98, 200))[0]


def test_answers_are_counted_only_where_there_are_enough() -> None:
    limit = LIMITS["fp16"]
    assert limit.failures(report(41, 0.98, 99)) == ()
    assert limit.failures(report(41, None, 200)) == ()


@pytest.mark.parametrize(
    ("provider", "is_half", "precision"),
    [
        ("cpu", False, "fp32"),
        ("cuda", False, "fp32"),
        ("cuda:use_tf32=1", False, "tf32"),
        ("cuda:use_tf32=1", True, "fp16"),
        ("cuda", True, "fp16"),
    ],
)
def test_the_setting_names_the_arithmetic(provider: str, is_half: bool, precision: str) -> None:
    assert precision_of(provider, is_half) == precision
    assert limit_of(provider, is_half) is LIMITS[precision]
