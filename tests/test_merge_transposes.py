"""exporters/passes/merge_transposes.py against ONNX Runtime's own Transpose; nothing is computed, so bits are equal."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from exporters.base import PassResult
from exporters.graph import attributes
from exporters.passes import merge_transposes
from pass_examples import build
from runtimes.session import open_session, random_feeds

NHWC, NCHW = "Transpose <perm: ints = [0, 2, 3, 1]>", "Transpose <perm: ints = [0, 3, 1, 2]>"


def net(body: str, outs: str = "float[N,A,B,C] y") -> onnx.ModelProto:
    return build(f"g (float[N,3,4,5] x) => ({outs}) {{ {body} }}")


def run(model: onnx.ModelProto) -> PassResult:
    result = merge_transposes.run(model)
    onnx.checker.check_model(result.model, full_check=True)
    sessions = [open_session(m, optimize=False) for m in (model, result.model)]
    feeds = random_feeds(sessions[0].inputs, batch=2, seed=1)
    left, right = (session(feeds) for session in sessions)
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name])
    return result


DONE = {
    "a pair cancels": (net(f"a = {NHWC} (x) b = {NCHW} (a) y = Relu (b)"), []),
    "before the output": (net(f"r = Relu (x) a = {NHWC} (r) y = {NCHW} (a)"), []),
    "cancels beside another reader": (
        net(f"a = {NHWC} (x) b = {NCHW} (a) y = Relu (b) z = Neg (a)", "float[N,3,4,5] y, float[N,4,5,3] z"),
        [[0, 2, 3, 1]],
    ),
    "a pair merges": (net(f"a = {NHWC} (x) b = {NHWC} (a) y = Relu (b)"), [[0, 3, 1, 2]]),
    "three come round again": (net(f"a = {NHWC} (x) b = {NHWC} (a) c = {NHWC} (b) y = Relu (c)"), []),
    "four": (net(f"a = {NHWC} (x) b = {NHWC} (a) c = {NHWC} (b) d = {NHWC} (c) y = Relu (d)"), [[0, 2, 3, 1]]),
    "reversed twice": (net("a = Transpose (x) b = Transpose (a) y = Relu (b)"), []),
    "reversed and turned": (net(f"a = Transpose (x) b = {NHWC} (a) y = Relu (b)", "float[A,B,C,D] y"), [[3, 1, 0, 2]]),
}


@pytest.mark.parametrize(("model", "left"), DONE.values(), ids=DONE)
def test_pairs_are_one_or_none(model: onnx.ModelProto, left: list[list[int]]) -> None:
    result = run(model)
    assert result.modified
    perms = [attributes(n)["perm"] for n in result.model.graph.node if n.op_type == "Transpose"]
    assert perms == left
    assert not result.kept
    assert not merge_transposes.run(result.model).modified


KEPT = {
    "also an output": (
        net(f"a = {NHWC} (x) y = {NHWC} (a)", "float[N,5,3,4] y, float[N,4,5,3] a"),
        "is also an output",
    ),
    "read twice": (
        net(f"a = {NHWC} (x) b = {NHWC} (a) y = Relu (b) z = Neg (a)", "float[N,5,3,4] y, float[N,4,5,3] z"),
        "read 2 times",
    ),
    "from the input to an output": (net(f"a = {NHWC} (x) y = {NCHW} (a)"), "an input or a constant of the model"),
}


@pytest.mark.parametrize(("model", "reason"), KEPT.values(), ids=KEPT)
def test_what_has_to_stay(model: onnx.ModelProto, reason: str) -> None:
    result = run(model)
    assert not result.modified
    assert reason in result.kept[0].reason


def test_one_alone_is_no_pair() -> None:
    result = run(net(f"a = {NHWC} (x) y = Relu (a)"))
    assert not result.modified
    assert not result.kept
