"""Which box answers for which object, and what the answers cost: by hand, and against a loop."""

from __future__ import annotations

import math

import pytest
import torch

from edgecnn.detection.boxes import VARIANCES, encode, iou
from edgecnn.detection.loss import hardest, match, multibox_loss

ANCHORS = torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10], [0, 10, 10, 20], [2, 2, 12, 12], [50, 50, 60, 60]])
NOTHING = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def test_matching_by_hand() -> None:
    """Anchor 0 overlaps object 0 by 8/10; object 1 only touches anchor 4 (1/199), which gets it all the same."""
    objects = torch.tensor([[0.0, 0, 10, 8], [59, 59, 69, 69]])
    assert match(ANCHORS, objects).tolist() == [0, -1, -1, -1, 1]


def test_every_box_with_enough_overlap_answers() -> None:
    objects = torch.tensor([[1.0, 1, 11, 11]])
    assert match(ANCHORS, objects).tolist() == [0, -1, -1, 0, -1]  # 81/119 each; anchor 1 shares 9/191


def test_an_overlap_of_exactly_one_half_is_enough() -> None:
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 16]])
    assert match(anchors, torch.tensor([[0.0, 0, 10, 8]])).tolist() == [0, 0]  # 80/100, 80/160


def test_without_objects_all_is_background() -> None:
    assert match(ANCHORS, NOTHING["boxes"]).tolist() == [-1] * 5
    logits = torch.zeros(1, 5, 3, requires_grad=True)
    loss = multibox_loss(logits, torch.zeros(1, 5, 4), ANCHORS, [NOTHING], VARIANCES)
    assert float(loss.detach()) == 0.0
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None


def test_three_negatives_for_each_positive_the_hardest_first() -> None:
    entropy = torch.tensor([[5.0, 1, 2, 9, 3, 4], [1, 2, 3, 4, 5, 6]])
    positive = torch.tensor([[True, False, False, False, False, False], [False] * 6])
    assert hardest(entropy, positive).tolist() == [[False, False, False, True, True, True], [False] * 6]
    many = torch.tensor([[True, True, True, True, False, False]])
    assert hardest(entropy[:1], many).tolist() == [[False] * 4 + [True] * 2]


def test_a_perfect_answer_costs_nothing() -> None:
    target = {"boxes": torch.tensor([[1.0, 1, 11, 11]]), "labels": torch.tensor([1])}
    logits = torch.full((1, 5, 3), -50.0)
    logits[0, :, 0] = 50.0
    logits[0, [0, 3]] = torch.tensor([-50.0, -50.0, 50.0])
    code = encode(target["boxes"].expand(5, 4), ANCHORS)[None]
    assert float(multibox_loss(logits, code, ANCHORS, [target], VARIANCES)) == pytest.approx(0.0, abs=1e-6)


def test_the_loss_by_hand() -> None:
    """Two matched boxes with a code off by 0.5 and 2 in one number each (0.125 and 1.5), even scores of 3 classes."""
    target = {"boxes": torch.tensor([[1.0, 1, 11, 11]]), "labels": torch.tensor([0])}
    code = encode(target["boxes"].expand(5, 4), ANCHORS)[None].clone()
    code[0, 0, 0] += 0.5
    code[0, 3, 2] -= 2.0
    code[0, 4] += 7.0  # background boxes have no place to be
    loss = multibox_loss(torch.zeros(1, 5, 3), code, ANCHORS, [target], VARIANCES)
    assert float(loss) == pytest.approx((0.125 + 1.5 + 5 * math.log(3)) / 2, rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_is_that_of_a_loop(seed: int) -> None:
    make = torch.Generator().manual_seed(seed)
    corner = torch.rand(60, 2, generator=make) * 50
    anchors = torch.cat([corner, corner + torch.rand(60, 2, generator=make) * 20 + 5], 1)
    targets = []
    for count in (3, 0, 1):
        low = torch.rand(count, 2, generator=make) * 50
        boxes = torch.cat([low, low + torch.rand(count, 2, generator=make) * 20 + 5], 1)
        targets.append({"boxes": boxes, "labels": torch.randint(0, 4, (count,), generator=make)})
    logits, code = torch.randn(3, 60, 5, generator=make), torch.randn(3, 60, 4, generator=make)
    total, matched = 0.0, 0
    for n, target in enumerate(targets):
        owner = {}
        for p in range(60):
            overlap = [float(iou(anchors[p : p + 1], box[None])) for box in target["boxes"]]
            if overlap and max(overlap) >= 0.5:
                owner[p] = overlap.index(max(overlap))
        for i, box in enumerate(target["boxes"]):
            owner[int(iou(anchors, box[None]).argmax())] = i
        background = []
        for p in range(60):
            label = int(target["labels"][owner[p]]) + 1 if p in owner else 0
            entropy = -float(torch.log_softmax(logits[n, p], 0)[label])
            if p not in owner:
                background.append(entropy)
                continue
            apart = (code[n, p] - encode(target["boxes"][owner[p]], anchors[p])).abs()
            total += entropy + sum(0.5 * d * d if d < 1 else d - 0.5 for d in apart.tolist())
        total += sum(sorted(background, reverse=True)[: 3 * len(owner)])
        matched += len(owner)
    assert float(multibox_loss(logits, code, anchors, targets, VARIANCES)) == pytest.approx(total / matched, rel=1e-5)
