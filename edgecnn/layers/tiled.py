"""Tiled convolution: t kernels take turns along every axis, between shared (t = 1) and locally connected (t = outputs).

    y[o, i] = b[o, i mod t] + sum_c,j x[c, i s - p + j] w[i mod t, o, c, j]

Neighbouring outputs may see different features; the number of weights is t^rank times that of a convolution, whatever
the size of the input, and the work is the same.

Outputs i = a (mod t) are a convolution with stride t s of the input from a s on. So t^rank strided Convs are computed
and interleaved: nothing is thrown away but what pads the last turn.

Le, Ngiam, Chen, Chia, Koh, Ng 2010, Tiled convolutional neural networks; Goodfellow, Bengio, Courville 2016, Deep
learning, eq. 9.10. Test: tests/test_layers.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from edgecnn.layers.local import axes
from edgecnn.layers.padding import Mode, checked, pads


class _Tiled(nn.Module):
    """`weight` (t^rank, O, C, kernel...), `bias` (t^rank, O); the turns of the last axis follow one another."""

    rank = 0

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        tiles: int = 2,
        stride: int | Sequence[int] = 1,
        padding: Mode = "same",
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.mode = axes(kernel_size, self.rank), axes(stride, self.rank), checked(padding)
        self.tiles = tiles
        self.taps = in_channels * math.prod(self.kernel)  # multiply-adds for one output
        bound = 1 / math.sqrt(self.taps)  # as nn.Conv2d draws them
        turns = tiles**self.rank
        shape = (turns, out_channels, in_channels, *self.kernel)
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(turns, out_channels).uniform_(-bound, bound)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        conv: Callable[..., torch.Tensor] = (F.conv1d, F.conv2d)[self.rank - 1]
        x, outputs = self._padded(x)
        made = []
        for turn, first in enumerate(itertools.product(range(self.tiles), repeat=self.rank)):
            part = x
            for axis, (begin, step) in enumerate(zip(first, self.stride, strict=True)):
                part = part.narrow(2 + axis, begin * step, x.shape[2 + axis] - (self.tiles - 1) * step)
            bias = None if self.bias is None else self.bias[turn]
            made.append(conv(part, self.weight[turn], bias, [self.tiles * step for step in self.stride]))
        return self._interleaved(made, outputs)

    def _padded(self, x: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
        """`x` with the zeros of its mode, and behind them those that make every turn equally long; and its outputs."""
        sides, outputs = [], []
        for size, kernel, step in zip(x.shape[2:], self.kernel, self.stride, strict=True):
            before, after = pads(size, kernel, step, self.mode)
            count = (size + before + after - kernel) // step + 1
            rounds = (count + self.tiles - 1) // self.tiles
            wanted = (rounds * self.tiles - 1) * step + kernel
            sides.append((before, wanted - size - before))  # negative: pixels that no output reads are cut off
            outputs.append(count)
        return F.pad(x, [n for side in reversed(sides) for n in side]), outputs

    def _interleaved(self, made: Sequence[torch.Tensor], outputs: Sequence[int]) -> torch.Tensor:
        """Turn a's outputs go to a, a + t, a + 2 t ... along every axis; what lies beyond `outputs` is dropped."""
        batch, channels, *rounds = made[0].shape
        stacked = torch.stack(tuple(made), 2).reshape(batch, channels, *(self.tiles,) * self.rank, *rounds)
        order = [axis for pair in range(self.rank) for axis in (2 + self.rank + pair, 2 + pair)]
        whole = stacked.permute(0, 1, *order).reshape(batch, channels, *(n * self.tiles for n in rounds))
        for axis, count in enumerate(outputs):
            whole = whole.narrow(2 + axis, 0, count)
        return whole


class TiledConv1d(_Tiled):
    """(N, C, L) -> (N, O, L')."""

    rank = 1


class TiledConv2d(_Tiled):
    """(N, C, H, W) -> (N, O, H', W')."""

    rank = 2
