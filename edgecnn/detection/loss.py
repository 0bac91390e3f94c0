"""The multibox loss of SSD: which box answers for which object, and what a wrong answer costs.

    match     an object's best box, and every box with IoU >= 1/2, answer for it; all others are background
    loss      ( sum over matched boxes: smooth L1 of code - target
              + sum over matched boxes and the 3 x as many background boxes that are wrong most: cross-entropy )
              / number of matched boxes

Nearly all boxes are background. Without the choice of the hardest ("hard negative mining") their sheer number would
teach the network to say background everywhere.
Source: Liu et al. 2016, section 2.2. Test: tests/test_detection_loss.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional

from edgecnn.detection.boxes import encode, iou

BACKGROUND = 0
MATCH_IOU = 0.5
NEGATIVES_PER_POSITIVE = 3

Targets = Sequence[Mapping[str, torch.Tensor]]
"""For each image: `boxes` (n, 4) corners in pixels of the input, `labels` (n,) int64, counted from 0; n may be 0."""


def match(anchors: torch.Tensor, objects: torch.Tensor) -> torch.Tensor:
    """int64 (P,): the object (of n) for which each of anchors (P, 4) answers, or -1; objects (n, 4), all corners.

    Every object gets its best anchor, also below the limit; of two objects with the same best anchor the later wins.
    """
    if not len(objects):
        return torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
    table = iou(anchors, objects)
    best, owner = table.max(1)
    owner = owner.masked_fill(best < MATCH_IOU, -1)
    owner[table.argmax(0)] = torch.arange(len(objects), device=anchors.device)
    return owner


def multibox_loss(
    logits: torch.Tensor,
    code: torch.Tensor,
    anchors: torch.Tensor,
    targets: Targets,
    variances: tuple[float, float, float, float],
) -> torch.Tensor:
    """Scalar loss of logits (N, P, 1 + classes), code (N, P, 4) at anchors (P, 4) for the objects in N `targets`."""
    classes, wanted = zip(*(_targets(anchors, target, variances) for target in targets), strict=True)
    truth = torch.stack(classes)
    positive = truth != BACKGROUND
    place = functional.smooth_l1_loss(code[positive], torch.stack(wanted)[positive], reduction="sum")
    entropy = functional.cross_entropy(logits.flatten(0, 1), truth.flatten(), reduction="none").view_as(truth)
    chosen = positive | hardest(entropy.detach(), positive)
    return (place + (entropy * chosen).sum()) / positive.sum().clamp(min=1)


def _targets(
    anchors: torch.Tensor, target: Mapping[str, torch.Tensor], variances: tuple[float, float, float, float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(class of each anchor (P,), 0 for background; code that each should give (P, 4)) for one image."""
    owner = match(anchors, target["boxes"])
    if not len(target["boxes"]):
        return torch.zeros_like(owner), torch.zeros_like(anchors)
    labels = torch.where(owner >= 0, target["labels"][owner] + 1, BACKGROUND)
    return labels, encode(target["boxes"][owner], anchors, variances)


def hardest(entropy: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """bool (N, P): of each image's background boxes those that cost most, three for each of its matched boxes."""
    cost = entropy.masked_fill(positive, -torch.inf)
    rank = torch.argsort(cost, dim=1, descending=True, stable=True).argsort(dim=1)
    limit = (NEGATIVES_PER_POSITIVE * positive.sum(1, keepdim=True)).clamp(max=positive.shape[1])
    return (rank < limit) & ~positive
