"""Equalization keeps the float function bit for bit, mends a net made to fail, and leaves alone what it must."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import numpy_helper

from accuracy_nets import chain, images, work_on
from exporters.accuracy import equalize
from exporters.graph import Graph
from exporters.quantization.quantize import QuantRecipe, quantize_model
from graphs import parse
from runtimes.base import Tensors
from runtimes.parity import compare
from runtimes.session import open_session

PAIR = """g (float[N,3,8,8] x) => (float[N,4,8,8] y) {
    a = Conv <pads: ints = [1,1,1,1]> (x, w1, b1)
    r = %s
    y = Conv <pads: ints = [1,1,1,1]> (r, w2)
}"""
PAIR_WEIGHTS = {"w1": (6, 3, 3, 3), "b1": (6,), "w2": (4, 6, 3, 3)}


def scaled(model: onnx.ModelProto, first: str, bias: str | None, second: str, factors: np.ndarray) -> onnx.ModelProto:
    """The same function with the channels between two convolutions scaled: the net that is made to fail."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    along = {first: (-1, 1, 1, 1), second: (1, -1, 1, 1)} | ({bias: (-1,)} if bias else {})
    for tensor in copy.graph.initializer:
        if tensor.name in along:
            by = factors if tensor.name != second else 1 / factors
            value = numpy_helper.to_array(tensor) * by.reshape(along[tensor.name]).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return copy


def snr(reference: onnx.ModelProto, model: onnx.ModelProto, feeds: list[Tensors]) -> float:
    quantized = quantize_model(model, feeds, QuantRecipe()).model
    return compare(open_session(reference), open_session(quantized), feeds).snr_db


# ------------------------------------------------------------------------------------------------------- the function
@given(factors=arrays.arrays(np.float64, 6, elements=st.sampled_from([2.0**k for k in range(-6, 7)])))
@settings(max_examples=15, deadline=None)
def test_the_float_function_is_the_same_bit_for_bit(factors: np.ndarray) -> None:
    feeds = images(3, (1, 3, 8, 8))
    model = scaled(parse(PAIR % "Relu(a)", **PAIR_WEIGHTS), "w1", "b1", "w2", factors)
    changed = equalize.run(work_on(model, feeds), seconds=1.0).work.model
    want, got = (open_session(m, threads=1)(feeds[0])["y"] for m in (model, changed))
    np.testing.assert_array_equal(want, got)


def test_factors_pass_pools_leaky_relu_depthwise_grouped_and_flatten() -> None:
    feeds = images(4)
    model = scaled(chain(), "w1", "b1", "none", 2.0 ** np.arange(8))
    outcome = equalize.run(work_on(model, feeds), seconds=1.0)
    assert [change.node for change in outcome.changes] == ["a", "b", "c"]
    want, got = (open_session(m, threads=1)(feeds[0])["y"] for m in (model, outcome.work.model))
    np.testing.assert_array_equal(want, got)


@pytest.mark.parametrize("trans", [0, 1])
def test_a_flatten_gives_each_channel_a_block_of_inputs(trans: int) -> None:
    text = """g (float[N,3,8,8] x) => (float[N,5] y) {
        a = Conv(x, w1, b1)
        r = Relu(a)
        f = Flatten(r)
        y = Gemm <transB = %d> (f, v, d)
    }"""
    shape = (5, 216) if trans else (216, 5)
    model = parse(text % trans, w1=(6, 3, 3, 3), b1=(6,), v=shape, d=(5,))
    model = scaled(model, "w1", "b1", "none", 4.0 ** np.arange(6))
    feeds = images(3, (1, 3, 8, 8))
    outcome = equalize.run(work_on(model, feeds), seconds=1.0)
    assert len(outcome.changes) == 1
    want, got = (open_session(m, threads=1)(feeds[0])["y"] for m in (model, outcome.work.model))
    np.testing.assert_array_equal(want, got)


# --------------------------------------------------------------------------------------------------------- what it buys
@pytest.mark.parametrize("activation", ["Relu(a)", "LeakyRelu <alpha = 0.2> (a)", "Identity(a)"])
def test_a_net_made_to_fail_is_as_good_as_before_the_harm(activation: str) -> None:
    """Channels rescaled by powers of two between two convolutions, as an innocent fold or prune may leave them."""
    feeds = images(8, (1, 3, 8, 8))
    healthy = parse(PAIR % activation, **PAIR_WEIGHTS)
    harmed = scaled(healthy, "w1", "b1", "w2", 2.0 ** np.array([0, 7, -3, 9, 2, -6]))
    assert snr(healthy, harmed, feeds) < snr(healthy, healthy, feeds) - 10
    mended = equalize.run(work_on(harmed, feeds), seconds=1.0).work.model
    assert snr(healthy, mended, feeds) > snr(healthy, healthy, feeds) - 1.0  # factors are rounded to powers of two


def test_depthwise_channels_are_brought_to_one_range() -> None:
    """Nothing is paid for it: each channel's weights have a scale of their own."""
    feeds = images(6)
    harmed = scaled(chain(), "w1", "b1", "none", 2.0 ** np.arange(8))
    changed = equalize.run(work_on(harmed, feeds), seconds=1.0).work
    between = next(entry for entry in changed.calibration.seen if entry.tensor == "ar")
    assert between.channel_high.max() / between.channel_high.min() < 2.01  # rounded to powers of two


