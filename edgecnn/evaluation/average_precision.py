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
import copy
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from edgecnn.data.samples import Target
from edgecnn.evaluation.scores import mean_of_known
from runtimes.base import Array, Track, Unavailable, silent

MOST_BOXES = 100
RECALLS = np.linspace(0.0, 1.0, 101)
THRESHOLDS = np.linspace(0.5, 0.95, 10)
TINY = np.finfo(np.float64).tiny
BLOCK = 200
"""Images that are matched between two looks at the clock."""
MOST_AT_ONCE = 2_000_000
"""Weights of boxes in one block of draws: 16 MB."""


@dataclass(frozen=True)
class Found:
    """What a network found in one image: `boxes` (n, 4) as x1, y1, x2, y2, `scores` (n,), `labels` int64 (n,)."""

    boxes: Array
    scores: Array
    labels: Array


@dataclass(frozen=True)
class Places:
    """Where in the order of a class, for each threshold, the `right` boxes are and those that are `neither` right nor
    wrong; none of what comes from `last` on is right at any.
    """

    right: tuple[Array, ...]
    neither: tuple[Array, ...]
    last: int


@dataclass(frozen=True)
class Matches:
    """One class over all images, the best score first: bool `right` and `counts` (T, D), the image of each box (D,);
    `wanted` int64 (N,) true boxes in each image.
    """

    right: Array
    counts: Array
    image: Array
    wanted: Array

    @cached_property
    def places(self) -> Places:
        right = tuple(map(np.flatnonzero, self.right))
        last = max((int(each[-1]) + 1 for each in right if len(each)), default=0)
        return Places(right, tuple(np.flatnonzero(~counts[:last]) for counts in self.counts), last)


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


def average_precision(
    found: Sequence[Found], wanted: Sequence[Target], classes: int, track: Track = silent
) -> Precision:
    """mAP of what was `found` in images where `wanted` is true; raises `Unavailable` without pycocotools."""
    evaluator = _evaluate(found, wanted, classes, track)
    precision = evaluator.eval["precision"][:, :, :, 0, 0]  # (T, R, K) at the only area range and number of boxes
    at = np.where(precision[:, 0] < 0, np.nan, precision.mean(axis=1))
    images = len(found)
    entries = [evaluator.evalImgs[k * images : (k + 1) * images] for k in range(classes)]
    return Precision(at, tuple(map(_matches, entries)))


def _evaluate(found: Sequence[Found], wanted: Sequence[Target], classes: int, track: Track) -> Any:
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

        def evaluate(self) -> None:
            """As in pycocotools, class by class, without the pairs of class and image that have no box."""
            self._prepare()
            area, most = self.params.areaRng[0], self.params.maxDets[-1]
            known, self.evalImgs = self._gts.keys() | self._dts.keys(), []
            blocks = [range(i, min(i + BLOCK, len(found))) for i in range(0, len(found), BLOCK)]
            for label, block in track([(label, b) for label in range(classes) for b in blocks], "matching boxes"):
                self.ious = {(i, label): self.computeIoU(i, label) for i in block if (i, label) in known}
                self.evalImgs += [
                    self.evaluateImg(i, label, area, most) if (i, label) in known else None for i in block
                ]
            self._paramsEval = copy.deepcopy(self.params)

    boxes = _answers(found, track)
    with contextlib.redirect_stdout(io.StringIO()):  # it reports its own progress there
        truth, answers = (_coco(each, len(found), classes) for each in (_truth(wanted), boxes))
        evaluator = Evaluator(truth, answers, "bbox")
        evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluator.params.maxDets = [MOST_BOXES]
        evaluator.params.recThrs, evaluator.params.iouThrs = RECALLS, THRESHOLDS
    evaluator.evaluate()
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.accumulate()
    return evaluator


def _truth(wanted: Sequence[Target]) -> list[dict[str, Any]]:
    made = list[dict[str, Any]]()
    for i, target in enumerate(wanted):
        for box, label, crowd, difficult in zip(*target, strict=True):
            made.append(_entry(len(made), i, box, label, iscrowd=int(crowd), difficult=int(difficult)))
    return made


