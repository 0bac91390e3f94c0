"""Position-sensitive RoI pooling: each of k x k parts of a region asks a map of its own.

    score maps (N, C k k, H, W): channel c k k + i k + j knows how part (i, j) of an object of class c looks
    out[c, i, j] = mean of channel c k k + i k + j over the pixels of part (i, j) of the region
    vote: the mean over all parts

A region whose upper left does not look like an upper left gets no vote from there: places inside a region count, and
yet everything is a convolution. The pixels of part i of a region that begins at y and is h high, in pixels of the map:

    floor(y + i h / k) <= row < ceil(y + (i + 1) h / k)         y = round(y1) s, h = max(round(y2 + 1) s - y, 0.1)

with s pixels of the map per pixel of the image. In standard operators: sums over rectangles are four corners of a table
of sums (Crow 1984), in float64 because the corners are large and their difference is small.
Source: Dai et al. 2016, R-FCN, section 2 and its code. Test: tests/test_ps_pool.py (oracle: the definition as a loop).
"""

from __future__ import annotations

import torch

SMALLEST = 0.1


def ps_roi_pool(x: torch.Tensor, rois: torch.Tensor, image: torch.Tensor, parts: int, scale: float) -> torch.Tensor:
    """x (N, C parts parts, H, W), rois (R, 4) corners in pixels of the input, image (R,) -> (R, C, parts, parts).

    A part without pixels is 0.
    """
    _, channels, height, width = x.shape
    classes = channels // parts**2
    top, bottom = edges(rois[:, 1], rois[:, 3], parts, scale, height)
    left, right = edges(rois[:, 0], rois[:, 2], parts, scale, width)
    part = torch.arange(parts, device=x.device)
    table = (image.reshape(-1, 1, 1) * parts + part.reshape(1, -1, 1)) * parts + part  # (R, parts, parts)
    sums = summed(x, parts)

    def corner(row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        place = (table * (height + 1) + row.unsqueeze(2)) * (width + 1) + column.unsqueeze(1)
        return sums.index_select(0, place.reshape(-1))

    total = corner(bottom, right) - corner(top, right) - corner(bottom, left) + corner(top, left)
    area = ((bottom - top).unsqueeze(2) * (right - left).unsqueeze(1)).reshape(-1, 1)
    mean = (total / area.clamp(min=1)).to(x.dtype)
    return mean.reshape(-1, parts, parts, classes).permute(0, 3, 1, 2)


def summed(x: torch.Tensor, parts: int) -> torch.Tensor:
    """Table of sums, float64 (N parts parts (H + 1) (W + 1), C): row (n, i, j, y, x) sums all pixels above and left."""
    images, channels, height, width = x.shape
    maps = x.double().reshape(images, -1, parts, parts, height, width).permute(0, 2, 3, 4, 5, 1)
    sums = torch.nn.functional.pad(maps.cumsum(3).cumsum(4), (0, 0, 1, 0, 1, 0))
    return sums.reshape(-1, channels // parts**2)


def edges(
    low: torch.Tensor, high: torch.Tensor, parts: int, scale: float, length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """First row and the one after the last, int64 (R, parts), of each part along an axis of `length` pixels."""
    start = torch.floor(low + 0.5) * scale
    size = (torch.floor(high + 0.5) + 1) * scale - start
    step = size.clamp(min=SMALLEST) / parts
    part = torch.arange(parts, device=low.device).to(low)
    first = torch.floor(start.unsqueeze(1) + part * step.unsqueeze(1))
    last = torch.ceil(start.unsqueeze(1) + (part + 1) * step.unsqueeze(1))
    first, last = first.clamp(0, length), last.clamp(0, length)
    return first.long(), torch.maximum(first, last).long()
