"""Locally connected layers ("unshared convolution"): a kernel of its own at every position.

    y[o, i] = b[o, i] + sum_c,j x[c, i s - p + j] w[i, o, c, j]

For data where the same feature does not occur everywhere (a face that was centred). The size of the input is part of
the layer, for there is a weight per position: P O C k of them, where a convolution has O C k.

Exported as one Gather of the patches (N, P, C k) and one MatMul, batched over the P positions.

Goodfellow, Bengio, Courville 2016, Deep learning, eq. 9.9; LeCun 1986, 1989. Test: tests/test_layers.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from edgecnn.layers.padding import Mode, pads
from runtimes.base import BadInput


def axes(value: int | Sequence[int], rank: int) -> tuple[int, ...]:
    """One number for every axis, or the numbers that were given.

    >>> axes(3, 2), axes((1, 2), 2)
    ((3, 3), (1, 2))
    """
    return (value,) * rank if isinstance(value, int) else tuple(value)


def patches(padded: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> tuple[list[int], tuple[int, ...]]:
    """(places in the flattened input, tap by tap within position by position; outputs along every axis).

    >>> patches((4,), (2,), (2,))
    ([0, 1, 2, 3], (2,))
    """
    outputs = tuple((n - k) // s + 1 for n, k, s in zip(padded, kernel, stride, strict=True))
    steps = [math.prod(padded[axis + 1 :]) for axis in range(len(padded))]
    starts = itertools.product(*(range(0, n * s, s) for n, s in zip(outputs, stride, strict=True)))
    taps = list(itertools.product(*(range(k) for k in kernel)))
    found = [
        sum((a + b) * step for a, b, step in zip(start, tap, steps, strict=True)) for start in starts for tap in taps
    ]
    return found, outputs


class _Local(nn.Module):
    """`input_size`: the spatial sizes. `weight` (P, C k, O) and `bias` (O, outputs...) as the formula has them.

    `taps`: multiply-adds for one output.
    """

    rank = 0

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        input_size: int | Sequence[int],
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: Mode = "valid",
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.input_size, kernel, strides = (axes(value, self.rank) for value in (input_size, kernel_size, stride))
        self.kernel = kernel
        sides = [pads(*axis, padding) for axis in zip(self.input_size, kernel, strides, strict=True)]
        padded = [n + sum(side) for n, side in zip(self.input_size, sides, strict=True)]
        if any(n < k for n, k in zip(padded, kernel, strict=True)):
            raise BadInput(f"kernel {kernel}: does not fit into an input of {tuple(padded)}")
        index, self.output_size = patches(padded, kernel, strides)
        self.sides = [n for side in reversed(sides) for n in side]
        self.out_channels, self.taps = out_channels, in_channels * math.prod(kernel)
        self.register_buffer("index", torch.tensor(index), persistent=False)
        self.index: torch.Tensor
        bound = 1 / math.sqrt(self.taps)  # as nn.Conv2d draws them
        positions = math.prod(self.output_size)
        self.weight = nn.Parameter(torch.empty(positions, self.taps, out_channels).uniform_(-bound, bound))
        shape = (out_channels, *self.output_size)
        self.bias = nn.Parameter(torch.empty(shape).uniform_(-bound, bound)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if tuple(x.shape[2:]) != self.input_size:
            raise BadInput(f"input: is {tuple(x.shape[2:])}, this layer has weights for {self.input_size}")
        positions, inputs, _ = self.weight.shape
        channels = x.shape[1]
        x = F.pad(x, self.sides) if any(self.sides) else x
        found = x.flatten(2).index_select(2, self.index).reshape(-1, channels, positions, inputs // channels)
        rows = found.permute(2, 0, 1, 3).reshape(positions, -1, inputs)  # (P, N, C k)
        made = torch.matmul(rows, self.weight).permute(1, 2, 0)  # (N, O, P)
        made = made.reshape(-1, self.out_channels, *self.output_size)
        return made if self.bias is None else made + self.bias


class LocalConv1d(_Local):
    """(N, C, L) -> (N, O, L')."""

    rank = 1


class LocalConv2d(_Local):
    """(N, C, H, W) -> (N, O, H', W')."""

    rank = 2
