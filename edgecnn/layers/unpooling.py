"""Max pooling that remembers where its maxima were, and unpooling that puts values back there.

    pool    y[i] = max of block i        place[i] = where in the input that was (the first, where several are equal)
    unpool  z[place[i]] = v[i]           z is 0 everywhere else

The blocks do not overlap (kernel = stride), so no place is written twice. Exported as MaxPool with its second output
and MaxUnpool. ONNX counts places through the whole batch where torch counts within one channel, and its MaxUnpool wants
whole blocks: an odd row or column, which pooling ignores, is cut off before and put back as zeros. torch's own export
of the two gives 40 nodes, among them a second MaxPool over the whole input, and takes twice the time. So `places` is
for MaxUnpool2d alone: what the numbers in it mean is not the same in PyTorch and in the graph.

Zeiler, Taylor, Fergus 2011, Adaptive deconvolutional networks; Noh, Hong, Han 2015, Learning deconvolution network for
semantic segmentation, section 3.2.1; ONNX operators MaxPool and MaxUnpool. Test: tests/test_layers.py.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

Size = tuple[int, int]


def whole_blocks(x: torch.Tensor, side: int) -> torch.Tensor:
    """`x` (N, C, H, W) without the last rows and columns that fill no block of `side` x `side`."""
    for axis in (2, 3):
        size = x.shape[axis]
        if type(size) is not int or size % side:  # a symbol where the size is open
            x = x.narrow(axis, 0, size // side * side)
    return x


class MaxPoolIndices2d(nn.Module):
    """(N, C, H, W) -> maxima (N, C, H // side, W // side) and their places, int64 of the same shape."""

    def __init__(self, side: int = 2) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if not torch.onnx.is_in_onnx_export():
            return F.max_pool2d(x, self.side, return_indices=True)
        x = whole_blocks(x, self.side)
        batch, channels, height, width = x.shape
        shape = (batch, channels, height // self.side, width // self.side)
        pooled, places = torch.onnx.ops.symbolic_multi_out(
            "MaxPool", (x,), _blocks(self.side), dtypes=(x.dtype, torch.int64), shapes=(shape, shape)
        )
        return pooled, places


class MaxUnpool2d(nn.Module):
    """Values and places (N, C, h, w) -> (N, C, H, W) = `size`, that of the input of the pooling that found them."""

    def __init__(self, side: int = 2) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: torch.Tensor, places: torch.Tensor, size: Size) -> torch.Tensor:
        if not torch.onnx.is_in_onnx_export():
            return F.max_unpool2d(x, places, [self.side] * 2, output_size=list(size))
        batch, channels, rows, columns = x.shape
        height, width = rows * self.side, columns * self.side
        whole = torch.onnx.ops.symbolic(
            "MaxUnpool", (x, places), _blocks(self.side), dtype=x.dtype,
            shape=(batch, channels, height, width),
        )  # fmt: skip
        return F.pad(whole, [0, size[1] - width, 0, size[0] - height])


def _blocks(side: int) -> dict[str, Any]:
    return {"kernel_shape": [side, side], "strides": [side, side]}
