"""The pairs as ONNX Runtime takes them: which kernels ran, and that the numbers are those of the grids."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from exactly import exactly
from exporters.graph import MODULE_KEY, get_meta, set_meta
from exporters.quantization import qdq
from exporters.quantization.affine import activation_grid, weight_grid
from exporters.quantization.placement import plan
from exporters.quantization.quantize import QuantRecipe, quantize_model
from graphs import CONV_RELU_CONV, WEIGHTS, parse
from runtimes.base import Tensors
from runtimes.census import census, kernels_dict
from runtimes.parity import compare
from runtimes.session import open_session, random_feeds


def feeds_for(model: onnx.ModelProto, count: int = 4) -> list[Tensors]:
    inputs = open_session(model).inputs
    return [random_feeds(inputs, seed=i) for i in range(count)]


def quantized(model: onnx.ModelProto, per_channel: bool = True) -> tuple[onnx.ModelProto, list[Tensors]]:
    feeds = feeds_for(model)
    result = quantize_model(model, feeds, QuantRecipe(per_channel=per_channel))
    onnx.checker.check_model(result.model, full_check=True)
    return exactly(result.model), feeds


def kernels(model: onnx.ModelProto, feed: Tensors) -> Mapping[str, int]:
    return kernels_dict(census(model, feed))


def test_conv_relu_conv_is_two_integer_kernels_and_nothing_between() -> None:
    model, feeds = quantized(parse(CONV_RELU_CONV, **WEIGHTS))
    ran = kernels(model, feeds[0])
    assert ran["QLinearConv"] == 2
    assert (ran["QuantizeLinear"], ran["DequantizeLinear"]) == (1, 1)
    assert "Relu" not in ran
    assert "Conv" not in ran


def scales(model: onnx.ModelProto, bits: int) -> list[tuple[np.ndarray, int | None]]:
    """(scale, axis) of every dequantizer of constants with that many bits, in the order of the graph."""
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in values]
    wanted = [n for n in nodes if values[n.input[0]].dtype.itemsize * 8 == bits]
    return [(values[n.input[1]], next((a.i for a in n.attribute if a.name == "axis"), None)) for n in wanted]


def test_weights_and_biases_have_a_scale_for_each_channel_or_one() -> None:
    model, _ = quantized(parse(CONV_RELU_CONV, **WEIGHTS))
    assert [(scale.shape, axis) for scale, axis in scales(model, 8)] == [((4,), 0), ((4,), 0)]
    assert [(scale.shape, axis) for scale, axis in scales(model, 32)] == [((4,), 0)]
    model, _ = quantized(parse(CONV_RELU_CONV, **WEIGHTS), per_channel=False)
    assert [(scale.shape, axis) for scale, axis in scales(model, 8)] == [((), None), ((), None)]
    assert [(scale.shape, axis) for scale, axis in scales(model, 32)] == [((), None)]


@pytest.mark.parametrize(("layer", "trans"), [("Gemm <transB = 1>", 1), ("Gemm <transB = 0>", 0), ("Gemm", 0)])
def test_a_gemm_has_a_scale_for_each_output(layer: str, trans: int) -> None:
    """Outputs of very different size, in a square matrix: the wrong axis is not caught by its length."""
    text = f"g (float[N,6] x) => (float[N,6] y) {{ y = {layer} (x, w, b) }}"
    original = parse(text, w=(6, 6), b=(6,))
    weight = next(t for t in original.graph.initializer if t.name == "w")
    sizes = (10.0 ** np.arange(-3, 3, dtype=np.float32))[:, None]
    values = numpy_helper.to_array(weight) * sizes
    weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values if trans else values.T), "w"))
    model, feeds = quantized(original)
    want = np.concatenate([open_session(original)(feed)["y"] for feed in feeds])
    got = np.concatenate([open_session(model)(feed)["y"] for feed in feeds])
    error = np.abs(want - got).max(axis=0)
    assert (error <= 0.05 * sizes[:, 0] + 0.05 * np.abs(want).max(axis=0)).all(), error


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 3.0), (-1.0, 0.0)])
def test_a_grid_reaches_the_ends_of_its_range(low: float, high: float) -> None:
    grid = activation_grid(low, high)
    ends = [steps * float(grid.scale) for steps in qdq.reach(grid)]
    assert ends == pytest.approx([low, high], abs=float(grid.scale))


def test_a_bias_far_larger_than_its_weights_survives() -> None:
    """A channel whose weights died under its BatchNorm: on the weights' own scale its bias would leave int32."""
    text = "g (float[N,3,5,5] x) => (float[N,4,3,3] y) { y = Conv(x, w1, b1) }"
    original = parse(text, **{k: WEIGHTS[k] for k in ("w1", "b1")})
    for tensor in original.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        values[1] = 1e-12 if tensor.name == "w1" else 5.0
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    model, feeds = quantized(original)
    got = open_session(model)(feeds[0])["y"][:, 1]
    np.testing.assert_allclose(got, 5.0, atol=0.1)  # one step of the output's grid


