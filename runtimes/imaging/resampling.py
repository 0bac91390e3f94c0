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
from dataclasses import dataclass

import numpy as np

from runtimes.base import Array, BadInput

BILINEAR, BICUBIC = "bilinear", "bicubic"
PRECISION_BITS = 22
MOST_SIDE = 65536
OUTPUTS_A_STEP, NUMBERS_A_STEP = 4, 6144
"""Rows that are made at once, of that many numbers each: what they are made of stays in the cache."""
Cut = tuple[slice, slice]
"""Rows and columns of a resized image."""


def resize(
    image: Array, size: tuple[int, int], interpolation: str = BILINEAR, antialias: bool = True, cut: Cut | None = None
) -> Array:
    """(H, W, C) of an image (h, w, C), uint8 or float32 levels: Pillow's `resize((W, H), BILINEAR)`, or BICUBIC; of it
    the part `cut`, where only that is wanted.
    """
    if max(size) > MOST_SIDE:
        raise BadInput(f"image: {list(image.shape)} would become {list(size)}; it is too long and thin, crop it")
    rows, columns = cut or (slice(0, size[0]), slice(0, size[1]))
    if image.dtype != np.uint8:
        wide = _weighted(image.transpose(1, 0, 2), size[1], columns, interpolation, antialias).transpose(1, 0, 2)
        return _weighted(wide, size[0], rows, interpolation, antialias)
    down = _steps(image.shape[0], size[0], rows.start, rows.stop, interpolation, antialias)
    across = _steps(image.shape[1], size[1], columns.start, columns.stop, interpolation, antialias)
    seen = image[down.needed][:, across.needed]
    wide = turned(_resample(turned(seen), across)) if across.steps else seen
    return _resample(wide, down)


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


@dataclass(frozen=True)
class _Steps:
    """A resize along an axis: the inputs that are `needed`, and of these, step by step, (first and one behind the last
    output, the same of its inputs, weights (outputs, inputs)). No steps: the inputs are the outputs.
    """

    needed: slice | Array
    outputs: int
    steps: tuple[tuple[slice, slice, Array], ...]


@functools.lru_cache(maxsize=64)
def _steps(inputs: int, outputs: int, start: int, stop: int, interpolation: str, antialias: bool) -> _Steps:
    """The outputs `start` to `stop` of a resize of `inputs` places to `outputs`."""
    if inputs == outputs:
        return _Steps(slice(start, stop), stop - start, ())
    first, weights = (whole[start:stop] for whole in filter_weights(inputs, outputs, interpolation, antialias))
    taps = weights.shape[1]
    windows = np.minimum(first[:, None] + np.arange(taps), inputs - 1)
    needed = np.unique(windows)
    places = np.searchsorted(needed, windows)
    steps = []
    for begin in range(0, stop - start, OUTPUTS_A_STEP):
        of_step = slice(begin, min(begin + OUTPUTS_A_STEP, stop - start))
        seen = slice(int(places[of_step].min()), int(places[of_step].max()) + 1)
        band = np.zeros((of_step.stop - begin, seen.stop - seen.start))
        rows = np.arange(len(band))[:, None]
        np.add.at(band, (rows, places[of_step] - seen.start), weights[of_step])
        steps.append((of_step, seen, band / (1 << PRECISION_BITS)))
    whole = len(needed) == needed[-1] - needed[0] + 1
    return _Steps(slice(int(needed[0]), int(needed[-1]) + 1) if whole else needed, stop - start, tuple(steps))


def _resample(image: Array, how: _Steps) -> Array:
    """Resample axis 0 of a uint8 array (n, m, C) of the inputs that are needed.

    In float64 all is exact: products of 8 and 22 bits, divided by a power of two, and their sums have less than 53.
    """
    if not how.steps:
        return image
    flat = np.ascontiguousarray(image).reshape(len(image), -1)
    made = np.empty((how.outputs, flat.shape[1]), np.uint8)
    for start in range(0, flat.shape[1], NUMBERS_A_STEP):
        part = slice(start, start + NUMBERS_A_STEP)
        for outputs, inputs, weights in how.steps:
            total = weights @ flat[inputs, part].astype(np.float64)
            total += 0.5
            made[outputs, part] = np.clip(total, 0, 255, out=total)  # which cuts off what is behind the point
    return made.reshape(how.outputs, *image.shape[1:])


def turned(image: Array) -> Array:
    """(w, h, C) of a uint8 image (h, w, C), pixel by pixel: twice as fast as number by number."""
    pixels = np.ascontiguousarray(image).view(f"V{image.shape[2]}")[:, :, 0]
    return np.ascontiguousarray(pixels.T).view(np.uint8).reshape(image.shape[1], image.shape[0], image.shape[2])


def _weighted(image: Array, outputs: int, wanted: slice, interpolation: str, antialias: bool) -> Array:
    """Resample axis 0 of float32 levels (n, m, C) to the `wanted` of so many outputs: one rounded product and sum after
    the other, alike everywhere.
    """
    if image.shape[0] == outputs:
        return image[wanted]
    first, weights = (whole[wanted] for whole in filter_weights(image.shape[0], outputs, interpolation, antialias))
    shares = (weights / (1 << PRECISION_BITS)).astype(np.float32)
    total = np.zeros((len(first), *image.shape[1:]), np.float32)
    for tap in range(weights.shape[1]):
        total += image[np.minimum(first + tap, image.shape[0] - 1)] * shares[:, tap, None, None]
    return np.asarray(np.clip(total, 0, 255))
