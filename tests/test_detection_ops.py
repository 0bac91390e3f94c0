"""Each operator against ONNX Runtime's kernel, in eager mode and exported, with regions outside and on edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from torch import nn

from edgecnn.detection import ops
from exporters.torch_export import export_module
from graphs import parse
from runtimes.base import Array, Runner
from runtimes.session import open_session

BOXES = torch.tensor([[0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30], [0, 0, 10, 9], [5, 5, 5, 9]], dtype=torch.float)


def run(text: str, **feeds: Array) -> list[Array]:
    session = open_session(parse(text))
    return list(session(feeds).values())


def random_boxes(rng: np.random.Generator, *shape: int) -> Array:
    """Corners inside and beyond an image of 64 x 64 pixels, some of them without area."""
    start = rng.uniform(-10, 60, (*shape, 2))
    size = rng.uniform(0, 40, (*shape, 2)) * (rng.random((*shape, 1)) > 0.1)
    return np.concatenate([start, start + size], -1).astype(np.float32)


# ---------------------------------------------------------------------------------------------------- suppression
NMS = """
g (float[B, N, 4] boxes, float[B, C, N] scores, int64[1] most, float[1] iou, float[1] low) => (int64[M, 3] picked) {
  picked = NonMaxSuppression(boxes, scores, most, iou, low)
}"""


def onnx_nms(boxes: Array, scores: Array, most: int, iou: float, low: float) -> Array:
    limits = {"most": np.array([most]), "iou": np.float32([iou]), "low": np.float32([low])}
    return run(NMS, boxes=boxes, scores=scores, **limits)[0]


def test_suppression_by_hand() -> None:
    """IoU of boxes 0 and 1 is 81 / 119, of 0 and 3 9 / 10; the box without area overlaps nothing."""
    scores = torch.tensor([[[0.8, 0.9, 0.3, 0.7, 0.6]]])

    def picked(most: int, iou: float, low: float) -> list[int]:
        return ops.non_max_suppression(BOXES[None], scores, most, iou, low)[:, 2].tolist()

    assert picked(9, 0.5, 0.0) == [1, 4, 2]
    assert picked(9, 81 / 119 + 1e-6, 0.0) == [1, 0, 4, 2]
    assert picked(2, 0.5, 0.0) == [1, 4]
    assert picked(9, 0.5, 0.3) == [1, 4]  # a score equal to the limit is out
    assert picked(9, 0.5, 0.95) == []


def test_an_overlap_equal_to_the_limit_does_not_suppress() -> None:
    boxes, scores = np.float32([[[0, 0, 10, 10], [0, 0, 10, 5]]]), np.float32([[[0.9, 0.8]]])
    ours = ops.non_max_suppression(torch.from_numpy(boxes), torch.from_numpy(scores), 9, 0.5, 0.0)
    assert len(ours) == len(onnx_nms(boxes, scores, 9, 0.5, 0.0)) == 2


@pytest.mark.parametrize("seed", range(20))
def test_suppression_is_that_of_onnx_runtime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, 3, 40)
    scores = rng.random((3, 4, 40)).astype(np.float32).round(1)  # many equal scores: the lower index comes first
    most, iou, low = int(rng.integers(1, 41)), float(rng.uniform(0, 0.9)), float(rng.choice([0.0, 0.35, 1.0]))
    ours = ops.non_max_suppression(torch.from_numpy(boxes), torch.from_numpy(scores), most, iou, low)
    assert np.array_equal(ours.numpy(), onnx_nms(boxes, scores, most, iou, low))


def test_suppression_takes_corners_in_any_order() -> None:
    boxes = random_boxes(np.random.default_rng(0), 1, 30)
    scores = np.random.default_rng(1).random((1, 1, 30), np.float32)
    turned = np.ascontiguousarray(boxes[..., [2, 1, 0, 3]])
    straight, odd = (ops.non_max_suppression(torch.from_numpy(b), torch.from_numpy(scores), 30, 0.3, 0.0)
                     for b in (boxes, turned))  # fmt: skip
    assert torch.equal(straight, odd)
    assert np.array_equal(odd.numpy(), onnx_nms(turned, scores, 30, 0.3, 0.0))


# ------------------------------------------------------------------------------------------------------- regions
ALIGN = """
g (float[N, C, H, W] x, float[R, 4] rois, int64[R] image) => (float[R, C, P, Q] y) {
  y = RoiAlign <coordinate_transformation_mode = "half_pixel", mode = "avg", output_height = 3, output_width = 2,
                sampling_ratio = 2, spatial_scale = 0.25> (x, rois, image)
}"""
POOL = """
g (float[N, C, H, W] x, float[R, 5] rois) => (float[R, C, P, Q] y) {
  y = MaxRoiPool <pooled_shape = [3, 2], spatial_scale = 0.25> (x, rois)
}"""


def regions(seed: int, count: int = 30) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    rois = random_boxes(rng, count)
    if seed % 2:
        rois = rois.round()  # halves of pixels after the scale: ties of the rounding
    x = rng.normal(size=(2, 5, 16, 14)).astype(np.float32)
    return x, rois, rng.integers(0, 2, count)


@pytest.mark.parametrize("seed", range(8))
def test_roi_align_is_that_of_onnx_runtime(seed: int) -> None:
    x, rois, image = regions(seed)
    ours = ops.roi_align(*map(torch.from_numpy, (x, rois, image)), [3, 2], 0.25, 2)
    # float32 sums of 4 x 4 products in another order, values up to 4
    assert np.abs(ours.numpy() - run(ALIGN, x=x, rois=rois, image=image)[0]).max() < 2e-6


def test_roi_align_of_a_ramp_is_the_ramp() -> None:
    """Bilinear sampling is exact on a plane: the mean of a bin is its value at the middle of the bin."""
    x = (torch.arange(16.0)[:, None] * 10 + torch.arange(16.0))[None, None] + 5.5  # value at (y, x): 10 y + x
    roi = torch.tensor([[4.0, 2.0, 12.0, 8.0]])
    pooled = ops.roi_align(x, roi, torch.tensor([0]), [3, 2], 1.0, 2)
    expected = torch.tensor([[30.0 + 6, 30 + 10], [50 + 6, 50 + 10], [70 + 6, 70 + 10]])
    assert torch.allclose(pooled[0, 0], expected, atol=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_max_roi_pool_is_that_of_onnx_runtime(seed: int) -> None:
    x, rois, image = regions(seed)
    rows = np.concatenate([image[:, None].astype(np.float32), rois], 1)
    ours = ops.max_roi_pool(torch.from_numpy(x), torch.from_numpy(rows), [3, 2], 0.25)
    assert np.array_equal(ours.numpy(), run(POOL, x=x, rois=rows)[0])  # a maximum is one of the values: exact


def test_max_roi_pool_by_hand() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    rois = torch.tensor([[0.0, 0, 0, 3, 3], [0, 2, 1, 2, 1], [0, 9, 9, 12, 12]])
    pooled = ops.max_roi_pool(x, rois, [2, 2], 1.0)
    assert pooled[0, 0].tolist() == [[5, 7], [13, 15]]
    assert pooled[1, 0].tolist() == [[6, 6], [6, 6]]  # one pixel serves all four bins
    assert pooled[2, 0].tolist() == [[0, 0], [0, 0]]  # outside: empty


def test_no_regions_give_no_rows() -> None:
    x = torch.zeros(1, 5, 8, 8)
    none = torch.zeros(0, dtype=torch.int64)
    assert ops.roi_align(x, torch.zeros(0, 4), none, [3, 2], 1.0, 2).shape == (0, 5, 3, 2)
    assert ops.max_roi_pool(x, torch.zeros(0, 5), [3, 2], 1.0).shape == (0, 5, 3, 2)


# -------------------------------------------------------------------------------------------------- top k, places
def test_equal_values_keep_their_order() -> None:
    values = torch.tensor([[1.0, 3, 3, 2, 3]])
    best, at = ops.top_k(values, 4)
    assert best.tolist() == [[3, 3, 3, 2]]
    assert at.tolist() == [[1, 2, 4, 3]]
    assert [found.tolist() for found in ops.top_k(values, 9)] == [[[3, 3, 3, 2, 1]], [[1, 2, 4, 3, 0]]]
    many = torch.arange(5000.0).reshape(1, -1) % 3  # long enough for a sort that would not be stable
    assert ops.top_k(many, 1000)[1].tolist() == [list(range(2, 3000, 3))]


VALUES = [[0.1, 0.9, 0.4, 0.9], [0.4, 0.4, 0.2, 0.3]]


@pytest.mark.parametrize(
    ("low", "most", "columns"),
    [
        (0.3, 9, 3),  # the first row has three, the second only two
        (0.3, 2, 2),
        (0.4, 9, 2),  # a value equal to the limit is not above it
        (0.9, 9, 1),  # none: one column stays
        (0.0, 9, 4),  # all
    ],
)
def test_top_k_above_is_as_long_as_its_fullest_row(low: float, most: int, columns: int) -> None:
    values = torch.tensor(VALUES)
    best, at = ops.top_k_above(values, most, low)
    assert best.shape == at.shape == (2, columns)
    assert all(torch.equal(a, b) for a, b in zip((best, at), ops.top_k(values, columns), strict=True))


class Above(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        best, at = ops.top_k_above(x, 6, 0.5)
        return best, at


@pytest.fixture(scope="module")
def above() -> tuple[Runner, Runner]:
    """ONNX Runtime and the standard's own implementation of one graph whose rows are of any length."""
    model = export_module(Above(), (3, 9), output_names=("best", "at"), dynamic_size=True)
    reference = ReferenceEvaluator(model)
    return open_session(model), lambda feed: dict(zip(("best", "at"), reference.run(None, dict(feed)), strict=True))


