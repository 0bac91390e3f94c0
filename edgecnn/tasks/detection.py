"""Boxes with classes: mean average precision, mAP@[.5:.95] (its parts: edgecnn/evaluation/average_precision.py).

A network answers with four flat outputs, sorted by image: `boxes` (M, 4) as x1, y1, x2, y2 in pixels of its input,
`scores` (M,) in 0..1, `labels` (M,) and `image` (M,), the index into the batch. Boxes with NaN or infinity are no
answer. Two networks agree on a box when both find it, in the same class, and one of them is sure of it: the share is
the mean over how much the two must overlap, IoU 0.5 to 0.95 in steps of 0.05, as mAP is: boxes that move cost mAP too.
Test: tests/test_task_detection.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn.data.moves import area, flip_images, flip_target, flips, shift_images, shift_target, shifts
from edgecnn.data.samples import Samples, Target
from edgecnn.evaluation import scores
from edgecnn.evaluation.average_precision import Found, Precision, average_precision, of_each, weighted_means
from edgecnn.evaluation.class_numbers import numbers_of
from edgecnn.evaluation.scores import Agreement, Difference, Score
from runtimes.base import Array, BadInput, Runner, Tensors, Track, silent

if TYPE_CHECKING:
    import torch
    from torch import nn

METRIC = "mAP@[.5:.95]"
RATE = 0.1
SMOOTHED = False
OUTPUTS = ("boxes", "scores", "labels", "image")
WANTED = "give a folder as COCO, PASCAL VOC or YOLO have it, or x, boxes, box_labels and box_image in an .npz"
TRAINABLE = ("ssd300_vgg16", "ssd_mobilenet_v1", "ssd_tiny", "ssdlite_mobilenet_v2")
"""The zoo's detectors that bring a loss; the others wait for weights from elsewhere."""
SURE, UNSURE = 0.3, 0.2
"""A box that one network is sure of may be one of which the other is a little less sure."""
SAME_BOX = np.linspace(0.5, 0.95, 10)
ROUNDING = 1e-9


def has_answers(samples: Samples) -> bool:
    return samples.targets is not None


def score(runner: Runner, samples: Samples, input_name: str, batch: int = 32, track: Track = silent) -> Score:
    """mAP of `runner` on `samples` with boxes; `details`: `map50`, and `ap` by class (None: no true box)."""
    if samples.targets is None:
        raise BadInput(f"{samples.name}: has no boxes; {WANTED}")
    wanted = list(samples.targets)  # first, so that a damaged file is told before minutes of work
    found: list[Found] = []
    for feed in track(samples.feeds(input_name, batch), "evaluating"):
        found += detect(runner, feed)

    def measured(answers: Sequence[Found]) -> Precision:
        return average_precision(answers, wanted, classes_of(samples, wanted, answers), track)

    numbers = numbers_of(found, samples, lambda answers: measured(answers).mean)
    precision = measured(numbers.taken.of(found))
    classes = precision.at.shape[1]
    if np.isnan(precision.at).all():
        raise BadInput(f"{samples.name}: none of its images has a box; nothing can be found in it")
    names = [*samples.class_names, *map(str, range(len(samples.class_names), classes))]
    by_class = precision.at.mean(axis=0)
    details = {
        "map50": precision.mean_50,
        "ap": {n: None if np.isnan(v) else float(v) for n, v in zip(names, by_class, strict=True)},
    }

    return Score(
        METRIC, precision.mean, len(wanted), details, lambda weights: weighted_means(precision.matches, weights),
        numbers.to_dict(), each=lambda: of_each(precision.matches, len(wanted)),
    )  # fmt: skip


def classes_of(samples: Samples, wanted: Sequence[Target], found: Sequence[Found]) -> int:
    """One more than the largest class that is named, true or answered."""
    labels = [*(target.labels for target in wanted), *(answer.labels for answer in found)]
    largest = max((int(each.max(initial=-1)) for each in labels), default=-1)
    return max(largest + 1, len(samples.class_names), 1)


