"""Seeded pictures with the spectrum of photographs, for when there is no data: parity inputs and live BatchNorms.

    amplitude(f) = noise(f) / |f|          shared by the channels for the most part, as daylight is

White noise averages out in the first pooling and leaves a deep network next to nothing to compute with: on it float32
itself keeps 95 dB of a random ResNet-50, on photographs 125 dB.
Source: Field 1987, "Relations between the statistics of natural images and the response properties of cortical cells".
Test: tests/test_textures.py.
"""

from __future__ import annotations

import numpy as np

from edgecnn.data.samples import Ready
from runtimes.base import Array
from runtimes.imaging.preprocess import Preprocess

SHARED = 0.8
"""Weight of what the channels have in common; in photographs it is about this much."""
MEAN, DEVIATION = 118.0, 58.0
"""Grey level and contrast of an average photograph, of 255."""


def textures(ready: Ready, count: int, rng: np.random.Generator) -> Array:
    """float32 (count, C, H, W): made pictures as `ready` hands them to a network; noise where it takes no pictures."""
    if not isinstance(ready, Preprocess):
        return rng.standard_normal((count, *ready), np.float32)
    height, width = ready.size
    return np.stack([ready(texture(height, width, ready.channels, rng)) for _ in range(count)])


def texture(height: int, width: int, channels: int, rng: np.random.Generator) -> Array:
    """uint8 (height, width, channels): one seeded picture."""
    fields = [_field(height, width, rng) for _ in range(channels + 1)]
    own = np.sqrt(1 - SHARED**2)
    picture = np.stack([SHARED * fields[0] + own * field for field in fields[1:]], axis=-1)
    return np.clip(np.rint(MEAN + DEVIATION * picture), 0, 255).astype(np.uint8)


def _field(height: int, width: int, rng: np.random.Generator) -> Array:
    """float64 (height, width) of mean 0 and deviation 1 with a 1/f amplitude spectrum."""
    spectrum = np.fft.rfft2(rng.standard_normal((height, width)))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    spectrum[frequency > 0] /= frequency[frequency > 0]
    spectrum[0, 0] = 0.0
    field = np.fft.irfft2(spectrum, s=(height, width))
    return np.asarray(field / max(float(field.std()), 1e-12))
