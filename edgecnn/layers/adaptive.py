"""Adaptive pooling: as many outputs as asked for from an input of any size; the regions follow the input.

    region i of n pixels for m outputs:   floor(i n / m) <= pixel < ceil((i + 1) n / m)

What lets a fully connected layer follow a convolution on images of every size. torch exports its own only where the
regions are equally large and known; here they may overlap (n not a multiple of m), n may be smaller than m, and where
the export leaves the size open the graph computes them. A region is a product of intervals, so the axes are done one
after the other: a mean is a MatMul with a matrix of 1/length, a maximum a Gather of the region, its last pixel repeated
where it is shorter than the longest, and a ReduceMax.

He, Zhang, Ren, Sun 2014, Spatial pyramid pooling; the regions are those of torch's AdaptiveAvgPool2d.
Test: tests/test_layers.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def region_ends(size: int, outputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    """First pixels and ends (m,) of the regions of an axis with `size` pixels.

    >>> region_ends(5, 3)
    (tensor([0, 1, 3]), tensor([2, 4, 5]))
    """
    begin = torch.arange(outputs)
    return begin * size // outputs, ((begin + 1) * size + outputs - 1) // outputs


def mean_matrix(size: int, outputs: int) -> torch.Tensor:
    """float32 (size, outputs): column i holds 1 / length in the rows of region i, else 0."""
    first, end = region_ends(size, outputs)
    pixel = torch.arange(size)[:, None]
    inside = (pixel >= first) & (pixel < end)
    return inside.float() / (end - first).float()


def region_pixels(size: int, outputs: int) -> torch.Tensor:
    """int64 (outputs, longest): the pixels of every region, the last one again where it is shorter than the longest."""
    first, end = region_ends(size, outputs)
    longest = (size + outputs - 1) // outputs + 1
    return torch.minimum(first[:, None] + torch.arange(longest), end[:, None] - 1)


def _pooled(output_size: int | Sequence[int | None], rank: int) -> list[tuple[int, int]]:
    """(axis, outputs) for every axis of (N, C, sizes...) whose size is to change: None keeps the input's."""
    wanted = (output_size,) * rank if isinstance(output_size, int) else output_size
    return [(axis, outputs) for axis, outputs in enumerate(wanted, 2) if outputs is not None]


class AdaptiveAvgPool(nn.Module):
    """(N, C, sizes...) -> (N, C, output_size...); one number means the same along every axis, None the input's size."""

    def __init__(self, output_size: int | Sequence[int | None]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for axis, outputs in _pooled(self.output_size, x.ndim - 2):
            pooled = torch.matmul(x.movedim(axis, -1), mean_matrix(x.shape[axis], outputs).to(x))
            x = pooled.movedim(-1, axis)
        return x


class AdaptiveMaxPool(nn.Module):
    """(N, C, sizes...) -> (N, C, output_size...); one number means the same along every axis, None the input's size."""

    def __init__(self, output_size: int | Sequence[int | None]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for axis, outputs in _pooled(self.output_size, x.ndim - 2):
            places = region_pixels(x.shape[axis], outputs).to(x.device)
            found = x.index_select(axis, places.flatten())
            x = found.reshape(*x.shape[:axis], outputs, -1, *x.shape[axis + 1 :]).amax(axis + 1)
        return x
