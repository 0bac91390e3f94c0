"""Boxes as tensors: corners and centres, how much two overlap, and the code in which a network says where one is.

    t_x = (x - x_a) / w_a     t_y = (y - y_a) / h_a     t_w = log(w / w_a)     t_h = log(h / h_a)

(x, y) is the centre, w and h the sides, the index a marks the box that the network starts from (a proposal, an anchor,
a default box). Shifts in units of the box and sides as logarithms make the targets alike for small and large objects.
The code is divided by `variances`, so that all four targets have about unit size: (0.1, 0.1, 0.2, 0.2).

Source: Girshick et al. 2014, appendix C; the bound on t_w and t_h (1000/16 times the size) keeps exp finite for weights
that nobody trained, as in Detectron. Test: tests/test_detection_boxes.py.
"""

from __future__ import annotations

import math

import torch

LARGEST_LOG = math.log(1000.0 / 16.0)
VARIANCES = (0.1, 0.1, 0.2, 0.2)
PLAIN = (1.0, 1.0, 1.0, 1.0)


def to_corners(boxes: torch.Tensor) -> torch.Tensor:
    """(..., 4) centre x, y, width, height -> (..., 4) x1, y1, x2, y2."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def to_centres(boxes: torch.Tensor) -> torch.Tensor:
    """(..., 4) x1, y1, x2, y2 -> (..., 4) centre x, y, width, height."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], -1)


def decode(
    code: torch.Tensor, anchors: torch.Tensor, variances: tuple[float, float, float, float] = VARIANCES
) -> torch.Tensor:
    """Corners (..., 4) of the boxes that `code` (..., 4) means at `anchors` (..., 4), given as corners."""
    start = to_centres(anchors)
    t = code * torch.tensor(variances, dtype=code.dtype, device=code.device)
    centre = start[..., :2] + t[..., :2] * start[..., 2:]
    sides = start[..., 2:] * t[..., 2:].clamp(max=LARGEST_LOG).exp()
    return to_corners(torch.cat([centre, sides], -1))


def encode(
    boxes: torch.Tensor, anchors: torch.Tensor, variances: tuple[float, float, float, float] = VARIANCES
) -> torch.Tensor:
    """The code of `boxes` at `anchors`, both corners (..., 4): the inverse of `decode`."""
    meant, start = to_centres(boxes), to_centres(anchors)
    shift = (meant[..., :2] - start[..., :2]) / start[..., 2:]
    growth = (meant[..., 2:] / start[..., 2:]).log()
    return torch.cat([shift, growth], -1) / torch.tensor(variances, dtype=boxes.dtype, device=boxes.device)


def clip(boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Boxes (..., 4) cut at the edges of an image of `size` (height, width)."""
    height, width = size
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)], -1)


def iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(A, B): area shared by each pair of boxes a (A, 4) and b (B, 4) over the area that they cover together."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = [(box[:, 2:] - box[:, :2]).clamp(min=0).prod(-1) for box in (a, b)]
    union = areas[0][:, None] + areas[1][None] - shared
    return shared / union.clamp(min=torch.finfo(a.dtype).tiny)
