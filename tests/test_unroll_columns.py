"""Narrow convolutions that make four columns at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.rewrites import unroll_columns
from exporters.rewrites.unroll_columns import unrolled
from rewrite_tools import against_reference, check, conv_model


@given(
    outputs=st.integers(1, 18),
    kernel=st.tuples(st.integers(1, 5), st.integers(3, 5)),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    size=st.tuples(st.integers(5, 8), st.integers(5, 12)),
    bias=st.booleans(),
    act=st.sampled_from(["", "Relu (c)"]),
)
@settings(max_examples=60, deadline=None)
def test_any_shape(
    outputs: int, kernel: tuple[int, int], pads: tuple[int, int, int, int], size: tuple[int, int], bias: bool, act: str
) -> None:
    model = conv_model((4, *size), (outputs, 4, *kernel), bias=bias, act=act, pads=pads)
    columns = size[1] + pads[1] + pads[3] - kernel[1] + 1
    check(unroll_columns.run(model), model, acts=outputs <= 16 and columns % 4 == 0)


def test_against_the_reference() -> None:
    model = conv_model((4, 8, 8), (3, 4, 3, 3), pads=(1, 1, 1, 1), act="Relu (c)")
    result = unroll_columns.run(model)
    against_reference(model, result.model, (2, 4, 8, 8))
    ops = [n.op_type for n in result.model.graph.node]
    assert ops[:2] == ["Conv", "Relu"]


@pytest.mark.parametrize(
    ("image", "settings"),
    [((4, 8, 9), {"pads": (1, 1, 1, 1)}), ((4, 8, "W"), {}), ((4, 8, 8), {"dilations": (2, 2), "pads": (2, 2, 2, 2)})],
)
def test_what_is_refused_says_why(image: Any, settings: dict[str, Any]) -> None:
    model = conv_model(image, (4, 4, 3, 3), **settings)
    result = unroll_columns.run(model)
    assert result.model == model
    assert "width" in result.kept[0].reason


@pytest.mark.parametrize(
    ("weight", "settings"),
    [((20, 4, 3, 3), {}), ((4, 2, 3, 3), {"group": 2}), ((4, 4, 3, 3), {"strides": (2, 2)}), ((4, 4, 1, 1), {})],
)
def test_other_convolutions_are_left_alone(weight: tuple[int, ...], settings: dict[str, Any]) -> None:
    result = unroll_columns.run(conv_model((4, 10, 10), weight, **settings))
    assert not result.changes
    assert not result.kept


def test_weights_by_hand() -> None:
    found = unrolled(np.float32([1, 2, 3]).reshape(1, 1, 1, 3), 2)
    np.testing.assert_array_equal(found[:, 0, 0], [[1, 2, 3, 0], [0, 1, 2, 3]])