def test_with_one_scale_per_tensor_the_papers_ranges_become_equal() -> None:
    feeds = images(6, (1, 3, 8, 8))
    harmed = scaled(parse(PAIR % "Relu(a)", **PAIR_WEIGHTS), "w1", "b1", "w2", 2.0 ** np.array([0, 7, -3, 9, 2, -6]))
    changed = equalize.run(work_on(harmed, feeds, QuantRecipe(per_channel=False)), seconds=1.0).work.model
    graph = Graph(changed)
    w1, w2 = graph.constant("w1"), graph.constant("w2")
    assert w1 is not None
    assert w2 is not None
    ratio = np.abs(w1).max(axis=(1, 2, 3)) / np.abs(w2).max(axis=(0, 2, 3))
    assert ratio.max() / ratio.min() <= 4.0  # equal but for powers of two, whose square counts


def test_a_dead_channel_stays_as_it_is() -> None:
    feeds = images(4, (1, 3, 8, 8))
    model = parse(PAIR % "Relu(a)", **PAIR_WEIGHTS)
    model = scaled(model, "w1", "b1", "none", np.array([1, 0, 64, 1, 1, 1]))
    changed = equalize.run(work_on(model, feeds), seconds=1.0).work.model
    for model_ in (model, changed):
        assert np.isfinite(open_session(model_)(feeds[0])["y"]).all()
    assert snr(model, changed, feeds) > 25  # three 8-bit grids


# ---------------------------------------------------------------------------------------------------- what it leaves
REFUSED = {
    "a clip": ("Clip(a, zero, six)", "Clip lets no factor through"),
    "a sigmoid": ("Sigmoid(a)", "Sigmoid lets no factor through"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_homogeneous_is_left_with_its_reason(case: str) -> None:
    activation, reason = REFUSED[case]
    text = (PAIR % activation).replace("{", "<float zero = {0.0}, float six = {6.0}> {", 1)
    model = scaled(parse(text, **PAIR_WEIGHTS), "w1", "b1", "none", 2.0 ** np.arange(6))
    outcome = equalize.run(work_on(model, images(3, (1, 3, 8, 8))), seconds=1.0)
    assert outcome.changes == ()
    assert [(entry.node, entry.reason) for entry in outcome.kept] == [("a", reason)]


BRANCHES = {
    "an add reads it too": "r = Relu(a) b = Conv <pads: ints = [1,1,1,1]> (r, v) y = Add(b, r)",
    "it is an output": "y = Relu(a) z = Conv <pads: ints = [1,1,1,1]> (y, v)",
    "flattened at axis 2": "p = MaxPool <kernel_shape: ints = [3,3]> (a) f = Flatten <axis = 2> (p) y = Gemm(f, g)",
}


@pytest.mark.parametrize("case", BRANCHES)
def test_branches_are_left_alone(case: str) -> None:
    outputs = "float[N,6,8,8] y, float[N,6,8,8] z" if "z =" in BRANCHES[case] else "float[N,C,H,W] y"
    outputs = "float[N,C] y" if "Gemm" in BRANCHES[case] else outputs
    text = "g (float[1,3,8,8] x) => (%s) { a = Conv <pads: ints = [1,1,1,1]> (x, w1, b1) %s }" % (  # noqa: UP031
        outputs,
        BRANCHES[case],
    )
    weights = {"w1": (6, 3, 3, 3), "b1": (6,)} | ({"g": (36, 4)} if "Gemm" in text else {"v": (6, 6, 3, 3)})
    model = scaled(parse(text, **weights), "w1", "b1", "none", 2.0 ** np.arange(6))
    assert equalize.run(work_on(model, images(2, (1, 3, 8, 8))), seconds=1.0).changes == ()


def test_what_is_balanced_is_left_with_its_reason() -> None:
    model = scaled(parse(PAIR % "Relu(a)", **PAIR_WEIGHTS), "w1", "b1", "w2", 2.0 ** np.arange(6))
    work = work_on(model, images(3, (1, 3, 8, 8)))
    balanced = equalize.run(work, seconds=1.0).work
    again = equalize.run(balanced, seconds=1.0)
    assert again.work is balanced
    assert [(entry.node, entry.reason) for entry in again.kept] == [("a", "its channels are balanced already")]


def test_the_last_axis_of_a_matmul_is_not_the_channels_of_a_convolution() -> None:
    """Where there are as many rows as columns, both would fit."""
    text = "g (float[N,6,4,5] x) => (float[N,4,2,4] y) { a = MatMul(x, w) r = Relu(a) y = Conv(r, v) }"
    model = scaled(parse(text, w=(5, 6), v=(4, 6, 3, 3)), "none", None, "v", 4.0 ** np.arange(6))
    feeds = images(3, (1, 6, 4, 5))
    outcome = equalize.run(work_on(model, feeds), seconds=1.0)
    want, got = (open_session(m, threads=1)(feeds[0])["y"] for m in (model, outcome.work.model))
    np.testing.assert_array_equal(want, got)


def test_a_weight_that_another_layer_reads_is_not_changed_for_it() -> None:
    text = """g (float[N,6,8,8] x) => (float[N,6,8,8] y, float[N,6,8,8] z) {
        a = Conv <pads: ints = [1,1,1,1]> (x, w)
        r = Relu(a)
        y = Conv <pads: ints = [1,1,1,1]> (r, v)
        z = Conv <pads: ints = [1,1,1,1]> (x, w)
    }"""
    model = scaled(parse(text, w=(6, 6, 3, 3), v=(6, 6, 3, 3)), "w", None, "v", 4.0 ** np.arange(6))
    feeds = images(3, (1, 6, 8, 8))
    outcome = equalize.run(work_on(model, feeds), seconds=1.0)
    assert len(outcome.changes) == 1
    want, got = (open_session(m, threads=1)(feeds[0]) for m in (model, outcome.work.model))
    for name in ("y", "z"):
        np.testing.assert_array_equal(want[name], got[name])
