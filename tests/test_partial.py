"""A part of a graph computes what the whole computes there, with the weights that it reads and no others."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from exporters.layerwise.partial import Parts, main_node
from runtimes.base import BadInput
from runtimes.session import open_session
from small_nets import conv_net, model

IF = """<ir_version: 9, opset_import: ["" : 20]> g (float[2] x) => (float[2] z) {
    a = Neg (x)  s = ReduceMax <keepdims = 0> (x)  zero = Constant <value_float = 0.0> ()  t = Greater (s, zero)
    y = If (t) <then_branch = yes () => (float[2] p) { p = Abs (a) },
        else_branch = no () => (float[2] q) { q = Exp (a) }>
    z = Relu (y)
}"""
X = {"x": np.random.default_rng(0).standard_normal((1, 3, 8, 8), np.float32)}


def whole(net: onnx.ModelProto, name: str) -> np.ndarray:
    """Tensor `name` of the whole graph, by adding it to the outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(net)
    copy.graph.output.append(onnx.ValueInfoProto(name=name))
    return open_session(copy, optimize=False)(X)[name]


@pytest.mark.parametrize("channels", [8, 256], ids=["weights inside", "weights beside"])
def test_up_to_a_tensor(channels: int) -> None:
    net = conv_net(channels)
    parts = Parts(net)
    made, large = parts.part(["r"])
    assert [node.op_type for node in made.graph.node] == ["Conv", "BatchNormalization", "Relu"]
    assert {t.name for t in made.graph.initializer} | set(large) == {"w", "b", "scale", "shift", "mean", "var"}
    assert bool(large) == (channels == 256)
    np.testing.assert_array_equal(parts.open(["r"])(X)["r"], whole(net, "r"))


def test_between_tensors() -> None:
    net = conv_net()
    parts = Parts(net)
    given = {"r": whole(net, "r")}
    session = parts.open(["y"], {"r": given["r"].dtype})
    assert [info.name for info in session.session.inputs] == ["r"]
    np.testing.assert_array_equal(session({**X, **given})["y"], open_session(net, optimize=False)(X)["y"])
    assert [node.op_type for node in parts.segment("f", ["r"])] == ["GlobalAveragePool", "Flatten"]


def test_what_a_body_reads_from_outside_comes_along() -> None:
    parts = Parts(model(IF))
    assert [node.op_type for node in parts.part(["y"])[0].graph.node] == [
        "Neg", "ReduceMax", "Constant", "Greater", "If",
    ]  # fmt: skip
    made = parts.open(["y"])({"x": np.float32([1, -2])})["y"]
    np.testing.assert_array_equal(made, [1, 2])


def test_a_part_that_does_not_run_says_so() -> None:
    net = conv_net()
    next(n for n in net.graph.node if n.op_type == "Flatten").attribute.add(name="axis", i=9, type=2)
    parts = Parts(net)
    parts.open(["g"])(X)
    with pytest.raises(BadInput):
        parts.open(["f"])(X)


def test_cut_out_is_whole_by_itself() -> None:
    net = conv_net(256)
    made = Parts(net).cut_out(["r"], {})
    assert not any(t.external_data for t in made.graph.initializer)
    np.testing.assert_array_equal(open_session(made, optimize=False)(X)["r"], whole(net, "r"))


def test_the_model_is_not_edited() -> None:
    net = conv_net(256)
    before = net.SerializeToString(deterministic=True)
    Parts(net).part(["r"])
    Parts(net).cut_out(["y"], {"r": np.zeros(1, np.float32)})
    assert net.SerializeToString(deterministic=True) == before


def test_a_segment_is_named_after_what_computes() -> None:
    assert main_node(Parts(conv_net()).segment("f", ["c"])).op_type == "GlobalAveragePool"
    assert main_node(Parts(conv_net()).segment("f", ["g"])).op_type == "Flatten"
