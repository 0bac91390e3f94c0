"""PRelu as products and a sum: against onnx.reference and torch, within the bound, and int8 all through."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgecnn.float_passes import simplified
from exactly import exactly
from exporters.graph import op_counts
from exporters.passes import products_of_prelu
from exporters.quantization.quantize import QuantRecipe, quantize_model
from exporters.torch_export import export_module
from pass_examples import build, draw
from pass_examples.products_of_prelu import SLOPES, TEXT
from rewrite_tools import check, reference
from runtimes.parity import compare
from runtimes.session import open_session


def prelu(slopes: np.ndarray) -> onnx.ModelProto:
    return build(" g (float[N,4,3,5] x) => (float[N,4,3,5] y) { y = PRelu (x, s) }", {"s": slopes})


@given(
    st.lists(st.floats(-4, 4, width=32), min_size=4, max_size=4), st.integers(0, 99), st.sampled_from([1, 1e-30, 1e30])
)
@settings(max_examples=40, deadline=None)
def test_every_number_is_within_the_bound(slopes: list[float], seed: int, scale: float) -> None:
    """Oracle: onnx.reference. Below zero, and with one slope for all, to the last bit."""
    s = np.array(slopes, np.float32).reshape(4, 1, 1)
    model = prelu(s)
    result = products_of_prelu.run(model)
    feeds = {"x": (draw(2, 4, 3, 5, seed=seed) * scale).astype(np.float32)}
    want, got = reference(model, feeds)["y"], open_session(result.model, optimize=False)(feeds)["y"]
    assert np.all(np.abs(got - want) <= result.changes[0].bound * np.abs(want) + 1e-45)
    np.testing.assert_array_equal(got[feeds["x"] < 0], want[feeds["x"] < 0])


def test_one_slope_is_a_leaky_relu() -> None:
    for slopes in (np.float32([0.25]), np.full((4, 1, 1), 0.25, np.float32), np.array(0.25, np.float32)):
        result = products_of_prelu.run(prelu(slopes))
        assert op_counts(result.model) == {"LeakyRelu": 1}
        assert result.changes[0].bound == 0


@pytest.mark.parametrize(
    ("slopes", "reason"),
    [
        (np.full((4, 3, 5), 0.1, np.float32) * np.arange(5, dtype=np.float32), "differ from pixel to pixel"),
        (SLOPES * np.float32(4), "steeper than 4"),
        (SLOPES * np.float32(np.nan), "steeper than 4"),
    ],
)
def test_what_stays_says_why(slopes: np.ndarray, reason: str) -> None:
    model = prelu(slopes)
    result = products_of_prelu.run(model)
    assert result.model == model
    assert reason in result.kept[0].reason


def test_slopes_of_features() -> None:
    """Behind a fully connected layer they have no axes to spare."""
    model = build(" g (float[N,4] x) => (float[N,4] y) { y = PRelu (x, s) }", {"s": SLOPES.reshape(4)})
    check(products_of_prelu.run(model), model, acts=True)


def test_slopes_that_a_caller_gives_stay() -> None:
    model = build(" g (float[N,4,3,5] x, float[4,1,1] s) => (float[N,4,3,5] y) { y = PRelu (x, s) }", {})
    assert products_of_prelu.run(model).kept[0].reason == "its slopes are not constant"


def test_integers_go_all_the_way() -> None:
    """Conv -> PRelu -> Conv without a float operator between; oracle: the same with the PRelu in float."""
    text = TEXT.replace("float[N,4,6,6] y", "float[N,5,6,6] z").replace("PRelu (c, s)", "PRelu (c, s) z = Conv (y, v)")
    model = build(text, {"w": draw(4, 3, 3, 3), "v": draw(5, 4, 1, 1), "s": SLOPES})
    result = products_of_prelu.run(model)
    check(result, model, acts=True)
    feeds = [{"x": draw(1, 3, 8, 8, seed=i)} for i in range(6)]
    made = quantize_model(result.model, feeds, QuantRecipe())
    assert made.float_nodes == ()
    compare(open_session(model), open_session(exactly(made.model)), feeds).require(snr_db=30)  # six 8-bit grids


def test_torch_modules_lose_their_prelus() -> None:
    """What is exported from a face network: oracle torch."""
    torch.manual_seed(0)
    act = nn.PReLU(8)
    act.weight.data.uniform_(0, 0.5)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), act, nn.Conv2d(8, 4, 1), nn.PReLU()).eval()
    x = torch.randn(2, 3, 8, 8)
    model = simplified(export_module(net, (3, 8, 8))).model
    assert op_counts(model) == {"Conv": 2, "Mul": 2, "Relu": 1, "Add": 1, "LeakyRelu": 1}
    got = open_session(model)({open_session(model).inputs[0].name: x.numpy()})
    np.testing.assert_allclose(next(iter(got.values())), net(x).detach().numpy(), rtol=0, atol=1e-5)
