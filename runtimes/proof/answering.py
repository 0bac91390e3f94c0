"""What a network's outputs say of the images that it was fed, by the task of its bundle: one image, or each of a batch.

    (1, ...)                      --answer-->    Prediction | MaskPrediction | BoxesPrediction | ...
    (N, ...)                      --answers-->   one for each image, from its row
    boxes (M, 4), image (M,)      --answers-->   one for each image, from the boxes that are said to be in it

An answer for one image out of the outputs of several would be that for the first, whatever it was asked for: it is
refused. What the outputs mean is told in runtimes/proof/answers.py. Test: tests/test_answering.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from runtimes.base import Array, BadInput, Tensors, counted
from runtimes.bundle import Bundle
from runtimes.comparing.matching import is_detections
from runtimes.comparing.two_classes import as_two, is_single
from runtimes.imaging.answered import is_picture, pixels_of
from runtimes.imaging.keypoints import is_points, points_of
from runtimes.imaging.maps import Seen, is_map, is_whole
from runtimes.imaging.shown import Shown
from runtimes.proof.answers import (
    EMBEDDING,
    IMAGE,
    KEYPOINTS,
    MULTI_LABEL,
    REGRESSION,
    TASKS,
    AnyPrediction,
    LabelsPrediction,
    PicturePrediction,
    Prediction,
    best,
    boxes_of,
    labels_of,
    mask_of,
    name_of,
    numbers_of,
    require_finite,
)
from runtimes.proof.points import Point, PointsPrediction

DETECTION = "detection"
APART = "feed the images one by one"


def answer(bundle: Bundle, image: Shown, outputs: Tensors, top: int, min_score: float) -> AnyPrediction:
    """What the outputs for one image say; the manifest is not hashed and may say what it wants, so they are asked.

    Raises `BadInput` where they are of several, and where they are not what the task of `bundle` says.
    """
    first = next(iter(outputs.values()))
    if bundle.task == DETECTION:
        if not is_detections(outputs):
            require_answers(bundle, first.shape, False)
        _require_one(bundle, image, outputs)
        return boxes_of(image.name, outputs, image.geometry(), bundle.labels, min_score)
    require_answers(bundle, first.shape, whole=is_whole(first.dtype))
    _require_one(bundle, image, outputs)
    if is_numbers(bundle):
        return numbers_of(image.name, outputs, bundle.labels)
    if bundle.task == IMAGE:
        require_finite(image.name, first)
        return PicturePrediction(image.name, pixels_of(first[0], bundle.preprocess, image.part()))
    if bundle.task == KEYPOINTS:
        return _points(bundle, image, first[0])
    if bundle.task == MULTI_LABEL:
        return LabelsPrediction(image.name, labels_of(first[0], bundle.labels, bundle.sigmoid, image.name))
    scores = as_two(first, bundle.sigmoid)[0]
    if bundle.task == "segmentation":
        ready = bundle.preprocess
        seen = Seen(ready.size, ready.channels_last) if ready is not None else Seen()
        return mask_of(image.name, scores, image.geometry(), bundle.labels, seen)
    return Prediction(image.name, best(scores, bundle.labels, top, image.name))


def _points(bundle: Bundle, image: Shown, output: Array) -> PointsPrediction:
    """The points that one `output`, without the batch, says, in pixels of the original image."""
    require_finite(image.name, output)
    ready, geometry = bundle.preprocess, image.geometry()
    seen = Seen(geometry.size, ready is not None and ready.channels_last)
    found = points_of(output, seen, ready.answer_range if ready is not None else None)
    found[:, :2] = geometry.points_to_image(found[:, :2])
    told = [
        Point(name_of(bundle.labels, i), x, y, score if output.ndim == 3 else None)
        for i, (x, y, score) in enumerate(found.tolist())
    ]
    return PointsPrediction(image.name, tuple(told))


def answers(
    bundle: Bundle, images: Sequence[Shown], outputs: Tensors, top: int, min_score: float
) -> list[AnyPrediction]:
    """What the outputs for a batch say of each of its `images`, which are in its order; raises `BadInput` where it
    cannot be told whose they are.
    """
    parts = _by_boxes if bundle.task == DETECTION and is_detections(outputs) else _by_rows
    found = parts(bundle, outputs, len(images))
    return [answer(bundle, image, part, top, min_score) for image, part in zip(images, found, strict=True)]


def _by_boxes(bundle: Bundle, outputs: Tensors, count: int) -> Iterator[Tensors]:
    """The boxes of each of `count` images, as a network that was fed it alone would give them."""
    whose = outputs["image"]
    strange = whose[~np.isin(whose, np.arange(count))]
    if len(strange):
        raise BadInput(f"{bundle.path}: has boxes in image {strange[0]} of {count}; {APART}")
    for i in range(count):
        mine = {name: value[whose == i] for name, value in outputs.items()}
        yield {**mine, "image": np.zeros_like(mine["image"])}


def _by_rows(bundle: Bundle, outputs: Tensors, count: int) -> Iterator[Tensors]:
    """The rows of each of `count` images, of all outputs that its answer is made of."""
    told = dict(outputs) if is_numbers(bundle) else dict([next(iter(outputs.items()))])
    for name, value in told.items():
        if value.ndim == 0 or len(value) != count:
            rows = f"{list(value.shape)} for {counted(count, 'image')}"
            raise BadInput(f"{bundle.path}: output {name} is {rows}, which cannot be told apart; {APART}")
    for i in range(count):
        yield {name: value[i : i + 1] for name, value in told.items()}


def _require_one(bundle: Bundle, image: Shown, outputs: Tensors) -> None:
    """Raise `BadInput` for outputs of another number of images than one, as far as these tell."""
    if bundle.task == DETECTION:
        several = "several images" if (outputs["image"] != 0).any() else ""
    else:
        first = next(iter(outputs.values()))
        count = len(first) if first.ndim and (_a_row_each(bundle) or not is_numbers(bundle)) else 1
        several = counted(count, "image") if count != 1 else ""
    if several:
        raise BadInput(f"{image.name}: the outputs are of {several}; `answers` takes those of a batch")


def _a_row_each(bundle: Bundle) -> bool:
    """Whether the first output has as many rows as images are fed, by the name that its size has."""
    sizes = [entry.get("shape") for entry in (bundle.manifest["output"], bundle.inputs[0])]
    rows = [shape[0] for shape in sizes if isinstance(shape, list) and shape]
    return len(rows) == len(sizes) and isinstance(rows[0], str) and rows[0] == rows[1]


def require_answers(bundle: Bundle, shape: Sequence[object], good: bool = True, whole: bool = False) -> None:
    """Raise `BadInput` unless a first output of `shape` is what the task of `bundle` says: a score for each class or
    label, the same for each pixel, or (told by `good`) boxes; numbers may have any shape.
    """
    fits = {
        "classification": ("classes", len(shape) in (1, 2)),
        "segmentation": ("a mask", is_map(shape[1:], whole) or (len(shape) == 4 and is_single(shape))),
        "detection": ("boxes", len(shape) == 2 and shape[1] == 4),
        MULTI_LABEL: ("labels", len(shape) == 2),
        IMAGE: ("a picture", is_picture(shape[1:])),
        KEYPOINTS: ("points", is_points(shape[1:])),
    }
    what, shaped = fits.get(bundle.task, ("numbers", True))
    if not (good and shaped):
        sizes = f"[{', '.join(map(str, shape))}]"
        way = "use runtimes.bundle.open_bundle(...).session()"
        raise BadInput(f"{bundle.path}: answers with {sizes}, not with {what}; {way}")


def is_numbers(bundle: Bundle) -> bool:
    """Whether its answers are numbers as they are: what the network's task says, or nobody knows more of them."""
    return bundle.task in (REGRESSION, EMBEDDING) or bundle.task not in TASKS
