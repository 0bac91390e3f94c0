"""The integer grids against two oracles that we did not write: onnx.reference and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from exporters.quantization.affine import Grid, activation_grid, fit_bias, quantize_bias, weight_grid

FLOATS = st.floats(-1e4, 1e4, width=32, allow_subnormal=False)


def reference_round_trip(x: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """(integers, reals) as the ONNX specification's own evaluator computes them."""
    attrs = {} if grid.axis is None else {"axis": grid.axis}
    kind = helper.np_dtype_to_tensor_dtype(grid.zero_point.dtype)
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **attrs),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **attrs),
        ],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, grid.scale.shape),
            helper.make_tensor_value_info("z", kind, grid.zero_point.shape),
        ],
        [helper.make_tensor_value_info("q", kind, None), helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    q, y = ReferenceEvaluator(model).run(None, {"x": x, "s": grid.scale, "z": grid.zero_point})
    return q, y


@given(st.tuples(FLOATS, FLOATS).map(sorted), hnp.arrays(np.float32, (2, 5), elements=FLOATS))
@settings(max_examples=60, deadline=None)
def test_activation_grid_is_quantize_linear(ends: list[float], x: np.ndarray) -> None:
    grid = activation_grid(*ends)
    assume(np.abs(x).max() < 2**30 * float(grid.scale))  # beyond, the evaluator wraps in int32 before it saturates
    q, y = reference_round_trip(x, grid)
    np.testing.assert_array_equal(grid.quantize(x), q)
    np.testing.assert_array_equal(grid.dequantize(q), y)


@given(st.tuples(FLOATS, FLOATS).map(sorted))
@settings(max_examples=200, deadline=None)
def test_activation_grid_covers_its_range_and_zero_exactly(ends: list[float]) -> None:
    low, high = ends
    grid = activation_grid(low, high)
    step = float(grid.scale)
    assert grid.dequantize(grid.quantize(np.zeros(1, np.float32)))[0] == 0.0
    assert grid.zero_point.dtype == np.uint8
    # the zero point is rounded, so each end may be cut by half a step, and no more
    assert grid.low <= min(low, 0.0) + 0.501 * step
    assert grid.high >= max(high, 0.0) - 0.501 * step


@given(st.tuples(FLOATS, FLOATS).map(sorted), st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_error_inside_the_range_is_half_a_step(ends: list[float], where: float) -> None:
    grid = activation_grid(*ends)
    x = np.asarray([np.clip(ends[0] + where * (ends[1] - ends[0]), grid.low, grid.high)], np.float32)
    # 1e-5 of the step and of x: float32 rounding of the product q * scale
    allowed = 0.50001 * float(grid.scale) + 1e-6 * abs(float(x[0]))
    assert abs(float(grid.dequantize(grid.quantize(x))[0]) - float(x[0])) <= allowed


@pytest.mark.parametrize("high", [4.7e-35, 1e-20, 1.0])
def test_values_far_outside_saturate(high: float) -> None:
    grid = activation_grid(0.0, high)
    assert grid.quantize(np.asarray([-1e4, 0.0, 1e4], np.float32)).tolist() == [0, 0, 255]


def test_a_dead_tensor_gets_scale_one() -> None:
    grid = activation_grid(0.0, 0.0)
    assert float(grid.scale) == 1.0
    assert int(grid.zero_point) == 0


@pytest.mark.parametrize("ends", [(float("nan"), 1.0), (0.0, float("inf"))])
def test_a_range_that_is_not_finite_is_refused(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="not finite"):
        activation_grid(*ends)


@pytest.mark.parametrize("axis", [0, 1, None])
def test_weight_grid_matches_torch(axis: int | None) -> None:
    weight = (
        np.random.default_rng(0).normal(size=(6, 4, 3, 3)).astype(np.float32) * np.arange(1, 7)[:, None, None, None]
    )
    weight = weight.astype(np.float32)
    grid = weight_grid(weight, axis)
    t = torch.from_numpy(weight)
    if axis is None:
        oracle = torch.fake_quantize_per_tensor_affine(t, float(grid.scale), 0, -127, 127)
    else:
        zeros = torch.zeros(len(grid.scale), dtype=torch.int32)
        oracle = torch.fake_quantize_per_channel_affine(t, torch.from_numpy(grid.scale), zeros, axis, -127, 127)
    np.testing.assert_array_equal(grid.dequantize(grid.quantize(weight)), oracle.numpy())
    assert grid.quantize(weight).min() >= -127  # symmetric: -128 is never used


def test_a_channel_of_zeros_keeps_a_usable_bias_grid() -> None:
    weight = np.zeros((3, 2, 1, 1), np.float32)
    weight[0], weight[2] = 1.27, 2.54
    grid = weight_grid(weight, 0)
    np.testing.assert_allclose(grid.scale, [0.01, 0.015, 0.02], rtol=1e-6)  # the dead one gets the median
    q, scale = quantize_bias(np.asarray([0.0, 0.3, 0.0], np.float32), 0.02, grid.scale)
    assert abs(float(q[1] * scale[1]) - 0.3) < 2e-4  # half a step of 0.02 * 0.015


def test_a_bias_that_leaves_int32_makes_its_channel_coarser() -> None:
    weight = np.full((2, 1, 1, 1), 1e-7, np.float32)
    bias = np.asarray([100.0, 0.0], np.float32)
    grid = weight_grid(weight, 0)
    plain, _ = quantize_bias(bias, 1e-3, grid.scale)
    assert plain[0] == 2**31 - 1  # saturated: wrong by far
    fitted = fit_bias(grid, bias, 1e-3)
    q, scale = quantize_bias(bias, 1e-3, fitted.scale)
    assert abs(int(q[0])) == pytest.approx(2**30, rel=1e-6), "the products may add as much again"
    assert abs(float(q[0]) * float(scale[0]) - 100.0) < 1e-4
    assert fitted.scale[1] == grid.scale[1]  # the other channel keeps its grid


@given(hnp.arrays(np.float32, 6, elements=st.floats(-10, 10, width=32)), st.floats(1e-4, 1.0), st.floats(1e-4, 1.0))
@settings(max_examples=100, deadline=None)
def test_a_bias_is_rounded_to_the_nearest_step(bias: np.ndarray, input_scale: float, weight_scale: float) -> None:
    q, scale = quantize_bias(bias, input_scale, np.full(6, weight_scale, np.float32))
    assert q.dtype == np.int32
    error = np.abs(q.astype(np.float64) * scale.astype(np.float64) - bias.astype(np.float64))
    assert (error <= 0.5001 * scale.astype(np.float64)).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@given(scale=st.floats(1e-30, 1e30), zero=st.integers(0, 255))
@settings(max_examples=50, deadline=None)
def test_dequantized_numbers_are_rounded_once(dtype: type, scale: float, zero: int) -> None:
    ends = np.iinfo(dtype)
    q = np.arange(ends.min, ends.max + 1).astype(dtype)
    offset = dtype(zero + ends.min)
    grid = Grid(np.float32(scale), offset)
    want = ((q.astype(np.float64) - float(offset)) * np.float64(np.float32(scale))).astype(np.float32)
    np.testing.assert_array_equal(grid.dequantize(q), want)
