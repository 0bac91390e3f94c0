"""Narrow groups made wide: every shape, and what is left alone; oracles: ONNX Runtime, and the reference evaluator."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from exporters.rewrites import widen_groups
from exporters.rewrites.widen_groups import MOST, WIDE, factor, widened
from pass_examples import draw
from rewrite_tools import against_reference, check, conv_model


@given(
    groups=st.integers(1, 12),
    inputs=st.integers(1, 5),
    outputs=st.integers(1, 18),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    bias=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_any_grouped_convolution(
    groups: int,
    inputs: int,
    outputs: int,
    kernel: tuple[int, int],
    stride: int,
    dilation: int,
    pads: tuple[int, int, int, int],
    bias: bool,
) -> None:
    model = conv_model(
        (groups * inputs, 7, 6), (groups * outputs, inputs, *kernel), bias=bias, group=groups,
        strides=(stride, stride), dilations=(dilation, dilation), pads=pads,
    )  # fmt: skip
    narrow = groups > 1 and inputs > 1 and outputs < WIDE
    check(widen_groups.run(model), model, acts=narrow and factor(groups, outputs) > 1)


@given(groups=st.integers(1, 200), width=st.integers(1, 15))
@settings(max_examples=200, deadline=None)
def test_the_factor_divides_is_the_least_that_suffices_and_leaves_nothing_to_do(groups: int, width: int) -> None:
    times = factor(groups, width)
    assert groups % times == 0
    assert times * width <= MOST
    better = [k for k in range(1, groups + 1) if groups % k == 0 and WIDE <= k * width <= MOST]
    assert times == min(better) if better else times * width < WIDE
    assert times * width >= WIDE or factor(groups // times, times * width) == 1


@pytest.mark.parametrize(
    ("groups", "width", "times"), [(32, 4, 4), (46, 8, 2), (2, 15, 2), (2, 8, 2), (7, 8, 1), (3, 2, 3), (32, 16, 1)]
)
def test_factors_of_networks(groups: int, width: int, times: int) -> None:
    """ResNeXt's 32 groups of 4, RegNet's of 8; what is wide already stays."""
    assert factor(groups, width) == times


def test_the_zeros_lie_between_the_groups() -> None:
    weight = draw(4, 2, 1, 1)
    zero = np.zeros((1, 2, 1, 1), np.float32)
    rows = [(weight[0:1], zero), (weight[1:2], zero), (zero, weight[2:3]), (zero, weight[3:4])]
    expected = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    np.testing.assert_array_equal(widened(weight, 2, 2), expected)


def test_a_resnext_layer() -> None:
    model = conv_model((32, "H", 8), (32, 4, 3, 3), group=8, pads=(1, 1, 1, 1))  # type: ignore[arg-type]
    result = widen_groups.run(model)
    assert [change.what for change in result.changes] == ["8 groups are 2"]
    (weight,) = [t for t in result.model.graph.initializer if len(t.dims) == 4]
    assert list(weight.dims) == [32, 16, 3, 3]
    assert np.count_nonzero(numpy_helper.to_array(weight)) == 32 * 4 * 9
    against_reference(model, result.model, (2, 32, 5, 8))


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        (conv_model((8, 6, 6), (8, 1, 3, 3), group=8), []),  # depthwise
        (conv_model((8, 6, 6), (16, 1, 3, 3), group=8), []),  # and with two filters a channel
        (conv_model((8, 6, 6), (8, 8, 3, 3)), []),  # one group
        (conv_model((32, 6, 6), (32, 16, 3, 3), group=2), []),  # wide ones
        (
            conv_model((56, 6, 6), (56, 8, 3, 3), group=7),
            ["no divisor of its 7 groups makes them 16 to 32 wide"],
        ),
    ],
)
def test_left_alone(model: onnx.ModelProto, reasons: list[str]) -> None:
    result = widen_groups.run(model)
    assert not result.modified
    assert [kept.reason for kept in result.kept] == reasons