@pytest.mark.parametrize("per_channel", [True, False])
def test_int8_is_close_to_float(per_channel: bool) -> None:
    original = parse(CONV_RELU_CONV, **WEIGHTS)
    model, feeds = quantized(original, per_channel)
    # 8 bits on normal data: 6.02 * 8 - about 12 dB for the peak of four sigma, less three grids in a row
    compare(open_session(original), open_session(model), feeds).require(snr_db=30)


def test_the_first_convolution_is_the_integer_sum_of_the_specification() -> None:
    """Recomputed in int64 from the grids, the way QLinearConv is defined; only the last rounding may differ by one."""
    text = "g (float[1,3,5,5] x) => (float[1,4,3,3] y) { y = Conv(x, w1, b1) }"
    original = parse(text, **{k: WEIGHTS[k] for k in ("w1", "b1")})
    feed = feeds_for(original, 1)[0]
    ranges = {"x": (-3.0, 3.0), "y": (-20.0, 20.0)}
    model = exactly(qdq.insert(original, plan(original), ranges))
    got = open_session(model)(feed)["y"]

    values = {t.name: numpy_helper.to_array(t) for t in original.graph.initializer}
    gx, gy, gw = activation_grid(-3, 3), activation_grid(-20, 20), weight_grid(values["w1"], 0)
    x = gx.quantize(feed["x"]).astype(np.int64) - int(gx.zero_point)
    w = gw.quantize(values["w1"]).astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    total = np.einsum("ncijhw,ochw->noij", windows, w)
    step = (gx.scale * gw.scale).astype(np.float64)
    total = total + np.rint(values["b1"] / step)[None, :, None, None].astype(np.int64)
    expected = gy.dequantize(gy.quantize((total * step[None, :, None, None]).astype(np.float32)))
    assert np.abs(got - expected).max() <= float(gy.scale) * 1.001


def test_everything_else_of_the_model_is_kept() -> None:
    original = parse(CONV_RELU_CONV, **WEIGHTS)
    set_meta(original.graph.node[0], {MODULE_KEY: "stem"})
    set_meta(original, {"author": "me"})
    model, _ = quantized(original)
    assert [v.SerializeToString() for v in model.graph.input] == [v.SerializeToString() for v in original.graph.input]
    assert [v.SerializeToString() for v in model.graph.output] == [v.SerializeToString() for v in original.graph.output]
    assert get_meta(model)["author"] == "me"
    assert {n.name for n in original.graph.node} <= {n.name for n in model.graph.node}
    behind = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.output[0].startswith("a_")]
    assert behind
    assert all(get_meta(n)[MODULE_KEY] == "stem" for n in behind)


def test_the_argument_is_not_edited() -> None:
    original = parse(CONV_RELU_CONV, **WEIGHTS)
    before = original.SerializeToString()
    quantized(original)
    assert original.SerializeToString() == before


def test_weights_take_a_quarter_of_the_bytes() -> None:
    text = "g (float[N,64,8,8] x) => (float[N,64,6,6] y) { y = Conv(x, w) }"
    original = parse(text, w=(64, 64, 3, 3))
    model, _ = quantized(original)
    assert model.ByteSize() < original.ByteSize() / 4 + 5000  # scales, zero points and names


