"""The resize of pictures: Pillow's BILINEAR or BICUBIC in numpy, so that a device needs no Pillow.

For a scale s = in/out, output x is the mean of the inputs around its centre (x + 1/2) s, weighted by f(d / max(s, 1)),
in 22-bit fixed point, rounded to uint8 after the horizontal and again after the vertical pass. f is the triangle
max(0, 1 - |d|), or Keys' cubic with a = -1/2. Equal to the bit along one axis; newer Pillows swap the two passes for
some sizes, and as each rounds by at most 1/2, the results are within 1 grey level (a few for cubics, which overshoot).
Floats, the levels of 16-bit pictures, are weighted alike and not rounded, which is Pillow's mode "F".
Without `antialias` s counts as 1 there, as OpenCV's INTER_LINEAR and PyTorch's `interpolate` have it.
Source: Pillow `src/libImaging/Resample.c`; Keys 1981, "Cubic convolution interpolation for digital image processing".
Test: tests/test_preprocess.py.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from runtimes.base import Array, BadInput

BILINEAR, BICUBIC = "bilinear", "bicubic"
PRECISION_BITS = 22
MOST_SIDE = 65536


def resize(image: Array, size: tuple[int, int], interpolation: str = BILINEAR, antialias: bool = True) -> Array:
    """(H, W, C) of an image (h, w, C), uint8 or float32 levels: Pillow's `resize((W, H), BILINEAR)`, or BICUBIC."""
    if max(size) > MOST_SIDE:
        raise BadInput(f"image: {list(image.shape)} would become {list(size)}; it is too long and thin, crop it")
    wide = _resample(image.transpose(1, 0, 2), size[1], interpolation, antialias).transpose(1, 0, 2)
    return _resample(wide, size[0], interpolation, antialias)


def _triangle(distance: Array) -> Array:
    return np.asarray(np.maximum(0.0, 1.0 - distance))


def _cubic(distance: Array) -> Array:
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0))


FILTERS = {BILINEAR: (_triangle, 1.0), BICUBIC: (_cubic, 2.0)}
"""Name -> (weight by distance, how far it reaches)."""


@functools.lru_cache(maxsize=64)  # the pictures of a set are mostly of a few sizes
def filter_weights(
    inputs: int, outputs: int, interpolation: str = BILINEAR, antialias: bool = True
) -> tuple[Array, Array]:
    """(first input (outputs,), weights (outputs, taps) in 22-bit fixed point) of a filter of `FILTERS`."""
    weight, reach = FILTERS[interpolation]
    scale = inputs / outputs
    wide = max(scale, 1.0) if antialias else 1.0
    support = reach * wide
    centre = (np.arange(outputs) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + support + 0.5).astype(np.int64), inputs)
    taps = np.arange(math.ceil(support) * 2 + 1)
    distance = np.abs(first[:, None] + taps - centre[:, None] + 0.5) / wide
    weights = np.where(first[:, None] + taps < last[:, None], weight(distance), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    return first, np.trunc(weights * (1 << PRECISION_BITS) + np.copysign(0.5, weights)).astype(np.int32)


def _resample(image: Array, outputs: int, interpolation: str, antialias: bool) -> Array:
    """Resample axis 0 of a uint8 array (n, m, C) to `outputs`; int32 suffices, as 255 x (2**22 + taps) < 2**31, also
    where the weights of a cubic are together 5/4 on one side of 0 and 1/4 on the other.
    """
    if image.shape[0] == outputs:
        return image
    first, weights = filter_weights(image.shape[0], outputs, interpolation, antialias)
    if image.dtype != np.uint8:
        return _weighted(image, first, weights)
    total = np.full((outputs, *image.shape[1:]), 1 << (PRECISION_BITS - 1), np.int32)
    for tap in range(weights.shape[1]):
        rows = np.minimum(first + tap, image.shape[0] - 1)
        total += image[rows] * weights[:, tap, None, None]
    resampled: Array = np.clip(total >> PRECISION_BITS, 0, 255).astype(np.uint8)
    return resampled


def _weighted(image: Array, first: Array, weights: Array) -> Array:
    """The same for float32 levels of 0..255: one rounded product and sum after the other, alike on every machine."""
    shares = (weights / (1 << PRECISION_BITS)).astype(np.float32)
    total = np.zeros((len(first), *image.shape[1:]), np.float32)
    for tap in range(weights.shape[1]):
        total += image[np.minimum(first + tap, image.shape[0] - 1)] * shares[:, tap, None, None]
    return np.asarray(np.clip(total, 0, 255))
