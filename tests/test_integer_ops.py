"""Floats between integer operators: the graph gives what it gave, and each float is what the next operator reads."""

from __future__ import annotations

import collections

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import QuantType

from edgecnn.checking.common_points import compare_sides
from edgecnn.checking.diff import find
from edgecnn.checking.sides import graph_side
from exporters.layerwise.integer_ops import GRID_INPUTS, with_floats
from exporters.targets import weight_forms
from foreign_int8 import float_net, images, quantized
from runtimes.session import open_session
from small_nets import model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
BLOCK = """
<ir_version: 9, opset_import: ["" : 20]>
block (float[N, 3, 12, 12] x) => (float[N, 8] y, float[N, 8, 6, 6] z) {
    c = Conv <pads = [1, 1, 1, 1]> (x, w, b)
    r = Relu (c)
    k = Conv <pads = [1, 1, 1, 1]> (r, u, b)
    a = Add (k, r)
    t = Concat <axis = 1> (a, r)
    m = Conv (t, o, b)
    z = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (m)
    s = Sigmoid (z)
    g = GlobalAveragePool (s)
    y = Flatten (g)
}
"""


def block() -> onnx.ModelProto:
    """A residual block with a Concat, a Sigmoid and a tensor that two layers and the caller read."""
    rng = np.random.default_rng(0)
    shapes = {"w": (8, 3, 3, 3), "u": (8, 8, 3, 3), "o": (8, 16, 1, 1)}
    return model(
        BLOCK,
        b=np.zeros(8, np.float32),
        **{name: rng.standard_normal(shape, np.float32) / 4 for name, shape in shapes.items()},
    )


def run(net: onnx.ModelProto, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    return list(open_session(net, threads=1, optimize=False)(feed).values())


@pytest.mark.parametrize("name", ["small", "block"])
def test_the_answer_stays_to_the_last_bit(name: str) -> None:
    net = quantized(block() if name == "block" else float_net("relu"), "QOperator")
    made = with_floats(net)
    for feed in images(2, seed=3):
        for ours, theirs in zip(run(net, feed), run(made, feed), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    added = collections.Counter(n.op_type for n in made.graph.node) - collections.Counter(
        n.op_type for n in net.graph.node
    )
    assert added["DequantizeLinear"] == added["QuantizeLinear"] == (8 if name == "block" else 4), "none that only moves"
    assert set(added) == {"DequantizeLinear", "QuantizeLinear"}


def test_every_integer_that_is_read_by_another_operator_is_a_float_first() -> None:
    made = with_floats(quantized(block(), "QOperator"))
    maker = {name: node for node in made.graph.node for name in node.output}
    integers = [node for node in made.graph.node if node.op_type in GRID_INPUTS]
    assert {"QLinearConv", "QLinearAdd", "QLinearConcat", "QLinearSigmoid"} <= {node.op_type for node in integers}
    read = [maker[name].op_type for node in integers for name in node.input if name in maker]
    assert set(read) == {"QuantizeLinear"}


def test_operators_of_unknown_shape_are_paired_by_the_names_of_their_nodes() -> None:
    """ONNX infers nothing through QLinearAdd or QLinearConcat, so that shapes tell little here."""
    sides = graph_side(block(), "float", threads=1), graph_side(quantized(block(), "QOperator"), "int8", threads=1)
    comparison = compare_sides(*sides, images(2, seed=3))
    by_node = {pair.reference: pair.candidate for pair in comparison.pairs if pair.by == "node"}
    assert by_node == {name: f"{name}_quantized_float" for name in ("a", "t", "m", "s", "g")} | {
        "r": "c_quantized_float",
        "k": "k_quantized_float",
    }
    report = find(comparison, layers=True)
    assert report.first is None, report.verdict
    assert min(row.alone_db for row in report.layers) > 30


def test_graphs_without_integer_operators_are_left_alone() -> None:
    net = quantized(float_net("relu"), "QDQ")
    assert with_floats(net) is net
    assert graph_side(net, "int8").filed is None


def test_exact_sums_of_integer_operators() -> None:
    """Against the same weights in QDQ, which run in float without the optimizer, and round once a layer, too."""
    plain, wide = (quantized(float_net("relu"), form, reduce_range=False) for form in ("QDQ", "QOperator"))
    exact = weight_forms.exact(wide)
    types = {t.name: t.data_type for t in exact.graph.initializer}
    weights = [types[weight_forms.weights_name(n)] for n in exact.graph.node if n.op_type in ("QLinearConv", "QGemm")]
    assert weights == [onnx.TensorProto.UINT8] * 3
    for feed in images(2, seed=3):
        (ours,), (theirs,) = run(exact, feed), run(plain, feed)
        assert np.abs(ours - theirs).max() < 0.03 * np.abs(theirs).max()


def test_signed_activations_keep_their_weights() -> None:
    """ONNX Runtime has no QLinearConv of int8 activations and uint8 weights: the twin must run."""
    net = quantized(float_net("relu"), "QOperator", activation_type=QuantType.QInt8)
    side = graph_side(net, "int8", threads=1)
    for feed in images(1, seed=3):
        np.testing.assert_array_equal(side.open(["y"])(feed)["y"], run(net, feed)[0])
