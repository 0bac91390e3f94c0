"""exporters/passes/merge_reshapes.py against ONNX Runtime; nothing is computed, so bits are equal, at every batch."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from exporters.base import PassResult
from exporters.graph import op_counts
from exporters.passes import merge_reshapes
from pass_examples import build
from runtimes.session import open_session, random_feeds


def net(body: str, outs: str = "float[N,A] y", ins: str = "float[N,4,3,1] x", **values: object) -> onnx.ModelProto:
    return build(f"g ({ins}) => ({outs}) {{ {body} }}", values)


def run(model: onnx.ModelProto) -> PassResult:
    result = merge_reshapes.run(model)
    onnx.checker.check_model(result.model, full_check=True)
    sessions = [open_session(m, optimize=False) for m in (model, result.model)]
    for batch in (1, 3) if isinstance(sessions[0].inputs[0].shape[0], str) else (1,):
        feeds = random_feeds(sessions[0].inputs, batch=batch, seed=1)
        left, right = (session(feeds) for session in sessions)
        for name, value in left.items():
            np.testing.assert_array_equal(value, right[name])
    assert not merge_reshapes.run(result.model).modified
    return result


MERGED = {  # and what the one Reshape is told
    "flatten, reshape": (net("a = Flatten (x) y = Reshape (a, q)", "float[N,2,6] y", q=[-1, 2, 6]), [-1, 2, 6]),
    "squeeze, flatten": (net("a = Squeeze (x, k) y = Flatten (a)", "float[N,12] y", k=[3]), [-1, 12]),
    "squeeze, unsqueeze": (
        net("a = Squeeze (x, k) y = Unsqueeze (a, j)", "float[N,1,4,3] y", k=[3], j=[1]), [-1, 1, 4, 3],
    ),
    "0 keeps the size before it": (
        net("a = Reshape (x, p) y = Reshape (a, q)", "float[N,12] y", p=[0, 2, 6], q=[0, -1]), [-1, 12],
    ),
    "all sizes known": (
        net("a = Flatten (x) y = Reshape (a, q)", "float[3,4] y", "float[1,4,3,1] x", q=[3, 4]), [3, 4],
    ),
    "the batch moves": (
        net("a = Reshape (x, p) y = Reshape (a, q)", "float[12,N] y", p=[-1, 12], q=[12, -1]), [12, -1],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("model", "told"), MERGED.values(), ids=MERGED)
def test_chains_become_one(model: onnx.ModelProto, told: list[int]) -> None:
    result = run(model)
    assert op_counts(result.model) == {"Reshape": 1}
    (shape,) = result.model.graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(shape), told)


def test_there_and_back_is_nothing() -> None:
    result = run(net("f = Flatten (x) b = Reshape (f, q) y = Relu (b)", "float[N,4,3,1] y", q=[-1, 4, 3, 1]))
    assert op_counts(result.model) == {"Relu": 1}
    assert not result.model.graph.initializer


def test_back_in_another_shape_is_a_reshape() -> None:
    result = run(net("f = Flatten (x) b = Reshape (f, q) y = Relu (b)", "float[N,3,4,1] y", q=[-1, 3, 4, 1]))
    assert op_counts(result.model) == {"Reshape": 1, "Relu": 1}


def test_there_and_back_between_input_and_output_is_a_reshape() -> None:
    """The model's input cannot be called as its output is, so one node has to stay."""
    result = run(net("f = Flatten (x) y = Reshape (f, q)", "float[N,4,3,1] y", q=[-1, 4, 3, 1]))
    assert op_counts(result.model) == {"Reshape": 1}


KEPT = {
    "read by others": (
        net("a = Flatten (x) y = Reshape (a, q) z = Relu (a)", "float[N,2,6] y, float[N,12] z", q=[-1, 2, 6]),
        "read 2 times",
    ),
    "also an output": (
        net("a = Flatten (x) y = Reshape (a, q)", "float[N,2,6] y, float[N,12] a", q=[-1, 2, 6]), "also an output",
    ),
    "computed shape": (
        net("a = Flatten (x) s = Shape (x) y = Reshape (a, s)", "float[N,4,3,1] y"), "computed",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("model", "reason"), KEPT.values(), ids=KEPT)
def test_what_has_to_stay(model: onnx.ModelProto, reason: str) -> None:
    result = run(model)
    assert not result.modified
    assert reason in result.kept[0].reason


def test_two_open_sizes_stay() -> None:
    """Batch and width are both open: -1 can say only one of them."""
    text = "g (float[N,4,W,1] x) => (float[N,W,4] y) { a = Squeeze (x, k) y = Reshape (a, q) }"
    model = build(text, {"k": [3], "q": [0, -1, 4]})
    result = merge_reshapes.run(model)
    assert not result.modified
    assert "open" in result.kept[0].reason


def test_an_empty_tensor_stays() -> None:
    """No elements can be shared out in more than one way."""
    text = "g (float[N,0,3] x) => (float[N,0] y) { a = Flatten (x) y = Reshape <allowzero: int = 1> (a, q) }"
    assert not merge_reshapes.run(build(text, {"q": [2, 0]})).modified


def test_before_operator_set_5_a_shape_is_an_attribute() -> None:
    text = """g (float[2,4,3] x) => (float[2,12] y) {
        a = Reshape <shape: ints = [2, 3, 4]> (x) y = Reshape <shape: ints = [2, 12]> (a) }"""
    assert not merge_reshapes.run(build(text, head='<ir_version: 3, opset_import: ["" : 4]>')).modified
