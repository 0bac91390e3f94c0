"""What a network is for, by what it answers to one picture, and what that leaves open.

    (N, K), (N,)            what its code says, else classification        (edgecnn/meaning.py looks closer)
    any other               regression where its code says so
    (N, 1 or 3, H, W)       image where its code says so
    (N, K, h, w), (N, 2 K)  keypoints where its code says so
    (N, K, H, W)            segmentation where its code says so
    boxes, scores, ...      detection
    anything else           other

Test: tests/test_sources.py, tests/test_detection_road.py.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from edgecnn.networks.spec import Blueprint, Shape
from edgecnn.tasks import IMAGE, KEYPOINTS, MULTI_LABEL, NUMBERS, OTHER
from runtimes.comparing.matching import NAMES as DETECTIONS
from runtimes.comparing.matching import is_detections
from runtimes.comparing.two_classes import class_count, is_single
from runtimes.imaging.answered import is_picture
from runtimes.imaging.keypoints import count_of_points, is_points
from runtimes.imaging.maps import Seen, count_of, is_map


def task_of(plan: Blueprint, module: nn.Module, answer: Any, shape: Shape | None = None) -> tuple[str, int | None]:
    """(task, number of classes) of a network that gave `answer` (to one picture): what it says counts, not its plan."""
    rank = answer.ndim if isinstance(answer, torch.Tensor) else None
    if plan.task == IMAGE:
        fits = rank is not None and is_picture(answer.shape[1:])
        return (IMAGE, None) if fits else (OTHER, None)
    if plan.task == KEYPOINTS:
        sizes = () if rank is None else tuple(answer.shape[1:])
        return (KEYPOINTS, count_of_points(sizes, Seen.of(shape or ()))) if is_points(sizes) else (OTHER, None)
    if plan.task in NUMBERS and not (plan.task == MULTI_LABEL and rank not in (1, 2)):
        return plan.task, int(answer.shape[1]) if rank == 2 else None
    whole = rank is not None and not answer.is_floating_point()
    if (rank in (1, 2) and plan.task not in ("detection", "segmentation")) or (
        plan.task == "segmentation" and rank == 4 and not whole and is_single(answer.shape)
    ):
        return plan.task, class_count(answer.shape)
    if plan.task == "segmentation" and (rank == 4 or (rank is not None and is_map(answer.shape[1:], whole))):
        return plan.task, count_of(answer.shape[1:], whole, Seen.of(shape or ()))
    values = [v.detach().numpy() for v in pytree.tree_leaves(answer) if isinstance(v, torch.Tensor)]
    if len(values) == len(DETECTIONS) and is_detections(dict(zip(DETECTIONS, values, strict=True))):
        found = getattr(module, "num_classes", None)
        return "detection", found if isinstance(found, int) else None
    return OTHER, None


def maps_of(answer: Any, shape: Shape) -> int | None:
    """Channels of an `answer` (N, channels, H, W) as large as the picture of `shape`; None for any other answer."""
    if not isinstance(answer, torch.Tensor) or answer.ndim != 4 or answer.shape[2:] != shape[1:]:
        return None
    return int(answer.shape[1])
