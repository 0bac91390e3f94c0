"""Files of ONNX Runtime's quantizer, in which a grid stands for a ReLU or Clip: what is right is not blamed, what is
broken is named.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgecnn.checking.common_points import compare_sides
from edgecnn.checking.diff import find
from edgecnn.checking.divergence import DiffReport
from edgecnn.checking.sides import graph_side
from exporters.graph import copy_model
from exporters.layerwise.calls import Call, correspond_calls
from exporters.layerwise.correspond import correspond
from exporters.layerwise.partial import Parts
from foreign_int8 import float_net, images, quantized
from small_nets import model
from test_weight_forms import only_where_sums_saturate

ROUNDING_DB = 30.0
"""What eight bits leave of these layers: 34 to 60 dB; a sum held against its ReLU leaves 3."""
ALL = [(activation, form) for activation in ("relu", "relu6", "none") for form in ("QDQ", "QOperator")]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@functools.cache
def int8(activation: str, form: str, reduce_range: bool = True) -> onnx.ModelProto:
    return quantized(float_net(activation), form, reduce_range=reduce_range)


def parted(reference: onnx.ModelProto, candidate: onnx.ModelProto, **options: bool) -> DiffReport:
    sides = graph_side(reference, "float", threads=1), graph_side(candidate, "int8", threads=1)
    return find(compare_sides(*sides, images(2, seed=1)), **options)


@pytest.mark.parametrize(("activation", "form"), ALL)
def test_no_layer_of_a_right_file_is_blamed(activation: str, form: str) -> None:
    report = parted(float_net(activation), int8(activation, form), layers=True)
    assert report.first is None, report.verdict
    assert {row.layer.op.removeprefix("QLinear").removeprefix("Q") for row in report.layers} >= {
        "Conv",
        "MaxPool",
        "Gemm",
    }
    assert min(min(row.snr_db, row.alone_db) for row in report.layers) > ROUNDING_DB


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_the_layer_stands_for_its_activation(activation: str, form: str) -> None:
    """In QDQ the convolution has the activation's name, in QOperator its own."""
    net, candidate = float_net(activation), graph_side(int8(activation, form), "int8").parts
    pairs = {pair.reference: pair.candidate for pair in correspond(Parts(net), candidate)}
    assert {"a1", "a2"} <= set(pairs)
    assert not {"c1", "c2"} & set(pairs), "nothing in the file is the sum before the activation"
    assert {candidate.nodes[candidate.place[pairs[name]]].op_type for name in ("a1", "a2")} == {"DequantizeLinear"}


def change(net: onnx.ModelProto, name: str, edit: Callable[[np.ndarray], np.ndarray]) -> onnx.ModelProto:
    copy = copy_model(net)
    (tensor,) = (t for t in copy.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(edit(numpy_helper.to_array(tensor)).copy(), name))
    return copy


@pytest.mark.parametrize(("activation", "form"), ALL)
@pytest.mark.parametrize("layer", ["1", "2"])
def test_a_broken_layer_is_still_named(activation: str, form: str, layer: str) -> None:
    """Its kernels are mirrored, as by a tool that takes correlation for convolution."""
    broken = change(int8(activation, form), f"w{layer}_quantized", lambda w: w[:, :, ::-1, ::-1])
    report = parted(float_net(activation), broken)
    assert report.first is not None
    assert report.first.node in (f"Conv_c{layer}", f"Conv_c{layer}_quant")
    assert report.first.at_fault


def test_a_broken_gemm_behind_right_activations_is_named() -> None:
    for form in ("QDQ", "QOperator"):
        report = parted(float_net("relu"), change(int8("relu", form), "v_quantized", lambda v: v[::-1]))
        assert report.first is not None
        assert report.first.op in ("Gemm", "QGemm")


@pytest.mark.parametrize(
    ("wanted", "made", "form", "named"),
    [
        (
            "relu",
            "none",
            "QDQ",
            "MaxPool_p2",
        ),  # the grid holds what the ReLU would cut; a pool hides most of it
        ("relu", "none", "QOperator", "MaxPool_p2"),
        ("relu6", "none", "QDQ", "MaxPool_p1"),
        ("relu6", "none", "QOperator", "MaxPool_p1"),
        ("none", "relu", "QOperator", "Conv_c1_quant"),  # the grid cuts what nothing should cut
    ],
)
def test_an_activation_too_few_or_too_many_is_missed(wanted: str, made: str, form: str, named: str) -> None:
    report = parted(float_net(wanted), int8(made, form))
    assert report.first is not None
    assert report.first.node == named
    assert report.first.at_fault


KEPT = """
<ir_version: 9, opset_import: ["" : 20]>
g (float[4] x) => (float[4] y) {{
    c = Neg (x)
    q = QuantizeLinear (c, s, z)
    d = DequantizeLinear (q, s, z)
    y = Abs (d)
}}
"""


def pairs_of(end: str, scale: float, zero: np.generic) -> dict[str, str]:
    """Neg, `end` and Abs in float, against a graph that has kept the name of the sum and lost `end`."""
    head = '<ir_version: 9, opset_import: ["" : 20]> g (float[4] x) => (float[4] y) '
    text = head + f"{{ c = Neg (x) r = {end} y = Abs (r) }}"
    limits = {"low": np.asarray(0, np.float32), "high": np.asarray(6, np.float32)}
    reference = model(text, **(limits if "low" in end else {}))
    candidate = model(KEPT.format(), s=np.asarray(scale, np.float32), z=np.asarray(zero))
    return {pair.reference: pair.candidate for pair in correspond(Parts(reference), Parts(candidate))}


