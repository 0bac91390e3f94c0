"""Outputs padded and sliced: any number, kernel and activation."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.rewrites import pad_outputs
from exporters.rewrites.pad_outputs import padded
from rewrite_tools import against_reference, check, conv_model


@given(
    outputs=st.integers(1, 40),
    kernel=st.integers(1, 3),
    bias=st.booleans(),
    act=st.sampled_from(["", "Relu (c)", "Sigmoid (c)"]),
)
@settings(max_examples=40, deadline=None)
def test_any_number_of_outputs(outputs: int, kernel: int, bias: bool, act: str) -> None:
    model = conv_model((4, 6, 7), (outputs, 4, kernel, kernel), bias=bias, act=act)
    check(pad_outputs.run(model), model, acts=outputs < 16 or outputs % 4 != 0)


@pytest.mark.parametrize(("outputs", "size"), [(1, 16), (16, 16), (17, 20), (20, 20), (75, 76)])
def test_the_number_that_the_kernel_takes(outputs: int, size: int) -> None:
    assert padded(outputs) == size


def test_open_sizes_are_fine() -> None:
    model = conv_model((3, "H", 8), (5, 3, 3, 3))  # type: ignore[arg-type]
    result = pad_outputs.run(model)
    assert result.changes
    against_reference(model, result.model, (2, 3, 9, 8))


def test_groups_and_single_pixels_are_left_alone() -> None:
    assert not pad_outputs.run(conv_model((4, 8, 8), (6, 2, 3, 3), group=2)).changes
    assert not pad_outputs.run(conv_model((4, 1, 1), (6, 4, 1, 1))).changes
