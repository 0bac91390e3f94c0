"""A linear operator takes in an affine before it and one behind it, with a bound that is checked.

    z = a (W (p x + q) + b) + c        W'_oi = a_o W_oi p_i        b'_o = a_o (b_o + sum_i W_oi q_i) + c_o

which is exact in real numbers. It is computed in float64 (each result with its own error, near.py) and rounded once
to the model's type with unit roundoff u and half the smallest subnormal eta, so for inputs |x_i| <= 1 the output of
channel o with n weights moves by at most

    e_o = u S_o + (n + 1) eta + f_o        S_o = |W'_o|_1 + |b'_o|        size of the output
                                           f_o                            what float64 itself may have lost
    T_o = |a_o| (sum_i |W_oi| (|p_i| + parts(q_i)) + |b_o|) + parts(c_o)  size of what is added up to make it

The rounding that really happens is measured and must be within e. The graph before the fold rounds numbers of size T,
so a fold is only made if e is within LIMIT_ROUNDOFFS u T (and float64's own share of n sums): float16 that would under-
or overflow keeps its affine.
Source: Higham 2002, sections 2.2 and 3.1. Test: tests/test_fold_math.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from exporters.fold.affine_chain import Affine
from exporters.fold.near import ROUNDOFF, SAFETY, Near
from runtimes.base import Array

LIMIT_ROUNDOFFS = 16.0
"""A fold may cost this many unit roundoffs of T; a sound one costs 1."""

BLOCK = 1 << 20
"""Weights that are worked on at a time: float64 copies of a large layer would be several times its size."""

_PRECISION = {"bfloat16": (2.0**-8, 2.0**-134)}  # numpy's finfo does not know it


class Misfit(Exception):
    """The folded parameters cannot be written in the model's type; the message ends a sentence about them."""


@dataclass(frozen=True)
class Absorbed:
    """The new bias (..., O) in float64 with its bound: `bound` is max e / max S."""

    bias: Array
    bound: float


@dataclass(frozen=True)
class _Sums:
    """Per output channel (O,): what the formulas above need of the weights, summed over inputs and taps."""

    folded: Array
    """sum |W'|"""
    lost: Array
    """what float64 may have lost in W', and moved by q's error"""
    parts: Array
    """|a| sum |W| (|p| + parts(q))"""
    pull: Array
    """sum W q"""
    pull_error: Array
    moved: Array
    """sum |fl(W') - W'|"""


def precision(dtype: np.dtype[Any]) -> tuple[float, float]:
    """(u, eta): unit roundoff and half the smallest subnormal."""
    if dtype.name in _PRECISION:
        return _PRECISION[dtype.name]
    info = np.finfo(dtype)
    return float(info.eps) / 2, float(info.smallest_subnormal) / 2


def absorb(rows: Array, out: Array, bias: Near, front: Affine, behind: Affine) -> Absorbed:
    """Fill `out` (groups, outputs, inputs, taps) with the folded `rows` of the same shape and type.

    `bias` is (..., O) with O = groups * outputs, `front` over the input channels, `behind` over the output channels.
    Raises `Misfit`, and then `out` is of no use.
    """
    groups, outputs, inputs, taps = rows.shape
    front, behind = front.over(groups * inputs), behind.over(groups * outputs)
    sums = _Sums(*np.zeros((6, groups, outputs)))
    for group, row in _blocks(groups, outputs, inputs * taps):
        channel = np.s_[group, row]
        slope = Near(*(part.reshape(groups, outputs)[channel] for part in (behind.slope.value, behind.slope.error)))
        mine = _of_group(front, groups, group)
        _fill(rows[channel], out[channel], mine, slope, _Sums(*(part[channel] for part in vars(sums).values())))
    return _finish(_Sums(*(part.ravel() for part in vars(sums).values())), bias, behind, inputs * taps, out.dtype)


