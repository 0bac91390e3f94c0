"""mAP is pycocotools' own, from its files as well as from our records; and resampling is mAP of the drawn images."""

from __future__ import annotations

import builtins
import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn.data.samples import Target
from edgecnn.evaluation import average_precision as measured
from edgecnn.evaluation.average_precision import (
    RECALLS,
    Found,
    Matches,
    average_precision,
    class_precisions,
    of_each,
    weighted_means,
)
from runtimes.base import Array, Unavailable

CLASSES = 4


def weighted_mean(matches: tuple[Matches, ...], weights: Array) -> float:
    return float(weighted_means(matches, weights[None])[0])


def boxes(order: np.random.Generator, count: int) -> Array:
    corners = order.uniform(0, 50, (count, 2))
    return np.hstack([corners, corners + order.uniform(5, 30, (count, 2))]).astype(np.float32)


def made(images: int = 12, seed: int = 0, crowd: bool = False) -> tuple[list[Found], list[Target]]:
    """True boxes of classes 0 to 2 (none of 3), and detections near and far of them; image 3 is empty."""
    order = np.random.default_rng(seed)
    found, wanted = [], []
    for i in range(images):
        count = 0 if i == 3 else int(order.integers(1, 6))
        true, labels = boxes(order, count), order.integers(0, 3, count)
        wanted.append(Target.of(true, labels, order.uniform(size=count) < 0.2 if crowd else None))
        near = true + order.normal(0, 2, true.shape)
        kept = np.where(order.uniform(size=count) < 0.85, labels, 3)
        far, guesses = boxes(order, 3), order.integers(0, 4, 3)
        scores = np.round(np.append(order.uniform(0.3, 1, count), order.uniform(0, 0.8, 3)), 1)  # with equal scores
        found.append(Found(np.vstack([near, far]).astype(np.float32), scores, np.append(kept, guesses)))
    return found, wanted


