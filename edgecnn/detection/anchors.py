"""The boxes that a detector starts from: default boxes of SSD, anchors of a region proposal network, plain windows.

    SSD, map k of m      side s_k (a share of the image) and sqrt(s_k s_{k+1}) at ratio 1; s_k sqrt(r), s_k / sqrt(r)
    RPN                  scale x ratio around every pixel of one feature map
    windows              the same boxes without a network: what stands in for Selective Search

All are functions of sizes alone, so that a graph of fixed input size holds them as constants. Order: rows, columns,
then the boxes of one place. Source: Liu et al. 2016 (SSD); Ren et al. 2015 (Faster R-CNN).
Test: tests/test_detection_boxes.py (oracle: torchvision's generators).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

Sides = list[tuple[float, float]]
"""(width, height) of the boxes of one place."""


def centred(places: tuple[int, int], step: tuple[float, float], sides: Sides) -> torch.Tensor:
    """(rows * columns * len(sides), 4) corners: boxes of `sides` around the middle of each cell of `step` (y, x)."""
    y = (torch.arange(places[0], dtype=torch.float32) + 0.5) * step[0]
    x = (torch.arange(places[1], dtype=torch.float32) + 0.5) * step[1]
    middle = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).flip(-1).reshape(-1, 1, 2)
    half = torch.tensor(sides, dtype=torch.float32) / 2
    return torch.cat([middle - half, middle + half], -1).reshape(-1, 4)


def default_sides(scale: float, following: float, ratios: Sequence[float]) -> Sides:
    """Sides of one map's default boxes as shares of the image, at most 1: two squares, then each ratio both ways."""
    squares = [scale, math.sqrt(scale * following)]
    shapes = [(s, s) for s in squares]
    for ratio in ratios:
        long, short = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
        shapes += [(long, short), (short, long)]
    return [(min(w, 1.0), min(h, 1.0)) for w, h in shapes]


def anchor_sides(scales: Sequence[float], ratios: Sequence[float]) -> Sides:
    """Sides in pixels for every ratio (height / width) and scale: of one scale all have the same area."""
    return [(scale / math.sqrt(ratio), scale * math.sqrt(ratio)) for ratio in ratios for scale in scales]


def windows(size: tuple[int, int], shares: Sequence[float], ratios: Sequence[float], stride: float) -> torch.Tensor:
    """(P, 4) corners of windows on an image of `size` (height, width), one grid for each of `shares`.

    A window of share s is s of the shorter side long; `stride` is the step from one to the next as a share of it.
    """
    height, width = size
    grids = []
    for share in shares:
        side = share * min(size)
        places = tuple(max(1, round((length - side) / (stride * side)) + 1) for length in size)
        step = (height / places[0], width / places[1])
        grids.append(centred((places[0], places[1]), step, anchor_sides([side], ratios)))
    boxes = torch.cat(grids)
    return torch.stack([boxes[:, i].clamp(0, (width, height)[i % 2]) for i in range(4)], 1)
