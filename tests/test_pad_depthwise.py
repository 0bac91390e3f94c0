"""Depthwise regions padded to sixteens: inverted residuals, squeeze-excite, SiLU, shared weights, refusals."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.rewrites import pad_depthwise
from exporters.rewrites.pad_depthwise import grown
from pass_examples import build, draw
from rewrite_tools import against_reference, check

PAD = "pads: ints = [1,1,1,1]"


def block(channels: int, act: str, gate: str = "", kernel: int = 3, stride: int = 1) -> onnx.ModelProto:
    """Expand (4 -> C), depthwise, perhaps squeeze-excite, project (C -> 4), add: an inverted residual."""
    acts = {
        "relu6": ("%s = Clip (%s, lo, hi)", {"lo": np.float32(0), "hi": np.float32(6)}),
        "hardswish": ("%s = HardSwish (%s)", {}),
        "silu": ("s_%s = Sigmoid (%s) %s = Mul (%s, s_%s)", {}),
        "decomposed": ("p_%s = Add (%s, three) %s = Clip (p_%s, lo, hi)", {}),
    }
    write, values = acts[act]

    def activation(out: str, x: str) -> str:
        if act == "silu":
            return write % (out, x, out, x, out)
        return write % (out, x, out, out) if act == "decomposed" else write % (out, x)

    p = kernel // 2
    depthwise = f"strides: ints = [{stride},{stride}], pads: ints = [{p},{p},{p},{p}]"
    squeeze = (
        "g = GlobalAveragePool (d) q = Conv (g, wq, bq) r = Relu (q) "
        "e = Conv (r, we, be) h = HardSigmoid (e) m = Mul (d, h)"
        if gate
        else "m = Identity (d)"
    )
    tail = "y = Add (z, x)" if stride == 1 else "y = Relu (z)"
    text = f""" g (float[N,4,6,7] x) => (float[N,4,P,Q] y) {{
        a = Conv (x, w1, b1) {activation("b", "a")}
        c = Conv <group = {channels}, {depthwise}> (b, w2, b2) {activation("d", "c")}
        {squeeze} z = Conv (m, w3) {tail}
    }}"""
    weights = {"w1": draw(channels, 4, 1, 1), "b1": draw(channels), "w2": draw(channels, 1, kernel, kernel)}
    weights |= {"b2": draw(channels), "w3": draw(4, channels, 1, 1)}
    if gate:
        weights |= {"wq": draw(2, channels, 1, 1), "bq": draw(2), "we": draw(channels, 2, 1, 1), "be": draw(channels)}
    if act == "decomposed":
        values = {"three": np.float32(3), "lo": np.float32(0), "hi": np.float32(6)}
    return build(text, {**weights, **values})


def shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    tensors = {t.name: list(t.dims) for t in model.graph.initializer}
    return {n.output[0].removesuffix(".padded"): tensors[n.input[1]] for n in model.graph.node if n.op_type == "Conv"}


@given(
    channels=st.integers(2, 40),
    act=st.sampled_from(["relu6", "hardswish", "silu", "decomposed"]),
    gate=st.sampled_from(["", "squeeze"]),
    kernel=st.sampled_from([3, 5]),
    stride=st.integers(1, 2),
)
@settings(max_examples=50, deadline=None)
def test_any_inverted_residual_is_the_same_function(
    channels: int, act: str, gate: str, kernel: int, stride: int
) -> None:
    model = block(channels, act, gate, kernel, stride)
    result = pad_depthwise.run(model)
    check(result, model, acts=channels % 16 != 0)
    if result.changes:
        size = -(-channels // 16) * 16
        found = shapes(result.model)
        assert found["c"] == [size, 1, kernel, kernel]
        assert found["a"] == [size, 4, 1, 1]
        assert found["z"] == [4, size, 1, 1]
        assert "Slice" not in {n.op_type for n in result.model.graph.node}


def test_the_squeeze_reads_and_the_gate_makes_the_new_channels() -> None:
    model = block(20, "hardswish", "squeeze")
    found = shapes(pad_depthwise.run(model).model)
    assert (found["q"], found["e"]) == ([2, 32, 1, 1], [32, 2, 1, 1])
    against_reference(model, pad_depthwise.run(model).model, (2, 4, 6, 7))


def test_two_depthwise_convolutions_in_a_row_grow_together() -> None:
    text = f""" g (float[N,3,6,6] x) => (float[N,2,6,6] y) {{
        a = Conv (x, w1)
        b = Conv <group = 6, {PAD}> (a, w2)
        c = Conv <group = 6, {PAD}> (b, w2)
        y = Conv (c, w3)
    }}"""
    model = build(text, {"w1": draw(6, 3, 1, 1), "w2": draw(6, 1, 3, 3), "w3": draw(2, 6, 1, 1)})
    result = pad_depthwise.run(model)
    check(result, model, acts=True)
    assert [c.node for c in result.changes] == ["net.b"], "the second is done with the first"


def test_a_weight_that_another_convolution_shares_is_copied() -> None:
    text = f""" g (float[N,6,6,6] x) => (float[N,2,6,6] y, float[N,6,6,6] z) {{
        a = Conv (x, w1)
        b = Conv <group = 6, {PAD}> (a, w2)
        y = Conv (b, w3)
        z = Conv (x, w1)
    }}"""
    model = build(text, {"w1": draw(6, 6, 1, 1), "w2": draw(6, 1, 3, 3), "w3": draw(2, 6, 1, 1)})
    check(pad_depthwise.run(model), model, acts=True)


@pytest.mark.parametrize(
    ("head", "tail", "reason"),
    [
        ("a = Relu (x)", "y = Conv (b, w3)", "input or output of the model"),
        ("a = Conv (x, w1)", "y = Relu (b)", "input or output of the model"),
        ("a = Conv (x, w1)", "s = Softmax <axis = 1> (b) y = Conv (s, w3)", "net.s, a Softmax"),
        ("a = Conv (x, w1)", "s = Add (b, x) y = Conv (s, w3)", "net.s, a Add"),
        ("a = Conv (x, w1)", "s = Mul (b, per) y = Conv (s, w3)", "net.s, a Mul"),
        ("a = Conv (x, w1)", "s = Conv <group = 2> (b, wg) y = Relu (s)", "a Conv of 2 groups"),
        ("a = Conv (x, w1)", 's = Conv <auto_pad = "SAME_UPPER"> (b, w3) y = Relu (s)', "automatic"),
    ],
)
def test_what_is_refused_says_why(head: str, tail: str, reason: str) -> None:
    text = f" g (float[N,6,5,5] x) => (float[N,C,H,W] y) {{ {head} b = Conv <group = 6, {PAD}> (a, w2) {tail} }}"
    weights = {"w1": draw(6, 6, 1, 1), "w2": draw(6, 1, 3, 3), "w3": draw(2, 6, 1, 1), "wg": draw(2, 3, 1, 1)}
    model = build(text, {**weights, "per": draw(1, 6, 1, 1)})
    result = pad_depthwise.run(model)
    assert result.model == model
    assert reason in result.kept[0].reason


def test_zeros_stand_behind() -> None:
    np.testing.assert_array_equal(grown(np.ones((2, 3), np.float32), 1, 5), [[1, 1, 1, 0, 0]] * 2)
