"""The resize of pictures in numpy, so that a device needs neither Pillow nor OpenCV: the one's, or the other's.

**With `antialias`** Pillow's BILINEAR or BICUBIC. For a scale s = in/out, output x is the mean of the inputs around its
centre (x + 1/2) s, weighted by f(d / max(s, 1)), in 22-bit fixed point, rounded to uint8 after the horizontal and again
after the vertical pass. f is the triangle max(0, 1 - |d|), or Keys' cubic with a = -1/2. Equal to the bit along one
axis; newer Pillows swap the two passes where one side grows and the other shrinks, and as each rounds, the results are
within 1 grey level there, cubics within 2, but for what overshoots black or white between the passes and is cut off:
there they were up to 13 apart in photographs, up to 29 in noise. Floats, the levels of 16-bit pictures, are weighted
alike, not rounded, and cut off at the end alone, which is Pillow's mode "F".

**Without** OpenCV's, which looks at the nearest pixels alone: s counts as 1 in f, the cubic has a = -3/4, the edge goes
on beyond the edge, and nothing is rounded between the passes. PyTorch's `interpolate` is the same in floats.

    INTER_LINEAR   of uint8 in OpenCV's own fixed point, to the bit; weights w and v in 11 bits
                   row = (w0 p0 + w1 p1) >> 4,   pixel = (((v0 row0) >> 16) + ((v1 row1) >> 16) + 2) >> 2
    INTER_CUBIC    of uint8 in 22 bits, rounded once, a half to even; OpenCV differs by 1 with IPP and without
    INTER_NEAREST  input floor(x s), also with `antialias`

Source: Pillow `src/libImaging/Resample.c`; OpenCV `modules/imgproc/src/resize.cpp`; Keys 1981, "Cubic convolution
interpolation for digital image processing". Test: tests/test_preprocess.py, tests/test_resampling.py.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from runtimes.base import Array, BadInput
from runtimes.imaging.depth import rounded

NEAREST, BILINEAR, BICUBIC = "nearest", "bilinear", "bicubic"
INTERPOLATIONS = (BILINEAR, BICUBIC, NEAREST)
PRECISION_BITS, FIXED_BITS = 22, 11
MOST_SIDE = 65536
OUTPUTS_A_STEP, NUMBERS_A_STEP, NUMBERS_SAMPLED = 4, 6144, 32768
"""Rows that are made at once, of that many numbers each, and numbers that are sampled at once: what they are made of
stays in the cache."""
Cut = tuple[slice, slice]
"""Rows and columns of a resized image."""


def resize(
    image: Array, size: tuple[int, int], interpolation: str = BILINEAR, antialias: bool = True, cut: Cut | None = None
) -> Array:
    """(H, W, C) of an image (h, w, C), uint8 or float32 levels; of it the part `cut`, where only that is wanted."""
    if max(size) > MOST_SIDE:
        raise BadInput(f"image: {list(image.shape)} would become {list(size)}; it is too long and thin, crop it")
    rows, columns = cut or (slice(0, size[0]), slice(0, size[1]))
    if image.shape[:2] == size:
        return image[rows, columns]
    if interpolation == NEAREST:
        return image[_nearest(image.shape[0], size[0])[rows]][:, _nearest(image.shape[1], size[1])[columns]]
    if image.dtype != np.uint8 or not (antialias or interpolation == BICUBIC):
        step = max(NUMBERS_SAMPLED // ((columns.stop - columns.start) * image.shape[2]), 1)
        parts = [
            _sampled(image, size, interpolation, antialias, (slice(begin, min(begin + step, rows.stop)), columns))
            for begin in range(rows.start, rows.stop, step)
        ]
        return np.concatenate(parts)
    down = _steps(image.shape[0], size[0], rows.start, rows.stop, interpolation, antialias)
    across = _steps(image.shape[1], size[1], columns.start, columns.stop, interpolation, antialias)
    seen = image[down.needed][:, across.needed]
    wide = turned(_resample(turned(seen), across, antialias)) if across.steps else seen
    made = _resample(wide, down, antialias)
    return made if antialias else rounded(np.clip(made, 0, 255))


def _nearest(inputs: int, outputs: int) -> Array:
    """The input that each output is; by OpenCV's own quotient, where x s is whole this can be the one before."""
    return np.asarray(np.minimum(np.arange(outputs) * (1 / (outputs / inputs)), inputs - 1), np.int64)


def _triangle(distance: Array, _: float) -> Array:
    return np.asarray(np.maximum(0.0, 1.0 - distance))


def _cubic(distance: Array, a: float) -> Array:
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0))


