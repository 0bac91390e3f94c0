"""The graph that ran, told by the file: fused, unnamed, taken apart and inside bodies; times are ONNX Runtime's own."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, parser

from exporters.graph import Graph
from exporters.layerwise.executed import Executed, executed, named
from runtimes.base import Tensors
from runtimes.census import tracing
from small_nets import model

CHAIN = """<ir_version: 9, opset_import: ["": 18]>
net (float[1,16,12,12] x) => (float[1,16,12,12] y) {
    a = Conv <pads: ints = [1,1,1,1]> (x, w)
    b = Relu (a)
    c = HardSwish (x)
    d = Add (b, c)
    e = Sin (d)
    y = Conv <pads: ints = [1,1,1,1]> (e, w)
}"""
BRANCH = """<ir_version: 9, opset_import: ["": 18]>
net (float[64,64] x, bool c) => (float[64,64] y) {
    s = Sin (x)
    y = If (c) <
        then_branch = yes () => (float[64,64] t) { m = MatMul (s, s) t = Cos (m) },
        else_branch = no () => (float[64,64] f) { f = Neg (s) }
    >
}"""
SILU = """<ir_version: 9, opset_import: ["": 18]>
net (float[1,16,12,12] x) => (float[1,16,12,12] y) {
    a = Conv <pads: ints = [1,1,1,1]> (x, w)
    s = Sigmoid (a)
    b = Mul (a, s)
    c = Conv <pads: ints = [1,1,1,1]> (b, w)
    t = Sigmoid (c)
    d = Mul (c, t)
    e = Add (b, d)
    y = Conv <pads: ints = [1,1,1,1]> (e, w)
}"""
WEIGHTS = np.random.default_rng(0).normal(size=(16, 16, 3, 3)).astype(np.float32)
FEEDS = {"x": np.random.default_rng(1).normal(size=(1, 16, 12, 12)).astype(np.float32)}


def run(net: onnx.ModelProto, feeds: Tensors, runs: int = 3) -> tuple[Executed, ...]:
    with tracing(net, keep_graph=True) as tracer:
        for _ in range(runs):
            tracer(feeds)
        return executed(tracer.end(), onnx.ModelProto.FromString(tracer.graph()), Graph(net))


def test_kernels_are_told_by_the_nodes_they_came_from() -> None:
    net = model(CHAIN, w=WEIGHTS)
    found = run(net, FEEDS)
    computing = [kernel for kernel in found if kernel.kind != "layout"]
    assert {k.origin for k in computing if k.op == "Conv"} == {"Conv_a", "Conv_y"}
    assert {k.origin for k in computing if k.op == "Sin"} == {"Sin_e"}
    assert all(k.origin for k in computing)
    assert all(not k.origin for k in found if k.kind == "layout")


def test_silu_between_convolutions_is_its_own_and_not_the_next_layers() -> None:
    """ONNX Runtime runs Sigmoid and Mul as one QuickGelu, named after the Mul, between tensors of blocked channels."""
    found = run(model(SILU, w=WEIGHTS), FEEDS)
    assert [kernel.origin for kernel in found if kernel.op == "QuickGelu"] == ["Sigmoid_s", "Sigmoid_t"]
    assert [kernel.origin for kernel in found if kernel.op == "Conv"] == ["Conv_a", "Conv_c", "Conv_y"]
    assert [kernel.origin for kernel in found if kernel.op == "Add"] == ["Add_e"]


def test_the_parts_of_a_node_that_was_taken_apart_are_its_own() -> None:
    """ONNX Runtime runs a lone HardSwish as HardSigmoid and Mul, two kernels without a name in the graph it saves."""
    parts = [kernel.op for kernel in run(model(CHAIN, w=WEIGHTS), FEEDS) if kernel.origin == "HardSwish_c"]
    assert sorted(parts) == ["HardSigmoid", "Mul"]


def test_bytes_are_those_of_the_shapes() -> None:
    """Sin reads and writes 16x12x12 floats; a 16 -> 16 convolution also its weights, blocked but as many."""
    found = {kernel.origin: kernel for kernel in run(model(CHAIN, w=WEIGHTS), FEEDS)}
    plane = 16 * 12 * 12 * 4
    assert found["Sin_e"].moved_bytes == 2 * plane
    assert found["Conv_y"].moved_bytes == 2 * plane + 16 * 16 * 9 * 4


def test_packed_integer_weights_are_counted() -> None:
    """ONNX Runtime's profile leaves weights out that it packed at load."""
    text = """<ir_version: 9, opset_import: ["": 18, "com.microsoft": 1]>
    net (uint8[1,8,8,16] x) => (uint8[1,8,8,16] y)
    <float s = {0.1}, uint8 z = {128}, float ws = {0.1}, int8 wz = {0}, float ys = {1.0}> {
        y = com.microsoft.QLinearConv <pads: ints = [1,1,1,1], channels_last: int = 1> (x, s, z, w, ws, wz, ys, z)
    }"""
    net = parser.parse_model(text)
    net.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((16, 16, 3, 3), np.int8), "w"))
    (kernel,) = run(named(net), {"x": np.zeros((1, 8, 8, 16), np.uint8)})
    assert kernel.kind == "int8"
    assert kernel.moved_bytes == 2 * 8 * 8 * 16 + 16 * 16 * 9 + 3 * (4 + 1)


