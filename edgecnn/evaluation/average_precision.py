"""Mean average precision of boxes: matched and summed up by pycocotools, taken apart so that images can be resampled.

    boxes of a class, best score first, each matched to the free true box of largest IoU >= t (else false)
    precision p(k) = right among the first k / k         recall r(k) = right among the first k / true boxes
    AP = mean over r in 0, 0.01 .. 1 of max { p(k) : r(k) >= r }                        mAP = mean over classes and t

t is 0.5 (mAP@0.5), or each of 0.5, 0.55 .. 0.95 (mAP@[.5:.95]). Of each class in an image the 100
best boxes count, as pycocotools has it (its maxDets).
What lies in a crowd (IoU: common area / area of the detection) is neither right nor wrong. The same holds for what lies
on an object that PASCAL VOC calls difficult (IoU as of any other), however often it is found.
Source: Lin et al. 2014; `cocoeval.py` of pycocotools, which only this file imports; VOC's devkit, `VOCevaldet.m`.
Test: tests/test_average_precision.py.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecnn.data.samples import Target
from runtimes.base import Array, Unavailable

MOST_BOXES = 100
RECALLS = np.linspace(0.0, 1.0, 101)
THRESHOLDS = np.linspace(0.5, 0.95, 10)


@dataclass(frozen=True)
class Found:
    """What a network found in one image: `boxes` (n, 4) as x1, y1, x2, y2, `scores` (n,), `labels` int64 (n,)."""

    boxes: Array
    scores: Array
    labels: Array


@dataclass(frozen=True)
class Matches:
    """One class over all images, the best score first: bool `right` and `counts` (T, D), the image of each box (D,);
    `wanted` int64 (N,) true boxes in each image.
    """

    right: Array
    counts: Array
    image: Array
    wanted: Array


@dataclass(frozen=True)
class Precision:
    """`at` (T, K): average precision by threshold and class, NaN for classes without a true box."""

    at: Array
    matches: tuple[Matches, ...]

    @property
    def mean(self) -> float:
        return float(np.nanmean(self.at))

    @property
    def mean_50(self) -> float:
        return float(np.nanmean(self.at[0]))


def average_precision(found: Sequence[Found], wanted: Sequence[Target], classes: int) -> Precision:
    """mAP of what was `found` in images where `wanted` is true; raises `Unavailable` without pycocotools."""
    evaluator = _evaluate(found, wanted, classes)
    precision = evaluator.eval["precision"][:, :, :, 0, 0]  # (T, R, K) at the only area range and number of boxes
    at = np.where(precision[:, 0] < 0, np.nan, precision.mean(axis=1))
    images = len(found)
    entries = [evaluator.evalImgs[k * images : (k + 1) * images] for k in range(classes)]
    return Precision(at, tuple(map(_matches, entries)))


def _evaluate(found: Sequence[Found], wanted: Sequence[Target], classes: int) -> Any:
    try:
        from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]
    except ImportError as error:
        raise Unavailable("pycocotools: is not installed, mAP needs it; run `pip install pycocotools`") from error

    class Evaluator(COCOeval):  # type: ignore[misc]
        def computeIoU(self, image: int, label: int) -> Any:
            """The overlaps; from here on difficult objects are ignored and may be found more than once, as crowds."""
            overlaps = super().computeIoU(image, label)
            for entry in self._gts[image, label]:
                entry["iscrowd"] = entry["ignore"] = entry["iscrowd"] or entry["difficult"]
            return overlaps

    with contextlib.redirect_stdout(io.StringIO()):  # it reports its own progress there
        evaluator = Evaluator(_truth(wanted, classes), _answers(found, classes), "bbox")
        evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluator.params.maxDets = [MOST_BOXES]
        evaluator.params.recThrs, evaluator.params.iouThrs = RECALLS, THRESHOLDS
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator


def _truth(wanted: Sequence[Target], classes: int) -> Any:
    rows = [
        (i, box, label, {"iscrowd": int(crowd), "difficult": int(difficult)})
        for i, target in enumerate(wanted)
        for box, label, crowd, difficult in zip(*target, strict=True)
    ]
    return _coco(rows, len(wanted), classes)


def _answers(found: Sequence[Found], classes: int) -> Any:
    rows = [
        (i, box, label, {"iscrowd": 0, "score": float(score)})
        for i, answer in enumerate(found)
        for box, score, label in zip(answer.boxes, answer.scores, answer.labels, strict=True)
    ]
    return _coco(rows, len(found), classes)


def _coco(rows: Sequence[tuple[int, Array, int, Mapping[str, Any]]], images: int, classes: int) -> Any:
    """pycocotools' own record of boxes. Numbers of boxes start at 1: it takes a match with number 0 for none."""
    from pycocotools.coco import COCO  # type: ignore[import-untyped]

    annotations = []
    for number, (image, (x1, y1, x2, y2), label, more) in enumerate(rows, start=1):
        width, height = float(x2 - x1), float(y2 - y1)
        annotations.append(
            {"id": number, "image_id": image, "category_id": int(label), "bbox": [float(x1), float(y1), width, height],
             "area": width * height, **more}
        )  # fmt: skip
    record = COCO()
    record.dataset = {
        "images": [{"id": i} for i in range(images)],
        "categories": [{"id": k} for k in range(classes)],
        "annotations": annotations,
    }
    record.createIndex()
    return record


def _matches(entries: Sequence[Mapping[str, Any] | None]) -> Matches:
    """The images of one class put together, sorted as pycocotools sorts them (equal scores in the order of images)."""
    known = [(i, entry) for i, entry in enumerate(entries) if entry is not None]
    wanted = np.zeros(len(entries), np.int64)
    for i, entry in known:
        wanted[i] = int((np.asarray(entry["gtIgnore"]) == 0).sum())
    scores = np.concatenate([np.asarray(e["dtScores"], float) for _, e in known] or [np.zeros(0)])
    order = np.argsort(-scores, kind="mergesort")
    image = np.concatenate([np.full(len(e["dtScores"]), i) for i, e in known] or [np.zeros(0, int)])[order]
    shape = (len(THRESHOLDS), 0)
    hit = np.concatenate([np.asarray(e["dtMatches"]) > 0 for _, e in known] or [np.zeros(shape, bool)], axis=1)
    ignored = np.concatenate([np.asarray(e["dtIgnore"]) > 0 for _, e in known] or [np.zeros(shape, bool)], axis=1)
    return Matches((hit & ~ignored)[:, order], ~ignored[:, order], image.astype(np.int64), wanted)


def weighted_mean(matches: Sequence[Matches], weights: Array) -> float:
    """mAP@[.5:.95] where image i counts weights[i] times; NaN where no image that counts has a true box."""
    values = [class_precision(m, weights) for m in matches]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")


def class_precision(matches: Matches, weights: Array) -> Array | None:
    """Average precision (T,) of one class; None without a true box in the images that count."""
    total = float(weights @ matches.wanted)
    if total <= 0:
        return None
    each = weights[matches.image]
    right, counted = np.cumsum(matches.right * each, axis=1), np.cumsum(matches.counts * each, axis=1)
    precision = np.divide(right, counted, out=np.zeros_like(right, dtype=float), where=counted > 0)
    best_after = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return np.array([_interpolated(r / total, p) for r, p in zip(right, best_after, strict=True)])


def _interpolated(recall: Array, precision: Array) -> float:
    """Mean of `precision` (D,) where `recall` (D,) first reaches each of 101 levels; 0 where it never does."""
    place = np.searchsorted(recall, RECALLS, side="left")
    return float(np.append(precision, 0.0)[np.minimum(place, len(recall))].mean())