@pytest.mark.parametrize(
    ("end", "scale", "zero", "stands"),
    [
        ("Relu (c)", 0.1, np.uint8(0), True),
        ("Relu (c)", 0.1, np.int8(-128), True),
        ("Relu (c)", 0.1, np.uint8(1), False),  # -0.1 is on the grid
        ("Clip (c, low, high)", 6 / 255, np.uint8(0), True),
        ("Clip (c, low, high)", 6.05 / 255, np.uint8(0), False),  # so are 6.03 and 6.05
        ("Clip (c, low, high)", 3 / 255, np.int8(-128), True),
        ("Clip (c, low)", 0.1, np.uint8(0), True),
        ("Sigmoid (c)", 0.1, np.uint8(0), False),
    ],
)
def test_a_grid_stands_for_what_it_cannot_hold(end: str, scale: float, zero: np.generic, stands: bool) -> None:
    """Where the sum has kept its name, it is compared as such, and behind the grid as the activation.

    Where no activation follows that the grid may stand for, what it makes of the sum is the sum.
    """
    found = pairs_of(end, scale, zero)
    assert found["c"] == ("d" if "Sigmoid" in end else "c")
    assert found.get("r") == ("d" if stands else None)


def test_a_relu_that_was_kept_is_compared_once() -> None:
    """The grid before it stands for it, too; one tensor of the reference has one counterpart."""
    head = '<ir_version: 9, opset_import: ["" : 20]> g (float[4] x) => (float[4] y) '
    reference = model(head + "{ c = Neg (x) r = Relu (c) y = Abs (r) }")
    text = "{ n = Neg (x) q = QuantizeLinear (n, s, z) d = DequantizeLinear (q, s, z) r = Relu (d) y = Abs (r) }"
    candidate = model(head + text, s=np.asarray(0.1, np.float32), z=np.asarray(0, np.uint8))
    reference.graph.node[0].name = candidate.graph.node[0].name = "/sum/Neg"
    pairs = [(pair.reference, pair.candidate) for pair in correspond(Parts(reference), Parts(candidate))]
    assert pairs == [("r", "r"), ("y", "y")]


MODULES = {"0": "Conv2d", "1": "BatchNorm2d", "2": "ReLU6", "3": "MaxPool2d", "4": "Conv2d", "5": "ReLU", "6": "Linear"}
CALLS = [Call(path, 0, kind, (), True) for path, kind in MODULES.items()]
FILE = """
<ir_version: 9, opset_import: ["" : 20]>
g (float[N, 3, 12, 12] x) => (float[N, 16, 4, 10] y) {
    c1 = Conv (x, w1, b)
    q1 = QuantizeLinear (c1, s, z)
    d1 = DequantizeLinear (q1, s, z)
    p = MaxPool <kernel_shape = [2, 2], strides = [1, 1]> (d1)
    c2 = Conv <pads = [0, 0, 0, 0], strides = [2, 2]> (p, w2, b)
    q2 = QuantizeLinear (c2, s, z)
    d2 = DequantizeLinear (q2, s, z)
    y = MatMul (d2, v)
}
"""


def calls_in_file(scale: float, zero: int, calls: list[Call] = CALLS) -> dict[str, str]:
    net = model(
        FILE, w1=np.ones((16, 3, 3, 3), np.float32), w2=np.ones((16, 16, 3, 3), np.float32), b=np.ones(16, np.float32),
        v=np.ones((4, 10), np.float32), s=np.asarray(scale, np.float32), z=np.asarray(zero, np.uint8),
    )  # fmt: skip
    for node in net.graph.node:
        node.name = {"c1": "/0/Conv", "p": "/3/MaxPool", "c2": "/4/Conv", "y": "/6/MatMul"}.get(node.output[0], "")
    return correspond_calls(calls, Parts(net))


def test_calls_of_a_pytorch_network_in_such_a_file() -> None:
    """Neither the convolutions nor the BatchNorm are anywhere in the file: the calls of the activations are."""
    assert calls_in_file(6 / 255, 0) == {"2": "d1", "3": "p", "5": "d2", "6": "y"}
    functional = [call for call in CALLS if call.kind != "ReLU"]
    assert calls_in_file(6 / 255, 0, functional) == {"2": "d1", "3": "p", "6": "y"}, "relu(conv(x)) calls no module"
    assert calls_in_file(6 / 255, 128) == {"1": "d1", "3": "p", "4": "d2", "6": "y"}, "a grid with negative numbers"
    assert calls_in_file(1.0, 0) == {"3": "p", "5": "d2", "6": "y"}, "a grid to 255 is no ReLU6, and may be a ReLU"


@only_where_sums_saturate
@pytest.mark.parametrize(("activation", "form"), ALL)
def test_saturating_sums_are_told(activation: str, form: str) -> None:
    """Weights of the full range: no layer is wrong, the kernels of this CPU are."""
    report = parted(float_net(activation), int8(activation, form, False))
    assert report.first is None
    assert report.kernels is not None
    assert report.kernels.saturate
    assert report.kernels.exact_db == pytest.approx(report.kernels.as_filed_db, abs=1)
    assert "Conv_c1" in {costly.layer.node.removesuffix("_quant") for costly in report.kernels.layers}
    least = parted(float_net(activation), int8(activation, form)).kernels
    assert least is not None
    assert not least.lose, "seven bits cannot exceed 16 bits"
