"""The last step against a loop over images and classes; ties, batches and nothing to find."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from torch import nn

import edgecnn.detection.select as module
from edgecnn.detection.boxes import iou
from edgecnn.detection.ops import non_max_suppression, top_k
from edgecnn.detection.select import OUTPUTS, Detections, Selection, select
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


# ------------------------------------------------------------------------------- against all candidates of every class
def of_all_candidates(boxes: torch.Tensor, scores: torch.Tensor, how: Selection) -> Detections:
    """`select` with tables of full width, whatever the scores are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "top_k_above", lambda values, most, low: top_k(values, most))
        return select(boxes, scores, how)


def few_above(seed: int, shared: bool, images: int, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """As `case`, with about `share` of the scores above the limit and many equal to it."""
    boxes, scores = case(seed, shared, images)
    keep = torch.rand(scores.shape, generator=torch.Generator().manual_seed(seed + 1)) < share
    return boxes, torch.where(keep, scores + HOW.low, torch.full_like(scores, HOW.low))


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 10_000),
    shared=st.booleans(),
    images=st.integers(1, 4),
    share=st.sampled_from([0.0, 0.02, 0.2, 0.7, 1.0]),
    candidates=st.sampled_from([1, 5, 25, 99]),
    keep=st.sampled_from([1, 12, 999]),
)
def test_short_tables_lose_nothing(
    seed: int, shared: bool, images: int, share: float, candidates: int, keep: int
) -> None:
    boxes, scores = few_above(seed, shared, images, share)
    how = Selection(HOW.low, HOW.iou, candidates, keep)
    for found, expected in zip(select(boxes, scores, how), of_all_candidates(boxes, scores, how), strict=True):
        assert torch.equal(found, expected)


def test_the_table_is_as_wide_as_the_fullest_class(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, scores = case(0, shared=True, images=2)
    scores = scores.clamp(max=HOW.low)
    scores[1, 2, [3, 5, 8]] = 0.7
    scores[0, 1, 0] = 0.6
    widths: list[int] = []

    def spy(chosen: torch.Tensor, rows: torch.Tensor, *limits: Any) -> torch.Tensor:
        widths.append(rows.shape[-1])
        picked: torch.Tensor = non_max_suppression(chosen, rows, *limits)
        return picked

    monkeypatch.setattr(module, "non_max_suppression", spy)
    found = select(boxes, scores, HOW)
    assert widths == [3]
    assert found[3].tolist()[0] == 0
    assert set(found[2].tolist()) == {1, 2}


class OpenTail(nn.Module):
    """(N, 8, P) numbers -> detections of 4 classes; the number of places is open."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return select(x[:, None, :4].transpose(2, 3), x[:, 4:], HOW)


@pytest.fixture(scope="module")
def open_tail() -> onnx.ModelProto:
    return export_module(OpenTail(), (8, 40), output_names=OUTPUTS, dynamic_size=True)


@pytest.mark.parametrize("places", [1, 7, 40])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("images", [1, 3])
def test_exported_with_any_number_of_places(open_tail: onnx.ModelProto, places: int, share: float, images: int) -> None:
    """In ONNX Runtime and in the standard's own implementation; 7 places are fewer than the candidates of a class."""
    boxes, scores = few_above(3, True, images, share)
    x = torch.cat([boxes[:, 0].transpose(1, 2), scores], 1)[..., :places].contiguous()
    expected = of_all_candidates(x[:, None, :4].transpose(2, 3), x[:, 4:], HOW)
    answers = (
        open_session(open_tail)({"input": x.numpy()}),
        ReferenceEvaluator(open_tail).run(None, {"input": x.numpy()}),
    )
    for name, value, reference in zip(OUTPUTS, expected, answers[1], strict=True):
        assert np.array_equal(answers[0][name], value.numpy()), name
        assert np.array_equal(reference, value.numpy()), name


def test_the_graph_has_no_branches(open_tail: onnx.ModelProto) -> None:
    assert not {"If", "Loop", "Scan"} & {node.op_type for node in open_tail.graph.node}


def test_every_length_that_depends_on_values_has_a_name(open_tail: onnx.ModelProto) -> None:
    values = [*open_tail.graph.output, *open_tail.graph.value_info]
    sizes = {dim.dim_param for value in values for dim in value.type.tensor_type.shape.dim}
    assert [out.type.tensor_type.shape.dim[0].dim_param for out in open_tail.graph.output] == ["found"] * 4
    assert not [size for size in sizes if re.search(r"\bu\d", size)]
    assert [size for size in sizes if re.search(r"\*found_", size)]  # classes * columns, as a product


# ------------------------------------------------------------------------------------------------------------- exported
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
