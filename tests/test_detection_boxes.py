"""The code of boxes, their overlap, and the boxes that detectors start from."""

from __future__ import annotations

import math

import pytest
import torch

from edgecnn.detection import boxes as b
from edgecnn.detection.anchors import anchor_sides, centred, default_sides, windows
from edgecnn.models.ssd import SSD300_BOXES
from torchvision_oracle import torchvision_models


def some_boxes(count: int, seed: int) -> torch.Tensor:
    values = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([values[:, :2] * 90, values[:, :2] * 90 + values[:, 2:] * 60 + 1], 1)


def test_the_code_by_hand() -> None:
    """Anchor of 10 x 20 around (10, 20); the box is 20 x 20 around (15, 16)."""
    anchor, box = torch.tensor([[5.0, 10, 15, 30]]), torch.tensor([[5.0, 6, 25, 26]])
    code = b.encode(box, anchor, b.PLAIN)
    assert code[0].tolist() == pytest.approx([0.5, -0.2, math.log(2), 0.0], abs=1e-6)
    assert b.encode(box, anchor)[0].tolist() == pytest.approx([5, -2, math.log(2) * 5, 0.0], abs=1e-5)
    assert b.decode(code, anchor, b.PLAIN)[0].tolist() == pytest.approx([5, 6, 25, 26], abs=1e-5)


@pytest.mark.parametrize("variances", [b.PLAIN, b.VARIANCES])
def test_decoding_undoes_encoding(variances: tuple[float, float, float, float]) -> None:
    anchors, boxes = some_boxes(50, 0), some_boxes(50, 1)
    assert torch.allclose(b.decode(b.encode(boxes, anchors, variances), anchors, variances), boxes, atol=1e-9)


def test_a_wild_code_stays_finite() -> None:
    box = b.decode(torch.tensor([[0, 0, 1e6, 1e38]]), torch.tensor([[0.0, 0, 10, 10]]), b.PLAIN)
    assert b.to_centres(box)[0].tolist() == pytest.approx([5, 5, 10 * 1000 / 16, 10 * 1000 / 16])


def test_corners_and_centres_are_each_others_inverse() -> None:
    boxes = some_boxes(20, 2)
    assert torch.allclose(b.to_corners(b.to_centres(boxes)), boxes)
    assert b.to_centres(torch.tensor([2.0, 4, 8, 20])).tolist() == [5, 12, 6, 16]


def test_clipping_keeps_what_is_inside_and_knows_height_from_width() -> None:
    boxes = torch.tensor([[-3.0, -4, 50, 60], [1, 2, 3, 4], [25, 70, 40, 80], [70, 15, 80, 40]])
    expected = [[0, 0, 30, 20], [1, 2, 3, 4], [25, 20, 30, 20], [30, 15, 30, 20]]
    assert b.clip(boxes, (20, 30)).tolist() == expected


def test_overlap_by_hand() -> None:
    a = torch.tensor([[0.0, 0, 10, 10], [0, 0, 0, 10]])
    others = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [9, 9, 11, 11]])
    expected = torch.tensor([[1, 1 / 3, 0, 1 / 103], [0, 0, 0, 0]])
    assert torch.allclose(b.iou(a, others), expected)


# ------------------------------------------------------------------------------------------------- starting boxes
def test_boxes_go_by_rows_then_columns_then_sides() -> None:
    boxes = centred((2, 3), (10, 20), [(4, 2), (8, 6)])
    assert boxes.shape == (12, 4)
    assert boxes[0].tolist() == [8, 4, 12, 6]
    assert boxes[1].tolist() == [6, 2, 14, 8]
    assert b.to_centres(boxes)[:, :2].tolist()[::2] == [[10, 5], [30, 5], [50, 5], [10, 15], [30, 15], [50, 15]]


def test_ssd300_has_8732_default_boxes_and_they_are_torchvisions() -> None:
    torchvision_models()
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
    from torchvision.models.detection.image_list import ImageList

    maps = [torch.zeros(1, 1, n, n) for n in (38, 19, 10, 5, 3, 1)]
    ours = SSD300_BOXES((300, 300), maps)
    assert ours.shape == (8732, 4)
    oracle = DefaultBoxGenerator(
        [list(ratios) for ratios in SSD300_BOXES.ratios],
        scales=list(SSD300_BOXES.scales),
        steps=list(SSD300_BOXES.steps or ()),
    )
    (theirs,) = oracle(ImageList(torch.zeros(1, 3, 300, 300), [(300, 300)]), maps)
    assert torch.allclose(ours, theirs, atol=1e-4)  # pixels; theirs are scaled up from shares in float32


def test_default_boxes_by_hand() -> None:
    """Side s, then the mean of s and the next, then 2:1 and 1:2 of the same area."""
    sides = default_sides(0.2, 0.45, (2,))
    assert sides[0] == (0.2, 0.2)
    assert sides[1] == pytest.approx((0.3, 0.3))
    assert sides[2] == pytest.approx((0.2 * 2**0.5, 0.2 / 2**0.5))
    assert sides[3] == pytest.approx(sides[2][::-1])
    assert max(default_sides(0.9, 1.4, (3,))) == (1.0, 1.0)


def test_anchors_of_one_scale_have_one_area() -> None:
    sides = anchor_sides((128, 256), (0.5, 1, 2))
    assert [w * h for w, h in sides] == pytest.approx([128**2, 256**2] * 3)
    assert [h / w for w, h in sides] == pytest.approx([0.5, 0.5, 1, 1, 2, 2])


def test_windows_cover_the_image_and_stay_inside() -> None:
    boxes = windows((60, 100), (1.0, 0.5), (0.5, 1.0, 2.0), 0.5)
    assert bool((boxes >= 0).all())
    assert bool((boxes <= torch.tensor([100, 60, 100, 60])).all())
    assert bool((boxes[:, 2:] > boxes[:, :2]).all())
    covered = torch.zeros(60, 100)
    for x1, y1, x2, y2 in boxes.round().int().tolist():
        covered[y1:y2, x1:x2] = 1
    assert float(covered.mean()) == 1.0
