"""Depthwise regions padded to sixteens: inverted residuals, squeeze-excite, SiLU, pieces, shared weights, refusals."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from exporters.rewrites import pad_depthwise
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
        ("a = Conv (x, w1)", "s = Add (b, x) y = Conv (s, w3)", "reach x, which is an input"),
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


# ------------------------------------------------------------------------------------------------------------- pieces
def ghost(channels: int) -> onnx.ModelProto:
    """Two ghost modules (a half, and a cheap half made of it) with a depthwise convolution between, and a shortcut."""
    text = f""" g (float[N,3,8,8] x) => (float[N,3,4,4] y) {{
        a = Conv (x, w1, b1) ar = Relu (a)
        c = Conv <group = {channels}, {PAD}> (ar, w2, b2)
        j = Concat <axis = 1> (ar, c)
        d = Conv <group = {2 * channels}, {PAD}, strides: ints = [2,2]> (j, w3)
        e = Conv (d, w4) f = Conv <group = {channels}, {PAD}> (e, w2)
        k = Concat <axis = -3> (e, f)
        s = Conv <strides: ints = [2,2]> (x, w5, b5)
        z = Add (k, s)
        y = Conv (z, w6)
    }}"""
    weights = {"w1": draw(channels, 3, 1, 1), "b1": draw(channels), "w2": draw(channels, 1, 3, 3), "b2": draw(channels)}
    weights |= {"w3": draw(2 * channels, 1, 3, 3), "w4": draw(channels, 2 * channels, 1, 1)}
    weights |= {"w5": draw(2 * channels, 3, 1, 1), "b5": draw(2 * channels), "w6": draw(3, 2 * channels, 1, 1)}
    return build(text, weights)


def test_halves_that_are_joined_are_filled_up_one_by_one() -> None:
    model = ghost(20)
    result = pad_depthwise.run(model)
    check(result, model, acts=True)
    assert not result.kept
    found = shapes(result.model)
    assert (found["a"], found["c"], found["d"]) == ([32, 3, 1, 1], [32, 1, 3, 3], [64, 1, 3, 3])
    assert (found["e"], found["s"]) == ([32, 64, 1, 1], [64, 3, 1, 1])
    shortcut = next(node for node in result.model.graph.node if node.name == "net.s")
    weights = {t.name: numpy_helper.to_array(t) for t in result.model.graph.initializer}
    made = weights[shortcut.input[1]].any(axis=(1, 2, 3)).nonzero()[0]
    np.testing.assert_array_equal(made, [*range(20), *range(32, 52)], "the shortcut's zeros stand where the sum's do")
    against_reference(model, result.model, (2, 3, 8, 8))


@pytest.mark.parametrize("split", ["<axis = 1> (b, sizes)", "<axis = 1, num_outputs = 2> (b)"])
def test_kernels_of_several_sizes_work_on_parts_of_their_own(split: str) -> None:
    text = f""" g (float[N,4,6,7] x) => (float[N,4,6,7] y) {{
        a = Conv (x, w1, b1) b = Relu (a)
        p, q = Split {split}
        c = Conv <group = 18, {PAD}> (p, w2) d = Conv <group = 18, pads: ints = [2,2,2,2]> (q, w3)
        j = Concat <axis = 1> (c, d)
        g = GlobalAveragePool (j) h = Conv (g, w5) s = Sigmoid (h) m = Mul (j, s)
        z = Conv (m, w4) y = Add (z, x)
    }}"""
    weights = {"w1": draw(36, 4, 1, 1), "b1": draw(36), "w2": draw(18, 1, 3, 3), "w3": draw(18, 1, 5, 5)}
    weights |= {"w4": draw(4, 36, 1, 1), "w5": draw(36, 36, 1, 1), "sizes": np.asarray([18, 18])}
    model = build(text, {name: value for name, value in weights.items() if name != "sizes" or "sizes" in split})
    result = pad_depthwise.run(model)
    check(result, model, acts=True)
    assert shapes(result.model)["z"] == [4, 64, 1, 1]


def test_small_pieces_are_not_worth_it() -> None:
    model = ghost(6)
    result = pad_depthwise.run(model)
    assert result.model == model
    assert "small pieces: " in result.kept[0].reason


def test_a_map_of_one_channel_scales_them_all_and_stays() -> None:
    text = f""" g (float[N,3,6,6] x) => (float[N,2,6,6] y) {{
        a = Conv (x, w1) b = Conv <group = 6, {PAD}> (a, w2)
        h = Conv (b, w4) s = Sigmoid (h) m = Mul (b, s) y = Conv (m, w3)
    }}"""
    weights = {"w1": draw(6, 3, 1, 1), "w2": draw(6, 1, 3, 3), "w3": draw(2, 6, 1, 1), "w4": draw(1, 6, 1, 1)}
    model = build(text, weights)
    result = pad_depthwise.run(model)
    check(result, model, acts=True)
    assert shapes(result.model)["h"] == [1, 16, 1, 1]


def test_a_tensor_that_is_joined_twice() -> None:
    text = """ g (float[N,3,5,5] x) => (float[N,4,5,5] y) {
        a = Conv (x, w1) j = Concat <axis = 1> (a, a)
        d = Conv <group = 24, pads: ints = [1,1,1,1]> (j, w2) y = Conv (d, w3) }"""
    model = build(text, {"w1": draw(12, 3, 1, 1), "w2": draw(24, 1, 3, 3), "w3": draw(4, 24, 1, 1)})
    check(pad_depthwise.run(model), model, acts=True)