def _answers(found: Sequence[Found], track: Track) -> list[dict[str, Any]]:
    made = list[dict[str, Any]]()
    for i, answer in enumerate(track(found, "listing boxes")):
        for box, score, label in zip(answer.boxes, answer.scores, answer.labels, strict=True):
            made.append(_entry(len(made), i, box, label, iscrowd=0, score=float(score)))
    return made


def _entry(place: int, image: int, box: Array, label: int, **more: float) -> dict[str, Any]:
    """A box as pycocotools records it. Numbers of boxes start at 1: it takes a match with number 0 for none."""
    x1, y1, x2, y2 = box
    width, height = float(x2 - x1), float(y2 - y1)
    corner = [float(x1), float(y1), width, height]
    return {
        "id": place + 1,
        "image_id": image,
        "category_id": int(label),
        "bbox": corner,
        "area": width * height,
    } | more


def _coco(annotations: Sequence[Mapping[str, Any]], images: int, classes: int) -> Any:
    """pycocotools' own record of boxes."""
    from pycocotools.coco import COCO  # type: ignore[import-untyped]

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


def weighted_means(matches: Sequence[Matches], weights: Array) -> Array:
    """float64 (R,): mAP@[.5:.95] where image i counts weights[:, i] times, (R, N); NaN where no image that counts has a
    true box.
    """
    images = np.ascontiguousarray(weights.T, np.float64)
    found = np.concatenate([class_precisions(m, images) for m in matches])
    return mean_of_known(found.T)


def class_precisions(matches: Matches, weights: Array) -> Array:
    """Average precision (T, R) of one class where image i counts weights[i] times, float64 (N, R); NaN without a true
    box in the images that count.
    """
    most = max(1, MOST_AT_ONCE // max(matches.places.last, 1))
    columns = range(0, weights.shape[1], most)
    return np.concatenate([_class_precisions(matches, weights[:, i : i + most]) for i in columns], axis=1)


def _class_precisions(matches: Matches, weights: Array) -> Array:
    """Only right boxes are looked at: precision is highest at one, and recall grows at no other."""
    total, places = matches.wanted @ weights, matches.places
    each = weights[matches.image[: places.last]]
    seen = np.cumsum(each, axis=0)
    found = np.zeros((len(places.right), weights.shape[1]))
    for t, (hits, neither) in enumerate(zip(places.right, places.neither, strict=True)):
        right, counted = np.cumsum(each[hits], axis=0), seen[hits]
        if len(neither):
            passed = np.cumsum(each[neither], axis=0)
            counted -= np.concatenate([np.zeros_like(passed[:1]), passed])[np.searchsorted(neither, hits)]
        best_after = np.maximum.accumulate((right / np.maximum(counted, TINY))[::-1], axis=0)[::-1]
        reached = np.searchsorted(RECALLS, right / np.maximum(total, TINY), side="right")
        found[t] = (np.diff(reached, axis=0, prepend=0) * best_after).sum(axis=0) / len(RECALLS)
    found[:, total <= 0] = np.nan
    return found


def of_each(matches: Sequence[Matches], images: int) -> Array:
    """float64 (N,): mAP@[.5:.95] of each image alone; NaN where it has no true box."""
    total, known = np.zeros(images), np.zeros(images)
    for m in matches:
        order = np.argsort(m.image, kind="stable")
        ends = np.searchsorted(m.image[order], np.arange(images + 1))
        for i in np.flatnonzero(m.wanted):
            mine = order[ends[i] : ends[i + 1]]
            alone = Matches(m.right[:, mine], m.counts[:, mine], np.zeros(len(mine), np.int64), m.wanted[i : i + 1])
            total[i] += class_precisions(alone, np.ones((1, 1))).mean()
            known[i] += 1
    return np.asarray(np.divide(total, known, out=np.full(images, np.nan), where=known > 0))
