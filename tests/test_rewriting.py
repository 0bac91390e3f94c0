"""Choices of rewrites, in order, proven; a rewrite that is wrong is caught."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import exporters.rewrites
from exactly import exactly
from exporters.base import Change, PassResult
from exporters.graph import copy_model
from exporters.quantization.quantize import QuantRecipe, quantize_model
from exporters.rewrites import ORDER, fold_columns
from exporters.searching.rewriting import ordered, prove, rewrite
from pass_examples import build, draw
from runtimes import plugins
from runtimes.base import BadInput, CheckFailed
from runtimes.parity import compare
from runtimes.session import open_session, random_feeds

NET = """ g (float[N,3,SIZE,SIZE] x) => (float[N,3,SIZE,SIZE] y) {
    a = Conv <strides: ints = [2,2], pads: ints = [1,1,1,1]> (x, w1, b1)
    r = HardSwish (a)
    b = Conv <group = 12, pads: ints = [1,1,1,1]> (r, w2)
    c = Relu (b)
    g = GlobalAveragePool (c)
    e = Conv (g, w3)
    s = HardSigmoid <alpha = 0.16666667> (e)
    m = Mul (c, s)
    p = Conv (m, w4)
    q = Conv (r, w5)
    t = Add (p, q)
    k, l = Split <axis = 1, num_outputs = 2> (t)
    h = Conv <pads: ints = [1,1,1,1]> (l, w6)
    j = Concat <axis = 1> (k, l, h)
    u = ConvTranspose <strides: ints = [2,2]> (j, w7)
    y = Conv (u, w8, b8)
}"""
WEIGHTS = {
    "w1": draw(12, 3, 3, 3), "b1": draw(12), "w2": draw(12, 1, 3, 3), "w3": draw(12, 12, 1, 1),
    "w4": draw(8, 12, 1, 1), "w5": draw(8, 12, 1, 1), "w6": draw(4, 4, 3, 3), "w7": draw(12, 5, 2, 2),
    "w8": draw(3, 5, 1, 1), "b8": draw(3),
}  # fmt: skip


def net(size: int | str = 16) -> onnx.ModelProto:
    return build(NET.replace("SIZE", str(size)), WEIGHTS)


def feeds(size: int = 16) -> list[dict[str, np.ndarray]]:
    return [{"x": draw(1, 3, size, size, seed=i)} for i in range(4)]


def test_the_order_names_every_rewrite_once() -> None:
    assert sorted(ORDER) == plugins.names(exporters.rewrites)
    assert ordered(["fold_columns", "pad_depthwise", "fold_columns"]) == ["pad_depthwise", "fold_columns"]


def test_all_of_them_on_one_network_and_then_int8() -> None:
    """Many rewrites meet on one network; plain int8 of what comes out is as close to float as that of the original."""
    model = net()
    result = rewrite(model, ORDER, feeds())
    acted = [step.name for step in result.steps if step.changes]
    assert {"concat_of_parts", "merge_add", "transposed_conv", "fold_columns", "pad_depthwise", "fold_pixels"} <= set(
        acted
    )
    assert result.parity is not None
    assert result.parity.images == 4 + 3
    assert 0 < result.bound < 1e-4
    float_session = open_session(model)
    snr = []
    for candidate in (model, result.model):
        quantized = quantize_model(candidate, feeds(), QuantRecipe(forms=("hardswish", "one_scale")))
        snr.append(compare(float_session, open_session(exactly(quantized.model)), feeds()).snr_db)
    assert snr[1] >= snr[0] - 2.0  # the same grids but for sums that are merged


@given(names=st.sets(st.sampled_from(ORDER)), size=st.sampled_from([13, 15, 16, 18]))
@settings(max_examples=25, deadline=None)
def test_any_choice_is_the_same_function_at_any_size(names: set[str], size: int) -> None:
    result = rewrite(_odd(size), sorted(names), feeds(size)[:1])
    onnx.checker.check_model(result.model, full_check=True)
    assert result.modified == (result.parity is not None)


def _odd(size: int) -> onnx.ModelProto:
    """The network on an odd image gives one row more."""
    out = 2 * ((size + 1) // 2)
    text = NET.replace("(float[N,3,SIZE,SIZE] y)", f"(float[N,3,{out},{out}] y)")
    return build(text.replace("SIZE", str(size)), WEIGHTS)


def test_a_network_of_open_size_is_proven_at_two_sizes() -> None:
    text = NET.replace("float[N,3,SIZE,SIZE] x", "float[N,3,H,W] x").replace("SIZE,SIZE", "P,Q")
    result = rewrite(build(text, WEIGHTS), ORDER, feeds())
    acted = [step.name for step in result.steps if step.changes]
    assert "pad_depthwise" in acted
    assert "fold_columns" not in acted
    assert result.parity is not None
    assert result.parity.images == 4 + 3 + 1


def test_nothing_to_do_needs_no_proof() -> None:
    model = build("g (float[N,4] x) => (float[N,4] y) { y = Relu (x) }")
    result = rewrite(model, ORDER, [{"x": draw(1, 4)}])
    assert not result.modified
    assert result.parity is None
    assert result.model == model


def test_a_rewrite_that_changes_the_function_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model: onnx.ModelProto) -> PassResult:
        copy = copy_model(model)
        bias = next(t for t in copy.graph.initializer if t.name == "b1")
        bias.CopyFrom(onnx.numpy_helper.from_array(WEIGHTS["b1"] * np.float32(1.001), "b1"))
        return PassResult(copy, (Change("a", "wrong"),))

    monkeypatch.setattr(fold_columns, "run", wrong)
    with pytest.raises(CheckFailed, match="y"):
        rewrite(net(), ["fold_columns"], feeds())


def test_a_batch_baked_in_is_caught() -> None:
    """Equal on the images, wrong for three of them."""
    text = "g (float[N,4,2,2] x) => (float[N,M] y) { y = Reshape (x, s) }"
    before, after = (build(text, {"s": s}) for s in ([0, -1], [-1, 16]))
    prove(before, after, [{"x": draw(1, 4, 2, 2)}])
    wrong = build(text, {"s": [1, -1]})
    with pytest.raises(CheckFailed):
        prove(before, wrong, [{"x": draw(1, 4, 2, 2)}])


def test_a_model_with_a_fixed_batch_is_proven_on_it() -> None:
    model = build("g (float[2,3,8,8] x) => (float[2,4,8,8] y) { y = Conv (x, w) }", {"w": draw(4, 3, 1, 1)})
    session = open_session(model)
    result = rewrite(model, ["pad_inputs"], [random_feeds(session.inputs, seed=1)])
    assert result.parity is not None
    assert result.parity.images == 2


def test_bad_input() -> None:
    with pytest.raises(BadInput, match="did you mean fold_columns"):
        rewrite(net(), ["fold_column"], feeds())
    with pytest.raises(BadInput, match="no images"):
        rewrite(net(), ["fold_columns"], [])