def test_a_shared_weight_is_stored_once() -> None:
    text = "g (float[N,4,8,8] x) => (float[N,4,4,4] y) { a = Conv(x, w) y = Conv(a, w) }"
    model, feeds = quantized(parse(text, w=(4, 4, 3, 3)))
    assert sum(list(t.dims) == [4, 4, 3, 3] for t in model.graph.initializer) == 1
    assert kernels(model, feeds[0])["QLinearConv"] == 2


def test_a_constant_operand_of_an_add_is_quantized_with_it() -> None:
    text = """g (float[N,3,8,8] x) => (float[N,4,4,4] y) {
        a = Conv(x, w)
        s = Add(a, shift)
        y = Conv(s, v)
    }"""
    original = parse(text, w=(4, 3, 3, 3), v=(4, 4, 3, 3), shift=(1, 4, 1, 1))
    model, feeds = quantized(original)
    assert kernels(model, feeds[0])["QLinearAdd"] == 1
    compare(open_session(original), open_session(model), feeds).require(snr_db=30)  # as above


def test_a_tensor_read_by_float_and_int8_nodes_serves_both() -> None:
    text = """g (float[N,3,8,8] x) => (float[N,3,8,8] z, float[N,4,6,6] y) {
        h = HardSwish(x)
        z = Neg(h)
        y = Conv(h, w)
    }"""
    original = parse(text, w=(4, 3, 3, 3))
    model, feeds = quantized(original)
    want, got = open_session(original)(feeds[0]), open_session(model)(feeds[0])
    np.testing.assert_array_equal(want["z"], got["z"])  # the float branch is untouched
    assert kernels(model, feeds[0])["QLinearConv"] == 1


FOLLOWERS = {
    "Add": "y = Add(a, b)",
    "Mul": "y = Mul(a, b)",
    "Concat": "y = Concat <axis = 1> (a, b)",
    "GlobalAveragePool": "y = GlobalAveragePool(a)",
    "AveragePool": "y = AveragePool <kernel_shape: ints = [2,2]> (a)",
    "LeakyRelu": "y = LeakyRelu <alpha = 0.1> (a)",
    "Sigmoid": "y = Sigmoid(a)",
}


@pytest.mark.parametrize("op", FOLLOWERS)
def test_every_follower_has_an_integer_kernel(op: str) -> None:
    text = "g (float[N,3,8,8] x) => (float[N,C,H,W] y) { a = Conv(x, w) b = Conv(x, v) %s }" % FOLLOWERS[op]  # noqa: UP031
    original = parse(text, w=(4, 3, 3, 3), v=(4, 3, 3, 3))
    model, feeds = quantized(original)
    assert kernels(model, feeds[0])[f"QLinear{op}"] == 1
    compare(open_session(original), open_session(model), feeds).require(snr_db=25)  # a product of two grids


CARRIERS = {
    "MaxPool": "p = MaxPool <kernel_shape: ints = [2,2]> (a)",
    "Transpose": "p = Transpose <perm: ints = [0,1,3,2]> (a)",
    "DepthToSpace": "p = DepthToSpace <blocksize = 2> (a)",
    "Resize": 'p = Resize <mode: string = "nearest"> (a, , two)',
    "Slice": "p = Slice(a, i0, i4, i2)",
    "Reshape": "p = Reshape(a, same)",
    "Flatten": "p = Flatten(a)",
}


@pytest.mark.parametrize("op", CARRIERS)
def test_every_carrier_moves_integers(op: str) -> None:
    """No Dequantize/Quantize around it: one Quantize at the input, one Dequantize at the output, as without it."""
    integers = "int64[1] i0 = {0}, int64[1] i4 = {4}, int64[1] i2 = {2}, int64[4] same = {0,4,-1,6}"
    constants = f"<float[4] two = {{1.0,1.0,2.0,2.0}}, {integers}>"
    text = f"g (float[N,3,8,8] x) => (float[N,C,H,W] y) {constants} {{ a = Conv(x, w) {CARRIERS[op]} y = Sigmoid(p) }}"
    if op == "Flatten":
        text = text.replace("float[N,C,H,W] y", "float[N,C] y")
    original = parse(text, w=(4, 3, 3, 3))
    model, feeds = quantized(original)
    ran = kernels(model, feeds[0])
    assert ran["QuantizeLinear"] == 1, ran
    assert ran["DequantizeLinear"] == 1, ran
    compare(open_session(original), open_session(model), feeds).require(snr_db=25)  # two grids and a sigmoid


