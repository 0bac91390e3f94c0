"""exporters/passes/pool_before_conv.py against the graphs as they were, in ONNX Runtime and in onnx.reference."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.graph import MODULE_KEY, get_meta
from exporters.passes import pool_before_conv
from pass_examples import build, draw
from rewrite_tools import against_reference, attributes_of, check


def model_of(
    pool: str, weight: tuple[int, ...] = (16, 8, 1, 1), bias: bool = True, after: str = "", **conv: object
) -> onnx.ModelProto:
    """x -> 1x1 convolution c -> `after` -> pool p; `after` makes tensor a, or is left out."""
    call = f"Conv {attributes_of(**conv)} ({'x, w, b' if bias else 'x, w'})"
    text = f" g (float[N,8,7,9] x) => (float[N,O,P,Q] p) {{ c = {call} {after} p = {pool} ({'a' if after else 'c'}) }}"
    return build(text, {"w": draw(*weight), **({"b": draw(weight[0])} if bias else {})})


@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.integers(2, 3),
    pad=st.integers(0, 1),
    counted=st.booleans(),
    ceil=st.booleans(),
    bias=st.booleans(),
    groups=st.sampled_from([1, 2, 8]),
)
@settings(max_examples=60, deadline=None)
def test_any_average(
    kernel: tuple[int, int], stride: int, pad: int, counted: bool, ceil: bool, bias: bool, groups: int
) -> None:
    pad = min(pad, *(size - 1 for size in kernel))
    edges = {"pads": (pad,) * 4, "count_include_pad": int(counted), "ceil_mode": int(ceil)}
    pool = attributes_of(kernel_shape=kernel, strides=(stride, stride), **edges)
    model = model_of(f"AveragePool {pool}", (16, 8 // groups, 1, 1), bias, group=groups)
    result = pool_before_conv.run(model)
    check(result, model, acts=not (bias and counted and (pad or ceil)))
    if result.modified:
        assert [n.op_type for n in result.model.graph.node] == ["AveragePool", "Conv"]


def test_names_and_modules_stay_with_their_nodes() -> None:
    result = pool_before_conv.run(model_of("AveragePool <kernel_shape: ints = [2,2], strides: ints = [2,2]>"))
    pool, conv = result.model.graph.node
    assert (pool.name, conv.name) == ("net.p", "net.c")
    assert get_meta(pool)[MODULE_KEY] == "module.p"
    assert result.changes[0].node == "net.p"
    assert result.changes[0].what == "in front of net.c"
    assert result.changes[0].bound == pytest.approx((8 * 4 - 1) * np.finfo(np.float32).eps)


def test_a_global_average_against_the_reference() -> None:
    model = model_of("GlobalAveragePool")
    after = pool_before_conv.run(model).model
    against_reference(model, after, (2, 8, 7, 9))
    assert [n.op_type for n in after.graph.node] == ["GlobalAveragePool", "Conv"]


HALF = "AveragePool <kernel_shape: ints = [2,2], strides: ints = [2,2]>"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (model_of("AveragePool <kernel_shape: ints = [2,2]>"), "as many positions"),
        (model_of("AveragePool <kernel_shape: ints = [2,2], strides: ints = [1,1]>"), "as many positions"),
        (model_of(HALF, strides=(2, 2)), "stride or a padding"),
        (model_of(HALF, pads=(1, 1, 1, 1)), "stride or a padding"),
        (model_of(HALF, (4, 8, 1, 1)), "4 channels of 8"),
        (model_of(HALF.replace(">", ', auto_pad: string = "SAME_UPPER", count_include_pad: int = 1>')), "counts zeros"),
    ],
)  # fmt: skip
def test_what_stays_says_why(model: onnx.ModelProto, reason: str) -> None:
    result = pool_before_conv.run(model)
    check(result, model, acts=False)
    assert reason in result.kept[0].reason


def test_a_convolution_that_others_read_stays() -> None:
    text = f" g (float[N,8,8,8] x) => (float[N,16,4,4] p, float[N,16,8,8] c) {{ c = Conv (x, w) p = {HALF} (c) }}"
    model = build(text, {"w": draw(16, 8, 1, 1)})
    result = pool_before_conv.run(model)
    check(result, model, acts=False)
    assert "also an output of the model" in result.kept[0].reason


@pytest.mark.parametrize(
    "model",
    [
        model_of(HALF, (16, 8, 3, 3)),
        model_of(HALF, after="a = Relu (c)"),
        model_of("MaxPool <kernel_shape: ints = [2,2], strides: ints = [2,2]>"),
    ],
    ids=["wider kernel", "an activation between", "a maximum"],
)
def test_other_layers_are_left_alone(model: onnx.ModelProto) -> None:
    result = pool_before_conv.run(model)
    check(result, model, acts=False)
    assert not result.kept
