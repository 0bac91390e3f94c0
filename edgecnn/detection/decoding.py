"""A raw detector head decoded: the network, and behind it what makes boxes of its one tensor.

    raw (N, 4 + C, places) -> corners (N, places, 4), scores (N, C, places) -> select -> boxes, scores, labels, image
    raw (N, boxes, 6)      -> those that score enough

Suppression is class by class, as `select` does it for every detector here. The boxes that stay are cut at the edges of
the picture, as YOLO's own code does it: after suppression, which sees them whole.
Test: tests/test_raw_heads.py (oracle: greedy suppression in numpy).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from edgecnn.detection.boxes import clip, to_corners
from edgecnn.detection.raw import CHOSEN, FIRST, Head, Layout, check_values, layout_of
from edgecnn.detection.select import Detections, Selection, best_of, select
from runtimes.base import BadInput

CANDIDATES = 1000
"""Of a class and image, the best: as many as can matter for 300 answers."""


class DecodeHead(nn.Module):
    """A raw head, laid out as `layout` says, to detections."""

    def __init__(self, head: Head, layout: Layout) -> None:
        super().__init__()
        self.first, self.channels, self.num_classes = FIRST[head.kind], layout.channels, layout.classes or None
        self.chosen, self.best_class = head.kind == CHOSEN, head.best_class
        self.how = Selection(head.score, head.iou, max(CANDIDATES, head.most), head.most)

    def forward(self, raw: torch.Tensor) -> Detections:
        rows = raw if self.channels == 2 else raw.transpose(1, 2)
        if self.chosen:
            return best_of(rows[..., :4], rows[..., 4], rows[..., 5], self.how)
        boxes, scores = to_corners(rows[..., :4]), rows[..., self.first :]
        if self.first == 5:
            scores = scores * rows[..., 4:5]
        if self.best_class:
            scores = torch.where(scores < scores.amax(2, keepdim=True), torch.zeros_like(scores), scores)
        return select(boxes.unsqueeze(1), scores.transpose(1, 2), self.how)


class Decoded(nn.Module):
    """`net`, whose one answer is a raw head, and its decoding."""

    def __init__(self, net: nn.Module, decode: DecodeHead) -> None:
        super().__init__()
        self.net, self.tail, self.num_classes = net, decode, decode.num_classes

    def forward(self, x: torch.Tensor) -> Detections:
        answer = self.net(x)
        boxes, *others = self.tail(answer if isinstance(answer, torch.Tensor) else answer[0])
        return clip(boxes, (x.shape[2], x.shape[3])), *others


def decoded(
    module: nn.Module, head: Head, answer: Any, size: tuple[int, int], classes: int | None, name: str
) -> Decoded:
    """`module`, called `name`, which gave `answer` to a picture of `size`, with its head decoded; raises `BadInput`.

    Of a tuple or list the first counts: YOLOv8's modules answer with (head, feature maps).
    """
    if isinstance(answer, tuple | list) and answer:
        answer = answer[0]
    if not isinstance(answer, torch.Tensor):
        raise BadInput(f"{name}: answers with no tensor, and a {head.kind} head is one; leave decode out")
    layout = layout_of(head, tuple(answer.shape), size, classes, name)
    check_values(head, layout, answer.detach().numpy(), name)
    return Decoded(module, DecodeHead(head, layout)).eval()
