"""exporters/isolation/probe.py: models that the checker accepts and that must not be run in this process."""

from __future__ import annotations

import platform

import numpy as np
import onnx
import pytest
from google.protobuf.message import EncodeError
from onnx import helper, numpy_helper, parser

from exporters.isolation import apart
from exporters.isolation import probe as probing
from exporters.isolation.probe import probe
from exporters.load import check_model
from runtimes.base import BadInput

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'


def model(text: str, **values: object) -> onnx.ModelProto:
    made = parser.parse_model(HEAD + text)
    made.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in values.items())
    check_model(made, "the checker must accept it, or this test is about nothing")
    return made


def loop(rounds: int) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["a", "x"], ["b"])]
    inner = [value("i", 7, []), value("go", 9, []), value("a", 1, [2])], [value("go_on", 9, []), value("b", 1, [2])]
    body = helper.make_graph(nodes, "body", *inner)
    node = helper.make_node("Loop", ["n", "k", "x"], ["y"], body=body)
    graph = helper.make_graph([node], "g", [value("x", 1, [2])], [value("y", 1, [2])])
    graph.initializer.append(numpy_helper.from_array(np.int64(rounds).reshape(()), "n"))
    graph.initializer.append(numpy_helper.from_array(np.array(True), "k"))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


MIN = np.iinfo(np.int64).min
HOSTILE = {
    "constant division kills the process": (
        model("g (int64[1] x) => (int64[1] y) { q = Div(a, b) y = Add(x, q) }", a=[MIN], b=[np.int64(-1)]),
        "SIGFPE",
    ),
    "64 GiB from a few bytes": (
        model("g (float[1] x) => (float[N] y) { c = ConstantOfShape(n) y = Add(x, c) }", n=[np.int64(2**34)]),
        "x",
    ),
    "negative variance": (
        model(
            "g (float[1,1,2] x) => (float[1,1,2] y) { y = BatchNormalization(x, a, a, a, v) }",
            a=np.ones(1, np.float32),
            v=-np.ones(1, np.float32),
        ),
        "output y holds NaN or Inf",
    ),
    "noise": (
        model("g (float[4] x) => (float[4] y) { r = RandomNormalLike(x) y = Add(x, r) }"),
        "differs between two runs",
    ),
    "open size": (model("g (float[N,3,H,8] x) => (float[N,3,H,8] y) { y = Relu(x) }"), "--input-shape"),
    "no operator": (model("g (float[2] x) => (float[2] y) { y = Relu(x) }"), "my.op"),
}
HOSTILE["no operator"][0].opset_import.append(helper.make_opsetid("my.op", 1))
HOSTILE["no operator"][0].graph.node[0].domain = "my.op"


@pytest.mark.parametrize(("bad", "said"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_models_are_refused_in_one_line(bad: onnx.ModelProto, said: str) -> None:
    if said == "SIGFPE" and platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("only x86 processors trap an integer division that overflows")
    with pytest.raises(BadInput) as caught:
        probe(bad, "bad.onnx", timeout_s=20)
    message = str(caught.value)
    assert message.startswith("bad.onnx: ")
    assert said in message
    assert len(message) < 300


def test_a_loop_that_never_ends_is_stopped() -> None:
    probe(loop(10), "ten.onnx", timeout_s=20)
    with pytest.raises(BadInput, match=r"endless.onnx: .*longer than 2 s"):
        probe(loop(2**62), "endless.onnx", timeout_s=2)


def test_large_models_are_given_more_time_than_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine at work on other things takes a minute for a detector of 190 MB; what never ends is small."""
    given: list[float] = []
    monkeypatch.setattr(probing, "run_in_child", lambda *_, timeout_s, **__: given.append(timeout_s))
    weights = np.zeros((1024, 1024), np.float32)
    text = """g (float[1,1024] x) => (float[1,1024] y) { y = MatMul (x, w) }"""
    probe(model(text, w=weights), "m")
    probe(model(text, w=weights), "m", timeout_s=7)
    assert given == [pytest.approx(34, abs=0.1), 7]


def test_good_models_pass() -> None:
    net = model("g (float[N,3,8,8] x) => (float[N,3,8,8] y) { y = Relu(x) }")
    before = net.SerializeToString()
    probe(net, "net.onnx", timeout_s=20)
    assert net.SerializeToString() == before
    open_size = model("g (float[N,3,H,8] x) => (float[N,3,H,8] y) { y = Relu(x) }")
    probe(open_size, "net.onnx", input_shapes={"x": (1, 3, 4, 8)}, timeout_s=20)


def test_what_comes_out_may_be_left_out_of_account() -> None:
    probe(HOSTILE["negative variance"][0], "nan.onnx", finite=False, timeout_s=20)
    probe(HOSTILE["noise"][0], "noise.onnx", finite=False, timeout_s=20)


@pytest.mark.parametrize("error", [ValueError, EncodeError])
def test_models_beyond_protobuf_are_refused(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    class Huge:
        def SerializeToString(self, deterministic: bool) -> bytes:
            raise error("exceeds maximum protobuf size of 2GB")

    monkeypatch.setattr(apart, "split", lambda *_: Huge())
    with pytest.raises(BadInput, match=r"huge\.onnx: larger than 2 GiB"):
        probe(loop(1), "huge.onnx", timeout_s=20)


def test_an_answer_that_changes_is_refused_even_where_nan_is_not() -> None:
    """`edgecnn check` counts NaN itself, but nothing can be compared with noise."""
    probe(HOSTILE["negative variance"][0], "nan.onnx", finite=False, repeatable=True, timeout_s=20)
    with pytest.raises(BadInput, match="differs between two runs"):
        probe(HOSTILE["noise"][0], "noise.onnx", finite=False, repeatable=True, timeout_s=20)


def test_room_grows_with_the_input_and_never_beyond_half_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    net = model("g (float[N,3,H,64] x, float[N,5] z) => (float[N,3,H,64] y) { y = Relu(x) }")
    assert probing.fed_bytes(net, {}) == 8 * (3 * 64 + 5), "what nobody says is 1"
    assert probing.fed_bytes(net, {"x": (1, 3, 128, 64)}) == 8 * (3 * 128 * 64 + 5)
    monkeypatch.setattr(probing, "memory_bytes", lambda: 16 << 30)
    plain = probing.room_mb(10 << 20)
    assert probing.room_mb(10 << 20, 4 << 20) - plain == 4 * probing.FEATURES
    assert probing.room_mb(10 << 20, 4 << 30) - plain == 8 << 10


def test_a_run_that_needs_more_memory_than_it_may_have_says_so() -> None:
    net = model("g (float[N,1,H,W] x) => (float[N,1,H,W] y) { a = Exp(x) b = Exp(a) y = Sub(b, a) }")
    with pytest.raises(BadInput, match="use a smaller input or batch"):
        probe(net, "net.onnx", input_shapes={"x": (1, 1, 8192, 8192)}, memory_mb=1100)
    probe(net, "net.onnx", input_shapes={"x": (1, 1, 256, 256)}, memory_mb=1100)
