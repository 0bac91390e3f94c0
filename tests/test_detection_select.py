"""The last step against a loop over images and classes; ties, batches and nothing to find."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgecnn.detection.boxes import iou
from edgecnn.detection.select import OUTPUTS, Selection, select
from exporters.torch_export import export_module
from runtimes.session import open_session

HOW = Selection(low=0.2, iou=0.4, candidates=25, keep=12)


def by_loop(boxes: torch.Tensor, scores: torch.Tensor, how: Selection) -> list[tuple[int, float, int, list[float]]]:
    """(image, score, label, box) of every detection, in order."""
    out = []
    for n in range(scores.shape[0]):
        found = []
        for c in range(scores.shape[1]):
            own = boxes[n, c if boxes.shape[1] > 1 else 0]
            score = [float(s) for s in scores[n, c]]
            overlap = iou(own, own)
            rank = [p for _, p in sorted((-s, p) for p, s in enumerate(score))][: how.candidates]
            kept: list[int] = []
            for p in rank:
                if score[p] > how.low and all(float(overlap[p, q]) <= how.iou for q in kept):
                    kept.append(p)
            found += [(-score[p], c, rank.index(p), own[p].tolist()) for p in kept]
        out += [(n, -s, c, box) for s, c, _, box in sorted(found)[: how.keep]]
    return out


def case(seed: int, shared: bool, images: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    make = torch.Generator().manual_seed(seed)
    low = torch.rand(images, 1 if shared else 4, 40, 2, generator=make) * 50
    boxes = torch.cat([low, low + torch.rand(low.shape, generator=make) * 30 + 1], -1)
    scores = torch.rand(images, 4, 40, generator=make)
    return boxes, scores.mul(20).round().div(20)  # many ties


@pytest.mark.parametrize("shared", [True, False], ids=["boxes shared", "boxes of each class"])
@pytest.mark.parametrize("seed", range(4))
def test_detections_are_those_of_a_loop(seed: int, shared: bool) -> None:
    boxes, scores = case(seed, shared)
    found = select(boxes, scores, HOW)
    rows = list(zip(found[3].tolist(), found[1].tolist(), found[2].tolist(), found[0].tolist(), strict=True))
    expected = by_loop(boxes, scores, HOW)
    assert [row[:3] for row in rows] == [row[:3] for row in expected]
    assert [row[3] for row in rows] == [row[3] for row in expected]


def test_an_image_does_not_see_the_others() -> None:
    boxes, scores = case(5, shared=True)
    together = select(boxes, scores, HOW)
    for n in range(3):
        alone = select(boxes[n : n + 1], scores[n : n + 1], HOW)
        mine = together[3] == n
        assert all(torch.equal(a, b[mine]) for a, b in zip(alone[:3], together[:3], strict=True))


class Tail(nn.Module):
    """(N, 40, 8) numbers -> detections of 4 classes."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return select(x[:, None, :, :4], x[:, :, 4:].transpose(1, 2), HOW)


@pytest.fixture(scope="module")
def exported() -> object:
    return export_module(Tail(), (40, 8), output_names=OUTPUTS)


@pytest.mark.parametrize("images", [1, 2, 7])
def test_exported_the_order_of_ties_is_the_same(exported: object, images: int) -> None:
    boxes, scores = case(images, shared=True, images=images)
    x = torch.cat([boxes[:, 0], scores.transpose(1, 2)], -1)
    found = open_session(exported)({"input": x.numpy()})  # type: ignore[arg-type]
    for name, value in zip(OUTPUTS, Tail()(x), strict=True):
        assert np.array_equal(found[name], value.numpy()), name
        assert found[name].dtype == value.numpy().dtype


@pytest.mark.parametrize("empty", [[0], [1], [0, 1]])
def test_exported_images_without_detections_are_correct(exported: object, empty: list[int]) -> None:
    boxes, scores = case(9, shared=True, images=2)
    scores[empty] = 0.2  # not above the limit
    x = torch.cat([boxes[:, 0], scores.transpose(1, 2)], -1)
    found = open_session(exported)({"input": x.numpy()})  # type: ignore[arg-type]
    assert set(found["image"].tolist()) == {0, 1} - set(empty)
    assert found["boxes"].shape == (len(found["scores"]), 4)
    assert np.array_equal(found["scores"], select(boxes, scores, HOW)[1].numpy())
