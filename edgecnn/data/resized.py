"""Images, signals and volumes that are ready for a network, at another size: the values stay those of the data.

    (N, C, h, w)  --antialiased bilinear filter, rows then columns-->  (N, C, H, W)         a mean of what was there

A network of open size is proven at a second one. Made-up pictures may leave the range of its data, where an exponential
answers with numbers that prove nothing. Test: tests/test_resized.py, tests/test_calibration_images.py (oracle: torch).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runtimes.base import Array, BadInput
from runtimes.imaging.preprocess import layout_of
from runtimes.imaging.resampling import PRECISION_BITS, filter_weights


def resized(images: Array, size: Sequence[int]) -> Array:
    """float32 (N, C, H, W) of `images` (N, C, h, w), `size` is (H, W); likewise with one side or three."""
    for axis, side in enumerate(size, 2):
        images = _along(images, axis, side)
    return images.astype(np.float32)


def in_shape(images: Array, shape: Sequence[int]) -> Array:
    """`images` (N, C, h, w) or (N, h, w, C) with samples of `shape`, in their own type; raises `BadInput` where more
    than height and width differs.
    """
    if images.shape[1:] == tuple(shape):
        return images
    last = layout_of(images.shape[1:]) == "NHWC"
    channels = -1 if last else 0
    if images.ndim < 3 or len(shape) != images.ndim - 1 or images.shape[1:][channels] != shape[channels]:
        raise BadInput(f"inputs of {list(images.shape[1:])}: cannot be resized to {list(shape)}")
    size = shape[:-1] if last else shape[1:]
    planes = resized(images.transpose(0, 3, 1, 2) if last else images, size)
    made = np.rint(planes) if images.dtype.kind in "iu" else planes
    return np.ascontiguousarray(made.transpose(0, 2, 3, 1) if last else made, images.dtype)


def _along(values: Array, axis: int, outputs: int) -> Array:
    inputs = values.shape[axis]
    if inputs == outputs:
        return values
    places, weights = filter_weights(inputs, outputs)
    shape = [-1 if i == axis else 1 for i in range(values.ndim)]
    total = np.zeros([outputs if i == axis else n for i, n in enumerate(values.shape)])
    for place, weight in zip(places.T, weights.T, strict=True):
        total += np.take(values, place, axis) * (weight / (1 << PRECISION_BITS)).reshape(shape)
    return total
