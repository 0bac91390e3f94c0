"""The last step of every detector here: from a box and a score for every place to the few detections of an image.

    for each image and class     the `candidates` best scores -> greedy suppression of what overlaps by more than `iou`
    for each image               of all classes the `keep` best, sorted by falling score

in standard ONNX operators only: TopK -> NonMaxSuppression (each image and class as a batch entry of its own, so that
classes never suppress each other and may have boxes of their own) -> a table of the scores that stay -> TopK ->
NonZero. The number of detections is dynamic, also zero; equal scores are ordered by class, then by place, everywhere.

Only scores above `low` can become detections, and of thousands of places a trained network has few. Sorting, gathering
and the table therefore have only as many columns as the class with most of them needs, instead of `candidates`.

Source: Liu et al. 2016, section 2.2 and its code (400 candidates, 200 kept). Test: tests/test_detection_select.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from edgecnn.detection.ops import non_max_suppression, top_k_above, where_true

Detections = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
"""boxes (M, 4) as corners in pixels of the input, scores (M,), labels (M,) int64, image (M,) int64."""

OUTPUTS = ("boxes", "scores", "labels", "image")


@dataclass(frozen=True)
class Selection:
    """`low`: scores must be above it. `candidates` per class and image, `keep` per image."""

    low: float
    iou: float
    candidates: int
    keep: int


def select(boxes: torch.Tensor, scores: torch.Tensor, how: Selection) -> Detections:
    """Detections of boxes (N, C, P, 4), or (N, 1, P, 4) where classes share them, and scores (N, C, P)."""
    images, classes, _ = scores.shape
    best, at = top_k_above(scores, how.candidates, how.low)
    count = best.shape[2]
    chosen = _boxes_at(boxes, at).reshape(images * classes, count, 4)
    rows = best.reshape(images * classes, 1, count)
    picked = non_max_suppression(chosen, rows, how.candidates, how.iou, how.low)
    stays = picked[:, 0] * count + picked[:, 2]
    flat = best.reshape(-1)
    table = torch.zeros_like(flat).scatter(0, stays, flat.index_select(0, stays))
    return _best(table.reshape(images, classes * count), chosen.reshape(-1, 4), classes, how)


def best_of(boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor, how: Selection) -> Detections:
    """Detections of boxes (N, P, 4), scores (N, P) and labels (N, P), whole floats, that a network chose itself:
    nothing is suppressed.
    """
    labelled = torch.cat([boxes, labels.unsqueeze(2)], 2).reshape(-1, 5)
    rows, found, _, image = _best(scores, labelled, 1, how)
    return rows[:, :4], found, rows[:, 4].round().to(torch.int64), image


def _boxes_at(boxes: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Boxes (N, C, k, 4) at the places `at` (N, C, k) of boxes (N, C or 1, P, 4)."""
    images, shared, places, _ = boxes.shape
    groups = torch.arange(images * shared, device=at.device).reshape(images, shared, 1) * places
    index = (at + groups).reshape(-1)
    return boxes.reshape(-1, 4).index_select(0, index)


def _best(table: torch.Tensor, boxes: torch.Tensor, classes: int, how: Selection) -> Detections:
    """The `keep` best scores of each row of table (N, classes * count); boxes (N * classes * count, 4), or with more
    behind the corners, belong to it.
    """
    images, columns = table.shape
    count = columns // classes
    scores, at = top_k_above(table, how.keep, how.low)
    found = where_true((scores > how.low).reshape(-1))
    image = torch.arange(images, device=table.device).unsqueeze(1).expand_as(at)
    row = (at + image * columns).reshape(-1).index_select(0, found)
    label = torch.arange(classes, device=table.device).unsqueeze(1).expand(classes, count).reshape(-1)
    labels = label.index_select(0, at.reshape(-1).index_select(0, found))
    picked = scores.reshape(-1).index_select(0, found), labels, image.reshape(-1).index_select(0, found)
    return boxes.index_select(0, row), *picked