def _blocks(groups: int, outputs: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Slices over groups and over outputs with at most BLOCK weights, or one row of `size`."""
    rows = max(1, min(outputs, BLOCK // max(size, 1)))
    together = max(1, BLOCK // max(size * outputs, 1))
    for group in range(0, groups, together):
        for row in range(0, outputs, rows):
            yield slice(group, group + together), slice(row, row + rows)


def _of_group(front: Affine, groups: int, group: slice) -> Affine:
    """`front` as (G, 1, I, 1), to multiply weights (G, O, I, K)."""

    def move(array: Array) -> Array:
        return array.reshape(groups, 1, -1, 1)[group]

    return Affine(front.slope.moved(move), front.shift.moved(move), move(front.parts))


def _fill(rows: Array, out: Array, front: Affine, slope: Near, sums: _Sums) -> None:
    """One block: `rows`, `out` (G, O, I, K), `front` (G, 1, I, 1), `slope` (G, O); fills `out` and `sums`."""
    weight = rows.astype(np.float64)
    p, a = front.slope, slope.moved(lambda array: array[..., None, None])
    folded = weight * p.value * a.value
    with np.errstate(over="ignore"):  # an overflow is Inf in `moved`, and refused there
        out[...] = folded.astype(out.dtype)
    sums.moved[...] = np.abs(out.astype(np.float64) - folded).sum((2, 3))
    sums.folded[...] = np.abs(folded).sum((2, 3))
    sizes = np.abs(weight).sum(3, keepdims=True)  # (G, O, I, 1): front's numbers are the same for every tap
    count = rows.shape[2] * rows.shape[3]
    slack = np.abs(p.value) * a.error + np.abs(a.value) * p.error + p.error * a.error
    sums.lost[...] = (sizes * slack).sum((2, 3)) + 2 * ROUNDOFF * sums.folded
    sums.parts[...] = np.abs(slope.value) * (sizes * (np.abs(p.value) + front.parts)).sum((2, 3))
    sums.pull[...] = (weight.sum(3, keepdims=True) * front.shift.value).sum((2, 3))
    spread = (sizes * np.abs(front.shift.value)).sum((2, 3)) * (count + 1) * ROUNDOFF
    sums.pull_error[...] = spread + (sizes * front.shift.error).sum((2, 3))


def _finish(sums: _Sums, bias: Near, behind: Affine, count: int, dtype: np.dtype[Any]) -> Absorbed:
    pull = Near(sums.pull, sums.pull_error)
    before = bias + pull if np.any(sums.pull) or np.any(sums.pull_error) else bias
    after = before * behind.slope + behind.shift if behind.moves_zero else before * behind.slope
    size = sums.folded + _largest(after.value)
    parts = sums.parts + np.abs(behind.slope.value) * _largest(bias.value) + behind.parts
    roundoff, eta = precision(dtype)
    rounding = roundoff * size + (count + 1) * eta
    bound = (rounding + sums.lost + _largest(after.error)) * SAFETY
    with np.errstate(over="ignore"):
        moved = sums.moved + _largest(after.value.astype(dtype).astype(np.float64) - after.value)
    _check(moved, bound, roundoff, parts, count, dtype)
    largest = float(size.max(initial=0.0))
    return Absorbed(after.value, float(bound.max() / largest) if largest else 0.0)


def _check(moved: Array, bound: Array, roundoff: float, parts: Array, count: int, dtype: np.dtype[Any]) -> None:
    """Raise `Misfit` unless the rounding that happened is within the bound, and the bound within what is allowed."""
    if not (moved <= bound).all():
        raise Misfit(f"do not fit into {dtype}")
    worst, largest = float(bound.max(initial=0.0)), float(parts.max(initial=0.0))
    allowed = (LIMIT_ROUNDOFFS * roundoff + 4 * count * ROUNDOFF) * largest
    if largest == 0:
        return  # zeros stay zeros
    if worst > allowed or not math.isfinite(worst):
        raise Misfit(f"are too small for {dtype}: they could be wrong by {worst:.2g}")


def _largest(bias: Array) -> Array:
    """max |b| (C,) over all but the last axis: Gemm's bias may be (M, N)."""
    return np.asarray(np.abs(bias).reshape(-1, bias.shape[-1]).max(axis=0))
