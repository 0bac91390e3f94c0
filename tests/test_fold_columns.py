"""Columns as channels: any kernel, stride and padding that fits is the same function."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.rewrites import fold_columns
from exporters.rewrites.fold_columns import blocks, folded
from rewrite_tools import against_reference, check, conv_model


@given(
    channels=st.integers(1, 4),
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    pads=st.tuples(*[st.integers(0, 4)] * 4),
    width=st.integers(4, 17),
    height=st.integers(7, 10),
    bias=st.booleans(),
    act=st.sampled_from(["", "Relu (c)", "LeakyRelu <alpha = 0.1> (c)"]),
)
@settings(max_examples=80, deadline=None)
def test_any_shape_is_the_same_function_or_refused(
    channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
    width: int,
    height: int,
    bias: bool,
    act: str,
) -> None:
    columns = (width + pads[1] + pads[3] - kernel[1]) // stride[1] + 1
    if columns < 1:
        return
    model = conv_model((channels, height, width), (2, channels, *kernel), bias=bias, act=act, strides=stride, pads=pads)
    trivial = kernel == (1, 1) and stride[1] == 1
    check(fold_columns.run(model), model, acts=4 % stride[1] == 0 and not trivial)


@pytest.mark.parametrize(("kernel", "stride", "pad", "taps"), [(7, 2, 3, 3), (3, 2, 1, 2), (3, 1, 1, 3)])
def test_the_first_convolutions_of_known_networks(kernel: int, stride: int, pad: int, taps: int) -> None:
    model = conv_model((3, 16, 16), (8, 3, kernel, kernel), act="Relu (c)", strides=(stride, stride), pads=[pad] * 4)
    result = fold_columns.run(model)
    check(result, model, acts=True)
    against_reference(model, result.model, (2, 3, 16, 16))
    nodes = {n.op_type: n for n in result.model.graph.node}
    weight = next(t for t in result.model.graph.initializer if t.name == nodes["Conv"].input[1])
    assert list(weight.dims) == [8 * 4 // stride, 12, kernel, taps]
    ops = [n.op_type for n in result.model.graph.node]
    assert ops[ops.index("Conv") + 1] == "Relu", "the grid behind the convolution is that of the ReLU"


@pytest.mark.parametrize(
    ("image", "settings", "reason"),
    [
        ((3, 12, 12), {"strides": (3, 3), "pads": (1, 1, 1, 1)}, "a stride of 3"),
        ((3, 12, 12), {"dilations": (2, 2), "pads": (2, 2, 2, 2)}, "dilated"),
        ((3, 12, "W"), {"pads": (1, 1, 1, 1)}, "not fixed"),
        ((3, 12, 12), {"auto_pad": '"SAME_UPPER"'}, "automatic"),
    ],
)
def test_what_is_refused_says_why(image: Any, settings: dict[str, Any], reason: str) -> None:
    model = conv_model(image, (4, 3, 3, 3), **settings)
    result = fold_columns.run(model)
    assert result.model == model
    assert reason in result.kept[0].reason


def test_columns_that_nobody_asked_for_are_sliced_off_and_missing_ones_padded() -> None:
    """SqueezeNet's first convolution has no padding: 111 columns of 224; an odd image lacks some."""
    for width, expected in ((16, {"Slice"}), (15, {"Slice", "Pad"}), (17, {"Pad"})):
        model = conv_model((3, 8, width), (8, 3, 3, 3), strides=(2, 2))
        result = fold_columns.run(model)
        check(result, model, acts=True)
        assert {n.op_type for n in result.model.graph.node} & {"Slice", "Pad"} == expected


def test_blocks_by_hand() -> None:
    """Width 16 in 4 blocks; 7 columns in pairs are 4 blocks, the last of which (high = 1) reads one block behind."""
    assert blocks(16, 7, 2, 1) == (4, 1, 4)
    assert blocks(16, 8, 2, 0) == (4, 0, 4)
    assert blocks(15, 3, 2, 0) == (4, 0, 4)


def test_wide_convolutions_are_left_alone_without_a_word() -> None:
    result = fold_columns.run(conv_model((5, 8, 8), (4, 5, 3, 3), pads=(1, 1, 1, 1)))
    assert not result.changes
    assert not result.kept


def test_weights_by_hand() -> None:
    """Kernel 3, stride 2, pad 1 on one channel: output 0 reads columns -1, 0, 1 and output 1 reads 1, 2, 3."""
    weight, low, high = folded(np.float32([1, 2, 3]).reshape(1, 1, 1, 3), stride=2, pad=1, fold=4)
    assert (low, high) == (-1, 0)
    np.testing.assert_array_equal(weight[0, :, 0, :].T, [[0, 0, 0, 1], [2, 3, 0, 0]])
    np.testing.assert_array_equal(weight[1, :, 0, :].T, [[0, 0, 0, 0], [0, 1, 2, 3]])
