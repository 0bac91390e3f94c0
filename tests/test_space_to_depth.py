"""Strided first convolutions as stride-1 convolutions on blocks: any size, odd ones too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.rewrites import space_to_depth
from exporters.rewrites.space_to_depth import in_blocks, taps
from rewrite_tools import against_reference, check, conv_model


@given(
    channels=st.integers(1, 4),
    kernel=st.tuples(st.integers(3, 7), st.integers(3, 7)),
    stride=st.sampled_from([2, 4]),
    pads=st.tuples(*[st.integers(0, 5)] * 4),
    size=st.tuples(st.integers(7, 14), st.integers(7, 14)),
    bias=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_any_shape_is_the_same_function(
    channels: int,
    kernel: tuple[int, int],
    stride: int,
    pads: tuple[int, int, int, int],
    size: tuple[int, int],
    bias: bool,
) -> None:
    model = conv_model((channels, *size), (2, channels, *kernel), bias=bias, strides=(stride, stride), pads=pads)
    check(space_to_depth.run(model), model, acts=min(kernel) > stride)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad", "shape", "pads"),
    [(16, 7, 2, 3, 4, [2, 2, 1, 1]), (16, 3, 2, 1, 2, [1, 1, 0, 0]), (19, 11, 4, 2, 4, [1, 1, 1, 1])],
)
def test_the_stems_of_known_networks(
    size: int, kernel: int, stride: int, pad: int, shape: int, pads: list[int]
) -> None:
    model = conv_model((3, size, size), (8, 3, kernel, kernel), strides=(stride, stride), pads=[pad] * 4)
    result = space_to_depth.run(model)
    check(result, model, acts=True)
    against_reference(model, result.model, (2, 3, size, size))
    conv = next(n for n in result.model.graph.node if n.op_type == "Conv")
    assert [list(a.ints) for a in conv.attribute if a.name == "kernel_shape"] == [[shape, shape]]
    assert [list(a.ints) for a in conv.attribute if a.name == "pads"] == [pads]


@pytest.mark.parametrize(
    ("image", "kernel", "settings", "reason"),
    [
        ((3, 8, 8), 3, {"strides": (2, 1)}, "strides (2, 1)"),
        ((3, 8, 8), 3, {"strides": (3, 3)}, "strides (3, 3)"),
        ((3, 8, 8), 2, {"strides": (2, 2)}, "a 2x2 kernel"),
        ((3, 8, 8), 3, {"strides": (2, 2), "dilations": (2, 2)}, "dilated"),
        ((3, "H", 8), 3, {"strides": (2, 2)}, "not fixed"),
    ],
)
def test_what_is_refused_says_why(image: Any, kernel: int, settings: dict[str, Any], reason: str) -> None:
    model = conv_model(image, (4, 3, kernel, kernel), **settings)
    result = space_to_depth.run(model)
    assert result.model == model
    assert reason in result.kept[0].reason


def test_wide_or_dense_convolutions_are_left_alone_without_a_word() -> None:
    for image, strides in (((5, 8, 8), (2, 2)), ((3, 8, 8), (1, 1))):
        result = space_to_depth.run(conv_model(image, (4, image[0], 3, 3), strides=strides))
        assert not result.changes
        assert not result.kept


def test_taps_by_hand() -> None:
    """Kernel 7, stride 2, pad 3 reads columns 2 i - 3 .. 2 i + 3, which lie in blocks i - 2 .. i + 1."""
    assert taps(7, 2, 3) == (-2, 1)
    weight = in_blocks(np.arange(1, 4, dtype=np.float32).reshape(1, 1, 1, 3).repeat(3, axis=2), 2, (1, 1))
    assert weight.shape == (1, 4, 2, 2)
    np.testing.assert_array_equal(weight[0, 0], [[0, 0], [0, 2]])  # even row, even column: the middle tap
    np.testing.assert_array_equal(weight[0, 3], [[1, 3], [1, 3]])  # odd row, odd column: the corners
