"""A BatchNormalization that stays is a convolution: against onnx.reference, and in int8 without a float operator."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from exactly import exactly
from exporters.graph import op_counts
from exporters.quantization.quantize import QuantRecipe, quantize_model
from exporters.rewrites import depthwise_batchnorm
from pass_examples import build, draw
from pass_examples.depthwise_batchnorm import TEXT, VALUES
from rewrite_tools import against_reference, check
from runtimes.census import census
from runtimes.parity import compare
from runtimes.session import open_session


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e4])
def test_the_same_function(scale: float) -> None:
    """Oracle: onnx.reference; means and variances of any size."""
    values = {**VALUES, "m": VALUES["m"] * np.float32(scale), "v": VALUES["v"] * np.float32(scale**2)}
    model = build(TEXT, values)
    result = depthwise_batchnorm.run(model)
    assert op_counts(result.model) == {"Conv": 2, "Relu": 1}
    against_reference(model, result.model, (2, 4, 8, 8))


def test_integers_instead_of_an_island() -> None:
    """Behind a sum nothing takes it: with the rewrite the network is integers from end to end, and as exact."""
    text = """ g (float[N,3,10,10] i) => (float[N,5,8,8] y) {
        c = Conv (i, k) d = Conv (i, l) x = Add (c, d)
        n = BatchNormalization <epsilon = 0.01> (x, s, b, m, v) r = Relu (n) y = Conv <pads: ints = [1,1,1,1]> (r, w)
    }"""
    values = {**VALUES, "k": draw(4, 3, 3, 3), "l": draw(4, 3, 3, 3, seed=9)}
    model = build(text, values)
    feeds = [{"i": draw(1, 3, 10, 10, seed=i)} for i in range(6)]
    snr_db = {}
    for name, graph in (("given", model), ("rewritten", depthwise_batchnorm.run(model).model)):
        made = quantize_model(graph, feeds, QuantRecipe())
        assert (made.float_nodes == ()) == (name == "rewritten")
        snr_db[name] = compare(open_session(model), open_session(exactly(made.model)), feeds).snr_db
    ran = {kernel.op: kernel.count for kernel in census(made.model, feeds[0])}
    assert (ran["QLinearConv"], ran["QuantizeLinear"], ran["DequantizeLinear"]) == (4, 1, 1)
    assert snr_db["rewritten"] > snr_db["given"] - 0.5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (TEXT.replace("n = Batch", "n, mo, vo = Batch").replace("0.01", "0.01, training_mode = 1"), "training mode"),
        (TEXT.replace("n = Batch", "m2 = Sigmoid (m) n = Batch").replace("b, m,", "b, m2,"), "mean is not constant"),
        (" g (float[N,4,9] x) => (float[N,4,9] y) { y = BatchNormalization (x, s, b, m, v) }", "2-D float32 images"),
    ],
)
def test_what_stays_says_why(text: str, reason: str) -> None:
    model: onnx.ModelProto = build(text, VALUES)
    if "m2" in text:  # computed from what the caller feeds
        model.graph.initializer.remove(next(t for t in model.graph.initializer if t.name == "m"))
        model.graph.input.append(onnx.helper.make_tensor_value_info("m", onnx.TensorProto.FLOAT, [4]))
    result = depthwise_batchnorm.run(model)
    check(result, model, acts=False)
    assert reason in result.kept[0].reason
