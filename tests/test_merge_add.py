"""Two 1x1 convolutions and their sum as one."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.rewrites import merge_add
from pass_examples import build, draw
from rewrite_tools import against_reference, check


def block(stride: int, biases: tuple[bool, bool], size: int = 6, kernel: int = 1) -> onnx.ModelProto:
    names = ["u, w1, b1" if biases[0] else "u, w1", "x, w2, b2" if biases[1] else "x, w2"]
    text = f""" g (float[N,3,{size},{size}] x) => (float[N,4,P,Q] y) {{
        u = Conv <strides: ints = [{stride},{stride}]> (x, w0)
        p = Conv ({names[0]})
        q = Conv <strides: ints = [{stride},{stride}]> ({names[1]})
        s = Add (p, q)
        y = Relu (s)
    }}"""
    weights = {"w0": draw(5, 3, 1, 1), "w1": draw(4, 5, 1, 1), "w2": draw(4, 3, kernel, kernel)}
    return build(text, {**weights, "b1": draw(4), "b2": draw(4, seed=1)})


@given(stride=st.integers(1, 3), biases=st.tuples(st.booleans(), st.booleans()), size=st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_any_stride_and_size(stride: int, biases: tuple[bool, bool], size: int) -> None:
    model = block(stride, biases, size)
    check(merge_add.run(model), model, acts=True)


def test_against_the_reference() -> None:
    model = block(2, (True, True), 7)
    result = merge_add.run(model)
    against_reference(model, result.model, (2, 3, 7, 7))
    ops = [n.op_type for n in result.model.graph.node]
    assert ops == ["Conv", "MaxPool", "Concat", "Conv", "Relu"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("p = Conv (x, w) y = Add (p, x)", "no convolution"),
        ("p = Conv (x, w) q = Conv <pads: ints = [1,1,1,1]> (x, w3) y = Add (p, q)", "no plain 1x1"),
        ("p = Conv (x, w) q = Conv (x, w) s = Add (p, q) y = Mul (s, p)", "read 2 times"),
    ],
)
def test_what_is_refused_says_why(text: str, reason: str) -> None:
    model = build(
        f" g (float[N,4,5,5] x) => (float[N,4,5,5] y) {{ {text} }}", {"w": draw(4, 4, 1, 1), "w3": draw(4, 4, 3, 3)}
    )
    result = merge_add.run(model)
    assert result.model == model
    assert reason in result.kept[0].reason


def test_a_sum_of_two_channels_counts_is_no_sum_of_convolutions() -> None:
    """(N,1,H,W) + (N,4,H,W) broadcasts."""
    text = "g (float[N,4,5,5] x) => (float[N,4,5,5] y) { p = Conv (x, w) q = Conv (x, v) y = Add (p, q) }"
    model = build(text, {"w": draw(4, 4, 1, 1), "v": draw(1, 4, 1, 1)})
    assert merge_add.run(model).model == model


def test_a_tensor_added_to_itself_is_left_alone() -> None:
    text = "g (float[N,4,5,5] x) => (float[N,4,5,5] y) { p = Conv (x, w) y = Add (p, p) }"
    model = build(text, {"w": draw(4, 4, 1, 1)})
    assert merge_add.run(model).model == model


@pytest.mark.parametrize(
    "text",
    [
        "u = GlobalAveragePool (x) p = Conv (u, w) q = Conv (x, v) y = Add (p, q)",
        "u = ReduceMean <axes: ints = [2]> (x) p = Conv (x, w) q = Conv (u, v) y = Add (p, q)",
        "p = Conv <strides: ints = [9,9]> (x, w) q = Conv (x, v) y = Add (p, q)",
    ],
)
@pytest.mark.parametrize("size", ["5,5", "H,W"])
def test_a_side_that_is_broadcast_is_left_alone(text: str, size: str) -> None:
    """A block with global context: (N,4,1,1) + (N,4,H,W); of open sizes nobody knows."""
    head = '<ir_version: 8, opset_import: ["": 17]>'
    values = {"w": draw(4, 4, 1, 1), "v": draw(4, 4, 1, 1)}
    model = build(f" g (float[N,4,{size}] x) => (float[N,4,{size}] y) {{ {text} }}", values, head)
    result = merge_add.run(model)
    check(result, model, acts=False)
    assert [kept.reason for kept in result.kept] == ["its two sides are not known to be of the same sizes"]
