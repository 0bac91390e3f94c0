"""Ready images at another size: torch's antialiased bilinear filter, and never a value that was not there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.data.resized import resized


@pytest.mark.parametrize("size", [(12, 17), (20, 9), (7, 5), (41, 30), (12, 40)])
def test_it_is_torchs_antialiased_filter(size: tuple[int, int]) -> None:
    images = np.random.default_rng(0).standard_normal((2, 3, 12, 17), np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(images), size, mode="bilinear", antialias=True)
    got = resized(images, size)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected.numpy(), atol=2e-5)  # fixed point of 22 bits, values to 4


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(2, 60), st.integers(2, 60))
def test_values_stay_within_those_of_the_data(h: int, w: int, height: int, width: int) -> None:
    images = np.random.default_rng(h * w).uniform(0.07, 0.96, (1, 1, h, w)).astype(np.float32)
    got = resized(images, (height, width))
    assert got.shape == (1, 1, height, width)
    assert images.min() - 1e-5 <= got.min()
    assert got.max() <= images.max() + 1e-5
