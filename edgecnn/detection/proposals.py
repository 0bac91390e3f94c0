"""Regions worth a second look: a region proposal network, and the way from a list of regions back to images.

    features ── 3x3 ── relu ──┬── 1x1 ── is there an object?    one number for each of the anchors of a place
                              └── 1x1 ── where exactly?         their code
    anchors + code ── cut at the image ── the 6000 best ── suppression (0.7) ── the 300 best: (R, 4), R dynamic

How many regions an image has depends on what is in it, so that R and the place where an image begins are known only at
run time. What the second stage says of region r goes into a table (image, rank of r in its image); places that stay
empty hold zeros, which no score limit lets through.

Source: Ren et al. 2015 (Faster R-CNN). The paper's smallest region of 16 pixels is left out: at least one region an
image must stay, or a batch of images without any would have to be no batch at all. Test: tests/test_rcnn.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from edgecnn.detection.anchors import anchor_sides, centred
from edgecnn.detection.boxes import PLAIN, clip, decode
from edgecnn.detection.ops import non_max_suppression, top_k

ANCHOR_SCALES, ANCHOR_RATIOS = (128.0, 256.0, 512.0), (0.5, 1.0, 2.0)
CANDIDATES, PROPOSALS, IOU = 6000, 300, 0.7


class RegionProposals(nn.Module):
    """Features (N, channels, H, W) of images of `size` -> regions (R, 4) in pixels and the image of each (R,).

    The best of an image first; R is N * `proposals` at most and N at least.
    """

    def __init__(self, channels: int, width: int = 512, stride: int = 16, proposals: int = PROPOSALS) -> None:
        super().__init__()
        self.sides = anchor_sides(ANCHOR_SCALES, ANCHOR_RATIOS)
        self.stride, self.proposals = stride, proposals
        self.conv = nn.Conv2d(channels, width, 3, padding=1)
        self.cls_logits = nn.Conv2d(width, len(self.sides), 1)
        self.bbox_pred = nn.Conv2d(width, 4 * len(self.sides), 1)

    def forward(self, x: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        scores, boxes = self.answers(x, size)
        best, at = top_k(scores, CANDIDATES)
        count = best.shape[1]
        first = torch.arange(x.shape[0], device=x.device).unsqueeze(1) * scores.shape[1]
        chosen = boxes.reshape(-1, 4).index_select(0, (at + first).reshape(-1)).reshape(-1, count, 4)
        picked = non_max_suppression(chosen, best.unsqueeze(1), self.proposals, IOU, 0.0)
        # The tracer cannot know that no score is 0.
        torch._check(picked.shape[0] > 0)  # type: ignore[no-untyped-call]
        image = picked[:, 0]
        return chosen.reshape(-1, 4).index_select(0, image * count + picked[:, 2]), image

    def answers(self, x: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores (N, P) in 0..1 and boxes (N, P, 4) of all anchors."""
        shared = torch.relu(self.conv(x))
        scores = self.cls_logits(shared).permute(0, 2, 3, 1).flatten(1).sigmoid()
        code = self.bbox_pred(shared).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4)
        rows, columns = x.shape[2:]
        anchors = centred((rows, columns), (self.stride, self.stride), self.sides).to(x)
        return scores, clip(decode(code, anchors, PLAIN), size)


def per_image(values: torch.Tensor, image: torch.Tensor, images: int, most: int) -> torch.Tensor:
    """Rows (R, K), of images `image` (R,) in ascending order, as a table (images, most, K); empty places are 0."""
    mine = (image.unsqueeze(1) == torch.arange(images, device=image.device)).to(torch.int64)
    rank = (mine.cumsum(0) * mine).sum(1) - 1
    slot = (image * most + rank).unsqueeze(1).expand(-1, values.shape[1])
    return values.new_zeros((images * most, values.shape[1])).scatter(0, slot, values).reshape(images, most, -1)


def on_every_image(boxes: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same boxes (P, 4) for each of the images x (N, ...): (N * P, 4) and the image of each (N * P,)."""
    images, count = x.shape[0], boxes.shape[0]
    image = torch.arange(images, device=x.device).unsqueeze(1).expand(images, count).reshape(-1)
    return boxes.to(x).unsqueeze(0).expand(images, count, 4).reshape(-1, 4), image


def boxes_of_classes(
    code: torch.Tensor, start: torch.Tensor, variances: Sequence[float], size: tuple[int, int]
) -> torch.Tensor:
    """Boxes (N, C, P, 4) for the code (N, P, C * 4) that each of C classes has for the regions start (N, P, 4)."""
    images, places, _ = start.shape
    code = code.reshape(images, places, -1, 4).transpose(1, 2)
    a, b, c, d = variances
    return clip(decode(code, start.unsqueeze(1), (a, b, c, d)), size)
