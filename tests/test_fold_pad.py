"""exporters/passes/fold_pad.py against ONNX Runtime's own Pad: the same products in the same sums, bit for bit.

Limit: none; the outputs must be equal, because adding a zero that was padded outside or inside is the same addition.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from exporters.base import PassResult
from exporters.graph import op_counts
from exporters.passes import fold_pad
from pass_examples import build, draw
from runtimes.session import open_session, random_feeds

X = "g (float[N,3,8,8] x) => (float[N,O,H,W] y)"
NOUGHT, ONE = np.float32(0), np.float32(1)


def net(body: str, head: str = X, opset: int = 18, **values: object) -> onnx.ModelProto:
    values = {"w": draw(4, 3, 3, 3), "nought": NOUGHT, **values}
    model = build(f"{head} {{ {body} }}", values, f'<ir_version: 8, opset_import: ["" : {opset}]>')
    read = {name for node in model.graph.node for name in node.input}
    for tensor in [t for t in model.graph.initializer if t.name not in read]:
        model.graph.initializer.remove(tensor)
    return model


def run(model: onnx.ModelProto) -> PassResult:
    before = model.SerializeToString()
    result = fold_pad.run(model)
    assert model.SerializeToString() == before
    onnx.checker.check_model(result.model, full_check=True)
    sessions = [open_session(m, optimize=False, threads=1) for m in (model, result.model)]
    feeds = random_feeds(sessions[0].inputs, batch=2, seed=1)
    left, right = (session(feeds) for session in sessions)
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name])
    return result


FOUR = [0, 0, 1, 2, 0, 0, 3, 0]
FOLDED = {
    "uneven": net("p = Pad (x, pads) y = Conv (p, w)", pads=FOUR),
    "on top of its own": net("p = Pad (x, pads) y = Conv <pads: ints = [1, 0, 0, 2]> (p, w)", pads=FOUR),
    "value given": net("p = Pad <mode: string = \"constant\"> (x, pads, nought) y = Conv (p, w)", pads=FOUR),
    "value left out, axes given": net("p = Pad (x, pads, , axes) y = Conv (p, w)", pads=[1, 2, 3, 0], axes=[2, 3]),
    "axes backwards": net("p = Pad (x, pads, nought, axes) y = Conv (p, w)", pads=[1, 2, 3, 0], axes=[-1, -2]),
    "as attributes": net("p = Pad <pads: ints = [0,0,1,2,0,0,3,0]> (x) y = Conv (p, w)", opset=10),
    "auto_pad says none": net('p = Pad (x, pads) y = Conv <auto_pad: string = "VALID"> (p, w)', pads=FOUR),
    "strides, dilations, groups": net(
        "p = Pad (x, pads) y = Conv <strides: ints = [2, 1], dilations: ints = [1, 2], group: int = 3> (p, w)",
        pads=FOUR, w=draw(6, 1, 3, 3),
    ),
    "one position": net(
        "p = Pad (x, pads) y = Conv (p, w)", "g (float[N,3,8] x) => (float[N,O,L] y)",
        pads=[0, 0, 2, 0, 0, 1], w=draw(4, 3, 3),
    ),
    "computed weights": net(
        "p = Pad (x, pads) v = Exp (w) y = Conv <kernel_shape: ints = [3, 3]> (p, v)", pads=FOUR,
    ),
    "average pool": net("p = Pad (x, pads) y = AveragePool <kernel_shape: ints = [4, 3]> (p)", pads=FOUR),
    "average pool that counts": net(
        "p = Pad (x, pads) y = AveragePool <kernel_shape: ints = [5, 4], pads: ints = [1,0,1,0], "
        "count_include_pad: int = 1, strides: ints = [2, 1]> (p)",
        pads=FOUR,
    ),
}  # fmt: skip


@pytest.mark.parametrize("model", FOLDED.values(), ids=FOLDED)
def test_zeros_become_pads(model: onnx.ModelProto) -> None:
    result = run(model)
    assert "Pad" not in op_counts(result.model)
    assert not result.kept
    read = {name for node in result.model.graph.node for name in node.input}
    assert {t.name for t in result.model.graph.initializer} <= read


POOL = "p = Pad (x, pads) y = AveragePool <kernel_shape: ints = [4, 4], {}> (p)"
KEPT = {
    "another value": (net("p = Pad (x, pads, one) y = Conv (p, w)", pads=FOUR, one=ONE), "something else than zeros"),
    "computed value": (
        net("v = ReduceMax <keepdims: int = 0> (x) p = Pad (x, pads, v) y = Conv (p, w)", pads=FOUR),
        "or with what is computed",
    ),
    "reflected": (net('p = Pad <mode: string = "reflect"> (x, pads) y = Conv (p, w)', pads=FOUR), "mode is reflect"),
    "cut off": (net("p = Pad (x, pads) y = Conv (p, w)", pads=[0, 0, -1, 0, 0, 0, 3, 0]), "negative pads"),
    "channels": (net("p = Pad (x, pads) y = Conv (p, w)", pads=[0, 1] + [0] * 6, w=draw(4, 4, 3, 3)), "channels"),
    "batch": (net("p = Pad (x, pads) y = Conv (p, w)", pads=[0, 0, 0, 0, 1, 0, 0, 0]), "batch"),
    "auto_pad": (net('p = Pad (x, pads) y = Conv <auto_pad: string = "SAME_UPPER"> (p, w)', pads=FOUR), "auto_pad"),
    "read twice": (net("p = Pad (x, pads) c = Conv (p, w) q = Conv (p, w) y = Add (c, q)", pads=FOUR), "read 2 times"),
    "also an output": (
        net("p = Pad (x, pads) y = Conv (p, w)", X.replace(" y)", " y, float[N,3,A,B] p)"), pads=FOUR),
        "also an output",
    ),
    "other reader": (net("p = Pad (x, pads) y = MaxPool <kernel_shape: ints = [2, 2]> (p)", pads=FOUR), "MaxPool"),
    "unknown rank": (net("p = Pad (x, pads) v = Exp (w) y = Conv (p, v)", pads=FOUR), "rank of Conv net.y is not"),
    "it is the weight": (
        net("p = Pad (w, pads) y = Conv (x, p)", pads=[0, 0, 1, 1, 0, 0, 0, 0]), "reads it, not Conv",
    ),
    "pool that does not count": (net(POOL.format("pads: ints = [1, 1, 1, 1]"), pads=FOUR), "does not count"),
    "pool that rounds up": (net(POOL.format("strides: ints = [3, 3], ceil_mode: int = 1"), pads=FOUR), "ceil_mode"),
    "window of padding alone": (
        net("p = Pad (x, pads) y = AveragePool <kernel_shape: ints = [3, 3]> (p)", pads=FOUR), "padding alone",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("model", "reason"), KEPT.values(), ids=KEPT)
def test_what_would_be_wrong_stays(model: onnx.ModelProto, reason: str) -> None:
    result = run(model)
    assert not result.modified
    assert result.model == model
    assert reason in result.kept[0].reason


def test_an_empty_name_in_the_place_of_axes_is_none() -> None:
    model = net("p = Pad (x, pads) y = Conv (p, w)", pads=FOUR)
    model.graph.node[0].input.extend(["", ""])
    assert run(model).modified


def test_a_pool_too_old_to_count_what_it_pads_stays() -> None:
    """Nor does ONNX Runtime run it: it is read and kept."""
    text = "p = Pad <pads: ints = [0,0,1,1,0,0,1,1]> (x) y = AveragePool <kernel_shape: ints = [3, 3]> (p)"
    result = fold_pad.run(net(text, opset=6))
    assert not result.modified
    assert "cannot count what it pads" in result.kept[0].reason


def test_pads_that_a_caller_may_override_stay() -> None:
    model = net("p = Pad (x, pads) y = Conv (p, w)", pads=FOUR)
    model.graph.input.append(helper.make_tensor_value_info("pads", onnx.TensorProto.INT64, [8]))
    result = fold_pad.run(model)
    assert not result.modified
    assert "its pads are computed" in result.kept[0].reason
