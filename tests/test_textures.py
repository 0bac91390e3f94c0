"""The made pictures look like photographs to a network: spectrum, range, colour."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from edgecnn.data.textures import texture


def slope(picture: np.ndarray) -> float:
    """Slope of log amplitude over log frequency: 0 for white noise, about -1 for photographs."""
    grey = picture.astype(float).mean(axis=-1)[:256, :256]
    grey = (grey - grey.mean()) * np.hanning(256)[:, None] * np.hanning(256)
    amplitude = np.abs(np.fft.rfft2(grey))
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None])
    inside = (frequency > 0.02) & (frequency < 0.3)
    return float(np.polyfit(np.log(frequency[inside]), np.log(amplitude[inside]), 1)[0])


def test_the_spectrum_is_that_of_photographs() -> None:
    photographs = [slope(picture) for picture in load_sample_images().images]
    made = slope(texture(256, 256, 3, np.random.default_rng(0)))
    assert -1.3 < made < -0.8
    assert all(-2.2 < p < -0.8 for p in photographs)  # the oracle: they are on the same side of white noise
    assert abs(slope(np.random.default_rng(0).normal(size=(256, 256, 3)))) < 0.2


@pytest.mark.parametrize(("height", "width", "channels"), [(224, 224, 3), (32, 32, 1), (1, 7, 3), (1, 1, 1)])
def test_any_size_fills_the_grey_levels(height: int, width: int, channels: int) -> None:
    picture = texture(height, width, channels, np.random.default_rng(1))
    assert picture.shape == (height, width, channels)
    assert picture.dtype == np.uint8
    if height * width > 100:
        assert 40 < picture.std() < 70
        assert 100 < picture.mean() < 140


def test_channels_go_together_but_are_not_the_same() -> None:
    red, green, _ = texture(128, 128, 3, np.random.default_rng(2)).reshape(-1, 3).T
    assert 0.3 < np.corrcoef(red, green)[0, 1] < 0.9


def test_a_seed_is_a_picture() -> None:
    one, two, other = (texture(16, 16, 3, np.random.default_rng(s)) for s in (3, 3, 4))
    assert (one == two).all()
    assert (one != other).any()
