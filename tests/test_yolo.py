"""YOLO version 1 and 3: published sizes, decoding by hand, pooling that looks right and down."""

from __future__ import annotations

import math

import pytest
import torch

from edgecnn.models.yolo import COARSE, PoolRightAndDown, YOLOv1, YOLOv3Tiny
from edgecnn.networks import zoo

ROWS = {row.name: row for row in zoo.list_models()}


def test_parameters() -> None:
    """v3-tiny: the figure that Ultralytics prints. v1: 60.3 M of convolutions, 205.5 M and 6.0 M fully connected."""
    assert ROWS["yolov3_tiny"].params == 8_852_366
    convolutions = 60_190_912 + 64 - 64
    fully = 7 * 7 * 1024 * 4096 + 4096 + 4096 * 1470 + 1470
    assert ROWS["yolov1"].params - fully == pytest.approx(convolutions, rel=0.01)
    assert ROWS["yolov1"].params == 271_703_550


def test_v1_has_24_convolutions_and_a_grid_of_7() -> None:
    with torch.device("meta"):
        module = YOLOv1().eval()
        assert module.features(torch.zeros(1, 3, 448, 448)).shape == (1, 1024, 7, 7)
        assert module.train()(torch.zeros(2, 3, 448, 448)).shape == (2, 7, 7, 30)
    assert sum(isinstance(m, torch.nn.Conv2d) for m in module.modules()) == 24


def test_v1_decodes_a_cell_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cell (row 1, column 0) of 2 x 2 on 128 pixels: x 0.5, y 0.25, sides 0.5^2 and 0.75^2 of the image."""
    module = YOLOv1(num_classes=3, hidden=8, grid=2).eval()
    answers = torch.zeros(1, 2, 2, 13)
    answers[0, 1, 0, 5:10] = torch.tensor([0.5, 0.25, 0.5, 0.75, 0.8])  # the second box of the cell
    answers[0, 1, 0, 10:] = torch.tensor([0.0, 0.9, 3.0])
    monkeypatch.setattr(module.classifier, "forward", lambda x: answers.reshape(1, -1))
    boxes, scores, labels, image = module(torch.zeros(1, 3, 128, 128))
    x, y, w, h = 0.5 / 2 * 128, 1.25 / 2 * 128, 0.25 * 128, 0.5625 * 128
    expected = [x - w / 2, y - h / 2, x + w / 2, min(y + h / 2, 128)]
    assert scores.tolist() == pytest.approx([1.0, 0.72])  # 3 x 0.8 is cut
    assert labels.tolist() == [2, 1]
    assert image.tolist() == [0, 0]
    assert boxes[0].tolist() == pytest.approx(expected)
    assert boxes[1].tolist() == pytest.approx(expected)


def test_v3_decodes_a_place_by_hand() -> None:
    """Place (row 1, column 2) of 2 x 3 on 64 x 96 pixels, second anchor."""
    module = YOLOv3Tiny(num_classes=2)
    raw = torch.full((1, 3, 7, 2, 3), -20.0)
    raw[0, 1, :, 1, 2] = torch.tensor([0.0, math.log(3), math.log(0.5), math.log(0.25), math.log(4), -20.0, 0.0])
    boxes, scores = module.decode(raw.reshape(1, 21, 2, 3), COARSE, (64, 96))
    place = (1 * 3 + 2) * 3 + 1
    x, y, w, h = 2.5 * 32, 1.75 * 32, 135 / 2, 169 / 4
    assert boxes[0, place].tolist() == pytest.approx([x - w / 2, y - h / 2, x + w / 2, y + h / 2], rel=1e-5)
    assert scores[0, place].tolist() == pytest.approx([0.0, 0.8 * 0.5], abs=1e-6)
    assert float(scores.sum()) == pytest.approx(0.4, abs=1e-5)


def test_the_stride_one_pooling_looks_right_and_down() -> None:
    x = torch.tensor([[[[1.0, -5, -3], [0, -7, -9], [-2, -4, -8]]]])
    assert PoolRightAndDown()(x)[0, 0].tolist() == [[1, -3, -3], [0, -4, -8], [-2, -4, -8]]


def test_v3_says_two_maps_in_training() -> None:
    with torch.device("meta"):
        maps = YOLOv3Tiny(num_classes=4).train()(torch.zeros(2, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(2, 27, 2, 3), (2, 27, 4, 6)]
