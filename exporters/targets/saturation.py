"""What an x86 CPU without VNNI makes of u8 x s8 products: sums of two that do not fit into 16 bits saturate.

    vpmaddubsw   s16[j] = saturate16( x[2j] w[2j] + x[2j+1] w[2j+1] )       x in 0..255, w in -128..127
    vpmaddwd     sum over j of s16[j], in 32 bits                           exact

A pair saturates only if its weights are large and of one sign: 255 (|w0| + |w1|) > 32767 needs |w0| + |w1| > 128. In
trained weights one pair in hundreds is, and yet it moved a ResNet-50 from 74.8 % to 69.0 % top-1 (Intel's figures).
Weights on 7 bits (|w| <= 64) cannot saturate: 255 (64 + 64) = 32640; they cost a bit of every weight instead.

Weights are stored for the instruction in the order (kernel row, kernel column, channel): a pair is two neighbouring
channels of one tap, or two neighbouring taps where there is one channel (grey images, sound). Depthwise kernels with
one filter for each channel widen to 16 bits first and are exact; with two they are not.
Source: Intel 64 and IA-32 Architectures Software Developer's Manual, vol. 2, VPMADDUBSW.
Test: tests/test_saturation.py.
"""

from __future__ import annotations

import numpy as np

from runtimes.base import Array

LOW, HIGH = -(2**15), 2**15 - 1
CHUNK = 4096
"""Pairs that are computed at once, for all positions."""
SAFE_PAIR = HIGH // 255
"""|w0| + |w1| up to 128 cannot leave 16 bits, whatever the activations are."""


def excess(x: Array, w: Array) -> Array:
    """int64 (P, O): how much the saturating dot products of x uint8 (P, K) and w int8 (O, K) exceed the exact ones.

    Only the few pairs that can leave 16 bits at all are computed; an odd last element has no partner and is exact.
    """
    pairs = w.shape[1] // 2
    first, second = w[:, : 2 * pairs : 2].astype(np.int32), w[:, 1 : 2 * pairs : 2].astype(np.int32)
    outputs, places = np.nonzero((np.abs(first) + np.abs(second) > SAFE_PAIR) & (first * second >= 0))
    result = np.zeros((len(w), len(x)), np.int64)
    columns = np.ascontiguousarray(x.T).astype(np.int32)
    for at in range(0, len(outputs), CHUNK):
        o, k = outputs[at : at + CHUNK], places[at : at + CHUNK]  # sorted by output
        sums = columns[2 * k] * first[o, k, None] + columns[2 * k + 1] * second[o, k, None]
        starts = np.flatnonzero(np.diff(o, prepend=-1))
        result[o[starts]] += np.add.reduceat(np.clip(sums, LOW, HIGH) - sums, starts, axis=0)
    return result.T


def risky_pairs(w: Array) -> float:
    """Share of the pairs of w int8 (O, K) that some activations would saturate."""
    pairs = w.shape[1] // 2
    if not pairs:
        return 0.0
    first, second = w[:, : 2 * pairs : 2].astype(np.int32), w[:, 1 : 2 * pairs : 2].astype(np.int32)
    return float(np.mean((np.abs(first) + np.abs(second) > SAFE_PAIR) & (first * second >= 0)))


def conv_rows(weight: Array) -> Array:
    """Weights (O, I/groups, k...) of a convolution as rows (O, K) as the instruction reads them: channels innermost."""
    return np.ascontiguousarray(np.moveaxis(weight, 1, -1)).reshape(len(weight), -1)


def explicit_pads(
    auto_pad: bytes,
    pads: tuple[int, ...],
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> tuple[int, ...]:
    """The pads (begins, then ends) of an ONNX convolution over `sizes` pixels, whatever its `auto_pad` is.

    >>> explicit_pads(b"SAME_UPPER", (0, 0), (6,), (4,), (1,), (1,))
    (1, 2)
    """
    if auto_pad == b"NOTSET":
        return pads
    if auto_pad == b"VALID":
        return (0,) * len(pads)
    axes = zip(sizes, kernel, strides, dilations, strict=True)
    total = [max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0) for n, k, s, d in axes]
    small, large = [n // 2 for n in total], [n - n // 2 for n in total]
    return (*small, *large) if auto_pad == b"SAME_UPPER" else (*large, *small)


def conv_patches(
    x: Array,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    pads: tuple[int, ...],
    fill: int,
    positions: int,
    rng: np.random.Generator,
) -> Array:
    """Rows (P, k... * C) that a convolution multiplies, at `positions` random output places of x (N, C, spatial...).

    `pads` are ONNX's (begins, then ends); padding holds `fill`, the zero point. Channels are innermost.
    """
    rank = x.ndim - 2
    padded = np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)], constant_values=fill)
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    sizes = [(n - r) // s + 1 for n, r, s in zip(padded.shape[2:], reach, strides, strict=True)]
    image = rng.integers(len(x), size=positions)
    starts = [rng.integers(size, size=positions) * s for size, s in zip(sizes, strides, strict=True)]
    taps = np.meshgrid(*(np.arange(k) * d for k, d in zip(kernel, dilations, strict=True)), indexing="ij")
    index = [start[:, None] + tap.reshape(-1) for start, tap in zip(starts, taps, strict=True)]
    rows: Array = np.moveaxis(padded, 1, -1)[(image[:, None], *index)]  # (P, taps, C)
    return np.ascontiguousarray(rows).reshape(positions, -1)