@given(
    channels=st.sampled_from([(3, 4, 1), (4, 6, 2), (6, 6, 6), (8, 16, 1)]),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    pad=st.integers(0, 2),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    bias=st.booleans(),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=40, deadline=None)
def test_any_convolution(
    channels: tuple[int, int, int],
    kernel: int,
    stride: int,
    dilation: int,
    pad: int,
    scale: float,
    bias: bool,
    seed: int,
) -> None:
    inputs, outputs, group = channels
    attrs = f"group = {group}, strides: ints = [{stride},{stride}], dilations: ints = [{dilation},{dilation}]"
    pads = f"pads: ints = [{pad},{pad},{pad},{pad}]"
    names = "x, w, b" if bias else "x, w"
    text = f"g (float[2,{inputs},9,9] x) => (float[N,C,H,W] y) {{ y = Conv <{attrs}, {pads}> ({names}) }}"
    shapes = {"w": (outputs, inputs // group, kernel, kernel), "b": (outputs,)}
    original = parse(text, **{name: shape for name, shape in shapes.items() if name in names.split(", ")})
    rng = np.random.default_rng(seed)
    for tensor in original.graph.initializer:
        value = (scale * rng.normal(size=shapes[tensor.name])).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    model, feeds = quantized(original)
    assert kernels(model, feeds[0])["QLinearConv"] == 1
    compare(open_session(original), open_session(model), feeds).require(snr_db=28)  # three 8-bit grids on normal data


MORE_CARRIERS = {
    "Squeeze": "q = Unsqueeze(a, i0) p = Squeeze(q, i0)",
    "Split": "p, rest = Split <axis = 1, num_outputs = 2> (a)",
    "Gather": "p = Gather <axis = 1> (a, pick)",
    "SpaceToDepth": "p = SpaceToDepth <blocksize = 2> (a)",
    "Relu": "n = Sigmoid(a) p = Relu(a)",
    "Clip": "n = Sigmoid(a) p = Clip(a, low, high)",
    "copies": "p = Concat <axis = 1> (a, a)",
    "Upsample": 'p = Resize <mode: string = "nearest", nearest_mode: string = "floor"> (a, , two)',
    "reflection": 'p = Pad <mode: string = "reflect"> (a, frame)',
    "replication": 'p = Pad <mode: string = "edge"> (a, frame)',
    "zeros": "p = Pad (a, frame, zero)",
}


@pytest.mark.parametrize("op", MORE_CARRIERS)
def test_carriers_of_every_kind_move_integers(op: str) -> None:
    """Two convolutions and no float between them, whatever stands there; the numbers are close to float."""
    integers = "int64[1] i0 = {0}, int64[2] pick = {2,0}, int64[8] frame = {0,0,1,2,0,0,2,1}, float zero = {0.0}"
    constants = f"<float[4] two = {{1.0,1.0,2.0,2.0}}, float low = {{0.5}}, float high = {{12.0}}, {integers}>"
    body = f"a = Conv(x, w) {MORE_CARRIERS[op]} y = Conv(p, v)"
    text = f"g (float[N,3,8,8] x) => (float[N,C,H,W] y) {constants} {{ {body} }}"
    inputs = {"Split": 2, "Gather": 2, "SpaceToDepth": 16, "copies": 8}.get(op, 4)
    original = parse(text, w=(4, 3, 3, 3), v=(5, inputs, 1, 1))
    model, feeds = quantized(original)
    ran = kernels(model, feeds[0])
    assert (ran["QuantizeLinear"], ran["DequantizeLinear"], ran["QLinearConv"]) == (1, 1, 2), ran
    compare(open_session(original), open_session(model), feeds).require(snr_db=25)  # three grids


def test_a_relu_on_a_joined_grid_cuts_integers_and_the_concat_copies() -> None:
    """The trap: under one scale with a signed neighbour, the ReLU is no longer the grid's lower end."""
    text = """g (float[N,3,8,8] x) => (float[N,4,6,6] y) {
        a = Conv(x, w)
        r = Relu(a)
        b = Conv(x, v)
        c = Concat <axis = 1> (r, b)
        y = Conv(c, u)
    }"""
    original = parse(text, w=(4, 3, 3, 3), v=(4, 3, 3, 3), u=(4, 8, 1, 1))
    feeds = feeds_for(original)
    plain, joined = (quantize_model(original, feeds, QuantRecipe(forms=f)).model for f in ((), ("one_scale",)))
    ran = kernels(joined, feeds[0])
    assert ran["QLinearConv"] == 3
    assert ran["Clip"] == 1
    assert not {"Max", "Min"} & {*ran}, "of uint8 they have no kernels before ONNX Runtime 1.24"
    assert ran["Concat"] == 1
    assert "QLinearConcat" not in ran
    assert "Relu" not in ran
    assert kernels(plain, feeds[0])["QLinearConcat"] == 1
    snr = [compare(open_session(original), open_session(m), feeds).snr_db for m in (plain, joined)]
    assert snr[1] >= snr[0] - 3  # at most half a bit where one range is shared by two


def test_a_relu6_on_a_joined_grid_is_cut_at_both_ends() -> None:
    text = """g (float[N,3,8,8] x) => (float[N,8,6,6] c) <float zero = {0.0}, float six = {1.5}> {
        a = Conv(x, w)
        r = Clip(a, zero, six)
        b = Conv(x, v)
        c = Concat <axis = 1> (r, b)
    }"""
    original = parse(text, w=(4, 3, 3, 3), v=(4, 3, 3, 3))
    ranges = {"x": (-3.0, 3.0), "r": (0.0, 1.5), "b": (-2.0, 4.0), "c": (-2.0, 4.0)}
    model = qdq.insert(original, plan(original, forms=("one_scale",)), ranges)
    out = open_session(model)(feeds_for(original)[0])["c"]
    step = 6.0 / 255
    assert out[:, :4].min() == 0
    assert abs(out[:, :4].max() - 1.5) <= step / 2
    assert [n.op_type for n in model.graph.node if n.op_type in ("Clip", "Min", "Max")] == ["Clip"]
    assert out[:, 4:].min() < -1


@pytest.mark.parametrize("squeeze", [False, True])
def test_hardswish_stays_in_integers_and_loses_nothing(squeeze: bool) -> None:
    gate = "g = GlobalAveragePool(h) e = Conv(g, u) s = HardSigmoid <alpha = 0.16666667> (e) m = Mul(h, s)"
    text = f"""g (float[N,3,8,8] x) => (float[N,4,6,6] y) {{
        a = Conv(x, w) h = HardSwish(a) {gate if squeeze else ""} y = Conv({"m" if squeeze else "h"}, v)
    }}"""
    weights = {"w": (4, 3, 3, 3), "v": (4, 4, 1, 1), **({"u": (4, 4, 1, 1)} if squeeze else {})}
    original = parse(text, **weights)
    feeds = feeds_for(original)
    plain, hard = (quantize_model(original, feeds, QuantRecipe(forms=f)).model for f in ((), ("hardswish",)))
    onnx.checker.check_model(hard, full_check=True)
    ran = kernels(hard, feeds[0])
    assert (ran["QuantizeLinear"], ran["DequantizeLinear"]) == (1, 1), ran
    assert ran["QLinearMul"] == 1 + squeeze
    assert "HardSwish" not in ran
    assert "HardSigmoid" not in ran
    snr = [compare(open_session(original), open_session(m), feeds).snr_db for m in (plain, hard)]
    assert snr[1] >= snr[0] - 1.0  # the same tensors on grids of the same size


def test_hardswish_below_minus_three_is_zero() -> None:
    """The grid saturates where the function is zero: no value wraps or leaks."""
    text = "g (float[1,1,1,4] x) => (float[1,1,1,4] y) { a = Conv(x, w) h = HardSwish(a) y = Conv(h, w) }"
    original = parse(text, w=(1, 1, 1, 1))
    for tensor in original.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), tensor.name))
    feeds = [{"x": np.float32([-9, -3, 0, 6]).reshape(1, 1, 1, 4)}]
    model = quantize_model(original, feeds, QuantRecipe(forms=("hardswish",))).model
    got = open_session(model, optimize=False)(feeds[0])["y"].ravel()
    np.testing.assert_allclose(got, [0, 0, 0, 6], atol=0.05)  # one step of 9 / 255
