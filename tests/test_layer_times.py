"""Kernels that ran, told by the nodes of the file: float (fused, NCHWc) and int8 (renamed), every microsecond once."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from exporters.graph import Graph
from exporters.layerwise.layer_times import attribute, layer_times, origin
from exporters.quantization.quantize import QuantRecipe, quantize_model
from runtimes.census import NodeRun, profile

NET = """
<ir_version: 9, opset_import: ["" : 18]>
net (float[N,16,16,16] x) => (float[N,16,16,16] y) {
    c1 = Conv <kernel_shape: ints = [3, 3], pads: ints = [1, 1, 1, 1]> (x, w1, b1)
    r1 = Relu (c1)
    c2 = Conv <kernel_shape: ints = [3, 3], pads: ints = [1, 1, 1, 1]> (r1, w2, b2)
    a = Add (c2, x)
    r2 = Relu (a)
    s = Elu (r2)
    y = Conv <kernel_shape: ints = [1, 1]> (s, w3, b1)
}
"""


@pytest.fixture(scope="module")
def net() -> onnx.ModelProto:
    model = parser.parse_model(NET)
    draw = np.random.default_rng(0).normal
    shapes = {"w1": (16, 16, 3, 3), "w2": (16, 16, 3, 3), "w3": (16, 16, 1, 1), "b1": (16,), "b2": (16,)}
    model.graph.initializer.extend(
        numpy_helper.from_array(draw(size=s).astype(np.float32) / 8, n) for n, s in shapes.items()
    )
    for node in model.graph.node:
        node.name = f"{node.op_type.lower()}_{node.output[0]}"
    return model


@pytest.fixture(scope="module")
def feeds() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).normal(size=(1, 16, 16, 16)).astype(np.float32)}


def test_float_kernels_are_named_by_their_convolutions(net: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> None:
    times = layer_times(net, feeds)
    assert {"conv_c1", "conv_c2", "conv_y"} <= set(times.by_node)
    assert "elu_s" in times.by_node
    assert set(times.by_node) <= {node.name for node in net.graph.node}


def test_int8_kernels_are_named_by_the_same_nodes(net: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> None:
    model = quantize_model(net, [feeds], QuantRecipe()).model
    times = layer_times(model, feeds, net)
    assert {"conv_c1", "conv_c2", "conv_y", "add_a", "elu_s"} <= set(times.by_node)
    assert times.between_us > 0, "quantizing the input belongs to no node"


def test_every_microsecond_is_counted_once(net: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> None:
    runs = profile(net, feeds)
    times = attribute(runs, Graph(net))
    assert times.total_us == pytest.approx(sum(run.time_us for run in runs))


def test_two_convolutions_in_front_of_one_sum_are_told_apart(net: onnx.ModelProto) -> None:
    """The second kernel that ends behind the sum is the one that nobody has claimed yet."""
    graph = Graph(net)
    run = NodeRun("r2_nchwc", "Conv", "cpu", 1.0)
    named = {node.name: node for node in graph.proto.node}
    first = origin(run, graph, named)
    assert first is not None
    assert first.name == "conv_c2"
    second = origin(run, graph, named, ["conv_c2"])
    assert second is not None
    assert second.name == "conv_c1"


def test_a_foreign_kernel_is_between_the_nodes(net: onnx.ModelProto) -> None:
    times = attribute([NodeRun("ReorderInput", "ReorderInput", "cpu", 5.0)], Graph(net))
    assert times.between_us == 5.0
    assert not times.by_node


def test_a_fused_kernel_is_the_nearest_node_that_it_stands_for() -> None:
    """The Mul of the second SiLU reads the first layer's tensor first: that layer's Sigmoid is further away."""
    text = """<ir_version: 9, opset_import: ["": 18]> net (float[8] x) => (float[8] y) {
        s = Sigmoid (x)
        a = Mul (x, s)
        t = Sigmoid (a)
        y = Mul (a, t)
    }"""
    made = parser.parse_model(text)
    for node in made.graph.node:
        node.name = node.output[0]
    graph, named = Graph(made), {node.name: node for node in made.graph.node}
    for kernel, node in (("y/QuickGeluFusion/", "t"), ("a/QuickGeluFusion/", "s"), ("y/QuickGeluFusion_token_3", "t")):
        found = origin(NodeRun(kernel, "QuickGelu", "cpu", 1.0), graph, named)
        assert found is not None
        assert found.name == node
