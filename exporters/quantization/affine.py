"""int8 grids: the affine map between real numbers and 8-bit integers that ONNX's QuantizeLinear defines.

    q = saturate(round_half_even(x / scale) + zero_point)          x' = (q - zero_point) * scale

Activations are uint8 with a zero point; weights are int8, symmetric, one scale per output channel; biases are int32 on
the product grid `scale_x * scale_w`: the only combination fast on ONNX Runtime's CPU kernels (u8 x s8 products).
Source: ONNX operator specification, QuantizeLinear-13; Jacob et al. 2018, "Quantization and Training of Neural Networks
for Efficient Integer-Arithmetic-Only Inference", section 2. Test: tests/test_affine.py (oracle: onnx.reference, torch).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from runtimes.base import Array

BIAS_LIMIT = 2**30
"""A bias may use half of int32; the other half is left to the accumulated products."""


@dataclass(frozen=True)
class Grid:
    """An 8-bit grid: float32 `scale`, () or (channels,) along `axis`; `zero_point` has the grid's integer type."""

    scale: Array
    zero_point: Array
    axis: int | None = None

    @property
    def low(self) -> float:
        """Smallest real number on the grid (per-tensor grids)."""
        info = np.iinfo(self.zero_point.dtype)
        return float((info.min - int(self.zero_point)) * np.float64(self.scale))

    @property
    def high(self) -> float:
        """Largest real number on the grid (per-tensor grids)."""
        info = np.iinfo(self.zero_point.dtype)
        return float((info.max - int(self.zero_point)) * np.float64(self.scale))

    def quantize(self, x: Array) -> Array:
        """Integers of the grid nearest to `x` (float, any shape), saturated at the ends."""
        info = np.iinfo(self.zero_point.dtype)
        scale, zero = self._along(x.ndim)
        with np.errstate(over="ignore"):  # an infinite quotient saturates like any other
            steps = np.asarray(x / scale)
        np.rint(steps, out=steps)
        steps = steps + zero if info.bits > 16 else np.add(steps, zero.astype(steps.dtype), out=steps)
        q: Array = np.clip(steps, info.min, info.max, out=steps).astype(self.zero_point.dtype)
        return q

    def dequantize(self, q: Array) -> Array:
        """The float32 numbers that the integers `q` stand for."""
        scale, zero = self._along(q.ndim)
        if q.dtype.itemsize > 2:
            return np.asarray(((q.astype(np.int64) - zero) * scale).astype(np.float32))
        x: Array = q.astype(np.float32)  # holds these integers exactly, so that the product is rounded once
        x -= zero.astype(np.float32)
        x *= scale
        return x

    def _along(self, rank: int) -> tuple[Array, Array]:
        if self.axis is None:
            return self.scale, self.zero_point.astype(np.int32)
        shape = [1] * rank
        shape[self.axis] = -1
        return self.scale.reshape(shape), self.zero_point.astype(np.int32).reshape(shape)


def activation_grid(low: float, high: float) -> Grid:
    """The uint8 grid that represents [low, high] and zero exactly (padding and ReLU need an exact zero).

    An empty range (a dead tensor) gets scale 1, so that nothing divides by zero later.

    >>> g = activation_grid(0.0, 2.55)
    >>> round(float(g.scale), 6), int(g.zero_point)
    (0.01, 0)
    """
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"range [{low}, {high}] is not finite")
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / 255.0)
    if scale < np.finfo(np.float32).tiny:
        scale = np.float32(1.0)
    zero_point = np.clip(np.rint(-low / np.float64(scale)), 0, 255).astype(np.uint8)
    return Grid(np.asarray(scale), np.asarray(zero_point))


EIGHT_BITS, SEVEN_BITS = 127, 64
"""Largest |weight| on its grid; with 64 no CPU's sums of two products leave 16 bits."""
WEIGHT_FORMS = {"s8": EIGHT_BITS, "s7": SEVEN_BITS, "u8": EIGHT_BITS}
"""How a layer's weights are stored -> largest |weight|: signed on 8 or 7 bits, or the 8 bits plus 128 (`unsigned`)."""


def weight_grid(weight: Array, axis: int | None, largest: int = EIGHT_BITS) -> Grid:
    """Symmetric int8 grid of `weight`: one scale per index of `axis`, or one for all when `axis` is None.

    It reaches from `-largest` to `largest`: without -128 a grid and its mirror image are the same. A channel of zeros
    gets the median of the other channels' scales: its bias is quantized on a grid made of this scale and must not
    become coarse.
    """
    others = None if axis is None else tuple(i for i in range(weight.ndim) if i != axis)
    ends = weight.max(axis=others, initial=0.0), -weight.min(axis=others, initial=0.0)
    peak = np.maximum(*ends).astype(np.float64)  # no copy of the weights: they may be hundreds of MB
    live = peak[peak > np.finfo(np.float32).tiny]
    fallback = float(np.median(live)) if live.size else float(largest)
    peak = np.where(peak > np.finfo(np.float32).tiny, peak, fallback)
    scale = (peak / largest).astype(np.float32)
    return Grid(scale, np.zeros(scale.shape, np.int8), axis)


def unsigned(grid: Grid) -> Grid:
    """The uint8 grid with the same numbers as a symmetric int8 `grid`: every integer plus 128."""
    return Grid(grid.scale, np.full(grid.scale.shape, 128, np.uint8), grid.axis)


def fit_bias(weight: Grid, bias: Array, input_scale: float) -> Grid:
    """`weight`'s grid, coarser where the bias (channels,) would leave int32 on `input_scale * scale`."""
    needed = (np.abs(bias.astype(np.float64)) / (BIAS_LIMIT * float(input_scale))).astype(np.float32)
    needed = needed if weight.axis is not None else needed.max(initial=np.float32(0))
    return Grid(np.maximum(weight.scale, needed), weight.zero_point, weight.axis)


def quantize_bias(bias: Array, input_scale: float, weight_scale: Array) -> tuple[Array, Array]:
    """(int32 bias, its float32 scale): `bias` (channels,) on the grid `input_scale * weight_scale`."""
    scale = (np.float32(input_scale) * weight_scale.astype(np.float32)).astype(np.float32)
    scale = np.maximum(scale, np.finfo(np.float32).tiny)
    q = np.rint(bias.astype(np.float64) / scale.astype(np.float64))
    return np.clip(q, -(2**31), 2**31 - 1).astype(np.int32), scale