def detect(runner: Runner, feed: Tensors) -> list[Found]:
    """What `runner` finds in each image of a batch; raises `BadInput` for outputs that are no detections."""
    ((boxes, confidence, labels, image),) = scores.answers(runner, [feed], OUTPUTS)
    count = len(boxes)
    if boxes.shape != (count, 4) or not (confidence.shape == labels.shape == image.shape == (count,)):
        shapes = ", ".join(
            f"{n} {list(v.shape)}" for n, v in zip(OUTPUTS, (boxes, confidence, labels, image), strict=True)
        )
        raise BadInput(f"outputs: {shapes}; detection needs (M, 4) and three times (M,)")
    usable = np.isfinite(boxes).all(axis=1) & np.isfinite(confidence)
    return [
        Found(boxes[here], confidence[here], labels[here].astype(np.int64))
        for here in (usable & (image == i) for i in range(scores.rows(feed)))
    ]


def drop(reference: Score, candidate: Score, seed: int = 0, track: Track = silent) -> Difference:
    """mAP lost by `candidate`, with the bootstrap interval over images."""
    return scores.bootstrap(reference, candidate, seed, track=track)


# ------------------------------------------------------------------------------------------------------------ agreement
def agreement(reference: Runner, candidate: Runner, feeds: Sequence[Tensors], track: Track = silent) -> Agreement:
    """Share of boxes, of those that either network is sure of, that the other one finds too, the mean over `SAME_BOX`;
    1 where there are none.
    """
    same, total, images = 0.0, 0, 0
    for feed in track(feeds, "comparing"):
        for ours, theirs in zip(detect(reference, feed), detect(candidate, feed), strict=True):
            same += common(ours, theirs) + common(theirs, ours)
            total += int((ours.scores >= SURE).sum() + (theirs.scores >= SURE).sum())
            images += 1
    return Agreement(same / total if total else 1.0, images)


def common(ours: Found, theirs: Found) -> float:
    """How many of our sure boxes are among theirs, the mean over `SAME_BOX`: each, best first, takes the free box that
    overlaps it most.
    """
    overlap = np.where(theirs.labels == ours.labels[:, None], box_iou(ours.boxes, theirs.boxes), 0.0)
    free = np.tile(theirs.scores >= UNSURE, (len(SAME_BOX), 1))
    count = 0
    for i in np.argsort(-ours.scores, kind="stable"):
        if ours.scores[i] < SURE:
            break
        fits = np.where(free, overlap[i], 0.0)
        taken = np.flatnonzero(fits.max(axis=1, initial=0.0) >= SAME_BOX - ROUNDING)
        if len(taken):
            free[taken, fits[taken].argmax(axis=1)] = False
        count += len(taken)
    return count / len(SAME_BOX)


def box_iou(a: Array, b: Array) -> Array:
    """Intersection over union of boxes (n, 4) and (m, 4): (n, m); 0 for boxes without area."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.prod(np.maximum(high - low, 0), axis=2)
    either = area(a)[:, None] + area(b)[None] - both
    return np.asarray(np.divide(both, either, out=np.zeros_like(both), where=either > 0))


# ------------------------------------------------------------------------------------------------------------- learning
def answers(samples: Samples, picked: Array) -> list[Target]:
    assert samples.targets is not None
    return [samples.targets[int(i)] for i in picked]


def augment(
    images: Array, targets: Sequence[Target], order: np.random.Generator, flip: bool
) -> tuple[Array, list[Target]]:
    """Images and boxes moved together by up to 1/16 of their size and, where `flip` allows, half of them mirrored."""
    down, right = shifts(images.shape, order)
    height, width = images.shape[2:]
    images = shift_images(images, down, right)
    moved = [shift_target(t, int(y), int(x), (height, width)) for t, y, x in zip(targets, down, right, strict=True)]
    if not flip:
        return images, moved
    chosen = flips(len(images), order)
    return flip_images(images, chosen), [flip_target(t, width) if f else t for t, f in zip(moved, chosen, strict=True)]


def require_loss(module: nn.Module, name: str) -> None:
    """Raise `BadInput` for a detector that cannot say what its raw answers cost."""
    if not callable(getattr(module, "loss", None)):
        can = ", ".join(TRAINABLE)
        raise BadInput(f"{name}: brings no loss(raw, targets) to be trained with; of the zoo's detectors {can} do")


def loss(module: nn.Module, images: torch.Tensor, targets: Sequence[Target], smoothing: float) -> torch.Tensor:
    """The detector's own: `module.loss(raw, targets)` of its raw heads; labels are not smoothed."""
    import torch

    wanted: list[dict[str, Any]] = [
        {"boxes": torch.from_numpy(t.boxes[~t.crowd]), "labels": torch.from_numpy(t.labels[~t.crowd])} for t in targets
    ]
    result: torch.Tensor = module.loss(module(images), wanted)  # type: ignore[operator]
    return result
