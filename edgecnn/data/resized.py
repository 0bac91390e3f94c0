"""Images that are ready for a network, at another height and width: the values stay those of the data.

    (N, C, h, w)  --antialiased bilinear filter, rows then columns-->  (N, C, H, W)         a mean of what was there

A network of open size is proven at a second one. Made-up pictures may leave the range of its data, where an exponential
answers with numbers that prove nothing. Test: tests/test_resized.py (oracle: torch).
"""

from __future__ import annotations

import numpy as np

from runtimes.base import Array
from runtimes.imaging.preprocess import PRECISION_BITS, triangle_weights


def resized(images: Array, size: tuple[int, int]) -> Array:
    """float32 (N, C, H, W) of `images` (N, C, h, w), `size` is (H, W)."""
    return _along(_along(images, 2, size[0]), 3, size[1]).astype(np.float32)


def _along(values: Array, axis: int, outputs: int) -> Array:
    inputs = values.shape[axis]
    if inputs == outputs:
        return values
    first, weights = triangle_weights(inputs, outputs)
    shape = [-1 if i == axis else 1 for i in range(values.ndim)]
    total = np.zeros([outputs if i == axis else n for i, n in enumerate(values.shape)])
    for tap in range(weights.shape[1]):
        rows = np.minimum(first + tap, inputs - 1)
        total += np.take(values, rows, axis) * (weights[:, tap] / (1 << PRECISION_BITS)).reshape(shape)
    return total
