"""A rising function commutes with the maximum, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.rewrites import relu_before_pool
from pass_examples import build, draw
from rewrite_tools import check, same


@given(
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    pad=st.integers(0, 1),
    act=st.sampled_from(["Relu (p)", "Clip (p, lo, hi)"]),
    low=st.sampled_from([-1.0, 0.0, 0.5]),
)
@settings(max_examples=40, deadline=None)
def test_any_pool(kernel: int, stride: int, pad: int, act: str, low: float) -> None:
    pad = min(pad, kernel - 1)
    text = f""" g (float[N,3,8,9] x) => (float[N,4,P,Q] y) {{
        c = Conv (x, w)
        p = MaxPool <kernel_shape: ints = [{kernel},{kernel}], strides: ints = [{stride},{stride}], pads: ints = [{pad},{pad},{pad},{pad}]> (c)
        y = {act}
    }}"""  # noqa: E501
    model = build(text, {"w": draw(4, 3, 3, 3), "lo": np.float32(low), "hi": np.float32(1)})
    result = relu_before_pool.run(model)
    check(result, model, acts=True)
    assert same(model, result.model).max_abs == 0
    assert [n.op_type for n in result.model.graph.node] == ["Conv", act.split()[0], "MaxPool"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("p, i = MaxPool <kernel_shape: ints = [2,2]> (c) y = Relu (p)", "indices"),
        ("p = MaxPool <kernel_shape: ints = [2,2], ceil_mode = 1> (c) y = Relu (p)", "padding alone"),
        ("p = MaxPool <kernel_shape: ints = [2,2]> (c) y = Relu (p) z = Neg (c)", "read 2 times"),
    ],
)
def test_what_is_refused_says_why(body: str, reason: str) -> None:
    outputs = "float[N,4,P,Q] y" + (", float[N,4,R,S] z" if "z =" in body else "")
    text = f" g (float[N,3,8,8] x) => ({outputs}) {{ c = Conv (x, w) {body} }}"
    model = build(text, {"w": draw(4, 3, 3, 3)})
    result = relu_before_pool.run(model)
    assert result.model == model
    assert reason in result.kept[0].reason


@pytest.mark.parametrize(
    "body",
    [
        "c = Neg (x) p = MaxPool <kernel_shape: ints = [2,2]> (c) y = Relu (p)",
        "c = Conv (x, w) p = MaxPool <kernel_shape: ints = [2,2]> (c) y = HardSwish (p)",
        "c = Conv (x, w) p = AveragePool <kernel_shape: ints = [2,2]> (c) y = Relu (p)",
    ],
)
def test_other_functions_and_pools_are_left_alone(body: str) -> None:
    """HardSwish falls between -3 and -1.5; a mean is no maximum; without a convolution there is no grid to use."""
    model = build(f" g (float[N,3,8,8] x) => (float[N,C,P,Q] y) {{ {body} }}", {"w": draw(4, 3, 3, 3)})
    assert relu_before_pool.run(model).model == model
