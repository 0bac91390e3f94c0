"""Which nodes become int8: small graphs as text, one rule each."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

import small_nets
from exporters.graph import MODULE_KEY, set_meta
from exporters.layerwise import patterns
from exporters.layerwise.patterns import Excluding, excluding
from exporters.quantization.placement import plan
from exporters.quantization.quantize import QuantRecipe, quantize_model
from graphs import CONV_RELU_CONV, WEIGHTS, parse
from runtimes.base import BadInput
from runtimes.session import open_session


def test_a_relu_belongs_to_its_convolution() -> None:
    p = plan(parse(CONV_RELU_CONV, **WEIGHTS))
    assert p.int8 == {"a", "y"}
    assert p.observed == ["r", "x", "y"]  # not `a`: the pair goes behind the ReLU
    assert p.float_nodes == ()


@pytest.mark.parametrize(("low", "high", "belongs"), [(0.0, 6.0, True), (-1.0, 1.0, True), (1.0, 3.0, False)])
def test_a_clip_belongs_only_if_it_keeps_zero(low: float, high: float, belongs: bool) -> None:
    text = """g (float[N,3,8,8] x) => (float[N,4,6,6] y) <float lo = {%f}, float hi = {%f}> {
        a = Conv(x, w)
        y = Clip(a, lo, hi)
    }""" % (low, high)  # noqa: UP031  (braces belong to ONNX's text format)
    p = plan(parse(text, w=(4, 3, 3, 3)))
    assert ("y" in p.observed) is belongs
    assert ("a" in p.observed) is not belongs


def test_a_relu_that_is_not_the_only_reader_is_a_node_of_its_own() -> None:
    text = """g (float[N,3,8,8] x) => (float[N,4,6,6] y, float[N,4,6,6] z) {
        a = Conv(x, w)
        y = Relu(a)
        z = Neg(a)
    }"""
    p = plan(parse(text, w=(4, 3, 3, 3)))
    assert p.observed == ["a", "x"]
    assert p.grids["y"] == "a", "it cuts the integers off"
    assert dict(p.float_nodes) == {"z": "Neg has no int8 kernel"}


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_layers_are_float_by_our_choice(op: str, gates: int) -> None:
    text = f"g (float[5,1,4] x) => (float[5,1,1,6] y) {{ y = {op} <hidden_size: int = 6> (x, w, r) }}"
    p = plan(parse(text, w=(1, 6 * gates, 4), r=(1, 6 * gates, 6)))
    assert dict(p.float_nodes) == {"y": f"edgecnn makes no int8 {op}"}


def test_a_residual_add_follows_both_branches() -> None:
    text = """g (float[N,4,8,8] x) => (float[N,4,8,8] y) {
        a = Conv <pads: ints = [1,1,1,1]> (x, w)
        s = Add(a, x)
        y = Relu(s)
    }"""
    p = plan(parse(text, w=(4, 4, 3, 3)))
    assert p.int8 == {"a", "s"}
    assert p.observed == ["a", "x", "y"]


def test_a_follower_starts_no_island() -> None:
    text = "g (float[N,4] x, float[N,4] z) => (float[N,4] y) { y = Add(x, z) }"
    p = plan(parse(text))
    assert p.int8 == frozenset()
    assert dict(p.float_nodes) == {"y": "nothing int8 in front of it"}


def test_a_concat_with_one_float_side_follows_when_a_convolution_reads_it() -> None:
    text = """g (float[N,4,8,8] x) => (float[N,2,8,8] y) {
        a = Conv <pads: ints = [1,1,1,1]> (x, w)
        h = HardSwish(a)
        c = Concat <axis = 1> (a, h)
        y = Conv(c, v)
    }"""
    p = plan(parse(text, w=(4, 4, 3, 3), v=(2, 8, 1, 1)))
    assert p.int8 == {"a", "c", "y"}
    assert [node for node, _ in p.float_nodes] == ["h"]


def test_carriers_share_the_grid_of_their_source() -> None:
    text = """g (float[N,3,8,8] x) => (float[N,36] y) <int64[2] shape = {0, -1}> {
        a = Conv(x, w)
        p = MaxPool <kernel_shape: ints = [2,2], strides: ints = [2,2]> (a)
        y = Reshape(p, shape)
    }"""
    p = plan(parse(text, w=(4, 3, 3, 3)))
    assert p.grids["p"] == p.grids["y"] == "a"
    assert p.observed == ["a", "x"]


def test_a_last_gemm_keeps_a_float_output() -> None:
    text = """g (float[N,8] x) => (float[N,3] y) {
        h = Gemm <transB = 1> (x, w1, b1)
        r = Relu(h)
        y = Gemm <transB = 1> (r, w2, b2)
    }"""
    p = plan(parse(text, w1=(5, 8), b1=(5,), w2=(3, 5), b2=(3,)))
    assert p.int8 == {"h", "y"}
    assert p.observed == ["r", "x"]


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        ("Gemm <transB = 1, alpha = 0.5> (x, w, b)", "an integer Gemm takes alpha = beta = 1 and no transposed input"),
        ("Gemm <transB = 1, beta = 2.0> (x, w, b)", "an integer Gemm takes alpha = beta = 1 and no transposed input"),
        ("Gemm <transB = 1> (x, w, one)", "its bias has 1 values for 3 outputs"),
        ("Gemm <transB = 1> (x, v, b)", "the weights of this Gemm are not constant"),
    ],
)
def test_a_gemm_that_cannot_be_integer_says_why(node: str, reason: str) -> None:
    text = f"g (float[N,8] x, float[3,8] v) => (float[N,3] y) {{ y = {node} }}"
    p = plan(parse(text, w=(3, 8), b=(3,), one=(1,)))
    assert p.int8 == frozenset()
    assert dict(p.float_nodes) == {"y": reason}


def test_a_weight_that_the_caller_may_override_is_not_constant() -> None:
    model = parse(CONV_RELU_CONV, **WEIGHTS)
    model.graph.input.append(onnx.helper.make_tensor_value_info("w2", onnx.TensorProto.FLOAT, [4, 4, 3, 3]))
    p = plan(model)
    assert p.int8 == {"a"}
    why = "an input that a caller may override; `edgecnn simplify --freeze` makes it constant"
    assert dict(p.float_nodes) == {"y": f"the weights of this Conv are {why}"}


@pytest.mark.parametrize("pattern", ["y", "head", "he*"])
def test_excluded_by_node_name_or_module_path(pattern: str) -> None:
    model = parse(CONV_RELU_CONV, **WEIGHTS)
    set_meta(model.graph.node[2], {MODULE_KEY: "head"})
    p = plan(model, exclude=[pattern])
    assert p.int8 == {"a"}
    assert dict(p.float_nodes) == {"y": f"excluded by {pattern}"}


def test_shape_arithmetic_is_not_a_float_layer() -> None:
    text = """g (float[N,3,8,8] x) => (float[N,144] y) <int64[1] zero = {0}, int64[1] rest = {-1}> {
        a = Conv(x, w)
        s = Shape(a)
        n = Gather <axis = 0> (s, zero)
        t = Concat <axis = 0> (n, rest)
        y = Reshape(a, t)
    }"""
    p = plan(parse(text, w=(4, 3, 3, 3)))
    assert p.int8 == {"a", "y"}
    assert p.float_nodes == ()


def test_a_concat_with_a_float_side_that_only_float_reads_stays_float() -> None:
    text = """g (float[N,4,8,8] x) => (float[N,8,8,8] y) {
        a = Conv <pads: ints = [1,1,1,1]> (x, w)
        h = HardSwish(a)
        c = Concat <axis = 1> (a, h)
        y = HardSwish(c)
    }"""
    p = plan(parse(text, w=(4, 4, 3, 3)))
    assert p.int8 == {"a"}
    assert [node for node, _ in p.float_nodes] == ["h", "c", "y"]


def test_a_grid_that_a_later_node_needs_reaches_an_earlier_one() -> None:
    """The Concat follows because the Add behind it does, which in turn follows because a convolution reads it."""
    text = """g (float[N,4,8,8] x) => (float[N,2,8,8] y) {
        a = Conv <pads: ints = [1,1,1,1]> (x, w)
        b = Conv(x, u)
        h = HardSwish(a)
        c = Concat <axis = 1> (a, h)
        s = Add(b, c)
        y = Conv(s, v)
    }"""
    p = plan(parse(text, w=(4, 4, 3, 3), u=(8, 4, 1, 1), v=(2, 8, 1, 1)))
    assert p.int8 == {"a", "b", "c", "s", "y"}


def test_a_constant_operand_is_not_observed() -> None:
    text = "g (float[N,4,8,8] x) => (float[N,4,6,6] y) { a = Conv(x, w) y = Add(a, shift) }"
    p = plan(parse(text, w=(4, 4, 3, 3), shift=(1, 4, 1, 1)))
    assert p.int8 == {"a", "y"}
    assert p.observed == ["a", "x", "y"]


def test_a_relu_behind_a_carrier_is_a_node_of_its_own() -> None:
    """The pool's output has its source's grid, which reaches below zero: the ReLU cuts the integers off at zero."""
    text = """g (float[N,3,8,8] x) => (float[N,2,1,1] y) {
        a = Conv(x, w)
        p = MaxPool <kernel_shape: ints = [2,2], strides: ints = [2,2]> (a)
        r = Relu(p)
        y = Conv(r, v)
    }"""
    p = plan(parse(text, w=(4, 3, 3, 3), v=(2, 4, 3, 3)))
    assert "r" in p.int8
    assert p.grids["p"] == p.grids["r"] == "a"
    assert p.float_nodes == ()


def test_a_relu_behind_a_float_node_stays_float() -> None:
    text = "g (float[N,3,8,8] x) => (float[N,2,6,6] y) { s = Neg(x) n = Neg(s) r = Relu(n) y = Conv(r, w) }"
    assert dict(plan(parse(text, w=(2, 3, 3, 3))).float_nodes).keys() == {"s", "n", "r"}


def test_a_relu_between_a_last_gemm_and_the_output_stays_float() -> None:
    text = "g (float[N,8] x) => (float[N,3] y, float[N,3] z) { h = Gemm(x, w) y = Relu(h) z = Neg(h) }"
    assert [name for name, _ in plan(parse(text, w=(8, 3))).float_nodes] == ["y", "z"]


def test_a_concat_of_copies_is_a_carrier() -> None:
    text = """g (float[N,3,8,8] x) => (float[N,2,6,6] y) {
        a = Conv(x, w)
        c = Concat <axis = 1> (a, a)
        y = Conv(c, v)
    }"""
    p = plan(parse(text, w=(4, 3, 3, 3), v=(2, 8, 1, 1)))
    assert p.grids["c"] == "a"
    assert p.observed == ["a", "x", "y"]


def test_what_a_convolution_reads_through_a_carrier_has_the_grid_of_its_source() -> None:
    text = """g (float[N,3,8,8] x) => (float[N,2,4,6] y) <int64[1] s0 = {0}, int64[1] s4 = {4}, int64[1] s2 = {2}> {
        a = Conv(x, w)
        p = Slice(a, s0, s4, s2)
        y = Conv(p, v)
    }"""
    p = plan(parse(text, w=(4, 3, 3, 3), v=(2, 4, 1, 1)))
    assert p.grids["p"] == "a"


def test_indices_of_a_pool_have_no_grid() -> None:
    text = """g (float[N,3,8,8] x) => (float[N,4,3,3] y, int64[N,4,3,3] i) {
        a = Conv(x, w)
        y, i = MaxPool <kernel_shape: ints = [2,2], strides: ints = [2,2]> (a)
    }"""
    assert "i" not in plan(parse(text, w=(4, 3, 3, 3))).grids


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("cubic", "cubic interpolation leaves the range of its input, and has no int8 kernel"),
        ("linear", "between pixels the int8 kernel cuts off where it should round, and is slower than the float one"),
    ],
)
def test_interpolation_stays_float_between_two_grids(mode: str, reason: str) -> None:
    text = f"""g (float[N,3,8,8] x) => (float[N,5,12,12] y) <float[4] s = {{1.0,1.0,2.0,2.0}}> {{
        a = Conv(x, w)
        b = Resize <mode = "{mode}"> (a, , s)
        y = Conv(b, v)
    }}"""
    p = plan(parse(text, w=(4, 3, 3, 3), v=(5, 4, 1, 1)))
    assert p.float_nodes == (("b", reason),)
    assert p.observed == ["a", "b", "x", "y"]


@pytest.mark.parametrize(
    ("pad", "moves"),
    [
        ('Pad <mode = "reflect"> (a, frame)', True),
        ("Pad (a, frame)", True),
        ("Pad (a, frame, zero)", True),
        ("Pad (a, frame, half)", False),
        ("Pad (a, frame, given)", False),
    ],
)
def test_a_pad_moves_integers_unless_it_adds_a_number(pad: str, moves: bool) -> None:
    constants = "<int64[8] frame = {0,0,1,1,0,0,1,1}, float zero = {0.0}, float half = {0.5}>"
    text = f"g (float[N,3,8,8] x, float given) => (float[N,4,8,8] y) {constants} {{ a = Conv(x, w) y = {pad} }}"
    found = plan(parse(text, w=(4, 3, 3, 3)))
    assert (found.grids.get("y") == "a") is moves
    reason = "it pads with something else than a constant zero"
    assert found.float_nodes == (() if moves else (("y", reason),))


HARD = """g (float[N,3,8,8] x) => (float[N,2,6,6] y) {
    a = Conv(x, w)
    h = HardSwish(a)
    g = GlobalAveragePool(h)
    e = Conv(g, u)
    s = HardSigmoid <alpha = 0.16666667, beta = 0.5> (e)
    m = Mul(h, s)
    y = Conv(m, v)
}"""
HARD_WEIGHTS = {"w": (4, 3, 3, 3), "u": (4, 4, 1, 1), "v": (2, 4, 1, 1)}


def test_hardswish_is_int8_by_name_only() -> None:
    plain, hard = (plan(parse(HARD, **HARD_WEIGHTS), forms=forms) for forms in ((), ("hardswish",)))
    assert [name for name, _ in plain.float_nodes] == ["h", "g", "s", "m"]
    assert hard.float_nodes == ()
    assert hard.hard_inputs == {"a", "e"}
    assert hard.gates == {"s": "e"}
    assert hard.observed == ["a", "e", "g", "h", "m", "x", "y"], "the gate has no range of its own"


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        ("h = HardSwish(a) z = Neg(a)", "read twice"),
        ("h = HardSigmoid(a) z = Neg(h)", "another slope"),
    ],
)
def test_hardswish_that_is_not_plain_stays_float(node: str, reason: str) -> None:
    text = f"g (float[N,3,8,8] x) => (float[N,4,6,6] h, float[N,4,6,6] z) {{ a = Conv(x, w) {node} }}"
    p = plan(parse(text, w=(4, 3, 3, 3)), forms=("hardswish",))
    assert "h" in dict(p.float_nodes), reason


def test_the_first_pattern_counts_and_names_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], "b1")
    set_meta(node, {MODULE_KEY: "block.relu"})
    for asked, first in (
        (["a", "b1", "b*"], "b1"), (["b*", "b1"], "b*"), (["block.relu", "b1"], "block.relu"), (["b[12]"], "b[12]"),
        (["b", "block", "c*"], None), (["b1", "b1"], "b1"),
    ):  # fmt: skip
        assert Excluding(asked)(node) == first
        assert excluding(node, asked) == first
    monkeypatch.setattr(patterns.fnmatch, "fnmatchcase", None)
    assert Excluding(["a"] * 1000 + ["b1"])(node) == "b1"


def test_hardswish_can_be_excluded() -> None:
    p = plan(parse(HARD, **HARD_WEIGHTS), exclude=("h",), forms=("hardswish",))
    assert dict(p.float_nodes) == {"h": "excluded by h"}
    assert p.hard_inputs == {"e"}


def test_concats_that_meet_share_one_scale_by_name_only() -> None:
    text = """g (float[N,3,8,8] x) => (float[N,2,6,6] y, float[N,8,6,6] z) {
        a = Conv(x, w)
        b = Conv(x, w)
        c = Concat <axis = 1> (a, b)
        d = Conv(c, u)
        z = Concat <axis = 1> (b, d)
        y = Conv(z, v)
    }"""
    model = parse(text, w=(4, 3, 3, 3), u=(4, 8, 1, 1), v=(2, 8, 1, 1))
    assert plan(model).joined == ()
    assert plan(model, forms=("one_scale",)).joined == (frozenset("abcdz"),)


def test_concats_that_do_not_meet_keep_scales_of_their_own() -> None:
    text = """g (float[N,3,8,8] x) => (float[N,2,6,6] y, float[N,2,6,6] z) {
        a = Conv(x, w)
        b = Conv(x, w)
        c = Concat <axis = 1> (a, b)
        y = Conv(c, u)
        d = Conv(x, w)
        e = Conv(x, w)
        f = Concat <axis = 1> (d, e)
        z = Conv(f, u)
    }"""
    model = parse(text, w=(4, 3, 3, 3), u=(2, 8, 1, 1))
    assert plan(model, forms=("one_scale",)).joined == (frozenset("abc"), frozenset("def"))


def test_an_unknown_form_is_bad_input() -> None:
    with pytest.raises(BadInput, match="did you mean hardswish"):
        plan(parse(CONV_RELU_CONV, **WEIGHTS), forms=("hardswich",))


def test_a_pool_that_says_where_its_maxima_are_carries_its_values_and_not_their_places() -> None:
    """The places are integers of 64 bits; what puts values back there has no integer kernel."""
    text = """g (float[N,3,8,8] x) => (float[N,4,8,8] y) {
        a = Conv <pads: ints = [1,1,1,1]> (x, w1)
        p, i = MaxPool <kernel_shape: ints = [2,2], strides: ints = [2,2]> (a)
        c = Conv <pads: ints = [1,1,1,1]> (p, w2)
        u = MaxUnpool <kernel_shape: ints = [2,2], strides: ints = [2,2]> (c, i)
        y = Conv <pads: ints = [1,1,1,1]> (u, w2)
    }"""
    found = plan(parse(text, w1=(4, 3, 3, 3), w2=(4, 4, 3, 3)))
    assert found.int8 == {"a", "p", "c", "y"}
    assert found.grids["p"] == "a"
    assert "i" not in found.grids
    assert [name for name, _ in found.float_nodes] == ["u"]
    assert "MaxUnpool has no int8 kernel" in dict(found.float_nodes)["u"]


def test_the_model_is_only_read() -> None:
    """A plan is made on the model itself, not on a copy of all its weights."""
    net = parse(CONV_RELU_CONV, **WEIGHTS)
    before = net.SerializeToString(deterministic=True)
    plan(net)
    assert net.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("dilations", ["[2,2]", "[1,1]"])
def test_a_dilated_average_has_no_grids_on_both_sides_and_the_graph_loads(dilations: str) -> None:
    """ONNX Runtime fuses an average between two grids into an operator that has no dilations."""
    text = f"""
        <ir_version: 9, opset_import: ["" : 19]>
        g (float[N,3,8,8] x) => (float[N,C,H,W] y) {{
        a = Conv <pads: ints = [1,1,1,1]> (x, w1)
        p = AveragePool <kernel_shape: ints = [2,2], dilations: ints = {dilations}> (a)
        r = Relu(p)
        y = Conv (r, w2)
    }}"""
    shapes = {"w1": (4, 3, 3, 3), "w2": (4, 4, 1, 1)}
    values = {name: np.ones(sizes, np.float32) for name, sizes in shapes.items()}
    net = small_nets.model(text, **values)
    found = plan(net)
    dilated = dilations == "[2,2]"
    assert found.int8 == ({"a"} if dilated else {"a", "p", "y"})
    reasons = [why for _, why in found.float_nodes if "dilations" in why]
    assert bool(reasons) is dilated
    feed = {"x": np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)}
    made = quantize_model(net, [feed], QuantRecipe())
    assert np.isfinite(open_session(made.model, threads=1)(feed)["y"]).all()


def test_a_concat_of_a_tensor_and_its_cut_copies_nothing() -> None:
    """The cut may get a grid of its own, which would not hold the rest."""
    text = """g (float[N,3,8,8] x) => (float[N,4,6,6] y, float[N,4,6,6] s) {
        a = Conv (x, w) s = Sigmoid (a) r = Relu (a) c = Concat <axis = 1> (r, a) d = Concat <axis = 1> (r, r)
        y = Conv (c, v) z = Conv (d, v)
    }"""
    p = plan(parse(text, w=(4, 3, 3, 3), v=(4, 8, 1, 1)))
    assert p.cuts == {"r": ("a", 0.0, float("inf"))}
    assert p.grids["c"] == "c"
    assert (p.grids["r"], p.grids["d"], p.behind["d"]) == ("a", "a", "r")


def test_hardswish_of_a_hardsigmoid_stays_float() -> None:
    """Both want a grid made for them, of one tensor."""
    text = """g (float[N,3,8,8] x) => (float[N,4,6,6] h) {
        a = Conv (x, w) s = HardSigmoid <alpha = 0.16666667> (a) h = HardSwish (s)
    }"""
    p = plan(parse(text, w=(4, 3, 3, 3)), forms=("hardswish",))
    assert p.gates == {"s": "a"}
    assert [node for node, _ in p.float_nodes] == ["h"]
