"""A Transpose in front of a Flatten: the numbers against unoptimized ONNX Runtime; what it must not touch."""

from __future__ import annotations

import onnx
import pytest

from edgecnn.float_passes import simplified
from exporters.graph import op_counts
from exporters.passes import rows_in_order
from pass_examples import build, draw
from pass_examples.rows_in_order import EXAMPLES, rows
from rewrite_tools import against_reference, check


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_transpose_is_in_the_weights(name: str) -> None:
    result = rows_in_order.run(EXAMPLES[name])
    check(result, EXAMPLES[name], acts=True)
    against_reference(EXAMPLES[name], result.model, (2, 3, 4, 2))
    assert "Transpose" not in op_counts(result.model)


LEFT = {
    "read by others": rows("f = Flatten (a) y = MatMul (f, w) z = Relu (a)", "float[N,5] y, float[N,4,2,3] z"),
    "the row is an output": rows("f = Flatten (a) y = MatMul (f, w)", "float[N,5] y, float[N,24] f"),
    "the row is read by others": rows("f = Flatten (a) y = MatMul (f, w) z = Relu (f)", "float[N,5] y, float[N,24] z"),
    "other rows": rows("f = Flatten <axis = 2> (a) y = MatMul (f, v)", "float[M,5] y", v=draw(6, 5)),
    "a computed weight": rows("e = Exp (w) f = Flatten (a) y = MatMul (f, e)"),
    "the row is transposed": rows("f = Flatten (a) y = Gemm <transA = 1> (f, q)", "float[24,5] y", q=draw(1, 5)),
    "an open size": build(
        """ g (float[N,3,H,2] x) => (float[N,5] y) { r = Relu (x) a = Transpose <perm: ints = [0, 2, 3, 1]> (r)
            f = Flatten (a) y = MatMul (f, w) }""",
        {"w": draw(96, 5)},
    ),
    "the batch moves": build(
        """ g (float[2,3,4] x) => (float[3,5] y) { r = Relu (x) a = Transpose <perm: ints = [1, 0, 2]> (r)
            f = Flatten (a) y = MatMul (f, w) }""",
        {"w": draw(8, 5)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("model", LEFT.values(), ids=LEFT)
def test_left_alone(model: onnx.ModelProto) -> None:
    result = rows_in_order.run(model)
    assert not result.modified
    assert result.model == model


def test_a_convolution_flattened_by_keras() -> None:
    """Convolution, activation, Flatten, Dense: the activation moves in front of the Transpose, and that is gone."""
    text = """ g (float[N,3,6,6] x) => (float[N,5] y) { c = Conv (x, k) a = Transpose <perm: ints = [0, 2, 3, 1]> (c)
        r = Relu (a) f = Flatten (r) m = MatMul (f, w) y = Add (m, b) }"""
    model = build(text, {"k": draw(4, 3, 3, 3), "w": draw(64, 5), "b": draw(5)})
    result = simplified(model)
    assert op_counts(result.model) == {"Conv": 1, "Relu": 1, "Flatten": 1, "Gemm": 1}
    check(result, model, acts=True)
