"""The saturating dot product against Python integers, pair by pair; patches against torch's unfold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.targets.saturation import conv_patches, conv_rows, excess, risky_pairs
from saturating import saturating_dot


def by_hand(x: np.ndarray, w: np.ndarray) -> list[list[int]]:
    """vpmaddubsw and vpmaddwd as the manual writes them."""
    rows = []
    for a in x.tolist():
        row = []
        for b in w.tolist():
            products = [p * q for p, q in zip(a, b, strict=True)]
            if len(products) % 2:
                products.append(0)
            sums = [max(-32768, min(32767, p + q)) for p, q in zip(products[::2], products[1::2], strict=True)]
            row.append(sum(sums))
        rows.append(row)
    return rows


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 2**32 - 1), st.booleans())
def test_the_instruction_in_python_integers(k: int, outputs: int, seed: int, extreme: bool) -> None:
    rng = np.random.default_rng(seed)
    x = rng.choice([0, 128, 254, 255], (4, k)) if extreme else rng.integers(0, 256, (4, k))
    w = rng.choice([-128, -127, 64, 65, 127], (outputs, k)) if extreme else rng.integers(-128, 128, (outputs, k))
    x, w = x.astype(np.uint8), w.astype(np.int8)
    assert saturating_dot(x, w).tolist() == by_hand(x, w)


def test_both_ends_saturate() -> None:
    x = np.full((1, 2), 255, np.uint8)
    for pair, wanted in (([127, 127], 32767), ([-128, -128], -32768), ([127, -128], -255), ([64, 64], 32640)):
        assert saturating_dot(x, np.array([pair], np.int8)).item() == wanted


def test_seven_bits_never_saturate() -> None:
    w = np.random.default_rng(0).choice([-64, 64], (50, 40)).astype(np.int8)
    assert risky_pairs(w) == 0
    assert not excess(np.full((3, 40), 255, np.uint8), w).any()


@pytest.mark.parametrize("limit", [64, 65])
def test_the_limit_is_where_it_starts(limit: int) -> None:
    """64 + 64 is the last safe pair: 255 * 128 = 32640; one more and 255 * 129 = 32895 does not fit."""
    w = np.array([[limit, 64]], np.int8)
    assert bool(excess(np.full((1, 2), 255, np.uint8), w).any()) == (limit == 65)
    assert risky_pairs(w) == (limit == 65)


def test_without_a_pair_there_is_no_risk() -> None:
    assert risky_pairs(np.full((3, 1), 127, np.int8)) == 0


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "pad"),
    [((3, 3), 1, 1, 1), ((2, 3), 2, 1, 0), ((1, 1), 1, 1, 0), ((3, 2), 1, 2, 2)],
)
def test_patches_times_rows_is_the_convolution(kernel: tuple[int, int], stride: int, dilation: int, pad: int) -> None:
    """Every sampled row times the weights is a value that torch's convolution has somewhere, and all of them occur."""
    rng = np.random.default_rng(3)
    x = rng.integers(0, 256, (2, 4, 7, 9)).astype(np.uint8)
    w = rng.integers(-128, 128, (5, 4, *kernel)).astype(np.int8)
    rows = conv_patches(x, kernel, (stride, stride), (dilation, dilation), (pad,) * 4, 0, 4000, rng)
    got = rows.astype(np.int64) @ conv_rows(w).astype(np.int64).T
    want = torch.nn.functional.conv2d(
        torch.from_numpy(x).double(), torch.from_numpy(w).double(), stride=stride, dilation=dilation, padding=pad
    )
    want_rows = want.permute(0, 2, 3, 1).reshape(-1, 5).numpy().astype(np.int64)
    assert {tuple(r) for r in got.tolist()} == {tuple(r) for r in want_rows.tolist()}


def test_padding_holds_the_zero_point() -> None:
    x = np.zeros((1, 1, 1, 1), np.uint8)
    rows = conv_patches(x, (3, 3), (1, 1), (1, 1), (1,) * 4, 7, 1, np.random.default_rng(0))
    assert sorted(rows[0].tolist()) == [0] + [7] * 8
