"""Detections are cut by image, scored as mAP, and compared without labels by matching."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgecnn.data.samples import Samples, Target
from edgecnn.evaluation.average_precision import Found
from edgecnn.tasks import detection as task
from runtimes.base import Array, BadInput, Runner

BOX = np.array([[4, 4, 20, 20]], np.float32)


def made(targets: list[Target], names: tuple[str, ...] = ("a", "b", "c")) -> Samples:
    ids = tuple(f"image {i}" for i in range(len(targets)))
    load = lambda i: np.full((1, 64, 64), i, np.float32)  # noqa: E731
    return Samples("made", ids, load, class_names=names, targets=targets)


def saying(found: list[Found]) -> Runner:
    """A detector in the flat form: image i of the data is answered with found[i]."""

    def run(feeds: Any) -> dict[str, Array]:
        which = feeds["x"][:, 0, 0, 0].astype(int)
        mine = [found[i] for i in which]
        image = np.concatenate([np.full(len(f.scores), n) for n, f in enumerate(mine)])
        return {
            "boxes": np.concatenate([f.boxes for f in mine]),
            "scores": np.concatenate([f.scores for f in mine]).astype(np.float32),
            "labels": np.concatenate([f.labels for f in mine]),
            "image": image.astype(np.int64),
        }

    return run


def drawn(count: int = 30, seed: int = 0) -> list[Target]:
    order = np.random.default_rng(seed)
    targets = []
    for _ in range(count):
        n = int(order.integers(1, 4))
        corner = order.uniform(0, 40, (n, 2))
        targets.append(Target.of(np.hstack([corner, corner + order.uniform(8, 24, (n, 2))]), order.integers(0, 3, n)))
    return targets


def near(targets: list[Target], shift: float) -> list[Found]:
    return [Found(t.boxes + np.float32(shift), np.linspace(0.9, 0.5, len(t.labels)), t.labels) for t in targets]


NOTHING = Found(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


@pytest.mark.parametrize("batch", [1, 4, 32])
def test_the_true_boxes_are_a_full_score(batch: int) -> None:
    targets = drawn()
    found = task.score(saying(near(targets, 0)), made(targets), "x", batch)
    assert (found.metric, found.images) == ("mAP@[.5:.95]", 30)
    assert found.value == pytest.approx(1.0, abs=1e-9)
    assert found.details["map50"] == pytest.approx(1.0, abs=1e-9)
    assert list(found.details["ap"]) == ["a", "b", "c"]


def test_boxes_of_another_image_or_class_are_wrong() -> None:
    targets = drawn()
    found = near(targets, 0)
    assert task.score(saying(found[1:] + found[:1]), made(targets), "x", 4).value < 0.2
    turned = [Found(f.boxes, f.scores, (f.labels + 1) % 3) for f in found]
    assert task.score(saying(turned), made(targets), "x", 4).value < 0.2


def test_a_shift_costs_the_strict_thresholds_only() -> None:
    targets = drawn()
    found = task.score(saying(near(targets, 1.0)), made(targets), "x")
    assert found.details["map50"] == pytest.approx(1.0, abs=1e-9)
    assert 0.5 < found.value < 0.9


def test_classes_without_a_name_and_without_a_box() -> None:
    targets = [Target.of(BOX, np.array([0]))]
    found = [Found(BOX, np.array([0.9]), np.array([4]))]
    score = task.score(saying(found), made(targets, ("a", "b")), "x")
    assert score.details["ap"] == {"a": 0.0, "b": None, "2": None, "3": None, "4": None}


def test_images_without_objects_cost_what_is_found_in_them() -> None:
    targets = [Target.of(BOX, np.array([0])), Target.of(np.zeros((0, 4)), np.zeros(0))]
    sure = Found(BOX, np.array([0.99]), np.array([0]))
    right = Found(BOX, np.array([0.5]), np.array([0]))
    assert task.score(saying([right, NOTHING]), made(targets), "x").value == pytest.approx(1.0, abs=1e-9)
    worse = task.score(saying([right, sure]), made(targets), "x")
    assert worse.value == pytest.approx(0.5, abs=1e-9)
    assert worse.per_sample[0] == pytest.approx(1.0, abs=1e-9)
    assert np.isnan(worse.per_sample[1])


def test_nothing_found_at_all() -> None:
    targets = drawn(5)
    assert task.score(saying([NOTHING] * 5), made(targets), "x").value == 0.0


def test_boxes_with_nan_are_no_answers() -> None:
    targets = [Target.of(BOX, np.array([0]))]
    bad = Found(np.array([[np.nan, 0, 1, 1], BOX[0]], np.float32), np.array([0.9, np.nan]), np.array([0, 0]))
    assert task.score(saying([bad]), made(targets), "x").value == 0.0


def test_what_does_not_fit() -> None:
    targets = drawn(2)
    with pytest.raises(BadInput, match="made: has no boxes; give a folder as COCO"):
        task.score(saying(near(targets, 0)), made(targets).without_answers(), "x")
    with pytest.raises(BadInput, match=r"outputs: boxes \[3, 5\], scores \[3\].*; detection needs \(M, 4\)"):
        task.score(
            lambda f: dict(zip(task.OUTPUTS, (np.zeros((3, 5)), *[np.zeros(3)] * 3), strict=True)), made(targets), "x"
        )
    empty = [Target.of(np.zeros((0, 4)), np.zeros(0))] * 2
    with pytest.raises(BadInput, match="none of its images has a box"):
        task.score(saying([NOTHING] * 2), made(empty), "x")


def test_the_drop_of_a_worse_detector_is_above_zero() -> None:
    targets = drawn(40)
    ours, theirs = (task.score(saying(near(targets, s)), made(targets), "x") for s in (0.5, 2.0))
    found = task.drop(ours, theirs)
    assert found.value == pytest.approx(ours.value - theirs.value, abs=1e-12)
    assert 0 < found.low < found.value < found.high


# ------------------------------------------------------------------------------------------------------------ agreement
def share(ours: Found, theirs: Found) -> float:
    feeds = made([Target.of(BOX, np.array([0]))]).feeds("x", 1)
    return task.agreement(saying([ours]), saying([theirs]), feeds).share


def one(score: float, shift: float = 0.0, label: int = 0) -> Found:
    return Found(BOX + np.float32(shift), np.array([score]), np.array([label]))


def test_two_detectors_agree_on_the_boxes_that_both_find() -> None:
    assert share(one(0.9), one(0.9)) == 1.0
    assert share(one(0.9), one(0.9, shift=2.0)) == pytest.approx(0.3)  # IoU 0.62: at 0.5, 0.55 and 0.6 of ten
    assert share(one(0.9), one(0.9, shift=0.125)) == 1.0  # IoU 0.97
    assert share(one(0.9), one(0.9, shift=4.0)) == 0.0  # IoU 0.39
    assert share(one(0.9), one(0.9, label=1)) == 0.0
    assert share(one(0.9), NOTHING) == 0.0
    assert share(NOTHING, NOTHING) == 1.0
    assert share(one(0.31), one(0.29)) == 1.0  # one is sure, the other a little less
    assert share(one(0.31), one(0.19)) == 0.0
    assert share(one(0.29), one(0.29)) == 1.0  # nobody is sure of anything


def test_a_box_is_matched_once() -> None:
    twice = Found(np.vstack([BOX, BOX]), np.array([0.9, 0.8]), np.array([0, 0]))
    assert share(twice, one(0.9)) == 2 / 3
    assert share(one(0.9), twice) == 2 / 3


def test_agreement_counts_over_all_images() -> None:
    targets = drawn(6)
    found = near(targets, 0)
    feeds = made(targets).without_answers().feeds("x", 4)
    boxes = [len(f.scores) for f in found]
    result = task.agreement(saying(found), saying([NOTHING, *found[1:]]), feeds)
    assert result.images == 6
    assert result.share == pytest.approx(2 * sum(boxes[1:]) / (2 * sum(boxes) - boxes[0]), abs=1e-12)


def test_overlap_of_boxes_by_hand() -> None:
    a = np.array([[0, 0, 2, 2], [0, 0, 0, 0]], np.float32)
    b = np.array([[1, 1, 3, 3], [0, 0, 2, 2], [5, 5, 6, 6]], np.float32)
    assert task.box_iou(a, b) == pytest.approx(np.array([[1 / 7, 1, 0], [0, 0, 0]]), abs=1e-7)  # float32


# ------------------------------------------------------------------------------------------------------------- learning
def test_images_and_boxes_move_together() -> None:
    """A white rectangle on black is where its box says, before and after."""
    order = np.random.default_rng(0)
    images, targets = np.zeros((40, 1, 32, 48), np.float32), []
    for image in images:
        x, y = order.integers(6, 30), order.integers(6, 18)
        image[0, y : y + 6, x : x + 9] = 1
        targets.append(Target.of(np.array([[x, y, x + 9, y + 6]]), np.array([0])))
    for flip in (False, True):
        moved, answers = task.augment(images, targets, np.random.default_rng(1), flip)
        for image, target in zip(moved, answers, strict=True):
            x1, y1, x2, y2 = target.boxes[0].astype(int)
            assert image[0, y1:y2, x1:x2].min() == 1
            assert image.sum() == (y2 - y1) * (x2 - x1)
        assert sum(not np.array_equal(a.boxes, b.boxes) for a, b in zip(targets, answers, strict=True)) > 30


def test_the_loss_is_the_detectors_own_without_crowds() -> None:
    import torch

    class Detector(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x.mean()

        def loss(self, raw: torch.Tensor, targets: list[dict[str, torch.Tensor]]) -> torch.Tensor:
            self.seen = targets
            return raw

    module = Detector()
    target = Target.of(np.vstack([BOX, BOX + 1]), np.array([1, 2]), np.array([False, True]))
    assert float(task.loss(module, torch.ones(1, 1, 4, 4), [target], 0.1)) == 2.0
    assert module.seen[0]["boxes"].tolist() == BOX.tolist()
    assert module.seen[0]["labels"].tolist() == [1]
    assert module.seen[0]["labels"].dtype == torch.int64
