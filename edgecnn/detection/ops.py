"""Operators of the ONNX standard that PyTorch lacks, as torch operators that run here and export to themselves.

    non_max_suppression   NonMaxSuppression     greedy: the best box stays, what overlaps it by more than iou goes
    top_k                 TopK                  at most so many; of equal values the one with the lower index is first
    top_k_above           TopK                  as many as the row with most values above a limit has, at most so many
    where_true            NonZero               places of True, in row-major order
    roi_align             RoiAlign              mean of bilinear samples in each bin of a region
    max_roi_pool          MaxRoiPool            maximum of the pixels in each bin of a region

Each has three parts: the eager kernel (CPU, any float type), the shapes it promises to the tracer, and one ONNX node.
A result whose length depends on values gets a symbol while a graph is traced; on the meta device, which has neither
values nor symbols, it gets the largest length possible. That is what counting parameters and MACs needs.

RoIAlign is separable: samples lie on a grid, and a bilinear weight is a product, so that a region's bins are
A_y X A_x^T with one matrix of weights for rows and one for columns. Source: ONNX operator specification; Girshick 2015
(RoI pooling); He et al. 2017 (RoIAlign). Test: tests/test_detection_ops.py (oracle: ONNX Runtime's kernels).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from onnx import TensorProto

from exporters.torch_export import exports_as
from runtimes.base import Array


def _length(most: Callable[[], int], least: int = 0) -> Any:
    """A symbol for a length that depends on values; on the meta device, which has none, the largest length."""
    try:
        return torch.library.get_ctx().new_dynamic_size(min=least)
    except RuntimeError:
        return most()


# ---------------------------------------------------------------------------------------------------- NonMaxSuppression
@torch.library.custom_op("edgecnn::non_max_suppression", mutates_args=())
def non_max_suppression(boxes: torch.Tensor, scores: torch.Tensor, most: int, iou: float, low: float) -> torch.Tensor:
    """boxes (B, N, 4) as corners, scores (B, C, N) -> int64 (M, 3): (batch, class, box), the best of a class first.

    Only scores above `low` take part, at most `most` boxes of a class stay, and IoU above `iou` suppresses.
    """
    corners, values = (t.detach().cpu().numpy() for t in (boxes, scores))
    found = [
        np.array([(b, c, i) for i in greedy(corners[b], values[b, c], most, iou, low)], np.int64).reshape(-1, 3)
        for b in range(values.shape[0])
        for c in range(values.shape[1])
    ]
    return torch.from_numpy(np.concatenate([np.zeros((0, 3), np.int64), *found])).to(boxes.device)


def greedy(boxes: Array, scores: Array, most: int, iou: float, low: float) -> list[int]:
    """Indices of the boxes (N, 4) that stay for one class, the best first."""
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] > low]
    kept: list[int] = []
    while len(order) and len(kept) < most:
        best, order = int(order[0]), order[1:]
        kept.append(best)
        order = order[overlaps(boxes[best], boxes[order]) <= iou]
    return kept


def overlaps(box: Array, others: Array) -> Array:
    """IoU of one box (4,) with `others` (N, 4), corners in any order; 0 where a box has no area."""
    low, high = np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])
    lows, highs = np.minimum(others[:, :2], others[:, 2:]), np.maximum(others[:, :2], others[:, 2:])
    sides = np.maximum(np.minimum(high, highs) - np.maximum(low, lows), 0)
    shared = sides[:, 0] * sides[:, 1]
    areas = (highs - lows).prod(1)
    area = (high - low).prod()
    union = area + areas - shared
    valid = (areas > 0) & (area > 0) & (union > 0)
    return np.asarray(np.where(valid, shared / np.where(valid, union, 1), 0))


@non_max_suppression.register_fake
def _(boxes: torch.Tensor, scores: torch.Tensor, most: int, iou: float, low: float) -> torch.Tensor:
    length = _length(lambda: scores.shape[0] * scores.shape[1] * min(most, scores.shape[2]))
    return boxes.new_empty((length, 3), dtype=torch.int64)


@exports_as("edgecnn::non_max_suppression")
def _(op: Any) -> Any:
    def translate(boxes: Any, scores: Any, most: int, iou: float, low: float) -> Any:
        limits = op.Constant(value_ints=[most]), op.Constant(value_floats=[iou]), op.Constant(value_floats=[low])
        return op.NonMaxSuppression(boxes, scores, *limits)

    return translate


# ------------------------------------------------------------------------------------------------------ TopK, NonZero
@torch.library.custom_op("edgecnn::top_k", mutates_args=())
def top_k(values: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `most` largest along the last axis, all where there are fewer, the largest first, and their int64 indices.

    Ties keep their order.
    """
    ordered, index = torch.sort(values, dim=-1, descending=True, stable=True)
    return ordered[..., :most].contiguous(), index[..., :most].contiguous()