@pytest.mark.parametrize("names", [("", "", ""), ("same", "same", "same"), ("a", "", "b")])
def test_nodes_without_a_name_of_their_own_get_one(names: tuple[str, ...]) -> None:
    net = parser.parse_model(
        '<ir_version: 9, opset_import: ["": 18]> net (float[8] x) => (float[8] y) { a = Sin(x) b = Cos(a) y = Sin(b) }'
    )
    for node, name in zip(net.graph.node, names, strict=True):
        node.name = name
    ready = named(net)
    found = [node.name for node in ready.graph.node]
    assert len(set(found)) == 3
    assert all(found)
    assert [node.name for node in net.graph.node] == list(names), "the argument stays as it was"
    assert [kernel.origin for kernel in run(ready, {"x": np.ones(8, np.float32)})] == found


def test_a_model_whose_nodes_have_names_is_left_alone() -> None:
    net = model(CHAIN, w=WEIGHTS)
    assert named(net) is net


def test_functions_are_inlined() -> None:
    body = [helper.make_node("Sin", ["a"], ["t"]), helper.make_node("Cos", ["t"], ["b"])]
    call = helper.make_node("twice", ["x"], ["y"], domain="own", name="call")
    sizes = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [4]) for n in "xy"]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "twice", ["a"], ["b"], body, opsets[:1])
    graph = helper.make_graph([call], "g", sizes[:1], sizes[1:])
    net = helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=9)
    found = run(named(net), {"x": np.ones(4, np.float32)})
    assert [kernel.op for kernel in found] == ["Sin", "Cos"]
    assert all(kernel.origin for kernel in found)


def test_an_if_has_only_the_time_that_its_body_has_not() -> None:
    net = named(parser.parse_model(BRANCH))
    feeds = {"x": np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32), "c": np.array(True)}
    found = {kernel.op: kernel for kernel in run(net, feeds)}
    assert found["MatMul"].origin.startswith("m")
    assert "Neg" not in found
    with tracing(net) as tracer:
        tracer(feeds)
        (last,) = tracer.end()
    assert sum(node.time_us for node in last.nodes) <= last.time_us


def test_times_are_those_of_onnx_runtimes_own_file(tmp_path: Path) -> None:
    """Oracle: the JSON of a session that this project did not open, and a sum that needs no reading of ours."""
    net = model(CHAIN, w=WEIGHTS)
    options = ort.SessionOptions()
    options.enable_profiling, options.intra_op_num_threads = True, 1
    options.profile_file_prefix = str(tmp_path / "raw")
    options.optimized_model_filepath = str(tmp_path / "ran.onnx")
    options.log_severity_level = 4
    session = ort.InferenceSession(net.SerializeToString(), options, providers=["CPUExecutionProvider"])
    session.run(None, FEEDS)
    events = json.loads(Path(session.end_profiling()).read_text())
    raw = [e for e in events if e["cat"] == "Node" and e["name"].endswith("_kernel_time")]
    from runtimes.census import passes

    found = executed(passes(events), onnx.load(tmp_path / "ran.onnx"), Graph(net))
    assert sum(kernel.time_us for kernel in found) == sum(e["dur"] for e in raw)
    assert Counter(kernel.op for kernel in found) == Counter(e["args"]["op_name"] for e in raw)