def by_pycocotools(found: list[Found], wanted: list[Target], folder: Path) -> Any:
    """The twelve numbers of its documented way: two JSON files, loadRes, summarize."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, answers = [], []
    for i, (answer, target) in enumerate(zip(found, wanted, strict=True)):
        for box, label, crowd in zip(*target[:3], strict=True):
            x1, y1, x2, y2 = map(float, box)
            truth.append({"id": len(truth) + 1, "image_id": i, "category_id": int(label), "iscrowd": int(crowd),
                          "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)})  # fmt: skip
        for box, score, label in zip(answer.boxes, answer.scores, answer.labels, strict=True):
            x1, y1, x2, y2 = map(float, box)
            answers.append({"image_id": i, "category_id": int(label), "bbox": [x1, y1, x2 - x1, y2 - y1],
                            "score": float(score)})  # fmt: skip
    images, kinds = [{"id": i} for i in range(len(found))], [{"id": k} for k in range(CLASSES)]
    (folder / "truth.json").write_text(json.dumps({"images": images, "categories": kinds, "annotations": truth}))
    (folder / "answers.json").write_text(json.dumps(answers))
    with contextlib.redirect_stdout(io.StringIO()):
        record = COCO(str(folder / "truth.json"))
        evaluator = COCOeval(record, record.loadRes(str(folder / "answers.json")), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats


@pytest.mark.parametrize("crowd", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_is_pycocotools(seed: int, crowd: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, wanted = made(seed=seed, crowd=crowd)
    ours, theirs = average_precision(found, wanted, CLASSES), by_pycocotools(found, wanted, tmp_path)
    assert ours.mean == pytest.approx(theirs[0], abs=1e-12)  # the mean of the same numbers in another order
    assert ours.mean_50 == pytest.approx(theirs[1], abs=1e-12)
    assert np.isnan(ours.at[:, 3]).all()
    assert ours.at.shape == (10, CLASSES)
    assert 0.1 < ours.mean < ours.mean_50 < 0.95
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("crowd", [False, True])
def test_every_image_once_is_the_value_itself(crowd: bool) -> None:
    found, wanted = made(seed=4, crowd=crowd)
    ours = average_precision(found, wanted, CLASSES)
    assert weighted_mean(ours.matches, np.ones(len(found))) == pytest.approx(
        ours.mean, abs=1e-9
    )  # it divides by + 2e-16


@pytest.mark.parametrize("seed", range(4))
def test_resampled_images_are_those_images(seed: int) -> None:
    """Weights 0, 1, 2 ... against pycocotools on the images drawn so often. Scores differ, for the order of equals."""
    found, wanted = made(seed=seed)
    order = np.random.default_rng(seed)
    apart = [Found(f.boxes, order.uniform(0, 1, len(f.scores)), f.labels) for f in found]
    weights = order.multinomial(len(found), np.full(len(found), 1 / len(found)))
    picked = np.repeat(np.arange(len(found)), weights)
    drawn = average_precision([apart[i] for i in picked], [wanted[i] for i in picked], CLASSES)
    value = weighted_mean(average_precision(apart, wanted, CLASSES).matches, weights)
    # A box that counts twice is one step of the curve here and two there: precision in between differs a little.
    assert value == pytest.approx(drawn.mean, abs=0.02)


def box_by_box(matches: Matches, weights: Array) -> Array | None:
    """Average precision (T,) of one class from the curve through every box, right or wrong."""
    total = float(weights @ matches.wanted)
    if total <= 0:
        return None
    each, found = weights[matches.image], []
    for right, counts in zip(matches.right, matches.counts, strict=True):
        hits, counted = np.cumsum(right * each), np.cumsum(counts * each)
        precision = np.divide(hits, counted, out=np.zeros(len(hits)), where=counted > 0)
        best_after = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        found.append(best_after[np.searchsorted(hits / total, RECALLS, side="left")].mean())
    return np.array(found)


@pytest.mark.parametrize("crowd", [False, True])
def test_all_draws_at_once_are_each_of_them_box_by_box(crowd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    found, wanted = made(30, seed=6, crowd=crowd)
    matches = average_precision(found, wanted, CLASSES).matches
    weights = np.random.default_rng(1).multinomial(30, np.full(30, 1 / 30), 40)
    weights[0] = np.eye(30)[3]  # an empty image alone
    for most in (10**6, 500):  # in one block, and in several
        monkeypatch.setattr(measured, "MOST_AT_ONCE", most)
        ours = weighted_means(matches, weights)
        known = [[v for m in matches if (v := box_by_box(m, row)) is not None] for row in weights]
        assert np.isnan(ours[0])
        assert not known[0]
        assert ours[1:] == pytest.approx([np.mean(each) for each in known[1:]], abs=1e-12)
    alone = of_each(matches, 30)
    assert alone == pytest.approx(weighted_means(matches, np.eye(30)), abs=1e-12, nan_ok=True)
    assert np.isnan(alone[3])


def test_matching_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(measured, "BLOCK", 5)
    found, wanted = made()
    seen = []

    def track(items: Any, label: str) -> Any:
        seen.append((label, len(items)))
        print(label)  # a caller's own progress: what pycocotools prints is kept from the user, and not this
        return items

    average_precision(found, wanted, CLASSES, track)
    assert seen == [("listing boxes", 12), ("matching boxes", CLASSES * 3)]
    assert capsys.readouterr().out == "listing boxes\nmatching boxes\n"


def test_a_perfect_answer_is_one_and_nothing_is_zero() -> None:
    _, wanted = made()
    right = [Found(t.boxes, np.full(len(t.labels), 0.9), t.labels) for t in wanted]
    none = [Found(np.zeros((0, 4), np.float32), np.zeros(0), np.zeros(0, int)) for _ in wanted]
    assert average_precision(right, wanted, CLASSES).mean == pytest.approx(1.0, abs=1e-9)
    assert average_precision(none, wanted, CLASSES).mean == 0.0
    matches = average_precision(none, wanted, CLASSES).matches
    assert weighted_mean(matches, np.ones(len(wanted))) == 0.0
    assert np.isnan(weighted_mean(matches, np.eye(len(wanted))[3]))


def test_by_hand() -> None:
    """Two true boxes; the best detection is right, the second wrong, the third right: precision 1, 1/2, 2/3.

    Recall reaches 0 to 0.5 (51 levels) at precision 1, 0.51 to 1 (50 levels) at 2/3.
    """
    true = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    target = Target.of(true, np.array([0, 0]))
    answer = Found(np.stack([true[0], true[1] + 40, true[1]]), np.array([0.9, 0.8, 0.7]), np.zeros(3, int))
    found = average_precision([answer], [target], 1)
    assert found.mean == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-9)
    assert class_precisions(found.matches[0], np.ones((1, 1)))[:, 0] == pytest.approx(np.full(10, found.mean), abs=1e-9)


def test_at_most_100_boxes_an_image() -> None:
    true = np.array([[0, 0, 10, 10]], np.float32)
    wrong = np.tile(true + 50, (100, 1))
    answer = Found(np.vstack([wrong, true]), np.append(np.full(100, 0.9), 0.5), np.zeros(101, int))
    assert average_precision([answer], [Target.of(true, np.array([0]))], 1).mean == 0.0


def test_without_pycocotools_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def no_pycocotools(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("pycocotools"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_pycocotools)
    with pytest.raises(Unavailable, match="pycocotools: is not installed, mAP needs it; run `pip install pycocotools`"):
        average_precision(*made(), CLASSES)


def overlap(a: Array, b: Array) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    both = float(np.prod(np.maximum(high - low, 0)))
    return both / (float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - both)


@pytest.mark.parametrize("seed", range(4))
def test_difficult_objects_count_as_if_neither_they_nor_what_finds_them_were_there(seed: int) -> None:
    """Objects far from all others are difficult; found three times, once of them by a box of IoU under 1/2."""
    found, wanted = made(seed=seed)
    with_them, answers = [], []
    for i, (answer, target) in enumerate(zip(found, wanted, strict=True)):
        hard = np.array([[200, 200, 220, 220], [300, 200, 340, 240]], np.float32)[: i % 3]
        labels = np.arange(len(hard))
        flags = np.append(np.zeros(len(target.labels), bool), np.ones(len(hard), bool))
        boxes_, labels_ = np.vstack([target.boxes, hard]), np.append(target.labels, labels)
        with_them.append(Target.of(boxes_, labels_, difficult=flags))
        twice = np.vstack([hard, hard])
        answers.append(Found(np.vstack([answer.boxes, twice]), np.append(answer.scores, np.full(len(twice), 0.95)),
                             np.append(answer.labels, np.append(labels, labels))))  # fmt: skip
    ours, without = average_precision(answers, with_them, CLASSES), average_precision(found, wanted, CLASSES)
    assert np.array_equal(ours.at, without.at, equal_nan=True)
    ones = np.ones(len(found), int)
    assert weighted_mean(ours.matches, ones) == pytest.approx(ours.mean)


def test_a_small_box_in_a_difficult_object_is_wrong_and_in_a_crowd_is_not() -> None:
    true = np.array([[0, 0, 10, 10], [50, 50, 90, 90]], np.float32)
    small = Found(np.array([[0, 0, 10, 10], [50, 50, 60, 60]], np.float32), np.array([0.5, 0.9]), np.array([0, 0]))
    second = np.array([False, True])
    assert overlap(small.boxes[1], true[1]) < 0.1
    crowd = average_precision([small], [Target.of(true, np.zeros(2, int), crowd=second)], 1)
    difficult = average_precision([small], [Target.of(true, np.zeros(2, int), difficult=second)], 1)
    assert (crowd.mean, difficult.mean) == (pytest.approx(1.0), pytest.approx(0.5))
    missed = Found(small.boxes[:1], small.scores[:1], small.labels[:1])
    assert average_precision([missed], [Target.of(true, np.zeros(2, int), difficult=second)], 1).mean == pytest.approx(
        1.0
    )