@top_k.register_fake
def _(values: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    count: Any = torch.sym_min(most, values.shape[-1])  # type: ignore[no-untyped-call]  # `min` would choose for ever
    shape = (*values.shape[:-1], count)
    return values.new_empty(shape), values.new_empty(shape, dtype=torch.int64)


@exports_as("edgecnn::top_k")
def _(op: Any) -> Any:
    def translate(values: Any, most: int) -> Any:
        places = values.shape[-1]
        if isinstance(places, int):
            count = op.Constant(value_ints=[min(most, places)])
        else:
            count = op.Min(op.Shape(values, start=len(values.shape) - 1), op.Constant(value_ints=[most]))
        return op.TopK(values, count, axis=-1, largest=1, sorted=1)

    return translate


@torch.library.custom_op("edgecnn::top_k_above", mutates_args=())
def top_k_above(values: torch.Tensor, most: int, low: float) -> tuple[torch.Tensor, torch.Tensor]:
    """`top_k` with the smallest count that loses no value above `low`, but 1 at least and `most` at most.

    All rows get the count of the row that needs the largest one: values (..., N) -> two of (..., count).
    """
    needed = int((values > low).sum(-1).max())
    best, at = top_k(values, min(max(needed, 1), most))
    return best, at


@top_k_above.register_fake
def _(values: torch.Tensor, most: int, low: float) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (*values.shape[:-1], _length(lambda: min(most, values.shape[-1]), least=1))
    return values.new_empty(shape), values.new_empty(shape, dtype=torch.int64)


@exports_as("edgecnn::top_k_above")
def _(op: Any) -> Any:
    def translate(values: Any, most: int, low: float) -> Any:
        # Summed in float32: exact to 2^24, and half the time of int32 in ONNX Runtime.
        above = op.Cast(op.Greater(values, op.Constant(value_float=low)), to=TensorProto.FLOAT)
        needed = op.ReduceMax(op.ReduceSum(above, op.Constant(value_ints=[-1]), keepdims=0), keepdims=0)
        count = op.Clip(op.Cast(needed, to=TensorProto.INT64), op.Constant(value_int=1), op.Constant(value_int=most))
        return op.TopK(values, op.Reshape(count, op.Constant(value_ints=[1])), axis=-1, largest=1, sorted=1)

    return translate


@torch.library.custom_op("edgecnn::where_true", mutates_args=())
def where_true(mask: torch.Tensor) -> torch.Tensor:
    """int64 (M,): the places of True in a mask (N,), ascending."""
    return mask.nonzero().flatten()


@where_true.register_fake
def _(mask: torch.Tensor) -> torch.Tensor:
    return mask.new_empty((_length(lambda: mask.shape[0]),), dtype=torch.int64)


@exports_as("edgecnn::where_true")
def _(op: Any) -> Any:
    def translate(mask: Any) -> Any:
        return op.Squeeze(op.NonZero(mask), op.Constant(value_ints=[0]))

    return translate


# ------------------------------------------------------------------------------------------------------------ RoiAlign
@torch.library.custom_op("edgecnn::roi_align", mutates_args=())
def roi_align(
    x: torch.Tensor, rois: torch.Tensor, image: torch.Tensor, size: list[int], scale: float, samples: int
) -> torch.Tensor:
    """x (N, C, H, W), rois (R, 4) corners in pixels of the input, image (R,) -> (R, C, *size).

    `scale` is pixels of x per pixel of the input, `samples` the number of samples per bin and axis. Pixel centres lie
    at half integers ("half_pixel").
    """
    corners = rois * scale - 0.5
    rows = sample_weights(corners[:, 1], corners[:, 3], size[0], samples, x.shape[2])
    columns = sample_weights(corners[:, 0], corners[:, 2], size[1], samples, x.shape[3])
    pooled = [rows[i] @ x[n] @ columns[i].T for i, n in enumerate(image.tolist())]
    return torch.stack(pooled) if pooled else x.new_zeros((0, x.shape[1], *size))


def sample_weights(low: torch.Tensor, high: torch.Tensor, bins: int, samples: int, length: int) -> torch.Tensor:
    """(R, bins, length): weight of each of `length` pixels in the mean of the bilinear samples of each bin.

    Samples up to one pixel outside take the value of the edge; those further out are zero.
    """
    step = (high - low) / (bins * samples)
    place = low[:, None] + (torch.arange(bins * samples, dtype=low.dtype) + 0.5) * step[:, None]
    inside = (place >= -1) & (place <= length)
    place = place.clamp(0, length - 1)
    weight = (1 - (place[..., None] - torch.arange(length, dtype=low.dtype)).abs()).clamp(min=0)
    return (weight * inside[..., None]).reshape(-1, bins, samples, length).mean(2)


@roi_align.register_fake
def _(
    x: torch.Tensor, rois: torch.Tensor, image: torch.Tensor, size: list[int], scale: float, samples: int
) -> torch.Tensor:
    return x.new_empty((rois.shape[0], x.shape[1], *size))


@exports_as("edgecnn::roi_align")
def _(op: Any) -> Any:
    def translate(x: Any, rois: Any, image: Any, size: list[int], scale: float, samples: int) -> Any:
        return op.RoiAlign(
            x,
            rois,
            image,
            coordinate_transformation_mode="half_pixel",
            mode="avg",
            output_height=size[0],
            output_width=size[1],
            sampling_ratio=samples,
            spatial_scale=scale,
        )

    return translate


# ---------------------------------------------------------------------------------------------------------- MaxRoiPool
@torch.library.custom_op("edgecnn::max_roi_pool", mutates_args=())
def max_roi_pool(x: torch.Tensor, rois: torch.Tensor, size: list[int], scale: float) -> torch.Tensor:
    """x (N, C, H, W), rois (R, 5) as (image, corners in pixels of the input) -> (R, C, *size); an empty bin is 0."""
    pooled = [_max_bins(x[int(roi[0])], roi[1:], size, scale) for roi in rois.cpu()]
    return torch.stack(pooled) if pooled else x.new_zeros((0, x.shape[1], *size))


def _max_bins(x: torch.Tensor, roi: torch.Tensor, size: list[int], scale: float) -> torch.Tensor:
    columns, rows = (
        pixel_bins(float(roi[axis]), float(roi[axis + 2]), scale, bins, x.shape[2 - axis])
        for axis, bins in ((0, size[1]), (1, size[0]))
    )
    out = x.new_zeros((x.shape[0], *size))
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            if top < bottom and left < right:
                out[:, i, j] = x[:, top:bottom, left:right].amax((1, 2))
    return out


def pixel_bins(low: float, high: float, scale: float, bins: int, length: int) -> list[tuple[int, int]]:
    """[first, last) pixel of each bin along one axis: the ends are rounded to pixels, and both belong to the region."""
    ends = np.array([low, high], np.float32) * np.float32(scale)
    first, last = (int(end) for end in np.trunc(ends + np.copysign(np.float32(0.5), ends)))  # halves away from zero
    step = np.float32(max(last - first + 1, 1)) / np.float32(bins)
    edges = [(np.floor(np.float32(i) * step), np.ceil(np.float32(i + 1) * step)) for i in range(bins)]
    return [(min(max(int(a) + first, 0), length), min(max(int(b) + first, 0), length)) for a, b in edges]


@max_roi_pool.register_fake
def _(x: torch.Tensor, rois: torch.Tensor, size: list[int], scale: float) -> torch.Tensor:
    return x.new_empty((rois.shape[0], x.shape[1], *size))


@exports_as("edgecnn::max_roi_pool")
def _(op: Any) -> Any:
    def translate(x: Any, rois: Any, size: list[int], scale: float) -> Any:
        return op.MaxRoiPool(x, rois, pooled_shape=size, spatial_scale=scale)

    return translate
