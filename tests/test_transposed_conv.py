"""Transposed convolutions of every shape as convolutions: ONNX Runtime and onnx.reference are the oracles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.rewrites import transposed_conv
from exporters.rewrites.transposed_conv import Axis, as_conv
from pass_examples import build, draw
from rewrite_tools import against_reference, check, conv_model, same


@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    extra=st.integers(0, 2),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    bias=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_shape_is_the_same_function_or_refused(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
    extra: int,
    size: tuple[int, int],
    bias: bool,
) -> None:
    extra = min(extra, *(s - 1 for s in stride))
    lengths = [
        s * (n - 1) + k + extra - pads[i] - pads[i + 2]
        for i, (s, n, k) in enumerate(zip(stride, size, kernel, strict=True))
    ]
    if min(lengths) < 1:
        return
    model = conv_model(
        (3, *size),
        (3, 2, *kernel),
        op="ConvTranspose",
        bias=bias,
        strides=stride,
        pads=pads,
        output_padding=(extra, extra),
    )
    result = transposed_conv.run(model)
    check(result, model, acts=bool(result.changes))
    if kernel >= stride and not any(pads) and not extra:
        assert result.changes


@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "taps"),
    [(2, 2, 0, 1), (4, 2, 1, 3), (3, 1, 1, 3), (16, 8, 4, 3), (4, 4, 0, 1)],
    ids=["unet", "deconvolution", "stride 1", "fcn", "patches"],
)
def test_the_upsamplers_of_known_networks(kernel: int, stride: int, pad: int, taps: int) -> None:
    model = conv_model((3, 3, 5), (3, 2, kernel, kernel), op="ConvTranspose", strides=(stride, stride), pads=[pad] * 4)
    result = transposed_conv.run(model)
    check(result, model, acts=True)
    against_reference(model, result.model, (2, 3, 3, 5))
    conv = next(n for n in result.model.graph.node if n.op_type == "Conv")
    weight = next(t for t in result.model.graph.initializer if t.name == conv.input[1])
    assert list(weight.dims) == [2 * stride * stride, 3, taps, taps]
    assert "Slice" not in {n.op_type for n in result.model.graph.node}


def test_an_activation_goes_before_the_pixels_move() -> None:
    model = conv_model((3, 4, 4), (3, 2, 2, 2), op="ConvTranspose", strides=(2, 2), act="Relu (c)")
    result = transposed_conv.run(model)
    check(result, model, acts=True)
    assert [n.op_type for n in result.model.graph.node][:2] == ["Conv", "Relu"]


def test_a_tensor_that_is_read_twice_keeps_its_activation_where_it_is() -> None:
    text = """ g (float[N,3,4,4] x) => (float[N,2,8,8] y, float[N,2,8,8] z) {
        c = ConvTranspose <strides: ints = [2,2]> (x, w)
        y = Relu (c)
        z = Neg (c)
    }"""
    model = build(text, {"w": draw(3, 2, 2, 2)})
    result = transposed_conv.run(model)
    check(result, model, acts=True)
    assert [n.op_type for n in result.model.graph.node][-2:] == ["Relu", "Neg"]


@pytest.mark.parametrize(
    ("settings", "image", "reason"),
    [
        ({"group": 2}, (4, 4, 4), "2 groups"),
        ({"dilations": (2, 2)}, (4, 4, 4), "dilation 2"),
        ({"output_shape": (9, 9)}, (4, 4, 4), "output shape"),
        ({}, (4, "H", 4), "not fixed"),
    ],
)
def test_what_is_refused_says_why(settings: dict[str, Any], image: Any, reason: str) -> None:
    model = conv_model(image, (4, 2, 3, 3), op="ConvTranspose", strides=(2, 2), bias=False, **settings)
    result = transposed_conv.run(model)
    assert result.model == model
    assert reason in result.kept[0].reason


def test_weights_by_hand() -> None:
    """Kernel 2, stride 2, one channel: the four weights are the four phases."""
    weight = np.arange(1, 5, dtype=np.float32).reshape(1, 1, 2, 2)
    axis = Axis(kernel=2, stride=2, begin=0, size=3, out=6)
    np.testing.assert_array_equal(as_conv(weight, axis, axis).ravel(), [1, 2, 3, 4])


def test_a_fixed_batch_stays_fixed() -> None:
    model = conv_model((3, 4, 4), (3, 2, 2, 2), op="ConvTranspose", strides=(2, 2), batch=2)
    same(model, transposed_conv.run(model).model).require(snr_db=100)  # float32