FILTERS = {BILINEAR: (_triangle, 1.0), BICUBIC: (_cubic, 2.0)}
"""Name -> (weight by distance and Keys' a, how far it reaches)."""


@functools.lru_cache(maxsize=64)  # the pictures of a set are mostly of a few sizes
def filter_weights(
    inputs: int, outputs: int, interpolation: str = BILINEAR, antialias: bool = True, fixed: bool = False
) -> tuple[Array, Array]:
    """(inputs, weights in 22-bit fixed point) of a filter of `FILTERS`, (outputs, taps) both; OpenCV's `fixed` point
    has 11 bits, of float32.
    """
    weight, reach = FILTERS[interpolation]
    scale = inputs / outputs if antialias else 1 / (outputs / inputs)
    wide = max(scale, 1.0) if antialias else 1.0
    support = reach * wide
    centre = (np.arange(outputs) + 0.5) * scale
    if fixed:
        centre = (centre - 0.5).astype(np.float32).astype(float) + 0.5
    places = np.floor(centre - support + 0.5)[:, None] + np.arange(math.ceil(support) * 2 + antialias)
    weights = weight(np.abs(places - centre[:, None] + 0.5) / wide, -0.5 if antialias else -0.75)
    within = np.clip(places, 0, inputs - 1)
    if antialias:
        weights = np.where(places == within, weights, 0.0)
        weights /= weights.sum(axis=1, keepdims=True)
    weights *= 1 << (FIXED_BITS if fixed else PRECISION_BITS)
    whole = np.trunc(weights + np.copysign(0.5, weights)) if antialias else np.rint(weights)
    return within.astype(np.int64), whole.astype(np.int32)


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
    windows, weights = (whole[start:stop] for whole in filter_weights(inputs, outputs, interpolation, antialias))
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


def _resample(image: Array, how: _Steps, antialias: bool) -> Array:
    """Resample axis 0 of an array (n, m, C) of the inputs that are needed: uint8 with `antialias`, else float64.

    In float64 all is exact: 8 bits and 22 for each pass, and less than 1 for the sum of a cubic's weights, are 53.
    """
    if not how.steps:
        return image
    flat = np.ascontiguousarray(image).reshape(len(image), -1)
    made = np.empty((how.outputs, flat.shape[1]), np.uint8 if antialias else np.float64)
    for start in range(0, flat.shape[1], NUMBERS_A_STEP):
        part = slice(start, start + NUMBERS_A_STEP)
        for outputs, inputs, weights in how.steps:
            total = weights @ flat[inputs, part].astype(np.float64)
            total += 0.5 * antialias
            # uint8 cuts off what is behind the point
            made[outputs, part] = np.clip(total, 0, 255, out=total) if antialias else total
    return made.reshape(how.outputs, *image.shape[1:])


def turned(image: Array) -> Array:
    """(w, h, C) of an image (h, w, C), pixel by pixel: twice as fast as number by number."""
    turn = np.ascontiguousarray(_pixels(image).T)
    return turn.view(image.dtype).reshape(*turn.shape, -1)


def _pixels(image: Array) -> Array:
    """(h, w) of an image (h, w, C): each pixel is one thing."""
    return np.ascontiguousarray(image).view(f"V{image.itemsize * image.shape[2]}")[:, :, 0]


def _sampled(image: Array, size: tuple[int, int], interpolation: str, antialias: bool, cut: Cut) -> Array:
    """The `cut` of an image resized to `size`: one rounded product and sum after the other, alike everywhere."""
    fixed = image.dtype == np.uint8
    taps = []
    for inputs, outputs, wanted in zip(image.shape, size, cut, strict=False):
        places, weights = (each[wanted].T for each in filter_weights(inputs, outputs, interpolation, antialias, fixed))
        taps.append((places, weights if fixed else (weights / (1 << PRECISION_BITS)).astype(np.float32)))
    (down, heights), (across, widths) = taps
    needed = np.unique(down)
    pixels, shares = _pixels(image[needed]), np.repeat(widths, image.shape[2], 1)
    total = sum(pixels.take(places, 1).view(image.dtype) * share for places, share in zip(across, shares, strict=True))
    wide = total >> 4 if fixed else total
    lines = np.searchsorted(needed, down)
    parts = (wide[places] * share[:, None] for places, share in zip(lines, heights, strict=True))
    made = sum(part >> 16 for part in parts) + 2 >> 2 if fixed else np.clip(sum(parts), 0, 255)
    return np.asarray(made.astype(image.dtype).reshape(len(made), -1, image.shape[2]))