@settings(deadline=None, max_examples=60)
@given(
    images=st.integers(1, 3),
    places=st.integers(1, 12),
    seed=st.integers(0, 10_000),
    level=st.sampled_from([-1.0, -0.4, 0.0, 0.4, 1.0]),  # from none above the limit to all
)
def test_exported_top_k_above_is_the_same(
    above: tuple[Runner, Runner], images: int, places: int, seed: int, level: float
) -> None:
    values = np.random.default_rng(seed).random((images, 3, places)).round(1) + level  # ties, also with the limit
    feed = {"input": values.astype(np.float32)}
    best, at = (value.numpy() for value in Above()(torch.from_numpy(feed["input"])))
    assert best.shape[-1] == min(max(int((feed["input"] > 0.5).sum(-1).max()), 1), 6)
    for found in (run(feed) for run in above):
        assert np.array_equal(found["best"], best)
        assert np.array_equal(found["at"], at)


class All(nn.Module):
    """Every operator, on tensors made of one image; the number of places is dynamic."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        best, at = ops.top_k(x.flatten(1), 9)
        places = ops.where_true(best.reshape(-1) > 1.0)
        boxes = at.reshape(-1, 1).index_select(0, places).to(x) / 16 + torch.tensor([0.0, 1, 9, 7])
        image = torch.arange(x.shape[0]).unsqueeze(1).expand(x.shape[0], 9).reshape(-1).index_select(0, places)
        picked = ops.non_max_suppression(boxes[None], boxes[None, :, 0][:, None], 5, 0.5, 0.0)
        aligned = ops.roi_align(x, boxes, image, [3, 2], 0.5, 2)
        pooled = ops.max_roi_pool(x, torch.cat([image[:, None].to(x), boxes], 1), [3, 2], 0.5)
        return best, at, places, picked, aligned, pooled


NAMES = ("best", "at", "places", "picked", "aligned", "pooled")


@pytest.fixture(scope="module")
def exported() -> object:
    return export_module(All(), (2, 8, 8), output_names=NAMES)


@pytest.mark.parametrize("images", [1, 2, 5])
@pytest.mark.parametrize("level", [0.0, -9.0], ids=["some places", "no place"])
def test_exported_they_are_standard_operators_with_the_same_answers(
    exported: object, images: int, level: float
) -> None:
    x = torch.randn(images, 2, 8, 8, generator=torch.Generator().manual_seed(images)) + level
    session = open_session(exported)  # type: ignore[arg-type]
    found = session({"input": x.numpy()})
    for name, expected in zip(NAMES, All()(x), strict=True):
        assert found[name].shape == tuple(expected.shape), name
        assert np.allclose(found[name], expected.numpy(), atol=2e-6), name


def test_the_graph_holds_no_foreign_operators(exported: object) -> None:
    kinds = {(node.domain, node.op_type) for node in exported.graph.node}  # type: ignore[attr-defined]
    assert {domain for domain, _ in kinds} == {""}
    assert {"NonMaxSuppression", "RoiAlign", "MaxRoiPool", "TopK", "NonZero"} <= {kind for _, kind in kinds}


def test_on_the_meta_device_a_length_is_the_largest_possible() -> None:
    with torch.device("meta"):
        outputs = All()(torch.zeros(3, 2, 8, 8))
    assert [tuple(o.shape) for o in outputs] == [(3, 9), (3, 9), (27,), (5, 3), (27, 2, 3, 2), (27, 2, 3, 2)]
    best, at = ops.top_k_above(torch.zeros(2, 5, 7, device="meta"), 4, 0.5)
    assert best.shape == at.shape == (2, 5, 4)
    assert ops.top_k_above(torch.zeros(2, 5, 7, device="meta"), 9, 0.5)[0].shape == (2, 5, 7)
    assert [ops.top_k(torch.zeros(2, 7, device="meta"), most)[0].shape[1] for most in (3, 9)] == [3, 7]
