"""The larger of two in the place of a sum: the same function, and integers of one grid that reaches far enough."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactly import exactly
from exporters.graph import op_counts
from exporters.passes import products_of_prelu
from exporters.quantization import placement
from exporters.quantization.quantize import QuantRecipe, quantize_model
from exporters.rewrites import max_of_prelu
from pass_examples import build, draw
from pass_examples.max_of_prelu import SLOPES, TEXT, VALUES
from pass_examples.products_of_prelu import TEXT as PRELU
from rewrite_tools import check, reference
from runtimes.census import census
from runtimes.parity import compare
from runtimes.session import open_session

NET = PRELU.replace("float[N,4,6,6] y", "float[N,5,6,6] z").replace("PRelu (c, s)", "PRelu (c, s) z = Conv (y, v)")
FEEDS = [{"x": draw(1, 3, 8, 8, seed=i)} for i in range(6)]


@given(st.lists(st.floats(-4, 1, width=32), min_size=4, max_size=4, unique=True), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_same_function_as_the_prelu(slopes: list[float], seed: int) -> None:
    """Oracle: onnx.reference on the PRelu itself; bit for bit."""
    text = " g (float[N,4,3,5] x) => (float[N,4,3,5] y) { y = PRelu (x, s) }"
    model = build(text, {"s": np.array(slopes, np.float32).reshape(4, 1, 1)})
    result = max_of_prelu.run(products_of_prelu.run(model).model)
    assert op_counts(result.model) == {"Mul": 1, "Max": 1}
    feeds = {"x": draw(2, 4, 3, 5, seed=seed)}
    np.testing.assert_array_equal(open_session(result.model, optimize=False)(feeds)["y"], reference(model, feeds)["y"])


@pytest.mark.parametrize(
    ("text", "values", "reason"),
    [
        (TEXT, {"s": SLOPES * np.float32(2), "t": np.float32(1) - SLOPES * np.float32(2)}, "a slope is above 1"),
        (TEXT.replace(" y)", " y, float[N,4,6,6] below)"), {}, "is also an output"),
        (TEXT.replace(" y)", " y, float[N,4,6,6] z)").replace("y = Add", "z = Neg (r) y = Add"), {}, "read 2 times"),
    ],
)
def test_what_stays_says_why(text: str, values: dict[str, np.ndarray], reason: str) -> None:
    model = build(text, {**VALUES, **values})
    result = max_of_prelu.run(model)
    check(result, model, acts=False)
    assert reason in result.kept[0].reason


@pytest.mark.parametrize(
    "change",
    [
        ("Relu (c)", "Abs (c)"),
        ("Mul (r, t)", "Mul (r, s)"),  # weights that do not add up to 1
        ("r = Relu (c)", "n = Neg (c) r = Relu (n)"),  # of another tensor
    ],
)
def test_other_sums_are_left_alone(change: tuple[str, str]) -> None:
    model = build(TEXT.replace(*change), VALUES)
    result = max_of_prelu.run(model)
    check(result, model, acts=False)
    assert result.kept == ()


def int8_of(slopes: np.ndarray, rewritten: bool) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """(float, int8) of Conv -> PRelu -> Conv."""
    model = build(NET, {"w": draw(4, 3, 3, 3), "v": draw(5, 4, 1, 1), "s": slopes})
    ready = products_of_prelu.run(model).model
    made = quantize_model(max_of_prelu.run(ready).model if rewritten else ready, FEEDS, QuantRecipe())
    assert made.float_nodes == ()
    return model, made.model


@pytest.mark.parametrize("slopes", [SLOPES, SLOPES * np.float32(-1) - np.float32(2)], ids=["mild", "steep below zero"])
def test_integers_stay_on_one_grid_that_reaches_far_enough(slopes: np.ndarray) -> None:
    """Slopes under -1 make of -1 more than 1: the grid of x alone would cut that off. As good as the sum in 8 bits."""
    found = {}
    for rewritten in (False, True):
        model, int8 = int8_of(slopes, rewritten)
        found[rewritten] = compare(open_session(model), open_session(exactly(int8)), FEEDS).snr_db
    assert found[True] > 28  # 8 bits for each of five tensors
    assert found[True] > found[False] - 0.5


def test_the_kernels_that_run() -> None:
    """Two convolutions, the product and the maximum; nothing is read into float between the ends."""
    ran = {kernel.op: kernel.count for kernel in census(int8_of(SLOPES, True)[1], FEEDS[0])}
    assert (ran["QLinearConv"], ran["QLinearMul"], ran["Max"]) == (2, 1, 1)
    assert (ran["QuantizeLinear"], ran["DequantizeLinear"]) == (1, 1)


def test_a_leaky_relu_written_as_a_maximum_is_int8() -> None:
    """As TensorFlow's users write it; a factor above 1, or two tensors of their own, stay float."""
    text = """ g (float[N,3,8,8] x) => (float[N,5,6,6] z) {
        c = Conv (x, w) m = Mul (k, c) y = Max (m, c) z = Conv (y, v)
    }"""
    values = {"w": draw(4, 3, 3, 3), "v": draw(5, 4, 1, 1)}
    plan = placement.plan(build(text, {**values, "k": np.float32(0.2)}))
    assert plan.float_nodes == ()
    assert {plan.grids[name] for name in "cmy"} == {"c"}
    assert plan.observed == ["c", "x", "y", "z"]
    for changed in (build(text, {**values, "k": np.float32(1.5)}), build(text.replace("(k, c)", "(c, c)"), values)):
        assert placement.plan(changed).float_nodes[0][1] == "Max has no int8 kernel"
